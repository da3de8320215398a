"""Raw measurements on disk: a file of JSON lines that only grows. Everything else is derived from it.

The first line is a `Head`; then come, in any order, lines of the other kinds. A line is written whole and synced; of
a benchmark that was killed, at most the last one is torn, and is cut off when it goes on. `Recording.read` checks
each line against the class of its kind.
"""

import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, TypeVar

import msgspec

from backends.environment import GROUPS
from backends.session import Material
from benchmarks.measure.plan import PRESETS, Cell, Plan
from benchmarks.measure.scenarios import Count, EpochDone, Product, Profile, Seconds, WarmUp
from benchmarks.parity.certificate import Certificate
from common.errors import CannotBeginError, RosettaError
from common.files import write_atomically
from common.interface import BackendFacts
from common.machine import Machine, describe_machine
from common.scoring import Scores
from common.terminal import printable

FORMAT = "rosetta-benchmark"
VERSION = 3


class Line(msgspec.Struct, frozen=True, tag_field="kind", tag=str.lower, forbid_unknown_fields=True):
    """A line of a recording."""


class Sizes(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Of the corpus's tensors."""

    training_rows: Count
    validation_rows: Count
    max_encoder_seq_length: Count  # T_enc
    max_decoder_seq_length: Count  # T_dec
    num_encoder_tokens: Count  # V_enc
    num_decoder_tokens: Count  # V_dec

    @classmethod
    def of(cls, material: Material) -> "Sizes":
        return cls(
            training_rows=len(material.training_rows),
            validation_rows=len(material.validation_rows),
            max_encoder_seq_length=material.max_encoder_seq_length,
            max_decoder_seq_length=material.max_decoder_seq_length,
            num_encoder_tokens=material.batch.num_encoder_tokens,
            num_decoder_tokens=material.batch.num_decoder_tokens,
        )


class Shown(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A sentence of the corpus that a report shows."""

    source: str
    references: list[str]
    held_out: bool  # of training


class Corpus(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What is trained on and decoded."""

    sha256: str
    sizes: Sizes
    weights: str  # what all rows decode with, in words
    weights_sha256: str  # of the file that holds these weights; "" of fresh ones
    shown: list[Shown]
    held_out: int  # distinct held-out sources, all of which are decoded once


class Head(Line, frozen=True, tag="plan"):
    """What is to be measured, on what."""

    format: str
    version: int
    plan: Plan
    corpus: Corpus
    machine: Machine
    started: str  # ISO 8601


class Certified(Line, frozen=True):
    """How equal a cell was shown to be to the referee."""

    cell: Cell
    certificate: Certificate


class Start(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A cell's process of one generation."""

    cell: int  # its number in the plan
    seconds: float  # until the process had opened its backend; 0 where another one was started at the same time
    facts: BackendFacts
    warm_up: WarmUp


class Visit(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A cell's turn in one cycle. Times are seconds."""

    cell: int  # its number in the plan
    lead: list[Seconds]  # of the steps that do not count
    steps: Annotated[list[Seconds], msgspec.Meta(min_length=1)]  # of those that do
    loop: Seconds  # of all of them, from the first one's start until their losses are read back
    finite: bool  # whether every loss is
    batch: list[Seconds]  # of calls that decode many sentences; empty in cycles without decoding
    alone: list[Seconds]  # of calls that decode the sentence with the longest output; likewise
    waited: float  # until the machine was idle
    others: float  # cores that other processes used meanwhile, on average


class Generation(Line, frozen=True):
    """Processes that lived together, one a cell, and were visited in turns."""

    number: int
    heat: int  # where not all cells fit into memory together, which part of them
    starts: list[Start]
    cycles: list[list[Visit]]
    seconds: float  # that all of it took


class Evidence(Line, frozen=True):
    """What a cell's framework tells of its kernels and products: once a cell."""

    cell: Cell
    profile: Profile | None  # None of the referee, which is no row
    products: list[Product]


class Decoded(Line, frozen=True):
    """What a cell makes of the sentences: once a cell."""

    cell: Cell
    translations: list[str]  # of the shown sentences
    seconds: float  # a character of these, which are decoded in one call and once: for what has no batch, its speed
    characters: tuple[Count, Count] | None  # that the timed calls put out: in a batch, alone; None where not timed
    sentences: int  # decoded in a batch by the timed calls
    scores: Scores | None  # over all held-out sources; None where these were not decoded


class Cause(Line, frozen=True):
    """Some of the matched lane's settings, given to a cell as installed, and what its step then takes."""

    cell: Cell  # as installed
    groups: list[str]  # of settings; see backends.environment.matched_settings
    installed: Seconds  # a step with none of them
    given: Seconds  # with these
    matched: Seconds  # with all


class Trained(Line, frozen=True):
    """One training of a cell, scored after each epoch."""

    cell: Cell
    seed: int
    epochs: list[EpochDone]
    scores: list[Scores]  # of each epoch's weights
    peak: int  # bytes that the process had resident at most


Later = Certified | Generation | Evidence | Decoded | Cause | Trained
Kind = TypeVar("Kind", bound=Line)


@dataclass
class Recording:
    """An opened recording. `read` raises CannotBeginError where there is none, RosettaError where it is damaged."""

    path: Path
    head: Head
    lines: list[Line] = field(default_factory=list)

    @property
    def plan(self) -> Plan:
        return self.head.plan

    @classmethod
    def create(cls, path: Path, plan: Plan, corpus: Corpus) -> "Recording":
        """Raises CannotBeginError where something is there already."""
        started = f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}"
        recording = cls(path, Head(FORMAT, VERSION, plan, corpus, describe_machine(), started))
        create_lines(path, recording.head)
        return recording

    @classmethod
    def read(cls, path: Path) -> "Recording":
        """A recording as far as it was written; a torn last line is left out."""
        head, *later = read_lines(path, FORMAT, VERSION, Head, Later)
        recording = cls(path, head, later)
        if damage := next(_damages(recording), None):
            raise RosettaError(f"{path} is damaged: {printable(damage)}")
        return recording

    def append(self, line: Line) -> None:
        append_line(self.path, line)
        self.lines.append(line)

    def of_kind(self, kind: type[Kind]) -> list[Kind]:
        return [line for line in self.lines if isinstance(line, kind)]


def _damages(recording: Recording) -> Iterator[str]:
    """What lines that are right by themselves do not tell together."""
    plan, shown = recording.plan, len(recording.head.corpus.shown)
    if plan.preset not in PRESETS or plan.settings.batch_size < 1:
        yield f"its plan has the preset {plan.preset} and {plan.settings.batch_size} pairs a batch"
    counted = {line.cell for line in recording.of_kind(Decoded) if line.characters}
    if any(len(line.translations) != shown for line in recording.of_kind(Decoded)):
        yield f"there are not {shown} translations in each line of them"
    if any(len(line.epochs) != len(line.scores) or not line.epochs for line in recording.of_kind(Trained)):
        yield "a training has not as many scores as epochs"
    if any(not line.groups or set(line.groups) - GROUPS.keys() for line in recording.of_kind(Cause)):
        yield f"a cause is none of {', '.join(GROUPS)}"
    done = set()
    for generation in recording.of_kind(Generation):
        alive = sorted(start.cell for start in generation.starts)
        if not set(alive) <= set(range(len(plan.cells))):
            yield f"generation {generation.number} has cells that the plan does not have"
        elif any(sorted(visit.cell for visit in cycle) != alive for cycle in generation.cycles):
            yield f"generation {generation.number} has a cycle that is not one visit to each of its cells"
        elif (generation.number, generation.heat) in done:
            yield f"generation {generation.number} is there twice"
        elif any((v.batch or v.alone) and plan.cells[v.cell] not in counted for c in generation.cycles for v in c):
            yield f"generation {generation.number} decodes what no line has counted the characters of"
        done.add((generation.number, generation.heat))


def refuse_existing(path: Path) -> None:
    """Raise CannotBeginError where a new recording would overwrite something."""
    if not path.name:
        raise CannotBeginError(f"{path} is a folder; give --out the name of a file, such as mine.jsonl")
    if path.exists():
        raise CannotBeginError(f"{path} exists already; choose another --out, or go on with --resume")


def create_lines(path: Path, head: Line) -> None:
    """Write a new file of lines. Raises CannotBeginError where something is there already."""
    refuse_existing(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, msgspec.json.encode(head) + b"\n")
    except OSError as error:
        raise CannotBeginError(f"{path} cannot be written: {error.strerror}") from error


def append_line(path: Path, line: Line) -> None:
    with open(path, "ab") as file:
        file.write(msgspec.json.encode(line) + b"\n")
        file.flush()
        os.fsync(file.fileno())


def read_lines(path: Path, format: str, version: int, head: type[Any], later: Any) -> list[Any]:
    """The first line as a `head`, the others as what `later` allows; a torn last line is left out.

    Raises CannotBeginError where there is no such file, RosettaError for a line that is not of its kind.
    """
    try:
        lines = path.read_bytes().split(b"\n")[:-1]
    except OSError as error:
        raise CannotBeginError(f"{path} cannot be read: {error.strerror}; `rosetta bench` makes one") from error
    found: list[Any] = []
    for number, line in enumerate(lines, 1):
        try:
            found.append(msgspec.json.decode(line, type=later if found else head))
        except (msgspec.DecodeError, RecursionError) as error:
            raise RosettaError(
                f"{path}, line {number}, is no line of {format} version {version}: {printable(str(error))}"
            ) from error
    if not found or (found[0].format, found[0].version) != (format, version):
        what = f"{printable(found[0].format)} version {found[0].version}" if found else "empty"
        raise RosettaError(f"{path} is {what}, expected {format} version {version}")
    return found


def format_of(path: Path) -> str:
    """What a file's first line says that it is; "" where it does not say. Raises CannotBeginError."""
    try:
        with open(path, "rb") as file:
            head = msgspec.json.decode(file.readline())
    except OSError as error:
        raise CannotBeginError(f"{path} cannot be read: {error.strerror}; `rosetta bench` makes one") from error
    except (msgspec.DecodeError, RecursionError):
        return ""
    return str(head.get("format", "")) if isinstance(head, dict) else ""


def cut_torn_line(path: Path) -> None:
    """Remove what a kill left of a last line, so that lines can be appended again."""
    content = path.read_bytes()
    whole = content.rfind(b"\n") + 1
    if whole < len(content):
        with open(path, "r+b") as file:
            file.truncate(whole)
            os.fsync(file.fileno())
