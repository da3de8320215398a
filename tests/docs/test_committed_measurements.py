"""The committed pages, README's figures and the guide's table are what was recorded,
as it is rendered today."""

import re
import runpy
from pathlib import Path
from typing import Any

import pytest

from backends.process.parent import PROJECT
from benchmarks.measure.measurement import Measurement
from tests.support.measurements import measurement, written
from tests.support.program import refusal

RENDER: dict[str, Any] = runpy.run_path(str(PROJECT / "docs" / "benchmark" / "render.py"))
PAGES = RENDER["pages"]()
TEXTS = [
    PROJECT / "README.md",
    *sorted((PROJECT / "docs").rglob("*.md")),
    *sorted((PROJECT / "porting").rglob("*.md")),
]


@pytest.mark.parametrize("page", PAGES, ids=[path.name for path in PAGES])
def test_the_committed_page_is_what_the_measurement_gives(page: Path) -> None:
    assert RENDER["rendered"](page) == page.read_text(encoding="utf-8")


@pytest.mark.parametrize("path", RENDER["PARTS"], ids=lambda path: path.name)
def test_the_readme_and_the_guide_show_what_was_measured(path: Path) -> None:
    assert RENDER["filled"](path) == path.read_text(encoding="utf-8")
    assert all(len(part) > 100 for part in RENDER["PARTS"][path]().values() if part)


def empty_blocks(text: str) -> list[str]:
    """Names of the blocks between comments of a page that hold nothing."""
    return re.findall(r"<!-- ([\w-]+) -->\s*<!-- /\1 -->", text)


@pytest.mark.parametrize("path", TEXTS, ids=lambda path: str(path.relative_to(PROJECT)))
def test_no_block_of_a_page_is_empty(path: Path) -> None:
    assert not empty_blocks(path.read_text(encoding="utf-8"))


def test_an_empty_block_is_seen() -> None:
    text = "<!-- a -->\n\n<!-- /a -->\n<!-- b -->\nfilled\n<!-- /b -->\n<!-- c -->\n<!-- /c -->"
    assert empty_blocks(text) == ["a", "c"]


def test_figures_alone_are_left_of_a_measurement(tmp_path: Path) -> None:
    bench = written(measurement(), tmp_path / "fra-eng.jsonl")
    RENDER["figures_only"](bench.path)
    content = bench.path.read_text(encoding="utf-8")
    assert not [word for word in ("red", "rouge", "phrasebook") if word in content]
    kept = Measurement.read(bench.path)
    assert kept.rounds() == bench.rounds()
    assert kept.plan.training.data.data == "fra-eng"


def test_what_has_no_chart_is_not_drawn(tmp_path: Path) -> None:
    path = written(measurement(rounds=0), tmp_path / "a.jsonl").path
    assert "there is no chart of it" in refusal(2, "report", path, "-o", tmp_path / "a.svg")
