"""The engine that takes turns: contestants in, times out. It knows neither models nor plans.

- A contestant is one process or several that work together. It is alive and asleep until its turn comes; during a
  turn it works and all other contestants sleep.
- A cycle visits every contestant once, in an order that is shuffled anew for each cycle. Since turns are short, slow
  spells of the machine fall on all contestants alike.
- A turn that other programs disturbed is taken again at once. Their processor time alone decides, never the turn's
  own times, so nothing is chosen by what was measured.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Protocol

import msgspec
import numpy as np

from benchmarks.measure import machine
from benchmarks.measure.in_child import Visit

MOST_TRIES = 4  # times that a turn is taken, at most, where other programs disturb it


class Contestant(Protocol):
    """What takes turns. Its processes have been warmed up."""

    row: int  # by which its visits are recorded

    @property
    def pids(self) -> Sequence[int]:
        """The ids of its processes."""

    def visit(self, first: int) -> Visit:
        """Work for a turn, from batch number `first` on."""


def take_turns(
    contestants: Sequence[Contestant], rng: np.random.Generator, before: Callable[[], None] = lambda: None
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


def turn(contestant: Contestant, first: int, pids: Sequence[int]) -> Visit:
    """One turn, taken again up to three times while other processes than `pids` or other virtual machines disturb it.

    The last one is returned.
    """
    for tries in range(1, MOST_TRIES + 1):
        waited = machine.wait_until_idle()
        watch = machine.Watch(pids)
        visit = contestant.visit(first)
        beside = {"waited": waited, "others": watch.others(), "stolen": watch.stolen(), "tries": tries}
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
