"""Two recordings against one another: what became faster or slower, and whether that is real."""

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from math import isnan, nan
from typing import Any

import numpy as np

from benchmarks.analysis import Analysis
from benchmarks.figures import FIGURES
from benchmarks.intervals import NoEstimateError, Rounds, Verdict, independent_ratio, verdict
from benchmarks.recording import Recording


@dataclass(frozen=True)
class Change:
    """One figure of one row."""

    label: str  # of the row
    figure: str  # a key of `figures.FIGURES`
    before: float  # seconds, medians
    after: float
    verdict: Verdict  # on before / after: above 1 is faster

    @property
    def slower_by(self) -> float:
        """The share of time added, where that is real; else 0."""
        slower = self.verdict.word == "slower" and self.verdict.ratio is not None
        return 1 / self.verdict.ratio.value - 1 if slower and self.verdict.ratio else 0.0


@dataclass(frozen=True)
class Comparison:
    """What changed from one recording to another."""

    banner: list[str]  # what else differs, so that not the code alone may be the cause
    changes: list[Change]

    def as_json(self) -> dict[str, Any]:
        changes = [asdict(change) | {"slower_by": change.slower_by} for change in self.changes]
        return {"banner": self.banner, "changes": changes}


def compare(before: Recording, after: Recording) -> Comparison:
    """Every figure of every row that both have. Rounds of two recordings do not pair, so intervals are wider."""
    return Comparison(list(_banner(before, after)), list(_changes(Analysis(before), Analysis(after))))


def _changes(before: Analysis, after: Analysis) -> Iterator[Change]:
    rounds = min(len(before.rounds), len(after.rounds))
    for cell in after.plan.rows:
        if not before.measured.get(cell) or not after.measured[cell]:
            continue
        for figure, rounds_of in FIGURES.items():
            floors = before.floor(rounds_of, cell), after.floor(rounds_of, cell)
            floor = nan if any(map(isnan, floors)) else max(floors)
            old, new = rounds_of(before.measured[cell]), rounds_of(after.measured[cell])
            if not old or not new:
                continue  # not measured of such a row, or by the version that recorded it
            try:
                found = verdict(independent_ratio(new, old), floor, rounds)
            except NoEstimateError as error:
                found = Verdict("none", f"no verdict: {error}", None)
            yield Change(cell.label, figure, _middle(old), _middle(new), found)


def _middle(rounds: Rounds) -> float:
    return float(np.median([np.median(timed) for timed in rounds.values()]))


def _banner(before: Recording, after: Recording) -> Iterator[str]:
    """One line for each thing that differs."""
    sides = [
        {
            **{name: value for name, value in recording.machine.items() if name != "versions"},
            **recording.machine["versions"],
            "corpus": recording.corpus["sha256"][:12],
            "num_samples": recording.plan.data.num_samples,
            "batch_size": recording.plan.settings.batch_size,
            "latent_dim": recording.plan.latent_dim,
            "threads": recording.plan.threads,
            "device": recording.plan.device,
            **asdict(recording.plan.size),
        }
        for recording in (before, after)
    ]
    for name in sorted(sides[0].keys() | sides[1].keys()):
        old, new = (side.get(name, "none") for side in sides)
        if old != new:
            yield f"{name} was {old}, is {new}"
    rows = [{cell.label for cell in recording.plan.rows} for recording in (before, after)]
    for label in sorted(rows[0] ^ rows[1]):
        yield f"{label} is in {'the first' if label in rows[0] else 'the second'} alone"
