"""Times of rows that took turns, their ratios, and the 95 % intervals of both.

- An observation is one row in one round: the mean over its cycles of the logarithm of a turn's
  median time, in a race of its mean time. Every round has new processes, since two processes of the
  same program differ in speed. So certainty depends on the number of rounds and not on the number
  of steps.
- The ratio of two rows is the mean, over the rounds that have both, of the difference of their
  logarithms. What the machine does during a round affects both alike and cancels.
- Its interval is Student's, of these differences alone. Rows differ in noise: in one measurement
  the deviations of rounds ran from 1 % to 7 %. A variance that is pooled over all rows makes the
  intervals of quiet rows too wide and those of restless rows too narrow.
- A race of ROBUST_ROUNDS or more has robust estimates, since differences of strangers' rounds are
  heavy-tailed: a trimmed mean of the two rows' differences. The number of rounds alone decides,
  never the times.
"""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import combinations
from statistics import fmean, median, pstdev
from typing import Literal, TypeVar

import numpy as np

from benchmarks.measure.measurement import Measurement
from benchmarks.schema import Round, Turn, Work

CONFIDENCE = 0.95
UNSURE_FROM = 1.0  # half-width beyond which the ends of an interval say nothing
# Largest size of a logarithm: beyond what is ever measured, and its exponential is a number.
FARTHEST = 230.0
# Standard deviation of steps, as a share of their mean, above which the same steps are compared.
UNEVEN = 0.2
# Largest share of the cycles that is left out where other programs disturbed them; else none is.
MOST_DROPPED = 0.5
TRIMMED = 0.2  # share of the rounds that a robust estimate leaves out at either end
LEAST_ROUNDS = 3  # rounds of new processes, at least, for an answer
# Least rounds of a race with robust estimates; with fewer, trimming makes intervals wider.
ROBUST_ROUNDS = 12

Word = Literal["faster", "slower", "same", "not told apart"]
Key = TypeVar("Key")
Item = TypeVar("Item")


@dataclass(frozen=True)
class Estimate:
    """A value with its 95 % interval."""

    value: float
    low: float
    high: float

    @property
    def inverse(self) -> "Estimate":
        """The estimate of 1 / value."""
        return Estimate(1 / self.value, 1 / self.high, 1 / self.low)

    @property
    def half_width(self) -> float:
        """Reach of the interval on its wider side, as a share of the value: 0.07 is 7 %."""
        return max(self.high / self.value, self.value / self.low) - 1

    @property
    def unsure(self) -> bool:
        """True if the ends of the interval say nothing."""
        return self.half_width > UNSURE_FROM

    def times(self, factor: float) -> "Estimate":
        """The estimate of value × factor."""
        return Estimate(self.value * factor, self.low * factor, self.high * factor)

    def word(self, within: float) -> Word:
        """The verdict on a ratio; "same" if it contains 1 and reaches
        at most `within` to either side."""
        if self.low > 1:
            return "faster"
        if self.high < 1:
            return "slower"
        return "same" if self.half_width <= within else "not told apart"


@dataclass(frozen=True)
class Observations:
    """Logarithms of seconds, by round and by the row's index."""

    logarithms: Mapping[int, Mapping[int, float]]
    same_steps: bool = False  # True if they are of the steps that all rows did
    robust: bool = False  # True if estimates of ROBUST_ROUNDS or more are trimmed means

    def of_row(self, row: int) -> list[float]:
        """The observations of one row, as logarithms of seconds."""
        return [seconds[row] for seconds in self.logarithms.values() if row in seconds]

    def ratio(self, left: int, right: int) -> Estimate | None:
        """Speed of the row `left` as a multiple of that of `right`:
        the seconds of `right` over those of `left`.

        None where fewer than two rounds have both.
        """
        both = [
            seconds for seconds in self.logarithms.values() if left in seconds and right in seconds
        ]
        return self._mean_of([seconds[right] - seconds[left] for seconds in both])

    def seconds(self, row: int) -> Estimate | None:
        """A row's time in seconds; None if it was not measured,
        an interval without width if that is unknown.

        The interval leaves out what the machine did to all rows of a round at once. Only the
        interval of a row without any other row includes that.
        """
        logarithms, rounds = self.of_row(row), self.logarithms
        alone = all(seconds.keys() == {row} for seconds in rounds.values() if row in seconds)
        if not logarithms or (len(logarithms) > 1 and alone):
            return mean_of(logarithms)
        always = set.intersection(*map(set, rounds.values()))  # the rows that every round has
        level = {
            number: fmean(seconds[r] for r in always) if always else 0.0
            for number, seconds in rounds.items()
        }
        values = [
            seconds[row] - level[number] for number, seconds in rounds.items() if row in seconds
        ]
        # Taking away the level of so many rows makes a row's variance smaller.
        shared = max(len(always), 2)
        relative = self._mean_of(values, math.sqrt(shared / (shared - 1)))
        overall = math.exp(
            trimmed_mean([*level.values()])[0] if self._trims(values) else fmean(level.values())
        )
        value = math.exp(fmean(values))
        return (relative or Estimate(value, value, value)).times(overall)

    def _trims(self, values: Sequence[float]) -> bool:
        return self.robust and len(values) >= ROBUST_ROUNDS

    def _mean_of(self, values: Sequence[float], widened: float = 1.0) -> Estimate | None:
        """As `mean_of`, with a trimmed mean where estimates are robust."""
        if not self._trims(values):
            return mean_of(values, widened)
        centre, error, freedom = trimmed_mean(values)
        return _interval(centre, widened * error, freedom)


def observations(measurement: Measurement, work: Work = "training") -> Observations:
    """The observations of one kind of work, by the cycles that count.

    They are logarithms of the seconds of an item: a pair that is trained, a character that a call
    puts out, a script's item. If a script's steps are uneven, only steps of the same number are
    compared.
    """
    counted, scripts = counting(measurement.rounds(work)), measurement.plan.training is None
    turns = grouped((line.number, turn) for line, cycle in counted for turn in cycle)
    rounds = {
        number: grouped((turn.row, turn) for turn in of_round) for number, of_round in turns.items()
    }
    # A script's steps may be anything, so the mean counts: the time of all its work.
    middle: Callable[[Sequence[float]], float] = fmean if scripts else median
    steps = {
        number: {
            row: fmean(math.log(middle(turn.steps)) for turn in of_row)
            for row, of_row in rows.items()
        }
        for number, rows in rounds.items()
    }
    same: dict[int, dict[int, float]] = {}
    if scripts and uneven(turn for of_round in turns.values() for turn in of_round):
        same = {
            number: of_round
            for number, rows in rounds.items()
            if (of_round := _of_same_steps(rows))
        }
    # Else scripts were not told in time to do the same steps.
    same_steps = len(same) > len(steps) / 2
    logarithms = {
        number: {
            row: step - math.log(rounds[number][row][0].items) for row, step in of_round.items()
        }
        for number, of_round in (same if same_steps else steps).items()
    }
    return Observations(logarithms, same_steps, robust=scripts)


def uneven(turns: Iterable[Turn]) -> bool:
    """True if the steps of a runner differ by more than UNEVEN in most of its turns."""
    spreads = grouped((turn.row, pstdev(turn.steps) / fmean(turn.steps)) for turn in turns)
    return any(median(of_row) > UNEVEN for of_row in spreads.values())


def _of_same_steps(rows: Mapping[int, Sequence[Turn]]) -> dict[int, float]:
    """The logarithm of each row's seconds by the steps that all rows did;
    empty where there are no such steps.

    It is the mean over these steps and all rows,
    plus the median by which the row's steps differ from the rows' mean.
    """
    seconds = {
        row: {
            (turn.first + place * turn.each, turn.each): math.log(step)
            for turn in of_row
            for place, step in enumerate(turn.steps)
        }
        for row, of_row in rows.items()
    }
    shared = set.intersection(*map(set, seconds.values()))
    level = {step: fmean(of_row[step] for of_row in seconds.values()) for step in shared}
    overall = fmean(level.values()) if level else 0.0
    return {
        row: overall + median(of_row[step] - level[step] for step in level)
        for row, of_row in seconds.items()
        if level
    }


def counting(rounds: Iterable[Round]) -> list[tuple[Round, list[Turn]]]:
    """The cycles that count, each with its round: the undisturbed ones,
    or all if most are disturbed.

    A cycle is left out for all rows, since other programs do not slow all of them alike. Where most
    are disturbed, as on a machine that never rests, all count: their noise is in the intervals.
    """
    cycles = [(line, cycle) for line in rounds for cycle in line.cycles]
    alone = [(line, cycle) for line, cycle in cycles if undisturbed(cycle)]
    return alone if len(alone) >= (1 - MOST_DROPPED) * len(cycles) else cycles


def undisturbed(cycle: Sequence[Turn]) -> bool:
    """True if other programs disturbed no last try of a cycle."""
    return not any(turn.disturbed for turn in cycle)


def widest(measurement: Measurement) -> float | None:
    """Half-width of the widest interval between rows of equal sizes;
    None before every two rows have an interval.

    Of a row that has no other to be compared with it is that of its time.
    """
    known, widths = observations(measurement), list[float]()
    for group in measurement.plan.rows_by_size:
        ratios = [known.ratio(*pair) for pair in combinations(group, 2)] or [
            known.seconds(group[0])
        ]
        if not all(ratio and (len(group) > 1 or ratio.low < ratio.high) for ratio in ratios):
            return None  # a time of one round has no interval
        widths += [ratio.half_width for ratio in ratios if ratio]
    return max(widths)


def mean_of(logarithms: Sequence[float], widened: float = 1.0) -> Estimate | None:
    """The exponential of the mean of independent logarithms,
    with Student's interval; None of fewer than two.

    The interval's half-width is multiplied by `widened`.
    """
    if len(logarithms) < 2:
        return None
    error = float(np.std(logarithms, ddof=1)) / math.sqrt(len(logarithms))
    return _interval(fmean(logarithms), widened * error, len(logarithms) - 1)


def next_of(logarithms: Sequence[float]) -> Estimate | None:
    """The mean as of `mean_of`, with the interval that a further value falls into;
    None of fewer than two."""
    return mean_of(logarithms, math.sqrt(1 + len(logarithms)))


def trimmed_mean(values: Sequence[float]) -> tuple[float, float, int]:
    """The mean of the values without the TRIMMED share at either end,
    its standard error, and its degrees of freedom.

    The error is that of winsorized values (Tukey and McLaughlin, 1963; Yuen, 1974). Without
    anything to trim it is Student's. At least two values.
    """
    ordered, cut = np.sort(np.asarray(values, float)), int(TRIMMED * len(values))
    kept = ordered[cut : len(ordered) - cut]
    winsorized = np.clip(ordered, kept[0], kept[-1])
    squares = float(((winsorized - winsorized.mean()) ** 2).sum())
    return float(kept.mean()), math.sqrt(squares / (len(kept) * (len(kept) - 1))), len(kept) - 1


def _interval(logarithm: float, error: float, freedom: int) -> Estimate:
    """The estimate whose logarithm has this value and this standard error,
    with Student's 95 % interval."""
    half = reach(freedom) * error
    ends = (logarithm, logarithm - half, logarithm + half)
    return Estimate(*(math.exp(min(max(end, -FARTHEST), FARTHEST)) for end in ends))


@cache
def reach(freedom: int) -> float:
    """The size that Student's t of so many degrees of freedom,
    one or more, stays below with 95 % probability.

    The probability is a finite sum in the angle whose tangent is t / √freedom (Abramowitz and
    Stegun, 26.7.3 and 26.7.4).
    """
    odd = freedom % 2

    def probability(angle: float) -> float:
        cosine = math.cos(angle)
        term, total = cosine**odd, 0.0
        for k in range(1 + odd, freedom, 2):
            total += term
            term *= k / (k + 1) * cosine**2
        total *= math.sin(angle)
        return 2 / math.pi * (angle + total) if odd else total

    low, high = 0.0, math.pi / 2
    while low < (middle := (low + high) / 2) < high:
        low, high = (middle, high) if probability(middle) < CONFIDENCE else (low, middle)
    return math.sqrt(freedom) * math.tan(low)


def grouped(items: Iterable[tuple[Key, Item]]) -> dict[Key, list[Item]]:
    """The items that have the same key, by this key; keys and items stay in their order."""
    groups: dict[Key, list[Item]] = {}
    for key, item in items:
        groups.setdefault(key, []).append(item)
    return groups
