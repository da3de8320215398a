"""Carry out a plan: parity, then the rounds that answer its question, then whatever else there is time for.

- A round starts one process for every row, has them take turns and ends them. Each round has new processes, since
  two processes of the same program differ in speed.
- The question comes first: rows with matched settings take turns until their intervals are as narrow as asked. What
  is left of the time goes, in this order, to the sentences, decoding speed, rows as installed, and why one is slower.
"""

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from functools import partial
from itertools import islice
from pathlib import Path
from typing import get_args

import numpy as np
import psutil

from backends import BASELINE
from backends.process.parent import BackendProcess, Runtime
from backends.process.starting import PROCESS_BYTES, started_side_by_side
from benchmarks.compare.certificate import QUICK, WHOLE
from benchmarks.compare.course import Course
from benchmarks.compare.parity import Parity, climb
from benchmarks.measure import in_child, machine
from benchmarks.measure.in_child import PROFILED_STEPS, Visit
from benchmarks.measure.pace import EXTRA_CYCLES, Pace, step_counts
from benchmarks.measure.plan import LEAST_ROUNDS, Plan, Row, require_named
from benchmarks.measure.recording import Certified, Decoded, Recording, Round, RowProfile, Sizes, Start, Text, Work
from benchmarks.measure.sentences import TIMED, Sentences, weights_for
from benchmarks.measure.statistics import half_width
from benchmarks.measure.turns import Decoder, Trainees, take_turns, usable
from common.errors import CannotBeginError, RosettaError
from common.machine import cores
from common.material import Material, prepare
from common.scoring import score
from common.tensors import Batch, epoch_batches, model_config

ENOUGH_ROUNDS = 5  # rounds after which narrow intervals end the question
CAREFUL_ROUNDS = 8  # the same where figures are wanted that are fit to quote
EXTRA_ROUNDS = 3  # rounds that rows as installed and decoding get where there is time
STARTED_AT_ONCE = 2  # number of processes that are started at the same time, after the first round
# What is allowed for, in steps of the row: decoding the shown sentences one by one or in a batch, and a profile.
ONE_BY_ONE, IN_A_BATCH, PROFILING = 250, 30, 40
CHECKING = "checking that all compute the same"


class Benchmark:
    """A plan, the text that is trained on and decoded, and the recording that is being filled."""

    def __init__(
        self, recording: Recording, material: Material, sentences: Sentences, budget: float | None = None
    ) -> None:
        """`budget` is in seconds; None is the plan's own."""
        self.recording, self.material, self.sentences = recording, material, sentences
        self.plan, self.pace = recording.plan, Pace(recording, budget)
        self.model = model_config(material.batch, material.decoder_vocabulary, self.plan.latent_dim, "float32")
        batches = epoch_batches(material.batch, material.training_rows, self.plan.settings, 1)
        self.batches = batches.part(0, len(batches.rows) // batches.batch_size)  # without a last one that is not full
        self.busy: machine.NoRestError | None = None  # why measuring ends, where other programs do not rest

    def run(self, status: Callable[[str], None], note: Callable[[str], None]) -> None:
        """Measure what the recording lacks, within the budget.

        `status` is told often what is being done, and `note` what everybody should read; neither while something is
        timed. Raises RosettaError where other programs leave the machine no rest, or where no answer fits the budget.
        """
        self.status, self.note = status, note
        self.pace.begin()
        machine.wait_until_fit(note)
        self._certify()
        matched, everything = self.pace.matched, range(len(self.plan.rows))
        self._require_memory(len(matched))
        try:
            while not self._answered:
                self.pace.give_way(self._used, note)
                if not self.pace.has_round(self._used):
                    break
                self._round(matched)
            while self._wants_extra():
                self._round(everything, extra=True)
            if self._unprofiled(matched) and self._used >= LEAST_ROUNDS and self.pace.has_round(self._used):
                self._round(matched, extra=True)  # of a benchmark that was ended while it profiled
        except machine.NoRestError as error:
            if half_width(self.recording) is None:
                raise
            note(f"{error}; this ends with what was measured before")

    @property
    def _used(self) -> int:
        """Number of rounds with a cycle that counts."""
        return sum(any(map(usable, line.cycles)) for line in self.recording.rounds())

    @property
    def _answered(self) -> bool:
        """Whether the intervals of the question are as narrow as asked, after enough rounds."""
        if self._used < (CAREFUL_ROUNDS if self.plan.careful else ENOUGH_ROUNDS):
            return False
        reached = half_width(self.recording)
        return reached is not None and reached <= self.plan.within

    def _wants_extra(self) -> bool:
        """Whether rows as installed and decoding lack a round, and there is time and memory for it."""
        rows, pace = self.plan.rows, self.pace
        if self._used < LEAST_ROUNDS or not pace.start_seconds or not self._has_memory(len(rows)):
            return False
        installed = {index for index, row in enumerate(rows) if row.installed}
        if not installed and all(row.backend == BASELINE for row in rows):  # which has no turns of decoding
            return False
        done = [line for line in self.recording.rounds() if installed & {start.row for start in line.starts}]
        return len(done if installed else self.recording.rounds("batch")) < EXTRA_ROUNDS and pace.has_extra()

    def _round(self, indices: Sequence[int], extra: bool = False) -> None:
        """Measure a round: start the process of every row, let them take turns, and end them."""
        number = max((line.number for line in self.recording.rounds()), default=0) + 1
        rng = np.random.default_rng([self.plan.settings.seed, number])
        began = machine.now()
        with ExitStack() as stack:
            live, starts = self._opened([indices[place] for place in rng.permutation(len(indices))], number, stack)
            if not extra:
                self.pace.start_seconds = machine.now() - began
                self.pace.give_way(self._used, self.note, opened=True)
            cycles = self._cycles([live[index] for index in indices], rng, number, extra)
            self.recording.append(Round(number, "training", starts, cycles, machine.now() - began))
            if self.busy:
                raise self.busy
            # With the processes of the last round, the rest of what the time allows.
            plain = [one for one in live.values() if not (self._row(one).installed or self._row(one).control)]
            ended = self._used >= LEAST_ROUNDS and (self._answered or not self.pace.has_round(self._used))
            if extra or ended:
                self._decode(plain, number, rng)
                if extra or not self._wants_extra():
                    self._profile(plain)

    def _opened(
        self, indices: Sequence[int], number: int, stack: ExitStack
    ) -> tuple[dict[int, Trainees], list[Start]]:
        """Start and warm up the processes of these rows.

        In the first round each start is timed by itself; later two processes at a time are started, which is quicker.
        """

        def failed(index: int, error: RosettaError) -> None:
            raise error

        at_once, began = 1 if number == 1 else STARTED_AT_ONCE, machine.now()
        live, seconds = {}, {}
        for index, process in stack.enter_context(started_side_by_side(indices, self._launch, failed, at_once)):
            live[index] = Trainees(
                index, [process], self.batches.batch_size, self._rows, partial(step_counts, share=1)
            )
            seconds[index] = machine.now() - began if at_once == 1 else 0.0
            self.status(f"starting round {number} of new processes")
            began = machine.now()
        starts = [Start(index, seconds[index], one.processes[0].facts, one.warm_up()) for index, one in live.items()]
        self.pace.step_seconds |= {index: one.step_seconds for index, one in live.items()}
        return live, starts

    def _cycles(
        self, live: Sequence[Trainees], rng: np.random.Generator, number: int, extra: bool
    ) -> list[list[Visit]]:
        """Let the rows take turns, for as many cycles and with visits as long as the time allows."""
        indices = [one.row for one in live]
        share, wanted = self.pace.sizes(indices, self._used, extra)
        foreseen = self.pace.cycle(indices, share)
        for one in live:
            one.counts = partial(step_counts, share=share)
        cycles: list[list[Visit]] = []
        began = machine.now()
        for cycle in take_turns(live, rng, lambda: self.status(f"round {number} of new processes")):
            cycles.append(cycle)
            each = (machine.now() - began) / len(cycles)
            if len(cycles) >= wanted or self.pace.left < each or not (usable(cycle) or self._is_fit()):
                break
        self.pace.stretch = max(1.0, self.pace.stretch * each / foreseen)
        self.pace.step_seconds |= {one.row: one.step_seconds for one in live}
        return cycles

    def _is_fit(self) -> bool:
        """Whether other programs leave the machine alone, after waiting for that; if not, `busy` has the error."""
        try:
            machine.wait_until_fit(self.note)
        except machine.NoRestError as error:
            self.busy = error
        return self.busy is None

    def _decode(self, live: Sequence[Trainees], number: int, rng: np.random.Generator) -> None:
        """The shown sentences in each row that has not decoded them, and turns of decoding."""
        decoded = {line.row for line in self.recording.of_kind(Decoded)}
        for one in sorted(live, key=lambda one: self._row(one).backend == BASELINE):  # the slowest last
            needed = (ONE_BY_ONE if self._row(one).backend == BASELINE else IN_A_BATCH) * one.step_seconds
            if one.row not in decoded and self.pace.left >= needed:
                self.status(f"decoding sentences in {self._row(one).label}")
                self.recording.append(self._decoded(one))
        ready = {line.row for line in self.recording.of_kind(Decoded) if line.characters}
        work: Work
        for work in get_args(Work)[1:]:
            sources = self.sentences.timed(work)
            decoders = [Decoder(one.row, one.processes[0], sources) for one in live if one.row in ready]
            if not decoders or self.pace.left < self.pace.decoding():
                continue
            began = machine.now()
            turns = take_turns(decoders, rng, partial(self.status, "decoding in turns"))
            self.recording.append(Round(number, work, [], [*islice(turns, EXTRA_CYCLES)], machine.now() - began))

    def _decoded(self, one: Trainees) -> Decoded:
        """Decode the shown sentences and, where a row decodes in batches, all held-out ones, and score them."""
        sentences, process = self.sentences, one.processes[0]
        process.call(in_child.load, state=sentences.weights.state)
        began = machine.now()
        shown = sentences.decoded(process, [shown.source for shown in sentences.shown])
        seconds = (machine.now() - began) / float(sentences.characters(shown).sum())
        translations = [sentences.text(row) for row in shown]
        if self._row(one).backend == BASELINE:  # it takes seconds for a single sentence
            return Decoded(one.row, translations, seconds, characters=None, sentences=0, scores=None)
        held_out = sentences.decoded(process, sentences.held_out)
        together = sentences.characters(held_out[:TIMED])
        alone = sentences.characters(held_out[sentences.longest :][:1])
        scores = score([sentences.text(row) for row in held_out], sentences.held_out_references)
        counts = int(together.sum()), int(alone[0])
        return Decoded(one.row, translations, seconds, counts, len(together), scores)

    def _unprofiled(self, indices: Sequence[int]) -> set[int]:
        """Those of these rows that have no profile and are to have one."""
        recorded = {line.row for line in self.recording.of_kind(RowProfile)}
        rows = self.plan.rows
        return {index for index in indices if not (rows[index].installed or rows[index].control)} - recorded

    def _profile(self, live: Sequence[Trainees]) -> None:
        """Profile a few steps of each row and time matrix products, after the turns, so that no turn is disturbed."""
        missing, size = self._unprofiled([one.row for one in live]), self.batches.batch_size
        for one in live:
            row, (process,) = self._row(one), one.processes
            if one.row not in missing or self.pace.left < PROFILING * one.step_seconds:
                continue
            self.status(f"profiling {row.label}")
            profile = process.call(in_child.profiled, batch_size=size, **self._rows(0, PROFILED_STEPS))
            exact = row.backend != BASELINE and not row.reduced
            speed = process.call(in_child.product_speed) if exact else None
            self.recording.append(RowProfile(one.row, profile, speed))

    def _certify(self) -> None:
        """Climb the parity ladder with each backend and interpreter that has no certificate, and record these.

        A lane changes no mathematics, so the matched rows suffice. Nothing is timed, so backends climb side by side.
        """
        certified, plan = {line.row for line in self.recording.of_kind(Certified)}, self.plan
        missing = {index: plan.rows[index] for index in self.pace.matched if index not in certified}
        missing = {index: row for index, row in missing.items() if not row.control}
        for python in dict.fromkeys(row.python for row in missing.values()):
            names = {index: row.backend for index, row in missing.items() if row.python == python}
            self.status(CHECKING)
            size, runtime = WHOLE if plan.careful else QUICK, self._runtime(Row("", python=python))
            with Course(plan.data, plan.settings, plan.latent_dim, size, runtime) as course:
                again = partial(self.status, CHECKING)
                parity = climb(course, [*names.values()], ["float32"], Parity(), again, at_once=cores())
            for index, name in names.items():
                self.recording.append(Certified(index, parity.certificates[f"{name} float32"]))

    def _row(self, one: Trainees) -> Row:
        return self.plan.rows[one.row]

    def _rows(self, first: int, steps: int) -> dict[str, Batch]:
        """The rows of so many steps: an epoch's batches one after another, from batch number `first` on."""
        numbers = (first + np.arange(steps)) % len(self.batches)
        rows = self.batches.rows.reshape(len(self.batches), -1)[numbers].ravel()
        return {"rows": self.material.batch.take(rows)}

    def _launch(self, index: int) -> BackendProcess:
        row = self.plan.rows[index]
        return BackendProcess(row.backend, self.model, self.plan.settings, self._runtime(row))

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


def begin(path: Path, plan: Plan) -> Benchmark:
    """A benchmark with a new recording.

    Raises CannotBeginError if the plan cannot be measured or the recording cannot be written.
    """
    material, digest, sentences = _prepared(plan)
    weights = sentences.weights
    corpus = Text(digest, Sizes.of(material), weights.words, weights.sha256, sentences.shown)
    return Benchmark(Recording.begin(path, plan, corpus), material, sentences)


def resumed(path: Path, budget: float | None = None, pythons: Sequence[str] = ()) -> Benchmark:
    """The benchmark of an existing recording, to measure what it lacks; `budget` is in seconds, None the plan's own.

    Raises CannotBeginError if the text, the weights, the machine or a version has changed since it was begun, and
    unless `pythons`, each NAME=PATH, are its interpreters.
    """
    recording = Recording.read(path, "rosetta-benchmark")
    plan, corpus = recording.plan, recording.head.corpus
    require_named(plan, pythons, path)
    material, digest, sentences = _prepared(plan)
    if digest != corpus.sha256:
        raise CannotBeginError(f"{plan.data.data} has changed since {path} was begun; choose another --out")
    if sentences.weights.sha256 != corpus.weights_sha256:
        raise CannotBeginError(f"{corpus.weights} have changed since {path} was begun; choose another --out")
    return Benchmark(recording.resume(), material, sentences, budget)


def _prepared(plan: Plan) -> tuple[Material, str, Sentences]:
    """The material of a plan, the SHA-256 of its text, and the sentences that are decoded."""
    material, digest = prepare(plan.data, plan.settings.seed, "float32")
    model = model_config(material.batch, material.decoder_vocabulary, plan.latent_dim, "float32")
    return material, digest, Sentences(material, weights_for(material, model, plan.run, plan.settings.seed))
