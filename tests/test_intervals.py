"""How often the intervals and verdicts are right, on simulated benchmarks whose truth is known."""

import math

import numpy as np
import pytest
from numpy.typing import NDArray

from benchmarks import intervals
from benchmarks.intervals import (
    Estimate,
    NoEstimateError,
    compared,
    independent_ratio,
    noise_floor,
    overtakes,
    paired_ratio,
    percentiles,
    typical,
    verdict,
)

Cell = dict[int, NDArray[np.float64]]
NUM_BLOCKS = 40
QUIETER = "measure on a quieter machine"
SECONDS = 0.12  # of a block without noise


def simulated(
    rng: np.random.Generator,
    num_rounds: int,
    num_cells: int = 2,
    process: float = 0.02,
    block: float = 0.05,
    drift: float = 0.01,
    num_blocks: int = NUM_BLOCKS,
) -> list[Cell]:
    """Cells of one true speed: log-normal processes and blocks, 3 % of blocks slower by 30 %, one drift for all."""
    machine = np.cumsum(rng.normal(0, drift, num_rounds))
    cells = []
    for _ in range(num_cells):
        noise = rng.normal(0, process, (num_rounds, 1)) + rng.normal(0, block, (num_rounds, num_blocks))
        slow = np.log(1.3) * (rng.random(noise.shape) < 0.03)
        cells.append(dict(enumerate(SECONDS * np.exp(machine[:, None] + noise + slow))))
    return cells


def scaled(cell: Cell, factor: float) -> Cell:
    return {name: factor * blocks for name, blocks in cell.items()}


def constant(value: float, num_rounds: int = 3) -> Cell:
    return {name: np.full(5, value) for name in range(num_rounds)}


def holds(estimate: Estimate, truth: float) -> bool:
    return estimate.low <= truth <= estimate.high


@pytest.fixture
def few_resamples(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(intervals, "RESAMPLES", 600)


# Of three processes that differ, even the widest pair of medians says little about the spread.
@pytest.mark.parametrize(("process", "block", "lowest"), [(0.02, 0.05, 0.93), (0.02, 0.005, 0.91)])
@pytest.mark.parametrize("num_rounds", [3, 7, 20])
@pytest.mark.usefixtures("few_resamples")
def test_intervals_hold_the_truth_about_95_times_in_100(
    num_rounds: int, process: float, block: float, lowest: float
) -> None:
    rng = np.random.default_rng(num_rounds)
    cells = [simulated(rng, num_rounds, 2, process, block) for _ in range(400)]
    ratios = [paired_ratio(cell, other) for cell, other in cells]
    assert np.mean([holds(ratio, 1) for ratio in ratios]) >= lowest
    # An interval that always holds it may be no more than wide: half of it, beside 1.96 standard errors of a median.
    widths = [math.log(ratio.high / ratio.low) / 2 for ratio in ratios]
    error = math.sqrt(2 * (process**2 + math.pi / 2 * block**2 / NUM_BLOCKS) * math.pi / 2 / num_rounds)
    assert np.mean(widths) <= {3: 3.2, 7: 1.5, 20: 1.2}[num_rounds] * 1.96 * error


@pytest.mark.usefixtures("few_resamples")
def test_two_recordings_and_single_cells_are_covered_too() -> None:
    rng = np.random.default_rng(5)
    found: list[tuple[bool, ...]] = []
    for _ in range(200):
        cell, shorter = simulated(rng, 7, drift=0)
        shorter = {name: shorter[name] for name in range(5)}
        middle = SECONDS * math.exp(1.039 * 0.03 * 0.05)  # where 3 % slow blocks move the median
        # Slow calls are rarer than one in twenty, but some resamples have as many.
        (latencies,) = simulated(rng, 7, 1, block=0.005, drift=0, num_blocks=300)
        tail = SECONDS * math.exp(2.041 * 0.005)  # 0.95 / 0.97 of the others are below
        found.append(
            (
                holds(independent_ratio(cell, shorter), 1),
                holds(typical(cell), middle),
                holds(percentiles(latencies)[95], tail),
            )
        )
    assert np.mean(found, axis=0).min() >= 0.92


@pytest.mark.usefixtures("few_resamples")
def test_equal_cells_are_called_faster_or_slower_at_most_5_times_in_100() -> None:
    rng = np.random.default_rng(1)
    words: list[str] = []
    for _ in range(400):
        control, again, cell, other = simulated(rng, 7, 4)
        words.append(compared(cell, other, noise_floor(paired_ratio(control, again))).word)
    assert sum(word in ("faster", "slower") for word in words) <= 20


@pytest.mark.usefixtures("few_resamples")
def test_5_percent_slower_is_called_slower_where_the_floor_is_under_2_and_a_half() -> None:
    rng = np.random.default_rng(2)
    words: list[str] = []
    while len(words) < 100:
        control, again, cell, other = simulated(rng, 7, 4, process=0.008)
        floor = noise_floor(paired_ratio(control, again))
        if floor < 0.025:
            words.append(compared(scaled(cell, 1.05), other, floor).word)
    assert words.count("slower") >= 95


def test_the_same_data_give_the_same_interval_in_any_order() -> None:
    cell, other = simulated(np.random.default_rng(3), 7)
    backwards = {name: cell[name][::-1] for name in reversed(range(7))}
    assert paired_ratio(cell, other) == paired_ratio(backwards, other)


def test_a_ratio_turned_round_is_one_over_it() -> None:
    cell, other = simulated(np.random.default_rng(3), 8)
    assert paired_ratio(cell, other).value == pytest.approx(1 / paired_ratio(other, cell).value, rel=1e-12)


def test_values_are_medians_of_the_common_rounds() -> None:
    cell, other = simulated(np.random.default_rng(4), 7)
    other = {name + 2: other[name] for name in other}
    ratios = [np.median(other[name]) / np.median(cell[name]) for name in range(2, 7)]
    assert paired_ratio(cell, other).value == pytest.approx(np.median(ratios), rel=1e-3)
    assert typical(cell).value == pytest.approx(np.median([np.median(b) for b in cell.values()]), rel=1e-3)


def test_what_a_round_does_to_both_cancels_only_in_the_paired_ratio() -> None:
    cell, other = simulated(np.random.default_rng(6), 7, drift=0.2, process=0.001, block=0.005)
    assert noise_floor(paired_ratio(cell, other)) < 0.01
    assert noise_floor(independent_ratio(cell, other)) > 0.1


def test_one_bad_process_of_seven_does_not_decide() -> None:
    cell, other = simulated(np.random.default_rng(7), 7, process=0.002, block=0.01)
    spoiled = cell | {3: cell[3] * 1.5}
    assert noise_floor(paired_ratio(spoiled, other)) < 0.02


@pytest.mark.parametrize("num_blocks", [4, 9])
@pytest.mark.parametrize("percentile", [50, 80, 99])
def test_resampled_quantiles_are_those_of_blocks_drawn_one_by_one(percentile: float, num_blocks: int) -> None:
    rng = np.random.default_rng(8)
    blocks = rng.normal(0, 1, num_blocks)
    picks = np.zeros((40_000, 1), np.int64)
    values, errors = intervals._resampled({5: np.exp(blocks)}, [5], picks, percentile, rng)
    drawn = rng.choice(blocks, (40_000, num_blocks))
    expected = np.quantile(drawn, percentile / 100, axis=1, method="median_unbiased")
    found = np.sort(values + errors[:, 0])
    # The largest distance between two distributions of 40,000 is above 0.014 once in a thousand times.
    points = np.unique(np.round(expected, 9)) + 1e-6
    shares = [np.searchsorted(np.sort(numbers), points) / 40_000 for numbers in (found, expected)]
    assert np.abs(shares[0] - shares[1]).max() < 0.014


def test_rounds_may_hold_different_numbers_of_blocks() -> None:
    cell, other = simulated(np.random.default_rng(9), 7)
    ragged = {name: blocks[: 1 + 5 * name] for name, blocks in cell.items()}
    assert holds(paired_ratio(ragged, other), 1)


def test_percentiles_that_a_round_is_too_short_for_are_left_out() -> None:
    (latencies,) = simulated(np.random.default_rng(10), 7, 1, num_blocks=99)
    found = percentiles(latencies)
    assert list(found) == [50, 95]
    assert found[50].value < found[95].value
    assert found[50] == typical(latencies)


@pytest.mark.parametrize(
    ("cell", "other", "reason"),
    [
        ({}, {}, "no common rounds"),
        ({1: np.ones(3), 2: np.ones(3)}, {3: np.ones(3)}, "no common rounds"),
        ({1: np.ones(3), 2: np.ones(3)}, {2: np.ones(3), 3: np.ones(3)}, "1 common round, 2 are needed"),
        (constant(1.0), constant(1.0) | {1: np.array([])}, "round 1 has no timed block"),
        (constant(1.0), constant(1.0) | {2: np.array([1, math.nan])}, "a time in round 2 is not a positive number"),
        (constant(1.0) | {0: np.array([0.0, 1])}, constant(1.0), "a time in round 0 is not a positive number"),
        (constant(1.0), constant(math.inf), "a time in round 0 is not a positive number"),
    ],
)
def test_data_that_allow_no_estimate_give_no_verdict(cell: Cell, other: Cell, reason: str) -> None:
    with pytest.raises(NoEstimateError, match=reason):
        paired_ratio(cell, other)
    found = compared(cell, other, 0.01)
    assert (found.word, found.text, found.ratio) == ("none", f"no verdict: {reason}", None)


@pytest.mark.parametrize(
    ("value", "low", "high", "floor", "num_rounds", "word", "text"),
    [
        (1.77, 1.70, 1.82, 0.013, 7, "faster", "1.77x as fast"),
        (0.83, 0.80, 0.86, 0.013, 7, "slower", "slower, 0.83x"),
        (250.4, 240, 260, 0.013, 7, "faster", "250x as fast"),
        (0.004, 0.003, 0.005, 0.013, 7, "slower", "slower, 0.004x"),
        (1.003, 0.981, 1.012, 0.013, 7, "same", "same within 1.9 %"),
        (1.0, 0.99, 1.021, 0.025, 7, "same", "same within 2.1 %"),
        (1.01, 1.002, 1.0171, 0.013, 7, "same", "same within 1.8 %"),
        (1.0, 1.0, 1.0, 0.0, 7, "same", "same within 0.1 %"),
        (1.04, 0.98, 1.10, 0.013, 7, "inconclusive", "inconclusive: about 6 more rounds"),
        (0.96, 0.90, 1.001, 0.013, 7, "inconclusive", "inconclusive: about 1 more round"),
        (1.04, 0.5, 2.1, 0.013, 7, "inconclusive", "inconclusive: more than 100 more rounds"),
        (1.02, 0.99, 1.05, 0.0201, 7, "inconclusive", "inconclusive: more than 100 more rounds"),
        (
            1.015,
            1.004,
            1.026,
            0.01,
            7,
            "inconclusive",
            "inconclusive: 1.5 % faster, too little to count; about 18 more rounds",
        ),
        (
            0.96,
            0.94,
            0.98,
            0.0432,
            7,
            "inconclusive",
            "inconclusive: 4.0 % slower, but the noise floor is 4.3 %; "
            "a quieter machine would tell, more rounds may not",
        ),
        # Where the machine is too noisy for "same" to mean something, a large effect alone is told.
        (1.0, 0.95, 1.05, 0.2, 7, "inconclusive", f"inconclusive: the noise floor is 20.0 %; {QUIETER}"),
        (1.15, 1.1, 1.2, 0.2, 7, "inconclusive", f"inconclusive: the noise floor is 20.0 %; {QUIETER}"),
        (1.3, 1.25, 1.35, 0.2, 7, "faster", "1.30x as fast"),
        (1.5, 1.4, 1.6, 0.01, 1, "none", "no verdict: 1 common round, 2 are needed"),
        (1.5, 1.4, 1.6, 0.01, 0, "none", "no verdict: 0 common rounds, 2 are needed"),
        (1.5, math.nan, 1.6, 0.01, 7, "none", "no verdict: the ratio is not a positive number"),
        (1.5, 1.4, 1.6, math.nan, 7, "none", "no verdict: the noise floor is not known"),
    ],
)
def test_verdicts_in_words(
    value: float, low: float, high: float, floor: float, num_rounds: int, word: str, text: str
) -> None:
    found = verdict(Estimate(value, low, high), floor, num_rounds)
    assert (found.word, found.text) == (word, text)


def test_the_forecast_of_rounds_is_about_right() -> None:
    """An interval made 1.5 times as narrow takes 1.5 squared times the rounds, and fewer where rounds are few."""
    few, many = (verdict(Estimate(1.04, 0.98, 1.1), 0.01, num_rounds).text for num_rounds in (3, 20))
    assert (few, many) == ("inconclusive: about 1 more round", "inconclusive: about 22 more rounds")


def test_the_floor_is_the_farthest_bound() -> None:
    assert noise_floor(Estimate(1.001, 0.97, 1.02)) == pytest.approx(0.03)
    assert noise_floor(Estimate(1.001, 0.99, 1.02)) == pytest.approx(0.02)


def test_when_a_slow_starter_catches_up() -> None:
    assert overtakes(20, 0.01, 2, 0.05) == pytest.approx(450)  # 18 seconds behind, 0.04 a step gained
    assert overtakes(2, 0.05, 20, 0.01) == pytest.approx(450)  # the other one
    assert overtakes(20, 0.05, 2, 0.01) is None
    assert overtakes(20, 0.05, 2, 0.05) is None
    assert overtakes(2, 0.05, 2, 0.01) == 0
    with pytest.raises(NoEstimateError):
        overtakes(20, math.nan, 2, 0.05)
