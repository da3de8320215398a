"""The committed pages and README's figures are what the committed recordings give today."""

import runpy
from pathlib import Path
from typing import Any

import pytest

from backends.process.parent import PROJECT
from benchmarks.measure.recording import Recording
from tests.support.program import refusal
from tests.support.recordings import recording, written

RENDER: dict[str, Any] = runpy.run_path(str(PROJECT / "docs" / "benchmark" / "render.py"))
PAGES = RENDER["pages"]()


@pytest.mark.parametrize("page", PAGES, ids=[path.name for path in PAGES])
def test_the_committed_page_is_what_the_recording_gives(page: Path) -> None:
    assert RENDER["rendered"](page) == page.read_text(encoding="utf-8")


def test_the_readme_shows_the_recording() -> None:
    text = (PROJECT / "README.md").read_text(encoding="utf-8")
    assert RENDER["readme"](text) == text
    for part in RENDER["parts_of_readme"]().values():
        assert len(part) > 200
        assert part in text


def test_figures_alone_are_left_of_a_recording(tmp_path: Path) -> None:
    bench = written(recording(), tmp_path / "a.jsonl")
    RENDER["figures_only"](bench.path)
    content = bench.path.read_text(encoding="utf-8")
    assert not [word for word in ("red", "rouge", "phrasebook") if word in content]
    kept = Recording.read(bench.path)
    assert kept.rounds() == bench.rounds()
    assert kept.plan.training.data.data == "fra-eng"


def test_what_has_no_chart_is_not_drawn(tmp_path: Path) -> None:
    path = written(recording(rounds=0), tmp_path / "a.jsonl").path
    assert "there is no chart of it" in refusal(2, "report", path, "-o", tmp_path / "a.svg")
