"""The committed pages are what the committed recordings give today."""

import re
from pathlib import Path

import pytest

from backends.process.parent import PROJECT
from backends.process.tuned import EFFECTS, GROUPS
from benchmarks.report.bench import BenchResults
from benchmarks.report.page import rows_of_answer, surprise
from tests.support.program import refusal, rosetta
from tests.support.recordings import COMMITTED, RACING, committed, recording, written

PAGES = [
    path
    for folder in (COMMITTED, RACING)
    for path in sorted(folder.iterdir())
    if path.suffix in (".md", ".html", ".svg") and path.with_suffix(".jsonl").exists()
]


@pytest.mark.parametrize("page", PAGES, ids=[path.name for path in PAGES])
def test_the_committed_page_is_what_the_recording_gives(page: Path, tmp_path: Path) -> None:
    rosetta("report", page.with_suffix(".jsonl"), "-o", rendered := tmp_path / page.name)
    assert rendered.read_text(encoding="utf-8") == page.read_text(encoding="utf-8")


def test_what_has_no_chart_is_not_drawn(tmp_path: Path) -> None:
    path = written(recording(rounds=0), tmp_path / "a.jsonl").path
    assert "there is no chart of it" in refusal(2, "report", path, "-o", tmp_path / "a.svg")


def test_the_readme_shows_the_recordings() -> None:
    text = (PROJECT / "README.md").read_text(encoding="utf-8").replace("\N{NO-BREAK SPACE}", " ")
    amd, demo = (BenchResults(committed(name)) for name in ("amd", "demo"))
    for answer in (amd.headline.partition(";")[0], surprise(demo)):
        assert len(answer) > 40
        assert answer in " ".join(text.split())
    answer = (
        (COMMITTED / "demo.md").read_text(encoding="utf-8").partition("\n---\n")[0].replace("\N{NO-BREAK SPACE}", " ")
    )
    for row in rows_of_answer(demo):
        (cells,) = re.findall(rf"^\| {row.title} (\|.*\| to \S+ \|)$", answer, re.MULTILINE)
        options = demo.plan.command_of(row.row).removeprefix("rosetta bench ")
        assert f"{cells} `{options}` |" in text
    assert 'src="docs/benchmark/demo.svg"' in text


def test_the_guide_has_the_measured_effects_of_settings() -> None:
    guide = (PROJECT / "docs" / "benchmarking.md").read_text(encoding="utf-8")
    for effect in EFFECTS:
        figures = f"{effect.ratio:.2f} ({effect.low:.2f} to {effect.high:.2f})"
        line = f"| {effect.framework} | {effect.group} | {figures} | {'set' if effect.helps else ''} |"
        assert f"{line} {effect.date} | {effect.machine} |" in guide
    assert {effect.group for effect in EFFECTS} <= GROUPS.keys()
