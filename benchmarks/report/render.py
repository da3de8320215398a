"""Parts of pages: numbers, names and tables in Markdown, for a browser, GitHub and a terminal.

A measurement may come from a stranger, and so may every name in it. A word that a renderer could
take for markup, a mention or an address goes into a code span, which all renderers show as it is.
"""

import os
import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from html import escape
from importlib.resources import files
from math import ceil, floor, isfinite, log10
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
from rich.console import Console

from benchmarks.measure.statistics import Estimate
from common.machine import Machine
from common.text import count, for_terminal, printable

SENTENCES = "## Decoded sentences"  # the heading of a section that a terminal shows, too
MISSING = "–"  # in place of a figure that was not measured
UNSURE = "(not known well)"  # in place of an interval that says nothing
SPACE = "\N{NO-BREAK SPACE}"  # stands between a number and its unit
TIME_UNITS = ((1.0, "s"), (1e-3, "ms"), (1e-6, "µs"))  # units of time, with their length in seconds
NUMBER = re.compile(r"$|[0-9±–-]")  # the beginning of a cell with a number, or with nothing
WORD = re.compile(r"[^\s(),;]+")
VALUE = re.compile(r"\{\w+\}")  # of a value in a template
# Means something in Markdown or on GitHub.
MARKUP = re.compile(r"[\\*_~\[\]{}<>&@#|/$=^]|www\.", re.IGNORECASE)
IMAGES = re.compile(r"^!\[.*\n\n?", re.MULTILINE)  # a line of charts, and the empty line after it
# A line near the beginning of each page. A page with it may be replaced by a newer one.
MARK_OF_HTML = '<meta name="generator" content="rosetta report">'
MARK_OF_SVG = "<!-- made by rosetta report -->"
MARK_OF_MARKDOWN = "[//]: # (made by rosetta report)"

MOST_MINUTES = 60  # of a budget that is advised
TWICE = 2.0  # least difference that is shown as a factor; a smaller one is in per cent
LONGEST_NAME = 44  # characters of a name and its figures, which fit into a chart


class Report(NamedTuple):
    """The page of a measurement or of several, and its parts."""

    page: str  # in Markdown; each image stands for the chart of its title
    summary: str  # the part of it for a terminal
    content: dict[str, Any]  # for --json
    charts: dict[str, str]  # the page's charts as SVG, by their titles


def html(markdown: str, charts: Mapping[str, str]) -> str:
    """The page as one HTML file that loads nothing and runs nothing,
    with these charts, as SVG by title.

    Below the first line `---` each section with a heading of the second level is folded.
    """

    def image(tokens: Sequence[Any], place: int, options: Any, environment: Any) -> str:
        title = escape(tokens[place].content)
        drawing = charts.get(tokens[place].content, "")
        return f'<span class="chart" role="img" aria-label="{title}"><b>{title}</b>{drawing}</span>'

    parser = parser_of_pages()
    parser.renderer.rules["image"] = image
    answer, _, below = markdown.partition("\n---\n")
    folded = []
    for section in re.split(r"^## ", below, flags=re.MULTILINE)[1:]:
        title, _, body = section.partition("\n")
        folded.append(
            f"<details>\n<summary>{parser.renderInline(title)}</summary>\n"
            f"{parser.render(body)}</details>\n"
        )
    title = answer.partition("\n")[0].strip("# ").replace("`", "")
    return document("report", title, parser.render(answer) + "".join(folded))


def parser_of_pages(html: bool = False) -> Any:
    """A Markdown parser of pages in which a table that is wider
    than the page is scrolled by itself.

    It shows HTML as text unless `html`.
    """
    from markdown_it import MarkdownIt

    parser: Any = MarkdownIt("js-default", {"html": html})
    parser.renderer.rules["table_open"] = lambda *_: '<div class="scroll" tabindex="0"><table>\n'
    parser.renderer.rules["table_close"] = lambda *_: "</table></div>\n"
    return parser


def document(kind: str, title: str, body: str) -> str:
    """An HTML file in the style of all pages; `kind` is "report" or "guide"."""
    mark = MARK_OF_HTML if kind == "report" else ""
    return template("page.html").format(
        mark=mark, kind=kind, title=escape(title), style=template("page.css"), body=body
    )


def image(report: Report) -> str:
    """The first chart as an SVG file that stands by itself,
    on a card of its own; a report has one at least."""
    title, drawing = next(iter(report.charts.items()))
    head, *rest = re.split("[,;] ", title, maxsplit=1)
    machine = report.content["machine"]
    where = for_terminal(machine["processor"] or "an unknown processor")[:LONGEST_NAME]
    # Pixels down to the end of the last bar.
    below = 80 + int(re.findall(r' height="(\d+)"', drawing)[0])
    return template("chart.svg").format(
        mark=MARK_OF_SVG,
        outer=below + 16,
        card=below + 15,
        title=escape(title),
        head=escape(head),
        rest=escape("".join(rest)),
        where=escape(f"{where}, {count(machine['cores'], 'core')}"),
        drawing=drawing,
    )


def markdown(text: str) -> str:
    """The page as a file for GitHub. The table below a chart has its figures."""
    return f"{MARK_OF_MARKDOWN}\n\n{IMAGES.sub('', text)}"


def is_page(path: Path) -> bool:
    """True for a file by `html`, `markdown` or `image`."""
    with path.open("rb") as file:
        first_lines = file.read(200).decode(errors="replace").split("\n")
    return not {MARK_OF_HTML, MARK_OF_MARKDOWN, MARK_OF_SVG}.isdisjoint(first_lines)


def is_measurement(path: Path) -> bool:
    """True for a file that begins as a measurement of this version or an earlier one."""
    if not os.path.isfile(path):  # False for a name that is too long, which writing refuses
        return False
    with path.open("rb") as file:
        return re.match(rb'\{"kind":"\w+","format":"rosetta-', file.read(100)) is not None


def terminal(text: str, console: Console) -> None:
    """Print the page, without its charts; each line to copy stays one line, however long it is."""
    from rich.markdown import Markdown
    from rich.theme import Theme

    plain = {
        "markdown.code": "bold",
        "markdown.table.header": "bold",
        "markdown.table.border": "dim",
    }
    # At odd places: lines to copy.
    parts = "\n".join(map(printable, IMAGES.sub("", text).split("\n"))).split("```")
    with console.use_theme(Theme(plain)):
        for place, part in enumerate(parts):
            if place % 2:
                console.print(
                    part.removeprefix("sh"),
                    soft_wrap=True,
                    markup=False,
                    highlight=False,
                    emoji=False,
                )
            else:  # Rich centres a heading and underlines it
                bold = re.sub(r"^#+ (.*)", r"**\1**", part, flags=re.MULTILINE)
                console.print(Markdown(bold, hyperlinks=False))


def code(text: str) -> str:
    """A text of any origin as a code span."""
    return f"`{for_terminal(text).replace('`', chr(39)) or ' '}`"


def safe(text: str) -> str:
    """A sentence or a name of any origin;
    words that could be taken for markup are in code spans."""
    plain = for_terminal(text).replace("`", "'").strip()
    return WORD.sub(lambda word: code(word[0]) if MARKUP.search(word[0]) else word[0], plain)


def joined(*parts: str) -> str:
    """The paragraphs, lists and tables that are not empty, one below the other."""
    return "\n\n".join(filter(None, parts))


def markdown_table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table; "" without rows.

    Columns of numbers are aligned right, and columns without any figure are left out.
    """
    names, *figures = [*zip(columns, *rows, strict=True)]
    kept = [names, *(cells for cells in figures if set(cells[1:]) - {"", MISSING})]
    rules = [
        ":--",
        *("--:" if all(NUMBER.match(cell) for cell in cells[1:]) else ":--" for cells in kept[1:]),
    ]
    head, *lines = zip(*kept, strict=True)
    escaped = (
        [cell.replace("\n", " ").replace("|", r"\|") for cell in line]
        for line in (head, rules, *lines)
    )
    return "\n".join(f"| {' | '.join(line)} |" for line in escaped) if lines else ""


def template(name: str) -> str:
    """The text of a file of templates/."""
    return (files("benchmarks.report") / "templates" / name).read_text(encoding="utf-8")


def fill_template(values: Mapping[str, str], content: Any, charts: dict[str, str]) -> Report:
    """The page of page.md with these values in place of their names,
    the results for --json, and charts by title.

    - A paragraph that consists of an empty or missing value is left out, with the text about it
      below. An empty section is left out, too.
    - A terminal shows the part above the line `---`, and the sentences that were decoded.
    - NaN and infinity are null in JSON.
    """
    sections, values = dict[str, list[str]](), defaultdict(str, values)
    for section in re.split(r"^(?=## |---$)", template("page.md"), flags=re.MULTILINE):
        heading, *paragraphs = section.strip().split("\n\n")
        kept, there = [], True
        for paragraph in paragraphs:
            one_line = paragraph if paragraph.startswith("```") else paragraph.replace("\n", " ")
            value = one_line.format_map(values)
            if VALUE.fullmatch(paragraph):
                there = bool(value)
            kept += [value] if there else []
        if kept or not heading.startswith("## "):
            sections[heading.format_map(values)] = kept
    page = joined(*(joined(heading, *kept) for heading, kept in sections.items())) + "\n"
    summary = joined(page.partition("\n\n---\n")[0], *sections.get(SENTENCES, []))
    plain: dict[str, Any] = msgspec.json.decode(msgspec.json.encode(content, enc_hook=vars))
    return Report(page, summary, plain, charts)


def origin(machine: Machine, more: Mapping[str, str]) -> str:
    """A table of a measurement's circumstances: `more` facts, the machine and versions."""
    facts = {
        **more,
        "processor": machine["processor"],
        "instructions": machine["instructions"],
        "cores": str(machine["cores"]),
        "memory": f"{machine['memory'] / 2**30:.0f} GiB",
        "system": machine["system"],
        "Python": machine["python"],
        **machine["versions"],
    }
    return markdown_table(
        ("what", "value"), [(safe(name), safe(value)) for name, value in facts.items() if value]
    )


def digits(value: float | None, figures: int = 3) -> str:
    """A number with three significant figures: 0.0123, 6.10, 1,640."""
    if value is None or not isfinite(value):
        return MISSING
    if value == 0:
        return "0"
    value = round(value, figures - 1 - floor(log10(abs(value))))
    return f"{value:,.{max(0, figures - 1 - floor(log10(abs(value))))}f}"


def quantity(time: float | Estimate | None) -> str:
    """A time given in seconds, in a suitable unit and without its interval: 61.5 ms."""
    seconds = time.value if isinstance(time, Estimate) else time
    if seconds is None or not isfinite(seconds):
        return MISSING
    unit, name = _unit_of(seconds)
    return f"{digits(seconds / unit)}{SPACE}{name}"


def ratio(estimate: Estimate | None) -> str:
    """A ratio with its interval: 1.47× (1.43 to 1.52).
    An interval beyond twice the value says nothing."""
    if estimate is None:
        return MISSING
    low, high = (_multiple(end) for end in (estimate.low, estimate.high))
    return f"{_multiple(estimate.value)}× {UNSURE if estimate.unsure else f'({low} to {high})'}"


def around(estimate: Estimate | None) -> str:
    """A ratio with the half-width of its interval: 1.47× ±3.4 %, or ±11 %."""
    if estimate is None or estimate.unsure:
        return ratio(estimate)
    share = estimate.half_width if estimate.half_width < 0.0995 else round(estimate.half_width, 2)
    return f"{_multiple(estimate.value)}×{SPACE}±{percent(share)}"


def _multiple(ratio: float) -> str:
    return f"{ratio:.2f}" if 0.1 <= ratio < 10 else digits(ratio)


def times(ratio: float) -> str:
    """A ratio for a sentence: 1.4, 12, and 1.03 or 1.003 if a single place would say too little."""
    places = 3 if ratio < 1.005 else 2 if ratio < 1.095 else 1 if ratio < 10 else 0
    return f"{ratio:,.{places}f}"


def verdict(ratio: Estimate, within: float, rounds: int, seconds: float) -> str:
    """The verdict on a ratio of speeds, with its number;
    `seconds` is the duration of the rounds."""
    word, factor = ratio.word(within), max(ratio.value, 1 / ratio.value)
    if word == "same":
        return f"the same within {percent(max(ratio.high, 1 / ratio.low) - 1)}"
    if word == "not told apart":
        if ratio.unsure:
            return (
                f"not told apart yet: {count(rounds, 'round')} tell too little; give a longer "
                "--budget"
            )
        minutes = minutes_until(within, ratio.half_width, seconds)
        more = (
            f"; about {count(minutes, 'more minute')} would do"
            if 0 < minutes <= MOST_MINUTES
            else ""
        )
        return (
            f"not told apart yet: ±{percent(ratio.half_width)} after {count(rounds, 'round')}{more}"
        )
    if factor >= TWICE:
        return (
            f"{times(factor)} times as fast"
            if word == "faster"
            else (f"takes {times(factor)} times as long")
        )
    return f"{word} by {percent(factor - 1)}"


def minutes_until(within: float, half_width: float, seconds: float) -> int:
    """Minutes until an interval is as narrow as `within`, whose `half_width` took these seconds."""
    return ceil(seconds * ((half_width / max(within, 1e-3)) ** 2 - 1) / 60)


def enough(within: float, half_width: float, seconds: float, budget: float) -> str:
    """Advice on a budget, in seconds, after which an interval is as narrow as `within`:
    an hour at most."""
    minutes = ceil(budget / 60) + minutes_until(within, half_width, seconds)
    return (
        f"--budget {minutes}m would do"
        if minutes <= MOST_MINUTES
        else ("an hour would not do on this machine")
    )


def percent(share: float) -> str:
    """A share in per cent: 69.6 %, 3 %."""
    return f"{100 * share:,.1f}".removesuffix(".0") + f"{SPACE}%"


def megabytes(size: float) -> str:
    """A size given in bytes, in megabytes of 1,000,000 bytes: 498 MB."""
    return f"{size / 1e6:,.0f}{SPACE}MB"


def day(when: datetime) -> str:
    """A date and time in words: 25 November 2025, 14:03 UTC."""
    return f"{when.day} {when:%B %Y, %H:%M} {when.tzname() or ''}".rstrip()


def _unit_of(seconds: float) -> tuple[float, str]:
    """A suitable unit for a time given in seconds: the unit's length in seconds, and its name."""
    return next(((unit, name) for unit, name in TIME_UNITS if abs(seconds) >= unit), TIME_UNITS[-1])
