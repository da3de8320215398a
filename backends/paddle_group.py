"""Training in a group by paddle.distributed, where its launcher's environment variables say that there is one."""

import os

import numpy as np
import paddle
import paddle.distributed as dist
from numpy.typing import NDArray
from paddle import nn

from backends.engines import PATIENCE
from common.group import ALONE, Group


def join() -> Group:
    """Join the group and wait until all its workers have come. Without a group, the worker is alone."""
    if "PADDLE_TRAINERS_NUM" not in os.environ:
        return ALONE
    os.environ["PADDLE_DISTRI_BACKEND"] = "gloo"
    os.environ["PADDLE_PG_TIMEOUT"] = str(1000 * PATIENCE)  # milliseconds
    dist.init_parallel_env()
    return Group(dist.get_rank(), dist.get_world_size(), _sum)


def shared(model: nn.Layer, group: Group) -> nn.Layer:
    """The model. In a group its backward pass leaves each gradient's mean over all workers."""
    return model if group.size == 1 else paddle.DataParallel(model)


def _sum(array: NDArray[np.float64]) -> NDArray[np.float64]:
    tensor = paddle.to_tensor(array)
    dist.all_reduce(tensor)
    return tensor.numpy()
