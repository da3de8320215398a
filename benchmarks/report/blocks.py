"""What a report is made of. A block says its content once, in plain text; each renderer decides its look."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from benchmarks.report.differences import Parts

Spec = dict[str, Any]  # a chart's, in Vega-Lite


@dataclass(frozen=True)
class Text:
    """A paragraph."""

    text: str
    strong: bool = False  # the answer itself


@dataclass(frozen=True)
class Points:
    """Some sentences under a title, each of which stands by itself."""

    title: str
    points: Sequence[str]


@dataclass(frozen=True)
class Warnings:
    """What a reader must know before relying on the figures."""

    warnings: Sequence[str]


@dataclass(frozen=True)
class Table:
    """Rows of plain cells, the first column naming them."""

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    words: frozenset[int] = frozenset({0})  # columns of words; the others hold numbers and are set flush right
    grey: frozenset[int] = frozenset()  # rows that are not compared
    note: str = ""


@dataclass(frozen=True)
class Chart:
    """A chart and its figures as a table, which stands in its place where nothing can be drawn."""

    name: str  # for its place in the page and its files
    title: str
    spec: Spec
    table: Table
    key: str = ""  # how the drawing is to be read
    folded: bool = True  # its table has to be opened


@dataclass(frozen=True)
class Line:
    """What one or more rows say of a sentence."""

    labels: str
    parts: Parts
    note: str

    @property
    def said(self) -> str:
        return "".join(text for kind, text in self.parts if kind != "missing")


@dataclass(frozen=True)
class Sentence:
    """A sentence and what the rows make of it."""

    source: str
    known: str  # whether it was trained on or held out of training
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
    """Something to unfold."""

    title: str
    blocks: Sequence[Table | Text]


@dataclass(frozen=True)
class Code:
    """What is typed."""

    text: str


Block = Text | Points | Warnings | Table | Chart | Sentences | Details | Code


@dataclass(frozen=True)
class Section:
    """A chapter."""

    name: str  # the anchor
    title: str
    blocks: Sequence[Block]
    folded: bool = True  # a reader has to open it


@dataclass(frozen=True)
class Report:
    """The whole page."""

    title: str
    headline: str
    facts: Mapping[str, str]  # what was compared, on what, where and when
    sections: Sequence[Section]

    @property
    def warnings(self) -> int:
        """How many there are."""
        blocks = [block for section in self.sections for block in section.blocks]
        return sum(len(block.warnings) for block in blocks if isinstance(block, Warnings))
