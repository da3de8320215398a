"""A mistake planted in the Paddle backend; see planted_numpy for those that need no framework."""

import paddle

from backends.paddle_backend import PaddleBackend
from common.tensors import Batch


class PaddingCountedAsReal(PaddleBackend):
    """Right answers among the real characters are counted over all positions, padding included."""

    def _loss(self, batch: Batch):
        loss, counts = super()._loss(batch)
        return loss, paddle.stack([counts[0], counts[1], counts[1]])
