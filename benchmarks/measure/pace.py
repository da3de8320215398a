"""How long a benchmark's next steps will take on this machine, and so what fits into its time.

No size rests on a guess: how many cycles a round has, and how long its visits are, follows from what a start and a
step cost here, so that three rounds fit into the time on a slow machine too.
"""

from collections.abc import Callable, Sequence
from math import ceil
from statistics import median

from benchmarks.measure import machine
from benchmarks.measure.in_child import AT_LEAST
from benchmarks.measure.plan import LEAST_ROUNDS
from benchmarks.measure.recording import Recording
from common.errors import RosettaError

CYCLES = 4  # in a round, where there is time
FEWEST_CYCLES = 2  # visits become shorter before a round has fewer
EXTRA_CYCLES = 2  # in a round of rows as installed, and of decoding
LEAD_SECONDS = 0.5  # a visit begins with steps that do not count, since the first ones after a switch are slow
TIMED_SECONDS = 0.4  # duration of a visit's timed steps
SHORTER = (1.0, 0.5, 0.0)  # visits of these shares of the two durations are tried, the longest first
FEWEST_STEPS = (1, 2)  # least number of steps that do not count, and of timed ones, in a visit
BETWEEN = 0.15  # seconds that a turn takes beside its steps, most of it waiting until the machine is idle
GIVES_WAY = 1.5  # the budget may become so many times as long, where the least number of rounds does not fit
SLOWER = 3.0  # how many times as long as with matched settings a step as installed may take, before it is known


def step_counts(step_seconds: float, share: float) -> tuple[int, int]:
    """How many steps of a visit do not count, and how many are timed; `share` is that of a long visit's duration."""
    lead, timed = (ceil(share * seconds / step_seconds) for seconds in (LEAD_SECONDS, TIMED_SECONDS))
    return max(lead, FEWEST_STEPS[0]), max(timed, FEWEST_STEPS[1])


class Pace:
    """The time of a benchmark, and what its parts took when they were last measured. All durations are seconds."""

    def __init__(self, recording: Recording, budget: float | None) -> None:
        """`budget` may be None, which is the plan's own."""
        self.rows, self.budget = recording.plan.rows, recording.plan.budget if budget is None else budget
        self.matched = [index for index, row in enumerate(self.rows) if not row.installed]
        rounds = recording.rounds()
        last = [visit for line in rounds for cycle in line.cycles for visit in cycle]
        self.step_seconds = {visit.row: median(visit.steps) for visit in last}  # by the row's index
        # Of starting and warming up the matched rows; 0 before it is known, and turns included where this goes on.
        self.start_seconds = rounds[-1].seconds if rounds else 0.0
        self.stretch = 1.0  # how many times as long as foreseen the last cycles took
        self.began = self.end = 0.0

    def begin(self) -> None:
        """Let the time of the budget run from now on."""
        self.began = machine.now()
        self.end = self.began + self.budget

    @property
    def left(self) -> float:
        """Seconds that are left of the budget."""
        return self.end - machine.now()

    def step(self, index: int) -> float:
        """The duration of a row's steps, as last measured; a guess from its counterpart before."""
        plain = self.rows[index].counterpart
        if index in self.step_seconds or plain not in self.rows:
            return self.step_seconds[index]
        return SLOWER * self.step_seconds[self.rows.index(plain)]

    def cycle(self, indices: Sequence[int], share: float = 1.0) -> float:
        """How long a cycle of these rows will take, whose visits have this share of their longest duration."""
        steps = [self.step(index) for index in indices]
        return self.stretch * sum(BETWEEN + sum(step_counts(step, share)) * step for step in steps)

    def decoding(self) -> float:
        """How long turns of one kind of decoding will take."""
        calls = sum(BETWEEN + 2 * AT_LEAST + 2 * self.step(index) for index in self.matched)
        return EXTRA_CYCLES * self.stretch * calls

    def has_round(self, used: int) -> bool:
        """Whether there is time for another round of the matched rows, after `used` rounds that count."""
        if not self.start_seconds:  # nothing is known of this machine yet
            return True
        enough = used >= LEAST_ROUNDS
        turns = FEWEST_CYCLES * self.cycle(self.matched) if enough else self.cycle(self.matched, share=0.0)
        return self.left >= self.start_seconds + turns

    def has_extra(self) -> bool:
        """Whether there is time for a round of all rows."""
        starting = self.start_seconds * len(self.rows) / len(self.matched)
        return self.left >= starting + self.cycle(range(len(self.rows)))

    def sizes(self, indices: Sequence[int], used: int, extra: bool) -> tuple[float, int]:
        """The share of the longest duration that visits of the next cycles have, and the number of these cycles.

        Unless they are `extra`, they leave time for the rounds that an answer still needs, after `used` that count.
        """
        to_come = 0 if extra else max(0, LEAST_ROUNDS - used - 1)
        for_turns = (self.left - to_come * self.start_seconds) / (to_come + 1)
        fitting = (share for share in SHORTER if for_turns >= FEWEST_CYCLES * self.cycle(indices, share))
        share = next(fitting, SHORTER[-1])
        cycles = max(1, int(for_turns / self.cycle(indices, share)))
        return share, min(EXTRA_CYCLES if extra else CYCLES, cycles)

    def give_way(self, used: int, note: Callable[[str], None], opened: bool = False) -> None:
        """Make the budget longer, at most by half, where the rounds that an answer needs do not fit; `note` tells it.

        `used` rounds count already; with `opened`, the next one has its processes already. Raises RosettaError,
        before anything is measured in vain, where not even two rounds would fit.
        """
        if not self.start_seconds or used >= LEAST_ROUNDS:
            return
        missing, each = LEAST_ROUNDS - used, self.start_seconds + self.cycle(self.matched, share=0.0)
        now, latest = machine.now() - opened * self.start_seconds, self.began + GIVES_WAY * self.budget
        if not used and now + (missing - 1) * each > latest:
            minutes = ceil((now + missing * each - self.began) / 60)
            raise RosettaError(
                f"an answer needs {LEAST_ROUNDS} rounds of new processes, which take about {minutes} minutes on this "
                f"machine; give --budget {minutes}m"
            )
        if now + missing * each > self.end and self.end < latest:
            self.end = min(latest, now + missing * each)
            note(
                f"{duration(self.budget)} are too few for {LEAST_ROUNDS} rounds of new processes on this machine, so "
                f"this takes {duration(self.end - self.began)}"
            )


def duration(seconds: float) -> str:
    """A duration in minutes and seconds: 2 min 5 s."""
    return f"{round(seconds) // 60} min {round(seconds) % 60} s"
