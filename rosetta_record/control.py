"""The control: the same training from weights that are moved by one unit in the last place.

Of its arrays only a number each is kept, which shows how much of a difference is rounding.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from typing import Any, Callable, Iterator, Mapping, Tuple

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import save_file

from .folder import ROUNDED, Folder, blank
from .values import writable

SEED = 0  # of the choice which weights move up and which down
DIGITS = {"float64": 52, "float32": 23, "float16": 10, "bfloat16": 7}  # binary ones behind a number's first
NEAR = 2.0**-28  # of the largest number of float64: differences that float32 has with more digits than are needed
Pairs = Iterator[Tuple[str, NDArray[Any], NDArray[Any]]]  # the name, the array of the record, and another one


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


def distance(left: NDArray[Any], right: NDArray[Any], explained: Any = 0.0) -> float | None:
    """Return the largest absolute difference of two arrays of one shape beyond what is explained; None where that is
    not finite, or where the shapes differ."""
    if left.shape != right.shape:
        return None
    with np.errstate(invalid="ignore", over="ignore"):
        apart = np.abs(np.subtract(left, right, dtype=np.float64)) - explained
        apart = np.where(left == right, 0.0, apart)  # infinities, too
    most = float(apart.max(initial=0.0))
    return most if math.isfinite(most) else None


def explained_by(
    gradient: NDArray[Any], moved_gradient: NDArray[Any], update: NDArray[Any], moved_update: NDArray[Any]
) -> NDArray[Any]:
    """Return how far two updates may differ since the two gradients do: twice the update, times the share by which
    the gradient differs. No optimizer makes more of it, but for momentum and clipping."""
    left, right = (np.asarray(each, np.float64) for each in (gradient, moved_gradient))
    size = np.maximum(np.abs(left), np.abs(right))
    share = np.abs(left - right) / np.maximum(size, np.finfo(np.float64).tiny)
    return np.asarray(2 * share * np.maximum(np.abs(update), np.abs(moved_update)))


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
                names = set(recorded.keys())
                pairs = ((name, recorded.get_tensor(name), arrays[name]) for name in arrays if name in names)
                self._take(file, pairs, arrays)

    def write(self, file: str, values: Mapping[str, Any]) -> None:
        self.add(file, values)

    @abstractmethod
    def _take(self, file: str, pairs: Pairs, arrays: Mapping[str, NDArray[Any]]) -> None:
        """Take the arrays of a file. `pairs` yields the name, the record's array and this one, where both are."""


class Distances(Again):
    """Measures how far each array of a control is from the record's own.

    `numbers` has for each file, by the arrays' names, the largest absolute difference; None where that is not finite.
    Weights after a step count by how far they moved from `starts`: the name, the record's weight and the control's.
    After the first step what the gradients' difference explains does not count.
    """

    def __init__(self, folder: Folder, starts: Callable[[], Pairs]) -> None:
        super().__init__(folder)
        self.numbers: dict[str, dict[str, float | None]] = {}
        self._starts = starts
        self._gradients: dict[str, tuple[NDArray[Any], NDArray[Any]]] = {}

    def _take(self, file: str, pairs: Pairs, arrays: Mapping[str, NDArray[Any]]) -> None:
        if file == "gradients":  # copies, since Paddle's are empty after the step
            self._gradients = {name: (left, np.array(right)) for name, left, right in pairs}
            pairs = ((name, *both) for name, both in self._gradients.items())
        gradients = {}
        if file.startswith("step"):
            gradients, self._gradients = self._gradients, {}
            pairs = self._updates(pairs)
        for name, left, right in pairs:
            if left.dtype.kind == right.dtype.kind == "f":
                explained = explained_by(*gradients[name], left, right) if name in gradients else 0.0
                self.numbers.setdefault(file, {})[name] = distance(left, right, explained)

    def _updates(self, pairs: Pairs) -> Pairs:
        """Yield how far the weights moved."""
        for name, start, moved_start in self._starts():
            if start.dtype.kind == "f":
                _, after, moved_after = next(pair for pair in pairs if pair[0] == name)
                yield name, after - start, moved_after - moved_start


class Differences(Again):
    """Writes what is not as in the record.

    Of an array of float64 that is near the record's, the difference is written in float32: what that loses is below
    the last place of the array's largest number. Other arrays are written whole.
    """

    def _take(self, file: str, pairs: Pairs, arrays: Mapping[str, NDArray[Any]]) -> None:
        changed = dict(arrays)
        for name, left, right in pairs:
            if np.array_equal(left, right, equal_nan=True):
                del changed[name]
            else:
                changed[name] = near(left, right)
        folder = self.path / ROUNDED
        folder.mkdir(exist_ok=True)
        save_file(changed, folder / f"{file}.safetensors")


def near(array: NDArray[Any], other: NDArray[Any]) -> NDArray[Any]:
    """Return the difference of another array in float32, or the other array itself where that would lose digits."""
    apart = distance(array, other) if array.dtype == other.dtype == np.float64 else None
    largest = np.abs(array[np.isfinite(array)]).max(initial=0.0)
    if apart is None or apart > NEAR * largest:
        return other
    with np.errstate(invalid="ignore"):
        return np.where(array == other, 0.0, other - array).astype(np.float32)
