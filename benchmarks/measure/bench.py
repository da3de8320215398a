"""Carry out a plan: parity, then the rounds that answer its question, then whatever else there is time for.

- A round starts one process for every row, has them take turns and ends them. Each round has new processes, since
  two processes of the same program differ in speed.
- The question comes first: rows with matched settings take turns in three rounds. Then the sentences are decoded and
  decoding is timed, in each row. More rounds follow until intervals are as narrow as asked. What is left of the time
  goes to rows as installed, and to why one is slower.
- No size rests on a guess: how many cycles a round has, and how long its visits are, follows from what a start and a
  step cost here, so that three rounds fit into the time on a slow machine too.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from functools import partial
from itertools import islice
from math import ceil
from pathlib import Path
from statistics import median

import numpy as np
import psutil

from backends import BASELINE
from backends.process.group import PROCESS_BYTES
from backends.process.parent import BackendProcess, Runtime
from benchmarks import in_child
from benchmarks.compare.course import QUICK, WHOLE, Course
from benchmarks.compare.parity import Parity, climb
from benchmarks.in_child import AT_LEAST, PROFILED_STEPS, Visit
from benchmarks.measure import machine
from benchmarks.measure.plan import LEAST_ROUNDS, Plan, Row, require_named
from benchmarks.measure.recording import Certified, Decoded, Recording, Round, RowProfile, Sizes, Text
from benchmarks.measure.sentences import Sentences, weights_for
from benchmarks.measure.statistics import half_width, widest
from benchmarks.measure.turns import Decoder, Trainees, opened, take_turns, usable
from common.corpus import Material, prepare
from common.errors import CannotBeginError, RosettaError
from common.machine import cores
from common.tensors import epoch_batches, model_config

ENOUGH_ROUNDS = 5  # rounds after which narrow intervals end the question
CAREFUL_ROUNDS = 8  # the same where figures are wanted that are fit to quote
EXTRA_ROUNDS = 3  # rounds that rows as installed and decoding get where there is time
STARTED_AT_ONCE = 2  # number of processes that are started at the same time, after the first round
CYCLES = 4  # in a round, where there is time
FEWEST_CYCLES = 2  # visits become shorter before a round has fewer
EXTRA_CYCLES = 2  # in a round of rows as installed, and of decoding
LEAD_SECONDS = 0.5  # a visit begins with steps that do not count, since the first ones after a switch are slow
TIMED_SECONDS = 0.4  # duration of a visit's timed steps
SHORTER = (1.0, 0.5, 0.0)  # visits of these shares of the two durations are tried, the longest first
FEWEST_STEPS = (1, 2)  # least number of steps that do not count, and of timed ones, in a visit
BETWEEN = 0.15  # seconds that a turn takes beside its steps, most of it waiting until the machine is idle
GIVES_WAY = 1.5  # the budget may become so many times as long, where the least number of rounds does not fit
SLOWER = 3.0  # how many times as long as any step so far one as installed may take, before it is known
# What is allowed for, in steps of the row: decoding the shown sentences one by one or in a batch, and a profile.
ONE_BY_ONE, IN_A_BATCH, PROFILING = 250, 30, 40
CHECKING = "checking that all compute the same"


class Benchmark:
    """A plan, the text that is trained on and decoded, and the recording that is being filled.

    All durations are seconds.
    """

    def __init__(
        self, recording: Recording, material: Material, sentences: Sentences, budget: float | None = None
    ) -> None:
        """A `budget` of None is the plan's own."""
        self.recording, self.sentences, self.plan = recording, sentences, recording.plan
        self.model = model_config(material.batch, material.decoder_vocabulary, self.plan.latent_dim, "float32")
        epoch = epoch_batches(material.batch, material.training_rows, self.plan.settings, 1)
        self.epoch = epoch.part(0, len(epoch.rows) // epoch.batch_size)  # without a last batch that is not full
        self.matched = [index for index, row in enumerate(self.plan.rows) if not row.installed]
        # Those that decode and are profiled, since they are not measured a second time.
        self.plain = [index for index in self.matched if not self.plan.rows[index].control]
        self.budget = self.plan.budget if budget is None else budget
        self.began = self.end = 0.0
        rounds = [line for line in recording.rounds() if line.cycles]
        last = [visit for line in rounds for cycle in line.cycles for visit in cycle]
        self.step_seconds = {visit.row: median(visit.steps) for visit in last}  # by the row's index
        # Of starting and warming up the matched rows; 0 before it is known, and turns included where this goes on.
        self.start_seconds = rounds[-1].seconds if rounds else 0.0
        self.stretch = 1.0  # how many times as long as foreseen the last cycles took

    @property
    def left(self) -> float:
        """What is left of the budget."""
        return self.end - machine.now()

    def status(self, doing: str) -> None:
        """Say what is being done, the time that is left, and what is known so far."""
        words = [doing, f"{duration(max(0.0, self.left))} left"]
        if found := widest(self.recording):
            left, right, ratio = found
            words.append(f"{left.label} over {right.label} {ratio.value:.2f}, ± {ratio.half_width:.0%} so far")
        self.say("; ".join(words))

    def run(self, status: Callable[[str], None], note: Callable[[str], None]) -> None:
        """Measure what the recording lacks, within the budget.

        `status` is told often what is being done, and `note` what everybody should read; neither while something is
        timed. Raises RosettaError where other programs leave the machine no rest, or where no answer fits the budget.
        """
        self.say, self.note = status, note
        self.began = machine.now()
        self.end = self.began + self.budget
        machine.wait_until_fit(note)
        self._certify()
        _require_memory(len(self.matched))
        try:
            while self._goes_on():
                self._round(self.matched)
            while self._wants_extra():
                self._round(range(len(self.plan.rows)), extra=True)
            if self._unprofiled() and self._used >= LEAST_ROUNDS and self._has_round():
                self._round(self.matched, extra=True)  # of a benchmark that was ended while it profiled
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

    def _goes_on(self) -> bool:
        """Whether the question has no answer yet, and there is time for another round."""
        if self._answered:
            return False
        self._give_way()
        return self._has_round()

    def _wants_extra(self) -> bool:
        """Whether rows as installed and decoding lack a round, and there is time and memory for it."""
        rows = self.plan.rows
        if self._used < LEAST_ROUNDS or not self.start_seconds or not _has_memory(len(rows)):
            return False
        installed = {index for index, row in enumerate(rows) if row.installed}
        if not installed and all(row.backend == BASELINE for row in rows):  # which has no turns of decoding
            return False
        done = [line for line in self.recording.rounds() if installed & {start.row for start in line.starts}]
        if len(done if installed else self.recording.rounds("batch")) >= EXTRA_ROUNDS:
            return False
        starting = self.start_seconds * len(rows) / len(self.matched)
        return self.left >= starting + self._cycle_seconds(range(len(rows)))

    def _round(self, indices: Sequence[int], extra: bool = False) -> None:
        """Measure a round: start the process of every row, let them take turns, and end them."""
        number = max((line.number for line in self.recording.rounds()), default=0) + 1
        rng = np.random.default_rng([self.plan.settings.seed, number])
        began, words = machine.now(), f"round {number} of new processes"
        at_once = 1 if number == 1 else STARTED_AT_ONCE  # so that the first starts are timed
        names = ", ".join(self.plan.rows[index].label for index in indices)
        counts, starting = partial(step_counts, share=1.0), partial(self.status, f"starting {names} for {words}")
        with ExitStack() as stack:
            shuffled = [indices[place] for place in rng.permutation(len(indices))]
            starting()
            live, starts = opened(stack, shuffled, self._launch, self.epoch, counts, at_once, starting)
            live.sort(key=lambda one: one.row)
            self.step_seconds |= {one.row: one.step_seconds for one in live}
            if not extra:
                self.start_seconds = machine.now() - began
                self._give_way(opened=True)
            cycles: list[list[Visit]] = []
            try:
                for cycle in self._cycles(live, rng, words, extra):
                    cycles.append(cycle)
            finally:  # whatever ends it
                if cycles:
                    self.recording.append(Round(number, "training", starts, cycles, machine.now() - began))
            if self._used < LEAST_ROUNDS:
                return
            plain = [one for one in live if one.row in self.plain]
            # Decoding has its first turns before more rounds make intervals narrower, then with the last processes.
            if extra or not self.recording.rounds("batch") or not self._goes_on():
                self._decode(plain, number, rng)
            if extra or not (self._goes_on() or self._wants_extra()):
                self._profile(plain)

    def _cycles(
        self, live: Sequence[Trainees], rng: np.random.Generator, words: str, extra: bool
    ) -> Iterator[list[Visit]]:
        """Let the rows take turns, for as many cycles and with visits as long as the time allows.

        Unless they are `extra`, they leave time for the rounds that an answer still needs.
        """
        indices, began = [one.row for one in live], machine.now()
        to_come = 0 if extra else max(0, LEAST_ROUNDS - self._used - 1)
        seconds = (self.left - to_come * self.start_seconds) / (to_come + 1)
        fitting = (share for share in SHORTER if seconds >= FEWEST_CYCLES * self._cycle_seconds(indices, share))
        share, most = next(fitting, SHORTER[-1]), EXTRA_CYCLES if extra else CYCLES
        foreseen = self._cycle_seconds(indices, share) / self.stretch
        for one in live:
            one.counts = partial(step_counts, share=share)
        for number, cycle in enumerate(take_turns(live, rng, partial(self.status, words)), 1):
            yield cycle
            self.step_seconds |= {one.row: one.step_seconds for one in live}
            passed = machine.now() - began
            self.stretch = max(1.0, passed / number / foreseen)
            if number >= most or passed + passed / number > seconds:
                break
            if not usable(cycle):
                machine.wait_until_fit(self.note)

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
            state, batch = self.sentences.weights.state, self.sentences.batch(sources)
            decoders = [Decoder(one.row, one.processes, state, batch) for one in live if one.row in ready]
            calls = sum(BETWEEN + 2 * AT_LEAST + 2 * self._step(index) for index in self.matched)
            if decoders and self.left >= EXTRA_CYCLES * self.stretch * calls:
                began = machine.now()
                turns = take_turns(decoders, rng, partial(self.status, "decoding in turns"))
                self.recording.append(Round(number, work, [], [*islice(turns, EXTRA_CYCLES)], machine.now() - began))

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
            size, runtime = WHOLE if plan.careful else QUICK, self._runtime(Row("", python=python))
            with Course(plan.data, plan.settings, plan.latent_dim, size, runtime) as course:
                again = partial(self.status, CHECKING)
                parity = climb(course, [*names.values()], ["float32"], Parity(), again, at_once=cores())
            for index, name in names.items():
                self.recording.append(Certified(index, parity.certificates[f"{name} float32"]))

    def _launch(self, index: int) -> BackendProcess:
        row = self.plan.rows[index]
        return BackendProcess(row.backend, self.model, self.plan.settings, self._runtime(row))

    def _runtime(self, row: Row) -> Runtime:
        return Runtime(self.plan.threads, self.plan.device, row.lane, row.python or None)

    def _step(self, index: int) -> float:
        """The duration of a row's steps, as last measured; a guess before that."""
        return self.step_seconds.get(index) or SLOWER * max(self.step_seconds.values())

    def _cycle_seconds(self, indices: Sequence[int], share: float = 1.0) -> float:
        """How long a cycle of these rows will take, whose visits have this share of their longest duration."""
        steps = map(self._step, indices)
        return self.stretch * sum(BETWEEN + sum(step_counts(step, share)) * step for step in steps)

    def _has_round(self) -> bool:
        """Whether there is time for another round of the matched rows."""
        if not self.start_seconds:  # nothing is known of this machine yet
            return True
        cycles, share = (FEWEST_CYCLES, 1.0) if self._used >= LEAST_ROUNDS else (1, 0.0)
        return self.left >= self.start_seconds + cycles * self._cycle_seconds(self.matched, share)

    def _give_way(self, opened: bool = False) -> None:
        """Make the budget longer, at most by half, where the rounds that an answer needs do not fit, and note it.

        With `opened`, the next round has its processes already. Raises RosettaError, before anything is measured in
        vain, where not even two rounds would fit.
        """
        used = self._used
        if not self.start_seconds or used >= LEAST_ROUNDS:
            return
        missing, each = LEAST_ROUNDS - used, self.start_seconds + self._cycle_seconds(self.matched, share=0.0)
        now, latest = machine.now() - opened * self.start_seconds, self.began + GIVES_WAY * self.budget
        if not used and now + (missing - 1) * each > latest:
            minutes = ceil((now + missing * each - self.began) / 60)
            raise RosettaError(
                f"an answer needs {LEAST_ROUNDS} rounds of new processes, which take about {minutes} minutes on this "
                f"machine; give --budget {minutes}m"
            )
        if now + missing * each > self.end and self.end < latest:
            self.end = min(latest, now + missing * each)
            self.note(
                f"{duration(self.budget)} are too few for {LEAST_ROUNDS} rounds of new processes on this machine, so "
                f"this takes {duration(self.end - self.began)}"
            )


def step_counts(step_seconds: float, share: float) -> tuple[int, int]:
    """How many steps of a visit do not count, and how many are timed; `share` is that of a long visit's duration."""
    lead, timed = (ceil(share * seconds / step_seconds) for seconds in (LEAD_SECONDS, TIMED_SECONDS))
    return max(lead, FEWEST_STEPS[0]), max(timed, FEWEST_STEPS[1])


def duration(seconds: float) -> str:
    """A duration in minutes and seconds: 2 min 5 s."""
    return f"{round(seconds) // 60} min {round(seconds) % 60} s"


def _has_memory(processes: int) -> bool:
    return bool(psutil.virtual_memory().available >= processes * PROCESS_BYTES)


def _require_memory(processes: int) -> None:
    """Raise CannotBeginError where so many processes do not fit into memory."""
    if not _has_memory(processes):
        available = psutil.virtual_memory().available
        raise CannotBeginError(
            f"{processes} processes need about {processes * PROCESS_BYTES / 1e9:.1f} GB of memory, and "
            f"{available / 1e9:.1f} GB are available; close programs, or name fewer with --backends"
        )


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
    model = model_config(material.batch, material.decoder_vocabulary, plan.latent_dim, "float32")
    weights = weights_for(material, model, plan.run, plan.settings.seed)
    sentences = Sentences(material, weights)
    text = Text(digest, Sizes.of(material), weights.words, weights.sha256, sentences.shown)
    recording = begun.resume(text) if begun else Recording.begin(path, plan, text)
    return Benchmark(recording, material, sentences, budget)
