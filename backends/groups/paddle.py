"""Training in a group by paddle.distributed, where its launcher's environment variables say that there is one."""

import os
from typing import Any, final

import numpy as np
import paddle
import paddle.distributed as dist
from numpy.typing import NDArray

from backends.lesson_backend import PaddleBackend
from common.interface import PATIENCE, Group
from common.sharing import GroupWorker


@final
class PaddleWorker(GroupWorker, PaddleBackend):
    def build(self) -> None:
        """Join the group and wait until all its workers have come."""
        super().build()
        os.environ["PADDLE_DISTRI_BACKEND"] = "gloo"
        os.environ["PADDLE_PG_TIMEOUT"] = str(1000 * PATIENCE)  # milliseconds
        dist.init_parallel_env()
        self.group = Group(dist.get_rank(), dist.get_world_size(), _sum)
        self.shared = Shared(self.model)


class Shared(paddle.DataParallel):
    """The model, whose backward pass leaves each gradient's mean over all workers."""

    def __getattr__(self, name: str) -> Any:
        try:
            return super().__getattr__(name)
        except AttributeError:
            return getattr(self._layers, name)  # an encoder, say


def _sum(array: NDArray[np.float64]) -> NDArray[np.float64]:
    tensor = paddle.to_tensor(array)
    dist.all_reduce(tensor)
    return tensor.numpy()
