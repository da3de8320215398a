"""The page of a benchmark as a reader meets it: in a browser without a network, on GitHub and in a terminal."""

import re
from collections.abc import Iterator
from dataclasses import replace
from io import StringIO
from pathlib import Path

import pytest
from markdown_it import MarkdownIt
from markdown_it.token import Token
from rich.console import Console

from backends import TABLE, colour_of
from backends.process.parent import PROJECT
from benchmarks.measure.recording import Certified
from benchmarks.measure.statistics import Estimate
from benchmarks.report import page, render
from benchmarks.report.charts import Bar, Point, bars, lines
from benchmarks.report.render import Report
from tests.conftest import FRAMEWORKS, OVERFLOW, Open
from tests.support.recordings import committed, hostile, recording

UNFOLD = "document.querySelectorAll('details').forEach(one => { one.open = true; })"
# Texts of charts that reach beyond their drawing.
CUT = """
[...document.querySelectorAll('.chart svg')].flatMap(svg => [...svg.querySelectorAll('text')].filter(text => {
  const [inner, outer] = [text, svg].map(one => one.getBoundingClientRect());
  return inner.left < outer.left - 1 || inner.right > outer.right + 1;
}).map(text => text.textContent))
"""


@pytest.fixture(scope="module")
def report() -> Report:
    return page.report_of(committed("intel"))


@pytest.fixture(scope="module")
def html(report: Report) -> str:
    return render.html(report.page, report.charts)


def printed(markdown: str) -> str:
    console = Console(file=StringIO(), width=80, color_system=None)
    render.terminal(markdown, console)
    text: str = console.file.getvalue()  # type: ignore[attr-defined]
    assert all(len(line) <= 80 for line in text.splitlines())
    return text


def tokens(markdown: str) -> Iterator[Token]:
    """The tokens of a page for which HTML is allowed, as it is on GitHub."""
    for token in MarkdownIt("commonmark", {"html": True}).enable(["table", "strikethrough"]).parse(markdown):
        yield from token.children or [token]


def test_what_was_not_measured_has_no_section_and_is_named() -> None:
    empty = page.report_of(replace(committed("intel"), lines=[])).page
    assert re.findall("^## (.*)", empty, re.MULTILINE) == [
        "How it was measured",
        "Data, machine, and how to measure the same again",
    ]
    missing = "the ten sentences in every backend, decoding speed, rows as installed and why one is slower"
    assert f"There was no time for {missing}; give a larger `--budget`." in empty
    assert not re.search(r"\bnan\b|\bNone\b|\binf\b", empty)
    bench = recording()
    trained = page.report_of(replace(bench, lines=[*bench.of_kind(Certified), *bench.rounds()])).summary
    assert page.BATCHED not in trained, "no column is explained that is not there"


@pytest.mark.parametrize("width", [390, 1400])
def test_nothing_is_wider_than_the_page(opened: Open, html: str, tmp_path: Path, width: int) -> None:
    (tmp_path / "page.html").write_text(html, encoding="utf-8")
    shown = opened(tmp_path / "page.html", width=width)
    assert not shown.locator("details table").first.is_visible()
    tops = shown.locator("main > p .chart").evaluate_all("all => all.map(one => one.getBoundingClientRect().top)")
    assert len(tops) == 3
    assert len({round(top) for top in tops}) == (1 if width > 1000 else 3)
    shown.evaluate(UNFOLD)
    wide, window = shown.evaluate(OVERFLOW)
    assert wide <= window
    assert shown.evaluate(CUT) == []


def test_the_page_runs_and_loads_nothing_of_a_stranger(tmp_path: Path) -> None:
    report = page.report_of(hostile(tmp_path / "hostile.jsonl"))
    parsed = [*tokens(render.markdown(report.page))]
    for token in parsed:
        assert token.type not in ("html_block", "html_inline", "link_open", "image")
        if token.type == "text":
            assert not re.search(r"@|www|http|#\d|<", token.content), token.content
    assert sum(token.type == "hr" for token in parsed) == 1
    html = render.html(report.page, report.charts)
    tags = re.findall(r"<(\w+)([^>]*)>", html.partition("</style>")[2])
    assert not {name for name, _ in tags} & {"script", "img", "link", "iframe", "a"}
    assert not [attributes for _, attributes in tags if re.search(r"[\s\"'](on\w+|src|href|id)\s*=", attributes)]
    assert len(html.encode()) < 300_000
    assert "onerror=alert" in html
    for shown in (html, printed(report.page), printed(report.summary)):
        assert not re.search("[\x1b\u202e\u2028]", shown)


def test_80_columns_show_the_answer_and_the_sentences(report: Report) -> None:
    text = printed(report.summary)
    assert text.startswith("PyTorch trains 1.4 times as fast as Paddle")
    assert re.search(r"Paddle +7\.81 s \(7\.71 to 7\.91\) +1\.29× \(1\.27 to 1\.32\) +to \de-\d\d", text)
    assert re.search(r"Paddle +19\.8\sµs ±\s7\.\d\s% +8,087 +214\sµs ±\s9\s% +36", text), "with equal work"
    assert "Le gâteau est très mauvais." in text


def test_machines_stand_side_by_side_and_none_is_called_faster() -> None:
    recording = committed("intel")
    text = page.machines([("one", recording), ("another_one", recording)]).page
    assert "- **one**, Intel(R) Xeon(R) Processor, 2 cores: PyTorch trains" in text
    assert "| an epoch | one | `another_one` |" in text
    assert "| paddle | 7.81 s, 1.29× (1.27 to 1.32) | 7.81 s, 1.29×" in text.replace("\N{NO-BREAK SPACE}", " ")


def test_each_framework_has_one_colour_everywhere() -> None:
    colours = [TABLE[name].colour for name in ("numpy", *FRAMEWORKS)]
    assert len({*colours, colour_of("a stranger's"), ""}) == len(colours) + 2
    tutorial = (PROJECT / "docs" / "tutorial" / "index.html").read_text("utf-8")
    for name in FRAMEWORKS:
        assert {*re.findall(rf"--{name}: (#\w+)", tutorial)} == {TABLE[name].colour} == {colour_of(f"{name}:any")}


def test_an_interval_that_says_nothing_is_not_shown() -> None:
    for interval, of_time, of_ratio in [
        (Estimate(0.5, 0.3, 0.9), "500\N{NO-BREAK SPACE}ms (300 to 900)", "0.50× (0.30 to 0.90)"),
        (Estimate(0.5, 1e-7, 1e6), "500\N{NO-BREAK SPACE}ms (not known well)", "0.50× (not known well)"),
    ]:
        assert (render.interval(interval), render.ratio(interval)) == (of_time, of_ratio)


def test_charts_draw_what_is_wild_or_missing() -> None:
    drawn = bars([Bar("a" * 99, "torch", Estimate(1.0, 1e-3, 1e3)), Bar("<b>", "x", None)])
    assert f'<rect y="24" width="226.7" height="12" fill="{colour_of("torch")}"/>' in drawn, (
        "the interval takes a third"
    )
    assert '<path d="M0.2 30H340.0"' in drawn
    assert f">{'a' * 35}…<" in drawn
    assert "&lt;b&gt;" in drawn
    assert drawn.count("<rect") == 1


def test_times_far_apart_have_a_logarithmic_scale() -> None:
    """120 µs can be seen beside 57 ms, and an axis names the powers of ten."""
    drawn = bars(
        [Bar("a", "torch", Estimate(120e-6, 110e-6, 130e-6)), Bar("b", "keras", Estimate(57e-3, 57e-3, 57e-3))]
    )
    widths = [float(width) for width in re.findall(r'<rect y="\d+" width="([\d.]+)"', drawn)]
    assert widths == pytest.approx([9.0, 312.2], abs=0.5)
    assert [tick.replace("\N{NO-BREAK SPACE}", " ") for tick in re.findall(r'font-size="11">([^<]+)<', drawn)] == [
        "100 µs",
        "1 ms",
        "10 ms",
    ]
    titles = page.report_of(committed("intel")).charts
    assert [title.partition(", ")[2] for title in titles] == ["", "", "logarithmic scale"]


def test_a_curve_has_a_point_and_an_interval_for_each_size() -> None:
    points = [Point(size, Estimate(size / 1e3, size / 2e3, size / 5e2)) for size in (64, 128)]
    drawn = lines({"<b>": points}, (0.03, 0.3))
    assert (drawn.count("<circle"), drawn.count("&lt;b&gt;"), drawn.count('stroke="var(--paper)"')) == (2, 1, 2)
    assert ">64</text>" in drawn
