"""A recording: the raw measurements of a benchmark as a file of JSON lines. All results are derived from it.

- The first line is a `Head`. Lines of the other kinds follow in any order; each is one object of a class below.
- Lines are only ever appended, and each is synced to disk. If the benchmark is killed, at most the last line is
  incomplete ("torn"); readers ignore it, and resuming cuts it off.
- `Recording.read` checks every line against its class, and the lines against one another, since a file may come from
  somebody else. What passes has results and a page: nothing in it is divided by zero or too large to compute with.
"""

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Annotated, Any, ClassVar, Generic, Self, TypeVar

import msgspec

from backends.process.environment import GROUPS
from benchmarks.measure.plan import BATCHES, LANES, PRESETS, Cell, Plan
from benchmarks.measure.scenarios import (
    Amount,
    Count,
    CountOrZero,
    EpochDone,
    Product,
    Profile,
    Seconds,
    SomeSeconds,
    WarmUp,
)
from benchmarks.parity.certificate import Certificate
from common.errors import CannotBeginError, RosettaError, why
from common.files import make_folder, sync
from common.interface import BackendFacts
from common.machine import Machine, describe_machine
from common.material import Material
from common.scoring import Scores
from common.text import printable

# A recording holds at most so much, which bounds memory and time: about sixteen hours of the standard preset.
MOST_BYTES = 32 << 20
MOST_CELLS = 100
MOST_REFERENCES = 100  # of a sentence; a corpus may have more
MOST_UNKNOWNS = 5_000_000  # numbers in the matrix of the fit: starts of processes times generations and cells
LARGEST = 1e40  # of any number; those of float32 end before it, and products of some of these are still finite

Words = Annotated[str, msgspec.Meta(max_length=10_000)]  # a sentence: those are compared character by character


class Line(msgspec.Struct, frozen=True, tag_field="kind", tag=str.lower, forbid_unknown_fields=True):
    """A line of a recording. Its JSON object has the class's name in lower case, or its `tag`, as `kind`."""


class Sizes(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Sizes of the tensors that are made of the corpus."""

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
    """A sentence of the corpus whose translations a report shows."""

    source: Words
    references: Annotated[list[Words], msgspec.Meta(max_length=MOST_REFERENCES)]  # translations that the corpus has
    held_out: bool  # whether it was held out of training


class Corpus(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The text that is trained on and decoded, and the weights that it is decoded with."""

    sha256: str  # of the text
    sizes: Sizes
    weights: str  # the weights that all rows decode with, in words
    weights_sha256: str  # of the file with these weights; "" for fresh weights
    shown: Annotated[list[Shown], msgspec.Meta(max_length=100)]
    held_out: CountOrZero  # number of distinct held-out sources; each is decoded once


class FirstLine(Line, frozen=True, kw_only=True):
    """What the first line of every kind of recording has."""

    format: str
    version: int
    machine: Machine
    started: str  # date and time in ISO 8601


class Head(FirstLine, frozen=True, kw_only=True, tag="plan"):
    """The first line: the plan and the corpus."""

    plan: Plan
    corpus: Corpus


class Certified(Line, frozen=True):
    """The parity certificate of a cell: how far it is from the referee."""

    cell: Cell
    certificate: Certificate


class Start(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The start of a cell's process in a generation."""

    cell: int  # index of the cell in the plan
    seconds: Amount  # from start until the backend was open; 0 if not timed, as others were starting meanwhile
    facts: BackendFacts
    warm_up: WarmUp


class Visit(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A cell's turn in one cycle. Lists hold the seconds of each step or call."""

    cell: int  # index of the cell in the plan
    lead: list[Seconds]  # training steps before the timed ones, which do not count
    steps: SomeSeconds  # timed training steps
    loop: Seconds  # lead and timed steps together, from the first one's start until their losses are read back
    finite: bool  # whether every loss is finite
    batch: list[Seconds]  # calls that decode many sentences at once; empty in cycles without decoding
    alone: list[Seconds]  # calls that decode only the sentence with the longest output; empty likewise
    waited: Amount  # seconds waited until the machine was idle
    others: Amount  # cores that other processes used during the visit, on average


class Generation(Line, frozen=True):
    """The measurements of processes, one of each cell, that were alive together and were visited in turns."""

    number: Count  # from 1
    heat: CountOrZero  # number of the part, if not all cells fit into memory together and are measured in parts
    starts: list[Start]
    cycles: list[list[Visit]]
    seconds: Amount  # duration of the whole generation


class Evidence(Line, frozen=True):
    """Which kernels a cell's framework ran and how fast its matrix products are; recorded once for each cell."""

    cell: Cell
    profile: Profile | None  # None for the referee, which is no row of the benchmark
    products: Annotated[list[Product], msgspec.Meta(max_length=20)]


class Decoded(Line, frozen=True):
    """The translations of a cell and their scores; recorded once for each cell."""

    cell: Cell
    translations: list[Words]  # of the shown sentences
    seconds: Seconds  # per character of the shown sentences, decoded once: the speed of a cell without batches
    characters: tuple[Count, Count] | None  # put out by a timed call: in a batch, and alone; None if not timed
    sentences: CountOrZero  # number of sentences in the batch of the timed calls
    scores: Scores | None  # over all held-out sources; None if these were not decoded


class Cause(Line, frozen=True):
    """The step time of a cell as installed when it is given some of the matched lane's settings."""

    cell: Cell  # the cell as installed
    groups: list[str]  # the groups of settings that it was given; see backends.process.environment.matched_settings
    installed: Seconds  # a step without any of the settings
    given: Seconds  # a step with these groups
    matched: Seconds  # a step with all settings


class Trained(Line, frozen=True):
    """One training of a cell, scored after each epoch."""

    cell: Cell
    seed: int
    epochs: list[EpochDone]
    scores: list[Scores]  # of each epoch's weights on the held-out sources
    peak: Count  # the most bytes that the process had in memory


Kind = TypeVar("Kind", bound=Line)
HeadOf = TypeVar("HeadOf", bound=FirstLine)
LineOf = TypeVar("LineOf", bound=Line)


@dataclass
class Lines(Generic[HeadOf, LineOf]):
    """An opened file of lines. Each kind of recording is a subclass, which says which lines it has."""

    path: Path
    head: HeadOf
    lines: list[LineOf] = field(default_factory=list)

    format: ClassVar[str]
    version: ClassVar[int]
    kinds: ClassVar[tuple[Any, Any]]  # the class of the head, and the union of those of the other lines

    @classmethod
    def begin(cls, path: Path, **fields: Any) -> Self:
        """Write the head of a new recording, with these fields besides those of every head.

        Raises CannotBeginError if the file already exists.
        """
        started = f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}"
        head = cls.kinds[0](
            format=cls.format, version=cls.version, machine=describe_machine(), started=started, **fields
        )
        create_lines(path, head)
        return cls.read(path)  # what could not be read again is found before anything is measured

    @classmethod
    def read(cls, path: Path) -> Self:
        """Read a recording; a torn last line is left out.

        Raises CannotBeginError if the file cannot be read, RosettaError if its content is damaged.
        """
        head, *lines = _read_lines(path, cls.format, cls.version, *cls.kinds)
        recording = cls(path, head, lines)
        if damage := next(recording.damages(), None):
            raise RosettaError(f"{path} is damaged: {_shown(damage)}")
        return recording

    def damages(self) -> Iterator[str]:
        """One message for each contradiction between lines that are each valid by themselves."""
        raise NotImplementedError

    def resume(self) -> Self:
        """Cut off a torn last line, so that lines can be appended again.

        Raises CannotBeginError if this is not the machine that the recording was begun on, or has other versions.
        What was not known then, or is not now, does not count: a processor's name is not found every time.
        """
        now = describe_machine()
        for name, before in self.head.machine.items():
            if before and now.get(name) and now.get(name) != before:
                what = _shown(f"{name} was {before} and is now {now.get(name)}")
                raise CannotBeginError(f"{self.path} was begun elsewhere: {what}; choose another --out")
        cut_torn_line(self.path)
        return self

    def append(self, line: LineOf) -> None:
        append_line(self.path, line)
        self.lines.append(line)

    def of_kind(self, kind: type[Kind]) -> list[Kind]:
        return [line for line in self.lines if isinstance(line, kind)]


AnyLine = Certified | Generation | Evidence | Decoded | Cause | Trained  # every kind but the head


@dataclass
class Recording(Lines[Head, AnyLine]):
    """An opened recording of a benchmark."""

    format = "rosetta-benchmark"
    version = 3
    kinds = Head, AnyLine

    @property
    def plan(self) -> Plan:
        return self.head.plan

    def damages(self) -> Iterator[str]:
        plan, shown = self.plan, len(self.head.corpus.shown)
        yield from damages_of_cells(plan.cells)
        if plan.preset not in PRESETS:
            yield f"its plan has the preset {plan.preset}"
        if set(plan.named) - {cell.label for cell in plan.cells}:
            yield "its plan names rows that it does not have"
        counted = {line.cell for line in self.of_kind(Decoded) if line.characters}
        if any(len(line.translations) != shown for line in self.of_kind(Decoded)):
            yield f'there are not {shown} translations in each line of kind "decoded"'
        if any(len(line.epochs) != len(line.scores) or not line.epochs for line in self.of_kind(Trained)):
            yield "a training does not have as many scores as epochs"
        if any(not line.groups or set(line.groups) - GROUPS.keys() for line in self.of_kind(Cause)):
            yield f"a cause names a group of settings that is none of {', '.join(GROUPS)}"
        profiles = [line.profile for line in self.of_kind(Evidence) if line.profile]
        if any(kernel.seconds < 0 for profile in profiles for kernel in profile.kernels):
            yield "a kernel took less than no time"
        generations = self.of_kind(Generation)
        starts = sum(len(generation.starts) for generation in generations)
        if starts * (len(generations) + len(plan.cells)) > MOST_UNKNOWNS:
            yield f"{len(generations)} generations with {starts} processes are too many to be evaluated together"
        seen, measured = set(), {plan.cells.index(cell) for cell in plan.measured}
        for generation in generations:
            alive = sorted(start.cell for start in generation.starts)
            if not set(alive) <= measured:
                yield f"generation {generation.number} has cells that the plan does not have"
            elif any(sorted(visit.cell for visit in cycle) != alive for cycle in generation.cycles):
                yield f"generation {generation.number} has a cycle that is not one visit to each of its cells"
            elif (generation.number, generation.heat) in seen:
                yield f"generation {generation.number} is recorded twice"
            elif any(
                (v.batch or v.alone) and plan.cells[v.cell] not in counted for c in generation.cycles for v in c
            ):
                yield f"generation {generation.number} times decoding, but no line has the number of characters"
            seen.add((generation.number, generation.heat))


def damages_of_cells(cells: Sequence[Cell]) -> Iterator[str]:
    """One message for each fault of the cells of a plan or a sweep."""
    labels = {cell.label for cell in cells}
    if not 0 < len(labels) == len(cells) <= MOST_CELLS:
        yield f"it has {len(cells)} rows with {len(labels)} labels, expected at most {MOST_CELLS} and one label each"
    for cell in cells:
        if cell.lane not in LANES or cell.batches not in BATCHES:
            yield f"the row {cell.label} has the lane {cell.lane} and {cell.batches} batches"


def refuse_existing(path: Path) -> None:
    """Raise CannotBeginError if a new recording at `path` would overwrite something.

    An empty file is nothing: a benchmark that was killed before its first line leaves one.
    """
    if not path.name:
        raise CannotBeginError(f"{path} is a folder; give --out the name of a file, such as mine.jsonl")
    if path.exists() and (not path.is_file() or path.stat().st_size):
        raise CannotBeginError(f"{path} exists already; choose another --out, or continue it with --resume")


def create_lines(path: Path, head: Line) -> None:
    """Write the head into a new file of lines. Raises CannotBeginError if there is already one that is not empty."""
    refuse_existing(path)
    try:
        make_folder(path.parent)
        append_line(path, head)
        sync(path.parent)
    except OSError as error:
        with suppress(OSError):  # half a line would be neither a recording nor a place for one
            path.unlink(missing_ok=True)
        raise CannotBeginError(f"{path} cannot be written: {why(error)}") from error
    except RosettaError as error:
        raise CannotBeginError(str(error)) from error


def append_line(path: Path, line: Line) -> None:
    """Append a line and wait until it is on disk. Raises RosettaError and writes nothing if it could not be read."""
    try:
        content = msgspec.json.encode(line)
        _decoded(content, type(line))
    except ValueError as error:  # among others for a path that is not UTF-8
        raise RosettaError(f"{path} cannot hold what was measured or planned: {_shown(error)}") from error
    with open(path, "ab") as file:
        file.write(content + b"\n")
        file.flush()
        os.fsync(file.fileno())


def content_of(path: Path) -> bytes:
    """The lines of a recording as they are in the file, without a torn last line.

    Raises CannotBeginError if the file cannot be read or is larger than a recording.
    """
    content = _beginning(path, lambda file: file.read(MOST_BYTES + 1))
    if len(content) > MOST_BYTES:
        raise CannotBeginError(f"{path} is larger than {MOST_BYTES >> 20} MiB, and no recording is")
    return content[: content.rfind(b"\n") + 1]


def _beginning(path: Path, read: Callable[[IO[bytes]], bytes]) -> bytes:
    """What `read` takes of a file. Raises CannotBeginError if the file cannot be read."""
    if path.exists() and not path.is_file():  # a named pipe or a device would never end
        raise CannotBeginError(f"{path} is not a regular file; give a file that `rosetta bench` made")
    try:
        with open(path, "rb") as file:
            return read(file)
    except OSError as error:
        raise CannotBeginError(f"{path} cannot be read: {error.strerror}; `rosetta bench` makes one") from error


def _read_lines(path: Path, format: str, version: int, head: Any, later: Any) -> list[Any]:
    """Read a file of lines: the first as class `head`, the others as one of the classes in the union `later`.

    A torn last line is left out. Raises CannotBeginError if the file cannot be read, RosettaError for a line that
    does not fit its class or has a number above LARGEST, and for another format or version.
    """
    found: list[Any] = []
    for number, line in enumerate(content_of(path).split(b"\n")[:-1], 1):
        try:
            found.append(_decoded(line, later if found else head))
        except (ValueError, RecursionError) as error:
            raise RosettaError(
                f"{path}, line {number}, is no line of {format} version {version}: {_shown(error)}"
            ) from error
    if not found or (found[0].format, found[0].version) != (format, version):
        what = f"{_shown(found[0].format)} version {found[0].version}" if found else "empty"
        raise RosettaError(f"{path} is {what}, expected {format} version {version}")
    return found


def _decoded(line: bytes, kind: Any) -> Any:
    """A line as an object of a class. Raises ValueError, of which msgspec's errors are kinds, or RecursionError."""
    if not _computable(msgspec.json.decode(line)):
        raise ValueError(f"it has a number above {LARGEST:.0e}")
    return msgspec.json.decode(line, type=kind)


def _computable(value: Any) -> bool:
    """Whether every number in a decoded line is small enough to compute with."""
    if isinstance(value, dict | list):
        return all(map(_computable, value.values() if isinstance(value, dict) else value))
    return not isinstance(value, int | float) or -LARGEST <= value <= LARGEST


def _shown(text: object) -> str:
    """The beginning of a text that a recording holds, in one line and without what could write over the terminal."""
    return printable(str(text))[:300]


def format_of(path: Path) -> str:
    """The format that a file's first line names, or "" if it names none.

    Raises CannotBeginError if the file cannot be read.
    """
    try:
        head = msgspec.json.decode(_beginning(path, lambda file: file.readline(MOST_BYTES)))
    except (ValueError, RecursionError):
        return ""
    return str(head.get("format", "")) if isinstance(head, dict) else ""


def cut_torn_line(path: Path) -> None:
    """Remove an incomplete last line, which a killed benchmark leaves, so that lines can be appended again."""
    content = path.read_bytes()
    whole = content.rfind(b"\n") + 1
    if whole < len(content):
        with open(path, "r+b") as file:
            file.truncate(whole)
            os.fsync(file.fileno())
