"""The verdicts on what real runs recorded: those of when they were measured; no row differs from itself."""

from pathlib import Path

import numpy as np
import pytest

from benchmarks.measure.plan import LEAST_ROUNDS
from benchmarks.measure.statistics import MOST_DROPPED, Observations
from benchmarks.report.results import Results
from tests.program import rosetta
from tests.recordings import COMMITTED, committed

RESAMPLINGS = 40


@pytest.fixture(scope="module")
def results() -> Results:
    return Results(committed("intel"))


def test_its_verdicts_are_those_that_it_had_when_it_was_measured(results: Results) -> None:
    assert results.rounds >= 5
    assert results.dropped <= MOST_DROPPED * results.cycles
    assert results.headline.startswith(
        "PyTorch trains 1.4 times as fast as Paddle and 1.8 times as fast as Keras; all"
    )
    assert "decodes 390 times slower than Keras can" in results.surprise
    published = {"paddle": (1.39, 1.45), "keras:example": (1.73, 1.80), "keras": (1.74, 1.82)}
    for other, ends in published.items():
        ratio = results.ratio("torch", other)
        assert (ratio.low, ratio.high) == pytest.approx(ends, abs=0.01)
    words = {(pair.kind, pair.left, pair.right): pair.word for pair in results.pairs}
    assert words["frameworks", "keras:example", "keras"] == "not told apart"
    assert words["frameworks", "torch", "torch:compile"] == "not told apart"
    assert words["installed", "paddle, as installed", "paddle"] == "slower"
    assert [word for (kind, *_), word in words.items() if kind == "control"] in (["same"], ["not told apart"])


def test_a_row_is_neither_faster_nor_slower_than_itself_in_9_of_10_drawings(results: Results) -> None:
    """Of as few rounds as are measured at least. Were as many drawn as there are, the drawings would scatter about
    what was measured, which is itself off the truth: intervals that are honest would be wrong too often."""
    rng, rows = np.random.default_rng(1), results.plan.rows
    (control,) = (row for row in rows if row.control)
    twice = rows.index(control.counterpart), rows.index(control)
    rounds = results.observed["training"].logarithms
    drawings = [rng.choice(list(rounds), LEAST_ROUNDS, replace=False) for _ in range(RESAMPLINGS)]
    ratios = [Observations({number: rounds[number] for number in drawing}).ratio(*twice) for drawing in drawings]
    assert sum(ratio.low <= 1 <= ratio.high for ratio in ratios) >= 0.9 * RESAMPLINGS


@pytest.mark.parametrize("name", ["intel", "amd", "scaling", "workers"])
def test_the_committed_report_is_what_the_recording_says_today(name: str, tmp_path: Path) -> None:
    made = tmp_path / "report.md"
    rosetta("report", COMMITTED / f"{name}.jsonl", "-o", made)
    assert made.read_text(encoding="utf-8") == (COMMITTED / f"{name}.md").read_text(encoding="utf-8")


def test_no_other_program_was_at_work_in_the_run_on_amd() -> None:
    results = Results(committed("amd"))
    assert (results.dropped, results.doubts, results.missing) == (0, [], [])
    assert not [note for note in results.notes if "other programs" in note]
    assert all(seconds > 0 for row in results.rows for seconds in row.start.values()), "none was timed beside others"
    assert results.reached <= results.plan.within
