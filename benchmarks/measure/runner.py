"""Runners that are backends: a process that trains our model, and decodes with it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from statistics import median

import numpy as np
from numpy.typing import NDArray

from backends.process.parent import BackendProcess
from benchmarks import measure_in_child
from benchmarks.measure import quiet
from benchmarks.measure.turns import Runner
from benchmarks.schema import WARM_UP_STEPS, Start, Turn, WarmUp, Work
from common.tensors import Batch, Batches
from common.weights import ModelState


@dataclass
class BackendRunner(Runner):
    """A backend's process, which trains on the batches of an epoch over and over."""

    process: BackendProcess
    epoch: Batches
    # Weights for decoding, the sources of a turn of each work,
    # and what the last call of such a turn put out.
    state: ModelState | None = None
    sources: Mapping[Work, Batch] = field(default_factory=dict)
    ids: dict[Work, NDArray[np.int64]] = field(default_factory=dict)

    @property
    def pids(self) -> list[int]:
        return [self.process.pid]

    def warm_up(self, seconds: float) -> Start:
        quiet.wait_until_idle()  # threads of the runner before may still spin
        warm_up: WarmUp = self.process.call(
            measure_in_child.warm_up, epoch=self.epoch, steps=WARM_UP_STEPS
        )
        self.step_seconds = min(warm_up.step_seconds)
        return Start(self.row, seconds, warm_up, self.process.facts)

    def turn(self, work: Work, first: int) -> Turn:
        """Take training steps that do not count, then timed ones; or make calls that decode."""
        if work != "training":
            assert self.state
            turn, self.ids[work] = self.process.call(
                measure_in_child.time_decoding, state=self.state, batch=self.sources[work]
            )
            return turn
        lead, timed = self.counts(self.step_seconds)
        turn = self.process.call(measure_in_child.time_steps, first=first, lead=lead, timed=timed)
        # The fastest, since after a slow turn the next one would begin
        # with too few steps that do not count.
        self.step_seconds = min(self.step_seconds, median(turn.steps))
        return turn
