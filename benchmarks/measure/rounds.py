"""Rounds of new processes whose runners take turns,
until the question is answered or the time is over.

- A round starts a process for every runner, has them take turns and ends them. Each round has new
  processes, since two processes of the same program differ in speed.
- No size rests on a guess: the number of a round's cycles follows from what a start and a step cost
  here, so that three rounds fit into the time on a slow machine too.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from functools import partial
from math import ceil
from typing import Generic, TypeVar

import numpy as np

from benchmarks.measure import quiet
from benchmarks.measure.measurement import Measurement
from benchmarks.measure.plan import CAREFUL
from benchmarks.measure.statistics import LEAST_ROUNDS, counting, undisturbed, widest
from benchmarks.measure.turns import MOST_TRIES, Runner, take_turns
from benchmarks.schema import Round, Start, Turn
from common.errors import CannotBeginError, RosettaError
from common.text import count, duration

ENOUGH_ROUNDS = 5  # rounds after which narrow intervals end the question
CAREFUL_ROUNDS = 8  # the same for intervals narrower than CAREFUL, of figures that are fit to quote
CYCLES = 4  # in a round, at most
# A turn begins with steps that do not count, since the first ones after a switch are slow.
LEAD_SECONDS = 0.5
FEWEST_STEPS = (1, 2)  # least number of steps that do not count, and of timed ones, in a turn
WAITED = 0.1  # largest share of the budget that is spent waiting for other programs
# Seconds that a turn takes beside its steps, most of it waiting until the machine is idle.
BETWEEN = 0.15
# Seconds to which a budget that nobody gave may grow, and the most that are advised.
LONGEST = 3600.0
SLOWER = 3.0  # assumed step of an unmeasured row, as a multiple of the longest step so far

AnyRunner = TypeVar("AnyRunner", bound=Runner)


class Rounds(ABC, Generic[AnyRunner]):
    """The measurement that is being filled, and this machine's speed so far.
    All durations are seconds."""

    timed_seconds = 0.4  # duration of a turn's timed steps
    usual_start = 0.0  # seconds in which a process starts on a machine of two cores

    def __init__(self, measurement: Measurement, seed: int) -> None:
        self.measurement, self.plan, self.seed = measurement, measurement.plan, seed
        self.budget = self.plan.budget
        self.began = self.end = 0.0
        self.reached: float | None = None  # half-width of the widest interval so far
        self.step_seconds: dict[int, float] = {}  # by the row's index
        self.start_seconds = 0.0  # to start and warm up a group of rows; 0 before it is known
        self.stretch = 1.0  # duration of the last cycles as a multiple of the foreseen one
        self.longest_wait = min(quiet.LONGEST_WAIT, WAITED * self.budget)  # for other programs
        # True if other programs left the machine no rest, so that turns are not retried
        self.restless = False

    @abstractmethod
    def _opened(
        self, stack: ExitStack, indices: Sequence[int], number: int
    ) -> tuple[list[AnyRunner], list[Start]]:
        """Start a process for each of these rows and warm it up;
        the processes end with the stack."""

    def _before_turns(self, live: Sequence[AnyRunner]) -> None:
        """Work with the processes of a round before they take turns, not part of their start."""

    def _after_turns(
        self, live: Sequence[AnyRunner], number: int, rng: np.random.Generator
    ) -> None:
        """Work with the processes of a round before they end."""

    def _checking_seconds(self) -> float:
        """Usual duration of the work before the first round, on a machine of two cores."""
        return 0.0

    @property
    def left(self) -> float:
        """Rest of the budget."""
        return self.end - quiet.now()

    def status(self, doing: str) -> None:
        """Show the present work, the time that is left, and the widest interval so far."""
        words = [doing, f"{duration(max(0.0, self.left))} left"]
        if self.reached:
            words.append(
                f"intervals within ±{self.reached:.0%} so far"
                if self.reached < 1
                else "too early to tell"
            )
        self.say("; ".join(words))

    def run(self, status: Callable[[str], None], note: Callable[[str], None]) -> None:
        """Measure within the budget.

        `status` shows the present work and `note` prints what everybody should read; neither is
        called while something is timed. Raises CannotBeginError for a budget that no answer fits,
        and RosettaError if that turns out later.
        """
        self._refuse_too_small()
        self.say, self.note = status, note
        self.began = quiet.now()
        self.end = self.began + self.budget
        self._wait_for_rest()
        self._measure()

    def _wait_for_rest(self) -> None:
        """Wait until other programs leave the machine alone.

        If they do not, turns are taken beside them, and they are not waited for again.
        """
        self.restless = not quiet.wait_until_fit(self.note, self.longest_wait)
        if self.restless and self.longest_wait:
            self.longest_wait = 0.0  # waiting after each short rest would take the budget
            self.note(
                "other programs leave the machine no rest, so turns are taken beside them, with "
                "wider intervals; end them, or measure later"
            )

    def _measure(self) -> None:
        while self._goes_on():
            self._round(self._next)

    # What is known, and what an answer lacks

    def _used_by_group(self) -> list[int]:
        """The number of rounds with a cycle that counts, of each group of rows."""
        members = {
            line.number: {turn.row for turn in cycle}
            for line, cycle in counting(self.measurement.rounds())
        }
        return [
            sum(rows.issuperset(group) for rows in members.values())
            for group in self.plan.rows_by_size
        ]

    @property
    def _used(self) -> int:
        """The number of rounds with a cycle that counts, of the group with the fewest."""
        return min(self._used_by_group())

    @property
    def _lacking(self) -> int:
        """The number of rounds that an answer still needs."""
        return sum(max(0, LEAST_ROUNDS - used) for used in self._used_by_group())

    @property
    def _next(self) -> list[int]:
        """The rows of the next round: a group with the fewest rounds so far,
        drawn where there are several."""
        used = self._used_by_group()
        drawn = np.random.default_rng([self.seed, self._number, 1]).permutation(len(used))
        return self.plan.rows_by_size[min(drawn, key=lambda place: used[place])]

    @property
    def _number(self) -> int:
        """The number of the next round."""
        return max((line.number for line in self.measurement.rounds()), default=0) + 1

    def _goes_on(self) -> bool:
        """True if the question has no answer yet and there is time for another round.

        It is answered when, after enough rounds, the intervals are as narrow as asked.
        """
        enough = CAREFUL_ROUNDS if self.plan.within < CAREFUL else ENOUGH_ROUNDS
        narrow = self.reached is not None and self.reached <= self.plan.within
        return not (narrow and self._used >= enough) and self._has_round()

    def _has_round(self) -> bool:
        """True if there is time for another round of the question."""
        if not self.start_seconds:  # nothing is known of this machine yet
            return True
        return self.left >= self.start_seconds + self._cycle_seconds(self._next)

    # A round

    def _round(self, indices: Sequence[int]) -> None:
        """Measure a round: start the process of every row, let them take turns, and end them."""
        number, is_first = self._number, not self.step_seconds.keys() & {*indices}
        rng = np.random.default_rng([self.seed, number])
        if self.restless:
            self._wait_for_rest()
        began = quiet.now()
        with ExitStack() as stack:
            shuffled = [indices[place] for place in rng.permutation(len(indices))]
            live, starts = self._opened(stack, shuffled, number)
            live.sort(key=lambda runner: runner.row)
            self._learn_steps(live)
            self.start_seconds = quiet.now() - began
            if is_first:
                self._give_way()
            self._before_turns(live)
            cycles: list[list[Turn]] = []
            try:
                self._cycles(live, rng, cycles, f"round {number} of new processes")
            finally:  # after an error or Ctrl-C, too
                if cycles:
                    self.measurement.append(
                        Round(number, "training", starts, cycles, quiet.now() - began)
                    )
                    self.reached = widest(self.measurement)
            self._after_turns(live, number, rng)

    def _cycles(
        self,
        live: Sequence[AnyRunner],
        rng: np.random.Generator,
        cycles: list[list[Turn]],
        words: str,
    ) -> None:
        """Append as many `cycles` as take as long as starting,
        since rounds of new processes tell more than cycles.

        They leave time for the rounds that an answer still needs.
        """
        indices, began = [runner.row for runner in live], quiet.now()
        to_come = max(0, self._lacking - 1)
        seconds = (self.left - to_come * self.start_seconds) / (to_come + 1)
        cycle = self._cycle_seconds(indices)
        most, foreseen = min(CYCLES, 1 + int(self.start_seconds / cycle)), cycle / self.stretch
        for number in range(1, most + 1):
            first = self._first(cycles[-1] if cycles else [])
            cycles.append(
                take_turns(live, rng, partial(self.status, words), self.most_tries, first)
            )
            self._learn_steps(live)
            passed = quiet.now() - began
            self.stretch = max(1.0, passed / number / foreseen)
            if passed + passed / number > seconds:
                break
            if number < most and not (self.restless or undisturbed(cycles[-1])):
                self._wait_for_rest()

    def _learn_steps(self, live: Sequence[AnyRunner]) -> None:
        self.step_seconds |= {runner.row: runner.step_seconds for runner in live}

    @property
    def most_tries(self) -> int:
        """Tries of a turn: only one where other programs would disturb the next one, too."""
        return 1 if self.restless else MOST_TRIES

    def _first(self, before: Sequence[Turn]) -> int | None:
        """The number of a cycle's first batch, after the cycle `before` in this round;
        None if it is drawn."""
        return None

    def counts(self, step_seconds: float) -> tuple[int, int]:
        """Numbers of a turn's steps that do not count, and of the timed ones,
        for steps of this duration."""
        lead, timed = (
            ceil(seconds / step_seconds) for seconds in (LEAD_SECONDS, self.timed_seconds)
        )
        return max(lead, FEWEST_STEPS[0]), max(timed, FEWEST_STEPS[1])

    def _step(self, index: int) -> float:
        """The duration of a row's steps, as last measured; a guess before that."""
        return self.step_seconds.get(index) or SLOWER * max(self.step_seconds.values())

    def _cycle_seconds(self, indices: Sequence[int]) -> float:
        """The foreseen duration of a cycle of these rows."""
        steps = map(self._step, indices)
        return self.stretch * sum(BETWEEN + sum(self.counts(step)) * step for step in steps)

    def _give_way(self) -> None:
        """Make a budget that nobody gave longer where the rounds
        that an answer needs do not fit, and note it.

        A group's first round has its processes already. Raises RosettaError, before anything is
        measured in vain, for a budget that the user gave, and where LONGEST would not do.
        """
        needed = quiet.now() - self.began - self.start_seconds
        for group, used in zip(self.plan.rows_by_size, self._used_by_group(), strict=True):
            needed += max(0, LEAST_ROUNDS - used) * (
                self.start_seconds + self._cycle_seconds(group)
            )
        most = self.budget if self.plan.fixed else LONGEST
        if needed > most and self._number == 1:
            raise RosettaError(self._too_small(needed))
        if most > self.budget and needed > self.end - self.began:
            needed = min(needed, most)
            self.end = self.began + needed
            given, taken = duration(self.budget), duration(needed)
            if given != taken:
                self.note(
                    f"{given} are too few for {self._least} of new processes on this machine, so "
                    f"this takes {taken}"
                )

    @property
    def _least(self) -> str:
        return count(LEAST_ROUNDS * len(self.plan.rows_by_size), "round")

    def _refuse_too_small(self) -> None:
        """Raise CannotBeginError for a budget that the user gave and that no answer fits."""
        turn = BETWEEN + LEAD_SECONDS + self.timed_seconds
        needed = self._checking_seconds() + LEAST_ROUNDS * len(self.plan.rows) * (
            self.usual_start + turn
        )
        if self.plan.fixed and needed > self.budget:
            raise CannotBeginError(self._too_small(needed))

    def _refuse_slow_starts(self, started: int, rows: int, since: float) -> None:
        """Raise RosettaError if the first `started` processes
        of so many rows leave a fixed budget no answer.

        The first one was begun at `since`.
        """
        needed = since - self.began + LEAST_ROUNDS * rows * (quiet.now() - since) / started
        if self._number == 1 and self.plan.fixed and needed > self.budget:
            raise RosettaError(self._too_small(needed))

    def _too_small(self, needed: float) -> str:
        """The reason to refuse a budget, with the one that would do if that is at most an hour."""
        if needed > LONGEST:
            return (
                f"an answer needs {self._least} of new processes, which take over an hour; measure "
                "fewer rows"
            )
        minutes = count(ceil(needed / 60), "minute")
        return (
            f"an answer needs {self._least} of new processes, which take about {minutes} on this "
            "machine; measure fewer rows, leave out --budget, or give more"
        )
