"""The report as a reader meets it: one file in a browser that has no network, and the same figures as Markdown."""

import re
import subprocess
import sys
from dataclasses import replace
from itertools import pairwise
from math import nan
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example as example_of
from hypothesis import given, settings
from hypothesis import strategies as st
from playwright.sync_api import Browser

from backends.process import PROJECT
from benchmarks.analysis import analyse
from benchmarks.intervals import Estimate
from benchmarks.plan import BASELINE
from benchmarks.report import cells
from benchmarks.report.content import SECTIONS
from benchmarks.report.differences import difference
from benchmarks.report.render import markdown, render_html, render_markdown
from benchmarks.results import Results, Row
from benchmarks.tables import comparison_table
from benchmarks.wording import AXES, SPACE
from tests.conftest import DRAWN, OVERFLOW, Open
from tests.recordings import recording
from tests.results_example import HOSTILE, HOSTILE_KERNEL, LONG, RAW, example

CHARTS = ["speed", "bucketed", "reduced", "start", "break_even", "decoding", "latency", "roofline", "parts", "memory"]
CHARTS += AXES
CHARTS += ["loss", "chrf"]
# Of each chart: how many shapes have an area on the page, and whether all of its text lies inside the chart.
MARKS = """
[...document.querySelectorAll('.chart')].map(chart => {
  const box = chart.getBoundingClientRect();
  const shapes = [...chart.querySelectorAll('[class*=mark-rect], [class*=mark-line], [class*=mark-symbol]')]
    .flatMap(group => [...group.querySelectorAll('path')])
    .filter(path => path.getBoundingClientRect().width > 1 || path.getBoundingClientRect().height > 1);
  const cut = [...chart.querySelectorAll('text')].map(text => [text.textContent, text.getBoundingClientRect()])
    .filter(([_, at]) => at.width && (at.left < box.left - 1 || at.right > box.right + 1))
    .map(([words]) => words);
  return [chart.id.replace('chart-', ''), shapes.length, cut];
})
"""


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("report") / "report.html"
    path.write_text(render_html(example(), RAW), encoding="utf-8")
    return path


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [390, 1400])
def test_every_chart_is_drawn_offline_and_nothing_is_wider_than_the_page(
    opened: Open, report: Path, width: int, scheme: str
) -> None:
    page = opened(report, width=width, scheme=scheme)
    found = page.evaluate(MARKS)
    assert [name for name, _, _ in found] == CHARTS
    assert all(shapes >= 4 for _, shapes, _ in found), found
    assert [cut for _, _, cut in found] == [[]] * len(CHARTS)
    content, window = page.evaluate(OVERFLOW)
    assert content <= window


def test_a_chart_follows_the_pages_width(opened: Open, report: Path) -> None:
    page = opened(report)
    wide = page.locator("#chart-speed svg").bounding_box()
    page.set_viewport_size({"width": 390, "height": 844})
    page.wait_for_function("document.querySelector('#chart-speed svg').getBoundingClientRect().width < 390")
    assert wide is not None
    assert wide["width"] > 900
    content, window = page.evaluate(OVERFLOW)
    assert content <= window


def test_dark_is_dark_in_charts_too_and_paper_is_white(opened: Open, report: Path) -> None:
    page = opened(report, scheme="light")

    def seen() -> tuple[str, str]:
        background = page.evaluate("getComputedStyle(document.body).backgroundColor")
        return background, page.evaluate("getComputedStyle(document.querySelector('#chart-speed text')).fill")

    light = seen()
    page.emulate_media(color_scheme="dark")
    dark = seen()
    assert _brightness(light[0]) > 240
    assert _brightness(dark[0]) < 40
    assert _brightness(light[1]) < 60
    assert _brightness(dark[1]) > 200
    page.emulate_media(media="print", color_scheme="dark")
    assert seen() == ("rgb(255, 255, 255)", "rgb(0, 0, 0)")


def _brightness(colour: str) -> float:
    return sum(map(int, re.findall(r"\d+", colour)[:3])) / 3


def test_the_recording_is_downloaded_bit_for_bit(opened: Open, report: Path, tmp_path: Path) -> None:
    page = opened(report)
    with page.expect_download() as download:
        page.click("#download")
    assert download.value.suggested_filename == "recording.jsonl"
    download.value.save_as(tmp_path / "again")
    assert (tmp_path / "again").read_bytes() == RAW.encode()


def test_hostile_text_is_shown_and_never_runs(opened: Open, tmp_path: Path) -> None:
    results = example()
    first = replace(results.rows[0], label=f"torch, {HOSTILE}", why_not=HOSTILE, version=HOSTILE)
    results = replace(
        results, rows=[first, *results.rows[1:]], headline=HOSTILE, warnings=[HOSTILE], chrf_signature=HOSTILE
    )
    (tmp_path / "report.html").write_text(render_html(results, HOSTILE + RAW), encoding="utf-8")
    page = opened(tmp_path / "report.html")
    assert page.locator("h1").inner_text() == HOSTILE
    assert page.get_by_role("heading", name=f"Is it {HOSTILE}?").count() == 1
    assert page.locator("img").count() == 0
    assert HOSTILE_KERNEL in page.locator("#evidence").text_content(timeout=1000)
    page.locator("#chart-speed .mark-rect path").first.hover()
    page.wait_for_selector("#vg-tooltip-element.visible")
    assert HOSTILE in page.locator("#vg-tooltip-element").inner_text()
    assert page.locator("#vg-tooltip-element img").count() == 0


def test_a_script_that_is_not_the_reports_own_is_refused(browser: Browser, tmp_path: Path) -> None:
    """Were something not escaped after all, the page's policy would still stop it."""
    html = render_html(example(), RAW)
    html = html.replace("<main>", "<main><script>document.title = 'ran'</script><img src='http://x.invalid/'>")
    (tmp_path / "report.html").write_text(html, encoding="utf-8")
    with browser.new_context(offline=True) as context:
        page = context.new_page()
        refused: list[str] = []
        page.on("console", lambda message: refused.append(message.text))
        page.goto((tmp_path / "report.html").as_uri())
        page.wait_for_function(DRAWN)
        assert page.title() != "ran"
        assert len([text for text in refused if "Content Security Policy" in text]) == 2


def test_a_reader_without_eyes_or_scripts_finds_every_figure(browser: Browser, report: Path) -> None:
    with browser.new_context(offline=True, java_script_enabled=False) as context:
        page = context.new_page()
        page.goto(report.as_uri())
        assert page.locator("html").get_attribute("lang") == "en"
        levels = [
            int(heading[1]) for heading in page.locator("h1, h2, h3, h4").evaluate_all("hs => hs.map(h => h.tagName)")
        ]
        assert levels[0] == 1
        assert all(later - earlier <= 1 for earlier, later in pairwise(levels))
        for name in CHARTS:
            figure = page.locator("figure", has=page.locator(f"#chart-{name}"))
            assert figure.locator("table td").count() > 1
        ids = page.locator("[id]").evaluate_all("all => all.map(one => one.id)")
        assert len(ids) == len(set(ids))


def test_sections_are_there_and_differences_are_marked(opened: Open, report: Path) -> None:
    page = opened(report)
    assert page.locator("section").evaluate_all("all => all.map(one => one.id)") == [name for name, _, _ in SECTIONS]
    assert "2 warnings" in page.locator("header").inner_text()
    sentence = page.locator(".sentence", has_text="Look at the skirt!")
    assert sentence.locator("dt").all_inner_texts() == [
        *("reference", "reference", "keras:example, keras · exact", "torch · 2 edits", "paddle · 9 edits")
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
    program = "import sys, benchmarks.report.charts, benchmarks.report.render; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], cwd=PROJECT, capture_output=True, text=True, check=True)
    assert not {"altair", "jinja2", "markupsafe", "vl_convert", "rapidfuzz"} & set(done.stdout.split())


def bare(row: Row) -> Row:
    """A row of which nothing is known but its name."""
    return replace(
        row,
        **dict.fromkeys(("step", "ratio", "default_cost", "control", "floor", "evaluate", "decode_character")),
        **dict.fromkeys(
            (
                "decode_ratio",
                "longest_character",
                "longest_ratio",
                "roofline",
                "certificate",
                "decode_sentences_per_second",
            )
        ),
        **{name: {} for name in ("start", "latency", "memory", "settings", "os_threads", "time_parts", "facts")},
        **{name: [] for name in ("kernels", "gates", "quality", "epochs")},
        train_seconds_per_epoch=nan,
        train_samples_per_second=nan,
    )


def wild(row: Row) -> Row:
    """As after two rounds on a busy machine."""
    estimates = {name: getattr(row, name) for name in ("step", "decode_character")}
    return replace(
        row,
        **{name: Estimate(e.value, e.value / 900, e.value * 700) for name, e in estimates.items() if e is not None},
    )


def without(results: Results, **changes: Any) -> Results:
    return replace(results, pairs=[], overtakings=[], **changes)


def poorer() -> dict[str, Results]:
    """Comparisons of which parts are missing, or hardly known."""
    full = example()
    matched = [row for row in full.rows if row.lane == "matched"]
    no_ratio = [replace(row, ratio=None, decode_ratio=None, longest_ratio=None) for row in matched]
    nothing = {"decoded": [], "bucketed": [], "reduced": [], "peak": None, "target_chrf": None, "scaling": None}
    return {
        "no rows": without(full, rows=[], warnings=[], **nothing),
        "a sweep alone": without(full, rows=[], warnings=[], **nothing | {"scaling": full.scaling}),
        "nothing measured": without(full, rows=[bare(row) for row in full.rows], **nothing),
        "one backend": without(full, rows=matched[:1]),
        "no baseline": replace(full, rows=[row for row in no_ratio if row.name != "keras:example"]),
        "none ranked": without(
            full, rows=[replace(row, ranked=False, why_not="parity is broken") for row in full.rows]
        ),
        "wild intervals": replace(full, rows=[wild(row) for row in full.rows]),
        "no quality": replace(full, rows=[replace(row, quality=[], epochs=[]) for row in full.rows], decoded=[]),
    }


@pytest.mark.parametrize("which", poorer())
def test_what_was_not_measured_is_said_and_what_is_wild_fits_the_page(
    opened: Open, tmp_path: Path, which: str
) -> None:
    results = poorer()[which]
    (tmp_path / "report.html").write_text(render_html(results, ""), encoding="utf-8")
    page = opened(tmp_path / "report.html", width=390, height=844)
    assert page.locator("section").count() == len(SECTIONS)
    assert [(name, cut) for name, shapes, cut in page.evaluate(MARKS) if cut or not shapes] == []
    content, window = page.evaluate(OVERFLOW)
    assert content <= window
    text = page.locator("body").inner_text()
    assert not re.search(r"\bnan\b|\bNone\b|\binf\b", text)
    if which in ("no rows", "nothing measured"):
        assert page.locator(".chart").count() == 0
        for section in ("start", "memory", "quality", "sentences", "parity"):
            assert "Not measured" in page.locator(f"#{section}").inner_text()
    assert render_markdown(results).count("\n## ") == len(SECTIONS)


def test_markdown_has_the_same_figures(opened: Open, report: Path) -> None:
    page = opened(report)
    text = render_markdown(example())
    page.evaluate("document.querySelectorAll('details').forEach(one => { one.open = true; })")
    cells = page.locator("table td, tbody th").evaluate_all("all => all.map(one => one.textContent)")
    lines = [line for line in text.splitlines() if line.startswith("|")]
    assert len(cells) > 500
    assert {markdown(cell) for cell in cells} <= {
        cell.strip().removesuffix(" †") for line in lines for cell in line.strip("|").split("|")
    }


def test_the_figures_are_those_that_were_recorded(tmp_path: Path) -> None:
    """A step of 60 ms, ten of them an epoch, of 64 pairs each, and a character in half a thousandth; the baseline's
    step takes 100 ms."""
    results = analyse(recording(tmp_path / "a.jsonl", noise=0.0))
    lines = render_markdown(results).replace(SPACE, " ").splitlines()
    for expected in (
        "| torch | 0.600 (0.600 to 0.600) | 60.0 ms (60.0 to 60.0) | 1,070 | 1.67× (1.67 to 1.67) |  |",
        "| torch | 0.600 (0.600 to 0.600) | 1.67× (1.67 to 1.67) | 1.67× as fast | 1.41 ms | 2 | 1.0 |",
        "| torch | paddle | 1.33× (1.33 to 1.33) | 1.33× as fast |",
        "| torch | 1.00× (1.00 to 1.00) | 0.0 % |",
        "| torch | 0.308 (0.308 to 0.308) | 2,080 | 3.25× (3.25 to 3.25) | 3.25× as fast | 1.95× (1.95 to 1.95) |",
        "| torch | 400 ms | 2.00 s | 100 ms | 1.00 s | 3.50 s | 60.0 ms (60.0 to 60.0) |",
        "| torch | 30.0 µs (30.0 to 30.0) | 167× (167 to 167) | 167× as fast | 100 | 1,670 |",
        "| torch | 68.0 % | 136 | 8.16 |",
        "| torch | 60.0 ms | 30.0 ms (50.0 %) | 15.0 ms (25.0 %) | 120 µs (0.2 %) | 14.9 ms (24.8 %) |",
        "| torch | 300 MB | 310 MB | 700 MB | 400 MB |",
        "| torch | 3 | 1.0000 | 1.1000 | 30.0 | 10.0 % | 50.0 % | 60.0 % | 6.00 | 1.00× |",
        "| torch | passed | 1.0e-7 ≤ 1.0e-6 |",
    ):
        assert expected in lines
    shown = [next(iter(column.cells)) for column in comparison_table(results).columns]
    assert shown == ["torch\n1.0", "2", "0.60", "1,067", "1.67x\n1.67-1.67", "1.100", "30.0", "1,666.7", "1.67x"]


def test_markdown_shows_hostile_text_and_keeps_its_tables() -> None:
    text = render_markdown(example())
    assert "<img" not in text
    assert "<svg" not in text
    assert set(re.findall(r"</?(\w+)", text)) == {"ins", "del", "details", "summary"}
    tables = re.findall(r"(?:^\|.*\n)+", text, flags=re.M)
    assert len(tables) > 20
    for table in tables:
        assert len({line.count("|") for line in table.splitlines()}) == 1, table


def test_the_example_under_another_interpreter_has_the_ratio_that_was_measured() -> None:
    results = example()
    baseline = next(row for row in results.rows if row.name == BASELINE)
    measured = next(row.ratio for row in results.rows if row.ratio)
    assert (cells.ratio(None, baseline), cells.verdict(None, baseline)) == ("1", "baseline")
    assert cells.ratio(measured, baseline) == cells.ratio(measured) != "1"
    assert cells.verdict(measured, baseline) == cells.verdict(measured) != "baseline"


def test_nobody_stays_ahead_who_is_overtaken_beyond_the_chart() -> None:
    results = example()
    late = [replace(overtaking, steps=1e6) for overtaking in results.overtakings]
    assert late
    assert "stays ahead" not in render_markdown(replace(results, overtakings=late))
    assert "stays ahead" in render_markdown(replace(results, overtakings=[]))
