"""Training in a group of workers. How a framework's workers join
and sum is in the file of its name.

A worker reads its place from RANK, WORLD_SIZE, MASTER_ADDR and MASTER_PORT in its environment.
"""

import os
from abc import abstractmethod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from backends.interface import Group, ModelFile, Tensor


class EagerGroup(Group):
    """A group in a framework that sums one tensor at a time."""

    def __init__(self, file: ModelFile) -> None:
        super().__init__(file, int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"]))
        self.join()

    @abstractmethod
    def join(self) -> None:
        """Wait until all workers have come."""

    @abstractmethod
    def all_reduce(self, tensor: Tensor) -> None:
        """Sum a tensor over all workers, in place."""

    def sum(self, array: NDArray[np.float64]) -> NDArray[np.float64]:
        tensor = self.file.to_tensor(array.copy())  # torch's tensor shares the array's memory
        self.all_reduce(tensor)
        return self.file.to_array(tensor)

    def train_step(self, model: Any, optimizer: Any, batch: Any) -> tuple[Tensor, Tensor]:
        loss, counts, gradients = self.file.gradients(model, batch)
        for gradient in gradients.values():
            self.all_reduce(gradient)
        optimizer.step()
        # The shard's loss is divided by the positions of the whole batch.
        return loss * self.size, counts
