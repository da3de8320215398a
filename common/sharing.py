"""What every framework's worker in a group does alike: it takes its shard of each batch, and counts are summed."""

from dataclasses import replace

import numpy as np

from common.interface import COUNTED, Backend, Metrics, Report
from common.tensors import Batches


class GroupWorker(Backend):
    """The first base of a backend's class that trains in a group; its `build` joins the group.

    Whatever the worker is asked beside `train`, `evaluate` and `gradients`, it does for itself.
    """

    def train(self, batches: Batches, report: Report) -> Metrics:
        def report_alone(step: int, loss: float) -> None:
            """No worker stops before the last batch: they report at different steps and must take equally many."""
            report(step, loss)

        return self._of_all_workers(super().train(self._shards(batches), report_alone))  # type: ignore[safe-super]

    def evaluate(self, batches: Batches) -> Metrics:
        return self._of_all_workers(super().evaluate(self._shards(batches)))  # type: ignore[safe-super]

    def _shards(self, batches: Batches) -> Batches:
        return replace(batches, rank=self.group.rank, workers=self.group.size)

    def _of_all_workers(self, own: Metrics) -> Metrics:
        """The sums over all workers of what each has counted, with this worker's times."""
        sums = self.group.sum(np.stack([getattr(own, name) for name in COUNTED]))
        return replace(own, **dict(zip(COUNTED, sums, strict=True)))
