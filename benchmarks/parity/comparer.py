"""Compares two arrays of our model: shape, dtype, finiteness, then values. A difference has a size and a place.

The comparisons are stages. Each stage assumes that those before it passed, so the first one that fails has the cause.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from math import inf, isfinite
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from common.models import UNITS, Axes

STAGES = ("tensors", "weights", "forward", "loss", "gradients", "step", "trajectory", "counts", "strings")
# What the first failed stage says about the cause, given that all stages before it passed.
BREAKS = {
    "tensors": "its model file is given other tensors than the batch has",
    "weights": "weights are changed on their way in or out",
    "forward": "the same weights and inputs give other outputs",
    "loss": "the outputs agree and their loss does not: look at the targets, their padding, and the mean",
    "gradients": "the loss agrees and its gradients do not",
    "step": "the gradients agree and the optimizer's step does not: look at its constants, at where epsilon stands, "
    "and at its list of parameters",
    "trajectory": "one step agrees and several steps do not: in float32 an error near the bound may be rounding; "
    "else look at the order of batches, and at what is kept between steps; where workers are named, look at the rows "
    "that each takes, at what its loss is divided by, and at what all of them must hold alike",
    "counts": "training agrees and what is counted of it does not: look at which positions count as right and as "
    "real, and at a last batch that is smaller",
    "strings": "the probabilities agree and the decoded text does not: look at the decoding loop",
}


@dataclass(frozen=True)
class Check:
    """The result of one comparison; a stage has one or several."""

    stage: str
    tensor: str
    error: float  # infinite where shape, dtype or finiteness already differ
    bound: float  # largest error that passes
    where: tuple[int, ...] = ()  # index of the largest difference
    place: str = ""  # this index in words, such as "row 3, forget gate, unit 5"
    note: str = ""  # the two values at that index, or another remark

    @property
    def passed(self) -> bool:
        return self.error <= self.bound

    @property
    def used(self) -> float:
        """The error as a share of the bound; the error itself if the bound is zero."""
        return self.error / self.bound if self.bound else self.error

    @property
    def finite_error(self) -> float | None:
        """The error, or None if it is not finite."""
        return self.error if isfinite(self.error) else None

    def as_json(self) -> dict[str, Any]:
        """An error that is not finite is null."""
        return vars(self) | {"error": self.finite_error, "passed": self.passed}


def other_names(stage: str, expected: Collection[str], actual: Collection[str]) -> list[Check]:
    """A check that fails, where one side has a tensor that the other lacks; none where both have the same names."""
    missing, unexpected = sorted({*expected} - {*actual}), sorted({*actual} - {*expected})
    note = f"missing: {', '.join(missing) or 'none'}; unexpected: {', '.join(unexpected) or 'none'}"
    return [Check(stage, "names", inf, 0.0, note=note)] if missing or unexpected else []


def compare(
    stage: str,
    tensor: str,
    expected: ArrayLike,
    actual: ArrayLike,
    bound: float,
    *,
    dtype: str,
    scale: float | None = 1.0,
    relative: bool = False,
    axes: Axes = (),
) -> Check:
    """Compare two arrays; the actual one has the promised `dtype`.

    The error is the largest difference divided by `scale`, or by the largest expected number if that is None. A
    `relative` error is the largest of the differences, each divided by its expected number. The `axes` are
    the words for the place of the largest difference.
    """
    expected, actual = np.asarray(expected), np.asarray(actual)
    if wrong := _incomparable(expected, actual, dtype):
        return Check(stage, tensor, inf, bound, note=wrong)
    with np.errstate(divide="ignore"):
        differences = np.asarray(np.abs(actual.astype(np.float64) - expected))
        if relative:
            np.divide(differences, np.abs(expected), out=differences, where=differences != 0)
    where = tuple(int(index) for index in np.unravel_index(differences.argmax(), differences.shape))
    error = float(differences[where]) / (scale or float(np.abs(expected).max()) or 1.0)
    note = f"got {np.float64(actual[where])!s}, expected {np.float64(expected[where])!s}"
    return Check(stage, tensor, error, bound, where, _place(axes, where, expected.shape), note)


def _incomparable(expected: NDArray[Any], actual: NDArray[Any], dtype: str) -> str:
    """The reason why two arrays cannot be compared; "" if they can."""
    if actual.shape != expected.shape:
        return f"shape {actual.shape}, expected {expected.shape}"
    if actual.dtype != dtype:
        return f"dtype {actual.dtype}, expected {dtype}"
    if not expected.size:
        return f"shape {expected.shape}, which holds nothing to compare"
    for side, array in (("got", actual), ("expected", expected)):
        if not np.isfinite(array).all():
            return f"the array that was {side} is not finite at {np.argwhere(~np.isfinite(array))[0].tolist()}"
    return ""


def _place(axes: Axes, where: tuple[int, ...], shape: tuple[int, ...]) -> str:
    """An index in words. Batches are counted from 1, all else from 0."""
    if not axes:
        return f"index {', '.join(map(str, where))}" if where else ""
    words = []
    for axis, number, length in zip(axes, where, shape, strict=True):
        blocks = UNITS.get(axis, (axis,))
        block, within = divmod(number, length // len(blocks))
        words.append(f"{blocks[block]} {within + (axis == 'batch')}")
    return ", ".join(words)


def explained(name: str, checks: Sequence[Check]) -> str:
    """Lines on the stage at which these checks fail: the tensor, the place in it, the error against the bound."""
    failed = [check for check in checks if not check.passed]
    nearest = _nearest(failed)
    error = "" if nearest.finite_error is None else f"error {nearest.error:.1e}, bound {nearest.bound:.1e}; "
    at = f"{nearest.place}: " if nearest.place else ""
    lines = [
        f"{name} breaks at {nearest.stage}: {BREAKS[nearest.stage]}",
        f"{nearest.tensor}: {error}{at}{nearest.note}",
    ]
    if (of_stage := sum(check.stage == nearest.stage for check in checks)) > 1:
        lines.append(f"{len(failed)} of {of_stage} checks of this stage fail")
    return "\n  ".join(lines)


def _nearest(failed: Sequence[Check]) -> Check:
    """The failure of a stage that is nearest to the cause.

    It is the first in the order of computing, which is backwards for gradients; of a step, where each tensor has an
    update of its own, the worst.
    """
    if failed[0].stage == "gradients":
        return failed[-1]
    return max(failed, key=lambda check: check.error) if failed[0].stage == "step" else failed[0]
