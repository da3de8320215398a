"""Mistakes planted in the NumPy backend, of how it counts right answers."""

from typing import Any

import numpy as np

from backends.interface import Backend
from tests.support.planted import load_again


class CountedAfterTheStep(Backend):
    """Right answers of a training step are counted with the weights after it; its loss is that before it."""

    def _train_step(self, batch: Any) -> tuple[Any, Any]:
        loss, counts = super()._train_step(batch)
        return loss, np.array([counts[0], *self.file.evaluate_step(self.model, batch)[1][1:]])


class OtherLoss(Backend):
    """Counts otherwise than the model file, whose functions look `loss_of` up."""

    def __init__(self, file: Any, *rest: Any) -> None:
        super().__init__(load_again(file), *rest)  # the reference, in the same process, keeps its own
        loss_of = self.file.loss_of
        self.file.loss_of = lambda logits, batch: self.counted(logits, batch, *loss_of(logits, batch))

    def counted(self, logits: Any, batch: Any, loss: Any, counts: Any) -> tuple[Any, Any]:
        raise NotImplementedError


class StopsNotCountedAsReal(OtherLoss):
    """The end of a sentence is left out where right answers among the real characters are counted."""

    def counted(self, logits: Any, batch: Any, loss: Any, counts: Any) -> tuple[Any, Any]:
        stop = self.config.stop_token
        right = (batch.decoder_target_ids == stop) & (logits.argmax(-1) == stop)
        return loss, counts - [0, 0, right.sum()]


class PaddingCountedThoughMasked(OtherLoss):
    """Right answers are counted at every position, and not by the weights that the loss gives to positions."""

    def counted(self, logits: Any, batch: Any, loss: Any, counts: Any) -> tuple[Any, Any]:
        right = (logits.argmax(-1) == batch.decoder_target_ids).sum()
        return loss, np.array([counts[0], right, counts[2]])
