"""Compares two arrays, and names the place where they differ.

A comparison goes in stages. Each stage assumes that those before it passed, so a comparison ends at
the first that fails: its cause is there, and later failures would only follow. The left side is
expected.
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from math import inf, isfinite
from typing import Any, NamedTuple

import numpy as np

from rosetta_diff.arrays import (
    Array,
    Load,
    are_whole,
    has_numbers,
    largest,
    largest_difference,
    largest_unmasked,
    scales_of_places,
)
from rosetta_diff.judge.rules import EXCUSES, Rule
from rosetta_diff.pair.drafts import line_of_turn
from rosetta_diff.pair.pairs import CallPair, LayerPair, TensorPair
from rosetta_diff.read.rules import CHANNELLED, RECURRENT
from rosetta_diff.read.view import flat

# By stage what its failure says about the cause, given that all stages below it passed.
BREAKS = {
    "tensors": "the two sides are not fed the same arrays",
    "weights": "the two sides do not begin with the same weights",
    "forward": "the same weights and inputs give other outputs",
    "loss": "the outputs agree and their loss does not: look at the targets, their padding, and "
    "the mean",
    "gradients": "the loss agrees and its gradients do not",
    "step": "the gradients agree and the optimizer's step does not: look at its constants, at "
    "where epsilon stands, and at its list of parameters",
    "trajectory": "one step agrees and several steps do not: look at the order of batches, and at "
    "what is kept between steps",
}
OF_STATISTICS = (
    "the gradients agree and the running statistics after a step do not: look at their momentum, "
    "and at whether a variance is divided by n or by n - 1"
)
STAGES = (*BREAKS,)
NAN = "NaN on both sides, which shows nothing; record a batch of which both compute numbers"
# Words for the axes of an output of which nothing else is known.
OUTPUT = (("row", "unit"), ("row", "time step", "unit"))
ROW, GATE = ("row",), "gate"
GATES = {
    "lstm": ("input", "forget", "candidate", "output"),
    "gru": ("update", "reset", "candidate"),
}


@dataclass(frozen=True)
class Bound:
    """How far two arrays may be apart, and what their differences are divided by."""

    tolerance: float
    quantity: str = ""  # whose bound it is; "" where both arrays must be equal
    # True: the tolerance follows from the left side's own noise, and not from a table
    measured: bool = False
    # What differences are divided by: 0.0 for each left number; None for the left side's largest
    # number, of an output without constants of a mask.
    scale: float | None = None
    smallest_scale: float = 0.0
    # Of an output: the share of its largest number that rounding may make of any other number.
    rounding: float = 1.0
    # Reads what tells how much does not count.
    allowed: Callable[[], Callable[[slice], Array]] | None = None


@dataclass(frozen=True)
class Item:
    """Two arrays that are to agree. They are read when they are needed, and may be again."""

    stage: str
    tensor: str
    left: Load
    right: Load
    bound: Bound
    tensors: TensorPair | None = None  # of what a layer or a model is given or gives
    pair: LayerPair | None = None  # None: of no layer
    name: str = ""  # of the tensor within the pair
    call: CallPair | None = None  # of an output: the calls that gave it

    @property
    def is_output(self) -> bool:
        """True for what a layer or a model is given or gives."""
        return self.stage in ("tensors", "forward")

    @property
    def is_update(self) -> bool:
        """True for weights after a step."""
        return self.stage == "step" and self.pair is not None

    @property
    def turn(self) -> str:
        """How a mapping turns the right axes, in words."""
        return self.tensors.turn if self.tensors else ""

    @property
    def by_number(self) -> bool:
        """True if a left number that is larger than the scale,
        such as a constant of a mask, is its own scale."""
        return self.bound.scale == 0.0 or (self.is_output and self.bound.scale is None)

    @property
    def is_of_model(self) -> bool:
        """True for an output of the whole model: a named one, or of the layer that is the model."""
        layers = self.pair.left if self.pair else None
        return self.stage == "forward" and (layers is None or layers.layer.path == layers.side.root)

    @property
    def axes_are_known(self) -> bool:
        """True for a layer whose axes its framework or its settings tell."""
        return self.pair is not None and self.pair.left.kind in (*RECURRENT, *CHANNELLED)

    @property
    def name_of_axes(self) -> str:
        """The name by which [axes] of a mapping turns the right array."""
        return self.pair.name if self.pair else self.tensor

    @property
    def is_statistic(self) -> bool:
        """True for a running mean or variance after a step, which no optimizer moves."""
        return self.stage == "step" and self.name.startswith("moving_")

    def scale_of(self, left: Array) -> float:
        """Return what differences from this array are divided by."""
        if self.bound.scale is not None:
            return self.bound.scale
        return (
            max((largest_unmasked if self.is_output else largest)(left), self.bound.smallest_scale)
            or 1.0
        )

    def scales_of(self, left: Array) -> Array | float:
        """Return the same for each place on the last axis of an output,
        of which some may be far smaller."""
        scale, bound = self.scale_of(left), self.bound
        if not self.is_output or bound.scale is not None or not bound.tolerance:
            return scale
        return scales_of_places(left, scale, bound.rounding * scale / bound.tolerance)

    def index_in_words(self, where: tuple[int, ...]) -> str:
        """Return an index in words, such as "row 3, forget gate, unit 5"."""
        axes = next((words for words in self._words_of_axes() if len(words) == len(where)), None)
        if axes is None:
            return f"index {', '.join(map(str, where))}" if where else ""
        words = []
        for axis, number in zip(axes, where, strict=True):
            if axis == GATE and self.pair:  # an axis of the blocks of all gates
                gates = GATES[self.pair.left.kind]
                units = max(1, self.pair.left.shapes[self.name][-1] // len(gates))
                words += [
                    f"{gates[min(number // units, len(gates) - 1)]} gate",
                    f"unit {number % units}",
                ]
            else:
                words.append(f"{axis} {number + (axis == 'step')}")
        return ", ".join(words)

    def _words_of_axes(self) -> Sequence[Sequence[str]]:
        """Words for each axis, of as many axes as the array may have;
        none where a line arranges a weight."""
        if self.stage == "trajectory":
            return [["step"]]
        if self.tensors:
            names = [re.sub(r"\d+$", "", name) for name in flat(self.tensors.left.axes)]
            known = self.call and ROW in self.tensors.left.axes
            return (
                [["time step" if name == "time" else name for name in names]] if known else OUTPUT
            )
        if self.pair is None or (
            self.name in self.pair.weights and self.pair.weights[self.name].line
        ):
            return ()
        kind, shape = self.pair.left.kind, self.pair.left.shapes.get(self.name)
        if shape and kind in GATES:
            return [[*("row" for _ in shape[1:]), GATE]]
        return [{"embedding": ["row", "column"], "dense": ["input", "unit"]}.get(kind, [])]


class Place(NamedTuple):
    """A place of a replay: what a layer is given or gives there, or the loss or a step."""

    layer: str  # of the right side
    words: str
    lines: tuple[str, str] = ("", "")  # that call the layer, on the left and on the right

    def __str__(self) -> str:
        return f"{self.layer or 'the model'} {self.words}"


@dataclass(frozen=True)
class Check:
    """The result of comparing an item; a stage has one or several,
    and so has a layer of a replay."""

    item: Item
    error: float  # infinite where shape, dtype or finiteness already differ
    where: tuple[int, ...] = ()  # index of the largest difference
    note: str = ""  # the two values at that index, or another remark
    rules: tuple[Rule, ...] = ()  # that were needed
    # False: zeros, infinities, no numbers or too wide a bound, of which nothing could differ
    tells: bool = True
    place: Place | None = None  # of a replay

    @property
    def stage(self) -> str:
        return self.item.stage

    @property
    def tensor(self) -> str:
        return self.item.tensor

    @property
    def tolerance(self) -> float:
        return self.item.bound.tolerance

    @property
    def inside(self) -> bool:
        """True if it is beyond its bound and excused."""
        return not {*self.rules}.isdisjoint(EXCUSES)

    @property
    def passed(self) -> bool:
        return self.error <= self.tolerance or self.inside

    @property
    def is_nan(self) -> bool:
        """True where neither side has a number."""
        return self.note.startswith(NAN)

    @property
    def used(self) -> float:
        """The error as a share of the tolerance; the error itself if the tolerance is zero."""
        return self.error / self.tolerance if self.tolerance else self.error

    @property
    def finite_error(self) -> float | None:
        """The error, or None if it is not finite."""
        return self.error if isfinite(self.error) else None

    @property
    def result(self) -> str:
        """The error against its bound, where it is, and both values."""
        error = (
            ""
            if self.finite_error is None
            else (f"error {self.error:.1e}, bound {self.tolerance:.1e}; ")
        )
        index = self.item.index_in_words(self.where)
        return f"{error}{f'{index}: ' if index else ''}{self.note}"

    @property
    def line(self) -> str:
        """The tensor or the place, and the result."""
        return f"{self.place or self.tensor}: {self.result}"

    def as_json(self) -> dict[str, Any]:
        """An error that is not finite is null."""
        return {
            "stage": self.stage,
            "tensor": self.tensor,
            "error": self.finite_error,
            "tolerance": self.tolerance,
            "where": self.where,
            "note": self.note,
            "measured": self.item.bound.measured,
            "turn": self.item.turn,
            "inside": self.inside,
            "passed": self.passed,
        }


def judge(item: Item) -> Check:
    """Compare the arrays of an item: the shape before values."""
    left, right = item.left(), item.right()
    if left is None or right is None:
        return Check(item, inf, note=f"the {'right' if left is None else 'left'} side alone has it")
    if right.shape != left.shape:
        line = (
            "" if item.axes_are_known else line_of_turn(item.name_of_axes, left.shape, right.shape)
        )
        meant = f"; if that is meant, a mapping file says [axes] {line}" if line else ""
        return Check(item, inf, note=f"shape {right.shape}, expected {left.shape}{meant}")
    if item.is_output and item.bound.quantity and are_whole(left) and are_whole(right):
        item = replace(item, bound=Bound(0.0, scale=1.0))
    scale, allowed = item.scale_of(left), item.bound.allowed() if item.bound.allowed else None
    difference, where = largest_difference(
        left, right, allowed, item.scales_of(left) if item.by_number else None
    )
    number = np.result_type(right, left).type
    note = f"got {number(right[where])!s}, expected {number(left[where])!s}" if right.size else ""
    if not isfinite(difference) and np.isnan(right[where]) and np.isnan(left[where]):
        both = np.isnan(right) & np.isnan(left)
        rest = judge(
            replace(
                item, left=lambda: np.where(both, 0, left), right=lambda: np.where(both, 0, right)
            )
        )
        if not rest.passed:
            return replace(rest, item=item)
        note = NAN
    error = (difference if item.by_number else difference / scale) if isfinite(difference) else inf
    tells = item.bound.tolerance < 1 and has_numbers(left)
    return Check(item, error, where, "; ".join(filter(None, (note, item.turn))), tells=tells)


def nearest(failed: Sequence[Check]) -> Check:
    """Return the failure of a stage that is nearest to the cause: the first in the order of
    computing, which is backwards for gradients; of a step, where each tensor has an update of its
    own, the worst."""
    if failed[0].stage == "gradients":
        return failed[-1]
    return max(failed, key=lambda check: check.error) if failed[0].stage == "step" else failed[0]


def explain_stage(name: str, check: Check, failures: int, checks: int) -> list[str]:
    """Lines on a stage that breaks, and on the tensor that is shown."""
    words = OF_STATISTICS if check.item.is_statistic else BREAKS[check.stage]
    words = "both sides have NaN there" if check.is_nan else words
    return [
        f"{name} {'shows nothing' if check.is_nan else 'breaks'} at {check.stage}: {words}",
        check.line,
        *([f"{failures} of {checks} checks of this stage fail"] if checks > 1 else []),
    ]
