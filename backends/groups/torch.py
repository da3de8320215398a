"""Training in a group by torch.distributed."""

import os
from datetime import timedelta
from typing import final

import torch.distributed as dist
from torch import Tensor

from backends.groups import EagerGroup
from backends.process import PATIENCE


@final
class TorchGroup(EagerGroup):
    def join(self) -> None:
        timeout = timedelta(seconds=PATIENCE)
        store, rank, size = next(dist.rendezvous("env://", timeout=timeout))
        # torchrun keeps one store through its restarts, and gloo would find there the addresses of
        # workers that are gone (https://github.com/pytorch/pytorch/issues/135712).
        store = dist.PrefixStore(
            f"restart {os.environ.get('TORCHELASTIC_RESTART_COUNT', '0')}", store
        )
        dist.init_process_group("gloo", timeout=timeout, store=store, rank=rank, world_size=size)

    def all_reduce(self, tensor: Tensor) -> None:
        dist.all_reduce(tensor)
