"""The verdicts on what a real `standard` run recorded: no row differs from itself, its noise is known; its report."""

from pathlib import Path

import numpy as np
import pytest

from backends.process.parent import PROJECT
from benchmarks.measure.plan import Cell
from benchmarks.measure.recording import Recording
from benchmarks.measure.schedule import LEAST_GENERATIONS
from benchmarks.results.intervals import Fit, word_for
from benchmarks.results.rows import results_of
from benchmarks.results.timings import Timings
from tests.program import rosetta

RESAMPLINGS = 40
STANDARD: Path = PROJECT / "docs" / "benchmark" / "standard.jsonl"

Blocks = dict[int, dict[str, float]]  # what was observed in each, by row


@pytest.fixture(scope="module")
def recording() -> Recording:
    return Recording.read(STANDARD)


@pytest.fixture(scope="module")
def blocks(recording: Recording) -> Blocks:
    found: Blocks = {}
    for (block, row), value in Timings(recording).steps.observed.items():
        found.setdefault(block, {})[row] = value
    return found


@pytest.fixture(scope="module")
def control(recording: Recording) -> tuple[str, str]:
    """The labels of a row that was measured twice."""
    (again,) = (cell for cell in recording.plan.cells if cell.again)
    return Cell(again.backend, again.lane, again.python, again.batches).label, again.label


def test_it_is_a_whole_standard_run(recording: Recording, blocks: Blocks) -> None:
    results = results_of(recording)
    assert recording.plan.preset == "standard"
    assert results.generations >= 5
    assert results.dropped <= 0.2 * results.cycles
    assert {"torch", "keras", "paddle", "keras:example"} <= {row.label for row in results.rows if row.compared}
    assert [pair.word for pair in results.pairs if pair.kind == "control"] in (["same"], ["not told apart"])
    assert results.pairs
    assert " trains " in results.headline


@pytest.mark.parametrize(
    ("name", "committed"),
    [("standard", "benchmark/report.md"), ("scaling", "benchmark/scaling.md"), ("workers", "scaling.md")],
)
def test_the_committed_report_is_what_the_recording_says_today(name: str, committed: str, tmp_path: Path) -> None:
    made = tmp_path / "report.md"
    rosetta("report", STANDARD.with_name(f"{name}.jsonl"), "-o", made)
    assert made.read_text(encoding="utf-8") == (PROJECT / "docs" / committed).read_text(encoding="utf-8")


def test_a_row_is_neither_faster_nor_slower_than_itself_in_9_of_10_drawings(
    recording: Recording, blocks: Blocks, control: tuple[str, str]
) -> None:
    """Of as few generations as are measured at least. Were as many drawn as there are, the drawings would scatter
    about what was measured, which is itself off the truth: intervals that are honest would be wrong too often."""
    rng = np.random.default_rng(1)
    held = 0
    for _ in range(RESAMPLINGS):
        drawn = rng.choice(list(blocks), LEAST_GENERATIONS, replace=False)
        fit = Fit({(n, row): value for n, block in enumerate(drawn) for row, value in blocks[int(block)].items()})
        ratio = fit.ratio(*control)
        assert ratio
        held += ratio.holds(1.0) or word_for(ratio, recording.plan.size.within) == "same"
    assert held >= 0.9 * RESAMPLINGS


def test_the_noise_is_what_numbers_of_generations_were_chosen_by(blocks: Blocks, control: tuple[str, str]) -> None:
    """A generation's log ratio of two rows had a standard deviation of about 4 % when they were; it may be less."""
    once, again = control
    differences = [block[again] - block[once] for block in blocks.values() if again in block and once in block]
    assert np.std(differences, ddof=1) < 0.06
