"""Another training of a recorded model: how far its arrays are from the record's, or how they differ.

The control trains from weights that are moved by one unit in the last place. Of each of its arrays one number is
kept, which shows how much of a difference is rounding.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from typing import Any, Callable, Iterator, Mapping, Sequence, Tuple

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import save_file

from .folder import ROUNDED, Folder, blank
from .values import writable

DIGITS = {"float64": 52, "float32": 23, "float16": 10, "bfloat16": 7}  # binary ones behind a number's first
NEAR = 2.0**-28  # of the largest number of float64: differences that float32 has with more digits than are needed
AT_ONCE = 1 << 17  # numbers of an array that are computed with at once, which takes little memory
Start = Tuple[str, NDArray[Any], NDArray[Any]]  # a weight's name, and its arrays before both trainings


def coarsest(*precisions: str | None) -> str:
    """Return the type with the fewest digits, "" where none is known."""
    known = [name for name in precisions if name in DIGITS]
    return min(known, key=lambda name: DIGITS[name], default="")


def one_unit_moved(array: NDArray[Any], precision: str, rng: np.random.Generator) -> NDArray[Any]:
    """Return an array with each number moved up or down, by chance, by one unit in the last place of `precision`, or
    of the array's type if that is coarser. Zeros stay, and so do arrays of whole numbers."""
    if array.dtype.kind != "f":
        return array
    unit = 1 << max(0, DIGITS[array.dtype.name] - DIGITS.get(precision, 52))
    bits = array.view(f"u{array.itemsize}")
    moved = np.asarray(rng.integers(0, 2, array.shape, bits.dtype))
    moved *= 2 * unit
    moved -= unit  # unsigned integers wrap around, and back again
    moved *= array != 0
    moved += bits
    return moved.view(array.dtype)


def pieces(*arrays: NDArray[Any]) -> Iterator[list[NDArray[Any]]]:
    """Yield the numbers of arrays of one shape in float64, so many at once."""
    flat = [array.reshape(-1) for array in arrays]
    for first in range(0, flat[0].size, AT_ONCE):
        yield [np.asarray(array[first : first + AT_ONCE], np.float64) for array in flat]


def distance(
    left: NDArray[Any],
    right: NDArray[Any],
    starts: Sequence[NDArray[Any]] = (),
    share: NDArray[Any] | None = None,
) -> float | None:
    """Return the largest absolute difference of two arrays; None where it is not finite, or where shapes differ.

    Of weights, whose arrays before the step are `starts`, it is the difference of how far they moved. What differs
    since the gradients do, by `share`, does not count: twice the update times the share. No optimizer makes more of
    it, but for momentum and clipping.
    """
    arrays = [left, right, *starts, *([] if share is None else [share])]
    if any(array.shape != left.shape for array in arrays):
        return None
    most = 0.0
    for numbers in pieces(*arrays):
        with np.errstate(invalid="ignore", over="ignore"):
            moves = (numbers[0] - numbers[2], numbers[1] - numbers[3]) if starts else numbers[:2]
            apart = np.abs(moves[0] - moves[1])
            if share is not None:
                apart -= 2 * numbers[-1] * np.maximum(*map(np.abs, moves))
        largest = float(np.where(moves[0] == moves[1], 0.0, apart).max())  # infinities may be equal, too
        if not math.isfinite(largest):
            return None
        most = max(most, largest)
    return most


def share_of(left: NDArray[Any], right: NDArray[Any]) -> NDArray[Any] | None:
    """Return the difference of each number as a share of the larger one, in float32; None where shapes differ."""
    if left.shape != right.shape:
        return None
    share, first = np.empty(left.size, np.float32), 0
    for numbers in pieces(left, right):
        with np.errstate(invalid="ignore", over="ignore"):
            size = np.maximum(np.maximum(*map(np.abs, numbers)), np.finfo(np.float64).tiny)
            share[first : first + size.size] = np.abs(numbers[0] - numbers[1]) / size
        first += size.size
    return share.reshape(left.shape)


class Again(ABC):
    """Takes what another training of a recorded model would write into a folder, beside the record's own arrays."""

    def __init__(self, folder: Folder) -> None:
        self.path, self.content = folder.path, blank()
        self._folder = folder

    def save(self) -> None:  # noqa: B027
        """Do nothing: record.json is the record's own."""

    def add(self, file: str, values: Mapping[str, Any]) -> None:
        if file not in ("inputs", "weights"):
            arrays = {name: writable(value, name) for name, value in values.items()}
            with self._folder.open(file) as recorded:
                self._take(file, recorded, arrays)

    @abstractmethod
    def _take(self, file: str, recorded: Any, arrays: Mapping[str, NDArray[Any]]) -> None:
        """Take the arrays of a file, of which `recorded` has the record's own."""


class Distances(Again):
    """Measures how far each array of a control is from the record's own.

    `numbers` has for each file, by the arrays' names, the largest absolute difference; None where that is not finite.
    Weights after a step count by how far they moved from `starts`. After the first step what the gradients'
    difference explains does not count.
    """

    def __init__(self, folder: Folder, starts: Callable[[], Iterator[Start]]) -> None:
        super().__init__(folder)
        self.numbers: dict[str, dict[str, float | None]] = {}
        self._starts = starts
        self._shares: dict[str, NDArray[Any] | None] = {}  # by which gradients differ, until the first step

    def _take(self, file: str, recorded: Any, arrays: Mapping[str, NDArray[Any]]) -> None:
        numbers, names = self.numbers.setdefault(file, {}), set(recorded.keys())
        of_step = file == "step-1"
        for name, *starts in self._starts() if of_step else ((name,) for name in arrays):
            if name in names & arrays.keys():
                left, right = recorded.get_tensor(name), arrays[name]
                if left.dtype.kind == right.dtype.kind == "f":
                    numbers[name] = distance(left, right, starts, self._shares.get(name))
                    if file == "gradients":
                        self._shares[name] = share_of(left, right)
        if of_step:
            self._shares = {}


class Differences(Again):
    """Writes what is not as in the record.

    Of an array of float64 that is near the record's, the difference is written in float32: what that loses is below
    the last place of the array's largest number. Other arrays are written whole.
    """

    def _take(self, file: str, recorded: Any, arrays: Mapping[str, NDArray[Any]]) -> None:
        changed, names = dict(arrays), set(recorded.keys())
        for name, array in arrays.items():
            if name in names:
                left = recorded.get_tensor(name)
                if np.array_equal(left, array, equal_nan=True):
                    del changed[name]
                elif left.dtype == array.dtype == np.float64 and left.shape == array.shape:
                    changed[name] = near(left, array)
        folder = self.path / ROUNDED
        folder.mkdir(exist_ok=True)
        save_file(changed, folder / f"{file}.safetensors")


def near(left: NDArray[Any], right: NDArray[Any]) -> NDArray[Any]:
    """Return the difference of the right array from the left one in float32, or the right array itself where that
    would lose digits."""
    difference, finite = np.empty(left.shape, np.float32), np.isfinite(left)
    with np.errstate(invalid="ignore", over="ignore"):
        np.subtract(right, left, out=difference, casting="same_kind")
    difference[left == right] = 0.0  # infinities, too
    largest = max(left.max(where=finite, initial=0.0), -left.min(where=finite, initial=0.0))
    apart = max(difference.max(initial=0.0), -difference.min(initial=0.0))
    return difference if apart <= NEAR * largest else right  # the right array where `apart` is NaN
