"""Compare two named arrays: shape, dtype, finiteness, then values; and the table of tolerances, which the ladder
narrows in float32 by what NumPy's own errors are."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from common.errors import RosettaError

# What a backend may differ from the float64 referee by, by the precision that it computes in: float64, float32, or
# bfloat16 beside float32 weights. See `compare` for the scales. A bfloat16 number has eight significant bits where a
# float32 has 24, so its errors are some ten thousand times as large; each of its bounds is three to four times the
# largest error of a correct backend over twelve courses (three seeds, 64 and 256 units, padding counted and masked).
TOLERANCES = {
    "state_h": {"float64": 1e-13, "float32": 1e-6, "bfloat16": 4e-3},  # absolute
    "state_c": {"float64": 1e-13, "float32": 1e-6, "bfloat16": 8e-3},  # absolute
    "probabilities": {"float64": 1e-13, "float32": 1e-6, "bfloat16": 1e-4},  # absolute
    "loss": {"float64": 1e-13, "float32": 5e-7, "bfloat16": 1e-4},  # relative
    "gradients": {"float64": 1e-12, "float32": 5e-6, "bfloat16": 3e-2},  # of a tensor's largest value
    # Of a slot's largest value after a step: a square's error is twice its root's.
    "slots": {"float64": 1e-12, "float32": 1e-5, "bfloat16": 6e-2},
    "trajectory": {"float64": 1e-12, "float32": 1e-6, "bfloat16": 4e-3},  # relative, the loss of each step
}
# How near to one another the referee's two best probabilities are where a decoded text may part from its own, and the
# share of sentences that may. Fresh weights decide so many characters by less than bfloat16 can tell (up to 63 of 100
# sentences parted, the widest margin being 2e-5) that there each sentence may.
NEAR_TIE = {"float64": 0.0, "float32": 1e-5, "bfloat16": 1e-4}
PARTED = {"float64": 0.0, "float32": 0.01, "bfloat16": 1.0}


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
