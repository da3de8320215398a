"""Training in a group by torch.distributed, where torchrun's environment variables say that there is one."""

import os
from datetime import timedelta
from typing import Any, final

import numpy as np
import torch
import torch.distributed as dist
from numpy.typing import NDArray
from torch.nn.parallel import DistributedDataParallel

from backends.lesson_backend import TorchBackend
from common.interface import PATIENCE, Group
from common.sharing import GroupWorker


@final
class TorchWorker(GroupWorker, TorchBackend):
    def build(self) -> None:
        """Join the group and wait until all its workers have come."""
        super().build()
        timeout = timedelta(seconds=PATIENCE)
        store, rank, size = next(dist.rendezvous("env://", timeout=timeout))
        # torchrun keeps one store through its restarts, and gloo would find there the addresses of workers that are
        # gone (https://github.com/pytorch/pytorch/issues/135712).
        store = dist.PrefixStore(f"restart {os.environ.get('TORCHELASTIC_RESTART_COUNT', '0')}", store)
        dist.init_process_group("gloo", timeout=timeout, store=store, rank=rank, world_size=size)
        self.group = Group(dist.get_rank(), dist.get_world_size(), _sum)
        self.shared = Shared(self.model)


class Shared(DistributedDataParallel):
    """The model, whose backward pass leaves each gradient's mean over all workers."""

    def __getattr__(self, name: str) -> Any:
        try:
            return super().__getattr__(name)
        except AttributeError:
            return getattr(self.module, name)  # an encoder, say


def _sum(array: NDArray[np.float64]) -> NDArray[np.float64]:
    tensor = torch.tensor(array)
    dist.all_reduce(tensor)
    return tensor.numpy()
