"""The recording: JSON lines with the raw measurements of a bench or a race. All results are derived from it.

- The first line is the head, which has the plan. Lines of other kinds follow in any order. Each is an object of a
  class of this module.
- Lines are only appended, and each is synced to disk. If measuring is killed, at most the last line is incomplete
  ("torn"). Readers ignore it, so a recording that was cut is shown as far as it goes.
- `Recording.read` checks each line against its class and its rows against the plan. A recording that passes has
  results and a page.
"""

import os
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, Literal, Self, TypeVar

import msgspec

from backends.interface import BackendFacts
from benchmarks.in_child import Amount, Count, CountOrZero, Measured, Profile, Visit, WarmUp, Work
from benchmarks.measure.plan import Long, Plan, Short
from benchmarks.parity.certificate import Certificate
from common.errors import CannotBeginError, RosettaError, refusing
from common.files import make_folder, read_at_most, write_atomically
from common.machine import Machine, describe_machine
from common.run import refuse_existing
from common.scoring import Scores
from common.text import printable

MOST_BYTES = 32 << 20  # of a file, which bounds memory and time: about sixteen hours of seven rows
# Largest error with which a process passes after its turns.
MOST_APART: dict[Work, float] = {"training": 0.01, "batch": 0.01}
MOST_ROUNDS = 10_000
MOST_REFERENCES = 100  # of a sentence; a corpus may have more
MOST_OF_A_SENTENCE = 2000  # characters of a proof's; a setting that it names may have more
WARM_UP_STEPS = 2  # of each process, after the cold step

Words = Annotated[str, msgspec.Meta(max_length=10_000)]  # a sentence; sentences are compared character by character
Said = Annotated[list[Annotated[str, msgspec.Meta(max_length=MOST_OF_A_SENTENCE)]], msgspec.Meta(max_length=20)]


class ShownSentence(Measured, frozen=True):
    """A sentence of the corpus that a page shows with its translations."""

    source: Words
    references: Annotated[list[Words], msgspec.Meta(min_length=1, max_length=MOST_REFERENCES)]
    held_out: bool  # True if it was held out of training


class Text(Measured, frozen=True):
    """The text that the backends of a bench train on, and the weights with which they decode some of it."""

    sha256: Short  # of the text
    training_rows: Count
    weights: Words = ""  # the weights that all rows decode with, in words
    weights_sha256: Short = ""  # of the file with these weights; "" for fresh weights
    shown: Annotated[list[ShownSentence], msgspec.Meta(max_length=100)] = msgspec.field(default_factory=list)


class Line(Measured, frozen=True, tag_field="kind", tag=str.lower):
    """A line of a recording. The class's name in lower case, or its `tag`, is the `kind` of its JSON object."""


class Head(Line, frozen=True, kw_only=True):
    """The first line: plan and text, machine and start."""

    format: Literal["rosetta-recording"] = "rosetta-recording"
    version: Literal[1] = 1
    machine: Machine
    started: datetime
    plan: Plan
    text: Text | None = None  # None in a race


class Ready(Measured, frozen=True):
    """The message of a script that has called `take_turns`."""

    python: Short
    versions: Annotated[dict[Short, Short], msgspec.Meta(max_length=20)]  # by package; "" of one that is not imported
    batch: Annotated[int, msgspec.Meta(ge=1, le=10**9)]  # items in a step
    synced: bool
    record: Long | None  # absolute path of the folder of its record


class Start(Measured, frozen=True, omit_defaults=True):
    """The start of a runner's process in a round."""

    row: CountOrZero  # index of the row in the plan
    seconds: Amount  # from start until it was ready; 0 if not timed, as others were starting meanwhile
    warm_up: WarmUp
    facts: BackendFacts | None = None  # of a backend
    ready: Ready | None = None  # of a script
    threads: CountOrZero = 0  # number of threads of a script's process


class Round(Line, frozen=True):
    """Turns of one kind of work, of processes that were alive together."""

    number: Annotated[int, msgspec.Meta(ge=1, le=MOST_ROUNDS)]  # from 1; lines of one number have the same processes
    work: Work
    starts: list[Start]  # of the processes that were started for this line; empty where they had been before
    cycles: list[list[Visit]]  # a cycle is one visit of each runner
    seconds: Amount  # duration, with starting


class Certified(Line, frozen=True):
    """The parity certificate of a backend's row: its errors against the reference."""

    row: CountOrZero
    certificate: Certificate


class Checked(Line, frozen=True):
    """A process of a row compared with the reference after its turns."""

    row: CountOrZero
    number: Annotated[int, msgspec.Meta(ge=1, le=MOST_ROUNDS)]  # of the round
    work: Work
    # Largest error of a weight after some steps, as a share of the learning rate; or the share of sentences that are
    # decoded otherwise. None: not finite.
    error: Amount | None

    @property
    def passed(self) -> bool:
        return self.error is not None and self.error <= MOST_APART[self.work]


class Decoded(Line, frozen=True):
    """The translations of a row; recorded once for each row."""

    row: CountOrZero
    translations: list[Words]  # of the shown sentences
    sentences: CountOrZero  # number of sentences in the batch of the timed calls
    scores: Scores | None = None  # over all held-out sources, of one row: all rows have the same weights


class RowProfile(Line, frozen=True, tag="profiling"):
    """A row's profile, which is recorded once."""

    row: CountOrZero
    profile: Profile


class Proof(Line, frozen=True):
    """The comparison of a script's record with that of the first script."""

    row: CountOrZero
    word: Literal["same", "differs", "not compared"]
    stages: Said  # that were compared
    error: Amount | None = None  # the largest; None where the scripts differ, or nothing was compared
    why: Said = msgspec.field(default_factory=list)


Later = Round | Certified | Checked | Decoded | RowProfile | Proof  # every line but the first
Kind = TypeVar("Kind", bound=Line)


@dataclass
class Recording:
    """An opened recording."""

    path: Path
    head: Head
    lines: list[Any] = field(default_factory=list)  # of Later

    @classmethod
    def begin(cls, path: Path, plan: Plan, text: Text | None = None) -> Self:
        """Begin a new recording here and now. Raises as `create` does."""
        started = datetime.now(UTC).replace(microsecond=0)
        return cls.create(path, Head(machine=describe_machine(), started=started, plan=plan, text=text))

    @classmethod
    def create(cls, path: Path, head: Head) -> Self:
        """Write a new file with the head. Raises CannotBeginError if that is impossible or something is there."""
        refuse_existing(path, "choose another --out")
        try:
            line = _encoded(path, head)
        except RosettaError as error:
            raise CannotBeginError(str(error)) from error
        with refusing(f"{path} cannot be written"):
            make_folder(path.parent)
            write_atomically(path, line)
        return cls.read(path)  # a file that cannot be read again is refused before anything is measured

    @classmethod
    def read(cls, path: Path) -> Self:
        """Read a recording; a torn last line is left out.

        Raises CannotBeginError if the file cannot be read or is no recording, RosettaError if it is damaged.
        """
        lines: list[Any] = []
        where = ""
        with refusing(f"{path} cannot be read", "; `rosetta bench` makes one"):
            content = read_at_most(MOST_BYTES, path)
        if not (content.startswith(b"{") and b"\n" in content):
            raise CannotBeginError(f"{path} is no recording; expected what `rosetta bench` or `rosetta race` wrote")
        try:
            for number, line in enumerate(content.split(b"\n")[:-1], 1):
                where = f" in line {number}"
                lines.append(msgspec.json.decode(line, type=Later if lines else Head))
            where = ""
            recording = cls(path, lines[0], lines[1:])
            recording._check_rows()
        except (ValueError, RecursionError) as error:
            raise RosettaError(f"{path} is damaged{where}: {shown_text(error)}") from error
        return recording

    def _check_rows(self) -> None:
        """Raise ValueError if the rows or the lines contradict the plan."""
        plan, rows, rounds = self.plan, self.plan.rows, self.of_kind(Round)
        axes = plan.training.axes if plan.training else {}
        starts = [start for line in rounds for start in line.starts]
        visits = [visit for line in rounds for cycle in line.cycles for visit in cycle]
        of_rows = [*starts, *visits, *(line for line in self.lines if not isinstance(line, Round))]
        consistent = (
            len({row.label for row in rows}) == len(rows)
            and any(not row.installed for row in rows)
            and all(row.sizes.keys() == axes.keys() for row in rows)
            and (plan.training is None) == (self.head.text is None)
            and all(start.facts if plan.training else start.ready for start in starts)
            and all(line.row < len(rows) for line in of_rows)
        )
        if not consistent:
            raise ValueError("its lines contradict its plan")

    @property
    def plan(self) -> Plan:
        return self.head.plan

    def append(self, line: Line) -> None:
        self.lines.append(line)
        try:
            append_line(self.path, line)
        except Exception:  # not Ctrl-C, which may come when the line is on disk already
            self.lines.pop()
            raise

    def of_kind(self, kind: type[Kind]) -> list[Kind]:
        return [line for line in self.lines if isinstance(line, kind)]

    def rounds(self, work: Work = "training") -> list[Round]:
        """The rounds whose turns did this work."""
        return [line for line in self.of_kind(Round) if line.work == work]


def append_line(path: Path, line: Line) -> None:
    """Append a line and wait until it is on disk. Raises RosettaError and writes nothing if it is no valid line."""
    content = _encoded(path, line)
    with open(path, "ab") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def _encoded(path: Path, line: Line) -> bytes:
    """Return a line of the file as JSON. Raises RosettaError if it is no valid line."""
    try:
        content = msgspec.json.encode(line)
        msgspec.json.decode(content, type=type(line))
    except (ValueError, OverflowError) as error:  # among others for a path that is not UTF-8
        raise RosettaError(f"{path} cannot hold what was measured or planned: {shown_text(error)}") from error
    return content + b"\n"


def shown_text(text: object) -> str:
    """The beginning of a text from a recording, in one line of printable characters."""
    return printable(str(text))[:300]
