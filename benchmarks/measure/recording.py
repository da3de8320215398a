"""A recording: raw measurements as a file of JSON lines. All results are derived from it.

- The first line is a head with the plan. Lines of the other kinds follow in any order; each is one object of a class
  below.
- Lines are only ever appended, and each is synced to disk. If a benchmark is killed, at most the last line is
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
from typing import IO, Annotated, Any, Literal, Self, TypeVar

import msgspec

from benchmarks.compare.certificate import Certificate
from benchmarks.measure.in_child import Amount, Count, CountOrZero, Product, Profile, Seconds, SomeSeconds, WarmUp
from benchmarks.measure.plan import LANES, Plan, Row
from common.config import DataConfig, TrainConfig
from common.errors import CannotBeginError, RosettaError, why
from common.files import make_folder, sync
from common.interface import BackendFacts
from common.machine import Machine, describe_machine
from common.material import Material
from common.scoring import Scores
from common.text import printable

# A recording holds at most so much, which bounds memory and time: about sixteen hours of seven rows.
MOST_BYTES = 32 << 20
MOST_ROWS = 100
MOST_ROUNDS = 10_000
MOST_REFERENCES = 100  # of a sentence; a corpus may have more
MOST_WORKERS = 64
LARGEST = 1e40  # of any number; those of float32 end before it, and products of some of these are still finite

Words = Annotated[str, msgspec.Meta(max_length=10_000)]  # a sentence: those are compared character by character
# What turns do: training steps, or calls that decode many sentences at once, or the longest one by itself.
Work = Literal["training", "batch", "alone"]


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


class Head(Line, frozen=True, kw_only=True):
    """What the first line of every kind of recording has."""

    format: str
    version: int
    machine: Machine
    started: str  # date and time in ISO 8601


class BenchHead(Head, frozen=True, kw_only=True, tag="plan"):
    """The first line of a benchmark: the plan and the corpus."""

    plan: Plan
    corpus: Corpus


class SweepHead(Head, frozen=True, kw_only=True, tag="sweep"):
    """The first line of a sweep, of sizes or of workers: what it is measured with, except where that is varied."""

    data: DataConfig
    settings: TrainConfig  # a batch size of workers is that of one worker
    latent_dim: Count
    device: str
    threads: Count | None  # of each worker
    sizes: Sizes  # of the corpus's tensors
    sha256: str  # of the corpus
    backends: tuple[Annotated[str, msgspec.Meta(max_length=100)], ...]
    axes: dict[str, Annotated[list[Count], msgspec.Meta(max_length=50)]]  # the sizes of each axis; empty of workers
    workers: Annotated[int, msgspec.Meta(ge=1, le=MOST_WORKERS)] = 1


class Start(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The start of a contestant's process in a round."""

    row: CountOrZero  # index of the contestant: the row in the plan, or the backend in the sweep
    seconds: Amount  # from start until the backend was open; 0 if not timed, as others were starting meanwhile
    facts: BackendFacts
    warm_up: WarmUp


class Visit(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A contestant's turn in one cycle. Lists hold the seconds of each step or call."""

    row: CountOrZero  # index of the contestant: a row of the plan, a backend of the sweep, an arrangement of workers
    lead: list[Seconds]  # training steps before the timed ones, which do not count
    steps: SomeSeconds  # timed training steps, or calls that decode
    loop: Seconds  # lead and timed steps together, from the first one's start until their results are read back
    finite: bool  # whether every loss is finite
    waited: Amount  # seconds waited until the machine was idle
    others: Amount  # cores that other processes used during the visit, on average
    stolen: Amount = 0.0  # cores that other virtual machines took meanwhile, on average
    tries: Count = 1  # times that the turn was taken, since other processes had disturbed those before
    peak: CountOrZero = 0  # most bytes that the process has had in memory; 0 where not asked


class Round(Line, frozen=True):
    """Turns of processes that were alive together, which do one kind of work."""

    number: Annotated[int, msgspec.Meta(ge=1, le=MOST_ROUNDS)]  # from 1; lines of one number have the same processes
    work: Work
    starts: list[Start]  # of the processes that were started for this line; empty where they had been before
    cycles: list[list[Visit]]  # a cycle is one visit of each contestant
    seconds: Amount  # duration, with starting


class Certified(Line, frozen=True):
    """The parity certificate of a row: how far it is from the referee."""

    row: CountOrZero
    certificate: Certificate


class Decoded(Line, frozen=True):
    """The translations of a row and their scores; recorded once for each row."""

    row: CountOrZero
    translations: list[Words]  # of the shown sentences
    seconds: Seconds  # per character of the shown sentences, decoded once: the speed of a row without batches
    characters: tuple[Count, Count] | None  # put out by a timed call: in a batch, and alone; None if not timed
    sentences: CountOrZero  # number of sentences in the batch of the timed calls
    scores: Scores | None  # over all held-out sources; None if these were not decoded


class Evidence(Line, frozen=True):
    """Which kernels a contestant's framework ran and how fast its matrix products are; recorded once for each."""

    row: int  # index of the contestant; -1 for the referee, which has products alone
    profile: Profile | None
    products: Annotated[list[Product], msgspec.Meta(max_length=20)]


class Summed(Line, frozen=True):
    """How long a group of workers took to sum arrays of one size, by the framework's own engine."""

    row: CountOrZero  # index of the backend
    size: Count  # bytes of one worker's array
    seconds: SomeSeconds
    others: Amount  # cores that other processes used meanwhile, on average


# Each format with its version, the class of its first line, and those of its other lines.
FORMATS: dict[str, tuple[int, Any, Any]] = {
    "rosetta-benchmark": (4, BenchHead, Certified | Round | Evidence | Decoded),
    "rosetta-sweep": (2, SweepHead, Round | Evidence),
    "rosetta-workers": (2, SweepHead, Round | Evidence | Summed),
}
Kind = TypeVar("Kind", bound=Line)


@dataclass
class Recording:
    """An opened recording."""

    path: Path
    head: Any  # a BenchHead or a SweepHead
    lines: list[Line] = field(default_factory=list)

    @classmethod
    def begin(cls, path: Path, format: str, **fields: Any) -> Self:
        """Write the head of a new recording, with these fields besides those of every head.

        Raises CannotBeginError if the file already exists.
        """
        version, head, _ = FORMATS[format]
        started = f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}"
        create_lines(
            path, head(format=format, version=version, machine=describe_machine(), started=started, **fields)
        )
        return cls.read(path)  # what could not be read again is found before anything is measured

    @classmethod
    def read(cls, path: Path, *formats: str) -> Self:
        """Read a recording of one of these formats, or of any; a torn last line is left out.

        Raises CannotBeginError if the file cannot be read, RosettaError if it is damaged or of another format.
        """
        allowed = formats or tuple(FORMATS)
        format = found if (found := format_of(path)) in allowed else allowed[0]
        head, *lines = _read_lines(path, format, *FORMATS[format])
        recording = cls(path, head, lines)
        if damage := next(recording.damages(), None):
            raise RosettaError(f"{path} is damaged: {_shown(damage)}")
        return recording

    @property
    def plan(self) -> Plan:
        """The plan of a benchmark."""
        plan: Plan = self.head.plan
        return plan

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

    def append(self, line: Line) -> None:
        append_line(self.path, line)
        self.lines.append(line)

    def of_kind(self, kind: type[Kind]) -> list[Kind]:
        return [line for line in self.lines if isinstance(line, kind)]

    def rounds(self, work: Work = "training") -> list[Round]:
        """The rounds whose turns did this work."""
        return [line for line in self.of_kind(Round) if line.work == work]

    def damages(self) -> Iterator[str]:
        """One message for each contradiction between lines that are each valid by themselves."""
        head, counted, contestants = self.head, None, MOST_ROWS
        if isinstance(head, BenchHead):
            yield from _damages_of_rows(head.plan.rows)
            counted = {line.row for line in self.of_kind(Decoded) if line.characters}
            contestants, shown = len(head.plan.rows), len(head.corpus.shown)
            if any(len(line.translations) != shown for line in self.of_kind(Decoded)):
                yield f'there are not {shown} translations in each line of kind "decoded"'
        elif not 0 < len(set(head.backends)) == len(head.backends) <= MOST_ROWS:
            yield f"it has {len(head.backends)} backends, of which {len(set(head.backends))} differ"
        elif head.workers == 1:
            contestants = len(head.backends)
        profiles = [line.profile for line in self.of_kind(Evidence) if line.profile]
        if any(kernel.seconds < 0 for profile in profiles for kernel in profile.kernels):
            yield "a kernel took less than no time"
        indices = [line.row for line in self.lines if isinstance(line, Certified | Evidence | Decoded | Summed)]
        if any(not -1 <= row < contestants for row in indices):
            yield f"it has lines of other rows than its {contestants}"
        seen = set()
        for line in self.of_kind(Round):
            rows = [sorted(visit.row for visit in cycle) for cycle in line.cycles]
            if any(visited != rows[0] or len(set(visited)) != len(visited) for visited in rows):
                yield f"round {line.number} has a cycle that is not one visit to each of its rows"
            elif rows and rows[0] and rows[0][-1] >= contestants:
                yield f"round {line.number} has rows that the plan does not have"
            elif any(start.row >= contestants for start in line.starts):
                yield f"round {line.number} starts rows that the plan does not have"
            elif (line.number, line.work) in seen:
                yield f"round {line.number} is recorded twice"
            elif counted is not None and line.work != "training" and rows and not counted >= set(rows[0]):
                yield f"round {line.number} times decoding, but no line has the number of characters"
            seen.add((line.number, line.work))


def _damages_of_rows(rows: Sequence[Row]) -> Iterator[str]:
    """One message for each fault of the rows of a plan."""
    labels = {row.label for row in rows}
    if not 0 < len(labels) == len(rows) <= MOST_ROWS:
        yield f"it has {len(rows)} rows with {len(labels)} labels, expected at most {MOST_ROWS} and one label each"
    for row in rows:
        if row.lane not in LANES:
            yield f"the row {row.label} has the lane {row.lane}"


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
