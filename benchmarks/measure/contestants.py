"""Processes that take turns: those that train, alone or as a group, and those that decode."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from statistics import median
from typing import Any

import msgspec

from backends.process.group import ask_each
from backends.process.parent import BackendProcess
from benchmarks.measure import in_child
from benchmarks.measure.in_child import Visit, WarmUp

WARM_UP_STEPS = 2  # after the cold one


@dataclass
class Trainees:
    """Processes that train at the same time, each by itself or all as one group."""

    row: int
    processes: Sequence[BackendProcess]
    batch_size: int  # pairs of a step, which a group divides
    # The rows of so many steps from a batch's number on, as `in_child.batches_of` takes them.
    batches: Callable[[int, int], Mapping[str, Any]]
    # How many steps of a visit do not count, and how many are timed, where a step takes so many seconds.
    counts: Callable[[float], tuple[int, int]]
    step_seconds: float = 0.0  # duration of its latest steps

    @property
    def pids(self) -> list[int]:
        return [process.pid for process in self.processes]

    def warm_up(self) -> WarmUp:
        """Train the first steps, in which processes compile and allocate; returns those of the first process."""
        rows = self.batches(0, WARM_UP_STEPS)
        first, *_ = ask_each(self.processes, lambda p: p.call(in_child.warm_up, batch_size=self.batch_size, **rows))
        self.step_seconds = median(first.step_seconds)
        return first

    def visit(self, first: int) -> Visit:
        """Training steps that do not count, then timed ones.

        One list holds the steps of all processes; of their durations and peaks the largest counts.
        """
        lead, timed = self.counts(self.step_seconds)
        rows = self.batches(first, lead + timed)
        visits = ask_each(
            self.processes, lambda p: p.call(in_child.steps, batch_size=self.batch_size, lead=lead, **rows)
        )
        merged = msgspec.structs.replace(
            visits[0],
            lead=list(chain.from_iterable(visit.lead for visit in visits)),
            steps=list(chain.from_iterable(visit.steps for visit in visits)),
            loop=max(visit.loop for visit in visits),
            finite=all(visit.finite for visit in visits),
            peak=max(visit.peak for visit in visits),
        )
        self.step_seconds = median(merged.steps)
        return merged


@dataclass
class Decoder:
    """A process that decodes many sentences at once, or one alone."""

    row: int
    process: BackendProcess
    sources: Mapping[str, Any]  # the arguments of `in_child.decoding`

    @property
    def pids(self) -> list[int]:
        return [self.process.pid]

    def visit(self, first: int) -> Visit:
        """Calls that decode, whatever batch is the first."""
        return self.process.call(in_child.decoding, **self.sources)
