"""A bench: a race of our own backends, with parity before it, and with decoding and profiles.

- A round starts one process for every row in either lane, has them take turns and ends them. Each
  round has new processes, since two processes of the same program differ in speed.
- The question comes first: training steps in three rounds. From the third round on the rows take
  turns of decoding, too, and profiles tell why one row is slower. Rounds go on until intervals are
  as narrow as asked.
- Where sizes vary, a round starts the rows of one combination of sizes, and nothing is decoded.
"""

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import replace
from functools import cache, partial
from math import isfinite, prod
from pathlib import Path

import numpy as np
import psutil
from numpy.typing import NDArray

from backends import lookup
from backends.process.parent import BackendProcess, Runtime
from backends.process.side_by_side import start_side_by_side
from benchmarks import measure_in_child
from benchmarks.measure import quiet
from benchmarks.measure.measurement import Measurement
from benchmarks.measure.plan import CAREFUL
from benchmarks.measure.rounds import BETWEEN, Rounds
from benchmarks.measure.runner import BackendRunner
from benchmarks.measure.sentences import Sentences
from benchmarks.measure.statistics import LEAST_ROUNDS
from benchmarks.measure.turns import take_turns
from benchmarks.measure_in_child import AT_LEAST, PROFILED_STEPS
from benchmarks.parity.cases import QUICK, REFERENCE, WHOLE, Cases
from benchmarks.parity.comparison import Parity, Subject, compare_backends
from benchmarks.schema import Certified, Checked, Decoded, Plan, Round, Row, RowProfile, Start, Text
from common.corpus import Material, prepare
from common.errors import CannotBeginError
from common.machine import cores
from common.settings import ModelConfig
from common.tensors import Batch, Batches, epoch_batches, model_config
from common.weights import Arrays, in_dtype

# Memory that is to be free for a row's process: of eight rows they took 0.4 to 1 GB.
ROW_BYTES = 3 << 28
DECODING_ROUNDS = 3  # rounds with turns of decoding, from the third one on
STARTED_AT_ONCE = 2  # number of processes that are started at the same time, after the first round
# Allowances, in steps of the row: decoding the shown sentences, a profile, and a call that decodes
# a sentence in the official example.
IN_A_BATCH, PROFILING, ONE_BY_ONE = 30, 40, 20
CHECKING_SECONDS = 7.0  # for each backend: its parity with the reference, on a machine of two cores
CHECKING = "checking that all compute the same"


class Benchmark(Rounds[BackendRunner]):
    """A plan, the text for training and decoding, and the measurement that is being filled."""

    usual_start = 3.0

    def __init__(
        self, measurement: Measurement, material: Material, sentences: Sentences | None
    ) -> None:
        """Without `sentences`, as where sizes vary, training alone is measured."""
        assert measurement.plan.training
        self.training = measurement.plan.training
        self.material = material
        self.sentences = sentences
        super().__init__(measurement, self.training.settings.seed)
        self.rows = self.plan.rows
        # Rows whose sentences are shown and whose steps are profiled: those in the tuned lane.
        self.tuned = [n for n, row in enumerate(self.rows) if not row.installed]
        self.epoch_of = cache(self._epoch)  # by the row's index
        # The reference's weights after the first steps,
        # and its translations of a batch that is timed.
        self.expected: tuple[Arrays, NDArray[np.integer]] | None = None

    def _measure(self) -> None:
        most = max(map(len, self.plan.rows_by_size))
        needed, available = most * ROW_BYTES, psutil.virtual_memory().available
        if available < needed:
            raise CannotBeginError(
                f"{most} processes need about {needed / 1e9:.1f} GB of memory, and "
                f"{available / 1e9:.1f} GB are available; close programs, or name fewer with "
                "--backends"
            )
        self._certify()
        super()._measure()

    def _checking_seconds(self) -> float:
        return CHECKING_SECONDS * len({(row.backend, self._units(row)) for row in self.rows})

    def _certify(self) -> None:
        """Compare each backend with the reference, and record the certificates.

        A lane changes no mathematics, so one comparison is of a backend's rows in both. Of sizes
        that vary, only the units make another model. Nothing is timed, so backends are compared
        side by side.
        """
        model = self.training.model
        alike: dict[int, dict[str, list[int]]] = {}  # rows by units and backend
        for index, row in enumerate(self.rows):
            alike.setdefault(self._units(row), {}).setdefault(row.backend, []).append(index)
        for units, rows in alike.items():
            self.status(f"starting {', '.join(rows)}")
            size = WHOLE if self.plan.within < CAREFUL else QUICK
            runtime = Runtime(self.training.threads, self.training.device, shell=False)
            with Cases(
                self.training.data, self.training.settings, units, size, runtime, model=model
            ) as cases:
                status = partial(self.status, CHECKING)
                parity = compare_backends(
                    cases, [*rows], ["float32"], Parity(), status, at_once=cores()
                )
            for name, indices in rows.items():
                for index in indices:
                    self.measurement.append(
                        Certified(index, parity.certificates[Subject(name, "float32")])
                    )

        if self.sentences:
            self._ask_reference(self.sentences)

    def _ask_reference(self, sentences: Sentences) -> None:
        """Have NumPy in float64 compute what processes are checked by after their turns."""
        model, epoch = replace(self._model(self.rows[0]), dtype="float64"), self.epoch_of(0)
        runtime = Runtime(self.training.threads, shell=False)
        with BackendProcess(REFERENCE, model, self.training.settings, runtime) as process:
            exact = replace(epoch, corpus=replace(epoch.corpus, dtype="float64"))
            weights = process.call(measure_in_child.train_first_steps, epoch=exact)
            state = in_dtype(sentences.state, "float64")
            batch = replace(sentences.timed["batch"], dtype="float64")
            self.expected = weights, process.call(measure_in_child.decode, state=state, batch=batch)

    # Starting processes

    def _opened(
        self, stack: ExitStack, indices: Sequence[int], number: int
    ) -> tuple[list[BackendRunner], list[Start]]:
        names = ", ".join(self.rows[index].label for index in sorted(indices))
        self.status(starting := f"starting {names} for round {number} of new processes")
        # Starts are timed in the first round, one after the other.
        at_once = 1 if number == 1 else STARTED_AT_ONCE
        live, seconds, first = [], [], quiet.now()
        began = first
        for index, process in stack.enter_context(
            start_side_by_side(indices, self._launch, at_once)
        ):
            runner = BackendRunner(
                index, process.result(), self.epoch_of(index), counts=self.counts
            )
            if self.sentences:
                runner.state, runner.sources = self.sentences.state, self.sentences.timed
            live.append(runner)
            seconds.append(quiet.now() - began if at_once == 1 else 0.0)
            self._refuse_slow_starts(len(live), len(indices), first)
            self.status(starting)
            began = quiet.now()
        return live, [runner.warm_up(taken) for runner, taken in zip(live, seconds, strict=True)]

    def _launch(self, index: int) -> BackendProcess:
        row, settings = self.rows[index], self.training.settings
        settings = replace(settings, batch_size=row.sizes.get("batch-size", settings.batch_size))
        runtime = Runtime(device=self.training.device, variables=row.variables)
        return BackendProcess(row.backend, self._model(row), settings, runtime)

    # Sizes

    def _units(self, row: Row) -> int:
        return row.sizes.get("latent-dim", self.training.latent_dim)

    def _model(self, row: Row) -> ModelConfig:
        of_corpus = self.material.batch, self.material.decoder_vocabulary
        return model_config(*of_corpus, self._units(row), "float32", self.training.model)

    def _epoch(self, index: int) -> Batches:
        """The batches that a row trains on, without a last one that is not full.

        Where the length of sentences varies they are of random characters, since only their number
        matters to the time of a step.
        """
        row, settings = self.rows[index], self.training.settings
        size, rows = row.sizes.get("batch-size", settings.batch_size), self.material.training_rows
        if "length" in row.sizes:
            corpus = random_rows(row.sizes["length"], size, self._model(row), settings.seed)
            return Batches(corpus, np.arange(size), size)
        epoch = epoch_batches(self.material.batch, rows, replace(settings, batch_size=size), 1)
        return epoch.part(0, len(epoch.rows) // size)

    def _step(self, index: int) -> float:
        """The duration of a row's steps, as last measured.

        For a size that was not measured yet it is a guess from the most expensive measured one.
        """
        row, known = self.rows[index], self.step_seconds.get(index)
        alike = {
            n: s
            for n, s in self.step_seconds.items()
            if row.sizes and self.rows[n].backend == row.backend
        }
        if known or not alike:
            return known or super()._step(index)
        dearest = max(alike, key=lambda n: alike[n])
        return alike[dearest] * max(1.0, _cost(row) / _cost(self.rows[dearest]))

    # After the turns of training

    def _after_turns(
        self, live: Sequence[BackendRunner], number: int, rng: np.random.Generator
    ) -> None:
        if self.expected:
            self._check(live, number)
        if self.sentences and self._used >= LEAST_ROUNDS:
            self._decode(live, number, rng)
            self._profile(live)

    def _check(self, live: Sequence[BackendRunner], number: int) -> None:
        """Compare the steps of processes whose turns of training are over with the reference's."""
        assert self.expected
        self.status("checking that the timed processes compute the same")
        # One after another, since threads that spin at barriers share cores badly.
        for runner in live:
            weights = runner.process.call(measure_in_child.train_first_steps)
            differences = [weights[name] - expected for name, expected in self.expected[0].items()]
            # Root mean squares, since rounding takes single units
            # of the Transformer across ReLU's corner.
            errors = [np.sqrt(np.square(difference).mean()) for difference in differences]
            error = float(np.max(errors)) / self.training.settings.learning_rate
            self.measurement.append(
                Checked(runner.row, number, "training", error if isfinite(error) else None)
            )

    def _decode(self, live: Sequence[BackendRunner], number: int, rng: np.random.Generator) -> None:
        """Decode the shown sentences in each tuned row that has not done so,
        and take turns of decoding.

        The official example decodes one sentence at a time and is slow,
        so it has turns of a sentence alone.
        """
        assert self.sentences
        batched = [
            runner for runner in live if lookup(self.rows[runner.row].backend).decodes_batches
        ]
        decoded = {line.row for line in self.measurement.of_kind(Decoded)}
        for runner in batched:
            wanted = runner.row in self.tuned and runner.row not in decoded
            if wanted and self.left >= IN_A_BATCH * runner.step_seconds:
                self.status(f"decoding sentences in {self.rows[runner.row].label}")
                scored = not any(line.scores for line in self.measurement.of_kind(Decoded))
                self.measurement.append(
                    self.sentences.decoded_by(runner.process, runner.row, scored)
                )
        if len({line.number for line in self.measurement.rounds("alone")}) >= DECODING_ROUNDS:
            return
        for work in self.sentences.timed:
            decoders = batched if work == "batch" else live
            slow = sum(
                2 * ONE_BY_ONE * runner.step_seconds for runner in decoders if runner not in batched
            )
            calls = sum(BETWEEN + 2 * AT_LEAST + 2 * runner.step_seconds for runner in decoders)
            if decoders and self.left >= self.stretch * (slow + calls):
                began, say = quiet.now(), partial(self.status, "decoding in turns")
                turns = take_turns(decoders, rng, say, self.most_tries, work=work)
                self.measurement.append(Round(number, work, [], [turns], quiet.now() - began))
        for runner in batched:  # what they put out is compared with what the reference does
            if self.expected and "batch" in runner.ids:
                parted = float((runner.ids["batch"] != self.expected[1]).any(axis=1).mean())
                self.measurement.append(Checked(runner.row, number, "batch", parted))

    def _profile(self, live: Sequence[BackendRunner]) -> None:
        """Profile a few steps of each tuned row, after the turns, so that no turn is disturbed."""
        profiled = {line.row for line in self.measurement.of_kind(RowProfile)}
        for runner in live:
            wanted = runner.row in self.tuned and runner.row not in profiled
            if wanted and self.left >= PROFILING * runner.step_seconds:
                self.status(f"profiling {self.rows[runner.row].label}")
                if profile := runner.process.call(
                    measure_in_child.profile_steps, steps=PROFILED_STEPS
                ):
                    self.measurement.append(RowProfile(runner.row, profile))


def opened_benchmark(path: Path, plan: Plan, decodes: bool = True) -> Benchmark:
    """Begin the benchmark of a plan, of training alone unless it `decodes`.

    Raises CannotBeginError if it cannot be measured or recorded.
    """
    training = plan.training
    assert training
    material = prepare(training.data, training.settings.seed, "float32")
    largest = max(training.axes.get("batch-size", [training.settings.batch_size]))
    if largest > len(material.training_rows):
        raise CannotBeginError(
            f"a batch of {largest} is larger than the {len(material.training_rows)} pairs that are "
            "trained on; give a smaller one, or a larger corpus"
        )
    text, sentences = Text(material.sha256, len(material.training_rows)), None
    if decodes and not training.axes:
        sentences = Sentences(
            material, training.latent_dim, training.model, training.run, training.settings.seed
        )
        text = Text(
            text.sha256, text.training_rows, sentences.weights, sentences.digest, sentences.shown
        )
    return Benchmark(Measurement.begin(path, plan, text), material, sentences)


def _cost(row: Row) -> int:
    """Cost of a step, to compare with other sizes of the same backend:
    matrices grow with the square of the units."""
    return prod(row.sizes.values()) * row.sizes.get("latent-dim", 1)


def random_rows(length: int, count: int, model: ModelConfig, seed: int) -> Batch:
    """A batch of `count` rows of random characters without padding, so many on both sides."""
    rng = np.random.default_rng(seed)

    def ids(tokens: int, width: int) -> NDArray[np.integer]:
        return rng.integers(tokens, size=(count, width), dtype=np.min_scalar_type(tokens))

    encoder_ids = ids(model.num_encoder_tokens, length)
    decoder_ids = ids(model.num_decoder_tokens, length + 1)
    return Batch.of_ids(model, encoder_ids, np.full(count, length, np.int32), decoder_ids)
