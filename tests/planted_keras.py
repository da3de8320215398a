"""Mistakes planted in the Keras backend, see planted_torch."""

import numpy as np

from backends.keras_backend import KerasBackend
from common.weights import Arrays, ModelState


class SquareTransposed(KerasBackend):
    """The recurrent kernel's first square is transposed on the way in, as nobody's shapes would notice."""

    def load(self, state: ModelState) -> None:
        super().load(ModelState(_transposed(state.weights), state.mean_squares))

    def dump(self) -> ModelState:
        state = super().dump()
        return ModelState(_transposed(state.weights), state.mean_squares)


class TransposedOnce(KerasBackend):
    """The same on the way in alone."""

    def load(self, state: ModelState) -> None:
        super().load(ModelState(_transposed(state.weights), state.mean_squares))


def _transposed(weights: Arrays) -> Arrays:
    kernel = weights["encoder/recurrent_kernel"].copy()
    units = len(kernel)
    kernel[:, :units] = kernel[:, :units].T
    return weights | {"encoder/recurrent_kernel": np.ascontiguousarray(kernel)}
