"""Contestants that take turns: contestants in, times out. Nothing here knows models or plans.

- A contestant is one process, or several that train together. It is alive and asleep until its turn comes; during a
  turn it works and all other contestants sleep.
- A cycle visits every contestant once, in an order that is shuffled anew for each cycle. Since turns are short, slow
  spells of the machine fall on all contestants alike.
- A turn that other programs disturbed is taken again at once. Their processor time alone decides, never the turn's
  own times, so nothing is chosen by what was measured.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sequence
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
from benchmarks.measure.recording import Start
from common.errors import RosettaError
from common.tensors import Batch, Batches
from common.weights import ModelState

MOST_TRIES = 4  # times that a turn is taken, at most, where other programs disturb it
WARM_UP_STEPS = 2  # after the cold one

# How many steps of a visit do not count, and how many are timed, where a step takes so many seconds.
Counts = Callable[[float], tuple[int, int]]


@dataclass
class Contestant(ABC):
    """One process, or several that work at the same time."""

    row: int  # index by which its visits are known
    processes: Sequence[BackendProcess]

    @abstractmethod
    def visit(self, first: int) -> Visit:
        """Take a turn, which begins with the batch of this number."""

    def ask(self, function: Callable[..., Any], **arguments: Any) -> list[Any]:
        """What a function of `in_child` returns in each process; all are asked at once."""
        return ask_each(self.processes, lambda process: process.call(function, **arguments))


@dataclass
class Trainees(Contestant):
    """Processes that train, each by itself or all as one group."""

    epoch: Batches  # its batches are trained on over and over; a group divides each
    counts: Counts
    step_seconds: float = 0.0  # duration of its latest steps

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

    state: ModelState
    batch: Batch  # of these sources

    def visit(self, first: int) -> Visit:
        visited: Visit = self.ask(in_child.decoding, state=self.state, batch=self.batch)[0]
        return visited


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

    def failed(row: int, error: RosettaError) -> None:
        raise error

    contestants, seconds, began = [], [], machine.now()
    for row, process in stack.enter_context(started_side_by_side(rows, launch, failed, at_once)):
        contestants.append(Trainees(row, [process], epoch, counts))
        seconds.append(machine.now() - began if at_once == 1 else 0.0)
        after_each()
        began = machine.now()
    timed = zip(contestants, seconds, strict=True)
    return contestants, [Start(one.row, start, one.processes[0].facts, one.warm_up()) for one, start in timed]


def take_turns(
    contestants: Sequence[Contestant], rng: np.random.Generator, before: Callable[[], None] = lambda: None
) -> Iterator[list[Visit]]:
    """The visits of cycle after cycle, without end: the caller stops. `before` is called before each turn."""
    # Contestants may share processes, whose work is to be counted once.
    pids = sorted({process.pid for contestant in contestants for process in contestant.processes})
    while True:
        first = int(rng.integers(1 << 30))  # the first batch of this cycle, the same for all
        cycle = []
        for place in rng.permutation(len(contestants)):
            before()
            cycle.append(turn(contestants[place], first, pids))
        yield cycle


def turn(contestant: Contestant, first: int, pids: Sequence[int]) -> Visit:
    """One turn, taken again up to three times while other processes than `pids` or other virtual machines disturb it.

    The last one is returned.
    """
    for tries in range(1, MOST_TRIES + 1):
        machine.wait_until_idle()
        watch = machine.Watch(pids)
        visit = contestant.visit(first)
        beside = {"others": watch.others(), "stolen": watch.stolen(), "tries": tries}
        visit = msgspec.structs.replace(visit, row=contestant.row, **beside)
        if max(visit.others, visit.stolen) <= machine.MOST_OTHERS:
            break
    return visit


def usable(cycle: Sequence[Visit]) -> bool:
    """Whether a cycle counts: other programs disturbed none of its visits, even after these were taken again.

    A cycle that does not count is left out for all rows, since other programs do not slow all of them alike. Stolen
    time does not decide: on a machine that others share, it may never end.
    """
    return all(visit.others <= machine.MOST_OTHERS for visit in cycle)
