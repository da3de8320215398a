"""The file state.safetensors of a run: weights and slots after the last epoch, the best weights, and the history.

Only who reads or writes this file needs this module. Translating does that in a backend's process.
"""

import sys
from dataclasses import dataclass
from pathlib import Path

import msgspec

from common.errors import RosettaError
from common.files import read_at_most, write_atomically
from common.settings import LARGEST_INTEGER, ModelConfig, require
from common.weights import (
    SLOT_PREFIX,
    Arrays,
    ModelState,
    check_arrays,
    check_state,
    from_bytes,
    largest_block,
    prefixed,
    to_pieces,
    without_prefix,
    zeros_like,
)

BEST_PREFIX = "best/"  # of the best epoch's weights


@dataclass(frozen=True)
class Epoch:
    """The figures of one epoch."""

    epoch: int  # counted from 1
    loss: float
    val_loss: float
    accuracy: float
    val_accuracy: float
    val_accuracy_real: float
    seconds: float  # duration of the training steps, without validation
    backend: str  # that trained it

    def __post_init__(self) -> None:
        finite = (-sys.float_info.max, sys.float_info.max)
        require(self, epoch=(1, LARGEST_INTEGER), loss=finite, val_loss=finite)


class Progress(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The progress of training when a state was written; the metadata of the state's file."""

    step: int  # optimizer steps taken
    history: tuple[Epoch, ...]  # all epochs, in order

    def __post_init__(self) -> None:
        require(self, step=(0, LARGEST_INTEGER))
        if [epoch.epoch for epoch in self.history] != list(range(1, self.epoch + 1)):
            raise ValueError(f"expected one entry of the history for each of the epochs 1 to {self.epoch}")

    @property
    def epoch(self) -> int:
        """The number of the last epoch; 0 before the first one."""
        return len(self.history)

    @property
    def best(self) -> int:
        """The number of the epoch with the lowest validation loss; 0 before the first one."""
        return min(self.history, key=lambda epoch: epoch.val_loss).epoch if self.history else 0

    def at_best(self) -> "Progress":
        """The progress at the end of the best epoch. All epochs of a run have the same number of steps."""
        return Progress(self.step * self.best // (self.epoch or 1), self.history[: self.best])


@dataclass(frozen=True, eq=False)
class Checkpoint:
    """The content of state.safetensors."""

    state: ModelState  # after the last epoch
    best: Arrays  # weights after the best epoch; empty where a run was made of the weights of a later one alone
    progress: Progress

    def after(self, state: ModelState, steps: int, epoch: Epoch) -> "Checkpoint":
        """The checkpoint after one more epoch, of so many optimizer steps."""
        progress = Progress(self.progress.step + steps, (*self.progress.history, epoch))
        return Checkpoint(state, state.weights if progress.best == progress.epoch else self.best, progress)

    def to_pieces(self) -> list[bytes | memoryview]:
        """The bytes of the file, in pieces."""
        best = {} if self.progress.best == self.progress.epoch else self.best
        return to_pieces(self.state.arrays() | prefixed(BEST_PREFIX, best), msgspec.to_builtins(self.progress))

    def at_best(self) -> "Checkpoint":
        """The checkpoint at the end of the best epoch. Slots are zeros, unless the best epoch is the last one."""
        if self.progress.best == self.progress.epoch:
            return self
        return Checkpoint(ModelState(self.best, zeros_like(self.best)), self.best, self.progress.at_best())


def read_checkpoint(path: Path, config: ModelConfig) -> Checkpoint:
    """Read a checkpoint of a model of this size, in its precision.

    Raises OSError for a file that cannot be read, and RosettaError, ValueError and SafetensorError for a damaged one.
    """
    arrays, metadata = from_bytes(read_at_most(largest_block(config), path))
    progress = msgspec.convert(metadata, Progress)
    best, slots = without_prefix(BEST_PREFIX, arrays), without_prefix(SLOT_PREFIX, arrays)
    weights = {name: array for name, array in arrays.items() if not name.startswith((BEST_PREFIX, SLOT_PREFIX))}
    state = ModelState(weights, slots or zeros_like(weights))  # a run of weights alone has no slots
    check_state(state, config)
    if progress.best == progress.epoch:
        best = weights
    elif best:
        check_arrays("best weight", best, config)
    return Checkpoint(state, best, progress)


def write_checkpoint(path: Path, checkpoint: Checkpoint, config: ModelConfig) -> None:
    """Write a checkpoint in place of the last one. Raises RosettaError for one that could not be read again."""
    check_state(checkpoint.state, config)
    pieces = checkpoint.to_pieces()
    if sum(memoryview(piece).nbytes for piece in pieces) > largest_block(config):
        raise RosettaError(
            f"{path.parent} cannot keep epoch {checkpoint.progress.epoch}: its history is too long to be read"
        )
    write_atomically(path, pieces)
