"""Contestants that take turns: contestants in, times out. Nothing here knows models or plans.

- A contestant is one process, or several that train together. It is alive and asleep until its turn comes; during a
  turn it works and all other contestants sleep.
- A cycle visits every contestant once, in an order that is shuffled anew for each cycle. Since turns are short, slow
  spells of the machine fall on all contestants alike.
- A turn that other programs disturbed is taken again at once. Their processor time alone decides, never the turn's
  own times, so nothing is chosen by what was measured.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from statistics import median
from typing import Any

import msgspec
import numpy as np

from backends.process.group import ask_each
from backends.process.parent import BackendProcess
from benchmarks.measure import in_child, machine
from benchmarks.measure.in_child import Visit, WarmUp

MOST_TRIES = 4  # times that a turn is taken, at most, where other programs disturb it
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


def take_turns(
    contestants: Sequence[Trainees | Decoder], rng: np.random.Generator, before: Callable[[], None] = lambda: None
) -> Iterator[list[Visit]]:
    """The visits of cycle after cycle, without end: the caller stops. `before` is called before each turn."""
    # Contestants may share processes, whose work is to be counted once.
    pids = sorted({pid for contestant in contestants for pid in contestant.pids})
    while True:
        first = int(rng.integers(1 << 30))  # the first batch of this cycle, the same for all
        cycle = []
        for place in rng.permutation(len(contestants)):
            before()
            cycle.append(turn(contestants[place], first, pids))
        yield cycle


def turn(contestant: Trainees | Decoder, first: int, pids: Sequence[int]) -> Visit:
    """One turn, taken again up to three times while other processes than `pids` or other virtual machines disturb it.

    The last one is returned.
    """
    for tries in range(1, MOST_TRIES + 1):
        machine.wait_until_idle()
        watch = machine.Watch(pids)
        visit = contestant.visit(first)
        beside = {"others": watch.others(), "stolen": watch.stolen(), "tries": tries}
        visit = msgspec.structs.replace(visit, row=contestant.row, **beside)
        if undisturbed(visit) and visit.stolen <= machine.MOST_OTHERS:
            break
    return visit


def undisturbed(visit: Visit) -> bool:
    """Whether other programs left a visit alone; on a machine that others share, stolen time may never end."""
    return visit.others <= machine.MOST_OTHERS


def usable(cycle: Sequence[Visit]) -> bool:
    """Whether a cycle counts: other programs disturbed none of its visits, even after these were taken again.

    A cycle that does not count is left out for all rows, since other programs do not slow all of them alike.
    """
    return all(map(undisturbed, cycle))
