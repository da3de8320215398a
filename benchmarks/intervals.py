"""How sure a figure is: medians with 95 % intervals, ratios of two cells, and the words that they allow.

A process is one draw of the machine's luck: its memory layout, its neighbours. The number of processes, and not that
of timed blocks, says how much is known, so an interval comes from a hierarchical bootstrap: processes, then blocks
inside each. Two corrections keep its coverage near 95 % for few rounds:

1. The spread of the process medians holds the noise of their blocks already, and resampling the blocks adds it again;
   on the other hand, n drawn from n vary less than n fresh ones. So the medians are scaled about their middle until
   both parts make up the variance that was observed (Davison & Hinkley 1997, Bootstrap Methods, 3.8).
2. A bootstrap's percentiles take its spread as known. Student's quantile of n - 1 over the normal one widens them.

Times are positive and errors multiply them, so all of it is done on logarithms: a over b is one over b over a.

Simulated with processes that differ by 1 or 2 %, blocks by 0.5 or 5 %, slow blocks and a shared drift:

| rounds | the truth is in a plain bootstrap's percentiles | in these intervals | half-width |
| --- | --- | --- | --- |
| 3 | 73 to 77 % | 94 to 100 % | 6 to 8 % |
| 7 | 88 to 90 % | 94 to 98 % | 2.3 to 3.6 % |
| 20 | 93 to 95 % | 96 to 97 % | 1.1 to 1.8 % |

A cell that is 5 % slower is called so at 7 rounds 93 times in 100 where processes differ by 1 % (the floor is then
some 2.9 %; 98 times where it is below 2.5 %), and about every second time where they differ by 2 % (some 4.6 %);
at 20 rounds 98 times or more. Equal cells are called faster or slower less than once in 100 times.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from common.errors import RosettaError

SEED = 20  # the same data give the same interval
RESAMPLES = 3000
CONFIDENCE = 0.95
SMALLEST_EFFECT = 0.02  # a ratio nearer to 1 is never called faster or slower
LARGEST_FLOOR = 0.1  # above it "same" would say nothing
MOST_ROUNDS = 100  # a forecast beyond is "more than 100"

Rounds = Mapping[int, NDArray[np.floating]]  # round number -> what one process measured: seconds, one a timed block
Statistic = Literal["median"] | float  # of a process's blocks; a float is a percentile, from 0 to 100
Array = NDArray[np.float64]


class NoEstimateError(RosettaError):
    """The data allow no estimate: no common rounds, fewer than two, or numbers that are not positive and finite."""


@dataclass(frozen=True)
class Estimate:
    """A median with its 95 % interval."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Verdict:
    """What may be said of a ratio."""

    word: Literal["faster", "slower", "same", "inconclusive", "none"]
    text: str  # such as "1.77x as fast", "slower, 0.83x", "same within 1.4 %", "no verdict: no common rounds"
    ratio: Estimate | None  # None where none could be made


@dataclass(frozen=True)
class _Bootstrap:
    """A median of logarithms and how its resampled medians lie about it."""

    centre: float
    deviations: Array  # (RESAMPLES,), of a spread that is right for a median of `num_rounds`
    num_rounds: int


def typical(rounds: Rounds, statistic: Statistic = "median") -> Estimate:
    """The median over the rounds of each process's statistic, in the unit of `rounds`.

    With an even number of rounds the middle is the geometric mean of the two in the middle. A drift of the machine
    over the rounds is part of the interval. Raises NoEstimateError.
    """
    names = _names(rounds)
    rng = np.random.default_rng(SEED)
    picks = rng.integers(0, len(names), (RESAMPLES, len(names)))
    return _estimate(_bootstrap(*_resampled(rounds, names, picks, statistic, rng), picks))


def paired_ratio(rounds: Rounds, others: Rounds) -> Estimate:
    """How many times as fast as `others` `rounds` is: the median over the common rounds of others / rounds.

    The pairs stay together: both are resampled by the same rounds, so that what a round does to both cancels. Rounds
    that only one of them has are ignored. Raises NoEstimateError.
    """
    names = _names(rounds, others)
    rng = np.random.default_rng(SEED)
    picks = rng.integers(0, len(names), (RESAMPLES, len(names)))
    values, errors = _resampled(rounds, names, picks, "median", rng)
    other_values, other_errors = _resampled(others, names, picks, "median", rng)
    return _estimate(_bootstrap(other_values - values, other_errors - errors, picks))


def independent_ratio(rounds: Rounds, others: Rounds) -> Estimate:
    """The same of two recordings, whose rounds do not pair: the ratio of their medians.

    What changed on the machine between the recordings is not in the interval: no number in either tells. Raises
    NoEstimateError.
    """
    rng = np.random.default_rng(SEED)
    sides = []
    for side in (rounds, others):
        names = _names(side)
        picks = rng.integers(0, len(names), (RESAMPLES, len(names)))
        sides.append(_bootstrap(*_resampled(side, names, picks, "median", rng), picks))
    return _estimate(sides[1], sides[0])


def percentiles(rounds: Rounds, quantiles: Sequence[int] = (50, 95, 99)) -> dict[int, Estimate]:
    """Percentiles of single calls, such as one sentence's latency: of each, the median over the rounds.

    A percentile beyond what the shortest round can tell is left out: the 99th takes 100 calls in each. Raises
    NoEstimateError.
    """
    fewest = min(np.size(rounds[name]) for name in _names(rounds))
    return {q: typical(rounds, float(q)) for q in quantiles if fewest * min(q, 100 - q) >= 100}


def noise_floor(control: Estimate) -> float:
    """The largest |ratio - 1| inside the interval of one backend against itself."""
    return max(abs(control.low - 1), abs(control.high - 1))


def verdict(ratio: Estimate, floor: float, num_rounds: int) -> Verdict:
    """What `ratio`, from `num_rounds` rounds, allows to say where the A/A control gave `floor`.

    "Faster" and "slower" take an interval without 1 and an effect above the larger of 2 % and the floor. "Same" takes
    an interval that lies within it, and a floor of at most 10 %. How many more rounds would settle it assumes that
    the median stays where it is, that the floor does, and that the interval's half-width shrinks as Student's
    quantile over the root of the number of rounds.
    """
    if num_rounds < 2:
        return Verdict("none", f"no verdict: {num_rounds} common round{'s' * (num_rounds != 1)}, 2 are needed", None)
    if not all(math.isfinite(x) and x > 0 for x in (ratio.value, ratio.low, ratio.high)):
        return Verdict("none", "no verdict: the ratio is not a positive number", None)
    if not (math.isfinite(floor) and floor >= 0):
        return Verdict("none", "no verdict: the noise floor is not known", ratio)
    margin = max(SMALLEST_EFFECT, floor)
    effect = ratio.value - 1
    excludes_one = ratio.low > 1 or ratio.high < 1
    if excludes_one and abs(effect) > margin:
        if effect > 0:
            return Verdict("faster", f"{_times(ratio.value)} as fast", ratio)
        return Verdict("slower", f"slower, {_times(ratio.value)}", ratio)
    if floor > LARGEST_FLOOR:
        limit = f"the noise floor is {_percent(floor)}; measure on a quieter machine"
        return Verdict("inconclusive", f"inconclusive: {limit}", ratio)
    if noise_floor(ratio) <= margin:
        return Verdict("same", f"same within {_percent_up(noise_floor(ratio))}", ratio)
    more = _more_rounds(ratio, margin, num_rounds)
    if excludes_one:
        found = f"{_percent(abs(effect))} {'faster' if effect > 0 else 'slower'}"
        if floor > SMALLEST_EFFECT:
            limit = f"the noise floor is {_percent(floor)}; a quieter machine would tell, more rounds may not"
            return Verdict("inconclusive", f"inconclusive: {found}, but {limit}", ratio)
        return Verdict("inconclusive", f"inconclusive: {found}, too little to count; {more}", ratio)
    return Verdict("inconclusive", f"inconclusive: {more}", ratio)


def compared(rounds: Rounds, others: Rounds, floor: float) -> Verdict:
    """The verdict on the paired ratio others / rounds; where there is none, "no verdict" and the reason."""
    try:
        ratio = paired_ratio(rounds, others)
    except NoEstimateError as error:
        return Verdict("none", f"no verdict: {error}", None)
    return verdict(ratio, floor, len(rounds.keys() & others.keys()))


def overtakes(cold: float, warm: float, other_cold: float, other_warm: float) -> float | None:
    """After how many steps the one that starts slower has caught up by its faster steps.

    `cold` is seconds until the first steady step begins, `warm` seconds a steady step; the two may be given in
    either order. None where it never happens: one is as fast or faster in both. 0 where they start level.
    """
    if not all(math.isfinite(x) and x >= 0 for x in (cold, warm, other_cold, other_warm)):
        raise NoEstimateError("a time is not a finite number of seconds")
    lead, gain = cold - other_cold, other_warm - warm
    if gain == 0 or lead * gain < 0:
        return None
    return lead / gain


def _names(*cells: Rounds) -> list[int]:
    """The rounds that all cells have, in order, once each is known to hold positive numbers."""
    names = sorted(set.intersection(*(set(cell) for cell in cells)))
    if not names:
        raise NoEstimateError("no common rounds" if len(cells) > 1 else "no rounds")
    if len(names) < 2:
        raise NoEstimateError(f"1 {'common ' * (len(cells) > 1)}round, 2 are needed")
    for name in names:
        for cell in cells:
            blocks = np.asarray(cell[name], np.float64)
            if not blocks.size:
                raise NoEstimateError(f"round {name} has no timed block")
            if not (np.isfinite(blocks) & (blocks > 0)).all():
                raise NoEstimateError(f"a time in round {name} is not a positive number")
    return names


def _resampled(
    rounds: Rounds, names: Sequence[int], picks: NDArray[np.int64], statistic: Statistic, rng: np.random.Generator
) -> tuple[Array, Array]:
    """The logarithm of each process's statistic, (R,), and for each pick what resampling its blocks adds to it.

    No block is drawn. A quantile of m draws lies between two neighbours of their order, the k-th of which is at the
    k-th of m uniform numbers: a beta variate. That is exact, and takes no memory for the blocks.
    """
    share = 0.5 if statistic == "median" else statistic / 100
    ordered = [np.sort(np.log(np.asarray(rounds[name], np.float64).ravel())) for name in names]
    sizes = np.array([len(blocks) for blocks in ordered])  # (R,)
    table = np.zeros((len(names), sizes.max()))  # (R, m), the shorter ones padded
    for row, blocks in zip(table, ordered, strict=True):
        row[: len(blocks)] = blocks
    values = np.array([np.quantile(blocks, share, method="median_unbiased") for blocks in ordered])

    num_blocks = sizes[picks]
    position = np.clip((num_blocks + 1 / 3) * share - 2 / 3, 0, num_blocks - 1)
    below = np.floor(position).astype(np.int64)
    weight = position - below
    uniform = rng.beta(below + 1, num_blocks - below)
    drawn = table[picks, np.minimum((uniform * num_blocks).astype(np.int64), num_blocks - 1)]
    if weight.any():
        # The next in order is the smallest of those above, uniform on what is left; none is left where weight is 0.
        left = np.maximum(num_blocks - below - 1, 1)
        uniform += (1 - uniform) * (1 - rng.random(picks.shape) ** (1 / left))
        above = table[picks, np.minimum((uniform * num_blocks).astype(np.int64), num_blocks - 1)]
        drawn += weight * (above - drawn)
    return values, drawn - values[picks]


def _bootstrap(values: Array, errors: Array, picks: NDArray[np.int64]) -> _Bootstrap:
    """Resampled medians of the rounds' `values`, each with its blocks' `errors`, spread as the module says."""
    num_rounds = len(values)
    centre = float(np.median(values))
    drawn = values.var()  # of a value that is drawn from these
    # Not their variance: a far quantile that seldom jumps would hide that the processes differ.
    below, above = np.quantile(errors, [0.16, 0.84])
    missing = max(0.0, values.var(ddof=1) - ((above - below) / 2) ** 2)
    scale = math.sqrt(missing / drawn) if drawn > 0 else 0.0
    deviations = np.median(scale * (values - centre)[picks] + errors, axis=1)
    # Resampled quantiles are biased, the far ones towards the middle.
    return _Bootstrap(centre, deviations - np.median(deviations), num_rounds)


def _estimate(made: _Bootstrap, divisor: _Bootstrap | None = None) -> Estimate:
    """The exponential of a bootstrapped median, or of the difference of two that are independent."""
    centre, deviations, freedom = made.centre, made.deviations, made.num_rounds - 1.0
    if divisor is not None:
        # Welch's degrees of freedom: near those of the side that varies more.
        variances = np.array([made.deviations.var(), divisor.deviations.var()])
        freedoms = np.array([made.num_rounds - 1.0, divisor.num_rounds - 1.0])
        total = variances.sum() ** 2
        freedom = float(total / (variances**2 / freedoms).sum()) if total > 0 else float(freedoms.min())
        centre, deviations = centre - divisor.centre, deviations - divisor.deviations
    tail = (1 - CONFIDENCE) / 2
    low, high = np.quantile(deviations, [tail, 1 - tail]) * _student(freedom)
    return Estimate(math.exp(centre), math.exp(centre + min(low, 0.0)), math.exp(centre + max(high, 0.0)))


def _student(freedom: float) -> float:
    """Student's quantile over the normal one: 2.2 for three rounds, 1.25 for seven, 1.07 for twenty."""
    from scipy.special import ndtri, stdtrit

    share = (1 + CONFIDENCE) / 2
    return float(stdtrit(freedom, share) / ndtri(share))


def _more_rounds(ratio: Estimate, margin: float, num_rounds: int) -> str:
    """How many rounds would bring the interval off 1, where the effect is large, or else within the margin."""
    effect = ratio.value - 1
    down, up = ratio.value - ratio.low, ratio.high - ratio.value
    if effect > margin:
        shrink = effect / down
    elif -effect > margin:
        shrink = -effect / up
    else:
        shrink = min((margin + effect) / down if down > 0 else 1.0, (margin - effect) / up if up > 0 else 1.0)

    def width(rounds: int) -> float:
        return _student(rounds - 1.0) / math.sqrt(rounds)

    for more in range(1, MOST_ROUNDS + 1):
        if width(num_rounds + more) < shrink * width(num_rounds):
            return f"about {more} more round{'s' * (more > 1)}"
    return f"more than {MOST_ROUNDS} more rounds"


def _times(value: float) -> str:
    return f"{value:.2f}x" if 0.1 <= value < 100 else f"{value:,.0f}x" if value >= 100 else f"{value:.2g}x"


def _percent(share: float) -> str:
    return f"{share:.1%}".replace("%", " %")


def _percent_up(share: float) -> str:
    """Rounded up to a tenth of a percent, so that a bound stays one; at least 0.1 %."""
    return f"{max(1, math.ceil(round(share * 1000, 6))) / 10:.1f} %"
