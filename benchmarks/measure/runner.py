"""Runners that are backends: a process that trains our model, and decodes with it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from statistics import median

from backends.process.parent import BackendProcess
from benchmarks import in_child
from benchmarks.in_child import Visit, WarmUp, Work
from benchmarks.measure.recording import WARM_UP_STEPS, Start
from benchmarks.measure.turns import Runner
from common.tensors import Batch, Batches
from common.weights import ModelState


@dataclass
class BackendRunner(Runner):
    """A backend's process, which trains on the batches of an epoch over and over."""

    process: BackendProcess
    epoch: Batches
    # Weights for decoding, and the sources of a turn of each work.
    state: ModelState | None = None
    sources: Mapping[Work, Batch] = field(default_factory=dict)

    @property
    def pids(self) -> list[int]:
        return [self.process.pid]

    def started(self, seconds: float) -> Start:
        warm_up: WarmUp = self.process.call(in_child.warm_up, epoch=self.epoch, steps=WARM_UP_STEPS)
        self.step_seconds = median(warm_up.step_seconds)
        return Start(self.row, seconds, warm_up, self.process.facts)

    def turn(self, work: Work, first: int) -> Visit:
        """Take training steps that do not count, then timed ones; or make calls that decode."""
        if work != "training":
            assert self.state
            return self.process.call(in_child.decoding, state=self.state, batch=self.sources[work])
        lead, timed = self.counts(self.step_seconds)
        visit: Visit = self.process.call(in_child.steps, first=first, lead=lead, timed=timed)
        self.step_seconds = median(visit.steps)
        return visit
