"""The blocks that a report is made of. A block holds its content as plain text; the renderers decide how it looks."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from benchmarks.report.differences import Parts

Spec = dict[str, Any]  # a chart's specification in Vega-Lite


@dataclass(frozen=True)
class Text:
    """A paragraph."""

    text: str
    strong: bool = False  # for the sentence that answers the report's question


@dataclass(frozen=True)
class Points:
    """A list of separate sentences under a title."""

    title: str
    points: Sequence[str]


@dataclass(frozen=True)
class Warnings:
    """What a reader must know before relying on the figures."""

    warnings: Sequence[str]


@dataclass(frozen=True)
class Table:
    """A table of plain text. The first column names the rows."""

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    words: frozenset[int] = frozenset({0})  # indices of columns with words; the others hold numbers, aligned right
    grey: frozenset[int] = frozenset()  # indices of the rows that are not compared with the others
    note: str = ""  # explains the table, below it


@dataclass(frozen=True)
class Chart:
    """A chart, and a table of the same figures that replaces it in Markdown and in a terminal."""

    name: str  # names its place in the page, and the files that it is saved as
    title: str
    spec: Spec
    table: Table
    key: str = ""  # how to read the drawing
    folded: bool = True  # whether the table under the chart is closed at first


@dataclass(frozen=True)
class Line:
    """One translation of a sentence, and the rows that give it."""

    labels: str  # the rows' labels
    parts: Parts  # the translation, with its differences from the nearest reference
    note: str  # how far it is from that reference

    @property
    def said(self) -> str:
        """The translation as plain text."""
        return "".join(text for kind, text in self.parts if kind != "missing")


@dataclass(frozen=True)
class Sentence:
    """A sentence with its references and its translations by the rows."""

    source: str
    known: str  # says whether the sentence was trained on or held out of training
    references: Sequence[str]
    lines: Sequence[Line]


@dataclass(frozen=True)
class Sentences:
    """Sentences under a title."""

    title: str
    sentences: Sequence[Sentence]
    note: str = ""


@dataclass(frozen=True)
class Details:
    """Blocks that the page hides until the reader opens them."""

    title: str
    blocks: Sequence[Table | Text]


@dataclass(frozen=True)
class Code:
    """A command to type."""

    text: str


Block = Text | Points | Warnings | Table | Chart | Sentences | Details | Code


@dataclass(frozen=True)
class Section:
    """A section of the report."""

    name: str  # its anchor in the page
    title: str
    blocks: Sequence[Block]
    folded: bool = True  # whether it is closed at first


@dataclass(frozen=True)
class Report:
    """The whole report."""

    title: str
    headline: str  # the answer in a sentence
    facts: Mapping[str, str]  # model, corpus, machine and time of the measurement
    sections: Sequence[Section]

    @property
    def warnings(self) -> int:
        """Number of warnings in all sections."""
        blocks = [block for section in self.sections for block in section.blocks]
        return sum(len(block.warnings) for block in blocks if isinstance(block, Warnings))
