"""Carry out a plan: what is not in its recording yet is measured and appended, unit by unit.

First each backend's parity and one training, whose weights everybody decodes with; then the rounds, which verdicts
are made of; then the other trainings; then the sweep. Each cell of a round, and each point of the sweep, is a process
of its own.
"""

import resource
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from math import fsum
from pathlib import Path
from statistics import fmean
from time import perf_counter, process_time
from typing import Any

import numpy as np
import psutil

from backends.process import BackendProcess
from backends.session import SECONDS_A_SENTENCE, TRAINING_SILENCE, Material, Runtime, prepare, silence
from benchmarks.fitness import Finding
from benchmarks.ladder import Block
from benchmarks.parity.driver import Parity, climb
from benchmarks.parity.ladder import QUICK, REFEREE, WHOLE, Course
from benchmarks.plan import BASELINE, Cell, Plan
from benchmarks.recording import Record, Recording
from benchmarks.roofline import Sizes
from benchmarks.sweep import Point, data_work, points, rows_of, swept
from common.config import TrainConfig
from common.corpus import references
from common.decoding import max_decoded_length, text_of
from common.errors import CannotBeginError, RosettaError
from common.files import write_atomically
from common.machine import describe_machine
from common.scoring import score
from common.tensors import model_config

SHOWN_SENTENCES = 10
BASELINE_SINGLES = 5  # sentences that the baseline decodes in a round, at seconds each
REPEATS, BASELINE_REPEATS = 20, 2  # of the sentence with the longest output, a round
BASELINES_SCORER = "keras"  # decodes with the baseline's weights what would take the baseline an hour

# What begins now, parts done, parts in all, seconds left where they can be told. Never called while a clock runs.
Show = Callable[[str, int, int, float | None], None]


@dataclass(frozen=True)
class Unit:
    """A piece of the work that is done whole or not at all.

    `run` gives, as they come, the title of each of its `parts` when that begins, and the lines to be recorded.
    """

    kind: str
    parts: int
    run: Callable[[], Iterator[str | Record]]


class Benchmark:
    """A plan, the text that it is measured on, and the recording that it fills."""

    def __init__(self, recording: Recording, material: Material, certificates: Mapping[str, Any]) -> None:
        """`certificates` are those that `rosetta parity` wrote, by name and precision; may be empty."""
        self.recording, self.material, self.certificates = recording, material, certificates
        self.plan: Plan = recording.plan
        self.model = model_config(material.batch, material.decoder_vocabulary, self.plan.latent_dim, "float32")
        self.sizes = Sizes(
            self.plan.settings.batch_size,
            material.max_encoder_seq_length,
            material.max_decoder_seq_length,
            self.model.num_encoder_tokens,
            self.model.num_decoder_tokens,
            self.model.latent_dim,
        )
        self.sources = validation_sources(material)[: self.plan.size.sentences]
        self.source_ids, self.source_lengths = material.encoder_vocabulary.encode(
            self.sources, material.max_encoder_seq_length
        )

    def run(self, show: Show, budget: float | None = None) -> None:
        """Measure all that is missing, or what fits into `budget` seconds: no unit is begun that is likely not to."""
        began = perf_counter()
        units = self.missing()
        parts_done, parts = 0, sum(unit.parts for unit in units)
        rounds = [record["seconds"] for record in self.recording.of_kind("round")]
        trainings = [fsum(epoch["seconds"] for epoch in r["epochs"]) for r in self.recording.of_kind("quality")]
        # By kind, what parts took and what the longest unit did: a round's cells are far from equally long.
        seconds = {"cell": [took / len(self.plan.cells) for took in rounds]} if rounds else {}
        longest = {"cell": max(rounds, default=0.0), "training": max(trainings, default=0.0)}
        for place, unit in enumerate(units):
            unit_began, part_began = perf_counter(), None
            if budget is not None and unit_began - began + longest.get(unit.kind, 0.0) > budget:
                parts -= unit.parts
                continue
            for item in unit.run():
                if isinstance(item, str):
                    now = perf_counter()
                    if part_began is not None:
                        seconds.setdefault(unit.kind, []).append(now - part_began)
                    part_began = now
                    show(item, parts_done, parts, _seconds_left(units[place:], parts - parts_done, seconds))
                    parts_done += 1
                else:
                    self.recording.append(item)
            ended = perf_counter()
            if part_began is not None:
                seconds.setdefault(unit.kind, []).append(ended - part_began)
            longest[unit.kind] = max(longest.get(unit.kind, 0.0), ended - unit_began)

    def missing(self) -> list[Unit]:
        """The units that the recording lacks, in the order in which they are done."""
        plan, recorded = self.plan, self.recording.of_kind
        certified = {Cell.of(record) for record in recorded("certificate")}
        learned = {(Cell.of(record), record["seed"]) for record in recorded("quality")}
        rounds = {r["round"] for r in recorded("round")}
        measured = plan.rows if plan.size.rounds else swept(plan)
        uncertified = [cell for cell in measured if cell not in certified]
        # A sweep by itself has nothing to decode.
        num_seeds = plan.size.seeds if plan.size.rounds else 0
        seeds = range(plan.settings.seed, plan.settings.seed + num_seeds)
        points_done = {Point(record["axis"], record["value"], Cell.of(record)) for record in recorded("sweep")}
        prepared = {record["num_samples"] for record in recorded("data")}
        trainings = [
            Unit("training", 1, partial(self._learn, cell, seed))
            for seed in seeds
            for cell in plan.models
            if (cell.model, seed) not in learned
        ]
        before_rounds = 0 if learned else 1
        return [
            *([Unit("ladder", len(uncertified), partial(self._certify, uncertified))] if uncertified else []),
            *trainings[:before_rounds],
            *([] if recorded("products") else [Unit("products", 1, self._products)]),
            *(
                Unit("cell", len(plan.cells), partial(self._round, number))
                for number in range(1, plan.size.rounds + 1)
                if number not in rounds
            ),
            *trainings[before_rounds:],
            *(
                Unit("data", 1, partial(self._data, num_samples))
                for num_samples in (plan.sweep.num_samples if plan.sweep else ())
                if num_samples not in prepared
            ),
            *(Unit("point", 1, partial(self._point, point)) for point in points(plan) if point not in points_done),
        ]

    def _certify(self, cells: Sequence[Cell]) -> Iterator[str | Record]:
        """A certificate a row: one that was given for its version and model, or what the ladder finds.

        A lane changes no mathematics, so that in the second one the quick ladder will do, as it will with padding
        masked: what is bucketed are the same batches for every backend. Nor does a learning rate, and
        what errors are normal is known for the example's alone.
        """
        settings = replace(self.plan.settings, learning_rate=TrainConfig.learning_rate)
        plan, courses = self.plan, dict.fromkeys(replace(cell, backend="") for cell in cells)
        for like in courses:
            whole = plan.size.whole_ladder and like.lane == plan.size.lanes[0] and not like.bucketed
            size, runtime = WHOLE if whole else QUICK, self._runtime(like)
            with Course(plan.data, settings, plan.latent_dim, size, runtime, like.padding) as course:
                for cell in cells:
                    if replace(cell, backend="") == like:
                        yield f"{cell.label}: parity"
                        found = self._given(cell) or self._climbed(course, cell)
                        of = {"lane": cell.lane, "python": cell.python, "batches": cell.batches}
                        yield found | {"kind": "certificate"} | of

    def _climbed(self, course: Course, cell: Cell) -> dict[str, Any]:
        return climb(course, [cell.backend], ["float32"], Parity()).certificates[f"{cell.backend} float32"]

    def _given(self, cell: Cell) -> dict[str, Any] | None:
        """The certificate that was given for this backend, if it is of this version, model and device."""
        given = self.certificates.get(f"{cell.backend} float32")
        if cell.python or not isinstance(given, dict) or not isinstance(given.get("passed"), bool):
            return None
        with self._start(cell) as process:
            own = {"backend": cell.backend, "dtype": "float32", "latent_dim": self.model.latent_dim}
            own |= {"version": process.facts["version"], "device": process.facts["device"]}
        alike = all(given.get(name) == value for name, value in (own | {"padding": cell.padding}).items())
        return given if alike and isinstance(given.get("rungs"), dict) else None

    def _products(self) -> Iterator[str | Record]:
        """The referee's matrix product: a row of the table of peaks, though no row of the benchmark."""
        yield f"{REFEREE}: matrix products"
        with Runtime(self.plan.threads).start(REFEREE, self.model, self.plan.settings) as process:
            products = process.call("benchmarks.scenarios:matrix_products", TRAINING_SILENCE, shapes={})
            yield {"kind": "products", "backend": REFEREE, "facts": process.facts, "products": products}

    def _round(self, number: int) -> Iterator[str | Record]:
        began = perf_counter()
        measured = []
        for cell in self.plan.of_round(number):
            yield f"round {number} of {self.plan.size.rounds}: {cell.label}"
            measured.append(self._cell(cell, number))
        yield {"kind": "round", "round": number, "seconds": perf_counter() - began, "cells": measured}

    def _cell(self, cell: Cell, number: int) -> Record:
        """Every scenario in a fresh process, and what the machine did meanwhile.

        Bucketed, training alone is another: decoding and the rest are the backend's shuffled row's.
        """
        baseline, singles, steps = cell.backend == BASELINE, self.plan.size.singles, self.plan.size.steps
        rows = max(len(self.material.batch), steps * self.plan.settings.batch_size)
        load, busy, children = psutil.getloadavg()[0], _busy_seconds(), _children_seconds()
        began = perf_counter()
        with self._start(cell) as process:
            started, own = perf_counter(), process_time()
            measured = process.call(
                "benchmarks.scenarios:cell",
                silence(rows) + SECONDS_A_SENTENCE * (BASELINE_SINGLES + BASELINE_REPEATS) * baseline,
                steps=steps,
                training_rows=self.material.training_rows,
                validation_rows=self.material.validation_rows,
                max_length=max_decoded_length(self.material.max_decoder_seq_length),
                source_ids=self.source_ids,
                source_lengths=self.source_lengths,
                state=self._state(),
                in_batch=not (baseline or cell.bucketed),
                singles=BASELINE_SINGLES if baseline else 0 if cell.bucketed else singles,
                longest=self.recording.of_kind("quality")[0]["longest"],
                repeats=BASELINE_REPEATS if baseline else REPEATS,
                products=cell in self.plan.models and not (baseline or cell.bucketed or cell.reduced),
                profile=number == 1 and not (cell.control or cell.bucketed),
                **self._corpus(cell),
            )
            ended = perf_counter()
            parent = process_time() - own
            facts = dict(process.facts)
        others = _busy_seconds() - busy - (_children_seconds() - children)
        return {
            "backend": cell.backend,
            "lane": cell.lane,
            "python": cell.python,
            "control": cell.control,
            "batches": cell.batches,
            "facts": facts,
            "start_seconds": started - began,
            "seconds": ended - started,
            "load": load,  # of the last minute, when the cell began
            "others": others / (ended - began),  # cores that everything else on the machine kept busy
            "parent": parent / (ended - started),  # cores that waiting for the process took
            **measured,
        }

    def _learn(self, cell: Cell, seed: int) -> Iterator[str | Record]:
        """Train, then decode the validation sources with each epoch's weights and score them: off the clock."""
        yield f"training {cell.label}, seed {seed}"
        states: list[Block] = []
        epochs: list[dict[str, float]] = []

        def on_event(event: Mapping[str, Any]) -> None:
            states.append(event["state"])
            epochs.append(event["epoch_done"])

        strings = None
        with self._start(cell) as process:
            peak = process.call(
                "benchmarks.scenarios:learn",
                silence(len(self.material.batch)),
                on_event,
                epochs=self.plan.epochs_of(cell),
                seed=seed,
                training_rows=self.material.training_rows,
                validation_rows=self.material.validation_rows,
                **self._corpus(cell),
            )["peak"]
            if cell.backend == BASELINE:
                some = self.plan.size.equal_strings if seed == self.plan.settings.seed else 0
                own_strings = self._translate(process, states[-1], some)
                with self._start(replace(cell, backend=BASELINES_SCORER)) as scorer:
                    translations = [self._translate(scorer, state) for state in states]
                equal = sum(one == other for one, other in zip(own_strings, translations[-1], strict=False))
                strings = {"compared": len(own_strings), "equal": equal}
            else:
                translations = [self._translate(process, state) for state in states]
        all_references = references(self.material.pairs)
        against = [all_references[source] for source in self.sources]
        scores = [score(said, against) for said in translations]
        if not self.recording.of_kind("quality"):  # what a kill left of an unrecorded training is replaced
            write_atomically(self.recording.weights_path, states[-1].tobytes())
        yield {
            "kind": "quality",
            "backend": cell.backend,
            "python": cell.python,
            "batches": cell.batches,
            "seed": seed,
            "epochs": [figures | scored for figures, scored in zip(epochs, scores, strict=True)],
            "peak": peak,
            "strings": strings,
            "longest": max(range(len(self.sources)), key=lambda row: len(translations[-1][row])),
            "translations": translations[-1][:SHOWN_SENTENCES],
        }

    def _data(self, num_samples: int) -> Iterator[str | Record]:
        yield f"sweep: data of {num_samples:,} pairs"
        settings = self.plan.settings
        measured = data_work(num_samples, self.material, self.plan.data, settings.batch_size, settings.seed)
        yield {"kind": "data", "num_samples": num_samples} | measured

    def _point(self, point: Point) -> Iterator[str | Record]:
        yield f"sweep: {point.cell.label}, {point.axis} {point.value:,}"
        cell, seed = point.cell, self.plan.settings.seed
        sizes = self.sizes.at(point.axis, point.value)
        with self._start(cell, latent_dim=sizes.latent_dim) as process:
            measured = process.call(
                "benchmarks.scenarios:point",
                TRAINING_SILENCE,
                batch_size=sizes.batch_size,
                seed=seed,
                least_steps=point.least_steps,
                **rows_of(point, sizes, self.material.batch, seed).fields(),
            )
            facts = dict(process.facts)
        yield {
            "kind": "sweep",
            "axis": point.axis,
            "value": point.value,
            "backend": cell.backend,
            "lane": cell.lane,
            "python": cell.python,
            "facts": facts,
            **measured,
        }

    def _translate(self, process: BackendProcess, state: Block, limit: int | None = None) -> list[str]:
        """What the weights say of the sources, or of the first `limit` ones."""
        rows = slice(limit)
        if limit == 0:
            return []
        ids = process.call(
            "benchmarks.ladder:strings",
            TRAINING_SILENCE + SECONDS_A_SENTENCE * len(self.sources[rows]),
            state=state,
            encoder_ids=self.source_ids[rows],
            encoder_lengths=self.source_lengths[rows],
            max_length=max_decoded_length(self.material.max_decoder_seq_length),
        )["ids"]
        return [text_of(row, self.material.decoder_vocabulary) for row in ids]

    def _state(self) -> Block:
        try:
            return np.frombuffer(self.recording.weights_path.read_bytes(), np.uint8)
        except OSError as error:
            raise RosettaError(
                f"{self.recording.weights_path}, which every backend decodes with, cannot be read: {error.strerror}; "
                "begin anew with another --out"
            ) from error

    def _start(self, cell: Cell, latent_dim: int | None = None) -> BackendProcess:
        """The cell's process; `latent_dim`, where it is not as in the rounds."""
        model = replace(self.model, padding=cell.padding, latent_dim=latent_dim or self.model.latent_dim)
        settings = replace(self.plan.settings, batches=cell.batches)
        return self._runtime(cell).start(cell.backend, model, settings)

    def _runtime(self, cell: Cell) -> Runtime:
        return Runtime(self.plan.threads, self.plan.device, cell.lane, cell.python or None)

    def _corpus(self, cell: Cell) -> dict[str, Any]:
        """The fields of the whole corpus's batch."""
        return replace(self.material.batch, padding=cell.padding).fields()


def begin(path: Path, plan: Plan, certificates: Mapping[str, Any], findings: Sequence[Finding] = ()) -> Benchmark:
    """Write the head of a new recording. Raises CannotBeginError for what cannot be measured or written."""
    material, sha256 = prepare(plan.data, plan.settings.seed, "float32")
    all_references = references(material.pairs)
    corpus = {
        "sha256": sha256,
        "sizes": {
            "training_rows": len(material.training_rows),
            "validation_rows": len(material.validation_rows),
            "max_encoder_seq_length": material.max_encoder_seq_length,
            "max_decoder_seq_length": material.max_decoder_seq_length,
            "num_encoder_tokens": material.batch.num_encoder_tokens,
            "num_decoder_tokens": material.batch.num_decoder_tokens,
        },
        "shown": [
            {"source": source, "references": all_references[source]}
            for source in validation_sources(material)[:SHOWN_SENTENCES]
        ],
    }
    recording = Recording.create(path, plan, corpus, [asdict(finding) for finding in findings])
    return Benchmark(recording, material, certificates)


def resumed(path: Path) -> Benchmark:
    """Go on with a recording, where text, machine and versions are what they were."""
    recording = Recording.read(path)
    if any(
        "longest" not in record or len(record["epochs"]) != recording.plan.epochs_of(Cell.of(record))
        for record in recording.of_kind("quality")
    ):
        raise CannotBeginError(
            f"{path} was begun by an earlier Rosetta, which measured otherwise; choose another --out"
        )
    material, sha256 = prepare(recording.plan.data, recording.plan.settings.seed, "float32")
    if sha256 != recording.corpus["sha256"]:
        raise CannotBeginError(f"{recording.plan.data.data} has changed since {path} was begun; choose another --out")
    now = describe_machine()
    for name, was in recording.machine.items():
        if now.get(name) != was:
            raise CannotBeginError(
                f"{path} was begun elsewhere: {name} was {was}, is {now.get(name)}; choose another --out"
            )
    recording.go_on()
    return Benchmark(recording, material, {})


def validation_sources(material: Material) -> list[str]:
    """Distinct sources of the validation rows; the first ones, which are shown, are spread over all of them, since
    the rows may be sorted by length."""
    sources = list(dict.fromkeys(material.pairs[row][0] for row in material.validation_rows))
    shown = sources[:: max(1, len(sources) // SHOWN_SENTENCES)][:SHOWN_SENTENCES]
    return shown + [source for source in sources if source not in set(shown)]


def _seconds_left(units: Sequence[Unit], parts: int, seconds: Mapping[str, Sequence[float]]) -> float | None:
    """What `parts` of these units are likely to take, the first unit's last ones among them; None before every kind
    has been seen once."""
    if any(unit.kind not in seconds for unit in units):
        return None
    begun = units[0].parts - (parts - sum(unit.parts for unit in units[1:]))
    means = {kind: fmean(took) for kind, took in seconds.items()}
    return sum(means[unit.kind] * unit.parts for unit in units) - means[units[0].kind] * begun


def _busy_seconds() -> float:
    """That the machine's cores have worked since it was started; in a container perhaps its host's."""
    times = psutil.cpu_times()._asdict()
    return float(sum(times.get(name, 0.0) for name in ("user", "nice", "system", "irq", "softirq")))


def _children_seconds() -> float:
    """Processor time of this process's children that have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime
