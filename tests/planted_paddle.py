"""Mistakes planted in the Paddle backend, see planted_torch."""

from dataclasses import replace

import numpy as np

from backends.paddle_backend import PaddleBackend
from common.tensors import Batch
from common.weights import Arrays, ModelState


class GatesSwapped(PaddleBackend):
    """Forget gate and candidate change places on the way in, and back on the way out."""

    def load(self, state: ModelState) -> None:
        super().load(ModelState(_swapped(state.weights), _swapped(state.mean_squares)))

    def dump(self) -> ModelState:
        state = super().dump()
        return ModelState(_swapped(state.weights), _swapped(state.mean_squares))

    def gradients(self, batch: Batch) -> tuple[float, Arrays]:
        loss, gradients = super().gradients(batch)
        return loss, _swapped(gradients)


class OtherEpsilon(PaddleBackend):
    """Paddle's default epsilon in place of the example's."""

    def build(self) -> None:
        self.train_config = replace(self.train_config, epsilon=1e-6)
        super().build()


def _swapped(arrays: Arrays) -> Arrays:
    def swap(name: str, array: np.ndarray) -> np.ndarray:
        if name.startswith("dense/"):
            return array
        i, f, c, o = np.split(array, 4, axis=-1)
        return np.concatenate([i, c, f, o], axis=-1)

    return {name: swap(name, array) for name, array in arrays.items()}
