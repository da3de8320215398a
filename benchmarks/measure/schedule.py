"""Carry out a plan: first parity, then generations until the answer is as narrow as asked, then trainings to score.

In a generation every cell's process is alive at once, and they are visited in turns while all others sleep: what the
machine does meanwhile meets all of them alike. Each generation has new processes, since two processes of one program
differ, and each cycle another order.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from contextlib import ExitStack
from dataclasses import dataclass, replace
from math import ceil
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Any, Protocol

import msgspec
import numpy as np
import psutil

from backends import BASELINE
from backends.environment import groups_of
from backends.process import BackendProcess
from backends.session import Material, Runtime, prepare, silence
from benchmarks.measure import scenarios
from benchmarks.measure.machine import MOST_OTHERS, wait_until_idle
from benchmarks.measure.plan import Cell, Plan, certified_as
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
    cut_torn_line,
)
from benchmarks.measure.scenarios import EpochDone, WarmUp
from benchmarks.measure.sentences import TIMED, Sentences, weights_for
from benchmarks.parity.certificate import Certificate
from benchmarks.parity.driver import Parity, climb
from benchmarks.parity.ladder import QUICK, REFEREE, WHOLE, Course
from common.config import TrainConfig
from common.errors import CannotBeginError
from common.load import Watch
from common.machine import describe_machine
from common.scoring import score
from common.tensors import Batch, Batches, epoch_batches, model_config
from common.weights import ModelState

CYCLES = 6  # of a generation
DECODING_CYCLES = (1, 4)  # of these, counted from 0: decoding needs fewer than training
SETTLING_CYCLE = 2  # in which each cell has more timed steps, whose early and late ones are compared
SETTLING_STEPS = 20
MOST_SETTLING = 0.02  # by which early steps may be slower than late ones; else the lead grows
MOST_SETTLING_SECONDS = 4.0  # that so many steps may take; a row that needs more has no such visit
SLOWER = 1.1  # times as long a step as matched, from which on it is asked why a row as installed is slow
MOST_LEAD_SECONDS = 2.0
LEAD_SECONDS = 0.5  # of a visit's steps that do not count: the first ones after a switch are slow
TIMED_SECONDS = 0.4  # of those that do
FEWEST_STEPS = 2  # of either
BUCKETED_STEPS = 16  # timed in a visit: a fixed sample of an epoch's batches, whose widths differ
WARM_UP_STEPS = 4
STARTED_AT_ONCE = 2  # processes, after the first generation
LEAST_GENERATIONS = 5
LEAST_FOR_NARROW = 8  # where the intervals asked for are narrower than NARROW
NARROW = 0.03
PROCESS_BYTES = 1.3e9  # that a framework's process takes at most, as far as seen


class Progress(Protocol):
    """What is told while it is measured. Never called while a clock runs."""

    def phase(self, title: str) -> None:
        """What begins now."""

    def measured(self, recording: Recording) -> None:
        """A generation is done."""


# How narrow the answer is by now: the half-width of the question's widest interval; None before it can be told.
Precision = Callable[[Recording], float | None]


@dataclass
class Turn:
    """A cell's process in a generation."""

    cell: Cell
    process: BackendProcess
    start_seconds: float  # until the process had opened its backend
    warm_up: WarmUp
    step_seconds: float  # of its latest steps, by which the next visit's are counted


class Benchmark:
    """A plan, the text that it is measured on, and the recording that it fills."""

    def __init__(
        self,
        recording: Recording,
        material: Material,
        sentences: Sentences,
        certificates: Mapping[str, Certificate],
        budget: float | None = None,
    ) -> None:
        """`certificates` are those that `rosetta parity` wrote, by name and precision; may be empty."""
        self.recording, self.material, self.sentences = recording, material, sentences
        self.certificates = certificates
        self.plan = recording.plan
        self.model = model_config(material.batch, material.decoder_vocabulary, self.plan.latent_dim, "float32")
        self.budget = self.plan.size.budget if budget is None else budget  # seconds, counted from `run`
        self.lead_seconds = LEAD_SECONDS

    def run(self, progress: Progress, precision: Precision) -> None:
        """Measure all that is missing; no generation is begun that would likely end after the plan's budget."""
        began = perf_counter()
        self._certify(progress)
        while (number := self._next(precision, perf_counter() - began)) is not None:
            while cells := self._heat(number):
                progress.phase(f"generation {number}, at least {self.least} are measured")
                self.recording.append(self._generation(number, len(self._measured(number)), cells))
            progress.measured(self.recording)
        for cell in self.plan.trained:
            for seed in range(self.plan.settings.seed, self.plan.settings.seed + self.plan.size.seeds):
                if not any((t.cell, t.seed) == (cell, seed) for t in self.recording.of_kind(Trained)):
                    progress.phase(f"training {cell.label}, seed {seed}")
                    self.recording.append(self._learn(cell, seed))

    @property
    def least(self) -> int:
        """Generations that are measured at least, if there is time."""
        return LEAST_FOR_NARROW if self.plan.size.within < NARROW else LEAST_GENERATIONS

    def _measured(self, number: int) -> list[Generation]:
        """The heats of a generation that are recorded."""
        return [found for found in self.recording.of_kind(Generation) if found.number == number]

    def _next(self, precision: Precision, spent: float) -> int | None:
        """The number of the generation to measure now; None where no more is to be measured."""
        number = max((generation.number for generation in self.recording.of_kind(Generation)), default=0)
        if not number:
            return 1
        if self._heat(number):
            return number
        reached = precision(self.recording)
        if number >= self.least and reached is not None and reached <= self.plan.size.within:
            return None
        # The last one is the likest: those with the rows as installed come first and take longer.
        longest = sum(heat.seconds for heat in self._measured(number))
        return None if spent + longest > self.budget else number + 1

    def _heat(self, number: int) -> list[Cell]:
        """The cells of a generation to be measured now: as many of those that are missing as memory has room for,
        and the first row in each heat, by which what was measured in two heats is compared. Empty where none is
        missing."""
        first, *others = self.plan.alive_in(number)
        done = {self.plan.cells[start.cell] for heat in self._measured(number) for start in heat.starts}
        missing = [cell for cell in others if cell not in done]
        room = max(2, int(psutil.virtual_memory().available / PROCESS_BYTES))
        return [first, *missing[: room - 1]] if missing or first not in done else []

    def _lacking(self, cells: Sequence[Cell]) -> list[Cell]:
        """The cells of which the evidence is not yet recorded."""
        recorded = {evidence.cell for evidence in self.recording.of_kind(Evidence)}
        return [cell for cell in cells if not (cell.again or cell.bucketed) and cell not in recorded]

    def _generation(self, number: int, heat: int, cells: Sequence[Cell]) -> Generation:
        """Start every cell's process, visit them in turns, and end them."""
        began = perf_counter()
        rng = np.random.default_rng([self.plan.settings.seed, number, heat])
        turns: dict[Cell, Turn] = {}
        with ExitStack() as stack:
            for turn in self._all_opened([cells[place] for place in rng.permutation(len(cells))], number == 1, stack):
                turns[turn.cell] = turn
            decoded = {line.cell for line in self.recording.of_kind(Decoded)}
            for cell, turn in turns.items():
                if cell not in decoded and not cell.bucketed:
                    self.recording.append(self._decode(cell, turn.process))
            cycles = []
            for cycle in range(CYCLES):
                first = int(rng.integers(1 << 30))  # batch of the corpus: the same for all cells of a cycle
                order = [cells[place] for place in rng.permutation(len(cells))]
                cycles.append([self._visit(cell, turns, cycle, first) for cell in order])
            self._settle(cycles)
            for turn in turns.values():  # what it typically took, which one disturbed visit does not change
                number_of = self.plan.cells.index(turn.cell)
                turn.step_seconds = median(median(v.steps) for cycle in cycles for v in cycle if v.cell == number_of)
            for cell in self._lacking(cells):
                self.recording.append(self._evidence(cell, turns[cell].process))
            for cell in cells:
                self._find_cause(cell, turns)
        if not any(evidence.cell == Cell(REFEREE) for evidence in self.recording.of_kind(Evidence)):
            with self._start(Cell(REFEREE)) as process:  # whose product may be the machine's fastest
                products = process.call(scenarios.matrix_products, shapes=self._shapes())
                self.recording.append(Evidence(Cell(REFEREE), None, products))
        starts = [
            Start(self.plan.cells.index(turn.cell), turn.start_seconds, turn.process.facts, turn.warm_up)
            for turn in turns.values()
        ]
        return Generation(number, heat, starts, cycles, perf_counter() - began)

    def _all_opened(self, cells: Sequence[Cell], alone: bool, stack: ExitStack) -> Iterator[Turn]:
        """The cells' processes, warm. They are started one after another where `alone` says that the time of a start
        is of interest, else two at a time."""
        if alone:
            yield from (self._opened(cell, stack) for cell in cells)
            return
        pool = ThreadPoolExecutor(STARTED_AT_ONCE)
        started = [pool.submit(self._start, cell) for cell in cells]
        try:
            wait(started, return_when=FIRST_EXCEPTION)
        finally:  # that one has failed, or Ctrl-C, starts no more and leaves none of the others alive
            pool.shutdown(cancel_futures=True)
            for future in started:
                if not future.cancelled() and future.exception() is None:
                    stack.enter_context(future.result())
        for cell, future in zip(cells, started, strict=True):
            yield self._warm(cell, future.result(), 0.0)

    def _opened(self, cell: Cell, stack: ExitStack) -> Turn:
        """The cell's process, warm."""
        began = perf_counter()
        process = stack.enter_context(self._start(cell))
        return self._warm(cell, process, perf_counter() - began)

    def _warm(self, cell: Cell, process: BackendProcess, seconds: float) -> Turn:
        rows, batch_size = self._warm_up_rows(cell), self.plan.settings.batch_size
        warm_up = process.call(scenarios.warm_up, rows=rows, batch_size=batch_size)
        return Turn(cell, process, seconds, warm_up, median(warm_up.step_seconds))

    def _visit(self, cell: Cell, turns: Mapping[Cell, Turn], cycle: int, first: int) -> Visit:
        """A cell's turn: steps that do not count, steps that do, and in some cycles decoding."""
        turn, size = turns[cell], self.plan.settings.batch_size
        lead, timed = self._counts(turn)
        if cell.bucketed:
            lead, timed = max(lead, BUCKETED_STEPS // 2), BUCKETED_STEPS
        elif cycle == SETTLING_CYCLE and SETTLING_STEPS * turn.step_seconds < MOST_SETTLING_SECONDS:
            timed = SETTLING_STEPS
        waited = wait_until_idle()
        watch = Watch(other.process.pid for other in turns.values())
        trained = turn.process.call(scenarios.steps, rows=self._rows(cell, first, lead, timed), batch_size=size)
        seconds = trained.step_seconds
        batch: list[float] = []
        alone: list[float] = []
        if cycle in DECODING_CYCLES and self._decodes_in_turns(cell):
            batch = turn.process.call(scenarios.decoding, **self.sentences.timed_together)
            alone = turn.process.call(scenarios.decoding, **self.sentences.timed_alone)
        turn.step_seconds = median(seconds[lead:])
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
        """Let the steps that do not count go on for longer where the first timed ones were still slow."""
        half, long = SETTLING_STEPS // 2, [v for v in cycles[SETTLING_CYCLE] if len(v.steps) == SETTLING_STEPS]
        early = [median(visit.steps[:half]) / median(visit.steps[half:]) for visit in long]
        if early and median(early) > 1 + MOST_SETTLING and all(visit.others <= MOST_OTHERS for visit in long):
            self.lead_seconds = min(1.5 * self.lead_seconds, MOST_LEAD_SECONDS)

    def _decodes_in_turns(self, cell: Cell) -> bool:
        """The example decodes sentence by sentence, at seconds each, and only once."""
        return not cell.bucketed and cell.backend != BASELINE

    def _decode(self, cell: Cell, process: BackendProcess) -> Decoded:
        """The sentences that are shown, and all held-out ones, whose translations are scored."""
        sentences, in_turns = self.sentences, self._decodes_in_turns(cell)
        process.call(scenarios.load, state=sentences.weights.state)
        began = perf_counter()
        shown = sentences.decoded(process, [shown.source for shown in sentences.shown])
        seconds = (perf_counter() - began) / float(sentences.characters(shown).sum())
        translations = [sentences.text(row) for row in shown]
        if not in_turns:
            return Decoded(cell, translations, seconds, characters=None, sentences=0, scores=None)
        held_out = sentences.decoded(process, sentences.held_out)
        together = sentences.characters(held_out[:TIMED])
        alone = sentences.characters(held_out[sentences.longest :][:1])
        scores = score([sentences.text(row) for row in held_out], sentences.against)
        counts = int(together.sum()), int(alone[0])
        return Decoded(cell, translations, seconds, characters=counts, sentences=len(together), scores=scores)

    def _evidence(self, cell: Cell, process: BackendProcess) -> Evidence:
        """Kernels and matrix products, by the process as it is at its end."""
        size = self.plan.settings.batch_size
        profile = process.call(scenarios.profiled, rows=self._rows(cell, 0, 0, WARM_UP_STEPS), batch_size=size)
        has_products = cell.lane == "matched" and cell.backend != BASELINE and not cell.reduced
        products = process.call(scenarios.matrix_products, shapes=self._shapes()) if has_products else []
        return Evidence(cell, profile, products)

    def _find_cause(self, cell: Cell, turns: Mapping[Cell, Turn]) -> None:
        """Which of the matched lane's settings a slow row as installed lacks: they are given to it one group after
        another, until its step is nearly as short as with all of them."""
        matched = turns.get(msgspec.structs.replace(cell, lane="matched"))
        if cell.lane != "default" or matched is None or turns[cell].step_seconds < SLOWER * matched.step_seconds:
            return
        if any(cause.cell == cell for cause in self.recording.of_kind(Cause)):
            return
        groups: list[str] = []
        for group in groups_of(cell.backend):
            if group == "threads" and turns[cell].process.facts.threads == matched.process.facts.threads:
                continue
            groups.append(group)
            with ExitStack() as stack:
                given = self._opened(msgspec.structs.replace(cell, lane="+".join(groups)), stack)
                wait_until_idle()
                lead, timed = self._counts(given)
                rows, size = self._rows(cell, 0, lead, timed), self.plan.settings.batch_size
                steps = given.process.call(scenarios.steps, rows=rows, batch_size=size).step_seconds[lead:]
            found = (turns[cell].step_seconds, median(steps), matched.step_seconds)
            self.recording.append(Cause(cell, list(groups), *found))
            if found[1] < found[2] * SLOWER:
                return

    def _counts(self, turn: Turn) -> tuple[int, int]:
        """Steps of a visit that do not count, and that do."""
        lead, timed = (ceil(seconds / turn.step_seconds) for seconds in (self.lead_seconds, TIMED_SECONDS))
        return max(FEWEST_STEPS, lead), max(FEWEST_STEPS, timed)

    def _shapes(self) -> dict[str, tuple[int, int, int]]:
        """The products that a training step is made of: all time steps' inputs, one step's states, the logits."""
        config, gates, size = self.model, 4 * self.model.latent_dim, self.plan.settings.batch_size
        positions = size * self.material.max_decoder_seq_length
        return {
            "inputs": (positions, config.num_decoder_tokens, gates),
            "states": (size, config.latent_dim, gates),
            "logits": (positions, config.latent_dim, config.num_decoder_tokens),
        }

    def _learn(self, cell: Cell, seed: int) -> Trained:
        """Train, then decode the held-out sources with each epoch's weights and score them: off the clock."""
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
            if cell.backend == BASELINE:  # whose decoding of all this would take hours
                process.close()
                process = stack.enter_context(self._start(msgspec.structs.replace(cell, backend="keras")))
            scores = []
            for state in states:
                process.call(scenarios.load, state=state)
                texts = [sentences.text(row) for row in sentences.decoded(process, sentences.held_out)]
                scores.append(score(texts, sentences.against))
        return Trained(cell, seed, epochs, scores, peak)

    def _certify(self, progress: Progress) -> None:
        """A certificate for each backend, interpreter and padding: one that was given, or what the ladder finds.

        A lane changes no mathematics and needs none of its own. Neither does a learning rate, and what errors are
        normal is known for the example's alone.
        """
        settings = replace(self.plan.settings, learning_rate=TrainConfig.learning_rate)
        certified = {line.cell for line in self.recording.of_kind(Certified)}
        needed = dict.fromkeys(certified_as(cell) for cell in self.plan.cells)
        missing = [cell for cell in needed if cell not in certified]
        for like in dict.fromkeys(msgspec.structs.replace(cell, backend="") for cell in missing):
            size = WHOLE if self.plan.size.whole_ladder and not like.bucketed else QUICK
            cells = [cell for cell in missing if msgspec.structs.replace(cell, backend="") == like]
            runtime = self._runtime(like)
            progress.phase(f"parity of {', '.join(cell.label for cell in cells)}")
            given = {cell: found for cell in cells if (found := self._given(cell))}
            for cell, found in given.items():
                self.recording.append(Certified(cell, found))
            climbing = [cell for cell in cells if cell not in given]
            if climbing:
                with Course(self.plan.data, settings, self.plan.latent_dim, size, runtime, like.padding) as course:
                    found_by = climb(course, [cell.backend for cell in climbing], ["float32"], Parity())
                for cell in climbing:
                    self.recording.append(Certified(cell, found_by.certificates[f"{cell.backend} float32"]))

    def _given(self, cell: Cell) -> Certificate | None:
        """The certificate that was given for this backend, if it is of this version, model and device."""
        given = self.certificates.get(f"{cell.backend} float32")
        if given is None or cell.python:
            return None
        with self._start(cell) as process:
            facts = process.facts
        own = (cell.backend, "float32", self.model.latent_dim, cell.padding, facts.version, facts.device)
        theirs = (given.backend, given.dtype, given.latent_dim, given.padding, given.version, given.device)
        return given if own == theirs else None

    def _rows(self, cell: Cell, first: int, lead: int, timed: int) -> Batch:
        """What `lead + timed` steps are fed: batches of an epoch one after another, from `first` on.

        Bucketed ones differ in width: the timed ones are a sample that is spread evenly over an epoch's widths.
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
        """A few batches; bucketed ones in each shape, since some frameworks compile for a shape."""
        corpus, batches = self._epoch(cell)
        return corpus.take((batches.one_of_each_shape() if cell.bucketed else batches.part(0, WARM_UP_STEPS)).rows)

    def _epoch(self, cell: Cell) -> tuple[Batch, Batches]:
        """The corpus, and the whole batches of its first epoch."""
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
    """Write the head of a new recording. Raises CannotBeginError for what cannot be measured or written."""
    material, digest = prepare(plan.data, plan.settings.seed, "float32")
    sentences = _sentences(plan, material)
    weights = sentences.weights
    corpus = Corpus(
        digest, Sizes.of(material), weights.words, weights.sha256, sentences.shown, len(sentences.held_out)
    )
    return Benchmark(Recording.create(path, plan, corpus), material, sentences, certificates)


def resumed(path: Path, budget: float | None = None) -> Benchmark:
    """Go on with a recording, where text, weights, machine and versions are what they were; `budget` is in seconds,
    the plan's own where it is None."""
    recording = Recording.read(path)
    plan, corpus = recording.plan, recording.head.corpus
    material, digest = prepare(plan.data, plan.settings.seed, "float32")
    if digest != corpus.sha256:
        raise CannotBeginError(f"{plan.data.data} has changed since {path} was begun; choose another --out")
    sentences = _sentences(plan, material)
    if sentences.weights.sha256 != corpus.weights_sha256:
        raise CannotBeginError(f"{corpus.weights} have changed since {path} was begun; choose another --out")
    now = describe_machine()
    for name, was in recording.head.machine.items():
        if now.get(name) != was:
            raise CannotBeginError(
                f"{path} was begun elsewhere: {name} was {was}, is {now.get(name)}; choose another --out"
            )
    cut_torn_line(path)
    return Benchmark(recording, material, sentences, {}, budget)


def _sentences(plan: Plan, material: Material) -> Sentences:
    model = model_config(material.batch, material.decoder_vocabulary, plan.latent_dim, "float32")
    return Sentences(material, weights_for(material, model, plan.run, plan.settings.seed))
