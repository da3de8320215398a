"""Weights and optimizer slots in the canonical layout, which is Keras's: drawn from a seed, and
kept with the history of their training as safetensors."""

import json
import math
import sys
import zlib
from dataclasses import dataclass
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import load

from common.errors import RosettaError
from common.models import model_of, permute
from common.settings import LARGEST_INTEGER, ModelConfig, require
from common.text import printable

SLOT_PREFIX = "rmsprop/"
BEST_PREFIX = "best/"  # of the best epoch's weights
LARGEST_METADATA = 1 << 24  # bytes beside the arrays: the history of some 60,000 epochs

Arrays = dict[str, NDArray[np.floating]]


@dataclass(frozen=True, eq=False)
class ModelState:
    """All that training changes."""

    weights: Arrays  # by canonical name, see common.models
    mean_squares: Arrays  # RMSprop's running mean of squared gradients, by the same names

    def arrays(self) -> Arrays:
        """The weights by their names, and the slots by "rmsprop/NAME"."""
        return self.weights | prefixed(SLOT_PREFIX, self.mean_squares)


def zeros_like(weights: Arrays) -> Arrays:
    """Slots of an optimizer that has taken no step."""
    return {name: np.zeros_like(weight) for name, weight in weights.items()}


def prefixed(prefix: str, arrays: Arrays) -> Arrays:
    """The arrays by "PREFIX/NAME"."""
    return {prefix + name: array for name, array in arrays.items()}


def without_prefix(prefix: str, arrays: Arrays) -> Arrays:
    """The arrays whose names begin with the prefix, by the rest of their names."""
    return {
        name.removeprefix(prefix): array
        for name, array in arrays.items()
        if name.startswith(prefix)
    }


def initial_state(config: ModelConfig, seed: int) -> ModelState:
    """Weights as Keras draws them: Glorot uniform kernels,
    orthogonal recurrent kernels, forget bias one.

    Drawn in float64 and rounded to float32, so that both precisions start from the same numbers.
    """
    rng = np.random.default_rng(seed)
    weights = {
        name: weight.draw(rng, weight.shape)
        for name, weight in model_of(config).weights(config).items()
    }
    rounded: Arrays = {
        name: w.astype(np.float32).astype(config.dtype) for name, w in weights.items()
    }
    return ModelState(rounded, zeros_like(rounded))


def check_state(state: ModelState, config: ModelConfig) -> None:
    """Raise RosettaError unless weights and slots are as `check_arrays` wants them,
    and no slot is negative."""
    check_arrays("weight", state.weights, config)
    check_arrays("RMSprop slot", state.mean_squares, config)
    for name, slot in state.mean_squares.items():
        if (slot < 0).any():
            raise RosettaError(
                f"RMSprop slot {name} holds negative numbers, and it is a mean of squares"
            )


def check_arrays(kind: str, arrays: Arrays, config: ModelConfig) -> None:
    """Raise RosettaError unless every array has the name,
    shape and dtype that `config` promises, and is finite."""
    expected = model_of(config).weights(config)
    if arrays.keys() != expected.keys():
        names = ", ".join(sorted(arrays.keys() ^ expected.keys()))
        raise RosettaError(
            f"the {kind}s do not match the model: missing or unknown: {printable(names)}"
        )
    for name, (shape, *_) in expected.items():
        array = arrays[name]
        if array.shape != shape or array.dtype != config.dtype:
            raise RosettaError(
                f"{kind} {name} is {array.dtype} {array.shape}, expected {config.dtype} {shape}"
            )
        if not np.isfinite(array).all():
            raise RosettaError(
                f"{kind} {name} holds numbers that are not finite: training diverged"
            )


def permute_units(state: ModelState, config: ModelConfig, order: NDArray[np.integer]) -> ModelState:
    """The state of the same function with its hidden units in another order:
    `order` (H,) names their old positions.

    Encoder and decoder share the order, since the encoder's states start the decoder.
    """
    weights = model_of(config).weights(config)

    def permuted(arrays: Arrays) -> Arrays:
        return {name: permute(array, weights[name].axes, order) for name, array in arrays.items()}

    return ModelState(permuted(state.weights), permuted(state.mean_squares))


def to_pieces(arrays: Arrays, metadata: dict[str, Any]) -> list[bytes | memoryview]:
    """The bytes of a safetensors file, in pieces; `metadata` is beside the arrays as JSON,
    with a checksum of all.

    safetensors' own `save` copies all arrays,
    and scrambles the numbers of a transposed view (its issue 825).
    """
    arrays = {name: np.ascontiguousarray(array) for name, array in sorted(arrays.items())}
    checked = metadata | {"crc32": _crc32(arrays, metadata)}
    header: dict[str, Any] = {"__metadata__": {"rosetta": json.dumps(checked)}}
    begin = 0
    for name, array in arrays.items():
        end = begin + array.nbytes
        header[name] = {
            "dtype": f"F{8 * array.itemsize}",
            "shape": array.shape,
            "data_offsets": [begin, end],
        }
        begin = end
    encoded = json.dumps(header).encode()
    encoded += b" " * (-len(encoded) % 8)  # so that the numbers are aligned
    return [len(encoded).to_bytes(8, "little"), encoded, *(array.data for array in arrays.values())]


def from_bytes(block: bytes) -> tuple[Arrays, dict[str, Any]]:
    """The arrays and the metadata of a block.

    Raises SafetensorError, ValueError, LookupError or TypeError for a block that `to_pieces` did
    not make or that has changed.
    """
    arrays = load(block)
    header = json.loads(block[8 : 8 + int.from_bytes(block[:8], "little")])
    metadata = dict(json.loads(header["__metadata__"]["rosetta"]))
    if metadata.pop("crc32") != _crc32(arrays, metadata):
        raise ValueError("it has changed since it was written: its checksum is another")
    return arrays, metadata


def largest_block(config: ModelConfig) -> int:
    """The most bytes that a run's state has: weights, slots,
    the best epoch's weights, and LARGEST_METADATA."""
    numbers = sum(math.prod(weight.shape) for weight in model_of(config).weights(config).values())
    return 3 * np.dtype(config.dtype).itemsize * numbers + LARGEST_METADATA


def _crc32(arrays: Arrays, metadata: dict[str, Any]) -> int:
    """A checksum of the metadata and of the arrays with their names, types and shapes.

    A CRC-32 takes 1.1 ms for the 5.5 MB of the example's model (SHA-256 takes 2.7 ms), finds every
    change of up to 32 bits in a row, and misses one in four billion of all others. It is no defence
    against somebody who wants to deceive, and neither would any other digest be that lies in the
    same file.
    """
    described = [(name, array.dtype.str, array.shape) for name, array in sorted(arrays.items())]
    checksum = zlib.crc32(json.dumps([metadata, described]).encode())
    for name in sorted(arrays):
        checksum = zlib.crc32(arrays[name].data, checksum)
    return checksum


def in_dtype(state: ModelState, dtype: str) -> ModelState:
    """The same state in another precision, or itself."""
    both = state.weights, state.mean_squares
    weights, slots = (
        {name: array.astype(dtype, copy=False) for name, array in arrays.items()} for arrays in both
    )
    return ModelState(weights, slots)


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
            raise ValueError(
                f"expected one entry of the history for each of the epochs 1 to {self.epoch}"
            )

    @property
    def epoch(self) -> int:
        """The number of the last epoch; 0 before the first one."""
        return len(self.history)

    @property
    def best(self) -> int:
        """The number of the epoch with the lowest validation loss; 0 before the first one."""
        return min(self.history, key=lambda epoch: epoch.val_loss).epoch if self.history else 0

    def at_best(self) -> "Progress":
        """The progress at the end of the best epoch.
        All epochs of a run have the same number of steps."""
        return Progress(self.step * self.best // (self.epoch or 1), self.history[: self.best])


@dataclass(frozen=True, eq=False)
class Checkpoint:
    """The content of state.safetensors."""

    state: ModelState  # after the last epoch
    # Weights after the best epoch; empty where a run was made of the weights of a later one alone.
    best: Arrays
    progress: Progress

    @classmethod
    def from_bytes(cls, block: bytes, config: ModelConfig) -> "Checkpoint":
        """The checkpoint of a model of this size in the bytes of a file, in its precision.

        Raises RosettaError, or as `from_bytes`, for a damaged one.
        """
        arrays, metadata = from_bytes(block)
        progress = msgspec.convert(metadata, Progress)
        best, slots = without_prefix(BEST_PREFIX, arrays), without_prefix(SLOT_PREFIX, arrays)
        weights = {
            name: array
            for name, array in arrays.items()
            if not name.startswith((BEST_PREFIX, SLOT_PREFIX))
        }
        # A run of weights alone has no slots.
        state = ModelState(weights, slots or zeros_like(weights))
        check_state(state, config)
        if progress.best == progress.epoch:
            best = weights
        elif best:
            check_arrays("best weight", best, config)
        return cls(state, best, progress)

    def after(self, state: ModelState, steps: int, epoch: Epoch) -> "Checkpoint":
        """The checkpoint after one more epoch, of so many optimizer steps."""
        progress = Progress(self.progress.step + steps, (*self.progress.history, epoch))
        return Checkpoint(
            state, state.weights if progress.best == progress.epoch else self.best, progress
        )

    def to_pieces(self) -> list[bytes | memoryview]:
        """The bytes of the file, in pieces."""
        best = {} if self.progress.best == self.progress.epoch else self.best
        return to_pieces(
            self.state.arrays() | prefixed(BEST_PREFIX, best), msgspec.to_builtins(self.progress)
        )

    def at_best(self) -> "Checkpoint":
        """The checkpoint at the end of the best epoch. Slots are zeros,
        unless the best epoch is the last one."""
        if self.progress.best == self.progress.epoch:
            return self
        return Checkpoint(
            ModelState(self.best, zeros_like(self.best)), self.best, self.progress.at_best()
        )
