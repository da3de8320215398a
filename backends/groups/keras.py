"""Training in a group by tf.distribute.MultiWorkerMirroredStrategy.

`keras.Model.fit` cannot train under it (https://github.com/keras-team/keras/issues/20585), so the strategy runs the
model file's own step.
"""

import json
import os
import socket
from contextlib import AbstractContextManager
from time import monotonic, sleep
from typing import Any, final

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray
from tensorflow import Tensor

from backends.interface import Group, ModelFile
from backends.process import PATIENCE


@final
class KerasGroup(Group):
    def __init__(self, file: ModelFile) -> None:
        """Wait until all workers have come, before anything else of TensorFlow."""
        rank, size = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
        if "TF_CONFIG" not in os.environ:
            cluster, task = {"worker": addresses_of_all(rank, size)}, {"type": "worker", "index": rank}
            os.environ["TF_CONFIG"] = json.dumps({"cluster": cluster, "task": task})
        options = tf.distribute.experimental.CommunicationOptions(timeout_seconds=PATIENCE)
        self.strategy = tf.distribute.MultiWorkerMirroredStrategy(communication_options=options)
        super().__init__(file, rank, size)

    def scope(self) -> AbstractContextManager[Any]:
        return self.strategy.scope()

    def sum(self, array: NDArray[np.float64]) -> NDArray[np.float64]:
        return self.file.to_array(self._sum(tf.constant(array)))

    @tf.function(reduce_retracing=True)
    def train_step(self, model: Any, optimizer: Any, batch: Any) -> tuple[Tensor, Tensor]:
        """The model file's step, in the strategy, under which Keras's optimizer sums the workers' gradients."""
        step = self.file.train_step.python_function
        loss, counts = self.strategy.run(step, args=(model, optimizer, batch))
        return loss * self.size, counts  # the shard's loss is divided by the positions of the whole batch

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
