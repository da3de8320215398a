"""Training in a group by paddle.distributed."""

import os
from typing import final

import paddle.distributed as dist
from paddle import Tensor

from backends.groups import EagerGroup
from backends.process import PATIENCE


@final
class PaddleGroup(EagerGroup):
    def join(self) -> None:
        meeting = f"{os.environ['MASTER_ADDR']}:{os.environ['MASTER_PORT']}"
        os.environ |= {
            "PADDLE_TRAINER_ID": os.environ["RANK"],
            "PADDLE_TRAINERS_NUM": os.environ["WORLD_SIZE"],
            "PADDLE_TRAINER_ENDPOINTS": meeting,  # of all workers, of which the first alone is read
            "PADDLE_CURRENT_ENDPOINT": "",  # must be there, and is not read
            "PADDLE_DISTRI_BACKEND": "gloo",
            "PADDLE_PG_TIMEOUT": str(1000 * PATIENCE),  # milliseconds
        }
        dist.init_parallel_env()

    def all_reduce(self, tensor: Tensor) -> None:
        dist.all_reduce(tensor)
