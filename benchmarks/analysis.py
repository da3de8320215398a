"""From a recording to results: medians, intervals, ratios, verdicts, gates. Nothing is measured here."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import pairwise
from math import ceil, fsum, isfinite, nan
from statistics import fmean, median
from typing import Any

import numpy as np

from benchmarks import figures
from benchmarks.figures import Figure
from benchmarks.intervals import (
    Estimate,
    NoEstimateError,
    Rounds,
    Verdict,
    compared,
    noise_floor,
    overtakes,
    paired_ratio,
    percentiles,
    typical,
)
from benchmarks.plan import BASELINE, BATCHES, Cell
from benchmarks.recording import Record, Recording
from benchmarks.results import (
    FULL,
    Decoded,
    Overtaking,
    Quality,
    Results,
    Roofline,
    Row,
    answering,
    seconds_to_target,
)
from benchmarks.roofline import Sizes, step_flop
from benchmarks.scaling import scaling

PERCENTILES = (50, 95, 99)
NOISY = 0.03  # a floor above this is worth a warning
OTHERS = 0.1  # cores that other work may keep busy while a cell is measured
PARENT = 0.01  # cores that waiting may take
LOST = 0.01  # of a loop's time may lie outside its steps


def analyse(recording: Recording) -> Results:
    """What a recording says, as far as it goes."""
    return Analysis(recording).results()


class Analysis:
    """A recording put in order: by cell and round."""

    def __init__(self, recording: Recording) -> None:
        self.recording, self.plan = recording, recording.plan
        self.rounds = sorted(recording.of_kind("round"), key=lambda record: record["round"])
        self.measured: dict[Cell, dict[int, Record]] = {cell: {} for cell in self.plan.cells}
        for record in self.rounds:
            for found in record["cells"]:
                self.measured[Cell.of(found)][record["round"]] = found
        self.certificates = {Cell.of(record): record for record in recording.of_kind("certificate")}
        self.trainings: dict[Cell, list[Record]] = {}  # by `Cell.model`
        for record in recording.of_kind("quality"):
            self.trainings.setdefault(Cell.of(record), []).append(record)
        sizes = recording.corpus["sizes"]
        self.training_rows = sizes["training_rows"]
        names = [name for name in Sizes.__dataclass_fields__ if name in sizes]
        batch_size, latent_dim = self.plan.settings.batch_size, self.plan.latent_dim
        self.sizes = Sizes(batch_size=batch_size, latent_dim=latent_dim, **{name: sizes[name] for name in names})
        self._floors: dict[Figure, dict[Cell, float]] = {}
        self.peak = self._peak()
        self.target = self._target_chrf()

    def results(self) -> Results:
        plan, recording = self.plan, self.recording
        measured = sorted(
            [self._row(cell) for cell in plan.rows if self.measured[cell]],
            key=lambda row: (not row.ranked, row.train_seconds_per_epoch),
        )
        rows, bucketed = ([row for row in measured if row.batches == way and not row.reduced] for way in BATCHES)
        reduced = [row for row in measured if row.reduced]
        pairs = self._pairs([row for row in [*rows, *bucketed] if row.ranked])
        floor = self.floor(figures.steps)
        return Results(
            headline=self._headline(rows) if plan.size.rounds else "A sweep by itself: how cost grows with sizes.",
            command=plan.command,
            machine=recording.machine,
            sha256=recording.corpus["sha256"],
            data=plan.data,
            settings=plan.settings,
            latent_dim=plan.latent_dim,
            preset=plan.preset,
            started=recording.started,
            rounds=len(self.rounds),
            planned_rounds=plan.size.rounds,
            num_epochs=plan.size.epochs,
            floor=floor if isfinite(floor) else None,
            peak=self.peak,
            target_chrf=self.target,
            chrf_signature=next((r["epochs"][-1]["chrf_signature"] for r in recording.of_kind("quality")), ""),
            warnings=self._warnings(rows, [*bucketed, *reduced]),
            rows=rows,
            bucketed=bucketed,
            reduced=reduced,
            pairs=pairs,
            overtakings=_overtakings(rows),
            decoded=self._decoded(),
            scaling=scaling(recording, self.sizes, self.peak["flops"] if self.peak else None, self._certified),
        )

    def _row(self, cell: Cell) -> Row:
        measured = self.measured[cell]
        records = list(measured.values())
        last = records[-1]
        facts = last["facts"]
        reduced = facts["precision"] != FULL
        timed = figures.steps(measured)
        step = _typical(timed)
        step_seconds = step.value if step else median(float(np.median(seconds)) for seconds in timed.values())
        steps = self.training_rows / self.plan.settings.batch_size
        if not cell.bucketed:  # where the last step, of fewer pairs, takes what the others do
            steps = ceil(steps)
        own = self._trainings(cell)
        trainings = [self._quality(training) for training in own]
        final = _last_epochs(trainings)
        control = self._control(cell, figures.steps)
        certificate = self._certificate(cell, facts["version"])
        why_not = _why_not(certificate, records)
        memory = {name: median(figures.memory(record)[name] for record in records) for name in figures.memory(last)}
        if own:  # whole epochs take what they take; the timed steps are fewer
            memory["peak"] = median(training["peak"] for training in own)
        backend, _, variant = cell.backend.partition(":")
        # The baseline makes all tensors before its steps.
        data_share = None if cell.backend == BASELINE else figures.data_share(records)
        singles = last["singles"] or {"seconds": []}
        decoding = last["decoding"] or {"sentences": len(singles["seconds"])}
        return Row(
            backend=backend,
            variant=variant,
            lane=cell.lane,
            python=cell.python,
            precision=facts["precision"],
            batches=cell.batches,
            label=cell.label,
            version=facts["version"],
            threads=facts["threads"],
            ranked=not why_not,
            why_not=why_not,
            start={name: median(figures.start(r)[name] for r in records) for name in figures.start(last)},
            step=step,
            steps_an_epoch=steps,
            ratio=self._versus(cell, cell.baseline, figures.steps),
            bucketing=self._versus(cell, replace(cell, batches=BATCHES[0]), figures.steps),
            reducing=self._versus(cell, replace(cell, backend=backend), figures.steps) if reduced else None,
            default_cost=self._default_cost(cell),
            control=control,
            floor=noise_floor(control) if control else None,
            evaluate=_typical(figures.evaluations(measured)),
            decode_character=_typical(figures.batch_characters(measured)),
            decode_ratio=self._versus(cell, cell.baseline, figures.batch_characters),
            decode_sentences=decoding["sentences"],
            latency={} if cell.backend == BASELINE else _percentiles(figures.sentences(measured)),
            longest_output=last["longest"]["characters"] if last.get("longest") else None,
            longest_character=_typical(figures.longest_characters(measured)),
            longest_ratio=self._versus(cell, cell.baseline, figures.longest_characters),
            memory=memory,
            # The peak is float32's.
            roofline=None if cell.bucketed or reduced else self._roofline(step_seconds, facts["settings"]),
            data_share=data_share,
            settings=facts["settings"],
            os_threads=last["training"]["threads"],
            kernels=next((record["kernels"] for record in records if "kernels" in record), []),
            time_parts=figures.time_parts(records, step_seconds, data_share or 0.0),
            gates=self._gates(cell, records),
            quality=trainings,
            target_ratio=self._target_ratio(trainings),
            facts=facts,
            certificate=certificate,
            train_seconds_per_epoch=step_seconds * steps,
            train_samples_per_second=self.plan.settings.batch_size / step_seconds,
            decode_sentences_per_second=figures.sentences_per_second(records),
            loss=final.get("loss"),
            val_loss=final.get("val_loss"),
            val_accuracy=final.get("val_accuracy"),
            val_accuracy_real=final.get("val_accuracy_real"),
            epochs=trainings[0].epochs if trainings else [],
        )

    def _roofline(self, step_seconds: float, settings: Mapping[str, Any]) -> Roofline | None:
        flop = step_flop(self.sizes.multiplied(settings))
        return Roofline(flop, flop / step_seconds, flop / step_seconds / self.peak["flops"]) if self.peak else None

    def _control(self, cell: Cell, figure: Figure) -> Estimate | None:
        """The cell against itself: its figure over that of its second process, round by round."""
        again = self.measured.get(replace(cell, control=True), {})
        try:
            return paired_ratio(figure(self.measured[cell]), figure(again))
        except NoEstimateError:
            return None

    def floor(self, figure: Figure, *cells: Cell) -> float:
        """The largest noise floor of these cells' backends, or of all in full precision; not a number where no
        control tells.

        One that has no control of its own, which `quick` spares, is taken to be as noisy as the noisiest that has.
        """
        floors = self._own_floors(figure)
        own = [floors.get(Cell(cell.backend, python=cell.python)) for cell in cells]
        if own and all(floor is not None for floor in own):
            return max(floor for floor in own if floor is not None)
        return max((floor for cell, floor in floors.items() if not cell.reduced), default=nan)

    def _own_floors(self, figure: Figure) -> dict[Cell, float]:
        """By a cell that stands for its backend and interpreter."""
        if figure not in self._floors:
            controls = [(cell, self._control(cell, figure)) for cell in self.plan.models]
            self._floors[figure] = {
                Cell(cell.backend, python=cell.python): noise_floor(control) for cell, control in controls if control
            }
        return self._floors[figure]

    def _versus(self, cell: Cell, other: Cell, figure: Figure) -> Verdict | None:
        """How many times faster the cell is than the other one, round by round; None where one has no such figure."""
        one, another = (figure(self.measured.get(side, {})) for side in (cell, other))
        if cell == other or not one or not another:
            return None
        return compared(one, another, self.floor(figure, cell, other))

    def _trainings(self, cell: Cell) -> list[Record]:
        """A backend is trained for its quality in one lane, the first."""
        return self.trainings.get(cell.model, []) if cell in self.plan.models else []

    def _default_cost(self, cell: Cell) -> Verdict | None:
        """How fast it is as installed, of what it is in the matched lane."""
        if cell.lane == "matched":
            return None
        return self._versus(cell, Cell(cell.backend, "matched", cell.python), figures.steps)

    def _certificate(self, cell: Cell, version: str) -> dict[str, Any] | None:
        """That of the version which ran; an example that decodes elsewhere adds how many strings were compared."""
        found = self.certificates.get(cell)
        if found is None or found["version"] != version:
            return None
        strings = [t["strings"] for t in self.trainings.get(cell.model, []) if t["strings"]]
        outside = ("kind", "lane", "python", "batches")
        return {name: found[name] for name in found if name not in outside} | (
            {"strings": strings[0]} if strings else {}
        )

    def _certified(self, cell: Cell, version: str) -> bool:
        found = self._certificate(cell, version)
        return found is not None and bool(found["passed"])

    def _gates(self, cell: Cell, records: Sequence[Record]) -> list[str]:
        """What was not as it must be; each with advice."""
        failed = []
        asked = self.plan.threads or self.recording.machine["cores"]
        for record in records:
            training, facts = record["training"], record["facts"]
            losses = training["losses"]
            quarter = max(1, len(losses) // 4)
            lost = 1 - sum(training["step_seconds"]) / training["loop_seconds"]
            falling = fmean(losses[-quarter:]) < fmean(losses[:quarter]) or len(losses) < 4
            if not (falling and all(map(isfinite, losses))):
                failed.append("the loss did not fall while it was timed; look at the settings")
            if abs(lost) > LOST:
                failed.append("more than 1 % of the loop's time lies outside its steps; the device was still at work")
            if cell.lane == "matched" and facts["threads"] != asked:
                failed.append(f"{facts['threads']} threads where {asked} were asked for; see backends/environment.py")
            if record["others"] > OTHERS:
                failed.append("other work kept more than a tenth of a core busy; close it and measure anew")
            if record["parent"] > PARENT:
                failed.append("waiting took more than a hundredth of a core")
        return [f"{text} ({failed.count(text)} of {len(records)} rounds)" for text in dict.fromkeys(failed)]

    def _peak(self) -> dict[str, Any] | None:
        """The machine's fastest matrix product that was measured, and all the others, each a median over rounds."""
        flops: dict[tuple[str, str, str], list[float]] = {}
        shapes: dict[str, list[int]] = {}
        measured = [*self.recording.of_kind("products"), *(found for r in self.rounds for found in r["cells"])]
        measured += self.recording.of_kind("sweep")
        for record in measured:
            of = record["backend"], record.get("python", "")
            for name, product in (record.get("products") or {}).items():
                flops.setdefault((*of, name), []).append(product["flops"])
                shapes[name] = product["shape"]
        if not flops:
            return None
        rates: list[dict[str, Any]] = [
            {"backend": backend, "python": python, "name": name, "shape": shapes[name], "flops": median(found)}
            for (backend, python, name), found in flops.items()
        ]
        return max(rates, key=lambda rate: rate["flops"]) | {"rates": rates}

    def _target_chrf(self) -> float | None:
        """What the baseline's trainings reach in the median, or the worst backend's where there is no baseline."""
        reached = {
            key: median(training["epochs"][-1]["chrf"] for training in trainings)
            for key, trainings in self.trainings.items()
        }
        return reached.get(Cell(BASELINE), min(reached.values(), default=None))

    def _target_ratio(self, trainings: Sequence[Quality]) -> float | None:
        """The baseline's seconds to its own last epoch over those of these trainings to what it then reaches."""
        baseline = self.trainings.get(Cell(BASELINE), [])
        if not baseline or not trainings or not isfinite(seconds := seconds_to_target(trainings)):
            return None
        whole = [fsum(epoch["seconds"] for epoch in training["epochs"]) for training in baseline]
        return median(whole) / seconds

    def _quality(self, training: Record) -> Quality:
        seconds, arrived = 0.0, None
        for epoch in training["epochs"]:
            seconds += epoch["seconds"]
            if arrived is None and self.target is not None and epoch["chrf"] >= self.target:
                arrived = seconds
        return Quality(training["seed"], training["epochs"], arrived)

    def _decoded(self) -> list[Decoded]:
        if not self.trainings:  # a sweep by itself
            return []
        first = {key: trainings[0]["translations"] for key, trainings in self.trainings.items()}
        labels = {cell.model: cell.label for cell in self.plan.models}
        return [
            Decoded(shown["source"], shown["references"], {labels[key]: said[n] for key, said in first.items()})
            for n, shown in enumerate(self.recording.corpus["shown"])
        ]

    def _pairs(self, ranked: Sequence[Row]) -> list[dict[str, Any]]:
        """Each row against the next one of its lane and batches."""
        found = []
        for lane, way in dict.fromkeys((row.lane, row.batches) for row in ranked):
            for one, other in pairwise(row for row in ranked if (row.lane, row.batches) == (lane, way)):
                verdict = self._versus(_cell_of(one), _cell_of(other), figures.steps)
                found.append({"first": one.label, "second": other.label, "verdict": verdict})
        return found

    def _headline(self, rows: Sequence[Row]) -> str:
        """The answer in a sentence: the ranked rows of the main lane, and who is fastest where that is sure."""
        if not rows:
            return f"No round in {FULL} was measured."
        ranked = [row for row in answering(rows) if row.ranked]
        if not ranked:
            return "No row is ranked: none has a parity certificate that holds."
        first, *others = ranked
        verdicts = {row.label: self._versus(_cell_of(first), _cell_of(row), figures.steps) for row in others}
        near = [label for label, verdict in verdicts.items() if verdict is None or verdict.word != "faster"]
        how = " fastest," if others else ""
        if near:
            how = f" fastest by the medians, not surely faster than {' or '.join(near)},"
        answer = f"{first.label} trains{how} at {first.train_samples_per_second:,.0f} pairs a second"
        said: dict[str, list[str]] = {}  # rows of which the same is to be said, together
        for row in ranked:
            if row.ratio:
                sure = row.ratio.word in ("faster", "slower", "same")
                said.setdefault(row.ratio.text if sure else "not told apart", []).append(row.label)
        against = "; ".join(f"{', '.join(labels)} {text}" for text, labels in said.items())
        return f"{answer}. Against {BASELINE}: {against}." if said else f"{answer}."

    def _warnings(self, rows: Sequence[Row], apart: Sequence[Row]) -> list[str]:
        unfit = [f"{f['name']}: {f['found']}; {f['advice']}" for f in self.recording.fitness if not f["ok"]]
        if not self.plan.size.rounds:  # a sweep by itself
            return unfit
        found = []
        if len(self.rounds) < self.plan.size.rounds:
            found.append(f"{len(self.rounds)} of {self.plan.size.rounds} rounds were measured; --resume goes on")
        if not any(row.name == BASELINE for row in rows):
            found.append(f"{BASELINE} was not measured, so there is no ratio to it")
        floor = self.floor(figures.steps)
        if not isfinite(floor):
            found.append("no backend was measured against itself in two rounds, so the noise floor is not known")
        if floor > NOISY:
            found.append(
                f"the noise floor is {floor:.1%}: the same program differs from itself by as much; close other "
                "programs, or measure more rounds"
            )
        found += unfit
        found += _unmatched(rows)
        found += [f"{row.label}: {gate}" for row in [*rows, *apart] for gate in row.gates]
        found += _other_kernels(rows)
        return found


def _cell_of(row: Row) -> Cell:
    return Cell(row.name, row.lane, row.python, batches=row.batches)


def _unmatched(rows: Sequence[Row]) -> Iterator[str]:
    """What is not alike in the matched lane, since some framework has no switch for it."""
    denormals: dict[str, list[str]] = {}
    for row in rows:
        if row.lane == "matched" and "denormals" in row.settings:
            denormals.setdefault(row.settings["denormals"], []).append(row.label)
    if len(denormals) > 1:
        said = "; ".join(f"{fate} in {', '.join(labels)}" for fate, labels in denormals.items())
        yield f"denormal numbers are unmatched: {said}"


def _other_kernels(rows: Sequence[Row]) -> Iterator[str]:
    """A backend that fell back to something else in one of its lanes."""
    matched = {(row.name, row.python): row for row in rows if row.lane == "matched" and row.kernels}
    for row in rows:
        other = matched.get((row.name, row.python))
        if other and row.kernels and row.kernels[0]["name"] != other.kernels[0]["name"]:
            ran, instead = other.kernels[0]["name"], row.kernels[0]["name"]
            yield f"{row.label}: most of its time goes to {instead}, in the matched lane to {ran}"


def _last_epochs(trainings: Sequence[Quality]) -> dict[str, float]:
    """What trainings came to, in the median over the seeds; nothing where there are none."""
    last = [training.epochs[-1] for training in trainings]
    names = ("loss", "val_loss", "val_accuracy", "val_accuracy_real") if last else ()
    return {name: median(epoch[name] for epoch in last) for name in names}


def _typical(rounds: Rounds) -> Estimate | None:
    try:
        return typical(rounds)
    except NoEstimateError:
        return None


def _percentiles(rounds: Rounds) -> dict[int, Estimate]:
    try:
        return percentiles(rounds, PERCENTILES)
    except NoEstimateError:
        return {}


def _why_not(certificate: Mapping[str, Any] | None, records: Sequence[Record]) -> str:
    """Why a row is not ranked; empty where it is."""
    if certificate is None:
        return "no parity certificate of this version"
    if not certificate["passed"]:
        return "parity is broken; see `rosetta parity`"
    if len({record["facts"]["version"] for record in records}) > 1:
        return "its rounds ran in more than one version"
    strings = certificate.get("strings")
    if strings and strings["equal"] < strings["compared"]:
        return (
            f"{strings['compared'] - strings['equal']} sentences differ from those of the backend that scores for it"
        )
    if not all(isfinite(loss) for record in records for loss in record["training"]["losses"]):
        return "its loss is not finite"
    return ""


def _overtakings(rows: Sequence[Row]) -> list[Overtaking]:
    """Who starts slower than another one, and after how many steps has caught up."""
    found = []
    for slow in rows:
        for fast in rows:
            if slow.lane != fast.lane:
                continue
            cold, other_cold = sum(slow.start.values()), sum(fast.start.values())
            if cold > other_cold:
                steps = overtakes(
                    cold,
                    slow.train_seconds_per_epoch / slow.steps_an_epoch,
                    other_cold,
                    fast.train_seconds_per_epoch / fast.steps_an_epoch,
                )
                if steps is not None:
                    found.append(Overtaking(slow.label, fast.label, steps))
    return found
