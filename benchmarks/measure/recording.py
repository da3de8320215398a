"""A recording: raw measurements as a file of JSON lines. All results are derived from it.

- The first line is a head with the plan. Lines of the other kinds follow in any order; each is one object of a class
  below.
- Lines are only ever appended, and each is synced to disk. If a benchmark is killed, at most the last line is
  incomplete ("torn"); readers ignore it, and resuming cuts it off.
- `Recording.read` checks every line against its class, and the lines against one another, since a file may come from
  somebody else. What passes has results and a page: nothing in it is divided by zero or too large to compute with.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import chain
from pathlib import Path
from typing import Annotated, Any, Literal, Self, TypeVar

import msgspec

from benchmarks.compare.comparer import Certificate
from benchmarks.in_child import (
    Amount,
    Count,
    CountOrZero,
    Measured,
    Profile,
    Seconds,
    SomeSeconds,
    Visit,
    WarmUp,
)
from benchmarks.measure.machine import locked
from benchmarks.measure.plan import Plan
from common.corpus import Material
from common.errors import CannotBeginError, RosettaError, why
from common.files import make_folder, sync
from common.interface import BackendFacts
from common.machine import Machine, describe_machine
from common.scoring import Scores
from common.text import printable

# The version of each format. They have the same kinds of lines, and differ in what their plans measure.
FORMATS = {"rosetta-benchmark": 5, "rosetta-sweep": 4, "rosetta-workers": 4}
# A recording holds at most so much, which bounds memory and time: about sixteen hours of seven rows.
MOST_BYTES = 32 << 20
MOST_ROWS = 100
MOST_ROUNDS = 10_000
MOST_REFERENCES = 100  # of a sentence; a corpus may have more
LARGEST = 1e40  # of any number; those of float32 end before it, and products of some of these are still finite

Words = Annotated[str, msgspec.Meta(max_length=10_000)]  # a sentence: those are compared character by character
# What turns do: training steps, or calls that decode many sentences at once, or the longest one by itself.
Work = Literal["training", "batch", "alone"]


class Line(Measured, frozen=True, tag_field="kind", tag=str.lower):
    """A line of a recording. Its JSON object has the class's name in lower case, or its `tag`, as `kind`."""


class Sizes(Measured, frozen=True):
    """Sizes of the tensors that are made of the corpus."""

    training_rows: Count
    max_encoder_seq_length: Count  # T_enc
    max_decoder_seq_length: Count  # T_dec
    num_encoder_tokens: Count  # V_enc
    num_decoder_tokens: Count  # V_dec

    @classmethod
    def of(cls, material: Material) -> "Sizes":
        return cls(
            training_rows=len(material.training_rows),
            max_encoder_seq_length=material.max_encoder_seq_length,
            max_decoder_seq_length=material.max_decoder_seq_length,
            num_encoder_tokens=material.batch.num_encoder_tokens,
            num_decoder_tokens=material.batch.num_decoder_tokens,
        )

    def step_flop(self, batch_size: int, latent_dim: int, one_hot: bool = True) -> int:
        """Floating-point operations of a training step: the forward pass, and the gradients of weights and hidden
        states.

        Only matrix products are counted: two operations, a multiplication and an addition, for each pair of numbers
        that are multiplied. Gates, softmax and optimizer are left out: they are some per cent of the operations.

        - The gradient of a weight, and that of a state, takes as many operations as the forward product of both.
        - `one_hot` says whether one-hot inputs are multiplied by the kernels like any other matrix. If not, rows of
          the kernels are looked up, which costs no operation. The gradient of the inputs is not needed.
        """
        gates, steps = 4 * latent_dim, self.max_encoder_seq_length + self.max_decoder_seq_length
        inputs = self.max_encoder_seq_length * self.num_encoder_tokens * gates
        inputs += self.max_decoder_seq_length * self.num_decoder_tokens * gates
        states = steps * latent_dim * gates + self.max_decoder_seq_length * latent_dim * self.num_decoder_tokens
        return 2 * batch_size * (2 * inputs * one_hot + 3 * states)


class ShownSentence(Measured, frozen=True):
    """A sentence of the corpus whose translations a report shows."""

    source: Words
    references: Annotated[
        list[Words], msgspec.Meta(min_length=1, max_length=MOST_REFERENCES)
    ]  # translations that the corpus has
    held_out: bool  # whether it was held out of training


class Text(Measured, frozen=True):
    """The text that is trained on. A benchmark decodes some of it, with weights that are named here."""

    sha256: str  # of the text
    sizes: Sizes
    weights: str = ""  # the weights that all rows decode with, in words
    weights_sha256: str = ""  # of the file with these weights; "" for fresh weights
    shown: Annotated[list[ShownSentence], msgspec.Meta(max_length=100)] = msgspec.field(default_factory=list)


class Format(msgspec.Struct, frozen=True):
    """The two fields of a first line by which a recording is known, whatever else the line has."""

    format: str
    version: int

    def __str__(self) -> str:
        return f"{_shown(self.format)} version {self.version}"


class Head(Line, frozen=True, tag="plan"):
    """The first line: what is measured, of what, and where."""

    format: str  # one of FORMATS
    version: int
    machine: Machine
    started: str  # date and time in ISO 8601
    plan: Plan
    corpus: Text


class Start(Measured, frozen=True):
    """The start of a contestant's process in a round."""

    row: CountOrZero  # index of the row in the plan
    seconds: Amount  # from start until the backend was open; 0 if not timed, as others were starting meanwhile
    facts: BackendFacts
    warm_up: WarmUp

    @property
    def one_hot(self) -> bool:
        """Whether the backend multiplies its one-hot inputs by the kernels, and does not look rows of these up."""
        return bool(self.facts.settings.get("one_hot_products", True))


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


class RowProfile(Line, frozen=True, tag="profiling"):
    """Which kernels a row's framework ran and how fast it multiplies matrices; recorded once for each row."""

    row: CountOrZero
    profile: Profile | None
    # Floating-point operations a second of a large product in float32; None where it was not measured.
    flops: Annotated[float, msgspec.Meta(ge=1.0)] | None


class Summed(Line, frozen=True):
    """How long a group of workers took to sum arrays of one size, by the framework's own engine."""

    row: CountOrZero
    size: Count  # bytes of one worker's array
    seconds: SomeSeconds


LATER = Round | Certified | Decoded | RowProfile | Summed  # every line but the first
Kind = TypeVar("Kind", bound=Line)


@dataclass
class Recording:
    """An opened recording."""

    path: Path
    head: Head
    lines: list[LATER] = field(default_factory=list)

    @classmethod
    def begin(cls, path: Path, plan: Plan, corpus: Text) -> Self:
        """Write the head of a new recording. Raises CannotBeginError if the file already exists."""
        started = f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}"
        format = f"rosetta-{plan.kind}"
        create_lines(path, Head(format, FORMATS[format], describe_machine(), started, plan, corpus))
        return cls.read(path)  # what could not be read again is found before anything is measured

    @classmethod
    def read(cls, path: Path, *formats: str) -> Self:
        """Read a recording of one of these formats, or of any; a torn last line is left out.

        Raises CannotBeginError if the file cannot be read, RosettaError if it is damaged or of another format.
        """
        lines: list[Any] = []
        expected = Format(name := (formats or tuple(FORMATS))[0], FORMATS[name])
        for number, line in enumerate(content_of(path).split(b"\n")[:-1], 1):
            try:
                if number == 1:
                    found = msgspec.json.decode(line, type=Format)
                    if found.format in (formats or FORMATS):
                        expected = Format(found.format, FORMATS[found.format])
                    if found != expected:
                        raise RosettaError(f"{path} is {found}, expected {expected}")
                lines.append(_decoded(line, LATER if lines else Head))
            except (ValueError, RecursionError) as error:
                raise RosettaError(f"{path}, line {number}, is no line of {expected}: {_shown(error)}") from error
        if not lines:
            raise RosettaError(f"{path} is empty, expected {expected}")
        recording = cls(path, lines[0], lines[1:])
        if damage := next(recording._damages(), None):
            raise RosettaError(f"{path} is damaged: {_shown(damage)}")
        return recording

    @property
    def plan(self) -> Plan:
        return self.head.plan

    def resume(self, corpus: Text) -> Self:
        """Cut off a torn last line, so that lines can be appended again; `corpus` is what there is now.

        Raises CannotBeginError if this is not the machine that the recording was begun on, or has other versions, or
        if the text or the weights have changed. What was not known then, or is not now, does not count: a processor's
        name is not found every time.
        """
        now, then = describe_machine(), self.head.corpus
        for name, before in self.head.machine.items():
            if before and now.get(name) and now.get(name) != before:
                what = _shown(f"{name} was {before} and is now {now.get(name)}")
                raise CannotBeginError(f"{self.path} was begun elsewhere: {what}; choose another --out")
        for what, before, found in (
            (f"{self.plan.data.data} has", then.sha256, corpus.sha256),
            (f"{then.weights} have", then.weights_sha256, corpus.weights_sha256),
        ):
            if found != before:
                raise CannotBeginError(f"{_shown(what)} changed since {self.path} was begun; choose another --out")
        cut_torn_line(self.path)
        return self

    def append(self, line: LATER) -> None:
        append_line(self.path, line)
        self.lines.append(line)

    def of_kind(self, kind: type[Kind]) -> list[Kind]:
        return [line for line in self.lines if isinstance(line, kind)]

    def rounds(self, work: Work = "training") -> list[Round]:
        """The rounds whose turns did this work."""
        return [line for line in self.of_kind(Round) if line.work == work]

    def _damages(self) -> Iterator[str]:
        """One message for each contradiction between lines that are each valid by themselves."""
        rows, shown, labels = len(self.plan.rows), len(self.head.corpus.shown), {row.label for row in self.plan.rows}
        contestants = rows if self.plan.workers == 1 else MOST_ROWS
        if not 0 < len(labels) == rows <= MOST_ROWS:
            yield f"it has {rows} rows with {len(labels)} labels, expected at most {MOST_ROWS} and one label each"
        if not self.plan.question:
            yield "none of its rows has matched settings"
        if self.head.format != f"rosetta-{self.plan.kind}":
            yield f"its plan is that of a rosetta-{self.plan.kind}"
        seen, counted = set(), {line.row for line in self.of_kind(Decoded) if line.characters}
        for line in self.lines:
            indices = [start.row for start in line.starts] if isinstance(line, Round) else [line.row]
            if max(indices, default=0) >= rows:
                yield f"it has lines of other rows than its {rows}"
            if isinstance(line, Decoded) and len(line.translations) != shown:
                yield f'there are not {shown} translations in each line of kind "decoded"'
            if isinstance(line, RowProfile) and line.profile and any(one.seconds < 0 for one in line.profile.kernels):
                yield "a kernel took less than no time"
            if isinstance(line, Round):
                cycles, name = [sorted(visit.row for visit in cycle) for cycle in line.cycles], f"round {line.number}"
                together = sorted(set(chain(*cycles)))
                if any(cycle != together for cycle in cycles):
                    yield f"{name} has a cycle that is not one visit to each of its rows"
                if max(together, default=0) >= contestants:
                    yield f"{name} has rows that the plan does not have"
                if (line.number, line.work) in seen:
                    yield f"{name} is recorded twice"
                if line.work != "training" and not counted.issuperset(together):
                    yield f"{name} times decoding, but no line has the number of characters"
                seen.add((line.number, line.work))


def format_of(path: Path) -> str:
    """The format that a file's first line names; "" if it names none or cannot be read."""
    try:
        return msgspec.json.decode(content_of(path).partition(b"\n")[0], type=Format).format
    except (RosettaError, ValueError, RecursionError):
        return ""


def refuse_existing(path: Path) -> None:
    """Raise CannotBeginError if a new recording at `path` would overwrite something.

    An empty file is nothing: a benchmark that was killed before its first line leaves one.
    """
    if not path.name:
        raise CannotBeginError(f"{path} is a folder; give --out the name of a file, such as mine.jsonl")
    try:
        is_there = path.exists() and (not path.is_file() or path.stat().st_size)
    except OSError as error:  # such as of a name that is too long
        raise CannotBeginError(f"{path} cannot be written: {why(error)}") from error
    if is_there:
        raise CannotBeginError(f"{path} exists already; choose another --out, or continue it with --resume")


@contextmanager
def only_writer(path: Path, new: bool) -> Iterator[None]:
    """Hold a recording's lock while the block runs; a `new` one is made, and removed if it is still empty at the end.

    The machine's lock does not suffice, since a recording may lie on a disk that several machines share. Raises
    CannotBeginError if another process holds the lock, for a file that cannot be written, and for a new one
    that is not empty.
    """

    def held(holder: str) -> None:
        raise CannotBeginError(f"another benchmark writes {path} ({holder}); wait for its end")

    # Opened for writing too, without which a disk in the network gives no lock.
    flags = os.O_RDWR | (os.O_CREAT if new else 0)
    with locked(path, flags, "choose another --out", held) as descriptor:
        status = os.fstat(descriptor)
        if new and (status.st_size or not status.st_nlink):  # another process has just written or removed it
            raise CannotBeginError(f"{path} exists already; choose another --out")
        try:
            yield
        finally:
            if new and not os.fstat(descriptor).st_size:
                path.unlink(missing_ok=True)


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
    try:
        if path.exists() and not path.is_file():  # a named pipe or a device would never end
            raise CannotBeginError(f"{path} is not a regular file; give a file that `rosetta bench` made")
        with open(path, "rb") as file:
            content = file.read(MOST_BYTES + 1)
    except OSError as error:
        raise CannotBeginError(f"{path} cannot be read: {error.strerror}; `rosetta bench` makes one") from error
    if len(content) > MOST_BYTES:
        raise CannotBeginError(f"{path} is larger than {MOST_BYTES >> 20} MiB, and no recording is")
    return content[: content.rfind(b"\n") + 1]


def cut_torn_line(path: Path) -> None:
    """Remove an incomplete last line, which a killed benchmark leaves, so that lines can be appended again."""
    whole = len(content_of(path))
    if whole < path.stat().st_size:
        with open(path, "r+b") as file:
            file.truncate(whole)
            os.fsync(file.fileno())


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
