"""The page of a benchmark as a reader meets it: in a browser without a network,
on GitHub and in a terminal."""

import re
from collections.abc import Iterator
from dataclasses import replace
from io import StringIO
from pathlib import Path

import msgspec
import pytest
from markdown_it import MarkdownIt
from markdown_it.token import Token
from rich.console import Console

from backends import TABLE, colour_of
from backends.process.parent import PROJECT
from benchmarks.measure.statistics import Estimate
from benchmarks.report import page, render
from benchmarks.report.charts import Bar, Point, bars, lines
from benchmarks.report.render import Report
from benchmarks.schema import Certified
from common.text import printable
from tests.conftest import FRAMEWORKS, IN_TUTORIAL, OVERFLOW, Open
from tests.support.measurements import committed, hostile, measurement, plan_of, slowed

UNFOLD = "document.querySelectorAll('details').forEach(one => { one.open = true; })"
# Texts of charts that reach beyond their drawing.
CUT = """
[...document.querySelectorAll('.chart svg')].flatMap(svg =>
  [...svg.querySelectorAll('text')].filter(text => {
    const [inner, outer] = [text, svg].map(one => one.getBoundingClientRect());
    return inner.left < outer.left - 1 || inner.right > outer.right + 1;
  }).map(text => text.textContent))
"""


@pytest.fixture(scope="module")
def report() -> Report:
    return page.report_of_bench(committed("demo-1"))


@pytest.fixture(scope="module")
def html(report: Report) -> str:
    return render.html(report.page, report.charts)


def printed(markdown: str) -> str:
    console = Console(file=StringIO(), width=80, color_system=None)
    render.terminal(markdown, console)
    text: str = console.file.getvalue()  # type: ignore[attr-defined]
    copied = {
        printable(line) for block in markdown.split("```")[1::2] for line in block.split("\n")
    }
    assert all(len(line) <= 80 or line in copied for line in text.splitlines())
    return text


def tokens(markdown: str) -> Iterator[Token]:
    """The tokens of a page for which HTML is allowed, as it is on GitHub."""
    for token in (
        MarkdownIt("commonmark", {"html": True}).enable(["table", "strikethrough"]).parse(markdown)
    ):
        yield from token.children or [token]


def test_what_was_not_measured_has_no_section_and_is_named() -> None:
    empty = page.report_of_bench(replace(committed("demo-1"), lines=[])).page
    assert re.findall("^## (.*)", empty, re.MULTILINE) == [
        "How it was measured",
        "Data, machine, and how to measure the same again",
    ]
    missing = "the ten sentences in every backend, decoding speed and why one is slower"
    assert f"There was no time for {missing}; give a larger `--budget`." in empty
    assert not re.search(r"\bnan\b|\bNone\b|\binf\b|as a multiple of", empty)
    bench = measurement()
    trained = page.report_of_bench(
        replace(bench, lines=[*bench.of_kind(Certified), *bench.rounds()])
    ).summary
    assert page.BATCHED not in trained, "no column is explained that is not there"


@pytest.mark.parametrize("width", [390, 1400])
def test_nothing_is_wider_than_the_page(
    opened: Open, html: str, tmp_path: Path, width: int
) -> None:
    (tmp_path / "page.html").write_text(html, encoding="utf-8")
    shown = opened(tmp_path / "page.html", width=width)
    assert not shown.locator("details table").first.is_visible()
    cut = shown.locator("main > .scroll").first.evaluate("one => one.scrollWidth > one.clientWidth")
    cue = shown.locator("main > .scroll").first.evaluate(
        "one => getComputedStyle(one).backgroundImage"
    )
    assert (cut, "gradient" in cue) == (width < 1000, True), "a shadow tells that a table goes on"
    assert shown.locator("main > p .chart").count() == 1
    shown.evaluate(UNFOLD)
    wide, window = shown.evaluate(OVERFLOW)
    assert wide <= window
    assert shown.evaluate(CUT) == []


def test_the_page_runs_and_loads_nothing_of_a_stranger(tmp_path: Path) -> None:
    report = page.report_of_bench(hostile(tmp_path / "hostile.jsonl"))
    parsed = [*tokens(render.markdown(report.page))]
    for token in parsed:
        assert token.type not in ("html_block", "html_inline", "link_open", "image")
        if token.type == "text":
            assert not re.search(r"@|www|http|#\d|<", token.content), token.content
    assert sum(token.type == "hr" for token in parsed) == 1
    html = render.html(report.page, report.charts)
    tags = re.findall(r"<(\w+)([^>]*)>", html.partition("</style>")[2])
    assert not {name for name, _ in tags} & {"script", "img", "link", "iframe", "a"}
    assert not [
        attributes
        for _, attributes in tags
        if re.search(r"[\s\"'](on\w+|src|href|id)\s*=", attributes)
    ]
    assert len(html.encode()) < 300_000
    assert "onerror=alert" in html
    for shown in (html, printed(report.page), printed(report.summary)):
        assert not re.search("[\x1b\u202e\u2028]", shown)


def test_80_columns_show_both_lanes_and_the_sentences() -> None:
    bench = slowed(measurement(plan_of(["torch", "keras"])), 2.0, "torch, as installed")
    text = printed(page.report_of_bench(bench).summary).replace("\N{NO-BREAK SPACE}", " ")
    prose = " ".join(text.split())
    assert prose.startswith(
        "As installed, Keras trains 1.3 times as fast as PyTorch. Tuned, PyTorch trains 1.5 times"
    )
    assert "Settings make PyTorch 2.0 times as fast." in prose
    of_torch = r"PyTorch +1\.20 s +1\.34× ±\S+ % +603 ms +0\.67× ±\S+ % +1\.99× ±\S+ %"
    assert re.search(of_torch, text), "the time, and its multiple of the fastest one as installed"
    assert re.search(r"Keras +897 ms +1× +897 ms +1× +–", text)
    assert "# PyTorch\nexport GLIBC_TUNABLES=glibc.malloc.arena_max=1\n" in text
    assert "C'est rouge." in text


def test_machines_stand_side_by_side_and_none_is_called_faster() -> None:
    bench = committed("fra-eng")
    text = page.report_of_several([("one", bench), ("another_one", bench)]).page
    assert (
        f"- **one**, {bench.head.machine['processor']} with AVX-512, 2 cores: As installed, "
        in text
    )
    assert "| an epoch | one | `another_one` |" in text
    assert re.search(
        r"^\| paddle, as installed \| (\S+ s) \| \1 \|$",
        text.replace("\N{NO-BREAK SPACE}", " "),
        re.MULTILINE,
    )


def test_two_models_stand_side_by_side_and_are_called_models() -> None:
    plan = plan_of(["torch", "keras"])
    assert plan.training
    training = msgspec.structs.replace(plan.training, model="transformer")
    other = measurement(msgspec.structs.replace(plan, training=training))
    text = page.report_of_several([("one", measurement(plan)), ("other", other)]).page
    assert text.startswith("# 2 measurements of different models side by side\n")
    assert "Transformer encoder-decoder. As installed and tuned, PyTorch" in text
    assert text.endswith("Times of different models are not compared.\n")


def test_each_framework_has_one_colour_everywhere() -> None:
    colours = [TABLE[name].colour for name in ("numpy", *FRAMEWORKS)]
    assert len({*colours, colour_of("a stranger's"), ""}) == len(colours) + 2
    tutorial = (PROJECT / "docs" / "tutorial" / "index.html").read_text("utf-8")
    for name in IN_TUTORIAL:
        assert (
            {*re.findall(rf"--{name}: (#\w+)", tutorial)}
            == {TABLE[name].colour}
            == {colour_of(f"{name}:any")}
        )


def test_an_interval_that_says_nothing_is_not_shown() -> None:
    for interval, of_ratio, around in [
        (Estimate(0.5, 0.3, 0.9), "0.50× (0.30 to 0.90)", "0.50× ±80 %"),
        (Estimate(0.5, 1e-7, 1e6), "0.50× (not known well)", "0.50× (not known well)"),
    ]:
        assert (
            render.ratio(interval),
            render.around(interval).replace("\N{NO-BREAK SPACE}", " "),
        ) == (
            of_ratio,
            around,
        )


def test_bars_have_a_shade_a_lane_and_whole_intervals() -> None:
    known, wide, wild = Estimate(1.0, 0.9, 1.1), Estimate(1.0, 0.6, 1.9), Estimate(1.0, 1e-3, 1e3)
    drawn = bars([Bar("a" * 99, "torch", [wide, known]), Bar("<b>", "x", [wild, None])])
    of_torch = re.findall(
        r'<rect y="(\d+)" width="([\d.]+)" height="12" '
        rf'fill="{colour_of("torch")}"(.*?)/>',
        drawn,
    )
    assert of_torch == [("22", "178.9", ' fill-opacity="0.45"'), ("36", "178.9", "")]
    assert '<path d="M107.4 28H340.0"' in drawn, "the longest interval ends at the edge"
    assert '<path d="M178.9 84H178.9"' in drawn, "one that says nothing has no length"
    assert re.search(">a{20,}…<", drawn)
    assert "&lt;b&gt;" in drawn
    assert drawn.count("<rect") == 3


def test_no_bar_stands_on_a_logarithmic_axis() -> None:
    """120 µs can be seen beside 57 ms as points with intervals,
    and an axis names the powers of ten."""
    times = {"torch": Estimate(120e-6, 110e-6, 130e-6), "keras": Estimate(57e-3, 50e-3, 65e-3)}
    drawn = bars([Bar(name, name, [time]) for name, time in times.items()])
    assert "<rect" not in drawn
    places = [float(place) for place in re.findall(r'<circle cx="([\d.]+)"', drawn)]
    assert places == pytest.approx([9.0, 312.2], abs=0.5)
    ends = [
        float(end) for line in re.findall(r'd="M([\d.]+) \d+H([\d.]+)"', drawn)[::2] for end in line
    ]
    assert ends == pytest.approx([4.7, 12.9, 305.8, 318.7], abs=0.5)
    assert [
        tick.replace("\N{NO-BREAK SPACE}", " ")
        for tick in re.findall(r'font-size="11">([^<]+)<', drawn)
    ] == [
        "100 µs",
        "1 ms",
        "10 ms",
    ]
    assert all(
        re.search("; (shorter is better|the further left, the better; logarithmic)$", title)
        for title in page.report_of_bench(committed("demo-1")).charts
    )


def test_a_curve_has_a_point_and_an_interval_for_each_size() -> None:
    points = [Point(size, Estimate(size / 1e3, size / 2e3, size / 5e2)) for size in (64, 128)]
    drawn = lines({"<b>": points}, (0.03, 0.3))
    assert (
        drawn.count("<circle"),
        drawn.count("&lt;b&gt;"),
        drawn.count('stroke="var(--paper)"'),
    ) == (2, 1, 2)
    assert ">64</text>" in drawn
