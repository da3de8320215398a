"""A race: anybody's scripts take turns, after their records show whether all compute the same."""

from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.measure import quiet
from benchmarks.measure.measurement import Measurement
from benchmarks.measure.proof import NOT_INSTALLED, can_compare, keep_record, proof
from benchmarks.measure.rounds import Rounds
from benchmarks.measure.scripts import Script
from benchmarks.measure.statistics import uneven
from benchmarks.schema import WARM_UP_STEPS, Proof, Start, Turn
from common.files import scratch_folder

if TYPE_CHECKING:
    from benchmarks.measure.proof import MappingFile

# half-width that intervals must reach, as a share, unless --within says otherwise
RACE_WITHIN = 0.03
RACE_BUDGET = 300.0  # seconds
MOST_SCRIPTS = 20


class Race(Rounds[Script]):
    """A race in progress. `mapping` pairs the weights of the records."""

    # Longer than a bench's: scripts start sooner, so turns are most of the time.
    timed_seconds = 0.75

    def __init__(
        self,
        measurement: Measurement,
        mapping: "MappingFile | None" = None,
    ) -> None:
        super().__init__(measurement, seed=0)
        self.mapping = mapping
        self.records: dict[int, Path] = {}  # copies of the records that scripts made, by row

    def _opened(
        self, stack: ExitStack, indices: Sequence[int], number: int
    ) -> tuple[list[Script], list[Start]]:
        """One after another, since scripts may write the same files when they start."""
        live: list[Script] = []
        starts, first = [], quiet.now()
        for index in indices:
            row = self.plan.rows[index]
            self.status(f"round {number}: starting {row.label}")
            script, began = Script(index, row, self.budget, counts=self.counts), quiet.now()
            script.start(stack)
            ready = script.wait_until_ready()
            seconds = quiet.now() - began
            if number == 1 and ready.record is not None and can_compare():
                record = Path(ready.record)
                self.records[index] = stack.enter_context(scratch_folder()) / record.name
                keep_record(row.label, record, self.records[index])
            starts.append(script.warm_up(seconds))
            live.append(script)
            self._refuse_slow_starts(len(live), len(indices), first)
        if uneven(
            turn for line in self.measurement.rounds() for cycle in line.cycles for turn in cycle
        ):
            # All do the same steps, so the slowest script's decide the size of a turn.
            for script in live:
                script.planned = lambda step: max(runner.step_seconds for runner in live)
        return live, starts

    def _before_turns(self, live: Sequence[Script]) -> None:
        """Compare what each script computes with what the first one computes,
        in the first round."""
        for index, row in enumerate(self.plan.rows):
            if index and self._number == 1:
                self.status(f"comparing what {row.label} computes")
                self.measurement.append(self._proof(index))

    def _proof(self, row: int) -> Proof:
        """Compare a row's record with that of the first row."""
        if not can_compare():
            return Proof(row, "not compared", [], None, [NOT_INSTALLED])
        missing = [self.plan.rows[index].label for index in (0, row) if index not in self.records]
        if missing:
            reason = f"{' and '.join(missing)} gave no record: take_turns(step, after=record)"
            return Proof(row, "not compared", [], None, [reason])
        return proof(row, self.records[0], self.records[row], self.mapping)

    def _first(self, before: Sequence[Turn]) -> int:
        """Continue the count of steps in each process, after those of warming up."""
        return max(
            (turn.first + turn.each * len(turn.steps) for turn in before), default=1 + WARM_UP_STEPS
        )
