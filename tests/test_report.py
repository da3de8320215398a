"""Reports as a reader meets them: one file in a browser that has no network, Markdown, and a terminal."""

import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from io import StringIO
from itertools import combinations, pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import example as example_of
from hypothesis import given, settings
from hypothesis import strategies as st
from playwright.sync_api import Browser
from rich.console import Console

from backends.process.parent import PROJECT
from benchmarks.measure.machine import Finding
from benchmarks.measure.plan import Cell
from benchmarks.measure.recording import Generation
from benchmarks.report import changes, content, joined, learning, machine, markdown, page, sweep, terminal
from benchmarks.report.blocks import Block, Chart, Details, Table
from benchmarks.report.differences import difference
from benchmarks.report.drawing import COLOURS, INK, OTHERS, TINTS
from benchmarks.report.wording import AXES, SPACE
from benchmarks.results.intervals import Estimate
from benchmarks.results.rows import results_of
from benchmarks.results.values import Results, Row, Training
from tests.conftest import DRAWN, OVERFLOW, Open
from tests.recordings import plan_of, recording
from tests.results_example import HOSTILE, HOSTILE_KERNEL, LONG, RAW, comparison, example, scaling, several_machines

CHARTS = ["speed", "bucketed", "reduced", "batch", "alone", "start", "memory", "parts", "peak", "loss", "chrf"]
OPEN = ["speed", "why", "warnings", "sentences"]
FOLDED = ["bucketed", "reduced", "decoding", "start", "parts", "peak", "learning", "parity", "settings", "measured"]
UNFOLD = "document.querySelectorAll('details').forEach(one => { one.open = true; })"
FOLD = "document.querySelectorAll('details.folded').forEach(one => { one.open = false; })"
# Of each chart: how many shapes have an area on the page, and which of its texts are cut off.
MARKS = """
[...document.querySelectorAll('.chart')].map(chart => {
  const box = chart.getBoundingClientRect();
  const shapes = [...chart.querySelectorAll('[class*=mark-rect], [class*=mark-line], [class*=mark-symbol]')]
    .flatMap(group => [...group.querySelectorAll('path')])
    .filter(path => path.getBoundingClientRect().width > 1 || path.getBoundingClientRect().height > 1);
  const outside = at => at.width && (at.left < box.left - 1 || at.right > box.right + 1);
  const cut = [...chart.querySelectorAll('text')].filter(text => text.getAttribute('opacity') !== '0')
    .filter(text => outside(text.getBoundingClientRect()) || text.textContent.endsWith('…'))
    .map(text => text.textContent);
  return [chart.id.replace('chart-', ''), shapes.length, cut];
})
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("report")
    (path / "bench.html").write_text(page.render(content.report(example()), RAW), encoding="utf-8")
    (path / "joined.html").write_text(page.render(joined.report(several_machines()), ""), encoding="utf-8")
    (path / "sweep.html").write_text(page.render(sweep.report(scaling()), RAW), encoding="utf-8")
    return path


@pytest.mark.parametrize("width", [390, 1400])
@pytest.mark.parametrize(("name", "charts"), [("bench", CHARTS), ("sweep", list(AXES)), ("joined", [])])
def test_every_chart_is_drawn_offline_and_nothing_is_wider_than_the_page(
    opened: Open, folder: Path, width: int, name: str, charts: list[str]
) -> None:
    shown = opened(folder / f"{name}.html", width=width)
    shown.evaluate(UNFOLD)
    shown.wait_for_function(DRAWN, timeout=20_000)
    found = shown.evaluate(MARKS)
    assert [name for name, _, _ in found] == charts
    assert all(shapes >= 2 for _, shapes, _ in found), found
    assert [cut for _, _, cut in found] == [[]] * len(charts)
    wide, window = shown.evaluate(OVERFLOW)
    assert wide <= window


def test_a_chart_follows_the_pages_width_even_while_it_is_folded(browser: Browser, folder: Path) -> None:
    with browser.new_context(viewport={"width": 1400, "height": 900}, offline=True) as context:
        shown = context.new_page()
        shown.goto((folder / "bench.html").as_uri())
        assert shown.locator("#chart-peak svg").count() == 0
        shown.evaluate(UNFOLD)
        wide = "() => document.querySelector('#chart-peak svg')?.getBoundingClientRect().width > 800"
        shown.wait_for_function(wide, timeout=5000)
        shown.evaluate(FOLD)
        shown.set_viewport_size({"width": 390, "height": 844})
        for name in ("speed", "peak"):
            shown.evaluate(UNFOLD)
            narrow = f"() => document.querySelector('#chart-{name} svg').getBoundingClientRect().width < 390"
            shown.wait_for_function(narrow, timeout=5000)


def test_dark_is_dark_in_charts_too_and_paper_is_white(opened: Open, folder: Path) -> None:
    shown = opened(folder / "bench.html")

    def seen() -> tuple[str, str]:
        background = shown.evaluate("getComputedStyle(document.body).backgroundColor")
        return background, shown.evaluate("getComputedStyle(document.querySelector('#chart-speed text')).fill")

    def brightness(colour: str) -> float:
        return sum(map(int, re.findall(r"\d+", colour)[:3])) / 3

    paper, ink = map(brightness, seen())
    assert (paper > 240, ink < 60) == (True, True)
    shown.emulate_media(color_scheme="dark")
    paper, ink = map(brightness, seen())
    assert (paper < 40, ink > 200) == (True, True)
    shown.emulate_media(media="print", color_scheme="dark")
    assert seen() == ("rgb(255, 255, 255)", "rgb(0, 0, 0)")


def test_the_recording_is_downloaded_bit_for_bit(opened: Open, folder: Path, tmp_path: Path) -> None:
    shown = opened(folder / "bench.html")
    shown.evaluate(UNFOLD)
    with shown.expect_download() as download:
        shown.click("#download")
    assert download.value.suggested_filename == "recording.jsonl"
    download.value.save_as(tmp_path / "again")
    assert (tmp_path / "again").read_bytes() == RAW.encode()


def test_charts_can_be_saved_in_colours_of_their_own(opened: Open, folder: Path, tmp_path: Path) -> None:
    """From a dark page and by the keyboard."""
    shown = opened(folder / "bench.html", scheme="dark")
    figure = shown.locator("figure", has=shown.locator("#chart-speed"))
    starts = {"svg": b"<svg", "png": b"\x89PNG"}
    for kind, start in starts.items():
        with shown.expect_download() as download:
            figure.get_by_role("button", name=f"Save the chart as {kind.upper()}").press("Enter")
        assert download.value.suggested_filename == f"rosetta-speed.{kind}"
        download.value.save_as(tmp_path / kind)
        content = (tmp_path / kind).read_bytes()
        assert content.startswith(start)
        assert len(content) > 5000
    drawn = (tmp_path / "svg").read_text(encoding="utf-8")
    assert "#ffffff" in drawn
    assert not re.search(r"currentColor|var\(", drawn)


def test_hostile_text_is_shown_and_never_runs(opened: Open, tmp_path: Path) -> None:
    results = example()
    first = replace(results.rows[0], label=f"torch, {HOSTILE}", why_not=HOSTILE)
    results = replace(results, rows=[first, *results.rows[1:]], headline=HOSTILE, chrf_signature=HOSTILE)
    (tmp_path / "hostile.html").write_text(page.render(content.report(results), HOSTILE + RAW), encoding="utf-8")
    shown = opened(tmp_path / "hostile.html")
    assert shown.locator("h1").text_content() == HOSTILE
    assert shown.locator(".sentence h3").all_text_contents().count(f"Is it {HOSTILE}?") == 1
    assert shown.locator("img, script[src]").count() == 0
    assert HOSTILE_KERNEL in (shown.locator("#settings").text_content() or "")
    shown.locator("#chart-speed .mark-rect path").first.hover()
    shown.wait_for_selector("#vg-tooltip-element.visible")
    assert "<img src=x" in shown.locator("#vg-tooltip-element").inner_text()
    assert shown.locator("#vg-tooltip-element img").count() == 0


def test_separators_of_lines_in_names_leave_the_charts_whole(opened: Open, tmp_path: Path) -> None:
    """Vega writes names into its expressions, where a separator would end a string."""
    results = example()
    name = "jax\u2028\u2029'\\\"\n"
    rows = [
        replace(row, label=name, cell=Cell(name)) if row.label == results.baseline else row for row in results.rows
    ]
    report = content.report(replace(results, rows=rows, baseline=name))
    (tmp_path / "separators.html").write_text(page.render(report, ""), encoding="utf-8")
    shown = opened(tmp_path / "separators.html")
    shown.evaluate(UNFOLD)
    shown.wait_for_function(DRAWN, timeout=20_000)
    assert "could not be drawn" not in shown.locator("body").inner_text()


def test_a_script_that_is_not_the_reports_own_is_refused(browser: Browser, folder: Path, tmp_path: Path) -> None:
    """Were something not escaped after all, the page's policy would still stop it."""
    html = (folder / "bench.html").read_text(encoding="utf-8")
    html = html.replace("<main>", "<main><script>document.title = 'ran'</script><img src='http://x.invalid/'>")
    (tmp_path / "report.html").write_text(html, encoding="utf-8")
    with browser.new_context(offline=True) as context:
        shown = context.new_page()
        refused: list[str] = []
        shown.on("console", lambda message: refused.append(message.text))
        shown.goto((tmp_path / "report.html").as_uri())
        shown.wait_for_function(DRAWN)
        assert shown.title() == "Rosetta benchmark"
        assert len([text for text in refused if "Content Security Policy" in text]) == 2


def test_a_reader_without_eyes_or_scripts_finds_every_figure(browser: Browser, folder: Path) -> None:
    with browser.new_context(offline=True, java_script_enabled=False) as context:
        shown = context.new_page()
        shown.goto((folder / "bench.html").as_uri())
        assert shown.locator("html").get_attribute("lang") == "en"
        headings = shown.locator("h1, h2, h3, h4").evaluate_all("hs => hs.map(h => h.tagName)")
        levels = [int(heading[1]) for heading in headings]
        assert levels[0] == 1
        assert all(later - earlier <= 1 for earlier, later in pairwise(levels))
        for name in CHARTS:
            figure = shown.locator("figure", has=shown.locator(f"#chart-{name}"))
            assert figure.locator("table td").count() > 0
        ids = shown.locator("[id]").evaluate_all("all => all.map(one => one.id)")
        assert len(ids) == len(set(ids))


def test_what_answers_is_open_and_the_rest_is_folded(opened: Open, folder: Path) -> None:
    shown = opened(folder / "bench.html")
    names = "all => all.map(one => one.id)"
    assert shown.locator("main > section").evaluate_all(names) == OPEN
    assert shown.locator("main > details").evaluate_all(names) == [*FOLDED, "data"]
    assert "3 warnings" in shown.locator("header").inner_text()
    together = shown.locator(".sentence", has_text="Go.")
    assert together.locator("dt").all_inner_texts() == [
        *("identical in keras:example, keras, paddle, torch: exact", "reference", "reference")
    ]
    assert together.locator(".known").inner_text() == "trained on"


def test_differences_of_sentences_are_marked(opened: Open, folder: Path) -> None:
    sentence = opened(folder / "bench.html").locator(".sentence", has_text="Look at the skirt!")
    assert sentence.locator(".known").inner_text() == "held out of training"
    assert sentence.locator("dt").all_inner_texts() == [
        *("torch: 2 edits", "paddle: 9 edits", "keras, keras:example: exact", "reference", "reference")
    ]
    assert sentence.locator("del").all_text_contents() == ["p", " ", "a", "la", "jupe"]
    assert sentence.locator("ins").all_inner_texts() == ["les", "chaises"]
    for tag, line in (("ins", "underline"), ("del", "line-through")):
        drawn = sentence.locator(tag).first.evaluate("one => getComputedStyle(one).textDecorationLine")
        assert drawn == line


@settings(derandomize=True, deadline=None)
@given(st.text("ab é!", max_size=12), st.lists(st.text("ab é!", min_size=1, max_size=12), min_size=1, max_size=3))
@example_of("Regardez la jue!", ["Regardez la jupe !", "Va !", LONG])
@example_of(LONG.replace("hier", "deux fois"), ["Va !", LONG])
@example_of(HOSTILE, [LONG])
def test_a_difference_gives_back_both_sentences(translation: str, references: list[str]) -> None:
    parts, note = difference(translation, references)
    assert "".join(text for kind, text in parts if kind != "missing") == translation
    if any(kind != "same" for kind, _ in parts):
        assert "".join(text for kind, text in parts if kind != "added") in references
    assert (note == "exact") == (translation in references)


def test_nothing_that_draws_is_imported_before_it_is_used() -> None:
    modules = ("content", "page", "markdown", "terminal", "sweep", "changes", "machine")
    program = f"import sys, {', '.join(f'benchmarks.report.{name}' for name in modules)}; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], cwd=PROJECT, capture_output=True, text=True, check=True)
    assert not {"altair", "jinja2", "markupsafe", "vl_convert", "rapidfuzz"} & set(done.stdout.split())


# Linear RGB as people see it who lack the one or the other kind of cones (Machado and others, 2009).
SIGHTS = {
    "all cones": np.eye(3),
    "deuteranopia": [[0.367, 0.861, -0.228], [0.280, 0.673, 0.047], [-0.012, 0.043, 0.969]],
    "protanopia": [[0.152, 1.053, -0.205], [0.115, 0.786, 0.099], [-0.004, -0.048, 1.052]],
}
FROM_RGB = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])


def lab(colour: str, sight: Any) -> np.ndarray:
    """A colour in CIELAB, in which a distance of 2 is just seen."""
    rgb = np.array([int(colour[i : i + 2], 16) for i in (1, 3, 5)]) / 255
    linear = np.where(rgb > 0.04045, ((rgb + 0.055) / 1.055) ** 2.4, rgb / 12.92)
    x, y, z = np.cbrt(FROM_RGB @ np.clip(np.asarray(sight) @ linear, 0, 1) / (0.9505, 1.0, 1.089))
    return np.array([116 * y - 16, 500 * (x - y), 200 * (y - z)])


@pytest.mark.parametrize("sight", SIGHTS)
def test_colours_of_backends_and_of_parts_are_told_apart(sight: str) -> None:
    fixed = [colour for colour in COLOURS.values() if colour != INK]

    def nearest(pairs: Any) -> float:
        return min(float(np.linalg.norm(lab(a, SIGHTS[sight]) - lab(b, SIGHTS[sight]))) for a, b in pairs)

    assert nearest(combinations(fixed, 2)) > 9
    assert nearest(combinations(TINTS, 2)) > 20
    assert not {*fixed, *OTHERS} & {*TINTS}
    assert nearest((tint, colour) for tint in TINTS for colour in fixed) > 12


def wild(row: Row) -> Row:
    """As after two generations on a busy machine."""
    if row.speed is None:
        return row
    step = row.speed.step
    return replace(row, speed=replace(row.speed, step=Estimate(step.value, step.value / 900, step.value * 700)))


def poorer() -> dict[str, Results]:
    """Comparisons of which parts are missing, or hardly known."""
    full, one = example(), plan_of(["torch"])
    busy = recording(one, generations=1, busy=[(1, place) for place in range(6)])
    return {
        "no rows": results_of(replace(recording(one, generations=0), lines=[])),
        "nothing measured": results_of(replace(busy, lines=busy.of_kind(Generation))),
        "one row": results_of(recording(one)),
        "wild intervals": replace(full, rows=[wild(row) for row in full.rows]),
        "none compared": replace(
            full, rows=[replace(row, why_not="parity is broken") for row in full.rows], pairs=[]
        ),
    }


SECTIONS = {
    "no rows": {"warnings", "measured", "data"},
    "nothing measured": {"warnings", "start", "settings", "measured", "data"},
    "one row": {"speed", "sentences", "decoding", "start", "parts", "peak", "parity", "settings", "measured", "data"},
}


@pytest.mark.parametrize("which", poorer())
def test_what_was_not_measured_is_not_there_and_what_is_wild_fits_the_page(
    opened: Open, tmp_path: Path, which: str
) -> None:
    report = content.report(poorer()[which])
    (tmp_path / "report.html").write_text(page.render(report, ""), encoding="utf-8")
    shown = opened(tmp_path / "report.html", width=390)
    shown.evaluate(UNFOLD)
    shown.wait_for_function(DRAWN, timeout=20_000)
    assert [(name, cut) for name, shapes, cut in shown.evaluate(MARKS) if cut or not shapes] == []
    wide, window = shown.evaluate(OVERFLOW)
    assert wide <= window
    assert not re.search(r"\bnan\b|\bNone\b|\binf\b", shown.locator("body").inner_text())
    names = {section.name for section in report.sections}
    assert names == SECTIONS.get(which, names)
    assert markdown.render(report).count("\n## ") == len(names)
    assert printed(content.summary(poorer()[which]))


def tables(blocks: Any) -> Iterator[Table]:
    for block in blocks:
        if isinstance(block, Table | Chart):
            yield block if isinstance(block, Table) else block.table
        elif isinstance(block, Details):
            yield from tables(block.blocks)


def test_markdown_has_every_cell_and_shows_hostile_text_and_keeps_its_tables() -> None:
    for report in (content.report(example()), sweep.report(scaling())):
        text = markdown.render(report)
        lines = [line for line in text.splitlines() if line.startswith("|")]
        shown = {cell.strip().removesuffix(" †") for line in lines for cell in line.strip("|").split("|")}
        found = [t for section in report.sections for t in tables(section.blocks)]
        assert {markdown.plain(cell) for table in found for row in table.rows for cell in row} <= shown
        assert set(re.findall(r"</?(\w+)", text)) <= {"ins", "del"}
        for table in re.findall(r"(?:^\|.*\n)+", text, flags=re.M):
            assert len({line.count("|") for line in table.splitlines()}) == 1, table


def test_the_figures_are_those_that_were_measured() -> None:
    text = markdown.render(content.report(example())).replace(SPACE, " ")
    assert text.startswith(
        "# torch trains 1.33 times as fast as paddle (1.33 to 1.34), 1.50 times as fast as keras ("
    )
    for expected in (
        "| torch | 0.600 (0.598 to 0.601) | 60.0 ms (59.8 to 60.1) | 1,070 | 1.67× (1.66 to 1.68) |",
        "| torch | — | 1.33× (1.33 to 1.34) | 1.50× (1.50 to 1.51) | 1.67× (1.66 to 1.68) |",
        "| paddle, as installed † | 1.20 (1.20 to 1.21) | 120 ms (120 to 121) | 533 |  |",
        "| paddle, as installed | paddle | 0.67× (0.66 to 0.67) |",
        "| torch, masked and bucketed | 0.301 (0.300 to 0.301) | 30.1 ms (30.0 to 30.1) | 2,130 | 1.99× (1.99 ",
        "| torch, as installed | — | 1.51× (1.50 to 1.52) |",
        "| keras | 451 µs (450 to 452) | 2,220 | 100 |",
        "| keras:example | 50.0 ms | 20.0 |",
        "| keras | 400 ms | 2.00 s | 100 ms | 1.00 s | 3.50 s | 90.2 ms |",
        "| torch | 300 MB | 310 MB | 700 MB |",
        "| torch | 68.0 % | 136 | 8.16 |",
        "| torch | 60.0 ms | 24.8 ms (41.4 %) | 12.4 ms (20.7 %) | 2.00 ms (3.3 %) | 13.0 ms (21.7 %) | 7.74 ms (",
    ):
        assert expected in text, expected


def printed(blocks: list[Block], width: int = 80) -> str:
    console = Console(file=StringIO(), width=width, color_system=None)
    terminal.show(blocks, console)
    text: str = console.file.getvalue()  # type: ignore[attr-defined]
    assert all(len(line.rstrip()) <= width for line in text.splitlines())
    assert all(line.isprintable() for line in text.split("\n"))
    return text


def test_a_terminal_of_80_columns_shows_the_answer_without_a_cut() -> None:
    text = printed(content.summary(example()))
    flat = " ".join(text.split())
    assert text.startswith("torch trains 1.33 times as fast as paddle")
    for expected in (
        "torch 0.600 1.67× (1.66 to 1.68) 3,330 66.7",
        "Warning: paddle, as installed is not compared: its parity is broken",
        "torch — 1.33× 1.50× 1.67× (1.33 to 1.34) (1.50 to 1.51) (1.66 to 1.68)",
        "• paddle's step is 20 ms longer than torch's: 8.3 ms more in its LSTM kernels",
        "Warning: The widest interval",
        "3 of 5 sentences are identical in keras:example, keras, paddle and torch",
        "Trained on: Go. → Va ! (= reference) I'm cold. → J'ai froid. (= reference)",
        "Held out of training: Look at the skirt!",
        "keras, keras:example → Regardez la jupe ! (exact)",
        "paddle → (nothing)",
    ):
        assert expected in flat, expected
    assert "…" not in text
    assert "[bold]" in text  # which is not the terminal's own


def test_a_narrow_table_gives_up_what_stands_in_brackets_and_says_so() -> None:
    results = example()
    (matrix,) = [b for b in content.summary(results) if isinstance(b, Table) and b.title]
    assert "(1.33 to 1.34)" in printed([matrix])
    narrow = printed([matrix], width=50)
    assert "1.33×" in narrow
    assert "(1.33" not in narrow
    assert "too narrow" in narrow


def test_a_sweep_changes_and_findings_in_a_terminal() -> None:
    text = " ".join(printed(sweep.summary(scaling())).split())
    assert text.startswith("At its best size torch uses 49.6 % of this machine's peak, paddle 45.1 %, keras 41.4 %.")
    assert "8 29.5 ms (33.1 %) 33.4 ms (29.2 %) 31.5 ms (31.0 %)" in text
    assert "At 64 torch, keras and paddle reached less than half of their best share." in text
    assert "200,000 720 MB (1.03×)" in text
    text = " ".join(printed(changes.blocks(comparison())).split())
    assert "Warning: torch was 2.12.0, is 2.13.0" in text
    assert "training step 61.5 ms 55.2 ms faster: 1.11×" in text
    findings = [
        Finding("load", True, "0.1", "wait"),
        Finding("governor", False, "powersave", "set it to performance"),
    ]
    text = printed(machine.blocks(findings))
    assert re.search(r"governor +NO +powersave +set it to performance", text)
    assert "wait" not in text


def test_how_soon_a_row_is_as_good_as_the_baseline_counts_trainings_that_never_are() -> None:
    results = example()
    baseline, *others = sorted(results.of_group("main"), key=lambda row: row.label != results.baseline)
    epoch = baseline.learning[0].epochs[0]

    def training(seed: int, *chrf: float) -> Training:
        return Training(seed, [replace(epoch, seconds=2.0, chrf=value) for value in chrf])

    learned = [
        replace(baseline, learning=[training(0, 30, 50)]),
        replace(others[0], learning=[training(0, 20, 50, 60), training(1, 55, 60), training(2, 10, 20)]),
        replace(others[1], learning=[training(0, 20, 49)]),
    ]
    *_, table = learning.blocks(replace(results, rows=learned))
    assert isinstance(table, Table)
    assert table.columns[-1] == "seconds until chrF 50.0"
    assert [row[-1] for row in table.rows] == ["4.00", "4.00 (1 of 3 never)", "never"]
