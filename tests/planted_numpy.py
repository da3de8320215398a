"""Mistakes planted in the NumPy backend: those of any framework, and of how it counts right answers."""

from backends.numpy_backend import NumpyBackend
from common.tensors import Batch
from tests.planted import planted_in

globals().update(planted_in(NumpyBackend))


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
