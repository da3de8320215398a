"""What real runs recorded: the committed pages are what is said of them today."""

from pathlib import Path

import pytest

from backends.process.parent import PROJECT
from benchmarks.report.page import surprise
from benchmarks.report.results import Results
from tests.program import refusal, rosetta
from tests.recordings import COMMITTED, committed

RACES = "attention compiled numpy threads translator tagger encoder engines tutorial".split()


@pytest.mark.parametrize(
    "page",
    ["intel.md", "intel.html", "intel.svg", "amd.md", "amd.html", "scaling.md", "workers.md"]
    + [f"../racing/{name}.md" for name in RACES],
)
def test_the_committed_page_is_what_the_recording_says_today(page: str, tmp_path: Path) -> None:
    rosetta("report", (COMMITTED / page).with_suffix(".jsonl"), "-o", made := tmp_path / Path(page).name)
    assert made.read_text(encoding="utf-8") == (COMMITTED / page).read_text(encoding="utf-8")


def test_what_has_no_chart_is_not_drawn(tmp_path: Path) -> None:
    assert "there is no chart of it" in refusal(2, "report", COMMITTED / "workers.jsonl", "-o", tmp_path / "a.svg")


def test_the_readme_answers_what_the_recordings_answer() -> None:
    readme = " ".join((PROJECT / "README.md").read_text(encoding="utf-8").split())
    intel, amd = (Results(committed(name)) for name in ("intel", "amd"))
    for answer in (intel.headline.partition(";")[0], amd.headline.partition(";")[0], surprise(intel)):
        assert len(answer) > 40
        assert answer in readme
    assert "](docs/benchmark/intel.svg)" in readme
