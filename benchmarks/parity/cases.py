"""The cases of parity: one text and one set of weights, which all backends share,
and a backend's arrays for them.

The reference is the NumPy backend in float64. Every backend is compared with it,
so no framework is taken as right.
"""

from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from threading import Lock, RLock
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from backends.process import timeout_for
from backends.process.group import new_group, require_memory, start_group
from backends.process.parent import BackendProcess, Runtime, Worker
from benchmarks.parity.stages_in_child import CORNERS, compute_stage
from common.corpus import prepare
from common.errors import RosettaError
from common.models import rectified_biases
from common.settings import (
    DataConfig,
    ModelConfig,
    ModelName,
    Order,
    Padding,
    Precision,
    TrainConfig,
)
from common.tensors import Batch, epoch_batches, model_config
from common.weights import ModelState, in_dtype, initial_state, permute_units

REFERENCE = "numpy"
# Settings of the optimizer other than the defaults,
# so that a backend that has the defaults built in is seen.
OPTIMIZER: dict[str, Any] = {"learning_rate": 5e-4, "rho": 0.8, "epsilon": 4e-7}
# Added to the output layer's bias of "\n";
# the first one with which enough of the texts end is taken.
STOP_BIASES = (0.0, *(2.0**power for power in range(-2, 9)))
# Factors of the weights that decode. With eight times its weights, NumPy's float32 moved a score of
# the Transformer's beams by 4e-4 and a framework's by 7e-3; with five times by 6e-5, and each
# sentence still has a text of its own.
LARGER, LARGER_WITH_RELU = 8, 5
ENDED = 0.5  # share of the decoded texts that end, at least; the batch loses rows by quarters
PERMUTED = "permuted"
ON_ONE_BATCH = ("weights", "forward", "gradients", "step")  # stages


@dataclass(frozen=True)
class Size:
    """Sizes of the comparisons."""

    num_samples: int  # pairs of the corpus, all of which are trained on
    steps: int  # training steps of the trajectory
    # Rows of the batch that the stages from weights to step use, and of a whole batch of others.
    batch_rows: int
    sentences: int  # number of decoded sentences
    # float32 trainings with permuted hidden units; if 0, only the first ten losses are compared
    permutations: int
    # Of these, keras:example decodes so many, since it takes seconds for each.
    sentences_of_example: int = 3


WHOLE = Size(num_samples=1500, steps=50, batch_rows=64, sentences=200, permutations=5)
QUICK = Size(
    num_samples=640, steps=10, batch_rows=32, sentences=50, permutations=0, sentences_of_example=2
)


@dataclass(frozen=True, eq=False)
class Case:
    """A request to a backend: to compute on these rows of a corpus with the weights of a state."""

    stage: str
    state: ModelState
    corpus: Batch
    rows: NDArray[np.int64]
    batch_size: int
    trimmed: bool = False  # whether each batch is only as wide as its longest rows

    @property
    def timeout(self) -> float:
        """Timeout of the request, in seconds; rows of `counts` are gone through twice."""
        count = len(self.rows)
        return timeout_for(sentences=count) if self.stage == "strings" else timeout_for(2 * count)


class StageArrays:
    """A backend's arrays by stage and name, with weights and tensors of one dtype.

    Its process computes a stage when it is first asked for; several threads may ask. The arrays of
    a state and the corpus are sent to the process once, and each later case refers to them by their
    numbers.
    """

    def __init__(
        self, process: BackendProcess, dtype: Precision, by_stage: dict[str, Case]
    ) -> None:
        self.process, self.dtype, self.by_stage = process, dtype, by_stage
        self._kept: dict[str, dict[str, NDArray[Any]]] = {}
        # What was sent, by its number: its `id`, which is its own as long as this holds it.
        self._sent: dict[int, NDArray[Any] | Batch] = {}
        self._asking = RLock()

    def __getitem__(self, stage: str) -> dict[str, NDArray[Any]]:
        with self._asking:
            if stage not in self._kept:
                self._kept[stage] = self.ask(self.by_stage[stage])
            return self._kept[stage]

    def ask(self, case: Case) -> dict[str, NDArray[Any]]:
        """Ask the backend; arrays by their names."""
        weights, slots = case.state.weights, case.state.mean_squares
        shared: list[NDArray[Any] | Batch] = [*weights.values(), *slots.values(), case.corpus]
        with self._asking:
            new = {id(thing): thing for thing in shared if id(thing) not in self._sent}
            self._sent |= new
            return self.process.call(
                compute_stage,
                None,
                case.timeout,
                stage=case.stage,
                new={number: self._converted(thing) for number, thing in new.items()},
                weights={name: id(array) for name, array in weights.items()},
                slots={name: id(array) for name, array in slots.items()},
                corpus=id(case.corpus),
                rows=case.rows,
                batch_size=case.batch_size,
                trimmed=case.trimmed,
            )

    def _converted(self, thing: NDArray[Any] | Batch) -> NDArray[Any] | Batch:
        """An array, or a corpus, in the precision of the backend."""
        if isinstance(thing, Batch):
            return replace(thing, dtype=self.dtype)
        return thing.astype(self.dtype, copy=False)


class Cases:
    """The cases of one padding and size, and NumPy's arrays for them:
    the reference's, and in float32.

    A context manager, since it starts processes and must end them. Several threads may use it.
    """

    def __init__(
        self,
        data: DataConfig,
        settings: TrainConfig,
        latent_dim: int,
        size: Size,
        runtime: Runtime,
        padding: Padding = "space",
        workers: int = 1,
        model: ModelName = ModelConfig.model,
    ) -> None:
        if workers > 1:
            require_memory(workers)
        # All of these pairs are trained on, so the split does not matter;
        # a small share might hold out no pair.
        data = replace(
            data, num_samples=size.num_samples, validation_split=DataConfig.validation_split
        )
        self.material = prepare(data, settings.seed, "float64", padding)
        # Trimming padding is right if it is masked.
        bucketed: Order = "bucketed" if padding == "mask" else "shuffled"
        self.settings = replace(settings, batches=bucketed)
        self.size, self.runtime = size, runtime
        # Number of those in the group that trains the trajectory, too; 1: there is none.
        self.workers = workers
        material = self.material
        self.model = model_config(
            material.batch, material.decoder_vocabulary, latent_dim, "float64", model
        )
        self.fresh = initial_state(self.model, settings.seed)
        self.probe = _disturbed(self.fresh, settings.seed)
        self.by_stage: dict[str, Case] = {}
        self._starting = Lock()
        self._started: list[BackendProcess] | None = []  # None: the comparison has ended
        self.reference = StageArrays(self._start_numpy("float64"), "float64", self.by_stage)
        # The errors of NumPy's float32 are normal ones.
        self.float32 = StageArrays(self._start_numpy("float32"), "float32", self.by_stage)
        self.by_stage |= self._cases()
        self.by_stage["strings"] = self._strings()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.end()

    def end(self) -> None:
        """End all processes of the comparison, those that are being started too;
        none is started from now on."""
        with self._starting:
            started, self._started = self._started or [], None
        for process in started:
            process.close()

    def _cases(self) -> dict[str, Case]:
        """Cases by stage; the loss is asked for together with its gradients.

        PERMUTED and a number is the trajectory with permuted hidden units.
        """
        corpus, size, pairs = self.material.batch, self.size, len(self.material.pairs)
        epochs = range(1, 2 + size.steps * self.settings.batch_size // pairs)
        batches = [
            epoch_batches(corpus, np.arange(pairs), self.settings, epoch) for epoch in epochs
        ]
        trained = np.concatenate([epoch.rows for epoch in batches])[
            : size.steps * self.settings.batch_size
        ]
        first = trained[: size.batch_rows]
        whole_and_smaller, two_and_smaller = (
            trained[: whole * size.batch_rows + size.batch_rows * 3 // 4] for whole in (1, 2)
        )
        for bias in rectified_biases(self.model):  # each changes what comes to the next
            self.probe = self._clear_of_corners(
                bias, Case(CORNERS, self.probe, corpus, first, len(first))
            )
        # Rows of a batch, which no number of workers divides; the last one has one.
        of_group = 2 * self.workers + 1
        decided = _decided(self.probe, corpus.take(first), self.model.stop_token)
        trajectory = Case(
            "trajectory", self.fresh, corpus, trained, self.settings.batch_size, batches[0].trimmed
        )
        rng = np.random.default_rng(self.settings.seed)
        permutations = (rng.permutation(self.model.latent_dim) for _ in range(self.permutations))
        asked = [
            Case("tensors", self.probe, corpus, two_and_smaller, size.batch_rows),
            *(Case(stage, self.probe, corpus, first, len(first)) for stage in ON_ONE_BATCH),
            trajectory,
            Case("group", self.fresh, corpus, trained[: size.steps * of_group + 1], of_group),
            Case("counts", decided, corpus, whole_and_smaller, size.batch_rows),
        ]
        permuted = [
            replace(trajectory, state=permute_units(self.fresh, self.model, units))
            for units in permutations
        ]
        of_permuted = {f"{PERMUTED} {number}": case for number, case in enumerate(permuted)}
        return {case.stage: case for case in asked} | of_permuted

    def _clear_of_corners(self, bias: str, case: Case) -> ModelState:
        """The case's state with a bias that keeps the numbers of its rows away
        from ReLU's corner, by 1e-3 or so.

        At the corner rounding decides whether a number has a gradient. One of 655,360 lay there, at
        1e-7, and gradients in float32 were off by 4.5e-4 of their largest number; without it by
        2e-6.
        """
        moved = case.state.weights[bias] - self.reference.ask(case)[bias]
        weights = case.state.weights | {bias: moved.astype(np.float32).astype(np.float64)}
        return ModelState(weights, case.state.mean_squares)

    def _strings(self) -> Case:
        """The case of decoding. Its weights are so large that each sentence has a translation of
        its own, by which mixed-up rows are seen, and texts end at different lengths, so that rows
        leave the batch."""
        larger = LARGER_WITH_RELU if rectified_biases(self.model) else LARGER
        weights = {name: larger * weight for name, weight in self.probe.weights.items()}
        bias, rows = weights["dense/bias"], self._sources()
        for more in STOP_BIASES:
            weights["dense/bias"] = bias + more * (np.arange(len(bias)) == self.model.stop_token)
            case = Case(
                "strings",
                ModelState(weights, self.probe.mean_squares),
                self.material.batch,
                rows,
                len(rows),
            )
            ended = (self.reference.ask(case)["ids"] == self.model.stop_token).any(1)  # (N,)
            if ended.mean() >= ENDED:
                break
        # A text that ends and one that does not come first, for who decodes few;
        # one that does not is decoded alone.
        ends, goes_on = np.flatnonzero(ended), np.flatnonzero(~ended)
        rest = np.setdiff1d(np.arange(len(rows)), [*ends[:1], *goes_on[:1], *goes_on[-1:]])
        return replace(case, rows=rows[[*ends[:1], *goes_on[:1], *rest, *goes_on[1:][-1:]]])

    def _sources(self) -> NDArray[np.int64]:
        """The rows of distinct sources to decode, spread evenly over the corpus."""
        first: dict[str, int] = {}
        for row, (source, _) in enumerate(self.material.pairs):
            first.setdefault(source, row)
        rows = list(first.values())
        return np.array(rows[:: max(1, len(rows) // self.size.sentences)][: self.size.sentences])

    def start(self, name: str, dtype: Precision) -> BackendProcess:
        """Start the process of a backend that is compared, without waiting until it is open."""
        return self._launch(name, dtype, self.runtime)

    def start_group(
        self, name: str, dtype: Precision
    ) -> AbstractContextManager[list[BackendProcess]]:
        """Start a group of workers of a backend."""
        workers = new_group(name, self.workers)
        return start_group(workers, lambda worker: self._launch(name, dtype, self.runtime, worker))

    def _start_numpy(self, dtype: Precision) -> BackendProcess:
        """Start a process of NumPy on the CPU and in this interpreter,
        whichever the compared backends run in."""
        return self._launch(REFERENCE, dtype, Runtime(self.runtime.threads))

    def _launch(
        self, name: str, dtype: Precision, runtime: Runtime, worker: Worker | None = None
    ) -> BackendProcess:
        with self._starting:
            if self._started is None:
                raise RosettaError(f"the comparison has ended, and {name} was not started")
            process = BackendProcess(
                name, replace(self.model, dtype=dtype), self.settings, runtime, worker
            )
            self._started.append(process)
            return process

    @property
    def permutations(self) -> int:
        """Number of float32 trainings with permuted hidden units; none for a model whose losses
        have a bound of their own."""
        return 0 if rectified_biases(self.model) else self.size.permutations

    @property
    def spread(self) -> float:
        """The standard deviation of the mean loss of NumPy's float32 training
        and of those with permuted units.

        They compute the same and differ by rounding alone.
        """
        trained = [stage for stage in self.by_stage if stage.startswith(("trajectory", PERMUTED))]
        return float(np.std([self.float32[stage]["losses"].mean() for stage in trained], ddof=1))

    def loss_error(self, stage: str, steps: int) -> float:
        """The largest relative error of the first losses of NumPy's float32 training."""
        errors = self.float32[stage]["losses"] / self.reference[stage]["losses"] - 1
        return float(np.abs(errors[:steps]).max())

    def margin(self, row: int, left: NDArray[np.int64], right: NDArray[np.int64]) -> float:
        """The margin of the best character over the second best where two translations (L,) of a
        row's source first differ, by the reference."""
        step, start = int((left != right).argmax()), self.model.start_token
        # The last one, a target, is not looked at.
        decoder_ids = np.array([[start, *left[:step], start]])
        lengths = np.array([decoder_ids.shape[1]], np.int32)
        source = replace(
            self.material.batch.take([row]), decoder_ids=decoder_ids, decoder_lengths=lengths
        )
        case = Case("forward", self.by_stage["strings"].state, source, np.arange(1), 1)
        second, first = np.sort(self.reference.ask(case)["probabilities"][0, step])[-2:]
        return float(first - second)


def _disturbed(state: ModelState, seed: int) -> ModelState:
    """The state with noise added: fresh biases and slots are constant,
    which would hide mistakes in their order.

    All numbers are rounded to float32, so that both precisions start from the same ones.
    """
    rng = np.random.default_rng(seed)
    weights, slots = {}, {}
    for name, weight in in_dtype(state, "float32").weights.items():
        weights[name] = weight + np.float32(0.02) * rng.standard_normal(weight.shape, np.float32)
        slots[name] = np.float32(1e-6) * rng.random(weight.shape, np.float32)
    return in_dtype(ModelState(weights, slots), "float64")


def _decided(state: ModelState, batch: Batch, stop_token: int) -> ModelState:
    """The state with an output layer that seldom has near-ties and is often right,
    on padding and at ends too.

    Its bias follows how often the batch has each target character, and "\n" counts as much as the
    most frequent one. With fresh weights one position in some seventy is right, which hides
    mistakes of counting.
    """
    bias = np.log(
        np.bincount(batch.decoder_target_ids.ravel(), minlength=batch.num_decoder_tokens) + 0.5
    )
    bias[stop_token] = bias.max()
    layer = {"dense/kernel": 32 * state.weights["dense/kernel"], "dense/bias": bias}
    return ModelState(state.weights | layer, state.mean_squares)
