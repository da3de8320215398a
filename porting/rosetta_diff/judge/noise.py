"""Measures how far rounding alone takes the left side from itself;
`rosetta-diff` bounds the right side by it.

But in float64 its record has a control: the same from weights that were moved by one unit in the
last place. A person may give other records of it: of a repeated run, of other threads, or of
float64.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain
from math import inf, isfinite, sqrt
from typing import get_args

import numpy as np

from rosetta_diff.arrays import PRECISE, UNIT, Array, pieces
from rosetta_diff.helpers import CannotBeginError
from rosetta_diff.judge.bounds import TOLERANCES_OF_ANY_MODEL, UNITS_OF_GRADIENTS, UNITS_OF_LOSS
from rosetta_diff.judge.check import STAGES, Check, Item, judge
from rosetta_diff.judge.items import Stages
from rosetta_diff.judge.looser import apply_all_rules
from rosetta_diff.judge.tolerances import Noise
from rosetta_diff.pair.pairing import pair_sides
from rosetta_diff.read.description import File
from rosetta_diff.read.side import Side, is_number


@dataclass
class Control:
    """Differences of the left side from other runs of itself."""

    sources: list[str] = field(default_factory=list)  # of noise, in words
    noise: Noise = field(default_factory=Noise)
    # Of the run whose weights were moved by one unit.
    rounding: list[Check] = field(default_factory=list)
    precision: str = ""  # of the comparison


def noise_of(left: Side, right: Side, again: Sequence[Side] = ()) -> Control:
    """The noise of a side. Raises CannotBeginError for one of `again` that is no other run of it,
    such as the right side."""
    control = Control()
    if left.control:
        control.rounding = [*errors_of(left, left.control, STAGES[2:])]
        control.sources.append(f"one ulp of {left.computed}")
    errors = [*control.rounding]
    for run in again:
        if run.framework is not left.framework or (
            have_same_arrays(run, right) and not have_same_arrays(run, left)
        ):
            raise CannotBeginError(
                f"{run.name} is no other run of {left.name}; record that side's script once more"
            )
        errors += errors_of(left, run)
        control.sources.append(run.name)
    control.noise = _noise(errors, control.rounding, left)
    return control


def have_same_arrays(left: Side, right: Side) -> bool:
    """Return True if all files of two records have the same arrays."""
    files = [(left.arrays(file), right.arrays(file)) for file in get_args(File)]
    return all(of_left.shapes == of_right.shapes for of_left, of_right in files) and all(
        np.array_equal(of_left[name], of_right[name])
        for of_left, of_right in files
        for name in of_left
    )


def errors_of(left: Side, run: Side, names: Sequence[str] = STAGES) -> Iterator[Check]:
    """Errors of another run of the left side on these stages,
    of which inputs and weights must be the same."""
    stages = Stages(left, run, pair_sides(left, run))
    for item in chain.from_iterable(map(stages.items, names)):
        check = judge(move_back(apply_all_rules(stages, item)))
        if check.item.bound.quantity:
            yield check
        elif item.stage in STAGES[:2] and not check.passed:
            raise CannotBeginError(
                f"{run.name} is no other run of {left.name}, since their {item.stage} differ: "
                f"{check.tensor}, {check.note}; record both with the same inputs and weights"
            )


def _noise(errors: Sequence[Check], rounding: Sequence[Check], left: Side) -> Noise:
    """The largest errors, and what rounding does at least; none of a quantity that is not finite.
    The gradients are those of the run whose weights were moved."""
    tensors: dict[str, dict[str, float]] = {}
    for check in errors:
        of_quantity = tensors.setdefault(check.item.bound.quantity, {})
        of_quantity[check.tensor] = max(of_quantity.get(check.tensor, 0.0), check.error)
    most = {quantity: max(of_quantity.values()) for quantity, of_quantity in tensors.items()}
    of_outputs = [
        check.error for check in errors if check.item.is_of_model and left.computed in PRECISE
    ]
    of_loss = max(filter(isfinite, of_outputs), default=0.0)
    least = (
        dict.fromkeys(("loss", "trajectory"), max(of_loss, rounding_of_loss(left)))
        if errors
        else {}
    )
    if left.computed not in PRECISE:
        least["gradients"] = UNITS_OF_GRADIENTS * UNIT[left.computed]
    unit = UNIT[left.precision]
    most = {
        name: max(least.get(name, unit), most[name])
        for name in TOLERANCES_OF_ANY_MODEL
        if isfinite(most.get(name, inf))
    }
    gradients = {
        check.tensor: check.error * check.item.scale_of(gradient)
        for check in rounding
        if check.stage == "gradients"
        and (gradient := check.item.left()) is not None
        and isfinite(check.error)
    }
    of_one = ("loss", "trajectory")  # whose noise is not that of a single run
    return Noise(most, {name: of for name, of in tensors.items() if name not in of_one}, gradients)


def rounding_of_loss(left: Side) -> float:
    """The distance of the loss, as a share of it,
    where each weight moves by one unit up or down by chance.

    By the gradients, it is the root of the sum of squares of what each weight does, which may
    cancel out in a single run; and some units of the loss at least.
    """
    squares, loss = 0.0, abs(float(left.says.loss or 0.0))
    for name in left.once("gradients"):
        gradient, weight = left.arrays("gradients")[name], left.weight("weights", name)
        if weight is not None and is_number(weight) and weight.shape == gradient.shape:
            weight, gradient = np.atleast_1d(weight), np.atleast_1d(gradient)
            coarser = UNIT[left.computed] / np.finfo(weight.dtype).eps
            for rows in pieces(weight.shape):
                moved = (
                    gradient[rows].astype(np.float64) * np.spacing(np.abs(weight[rows])) * coarser
                )
                squares += float(np.square(moved).sum())
    dtype = left.says.dtypes.loss
    least = UNITS_OF_LOSS * UNIT[dtype if dtype in UNIT else left.precision]
    return max(sqrt(squares) / loss if loss else 0.0, least)


def move_back(item: Item) -> Item:
    """Return an item in which weights after a step count by how far they moved,
    if the right ones began elsewhere."""
    if item.pair is None or item.bound.quantity not in ("updates", "moving"):
        return item
    left_start, right_start = item.pair.arrays(item.name)

    def right() -> Array | None:
        array = item.right()
        if (
            array is None
            or left_start is None
            or right_start is None
            or left_start.shape != right_start.shape
        ):
            return array
        return (
            np.asarray(array + (left_start - right_start))
            if array.shape == left_start.shape
            else array
        )

    return replace(item, right=right)
