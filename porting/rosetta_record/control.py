"""Weights that are moved by one unit in the last place, from which a control is recorded."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

DIGITS = {"float64": 52, "float32": 23, "float16": 10, "bfloat16": 7}  # binary ones behind a number's first


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
