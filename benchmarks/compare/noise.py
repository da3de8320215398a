"""How far rounding alone takes the left side from itself, by which `rosetta diff` bounds the right side's errors.

The left side is compared with other records of itself: the control within it, a training from weights that were moved
by one unit in the last place, and those that a person gives of a repeated run, of other threads, or of float64.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from math import isfinite, sqrt

import numpy as np

from benchmarks.compare.bounds import UNIT, UNITS_OF_LOSS
from benchmarks.compare.comparer import Array, Check, Item, judge, pieces
from benchmarks.compare.pairing import paired
from benchmarks.compare.record import Side, UnfitRecordsError, is_number
from benchmarks.compare.rungs import COMPARED, LayerItem, Rungs


@dataclass
class Noise:
    """The largest error of each quantity, and where it was measured."""

    sources: list[str] = field(default_factory=list)  # in words
    rounding: list[Check] = field(default_factory=list)  # of the control
    of: dict[str, float] = field(default_factory=dict)  # by quantity


def noise_of(left: Side, again: Sequence[Side] = ()) -> Noise:
    """Raises CannotBeginError for a side of `again` that is no other run of the left one."""
    noise = Noise()
    for other in [*([left.control] if left.control else []), *again]:
        rungs = Rungs(left, other, paired(left, other))
        if other is not left.control:
            require_same_start(rungs)
        checks = [(item.quantity, check) for item, check in checks_of(rungs)]
        for quantity, check in checks:
            noise.of[quantity] = max(noise.of.get(quantity, 0.0), check.error)
        if other is left.control:
            noise.rounding = [check for _, check in checks]
        noise.sources.append(f"one ulp of {left.computed}" if other is left.control else other.name)
    least = dict.fromkeys(noise.of, UNIT[left.precision])
    least |= dict.fromkeys(noise.of.keys() & {"loss", "trajectory"}, rounding_of_loss(left))
    of = {quantity: max(least[quantity], error) for quantity, error in noise.of.items()}
    return replace(noise, of={quantity: error for quantity, error in of.items() if isfinite(error)})


def rounding_of_loss(left: Side) -> float:
    """How far the loss moves, as a share of it, where each weight moves by one unit up or down by chance: the root of
    the sum of squares of what each one does, by its gradient. In a single run these may cancel out. It is some units
    of the loss at least."""
    squares, loss = 0.0, abs(float(left.says.loss or 0.0))
    for name, gradient in left.arrays("gradients").items():
        weight = left.weight("weights", name)
        if weight is not None and is_number(weight) and weight.shape == gradient.shape:
            weight, gradient = np.atleast_1d(weight), np.atleast_1d(gradient)
            coarser = UNIT[left.computed] / np.finfo(weight.dtype).eps
            for rows in pieces(weight.shape):
                moved = gradient[rows].astype(np.float64) * np.spacing(np.abs(weight[rows])) * coarser
                squares += float(np.square(moved).sum())
    own = left.says.dtypes.loss
    least = UNITS_OF_LOSS * UNIT[own if own in UNIT else left.precision]
    return max(sqrt(squares) / loss if loss else 0.0, least)


def require_same_start(rungs: Rungs) -> None:
    for rung in COMPARED[:2]:
        for item in rungs.items(rung):
            check = judge(item)
            if not check.passed:
                raise UnfitRecordsError(
                    f"{rungs.right.name} is no other run of {rungs.left.name}, since their {rung} differ: "
                    f"{check.tensor}, {check.note}; record both with the same inputs and weights"
                )


def checks_of(rungs: Rungs) -> Iterator[tuple[LayerItem, Check]]:
    """The checks of the left side against another run of itself."""
    for rung in COMPARED[2:]:
        for item in rungs.items(rung):
            if item.quantity:
                yield item, judge(moved_back(item))


def moved_back(item: LayerItem) -> Item:
    """Where the right side's weights began elsewhere, those after a step count by how far they moved."""
    if item.pair is None or item.quantity not in ("updates", "moving", "last_weights"):
        return item
    start, other_start = (group.tensor(item.name) for group in item.pair.both)

    def right() -> Array | None:
        array = item.right()
        if array is None or start is None or other_start is None or start.shape != other_start.shape:
            return array
        return np.asarray(array + (start - other_start)) if array.shape == start.shape else array

    return replace(item, right=right)
