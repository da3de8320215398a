"""Mistakes that porting makes and that need no framework to be made, planted in the NumPy backend; each is run in a
process like any other backend. Those of torch's own ways are in planted_torch."""

from dataclasses import replace

import numpy as np

from backends.numpy_backend import NumpyBackend
from common.interface import Forward, Report
from common.tensors import Batch, Batches
from common.weights import Arrays, ModelState


class GatesSwapped(NumpyBackend):
    """Forget gate and candidate change places on the way in, and back on the way out."""

    def load(self, state: ModelState) -> None:
        super().load(ModelState(_swapped(state.weights), _swapped(state.mean_squares)))

    def dump(self) -> ModelState:
        state = super().dump()
        return ModelState(_swapped(state.weights), _swapped(state.mean_squares))

    def gradients(self, batch: Batch) -> tuple[float, Arrays]:
        loss, gradients = super().gradients(batch)
        return loss, _swapped(gradients)


class SquareTransposed(NumpyBackend):
    """The recurrent kernel's first square is transposed on the way in, as nobody's shapes would notice."""

    def load(self, state: ModelState) -> None:
        super().load(ModelState(_transposed(state.weights), state.mean_squares))

    def dump(self) -> ModelState:
        state = super().dump()
        return ModelState(_transposed(state.weights), state.mean_squares)


class TransposedOnce(NumpyBackend):
    """The same on the way in alone."""

    def load(self, state: ModelState) -> None:
        super().load(ModelState(_transposed(state.weights), state.mean_squares))


class OneRowDisturbed(NumpyBackend):
    """One row of one large weight is a little off."""

    def load(self, state: ModelState) -> None:
        kernel = state.weights["decoder/recurrent_kernel"].copy()
        kernel[23] += 1e-6
        super().load(ModelState(state.weights | {"decoder/recurrent_kernel": kernel}, state.mean_squares))


class NotANumber(NumpyBackend):
    """One state of one row is NaN, which a comparison that drops NaNs on both sides would not see."""

    def forward(self, batch: Batch) -> Forward:
        forward = super().forward(batch)
        forward.state_c[3, 7] = np.nan
        return forward


class LaterStepsDisturbed(NumpyBackend):
    """From the sixth time step on probabilities are off by what float32 alone would not explain."""

    def forward(self, batch: Batch) -> Forward:
        forward = super().forward(batch)
        forward.probabilities[:, 5:] += 2e-7
        return forward


class WrongGradient(NumpyBackend):
    """The forget gate of the encoder's kernel has a gradient of its own."""

    def gradients(self, batch: Batch) -> tuple[float, Arrays]:
        loss, gradients = super().gradients(batch)
        units = self.config.latent_dim
        gradients["encoder/kernel"][:, units : 2 * units] *= 1 + 1e-2
        return loss, gradients


class OtherEpsilon(NumpyBackend):
    """Paddle's default epsilon in place of the example's."""

    def build(self) -> None:
        self.train_config = replace(self.train_config, epsilon=1e-6)
        super().build()


class BatchesShuffled(NumpyBackend):
    """The rows of an epoch come in an order of its own."""

    def train(self, batches: Batches, report: Report):
        rows = np.random.default_rng(1).permutation(batches.rows)
        return super().train(Batches(batches.corpus, rows, batches.batch_size), report)


class StopsEarlyAlone(NumpyBackend):
    """Decoding of a sentence by itself ends at half the longest length."""

    def translate(self, encoder_ids, encoder_lengths, max_length: int):
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
