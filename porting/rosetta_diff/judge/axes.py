"""Axes of outputs and weights in words, and turns: right axes that stand otherwise than the left ones."""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np

from rosetta_diff.arrays import Array, largest_difference
from rosetta_diff.judge.check import GATES
from rosetta_diff.pair.mapping import Turn
from rosetta_diff.pair.pairs import LayerPair
from rosetta_diff.read.base import channelled
from rosetta_diff.read.files import ArrayFile
from rosetta_diff.read.patterns import pattern_of
from rosetta_diff.read.rules import CHANNELLED, FEATURES_LAST, RECURRENT, TAP
from rosetta_diff.read.view import Shape, Tensor, flat

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
    turn: str = ""  # how the right axes stand otherwise, in words, where it was guessed or a mapping says it

    @property
    def fit(self) -> bool:
        return self.left.shape == self.right.shape

    def array(self, place: int, change: Callable[[Array], Array] = np.asarray) -> Array:
        """The left (0) or the right (1) array, changed, such as activated."""
        array = (self.left, self.right)[place].of(self.files[place].get)
        assert array is not None
        return change(array)


@dataclass(frozen=True)
class Turns:
    """Turns of the axes of right arrays: of what a mapping names, and of layers of which nothing is known, which may
    be turned as the known ones are."""

    pairs: Sequence[LayerPair]
    named: Mapping[str, Turn]  # by the name of an array or a layer

    def views(
        self,
        name: str,
        views: Views,
        pair: LayerPair | None = None,
        others: Sequence[Tensor] = (),
        is_output: bool = False,
    ) -> Views:
        """Both arrays with their axes in one order. Of several orders that fit the first is chosen, unless another is
        ten times nearer: axes of one length may be nearer by chance. `others` are other views of the right array. An
        output of the model is as it is, unless a mapping names it."""
        names = (name, pair.left.layer.path, pair.right.layer.path) if pair else (name,)
        turn = next((self.named[key] for key in names if key in self.named), None)
        if turn:
            return turned(views, turn)
        kind = pair.left.kind if pair else ""
        known = is_output or ROW in views.left.axes or kind in (*RECURRENT, TAP)
        turns = [] if known else [*self.known(len(views.right.axes), kind)]
        candidates = [views, *(turned(views, turn) for turn in turns), *(replace(views, right=of) for of in others)]
        fitting = [candidate for candidate in candidates if candidate.fit]
        if len(fitting) < 2:
            return fitting[0] if fitting else views
        errors = [largest_difference(both.array(1), both.array(0))[0] for both in fitting]
        return fitting[min(range(len(errors)), key=lambda place: errors[place] * (10 if place else 1))]

    def known(self, number: int, kind: str = "") -> Iterator[Turn]:
        """Turns of so many axes that are seen at layers of which they are known."""
        if number > 1 and any(map(time_is_turned, self.pairs)):
            rest = tuple((f"unit{place or ''}",) for place in range(number - 2))
            yield (ROW, ("time",), *rest), (("time",), ROW, *rest)
        for first in self._channels_first if number > 2 and kind not in FEATURES_LAST else ():
            yield channelled(number, first), channelled(number, not first)

    @cached_property
    def _channels_first(self) -> set[bool]:
        """True if the left channels follow the rows, of pairs of which the right ones stand elsewhere."""
        wide = [pair for pair in self.pairs if any(len(shape) > 2 for shape in output_shapes(pair))]
        first = [[group.channels_stand_first for group in pair.both] for pair in wide if pair.left.kind in CHANNELLED]
        return {left for left, right in first if left != right}

    def ways(self, array: Array) -> list[Array]:
        """A right array as it is, and with its axes turned as those of known layers are."""
        turns = self.known(array.ndim)
        return [array, *(array.transpose([of_right.index(axis) for axis in of_left]) for of_left, of_right in turns)]


def time_is_turned(pair: LayerPair) -> bool:
    """True if time stands first in a recurrent layer of one side, whose output is told with the rows first."""
    time_first = [bool(group.settings.get("time_first")) for group in pair.both]
    return pair.left.kind in RECURRENT and time_first[0] != time_first[1]


def output_shapes(pair: LayerPair) -> list[Shape]:
    """The shapes of the first outputs of two layers."""
    return [
        group.side.shape(call.parts[0], "layers") for group in pair.both for call in group.calls[:1] if call.parts
    ]


def turned(views: Views, turn: Turn) -> Views:
    """Both arrays with the right axes in the left ones' order; as they are where there are others."""
    (left_axes, right_axes), axes = turn, views.right.axes
    if len(axes) != len(left_axes):
        return views
    right = replace(views.right, axes=tuple(axes[right_axes.index(axis)] for axis in left_axes))
    return replace(views, right=right, turn=f"the axes are {' -> '.join(map(pattern_of, turn))}")
