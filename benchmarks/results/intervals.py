"""How sure a figure is: the times of rows that were visited in turns, the ratios of these times, and their intervals.

- Rows whose processes are alive at the same time are a block. What the machine does meanwhile affects all of them.
- An observation is one row in one block: the mean over the block's cycles of the logarithm of a visit's median time.
- Least squares fits two kinds of effects to the observations: one effect for each block and one for each row. The
  ratio of two rows is the exponential of the difference of their effects.
- The 95 % interval of a ratio is Student's, from the residuals of all rows together.
- Two processes of the same program differ in speed. Every block has new processes, so this difference is part of the
  residuals. How much is known therefore depends on the number of blocks and not on the number of steps.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np

CONFIDENCE = 0.95
FARTHEST = 230.0  # of a logarithm from 0: beyond what is ever measured, and its exponential is a number

Word = Literal["faster", "slower", "same", "not told apart"]


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
        """How far the interval reaches from the value on its wider side, as a share: 0.07 is 7 %."""
        return max(self.high / self.value, self.value / self.low) - 1

    def holds(self, value: float) -> bool:
        """Whether the interval contains this value."""
        return self.low <= value <= self.high

    def times(self, factor: float) -> "Estimate":
        """The estimate of value × factor."""
        return Estimate(self.value * factor, self.low * factor, self.high * factor)

    def widened(self, share: float) -> "Estimate":
        """The same value with an interval that reaches further by this share on both sides."""
        return Estimate(self.value, self.low / (1 + share), self.high * (1 + share))


@dataclass(frozen=True, eq=False)
class _Solution:
    """The least-squares solution of a fit. The effects of the blocks come first, those of the rows after them."""

    effects: np.ndarray  # logarithms of seconds
    covariance: np.ndarray  # covariance of the effects if the variance of the residuals were 1
    variance: float  # variance of the residuals
    freedom: int  # degrees of freedom of the residuals
    projection: np.ndarray  # projects onto those weighted sums of effects that the observations determine


@dataclass(frozen=True)
class Fit:
    """The observations of all rows in all blocks, and what least squares makes of them."""

    observed: Mapping[tuple[int, str], float]  # by block and row's label: the logarithm of seconds

    @cached_property
    def rows(self) -> list[str]:
        """The labels of the rows that have an observation."""
        return list(dict.fromkeys(row for _, row in self.observed))

    def of_row(self, row: str) -> list[float]:
        """The observations of one row, as logarithms of seconds."""
        return [value for (_, name), value in self.observed.items() if name == row]

    @cached_property
    def _blocks(self) -> list[int]:
        return sorted({block for block, _ in self.observed})

    @cached_property
    def _solved(self) -> _Solution:
        design = np.zeros((len(self.observed), len(self._blocks) + len(self.rows)))
        for line, (block, row) in zip(design, self.observed, strict=True):
            line[self._blocks.index(block)] = line[len(self._blocks) + self.rows.index(row)] = 1.0
        values = np.array(list(self.observed.values()))
        # A constant added to all blocks and taken from all rows fits as well, so there are many solutions. The
        # pseudo-inverse gives the shortest of them; ratios and times are the same with each.
        inverse = np.linalg.pinv(design)
        effects = inverse @ values
        freedom = len(values) - int(np.linalg.matrix_rank(design))
        residual = values - design @ effects
        variance = float(residual @ residual) / max(freedom, 1)
        return _Solution(effects, inverse @ inverse.T, variance, freedom, inverse @ design)

    def seconds(self, row: str) -> Estimate | None:
        """A row's time in seconds, averaged over the blocks; None where only one block was measured.

        The interval says how well this row is known in comparison with the other rows: what the machine did to all
        rows at once is not in it. If there is no other row, the interval is that of the row's own observations, and
        what the machine did is in it.
        """
        if self.rows == [row]:
            return _mean_of(list(self.observed.values()))
        if row not in self.rows:
            return None
        # The value is the row's effect plus the mean effect of the blocks. The interval is of the row's effect
        # minus the mean effect of all rows, in which the blocks' effects cancel.
        value = self._weights({row: 1.0})
        value[: len(self._blocks)] = 1 / len(self._blocks)
        against_all = self._weights({other: (other == row) - 1 / len(self.rows) for other in self.rows})
        return self._estimate(value, against_all)

    def ratio(self, left: str, right: str) -> Estimate | None:
        """How many times as fast the row `left` is as the row `right`: the seconds of `right` over those of `left`.

        None where one of them was not measured, where no chain of blocks with rows in common connects them, or where
        the residuals have no degree of freedom.
        """
        if left not in self.rows or right not in self.rows:
            return None
        weights = self._weights({left: -1.0, right: 1.0})
        return self._estimate(weights, weights)

    def pairwise(self, left: str, right: str) -> Estimate | None:
        """The same ratio from the observations of these two rows alone: Student's interval of paired differences.

        None where fewer than two blocks have both rows.
        """
        both = [b for b in self._blocks if (b, left) in self.observed and (b, right) in self.observed]
        return _mean_of([self.observed[block, right] - self.observed[block, left] for block in both])

    def _weights(self, of_rows: Mapping[str, float]) -> np.ndarray:
        """One weight for each effect, blocks before rows: those given for rows, and zero for all others."""
        weights = np.zeros(len(self._blocks) + len(self.rows))
        for row, weight in of_rows.items():
            weights[len(self._blocks) + self.rows.index(row)] = weight
        return weights

    def _estimate(self, value: np.ndarray, spread: np.ndarray) -> Estimate | None:
        """An estimate from two weighted sums of the effects: its value is the one, its interval that of the other.

        None where the observations do not determine one of the sums, or leave no degree of freedom.
        """
        solved = self._solved
        # Projection leaves the weights of a sum unchanged exactly where the observations determine the sum.
        determined = all(np.allclose(weights @ solved.projection, weights) for weights in (value, spread))
        if solved.freedom < 1 or not determined:
            return None
        half = _student(solved.freedom) * math.sqrt(max(0.0, spread @ solved.covariance @ spread) * solved.variance)
        return _exponential(float(value @ solved.effects), half)


def _mean_of(logarithms: Sequence[float]) -> Estimate | None:
    """The exponential of the mean of independent logarithms, with Student's interval; None of fewer than two."""
    if len(logarithms) < 2:
        return None
    half = _student(len(logarithms) - 1) * float(np.std(logarithms, ddof=1)) / math.sqrt(len(logarithms))
    return _exponential(float(np.mean(logarithms)), half)


def independent_ratio(observed: Sequence[float], others: Sequence[float]) -> Estimate:
    """How many times as fast `observed` is as `others`, which another recording holds, with Welch's interval.

    Both are logarithms of seconds, at least two each. They are not paired, since the recordings share no blocks.
    """
    shares = [float(np.var(side, ddof=1)) / len(side) for side in (observed, others)]
    variance, centre = sum(shares), float(np.mean(others) - np.mean(observed))
    if variance == 0:  # all observations of a side are the same
        return _exponential(centre, 0.0)
    squares = sum(share**2 / (len(side) - 1) for share, side in zip(shares, (observed, others), strict=True))
    return _exponential(centre, _student(variance**2 / squares) * math.sqrt(variance))


def word_for(ratio: Estimate, within: float) -> Word:
    """The verdict that an interval allows; "same" if it contains 1 and reaches at most `within` to either side."""
    if ratio.low > 1:
        return "faster"
    if ratio.high < 1:
        return "slower"
    return "same" if ratio.half_width <= within else "not told apart"


def _exponential(logarithm: float, half: float) -> Estimate:
    """The estimate whose logarithm has this value, and an interval that reaches `half` to either side."""
    ends = (logarithm, logarithm - half, logarithm + half)
    return Estimate(*(math.exp(min(max(end, -FARTHEST), FARTHEST)) for end in ends))


def _student(freedom: float) -> float:
    """Student's quantile for a two-sided 95 % interval: 12.7 for one degree of freedom, 2.0 for very many."""
    from scipy.special import stdtrit

    return float(stdtrit(freedom, (1 + CONFIDENCE) / 2))
