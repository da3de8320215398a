"""Writes a mapping file of what was paired, and of what holds the same numbers in different places."""

from collections.abc import Iterator
from itertools import permutations
from pathlib import Path

import numpy as np

from rosetta_diff.helpers import CannotBeginError, write_atomically
from rosetta_diff.pair.arrangement import line_of, quoted
from rosetta_diff.pair.by_value import found_by_value
from rosetta_diff.pair.pairing import Pairing, described
from rosetta_diff.pair.pairs import LayerPair, TensorPair
from rosetta_diff.pair.ways import in_precision
from rosetta_diff.read.patterns import pattern_of
from rosetta_diff.read.view import Axes, Shape

MOST_TURNED = 5  # axes of an array that are tried in each order
LEGEND = (
    "# Left = right; porting/guide.md has the grammar. How each pair was found:",
    "# by kind: the only layers of a kind and a shape; by name: those of them whose names end alike;",
    "# by value: both sides hold the same numbers;",
    "# by order: guessed from the order in which layers of a kind and a shape ran; by shape: guessed from shapes",
    "# and names; so look whether the order is right.",
)


def guessed(pairing: Pairing) -> list[TensorPair]:
    """Weights that a line pairs which no mapping has, for a person to look at."""
    return [pair for layers in pairing.pairs for pair in layers.lines if pair.how != "mapping"]


def line_of_axes(name: str, left: Axes, right: Axes) -> str:
    """The line of a mapping file that turns the axes of an array."""
    return f"{quoted(name)} = {quoted(f'{pattern_of(left)} -> {pattern_of(right)}')}"


def line_of_turn(name: str, left: Shape, right: Shape) -> str:
    """The line of [axes] that turns a right array of this shape as the left one stands, ready to paste; "" where the
    shapes allow none or several."""
    orders = permutations(range(len(right))) if sorted(left) == sorted(right) and len(left) <= MOST_TURNED else ()
    fitting = [order for order in orders if tuple(right[place] for place in order) == left]
    if len(fitting) != 1 or left == right:
        return ""
    (order,) = fitting
    letters = tuple((letter,) for letter in "abcde"[: len(left)])
    return line_of_axes(name, letters, tuple(letters[order.index(place)] for place in range(len(left))))


def line_of_layers(pair: LayerPair) -> str:
    """The line of a mapping file that pairs two layers."""
    return f"{quoted(pair.left.name)} = {quoted(pair.right.name)}"


def rearranged(pair: LayerPair) -> Iterator[TensorPair]:
    """Weights of two layers of one kind that hold the same numbers in different places, by value. Such weights
    belong together only if the layers compute accordingly, which a mapping says and nothing else can tell."""
    sides = pair.left.side, pair.right.side
    for weight in pair.weights.values():
        plain = all(
            len(tensor.views) == 1 and not tensor.views[0].picked and not tensor.added for tensor in weight.both
        )
        if weight.line or not plain:
            continue
        left, right = (
            {tensor.names[0]: in_precision(side.arrays("weights")[tensor.names[0]], sides)}
            for side, tensor in zip(sides, weight.both, strict=True)
        )
        left_array, right_array = weight.left.of(left.get), weight.right.of(right.get)
        assert left_array is not None
        assert right_array is not None
        alike = left_array.size == right_array.size > 0 and (left_array.min(), left_array.max()) == (
            right_array.min(),
            right_array.max(),
        )
        if alike and not np.array_equal(left_array, right_array):
            for candidate in found_by_value(left, right):
                assert candidate.line
                within = any(len(group) > 1 for axes in candidate.line.axes for group in axes)
                if within:  # a transposed kernel is a mistake where both frameworks know it
                    yield candidate


def write_mapping(path: Path, pairing: Pairing) -> None:
    """Write a mapping file of what was paired and how, and of what was not, for a person to fill in."""
    if path.exists():
        raise CannotBeginError(f"{path} exists; give --write-mapping the name of a new file")
    layers, weights = [], []
    for pair in pairing.pairs:
        lines = [*pair.lines, *rearranged(pair)]
        weights += [f"{line_of(weight)}  # by {weight.how}" for weight in lines]
        if len(pair.names) > len(lines):
            layers.append(f"{line_of_layers(pair)}  # by {pair.how}")
    alone = [
        f"# without a partner on the {side}: {described(group)}"
        for side, groups in (("left", pairing.left), ("right", pairing.right))
        for group in groups
        if group.tensors
    ]
    skip = [f"{quoted(name)} = {quoted(reason)}" for name, reason in pairing.skips.lines.items()]
    left, right = pairing.sides
    first = f"left = {quoted(left.framework if left.framework != right.framework else left.name)}"
    axes = [line_of_axes(name, *turn) for name, turn in pairing.turns.items()]
    text = [*LEGEND, first, "", "[layers]", *layers, "", "[weights]", *weights, *alone, "", "[axes]", *axes]
    text += ["", "[skip]", *skip, ""]
    write_atomically(path, "\n".join(text).encode())
