"""What `rosetta parity` and `rosetta diff` share: two arrays are compared, and the place where they differ is named.

Both climb the rungs of a ladder. Each rung assumes that those below it passed, so a side stops at the first one that
fails: the cause is there, and failures above it would only follow from it. The left side is what is expected.
"""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from math import inf, isfinite
from typing import Any

import numpy as np

from benchmarks.ladder.arrays import (
    AS_IT_IS,
    Array,
    Load,
    Ways,
    largest,
    largest_difference,
    nearest_arrangement,
    pieces,
)

RUNGS = ("tensors", "weights", "forward", "loss", "gradients", "step", "trajectory", "counts", "strings")
# What the first failed rung says about the cause, given that all rungs below it passed.
BREAKS = {
    "tensors": "the two sides are not fed the same arrays",
    "weights": "the two sides do not begin with the same weights",
    "forward": "the same weights and inputs give other outputs",
    "loss": "the outputs agree and their loss does not: look at the targets, their padding, and the mean",
    "gradients": "the loss agrees and its gradients do not",
    "step": "the gradients agree and the optimizer's step does not: look at its constants, at where epsilon "
    "stands, and at its list of parameters",
    "trajectory": "one step agrees and several steps do not: look at the order of batches, and at what is kept "
    "between steps; where workers are named, look at the rows that each takes, at what its loss is divided by, and "
    "at what all of them must hold alike",
    "counts": "training agrees and what is counted of it does not: look at which positions count as right and as "
    "real, and at a last batch that is smaller",
    "strings": "the probabilities agree and the decoded text does not: look at the decoding loop",
}
GATES = {"lstm": ("input", "forget", "candidate", "output"), "gru": ("update", "reset", "candidate")}
COUNTED_FROM_ONE = ("step", "batch")  # axes


@dataclass(frozen=True)
class Check:
    """The result of one comparison; a rung has one or several."""

    backend: str
    variant: str
    dtype: str
    rung: str
    tensor: str
    error: float  # infinite where shape, dtype or finiteness already differ
    tolerance: float
    where: tuple[int, ...] = ()  # index of the largest difference
    note: str = ""  # the two values at that index, or another remark
    measured: bool = False  # whether the tolerance follows from the expected side's own noise, and not from a table
    turn: str = ""  # how the right array's axes were turned, in words
    inside: bool = False  # whether it is beyond its bound inside the model, all of whose own outputs agree

    @property
    def passed(self) -> bool:
        return self.error <= self.tolerance or self.inside

    @property
    def used(self) -> float:
        """The error as a share of the tolerance; the error itself if the tolerance is zero."""
        return self.error / self.tolerance if self.tolerance else self.error

    @property
    def finite_error(self) -> float | None:
        """The error, or None if it is not finite."""
        return self.error if isfinite(self.error) else None

    @property
    def climber(self) -> str:
        """The compared backend and the dtype of its weights: "NAME dtype"."""
        return f"{f'{self.backend}:{self.variant}' if self.variant else self.backend} {self.dtype}"

    def as_json(self) -> dict[str, Any]:
        """An error that is not finite is null."""
        return asdict(self) | {"error": self.finite_error, "passed": self.passed}


@dataclass(frozen=True)
class Item:
    """Two arrays that are to agree. They are read when they are needed, and may be again."""

    rung: str
    tensor: str
    right: Load
    left: Load
    tolerance: float
    scale: float | None = None  # what differences are divided by; None: the left one's largest value
    smallest_scale: float = 0.0
    relative: bool = False  # or each difference is divided by the left number, where scale is 1
    dtype: str | None = None  # promised of the right array, where then all numbers of both must be finite
    allowed: Callable[[], Callable[[slice], Array]] | None = None  # reads what tells how much does not count
    is_output: bool = False
    exact: bool = False  # whether types and the signs of zeros must be equal, too
    ways: Ways = field(default_factory=lambda: AS_IT_IS)

    def load(self) -> tuple[Array | None, Array | None]:
        """The right array and the left one."""
        return self.right(), self.left()

    def scale_of(self, left: Array) -> float:
        """What differences from this array are divided by."""
        return self.scale if self.scale is not None else max(largest(left), self.smallest_scale) or 1.0


def judge(item: Item, backend: str = "", variant: str = "", dtype: str = "") -> Check:
    """The check of an item: shape, dtype and finiteness before values. Of several ways in which axes may be turned it
    is that in which both sides are nearest."""
    make = partial(Check, backend, variant, dtype, item.rung, item.tensor, tolerance=item.tolerance)
    right, left = item.load()
    if right is None or left is None:
        return make(error=inf, note=f"the {'left' if right is None else 'right'} side alone has it")
    checks: list[Check] = []
    for words, turn in item.ways.items():
        turned = turn(right)
        checks.append(_judged(item, make, turned, left, words if turned is not right else ""))
        if checks[-1].passed:
            return checks[-1]
    return checks[nearest_arrangement([check.error for check in checks])]


def _judged(item: Item, make: Callable[..., Check], right: Array, left: Array, words: str) -> Check:
    wrong = _incomparable(right, left, item.dtype) or (_unlike(right, left) if item.exact else "")
    if wrong:
        return make(error=inf, note=wrong)
    difference, where = largest_difference(right, left, item.allowed() if item.allowed else None, item.relative)
    number = np.result_type(right, left).type
    note = f"got {number(right[where])!s}, expected {number(left[where])!s}" if right.size else ""
    if not isfinite(difference) and np.isnan(right[where]) and np.isnan(left[where]):
        note = "NaN on both sides, which shows nothing; record a batch of which both compute numbers"
    error = difference / item.scale_of(left) if isfinite(difference) else inf
    return make(error=error, where=where, note="; ".join(filter(None, (note, words))), turn=words)


def _incomparable(right: Array, left: Array, dtype: str | None) -> str:
    """Why two arrays cannot even be compared; "" if they can."""
    if right.shape != left.shape:
        return f"shape {right.shape}, expected {left.shape}"
    if dtype is None:
        return ""
    if right.dtype != dtype:
        return f"dtype {right.dtype}, expected {dtype}"
    for side, array in (("got", right), ("expected", left)):
        if not np.isfinite(array).all():
            return f"the array that was {side} is not finite at {np.argwhere(~np.isfinite(array))[0].tolist()}"
    return ""


def _unlike(right: Array, left: Array) -> str:
    """How two arrays of one shape differ though their numbers may be equal: in type or in the sign of a zero."""
    if right.dtype != left.dtype:
        return f"dtype {right.dtype}, expected {left.dtype}"
    one, other = np.atleast_1d(right), np.atleast_1d(left)
    for rows in pieces(one.shape) if left.dtype.kind == "f" else ():
        of_zero = (one[rows] == 0) & (other[rows] == 0) & (np.signbit(one[rows]) != np.signbit(other[rows]))
        if of_zero.any():
            first, *others = np.argwhere(of_zero)[0].tolist()
            where = (rows.start + first, *others)
            return f"got {one[where]!s}, expected {other[where]!s} at {[*where]}"
    return ""


def place(where: tuple[int, ...], axes: Sequence[str], units: int = 0) -> str:
    """An index in words, such as "row 3, forget gate, unit 5"; `axes` has a word for each axis.

    "lstm gate" is an axis of the blocks of the four gates, of so many units each.
    """
    if len(axes) != len(where):
        return f"index {', '.join(map(str, where))}" if where else ""
    words = []
    for axis, number in zip(axes, where, strict=True):
        gates = GATES.get(axis.removesuffix(" gate"), ())
        if gates and units:
            words += [f"{gates[min(number // units, len(gates) - 1)]} gate", f"unit {number % units}"]
        else:
            words.append(f"{axis} {number + (axis in COUNTED_FROM_ONE)}")
    return ", ".join(words)


def nearest(failed: Sequence[Check]) -> int:
    """Which of a rung's failures is nearest to the cause: the first in the order in which things are computed, which
    is backwards for gradients; of a step, where each tensor has an update of its own, the worst."""
    if failed[0].rung == "gradients":
        return len(failed) - 1
    return max(range(len(failed)), key=lambda i: failed[i].error) if failed[0].rung == "step" else 0


def explained(name: str, check: Check, at: str, failures: int, checks: int, breaks: str = "") -> list[str]:
    """The rung, the tensor, where in it, the size against the bound, and both values."""
    error = "" if check.finite_error is None else f"error {check.error:.1e}, bound {check.tolerance:.1e}; "
    return [
        f"{name} breaks at {check.rung}: {breaks or BREAKS[check.rung]}",
        f"{check.tensor}: {error}{at + ': ' if at else ''}{check.note}",
        *([f"{failures} of {checks} checks of this rung fail"] if checks > 1 else []),
    ]
