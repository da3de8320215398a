"""Pages that are written in Markdown, for a browser, for GitHub and for a terminal; and their charts.

Charts are SVG, drawn for a column of 340 pixels: a telephone shows one such column, a wide page three. Text and lines
have the page's colours, by `currentColor` and `var(--paper)`, so that one drawing serves light, dark and print. Each
bar has its name and its figure above it, so it needs no axis, and no name is cut off.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from html import escape
from importlib.resources import files
from pathlib import Path
from typing import Any, NamedTuple

from rich.console import Console

from backends import BASELINE
from common.text import for_terminal, printable

IMAGES = re.compile(r"^!\[.*\n\n?", re.MULTILINE)  # a line of charts, and the empty line after it
# The line near the beginning of each page which shows that the page may be replaced by a newer one.
MARK_OF_HTML = '<meta name="generator" content="rosetta report">'
MARK_OF_MARKDOWN = "[//]: # (made by rosetta report)"
POLICY = "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'"
PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
{mark}
<meta http-equiv="Content-Security-Policy" content="{policy}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>{title}</title>
<style>
{style}</style>
</head>
<body>
<main>
{answer}{folded}</main>
</body>
</html>
"""

# Okabe and Ito's colours, which can be told apart with every common colour blindness.
COLOURS = {
    "torch": "#0072b2",
    "paddle": "#009e73",
    "keras": "#d55e00",
    "numpy": "#cc79a7",
    BASELINE: "#7b818c",
}
OTHER = "#56b4e9"  # of a backend that this version does not know
INK, PAPER = "currentColor", "var(--paper)"
WIDTH = 340
WIDEST = 1.5  # an interval is cut at this multiple of the longest bar

Values = Sequence[Mapping[str, Any]]


class Report(NamedTuple):
    """What is told of a recording, or of several."""

    page: str  # in Markdown; an image whose address begins with `chart:` stands for the chart of this name
    summary: str  # the part of it that a terminal shows
    content: dict[str, Any]  # what --json prints
    charts: Callable[[], dict[str, str]]  # draws the page's charts as SVG, by their names, which takes seconds


def html(markdown: str, charts: Mapping[str, str]) -> str:
    """The page as one HTML file that loads nothing and runs nothing.

    `charts` are SVG by name, and take the places of the images with this name. Below the first line `---` each
    section with a heading of the second level is folded.
    """
    from markdown_it import MarkdownIt

    parser = MarkdownIt("js-default")  # which shows HTML as text

    def image(tokens: Sequence[Any], place: int, options: Any, environment: Any) -> str:
        name = str(tokens[place].attrs["src"]).removeprefix("chart:")
        title, drawing = escape(tokens[place].content), charts.get(name, "")
        for before in ('id="', "url(#", 'href="#'):  # names within a chart, which are the same in all charts
            drawing = drawing.replace(before, f"{before}{name}-")
        return f'<span class="chart" role="img" aria-label="{title}"><b>{title}</b>{drawing}</span>'

    # A table that is wider than the page is scrolled by itself.
    rules = parser.renderer.rules  # type: ignore[attr-defined]
    rules["image"] = image
    rules["table_open"] = lambda *_: '<div class="scroll" tabindex="0"><table>\n'
    rules["table_close"] = lambda *_: "</table></div>\n"
    answer, _, below = markdown.partition("\n---\n")
    first, *sections = re.split(r"^## ", below, flags=re.MULTILINE)
    folded = [parser.render(first)]
    for section in sections:
        title, _, body = section.partition("\n")
        folded.append(
            f"<details>\n<summary>{parser.renderInline(title)}</summary>\n{parser.render(body)}</details>\n"
        )
    return PAGE.format(
        policy=POLICY,
        mark=MARK_OF_HTML,
        title=escape(answer.partition("\n")[0].strip("# ").replace("`", "")),
        style=(files("benchmarks.report") / "templates" / "page.css").read_text(encoding="utf-8"),
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


def chart(values: Values) -> str:
    """A bar for each value from zero as SVG, with a line for its interval; its name and its figure stand above it.

    Each value has `label`, `value`, `text` and `colour`, and may have the ends `low` and `high` of its interval.
    """
    import altair as alt
    import vl_convert

    # Browsers show the names that charts were given, which a stranger may have chosen.
    clean: list[dict[str, Any]] = [
        {name: for_terminal(v) if isinstance(v, str) else v for name, v in value.items()} for value in values
    ]
    longest = max(value["value"] for value in clean)
    ends = [min(value.get("high", value["value"]), WIDEST * longest) for value in clean]
    x = alt.X("value:Q", axis=None, scale=alt.Scale(domain=[0, max([longest, *ends]) or 1], clamp=True, nice=False))
    bands = alt.Y("label:N", axis=None, scale=alt.Scale(domain=[value["label"] for value in clean]))
    base = alt.Chart(alt.InlineData(values=clean)).encode(y=bands)
    sure = alt.Chart(alt.InlineData(values=[value for value in clean if "low" in value])).encode(y=bands)
    # Under each line lies a wider one in the page's colour, so that it is seen on a bar of any colour.
    rules = [
        sure.mark_rule(stroke=colour, strokeWidth=stroke, yOffset=9).encode(x="low:Q", x2="high:Q")
        for colour, stroke in ((PAPER, 5), (INK, 1.6))
    ]
    drawn = alt.layer(
        base.mark_bar(height=12, yOffset=9).encode(x=x, fill=alt.Fill("colour:N", scale=None, legend=None)),
        *rules,
        base.mark_text(align="left", x=0, dy=-9, limit=230).encode(text="label:N"),
        base.mark_text(align="right", x="width", dy=-9, fontWeight="bold").encode(text="text:N"),
    )
    configured = drawn.properties(width=WIDTH, height=42 * len(clean), padding=0).configure(
        # The widths of words are measured in a typeface with Arial's widths.
        font="Arial, sans-serif",
        background="transparent",
        aria=False,
        autosize=alt.AutoSizeParams(type="none", contains="padding"),
        view={"stroke": None},
        text={"color": INK, "fontSize": 13},
    )
    svg: str = vl_convert.vegalite_to_svg(configured.to_dict())
    return svg
