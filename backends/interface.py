"""The interface of every backend. It takes NumPy arrays, and returns NumPy arrays or plain numbers.

With it stand a group of workers, which a backend may train in, and what it counts.

All shapes are promised here: N rows, T_enc and T_dec time steps, V_enc and V_dec characters, H = latent_dim units.
Floating-point arrays have the model's dtype.
"""

import os
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from pkgutil import resolve_name
from time import perf_counter
from typing import Annotated, Any, SupportsFloat, TypeVar, final
from zlib import crc32

import msgspec
import numpy as np
from numpy.typing import NDArray

from backends.beam import BeamSearch
from common.errors import CannotBeginError
from common.run import RunDirectory
from common.settings import FLUSH_DENORMALS, ModelConfig, TrainConfig
from common.tensors import Array, Batch, Batches, CharVocabulary, Ids, max_decoded_length
from common.weights import Arrays, ModelState

REPORT_SECONDS = 0.2  # at least, between two calls of `report`; each one reads a loss back from the framework

Report = Callable[[int, float], bool | None]  # takes the step, counted from 1, and its loss; true ends the training
Emit = Callable[..., None]  # sends an event, given as keyword arguments, to the process that called
Loss = TypeVar("Loss", bound=SupportsFloat)  # a framework's scalar
Counts = TypeVar("Counts")  # a framework's vector of three numbers
Lengths = TypeVar("Lengths")  # a framework's vector (N,)
Sum = Callable[[NDArray[np.float64]], NDArray[np.float64]]


def unreported(step: int, loss: float) -> None:
    """A Report that does nothing, and so lets the training go on."""


def report_is_due(reported: float) -> bool:
    """True if REPORT_SECONDS have passed since the last report, or the first step's start, at `reported`."""
    return perf_counter() - reported >= REPORT_SECONDS


@dataclass(frozen=True, eq=False)
class Forward:
    """The model's outputs for a batch."""

    probabilities: Array  # (N, T_dec, V_dec)
    state_h: Array  # (N, H), of the encoder
    state_c: Array  # (N, H)


# The fields of Metrics that are added up over the workers of a group.
COUNTED = ("loss_sums", "weight_sums", "real_positions", "correct", "correct_real")


@dataclass(frozen=True, eq=False)
class Metrics:
    """Counts of each step. The sums over all steps give the loss and the accuracy of the epoch."""

    loss_sums: NDArray[np.float64]  # (steps,) sum of weight x cross-entropy over a batch's target positions
    weight_sums: NDArray[np.float64]  # (steps,) sum of these weights
    correct: NDArray[np.float64]  # (steps,) sum of the weights where the most probable character is right
    correct_real: NDArray[np.float64]  # (steps,) the same over real positions alone; NaN where not counted
    real_positions: NDArray[np.float64]  # (steps,) number of target positions up to and with "\n"
    step_seconds: NDArray[np.float64]  # (steps,) duration of each step, from the end of the step before
    seconds: float  # from the first step's start to the moment when all counts are read back

    @classmethod
    def of(
        cls, counts: NDArray[np.floating], sums: Sequence[tuple[float, float]], stamps: Sequence[float]
    ) -> "Metrics":
        """The metrics of what a framework counted: `counts` (steps, 3) holds loss_sums, correct and correct_real.

        `sums` (steps, 2) are those of the batches, see `Batch.sums`. `stamps` (steps + 2,) are readings of
        perf_counter: at the start of the first step, when the loss of each step was read, and when all counts were
        read.
        """
        loss_sums, correct, correct_real = counts.astype(np.float64).T
        weight_sums, real_positions = np.array(sums, np.float64).reshape(-1, 2).T
        step_seconds, seconds = np.diff(stamps[:-1]), stamps[-1] - stamps[0]
        return cls(loss_sums, weight_sums, correct, correct_real, real_positions, step_seconds, seconds)

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
    report: Report = unreported,
) -> Metrics:
    """Run `step` on each batch and time it, in the same way for every backend.

    `step` returns the loss of a batch and, in a vector (3,) of the framework's own, the counts that Metrics.of takes.
    Once all steps are done, `read` makes an array (steps, 3) of these vectors. `report` is called at the end of the
    first step after each REPORT_SECONDS; where it returns true, no further batch is taken.
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
            ends = report(number, loss)
            reported = perf_counter()
        stamps.append(perf_counter())
        if ends:
            break
    return Metrics.of(read(counts), sums, [*stamps, perf_counter()])


def flush_denormals() -> bool:
    """True if the backend in this process shall treat denormal numbers as zero, where its framework can."""
    return os.environ.get(FLUSH_DENORMALS) == "1"


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


@dataclass(frozen=True)
class Group:
    """A worker's place among the workers, and how their framework adds up what they count."""

    rank: int  # of this worker, counted from 0; the first worker writes the run
    size: int  # number of workers
    sum: Sum  # takes each worker's array, all of one shape, and gives every worker their sum

    def agree(self, *parts: bytes) -> None:
        """Raise CannotBeginError in every worker unless all of them call this with the same bytes."""
        digest = 0
        for part in parts:
            digest = crc32(part, digest)
        digests = np.zeros(self.size)
        digests[self.rank] = digest
        if len(distinct := set(self.sum(digests))) > 1:
            raise CannotBeginError(
                f"the {self.size} workers were started with {len(distinct)} different states or settings; give all "
                "of them the same options, the same corpus and, with --resume, the same run"
            )


NO_GROUP = Group(rank=0, size=1, sum=lambda array: array)


@dataclass(frozen=True)
class Characters:
    """The characters of a run, by which a backend reads and writes texts."""

    encoder: CharVocabulary
    decoder: CharVocabulary
    width: int  # to which texts are padded, as in training; padded further, they would translate differently
    max_length: int  # of a translation


class Backend(ABC):
    """The encoder-decoder in one framework. It is built with weights of its own; call `load` before using it.

    In a group, `train` and `evaluate` share each batch out among the workers, and all workers must call them alike.
    Whatever else is asked, each worker does for itself.
    """

    framework: str  # what error messages call it
    # "module:function" for `save_native`, of the backend and a folder, and for `read_native`, of paths and settings;
    # "" where the framework has no format of its own.
    writer: str = ""
    reader: str = ""
    own_settings: Mapping[str, bool] = {}  # what a variant does otherwise, beside the facts' settings
    group: Group = NO_GROUP
    characters: Characters  # see `read_characters`

    def __init__(self, model: ModelConfig, train: TrainConfig, device: str = "cpu") -> None:
        """Build the model on `device`, "cpu" or "gpu".

        Raises CannotBeginError for a device that is not there, and for bucketed batches whose padding counts.
        """
        if device == "gpu" and not self.sees_gpu():
            raise CannotBeginError(f"{self.framework} sees no GPU here; use --device cpu")
        if train.batches == "bucketed" and model.padding != "mask":
            raise CannotBeginError(
                f"bucketed batches leave padding out, and padding {model.padding} lets it count; add --padding mask"
            )
        self.config = model
        self.train_config = train
        self.device = device
        self.build()

    @classmethod
    @abstractmethod
    def import_framework(cls) -> Any:
        """Import the framework, which may take seconds, and return the backend's own module."""

    @abstractmethod
    def sees_gpu(self) -> bool:
        """True if the framework can compute on a GPU here."""

    @abstractmethod
    def build(self) -> None:
        """Create the layers and the optimizer."""

    @abstractmethod
    def load(self, state: ModelState) -> None:
        """Set the weights and the optimizer slots, to the bit."""

    @abstractmethod
    def dump(self) -> ModelState:
        """Copies of the weights and the optimizer slots, to the bit."""

    @final
    def read_characters(self, run: RunDirectory) -> None:
        """Take the run's characters for those of the texts that are translated from now on."""
        longest = max_decoded_length(run.max_decoder_seq_length)
        self.characters = Characters(*run.vocabularies(), run.max_encoder_seq_length, longest)

    @final
    def save_native(self, folder: Path) -> list[str]:
        """Write weights and slots into `folder` as this framework's users keep them, and return the files' names.

        Raises CannotBeginError where there is no such format.
        """
        files: list[str] = self._native(self.writer)(self, folder)
        return files

    @final
    def read_native(self, paths: Sequence[Path]) -> ModelState:
        """Read weights and slots, to the bit, from such files. Anybody may have written them; nothing in them is run.

        The first path is the model's file. The second is the optimizer's, where the framework has a separate one;
        without it the slots become zero. The model in the files has this backend's vocabularies and precision, and
        any number of units. Raises RosettaError for files that are damaged or of another model, and CannotBeginError
        where there is no such format.
        """
        state: ModelState = self._native(self.reader)(paths, self.config)
        return state

    def _native(self, name: str) -> Callable[..., Any]:
        if not name:
            raise CannotBeginError(
                f"{self.framework} has no format of its own; name keras, torch or paddle (numpy can open any run)"
            )
        function: Callable[..., Any] = resolve_name(name)
        return function

    @abstractmethod
    def forward(self, batch: Batch) -> Forward:
        """The probabilities and the encoder's states for a batch."""

    @abstractmethod
    def gradients(self, batch: Batch) -> tuple[float, Arrays]:
        """The batch's loss, sum(weight x cross-entropy) / loss_positions, and its gradient for each weight."""

    @abstractmethod
    def train(self, batches: Batches, report: Report) -> Metrics:
        """Take one optimizer step for each batch. Calls `report` whenever REPORT_SECONDS have passed.

        Where `report` returns true, the metrics are those of the steps up to then.
        """

    @abstractmethod
    def evaluate(self, batches: Batches) -> Metrics:
        """Count and time the same, without optimizer steps."""

    @abstractmethod
    def translate(self, encoder_ids: Ids, encoder_lengths: Ids, max_length: int) -> Ids:
        """Decode all rows at once, greedily, with the framework's own operators.

        Takes encoder_ids (N, T_enc) and encoder_lengths (N,). Returns ids (N, L) with L <= max_length: each row ends
        with "\\n", which also fills it up, or is cut at max_length.
        """

    @abstractmethod
    def beam_search(self, encoder_ids: Ids, encoder_lengths: Ids, search: BeamSearch) -> None:
        """Run the decoder's steps that `search` asks for, from the encoder's states (N, H) on, until it has ended.

        Takes encoder_ids (N, T_enc) and encoder_lengths (N,). In each step the states (R, H) are those of the last
        step, or in the first step the encoder's, at `search.rows` (R,); the decoder reads the characters
        `search.sampled` (R,); and `search.extend` is given the logits (R, V_dec), or log-probabilities.
        """

    def _lengths(self, encoder_lengths: Lengths) -> Lengths | None:
        """The lengths if padding is masked; None if padding counts, since the encoder then reads it to its end."""
        return encoder_lengths if self.config.padding == "mask" else None
