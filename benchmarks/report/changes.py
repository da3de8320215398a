"""Two recordings compared: figures that became faster or slower, and changes around them."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from statistics import fmean, median
from typing import Any

from benchmarks.in_child import Work
from benchmarks.measure.recording import Recording
from benchmarks.measure.statistics import Estimate, Observations, Word, counting, independent_ratio, observations
from benchmarks.measure.turns import undisturbed
from benchmarks.report.render import joined, quantity, safe, table
from benchmarks.report.render import ratio as shown

MOVED = 0.03  # share by which the median of all rows' steps must have changed for a warning
# The figure of each work.
FIGURES: dict[Work, str] = {"training": "training step", "batch": "character in a batch", "alone": "character alone"}


@dataclass(frozen=True)
class Change:
    """The change of a row's figure."""

    label: str  # label of the row
    figure: str  # of FIGURES
    before: float  # seconds in the first recording
    after: float  # seconds in the second recording
    ratio: Estimate  # before / after: above 1 is faster
    word: Word  # the verdict

    @property
    def slower_by(self) -> float:
        """The share by which the time grew if the verdict is "slower", else 0: 0.1 is 10 % more."""
        return 1 / self.ratio.value - 1 if self.word == "slower" else 0.0


@dataclass(frozen=True)
class Changes:
    """Changes from one recording to the next."""

    differences: list[str]  # between the two, which may be the cause instead of the code
    changes: list[Change]


def compare(before: Recording, after: Recording) -> Changes:
    """Compare every figure of every row that both recordings have measured in two rounds or more.

    - Nothing is compared if other programs were at work in too many cycles of a recording.
    - The two recordings have no rounds in common, so the intervals include what the machine did during either.
    """
    within, rows = max(before.plan.within, after.plan.within), [row.label for row in before.plan.rows]
    changes: list[Change] = []
    alone = all(undisturbed(cycle) for side in (before, after) for _, cycle in counting(side.rounds()))
    for work, figure in FIGURES.items() if alone else ():
        first, second = _of_steps(before, work), _of_steps(after, work)
        for index, row in enumerate(after.plan.rows):
            old = first.of_row(rows.index(row.label)) if row.label in rows else []
            new = second.of_row(index)
            if min(len(old), len(new)) > 1:
                seconds, ratio = (math.exp(fmean(old)), math.exp(fmean(new))), independent_ratio(new, old)
                changes.append(Change(row.label, figure, *seconds, ratio, ratio.word(within)))
    longer = [change.after / change.before for change in changes if change.figure == FIGURES["training"]]
    differences = [*_differences(before, after)]
    if len(longer) > 1 and abs(math.log(median(longer))) > math.log(1 + MOVED):
        differences.append(
            f"in the median over all rows a step takes {median(longer):.2f} times as long as before: when all rows "
            "change together, the machine is a more likely cause than the code"
        )
    return Changes(differences, changes)


def _of_steps(recording: Recording, work: Work) -> Observations:
    """The observations of a recording; for training, those of steps instead of pairs."""
    of_items, training = observations(recording, work).logarithms, recording.plan.training
    more = math.log(training.settings.batch_size) if training and work == "training" else 0.0
    return Observations({n: {row: item + more for row, item in rows.items()} for n, rows in of_items.items()})


def page(changes: Changes) -> str:
    """The changes in Markdown."""
    lines = [
        (safe(c.label), c.figure, quantity(c.before), quantity(c.after), f"{c.word}: {shown(c.ratio)}")
        for c in changes.changes
    ]
    warnings = "\n".join(f"- {safe(difference)}" for difference in changes.differences)
    figures = table(("row", "time of a", "before", "after", "the second recording is"), lines)
    note = "The number before × says how many times as fast the second recording is as the first."
    return joined(warnings, figures, figures and note)


def _differences(before: Recording, after: Recording) -> Iterator[str]:
    """A sentence for each difference between the two recordings: versions, machine, settings, rows."""
    first, second = map(_circumstances, (before, after))
    for name in sorted(first.keys() | second.keys()):
        old, new = first.get(name, "none"), second.get(name, "none")
        if old != new:
            yield f"{name} was {old}, is {new}"
    labels = [{row.label for row in side.plan.rows} for side in (before, after)]
    for label in sorted(labels[0] ^ labels[1]):
        yield f"{label} is only in the {'first' if label in labels[0] else 'second'} recording"


def _circumstances(recording: Recording) -> dict[str, Any]:
    """Circumstances that figures may depend on besides the code, by name."""
    training, machine, text = recording.plan.training, recording.head.machine, recording.head.text
    assert training
    assert text
    return {
        **{name: value or "not known" for name, value in machine.items() if name != "versions"},
        **machine["versions"],
        "corpus": text.sha256[:12],
        "weights": text.weights_sha256[:12],
        "num_samples": training.data.num_samples,
        "batch_size": training.settings.batch_size,
        "latent_dim": training.latent_dim,
        "threads": training.threads,
        "device": training.device,
    }
