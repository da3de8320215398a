"""Axes of outputs and weights in words, and right axes that stand otherwise than the left ones."""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from rosetta_diff.arrays import Array, largest_difference
from rosetta_diff.judge.check import GATES
from rosetta_diff.pair.mapping import Turn
from rosetta_diff.pair.pairs import LayerPair
from rosetta_diff.read.files import ArrayFile
from rosetta_diff.read.patterns import format_axes
from rosetta_diff.read.view import Tensor, flat

# Words for the axes of an output of which nothing else is known.
OUTPUT = (("row", "unit"), ("row", "time step", "unit"))
ROW = ("row",)


def axes_of_output(tensor: Tensor) -> Sequence[Sequence[str]]:
    """Words for the axes of an output of a layer."""
    names = [re.sub(r"\d+$", "", name) for name in flat(tensor.axes)]
    return [["time step" if name == "time" else name for name in names]] if ROW in tensor.axes else OUTPUT


def axes_of_weight(pair: LayerPair, name: str) -> dict[str, Any]:
    """Words for the axes of a weight, and the units of each gate; none where a line arranges it."""
    if name in pair.weights and pair.weights[name].line:
        return {}
    kind, shape = pair.left.kind, pair.left.shapes.get(name)
    if shape and kind in GATES:
        axes = [*("row" for _ in shape[1:]), f"{kind} gate"]
        return {"axes": [axes], "units": shape[-1] // len(GATES[kind])}
    return {"axes": [{"embedding": ["row", "column"], "dense": ["input", "unit"]}.get(kind, [])]}


@dataclass(frozen=True)
class Views:
    """Two arrays that are compared, with their axes in one order."""

    left: Tensor
    right: Tensor
    files: tuple[ArrayFile, ArrayFile]
    turn: str = ""  # how the right axes stand otherwise, in words, where a mapping says it

    @property
    def fit(self) -> bool:
        return self.left.shape == self.right.shape

    def array(self, place: int, change: Callable[[Array], Array] = np.asarray) -> Array:
        """The left (0) or the right (1) array, changed, such as activated."""
        array = (self.left, self.right)[place].of(self.files[place].get)
        assert array is not None
        return change(array)


def order_axes(views: Views, turns: Mapping[str, Turn], names: Iterable[str], others: Sequence[Tensor] = ()) -> Views:
    """Both arrays with their axes in one order: as a mapping turns the first of these names that it has.

    `others` are other views of the right array. One of them is taken where the right array as it is does not fit, or
    where it is ten times nearer: axes of one length may be nearer by chance.
    """
    turn = next((turns[name] for name in names if name in turns), None)
    if turn:
        return turn_axes(views, turn)
    candidates = [views, *(replace(views, right=tensor) for tensor in others)]
    fitting = [candidate for candidate in candidates if candidate.fit]
    if len(fitting) < 2:
        return fitting[0] if fitting else views
    errors = [largest_difference(both.array(1), both.array(0))[0] for both in fitting]
    return fitting[min(range(len(errors)), key=lambda place: errors[place] * (10 if place else 1))]


def turn_axes(views: Views, turn: Turn) -> Views:
    """Both arrays with the right axes in the left ones' order; as they are where there are others."""
    (left_axes, right_axes), axes = turn, views.right.axes
    if len(axes) != len(left_axes):
        return views
    right = replace(views.right, axes=tuple(axes[right_axes.index(axis)] for axis in left_axes))
    return replace(views, right=right, turn=f"the axes are {' -> '.join(map(format_axes, turn))}")
