"""From a recording's visits to observations: which cycles are used, and a cell's time in each generation."""

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

MOST_DROPPED = 0.2  # if a larger share of the cycles is dropped, no row is called faster than another

# Gives the seconds in a cell's visit that belong to a figure; empty where the visit has none.
Seconds = Callable[[Cell, Visit], Sequence[float]]


@dataclass(frozen=True)
class Timings:
    """The times in a recording, without the cycles in which other processes were at work.

    Such a cycle is dropped for all cells, because the other processes did not slow all of them down alike. A cycle is
    never dropped because of its times.
    """

    recording: Recording

    @cached_property
    def cycles(self) -> list[tuple[Generation, Sequence[Visit]]]:
        """Every cycle with the generation that it belongs to."""
        generations = self.recording.of_kind(Generation)
        return [(generation, cycle) for generation in generations for cycle in generation.cycles]

    @cached_property
    def used(self) -> list[tuple[Generation, Sequence[Visit]]]:
        """The cycles in which other processes used at most MOST_OTHERS cores in every visit."""
        return [(g, cycle) for g, cycle in self.cycles if all(visit.others <= MOST_OTHERS for visit in cycle)]

    @property
    def dropped(self) -> int:
        """Number of cycles that are not used."""
        return len(self.cycles) - len(self.used)

    @property
    def trusted(self) -> bool:
        """Whether enough cycles were used to say which row is faster."""
        return bool(self.used) and self.dropped <= MOST_DROPPED * len(self.cycles)

    @cached_property
    def steps(self) -> Fit:
        """Seconds of a training step. On bucketed batches: the mean over a visit's steps, whose widths differ."""
        return self._fit(lambda cell, visit: [fmean(visit.steps)] if cell.bucketed else visit.steps)

    @cached_property
    def batches(self) -> Fit:
        """Seconds per character when many sentences are decoded in one call."""
        return self._fit(lambda cell, visit: [call / self._characters[cell][0] for call in visit.batch])

    @cached_property
    def alone(self) -> Fit:
        """Seconds per character when the sentence with the longest output is decoded by itself."""
        return self._fit(lambda cell, visit: [call / self._characters[cell][1] for call in visit.alone])

    def figures(self) -> dict[str, Fit]:
        """The figures by which two recordings are compared, by their names."""
        return {
            "training step": self.steps,
            "character decoded in a batch": self.batches,
            "character decoded alone": self.alone,
        }

    def settling(self, cell: Cell) -> float:
        """By what share the first half of the steps in a cell's long visits is slower than the second half.

        There is one long visit in each generation, and the result is the mean over them; 0 where there is none.
        """
        half = SETTLING_STEPS // 2
        found = [
            log(median(visit.steps[:half]) / median(visit.steps[half:]))
            for _, cycle in self.used
            for visit in cycle
            if self._cell(visit) == cell and len(visit.steps) == SETTLING_STEPS
        ]
        return exp(fmean(found)) - 1 if found else 0.0

    def finite(self, cell: Cell) -> bool:
        """Whether every loss of the cell was a finite number."""
        return all(visit.finite for _, cycle in self.cycles for visit in cycle if self._cell(visit) == cell)

    def outside(self, cell: Cell) -> float:
        """The largest share of a visit's time that passed outside the timed steps.

        It is large where the device was still at work when a step's clock had been stopped.
        """
        visits = [visit for _, cycle in self.cycles for visit in cycle if self._cell(visit) == cell]
        return max((1 - fsum([*visit.lead, *visit.steps]) / visit.loop for visit in visits), default=0.0)

    @cached_property
    def _characters(self) -> dict[Cell, tuple[int, int]]:
        """Number of characters that a cell's timed calls put out: in a batch, and for one sentence by itself."""
        return {line.cell: line.characters for line in self.recording.of_kind(Decoded) if line.characters}

    def _cell(self, visit: Visit) -> Cell:
        return self.recording.plan.cells[visit.cell]

    def _fit(self, seconds: Seconds) -> Fit:
        """The fit of one observation for each cell and block.

        An observation is the mean, over the block's used cycles, of the logarithm of a visit's median. A block is a
        generation, or a part of one where not all processes fit into memory together.
        """
        blocks: dict[tuple[int, str], list[float]] = {}
        numbers: dict[tuple[int, int], int] = {}
        for generation, cycle in self.used:
            block = numbers.setdefault((generation.number, generation.heat), len(numbers))
            for visit in cycle:
                cell = self._cell(visit)
                if timed := seconds(cell, visit):
                    blocks.setdefault((block, cell.label), []).append(log(median(timed)))
        return Fit({key: fmean(found) for key, found in blocks.items()})


def widest(timings: Timings) -> Estimate | None:
    """The ratio with the widest interval among the rows whose comparison is the benchmark's question.

    Where the question has only one row, it is the row's own time. None before there is an interval for every pair.
    """
    labels = [cell.label for cell in timings.recording.plan.question]
    if len(labels) == 1:
        return timings.steps.seconds(labels[0])
    ratios = [timings.steps.ratio(left, right) for n, left in enumerate(labels) for right in labels[n + 1 :]]
    if not ratios or any(ratio is None for ratio in ratios):
        return None
    return max((ratio for ratio in ratios if ratio), key=lambda ratio: ratio.half_width)


def precision(recording: Recording) -> float | None:
    """How far `widest` reaches to its wider side, as a share: 0.07 is 7 %. None before it is known."""
    found = widest(Timings(recording))
    return found.half_width if found else None
