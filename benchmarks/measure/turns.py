"""Runners take turns, and their times come back. Only the name of a turn's work is known here.

- A runner is a process that is ready and answers each turn with the seconds of its steps. It sleeps
  until its turn comes, and while it works all other runners sleep.
- A cycle has a turn of every runner, in an order that is shuffled anew for each cycle. Since turns
  are short, slow spells of the machine fall on all runners alike.
- A turn that other programs disturbed is retried at once. Their processor time alone decides, never
  the turn's own times, so nothing is chosen by its result.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import msgspec
import numpy as np

from benchmarks.measure import quiet
from benchmarks.schema import MOST_OTHERS, Start, Turn, Work

MOST_TRIES = 4  # tries of a turn that other programs disturb

# From the seconds of a step: number of a turn's steps that do not count, and of the timed ones.
StepCounts = Callable[[float], tuple[int, int]]


@dataclass
class Runner(ABC):
    """A process that takes turns, with its children."""

    row: int  # index by which its turns are known
    counts: StepCounts = field(default=lambda step: (0, 1), kw_only=True)  # of its training steps
    step_seconds: float = field(default=0.0, kw_only=True)  # duration of its latest training steps

    @property
    @abstractmethod
    def pids(self) -> Sequence[int]:
        """Ids of its processes, whose work does not count as that of other programs."""

    @abstractmethod
    def warm_up(self, seconds: float) -> Start:
        """Warm up a process that became ready after `seconds`,
        or 0 if not timed; return what it says of itself."""

    @abstractmethod
    def turn(self, work: Work, first: int) -> Turn:
        """Take a turn of this work; training begins with the batch or step of number `first`."""


def take_turns(
    runners: Sequence[Runner],
    rng: np.random.Generator,
    before: Callable[[], None] = lambda: None,
    most_tries: int = MOST_TRIES,
    first: int | None = None,
    work: Work = "training",
) -> list[Turn]:
    """Return the turns of a cycle, each after a call of `before`
    and with at most `most_tries` tries.

    All runners begin with batch number `first`, or with a number that is drawn.
    """
    if first is None:
        first = int(rng.integers(1 << 30))
    cycle = []
    for place in rng.permutation(len(runners)):
        before()
        cycle.append(_turn(runners[place], work, first, runners, most_tries))
    return cycle


def _turn(
    runner: Runner, work: Work, first: int, runners: Sequence[Runner], most_tries: int
) -> Turn:
    """Return the last try of a turn, the first one that neither other
    programs nor other machines disturbed."""
    for tries in range(1, most_tries + 1):
        quiet.wait_until_idle()
        watch = quiet.Watch([pid for present in runners for pid in present.pids])
        turn = runner.turn(work, first)
        others, stolen = watch.others_and_stolen()
        turn = msgspec.structs.replace(
            turn, row=runner.row, others=others, stolen=stolen, tries=tries
        )
        if max(turn.others, turn.stolen) <= MOST_OTHERS:
            break
    return turn
