"""Mistakes planted in the NumPy backend: those of any framework, and of how it counts right answers."""

from typing import Any

import numpy as np

from backends.lesson_backend import NumpyBackend
from tests.support.planted import load_again, planted_in

globals().update(planted_in(NumpyBackend))


class CountedAfterTheStep(NumpyBackend):
    """Right answers of a training step are counted with the weights after it; its loss is that before it."""

    def _train_step(self, batch: Any) -> tuple[Any, Any]:
        loss, counts = super()._train_step(batch)
        return loss, np.array([counts[0], *self.lesson.evaluate_step(self.model, batch)[1][1:]])


class OtherLoss(NumpyBackend):
    """Counts otherwise than the lesson, whose functions look `loss_of` up."""

    def build(self) -> None:
        super().build()
        self.lesson = load_again(self.lesson)  # the referee, in the same process, keeps its own
        loss_of = self.lesson.loss_of
        self.lesson.loss_of = lambda logits, batch: self.counted(logits, batch, *loss_of(logits, batch))

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
