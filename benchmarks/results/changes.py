"""Comparing two recordings: what became faster or slower from the first to the second, and what else changed."""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from benchmarks.measure.recording import Recording
from benchmarks.results.intervals import Estimate, Word, independent_ratio, word_for
from benchmarks.results.timings import Timings

MOVED = 0.03  # share by which the median of all rows' steps must have changed for a warning


@dataclass(frozen=True)
class Change:
    """How one figure of one row changed."""

    label: str  # label of the row
    figure: str  # "training step", "character decoded in a batch" or "character decoded alone"
    before: float  # seconds in the first recording
    after: float  # seconds in the second recording
    ratio: Estimate  # before / after: above 1 is faster
    word: Word  # the verdict

    @property
    def slower_by(self) -> float:
        """By what share the time grew, where the verdict is "slower": 0.1 is 10 % more. Otherwise 0."""
        return 1 / self.ratio.value - 1 if self.word == "slower" else 0.0


@dataclass(frozen=True)
class Comparison:
    """What changed from one recording to another."""

    differences: list[str]  # what else differs between the two, and so may be the cause instead of the code
    changes: list[Change]


def compare(before: Recording, after: Recording) -> Comparison:
    """Compare every figure of every row that both recordings have measured in two generations or more.

    - Nothing is compared where one of the recordings gives no verdicts because other processes were at work in too
      many of its cycles.
    - The two recordings have no generations in common, so the intervals include what the machine did during either.
    """
    return Comparison(list(_differences(before, after)), list(_changes(Timings(before), Timings(after))))


def _changes(before: Timings, after: Timings) -> Iterator[Change]:
    if not (before.trusted and after.trusted):
        return
    within = max(side.recording.plan.size.within for side in (before, after))
    for cell in after.recording.plan.rows:
        for figure, fit in after.figures().items():
            sides = before.figures()[figure].of_row(cell.label), fit.of_row(cell.label)
            if min(map(len, sides)) < 2:
                continue
            old, new = sides
            ratio = independent_ratio(new, old)
            seconds = math.exp(float(np.mean(old))), math.exp(float(np.mean(new)))
            yield Change(cell.label, figure, *seconds, ratio, word_for(ratio, within))


def _differences(before: Recording, after: Recording) -> Iterator[str]:
    """One sentence for each thing that differs between the two recordings: versions, machine, settings, rows."""
    sides = [
        {
            **{name: value or "not known" for name, value in recording.head.machine.items() if name != "versions"},
            **recording.head.machine["versions"],
            "corpus": recording.head.corpus.sha256[:12],
            "weights": recording.head.corpus.weights_sha256[:12],
            "num_samples": recording.plan.data.num_samples,
            "batch_size": recording.plan.settings.batch_size,
            "latent_dim": recording.plan.latent_dim,
            "threads": recording.plan.threads,
            "device": recording.plan.device,
        }
        for recording in (before, after)
    ]
    for name in sorted(sides[0].keys() | sides[1].keys()):
        old, new = (side.get(name, "none") for side in sides)
        if old != new:
            yield f"{name} was {old}, is {new}"
    both = [Timings(recording).steps for recording in (before, after)]
    labels = [cell.label for cell in after.plan.rows if all(fit.of_row(cell.label) for fit in both)]
    if len(labels) > 1:
        shift = math.exp(
            np.median([np.mean(both[1].of_row(name)) - np.mean(both[0].of_row(name)) for name in labels])
        )
        if max(shift, 1 / shift) > 1 + MOVED:
            yield (
                f"in the median over all rows a step takes {shift:.2f} times as long as before: when all rows change "
                "together, the machine is a more likely cause than the code"
            )
    rows = [{cell.label for cell in recording.plan.rows} for recording in (before, after)]
    for label in sorted(rows[0] ^ rows[1]):
        yield f"{label} is only in the {'first' if label in rows[0] else 'second'} recording"
