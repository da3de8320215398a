"""The control: the same training from weights that are moved by one unit in the last place.

Of its arrays only a number each is kept, which shows how much of a difference is rounding.
"""

from __future__ import annotations

import math
from typing import Any, Callable, Iterator, Mapping, Tuple

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import save_file

from .folder import ROUNDED, Folder, blank
from .values import writable

SEED = 0  # of the choice which weights move up and which down
DIGITS = {"float64": 52, "float32": 23, "float16": 10, "bfloat16": 7}  # binary ones behind a number's first
NEAR = 2.0**-28  # of the largest number of float64: differences that float32 has with more digits than are needed
Starts = Callable[[], Iterator[Tuple[str, NDArray[Any], NDArray[Any]]]]


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


class Distances:
    """Takes what a control would write into a folder, and measures how far each array is from the record's own.

    `found` has for each file, by the arrays' names, the largest absolute difference; None where that is not finite.
    Weights after a step count by how far they moved from `starts`: the name, the record's weight and the control's.
    After the first step what the gradients' difference explains does not count.
    """

    def __init__(self, folder: Folder, starts: Starts) -> None:
        self.path = folder.path
        self.content = blank()
        self.found: dict[str, dict[str, float | None]] = {}
        self._folder, self._starts = folder, starts
        self._gradients: dict[str, NDArray[Any]] = {}

    def save(self) -> None:
        """Do nothing: a control is not written."""

    def add(self, file: str, values: Mapping[str, Any]) -> None:
        """Measure arrays of a pass, gradients or slots."""
        if file in ("inputs", "weights"):
            return
        values = {name: writable(value, name) for name, value in values.items()}
        if file == "gradients":  # Paddle's are empty after the step
            self._gradients = {name: np.array(value) for name, value in values.items()}
        with self._folder.open(file) as recorded:
            names = set(recorded.keys())
            for name in [name for name in values if name in names]:
                self._keep(file, name, recorded.get_tensor(name), values[name])

    def write(self, file: str, values: Mapping[str, Any]) -> None:
        """Measure weights after a step."""
        gradients, self._gradients = self._gradients, {}
        with self._folder.open(file) as recorded, self._folder.open("gradients") as recorded_gradients:
            for name, start, moved_start in self._starts():
                if start.dtype.kind != "f":
                    continue
                updates = recorded.get_tensor(name) - start, writable(values[name], name) - moved_start
                explained: Any = 0.0
                if name in gradients:
                    explained = explained_by(recorded_gradients.get_tensor(name), gradients[name], *updates)
                self._keep(file, name, *updates, explained)

    def _keep(self, file: str, name: str, left: NDArray[Any], right: NDArray[Any], explained: Any = 0.0) -> None:
        if left.dtype.kind == right.dtype.kind == "f":
            self.found.setdefault(file, {})[name] = distance(left, right, explained)


class Differences:
    """Takes what another training from the same weights would write, and keeps what is not as in the record.

    Of an array of float64 that is near the record's, the difference is written in float32: what that loses is below
    the last place of the array's largest number. Other arrays are written whole.
    """

    def __init__(self, folder: Folder) -> None:
        self.path = folder.path / ROUNDED
        self.content = blank()
        self._folder = folder

    def save(self) -> None:
        """Do nothing: record.json is the record's own."""

    def add(self, file: str, values: Mapping[str, Any]) -> None:
        self.write(file, values)

    def write(self, file: str, values: Mapping[str, Any]) -> None:
        if file in ("inputs", "weights"):
            return
        arrays = {}
        with self._folder.open(file) as recorded:
            names = set(recorded.keys())
            for name, value in values.items():
                array, own = writable(value, name), recorded.get_tensor(name) if name in names else None
                if own is None or not np.array_equal(own, array, equal_nan=True):
                    arrays[name] = array if own is None else near(own, array)
        self.path.mkdir(exist_ok=True)
        save_file(arrays, self.path / f"{file}.safetensors")


def near(array: NDArray[Any], other: NDArray[Any]) -> NDArray[Any]:
    """Return the difference of another array in float32, or the other array itself where that would lose digits."""
    apart = distance(array, other) if array.dtype == other.dtype == np.float64 else None
    largest = np.abs(array[np.isfinite(array)]).max(initial=0.0)
    if apart is None or apart > NEAR * largest:
        return other
    with np.errstate(invalid="ignore"):
        return np.where(array == other, 0.0, other - array).astype(np.float32)
