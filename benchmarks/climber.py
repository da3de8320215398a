"""The parity ladder: every backend against the float64 referee, rung by rung, in both precisions.

Each rung assumes the ones below it, so a backend stops at the first that breaks: there is the cause. The
comparison is a star and not a triangle: the referee is the NumPy backend in float64, and nobody is privileged.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from math import inf, sqrt
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from backends.process import BackendProcess
from backends.session import SECONDS_A_SENTENCE, TRAINING_SILENCE, Material, Runtime, prepare, silence
from benchmarks.ladder import hashes, packed, unpacked
from benchmarks.plan import BASELINE
from common.comparison import NEAR_TIE, PARTED, TOLERANCES, ParityError, compare
from common.config import DataConfig, TrainConfig
from common.decoding import max_decoded_length, text_of
from common.machine import describe_machine
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
    def cell(self) -> str:
        """The backend's name and precision."""
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


class Course:
    """What is climbed: text, weights, and what the referee says of them. A context manager: it has a process."""

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
        self.referee = self.start_numpy("float64")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.referee.close()

    def start(self, name: str, dtype: str) -> BackendProcess:
        """The process of a backend that climbs."""
        return self.runtime.start(name, replace(self.model, dtype=dtype), self.settings)

    def start_numpy(self, dtype: str) -> BackendProcess:
        """What the others are held to: NumPy, which computes on no GPU, in the interpreter that this runs in."""
        return Runtime(self.runtime.threads).start(REFEREE, replace(self.model, dtype=dtype), self.settings)

    def call(
        self, process: BackendProcess, function: str, dtype: str, state: ModelState, batch: Batch, **arguments: Any
    ) -> Mapping[str, Any]:
        """A function of `benchmarks.ladder`, with this state and batch in a precision."""
        fields = replace(batch, dtype=dtype).fields()
        block, rows = packed(in_dtype(state, dtype)), len(arguments.get("order", batch))
        return process.call(f"benchmarks.ladder:{function}", silence(rows), state=block, **fields, **arguments)

    def trajectory(self, process: BackendProcess, dtype: str, state: ModelState) -> Mapping[str, Any]:
        """Train from `state` along the course."""
        size = self.settings.batch_size
        return self.call(process, "steps", dtype, state, self.material.batch, order=self.order, batch_size=size)

    def strings(self, process: BackendProcess, dtype: str, num_sentences: int) -> list[str]:
        """The first sources decoded with fresh weights, which say something else of every sentence.

        The last one by itself, for which a backend may have another loop.
        """
        ids, lengths = self.material.encoder_vocabulary.encode(
            self.sources[:num_sentences], self.material.max_encoder_seq_length
        )
        state = packed(in_dtype(self.fresh, dtype))
        max_length = max_decoded_length(self.material.max_decoder_seq_length)
        decoded = [
            process.call(
                "benchmarks.ladder:strings",
                TRAINING_SILENCE + SECONDS_A_SENTENCE * len(ids[rows]),
                state=state,
                encoder_ids=ids[rows],
                encoder_lengths=lengths[rows],
                max_length=max_length,
            )["ids"]
            for rows in (slice(-1), slice(-1, None))
        ]
        return [text_of(row, self.material.decoder_vocabulary) for row in np.concatenate(decoded)]

    @cached_property
    def machine(self) -> dict[str, Any]:
        """What all of this runs on."""
        return describe_machine()

    @cached_property
    def sources(self) -> list[str]:
        """Distinct sources, spread over the corpus."""
        distinct = list(dict.fromkeys(source for source, _ in self.material.pairs))
        return distinct[:: max(1, len(distinct) // self.size.sentences)][: self.size.sentences]

    @cached_property
    def expected_trajectory(self) -> Mapping[str, Any]:
        return self.trajectory(self.referee, "float64", self.fresh)

    @cached_property
    def expected_forward(self) -> Mapping[str, Any]:
        return self.call(self.referee, "forward", "float64", self.probe, self.batch)

    @cached_property
    def expected_gradients(self) -> Mapping[str, Any]:
        return self.call(self.referee, "gradients", "float64", self.probe, self.batch)

    @cached_property
    def expected_step(self) -> ModelState:
        return self.one_step(self.referee, "float64")

    @cached_property
    def expected_strings(self) -> list[str]:
        return self.strings(self.referee, "float64", self.size.sentences)

    @cached_property
    def float32_errors(self) -> dict[str, float]:
        """How far NumPy's own float32 is from the referee, a tensor of the forward pass: what is normal."""
        with self.start_numpy("float32") as process:
            got = self.call(process, "forward", "float32", self.probe, self.batch)
        return {name: float(np.abs(got[name] - array).max()) for name, array in self.expected_forward.items()}

    def one_step(self, process: BackendProcess, dtype: str) -> ModelState:
        """The probe's state after a step on the batch."""
        rows = np.arange(len(self.batch))
        stepped = self.call(process, "steps", dtype, self.probe, self.batch, order=rows, batch_size=len(rows))
        return unpacked(stepped["state"])

    def margin(self, source: str, one: str, other: str) -> float:
        """`first_margin` by the referee with the fresh weights."""

        def probabilities(batch: Batch) -> NDArray[np.floating]:
            return np.asarray(self.call(self.referee, "forward", "float64", self.fresh, batch)["probabilities"])

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
    fields = material.batch.fields() | {"encoder_ids": encoder_ids, "encoder_lengths": lengths, "dtype": "float64"}
    batch = Batch(**fields | {"decoder_ids": decoder_ids, "decoder_lengths": decoder_lengths})
    second, first = np.sort(probabilities(batch)[0, step])[-2:]
    return float(first - second)


class Climber:
    """One backend on the course, with weights of one precision. `climb` gives its checks rung by rung."""

    def __init__(self, course: Course, process: BackendProcess, dtype: str) -> None:
        self.course, self.process, self.dtype = course, process, dtype
        self.precision: str = process.facts["precision"]  # that it computes in, which may be coarser
        self.tolerances = {name: bounds[self.precision] for name, bounds in TOLERANCES.items()}
        self.forward: Mapping[str, Any] = {}  # what the backend gave on its way
        self.gradients: Mapping[str, Any] = {}

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

    def call(self, function: str, state: ModelState, batch: Batch, **arguments: Any) -> Mapping[str, Any]:
        return self.course.call(self.process, function, self.dtype, state, batch, **arguments)

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
        got = self.process.call("benchmarks.ladder:tensors", silence(len(batch)), **batch.fields())
        for tensor, expected in hashes(batch).items():
            same = got[tensor] == expected
            yield self.check("tensors", tensor, 0.0 if same else inf, 0.0, note="" if same else "other bytes")

    def _weights(self) -> Iterator[Check]:
        self.went_in = in_dtype(self.course.probe, self.dtype)
        block = self.process.call("benchmarks.ladder:reload", TRAINING_SILENCE, state=packed(self.went_in))["state"]
        self.came_out = unpacked(block)
        for kind, prefix in (("weights", ""), ("mean_squares", "rmsprop/")):
            for name, array in getattr(self.went_in, kind).items():
                got, expected = getattr(self.came_out, kind)[name], array.astype(np.float64)
                yield self.compared("weights", prefix + name, got, expected, 0.0)

    def _forward(self) -> Iterator[Check]:
        self.forward = self.call("forward", self.course.probe, self.course.batch)
        for name in ("state_h", "state_c", "probabilities"):  # as the one leads to the other
            expected, tolerance = self.course.expected_forward[name], self.forward_tolerance(name)
            yield self.compared("forward", name, self.forward[name], expected, tolerance)

    def _loss(self) -> Iterator[Check]:
        self.gradients = self.call("gradients", self.course.probe, self.course.batch)
        got, expected = (np.array(g["loss"]) for g in (self.gradients, self.course.expected_gradients))
        yield self.compared("loss", "loss", got, expected, self.tolerances["loss"], "relative", "float64")

    def _gradients(self) -> Iterator[Check]:
        for name in self.course.probe.weights:
            got, expected = self.gradients.get(name, np.nan), self.course.expected_gradients[name]
            yield self.compared("gradients", name, got, expected, self.tolerances["gradients"], "largest")

    def _step(self) -> Iterator[Check]:
        before, expected = self.course.probe, self.course.expected_step
        after = self.course.one_step(self.process, self.dtype)
        for name, weight in expected.weights.items():
            if self.precision == "float64":
                tolerance = 1e-10 * float(np.abs(weight - before.weights[name]).max())
            else:
                # The most by which RMSprop can stretch a gradient's error, that of the first step.
                stretch = self.course.settings.learning_rate / sqrt(self.course.settings.epsilon)
                error = float(np.abs(self.gradients[name] - self.course.expected_gradients[name]).max())
                tolerance = stretch * error + 2 * float(np.spacing(np.float32(np.abs(before.weights[name]).max())))
            yield self.compared("step", name, after.weights[name], weight, tolerance)
        for name, slot in expected.mean_squares.items():
            got, tolerance = after.mean_squares[name], self.tolerances["slots"]
            yield self.compared("step", f"rmsprop/{name}", got, slot, tolerance, "largest")

    def _trajectory(self) -> Iterator[Check]:
        course, expected = self.course, self.course.expected_trajectory["losses"]
        got = course.trajectory(self.process, self.dtype, course.fresh)["losses"]
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
                means.append(course.trajectory(self.process, self.dtype, state)["losses"].mean())
            spread = float(np.std(means, ddof=1))
            error = abs(float(got.mean() - expected.mean()))
            note = f"got {got.mean():.9f}, expected {expected.mean():.9f}; spread of its own runs {spread:.1e}"
            yield self.check("trajectory", "mean loss", error, SPREADS * spread, note=note)

    def _strings(self) -> Iterator[Check]:
        course = self.course
        sources = course.sources[: 3 if self.process.name == BASELINE else None]
        got = course.strings(self.process, self.dtype, len(sources))
        rows = list(zip(sources, got, course.expected_strings, strict=False))
        other = [row for row in rows if row[1] != row[2]]
        far = [row for row in other if course.margin(*row) > NEAR_TIE[self.precision]]
        error = inf if far else len(other) / len(rows)
        distinct = len(set(course.expected_strings))
        note = f"{len(rows)} sentences, {distinct} distinct strings, {len(other)} near-ties"
        if far:
            note = f"{far[0][0]!r}: got {far[0][1]!r}, expected {far[0][2]!r}"
        yield self.check("strings", "strings", error, PARTED[self.precision], note=note)
