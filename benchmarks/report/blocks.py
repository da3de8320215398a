"""What a report is made of: values that the templates turn into HTML or Markdown. All text here is plain."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from benchmarks.report.differences import Parts

Spec = dict[str, Any]  # a chart's, in Vega-Lite


@dataclass(frozen=True)
class Text:
    """A paragraph."""

    text: str
    kind: str = "text"


@dataclass(frozen=True)
class Table:
    """Rows of plain cells, the first column naming them."""

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    words: frozenset[int] = frozenset({0})  # columns of words; the others are set flush right
    grey: frozenset[int] = frozenset()  # rows that are not ranked
    note: str = ""
    kind: str = "table"


@dataclass(frozen=True)
class Chart:
    """A chart and, beneath it, its figures as a table."""

    name: str
    title: str
    spec: Spec
    table: Table
    note: str = ""  # of the figures
    key: str = ""  # to the drawing: what no table needs
    kind: str = "chart"


@dataclass(frozen=True)
class Line:
    """What one or more rows say of a sentence."""

    labels: str
    parts: Parts
    note: str


@dataclass(frozen=True)
class Sentence:
    """A held-out sentence and what the rows make of it."""

    source: str
    references: Sequence[str]
    lines: Sequence[Line]
    kind: str = "sentence"


@dataclass(frozen=True)
class Details:
    """Something to unfold."""

    title: str
    blocks: Sequence[Table | Text]
    kind: str = "details"


@dataclass(frozen=True)
class Warnings:
    """What a reader must know before believing."""

    warnings: Sequence[str]
    kind: str = "warnings"


@dataclass(frozen=True)
class Code:
    """What is typed."""

    text: str
    kind: str = "code"


Block = Text | Table | Chart | Sentence | Details | Warnings | Code


@dataclass(frozen=True)
class Section:
    """A chapter."""

    name: str  # the anchor
    title: str
    blocks: Sequence[Block]


@dataclass(frozen=True)
class Report:
    """The whole page."""

    title: str
    headline: str
    facts: Mapping[str, str]  # what was compared, on what, where and when
    warnings: int  # how many there are
    overview: Sequence[Block]
    sections: Sequence[Section] = field(default_factory=tuple)
