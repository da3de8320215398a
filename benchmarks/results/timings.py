"""From visits to observations: which cycles are used, and what a cell's time was in each generation."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from math import exp, fsum, log
from statistics import fmean, median

from benchmarks.measure.machine import MOST_OTHERS
from benchmarks.measure.plan import Cell
from benchmarks.measure.recording import Decoded, Generation, Recording, Visit
from benchmarks.measure.schedule import SETTLING_STEPS
from benchmarks.results.intervals import Estimate, Fit

MOST_DROPPED = 0.2  # share of the cycles that may be dropped; above it nothing is said of who is faster

# The seconds that a figure takes of a visit; empty where the visit has none.
Seconds = Callable[[Cell, Visit], Sequence[float]]


@dataclass(frozen=True)
class Timings:
    """A recording's visits, without the cycles in which other processes were at work.

    Such a cycle is dropped for all cells: what it would tell of one is not what it would tell of another. Nothing is
    dropped for its times.
    """

    recording: Recording

    @cached_property
    def cycles(self) -> list[tuple[Generation, Sequence[Visit]]]:
        generations = self.recording.of_kind(Generation)
        return [(generation, cycle) for generation in generations for cycle in generation.cycles]

    @cached_property
    def used(self) -> list[tuple[Generation, Sequence[Visit]]]:
        return [(g, cycle) for g, cycle in self.cycles if all(visit.others <= MOST_OTHERS for visit in cycle)]

    @property
    def dropped(self) -> int:
        return len(self.cycles) - len(self.used)

    @property
    def trusted(self) -> bool:
        """Whether so few cycles were dropped that something may be said of who is faster."""
        return bool(self.used) and self.dropped <= MOST_DROPPED * len(self.cycles)

    @cached_property
    def steps(self) -> Fit:
        """Seconds a training step; bucketed, those that a batch's worth of pairs takes."""
        return self._fit(lambda cell, visit: [fmean(visit.steps)] if cell.bucketed else visit.steps)

    @cached_property
    def batches(self) -> Fit:
        """Seconds a character that is decoded among many sentences."""
        return self._fit(lambda cell, visit: _each(visit.batch, self.characters(cell)[0]))

    @cached_property
    def alone(self) -> Fit:
        """Seconds a character of the longest sentence, decoded by itself."""
        return self._fit(lambda cell, visit: _each(visit.alone, self.characters(cell)[1]))

    def figures(self) -> dict[str, Fit]:
        """What recordings are compared by, each with the times that its name tells."""
        return {
            "training step": self.steps,
            "character decoded in a batch": self.batches,
            "character decoded alone": self.alone,
        }

    def characters(self, cell: Cell) -> tuple[int, int]:
        """That the cell's timed calls put out: in a batch, alone; a cell that has none has no such calls."""
        return self._characters.get(cell, (1, 1))

    def settling(self, cell: Cell) -> float:
        """By what share the early steps of the long visits, one a generation, are slower than the late ones: their
        mean; 0 where there is none."""
        half = SETTLING_STEPS // 2
        found = [
            log(median(visit.steps[:half]) / median(visit.steps[half:]))
            for _, cycle in self.used
            for visit in cycle
            if self._cell(visit) == cell and len(visit.steps) == SETTLING_STEPS
        ]
        return exp(fmean(found)) - 1 if found else 0.0

    def finite(self, cell: Cell) -> bool:
        """Whether every loss of the cell was."""
        return all(visit.finite for _, cycle in self.cycles for visit in cycle if self._cell(visit) == cell)

    def outside(self, cell: Cell) -> float:
        """The largest share of a visit's loop that lies outside its steps, where the device was still at work."""
        visits = [visit for _, cycle in self.cycles for visit in cycle if self._cell(visit) == cell]
        return max((1 - fsum([*visit.lead, *visit.steps]) / visit.loop for visit in visits), default=0.0)

    @cached_property
    def _characters(self) -> dict[Cell, tuple[int, int]]:
        return {line.cell: line.characters for line in self.recording.of_kind(Decoded) if line.characters}

    def _cell(self, visit: Visit) -> Cell:
        return self.recording.plan.cells[visit.cell]

    def _fit(self, seconds: Seconds) -> Fit:
        """Of each cell and generation: the mean over the cycles of the logarithm of a visit's median."""
        blocks: dict[tuple[int, str], list[float]] = {}
        numbers: dict[tuple[int, int], int] = {}
        for generation, cycle in self.used:
            block = numbers.setdefault((generation.number, generation.heat), len(numbers))
            for visit in cycle:
                cell = self._cell(visit)
                if timed := seconds(cell, visit):
                    blocks.setdefault((block, cell.label), []).append(log(median(timed)))
        return Fit({key: fmean(found) for key, found in blocks.items()})


def _each(seconds: Sequence[float], characters: int) -> list[float]:
    """Seconds a character, of each call."""
    return [call / characters for call in seconds]


def widest(timings: Timings) -> Estimate | None:
    """The widest interval of the question that a benchmark answers, one row's own where there is no other; None
    before it can be told."""
    labels = [cell.label for cell in timings.recording.plan.question]
    if len(labels) == 1:
        return timings.steps.seconds(labels[0])
    ratios = [timings.steps.ratio(left, right) for n, left in enumerate(labels) for right in labels[n + 1 :]]
    if not ratios or any(ratio is None for ratio in ratios):
        return None
    return max((ratio for ratio in ratios if ratio), key=lambda ratio: ratio.half_width)


def precision(recording: Recording) -> float | None:
    """How far the widest interval of the question reaches to its wider side; None before it can be told."""
    found = widest(Timings(recording))
    return found.half_width if found else None
