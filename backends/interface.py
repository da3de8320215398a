"""One class drives any model file: batches, timing, layouts and decoding.
A protocol says what such a file has.

A model file imports its framework and NumPy alone. Whatever differs between frameworks stands in
the model file, under the same name. All else takes NumPy arrays, and returns NumPy arrays or plain
numbers.

All shapes are promised here: N rows, T_enc and T_dec time steps, V_enc and V_dec characters, H =
latent_dim units. Floating-point arrays have the model's dtype.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from functools import cached_property
from time import perf_counter
from typing import Annotated, Any, Protocol, SupportsFloat, TypeVar, final
from zlib import crc32

import msgspec
import numpy as np
from numpy.typing import NDArray

from backends.decoding import BeamSearch, GreedySearch
from common.errors import CannotBeginError
from common.models import model_of
from common.run import RunDirectory
from common.settings import ModelConfig, TrainConfig
from common.tensors import Array, Batch, Batches, CharVocabulary, Ids, max_decoded_length, one_hot
from common.weights import Arrays, ModelState, check_state

# At least, between two calls of `on_step`; each one reads a loss back from the framework.
REPORT_SECONDS = 0.2

# Takes the step, counted from 1, and its loss; true ends the training.
OnStep = Callable[[int, float], bool | None]
Emit = Callable[..., None]  # sends an event, given as keyword arguments, to the process that called
Loss = TypeVar("Loss", bound=SupportsFloat)  # a framework's scalar
Counts = TypeVar("Counts")  # a framework's vector of three numbers
Tensor = Any  # a framework's own array


def unreported(step: int, loss: float) -> None:
    """A Report that does nothing, and so lets the training go on."""


def report_is_due(reported: float) -> bool:
    """True if REPORT_SECONDS have passed since the last report,
    or the first step's start, at `reported`."""
    return perf_counter() - reported >= REPORT_SECONDS


# The fields of Metrics that are added up over the workers of a group.
COUNTED = ("loss_sums", "weight_sums", "real_positions", "correct", "correct_real")


@dataclass(frozen=True, eq=False)
class Metrics:
    """Counts of each step. The sums over all steps give the loss and the accuracy of the epoch."""

    # (steps,) sum of weight x cross-entropy over a batch's target positions
    loss_sums: NDArray[np.float64]
    weight_sums: NDArray[np.float64]  # (steps,) sum of these weights
    # (steps,) sum of the weights where the most probable character is right
    correct: NDArray[np.float64]
    # (steps,) the same over real positions alone; NaN where not counted
    correct_real: NDArray[np.float64]
    real_positions: NDArray[np.float64]  # (steps,) number of target positions up to and with "\n"
    # (steps,) duration of each step, from the end of the step before
    step_seconds: NDArray[np.float64]
    seconds: float  # from the first step's start to the moment when all counts are read back

    @classmethod
    def of(
        cls,
        counts: NDArray[np.floating],
        sums: Sequence[tuple[float, float]],
        stamps: Sequence[float],
    ) -> "Metrics":
        """The metrics of what a framework counted: `counts` (steps, 3)
        holds loss_sums, correct and correct_real.

        `sums` (steps, 2) are those of the batches, see `Batch.sums`. `stamps` (steps + 2,) are
        readings of perf_counter: at the start of the first step, when the loss of each step was
        read, and when all counts were read.
        """
        loss_sums, correct, correct_real = counts.astype(np.float64).T
        weight_sums, real_positions = np.array(sums, np.float64).reshape(-1, 2).T
        step_seconds, seconds = np.diff(stamps[:-1]), stamps[-1] - stamps[0]
        return cls(
            loss_sums, weight_sums, correct, correct_real, real_positions, step_seconds, seconds
        )

    @property
    def loss(self) -> float:
        """Mean cross-entropy of a target position, in nats."""
        return float(self.loss_sums.sum() / self.weight_sums.sum())

    @property
    def accuracy(self) -> float:
        """Share of target positions that are right, padding included, as the example counts."""
        return float(self.correct.sum() / self.weight_sums.sum())

    @property
    def accuracy_real(self) -> float:
        """Share of real target positions that are right, so without padding."""
        return float(self.correct_real.sum() / self.real_positions.sum())

    @property
    def step_losses(self) -> NDArray[np.float64]:
        """(steps,) mean loss of each batch."""
        return np.asarray(self.loss_sums / self.weight_sums)


def timed_steps(
    step: Callable[[Batch], tuple[Loss, Counts]],
    batches: Batches,
    read: Callable[[list[Counts]], Array],
    on_step: OnStep = unreported,
) -> Metrics:
    """Run `step` on each batch and time it, in the same way for every backend.

    `step` returns the loss of a batch and, in a vector (3,) of the framework's own, the counts that
    Metrics.of takes. Once all steps are done, `read` makes an array (steps, 3) of these vectors.
    `on_step` is called at the end of the first step after each REPORT_SECONDS; where it returns
    true, no further batch is taken.
    """
    counts, sums, stamps = [], [], [perf_counter()]
    reported = stamps[0]
    for number, batch in enumerate(batches, 1):
        scalar, batch_counts = step(batch)
        loss = float(scalar)  # waits until the step is done; some frameworks return before
        counts.append(batch_counts)
        sums.append(batch.sums)
        ends = None
        if report_is_due(reported):
            ends = on_step(number, loss)
            reported = perf_counter()
        stamps.append(perf_counter())
        if ends:
            break
    return Metrics.of(read(counts), sums, [*stamps, perf_counter()])


Integer = Annotated[int, msgspec.Meta(ge=-(2**62), le=2**62)]  # that JSON keeps


@dataclass(frozen=True)
class BackendFacts:
    """Facts of an open backend and its process."""

    version: str
    device: str
    threads: Integer
    precision: str  # of the weights
    settings: dict[str, bool | Integer | float | str]  # the framework's own names and values
    import_seconds: Annotated[float, msgspec.Meta(ge=0, le=1e9)]
    build_seconds: Annotated[float, msgspec.Meta(ge=0, le=1e9)]
    python: str  # path of the interpreter
    python_version: str
    os_threads: Integer  # number of threads of the process


class ModelFile(Protocol):
    """The names of a model file, the same in every framework, in the order of the file."""

    # Ends with the framework's name, "_", and "model" or, of a further model, its name.
    __name__: str
    # Of its sizes, see common.models: the model, with weights of its own, which `named_weights()`
    # returns by their canonical names.
    Seq2Seq: Any
    Batch: Any  # a NamedTuple of tensors, whose fields are attributes of common.tensors.Batch

    def has_gpu(self) -> bool:
        """True if the framework sees a GPU."""

    def prepare(self, dtype: str, device: str) -> None:
        """Make models of this precision, "float32" or "float64",
        on this device, "cpu" or "gpu", from now on."""

    def layout(self, name: str, array: Array) -> Array:
        """A weight in the framework's layout, given in the canonical one,
        gates in the order i, f, c, o.

        It is its own inverse, unless the file has a function `canonical` for the way back.
        """

    def loss_of(self, logits: Tensor, batch: Any) -> tuple[Tensor, Tensor]:
        """From logits (N, T_dec, V_dec) the loss and its counts (3,), which Metrics.of takes."""

    # Of (model, learning_rate, rho, epsilon);
    # its `mean_squares` stand in the order of named_weights.
    RMSprop: Any

    def gradients(self, model: Any, batch: Any) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
        """The loss, its counts (3,), and the gradient of each weight by its name."""

    def train_step(self, model: Any, optimizer: Any, batch: Any) -> tuple[Tensor, Tensor]:
        """The loss and its counts (3,) before the step, which is done when the loss can be read."""

    def evaluate_step(self, model: Any, batch: Any) -> tuple[Tensor, Tensor]:
        """The loss and its counts (3,)."""

    def forward(self, model: Any, batch: Any) -> Sequence[Tensor]:
        """Probabilities (N, T_dec, V_dec) and the encoder's states,
        rows first, in the order of common.models."""

    def start(
        self, model: Any, encoder_input_data: Tensor, encoder_lengths: Tensor | None
    ) -> Sequence[Tensor]:
        """The states from which decoding starts, of (N, T_enc, V_enc)
        and, where padding is masked, (N,)."""

    def step(self, model: Any, decoder_input_data: Tensor, *states: Tensor) -> Sequence[Tensor]:
        """One character (N, V_dec) further: logits (N, V_dec),
        or log-probabilities, and the next states."""

    def take(self, state: Tensor, rows: Tensor) -> Tensor:
        """The rows of a state that `rows` (R,), of int64, name, in their order."""

    def assign(self, weight: Tensor, array: Array) -> None:
        """Set a weight in place, to an array of the framework's layout
        and the model's precision."""

    def to_tensor(self, array: NDArray[Any]) -> Tensor:
        """The array's numbers on the device; the array has the model's precision or is of int64."""

    def to_array(self, tensor: Tensor) -> NDArray[Any]:
        """A copy of the tensor's numbers."""


class Group(ABC):
    """A worker's place among the workers, and how their framework trains together.

    All workers train and evaluate alike. Whatever else is asked, each worker does for itself.
    """

    def __init__(self, file: ModelFile, rank: int = 0, size: int = 1) -> None:
        self.file = file
        self.rank = rank  # of this worker, counted from 0; the first worker writes the run
        self.size = size  # number of workers

    @abstractmethod
    def sum(self, array: NDArray[np.float64]) -> NDArray[np.float64]:
        """Take each worker's array, all of one shape, and give every worker their sum."""

    @abstractmethod
    def train_step(self, model: Any, optimizer: Any, batch: Any) -> tuple[Tensor, Tensor]:
        """The loss of the whole batch, of which each worker has a shard,
        and the shard's counts (3,)."""

    def scope(self) -> AbstractContextManager[Any]:
        """The context in which the model and its optimizer are made."""
        return nullcontext()

    @final
    def shards(self, batches: Batches) -> Batches:
        """This worker's shard of each batch."""
        return replace(batches, rank=self.rank, workers=self.size)

    @final
    def total(self, metrics: Metrics) -> Metrics:
        """The sums over all workers of what each has counted, with this worker's times."""
        sums = self.sum(np.stack([getattr(metrics, name) for name in COUNTED]))
        return replace(metrics, **dict(zip(COUNTED, sums, strict=True)))

    @final
    def agree(self, *parts: bytes) -> None:
        """Raise CannotBeginError in every worker unless all
        of them call this with the same bytes."""
        digests = np.zeros(self.size)
        digests[self.rank] = crc32(b"".join(parts))
        if len(distinct := set(self.sum(digests))) > 1:
            raise CannotBeginError(
                f"the {self.size} workers were started with {len(distinct)} different states or "
                "settings; give all of them the same options, the same corpus and, with --resume, "
                "the same run"
            )


@final
class Alone(Group):
    """A worker that trains alone."""

    def sum(self, array: NDArray[np.float64]) -> NDArray[np.float64]:
        return array

    def train_step(self, model: Any, optimizer: Any, batch: Any) -> tuple[Tensor, Tensor]:
        return self.file.train_step(model, optimizer, batch)


@dataclass(frozen=True)
class Characters:
    """The characters of a run, by which a backend reads and writes texts."""

    encoder: CharVocabulary
    decoder: CharVocabulary
    # To which texts are padded, as in training; padded further, they would translate differently.
    width: int
    max_length: int  # of a translation


class Backend:
    """The encoder-decoder in one framework. It is built with weights of its own;
    call `load` before using it."""

    # What a variant does otherwise, beside the facts' settings.
    own_settings: Mapping[str, bool] = {}
    characters: Characters  # see `read_characters`
    # In a process of its own.
    seconds_to_open: Mapping[str, float] = {"import_seconds": 0.0, "build_seconds": 0.0}

    def __init__(
        self,
        file: ModelFile,
        model: ModelConfig,
        train: TrainConfig,
        device: str = "cpu",
        join: Callable[[ModelFile], Group] = Alone,
    ) -> None:
        """Build the model on `device`, "cpu" or "gpu".
        `join` waits until all workers of the group have joined.

        Raises CannotBeginError for a device that is not there,
        and for bucketed batches whose padding counts.
        """
        # Keras of keras_model, keras_example.
        self.framework = file.__name__.rpartition(".")[2].partition("_")[0]
        if device == "gpu" and not file.has_gpu():
            raise CannotBeginError(f"{self.framework} sees no GPU here; use --device cpu")
        if train.batches == "bucketed" and model.padding != "mask":
            raise CannotBeginError(
                f"bucketed batches leave padding out, and padding {model.padding} lets it count; "
                "add --padding mask"
            )
        self.file, self.config, self.train_config, self.device = file, model, train, device
        self.canonical = getattr(file, "canonical", file.layout)
        file.prepare(model.dtype, device)
        self.group = join(file)
        with self.group.scope():
            self.model = file.Seq2Seq(*model_of(model).sizes(model))

    @cached_property
    def optimizer(self) -> Any:
        """The model file's RMSprop, made when it is first asked for,
        since translating needs none."""
        train = self.train_config
        with self.group.scope():
            return self.file.RMSprop(self.model, train.learning_rate, train.rho, train.epsilon)

    def weights(self) -> dict[str, Tensor]:
        """The framework's tensors of the weights."""
        weights: dict[str, Tensor] = self.model.named_weights()
        return weights

    def mean_squares(self) -> dict[str, Tensor]:
        """The framework's tensors of RMSprop's slots."""
        return dict(zip(self.weights(), self.optimizer.mean_squares, strict=True))

    def load(self, state: ModelState) -> None:
        """Set the weights and the optimizer slots, to the bit."""
        self.load_weights(state)
        self._assign(self.mean_squares(), state.mean_squares)

    def load_weights(self, state: ModelState) -> None:
        """Set the weights alone, to the bit."""
        check_state(state, self.config)
        self._assign(self.weights(), state.weights)

    def _assign(self, tensors: dict[str, Tensor], arrays: Arrays) -> None:
        for name, tensor in tensors.items():
            self.file.assign(tensor, self.file.layout(name, arrays[name]))

    def dump(self) -> ModelState:
        """Copies of the weights and the optimizer slots, to the bit."""
        return ModelState(self._arrays(self.weights()), self._arrays(self.mean_squares()))

    def _arrays(self, tensors: dict[str, Tensor]) -> Arrays:
        return {
            name: self.canonical(name, self.file.to_array(tensor))
            for name, tensor in tensors.items()
        }

    def read_characters(self, run: RunDirectory) -> None:
        """Translate texts with the characters of this run from now on."""
        longest = max_decoded_length(run.max_decoder_seq_length)
        self.characters = Characters(*run.vocabularies, run.max_encoder_seq_length, longest)

    def forward(self, batch: Batch) -> dict[str, Array]:
        """The "probabilities" (N, T_dec, V_dec) for a batch,
        and the encoder's states by their names."""
        outputs = map(self.file.to_array, self.file.forward(self.model, self._tensors(batch)))
        return dict(zip(("probabilities", *model_of(self.config).states), outputs, strict=True))

    def gradients(self, batch: Batch) -> tuple[float, Arrays]:
        """The batch's loss, sum(weight x cross-entropy) / loss_positions,
        and its gradient for each weight."""
        loss, _, gradients = self.file.gradients(self.model, self._tensors(batch))
        return float(loss), self._arrays(gradients)

    def train(self, batches: Batches, on_step: OnStep) -> Metrics:
        """Take one optimizer step for each batch.
        Calls `on_step` whenever REPORT_SECONDS have passed.

        Where `on_step` returns true, the metrics are those of the steps up to then. In a group no
        worker stops before the last batch: the workers report at different steps and must take
        equally many.
        """

        def heard(step: int, loss: float) -> bool:
            return bool(on_step(step, loss)) and self.group.size == 1

        shards = self.group.shards(batches)
        return self.group.total(
            timed_steps(
                lambda batch: self._train_step(self._tensors(batch)), shards, self._stacked, heard
            )
        )

    def _train_step(self, batch: Any) -> tuple[Tensor, Tensor]:
        return self.group.train_step(self.model, self.optimizer, batch)

    def evaluate(self, batches: Batches) -> Metrics:
        """Count and time the same, without optimizer steps."""

        def step(batch: Batch) -> tuple[Tensor, Tensor]:
            return self.file.evaluate_step(self.model, self._tensors(batch))

        return self.group.total(timed_steps(step, self.group.shards(batches), self._stacked))

    def translate(self, encoder_ids: Ids, encoder_lengths: Ids, max_length: int) -> Ids:
        """Decode all rows at once, greedily, with the framework's own operators.

        Takes encoder_ids (N, T_enc) and encoder_lengths (N,). Returns ids (N, L) with L <=
        max_length: each row ends with "\\n", which also fills it up, or is cut at max_length.
        """
        search = GreedySearch(len(encoder_ids), self.config, max_length)
        self.decode(encoder_ids, encoder_lengths, search)
        return search.ids

    def decode(
        self, encoder_ids: Ids, encoder_lengths: Ids, search: GreedySearch | BeamSearch
    ) -> None:
        """Run the decoder's steps that `search` asks for,
        from the encoder's states on, until it has ended.

        Takes encoder_ids (N, T_enc) and encoder_lengths (N,). In each step the states are those of
        the last step, or in the first step the encoder's, at `search.rows` (R,); the decoder reads
        the characters `search.sampled` (R,); and `search.extend` is given the logits (R, V_dec), or
        log-probabilities.
        """
        file, config = self.file, self.config
        characters = one_hot(
            np.arange(config.num_decoder_tokens), config.num_decoder_tokens, config.dtype
        )
        data = self._tensor(one_hot(encoder_ids, config.num_encoder_tokens, config.dtype))
        states = [*file.start(self.model, data, self._lengths(encoder_lengths))]
        while not search.ended:
            if search.rows is not None:
                rows = self._tensor(search.rows)
                states = [file.take(state, rows) for state in states]
            logits, *states = file.step(
                self.model, file.to_tensor(characters[search.sampled]), *states
            )
            search.extend(file.to_array(logits))

    def _tensors(self, batch: Batch) -> Any:
        """The model file's Batch."""
        names = [name for name in self.file.Batch._fields if name != "encoder_lengths"]
        tensors = {name: self._tensor(getattr(batch, name)) for name in names}
        return self.file.Batch(**tensors, encoder_lengths=self._lengths(batch.encoder_lengths))

    def _lengths(self, encoder_lengths: Ids) -> Tensor | None:
        """The lengths if padding is masked; None if padding counts,
        since the encoder then reads it to its end."""
        return self._tensor(encoder_lengths) if self.config.padding == "mask" else None

    def _tensor(self, array: NDArray[Any]) -> Tensor:
        return self.file.to_tensor(array.astype(np.int64) if array.dtype.kind in "iu" else array)

    def _stacked(self, counts: list[Tensor]) -> Array:
        return np.stack([self.file.to_array(vector) for vector in counts])
