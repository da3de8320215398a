"""Carry out a plan: parity, then the rounds that answer its question, then whatever else there is time for.

- A round starts one process for every row, has them take turns and ends them. Each round has new processes, since
  two processes of the same program differ in speed.
- The question comes first: rows with matched settings take turns in three rounds. Then the sentences are decoded and
  decoding is timed, in each row. More rounds follow until intervals are as narrow as asked. What is left of the time
  goes to rows as installed, and to why one is slower.
"""

from collections.abc import Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path

import numpy as np
import psutil

from backends import BASELINE
from backends.process.group import PROCESS_BYTES
from backends.process.parent import BackendProcess, Runtime
from benchmarks import in_child
from benchmarks.compare.course import QUICK, WHOLE, Course
from benchmarks.compare.parity import Parity, climb
from benchmarks.in_child import AT_LEAST, PROFILED_STEPS
from benchmarks.measure import machine
from benchmarks.measure.lines import Round, Start
from benchmarks.measure.plan import CAREFUL, LEAST_ROUNDS, Plan, Row, require_named
from benchmarks.measure.recording import Certified, Decoded, Recording, RowProfile, Sizes, Text
from benchmarks.measure.rounds import BETWEEN, EXTRA_CYCLES, Rounds
from benchmarks.measure.sentences import Sentences
from benchmarks.measure.trainees import Decoder, Trainees, opened
from benchmarks.measure.turns import take_turns
from common.corpus import prepare
from common.errors import CannotBeginError
from common.machine import cores
from common.tensors import epoch_batches

EXTRA_ROUNDS = 3  # rounds that rows as installed and decoding get where there is time
STARTED_AT_ONCE = 2  # number of processes that are started at the same time, after the first round
# What is allowed for, in steps of the row: decoding the shown sentences one by one or in a batch, and a profile.
ONE_BY_ONE, IN_A_BATCH, PROFILING = 250, 30, 40
CHECKING = "checking that all compute the same"


class Benchmark(Rounds[Trainees]):
    """A plan, the text that is trained on and decoded, and the recording that is being filled."""

    recording: Recording

    def __init__(self, recording: Recording, sentences: Sentences, budget: float | None = None) -> None:
        """A `budget` of None is the plan's own."""
        self.sentences, self.plan, material = sentences, recording.plan, sentences.material
        matched = [index for index, row in enumerate(self.plan.rows) if not row.installed]
        super().__init__(recording, matched, self.plan.settings.seed, budget)
        epoch = epoch_batches(material.batch, material.training_rows, self.plan.settings, 1)
        self.epoch = epoch.part(0, len(epoch.rows) // epoch.batch_size)  # without a last batch that is not full
        # Those that decode and are profiled, since they are not measured a second time.
        self.plain = [index for index in self.matched if not self.plan.rows[index].control]

    def _measure(self) -> None:
        self._certify()
        needed, available = len(self.matched) * PROCESS_BYTES, psutil.virtual_memory().available
        if available < needed:
            raise CannotBeginError(
                f"{len(self.matched)} processes need about {needed / 1e9:.1f} GB of memory, and "
                f"{available / 1e9:.1f} GB are available; close programs, or name fewer with --backends"
            )
        super()._measure()
        while self._wants_extra():
            self._round(range(len(self.plan.rows)), extra=True)
        if self._unprofiled() and self._used >= LEAST_ROUNDS and self._has_round():
            self._round(self.matched, extra=True)  # of a benchmark that was ended while it profiled

    def _opened(self, stack: ExitStack, indices: Sequence[int], number: int) -> tuple[list[Trainees], list[Start]]:
        at_once = 1 if number == 1 else STARTED_AT_ONCE  # so that the first starts are timed
        names = ", ".join(self.plan.rows[index].label for index in sorted(indices))
        words = f"starting {names} for round {number} of new processes"
        starting = partial(self.status, words)
        starting()
        return opened(stack, indices, self._launch, self.epoch, self.counts, at_once, starting)

    def _after_turns(self, live: Sequence[Trainees], number: int, rng: np.random.Generator, extra: bool) -> None:
        if self._used < LEAST_ROUNDS:
            return
        plain = [one for one in live if one.row in self.plain]
        # Decoding has its first turns before more rounds make intervals narrower, then with the last processes.
        if extra or not self.recording.rounds("batch") or not self._goes_on():
            self._decode(plain, number, rng)
        if extra or not (self._goes_on() or self._wants_extra()):
            self._profile(plain)

    def _wants_extra(self) -> bool:
        """Whether rows as installed and decoding lack a round, and there is time and memory for it."""
        rows = self.plan.rows
        has_memory = psutil.virtual_memory().available >= len(rows) * PROCESS_BYTES
        if self._used < LEAST_ROUNDS or not self.start_seconds or not has_memory:
            return False
        installed = {index for index, row in enumerate(rows) if row.installed}
        if not installed and all(row.backend == BASELINE for row in rows):  # which has no turns of decoding
            return False
        done = [line for line in self.recording.rounds() if installed & {start.row for start in line.starts}]
        if len(done if installed else self.recording.rounds("batch")) >= EXTRA_ROUNDS:
            return False
        starting = self.start_seconds * len(rows) / len(self.matched)
        return self.left >= starting + self._cycle_seconds(range(len(rows)))

    def _decode(self, live: Sequence[Trainees], number: int, rng: np.random.Generator) -> None:
        """The shown sentences in each row that has not decoded them, and turns of decoding."""
        decoded, rows = {line.row for line in self.recording.of_kind(Decoded)}, self.plan.rows
        for one in sorted(live, key=lambda one: rows[one.row].backend == BASELINE):  # the slowest last
            # It takes seconds for a single sentence, so it decodes the shown ones alone.
            slow = rows[one.row].backend == BASELINE
            if one.row not in decoded and self.left >= (ONE_BY_ONE if slow else IN_A_BATCH) * one.step_seconds:
                self.status(f"decoding sentences in {rows[one.row].label}")
                self.recording.append(self.sentences.decoded_by(one.processes[0], one.row, shown_only=slow))
        ready = {line.row for line in self.recording.of_kind(Decoded) if line.characters}
        for work, sources in self.sentences.timed.items():
            state, batch = self.sentences.state, self.sentences.batch(sources)
            decoders = [Decoder(one.row, one.processes[0], state, batch) for one in live if one.row in ready]
            calls = sum(BETWEEN + 2 * AT_LEAST + 2 * self._step(index) for index in self.matched)
            if decoders and self.left >= EXTRA_CYCLES * self.stretch * calls:
                began = machine.now()
                say = partial(self.status, "decoding in turns")
                turns = [take_turns(decoders, rng, say, self.most_tries) for _ in range(EXTRA_CYCLES)]
                self.recording.append(Round(number, work, [], turns, machine.now() - began))

    def _unprofiled(self) -> set[int]:
        """The rows that have no profile and are to have one."""
        recorded = {line.row for line in self.recording.of_kind(RowProfile)}
        return {*self.plain} - recorded

    def _profile(self, live: Sequence[Trainees]) -> None:
        """Profile a few steps of each row and time matrix products, after the turns, so that no turn is disturbed."""
        missing = self._unprofiled()
        for one in live:
            row = self.plan.rows[one.row]
            if one.row in missing and self.left >= PROFILING * one.step_seconds:
                self.status(f"profiling {row.label}")
                (profile,) = one.ask(in_child.profiled, batches=one.part(0, PROFILED_STEPS))
                exact = row.backend != BASELINE and not row.reduced
                speed = one.ask(in_child.product_speed, size=in_child.PRODUCT_SIZE)[0] if exact else None
                self.recording.append(RowProfile(one.row, profile, speed))

    def _certify(self) -> None:
        """Climb the parity ladder with each backend and interpreter that has no certificate, and record these.

        A lane changes no mathematics, so the matched rows suffice. Nothing is timed, so backends climb side by side.
        """
        certified, plan = {line.row for line in self.recording.of_kind(Certified)}, self.plan
        missing = {n: plan.rows[n] for n in self.plain if n not in certified}
        for python in dict.fromkeys(row.python for row in missing.values()):
            names = {index: row.backend for index, row in missing.items() if row.python == python}
            self.status(f"starting {', '.join(names.values())}")
            size, runtime = WHOLE if plan.within < CAREFUL else QUICK, self._runtime(Row("", python=python))
            with Course(plan.data, plan.settings, plan.latent_dim, size, runtime) as course:
                again = partial(self.status, CHECKING)
                parity = climb(course, [*names.values()], ["float32"], Parity(), again, at_once=cores())
            for index, name in names.items():
                self.recording.append(Certified(index, parity.certificates[f"{name} float32"]))

    def _launch(self, index: int) -> BackendProcess:
        row = self.plan.rows[index]
        return BackendProcess(row.backend, self.sentences.model, self.plan.settings, self._runtime(row))

    def _runtime(self, row: Row) -> Runtime:
        return Runtime(self.plan.threads, self.plan.device, row.lane, row.python or None)


def opened_benchmark(
    path: Path, plan: Plan | None, budget: float | None = None, pythons: Sequence[str] = ()
) -> Benchmark:
    """The benchmark of a new plan or, where that is None, the one that was begun at `path`, to measure what it lacks.

    Such a one may get another `budget`, in seconds. Raises CannotBeginError if the plan cannot be measured or the
    recording cannot be written; to go on, if the text, the weights, the machine or a version has changed, and unless
    `pythons`, each NAME=PATH, are its interpreters.
    """
    begun = None
    if plan is None:
        begun = Recording.read(path, "rosetta-benchmark")
        plan = begun.plan
        require_named(plan, pythons, path)
    material, digest = prepare(plan.data, plan.settings.seed, "float32")
    sentences = Sentences(material, plan.latent_dim, plan.run, plan.settings.seed)
    text = Text(digest, Sizes.of(material), sentences.weights, sentences.digest, sentences.shown)
    recording = begun.resume(text) if begun else Recording.begin(path, "rosetta-benchmark", plan, text)
    return Benchmark(recording, sentences, budget)
