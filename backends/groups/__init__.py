"""Training in a group of workers: what a worker of any framework does. How it joins and sums is in its own file.

A worker reads its place from RANK, WORLD_SIZE, MASTER_ADDR and MASTER_PORT in its environment.
"""

import os
from abc import abstractmethod
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from backends.interface import COUNTED, Group, Metrics, Report
from backends.lesson_backend import LessonBackend
from common.tensors import Batches


class GroupWorker(LessonBackend):
    """The first base of a backend's class that trains in a group; its `build` joins the group.

    It trains on its shard of each batch, and sums gradients and counts over the workers. All else it does for itself.
    """

    def train(self, batches: Batches, report: Report) -> Metrics:
        def report_alone(step: int, loss: float) -> None:
            """No worker stops before the last batch: they report at different steps and must take equally many."""
            report(step, loss)

        return self._of_all_workers(super().train(self._shards(batches), report_alone))

    def evaluate(self, batches: Batches) -> Metrics:
        return self._of_all_workers(super().evaluate(self._shards(batches)))

    def _shards(self, batches: Batches) -> Batches:
        return replace(batches, rank=self.group.rank, workers=self.group.size)

    def _of_all_workers(self, metrics: Metrics) -> Metrics:
        """The sums over all workers of what each has counted, with this worker's times."""
        sums = self.group.sum(np.stack([getattr(metrics, name) for name in COUNTED]))
        return replace(metrics, **dict(zip(COUNTED, sums, strict=True)))


class EagerWorker(GroupWorker):
    """A worker of a framework that sums one tensor at a time."""

    def build(self) -> None:
        super().build()
        self.join()
        self.group = Group(int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"]), self._sum)

    @abstractmethod
    def join(self) -> None:
        """Wait until all workers have come."""

    @abstractmethod
    def all_reduce(self, tensor: Any) -> None:
        """Sum a tensor over all workers, in place."""

    def _train_step(self, batch: Any) -> tuple[Any, Any]:
        loss, counts, gradients = self.lesson.gradients(self.model, batch)
        for gradient in gradients.values():
            self.all_reduce(gradient)
        self.optimizer.step()
        return loss * self.group.size, counts  # the shard's loss is divided by the positions of the whole batch

    def _sum(self, array: NDArray[np.float64]) -> NDArray[np.float64]:
        tensor = self.lesson.to_tensor(array.copy())  # torch's tensor shares the array's memory
        self.all_reduce(tensor)
        total: NDArray[np.float64] = self.lesson.to_array(tensor)
        return total
