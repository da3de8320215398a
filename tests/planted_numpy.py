"""Mistakes that porting makes and that need no framework to be made, planted in the NumPy backend; each is run in a
process like any other backend. Those of torch's own ways are in planted_torch."""

from dataclasses import replace

import numpy as np

from backends.numpy_backend import NumpyBackend
from common.interface import Forward, Metrics, Report
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


class TransposedOnce(NumpyBackend):
    """The recurrent kernel's first square is transposed on the way in, as nobody's shapes would notice."""

    def load(self, state: ModelState) -> None:
        super().load(ModelState(_transposed(state.weights), state.mean_squares))


class SquareTransposed(TransposedOnce):
    """The same on the way in and on the way out."""

    def dump(self) -> ModelState:
        state = super().dump()
        return ModelState(_transposed(state.weights), state.mean_squares)


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


class LossOfALastBatchWeighedAsAWhole(NumpyBackend):
    """The sum of an evaluated batch's loss is its mean times the positions of the first batch, which has more."""

    def evaluate(self, batches: Batches) -> Metrics:
        counted = super().evaluate(batches)
        return replace(counted, loss_sums=counted.step_losses * counted.weight_sums[0])


class LastBatchLeftOut(NumpyBackend):
    """An evaluation drops the last batch where it is smaller than the others, as loaders of data can."""

    def evaluate(self, batches: Batches) -> Metrics:
        return super().evaluate(batches.part(0, len(batches.rows) // batches.batch_size))


class CountedAfterTheStep(NumpyBackend):
    """Right answers of a training step are counted with the weights after it; its loss is that before it."""

    def _train_step(self, batch: Batch) -> tuple[float, list[float]]:
        loss, counts = super()._train_step(batch)
        return loss, [counts[0], *self._loss(batch)[1][1:]]


class StopsNotCountedAsReal(NumpyBackend):
    """The end of a sentence is left out where right answers among the real characters are counted."""

    def _loss(self, batch: Batch):
        loss, counts, run = super()._loss(batch)
        ends = batch.decoder_target_ids == self.config.stop_token
        return loss, [*counts[:2], counts[2] - (ends & (run[2].argmax(-1) == self.config.stop_token)).sum()], run


class PaddingCountedThoughMasked(NumpyBackend):
    """Right answers are counted at every position, and not by the weights that the loss gives to positions."""

    def _loss(self, batch: Batch):
        loss, counts, run = super()._loss(batch)
        right = (run[2].argmax(-1) == batch.decoder_target_ids).sum()
        return loss, [counts[0], float(right), counts[2]], run


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
