"""Training in a group by tf.distribute.MultiWorkerMirroredStrategy.

`keras.Model.fit` cannot train under it (https://github.com/keras-team/keras/issues/20585), so the strategy runs the
lesson's own step.
"""

import json
import os
import socket
from time import monotonic, sleep
from typing import Any, final

import tensorflow as tf
from tensorflow import Tensor

from backends.groups import GroupWorker
from backends.interface import Group
from backends.lesson_backend import KerasBackend
from backends.process import PATIENCE


@final
class KerasWorker(GroupWorker, KerasBackend):
    def build(self) -> None:
        """Join the group and wait until all its workers have come, before anything else of TensorFlow."""
        rank, size = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
        if "TF_CONFIG" not in os.environ:
            cluster, task = {"worker": addresses_of_all(rank, size)}, {"type": "worker", "index": rank}
            os.environ["TF_CONFIG"] = json.dumps({"cluster": cluster, "task": task})
        options = tf.distribute.experimental.CommunicationOptions(timeout_seconds=PATIENCE)
        self.strategy = tf.distribute.MultiWorkerMirroredStrategy(communication_options=options)
        self.group = Group(rank, size, lambda array: self.lesson.to_array(self._sum(tf.constant(array))))
        with self.strategy.scope():
            super().build()

    @tf.function(reduce_retracing=True)
    def _train_step(self, batch: Any) -> tuple[Tensor, Tensor]:
        """The lesson's step, in the strategy, under which Keras's optimizer sums the workers' gradients."""
        step = self.lesson.train_step.python_function
        loss, counts = self.strategy.run(step, args=(self.model, self.optimizer, batch))
        return loss * self.group.size, counts  # the shard's loss is divided by the positions of the whole batch

    @tf.function(reduce_retracing=True)
    def _sum(self, array: Tensor) -> Tensor:
        return self.strategy.reduce("SUM", self.strategy.run(lambda array: array, args=(array,)), axis=None)


def addresses_of_all(rank: int, size: int) -> list[str]:
    """Each worker's "host:port", by rank: the first worker hears of the others at MASTER_ADDR, and tells all of them.

    TensorFlow wants all addresses before a worker begins, and a launcher knows the first one's alone.
    """
    host, port = os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])
    with socket.create_server(("", 0)) as free:
        own_port = free.getsockname()[1]
    if rank:
        with _connected(host, port) as stream:
            print(json.dumps([rank, own_port]), file=stream, flush=True)
            return list(json.loads(stream.readline()))
    addresses, streams = {0: f"{host}:{own_port}"}, []
    with socket.create_server(("", port)) as server:
        server.settimeout(PATIENCE)
        while len(addresses) < size:
            connection, (address, _) = server.accept()
            streams.append(connection.makefile("rw"))
            number, its_port = json.loads(streams[-1].readline())
            addresses[number] = f"{address}:{its_port}"
    for stream in streams:
        print(json.dumps([addresses[number] for number in range(size)]), file=stream, flush=True)
    return [addresses[number] for number in range(size)]


def _connected(host: str, port: int) -> Any:
    """A stream to the first worker, as soon as it listens."""
    deadline = monotonic() + PATIENCE
    while True:
        try:
            return socket.create_connection((host, port), timeout=PATIENCE).makefile("rw")
        except OSError:
            if monotonic() > deadline:
                raise
            sleep(0.1)
