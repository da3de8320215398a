"""Mistakes that are made at a backend's interface, so that they can be planted in any framework.

Each is a class to stand before a backend's. tests/planted_FRAMEWORK.py has them with that of the framework, and
mistakes in the framework's own ways.
"""

from dataclasses import replace
from importlib.util import module_from_spec
from typing import Any

import numpy as np

from common.interface import Backend, Forward, Metrics, Report
from common.tensors import Batch, Batches, Ids
from common.weights import Arrays, ModelState


def planted_in(backend: type[Backend], ending: str = "") -> dict[str, type]:
    """A class of the backend for each mistake of this file, by the mistake's name and an ending."""
    mistakes = [kind for kind in globals().values() if isinstance(kind, type) and kind.__module__ == __name__]
    return {f"{kind.__name__}{ending}": type(kind.__name__, (kind, backend), {}) for kind in mistakes}


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
