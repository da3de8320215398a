"""Training in a group by paddle.distributed, where its launcher's environment variables say that there is one."""

import os
from typing import final

import numpy as np
import paddle
import paddle.distributed as dist
from numpy.typing import NDArray
from paddle import Tensor

from backends.paddle_backend import PaddleBackend
from common.interface import PATIENCE, Group
from common.sharing import GroupWorker
from common.tensors import BatchTensors


@final
class PaddleWorker(GroupWorker, PaddleBackend):
    def build(self) -> None:
        """Join the group and wait until all its workers have come."""
        super().build()
        os.environ["PADDLE_DISTRI_BACKEND"] = "gloo"
        os.environ["PADDLE_PG_TIMEOUT"] = str(1000 * PATIENCE)  # milliseconds
        dist.init_parallel_env()
        self.group = Group(dist.get_rank(), dist.get_world_size(), _sum)
        self.shared = paddle.DataParallel(self.model)

    def _run(self, batch: BatchTensors) -> tuple[Tensor, Tensor, Tensor]:
        """As the base runs the model; but the backward pass leaves each gradient's mean over all workers."""
        lengths = self._lengths(batch.encoder_lengths)
        return self.shared(batch.encoder_input_data, batch.decoder_input_data, lengths)


def _sum(array: NDArray[np.float64]) -> NDArray[np.float64]:
    tensor = paddle.to_tensor(array)
    dist.all_reduce(tensor)
    return tensor.numpy()
