"""Contestants that are backends: processes that train our model, alone or as one group, or decode with it."""

from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from itertools import chain
from statistics import median
from typing import Any

import msgspec
import numpy as np

from backends.process.group import ask_each, started_side_by_side
from backends.process.parent import BackendProcess
from benchmarks import in_child
from benchmarks.in_child import Visit, WarmUp
from benchmarks.measure import machine
from benchmarks.measure.lines import Start
from benchmarks.measure.turns import Contestant, Counts
from common.tensors import Batch, Batches
from common.weights import ModelState

WARM_UP_STEPS = 2  # after the cold one


@dataclass
class Trainees(Contestant):
    """Processes that train, each by itself or all as one group."""

    processes: Sequence[BackendProcess]
    epoch: Batches  # its batches are trained on over and over; a group divides each

    @property
    def pids(self) -> list[int]:
        return [process.pid for process in self.processes]

    def ask(self, function: Callable[..., Any], **arguments: Any) -> list[Any]:
        """What a function of `in_child` returns in each process; all are asked at once."""
        return ask_each(self.processes, lambda process: process.call(function, **arguments))

    def part(self, first: int, steps: int) -> Batches:
        """So many batches from number `first` on. The corpus crosses whole, so memory shows what it takes."""
        size, rows = self.epoch.batch_size, self.epoch.rows
        return replace(self.epoch, rows=rows[np.arange(first * size, (first + steps) * size) % len(rows)])

    def warm_up(self) -> WarmUp:
        """Train the first steps, in which processes compile and allocate; returns those of the first process."""
        first: WarmUp = self.ask(in_child.warm_up, batches=self.part(0, WARM_UP_STEPS))[0]
        self.step_seconds = median(first.step_seconds)
        return first

    def visit(self, first: int) -> Visit:
        """Training steps that do not count, then timed ones.

        One list holds the steps of all processes; of their durations and peaks the largest counts.
        """
        lead, timed = self.counts(self.step_seconds)
        visits: list[Visit] = self.ask(in_child.steps, batches=self.part(first, lead + timed), lead=lead)
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
class Decoder(Contestant):
    """A process that decodes the same sources in each turn, many at once or one alone."""

    process: BackendProcess
    state: ModelState
    batch: Batch  # of these sources

    @property
    def pids(self) -> list[int]:
        return [self.process.pid]

    def visit(self, first: int) -> Visit:
        return self.process.call(in_child.decoding, state=self.state, batch=self.batch)


def opened(
    stack: ExitStack,
    rows: Iterable[int],
    launch: Callable[[int], BackendProcess],
    epoch: Batches,
    counts: Counts,
    at_once: int = 1,
    after_each: Callable[[], None] = lambda: None,
) -> tuple[list[Trainees], list[Start]]:
    """Start a process for each row and warm it up; the processes end with the stack.

    Starts are timed where they are made one by one; several at once are quicker.
    """
    contestants, seconds, began = [], [], machine.now()
    for row, process in stack.enter_context(started_side_by_side(rows, launch, at_once)):
        contestants.append(Trainees(row, [process.result()], epoch, counts=counts))
        seconds.append(machine.now() - began if at_once == 1 else 0.0)
        after_each()
        began = machine.now()
    timed = zip(contestants, seconds, strict=True)
    return contestants, [Start(one.row, start, one.processes[0].facts, one.warm_up()) for one, start in timed]
