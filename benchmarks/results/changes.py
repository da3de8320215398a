"""Two recordings against one another: what became faster or slower."""

from dataclasses import dataclass
from typing import Literal

from benchmarks.results.intervals import Estimate


@dataclass(frozen=True)
class Change:
    """One figure of one row."""

    label: str  # of the row
    figure: str  # "training step", "character decoded in a batch" or "character decoded alone"
    before: float  # seconds
    after: float
    ratio: Estimate  # before / after: above 1 is faster
    word: Literal["faster", "slower", "same", "not told apart"]

    @property
    def slower_by(self) -> float:
        """The share of time added, where that is real; else 0."""
        return 1 / self.ratio.value - 1 if self.word == "slower" else 0.0


@dataclass(frozen=True)
class Comparison:
    """What changed from one recording to another."""

    differences: list[str]  # what else is not the same, so that not the code alone may be the cause
    changes: list[Change]
