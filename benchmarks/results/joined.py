"""Joining recordings of one plan, of which each of several machines measured some rows or all.

- A row is compared only with rows that were measured in turns with it on the same machine. Times of different
  machines say nothing about backends, but a ratio of two rows can be held against the same ratio on another machine.
- Machines that are described alike count as the same hardware. Their generations are fitted together, so that rows of
  different machines are compared through the rows that these machines have in common, as are the parts of a
  generation that does not fit into memory. That assumes that the ratio of two rows is the same on all of them, so it
  is not done where a ratio that several of them measured differs.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from itertools import combinations
from pathlib import Path

import msgspec

from benchmarks.measure.plan import SEPARATOR, Plan
from benchmarks.measure.recording import MOST_UNKNOWNS, Generation, Head, Recording
from benchmarks.results.intervals import Estimate, Fit, independent_ratio, word_for
from benchmarks.results.rows import Analysis
from benchmarks.results.values import Pair, Results, Row, grouped
from common.errors import CannotBeginError, RosettaError
from common.text import printable

SPECIAL = ("installed", "bucketed", "reduced")  # kinds of pairs that compare a row with its backend's plain row
MOST_JOINED = 100  # recordings
MOST_SHOWN = 150  # characters of a value that an error shows


@dataclass(frozen=True)
class Part:
    """One row in one recording."""

    place: str  # name of the recording
    label: str  # of the row
    compared: bool  # whether parity held and all losses were finite
    version: str  # of the framework
    step: Estimate | None  # seconds of a training step
    reference: str  # label of the row of this recording that it is compared with; "" if there is none
    ratio: Estimate | None  # how many times as fast as the reference it trains


@dataclass(frozen=True)
class Place:
    """One recording, and the machine that it was measured on."""

    name: str
    path: Path
    head: Head
    parts: Sequence[Part]
    warnings: Sequence[str]
    generations: int
    seconds: float  # total seconds of measuring
    trusted: bool  # whether enough cycles were undisturbed to say which row is faster
    bias: float  # share by which a row that was measured twice differs from itself
    steps: Fit  # of the seconds of a training step
    beginning: str  # digest of the first generation; "" if there is none

    @property
    def hardware(self) -> tuple[object, ...]:
        """What machines with the same hardware have in common; the path of this recording where that is not known.

        A recording does not say on which GPU it was measured, and the name of a processor is not found every time.
        """
        machine = self.head.machine
        if self.head.plan.device != "cpu" or not machine["processor"]:
            return (self.path,)
        # Equal machines differ by some megabytes, which their systems reserve.
        return machine["processor"], machine["instructions"], machine["cores"], round(machine["memory"] / 2**30)


@dataclass(frozen=True)
class Difference:
    """A ratio that two machines do not agree about: their intervals have no number in common."""

    high: Part  # where the ratio is larger
    low: Part


@dataclass(frozen=True)
class Together:
    """The rows that several machines with the same hardware measured, compared with one another."""

    places: Sequence[str]  # names of the recordings
    labels: Sequence[str]  # of the rows, from fast to slow
    pairs: Sequence[Pair]
    why_not: str  # why they are not compared; "" if they are


@dataclass(frozen=True)
class Joined:
    """All recordings of a plan."""

    plan: Plan  # what all machines together were to measure
    baseline: str  # label of the row that ratios refer to; "" if there is none
    places: Sequence[Place]
    rows: Mapping[str, Sequence[Part]]  # each row wherever it was measured, by its label, in the plan's order
    differences: Sequence[Difference]
    together: Sequence[Together]
    missing: Sequence[str]  # labels of the plan's rows that no recording has

    def baseline_speed(self, place: Place) -> Estimate | None:
        """How many times as fast the baseline trains on this machine as on the first one; None if it is not known.

        The two recordings share no generations, so the interval includes what either machine did meanwhile.
        """
        sides = place, self.places[0]
        here, first = (side.steps.of_row(self.baseline) if side.trusted else [] for side in sides)
        return independent_ratio(here, first) if min(len(here), len(first)) > 1 else None


def names_of(paths: Sequence[Path]) -> list[str]:
    """A name for each recording: that of its file without its ending, or the whole path where files share a name."""
    stems = [path.stem for path in paths]
    return [printable(stem if stems.count(stem) == 1 else str(path)) for stem, path in zip(stems, paths, strict=True)]


def join(recordings: Iterable[tuple[str, Recording]]) -> Joined:
    """Join recordings, each with its name. They may be read meanwhile: only a small part of each is kept.

    Raises CannotBeginError where there are too many, and RosettaError where one is of another plan or version than
    one before it, or is the same.
    """
    places: list[Place] = []
    baseline = ""
    for name, recording in recordings:
        if len(places) == MOST_JOINED:
            raise CannotBeginError(f"there are more than {MOST_JOINED} recordings; join fewer of them")
        analysis = Analysis(recording)
        results, anchor = analysis.results(), recording.plan.anchor
        baseline = baseline or (anchor.label if anchor else results.baseline)
        place = _place(name, analysis, results, baseline)
        for before in places:
            _refuse_another_plan(before, place)
        places.append(place)
    plan = msgspec.structs.replace(places[0].head.plan, named=())
    parts = [part for place in places for part in place.parts]
    found = {cell.label: [part for part in parts if part.label == cell.label] for cell in plan.rows}
    alike = grouped((place.hardware, place) for place in places)
    return Joined(
        plan=plan,
        baseline=baseline,
        places=places,
        rows={label: parts for label, parts in found.items() if parts},
        differences=[*_differences(found.values())],
        together=[_together(plan, baseline, group) for group in alike.values() if len(group) > 1],
        missing=[label for label, parts in found.items() if not parts],
    )


def _place(name: str, analysis: Analysis, results: Results, baseline: str) -> Place:
    recording = analysis.recording
    first = next(iter(recording.of_kind(Generation)), None)
    return Place(
        name=name,
        path=recording.path,
        head=recording.head,
        parts=[_part(name, row, results, baseline) for row in results.rows],
        warnings=results.warnings,
        generations=results.generations,
        seconds=results.seconds,
        trusted=analysis.timings.trusted,
        bias=analysis.bias,
        steps=analysis.timings.steps,
        beginning=sha256(msgspec.json.encode(first)).hexdigest() if first else "",
    )


def _part(name: str, row: Row, results: Results, baseline: str) -> Part:
    """A row, compared with the baseline, or else with the same backend's plain row."""
    special = next((pair for pair in results.pairs if pair.left == row.label and pair.kind in SPECIAL), None)
    reference, ratio = baseline, results.ratio(row.label, baseline)
    if ratio is None and special:
        reference, ratio = special.right, special.ratio
    return Part(
        place=name,
        label=row.label,
        compared=row.compared,
        version=row.facts.version,
        step=row.speed.step if row.speed else None,
        reference=reference if ratio else "",
        ratio=ratio,
    )


def _refuse_another_plan(before: Place, place: Place) -> None:
    """Raise RosettaError unless these two recordings are two parts of one plan, measured by the same versions."""
    checks = {
        "measure every part with the same command, except for --rows": _planned,
        "install the same versions on every machine": _versions,
    }
    for advice, values_of in checks.items():
        expected, found = values_of(before), values_of(place)
        for name in expected:
            if name in found and expected[name] != found[name]:
                words = (printable(str(word))[:MOST_SHOWN] for word in (name, found[name], expected[name]))
                what = "{} {}, expected {}".format(*words)
                raise RosettaError(f"{place.path} was measured with {what} as in {before.path}; {advice}")
    if place.beginning and place.beginning == before.beginning:
        raise RosettaError(f"{place.path} has the same measurements as {before.path}; give each recording once")


def _planned(place: Place) -> dict[str, object]:
    """What must be the same in all parts of a plan, by the names that an error shows.

    A corpus and a run may have another path on each machine, so they are told by their content.
    """
    plan, corpus = place.head.plan, place.head.corpus
    own = {name: getattr(plan, name) for name in ("preset", "latent_dim", "threads", "device", "baseline")}
    of_text = {"a corpus whose SHA-256 is": corpus.sha256, "weights whose SHA-256 is": corpus.weights_sha256}
    rows = {"the rows": SEPARATOR.join(cell.label for cell in plan.cells)}
    settings = vars(plan.data) | vars(plan.settings) | vars(plan.size)
    del settings["data"]
    return of_text | settings | own | rows


def _versions(place: Place) -> dict[str, object]:
    """The versions of packages, and of the frameworks of rows, which other interpreters may have run."""
    return {**place.head.machine["versions"], **{f"{part.label} of version": part.version for part in place.parts}}


def _differences(rows: Iterable[Sequence[Part]]) -> Iterator[Difference]:
    """The ratios about which two machines do not agree: the two for each row that are furthest apart.

    Intervals that overlap two by two have a number in common, so one look at their ends is enough.
    """
    for parts in rows:
        for reference in dict.fromkeys(part.reference for part in parts if part.ratio):
            known = [(part.ratio, part) for part in parts if part.ratio and part.reference == reference]
            high, low = max(known, key=lambda one: one[0].low), min(known, key=lambda one: one[0].high)
            if high[0].low > low[0].high:
                yield Difference(high[1], low[1])


def _together(plan: Plan, baseline: str, places: Sequence[Place]) -> Together:
    """The rows of the plan's question that these machines measured, which have the same hardware."""
    names = [place.name for place in places]
    parts = grouped((part.label, part) for place in places for part in place.parts)
    observed: dict[tuple[int, str], float] = {}
    blocks: dict[tuple[int, int], int] = {}
    for number, place in enumerate(places):
        if place.trusted:
            for (block, label), value in place.steps.observed.items():
                observed[blocks.setdefault((number, block), len(blocks)), label] = value
    fit = Fit(observed)
    why_not = ""
    if apart := [difference.high.label for difference in _differences(parts.values())]:
        why_not = f"they differ in the ratio of {', '.join(apart)}"
    elif len(observed) * (len(blocks) + len(fit.rows)) > MOST_UNKNOWNS:
        why_not = "they have too many generations to be evaluated together"
    if why_not:
        return Together(names, [], [], why_not)
    of_question = [cell.label for cell in plan.question if cell.label in parts]
    compared = [label for label in of_question if all(part.compared for part in parts[label])]
    labels = sorted(compared, key=lambda label: -ratio.value if (ratio := fit.ratio(label, baseline)) else 0.0)
    bias, pairs = max(place.bias for place in places), []
    for left, right in combinations(labels, 2):
        if ratio := fit.ratio(left, right):
            ratio = ratio.widened(bias)
            pairs.append(Pair("frameworks", left, right, ratio, None, word_for(ratio, plan.size.within)))
    return Together(names, labels, pairs, "")
