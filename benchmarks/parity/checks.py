"""The rungs of the ladder and the checks on them, which `rosetta parity` and `rosetta diff` share."""

from dataclasses import dataclass
from math import isfinite

RUNGS = ("tensors", "weights", "forward", "loss", "gradients", "step", "trajectory", "counts", "strings")
# The mean loss of a float32 training may differ from the referee's by this many standard deviations, taken over the
# same backend's trainings with permuted hidden units. The most that 26 trainings of correct backends needed was 16.6,
# over six seeds and two corpora; mistakes of the optimizer need two million and more.
SPREADS = 20.0
# What the first failed rung says about the cause, given that all rungs below it passed.
CAUSES = {
    "tensors": "its process does not make the same tensors of the same ids",
    "weights": "weights are changed on their way in or out",
    "forward": "the same weights and tensors give other states or probabilities",
    "loss": "the probabilities agree and their loss does not: look at the targets, their padding, and the mean",
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


@dataclass(frozen=True)
class Check:
    """One comparison with the referee; a rung has one or several."""

    backend: str
    variant: str
    dtype: str
    rung: str
    tensor: str
    error: float  # infinite where shape, dtype or finiteness already differ
    tolerance: float
    where: tuple[int, ...] = ()  # index of the largest difference
    note: str = ""  # the two values at that index, or another remark

    @property
    def passed(self) -> bool:
        return self.error <= self.tolerance

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
