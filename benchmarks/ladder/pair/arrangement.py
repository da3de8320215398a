"""The same numbers in another arrangement: arrays of a side that make one tensor, along named axes.

Names, axes and sizes say all: a tensor is put together of views of the arrays, and writing through the same views
takes it apart again.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from math import prod
from typing import Any

import numpy as np

from benchmarks.ladder.arrays import Array

PARTS = "parts"  # the axis along which several arrays of one side are one of the other
LACKING = "_"  # stands for a part that this side lacks
ROWS = "rows"  # all axes of an output but the last, as one

Axes = tuple[tuple[str, ...], ...]  # for each axis of an array the names whose sizes it is the product of
Span = tuple[int, int]  # the first of some parts that follow one another, and the one after the last


@dataclass(frozen=True)
class Layout:
    """How arrays of one side make a tensor."""

    names: tuple[str, ...]  # of the arrays; LACKING for a part that this side lacks
    axes: Axes  # of each array
    whole: Axes  # of the tensor
    sizes: Mapping[str, int]  # of all axes; of the parts, how many the tensor has
    widths: tuple[int, ...]  # how many parts each array has
    kept: tuple[Span, ...]  # which parts of all arrays, side by side, the tensor has, in its order

    @property
    def own(self) -> list[str]:
        """The names of the arrays that are there."""
        return [name for name in self.names if name != LACKING]

    @property
    def shape(self) -> tuple[int, ...]:
        """The tensor's."""
        return tuple(prod(self.sizes[name] for name in group) for group in self.whole)

    def shape_of(self, name: str) -> tuple[int, ...]:
        """An array's."""
        sizes = {**self.sizes, PARTS: dict(zip(self.names, self.widths, strict=True))[name]}
        return tuple(prod(sizes[axis] for axis in group) for group in self.axes)

    def together(self, arrays: Mapping[str, Array]) -> Array:
        """The tensor that the arrays make; a view of them wherever it can be one."""
        pieces = self._pieces(arrays)
        if len(pieces) == 1:
            return pieces[0][0].reshape(self.shape)
        made = np.empty([self.sizes[axis] for axis in flat(self.whole)], pieces[0][0].dtype)
        for piece, place in pieces:
            made[place] = piece
        return made.reshape(self.shape)

    def apart(self, tensor: Array, arrays: Mapping[str, Array]) -> None:
        """Write a tensor into the arrays, each of which lies in memory row by row. What the other side lacks of them
        stays as it is."""
        whole = tensor.reshape([self.sizes[axis] for axis in flat(self.whole)])
        for piece, place in self._pieces(arrays):
            piece[...] = whole[place]

    def _pieces(self, arrays: Mapping[str, Array]) -> list[tuple[Array, tuple[slice, ...]]]:
        """Views of the arrays' parts, with one axis for each name of the tensor's, and their places in it."""
        own, whole = flat(self.axes), flat(self.whole)
        lead = (slice(None),) * whole.index(PARTS) if PARTS in whole else None
        widths = dict(zip(self.names, self.widths, strict=True))
        found: list[tuple[Array, tuple[slice, ...]]] = []
        for name, parts, place in self._blocks():
            sizes = {**self.sizes, PARTS: widths[name]}
            view = arrays[name].reshape([sizes[axis] for axis in own])
            view = view.transpose([own.index(axis) for axis in whole if axis in own])
            if lead is None:
                found.append((view, ()))
                continue
            if PARTS not in own:  # the array is a part itself
                view = np.expand_dims(view, len(lead))
            found.append((view[(*lead, parts)], (*lead, place)))
        return found

    def _blocks(self) -> Iterator[tuple[str, slice, slice]]:
        """An array's name, some of its parts, and where the tensor has them."""
        start = 0
        for name, width in zip(self.names, self.widths, strict=True):
            place = 0
            for first, end in self.kept:
                low, high = max(start, first), min(start + width, end)
                if name != LACKING and low < high:
                    yield name, slice(low - start, high - start), slice(place + low - first, place + high - first)
                place += end - first
            start += width


@dataclass(frozen=True)
class Arrangement:
    """Arrays of the left side and the arrays of the right side that hold the same numbers in another arrangement.

    Both sides are compared in the layout of that one which has one array alone. Right numbers are `times` the left
    ones, plus `add`.
    """

    left: Layout
    right: Layout
    order: tuple[int, ...] = ()  # of equal parts: which of the left array stands at each place of the right one
    times: float = 1.0
    add: float = 0.0
    found: str = "mapping"  # how: by the mapping, by value or by shape

    @property
    def both(self) -> tuple[Layout, Layout]:
        return self.left, self.right

    @property
    def alone(self) -> bool:
        """Whether it is of one array on each side."""
        return len(self.left.own) == len(self.right.own) == 1

    @property
    def meaning(self) -> tuple[Any, ...]:
        """What is equal for two arrangements that do the same, whatever their axes are called."""
        places = {axis: place for place, axis in enumerate(dict.fromkeys(flat(self.left.axes + self.right.axes)))}
        axes = [[[places[axis] for axis in group] for group in layout.axes] for layout in self.both]
        sizes = [self.left.sizes[axis] for axis in places]
        parts = places.get(PARTS)
        return self.left.names, self.right.names, str((axes, sizes, parts)), self.order, self.times, self.add

    def turned(self) -> "Arrangement":
        """The same with left and right in each other's place."""
        order = tuple(self.order.index(place) for place in range(len(self.order)))
        times = 1 / self.times
        return replace(self, left=self.right, right=self.left, order=order, times=times, add=-self.add * times)

    def of_outputs(self) -> tuple[Layout, Layout] | None:
        """How the outputs of the layers whose kernels these are make one: each output's last axis is arranged as the
        kernels' axis of outputs. None where the kernels have no such axis."""
        several = PARTS in flat(self.left.axes)
        found = [
            [group for group in layout.axes if PARTS in group or (len(group) > 1 and not several)]
            for layout in self.both
        ]
        if [len(groups) for groups in found] != [1, 1] or {*found[0][0]} != {*found[1][0]}:
            return None
        (left,), (right,) = found
        whole = (ROWS,), left if left in self.left.whole else right
        return (
            replace(self.left, axes=((ROWS,), left), whole=whole),
            replace(self.right, axes=((ROWS,), right), whole=whole),
        )


def flat(axes: Axes) -> list[str]:
    return [name for group in axes for name in group]


def equal_spans(length: int, number: int) -> list[Span]:
    """So many equal parts of an axis."""
    size = length // number
    return [(start, start + size) for start in range(0, size * number, size)]
