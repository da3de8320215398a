"""How often intervals are right, on simulated benchmarks whose truth is known, and what they say of known data."""

import math
from collections.abc import Iterable
from itertools import combinations

import numpy as np
import pytest

from benchmarks.measure.plan import WITHIN, Row
from benchmarks.measure.rounds import CAREFUL_ROUNDS, ENOUGH_ROUNDS
from benchmarks.measure.statistics import Estimate, Observations, independent_ratio, mean_of, observations
from tests.recordings import RESTLESS, Noise, plan_of, recording

SIMULATIONS = 200
# Of one interval in twenty that may leave the truth out, so many more may be by chance of the simulations.
LEAST_COVERAGE = 0.93


def same(rounds: int, noise: Noise, seed: int, rows: int = 4) -> Observations:
    """The observations of rows that all take the same time."""
    names = ["torch", "keras", "paddle", "numpy"][:rows]
    return observations(recording(plan_of(names), dict.fromkeys(names, 0.06), rounds, noise, seed, extra=0))


def covered(estimates: Iterable[Estimate | None], truth: float = 1.0) -> float:
    """The share of these that hold the truth."""
    return float(np.mean([one is not None and one.low <= truth <= one.high for one in estimates]))


def test_intervals_hold_the_truth_about_95_times_in_100() -> None:
    """Those of five rounds, those that a benchmark stops with when they are narrow enough, those of rows that
    are in the last two rounds alone, and those of two recordings, which share no rounds."""
    noise = Noise(process=0.02, outliers=0.1, drift=0.05, slow_visits=0.1)
    found: dict[str, list[Estimate | None]] = {}
    plan, seconds = plan_of(["torch", "keras"]), dict.fromkeys(("torch", "keras"), 0.06)
    late = plan.rows.index(Row("torch", lane="default"))
    for seed in range(SIMULATIONS):
        installed = observations(recording(plan, seconds, 6, RESTLESS, seed)).ratio(late, 0)
        found.setdefault("installed", []).append(installed)
        before, after = same(4, Noise(0.02), 1000 + seed, 2).of_row(0), same(6, Noise(0.02), 2000 + seed, 2).of_row(0)
        found.setdefault("apart", []).append(independent_ratio(after, before))
        rounds = [*same(CAREFUL_ROUNDS, noise, seed).logarithms.items()]
        grown = [Observations(dict(rounds[:most])) for most in range(ENOUGH_ROUNDS, CAREFUL_ROUNDS + 1)]
        pairs = [*combinations(range(4), 2)]
        narrow = (one for one in grown if max(one.ratio(*pair).half_width for pair in pairs) <= WITHIN)
        stopped = next(narrow, grown[-1])
        for pair in pairs:
            found.setdefault("pooled", []).append(grown[0].ratio(*pair))
            found.setdefault("pairwise", []).append(grown[0].pairwise(*pair))
            found.setdefault("stopped", []).append(stopped.ratio(*pair))
    assert {name: estimates for name, estimates in found.items() if covered(estimates) < LEAST_COVERAGE} == {}
    # What always holds the truth may be no more than wide: pooling four rows makes an interval narrower.
    widths = [np.mean([math.log(e.high / e.low) for e in found[name] if e]) for name in ("pooled", "pairwise")]
    assert widths[0] < 0.9 * widths[1]


# In the second round, everything takes twice as long.
KNOWN = Observations({1: {0: 0.0, 1: math.log(2)}, 2: {0: math.log(2), 1: math.log(4.4)}})


def test_ratios_are_of_geometric_means_and_their_intervals_students() -> None:
    """Whatever the machine did; by SciPy's own tests, of the ratio of two rows and of a row by itself."""
    from scipy.stats import t, ttest_rel

    known = KNOWN.ratio(0, 1)
    assert known.value == pytest.approx(math.sqrt(2 * 2.2))
    found = same(7, RESTLESS, 5, rows=2)
    expected = ttest_rel(found.of_row(1), found.of_row(0)).confidence_interval(0.95)
    for ratio in (found.ratio(0, 1), found.pairwise(0, 1)):
        assert (math.log(ratio.low), math.log(ratio.high)) == pytest.approx(tuple(expected))
    values = [0.0, 0.1, 0.05]
    alone = Observations({number: {0: value} for number, value in enumerate(values)}).seconds(0)
    assert alone == mean_of(values)
    ends = t.interval(0.95, 2, np.mean(values), np.std(values, ddof=1) / math.sqrt(3))
    assert (math.log(alone.low), math.log(alone.high)) == pytest.approx(ends)


def test_a_row_of_fewer_rounds_counts_as_if_it_had_been_in_all_and_too_few_give_no_interval() -> None:
    """The machine was twice as slow in the two later rounds, in which one row was not measured."""
    rows = {0: 0.0, 1: 0.1, 2: 0.3}
    slow = {row: value + math.log(2) for row, value in rows.items() if row != 1}
    found = Observations({1: rows, 2: slow, 3: slow})
    assert found.seconds(1).value == pytest.approx(math.exp(0.1) * 2 ** (2 / 3))
    assert found.ratio(1, 2).value == pytest.approx(math.exp(0.2)), "from the round that has both"
    once = Observations({1: {0: 0.0, 1: 0.1}})
    assert once.ratio(0, 1) is once.pairwise(0, 1) is KNOWN.ratio(0, 9) is KNOWN.seconds(9) is None
    assert Observations({}).ratio(0, 1) is Observations({}).seconds(0) is mean_of([0.1]) is None
    still = independent_ratio([0.0, 0.0], [0.1, 0.1])
    assert still.low == still.value == still.high, "without a spread there is a ratio all the same"
