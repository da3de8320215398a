"""Training in a group by tf.distribute.MultiWorkerMirroredStrategy.

`keras.Model.fit` cannot train under it (https://github.com/keras-team/keras/issues/20585), so the
strategy runs the model file's own step.
"""

import os
from contextlib import AbstractContextManager
from typing import Any, final

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray
from tensorflow import Tensor

from backends.interface import Group, ModelFile
from backends.process import PATIENCE
from common.errors import CannotBeginError


@final
class KerasGroup(Group):
    def __init__(self, file: ModelFile) -> None:
        """Wait until all workers have come, before anything else of TensorFlow.
        They meet by TF_CONFIG."""
        if "TF_CONFIG" not in os.environ:
            raise CannotBeginError(
                "a worker of keras needs the addresses of all workers in TF_CONFIG; see "
                "docs/parallel.md"
            )
        options = tf.distribute.experimental.CommunicationOptions(timeout_seconds=PATIENCE)
        self.strategy = tf.distribute.MultiWorkerMirroredStrategy(communication_options=options)
        super().__init__(file, int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"]))

    def scope(self) -> AbstractContextManager[Any]:
        return self.strategy.scope()

    def sum(self, array: NDArray[np.float64]) -> NDArray[np.float64]:
        return self.file.to_array(self._sum(tf.constant(array)))

    @tf.function(reduce_retracing=True)
    def train_step(self, model: Any, optimizer: Any, batch: Any) -> tuple[Tensor, Tensor]:
        """The model file's step, in the strategy,
        under which Keras's optimizer sums the workers' gradients."""
        step = self.file.train_step.python_function
        loss, counts = self.strategy.run(step, args=(model, optimizer, batch))
        # The shard's loss is divided by the positions of the whole batch.
        return loss * self.size, counts

    @tf.function(reduce_retracing=True)
    def _sum(self, array: Tensor) -> Tensor:
        return self.strategy.reduce(
            "SUM", self.strategy.run(lambda array: array, args=(array,)), axis=None
        )
