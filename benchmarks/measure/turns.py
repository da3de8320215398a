"""Contestants that take turns: contestants in, times out. Nothing here knows models or plans.

- A contestant is a process that is ready, and then answers each turn with how long its steps took. It sleeps until
  its turn comes, and while it works all other contestants sleep.
- A cycle visits every contestant once, in an order that is shuffled anew for each cycle. Since turns are short, slow
  spells of the machine fall on all contestants alike.
- A turn that other programs disturbed is taken again at once. Their processor time alone decides, never the turn's
  own times, so nothing is chosen by what was measured.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import msgspec
import numpy as np

from benchmarks.in_child import Visit, Work
from benchmarks.measure import machine
from benchmarks.measure.recording import Start

MOST_TRIES = 4  # times that a turn is taken, at most, where other programs disturb it

# How many steps of a visit do not count, and how many are timed, where a step takes so many seconds.
Counts = Callable[[float], tuple[int, int]]


@dataclass
class Contestant(ABC):
    """A process that takes turns, with those that it has started."""

    row: int  # index by which its visits are known
    counts: Counts = field(default=lambda step: (0, 1), kw_only=True)  # of its training steps
    step_seconds: float = field(default=0.0, kw_only=True)  # duration of its latest training steps

    @property
    @abstractmethod
    def pids(self) -> Sequence[int]:
        """Ids of its processes, whose work is its own and not that of other programs."""

    @abstractmethod
    def started(self, seconds: float) -> Start:
        """Warm up a process that is ready; returns what it says of itself. To be ready took it so many seconds, or 0
        where that was not timed."""

    @abstractmethod
    def turn(self, work: Work, first: int) -> Visit:
        """Take a turn of this work; training begins with the batch or step of this number."""


def take_turns(
    contestants: Sequence[Contestant],
    rng: np.random.Generator,
    before: Callable[[], None] = lambda: None,
    most_tries: int = MOST_TRIES,
    first: int | None = None,
    work: Work = "training",
) -> list[Visit]:
    """The visits of a cycle. `before` is called before each turn, and a turn that other programs disturb is taken
    `most_tries` times, at most. All begin with batch number `first`, or one that is drawn."""
    if first is None:
        first = int(rng.integers(1 << 30))
    cycle = []
    for place in rng.permutation(len(contestants)):
        before()
        cycle.append(_visit(contestants[place], work, first, contestants, most_tries))
    return cycle


def _visit(
    contestant: Contestant, work: Work, first: int, contestants: Sequence[Contestant], most_tries: int
) -> Visit:
    """One turn, taken again while other processes than those of `contestants` or other virtual machines disturb it.

    The last one is returned.
    """
    for tries in range(1, most_tries + 1):
        machine.wait_until_idle()
        watch = machine.Watch([pid for one in contestants for pid in one.pids])
        visit = contestant.turn(work, first)
        beside = {"others": watch.others(), "stolen": watch.stolen(), "tries": tries}
        visit = msgspec.structs.replace(visit, row=contestant.row, **beside)
        if max(visit.others, visit.stolen) <= machine.MOST_OTHERS:
            break
    return visit


def undisturbed(cycle: Sequence[Visit]) -> bool:
    """Whether other programs disturbed none of a cycle's visits, even after these were taken again.

    Stolen time does not decide: on a machine that others share, it may never end.
    """
    return all(visit.others <= machine.MOST_OTHERS for visit in cycle)
