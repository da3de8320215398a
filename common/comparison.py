"""The comparison of two named arrays, by shape, dtype, finiteness and then values; and the table of tolerances.

In float32 the ladder narrows these tolerances further, by the size of NumPy's own errors in float32.
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from common.errors import RosettaError

# The largest error that a result may have against the float64 referee, for each precision that a backend computes in:
# float64, float32, or bfloat16 with float32 weights. The comments name the scales, which `compare` explains. Errors
# in bfloat16 are some ten thousand times as large as those in float32, since it has 8 significant bits and float32
# has 24. Each bound for bfloat16 is three to four times the largest error of a correct backend in twelve runs of the
# ladder (three seeds, 64 and 256 units, padding counted and masked).
TOLERANCES = {
    "state_h": {"float64": 1e-13, "float32": 1e-6, "bfloat16": 4e-3},  # absolute
    "state_c": {"float64": 1e-13, "float32": 1e-6, "bfloat16": 8e-3},  # absolute
    "probabilities": {"float64": 1e-13, "float32": 1e-6, "bfloat16": 1e-4},  # absolute
    "loss": {"float64": 1e-13, "float32": 5e-7, "bfloat16": 1e-4},  # relative
    "gradients": {"float64": 1e-12, "float32": 5e-6, "bfloat16": 3e-2},  # relative to a tensor's largest value
    # Relative to a slot's largest value after a step. A slot is a mean of squares; squaring doubles relative errors.
    "slots": {"float64": 1e-12, "float32": 1e-5, "bfloat16": 6e-2},
    "trajectory": {"float64": 1e-12, "float32": 1e-6, "bfloat16": 4e-3},  # relative, for the loss of each step
    "loss_sums": {
        "float64": 1e-12,
        "float32": 1e-6,
        "bfloat16": 2e-2,
    },  # relative, with large weights
}
# The same for `rosetta diff`, which compares two frameworks, neither with a referee, and layers of any kind. A
# comment has the scale, and the largest error of 51 correct pairs in float64 and in float32: 17 random small models
# of recurrent layers, attention, norms and convolutions in torch, Paddle and Keras, with ten steps of SGD, Adam or
# AdamW. In float64 nearly all of it comes of the ε that Paddle rounds to float32; other rounding makes 1e-15. Of the
# mistakes that people make the smallest is a constant in float32, which is off by up to 3e-8.
TOLERANCES_OF_ANY_MODEL = {
    "outputs": {"float64": 1e-9, "float32": 2e-5, "bfloat16": 5e-2},  # to the tensor's largest value; 5.6e-11, 4.3e-7
    "loss": {"float64": 1e-9, "float32": 5e-6, "bfloat16": 1e-2},  # relative; 8.8e-13, 1.7e-7
    "gradients": {"float64": 1e-8, "float32": 1e-4, "bfloat16": 1e-1},  # to the largest value; 3.6e-10, 1.4e-6
    "slots": {"float64": 2e-8, "float32": 2e-4, "bfloat16": 2e-1},  # to the largest value; 5.0e-10, 2.6e-6
    # Weights after a step, to how far the tensor moved at most, beyond what becomes of the gradients' errors; 0, 0. A
    # learning rate that is rounded to float32 makes up to 6e-8.
    "updates": {"float64": 1e-9, "float32": 1e-3, "bfloat16": 5e-1},
    # Running means and variances after a step, likewise. Paddle rounds the momentum to float32, which makes 2.4e-7.
    "moving": {"float64": 5e-7, "float32": 1e-4, "bfloat16": 1e-1},
    "trajectory": {"float64": 1e-8, "float32": 1e-4, "bfloat16": 5e-2},  # relative, each loss; 1.1e-12, 2.6e-7
    # Weights after the last step, to how far any moved; 3.3e-10, 7.3e-3, and 8.4e-2 in one of 100 million. Adam makes
    # steps of any rounding error where gradients are almost zero.
    "last_weights": {"float64": 1e-6, "float32": 5e-1, "bfloat16": 1.0},
}
# A decoded text may part from the referee's at a character where the referee's two highest probabilities differ by no
# more than NEAR_TIE. PARTED is the share of sentences that may do so. In bfloat16 every sentence may: with fresh
# weights many characters are decided by less than bfloat16 can tell, and up to 63 of 100 sentences parted, at
# characters where the probabilities differed by 2e-5 at most.
NEAR_TIE = {"float64": 0.0, "float32": 1e-5, "bfloat16": 1e-4}
PARTED = {"float64": 0.0, "float32": 0.01, "bfloat16": 1.0}
# The share of a batch's positions that may be counted as right by one of the two alone, since they are near-ties.
# In bfloat16 that was 1 % at most in the twelve runs.
MISCOUNTED = {"float64": 0.0, "float32": 3e-3, "bfloat16": 3e-2}


NUMBERS_AT_ONCE = 1 << 20  # of a large array, so that comparing it takes little memory beside it


def pieces(shape: tuple[int, ...]) -> Iterator[slice]:
    """Slices of the first axis with some NUMBERS_AT_ONCE numbers each."""
    rows = max(1, NUMBERS_AT_ONCE // max(1, math.prod(shape[1:])))
    for start in range(0, shape[0], rows):
        yield slice(start, min(start + rows, shape[0]))


def largest(array: NDArray[Any]) -> float:
    """The largest size of any of its numbers that is finite; 0 if there is none."""
    whole, found = np.atleast_1d(array), 0.0
    for rows in pieces(whole.shape):
        piece = whole[rows]
        size = max(float(piece.max()), -float(piece.min())) if piece.size else 0.0
        found = max(found, size if math.isfinite(size) else float(np.abs(piece[np.isfinite(piece)]).max(initial=0.0)))
    return found


def largest_difference(
    got: NDArray[Any], expected: NDArray[Any], allowed: Callable[[slice], NDArray[Any]] | None = None
) -> tuple[float, tuple[int, ...]]:
    """The largest difference of two arrays of one shape, and its index. It is not finite where one of the two numbers
    is not and the other is another. `allowed` gives for rows of them how much of the difference does not count."""
    worst, where = 0.0, (0,) * got.ndim
    got, expected = np.atleast_1d(got), np.atleast_1d(expected)
    # Two near numbers of one type have a difference that is exact in it.
    dtype = got.dtype if got.dtype == expected.dtype and got.dtype.kind == "f" else np.dtype(np.float64)
    for rows in pieces(got.shape):
        one, other = got[rows], expected[rows]
        # Those that are not equal mostly are not from the first row on, which is quick to see.
        if not one.size or (np.array_equal(one[:1], other[:1]) and np.array_equal(one, other)):
            continue
        with np.errstate(invalid="ignore", over="ignore"):
            difference = np.abs(one.astype(dtype, copy=False) - other.astype(dtype, copy=False))
            if not np.isfinite(difference.max()):
                difference[(one == other) | ((one != one) & (other != other))] = 0.0
            if allowed:
                difference = np.maximum(difference - np.atleast_1d(allowed(rows)), 0.0)
        index = int(difference.argmax())  # of the first that is no number, if there is one
        largest_here = float(difference.flat[index])
        if not largest_here <= worst:
            worst = largest_here
            first, *others = (int(i) for i in np.unravel_index(index, difference.shape))
            where = (rows.start + first, *others) if where else ()
            if not math.isfinite(worst):
                break
    return worst, where


class ParityError(RosettaError):
    """Two arrays that should agree cannot even be compared."""


@dataclass(frozen=True)
class Comparison:
    """The largest difference between two arrays."""

    error: float  # the largest difference, on the scale that `compare` was given
    where: tuple[int, ...]  # index of the largest difference
    got: float
    expected: float


def compare(
    name: str,
    got: NDArray[np.floating],
    expected: NDArray[np.floating],
    *,
    dtype: str,
    scale: str = "absolute",
) -> Comparison:
    """Compare `got` with `expected`, the referee's array in float64. The error is the largest difference, not a mean.

    `scale` says what each difference is divided by: nothing ("absolute"), the largest expected value ("largest"), or
    the expected value at the same place ("relative"). Raises ParityError where shape or dtype are not as promised, or
    where either array has a number that is not finite.
    """
    if got.shape != expected.shape:
        raise ParityError(f"{name}: shape {got.shape}, expected {expected.shape}")
    if got.dtype != dtype:
        raise ParityError(f"{name}: dtype {got.dtype}, expected {dtype}")
    for side, array in (("got", got), ("expected", expected)):
        if not np.isfinite(array).all():
            where = np.argwhere(~np.isfinite(array))[0].tolist()
            raise ParityError(f"{name}: the array that was {side} is not finite at {where}")
    difference = np.abs(got.astype(np.float64) - expected)
    size = {"absolute": 1.0, "largest": np.abs(expected).max(), "relative": np.abs(expected)}[scale]
    with np.errstate(divide="ignore", invalid="ignore"):  # a difference from an expected zero is infinite
        difference = np.where(difference == 0, 0.0, difference / size)
    where = np.unravel_index(np.argmax(difference), difference.shape)
    place = tuple(int(i) for i in where)
    return Comparison(float(difference[where]), place, float(got[where]), float(expected[where]))
