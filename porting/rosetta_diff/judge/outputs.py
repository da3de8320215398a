"""Outputs of paired layers: which are compared, and how one side's activation within its layer is made up for."""

from collections.abc import Callable
from functools import partial

import numpy as np

from rosetta_diff.activations import ACTIVATIONS, activated
from rosetta_diff.arrays import Array, Load
from rosetta_diff.judge.axes import Turns
from rosetta_diff.pair.pairs import CallPair, LayerPair
from rosetta_diff.read.groups import FURTHER, WeightGroup
from rosetta_diff.read.rules import ACTIVATED, PARENT


def compared_outputs(pair: LayerPair, call: CallPair, turns: Turns) -> tuple[list[str], list[str]]:
    """Return the names of a call's outputs that are compared, and of further ones that are not. Those of other
    numbers or shapes may mean other things, such as the attention weights of each head and their mean."""
    of_left, of_right = pair.outputs(call)
    shapes, right_shapes = (
        [group.side.shape(part, "layers") for part in of_side.parts[1:]]
        for group, of_side in zip(pair.both, call, strict=True)
    )
    ways = turns.ways(pair.name, pair).values()
    fit = len(shapes) == len(right_shapes) and all(
        any(way(np.broadcast_to(0, right_shape)).shape == shape for way in ways)
        for shape, right_shape in zip(shapes, right_shapes, strict=True)
    )
    compared = [name for name in of_left if name in of_right and (fit or not name.startswith(FURTHER))]
    return compared, [name for name in {**of_left, **of_right} if name.startswith(FURTHER) and name not in compared]


def why_no_outputs(pair: LayerPair) -> str:
    """The reason why the outputs of two layers are not compared, where each has its own; "" for none."""
    name, calls = pair.name or "the model", (pair.left.calls, pair.right.calls)
    empty = [g.side.name for g, of in zip(pair.both, calls, strict=True) if of and not any(call.parts for call in of)]
    if empty:
        return f"outputs of {name}, in which {' and '.join(empty)} recorded no array"
    is_custom = "." in pair.left.kind  # of a class of a person's own, which may give anything
    any_shape = is_custom or pair.left.kind in (PARENT, "parameters", "buffers") or pair.lines
    single = any_shape and all(len(group.layers) == 1 for group in pair.both)
    if single and all(calls) and not alike_in_shape(pair):
        return f"outputs of {name}, which are of other shapes"
    if all(calls) and not pair.calls:
        return f"outputs of {pair.name}, which was called {len(calls[0])} and {len(calls[1])} times"
    return ""


def in_axes_of(left: Load, right: Load) -> Array | None:
    """The right array with the left one's axes, where an exporter made one axis of several before the last."""
    expected, array = left(), right()
    if expected is None or array is None or expected.ndim == array.ndim or expected.shape[-1:] != array.shape[-1:]:
        return array
    return array.reshape(expected.shape) if expected.size == array.size else array


def activations(pair: LayerPair) -> tuple[Callable[[Array], Array], Callable[[Array], Array]] | None:
    """Functions that make the outputs of a pair the same, the left one's first; None for an unknown activation.

    One side's layer may have an activation in it that follows the layer on the other side, whose output is then
    activated here.
    """
    if pair.left.kind not in ACTIVATED:
        return np.asarray, np.asarray
    of_left, of_right = map(named_activation, pair.both)
    if of_left == of_right:
        return np.asarray, np.asarray
    if "linear" not in (of_left, of_right) or not {of_left, of_right} <= ACTIVATIONS.keys():
        return None
    if of_left == "linear":
        return partial(activated, name=of_right), np.asarray
    return np.asarray, partial(activated, name=of_left)


def named_activation(group: WeightGroup) -> str:
    """Return the name of the activation in a layer; "function" where Keras has no name. Its batch norm has none."""
    unnamed = group.side.framework == "keras" and group.layer.settings and group.kind != "batchnorm"
    return str(group.settings.get("activation", "function" if unnamed else "linear") or "linear")


def alike_in_shape(pair: LayerPair) -> bool:
    """True if the first outputs of two layers are of one shape, but for the order of axes."""
    left, right = pair.outputs(CallPair(pair.left.calls[0], pair.right.calls[0]))
    names = [name for name in left if name in right]
    return all(sorted(left[name].shape) == sorted(right[name].shape) for name in names[:1])


def otherwise(left: Array, right: Array, bounded: bool) -> str:
    """Return how two arrays differ that may hold the same numbers; "" where only their numbers may. The types of
    numbers within a bound are told by the precision."""
    kinds = {left.dtype.kind, right.dtype.kind}
    if left.shape != right.shape and without_ones(left) == without_ones(right):
        return f"{left.shape} on the left and {right.shape} on the right"
    if left.dtype != right.dtype and not (bounded and kinds == {"f"}):
        return f"{left.dtype} on the left and {right.dtype} on the right"
    if bounded or kinds != {"f"} or left.shape != right.shape:
        return ""
    zeros = (left == 0) & (right == 0) & (np.signbit(left) != np.signbit(right))
    return "zeros have other signs" if zeros.any() else ""


def without_ones(array: Array) -> list[int]:
    return [size for size in array.shape if size != 1]


def with_ones_of(left: Load, right: Load) -> Array | None:
    """Return the right array, with the left one's axes of one number if they differ in nothing else."""
    expected, array = left(), right()
    if expected is None or array is None or without_ones(expected) != without_ones(array):
        return array
    return array.reshape(expected.shape)


def settled_ties(left: Load, right: Load, scores: tuple[Load, Load]) -> Array | None:
    """Return right numbers with left ones in their place where each side has the best of its scores, which are
    compared themselves. So either may be the best by rounding alone."""
    expected, array = left(), right()
    best = [np.argmax(of, -1) for load in scores if (of := load()) is not None]
    if expected is None or array is None or {expected.shape, array.shape} != {of.shape for of in best}:
        return array
    return np.where((best[0] == expected) & (best[1] == array), expected, array)
