"""Where two programs part between layers, told by the operators that they recorded, and the lines that call them."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from benchmarks.ladder.arrays import Array, largest, largest_difference
from benchmarks.ladder.judge.check import Item
from benchmarks.ladder.read.layouts import OPERATOR
from benchmarks.ladder.read.record import RecordedCall, Side, is_number

LARGEST = 1 << 20  # numbers of an array that is looked at
MEANS = 256  # of its numbers, in a fingerprint
MOST_STEPS = 1000  # that are looked at
LONGEST_CODE = 60  # characters of a line of a program that are shown


@dataclass(frozen=True)
class Step:
    """A call of a layer or of an operator."""

    side: Side
    call: RecordedCall

    @property
    def is_operator(self) -> bool:
        return self.call.layer.startswith(OPERATOR)

    @property
    def name(self) -> str:
        code = self.call.code if len(self.call.code) <= LONGEST_CODE else f"{self.call.code[:LONGEST_CODE]}…"
        return f"{self.call.layer.removeprefix(OPERATOR)} ({self.call.line}{code and ': '}{code})"

    @cached_property
    def output(self) -> Array:
        """The fingerprint of what it gives; empty for what is not looked at."""
        return self.fingerprint(self.call.parts[0]) if self.call.parts else np.zeros(0)

    def fingerprint(self, name: str) -> Array:
        """How many numbers an array has, how many of them are finite, and means of these in order of size, since axes
        may be turned."""
        array = self.side.arrays("layers")[name]
        if not is_number(array) or not 0 < array.size <= LARGEST:
            return np.zeros(0)
        finite = np.sort(array[np.isfinite(array)], axis=None).astype(np.float64)
        starts = np.unique(np.linspace(0, finite.size, MEANS, endpoint=False).astype(int))
        means = np.add.reduceat(finite, starts) / np.diff([*starts, finite.size]) if finite.size else finite
        return np.array([array.size, finite.size, *means])


def parting(sides: tuple[Side, Side], agreed: Iterable[Item], item: Item, bound: float) -> Iterator[str]:
    """The first operator of each side that computes what the other one has not, and of which nothing comes that the
    other one has; between the last output that agrees and this one, which does not. Nothing unless both sides
    recorded operators."""
    agreed = list(agreed)
    left, right = (steps_of(side, number, agreed, item) for number, side in enumerate(sides))
    if all(any(step.is_operator for step in steps) for steps in (left, right)):
        firsts = {"left": first_of_own(left, right, bound), "right": first_of_own(right, left, bound)}
        named = [f"{step.name} on the {side}" for side, step in firsts.items() if step]
        if named:
            yield f"between layers they part at {' and at '.join(named)}"


def steps_of(side: Side, number: int, agreed: Iterable[Item], item: Item) -> list[Step]:
    """What a side, the left one being 0, computed after the last output that agrees and until this one."""
    calls = side.says.calls
    places = {part: place for place, call in enumerate(calls) for part in call.parts}

    def place(item: Item) -> int:
        parts = item.pair.both[number].calls[item.call] if item.pair else ()
        return max((places[part] for part in parts), default=len(calls) - 1)

    end = place(item)
    start = max((found for found in map(place, agreed) if found < end), default=-1)
    return [Step(side, call) for call in calls[start + 1 : end + 1][-MOST_STEPS:]]


def first_of_own(steps: list[Step], others: list[Step], bound: float) -> Step | None:
    """The first operator of whose numbers, and of all that comes of them, the other side has none."""
    shared: set[bytes] = set()  # numbers of which comes what the other side has
    first = None
    for step in reversed(steps):
        if not step.output.size:
            continue
        if step.output.tobytes() in shared or any(alike(step.output, other.output, bound) for other in others):
            shared |= {step.fingerprint(name).tobytes() for name in step.call.inputs.values()}
        elif step.is_operator:
            first = step
    return first


def alike(one: Array, other: Array, bound: float) -> bool:
    """Whether two fingerprints are the same but for rounding."""
    if one.shape != other.shape or not np.array_equal(one[:2], other[:2]):
        return False
    return largest_difference(one[2:], other[2:])[0] <= bound * largest(one[2:])
