"""Results of a measurement that a bench and a race have in common.

Times are in seconds and memory in bytes unless a comment says otherwise.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from statistics import fmean, median
from typing import Any

from benchmarks.measure.measurement import Measurement
from benchmarks.measure.statistics import (
    LEAST_ROUNDS,
    counting,
    grouped,
    observations,
    undisturbed,
    widest,
)
from benchmarks.schema import Round
from common.text import count

NOTHING = "Nothing was measured yet."


class RowResults:
    """The results of a row."""

    def __init__(self, results: "Results", index: int) -> None:
        starts, turns = results.starts[index], results.turns.get(index, [])
        self.row = results.plan.rows[index]
        self.label = self.row.label  # its name in tables and charts
        # Of a step: pairs, or what a script calls items.
        self.items = turns[0].items if turns else 1
        self.item = results.observed.seconds(index)  # None if no cycle could be used
        self.step = self.item and self.item.times(self.items)  # a warm training step
        # With all compiling.
        self.first_step = median(start.warm_up.first_step_seconds for start in starts)
        # Most memory of any process in training.
        self.peak_memory = max(
            [start.warm_up.peak for start in starts] + [turn.peak for turn in turns]
        )


class Results(ABC):
    """The results of a bench or a race, so far if it is unfinished."""

    rows: Sequence[Any]  # of RowResults

    def __init__(self, measurement: Measurement) -> None:
        self.measurement, self.head, self.plan = measurement, measurement.head, measurement.plan
        rounds = measurement.rounds()
        cycles, self.counted = [cycle for line in rounds for cycle in line.cycles], counting(rounds)
        self.observed = observations(measurement)
        self.starts = grouped((start.row, start) for line in rounds for start in line.starts)
        self.turns = grouped((turn.row, turn) for cycle in cycles for turn in cycle)
        self.rounds, self.cycles = len(rounds), len(cycles)  # rounds are of new processes
        # Cycles that are left out, since other programs disturbed them; and retried turns.
        self.dropped = len(cycles) - len(self.counted)
        self.again = sum(turn.tries - 1 for cycle in cycles for turn in cycle)
        # Mean number of cores that other programs used during the turns that count.
        self.others = fmean([turn.others for _, cycle in self.counted for turn in cycle] or [0.0])
        self.seconds = sum(line.seconds for line in measurement.of_kind(Round))
        # Half-width of the widest interval, as a share; None before it is known.
        self.reached = widest(measurement)

    @property
    @abstractmethod
    def headline(self) -> str:
        """The answer in a sentence."""

    @abstractmethod
    def _doubts_of_rows(self) -> Iterator[str]:
        """Reasons not to rely on single rows."""

    @abstractmethod
    def _more_notes(self) -> Iterator[str]:
        """Notes on the figures of this kind of measurement."""

    @property
    def doubts(self) -> list[str]:
        """Reasons not to rely on the figures."""
        doubts = []
        used = len(self.observed.logarithms)
        least = LEAST_ROUNDS * len(self.plan.rows_by_size)
        if not all(undisturbed(cycle) for _, cycle in self.counted):
            doubts.append(
                f"other programs used {self.others:.2f} cores during the turns, which slows some "
                "rows more than others and widens intervals; measure on an idle machine, or with "
                "fewer threads than cores"
            )
        if self.reached is None:
            doubts.append("too few rounds can be used for an interval; give a longer --budget")
        elif used < least:
            which = (
                f"{used} of {self.rounds} rounds" if used < self.rounds else count(used, "round")
            )
            doubts.append(
                f"only {which} can be used, and {least} are the least for figures to rely on"
            )
        return [*doubts, *self._doubts_of_rows()]

    @property
    def notes(self) -> list[str]:
        """Notes on the figures for their reader."""
        left_out = (
            f"{self.dropped} of {self.cycles} cycles are left out because other programs were at "
            "work"
        )
        notes = [f"{left_out}; close other programs and measure again"] if self.dropped else []
        return [*notes, *self._more_notes()]
