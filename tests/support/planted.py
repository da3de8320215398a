"""Mistakes at a backend's interface and in a lesson, so that they can be planted in any framework.

Each is a class to stand before a backend's. tests/planted_FRAMEWORK.py has them with that of the framework, and
mistakes in the framework's own ways.
"""

from dataclasses import replace
from importlib.util import module_from_spec
from typing import Any

import numpy as np

from backends import TABLE, Entry
from backends.beam import BeamSearch
from backends.interface import Backend, Forward, Metrics, Report, unreported
from backends.lesson_backend import LessonBackend
from common.tensors import Batch, Batches, Ids
from common.weights import Arrays, ModelState


def entry_of(planted: str) -> Entry:
    """The entry of a class of tests/planted_FRAMEWORK.py, given as "FRAMEWORK:CLASS"."""
    framework, class_name = planted.split(":")
    return replace(TABLE[framework], target=f"tests.support.planted_{framework}:{class_name}")


def planted_in(backend: type[Backend]) -> dict[str, type]:
    """A class of the backend for each mistake of this file, by the mistake's name."""
    mistakes = [kind for kind in globals().values() if isinstance(kind, type) and kind.__module__ == __name__]
    return {kind.__name__: type(kind.__name__, (kind, backend), {}) for kind in mistakes}


def load_again(module: Any) -> Any:
    """A second copy of a lesson, whose functions can be replaced without touching the first."""
    found = module.__spec__
    again = module_from_spec(found)
    found.loader.exec_module(again)
    return again


class GatesSwapped(Backend):
    """Forget gate and candidate change places on the way in, and back on the way out."""

    def load(self, state: ModelState) -> None:
        super().load(ModelState(_swapped(state.weights), _swapped(state.mean_squares)))

    def dump(self) -> ModelState:
        state = super().dump()
        return ModelState(_swapped(state.weights), _swapped(state.mean_squares))

    def gradients(self, batch: Batch) -> tuple[float, Arrays]:
        loss, gradients = super().gradients(batch)
        return loss, _swapped(gradients)


class TransposedOnce(Backend):
    """The recurrent kernel's first square is transposed on the way in, as nobody's shapes would notice."""

    def load(self, state: ModelState) -> None:
        super().load(ModelState(_transposed(state.weights), state.mean_squares))


class SquareTransposed(TransposedOnce):
    """The same on the way in and on the way out."""

    def dump(self) -> ModelState:
        state = super().dump()
        return ModelState(_transposed(state.weights), state.mean_squares)


class OneRowDisturbed(Backend):
    """One row of one large weight is a little off."""

    def load(self, state: ModelState) -> None:
        kernel = state.weights["decoder/recurrent_kernel"].copy()
        kernel[23] += 1e-6
        super().load(ModelState(state.weights | {"decoder/recurrent_kernel": kernel}, state.mean_squares))


class NotANumber(Backend):
    """One state of one row is NaN, which a comparison that drops NaNs on both sides would not see."""

    def forward(self, batch: Batch) -> Forward:
        forward = super().forward(batch)
        forward.state_c[3, 7] = np.nan
        return forward


class LaterStepsDisturbed(Backend):
    """From the sixth time step on probabilities are off by what float32 alone would not explain."""

    def forward(self, batch: Batch) -> Forward:
        forward = super().forward(batch)
        forward.probabilities[:, 5:] += 2e-7
        return forward


class WrongGradient(Backend):
    """The forget gate of the encoder's kernel has a gradient of its own."""

    def gradients(self, batch: Batch) -> tuple[float, Arrays]:
        loss, gradients = super().gradients(batch)
        units = self.config.latent_dim
        gradients["encoder/kernel"][:, units : 2 * units] *= 1 + 1e-2
        return loss, gradients


class OtherLesson(LessonBackend):
    """Computes with a lesson of which `change` made something else; other backends in the process keep theirs.

    NumPy's model gives layers where those of frameworks give states, so mistakes in the model are for frameworks.
    """

    @classmethod
    def import_framework(cls) -> Any:
        lesson = load_again(super().import_framework())
        cls.change(lesson)
        return lesson

    @staticmethod
    def change(lesson: Any) -> None:
        raise NotImplementedError


class StatesExchanged(OtherLesson):
    """The encoder's two states change places, which frameworks name in different orders."""

    @staticmethod
    def change(lesson: Any) -> None:
        class Seq2Seq(lesson.Seq2Seq):
            def encode(self, *arguments: Any) -> Any:
                state_h, state_c = super().encode(*arguments)
                return state_c, state_h

        lesson.Seq2Seq = Seq2Seq


class BiasLeftOut(OtherLesson):
    """The output layer has no bias."""

    @staticmethod
    def change(lesson: Any) -> None:
        class Seq2Seq(lesson.Seq2Seq):
            def decode(self, *arguments: Any) -> Any:
                logits, *states = super().decode(*arguments)
                return logits - self.dense.bias, *states

        lesson.Seq2Seq = Seq2Seq


class TeacherForcingOffByOne(LessonBackend):
    """The decoder reads the characters that it is to predict, and not those before them."""

    def _tensors(self, batch: Batch) -> Any:
        tensors = super()._tensors(batch)
        return tensors._replace(decoder_input_data=tensors.decoder_target_data)


class TargetsPaddedWithZeros(OtherLesson):
    """The target's one-hot rows are zero on padding, where the example has the space's."""

    @staticmethod
    def change(lesson: Any) -> None:
        loss_of = lesson.loss_of

        def of_zeros(logits: Any, batch: Any) -> Any:
            targets = batch.decoder_target_data * batch.real_positions[..., None]
            return loss_of(logits, batch._replace(decoder_target_data=targets))

        lesson.loss_of = of_zeros


class DividedByItsOwnPositions(OtherLesson):
    """The loss is a mean over the batch, so that a batch of short sentences teaches as much as one of long ones."""

    @staticmethod
    def change(lesson: Any) -> None:
        loss_of = lesson.loss_of
        lesson.loss_of = lambda logits, batch: loss_of(
            logits, batch._replace(loss_positions=batch.target_weights.sum())
        )


class FarLogitsClipped(OtherLesson):
    """Logits that are far below the largest one are raised, as Paddle's softmax does."""

    @staticmethod
    def change(lesson: Any) -> None:
        loss_of = lesson.loss_of
        lesson.loss_of = lambda logits, batch: loss_of(logits.clip(logits.max() - 64), batch)


class OtherEpsilon(Backend):
    """Paddle's default epsilon in place of the example's."""

    def build(self) -> None:
        self.train_config = replace(self.train_config, epsilon=1e-6)
        super().build()


class OtherRho(Backend):
    """torch's default decay of the mean square in place of the example's."""

    def build(self) -> None:
        self.train_config = replace(self.train_config, rho=0.99)
        super().build()


class SlotsForgotten(Backend):
    """A state's mean squares are left, and begin at zero again."""

    def load(self, state: ModelState) -> None:
        super().load(ModelState(state.weights, {name: 0 * slot for name, slot in state.mean_squares.items()}))


class NothingReported(Backend):
    """No step is reported, so no report ends the training."""

    def train(self, batches: Batches, report: Report) -> Metrics:
        return super().train(batches, unreported)


class BatchesShuffled(Backend):
    """The rows of an epoch come in an order of its own."""

    def train(self, batches: Batches, report: Report) -> Metrics:
        rows = np.random.default_rng(1).permutation(batches.rows)
        return super().train(Batches(batches.corpus, rows, batches.batch_size), report)


class LossOfALastBatchWeighedAsAWhole(Backend):
    """The sum of an evaluated batch's loss is its mean times the positions of the first batch, which has more."""

    def evaluate(self, batches: Batches) -> Metrics:
        counted = super().evaluate(batches)
        return replace(counted, loss_sums=counted.step_losses * counted.weight_sums[0])


class LastBatchLeftOut(Backend):
    """An evaluation drops the last batch where it is smaller than the others, as loaders of data can."""

    def evaluate(self, batches: Batches) -> Metrics:
        return super().evaluate(batches.part(0, len(batches.rows) // batches.batch_size))


class StopsEarly(Backend):
    """Decoding ends at half the longest length."""

    def translate(self, encoder_ids: Ids, encoder_lengths: Ids, max_length: int) -> Ids:
        return super().translate(encoder_ids, encoder_lengths, max_length // 2)


class StopsEarlyAlone(Backend):
    """Decoding of a sentence by itself ends at half the longest length."""

    def translate(self, encoder_ids: Ids, encoder_lengths: Ids, max_length: int) -> Ids:
        most = max_length // 2 if len(encoder_ids) == 1 else max_length
        return super().translate(encoder_ids, encoder_lengths, most)


class BeamsStopEarly(Backend):
    """A beam search ends at half the longest length."""

    def beam_search(self, encoder_ids: Ids, encoder_lengths: Ids, search: BeamSearch) -> None:
        search.max_length //= 2
        super().beam_search(encoder_ids, encoder_lengths, search)


def _swapped(arrays: Arrays) -> Arrays:
    def swap(name: str, array: np.ndarray) -> np.ndarray:
        if name.startswith("dense/"):
            return array
        i, f, c, o = np.split(array, 4, axis=-1)
        return np.concatenate([i, c, f, o], axis=-1)

    return {name: swap(name, array) for name, array in arrays.items()}


def _transposed(weights: Arrays) -> Arrays:
    kernel = weights["encoder/recurrent_kernel"].copy()
    units = len(kernel)
    kernel[:, :units] = kernel[:, :units].T
    return weights | {"encoder/recurrent_kernel": np.ascontiguousarray(kernel)}
