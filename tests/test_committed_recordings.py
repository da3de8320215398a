"""What real runs recorded: the committed pages are what is said of them today; no row differs from itself."""

from pathlib import Path

import numpy as np
import pytest

from backends.process.parent import PROJECT
from benchmarks.measure.plan import LEAST_ROUNDS
from benchmarks.measure.statistics import Observations
from benchmarks.report.results import Results
from tests.program import refusal, rosetta
from tests.recordings import COMMITTED, committed

RESAMPLINGS = 40


def test_a_row_is_neither_faster_nor_slower_than_itself_in_9_of_10_drawings() -> None:
    """Of as few rounds as are measured at least. Were as many drawn as there are, the drawings would scatter about
    what was measured, which is itself off the truth: intervals that are honest would be wrong too often."""
    results = Results(committed("intel"))
    rng, rows = np.random.default_rng(1), results.plan.rows
    (control,) = (row for row in rows if row.control)
    twice = rows.index(control.counterpart), rows.index(control)
    rounds = results.observed["training"].logarithms
    drawings = [rng.choice(list(rounds), LEAST_ROUNDS, replace=False) for _ in range(RESAMPLINGS)]
    ratios = [Observations({number: rounds[number] for number in drawing}).ratio(*twice) for drawing in drawings]
    assert sum(ratio.low <= 1 <= ratio.high for ratio in ratios) >= 0.9 * RESAMPLINGS


@pytest.mark.parametrize(
    "page", ["intel.md", "intel.html", "intel.svg", "amd.md", "amd.html", "scaling.md", "workers.md"]
)
def test_the_committed_page_is_what_the_recording_says_today(page: str, tmp_path: Path) -> None:
    rosetta("report", (COMMITTED / page).with_suffix(".jsonl"), "-o", tmp_path / page)
    assert (tmp_path / page).read_text(encoding="utf-8") == (COMMITTED / page).read_text(encoding="utf-8")


def test_what_has_no_chart_is_not_drawn(tmp_path: Path) -> None:
    assert "there is no chart of it" in refusal(2, "report", COMMITTED / "workers.jsonl", "-o", tmp_path / "a.svg")


def test_the_readme_answers_what_the_recordings_answer() -> None:
    readme = " ".join((PROJECT / "README.md").read_text(encoding="utf-8").split())
    intel, amd = (Results(committed(name)) for name in ("intel", "amd"))
    for answer in (intel.headline.partition(";")[0], amd.headline.partition(";")[0], intel.surprise):
        assert len(answer) > 40
        assert answer in readme
    assert "](docs/benchmark/intel.svg)" in readme
