"""How often intervals are right, on simulated benchmarks whose truth is known, and what they say of known data."""

import math
from itertools import combinations

import numpy as np
import pytest

from benchmarks.results.intervals import Estimate, Fit, independent_ratio, word_for
from benchmarks.results.timings import Timings
from tests.recordings import RESTLESS, Noise, plan_of, recording

SIMULATIONS = 400
# Of one interval in twenty that may leave the truth out, so many more may be by chance of the simulations.
LEAST_COVERAGE = 0.93


def same(generations: int, noise: Noise, seed: int, rows: int = 4) -> Fit:
    """The fit of rows that all take the same time."""
    names = ["torch", "keras", "paddle", "numpy"][:rows]
    made = recording(plan_of(names), dict.fromkeys(names, 0.06), generations, noise, seed)
    return Timings(made).steps


def covered(estimates: list[Estimate | None], truth: float = 1.0) -> float:
    """The share of these that hold the truth."""
    return float(np.mean([estimate is not None and estimate.holds(truth) for estimate in estimates]))


@pytest.mark.parametrize(
    "noise",
    [
        Noise(process=0.027),
        Noise(process=0.01, outliers=0.1),
        Noise(process=0.02, drift=0.05),
        Noise(process=0.02, slow_visits=0.1),
        RESTLESS,
    ],
    ids=["processes differ", "outlier processes", "drift", "slow visits", "all of it"],
)
def test_intervals_hold_the_truth_about_95_times_in_100(noise: Noise) -> None:
    pooled: list[Estimate | None] = []
    pairwise: list[Estimate | None] = []
    for seed in range(SIMULATIONS):
        fit = same(5, noise, seed)
        for left, right in combinations(fit.rows, 2):
            pooled.append(fit.ratio(left, right))
            pairwise.append(fit.pairwise(left, right))
    assert covered(pooled) >= LEAST_COVERAGE
    assert covered(pairwise) >= LEAST_COVERAGE
    # What always holds the truth may be no more than wide: pooling four rows makes an interval narrower.
    widths = [np.mean([math.log(e.high / e.low) for e in found if e]) for found in (pooled, pairwise)]
    assert widths[0] < 0.9 * widths[1]


def test_intervals_are_as_narrow_as_the_noise_allows() -> None:
    noise = Noise(process=0.028, visit=0.0, step=0.0)
    halves = [e.half_width for seed in range(40) for e in [same(20, noise, seed).ratio("torch", "keras")] if e]
    assert np.median(halves) == pytest.approx(2.0 * 0.028 * math.sqrt(2 / 20), rel=0.1)


def test_equal_rows_are_called_faster_or_slower_at_most_5_times_in_100() -> None:
    ratios = [same(5, RESTLESS, seed).ratio("torch", "keras") for seed in range(200)]
    wrong = sum(word_for(ratio, 0.03) in ("faster", "slower") for ratio in ratios if ratio)
    assert wrong <= 14  # ten are expected, and so many more come by chance in one of ten simulations


@pytest.mark.parametrize("sd", [0.037, 0.042])
def test_a_slowdown_of_5_percent_is_called_slower_in_9_of_10_runs_of_20_generations(sd: float) -> None:
    """Fifteen minutes' data; `sd` is the standard deviation of a generation's log ratio of two rows."""
    noise = Noise(process=sd / math.sqrt(2), visit=0.01, step=0.02)
    words = []
    for seed in range(30):
        seconds = {"torch": 0.06 * 1.05, "keras": 0.06, "paddle": 0.08}
        ratio = Timings(recording(None, seconds, 20, noise, seed)).steps.ratio("torch", "keras")
        assert ratio
        words.append(word_for(ratio, 0.03))
    assert words.count("slower") >= 27


def test_two_recordings_are_compared_without_pairing_what_they_do_not_share() -> None:
    """The machine drifts: what it did to one of the recordings is in the interval."""
    noise = Noise(process=0.02, drift=0.0)
    held = []
    for seed in range(200):
        old, new = (same(generations, noise, 1000 * side + seed, 2) for side, generations in ((1, 6), (2, 4)))
        held.append(independent_ratio(new.of_row("torch"), old.of_row("torch")))
    assert covered(list(held)) >= LEAST_COVERAGE


# Two blocks: in the second, everything takes twice as long.
KNOWN = Fit({(0, "a"): 0.0, (0, "b"): math.log(2), (1, "a"): math.log(2), (1, "b"): math.log(4.4)})


def test_a_ratio_is_of_the_geometric_means_whatever_the_machine_did() -> None:
    ratio = KNOWN.ratio("a", "b")
    assert ratio.value == pytest.approx(math.sqrt(2 * 2.2))
    pairwise = KNOWN.pairwise("a", "b")
    assert (pairwise.low, pairwise.high) == pytest.approx((ratio.low, ratio.high)), "there are no other rows"


def test_a_ratio_turned_round_is_one_over_it() -> None:
    fit = same(6, RESTLESS, 3)
    ratio, other = fit.ratio("torch", "keras"), fit.ratio("keras", "torch")
    turned = other.inverse
    assert (ratio.value, ratio.low, ratio.high) == pytest.approx((turned.value, turned.low, turned.high))
    assert ratio.half_width == pytest.approx(other.half_width)


def test_ratios_of_three_rows_agree_with_one_another() -> None:
    fit = same(6, RESTLESS, 4)
    one, two, three = fit.ratio("torch", "keras"), fit.ratio("keras", "paddle"), fit.ratio("torch", "paddle")
    assert three.value == pytest.approx(one.value * two.value)


def test_the_intervals_are_students() -> None:
    """By SciPy's own test of paired samples, where there are two rows."""
    from scipy.stats import ttest_rel

    fit = same(7, RESTLESS, 5, rows=2)
    expected = ttest_rel(fit.of_row("keras"), fit.of_row("torch")).confidence_interval(0.95)
    for ratio in (fit.ratio("torch", "keras"), fit.pairwise("torch", "keras")):
        assert (math.log(ratio.low), math.log(ratio.high)) == pytest.approx(tuple(expected))


def test_rows_that_were_never_alive_together_are_compared_through_those_that_were() -> None:
    """As in heats, each of which has the first row."""
    observed = {}
    rng = np.random.default_rng(1)
    for block in range(8):
        machine = rng.normal(0, 0.3)
        for row, level in (("first", 0.0), ("left", 0.1)) if block % 2 else (("first", 0.0), ("right", 0.3)):
            observed[block, row] = machine + level + rng.normal(0, 0.001)
    ratio = Fit(observed).ratio("left", "right")
    assert math.log(ratio.value) == pytest.approx(0.2, abs=0.003)
    assert ratio.holds(math.exp(0.2))
    assert ratio.half_width < 0.01
    assert Fit(observed).pairwise("left", "right") is None


def test_rows_that_nothing_connects_have_no_ratio() -> None:
    apart = {(block, row): 0.1 * block for block in range(4) for row in (("a", "b") if block < 2 else ("c", "d"))}
    assert Fit(apart).ratio("a", "b")
    assert Fit(apart).ratio("a", "c") is None


def test_what_does_not_suffice_for_an_interval_gives_none() -> None:
    alone = Fit({(0, "a"): 0.0, (0, "b"): 0.1})
    assert alone.ratio("a", "b") is alone.pairwise("a", "b") is alone.seconds("a") is None
    assert KNOWN.ratio("a", "z") is KNOWN.ratio("z", "a") is KNOWN.seconds("z") is None
    assert Fit({}).ratio("a", "b") is Fit({}).seconds("a") is None
    assert Fit({(0, "a"): 0.0}).seconds("a") is None


def test_a_row_by_itself_has_students_interval_of_its_generations() -> None:
    from scipy.stats import t

    values = [0.0, 0.1, 0.05]
    found = Fit({(block, "a"): value for block, value in enumerate(values)}).seconds("a")
    low, high = t.interval(0.95, 2, np.mean(values), np.std(values, ddof=1) / math.sqrt(3))
    assert (math.log(found.low), math.log(found.high)) == pytest.approx((low, high))


def test_a_rows_seconds_are_those_of_the_machine_as_it_was() -> None:
    fit = Timings(recording(noise=Noise(drift=0.01))).steps
    for row in fit.rows:
        found = fit.seconds(row)
        assert found.value == pytest.approx(math.exp(np.mean(fit.of_row(row))))
        assert found.low < found.value < found.high


def test_a_row_of_fewer_generations_is_told_as_if_it_had_been_in_all() -> None:
    """The machine was twice as slow in the second generation, in which one row was not measured."""
    observed = {(0, "a"): 0.0, (0, "b"): 0.1, (1, "a"): math.log(2), (0, "c"): 0.3, (1, "c"): 0.3 + math.log(2)}
    found = Fit(observed).seconds("b")
    assert found.value == pytest.approx(math.exp(0.1) * math.sqrt(2))


@pytest.mark.parametrize(
    ("value", "low", "high", "word"),
    [
        (1.5, 1.4, 1.6, "faster"),
        (1.01, 1.001, 1.02, "faster"),
        (0.8, 0.7, 0.9, "slower"),
        (1.0, 0.98, 1.02, "same"),
        (1.01, 0.99, 1.03, "same"),
        (1.0, 1.0, 1.0, "same"),
        (1.0, 0.9, 1.1, "not told apart"),
        (1.05, 1.0, 1.1, "not told apart"),
    ],
)
def test_the_word_is_what_the_interval_allows(value: float, low: float, high: float, word: str) -> None:
    assert word_for(Estimate(value, low, high), 0.03) == word


def test_estimates_are_turned_scaled_and_widened() -> None:
    estimate = Estimate(2.0, 1.6, 2.2)
    assert estimate.inverse == Estimate(0.5, 1 / 2.2, 1 / 1.6)
    assert estimate.half_width == pytest.approx(0.25)
    assert estimate.times(3) == Estimate(6.0, pytest.approx(4.8), pytest.approx(6.6))
    assert estimate.widened(0.1) == Estimate(2.0, pytest.approx(1.6 / 1.1), pytest.approx(2.42))
