"""Compare two named arrays: shape, dtype, finiteness, then values; and the one table of tolerances."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from common.errors import RosettaError

# What a backend may differ from the float64 referee by. See `compare` for the scales.
TOLERANCES = {
    "forward": {"float64": 1e-13, "float32": 1e-6},  # absolute: encoder states and probabilities
    "loss": {"float64": 1e-13, "float32": 5e-7},  # relative
    "gradients": {"float64": 1e-12, "float32": 5e-6},  # of a tensor's largest value
    "slots": {
        "float64": 1e-12,
        "float32": 1e-5,
    },  # of a slot's largest value after a step: a square's error is twice its root's
    "trajectory": {"float64": 1e-12, "float32": 1e-6},  # relative, the loss of each step
}


class ParityError(RosettaError):
    """Two arrays that should agree do not."""


@dataclass(frozen=True)
class Comparison:
    """How far apart two arrays are at their worst."""

    name: str
    error: float
    tolerance: float
    where: tuple[int, ...]  # index of the largest difference
    got: float
    expected: float

    @property
    def passed(self) -> bool:
        return self.error <= self.tolerance

    def require(self) -> "Comparison":
        """Itself. Raises ParityError unless it passed."""
        if not self.passed:
            raise ParityError(
                f"{self.name}: error {self.error:.2e}, tolerance {self.tolerance:.1e}, "
                f"at {list(self.where)}: got {self.got!r}, expected {self.expected!r}"
            )
        return self


def compare(
    name: str,
    got: NDArray[np.floating],
    expected: NDArray[np.floating],
    tolerance: float,
    *,
    dtype: str,
    scale: str = "absolute",
) -> Comparison:
    """`got` against `expected`, the referee's float64; the error is never a mean.

    scale: "absolute" differences; "largest", over the largest value expected; "relative", each over its own.
    Raises ParityError where shape or dtype are not as promised, or where either side has a number that is not finite.
    """
    if got.shape != expected.shape:
        raise ParityError(f"{name}: shape {got.shape}, expected {expected.shape}")
    if got.dtype != dtype:
        raise ParityError(f"{name}: dtype {got.dtype}, expected {dtype}")
    for side, array in (("got", got), ("expected", expected)):
        if not np.isfinite(array).all():
            where = np.argwhere(~np.isfinite(array))[0].tolist()
            raise ParityError(f"{name}: what was {side} is not finite at {where}")
    difference = np.abs(got.astype(np.float64) - expected)
    size = {"absolute": 1.0, "largest": np.abs(expected).max(), "relative": np.abs(expected)}[scale]
    with np.errstate(divide="ignore", invalid="ignore"):  # where zero is expected, nothing but zero passes
        difference = np.where(difference == 0, 0.0, difference / size)
    where = np.unravel_index(np.argmax(difference), difference.shape)
    return Comparison(
        name,
        float(difference[where]),
        tolerance,
        tuple(int(i) for i in where),
        float(got[where]),
        float(expected[where]),
    )
