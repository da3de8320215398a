"""Training in a group by tf.distribute.MultiWorkerMirroredStrategy, where TF_CONFIG says that there is one.

`keras.Model.fit` cannot train under it (https://github.com/keras-team/keras/issues/20585), so the strategy runs the
backend's own step.
"""

from typing import Any, final

import tensorflow as tf
from tensorflow import Tensor

from backends.lesson_backend import KerasBackend
from common.interface import PATIENCE, Group
from common.sharing import GroupWorker


@final
class KerasWorker(GroupWorker, KerasBackend):
    def build(self) -> None:
        """Join the group and wait until all its workers have come, before anything else of TensorFlow."""
        options = tf.distribute.experimental.CommunicationOptions(timeout_seconds=PATIENCE)
        self.strategy = tf.distribute.MultiWorkerMirroredStrategy(communication_options=options)
        rank, size = self.strategy.cluster_resolver.task_id, self.strategy.num_replicas_in_sync
        self.group = Group(rank, size, lambda array: self.lesson.to_array(self._sum(tf.constant(array))))
        with self.strategy.scope():
            super().build()

    @tf.function(reduce_retracing=True)
    def _train_step(self, batch: Any) -> tuple[Tensor, Tensor]:
        """The lesson's step, in the strategy. It applies each gradient's mean over all workers."""
        # Keras's optimizer adds the workers' gradients up, so each worker's loss is divided by their number.
        whole = batch._replace(loss_positions=batch.loss_positions * self.group.size)
        step = self.lesson.train_step.python_function
        loss, counts = self.strategy.run(step, args=(self.model, self.optimizer, whole))
        return loss * self.group.size, counts

    @tf.function(reduce_retracing=True)
    def _sum(self, array: Tensor) -> Tensor:
        return self.strategy.reduce("SUM", self.strategy.run(lambda own: own, args=(array,)), axis=None)
