"""Blocks in a terminal, by Rich; charts are their tables."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from textwrap import fill

from rich.console import Console
from rich.table import Table as RichTable

from benchmarks.report.blocks import Block, Chart, Code, Details, Points, Sentence, Sentences, Table, Text, Warnings
from common import terminal
from common.terminal import printable

NOTHING = "(nothing)"
SPACES = dict.fromkeys(map(ord, "\N{NO-BREAK SPACE}\N{NARROW NO-BREAK SPACE}"), " ")
NARROW = 10  # characters, that a column of numbers has at least: what names it is broken into lines as long


def show(blocks: Iterable[Block], console: Console | None = None) -> None:
    """Print them, an empty line between each and the next."""
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
            console.print(text, markup=False, highlight=False, soft_wrap=True)
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
    """A paragraph, of which all lines but the first are indented by `hanging`."""
    # Wrapped before it is cleaned, so that a number stays with its unit.
    shown = _clean(fill(text, console.width, subsequent_indent=" " * hanging, break_on_hyphens=False))
    console.print(shown, style=style, markup=False, highlight=False, soft_wrap=True)


def _clean(text: str) -> str:
    """Without what a terminal would obey."""
    return "\n".join(printable(line.translate(SPACES)) for line in text.split("\n"))


def _show_table(table: Table, console: Console) -> None:
    """The widest of its forms that the terminal has room for."""
    if table.title:
        _print(console, table.title, "bold")
    forms = {form: _made(table, form) for form in (_whole, _broken, _short)}
    unlimited = console.options.update(width=10_000)
    fits = [form for form, made in forms.items() if console.measure(made, options=unlimited).minimum <= console.width]
    form = fits[0] if fits else _short
    console.print(forms[form], highlight=False)
    short = "There is no room here for what stands in brackets; the report has it." if form is _short else ""
    for line in filter(None, (*table.note.split("\n"), short)):
        _print(console, line, "dim")


def _whole(cell: str) -> str:
    return cell


def _broken(cell: str) -> str:
    """What stands in brackets in a line of its own."""
    return cell.replace(" (", "\n(")


def _short(cell: str) -> str:
    """Without what stands in brackets."""
    return cell.partition(" (")[0]


def _made(table: Table, form: Callable[[str], str]) -> RichTable:
    words = table.words
    rows = [[_clean(c) if place in words else form(_clean(c)) for place, c in enumerate(row)] for row in table.rows]
    columns = list(map(_clean, table.columns))
    for place in set(range(len(columns))) - words:
        lines = [len(line) for row in rows for line in row[place].split("\n")]
        columns[place] = "\n".join(_packed(columns[place].split(), max([NARROW, *lines])))
    made = terminal.table("", columns, rows, [name for place, name in enumerate(columns) if place not in words])
    for place, line in enumerate(made.rows):
        line.style = "dim" if place in table.grey else ""
    return made


def _packed(words: Sequence[str], width: int) -> list[str]:
    lines: list[str] = []
    for word in words:
        if lines and len(lines[-1]) + 1 + len(word) <= width:
            lines[-1] += f" {word}"
        else:
            lines.append(word)
    return lines


def _lines(sentence: Sentence) -> list[str]:
    """One line where all say the same, else one for each that says something else."""
    references = " / ".join(sentence.references)
    if len(sentence.lines) == 1:
        (line,) = sentence.lines
        beside = "= reference" if line.note == "exact" else f"reference: {references}"
        return [f"  {sentence.source} → {line.said or NOTHING} ({beside})"]
    said = [f"{line.labels} → {f'{line.said} ({line.note})' if line.said else NOTHING}" for line in sentence.lines]
    return [f"  {sentence.source} (reference: {references})", *(f"    {line}" for line in said)]
