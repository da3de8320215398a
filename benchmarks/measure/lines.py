"""A file of JSON lines, in which raw measurements are kept. All results are derived from it.

- The first line is a head. Lines of other kinds follow in any order; each is one object of a class.
- Lines are only ever appended, and each is synced to disk. If measuring is killed, at most the last one is incomplete
  ("torn"); readers ignore it, and resuming cuts it off.
- `Lines.read` checks every line against its class, and the lines against one another, since a file may come from
  somebody else. What passes has results and a page: nothing in it is divided by zero or too large to compute with.
"""

import os
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import chain
from pathlib import Path
from typing import Annotated, Any, ClassVar, Generic, Literal, Self, TypeVar

import msgspec

from benchmarks.in_child import Amount, CountOrZero, Measured, Visit, WarmUp
from common.errors import CannotBeginError, RosettaError, refusing, why
from common.files import locked, make_folder, sync
from common.interface import BackendFacts
from common.machine import Machine, describe_machine
from common.text import printable

# A file holds at most so much, which bounds memory and time: about sixteen hours of seven rows.
MOST_BYTES = 32 << 20
MOST_ROUNDS = 10_000
LARGEST = 1e40  # of any number; those of float32 end before it, and products of some of these are still finite

# What turns do: training steps, or calls that decode many sentences at once, or the longest one by itself.
Work = Literal["training", "batch", "alone"]


class Line(Measured, frozen=True, tag_field="kind", tag=str.lower):
    """A line of a recording. Its JSON object has the class's name in lower case, or its `tag`, as `kind`."""


class Format(msgspec.Struct, frozen=True):
    """The two fields of a first line by which a recording is known, whatever else the line has."""

    format: str
    version: int

    def __str__(self) -> str:
        return f"{shown_text(self.format)} version {self.version}"


class Opening(Line, frozen=True):
    """The first line of any recording: when and where it was begun. Its subclasses say what is measured."""

    format: str  # such as those of FORMATS
    version: int
    machine: Machine
    started: datetime


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


Kind = TypeVar("Kind", bound=Line)
First = TypeVar("First", bound=Opening)


@dataclass
class Lines(ABC, Generic[First]):
    """An opened file of lines, of which the first is a head."""

    path: Path
    head: First
    lines: list[Any] = field(default_factory=list)
    VERSIONS: ClassVar[Mapping[str, int]]  # of each format that such a file may have
    HEAD: ClassVar[Any]  # class of the first line
    LATER: ClassVar[Any]  # classes of the others
    SAME_STEPS: ClassVar[bool] = False  # whether steps have numbers, by which contestants can be compared

    @classmethod
    def begin(cls, path: Path, format: str, *planned: Any) -> Self:
        """Begin a recording of what is `planned`, here and now. Raises as `create` does."""
        started = datetime.now(UTC).replace(microsecond=0)
        return cls.create(path, cls.HEAD(format, cls.VERSIONS[format], describe_machine(), started, *planned))

    @classmethod
    def create(cls, path: Path, head: First) -> Self:
        """Write the head of a new file. Raises CannotBeginError if there is already one that is not empty."""
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
        return cls.read(path)  # what could not be read again is found before anything is measured

    @classmethod
    def read(cls, path: Path, *formats: str) -> Self:
        """Read a file of one of these formats, or of any that it may have; a torn last line is left out.

        Raises CannotBeginError if the file cannot be read, RosettaError if it is damaged or of another format.
        """
        lines: list[Any] = []
        expected = Format(name := (formats or tuple(cls.VERSIONS))[0], cls.VERSIONS[name])
        for number, line in enumerate(content_of(path).split(b"\n")[:-1], 1):
            try:
                if number == 1:
                    found = msgspec.json.decode(line, type=Format)
                    if found.format in (formats or cls.VERSIONS):
                        expected = Format(found.format, cls.VERSIONS[found.format])
                    if found != expected:
                        raise RosettaError(f"{path} is {found}, expected {expected}")
                lines.append(_decoded(line, cls.LATER if lines else cls.HEAD))
            except (ValueError, RecursionError) as error:
                raise RosettaError(f"{path}, line {number}, is no line of {expected}: {shown_text(error)}") from error
        if not lines:
            raise RosettaError(f"{path} is empty, expected {expected}")
        recording = cls(path, lines[0], lines[1:])
        if damage := next(recording.damages(), None):
            raise RosettaError(f"{path} is damaged: {shown_text(damage)}")
        return recording

    @abstractmethod
    def damages(self) -> Iterator[str]:
        """One message for each contradiction between lines that are each valid by themselves."""

    def items(self, work: Work) -> dict[int, int]:
        """The number of items in a step or call of a row, per which its seconds are; 1 where it has none."""
        return {}

    def append(self, line: Line) -> None:
        append_line(self.path, line)
        self.lines.append(line)

    def of_kind(self, kind: type[Kind]) -> list[Kind]:
        return [line for line in self.lines if isinstance(line, kind)]

    def rounds(self, work: Work = "training") -> list[Round]:
        """The rounds whose turns did this work."""
        return [line for line in self.of_kind(Round) if line.work == work]


def damages_of_cycles(line: Round, contestants: int) -> Iterator[str]:
    """One message for each contradiction within the cycles of a round of so many contestants."""
    cycles, name = [sorted(visit.row for visit in cycle) for cycle in line.cycles], f"round {line.number}"
    together = sorted(set(chain(*cycles)))
    if any(cycle != together for cycle in cycles):
        yield f"{name} has a cycle that is not one visit to each of its rows"
    if max(together, default=0) >= contestants:
        yield f"{name} has rows that the plan does not have"


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
    with refusing(f"{path} cannot be written"):  # such as of a name that is too long
        is_there = path.exists() and (not path.is_file() or path.stat().st_size)
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
    with locked(path, held, flags=flags, advice="choose another --out") as descriptor:
        status = os.fstat(descriptor)
        if new and (status.st_size or not status.st_nlink):  # another process has just written or removed it
            raise CannotBeginError(f"{path} exists already; choose another --out")
        try:
            yield
        finally:
            if new and not os.fstat(descriptor).st_size:
                path.unlink(missing_ok=True)


def append_line(path: Path, line: Line) -> None:
    """Append a line and wait until it is on disk. Raises RosettaError and writes nothing if it could not be read."""
    try:
        content = msgspec.json.encode(line)
        _decoded(content, type(line))
    except ValueError as error:  # among others for a path that is not UTF-8
        raise RosettaError(f"{path} cannot hold what was measured or planned: {shown_text(error)}") from error
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


def shown_text(text: object) -> str:
    """The beginning of a text that a recording holds, in one line and without what could write over the terminal."""
    return printable(str(text))[:300]
