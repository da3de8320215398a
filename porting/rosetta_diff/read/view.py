"""Recorded arrays, and parts of them, with named axes:
one description by which an array is read and written.

A weight, a gradient, an output and a feed are tensors: views of a record's arrays,
with their axes in a canonical order.
"""

import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from math import prod

import numpy as np

from rosetta_diff.arrays import Array
from rosetta_diff.helpers import CannotBeginError

Shape = tuple[int, ...]
# For each axis of an array the names whose sizes it is the product of.
Axes = tuple[tuple[str, ...], ...]
# The first of some parts that follow one another, and the one after the last.
Span = tuple[int, int]
Read = Callable[[str], Array | None]  # reads an array by its name; None where there is none

GROUP, AXIS = re.compile(r"\(([^()]*)\)|(\S+)"), re.compile(r"[A-Za-z]\w*")  # in a pattern of axes
PARTS = "parts"  # the axis along which several arrays of one side are one of the other


@dataclass(frozen=True)
class View:
    """A recorded array, or a part of it, with named axes.
    Writing into `of(...)` writes into the array."""

    array: str
    axes: Axes  # of the array as the framework has it
    sizes: Mapping[str, int]  # of every name
    picked: Mapping[str, int | slice] = field(default_factory=dict)  # an int drops its axis

    @property
    def shape(self) -> Shape:
        """Shape of the whole array."""
        return tuple(prod(self.sizes[name] for name in axis) for axis in self.axes)

    def size(self, name: str) -> int:
        """Length of a named axis of the view; 1 for an axis that the array lacks."""
        picked = self.picked.get(name, slice(None))
        if isinstance(picked, int) or name not in flat(self.axes):
            return 1
        return len(range(*picked.indices(self.sizes[name])))

    def of(self, array: Array, order: Sequence[str]) -> Array:
        """The view of an array that lies in memory row by row,
        with one axis for each name in `order`."""
        names = flat(self.axes)
        view = array.reshape([self.sizes[name] for name in names])
        # An array, were it of one number.
        view = view[(*(self.picked.get(name, slice(None)) for name in names), ...)]
        kept = [name for name in names if not isinstance(self.picked.get(name), int)]
        view = view.transpose([kept.index(name) for name in order if name in kept])
        return np.expand_dims(
            view, tuple(place for place, name in enumerate(order) if name not in kept)
        )


@dataclass(frozen=True)
class Tensor:
    """Views of a record's arrays that are one array.
    Several stand one after the other along the axis "parts"."""

    views: tuple[View, ...]
    axes: Axes  # of the tensor
    added: tuple["Tensor", ...] = ()  # what is added up with it, such as a second bias

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the arrays."""
        return tuple(dict.fromkeys(view.array for term in self.terms for view in term.views))

    @cached_property
    def shape(self) -> Shape:
        return tuple(prod(map(self._size, axis)) for axis in self.axes)

    def align(self, axes: Axes) -> "Tensor":
        """The tensor with its axes in this order, if it has these axes."""
        return replace(self, axes=axes) if sorted(self.axes) == sorted(axes) else self

    def _size(self, name: str) -> int:
        return (
            sum(view.size(name) for view in self.views)
            if name == PARTS
            else self.views[0].size(name)
        )

    @property
    def terms(self) -> tuple["Tensor", ...]:
        """The tensors that are added up."""
        return Tensor(self.views, self.axes), *self.added

    def of(self, read: Read) -> Array | None:
        """The first term, a view of its array wherever it can be one; None where an array is
        missing. An array of another shape than its view's, which no framework writes, is returned
        as it is."""
        order, parts = flat(self.axes), list[Array]()
        for view in self.views:
            array = read(view.array)
            if array is None or array.shape != view.shape:
                return array
            parts.append(view.of(array, order))
        whole = parts[0] if len(parts) == 1 else np.concatenate(parts, order.index(PARTS))
        return whole.reshape(self.shape)

    def sum(self, read: Read) -> Array | None:
        """The sum of all terms of which the arrays are there; None where there is none."""
        there = [array for term in self.terms if (array := term.of(read)) is not None]
        odd = [array for array in there if array.shape != self.shape]
        return odd[0] if odd else sum(there[1:], there[0]) if there else None

    def write(self, array: Array, arrays: Mapping[str, Array]) -> None:
        """Write an array into those of the first term.
        What the tensor does not have of them stays as it is."""
        order, start = flat(self.axes), 0
        whole = array.reshape([self._size(name) for name in order])
        for view in self.views:
            end = start + view.size(PARTS)
            part = whole[
                tuple(slice(start, end) if name == PARTS else slice(None) for name in order)
            ]
            view.of(arrays[view.array], order)[...] = part
            start = end


def flat(axes: Axes) -> list[str]:
    """The names of all axes in order."""
    return [name for axis in axes for name in axis]


def plain(name: str, shape: Shape, axes: Axes = ()) -> Tensor:
    """An array as it is, perhaps with names of its axes."""
    axes = axes or tuple((f"a{place}",) for place in range(len(shape)))
    return Tensor((View(name, axes, dict(zip(flat(axes), shape, strict=True))),), axes)


def without_ones(name: str, shape: Shape) -> Tensor:
    """An array as it is but for axes of one number, which say nothing."""
    axes = tuple(() if size == 1 else (f"a{place}",) for place, size in enumerate(shape))
    sizes = {axis[0]: size for axis, size in zip(axes, shape, strict=True) if axis}
    return Tensor((View(name, axes, sizes),), tuple(axis for axis in axes if axis))


def side_by_side(
    names: Sequence[str],
    axes: Axes,
    sizes: Mapping[str, int],
    widths: Sequence[int],
    kept: Sequence[Span],
) -> Iterator[View]:
    """Views of arrays that stand one after the other along the axis "parts", on which each has its
    width; those of the parts that are kept, in this order. An array without the axis is a part
    itself."""
    for first, end in kept:
        start = 0
        for name, width in zip(names, widths, strict=True):
            low, high = max(start, first), min(start + width, end)
            if low < high:
                picked = {PARTS: slice(low - start, high - start)} if PARTS in flat(axes) else {}
                yield View(name, axes, {**sizes, PARTS: width} if picked else sizes, picked)
            start += width


def equal_spans(length: int, number: int) -> list[Span]:
    """Cut an axis into so many equal parts."""
    size = length // number
    return [(start, start + size) for start in range(0, size * number, size)]


# Patterns of axes, as lines of a mapping and rules of frameworks have them


def parse_axes(pattern: str, where: str) -> Axes:
    """The axes of one side's pattern, such as "(g parts d) m"; "1" is an axis of one number."""
    axes: list[tuple[str, ...]] = []
    for inside, alone in GROUP.findall(pattern):
        group = tuple(inside.split()) if not alone else () if alone == "1" else (alone,)
        wrong = next((name for name in group if not AXIS.fullmatch(name)), None)
        if wrong:
            raise CannotBeginError(
                f"{where}: {wrong!r} is no name of an axis; expected words, such as {PARTS}, m or "
                "head"
            )
        axes.append(group)
    count = Counter(name for group in axes for name in group)
    twice = next((name for name, number in count.items() if number > 1), None)
    if twice:
        raise CannotBeginError(
            f"{where}: the axis {twice} stands twice in {pattern!r}; expected each once"
        )
    return tuple(axes)


def format_axes(axes: Axes) -> str:
    return " ".join(
        group[0] if len(group) == 1 else f"({' '.join(group)})" if group else "1" for group in axes
    )
