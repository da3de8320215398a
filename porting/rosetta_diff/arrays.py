"""Arrays of any size: gone through in pieces and compared. Types of numbers, from the finest."""

import math
from collections.abc import Callable, Iterator, Mapping
from math import isfinite
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rosetta_record.values import DIGITS

Array = NDArray[Any]
Load = Callable[[], Array | None]  # reads an array when it is needed; None: the side has none

# From the finest to the coarsest that a record may be computed in.
PRECISIONS = (*DIGITS,)
PRECISE = PRECISIONS[:2]
# How far two neighbouring numbers are apart at most, as a share of them.
UNIT = {name: 2.0**-digits for name, digits in DIGITS.items()}

# Constants of a mask, such as -1e9: their least size, how far they are beyond other numbers at
# least, how many there are at most, where masks are added up, and how far, as a share, their
# numbers are rounded. Numbers with a scale of their own are as far below others.
LEAST_OF_MASKS, BEYOND, MOST_OF_MASKS, ROUNDED = 1e3, 100.0, 3, 1e-6
FEW = 8  # numbers that may be whole by chance
NUMBERS_AT_ONCE = 1 << 20  # of a large array, so that comparing it takes little memory beside it


def pieces(shape: tuple[int, ...]) -> Iterator[slice]:
    """Slices of the first axis with some NUMBERS_AT_ONCE numbers each."""
    rows = max(1, NUMBERS_AT_ONCE // max(1, math.prod(shape[1:])))
    for start in range(0, shape[0], rows):
        yield slice(start, min(start + rows, shape[0]))


def head(array: Array) -> Array:
    """The first rows of a large array."""
    return array if array.ndim == 0 else array[next(pieces(array.shape), slice(0, 0))]


def largest(array: Array) -> float:
    """The largest size of any of its numbers that is finite; 0 if there is none."""
    whole, most = np.atleast_1d(array), 0.0
    for rows in pieces(whole.shape):
        piece = whole[rows]
        size = max(float(piece.max()), -float(piece.min())) if piece.size else 0.0
        most = max(
            most,
            size if isfinite(size) else float(np.abs(piece[np.isfinite(piece)]).max(initial=0.0)),
        )
    return most


def largest_unmasked(array: Array) -> float:
    """The largest size of any of its finite numbers but for constants of a mask;
    0 if there is none."""
    most = largest(array)
    sizes = np.abs(array[np.isfinite(array)]) if most >= LEAST_OF_MASKS else np.zeros(0)
    while most >= LEAST_OF_MASKS:
        huge, others = np.sort(sizes[sizes * 16.0 >= most]), sizes[sizes * 16.0 < most]
        rest = largest(others)
        # Other numbers may have been added to a constant.
        # One that stands alone is one of three numbers at least.
        constants = 1 + int((np.diff(huge) > max(2 * rest, ROUNDED * most)).sum())
        is_repeated = constants < huge.size or huge.size == 1 < others.size
        if not others.size or rest * BEYOND > most or constants > MOST_OF_MASKS or not is_repeated:
            break
        sizes, most = others, rest
    return most


def scales_of_places(array: Array, most: float, least: float) -> Array | float:
    """For each place on the last axis what differences there are divided by: `most`, the array's
    largest number, or the largest number of places that are all smaller by far, and `least` at
    least. A few numbers may be small by chance. Numbers beyond `most` are constants of a mask."""
    if array.ndim < 2 or least >= most or not array.size:
        return most
    sizes = np.zeros(array.shape[-1])
    for rows in pieces(array.shape):
        piece = np.abs(array[rows]).reshape(-1, sizes.size)
        np.maximum(sizes, np.where(piece <= most, piece, 0).max(0), out=sizes)
    order = np.argsort(-sizes)
    order = order[sizes[order] > 0]
    larger, smaller = sizes[order][:-1], sizes[order][1:]
    scales = np.full(sizes.shape, most)
    for first in np.flatnonzero(smaller * BEYOND <= larger) + 1:
        if (order.size - first) * (array.size // sizes.size) >= FEW:
            scales[order[first:]] = max(sizes[order[first]], least)
    return scales


def has_numbers(array: Array) -> bool:
    """True if any number is finite and not zero."""
    whole = np.atleast_1d(array)
    return any(
        bool((np.isfinite(whole[rows]) & (whole[rows] != 0)).any()) for rows in pieces(whole.shape)
    )


def bfloat16(array: Array) -> Array:
    """Return the array in float32, rounded to the nearest bfloat16, and to the even one of two."""
    bits = array.astype(np.float32).view(np.uint32)
    return np.asarray((bits + 0x7FFF + (bits >> 16 & 1)) & 0xFFFF0000, np.uint32).view(np.float32)


# Each rounds an array to a type, from the finest to the coarsest.
COARSER_TYPES: Mapping[str, Callable[[Array], Array]] = {
    "float32": lambda array: array.astype(np.float32),
    "float16": lambda array: array.astype(np.float16),
    "bfloat16": bfloat16,
}


def are_whole(array: Array) -> bool:
    """True for whole numbers, such as tokens, also if they are kept as floats; not for a few that
    rounding alone may have made whole. Numbers of bfloat16 are kept in float32."""
    if array.dtype.kind != "f":
        return array.dtype.kind in "iu"
    first = head(array)
    if not np.array_equal(first, np.rint(first)) or not np.array_equal(array, np.rint(array)):
        return False
    is_coarse = array.dtype == np.float32 and np.array_equal(array, bfloat16(array))
    unit = UNIT["bfloat16" if is_coarse else array.dtype.name]
    return largest(array) * unit <= (1 if array.size >= FEW else 1 / FEW)


def largest_difference(
    left: Array,
    right: Array,
    allowed: Callable[[slice], Array] | None = None,
    least: Array | float | None = None,
) -> tuple[float, tuple[int, ...]]:
    """Return the largest difference of two arrays of one shape, and its index.

    It is not finite where one of the two numbers is not and the other is another, or where both are
    NaN. `allowed` gives for rows of them how much of the difference does not count. With a `least`,
    of all numbers or of each place on the last axis, each difference is divided by the left number,
    or by `least` if that is more; where both are zero, it is infinite.
    """
    worst, where = 0.0, (0,) * right.ndim
    right, left = np.atleast_1d(right), np.atleast_1d(left)
    # Two near numbers of one type have a difference that is exact in it.
    dtype = (
        right.dtype
        if right.dtype == left.dtype and right.dtype.kind == "f"
        else np.dtype(np.float64)
    )
    for rows in pieces(right.shape):
        got, expected = right[rows], left[rows]
        # Those that are not equal mostly are not from the first row on, which is quick to see.
        if not got.size or (
            np.array_equal(got[:1], expected[:1]) and np.array_equal(got, expected)
        ):
            continue
        with np.errstate(invalid="ignore", over="ignore", divide="ignore"):
            difference = np.abs(got.astype(dtype, copy=False) - expected.astype(dtype, copy=False))
            # Of which float64 does not have all.
            if got.dtype.kind in "iu" and expected.dtype.kind in "iu":
                difference = np.maximum(difference, got != expected)
            if not np.isfinite(difference.max()):
                difference[got == expected] = 0.0  # of infinities
            if allowed:
                difference = np.maximum(difference - np.atleast_1d(allowed(rows)), 0.0)
            if least is not None:
                sizes = np.maximum(np.abs(expected), least)
                np.divide(difference, sizes, out=difference, where=difference != 0)
        index = int(difference.argmax())  # of the first that is no number, if there is one
        largest_here = float(difference.flat[index])
        if not largest_here <= worst:
            worst = largest_here
            first, *rest = (int(i) for i in np.unravel_index(index, difference.shape))
            where = (rows.start + first, *rest) if where else ()
            if not isfinite(worst):
                break
    return worst, where
