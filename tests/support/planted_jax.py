"""Mistakes that porting to JAX makes, planted in its model file."""

from functools import cached_property
from typing import Any

import jax
import optax
from flax import nnx

from backends.interface import Backend
from tests.support.planted import ChangedFile


class EpsilonOutsideTheRoot(ChangedFile):
    """RMSprop is optax's with epsilon where torch has it."""

    @staticmethod
    def change(file: Any) -> None:
        class RMSprop(file.RMSprop):
            def __init__(self, model, learning_rate, rho, epsilon):
                transformation = optax.rmsprop(learning_rate, decay=rho, eps=epsilon, eps_in_sqrt=False)
                nnx.Optimizer.__init__(self, model, transformation, wrt=nnx.Param)

        file.RMSprop = RMSprop


class WeightsOfTheFirstStep(Backend):
    """The compiled step finds the model outside of its arguments, so its first weights are constants of it."""

    def _train_step(self, batch: Any) -> tuple[Any, Any]:
        loss, counts, tree = self._gradients(batch)
        self.optimizer.update(self.model, tree)
        return loss, counts

    @cached_property
    def _gradients(self) -> Any:
        graph, state = nnx.split(self.model)
        arrays = nnx.as_pure(state)
        return jax.jit(lambda batch: self.file._gradients(nnx.merge(graph, arrays), batch))
