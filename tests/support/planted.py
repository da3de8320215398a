"""Mistakes at a backend's interface and in a model file, so that they can be planted in any framework.

Each is a class that drives a model file. tests/support/planted_FRAMEWORK.py has mistakes in the framework's own ways.
"""

from dataclasses import replace
from importlib.util import module_from_spec
from typing import Any

import numpy as np

from backends import TABLE, Entry
from backends.decoding import BeamSearch, GreedySearch
from backends.interface import Backend, Forward, Metrics, Report, timed_steps, unreported
from common.settings import ModelConfig, TrainConfig
from common.tensors import Batch, Batches, Ids
from common.weights import Arrays, ModelState


def entry_of(planted: str) -> Entry:
    """The entry of a framework with a class of this file or of planted_FRAMEWORK.py, given as "FRAMEWORK:CLASS"."""
    framework, name = planted.split(":")
    module = __name__ if name in globals() else f"tests.support.planted_{framework}"
    return replace(TABLE[framework], driver=f"{module}:{name}")


def load_again(module: Any) -> Any:
    """A second copy of a model file, whose functions can be replaced without touching the first."""
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


class ChangedFile(Backend):
    """Drives a model file of which `change` made something else; other backends in the process keep theirs.

    NumPy's model gives layers where those of frameworks give states, so mistakes in the model are for frameworks.
    """

    def __init__(self, file: Any, *rest: Any) -> None:
        file = load_again(file)
        self.change(file)
        super().__init__(file, *rest)

    @staticmethod
    def change(file: Any) -> None:
        raise NotImplementedError


class StatesExchanged(ChangedFile):
    """The encoder's two states change places, which frameworks name in different orders."""

    @staticmethod
    def change(file: Any) -> None:
        class Seq2Seq(file.Seq2Seq):
            def encode(self, *arguments: Any) -> Any:
                state_h, state_c = super().encode(*arguments)
                return state_c, state_h

        file.Seq2Seq = Seq2Seq


class BiasLeftOut(ChangedFile):
    """The output layer has no bias."""

    @staticmethod
    def change(file: Any) -> None:
        class Seq2Seq(file.Seq2Seq):
            def decode(self, *arguments: Any) -> Any:
                logits, *states = super().decode(*arguments)
                return logits - self.dense.bias, *states

        file.Seq2Seq = Seq2Seq


class TeacherForcingOffByOne(Backend):
    """The decoder reads the characters that it is to predict, and not those before them."""

    def _tensors(self, batch: Batch) -> Any:
        tensors = super()._tensors(batch)
        return tensors._replace(decoder_input_data=tensors.decoder_target_data)


class TargetsPaddedWithZeros(ChangedFile):
    """The target's one-hot rows are zero on padding, where the example has the space's."""

    @staticmethod
    def change(file: Any) -> None:
        loss_of = file.loss_of

        def of_zeros(logits: Any, batch: Any) -> Any:
            targets = batch.decoder_target_data * batch.real_positions[..., None]
            return loss_of(logits, batch._replace(decoder_target_data=targets))

        file.loss_of = of_zeros


class DividedByItsOwnPositions(ChangedFile):
    """The loss is a mean over the batch, so that a batch of short sentences teaches as much as one of long ones."""

    @staticmethod
    def change(file: Any) -> None:
        loss_of = file.loss_of
        file.loss_of = lambda logits, batch: loss_of(
            logits, batch._replace(loss_positions=batch.target_weights.sum())
        )


class FarLogitsClipped(ChangedFile):
    """Logits that are far below the largest one are raised, as Paddle's softmax does."""

    @staticmethod
    def change(file: Any) -> None:
        loss_of = file.loss_of
        file.loss_of = lambda logits, batch: loss_of(logits.clip(logits.max() - 64), batch)


class OtherEpsilon(Backend):
    """Paddle's default epsilon in place of the example's."""

    def __init__(self, file: Any, model: ModelConfig, train: TrainConfig, *rest: Any) -> None:
        super().__init__(file, model, replace(train, epsilon=1e-6), *rest)


class OtherRho(Backend):
    """torch's default decay of the mean square in place of the example's."""

    def __init__(self, file: Any, model: ModelConfig, train: TrainConfig, *rest: Any) -> None:
        super().__init__(file, model, replace(train, rho=0.99), *rest)


class ConstantsBuiltIn(Backend):
    """The optimizer has the example's constants, whatever is asked."""

    def __init__(self, file: Any, model: ModelConfig, train: TrainConfig, *rest: Any) -> None:
        constants = {name: getattr(TrainConfig(), name) for name in self.built_in}
        super().__init__(file, model, replace(train, **constants), *rest)

    built_in: tuple[str, ...] = ("rho", "epsilon")


class LearningRateIgnored(ConstantsBuiltIn):
    """The learning rate is the example's, whatever is asked."""

    built_in = ("learning_rate",)


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


class StartScaled(ChangedFile):
    """Decoding starts from a little less than the encoder's cell state."""

    @staticmethod
    def change(file: Any) -> None:
        start = file.start

        def scaled(*arguments: Any) -> Any:
            state_h, state_c = start(*arguments)
            return state_h, 0.999 * state_c

        file.start = scaled


class RowsMixed(Backend):
    """When rows that have ended leave the batch, those that stay take each other's states."""

    def decode(self, encoder_ids: Ids, encoder_lengths: Ids, search: GreedySearch | BeamSearch) -> None:
        super().decode(encoder_ids, encoder_lengths, Mixed(search) if isinstance(search, GreedySearch) else search)


class Mixed:
    """A search that names the rows that stay in the wrong order."""

    def __init__(self, search: GreedySearch) -> None:
        self._search = search

    def __getattr__(self, name: str) -> Any:
        return getattr(self._search, name)

    @property
    def rows(self) -> Any:
        rows = self._search.rows
        return None if rows is None else rows[::-1]


class BeamsStopEarly(Backend):
    """A beam search ends at half the longest length."""

    def decode(self, encoder_ids: Ids, encoder_lengths: Ids, search: GreedySearch | BeamSearch) -> None:
        if isinstance(search, BeamSearch):
            search.max_length //= 2
        super().decode(encoder_ids, encoder_lengths, search)


class Later(Backend):
    """Computes something else once it has trained for some steps, as no comparison before sees."""

    honest_steps = 50
    taken = 0

    def train(self, batches: Batches, report: Report) -> Metrics:
        self.taken += len(batches)
        return self.otherwise(batches, report) if self.taken > self.honest_steps else super().train(batches, report)

    def otherwise(self, batches: Batches, report: Report) -> Metrics:
        raise NotImplementedError


class NothingLater(Later):
    """No step computes anything."""

    honest_steps = 8

    def otherwise(self, batches: Batches, report: Report) -> Metrics:
        return timed_steps(lambda batch: (4.0, np.ones(3)), batches, np.array)


class CoarserLater(Later):
    """Weights are rounded to half precision before the steps."""

    honest_steps = 8

    def otherwise(self, batches: Batches, report: Report) -> Metrics:
        state = self.dump()
        half = {name: weight.astype(np.float16).astype(weight.dtype) for name, weight in state.weights.items()}
        self.load(ModelState(half, state.mean_squares))
        return super(Later, self).train(batches, report)


class WithoutUpdatesLater(Later):
    """Losses are computed, and no weight is changed."""

    honest_steps = 8

    def otherwise(self, batches: Batches, report: Report) -> Metrics:
        return self.evaluate(batches)


class NothingWhileTimed(Later):
    """Turns, which hear no report, compute nothing."""

    def train(self, batches: Batches, report: Report) -> Metrics:
        if report is unreported:
            return timed_steps(lambda batch: (4.0, np.ones(3)), batches, np.array)
        return Backend.train(self, batches, report)


class DecodesHalfLater(Later):
    """Once it has decoded a few times, each text ends at half its length."""

    honest_steps = 10**9
    decoded = 0

    def translate(self, encoder_ids: Ids, encoder_lengths: Ids, max_length: int) -> Ids:
        self.decoded += 1
        most = max_length // 6 if self.decoded > 3 else max_length
        return super().translate(encoder_ids, encoder_lengths, most)


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
