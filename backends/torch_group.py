"""Training in a group by torch.distributed, where torchrun's environment variables say that there is one."""

import os
from datetime import timedelta

import numpy as np
import torch
import torch.distributed as dist
from numpy.typing import NDArray
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from backends.engines import PATIENCE
from common.group import ALONE, Group


def join() -> Group:
    """Join the group and wait until all its workers have come. Without a group, the worker is alone."""
    if "WORLD_SIZE" not in os.environ:
        return ALONE
    dist.init_process_group("gloo", timeout=timedelta(seconds=PATIENCE))
    return Group(dist.get_rank(), dist.get_world_size(), _sum)


def shared(model: nn.Module, group: Group) -> nn.Module:
    """The model. In a group its backward pass leaves each gradient's mean over all workers."""
    return model if group.size == 1 else DistributedDataParallel(model)


def _sum(array: NDArray[np.float64]) -> NDArray[np.float64]:
    tensor = torch.tensor(array)
    dist.all_reduce(tensor)
    return tensor.numpy()
