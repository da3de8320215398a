"""A race: anybody's scripts, which take turns after they are seen to compute the same; its plan and its recording."""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from shutil import copytree
from tempfile import TemporaryDirectory
from typing import Annotated, Literal

import msgspec

from benchmarks.compare.diff import compare_records
from benchmarks.compare.mapping import MappingFile
from benchmarks.compare.record import ROUNDED, Side
from benchmarks.compare.rungs import COMPARED
from benchmarks.in_child import Amount, CountOrZero, Measured, Visit
from benchmarks.measure import machine
from benchmarks.measure.lines import Line, Lines, Opening, Round, Start, Work, damages_of_cycles
from benchmarks.measure.rounds import CYCLES, GIVES_WAY, Rounds
from benchmarks.measure.scripts import WARM_UP_STEPS, Runner, Script
from benchmarks.measure.statistics import uneven
from common.errors import RosettaError, refusing

FORMAT, VERSION = "rosetta-race", 1
WITHIN = 0.03  # half-width that intervals must reach, as a share, unless --within says otherwise
BUDGET = 300.0  # seconds
MOST_SCRIPTS = 20
WITHIN_RECORD = ("record.json", "control", ROUNDED)  # beside files of arrays
MOST_OF_A_SENTENCE = 2000  # characters; a setting may have more
Words = Annotated[str, msgspec.Meta(max_length=MOST_OF_A_SENTENCE)]


class RacePlan(Measured, frozen=True):
    """What is raced, how sure figures must become, and how long it may take."""

    rows: Annotated[tuple[Runner, ...], msgspec.Meta(min_length=2, max_length=MOST_SCRIPTS)]
    within: Annotated[float, msgspec.Meta(ge=0)] = WITHIN
    budget: Annotated[float, msgspec.Meta(ge=0)] = BUDGET  # seconds

    @property
    def question(self) -> list[Runner]:
        """The contestants whose ratios to one another must become as narrow as `within`: without the control, unless
        there is only one other."""
        others = [row for row in self.rows if not row.control]
        return others if len(others) > 1 else list(self.rows)


class RaceHead(Opening, frozen=True, tag="race"):
    """The first line of a race."""

    plan: RacePlan


class Proof(Line, frozen=True):
    """Whether a contestant computes what the first one computes, by their records."""

    row: CountOrZero
    word: Literal["same", "differs", "not compared"]
    rungs: Annotated[list[Words], msgspec.Meta(max_length=len(COMPARED))]  # that were compared
    error: Amount | None = None  # the largest one on these; None where they differ, or nothing was compared
    why: Annotated[list[Words], msgspec.Meta(max_length=20)] = msgspec.field(default_factory=list)
    accepted: Annotated[list[Words], msgspec.Meta(max_length=20)] = msgspec.field(default_factory=list)  # deviations


@dataclass
class RaceRecording(Lines[RaceHead]):
    """An opened recording of a race."""

    VERSIONS = {FORMAT: VERSION}  # noqa: RUF012
    HEAD = RaceHead
    LATER = Round | Proof
    SAME_STEPS = True

    def items(self, work: Work) -> dict[int, int]:
        return {start.row: items_of(start) for line in self.rounds() for start in line.starts}

    def damages(self) -> Iterator[str]:
        rows = len(self.head.plan.rows)
        if len({row.label for row in self.head.plan.rows}) < rows:
            yield "two of its scripts have one name"
        for line in self.lines:
            named = [start.row for start in line.starts] if isinstance(line, Round) else [line.row]
            if max(named, default=0) >= rows:
                yield f"it has lines of other scripts than its {rows}"
            if isinstance(line, Round):
                yield from damages_of_cycles(line, rows)
                if any(items_of(start) < 1 for start in line.starts):
                    yield "a script has steps without items"


def items_of(start: Start) -> int:
    """The number of items in a step."""
    items = start.facts.settings.get("batch")
    return items if isinstance(items, int) and items <= 10**9 else 0


class Race(Rounds[Script]):
    """A race on its way. `mapping` says which weights of the records belong together, `accept` names deviations."""

    recording: RaceRecording
    timed_seconds = 0.75  # scripts start sooner than backends, so that visits are most of the time

    def __init__(
        self, recording: RaceRecording, mapping: MappingFile | None = None, accept: Sequence[str] = ()
    ) -> None:
        self.plan, self.mapping, self.accept = recording.head.plan, mapping, accept
        super().__init__(recording, range(len(self.plan.rows)), seed=0)
        self.records: dict[int, Path] = {}  # copies of the records that scripts made, by row

    def _opened(self, stack: ExitStack, indices: Sequence[int], number: int) -> tuple[list[Script], list[Start]]:
        """One after another, since scripts may write the same files when they start."""
        live: list[Script] = []
        starts = []
        for row in indices:
            runner = self.plan.rows[row]
            self.status(f"round {number}: starting {runner.label}")
            script, began = Script(row, runner, GIVES_WAY * self.budget, counts=self.counts), machine.now()
            script.start(stack)
            ready = script.wait_until_ready()
            seconds = machine.now() - began
            if number == 1 and ready.record is not None and not runner.control:
                self._keep(row, Path(ready.record), Path(stack.enter_context(TemporaryDirectory())))
            starts.append(Start(row, seconds, script.facts(), script.warm_up()))
            live.append(script)
        if uneven(visit for line in self.recording.rounds() for cycle in line.cycles for visit in cycle):
            for script in live:  # which all do the same steps, so turns are sized by the slowest one's
                script.planned = lambda own: max(one.step_seconds for one in live)
        return live, starts

    def _keep(self, row: int, record: Path, folder: Path) -> None:
        """Copy a record into a folder, since the next script may write its own over it."""
        self.records[row] = folder / record.name
        label = self.plan.rows[row].label
        with refusing(f"{label} names {record} as its record, which cannot be read", kind=RosettaError):
            copytree(record, self.records[row], ignore=not_of_a_record)

    def _before_turns(self, live: Sequence[Script]) -> None:
        """See whether all compute what the first one computes."""
        proven = {proof.row for proof in self.recording.of_kind(Proof)}
        for row, runner in enumerate(self.plan.rows):
            if row and not runner.control and row not in proven:
                self.status(f"comparing what {runner.label} computes")
                self.recording.append(self._proof(row))

    def _proof(self, row: int) -> Proof:
        missing = [self.plan.rows[one].label for one in (0, row) if one not in self.records]
        if missing:
            reason = f"{' and '.join(missing)} gave no record: take_turns(step, after=record)"
            return Proof(row, "not compared", [], None, [reason])
        try:
            sides = Side(self.records[0]), Side(self.records[row])
            diff = compare_records(*sides, self.mapping, accept=self.accept)
        except RosettaError as error:
            return Proof(row, "not compared", [], None, [str(error)[:MOST_OF_A_SENTENCE]])
        if not diff.passed and diff.checks:
            causes = [f"{cause.standing}: {cause.sentence}" for cause in diff.causes]
            why = [sentence[:MOST_OF_A_SENTENCE] for sentence in (*diff.explanation, *causes)]
            return Proof(row, "differs", diff.climbed, None, why[:20])
        if "forward" not in diff.climbed or not diff.control.passed:
            reason = "the records have no output in common, or the control of their comparison failed"
            return Proof(row, "not compared", diff.climbed, None, [reason])
        return Proof(row, "same", diff.climbed, max(check.error for check in diff.checks), accepted=diff.accepted)

    def _first(self, before: Sequence[Visit]) -> int:
        """Steps are counted on in each process, after those of warming up."""
        return max((visit.first + visit.each * len(visit.steps) for visit in before), default=1 + WARM_UP_STEPS)

    def _most_cycles(self) -> int:
        """So many that turns take about as long as starting: of a script that starts at once, rounds tell more."""
        return min(CYCLES, 1 + int(self.start_seconds / self._cycle_seconds(self.matched)))


def not_of_a_record(folder: str, names: list[str]) -> list[str]:
    """Which of the names in a folder no record has, since a script may call any folder its record."""
    return [name for name in names if name not in WITHIN_RECORD and not name.endswith(".safetensors")]
