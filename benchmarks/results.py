"""What a comparison found, as values and as a JSON file; every table is a function of this."""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from common.config import DataConfig, TrainConfig
from common.files import write_json

FORMAT = "rosetta-bench"
VERSION = 1
BASELINE = "keras:example"  # what every ratio is to


@dataclass(frozen=True)
class Row:
    """One backend's figures; loss and accuracies are those of the last epoch."""

    backend: str
    variant: str  # "" for the plain backend
    version: str
    threads: int
    train_seconds_per_epoch: float  # training steps alone; median of the epochs from the second on
    train_samples_per_second: float
    loss: float
    val_loss: float
    val_accuracy: float  # over all positions, padding included
    val_accuracy_real: float  # over real characters
    decode_sentences: int  # decoded in one call
    decode_sentences_per_second: float
    facts: dict[str, Any]  # what the backend's process reported of itself
    certificate: dict[str, Any] | None  # of parity, where one of this version was given; see benchmarks.parity
    epochs: list[dict[str, float]]  # of each: seconds, samples, loss, val_loss, val_accuracy, val_accuracy_real

    @property
    def name(self) -> str:
        return f"{self.backend}:{self.variant}" if self.variant else self.backend


@dataclass(frozen=True)
class Decoded:
    """One held-out sentence and what each backend makes of it."""

    source: str
    references: list[str]
    translations: dict[str, str]  # by NAME or NAME:VARIANT


@dataclass(frozen=True)
class Results:
    """A whole comparison."""

    machine: dict[str, Any]
    sha256: str  # of the corpus
    data: DataConfig
    settings: TrainConfig
    num_epochs: int
    rows: list[Row]
    decoded: list[Decoded]

    def ratio_to_baseline(self, row: Row) -> float | None:
        """How many times faster an epoch is than the official example's way; None where that was not run."""
        baseline = next((r.train_seconds_per_epoch for r in self.rows if r.name == BASELINE), None)
        return baseline / row.train_seconds_per_epoch if baseline else None

    def as_json(self) -> dict[str, Any]:
        return {"format": FORMAT, "version": VERSION} | asdict(self)

    def save(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_json(path, self.as_json())
