"""Coverage of intervals on simulated benchmarks whose truth is known,
and their values on known data."""

import math
from collections.abc import Iterable
from itertools import combinations

import numpy as np
import pytest

from benchmarks.measure.rounds import CAREFUL_ROUNDS, ENOUGH_ROUNDS
from benchmarks.measure.statistics import (
    ROBUST_ROUNDS,
    Estimate,
    Observations,
    mean_of,
    observations,
    reach,
    trimmed_mean,
)
from benchmarks.schema import WITHIN, Row
from tests.support.measurements import RESTLESS, Noise, measurement, plan_of

SIMULATIONS = 200
# Of one interval in twenty that may leave the truth out,
# so many more may be by chance of the simulations.
LEAST_COVERAGE = 0.93


def same(rounds: int, noise: Noise, seed: int, rows: int = 4) -> Observations:
    """The observations of rows that all take the same time."""
    names = ["keras", "numpy", "torch", "paddle"][:rows]
    return observations(
        measurement(plan_of(names), dict.fromkeys(names, 0.06), rounds, noise, seed, decoding=0)
    )


def covered(estimates: Iterable[Estimate | None], truth: float = 1.0) -> float:
    """The share of these that hold the truth."""
    return float(
        np.mean(
            [
                estimate is not None and estimate.low <= truth <= estimate.high
                for estimate in estimates
            ]
        )
    )


def test_intervals_hold_the_truth_about_95_times_in_100() -> None:
    """Intervals of five rounds, of the rounds that a benchmark stops with,
    and of rows in the last two alone."""
    noise = Noise(process=0.02, outliers=0.1, drift=0.05, slow_turns=0.1)
    intervals: dict[str, list[Estimate | None]] = {}
    plan, seconds = plan_of(["torch", "keras"]), dict.fromkeys(("torch", "keras"), 0.06)
    late = plan.rows.index(Row("torch", lane="installed"))
    for seed in range(SIMULATIONS):
        installed = observations(measurement(plan, seconds, 6, RESTLESS, seed)).ratio(late, 0)
        intervals.setdefault("installed", []).append(installed)
        rounds = [*same(CAREFUL_ROUNDS, noise, seed).logarithms.items()]
        grown = [
            Observations(dict(rounds[:most])) for most in range(ENOUGH_ROUNDS, CAREFUL_ROUNDS + 1)
        ]
        pairs = [*combinations(range(4), 2)]
        narrow = (
            observed
            for observed in grown
            if max(observed.ratio(*pair).half_width for pair in pairs) <= WITHIN
        )
        stopped = next(narrow, grown[-1])
        for pair in pairs:
            intervals.setdefault("five rounds", []).append(grown[0].ratio(*pair))
            intervals.setdefault("stopped", []).append(stopped.ratio(*pair))
    assert {
        name: estimates
        for name, estimates in intervals.items()
        if covered(estimates) < LEAST_COVERAGE
    } == {}


# Deviations of the rows' rounds, as shares: those of a demo of December 2026 on two cores of an AMD
# EPYC, in its plan's order; rows of which two are far more restless than the others; and rows that
# are alike.
UNLIKE = {
    "demo": [0.034, 0.026, 0.026, 0.039, 0.052, 0.028, 0.012, 0.068],
    "two restless": [0.01] * 6 + [0.06] * 2,
    "alike": [0.03] * 8,
}


@pytest.mark.parametrize("deviations", UNLIKE.values(), ids=UNLIKE)
def test_every_pair_of_unlike_rows_is_covered(deviations: list[float]) -> None:
    """In 93 to 98 of 100 measurements of five rounds, quiet pairs and restless ones alike."""
    rng = np.random.default_rng(0)
    pairs = [*combinations(range(len(deviations)), 2)]
    estimates: dict[tuple[int, int], list[Estimate | None]] = {pair: [] for pair in pairs}
    for _ in range(2000):
        table = rng.normal(0, 0.03, (5, 1)) + rng.normal(0, deviations, (5, len(deviations)))
        observed = Observations(
            dict(enumerate(dict(enumerate(rounds)) for rounds in table.tolist()))
        )
        for pair in pairs:
            estimates[pair].append(observed.ratio(*pair))
    shares = [covered(of_pair) for of_pair in estimates.values()]
    widths = [
        estimate.half_width for of_pair in estimates.values() for estimate in of_pair if estimate
    ]
    print(
        f"{min(shares):.1%} to {max(shares):.1%} covered, median half-width {np.median(widths):.1%}"
    )
    assert min(shares) >= 0.93
    assert max(shares) <= 0.98


# In the second round, everything takes twice as long.
KNOWN = Observations({1: {0: 0.0, 1: math.log(2)}, 2: {0: math.log(2), 1: math.log(4.4)}})


def test_ratios_are_of_geometric_means_with_students_intervals() -> None:
    """Whatever the machine did; of the ratio of two rows and of a row by itself,
    by a printed table of t."""

    def ends(values: list[float], t: float) -> tuple[float, float]:
        half = t * np.std(values, ddof=1) / math.sqrt(len(values))
        return np.mean(values) - half, np.mean(values) + half

    known = KNOWN.ratio(0, 1)
    assert known.value == pytest.approx(math.sqrt(2 * 2.2))
    observed = same(7, RESTLESS, 5, rows=2)
    differences = [
        right - left for left, right in zip(observed.of_row(0), observed.of_row(1), strict=True)
    ]
    ratio = observed.ratio(0, 1)
    assert (math.log(ratio.low), math.log(ratio.high)) == pytest.approx(ends(differences, 2.446912))
    values = [0.0, 0.1, 0.05]
    alone = Observations({number: {0: value} for number, value in enumerate(values)}).seconds(0)
    assert alone == mean_of(values)
    assert (math.log(alone.low), math.log(alone.high)) == pytest.approx(ends(values, 4.302653))
    printed = {1: 12.70620, 5: 2.570582, 30: 2.042272, 1000: 1.962339}
    assert [reach(freedom) for freedom in printed] == pytest.approx([*printed.values()], rel=1e-6)


def test_a_row_of_fewer_rounds_is_levelled_or_has_no_interval() -> None:
    """The machine was twice as slow in the two later rounds, in which one row was not measured."""
    rows = {0: 0.0, 1: 0.1, 2: 0.3}
    slow = {row: value + math.log(2) for row, value in rows.items() if row != 1}
    observed = Observations({1: rows, 2: slow, 3: slow})
    assert observed.seconds(1).value == pytest.approx(math.exp(0.1) * 2 ** (2 / 3))
    assert observed.ratio(1, 2) is None, "one round has both"
    once = Observations({1: {0: 0.0, 1: 0.1}})
    assert once.ratio(0, 1) is KNOWN.ratio(0, 9) is KNOWN.seconds(9) is None
    assert Observations({}).ratio(0, 1) is Observations({}).seconds(0) is mean_of([0.1]) is None


# By round; in the last one is off.
OFF = [0.02, 0.03, 0.04, 0.05, 0.06, 0.07, 0.08, 0.09, 0.1, 0.11, 0.01, 1.0]


def test_a_trimmed_mean_has_the_error_of_winsorized_values() -> None:
    """By hand: two of twelve are left out at either end. Winsorized,
    the first is thrice 3 hundredths."""
    mean, error, freedom = trimmed_mean(OFF)
    assert (mean, freedom) == (pytest.approx(0.065), 7)
    assert error == pytest.approx(
        0.01 * math.sqrt(2 * (3 * 3.5**2 + 2.5**2 + 1.5**2 + 0.5**2) / (8 * 7))
    )
    assert trimmed_mean(OFF[:4]) == (
        pytest.approx(0.035),
        pytest.approx(0.01 * math.sqrt(5 / 3 / 4)),
        3,
    ), "Student's"


def test_only_races_of_enough_rounds_have_robust_estimates() -> None:
    """Whose seconds have the same ratio, whatever the machine did in a round."""
    rounds = {
        number: {0: 0.1 * number, 1: 0.1 * number + value} for number, value in enumerate(OFF)
    }
    race, benchmark = (Observations(rounds, robust=robust) for robust in (True, False))
    robust = race.ratio(0, 1)
    assert robust.value == pytest.approx(math.exp(0.065))
    assert robust.half_width < 0.04 < 0.15 < benchmark.ratio(0, 1).half_width
    assert race.seconds(1).value / race.seconds(0).value == pytest.approx(robust.value)
    assert math.log(race.seconds(1).high / race.seconds(1).value) == pytest.approx(
        math.log(robust.high / robust.value) / math.sqrt(2)
    )
    few = dict([*rounds.items()][: ROBUST_ROUNDS - 1])
    before, same = (Observations(few, robust=robust) for robust in (True, False))
    assert before.ratio(0, 1) == same.ratio(0, 1)
    assert before.seconds(1) == same.seconds(1)


def test_robust_intervals_hold_the_truth_of_two_modes() -> None:
    """Intervals are narrower than Student's where one process
    in ten takes 36 ms in place of 22, as a GRU's do."""
    rng = np.random.default_rng(0)
    intervals: dict[str, list[Estimate]] = {}
    for _ in range(SIMULATIONS):
        left, right = (0.49 * (rng.random(20) < 0.1) + rng.normal(0, 0.04, 20) for _ in range(2))
        differences = (right - left + rng.normal(0, 0.06, 20)).tolist()
        rounds = {number: {0: 0.0, 1: difference} for number, difference in enumerate(differences)}
        grown = [
            Observations(dict([*rounds.items()][:most]), robust=True)
            for most in range(CAREFUL_ROUNDS, 21)
        ]
        robust = [observed.ratio(0, 1) for observed in grown]
        ended = next((estimate for estimate in robust if estimate.half_width <= 0.05), robust[-1])
        estimates = {
            "students": Observations(rounds).ratio(0, 1),
            "robust": robust[-1],
            "ended": ended,
        }
        for name, estimate in estimates.items():
            intervals.setdefault(name, []).append(estimate)
    assert covered(intervals["robust"]) >= LEAST_COVERAGE
    assert covered(intervals["ended"]) >= LEAST_COVERAGE - 0.02
    widths = {
        name: np.median([estimate.half_width for estimate in ends])
        for name, ends in intervals.items()
    }
    assert widths["robust"] < 0.8 * widths["students"]
