"""The noise that a record's control shows: how far one unit in the last place of each weight moves each array."""

from collections.abc import Iterator
from dataclasses import dataclass
from math import inf, isfinite

import numpy as np

from benchmarks.ladder.arrays import UNIT, Array, are_whole, largest, largest_difference, largest_unmasked
from benchmarks.ladder.judge.bounds import SMALLEST_SCALE
from benchmarks.ladder.read.description import File, RecordedControl
from benchmarks.ladder.read.record import Side, is_number


@dataclass(frozen=True)
class Moved:
    """An array or a loss of the record, and how far that of another training is from it."""

    rung: str
    quantity: str  # whose bound it has
    name: str
    error: float  # as a share of what differences are divided by; infinite where it is no number
    is_of_model: bool = (
        False  # an output of the model, whose rounding is the loss's, too, even if it cancels out there
    )


def moved_by_control(side: Side) -> Iterator[Moved]:
    """Yield what the control of a side shows, on the same scales on which two sides are compared; nothing where the
    side has no control."""
    control = side.says.control
    if control is not None:
        yield from moved_outputs(side, control)
        yield from moved_losses(side, control)
        yield from moved_gradients(side, control)
        yield from moved_slots(side, control)
        yield from moved_weights(side, control)


def share(number: float | None, scale: float) -> float:
    return inf if number is None or not isfinite(number) else number / (scale or 1.0)


def share_of_output(number: float | None, array: Array) -> float:
    """The share of an output, of its constants of a mask where a multiple of their unit is the distance."""
    most = largest(array)
    is_rounding = number is None or number % float(np.spacing(array.dtype.type(most))) == 0
    return share(number, most if is_rounding else largest_unmasked(array))


def moved_outputs(side: Side, control: RecordedControl) -> Iterator[Moved]:
    of_model = {part for call in side.says.calls if call.layer == side.root for part in call.parts}
    parts = {part for call in side.says.calls for part in call.parts}
    for name, number, array in measured(side, control, "layers"):
        if name in parts:
            yield Moved("forward", "outputs", name, share_of_output(number, array), name in of_model)
    for name, number, array in measured(side, control, "outputs"):
        if not are_whole(array):  # of which none is near another
            yield Moved("forward", "outputs", name, share_of_output(number, array), is_of_model=True)


def moved_losses(side: Side, control: RecordedControl) -> Iterator[Moved]:
    for name, losses, moved in (
        ("loss", [side.says.loss], [control.loss]),
        ("trajectory", [step.loss for step in side.says.steps], [step.loss for step in control.steps]),
    ):
        left, right = (np.array([float(loss) for loss in each if loss is not None]) for each in (losses, moved))
        if left.size and left.shape == right.shape:
            yield Moved(name, name, name, share(largest_difference(left, right, least=0.0)[0], 1.0))


def moved_gradients(side: Side, control: RecordedControl) -> Iterator[Moved]:
    smallest = SMALLEST_SCALE[side.computed] * side.largest("gradients")
    for name, number, array in measured(side, control, "gradients"):
        yield Moved("gradients", "gradients", name, share(number, max(largest(array), smallest)))


def moved_slots(side: Side, control: RecordedControl) -> Iterator[Moved]:
    canonical = {key: name for of_weight in side.slots.values() for name, key in of_weight.items()}
    numbers = {
        key: (number, largest(array)) for key, number, array in measured(side, control, "slots") if key in canonical
    }
    most: dict[str, float] = {}
    for key, (_, size) in numbers.items():
        most[canonical[key]] = max(most.get(canonical[key], 0.0), size)
    for key, (number, size) in numbers.items():
        name = canonical[key]
        smallest = most[name] * SMALLEST_SCALE[side.computed] ** (2 if "square" in name else 1)
        yield Moved("step", "slots", key, share(number, max(size, smallest)))


def moved_weights(side: Side, control: RecordedControl) -> Iterator[Moved]:
    """Weights after a step count by how far they moved, a running statistic by how far that one did."""
    statistics = {name for name, weight in side.says.weights.items() if not weight.trainable}
    start, unit = side.arrays("weights"), UNIT["float64" if side.computed == "float64" else "float32"]
    numbers = {
        name: (number, largest_difference(after, start[name])[0])
        for name, number, after in measured(side, control, "step-1")
        if name in start and start.shape(name) == after.shape
    }
    most = max((far for name, (_, far) in numbers.items() if name not in statistics), default=0.0)
    for name, (number, far) in numbers.items():
        number = number and max(number - 4 * unit * largest(start[name]), 0.0)
        quantity = "moving" if name in statistics else "updates"
        yield Moved("step", quantity, name, share(number, max(far, SMALLEST_SCALE[side.computed] * most)))


def measured(side: Side, control: RecordedControl, file: File) -> Iterator[tuple[str, float | None, Array]]:
    """Yield the arrays of a file that the control measured, with their distances."""
    numbers, arrays = control.distances.get(file, {}), side.arrays(file)
    yield from ((name, numbers[name], arrays[name]) for name in arrays if name in numbers and is_number(arrays[name]))
