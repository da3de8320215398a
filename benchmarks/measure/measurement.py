"""The measurement: JSON lines with the raw measurements of a bench or a race.
All results are derived from it.

- Each line is an object of a class of `benchmarks.schema`.
- Lines are only appended, and each is synced to disk. If measuring is killed, at most the last line
  is incomplete ("torn"). Readers ignore it, so a measurement that was cut is shown as far as it
  goes.
- `Measurement.read` checks each line against its class and its rows against the plan. A measurement
  that passes has results and a page.
"""

import os
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Self, TypeVar

import msgspec

from benchmarks.schema import Head, Later, Line, Plan, Round, Text, Work
from common.errors import CannotBeginError, RosettaError, refusing
from common.files import make_folder, read_at_most, write_atomically
from common.machine import describe_machine
from common.run import refuse_existing
from common.text import printable

MOST_BYTES = 32 << 20  # of a file, which bounds memory and time: about sixteen hours of seven rows
Kind = TypeVar("Kind", bound=Line)


@dataclass
class Measurement:
    """An opened measurement."""

    path: Path
    head: Head
    lines: list[Any] = field(default_factory=list)  # of Later

    @classmethod
    def begin(cls, path: Path, plan: Plan, text: Text | None = None) -> Self:
        """Begin a new measurement here and now. Raises as `create` does."""
        started = datetime.now(UTC).replace(microsecond=0)
        return cls.create(
            path, Head(machine=describe_machine(), started=started, plan=plan, text=text)
        )

    @classmethod
    def create(cls, path: Path, head: Head) -> Self:
        """Write a new file with the head. Raises CannotBeginError
        if that is impossible or something is there."""
        refuse_existing(path, "choose another --out")
        try:
            line = _line_of(path, head)
        except RosettaError as error:
            raise CannotBeginError(str(error)) from error
        with refusing(f"{path} cannot be written"):
            make_folder(path.parent)
            write_atomically(path, line)
        # A file that cannot be read again is refused before anything is measured.
        return cls.read(path)

    @classmethod
    def read(cls, path: Path) -> Self:
        """Read a measurement; a torn last line is left out.

        Raises CannotBeginError if the file cannot be read or is no measurement,
        RosettaError if it is damaged.
        """
        lines: list[Any] = []
        where = ""
        with refusing(f"{path} cannot be read", "; `rosetta bench` makes one"):
            content = read_at_most(MOST_BYTES, path)
        if not (content.startswith(b"{") and b"\n" in content):
            raise CannotBeginError(
                f"{path} is no measurement; expected what `rosetta bench` or `rosetta race` wrote"
            )
        try:
            for number, line in enumerate(content.split(b"\n")[:-1], 1):
                where = f" in line {number}"
                lines.append(msgspec.json.decode(line, type=Later if lines else Head))
            where = ""
            measurement = cls(path, lines[0], lines[1:])
            measurement._check_rows()
        except (ValueError, RecursionError) as error:
            raise RosettaError(f"{path} is damaged{where}: {shown_text(error)}") from error
        return measurement

    def _check_rows(self) -> None:
        """Raise ValueError if the rows or the lines contradict the plan."""
        plan, rows, rounds = self.plan, self.plan.rows, self.of_kind(Round)
        axes = plan.training.axes if plan.training else {}
        starts = [start for line in rounds for start in line.starts]
        turns = [turn for line in rounds for cycle in line.cycles for turn in cycle]
        of_rows = [*starts, *turns, *(line for line in self.lines if not isinstance(line, Round))]
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
    """Append a line and wait until it is on disk.
    Raises RosettaError and writes nothing if it is no valid line."""
    content = _line_of(path, line)
    with open(path, "ab") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def _line_of(path: Path, line: Line) -> bytes:
    """Return a line of the file as JSON. Raises RosettaError if it is no valid line."""
    try:
        content = msgspec.json.encode(line)
        msgspec.json.decode(content, type=type(line))
    except (ValueError, OverflowError) as error:  # among others for a path that is not UTF-8
        raise RosettaError(
            f"{path} cannot hold what was measured or planned: {shown_text(error)}"
        ) from error
    return content + b"\n"


def shown_text(text: object) -> str:
    """The beginning of a text from a measurement, in one line of printable characters."""
    return printable(str(text))[:300]
