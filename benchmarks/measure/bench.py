"""Carry out a plan: parity, then the rounds that answer its question, then whatever else there is time for.

- A round starts one process for every row, has them take turns and ends them. Each round has new processes, since
  two processes of the same program differ in speed.
- The question comes first: rows with matched settings take turns until their intervals are as narrow as asked. What
  is left of the time goes, in this order, to the sentences, decoding speed, rows as installed, and why one is slower.
- No size rests on a guess: how many cycles a round has, and how long its visits are, follows from what a start and a
  step cost on this machine, so that three rounds fit into the time on a slow machine too.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from math import ceil
from pathlib import Path
from statistics import median
from typing import Protocol

import numpy as np
import psutil

from backends import BASELINE
from backends.process.parent import BackendProcess
from backends.process.runtime import Runtime
from backends.process.starting import started_side_by_side
from benchmarks.compare.certificate import QUICK, WHOLE
from benchmarks.compare.course import REFEREE, Course
from benchmarks.compare.parity import Parity, climb
from benchmarks.measure import in_child, machine
from benchmarks.measure.in_child import WarmUp
from benchmarks.measure.plan import LEAST_ROUNDS, Plan, Row, require_named
from benchmarks.measure.recording import (
    Certified,
    Corpus,
    Decoded,
    Evidence,
    Recording,
    Round,
    Sizes,
    Start,
    Visit,
    Work,
)
from benchmarks.measure.sentences import TIMED, Sentences, weights_for
from benchmarks.measure.turns import Contestant, take_turns, usable
from common.errors import CannotBeginError, RosettaError
from common.machine import cores
from common.material import Material, prepare
from common.scoring import score
from common.tensors import Batch, epoch_batches, model_config

ENOUGH_ROUNDS = 5  # rounds after which narrow intervals end the question
CAREFUL_ROUNDS = 8  # the same where figures are wanted that are fit to quote
EXTRA_ROUNDS = 3  # rounds that rows as installed and decoding get where there is time
CYCLES = 4  # in a round, where there is time
FEWEST_CYCLES = 2  # visits become shorter before a round has fewer
EXTRA_CYCLES = 2  # in a round of rows as installed, and of decoding
LEAD_SECONDS = 0.5  # a visit begins with steps that do not count, since the first ones after a switch are slow
TIMED_SECONDS = 0.4  # duration of a visit's timed steps
SHORTER = (1.0, 0.5, 0.0)  # visits of these shares of the two durations are tried, the longest first
FEWEST_STEPS = (1, 2)  # least number of steps that do not count, and of timed ones, in a visit
WARM_UP_STEPS = 2  # after the cold one
BETWEEN = 0.15  # seconds that a turn takes beside its steps, most of it waiting until the machine is idle
GIVES_WAY = 1.5  # the budget may become so many times as long, where the least number of rounds does not fit
STARTED_AT_ONCE = 2  # number of processes that are started at the same time, after the first round
PROCESS_BYTES = 0.9e9  # memory that a framework's process takes, about
# What is allowed for, before it is known, in steps of the row: decoding the shown sentences one by one or in a batch,
# and a profile; and how many times as long as with matched settings a step as installed may take.
ONE_BY_ONE, IN_A_BATCH, PROFILING, SLOWER = 250, 30, 40, 3.0
CHECKING = "checking that all compute the same"

# How far the widest interval of the plan's question reaches to its wider side, as a share, by what is recorded so
# far; None before that is known. Results are derived elsewhere, from the recording alone.
HalfWidth = Callable[[Recording], float | None]


class Progress(Protocol):
    """Where a benchmark tells how far it is, never while something is timed."""

    def status(self, doing: str) -> None:
        """What is being done now; said often, of which a person need not read everything."""

    def note(self, line: str) -> None:
        """A line that everybody should read."""


@dataclass
class Training:
    """A row whose process is alive; as a contestant it trains."""

    index: int  # of the row in the plan
    row: Row
    process: BackendProcess
    start_seconds: float  # from start until the backend was open; 0 if others were starting meanwhile
    warm_up: WarmUp
    step_seconds: float  # duration of its latest steps, from which the number of steps of a visit follows
    rows: Callable[[int, int], Batch]  # the rows of so many steps, from a batch's number on
    batch_size: int
    share: float = 1.0  # of LEAD_SECONDS and TIMED_SECONDS, which a visit takes

    @property
    def pids(self) -> Sequence[int]:
        return [self.process.pid]

    def visit(self, first: int) -> Visit:
        """Training steps that do not count, then timed ones."""
        lead, timed = step_counts(self.step_seconds, self.share)
        rows = self.rows(first, lead + timed)
        trained = self.process.call(in_child.steps, rows=rows, batch_size=self.batch_size)
        steps = trained.step_seconds
        self.step_seconds = median(steps[lead:])
        return Visit(
            self.index,
            lead=steps[:lead],
            steps=steps[lead:],
            loop=trained.seconds,
            finite=trained.finite,
            waited=0.0,
            others=0.0,
            peak=trained.peak,
        )


def step_counts(step_seconds: float, share: float) -> tuple[int, int]:
    """How many steps of a visit do not count, and how many are timed; `share` is that of a long visit's duration."""
    lead, timed = (ceil(share * seconds / step_seconds) for seconds in (LEAD_SECONDS, TIMED_SECONDS))
    return max(lead, FEWEST_STEPS[0]), max(timed, FEWEST_STEPS[1])


def visit_seconds(step_seconds: float, share: float) -> float:
    """How long a visit will take."""
    return BETWEEN + sum(step_counts(step_seconds, share)) * step_seconds


@dataclass
class Decoding:
    """A row whose process is alive; as a contestant it decodes many sentences at once, or one alone."""

    trainee: Training
    sentences: Sentences
    work: Work

    @property
    def pids(self) -> Sequence[int]:
        return self.trainee.pids

    def visit(self, first: int) -> Visit:
        """Calls that decode, whatever batch is the first."""
        timed = self.sentences.timed_together if self.work == "batch" else self.sentences.timed_alone
        calls = self.trainee.process.call(in_child.decoding, **timed)
        return Visit(self.trainee.index, [], calls, sum(calls), finite=True, waited=0.0, others=0.0)


class Benchmark:
    """A plan, the text that is trained on and decoded, and the recording that is being filled."""

    def __init__(
        self, recording: Recording, material: Material, sentences: Sentences, budget: float | None = None
    ) -> None:
        """`budget` is in seconds; None is the plan's own."""
        self.recording, self.material, self.sentences = recording, material, sentences
        self.plan = recording.plan
        self.model = model_config(material.batch, material.decoder_vocabulary, self.plan.latent_dim, "float32")
        self.budget = self.plan.budget if budget is None else budget
        batches = epoch_batches(material.batch, material.training_rows, self.plan.settings, 1)
        self.batches = batches.part(0, len(batches.rows) // batches.batch_size)  # without a last one that is not full
        self.everything = list(range(len(self.plan.rows)))  # indices of all rows
        self.matched = [index for index, row in enumerate(self.plan.rows) if not row.installed]
        # As last measured: the duration of each row's steps, and of starting and warming up the question's rows.
        rounds = recording.rounds()
        last = [visit for line in rounds for cycle in line.cycles for visit in cycle]
        self.step_seconds = {visit.row: median(visit.steps) for visit in last}
        self.start_seconds = rounds[-1].seconds if rounds else 0.0  # turns included, where this goes on
        self.stretch = 1.0  # how many times as long as foreseen the last cycles took
        self.began = self.end = 0.0
        self.busy: machine.NoRestError | None = None  # why measuring ends, where other programs do not rest

    def run(self, progress: Progress, half_width: HalfWidth) -> None:
        """Measure what the recording lacks, within the budget.

        Raises RosettaError where other programs leave the machine no rest, or where there is no answer in time.
        """
        self.progress, self.half_width = progress, half_width
        self.began = machine.now()
        self.end = self.began + self.budget
        machine.wait_until_fit(progress.note)
        self._certify()
        self._require_memory(len(self.matched))
        try:
            while self._wants_round():
                self._round(self.matched)
            while self._wants_extra():
                self._round(self.everything, extra=True)
        except machine.NoRestError as error:
            if half_width(self.recording) is None:
                raise
            progress.note(f"{error}; this ends with what was measured before")

    @property
    def left(self) -> float:
        """Seconds that are left of the budget."""
        return self.end - machine.now()

    @property
    def used(self) -> int:
        """Number of rounds with a cycle that counts."""
        return sum(any(map(usable, line.cycles)) for line in self.recording.rounds())

    def _wants_round(self) -> bool:
        """Whether the question needs another round, and there is time for it."""
        if self.used >= (CAREFUL_ROUNDS if self.plan.careful else ENOUGH_ROUNDS):
            reached = self.half_width(self.recording)
            if reached is not None and reached <= self.plan.within:
                return False
        if not self.start_seconds:  # nothing is known of this machine yet
            return True
        if self.used >= LEAST_ROUNDS:
            return self.left >= self.start_seconds + FEWEST_CYCLES * self._cycle_seconds(self.matched)
        least = self._cycle_seconds(self.matched, share=0.0)
        self._give_way(least)
        return self.left >= self.start_seconds + least

    def _wants_extra(self) -> bool:
        """Whether rows as installed and decoding lack a round, and there is time and memory for it."""
        if self.used < LEAST_ROUNDS or not self.start_seconds or not self._has_memory(len(self.everything)):
            return False
        installed = set(self.everything) - set(self.matched)
        if not installed and all(row.backend == BASELINE for row in self.plan.rows):  # which has no turns of decoding
            return False
        done = [line for line in self.recording.rounds() if installed & {start.row for start in line.starts}]
        if len(done if installed else self.recording.rounds("batch")) >= EXTRA_ROUNDS:
            return False
        starting = self.start_seconds * len(self.everything) / len(self.matched)
        return self.left >= starting + self._cycle_seconds(self.everything)

    def _step_seconds(self, index: int) -> float:
        """The duration of a row's steps, as last measured; a guess from its counterpart before."""
        plain = self.plan.rows[index].counterpart
        if index in self.step_seconds or plain not in self.plan.rows:
            return self.step_seconds[index]
        return SLOWER * self.step_seconds[self.plan.rows.index(plain)]

    def _cycle_seconds(self, indices: Sequence[int], share: float = 1.0) -> float:
        """How long a cycle of these rows will take."""
        return self.stretch * sum(visit_seconds(self._step_seconds(index), share) for index in indices)

    def _decoding_seconds(self) -> float:
        """How long turns of decoding will take, in a batch and alone."""
        calls = sum(BETWEEN + 2 * in_child.AT_LEAST + 2 * self._step_seconds(index) for index in self.matched)
        return 2 * EXTRA_CYCLES * self.stretch * calls

    def _give_way(self, least: float, opened: bool = False) -> None:
        """Make the budget longer, at most by half, where the rounds that an answer needs do not fit into it.

        `least` is the duration of their shortest cycle; with `opened`, the first of them has its processes already.
        Raises RosettaError, before anything is measured in vain, where not even two rounds would fit.
        """
        missing = LEAST_ROUNDS - self.used

        def end(rounds: int) -> float:
            return machine.now() + rounds * (self.start_seconds + least) - opened * self.start_seconds

        latest = self.began + GIVES_WAY * self.budget
        if not self.used and end(missing - 1) > latest:
            minutes = ceil((end(missing) - self.began) / 60)
            raise RosettaError(
                f"an answer needs {LEAST_ROUNDS} rounds of new processes, which take about {minutes} minutes on this "
                f"machine; give --budget {minutes}m"
            )
        if missing > 0 and end(missing) > self.end and self.end < latest:
            self.end = min(latest, end(missing))
            self.progress.note(
                f"{duration(self.budget)} are too few for {LEAST_ROUNDS} rounds of new processes on this machine, so "
                f"this takes {duration(self.end - self.began)}"
            )

    def _round(self, indices: Sequence[int], extra: bool = False) -> None:
        """Measure a round: start the process of every row, let them take turns, and end them."""
        number = max((line.number for line in self.recording.rounds()), default=0) + 1
        rng = np.random.default_rng([self.plan.settings.seed, number])
        began = machine.now()
        with ExitStack() as stack:
            order = [indices[place] for place in rng.permutation(len(indices))]
            live = {one.index: one for one in self._opened(order, number, stack)}
            self.step_seconds |= {index: one.step_seconds for index, one in live.items()}
            if not extra:
                self.start_seconds = machine.now() - began
            cycles = self._cycles([live[index] for index in indices], rng, number, extra)
            starts = [Start(i, one.start_seconds, one.process.facts, one.warm_up) for i, one in live.items()]
            self.recording.append(Round(number, "training", starts, cycles, machine.now() - began))
            self.step_seconds |= {index: one.step_seconds for index, one in live.items()}
            if self.busy:
                raise self.busy
            plain = [one for one in live.values() if not (one.row.installed or one.row.control)]
            if extra or (not self._wants_round() and self.used >= LEAST_ROUNDS):
                self._decode(plain, number, rng)
                if extra or not self._wants_extra():
                    self._explain(plain)

    def _opened(self, indices: Sequence[int], number: int, stack: ExitStack) -> Iterator[Training]:
        """Start and warm up the processes of these rows.

        In the first round each start is timed by itself; later two processes at a time are started, which is quicker.
        """

        def failed(index: int, error: RosettaError) -> None:
            raise error

        doing, size = f"starting round {number} of new processes", self.plan.settings.batch_size
        at_once, began = 1 if number == 1 else STARTED_AT_ONCE, machine.now()
        opened = []
        for index, process in stack.enter_context(started_side_by_side(indices, self._launch, failed, at_once)):
            opened.append((index, process, machine.now() - began if at_once == 1 else 0.0))
            self.progress.status(doing)
            began = machine.now()
        for index, process, seconds in opened:
            warm_up = process.call(in_child.warm_up, rows=self._rows(0, WARM_UP_STEPS), batch_size=size)
            step = median(warm_up.step_seconds)
            yield Training(index, self.plan.rows[index], process, seconds, warm_up, step, self._rows, size)

    def _cycles(
        self, live: Sequence[Training], rng: np.random.Generator, number: int, extra: bool
    ) -> list[list[Visit]]:
        """Let the rows take turns, for as many cycles and with visits as long as the time allows."""
        to_come = 0 if extra else max(0, LEAST_ROUNDS - self.used - 1)  # rounds that an answer needs after this one
        indices = [one.index for one in live]
        if not extra:
            self._give_way(self._cycle_seconds(indices, share=0.0), opened=True)
        for_turns = (self.left - to_come * self.start_seconds) / (to_come + 1)
        for share in SHORTER:
            foreseen = self._cycle_seconds(indices, share)
            if for_turns >= FEWEST_CYCLES * foreseen:
                break
        wanted = min(EXTRA_CYCLES if extra else CYCLES, max(1, int(for_turns / foreseen)))
        for one in live:
            one.share = share
        cycles: list[list[Visit]] = []
        began = machine.now()
        for cycle in take_turns(live, rng, lambda: self.progress.status(f"round {number} of new processes")):
            cycles.append(cycle)
            each = (machine.now() - began) / len(cycles)
            if len(cycles) >= wanted or self.left < each or not (usable(cycle) or self._is_fit()):
                break
        self.stretch = max(1.0, self.stretch * each / foreseen)
        return cycles

    def _is_fit(self) -> bool:
        """Whether other programs leave the machine alone, after waiting for that; if not, `busy` has the error."""
        try:
            machine.wait_until_fit(self.progress.note)
        except machine.NoRestError as error:
            self.busy = error
        return self.busy is None

    def _decode(self, live: Sequence[Training], number: int, rng: np.random.Generator) -> None:
        """The shown sentences in each row that has not decoded them, and turns of decoding."""
        decoded = {line.row for line in self.recording.of_kind(Decoded)}
        for one in sorted(live, key=lambda one: one.row.backend == BASELINE):  # the slowest last
            needed = (ONE_BY_ONE if one.row.backend == BASELINE else IN_A_BATCH) * one.step_seconds
            if one.index not in decoded and self.left >= needed:
                self.progress.status(f"decoding sentences in {one.row.label}")
                self.recording.append(self._decoded(one))
        ready = {line.row for line in self.recording.of_kind(Decoded) if line.characters}
        works: tuple[Work, ...] = ("batch", "alone")
        for work in works:
            contestants: list[Contestant] = [
                Decoding(one, self.sentences, work) for one in live if one.index in ready
            ]
            if not contestants or self.left < self._decoding_seconds() / 2:
                continue
            began, cycles = machine.now(), []
            for cycle in take_turns(contestants, rng, lambda: self.progress.status("decoding in turns")):
                cycles.append(cycle)
                if len(cycles) == EXTRA_CYCLES:
                    break
            self.recording.append(Round(number, work, [], cycles, machine.now() - began))

    def _decoded(self, one: Training) -> Decoded:
        """Decode the shown sentences and, where a row decodes in batches, all held-out ones, and score them."""
        sentences, process = self.sentences, one.process
        process.call(in_child.load, state=sentences.weights.state)
        began = machine.now()
        shown = sentences.decoded(process, [shown.source for shown in sentences.shown])
        seconds = (machine.now() - began) / float(sentences.characters(shown).sum())
        translations = [sentences.text(row) for row in shown]
        if one.row.backend == BASELINE:  # it takes seconds for a single sentence
            return Decoded(one.index, translations, seconds, characters=None, sentences=0, scores=None)
        held_out = sentences.decoded(process, sentences.held_out)
        together = sentences.characters(held_out[:TIMED])
        alone = sentences.characters(held_out[sentences.longest :][:1])
        scores = score([sentences.text(row) for row in held_out], sentences.held_out_references)
        counts = int(together.sum()), int(alone[0])
        return Decoded(one.index, translations, seconds, counts, len(together), scores)

    def _explain(self, live: Sequence[Training]) -> None:
        """Profile a few steps of each row and time matrix products, after the turns, so that no turn is disturbed."""
        recorded, size = {line.row for line in self.recording.of_kind(Evidence)}, self.plan.settings.batch_size
        for one in live:
            if one.index in recorded or self.left < PROFILING * one.step_seconds:
                continue
            self.progress.status(f"profiling {one.row.label}")
            profile = one.process.call(
                in_child.profiled, rows=self._rows(0, in_child.PROFILED_STEPS), batch_size=size
            )
            products = []
            if one.row.backend != BASELINE and not one.row.reduced:
                products = one.process.call(in_child.matrix_products, shapes=self._shapes())
            self.recording.append(Evidence(one.index, profile, products))
        if live and -1 not in recorded and self.left >= PROFILING * min(one.step_seconds for one in live):
            with self._launch(-1) as process:  # NumPy's matrix product may be the fastest of the machine
                products = process.call(in_child.matrix_products, shapes=self._shapes())
            self.recording.append(Evidence(-1, None, products))

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

    def _certify(self) -> None:
        """Climb the parity ladder with each backend and interpreter that has no certificate, and record these.

        A lane changes no mathematics, so the matched rows suffice. Nothing is timed, so backends climb side by side.
        """
        certified = {line.row for line in self.recording.of_kind(Certified)}
        matched = [i for i, row in enumerate(self.plan.rows) if not (row.installed or row.control)]
        missing = [index for index in matched if index not in certified]
        for python in dict.fromkeys(self.plan.rows[index].python for index in missing):
            of_python = [index for index in missing if self.plan.rows[index].python == python]
            names = [self.plan.rows[index].backend for index in of_python]
            self.progress.status(CHECKING)
            size = WHOLE if self.plan.careful else QUICK
            with Course(
                self.plan.data, self.plan.settings, self.plan.latent_dim, size, self._runtime(Row("", python=python))
            ) as course:
                parity = climb(
                    course, names, ["float32"], Parity(), lambda: self.progress.status(CHECKING), at_once=cores()
                )
            for index, name in zip(of_python, names, strict=True):
                self.recording.append(Certified(index, parity.certificates[f"{name} float32"]))

    def _rows(self, first: int, steps: int) -> Batch:
        """The rows of so many steps: an epoch's batches one after another, from batch number `first` on."""
        numbers = (first + np.arange(steps)) % len(self.batches)
        rows = self.batches.rows.reshape(len(self.batches), -1)[numbers].ravel()
        return self.material.batch.take(rows)

    def _launch(self, index: int) -> BackendProcess:
        """Start a row's process; of index -1 the referee's."""
        row = self.plan.rows[index] if index >= 0 else Row(REFEREE)
        return self._runtime(row).launch(row.backend, self.model, self.plan.settings)

    def _runtime(self, row: Row) -> Runtime:
        return Runtime(self.plan.threads, self.plan.device, row.lane, row.python or None)

    def _has_memory(self, processes: int) -> bool:
        return bool(psutil.virtual_memory().available >= processes * PROCESS_BYTES)

    def _require_memory(self, processes: int) -> None:
        """Raise CannotBeginError where so many processes do not fit into memory."""
        if not self._has_memory(processes):
            available = psutil.virtual_memory().available
            raise CannotBeginError(
                f"{processes} processes need about {processes * PROCESS_BYTES / 1e9:.1f} GB of memory, and "
                f"{available / 1e9:.1f} GB are available; close programs, or name fewer with --backends"
            )


def duration(seconds: float) -> str:
    """A duration in minutes and seconds: 2 min 5 s."""
    return f"{round(seconds) // 60} min {round(seconds) % 60} s"


def begin(path: Path, plan: Plan) -> Benchmark:
    """A benchmark with a new recording.

    Raises CannotBeginError if the plan cannot be measured or the recording cannot be written.
    """
    material, digest = prepare(plan.data, plan.settings.seed, "float32")
    sentences = _sentences(plan, material)
    weights = sentences.weights
    corpus = Corpus(
        digest, Sizes.of(material), weights.words, weights.sha256, sentences.shown, len(sentences.held_out)
    )
    recording = Recording.begin(path, "rosetta-benchmark", plan=plan, corpus=corpus)
    return Benchmark(recording, material, sentences)


def resumed(path: Path, budget: float | None = None, pythons: Sequence[str] = ()) -> Benchmark:
    """The benchmark of an existing recording, to measure what it lacks; `budget` is in seconds, None the plan's own.

    Raises CannotBeginError if the text, the weights, the machine or a version has changed since it was begun, and
    unless `pythons`, each NAME=PATH, are its interpreters.
    """
    recording = Recording.read(path, "rosetta-benchmark")
    plan, corpus = recording.plan, recording.head.corpus
    require_named(plan, pythons, path)
    material, digest = prepare(plan.data, plan.settings.seed, "float32")
    if digest != corpus.sha256:
        raise CannotBeginError(f"{plan.data.data} has changed since {path} was begun; choose another --out")
    sentences = _sentences(plan, material)
    if sentences.weights.sha256 != corpus.weights_sha256:
        raise CannotBeginError(f"{corpus.weights} have changed since {path} was begun; choose another --out")
    return Benchmark(recording.resume(), material, sentences, budget)


def _sentences(plan: Plan, material: Material) -> Sentences:
    model = model_config(material.batch, material.decoder_vocabulary, plan.latent_dim, "float32")
    return Sentences(material, weights_for(material, model, plan.run, plan.settings.seed))
