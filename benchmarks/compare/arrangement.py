"""The same numbers in another arrangement: arrays of one side that are an array of the other one, along named axes.

Names, axes and sizes say all, so what arranges one side also takes it apart again.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate, pairwise
from math import prod

import numpy as np

from benchmarks.compare.comparer import Array

PARTS = "parts"  # the axis along which several arrays of one side are one of the other
LACKING = "_"  # stands for a part that this side lacks

Axes = tuple[tuple[str, ...], ...]  # for each axis of an array the names whose sizes it is the product of


@dataclass(frozen=True)
class Half:
    """The arrays of one side that a line names, and their axes."""

    names: tuple[str, ...]  # LACKING for a part that this side lacks
    axes: Axes
    widths: tuple[int, ...] = ()  # how many parts each array has

    @property
    def own(self) -> list[str]:
        """The names of the arrays that are there."""
        return [name for name in self.names if name != LACKING]

    @property
    def flat(self) -> tuple[str, ...]:
        return tuple(name for group in self.axes for name in group)

    def spans(self) -> list[slice]:
        """The parts of each array along the axis of all parts."""
        return [slice(*both) for both in pairwise(accumulate(self.widths, initial=0))]


@dataclass(frozen=True)
class Arrangement:
    """Arrays of the left side and the arrays of the right side that hold the same numbers in another arrangement.

    The numbers of both sides are compared in the layout of that side which has one array alone.
    """

    line: str  # the names on the left of the line that it comes of
    left: Half
    right: Half
    sizes: Mapping[str, int]  # of all axes but the parts
    order: tuple[int, ...] = ()
    times: float = 1.0
    add: float = 0.0
    found: str = "mapping"  # how: by the mapping, or by value

    @property
    def name(self) -> str:
        return " + ".join(self.left.own)

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape in which both sides are compared."""
        widths = [dict(zip(half.names, half.widths, strict=True)).get(LACKING, 0) for half in (self.left, self.right)]
        sizes = self._sizes(sum(self.left.widths) - sum(widths))
        return tuple(prod(sizes[name] for name in group) for group in self.whole)

    @property
    def whole(self) -> Axes:
        """The axes in which both sides are compared."""
        axes = self.left.axes if len(self.left.names) == 1 else self.right.axes
        has_parts = any(PARTS in half.flat for half in (self.left, self.right))
        return axes if not has_parts or any(PARTS in group for group in axes) else ((PARTS,), *axes)

    def from_left(self, read: Callable[[str], Array]) -> Array:
        """The left arrays in the layout of both; `read` gives an array by its name."""
        return self._put_together(self.left, self.right, read)

    def from_right(self, read: Callable[[str], Array]) -> Array:
        """The right arrays, whose numbers are as they are there, in the layout of both."""
        return self._put_together(self.right, self.left, read, self.order)

    def to_right(self, whole: Array, like: Callable[[str], Array]) -> dict[str, Array]:
        """The right arrays that hold the whole's numbers. What the left side lacks is as it is in the arrays that
        `like` gives."""
        return self._taken_apart(self.right, self.left, whole, like, self.order)

    def turned(self) -> "Arrangement":
        """The same with left and right in each other's place."""
        order = tuple(self.order.index(place) for place in range(len(self.order)))
        line, times = ", ".join(self.right.names), 1 / self.times
        return replace(
            self, line=line, left=self.right, right=self.left, order=order, times=times, add=-self.add * times
        )

    def of_outputs(self, shapes: Sequence[tuple[int, ...]], is_left: bool) -> "Arrangement | None":
        """The entry of the outputs, of these shapes, of the layers whose kernels this entry arranges, each with its
        last axis arranged as the kernels' axis of outputs, and all others as one. None where nothing is to be
        arranged; raises ValueError where the outputs are not of the sizes that the kernels have."""
        alone = len(self.left.own) == len(self.right.own) == 1
        groups = [
            [group for group in half.axes if PARTS in group or (len(group) > 1 and PARTS not in self.left.flat)]
            for half in (self.left, self.right)
        ]
        if len(groups[0]) != 1 or len(groups[1]) != 1 or {*groups[0][0]} != {*groups[1][0]}:
            if alone:
                return None
            raise ValueError("the arrays are no parts of one axis")
        left, right = (
            replace(half, axes=(("rows",), group[0]))
            for half, group in zip((self.left, self.right), groups, strict=True)
        )
        half = left if is_left else right
        widths = [width for name, width in zip(half.names, half.widths, strict=True) if name != LACKING]
        made = replace(self, left=left, right=right, sizes={**self.sizes, "rows": prod(shapes[0][:-1])})
        for shape, width in zip(shapes, widths, strict=True):
            sizes = made._sizes(width)
            if not shape or shape[:-1] != shapes[0][:-1] or shape[-1] != prod(sizes[name] for name in half.axes[1]):
                if alone:
                    return None
                raise ValueError(f"an output of the shape {shape} is not of {width} parts")
        return made

    def _axes(self) -> tuple[str, ...]:
        return tuple(name for group in self.whole for name in group)

    def _sizes(self, width: int) -> dict[str, int]:
        return {**self.sizes, PARTS: width}

    def _merged(self, array: Array) -> Array:
        """An array of one axis for each name in the layout of both."""
        sizes = dict(zip(self._axes(), array.shape, strict=True))
        return array.reshape([prod(sizes[name] for name in group) for group in self.whole])

    def _whole_of(self, half: Half, read: Callable[[str], Array]) -> Array:
        """The arrays of a half side by side, with one axis for each name."""
        names, found = self._axes(), []
        for name, width in zip(half.names, half.widths, strict=True):
            if name == LACKING:
                continue
            sizes = self._sizes(width)
            array = read(name).reshape([sizes[axis] for axis in half.flat])
            ordered = array.transpose([half.flat.index(axis) for axis in names if axis in half.flat])
            found.append(ordered if PARTS in half.flat or PARTS not in names else self._with_parts(ordered))
        return found[0] if len(found) == 1 else np.concatenate(found, names.index(PARTS))

    def _with_parts(self, array: Array) -> Array:
        return np.expand_dims(array, self._axes().index(PARTS))

    def _put_together(
        self, half: Half, other: Half, read: Callable[[str], Array], order: Sequence[int] = ()
    ) -> Array:
        array = self._whole_of(half, read)
        if order:
            array = self._reordered(array, [int(place) for place in np.argsort(order)])
        if LACKING in other.names:
            there = other.spans()[other.names.index(LACKING)]
            array = np.delete(array, there, self._axes().index(PARTS))
        return self._merged(array)

    def _reordered(self, array: Array, order: Sequence[int]) -> Array:
        """The array with equal blocks along the axis of parts in another order."""
        axis = self._axes().index(PARTS)
        return np.concatenate([np.split(array, len(order), axis)[place] for place in order], axis)

    def _taken_apart(
        self, half: Half, other: Half, whole: Array, like: Callable[[str], Array], order: Sequence[int] = ()
    ) -> dict[str, Array]:
        names = self._axes()
        axis = names.index(PARTS) if PARTS in names else -1
        own = [(name, width) for name, width in zip(half.names, half.widths, strict=True) if name != LACKING]
        sizes = self._sizes(sum(width for _, width in own))
        if LACKING in other.names:  # what the other side lacks is as it was
            array = np.array(self._whole_of(half, like), whole.dtype)
            kept = np.delete(np.arange(array.shape[axis]), other.spans()[other.names.index(LACKING)])
            sizes = self._sizes(len(kept))
            array[(slice(None),) * axis + (kept,)] = whole.reshape([sizes[name] for name in names])
        else:
            array = whole.reshape([sizes[name] for name in names])
        if order:
            array = self._reordered(array, order)
        pieces = [array]
        if axis >= 0:
            ends = list(accumulate(width for _, width in own))
            pieces = np.split(array, ends[:-1], axis)
        found = {}
        for (name, width), piece in zip(own, pieces, strict=True):
            there = [axis for axis in names if axis in half.flat]
            if len(there) < len(names):  # the arrays are the parts themselves
                piece = piece.squeeze(names.index(PARTS))
            sizes = self._sizes(width)
            ordered = piece.transpose([there.index(axis) for axis in half.flat])
            found[name] = ordered.reshape([prod(sizes[axis] for axis in group) for group in half.axes])
        return found
