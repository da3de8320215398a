"""Lines of a mapping: arrays of both sides that hold the same numbers, by names, axes and sizes.

Sizes of axes are solved from the arrays' shapes.
"""

from collections.abc import Mapping, Sequence
from math import prod

import msgspec
import numpy as np

from rosetta_diff.helpers import CannotBeginError
from rosetta_diff.pair.pairs import Arrangement, Names, TensorPair
from rosetta_diff.read.description import Name
from rosetta_diff.read.view import PARTS, Axes, Shape, Tensor, View, flat, format_axes

# Names of axes in a line that is made; no array has more.
LETTERS = "nmklhijabcdefgopqrstuvwxyzABCDEF"

Shapes = Mapping[str, Shape]  # by the names of arrays
# An array, the axes that one of its own is the product of, and its size.
Equation = tuple[str, tuple[str, ...], int]


class MappingLine(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The right side of a line of [weights].
    Right weights are `times` the left ones, plus `add`."""

    to: Name | list[Name]
    axes: Name = ""
    sizes: dict[str, int] = {}
    times: float = 1.0
    add: float = 0.0


def solve_pair(
    line: str,
    names: tuple[Names, Names],
    axes: tuple[Axes, Axes] | None,
    shapes: tuple[Shapes, Shapes],
    more: MappingLine,
) -> TensorPair:
    """The pair of the arrays of these names;
    the sizes of its axes are solved from the arrays' shapes.

    Raises CannotBeginError for axes that do not fit.
    """
    where = f"the mapping's line {line}, {' = '.join(map(_describe, names, shapes))}"
    if axes is None:
        if max(map(len, names)) > 1:
            raise CannotBeginError(
                f'{where}: several arrays need axes, such as axes = "{PARTS} m -> m {PARTS}"'
            )
        plain = tuple((f"a{number}",) for number in range(len(shapes[0][names[0][0]])))
        axes = plain, plain
    _check(where, more, names, axes)
    sizes, widths = _sizes_and_widths(where, names, axes, shapes, more.sizes)
    sums = [" + ".join(map(str, of_side)) for of_side in widths]
    sizes[PARTS] = sum(widths[0])
    if sizes[PARTS] != sum(widths[1]):
        raise CannotBeginError(
            f"{where}: the left side has {sums[0]} {PARTS}, the right one {sums[1]}; name all "
            "arrays that hold them"
        )
    whole = axes[0] if len(names[0]) == 1 else axes[1]
    if PARTS in flat(axes[0] + axes[1]) and PARTS not in flat(whole):
        whole = (PARTS,), *whole
    left, right = (
        Tensor(
            tuple(
                View(
                    name,
                    axes[side],
                    {**sizes, PARTS: width} if PARTS in flat(axes[side]) else sizes,
                )
                for name, width in zip(names[side], widths[side], strict=True)
            ),
            whole,
        )
        for side in range(2)
    )
    return TensorPair(left, right, more.times, more.add, "mapping", Arrangement(names, axes, sizes))


def _describe(names: Names, shapes: Shapes) -> str:
    """Arrays of one side in words, with their shapes."""
    return " + ".join(f"{name} {'×'.join(map(str, shapes[name])) or '1'}" for name in names)


def _sizes_and_widths(
    where: str,
    names: tuple[Names, Names],
    axes: tuple[Axes, Axes],
    shapes: tuple[Shapes, Shapes],
    given: Mapping[str, int],
) -> tuple[dict[str, int], list[list[int]]]:
    """The sizes of all axes, and for each array of each side its number of parts."""
    parts_of = [
        [f"{PARTS}:{side}:{place}" for place in range(len(names[side]))] for side in range(2)
    ]
    equations = [
        equation
        for side in range(2)
        for name, parts in zip(names[side], parts_of[side], strict=True)
        for equation in _equations(where, name, axes[side], shapes[side][name], parts)
    ]
    sizes = _solve(where, equations, given)
    widths = [[sizes.get(parts, 1) for parts in of_side] for of_side in parts_of]
    return {axis: size for axis, size in sizes.items() if ":" not in axis}, widths


def _equations(where: str, name: str, axes: Axes, shape: Shape, parts: str) -> list[Equation]:
    """The equations of one array, whose number of parts has a name of its own."""
    if 0 in shape:
        raise CannotBeginError(
            f"{where}: {name} has the shape {shape} and no numbers; [skip] leaves it out"
        )
    if len(axes) != len(shape):
        raise CannotBeginError(
            f"{where}: {name} has the shape {shape}, which are {len(shape)} axes, and the line "
            f"gives it {len(axes)}: {format_axes(axes)!r}"
        )
    return [
        (name, tuple(parts if axis == PARTS else axis for axis in group), size)
        for group, size in zip(axes, shape, strict=True)
    ]


def _solve(where: str, equations: Sequence[Equation], given: Mapping[str, int]) -> dict[str, int]:
    """The sizes of all axes. Raises CannotBeginError where an equation fails,
    or sizes are missing."""
    sizes, rest = dict(given), list(equations)
    while rest:
        equation = name, group, size = min(
            rest, key=lambda candidate: sum(axis not in sizes for axis in candidate[1])
        )
        unknown = [axis for axis in group if axis not in sizes]
        known = prod(sizes[axis] for axis in group if axis in sizes)
        plain = [axis.partition(":")[0] for axis in group]
        words = " × ".join(str(sizes.get(*both)) for both in zip(group, plain, strict=True)) or "1"
        if len(unknown) > 1:
            missing = unknown[0].partition(":")[0]
            raise CannotBeginError(
                f"{where}: {size} of {name} is {words}, which leaves {len(unknown)} sizes open; "
                f"add: sizes = {{{missing} = …}}"
            )
        if size % known or (not unknown and known != size):
            raise CannotBeginError(f"{where}: {size} of {name} is not {words} ({' '.join(plain)})")
        if unknown:
            sizes[unknown[0]] = size // known
        rest.remove(equation)
    return sizes


def _check(
    where: str, line: MappingLine, names: tuple[Names, Names], axes: tuple[Axes, Axes]
) -> None:
    """Raises CannotBeginError for what is wrong with a line whatever the shapes are."""
    left_names, right_names = (set(flat(of_side)) for of_side in axes)
    several, pattern = max(map(len, names)) > 1, " -> ".join(map(format_axes, axes))
    wrong = ""
    if min(map(len, names)) > 1:
        wrong = (
            f"{len(names[0])} arrays are to be {len(names[1])}; expected one array on one side at "
            "least"
        )
    elif several and PARTS not in left_names | right_names:
        wrong = f"several arrays need an axis {PARTS} in {pattern!r}"
    elif left_names ^ right_names and not (several and left_names ^ right_names == {PARTS}):
        alone = ", ".join(sorted(left_names ^ right_names))
        wrong = f"{alone} of {pattern!r} stands on one side; expected the same axes on both"
    elif line.sizes.keys() - left_names - right_names or min(line.sizes.values(), default=1) < 1:
        wrong = f"sizes are {line.sizes}; expected positive ones of axes in {pattern!r}"
    elif not line.times or not np.isfinite([line.times, line.add]).all():
        wrong = (
            f"times is {line.times} and add {line.add}; expected finite numbers, and times not 0"
        )
    if wrong:
        raise CannotBeginError(f"{where}: {wrong}")


def axes_between(left: Shape, right: Shape) -> tuple[Axes, Axes] | None:
    """The axes of two arrays of the same sizes, whatever axes of one number they have;
    None where sizes differ."""
    if (
        sorted(size for size in left if size != 1) != sorted(size for size in right if size != 1)
        or 0 in left
    ):
        return None
    letters = {place: LETTERS[place] for place, size in enumerate(left) if size != 1}
    left_axes = tuple((letters[place],) if place in letters else () for place in range(len(left)))
    right_axes: list[tuple[str, ...]] = []
    for size in right:
        place = next((place for place in letters if left[place] == size), None)
        right_axes.append(() if place is None else (letters.pop(place),))
    return left_axes, tuple(right_axes)
