"""How sure a figure is: times of rows that were visited in turns, their ratios, and the intervals of both.

Rows that are alive together are a block: what the machine does meanwhile meets all of them. An observation is one row
in one block: the mean over its cycles of the logarithm of a visit's median time. Two effects are fitted to them by
least squares, one a block and one a row, and a ratio of two rows is the exponential of the difference of their
effects. Its 95 % interval is Student's, from the residuals of all rows pooled. Processes of one program differ, and
the residual holds that, since every block has new processes: the number of blocks, and not that of steps, says how
much is known.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np

CONFIDENCE = 0.95

Word = Literal["faster", "slower", "same", "not told apart"]


@dataclass(frozen=True)
class Estimate:
    """A value with its 95 % interval."""

    value: float
    low: float
    high: float

    @property
    def inverse(self) -> "Estimate":
        return Estimate(1 / self.value, 1 / self.high, 1 / self.low)

    @property
    def half_width(self) -> float:
        """By what share the interval reaches to the wider side of the value: 0.07 is 7 %."""
        return max(self.high / self.value, self.value / self.low) - 1

    def holds(self, value: float) -> bool:
        return self.low <= value <= self.high

    def times(self, factor: float) -> "Estimate":
        return Estimate(self.value * factor, self.low * factor, self.high * factor)

    def widened(self, share: float) -> "Estimate":
        """With an interval that reaches further by this share on either side."""
        return Estimate(self.value, self.low / (1 + share), self.high * (1 + share))


@dataclass(frozen=True)
class Fit:
    """Observations of rows in blocks, by block and row: logarithms of seconds."""

    observed: Mapping[tuple[int, str], float]

    @cached_property
    def rows(self) -> list[str]:
        return list(dict.fromkeys(row for _, row in self.observed))

    def of_row(self, row: str) -> list[float]:
        """The observations of a row."""
        return [value for (_, name), value in self.observed.items() if name == row]

    @cached_property
    def _blocks(self) -> list[int]:
        return sorted({block for block, _ in self.observed})

    @cached_property
    def _solved(self) -> tuple[np.ndarray, np.ndarray, float, int]:
        """Effects of the blocks and then of the rows, their covariance without the variance of the residual, that
        variance, and its degrees of freedom."""
        design = np.zeros((len(self.observed), len(self._blocks) + len(self.rows)))
        for line, (block, row) in zip(design, self.observed, strict=True):
            line[self._blocks.index(block)] = line[len(self._blocks) + self.rows.index(row)] = 1.0
        values = np.array(list(self.observed.values()))
        # One constant can move from all blocks to all rows: the shortest solution is as good as any.
        inverse = np.linalg.pinv(design)
        effects = inverse @ values
        freedom = len(values) - int(np.linalg.matrix_rank(design))
        residual = values - design @ effects
        return effects, inverse @ inverse.T, float(residual @ residual) / max(freedom, 1), freedom

    def seconds(self, row: str) -> Estimate | None:
        """A row's time over the blocks as they were; None where one block alone was measured.

        The interval tells how well the row is told from others: what the machine did to all rows is not in it.
        """
        effects, covariance, variance, freedom = self._solved
        if row not in self.rows or freedom < 1:
            return None
        contrast = np.zeros(len(effects))
        contrast[: len(self._blocks)] = 1 / len(self._blocks)
        contrast[len(self._blocks) + self.rows.index(row)] = 1.0
        # Of the row's effect against the mean of all rows: the blocks' own effects are the same for all.
        against = np.zeros(len(effects))
        against[len(self._blocks) :] = -1 / len(self.rows)
        against[len(self._blocks) + self.rows.index(row)] += 1.0
        half = _student(freedom) * math.sqrt(max(0.0, against @ covariance @ against) * variance)
        return _estimate(float(contrast @ effects), half)

    def ratio(self, left: str, right: str) -> Estimate | None:
        """How many times as fast `left` is as `right`: right's seconds over left's.

        None where one of them was not measured, or where the residuals have no degree of freedom.
        """
        effects, covariance, variance, freedom = self._solved
        if left not in self.rows or right not in self.rows or freedom < 1:
            return None
        contrast = np.zeros(len(effects))
        contrast[len(self._blocks) + self.rows.index(right)] += 1.0
        contrast[len(self._blocks) + self.rows.index(left)] -= 1.0
        half = _student(freedom) * math.sqrt(max(0.0, contrast @ covariance @ contrast) * variance)
        return _estimate(float(contrast @ effects), half)

    def pairwise(self, left: str, right: str) -> Estimate | None:
        """The same from these two rows alone: Student's interval of their differences in the blocks that both have.

        None where they have fewer than two in common.
        """
        both = [b for b in self._blocks if (b, left) in self.observed and (b, right) in self.observed]
        if len(both) < 2:
            return None
        differences = np.array([self.observed[block, right] - self.observed[block, left] for block in both])
        half = _student(len(both) - 1) * float(differences.std(ddof=1)) / math.sqrt(len(both))
        return _estimate(float(differences.mean()), half)


def independent_ratio(observed: Sequence[float], others: Sequence[float]) -> Estimate:
    """How many times as fast `observed` is as `others`, of another recording, by Welch's interval.

    Both are logarithms of seconds, two or more.
    """
    from scipy.stats import ttest_ind

    found = ttest_ind(others, observed, equal_var=False).confidence_interval(CONFIDENCE)
    centre = float(np.mean(others) - np.mean(observed))
    return Estimate(math.exp(centre), math.exp(found.low), math.exp(found.high))


def word_for(ratio: Estimate, within: float) -> Word:
    """The word that an interval allows; "same" where it holds 1 and reaches no further than `within` to a side."""
    if ratio.low > 1:
        return "faster"
    if ratio.high < 1:
        return "slower"
    return "same" if ratio.half_width <= within else "not told apart"


def _estimate(centre: float, half: float) -> Estimate:
    return Estimate(math.exp(centre), math.exp(centre - half), math.exp(centre + half))


def _student(freedom: int) -> float:
    """Student's quantile for a two-sided interval: 12.7 for one degree of freedom, 2.0 for very many."""
    from scipy.special import stdtrit

    return float(stdtrit(freedom, (1 + CONFIDENCE) / 2))
