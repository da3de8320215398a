"""Pairs: groups of weights that belong together, and calls of layers that do."""

from dataclasses import dataclass
from typing import NamedTuple

from benchmarks.ladder.pair.arrangement import Arrangement
from benchmarks.ladder.read.groups import Call, WeightGroup


class CallPair(NamedTuple):
    """Calls that belong together."""

    left: Call
    right: Call


@dataclass(frozen=True)
class GroupPair:
    """Two groups that are to be the same."""

    left: WeightGroup
    right: WeightGroup
    how: str  # by a mapping, by kind, by value or by shape
    entry: Arrangement | None = None  # where the arrays' numbers or a mapping say how they belong together
    numbers: tuple[tuple[int, int], ...] | None = None  # of the calls that belong together; None: all, in order

    @property
    def name(self) -> str:
        return self.left.name

    @property
    def both(self) -> tuple[WeightGroup, WeightGroup]:
        return self.left, self.right

    @property
    def calls(self) -> list[CallPair]:
        """Calls that belong together; none where the sides have other numbers of them."""
        left, right = self.left.calls, self.right.calls
        if self.numbers is None:
            return [CallPair(*both) for both in zip(left, right, strict=True)] if len(left) == len(right) else []
        return [CallPair(left[one], right[other]) for one, other in self.numbers]
