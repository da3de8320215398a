"""Carry out a plan: parity first, then generations until the intervals are narrow enough, then scored trainings.

- A generation starts one process for every cell, times them in turns and ends them. Each generation has new
  processes, since two processes of the same program differ in speed.
- A cycle visits every process of a generation once, in an order that is shuffled anew for each cycle.
- During a visit one process works and all others sleep. Since turns are short, slow spells of the machine fall on
  all cells alike.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from contextlib import ExitStack
from dataclasses import dataclass, replace
from math import ceil
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Any

import msgspec
import numpy as np
import psutil

from backends import BASELINE
from backends.process.environment import groups_of
from backends.process.parent import BackendProcess
from backends.process.runtime import Runtime, silence
from benchmarks.measure import scenarios
from benchmarks.measure.machine import MOST_OTHERS, wait_until_idle
from benchmarks.measure.plan import Cell, Plan, certified_as, require_named
from benchmarks.measure.recording import (
    Cause,
    Certified,
    Corpus,
    Decoded,
    Evidence,
    Generation,
    Recording,
    Sizes,
    Start,
    Trained,
    Visit,
)
from benchmarks.measure.scenarios import EpochDone, WarmUp
from benchmarks.measure.sentences import TIMED, Sentences, weights_for
from benchmarks.parity.certificate import Certificate
from benchmarks.parity.driver import Parity, climb
from benchmarks.parity.ladder import QUICK, REFEREE, WHOLE, Course
from common.config import TrainConfig
from common.errors import CannotBeginError
from common.load import Watch
from common.material import Material, prepare
from common.scoring import score
from common.tensors import Batch, Batches, epoch_batches, model_config
from common.weights import ModelState

CYCLES = 6  # in a generation
DECODING_CYCLES = (1, 4)  # cycles, counted from 0, that time decoding too, which needs fewer than training
SETTLING_CYCLE = 2  # cycle with SETTLING_STEPS timed steps, whose first half is compared with the second
SETTLING_STEPS = 20
MOST_SETTLING = 0.02  # share by which the first half may be slower; if it is slower by more, the lead grows
MOST_SETTLING_SECONDS = 4.0  # a row whose SETTLING_STEPS would take longer is timed as in the other cycles
SLOWER = 1.1  # a row as installed is slow if its step takes this many times as long as the matched one
LEAD_SECONDS = 0.5  # a visit begins with steps that do not count, since the first ones after a switch are slow
MOST_LEAD_SECONDS = 2.0  # limit to which the lead may grow
TIMED_SECONDS = 0.4  # duration of a visit's timed steps
FEWEST_STEPS = 2  # least number of lead steps and of timed steps in a visit
BUCKETED_STEPS = 16  # timed steps of a visit with bucketed batches: a fixed sample, since their widths differ
WARM_UP_STEPS = 4
STARTED_AT_ONCE = 2  # number of processes that are started at the same time, after the first generation
LEAST_GENERATIONS = 5
LEAST_FOR_NARROW = 8  # least generations if the half-width asked for is below NARROW
NARROW = 0.03
PROCESS_BYTES = 1.3e9  # the most memory that a framework's process has been seen to take


# The half-width of the widest interval of the plan's question, from what is recorded so far; None if not known yet.
Precision = Callable[[Recording], float | None]


@dataclass
class LiveCell:
    """A cell whose process is alive."""

    cell: Cell
    process: BackendProcess
    start_seconds: float  # from start until the backend was open
    warm_up: WarmUp
    step_seconds: float  # duration of its latest steps, from which the number of steps of its next visit follows


class Benchmark:
    """A plan, the text that is trained on and decoded, and the recording that is being filled."""

    def __init__(
        self,
        recording: Recording,
        material: Material,
        sentences: Sentences,
        certificates: Mapping[str, Certificate],
        budget: float | None = None,
    ) -> None:
        """`certificates` are those that `rosetta parity` wrote, by "NAME dtype"; cells without one climb the ladder.

        `budget` is in seconds; None is the plan's own.
        """
        self.recording, self.material, self.sentences = recording, material, sentences
        self.certificates = certificates
        self.plan = recording.plan
        self.model = model_config(material.batch, material.decoder_vocabulary, self.plan.latent_dim, "float32")
        self.budget = self.plan.size.budget if budget is None else budget  # seconds, counted from `run`
        self.lead_seconds = LEAD_SECONDS

    def run(self, precision: Precision) -> Iterator[str | Recording]:
        """Measure what the recording lacks. No generation is begun that would probably end after the budget.

        Yields what is measured next, in words, and the recording whenever a generation is done; never while something
        is timed.
        """
        began = perf_counter()
        yield from self._certify()
        while (number := self._next_number(precision, perf_counter() - began)) is not None:
            while cells := self._heat(number):
                yield f"generation {number}; at least {self.least} are measured if there is time"
                self.recording.append(self._generation(number, len(self._measured(number)), cells))
            yield self.recording
        for cell in self.plan.trained:
            for seed in range(self.plan.settings.seed, self.plan.settings.seed + self.plan.size.seeds):
                if not any((t.cell, t.seed) == (cell, seed) for t in self.recording.of_kind(Trained)):
                    yield f"training {cell.label}, seed {seed}"
                    self.recording.append(self._train_and_score(cell, seed))

    @property
    def least(self) -> int:
        """The least number of generations to measure, if the budget allows."""
        return LEAST_FOR_NARROW if self.plan.size.within < NARROW else LEAST_GENERATIONS

    def _measured(self, number: int) -> list[Generation]:
        """The recorded parts ("heats") of a generation."""
        return [heat for heat in self.recording.of_kind(Generation) if heat.number == number]

    def _next_number(self, precision: Precision, spent: float) -> int | None:
        """The number of the generation to measure next, after `spent` seconds; None if enough is measured."""
        number = max((generation.number for generation in self.recording.of_kind(Generation)), default=0)
        if not number:
            return 1
        if self._heat(number):
            return number
        reached = precision(self.recording)
        if number >= self.least and reached is not None and reached <= self.plan.size.within:
            return None
        # The last generation predicts the next best: the first ones take longer, as they have rows as installed.
        expected = sum(heat.seconds for heat in self._measured(number))
        return None if spent + expected > self.budget else number + 1

    def _heat(self, number: int) -> list[Cell]:
        """The cells to measure together next in a generation; empty if the generation is complete.

        These are as many of the missing cells as fit into memory. The plan's first cell is in every heat, so that
        cells of different heats can be compared through it.
        """
        first, *others = self.plan.alive_in(number)
        done = {self.plan.cells[start.cell] for heat in self._measured(number) for start in heat.starts}
        missing = [cell for cell in others if cell not in done]
        room = max(2, int(psutil.virtual_memory().available / PROCESS_BYTES))
        return [first, *missing[: room - 1]] if missing or first not in done else []

    def _without_evidence(self, cells: Sequence[Cell]) -> list[Cell]:
        """The cells whose evidence is not recorded yet; bucketed cells and second measurements need none."""
        recorded = {evidence.cell for evidence in self.recording.of_kind(Evidence)}
        return [cell for cell in cells if not (cell.again or cell.bucketed) and cell not in recorded]

    def _generation(self, number: int, heat: int, cells: Sequence[Cell]) -> Generation:
        """Measure one part of a generation: start every cell's process, visit them in turns, and end them."""
        began = perf_counter()
        rng = np.random.default_rng([self.plan.settings.seed, number, heat])
        live: dict[Cell, LiveCell] = {}
        with ExitStack() as stack:
            for opened in self._open_all([cells[place] for place in rng.permutation(len(cells))], number == 1, stack):
                live[opened.cell] = opened
            decoded = {line.cell for line in self.recording.of_kind(Decoded)}
            for cell, opened in live.items():
                if cell not in decoded and not cell.bucketed:
                    self.recording.append(self._decode(cell, opened.process))
            cycles = []
            for cycle in range(CYCLES):
                first = int(rng.integers(1 << 30))  # the first batch of this cycle, the same for all its cells
                order = [cells[place] for place in rng.permutation(len(cells))]
                cycles.append([self._visit(cell, live, cycle, first) for cell in order])
            self._settle(cycles)
            for cell, opened in live.items():  # the median over all visits, which one disturbed visit hardly changes
                index = self.plan.cells.index(cell)
                opened.step_seconds = median(median(v.steps) for cycle in cycles for v in cycle if v.cell == index)
            for cell in self._without_evidence(cells):
                self.recording.append(self._evidence(cell, live[cell].process))
            for cell in cells:
                self._find_cause(cell, live)
        if not any(evidence.cell == Cell(REFEREE) for evidence in self.recording.of_kind(Evidence)):
            with self._start(Cell(REFEREE)) as process:  # NumPy's matrix product may be the fastest of the machine
                products = process.call(scenarios.matrix_products, shapes=self._shapes())
                self.recording.append(Evidence(Cell(REFEREE), None, products))
        starts = [
            Start(self.plan.cells.index(cell), opened.start_seconds, opened.process.facts, opened.warm_up)
            for cell, opened in live.items()
        ]
        return Generation(number, heat, starts, cycles, perf_counter() - began)

    def _open_all(self, cells: Sequence[Cell], one_by_one: bool, stack: ExitStack) -> Iterator[LiveCell]:
        """Start and warm up the cells' processes.

        With `one_by_one` each start is timed; else two processes at a time are started, which is quicker.
        """
        if one_by_one:
            yield from (self._open(cell, stack) for cell in cells)
            return
        pool = ThreadPoolExecutor(STARTED_AT_ONCE)
        started = [pool.submit(self._start, cell) for cell in cells]
        try:
            wait(started, return_when=FIRST_EXCEPTION)
        finally:  # after a failed start or Ctrl-C, start no further process, and let the stack end those that started
            pool.shutdown(cancel_futures=True)
            for future in started:
                if not future.cancelled() and future.exception() is None:
                    stack.enter_context(future.result())
        for cell, future in zip(cells, started, strict=True):
            yield self._warm(cell, future.result(), 0.0)

    def _open(self, cell: Cell, stack: ExitStack) -> LiveCell:
        """Start and warm up the cell's process."""
        began = perf_counter()
        process = stack.enter_context(self._start(cell))
        return self._warm(cell, process, perf_counter() - began)

    def _warm(self, cell: Cell, process: BackendProcess, start_seconds: float) -> LiveCell:
        rows, batch_size = self._warm_up_rows(cell), self.plan.settings.batch_size
        warm_up = process.call(scenarios.warm_up, rows=rows, batch_size=batch_size)
        return LiveCell(cell, process, start_seconds, warm_up, median(warm_up.step_seconds))

    def _visit(self, cell: Cell, live: Mapping[Cell, LiveCell], cycle: int, first: int) -> Visit:
        """A cell's turn: training steps that do not count, timed ones, and in some cycles decoding."""
        visited, size = live[cell], self.plan.settings.batch_size
        lead, timed = self._step_counts(visited)
        if cell.bucketed:
            lead, timed = max(lead, BUCKETED_STEPS // 2), BUCKETED_STEPS
        elif cycle == SETTLING_CYCLE and SETTLING_STEPS * visited.step_seconds < MOST_SETTLING_SECONDS:
            timed = SETTLING_STEPS
        waited = wait_until_idle()
        watch = Watch(other.process.pid for other in live.values())
        trained = visited.process.call(scenarios.steps, rows=self._rows(cell, first, lead, timed), batch_size=size)
        seconds = trained.step_seconds
        batch: list[float] = []
        alone: list[float] = []
        if cycle in DECODING_CYCLES and self._decodes_in_turns(cell):
            batch = visited.process.call(scenarios.decoding, **self.sentences.timed_together)
            alone = visited.process.call(scenarios.decoding, **self.sentences.timed_alone)
        visited.step_seconds = median(seconds[lead:])
        return Visit(
            cell=self.plan.cells.index(cell),
            lead=seconds[:lead],
            steps=seconds[lead:],
            loop=trained.seconds,
            finite=trained.finite,
            batch=batch,
            alone=alone,
            waited=waited,
            others=watch.others(),
        )

    def _settle(self, cycles: Sequence[Sequence[Visit]]) -> None:
        """Make the lead of later visits longer if the first timed steps of the settling cycle were still slow."""
        half, long = SETTLING_STEPS // 2, [v for v in cycles[SETTLING_CYCLE] if len(v.steps) == SETTLING_STEPS]
        early = [median(visit.steps[:half]) / median(visit.steps[half:]) for visit in long]
        if early and median(early) > 1 + MOST_SETTLING and all(visit.others <= MOST_OTHERS for visit in long):
            self.lead_seconds = min(1.5 * self.lead_seconds, MOST_LEAD_SECONDS)

    def _decodes_in_turns(self, cell: Cell) -> bool:
        """Whether decoding is timed in visits. keras:example is not: it takes seconds for a single sentence."""
        return not cell.bucketed and cell.backend != BASELINE

    def _decode(self, cell: Cell, process: BackendProcess) -> Decoded:
        """Decode the shown sentences and, unless that would take too long, all held-out ones and score them."""
        sentences = self.sentences
        process.call(scenarios.load, state=sentences.weights.state)
        began = perf_counter()
        shown = sentences.decoded(process, [shown.source for shown in sentences.shown])
        seconds = (perf_counter() - began) / float(sentences.characters(shown).sum())
        translations = [sentences.text(row) for row in shown]
        if not self._decodes_in_turns(cell):
            return Decoded(cell, translations, seconds, characters=None, sentences=0, scores=None)
        held_out = sentences.decoded(process, sentences.held_out)
        together = sentences.characters(held_out[:TIMED])
        alone = sentences.characters(held_out[sentences.longest :][:1])
        scores = score([sentences.text(row) for row in held_out], sentences.held_out_references)
        counts = int(together.sum()), int(alone[0])
        return Decoded(cell, translations, seconds, characters=counts, sentences=len(together), scores=scores)

    def _evidence(self, cell: Cell, process: BackendProcess) -> Evidence:
        """Profile a few steps and time matrix products, after the visits, so that no timing is disturbed."""
        size = self.plan.settings.batch_size
        profile = process.call(scenarios.profiled, rows=self._rows(cell, 0, 0, WARM_UP_STEPS), batch_size=size)
        has_products = cell.lane == "matched" and cell.backend != BASELINE and not cell.reduced
        products = process.call(scenarios.matrix_products, shapes=self._shapes()) if has_products else []
        return Evidence(cell, profile, products)

    def _find_cause(self, cell: Cell, live: Mapping[Cell, LiveCell]) -> None:
        """Find out which of the matched lane's settings would make a slow row as installed fast.

        The settings are given to a new process one group after another, each in addition to those before it, until
        its step is nearly as short as in the matched lane.
        """
        installed, matched = live[cell], live.get(msgspec.structs.replace(cell, lane="matched"))
        if cell.lane != "default" or matched is None or installed.step_seconds < SLOWER * matched.step_seconds:
            return
        if any(cause.cell == cell for cause in self.recording.of_kind(Cause)):
            return
        groups: list[str] = []
        for group in groups_of(cell.backend):
            if group == "threads" and installed.process.facts.threads == matched.process.facts.threads:
                continue
            groups.append(group)
            with ExitStack() as stack:
                given = self._open(msgspec.structs.replace(cell, lane="+".join(groups)), stack)
                wait_until_idle()
                lead, timed = self._step_counts(given)
                rows, size = self._rows(cell, 0, lead, timed), self.plan.settings.batch_size
                steps = given.process.call(scenarios.steps, rows=rows, batch_size=size).step_seconds[lead:]
            seconds = median(steps)
            self.recording.append(Cause(cell, list(groups), installed.step_seconds, seconds, matched.step_seconds))
            if seconds < SLOWER * matched.step_seconds:
                return

    def _step_counts(self, cell: LiveCell) -> tuple[int, int]:
        """How many steps of a visit do not count, and how many are timed."""
        lead, timed = (ceil(seconds / cell.step_seconds) for seconds in (self.lead_seconds, TIMED_SECONDS))
        return max(FEWEST_STEPS, lead), max(FEWEST_STEPS, timed)

    def _shapes(self) -> dict[str, tuple[int, int, int]]:
        """Shapes (m, k, n) of the matrix products in a training step.

        - inputs: the inputs of all time steps at once, to the gates
        - states: the states of one time step, to the gates
        - logits: the decoder's outputs of all time steps at once, to the characters
        """
        config, gates, size = self.model, 4 * self.model.latent_dim, self.plan.settings.batch_size
        positions = size * self.material.max_decoder_seq_length
        return {
            "inputs": (positions, config.num_decoder_tokens, gates),
            "states": (size, config.latent_dim, gates),
            "logits": (positions, config.latent_dim, config.num_decoder_tokens),
        }

    def _train_and_score(self, cell: Cell, seed: int) -> Trained:
        """Train, then decode the held-out sources with each epoch's weights and score them, which is not timed."""
        states: list[ModelState] = []
        epochs: list[EpochDone] = []

        def on_event(event: Mapping[str, Any]) -> None:
            states.append(ModelState(**event["state"]))
            epochs.append(EpochDone(**event["epoch_done"]))

        sentences = self.sentences
        with ExitStack() as stack:
            process = stack.enter_context(self._start(cell))
            peak = process.listening(on_event, silence(len(self.material.batch))).call(
                scenarios.learn,
                epochs=self.plan.epochs_of(cell),
                seed=seed,
                corpus=replace(self.material.batch, padding=cell.padding),
                training_rows=self.material.training_rows,
                validation_rows=self.material.validation_rows,
            )
            if cell.backend == BASELINE:  # keras decodes with its weights, as the example's own loop would take hours
                process.close()
                process = stack.enter_context(self._start(msgspec.structs.replace(cell, backend="keras")))
            scores = []
            for state in states:
                process.call(scenarios.load, state=state)
                texts = [sentences.text(row) for row in sentences.decoded(process, sentences.held_out)]
                scores.append(score(texts, sentences.held_out_references))
        return Trained(cell, seed, epochs, scores, peak)

    def _certify(self) -> Iterator[str]:
        """Record a parity certificate for each backend, interpreter and padding: a given one, or the ladder's result.

        The lane does not matter, since it changes no mathematics. The ladder is always climbed with the example's
        learning rate, the only one for which it is known how large errors normally are.
        """
        settings = replace(self.plan.settings, learning_rate=TrainConfig.learning_rate)
        certified = {line.cell for line in self.recording.of_kind(Certified)}
        needed = dict.fromkeys(certified_as(cell) for cell in self.plan.measured)
        missing = [cell for cell in needed if cell not in certified]
        # Cells with the same interpreter and batches climb one ladder together.
        for kind in dict.fromkeys(msgspec.structs.replace(cell, backend="") for cell in missing):
            size = WHOLE if self.plan.size.whole_ladder and not kind.bucketed else QUICK
            cells = [cell for cell in missing if msgspec.structs.replace(cell, backend="") == kind]
            yield f"parity of {', '.join(cell.label for cell in cells)}"
            given = {cell: found for cell in cells if (found := self._given_certificate(cell))}
            for cell, found in given.items():
                self.recording.append(Certified(cell, found))
            climbing = [cell for cell in cells if cell not in given]
            if climbing:
                runtime = self._runtime(kind)
                with Course(self.plan.data, settings, self.plan.latent_dim, size, runtime, kind.padding) as course:
                    parity = climb(course, [cell.backend for cell in climbing], ["float32"], Parity())
                for cell in climbing:
                    self.recording.append(Certified(cell, parity.certificates[f"{cell.backend} float32"]))

    def _given_certificate(self, cell: Cell) -> Certificate | None:
        """The given certificate of this cell's backend, if it is for the same version, model and device."""
        given = self.certificates.get(f"{cell.backend} float32")
        if given is None or cell.python:
            return None
        with self._start(cell) as process:
            facts = process.facts
        own = (cell.backend, "float32", self.model.latent_dim, cell.padding, facts.version, facts.device)
        theirs = (given.backend, given.dtype, given.latent_dim, given.padding, given.version, given.device)
        return given if own == theirs else None

    def _rows(self, cell: Cell, first: int, lead: int, timed: int) -> Batch:
        """The rows for `lead + timed` steps: an epoch's batches one after another, from batch number `first` on.

        Bucketed batches differ in width. There the timed ones are a sample that is spread evenly over the widths of
        an epoch, the same in every visit.
        """
        corpus, batches = self._epoch(cell)
        if cell.bucketed:
            by_width = np.argsort([batch.decoder_ids.shape[1] for batch in batches], kind="stable")
            sample = by_width[(np.arange(timed) * 2 + 1) * len(by_width) // (2 * timed)]
            numbers = np.concatenate([np.resize(sample, lead), sample])
        else:
            numbers = (first + np.arange(lead + timed)) % len(batches)
        return corpus.take(batches.rows.reshape(len(batches), -1)[numbers].ravel())

    def _warm_up_rows(self, cell: Cell) -> Batch:
        """The rows of the warm-up: a few batches, or one of each shape if bucketed, since each may be compiled."""
        corpus, batches = self._epoch(cell)
        return corpus.take((batches.one_of_each_shape() if cell.bucketed else batches.part(0, WARM_UP_STEPS)).rows)

    def _epoch(self, cell: Cell) -> tuple[Batch, Batches]:
        """The corpus, and the batches of its first epoch without a last one that is not full."""
        corpus = replace(self.material.batch, padding=cell.padding)
        settings = replace(self.plan.settings, batches=cell.batches)
        batches = epoch_batches(corpus, self.material.training_rows, settings, 1)
        return corpus, batches.part(0, len(batches.rows) // batches.batch_size)

    def _start(self, cell: Cell) -> BackendProcess:
        model = replace(self.model, padding=cell.padding)
        settings = replace(self.plan.settings, batches=cell.batches)
        return self._runtime(cell).start(cell.backend, model, settings)

    def _runtime(self, cell: Cell) -> Runtime:
        return Runtime(self.plan.threads, self.plan.device, cell.lane, cell.python or None)


def begin(path: Path, plan: Plan, certificates: Mapping[str, Certificate]) -> Benchmark:
    """A benchmark with a new recording.

    Raises CannotBeginError if the plan cannot be measured or the recording cannot be written.
    """
    material, digest = prepare(plan.data, plan.settings.seed, "float32")
    sentences = _sentences(plan, material)
    weights = sentences.weights
    corpus = Corpus(
        digest, Sizes.of(material), weights.words, weights.sha256, sentences.shown, len(sentences.held_out)
    )
    return Benchmark(Recording.begin(path, plan=plan, corpus=corpus), material, sentences, certificates)


def resumed(path: Path, budget: float | None = None, pythons: Sequence[str] = ()) -> Benchmark:
    """The benchmark of an existing recording, to measure what it lacks; `budget` is in seconds, None the plan's own.

    Raises CannotBeginError if the text, the weights, the machine or a version has changed since it was begun, and
    unless `pythons`, each NAME=PATH, are its interpreters.
    """
    recording = Recording.read(path)
    plan, corpus = recording.plan, recording.head.corpus
    require_named(plan, pythons, path)
    material, digest = prepare(plan.data, plan.settings.seed, "float32")
    if digest != corpus.sha256:
        raise CannotBeginError(f"{plan.data.data} has changed since {path} was begun; choose another --out")
    sentences = _sentences(plan, material)
    if sentences.weights.sha256 != corpus.weights_sha256:
        raise CannotBeginError(f"{corpus.weights} have changed since {path} was begun; choose another --out")
    return Benchmark(recording.resume(), material, sentences, {}, budget)


def _sentences(plan: Plan, material: Material) -> Sentences:
    model = model_config(material.batch, material.decoder_vocabulary, plan.latent_dim, "float32")
    return Sentences(material, weights_for(material, model, plan.run, plan.settings.seed))
