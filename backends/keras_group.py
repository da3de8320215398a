"""Training in a group by tf.distribute.MultiWorkerMirroredStrategy, where TF_CONFIG says that there is one.

`keras.Model.fit` cannot train under it (https://github.com/keras-team/keras/issues/20585), so the strategy runs the
backend's own step.
"""

import os
from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from backends.engines import PATIENCE
from common.group import ALONE, Group


def join() -> tuple[Group, tf.distribute.Strategy]:
    """Join the group and wait until all its workers have come. Without a group, the worker is alone.

    The model and the optimizer must be made in the strategy's scope. Call this before anything else of TensorFlow.
    """
    if "TF_CONFIG" not in os.environ:
        return ALONE, tf.distribute.get_strategy()
    options = tf.distribute.experimental.CommunicationOptions(timeout_seconds=PATIENCE)
    strategy = tf.distribute.MultiWorkerMirroredStrategy(communication_options=options)
    resolver = strategy.cluster_resolver

    @tf.function(reduce_retracing=True)
    def total(tensor: tf.Tensor) -> tf.Tensor:
        return strategy.reduce("SUM", strategy.run(lambda own: own, args=(tensor,)), axis=None)

    def add(array: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.array(total(tf.constant(array)))

    return Group(resolver.task_id, strategy.num_replicas_in_sync, add), strategy


def shared(step: Callable[[Any], Any], strategy: tf.distribute.Strategy, group: Group) -> Callable[[Any], Any]:
    """The training step. In a group it applies each gradient's mean over all workers."""
    if group.size == 1:
        return step

    def step_of_a_worker(batch: Any) -> Any:
        # Keras's optimizer adds the workers' gradients up, so each worker's loss is divided by their number.
        whole = batch._replace(loss_positions=batch.loss_positions * group.size)
        loss, counts = strategy.run(step, args=(whole,))
        return loss * group.size, counts

    return step_of_a_worker
