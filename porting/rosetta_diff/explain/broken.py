"""A stage that breaks, as its causes see it."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np

from rosetta_diff.arrays import Array, head
from rosetta_diff.explain.search import Criterion, Search
from rosetta_diff.judge.check import Check, Item
from rosetta_diff.judge.items import Stages
from rosetta_diff.read.groups import WeightGroup
from rosetta_diff.read.side import LARGEST_SETTING, Side

REGISTER = "docs/deviations.md"
LIKELY, SEEN, MORE = "likely", "differs", "to see more"


@dataclass(frozen=True)
class Cause:
    """A line below the explanation: a difference of both sides, the numbers it would make, and
    those that are seen. It is `likely` only where these agree. A recorded difference without
    numbers `differs`."""

    sentence: str
    entry: str = ""  # of the register
    made: Array | None = field(default=None, compare=False, repr=False)
    seen: Array | None = field(default=None, compare=False, repr=False)
    standing: str = SEEN

    @property
    def link(self) -> str:
        return f"{REGISTER}#{self.entry}" if self.entry else ""

    @property
    def line(self) -> str:
        return self.sentence + (f" ({self.link})" if self.link else "")


@dataclass(frozen=True)
class Broken:
    """The check that is shown, and all checks of the stage that fail."""

    stages: Stages
    check: Check
    failed: Sequence[Check]

    @property
    def item(self) -> Item:
        return self.check.item

    @cached_property
    def arrays(self) -> tuple[Array, Array]:
        """The left and the right array; empty where a side has none."""
        left, right = self.item.left(), self.item.right()
        return np.zeros(0) if left is None else left, np.zeros(0) if right is None else right

    @cached_property
    def moved(self) -> tuple[Array, Array]:
        """The arrays; of weights after a step by how much both sides moved them,
        in their first rows."""
        if not self.item.is_update:
            return self.arrays
        starts = self.item.pair.arrays(self.item.name) if self.item.pair else ()
        pairs = list(zip((self.item.left(), self.item.right()), starts, strict=True))
        if any(
            after is None or start is None or start.shape != after.shape for after, start in pairs
        ):
            return np.zeros(0), np.zeros(0)
        left, right = (
            head(after).astype(np.float64) - head(start)  # type: ignore
            for after, start in pairs
        )
        return left, right

    @property
    def sides(self) -> tuple[Side, Side]:
        """The left and the right side."""
        return self.stages.left, self.stages.right

    @property
    def groups(self) -> Sequence[WeightGroup]:
        """The left and the right group; none for what is of no layer."""
        return self.item.pair.both if self.item.pair else ()

    @property
    def kind(self) -> str:
        """The kind of layer that is shown."""
        return self.item.pair.left.kind if self.item.pair else ""

    @property
    def name(self) -> str:
        """The name of what is shown."""
        return (self.item.pair.name if self.item.pair else self.item.tensor) or "the model"

    def settings(self, name: str) -> list[Any]:
        """A setting of the layer that is shown, left and right."""
        return [group.settings.get(name) for group in self.groups]

    @cached_property
    def criterion(self) -> Criterion:
        tolerances = self.stages.tolerances
        by_table = tolerances.table.get(self.item.bound.quantity, 0.0)
        return Criterion(max(self.check.tolerance, by_table, 8 * tolerances.unit), self.check.error)

    @cached_property
    def search(self) -> Search:
        """Counts all hypotheses about this check."""
        return Search(self.criterion)

    def padded_inputs(self) -> Iterator[tuple[str, Array]]:
        """Yield the left side's inputs (N, T) of the first batch in which a 0 may be padding."""
        for name, array in self.stages.left.arrays("inputs").items():
            ids = array.dtype.kind == "i" and array.ndim == 2 and not name.startswith("batch")
            if ids and 0 < np.count_nonzero(array) < array.size:
                yield name, array


def number(value: Any) -> float:
    """Return a recorded setting as a number; 0 for what is none."""
    return float(value) if isinstance(value, int | float) and abs(value) < LARGEST_SETTING else 0.0


def dropouts(broken: Broken) -> Iterator[tuple[int, str, Cause]]:
    """Yield for each layer that drops at random its side, left (0)
    or right (1), its path, and what is told of it."""
    for place, (words, side) in enumerate(zip(("left", "right"), broken.sides, strict=True)):
        for layer in side.says.layers:
            rate = side.framework.settings_of(layer.settings).get("rate")
            random = any(
                part in name
                for name in layer.classes
                for part in ("rop", "RNN", "Attention", "attention")
            )
            if layer.training and random and isinstance(rate, int | float) and 0 < rate < 1:
                sentence = f"dropout of {rate} was on in {layer.path} of the {words} side"
                yield place, layer.path, Cause(sentence, "dropout")
