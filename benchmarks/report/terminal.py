"""Blocks as Rich prints them in a terminal. A chart is replaced by its table."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from textwrap import fill

from rich.console import Console
from rich.table import Table as RichTable

from benchmarks.report.blocks import Block, Chart, Code, Details, Points, Sentence, Sentences, Table, Text, Warnings
from common import terminal
from common.text import printable

NOTHING = "(nothing)"
# The forms of a cell, from the widest to the narrowest one.
FORMS: Sequence[Callable[[str], str]] = (
    lambda cell: cell,
    lambda cell: cell.replace(" (", "\n("),  # the interval in brackets is in a line of its own
    lambda cell: cell.partition(" (")[0],  # without the interval
)
NARROW = 10  # least width of a column of numbers, in characters; its name is broken into lines of the column's width


def show(blocks: Iterable[Block], console: Console | None = None) -> None:
    """Print the blocks with an empty line between them."""
    console = console or terminal.out
    for place, block in enumerate(blocks):
        if place:
            console.print()
        _show(block, console)


def _show(block: Block, console: Console) -> None:
    match block:
        case Text(text, strong):
            _print(console, text, "bold" if strong else "")
        case Code(text):
            console.print(_clean(text), markup=False, highlight=False, soft_wrap=True)
        case Points(title, points):
            _print(console, title, "bold")
            for point in points:
                _print(console, f"• {point}", hanging=2)
        case Warnings(warnings):
            for warning in warnings:
                _print(console, f"Warning: {warning}", "yellow", hanging=2)
        case Table():
            _show_table(block, console)
        case Chart():
            _show_table(replace(block.table, title=block.table.title or block.title), console)
        case Sentences():
            _print(console, block.title, "bold")
            known = ""
            for sentence in block.sentences:
                if sentence.known != known:
                    known = sentence.known
                    _print(console, f"{known.capitalize()}:")
                for line in _lines(sentence):
                    _print(console, line, hanging=4)
            if block.note:
                _print(console, block.note, "dim")
        case Details():
            _print(console, block.title, "bold")
            show(block.blocks, console)


def _print(console: Console, text: str, style: str = "", hanging: int = 0) -> None:
    """Print a paragraph. All of its lines but the first are indented by `hanging` characters."""
    # The text is wrapped first and cleaned afterwards: cleaning replaces the no-break space between a number and its
    # unit, which keeps the two in one line.
    shown = _clean(fill(text, console.width, subsequent_indent=" " * hanging, break_on_hyphens=False))
    console.print(shown, style=style, markup=False, highlight=False, soft_wrap=True)


def _clean(text: str) -> str:
    """The text without control characters and no-break spaces."""
    return "\n".join(map(printable, text.split("\n")))


def _show_table(table: Table, console: Console) -> None:
    """Print a table in the widest form that the terminal has room for."""
    if table.title:
        _print(console, table.title, "bold")
    forms = [_made(table, form) for form in FORMS]
    unlimited = console.options.update(width=10_000)
    fits = [made for made in forms if console.measure(made, options=unlimited).minimum <= console.width]
    shown = fits[0] if fits else forms[-1]
    console.print(shown, highlight=False)
    if table.note:
        _print(console, table.note, "dim")
    if shown is forms[-1]:
        _print(console, "This terminal is too narrow for the intervals in brackets; the report has them.", "dim")


def _made(table: Table, form: Callable[[str], str]) -> RichTable:
    """A table for Rich, whose cells with numbers have this form."""
    words = table.words
    rows = [[_clean(c) if place in words else form(_clean(c)) for place, c in enumerate(row)] for row in table.rows]
    columns = list(map(_clean, table.columns))
    for place in set(range(len(columns))) - words:
        lines = [len(line) for row in rows for line in row[place].split("\n")]
        columns[place] = fill(columns[place], max([NARROW, *lines]), break_long_words=False, break_on_hyphens=False)
    made = terminal.table("", columns, rows, [name for place, name in enumerate(columns) if place not in words])
    for place, line in enumerate(made.rows):
        line.style = "dim" if place in table.grey else ""
    return made


def _lines(sentence: Sentence) -> list[str]:
    """One line where all rows give the same translation; otherwise the source, and a line for each translation."""
    references = " / ".join(sentence.references)
    if len(sentence.lines) == 1:
        (line,) = sentence.lines
        beside = "= reference" if line.note == "exact" else f"reference: {references}"
        return [f"  {sentence.source} → {line.said or NOTHING} ({beside})"]
    said = [f"{line.labels} → {f'{line.said} ({line.note})' if line.said else NOTHING}" for line in sentence.lines]
    return [f"  {sentence.source} (reference: {references})", *(f"    {line}" for line in said)]
