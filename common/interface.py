"""The one interface. NumPy in, NumPy or plain numbers out; every shape is promised here.

N rows, T_enc and T_dec time steps, V_enc and V_dec characters, H = latent_dim; floats are of the model's dtype.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import SupportsFloat, TypeVar

import numpy as np
from numpy.typing import NDArray

from common.config import ModelConfig, TrainConfig
from common.errors import CannotBeginError
from common.evidence import Evidence
from common.tensors import Batch, Batches
from common.weights import Arrays, ModelState

REPORT_SECONDS = 0.2  # at least, between two calls of `report`; each one reads a loss back from the framework

Report = Callable[[int, float], None]  # step counted from 1, the loss of that step
Loss = TypeVar("Loss", bound=SupportsFloat)  # a framework's scalar
Counts = TypeVar("Counts")  # a framework's vector of three numbers


def unreported(step: int, loss: float) -> None:
    """A Report that nobody reads."""


@dataclass(frozen=True, eq=False)
class Forward:
    """What the model says of a batch."""

    probabilities: NDArray[np.floating]  # (N, T_dec, V_dec)
    state_h: NDArray[np.floating]  # (N, H), the encoder's
    state_c: NDArray[np.floating]  # (N, H)


@dataclass(frozen=True, eq=False)
class Metrics:
    """What was counted, step by step; the sums over all steps give the epoch's figures."""

    loss_sums: NDArray[np.float64]  # (steps,) sum of weight x cross-entropy over a batch's target positions
    weight_sums: NDArray[np.float64]  # (steps,) sum of the weights
    correct: NDArray[np.float64]  # (steps,) weight of the positions whose most probable character is right
    correct_real: NDArray[np.float64]  # (steps,) such positions among the real ones; NaN where not counted
    real_positions: NDArray[np.float64]  # (steps,) positions up to and with "\n"
    step_seconds: NDArray[np.float64]  # (steps,) from one step's end (the first one's: its start) to the next
    seconds: float  # from the first step's start to the moment when all counts are read back

    @classmethod
    def of(cls, counts: NDArray[np.floating], batches: Batches, stamps: Sequence[float]) -> "Metrics":
        """From what a framework counted, (steps, 3): loss_sums, correct, correct_real.

        stamps (steps + 2,), of perf_counter: the first step's start, each step's end, and all counts read back. Where
        a framework returns before its device is done, a step ends when it returns.
        """
        loss_sums, correct, correct_real = counts.astype(np.float64).T
        weight_sums = np.array([batch.target_weights.sum() for batch in batches])
        real_positions = np.array([batch.real_positions.sum() for batch in batches])
        step_seconds, seconds = np.diff(stamps[:-1]), stamps[-1] - stamps[0]
        return cls(loss_sums, weight_sums, correct, correct_real, real_positions, step_seconds, seconds)

    @property
    def loss(self) -> float:
        """Mean cross-entropy a position, in nats."""
        return float(self.loss_sums.sum() / self.weight_sums.sum())

    @property
    def accuracy(self) -> float:
        """Share of right positions, padding included, as the example counts."""
        return float(self.correct.sum() / self.weight_sums.sum())

    @property
    def accuracy_real(self) -> float:
        """Share of right positions among real characters."""
        return float(self.correct_real.sum() / self.real_positions.sum())

    @property
    def step_losses(self) -> NDArray[np.float64]:
        """(steps,) mean loss of each batch."""
        return np.asarray(self.loss_sums / self.weight_sums)


def timed_steps(
    step: Callable[[Batch], tuple[Loss, Counts]],
    batches: Batches,
    read: Callable[[list[Counts]], NDArray[np.floating]],
    report: Report = unreported,
) -> Metrics:
    """Run `step` on each batch and time it, in the same way for every backend.

    `step` returns the batch's loss, and the framework's own (3,) of what Metrics.of counts; `read` stacks these over
    the steps as an array (steps, 3), once all steps are done. `report` is called at the end of the first step after
    each REPORT_SECONDS.
    """
    counts, stamps = [], [perf_counter()]
    reported = stamps[0]
    for number, batch in enumerate(batches, 1):
        loss, batch_counts = step(batch)
        counts.append(batch_counts)
        if perf_counter() - reported >= REPORT_SECONDS:
            report(number, float(loss))
            reported = perf_counter()
        stamps.append(perf_counter())
    all_counts = read(counts)
    return Metrics.of(all_counts, batches, [*stamps, perf_counter()])


@dataclass(frozen=True)
class BackendFacts:
    """What a backend's process tells of itself once it has opened the backend: see `Evidence.describe`, and more."""

    version: str
    device: str
    threads: int
    precision: str  # that it computes in
    settings: dict[str, bool | int | float | str]  # the framework's own names and values
    import_seconds: float
    build_seconds: float
    resident_before_import: int  # bytes, as the two below
    resident_after_import: int
    resident_after_build: int
    python: str  # path of the interpreter
    python_version: str
    libraries: list[str]  # for matrices and threads, as far as threadpoolctl knows them
    os_threads: int  # threads of the process


class Backend(ABC):
    """One framework's encoder-decoder. It is built with fresh weights of its own; `load` comes before use."""

    def __init__(self, model: ModelConfig, train: TrainConfig, device: str = "cpu", variant: str = "") -> None:
        """Build the model on `device`, "cpu" or "gpu"; a variant computes the same in another way than the plain one.

        Raises CannotBeginError for a device that is not there, and for bucketed batches of padding that counts.
        """
        if train.batches == "bucketed" and model.padding != "mask":
            raise CannotBeginError(
                f"bucketed batches leave padding out, and padding {model.padding} lets it count; add --padding mask"
            )
        self.config = model
        self.train_config = train
        self.device = device
        self.variant = variant
        self.build()

    @abstractmethod
    def build(self) -> None:
        """Create the layers, and the optimizer unless it is made when first needed."""

    @abstractmethod
    def load(self, state: ModelState) -> None:
        """Set weights and optimizer slots, bit for bit."""

    @abstractmethod
    def dump(self) -> ModelState:
        """Weights and optimizer slots, bit for bit, as copies."""

    @abstractmethod
    def save_native(self, folder: Path) -> list[str]:
        """Write both into `folder` as this framework's users keep them, and return the files' names.

        Raises CannotBeginError where there is no such format.
        """

    @abstractmethod
    def read_native(self, paths: Sequence[Path], latent_dim: int | None) -> ModelState:
        """Both, bit for bit, from such files, whoever wrote them; runs nothing that they hold.

        The model's file comes first, then the optimizer's where that is one of its own; without it the slots are
        zero. The model in the files has this backend's vocabularies and precision, and `latent_dim` units; None
        takes as many as it has. Raises RosettaError for files that are damaged or of another model.
        """

    @abstractmethod
    def forward(self, batch: Batch) -> Forward:
        """Probabilities and encoder states."""

    @abstractmethod
    def gradients(self, batch: Batch) -> tuple[float, Arrays]:
        """The batch's loss, sum(weight x cross-entropy) / loss_positions, and its gradient for each weight."""

    @abstractmethod
    def train(self, batches: Batches, report: Report) -> Metrics:
        """One optimizer step a batch; calls `report` when REPORT_SECONDS have passed since it last did."""

    @abstractmethod
    def evaluate(self, batches: Batches) -> Metrics:
        """The same figures without a step."""

    @abstractmethod
    def translate(
        self, encoder_ids: NDArray[np.integer], encoder_lengths: NDArray[np.integer], max_length: int
    ) -> NDArray[np.integer]:
        """Greedy decoding, all rows at once, by the framework's own operators.

        encoder_ids (N, T_enc), encoder_lengths (N,). Gives ids (N, L), L <= max_length: each row ends with "\\n",
        which also fills it up, or is cut at max_length.
        """

    @abstractmethod
    def beam_search(
        self, encoder_ids: NDArray[np.integer], encoder_lengths: NDArray[np.integer], max_length: int, beam: int
    ) -> tuple[NDArray[np.integer], NDArray[np.floating]]:
        """The `beam` most probable translations of each row that a beam search finds, the best first.

        Takes what `translate` takes. Gives ids (N, beam, L) as `translate` gives them, and scores (N, beam): the log
        of a translation's probability, or -inf where there are fewer translations than `beam`.
        """

    @abstractmethod
    def evidence(self) -> Evidence:
        """What the framework tells of itself."""
