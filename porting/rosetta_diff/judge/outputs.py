"""Outputs of paired layers: which are compared,
and how one side's activation within its layer is made up for."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from functools import partial
from itertools import product
from math import prod

import numpy as np

from rosetta_diff.activations import ACTIVATIONS, activate
from rosetta_diff.arrays import Array, largest_difference
from rosetta_diff.judge import rules
from rosetta_diff.judge.rules import Rule
from rosetta_diff.pair.drafts import line_of_turn
from rosetta_diff.pair.mapping import Turn
from rosetta_diff.pair.pairs import CallPair, LayerPair, TensorPair
from rosetta_diff.read.description import RecordedCall
from rosetta_diff.read.groups import FURTHER
from rosetta_diff.read.rules import ACTIVATED, PARENT, RECURRENT
from rosetta_diff.read.side import Side
from rosetta_diff.read.view import PARTS, Shape, Tensor, format_axes


def compared_outputs(
    pair: LayerPair, call: CallPair, turns: Mapping[str, Turn]
) -> tuple[dict[str, TensorPair], list[str]]:
    """Return a call's outputs that are compared, and the names of further ones that are not. Those
    of other numbers or shapes may mean other things, such as the attention weights of each head and
    their mean."""
    of_left, of_right = pair.outputs(call)
    further = [name for name in {**of_left, **of_right} if name.startswith(FURTHER)]
    pairs = {
        name: turn_axes(TensorPair(left, of_right[name]), turns, names_of(pair))
        for name, left in of_left.items()
        if name in of_right
    }
    if all(name in pairs and pairs[name].fit for name in further):
        return pairs, []
    return {name: tensors for name, tensors in pairs.items() if name not in further}, further


def names_of(pair: LayerPair) -> tuple[str, str, str]:
    """The names by which [axes] of a mapping may turn the outputs and inputs of a pair."""
    return pair.name, pair.left.layer.path, pair.right.layer.path


def turn_axes(tensors: TensorPair, turns: Mapping[str, Turn], names: Iterable[str]) -> TensorPair:
    """Both tensors with the right axes in the left ones' order, as a mapping turns the first of
    these names that it has; as they are where it has none, or other axes."""
    turn = next((turns[name] for name in names if name in turns), None)
    axes = tensors.right.axes
    if turn is None or len(axes) != len(turn[0]):
        return tensors
    right = replace(tensors.right, axes=tuple(axes[turn[1].index(axis)] for axis in turn[0]))
    return replace(tensors, right=right, turn=f"the axes are {' -> '.join(map(format_axes, turn))}")


def pair_inputs(
    turns: Mapping[str, Turn], pair: LayerPair, left_name: str, right_name: str
) -> TensorPair:
    """Pair arrays that both layers are given, by their names in the records.

    The right array may be arranged as the kernels' axis of inputs, where it does not fit as it is,
    or where it is ten times nearer so: axes of one length may be nearer by chance.
    """
    left, right = pair.left.part_of_call(left_name), pair.right.part_of_call(right_name)
    tensors = TensorPair(left, right.align(left.axes))
    if pair.left.kind in RECURRENT or any(name in turns for name in names_of(pair)):
        return turn_axes(tensors, turns, names_of(pair))
    candidates = [
        tensors,
        *(replace(tensors, right=other) for other in arrange_as_kernels(pair, right)),
    ]
    fitting = [candidate for candidate in candidates if candidate.fit]
    if len(fitting) < 2:
        return fitting[0] if fitting else tensors
    expected = pair.left.side.arrays("layers")[left_name]
    read = pair.right.side.arrays("layers").get
    errors = [
        largest_difference(np.asarray(candidate.right.of(read)), expected)[0]
        for candidate in fitting
    ]
    return fitting[min(range(len(errors)), key=lambda place: errors[place] * (10 if place else 1))]


def arguments(
    pair: LayerPair, calls: tuple[RecordedCall, RecordedCall]
) -> Iterator[tuple[str, str]]:
    """Yield the names of arrays that a left and a right call of a pair are given and that may be
    compared: arguments of the same names, and the first ones."""
    sides = (group.side for group in pair.both)
    left, right = (comparable(side, call) for side, call in zip(sides, calls, strict=True))
    unnamed = [name for name in left if name not in right]
    for place, (name, right_name) in enumerate(right.items()):
        candidates = [name] if name in left else unnamed[: 0 if place else 1]
        yield from ((left[candidate], right_name) for candidate in candidates)


def comparable(side: Side, call: RecordedCall) -> dict[str, str]:
    """The arguments of a call that may be compared. A mask is each side's own,
    since what it means may be the opposite."""
    arrays = side.arrays("layers")
    inputs = call.inputs.items()
    return {
        name: array
        for name, array in inputs
        if arrays.dtype(array).kind in "fiu" and "mask" not in name
    }


def arrange_as_kernels(pair: LayerPair, right: Tensor) -> Iterator[Tensor]:
    """A right array that layers are given,
    whose last axis is arranged as the kernels' axis of inputs."""
    for line in filter(None, (weight.line for weight in pair.lines)):
        for of_left, of_right in product(*line.axes):
            sizes = {name: line.sizes[name] for name in of_right if name in line.sizes}
            is_inner = len(of_left) > 1 and {*of_left} == {*of_right} and PARTS not in of_left
            if is_inner and right.shape[-1:] == (prod(sizes.values()),):
                view = right.views[0]
                view = replace(
                    view, axes=(*view.axes[:-1], of_right), sizes={**view.sizes, **sizes}
                )
                yield Tensor((view,), (*view.axes[:-1], of_left))


def why_no_outputs(
    pair: LayerPair, turns: Mapping[str, Turn]
) -> tuple[Rule, dict[str, object]] | None:
    """The rule by which the outputs of two layers are not compared, where each has its own, and the
    words of its remark; None where they are compared."""
    name, calls = pair.name or "the model", (pair.left.calls, pair.right.calls)
    empty = [
        g.side.name
        for g, of in zip(pair.both, calls, strict=True)
        if of and not any(call.parts for call in of)
    ]
    if empty:
        return rules.NO_ARRAY, {"names": name, "sides": " and ".join(empty)}
    is_custom = "." in pair.left.kind  # of a class of a person's own, which may give anything
    any_shape = is_custom or pair.left.kind in (PARENT, "parameters", "buffers") or pair.lines
    single = any_shape and all(len(group.layers) == 1 for group in pair.both)
    shapes = first_shapes(pair, turns) if single and all(calls) else None
    if shapes and shapes[0] != shapes[1]:
        line = line_of_turn(pair.name, *shapes)
        return rules.SHAPES, {
            "names": name,
            "unless": f", unless [axes] has {line}" if line else "",
        }
    if all(calls) and not pair.calls:
        return rules.CALLS, {"names": pair.name, "left": len(calls[0]), "right": len(calls[1])}
    return None


def activations(
    pair: LayerPair,
) -> tuple[Callable[[Array], Array], Callable[[Array], Array]] | None:
    """Functions that make the outputs of a pair the same, the left one's first;
    None for an unknown activation.

    One side's layer may have an activation in it that follows the layer on the other side, whose
    output is then activated here.
    """
    if pair.left.kind not in ACTIVATED:
        return np.asarray, np.asarray
    of_left, of_right = (group.activation for group in pair.both)
    if of_left == of_right:
        return np.asarray, np.asarray
    if "linear" not in (of_left, of_right) or not {of_left, of_right} <= ACTIVATIONS.keys():
        return None
    if of_left == "linear":
        return partial(activate, name=of_right), np.asarray
    return np.asarray, partial(activate, name=of_left)


def first_shapes(pair: LayerPair, turns: Mapping[str, Turn]) -> tuple[Shape, Shape] | None:
    """The shapes of the first outputs of two layers; None where they have no output of one name."""
    call = CallPair(pair.left.calls[0], pair.right.calls[0])
    tensors = next(iter(compared_outputs(pair, call, turns)[0].values()), None)
    return (tensors.left.shape, tensors.right.shape) if tensors else None


def otherwise(left: Array, right: Array, bounded: bool) -> str:
    """Return how two arrays differ that may hold the same numbers; "" where only their numbers may.
    The types of numbers within a bound are told by the precision."""
    kinds = {left.dtype.kind, right.dtype.kind}
    if left.dtype != right.dtype and not (bounded and kinds == {"f"}):
        return f"{left.dtype} on the left and {right.dtype} on the right"
    if bounded or kinds != {"f"} or left.shape != right.shape:
        return ""
    zeros = (left == 0) & (right == 0) & (np.signbit(left) != np.signbit(right))
    return "zeros have other signs" if zeros.any() else ""


def without_ones(array: Array) -> list[int]:
    """The sizes of an array's axes of several numbers."""
    return [size for size in array.shape if size != 1]
