"""The committed pages are what the committed recordings give today."""

import dataclasses
import re
from pathlib import Path

import pytest
from msgspec.structs import replace

from backends.process.parent import PROJECT
from benchmarks.measure.recording import Round
from benchmarks.report.bench import BenchResults
from benchmarks.report.page import advice, rows_of_answer, surprise
from tests.support.program import refusal, rosetta
from tests.support.recordings import COMMITTED, RACING, changed, committed, recording, written

PAGES = [
    path
    for folder in (COMMITTED, RACING)
    for path in sorted(folder.iterdir())
    if path.suffix in (".md", ".html", ".svg") and path.with_suffix(".jsonl").exists()
]


@pytest.mark.parametrize("page", PAGES, ids=[path.name for path in PAGES])
def test_the_committed_page_is_what_the_recording_gives(page: Path, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setenv("TF_ENABLE_ONEDNN_OPTS", "0")
    rosetta("report", page.with_suffix(".jsonl"), "-o", rendered := tmp_path / page.name)
    assert rendered.read_text(encoding="utf-8") == page.read_text(encoding="utf-8")


def test_tensorflows_library_is_advised_as_it_was_when_measured() -> None:
    def without_onednn(line: Round) -> Round:
        settings = {"matrix_library": "Eigen"}
        starts = [replace(start, facts=dataclasses.replace(start.facts, settings=settings)) for start in line.starts]
        return replace(line, starts=starts)

    advised, otherwise = (
        " ".join(advice(BenchResults(bench)))
        for bench in (committed("amd"), changed(committed("amd"), Round, without_onednn))
    )
    assert otherwise == advised.replace("TF_ENABLE_ONEDNN_OPTS=1", "TF_ENABLE_ONEDNN_OPTS=0") != advised


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
