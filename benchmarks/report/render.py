"""Pages that are written in Markdown, for a browser, for GitHub and for a terminal; and their charts.

Charts are SVG, drawn for a column of 340 pixels: a telephone shows one such column, a wide page three. Text and lines
have the page's colours, by `currentColor` and `var(--paper)`, so that one drawing serves light, dark and print. Each
bar has its name and its figure above it, so it needs no axis.
"""

import re
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any, NamedTuple

from rich.console import Console

from backends import BASELINE
from benchmarks.measure.statistics import Estimate
from benchmarks.report.words import quantity, template
from common.text import for_terminal, printable

IMAGES = re.compile(r"^!\[.*\n\n?", re.MULTILINE)  # a line of charts, and the empty line after it
# The line near the beginning of each page which shows that the page may be replaced by a newer one.
MARK_OF_HTML = '<meta name="generator" content="rosetta report">'
MARK_OF_MARKDOWN = "[//]: # (made by rosetta report)"

# Okabe and Ito's colours, which can be told apart with every common colour blindness.
COLOURS = {
    "torch": "#0072b2",
    "paddle": "#009e73",
    "keras": "#d55e00",
    "numpy": "#cc79a7",
    BASELINE: "#7b818c",
}
OTHER = "#56b4e9"  # of a backend that this version does not know
WIDTH, HEIGHT = 340, 42  # pixels of a chart's width, and of a bar with its name
LONGEST_NAME = 36  # characters of a bar's name, of which so many fit beside its figure
WIDEST = 1.5  # an interval is cut at this multiple of the longest bar


class Report(NamedTuple):
    """What is told of a recording, or of several."""

    page: str  # in Markdown; each image stands for the chart of its title
    summary: str  # the part of it that a terminal shows
    content: dict[str, Any]  # what --json prints
    charts: dict[str, str]  # the page's charts as SVG, by their titles


class Bar(NamedTuple):
    """A bar of a chart."""

    name: str
    backend: str  # which gives the colour
    time: Estimate | None  # None where it was not measured, which leaves the bar's place empty


def html(markdown: str, charts: Mapping[str, str]) -> str:
    """The page as one HTML file that loads nothing and runs nothing, with these charts, as SVG by title.

    Below the first line `---` each section with a heading of the second level is folded.
    """
    from markdown_it import MarkdownIt

    parser = MarkdownIt("js-default")  # which shows HTML as text

    def image(tokens: Sequence[Any], place: int, options: Any, environment: Any) -> str:
        title = escape(tokens[place].content)
        drawing = charts.get(tokens[place].content, "")
        return f'<span class="chart" role="img" aria-label="{title}"><b>{title}</b>{drawing}</span>'

    # A table that is wider than the page is scrolled by itself.
    rules = parser.renderer.rules  # type: ignore[attr-defined]
    rules["image"] = image
    rules["table_open"] = lambda *_: '<div class="scroll" tabindex="0"><table>\n'
    rules["table_close"] = lambda *_: "</table></div>\n"
    answer, _, below = markdown.partition("\n---\n")
    folded = []
    for section in re.split(r"^## ", below, flags=re.MULTILINE)[1:]:
        title, _, body = section.partition("\n")
        folded.append(
            f"<details>\n<summary>{parser.renderInline(title)}</summary>\n{parser.render(body)}</details>\n"
        )
    return template("page.html").format(
        mark=MARK_OF_HTML,
        title=escape(answer.partition("\n")[0].strip("# ").replace("`", "")),
        style=template("page.css"),
        answer=parser.render(answer),
        folded="".join(folded),
    )


def markdown(text: str) -> str:
    """The page as a file for GitHub. The table below a chart has its figures."""
    return f"{MARK_OF_MARKDOWN}\n\n{IMAGES.sub('', text)}"


def is_page(path: Path) -> bool:
    """Whether a file is a page that `html` or `markdown` made."""
    with path.open("rb") as file:
        first_lines = file.read(200).decode(errors="replace").split("\n")
    return MARK_OF_HTML in first_lines or MARK_OF_MARKDOWN in first_lines


def terminal(text: str, console: Console) -> None:
    """Print the page, without its charts."""
    from rich.markdown import Markdown
    from rich.theme import Theme

    # Rich centres a heading and underlines it.
    bold = re.sub(r"^#+ (.*)", r"**\1**", IMAGES.sub("", text), flags=re.MULTILINE)
    plain = {"markdown.code": "bold", "markdown.table.header": "bold", "markdown.table.border": "dim"}
    with console.use_theme(Theme(plain)):
        console.print(Markdown("\n".join(map(printable, bold.split("\n"))), hyperlinks=False))


def colour_of(backend: str) -> str:
    """A backend's colour; a variant has its framework's."""
    return COLOURS.get(backend) or COLOURS.get(backend.partition(":")[0], OTHER)


def chart(bars: Sequence[Bar]) -> str:
    """A bar for each time from zero as SVG, with a line for its interval; its name and its figure stand above it.

    At least one of the bars has a time.
    """
    times = [bar.time for bar in bars if bar.time]
    longest = max(time.value for time in times)
    scale = WIDTH / max(longest, min(max(time.high for time in times), WIDEST * longest))  # pixels a second
    drawn = []
    for top, bar in zip(range(0, HEIGHT * len(bars), HEIGHT), bars, strict=True):
        # Browsers show the names that a chart was given, which a stranger may have chosen.
        name = for_terminal(bar.name)
        if len(name) > LONGEST_NAME:
            name = name[: LONGEST_NAME - 1] + "…"
        drawn.append(f'<text y="{top + 16}">{escape(name)}</text>')
        drawn.append(
            f'<text x="{WIDTH}" y="{top + 16}" text-anchor="end" font-weight="bold">{quantity(bar.time)}</text>'
        )
        if bar.time:
            value, low, high = (min(scale * s, WIDTH) for s in (bar.time.value, bar.time.low, bar.time.high))
            drawn.append(f'<rect y="{top + 24}" width="{value:.1f}" height="12" fill="{colour_of(bar.backend)}"/>')
            # Under each line lies a wider one in the page's colour, so that it is seen on a bar of any colour.
            drawn += [
                f'<path d="M{low:.1f} {top + 30}H{high:.1f}" stroke="{colour}" stroke-width="{width}"/>'
                for colour, width in (("var(--paper)", 5), ("currentColor", 1.6))
            ]
    size = f'width="{WIDTH}" height="{HEIGHT * len(bars)}" viewBox="0 0 {WIDTH} {HEIGHT * len(bars)}"'
    font = 'font-family="Arial, sans-serif" font-size="13" fill="currentColor"'
    return f'<svg xmlns="http://www.w3.org/2000/svg" {size} {font}>{"".join(drawn)}</svg>'
