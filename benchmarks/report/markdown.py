"""A report as GitHub-flavoured Markdown, in which each chart is replaced by its table."""

from collections.abc import Iterator, Sequence

from benchmarks.report.blocks import (
    Block,
    Chart,
    Code,
    Details,
    Line,
    Points,
    Report,
    Sentence,
    Sentences,
    Table,
    Text,
    Warnings,
)
from common.text import NO_BREAK

TAGS = {"same": ("", ""), "added": ("<ins>", "</ins>"), "missing": ("<del>", "</del>")}  # GitHub shows these tags


def render(report: Report) -> str:
    """The whole report as one Markdown file."""
    facts = [f"| {plain(name)} | {plain(fact)} |" for name, fact in report.facts.items()]
    parts = [f"# {plain(report.headline)}", "\n".join(["| | |", "| --- | --- |", *facts])]
    for section in report.sections:
        parts.append(f"## {plain(section.title)}")
        parts += [part for block in section.blocks for part in _parts(block)]
    return "\n\n".join(parts) + "\n"


def plain(text: str) -> str:
    """Text in one line, for a paragraph or a cell. Characters that Markdown would take for markup are escaped."""
    return _entities(" ".join(text.split()))


def _entities(text: str) -> str:
    """The text without control characters, and with HTML entities for characters that mean something in Markdown."""
    shown = (c if c.isprintable() or c in NO_BREAK else " " for c in text)
    return "".join(f"&#{ord(c)};" if c in r"\`*_[]|~@#<>&" else c for c in shown)


def _parts(block: Block) -> Iterator[str]:
    """The parts of a block, such as paragraphs and tables, which an empty line separates."""
    match block:
        case Text(text):
            yield plain(text)
        case Code(text):
            # The text must not contain a fence, which would end the code.
            yield f"```\n{text.replace('```', '` ` `')}\n```"
        case Points(title, points):
            yield f"**{plain(title)}**"
            yield "\n".join(f"- {plain(point)}" for point in points)
        case Warnings(warnings):
            yield "\n".join(f"- {plain(warning)}" for warning in warnings)
        case Table():
            yield from _table(block)
        case Chart():
            yield f"### {plain(block.title)}"
            yield from _table(block.table)
        case Sentences():
            for sentence in block.sentences:
                yield f"### {plain(sentence.source)}"
                yield _sentence(sentence)
            yield plain(block.note)
        case Details():
            yield f"### {plain(block.title)}"
            for inner in block.blocks:
                yield from _parts(inner)


def _table(table: Table) -> Iterator[str]:
    if table.title:
        yield f"**{plain(table.title)}**"
    rules = ["---" if place in table.words else "---:" for place in range(len(table.columns))]
    lines = [_line(map(plain, table.columns)), _line(rules)]
    for place, row in enumerate(table.rows):
        first, *cells = map(plain, row)
        lines.append(_line([f"{first} †" if place in table.grey else first, *cells]))
    yield "\n".join(lines)
    note = f"{table.note} {'† not compared' if table.grey else ''}".strip()
    if note:
        yield plain(note)


def _line(cells: Sequence[str] | Iterator[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _sentence(sentence: Sentence) -> str:
    lines = [f"| {plain(line.labels)} | {_marked(line)} | {plain(line.note)} |" for line in sentence.lines]
    lines += [f"| reference | {plain(reference)} | |" for reference in sentence.references]
    return "\n".join([f"| by | {sentence.known} | |", "| --- | --- | --- |", *lines])


def _marked(line: Line) -> str:
    """A translation, with what it adds in <ins> and what it leaves out in <del>."""
    return "".join(_entities(part).join(TAGS[kind]) for kind, part in line.parts) or "(nothing)"
