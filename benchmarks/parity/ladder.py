"""The parity ladder: every backend against the float64 referee, rung by rung, in both precisions.

Each rung assumes the ones below it, so a backend stops at the first that breaks: there is the cause. The
comparison is a star and not a triangle: the referee is the NumPy backend in float64, and nobody is privileged.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from math import inf, isfinite, sqrt
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from backends import BASELINE
from backends.process import SILENCE, BackendProcess
from backends.session import SECONDS_A_SENTENCE, Material, Runtime, prepare, silence
from benchmarks.parity import child
from benchmarks.parity.child import Gradients, Steps, hashes
from common.comparison import NEAR_TIE, PARTED, TOLERANCES, ParityError, compare
from common.config import DataConfig, TrainConfig
from common.decoding import max_decoded_length, text_of
from common.interface import Forward
from common.machine import Machine, describe_machine
from common.tensors import START, STOP, Batch, epoch_order, model_config
from common.weights import ModelState, in_dtype, initial_state, permute_units

RUNGS = ("tensors", "weights", "forward", "loss", "gradients", "step", "trajectory", "strings")
REFEREE = "numpy"
PERMUTATIONS = 5
# A float32 backend's states and probabilities may be off by so many times what NumPy's own float32 is, and at most by
# TOLERANCES.
BUDGET = 4.0
# A float32 run's mean loss may lie this many times further from the referee than the backend's own runs with
# permuted hidden units lie from one another (standard deviation). The largest that 26 runs of correct backends
# needed was 16.6, over six seeds and two corpora; mistakes of the optimizer need two million and more.
SPREADS = 20.0


@dataclass(frozen=True)
class Check:
    """One comparison of one rung."""

    backend: str
    variant: str
    dtype: str
    rung: str
    tensor: str
    error: float  # infinite where shape, dtype or finiteness already differ
    tolerance: float
    where: tuple[int, ...] = ()  # index of the largest difference
    note: str = ""  # both values there, or what else was found

    @property
    def passed(self) -> bool:
        return self.error <= self.tolerance

    @property
    def used(self) -> float:
        """Its error as a part of what is allowed; the error itself where none is."""
        return self.error / self.tolerance if self.tolerance else self.error

    @property
    def finite_error(self) -> float | None:
        """The error, or None where no number can tell it."""
        return self.error if isfinite(self.error) else None

    @property
    def climber(self) -> str:
        """The name of the backend that was compared, and the precision of its weights: "NAME dtype"."""
        return f"{f'{self.backend}:{self.variant}' if self.variant else self.backend} {self.dtype}"


@dataclass(frozen=True)
class Size:
    """How much of the ladder's material is used."""

    num_samples: int  # pairs trained on
    steps: int  # of the trajectory
    batch_rows: int
    sentences: int  # decoded; the official example, at seconds a sentence, decodes three
    permutations: int  # of the float32 trajectory's hidden units; none: its first ten steps alone are compared


WHOLE = Size(num_samples=1500, steps=50, batch_rows=64, sentences=200, permutations=PERMUTATIONS)
QUICK = Size(num_samples=640, steps=10, batch_rows=32, sentences=50, permutations=0)


@dataclass(frozen=True)
class Answers:
    """What a backend answers to the ladder's questions, with weights, states and batches of one precision."""

    process: BackendProcess
    dtype: str  # of the weights

    def hashes(self, batch: Batch) -> dict[str, str]:
        """Of the tensors that the backend's process makes of the batch."""
        return self.process.call(child.tensors, batch=self._in_dtype(batch))

    def reloaded(self, state: ModelState) -> ModelState:
        """What comes out when the state goes in."""
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
        """Training from `state` on the corpus's rows in this order."""
        return self.process.listening(silence=silence(len(order))).call(
            child.steps,
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
    """What every backend climbs: one text, one set of weights, and the referee's answers to each question.

    A context manager: the referee has a process.
    """

    def __init__(
        self,
        data: DataConfig,
        settings: TrainConfig,
        latent_dim: int,
        size: Size,
        runtime: Runtime,
        padding: str = "space",
    ) -> None:
        # How the benchmark splits its corpus is nothing to so few pairs, all of which are trained on.
        data = replace(data, num_samples=size.num_samples, validation_split=DataConfig.validation_split)
        material, self.sha256 = prepare(data, settings.seed, "float64", padding)
        self.material, self.settings, self.size, self.runtime = material, settings, size, runtime
        self.model = model_config(material.batch, material.decoder_vocabulary, latent_dim, "float64")
        epochs = range(1, 2 + size.steps * settings.batch_size // len(material.pairs))
        orders = [epoch_order(len(material.pairs), settings.seed, epoch) for epoch in epochs]
        self.order = np.concatenate(orders)[: size.steps * settings.batch_size]
        self.batch = material.batch.take(self.order[: size.batch_rows])
        self.fresh = initial_state(self.model, settings.seed)
        self.probe = _disturbed(self.fresh, settings.seed)
        self.referee = Answers(self.start_numpy("float64"), "float64")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.referee.process.close()

    def start(self, name: str, dtype: str) -> BackendProcess:
        """The process of a backend that climbs."""
        return self.runtime.start(name, replace(self.model, dtype=dtype), self.settings)

    def start_numpy(self, dtype: str) -> BackendProcess:
        """What the others are held to: NumPy, which computes on no GPU, in the interpreter that this runs in."""
        return Runtime(self.runtime.threads).start(REFEREE, replace(self.model, dtype=dtype), self.settings)

    def losses(self, answers: Answers, state: ModelState) -> NDArray[np.float64]:
        """(steps,) the loss of each step of training from `state`."""
        return answers.steps(state, self.material.batch, self.order, self.settings.batch_size).losses

    def one_step(self, answers: Answers) -> ModelState:
        """The probe's state after a step on the batch."""
        return answers.steps(self.probe, self.batch, np.arange(len(self.batch)), len(self.batch)).state

    def strings(self, answers: Answers, num_sentences: int) -> list[str]:
        """The first sources decoded with fresh weights, which say something else of every sentence.

        The last one by itself, for which a backend may have another loop.
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
        """What all of this runs on."""
        return describe_machine()

    @cached_property
    def sources(self) -> list[str]:
        """Distinct sources, spread over the corpus."""
        distinct = list(dict.fromkeys(source for source, _ in self.material.pairs))
        return distinct[:: max(1, len(distinct) // self.size.sentences)][: self.size.sentences]

    @cached_property
    def expected_losses(self) -> NDArray[np.float64]:
        return self.losses(self.referee, self.fresh)

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
    def expected_strings(self) -> list[str]:
        return self.strings(self.referee, self.size.sentences)

    @cached_property
    def float32_errors(self) -> dict[str, float]:
        """How far NumPy's own float32 is from the referee, a tensor of the forward pass: what is normal."""
        with self.start_numpy("float32") as process:
            got = Answers(process, "float32").forward(self.probe, self.batch)
        return {
            name: float(np.abs(getattr(got, name) - array).max())
            for name, array in vars(self.expected_forward).items()
        }

    def margin(self, source: str, one: str, other: str) -> float:
        """`first_margin` by the referee with the fresh weights."""

        def probabilities(batch: Batch) -> NDArray[np.floating]:
            return self.referee.forward(self.fresh, batch).probabilities

        return first_margin(probabilities, self.material, source, one, other)


def _disturbed(state: ModelState, seed: int) -> ModelState:
    """Weights and slots of which no part is zero or alike, as fresh biases and slots are.

    Rounded to float32, so that both precisions climb from the same numbers.
    """
    rng = np.random.default_rng(seed)
    weights, slots = {}, {}
    for name, weight in in_dtype(state, "float32").weights.items():
        weights[name] = weight + np.float32(0.02) * rng.standard_normal(weight.shape, np.float32)
        slots[name] = np.float32(1e-6) * rng.random(weight.shape, np.float32)
    return in_dtype(ModelState(weights, slots), "float64")


def first_margin(
    probabilities: Callable[[Batch], NDArray[np.floating]], material: Material, source: str, one: str, other: str
) -> float:
    """The margin between the two best characters where two translations of a source first part.

    Infinite where they do not, one having been cut at the longest length. `probabilities` is the referee's
    (N, T_dec, V_dec) for a batch.
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
    """One backend with weights of one precision, compared with the referee. `climb` gives its checks rung by rung."""

    went_in: ModelState  # into the backend, and what came out of it again
    came_out: ModelState
    forward: Forward  # what the backend answered on its way
    gradients: Gradients

    def __init__(self, course: Course, process: BackendProcess, dtype: str) -> None:
        self.course, self.process, self.dtype = course, process, dtype
        self.answers = Answers(process, dtype)
        self.precision = process.facts.precision  # that it computes in, which may be coarser
        self.tolerances = {name: bounds[self.precision] for name, bounds in TOLERANCES.items()}

    def climb(self) -> Iterator[Check]:
        """The checks of each rung, up to the first rung that breaks."""
        for rung in RUNGS:
            checks = self.rung(rung)
            yield from checks
            if not all(check.passed for check in checks):
                return

    def rung(self, name: str) -> list[Check]:
        """The checks of one rung; those below it must have been climbed."""
        return list(getattr(self, f"_{name}")())

    def forward_tolerance(self, name: str) -> float:
        """The bound on a tensor of the forward pass: in float32 not far above what NumPy's own needs."""
        bound = self.tolerances[name]
        return min(bound, BUDGET * self.course.float32_errors[name]) if self.precision == "float32" else bound

    def check(
        self, rung: str, tensor: str, error: float, tolerance: float, where: tuple[int, ...] = (), note: str = ""
    ) -> Check:
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
        """The check that two arrays agree."""
        try:
            result = compare(tensor, np.asarray(got), expected, tolerance, dtype=dtype or self.dtype, scale=scale)
        except ParityError as error:
            return self.check(rung, tensor, inf, tolerance, note=str(error))
        note = f"got {result.got!r}, expected {result.expected!r}"
        return self.check(rung, tensor, result.error, tolerance, result.where, note)

    def _tensors(self) -> Iterator[Check]:
        batch = replace(self.course.batch, dtype=self.dtype)
        got = self.answers.hashes(batch)
        for tensor, expected in hashes(batch).items():
            same = got[tensor] == expected
            yield self.check("tensors", tensor, 0.0 if same else inf, 0.0, note="" if same else "other bytes")

    def _weights(self) -> Iterator[Check]:
        self.went_in = in_dtype(self.course.probe, self.dtype)
        self.came_out = self.answers.reloaded(self.went_in)
        for kind, prefix in (("weights", ""), ("mean_squares", "rmsprop/")):
            for name, array in getattr(self.went_in, kind).items():
                got, expected = getattr(self.came_out, kind)[name], array.astype(np.float64)
                yield self.compared("weights", prefix + name, got, expected, 0.0)

    def _forward(self) -> Iterator[Check]:
        self.forward = self.answers.forward(self.course.probe, self.course.batch)
        for name in ("state_h", "state_c", "probabilities"):  # as the one leads to the other
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
                # The most by which RMSprop can stretch a gradient's error, that of the first step.
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
        exact = len(expected) if self.precision == "float64" else 10  # after that rounding has its way
        tolerance, name = self.tolerances["trajectory"], f"losses of {exact} steps"
        yield self.compared("trajectory", name, got[:exact], expected[:exact], tolerance, "relative", "float64")
        if self.precision == "bfloat16":  # weights are rounded alike in whatever order, so no spread of runs tells
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
            note = f"got {got.mean():.9f}, expected {expected.mean():.9f}; spread of its own runs {spread:.1e}"
            if isfinite(spread):
                yield self.check("trajectory", "mean loss", error, SPREADS * spread, note=note)
            else:  # a run diverged
                yield self.check("trajectory", "mean loss", inf, 0.0, note=note)

    def _strings(self) -> Iterator[Check]:
        course = self.course
        sources = course.sources[: 3 if self.process.name == BASELINE else None]
        got = course.strings(self.answers, len(sources))
        rows = list(zip(sources, got, course.expected_strings, strict=False))
        other = [row for row in rows if row[1] != row[2]]
        far = [row for row in other if course.margin(*row) > NEAR_TIE[self.precision]]
        error = inf if far else len(other) / len(rows)
        distinct = len(set(course.expected_strings))
        note = f"{len(rows)} sentences, {distinct} distinct strings, {len(other)} near-ties"
        if far:
            note = f"{far[0][0]!r}: got {far[0][1]!r}, expected {far[0][2]!r}"
        yield self.check("strings", "strings", error, PARTED[self.precision], note=note)
