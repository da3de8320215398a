"""Lines of a mapping file, ready to paste: what was paired,
and what holds the same numbers elsewhere."""

from collections.abc import Collection, Iterable, Iterator
from itertools import permutations
from pathlib import Path
from typing import NamedTuple

import numpy as np

from rosetta_diff.helpers import CannotBeginError, as_toml, count, write_atomically
from rosetta_diff.pair.by_value import find_by_value
from rosetta_diff.pair.pairing import Pairing, describe
from rosetta_diff.pair.pairs import LayerPair, TensorPair
from rosetta_diff.pair.ways import round_to_both
from rosetta_diff.read.view import PARTS, Axes, Shape, format_axes

MOST_TURNED = 5  # axes of an array that are tried in each order
LEGEND = (
    "# Left = right; porting/guide.md has the grammar. How each pair was found:",
    "# by kind: the only layers of a kind and a shape; by name: those of them whose names end "
    "alike;",
    "# by value: both sides hold the same numbers;",
    "# by order: guessed from the order in which layers of a kind and a shape ran; by shape: "
    "guessed from shapes",
    "# and names; so look whether the order is right.",
)


class Line(NamedTuple):
    """A line of a mapping file."""

    section: str
    text: str
    how: str  # how the pair was found that it is of


def lines_of(pair: LayerPair, more: Iterable[TensorPair] = ()) -> Iterator[Line]:
    """The lines that pair two layers as they are paired, and `more` of their weights."""
    weights = [*pair.lines, *more]
    yield from (Line("weights", line_of(weight), weight.how) for weight in weights)
    if len(pair.names) > len(weights):
        yield Line("layers", f"{as_toml(pair.left.name)} = {as_toml(pair.right.name)}", pair.how)


def remark_on_lines(pairing: Pairing, ways: Collection[str], command: str) -> Iterator[str]:
    """A remark on what was paired in these ways, with the first line of a mapping file that would
    pair it so. `command` writes all of them."""
    lines = [line for pair in pairing.pairs for line in lines_of(pair) if line.how in ways]
    if lines:
        how = " or ".join(dict.fromkeys(line.how for line in lines))
        first = f"[{lines[0].section}] {lines[0].text}"
        yield f"paired by {how}: {count(len(lines), 'line')}, such as {first}; {command} writes all"


def line_of(pair: TensorPair) -> str:
    """One line of [weights], by which these weights are paired."""
    line = pair.line
    assert line
    left, right = line.names
    settings = {
        "to": as_toml(right[0] if len(right) == 1 else list(right)),
        "axes": as_toml(" -> ".join(map(format_axes, line.axes))),
    }
    # An axis of an array that is a product of several leaves the size of one open,
    # and of the parts.
    sizes = {
        axis: line.sizes[axis]
        for axes in line.axes
        for group in axes
        for axis in ([axis for axis in group if axis != PARTS] if PARTS in group else group[:-1])
    }
    if sizes:
        settings["sizes"] = f"{{{', '.join(f'{axis} = {size}' for axis, size in sizes.items())}}}"
    if pair.is_scaled:
        settings |= {"times": str(pair.times), "add": str(pair.add)}
    words = ", ".join(f"{name} = {value}" for name, value in settings.items())
    return f"{as_toml(', '.join(left))} = {{{words}}}"


def line_of_axes(name: str, left: Axes, right: Axes) -> str:
    """The line of a mapping file that turns the axes of an array."""
    return f"{as_toml(name)} = {as_toml(f'{format_axes(left)} -> {format_axes(right)}')}"


def line_of_turn(name: str, left: Shape, right: Shape) -> str:
    """The line of [axes] that turns a right array of this shape as the left one stands, ready to
    paste; "" where the shapes allow none or several."""
    orders = (
        permutations(range(len(right)))
        if sorted(left) == sorted(right) and len(left) <= MOST_TURNED
        else ()
    )
    fitting = [order for order in orders if tuple(right[place] for place in order) == left]
    if len(fitting) != 1 or left == right:
        return ""
    (order,) = fitting
    letters = tuple((letter,) for letter in "abcde"[: len(left)])
    return line_of_axes(
        name, letters, tuple(letters[order.index(place)] for place in range(len(left)))
    )


def find_rearranged(pair: LayerPair) -> Iterator[TensorPair]:
    """Weights of two layers of one kind that hold the same numbers in different places, by value.
    Such weights belong together only if the layers compute accordingly, which a mapping says and
    nothing else can tell."""
    sides = pair.left.side, pair.right.side
    for weight in pair.weights.values():
        plain = all(
            len(tensor.views) == 1 and not tensor.views[0].picked and not tensor.added
            for tensor in weight.both
        )
        if weight.line or not plain:
            continue
        left, right = (
            {tensor.names[0]: round_to_both(side.arrays("weights")[tensor.names[0]], sides)}
            for side, tensor in zip(sides, weight.both, strict=True)
        )
        left_array, right_array = weight.left.of(left.get), weight.right.of(right.get)
        assert left_array is not None
        assert right_array is not None
        alike = left_array.size == right_array.size > 0 and (
            left_array.min(),
            left_array.max(),
        ) == (
            right_array.min(),
            right_array.max(),
        )
        if alike and not np.array_equal(left_array, right_array):
            for candidate in find_by_value(left, right):
                assert candidate.line
                within = any(len(group) > 1 for axes in candidate.line.axes for group in axes)
                if within:  # a transposed kernel is a mistake where both frameworks know it
                    yield candidate


def write_mapping(path: Path, pairing: Pairing) -> None:
    """Write a mapping file of what was paired and how,
    and of what was not, for a person to fill in."""
    if path.exists():
        raise CannotBeginError(f"{path} exists; give --write-mapping the name of a new file")
    drafted: dict[str, list[str]] = {"layers": [], "weights": []}
    for pair in pairing.pairs:
        for line in lines_of(pair, find_rearranged(pair)):
            drafted[line.section].append(f"{line.text}  # by {line.how}")
    alone = [
        f"# without a partner on the {side}: {describe(group)}"
        for side, groups in (("left", pairing.left), ("right", pairing.right))
        for group in groups
        if group.tensors
    ]
    skip = [f"{as_toml(name)} = {as_toml(reason)}" for name, reason in pairing.skips.lines.items()]
    left, right = pairing.sides
    same = left.framework is right.framework
    first = f"left = {as_toml(left.name if same else left.framework.name)}"
    axes = [line_of_axes(name, *turn) for name, turn in pairing.turns.items()]
    text = [*LEGEND, first, "", "[layers]", *drafted["layers"]]
    text += ["", "[weights]", *drafted["weights"], *alone, "", "[axes]", *axes]
    text += ["", "[skip]", *skip, ""]
    write_atomically(path, "\n".join(text).encode())
