"""The parity ladder: compare a backend with the referee rung by rung, from tensors up to decoded strings.

- The referee is the NumPy backend in float64. Every backend is compared with it, so no framework is taken as right.
- Each rung assumes that the ones below it passed. A backend stops at the first rung that fails, since the cause is
  there and failures above it would only follow from it.
- Weights and tensors are float64 or float32.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from copy import copy
from dataclasses import dataclass, replace
from functools import cached_property
from math import inf, isfinite, sqrt
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from backends import BASELINE, TABLE
from backends.engines import new_group
from backends.process.group import ask_each, started_group
from backends.process.parent import SILENCE, BackendProcess
from backends.process.runtime import SECONDS_A_SENTENCE, Runtime, silence
from benchmarks.parity import child
from benchmarks.parity.checks import RUNGS, SPREADS, Check
from benchmarks.parity.child import Counts, Gradients, Steps, hashes
from common.comparison import MISCOUNTED, NEAR_TIE, PARTED, TOLERANCES, ParityError, compare
from common.config import DataConfig, TrainConfig
from common.decoding import max_decoded_length, text_of
from common.interface import Forward
from common.machine import Machine, describe_machine
from common.material import Material, prepare
from common.tensors import START, STOP, Batch, epoch_order, model_config
from common.weights import ModelState, in_dtype, initial_state, permute_units, to_bytes

REFEREE = "numpy"
PERMUTATIONS = 5
# In float32 a backend's states and probabilities may be off by this many times the error of NumPy's own float32, and
# never by more than TOLERANCES.
BUDGET = 4.0


@dataclass(frozen=True)
class Size:
    """How much the ladder compares."""

    num_samples: int  # pairs of the corpus, all of which are trained on
    steps: int  # training steps of the trajectory
    batch_rows: int  # rows of the batch that the rungs from tensors to step use, and of a whole batch of counts
    sentences: int  # number of decoded sentences
    permutations: int  # float32 trainings with permuted hidden units; if 0, only the first ten losses are compared
    sentences_of_example: int = 3  # of these, keras:example decodes so many, since it takes seconds for each


WHOLE = Size(num_samples=1500, steps=50, batch_rows=64, sentences=200, permutations=PERMUTATIONS)
QUICK = Size(num_samples=640, steps=10, batch_rows=32, sentences=50, permutations=0, sentences_of_example=1)


@dataclass(frozen=True)
class Answers:
    """Asks a backend's process the questions in `child`, with weights and batches converted to one dtype."""

    process: BackendProcess
    dtype: str

    def hashes(self, batch: Batch) -> dict[str, str]:
        """The hashes of the tensors that the backend's process makes of the batch, by the tensor's name."""
        return self.process.call(child.tensors, batch=self._in_dtype(batch))

    def reloaded(self, state: ModelState) -> ModelState:
        """The state that the backend gives back after `state` was loaded."""
        return self.process.call(child.reload, state=in_dtype(state, self.dtype))

    def forward(self, state: ModelState, batch: Batch) -> Forward:
        return self.process.listening(silence=silence(len(batch))).call(
            child.forward, state=in_dtype(state, self.dtype), batch=self._in_dtype(batch)
        )

    def gradients(self, state: ModelState, batch: Batch) -> Gradients:
        return self.process.listening(silence=silence(len(batch))).call(
            child.gradients, state=in_dtype(state, self.dtype), batch=self._in_dtype(batch)
        )

    def steps(self, state: ModelState, corpus: Batch, order: NDArray[np.integer], batch_size: int) -> Steps:
        """The result of training from `state` on the corpus's rows in this order."""
        return self.process.listening(silence=silence(len(order))).call(
            child.steps,
            state=in_dtype(state, self.dtype),
            corpus=self._in_dtype(corpus),
            order=order,
            batch_size=batch_size,
        )

    def counts(self, state: ModelState, corpus: Batch, order: NDArray[np.integer], batch_size: int) -> Counts:
        """What is counted when the corpus's rows are evaluated and trained on in this order, from `state`."""
        return self.process.listening(silence=silence(2 * len(order))).call(
            child.counts,
            state=in_dtype(state, self.dtype),
            corpus=self._in_dtype(corpus),
            order=order,
            batch_size=batch_size,
        )

    def strings(
        self, state: ModelState, ids: NDArray[np.integer], lengths: NDArray[np.integer], max_length: int
    ) -> NDArray[np.int64]:
        """(N, max_length) ids decoded from encoder ids (N, T_enc) and their lengths (N,)."""
        return self.process.listening(silence=SILENCE + SECONDS_A_SENTENCE * len(ids)).call(
            child.strings,
            state=in_dtype(state, self.dtype),
            encoder_ids=ids,
            encoder_lengths=lengths,
            max_length=max_length,
        )

    def _in_dtype(self, batch: Batch) -> Batch:
        return replace(batch, dtype=self.dtype)


class Course:
    """What all backends share on the ladder: one text, one set of weights, and the referee's answers.

    It is a context manager, since it starts a process for the referee and must end it.
    """

    def __init__(
        self,
        data: DataConfig,
        settings: TrainConfig,
        latent_dim: int,
        size: Size,
        runtime: Runtime,
        padding: str = "space",
        workers: int = 1,
    ) -> None:
        # All of these pairs are trained on, so the split does not matter; a small share might hold out no pair.
        data = replace(data, num_samples=size.num_samples, validation_split=DataConfig.validation_split)
        material, self.sha256 = prepare(data, settings.seed, "float64", padding)
        self.material, self.settings, self.size, self.runtime = material, settings, size, runtime
        self.workers = workers  # number of those in the group that trains the trajectory, too; 1: there is none
        self.model = model_config(material.batch, material.decoder_vocabulary, latent_dim, "float64")
        epochs = range(1, 2 + size.steps * settings.batch_size // len(material.pairs))
        orders = [epoch_order(len(material.pairs), settings.seed, epoch) for epoch in epochs]
        self.order = np.concatenate(orders)[: size.steps * settings.batch_size]
        self.batch = material.batch.take(self.order[: size.batch_rows])
        self.fresh = initial_state(self.model, settings.seed)
        self.probe = _disturbed(self.fresh, settings.seed)
        self.decided = _decided(self.probe, self.batch, self.model.stop_token)
        self.referee = Answers(self.start_numpy("float64"), "float64")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.referee.process.close()

    def with_batch(self, batch: Batch) -> Self:
        """This course with another batch on the rungs of the forward pass, the loss and the gradients."""
        other = copy(self)
        other.batch = batch
        for expected in ("expected_forward", "expected_gradients"):
            vars(other).pop(expected, None)
        return other

    def start(self, name: str, dtype: str) -> BackendProcess:
        """Start the process of a backend that is compared."""
        return self.runtime.start(name, replace(self.model, dtype=dtype), self.settings)

    def start_group(self, name: str, dtype: str) -> AbstractContextManager[list[BackendProcess]]:
        """Start a group of workers of a backend."""
        model = replace(self.model, dtype=dtype)
        return started_group(new_group(name, self.workers), self.runtime, name, model, self.settings)

    def start_numpy(self, dtype: str) -> BackendProcess:
        """Start a process of NumPy on the CPU and in this interpreter, whichever the compared backends run in."""
        return Runtime(self.runtime.threads).start(REFEREE, replace(self.model, dtype=dtype), self.settings)

    def losses(self, answers: Answers, state: ModelState) -> NDArray[np.float64]:
        """The loss (steps,) of each training step from `state`."""
        return answers.steps(state, self.material.batch, self.order, self.settings.batch_size).losses

    def steps_of_group(self, answers: Answers) -> Steps:
        """The result of training with batches that no number of workers divides, and with one row in the end."""
        batch_size = 2 * self.workers + 1
        order = self.order[: self.size.steps * batch_size + 1]
        return answers.steps(self.fresh, self.material.batch, order, batch_size)

    def one_step(self, answers: Answers) -> ModelState:
        """The state after one training step from `probe` on the batch."""
        return answers.steps(self.probe, self.batch, np.arange(len(self.batch)), len(self.batch)).state

    def counts(self, answers: Answers) -> Counts:
        """What is counted of two batches with the weights of `decided`; the second is smaller than the first."""
        rows = self.size.batch_rows
        return answers.counts(self.decided, self.material.batch, self.order[: rows + rows * 3 // 4], rows)

    def strings(self, answers: Answers, num_sentences: int) -> list[str]:
        """The translations of the first `num_sentences` sources, decoded with the fresh weights.

        Fresh weights give every sentence another translation, so that mixed-up rows are seen. The last sentence is
        decoded alone, since a backend may have another loop for a single sentence.
        """
        ids, lengths = self.material.encoder_vocabulary.encode(
            self.sources[:num_sentences], self.material.max_encoder_seq_length
        )
        max_length = max_decoded_length(self.material.max_decoder_seq_length)
        decoded = [
            answers.strings(self.fresh, ids[rows], lengths[rows], max_length) for rows in (slice(-1), slice(-1, None))
        ]
        return [text_of(row, self.material.decoder_vocabulary) for row in np.concatenate(decoded)]

    @cached_property
    def machine(self) -> Machine:
        """The machine, for the certificates."""
        return describe_machine()

    @cached_property
    def sources(self) -> list[str]:
        """The distinct sources to decode, spread evenly over the corpus."""
        distinct = list(dict.fromkeys(source for source, _ in self.material.pairs))
        return distinct[:: max(1, len(distinct) // self.size.sentences)][: self.size.sentences]

    @cached_property
    def expected_losses(self) -> NDArray[np.float64]:
        return self.losses(self.referee, self.fresh)

    @cached_property
    def expected_steps_of_group(self) -> Steps:
        return self.steps_of_group(self.referee)

    @cached_property
    def expected_forward(self) -> Forward:
        return self.referee.forward(self.probe, self.batch)

    @cached_property
    def expected_gradients(self) -> Gradients:
        return self.referee.gradients(self.probe, self.batch)

    @cached_property
    def expected_step(self) -> ModelState:
        return self.one_step(self.referee)

    @cached_property
    def expected_counts(self) -> Counts:
        return self.counts(self.referee)

    @cached_property
    def expected_strings(self) -> list[str]:
        return self.strings(self.referee, self.size.sentences)

    @cached_property
    def float32_errors(self) -> dict[str, float]:
        """The largest error of NumPy in float32 for each tensor of the forward pass: the error that is normal."""
        with self.start_numpy("float32") as process:
            got = Answers(process, "float32").forward(self.probe, self.batch)
        return {
            name: float(np.abs(getattr(got, name) - array).max())
            for name, array in vars(self.expected_forward).items()
        }

    def margin(self, source: str, one: str, other: str) -> float:
        """`first_margin` of two translations of a source, by the referee with the fresh weights."""

        def probabilities(batch: Batch) -> NDArray[np.floating]:
            return self.referee.forward(self.fresh, batch).probabilities

        return first_margin(probabilities, self.material, source, one, other)


def _disturbed(state: ModelState, seed: int) -> ModelState:
    """The state with noise added: fresh biases and slots are constant, which would hide mistakes in their order.

    All numbers are rounded to float32, so that both precisions start from the same ones.
    """
    rng = np.random.default_rng(seed)
    weights, slots = {}, {}
    for name, weight in in_dtype(state, "float32").weights.items():
        weights[name] = weight + np.float32(0.02) * rng.standard_normal(weight.shape, np.float32)
        slots[name] = np.float32(1e-6) * rng.random(weight.shape, np.float32)
    return in_dtype(ModelState(weights, slots), "float64")


def _decided(state: ModelState, batch: Batch, stop_token: int) -> ModelState:
    """The state with an output layer that seldom has near-ties and is often right, on padding and at ends too.

    Its bias follows how often the batch has each target character, and "\\n" counts as much as the most frequent one.
    With fresh weights one position in some seventy is right, which hides mistakes of counting.
    """
    bias = np.log(np.bincount(batch.decoder_target_ids.ravel(), minlength=batch.num_decoder_tokens) + 0.5)
    bias[stop_token] = bias.max()
    layer = {"dense/kernel": 32 * state.weights["dense/kernel"], "dense/bias": bias}
    return ModelState(state.weights | layer, state.mean_squares)


def first_margin(
    probabilities: Callable[[Batch], NDArray[np.floating]], material: Material, source: str, one: str, other: str
) -> float:
    """By how much the best character beats the second best where two translations of a source first differ.

    It is the difference of their two probabilities, or infinite if the translations do not differ. `probabilities`
    computes the referee's (N, T_dec, V_dec) for a batch.
    """
    one, other = one + STOP, other + STOP
    step = next((i for i, (x, y) in enumerate(zip(one, other, strict=False)) if x != y), None)
    if step is None:
        return inf
    encoder_ids, lengths = material.encoder_vocabulary.encode([source], material.max_encoder_seq_length)
    decoder_ids, decoder_lengths = material.decoder_vocabulary.encode([START + one[:step] + " "])
    batch = replace(
        material.batch,
        encoder_ids=encoder_ids,
        encoder_lengths=lengths,
        decoder_ids=decoder_ids,
        decoder_lengths=decoder_lengths,
        dtype="float64",
    )
    second, first = np.sort(probabilities(batch)[0, step])[-2:]
    return float(first - second)


class Climber:
    """Compares one backend, with weights of one dtype, with the referee. `climb` yields its checks rung by rung."""

    went_in: ModelState  # the state that was loaded into the backend on the rung "weights"
    came_out: ModelState  # the state that the backend then gave back
    forward: Forward  # the backend's answer on the rung "forward"
    gradients: Gradients  # the backend's answer on the rung "loss"
    checks: list[Check]  # those of all rungs that were climbed

    def __init__(self, course: Course, process: BackendProcess, dtype: str) -> None:
        self.course, self.process, self.dtype = course, process, dtype
        self.answers = Answers(process, dtype)
        self.precision = process.facts.precision  # in which it computes, which may be coarser than `dtype`
        self.tolerances = {name: bounds[self.precision] for name, bounds in TOLERANCES.items()}

    def climb(self) -> Iterator[Check]:
        """The checks of each rung, up to the first rung that fails."""
        for rung in RUNGS:
            checks = self.rung(rung)
            yield from checks
            if not all(check.passed for check in checks):
                return

    def rung(self, name: str) -> list[Check]:
        """The checks of one rung. The rungs below it must have been climbed before, since some results are reused."""
        return list(getattr(self, f"_{name}")())

    def forward_tolerance(self, name: str) -> float:
        """The tolerance of a tensor of the forward pass; in float32 at most BUDGET times NumPy's float32 error."""
        bound = self.tolerances[name]
        return min(bound, BUDGET * self.course.float32_errors[name]) if self.precision == "float32" else bound

    def check(
        self, rung: str, tensor: str, error: float, tolerance: float, where: tuple[int, ...] = (), note: str = ""
    ) -> Check:
        """A check of this backend."""
        backend, _, variant = self.process.name.partition(":")
        return Check(backend, variant, self.dtype, rung, tensor, error, tolerance, where, note)

    def compared(
        self,
        rung: str,
        tensor: str,
        got: Any,
        expected: NDArray[np.floating],
        tolerance: float,
        scale: str = "absolute",
        dtype: str | None = None,
    ) -> Check:
        """The check that two arrays agree; the scales are those of `compare`."""
        try:
            result = compare(tensor, np.asarray(got), expected, dtype=dtype or self.dtype, scale=scale)
        except ParityError as error:
            return self.check(rung, tensor, inf, tolerance, note=str(error))
        note = f"got {result.got!r}, expected {result.expected!r}"
        return self.check(rung, tensor, result.error, tolerance, result.where, note)

    def _tensors(self) -> Iterator[Check]:
        batch = replace(self.course.batch, dtype=self.dtype)
        got = self.answers.hashes(batch)
        for tensor, expected in hashes(batch).items():
            same = got[tensor] == expected
            yield self.check("tensors", tensor, 0.0 if same else inf, 0.0, note="" if same else "the bytes differ")

    def _weights(self) -> Iterator[Check]:
        self.went_in = in_dtype(self.course.probe, self.dtype)
        self.came_out = self.answers.reloaded(self.went_in)
        for kind, prefix in (("weights", ""), ("mean_squares", "rmsprop/")):
            for name, array in getattr(self.went_in, kind).items():
                got, expected = getattr(self.came_out, kind)[name], array.astype(np.float64)
                yield self.compared("weights", prefix + name, got, expected, 0.0)

    def _forward(self) -> Iterator[Check]:
        self.forward = self.answers.forward(self.course.probe, self.course.batch)
        for name in ("state_h", "state_c", "probabilities"):  # the probabilities follow from the states
            got, expected = getattr(self.forward, name), getattr(self.course.expected_forward, name)
            yield self.compared("forward", name, got, expected, self.forward_tolerance(name))

    def _loss(self) -> Iterator[Check]:
        self.gradients = self.answers.gradients(self.course.probe, self.course.batch)
        got, expected = (np.array(g.loss) for g in (self.gradients, self.course.expected_gradients))
        yield self.compared("loss", "loss", got, expected, self.tolerances["loss"], "relative", "float64")

    def _gradients(self) -> Iterator[Check]:
        for name in self.course.probe.weights:
            got, expected = self.gradients.by_name.get(name, np.nan), self.course.expected_gradients.by_name[name]
            yield self.compared("gradients", name, got, expected, self.tolerances["gradients"], "largest")

    def _step(self) -> Iterator[Check]:
        before, expected = self.course.probe, self.course.expected_step
        after = self.course.one_step(self.answers)
        for name, weight in expected.weights.items():
            if self.precision == "float64":
                tolerance = 1e-10 * float(np.abs(weight - before.weights[name]).max())
            else:
                # An update is learning_rate * gradient / sqrt(mean square + epsilon), so an error of the gradient
                # becomes at most learning_rate / sqrt(epsilon) times as large in the weight. Two float32 roundings
                # of the weight come on top.
                stretch = self.course.settings.learning_rate / sqrt(self.course.settings.epsilon)
                got, wanted = self.gradients.by_name[name], self.course.expected_gradients.by_name[name]
                error = float(np.abs(got - wanted).max())
                tolerance = stretch * error + 2 * float(np.spacing(np.float32(np.abs(before.weights[name]).max())))
            yield self.compared("step", name, after.weights[name], weight, tolerance)
        for name, slot in expected.mean_squares.items():
            got, tolerance = after.mean_squares[name], self.tolerances["slots"]
            yield self.compared("step", f"rmsprop/{name}", got, slot, tolerance, "largest")

    def _trajectory(self) -> Iterator[Check]:
        course, expected = self.course, self.course.expected_losses
        got = course.losses(self.answers, course.fresh)
        exact = len(expected) if self.precision == "float64" else 10  # later float32 losses differ by rounding alone
        tolerance, name = self.tolerances["trajectory"], f"losses of {exact} steps"
        yield self.compared("trajectory", name, got[:exact], expected[:exact], tolerance, "relative", "float64")
        # In bfloat16 permuting the units shows no rounding error, since a weight is rounded alike wherever it stands.
        if self.precision == "bfloat16":
            name, both = "mean of the losses", (got.mean(), np.asarray(expected.mean()))
            yield self.compared("trajectory", name, *both, tolerance, "relative", "float64")
        elif self.precision == "float32" and course.size.permutations:
            rng = np.random.default_rng(course.settings.seed)
            means = [got.mean()]
            for _ in range(course.size.permutations):
                state = permute_units(course.fresh, rng.permutation(course.model.latent_dim))
                means.append(course.losses(self.answers, state).mean())
            spread = float(np.std(means, ddof=1))
            error = abs(float(got.mean() - expected.mean()))
            note = f"got {got.mean():.9f}, expected {expected.mean():.9f}; standard deviation of runs {spread:.1e}"
            if isfinite(spread):
                yield self.check("trajectory", "mean loss", error, SPREADS * spread, note=note)
            else:  # one of the trainings diverged
                yield self.check("trajectory", "mean loss", inf, 0.0, note=note)
        if course.workers > 1 and TABLE[self.process.name].grouped:
            with course.start_group(self.process.name, self.dtype) as processes:
                yield from self.of_group(processes)

    def of_group(self, processes: Sequence[BackendProcess]) -> Iterator[Check]:
        """The checks that a group of workers trains as the referee does alone, and that they end in one state."""
        course, expected = self.course, self.course.expected_steps_of_group
        all_steps = ask_each(processes, lambda process: course.steps_of_group(Answers(process, self.dtype)))
        exact, of_workers = len(expected.losses) if self.precision == "float64" else 10, f"{len(processes)} workers"
        state, losses, tolerance = all_steps[0].state, all_steps[0].losses, self.tolerances["trajectory"]
        name, both = f"losses of {exact} steps, {of_workers}", (losses[:exact], expected.losses[:exact])
        yield self.compared("trajectory", name, *both, tolerance, "relative", "float64")
        for kind in ("weights", "mean_squares") if self.precision == "float64" else ():
            for name, array in getattr(state, kind).items():
                name, both = f"{name}, {kind} of {of_workers}", (array, getattr(expected.state, kind)[name])
                yield self.compared("trajectory", name, *both, self.tolerances["slots"], "largest")
        same = len({to_bytes(steps.state, {}) for steps in all_steps}) == 1
        note = "" if same else "they end with different weights or slots"
        yield self.check("trajectory", f"states of {of_workers}", 0.0 if same else inf, 0.0, note=note)

    def _counts(self) -> Iterator[Check]:
        got, expected = self.course.counts(self.answers), self.course.expected_counts
        for how, wanted in vars(expected).items():
            near_ties = MISCOUNTED[self.precision] * float(wanted.weight_sums.min())
            for name, tolerance, scale in (
                ("loss_sums", self.tolerances["loss_sums"], "relative"),
                ("weight_sums", 0.0, "absolute"),
                ("real_positions", 0.0, "absolute"),
                ("correct", near_ties, "absolute"),
                ("correct_real", near_ties, "absolute"),
            ):
                tensor, found = f"{how} {name}", getattr(getattr(got, how), name)
                if (self.process.name, tensor) == (BASELINE, "train correct_real") and np.isnan(found).all():
                    note = f"{BASELINE} counts none, since the example's own `fit` does not"
                    yield self.check("counts", tensor, 0.0, 0.0, note=note)
                else:
                    yield self.compared("counts", tensor, found, getattr(wanted, name), tolerance, scale, "float64")

    def _strings(self) -> Iterator[Check]:
        course = self.course
        sources = course.sources[: course.size.sentences_of_example if self.process.name == BASELINE else None]
        got = course.strings(self.answers, len(sources))
        rows = list(zip(sources, got, course.expected_strings, strict=False))
        different = [row for row in rows if row[1] != row[2]]
        wrong = [row for row in different if course.margin(*row) > NEAR_TIE[self.precision]]
        error = inf if wrong else len(different) / len(rows)
        distinct = len(set(course.expected_strings))
        note = f"{len(rows)} sentences, {distinct} distinct strings, {len(different)} near-ties"
        if wrong:
            note = f"{wrong[0][0]!r}: got {wrong[0][1]!r}, expected {wrong[0][2]!r}"
        yield self.check("strings", "strings", error, PARTED[self.precision], note=note)
