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


@dataclass(frozen=True, eq=False)
class _Solved:
    """A fit by least squares. Its effects are those of the blocks, and then those of the rows."""

    effects: np.ndarray
    covariance: np.ndarray  # of the effects, for a residual whose variance is 1
    variance: float  # of the residual
    freedom: int  # degrees of freedom of the residual
    projection: np.ndarray  # onto the contrasts of effects that the observations can tell


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
    def _solved(self) -> "_Solved":
        design = np.zeros((len(self.observed), len(self._blocks) + len(self.rows)))
        for line, (block, row) in zip(design, self.observed, strict=True):
            line[self._blocks.index(block)] = line[len(self._blocks) + self.rows.index(row)] = 1.0
        values = np.array(list(self.observed.values()))
        # One constant can move from all blocks to all rows: the shortest solution is as good as any.
        inverse = np.linalg.pinv(design)
        effects = inverse @ values
        freedom = len(values) - int(np.linalg.matrix_rank(design))
        residual = values - design @ effects
        variance = float(residual @ residual) / max(freedom, 1)
        return _Solved(effects, inverse @ inverse.T, variance, freedom, inverse @ design)

    def seconds(self, row: str) -> Estimate | None:
        """A row's time over the blocks as they were; None where one block alone was measured.

        The interval tells how well the row is told from the others: what the machine did to all rows is not in it.
        A row that has no others has the interval of its own observations, with what the machine did.
        """
        if self.rows == [row]:
            return _of_mean(list(self.observed.values()))
        if row not in self.rows:
            return None
        # Of the row's effect against the mean of all rows: the blocks' own effects are the same for all.
        against = self._contrast({other: (other == row) - 1 / len(self.rows) for other in self.rows})
        level = self._contrast({row: 1.0})
        level[: len(self._blocks)] = 1 / len(self._blocks)
        return self._estimate(level, against)

    def ratio(self, left: str, right: str) -> Estimate | None:
        """How many times as fast `left` is as `right`: right's seconds over left's.

        None where one of them was not measured, where no blocks connect them, or where the residuals have no degree
        of freedom.
        """
        if left not in self.rows or right not in self.rows:
            return None
        contrast = self._contrast({left: -1.0} | {right: 1.0})
        return self._estimate(contrast, contrast)

    def pairwise(self, left: str, right: str) -> Estimate | None:
        """The same from these two rows alone: Student's interval of their differences in the blocks that both have.

        None where they have fewer than two in common.
        """
        both = [b for b in self._blocks if (b, left) in self.observed and (b, right) in self.observed]
        return _of_mean([self.observed[block, right] - self.observed[block, left] for block in both])

    def _contrast(self, weights: Mapping[str, float]) -> np.ndarray:
        """The weight of each effect, blocks before rows, from the weights of the rows named."""
        contrast = np.zeros(len(self._blocks) + len(self.rows))
        for row, weight in weights.items():
            contrast[len(self._blocks) + self.rows.index(row)] = weight
        return contrast

    def _estimate(self, centre: np.ndarray, spread: np.ndarray) -> Estimate | None:
        """The estimate of one contrast of the effects with the interval of another; None where the data give none."""
        solved = self._solved
        # A contrast that the design cannot tell changes when it is projected onto what the design can.
        tells = all(np.allclose(contrast @ solved.projection, contrast) for contrast in (centre, spread))
        if solved.freedom < 1 or not tells:
            return None
        half = _student(solved.freedom) * math.sqrt(max(0.0, spread @ solved.covariance @ spread) * solved.variance)
        return _interval(float(centre @ solved.effects), half)


def _of_mean(values: Sequence[float]) -> Estimate | None:
    """Student's interval of the mean of independent logarithms; None of fewer than two."""
    if len(values) < 2:
        return None
    half = _student(len(values) - 1) * float(np.std(values, ddof=1)) / math.sqrt(len(values))
    return _interval(float(np.mean(values)), half)


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


def _interval(centre: float, half: float) -> Estimate:
    """An estimate from the logarithm of its value and half the width of that one's interval."""
    return Estimate(math.exp(centre), math.exp(centre - half), math.exp(centre + half))


def _student(freedom: int) -> float:
    """Student's quantile for a two-sided interval: 12.7 for one degree of freedom, 2.0 for very many."""
    from scipy.special import stdtrit

    return float(stdtrit(freedom, (1 + CONFIDENCE) / 2))
