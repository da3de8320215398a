"""Recorded settings of a layer: those that differ, and the only one that acts on the pass, which is the cause."""

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from rosetta_diff.arrays import Array
from rosetta_diff.explain.broken import Broken, Cause
from rosetta_diff.explain.inputs import WEIGHTED, alike, given_to
from rosetta_diff.explain.operators import OPERATORS
from rosetta_diff.read.groups import WeightGroup

PER_AXIS = ("stride", "dilation", "padding")  # settings that may have a number for each axis
HIDDEN = ("rate", "momentum")  # settings that no output tells
WORDS = {
    **{name: f"the {name} of {{}} is" for name in PER_AXIS},
    "activations": "the activations of {} are",
    "groups": "the number of groups of {} is",
    "time_first": "the axis of time in {} is",
    "statistics": "the statistics of {} are",
    "momentum": "momentum, as the share of the old statistics that is kept, is",
}
# Entries of the register, by the kind of the layer where that decides.
ENTRIES = {
    ("layernorm", "epsilon"): "layernorm-epsilon",
    ("batchnorm", "epsilon"): "batchnorm-epsilon",
    "momentum": "batchnorm-momentum",
    "approximate": "gelu-approximation",
    "mode": "paddle-dropout-mode",
    "time_first": "time-axis",
    "reset_after": "gru-reset-after",
    "padding_idx": "padding-idx",
}


def settings_differ(broken: Broken) -> Iterator[Cause]:
    """Settings of the layer that is shown; after the forward pass those that outputs hide, of all that fail."""
    forward = broken.item.stage in ("weights", "forward")
    for check in [broken.check] if forward else broken.failed:
        for name, cause in between(*check.item.pair.both) if check.item.pair else ():
            if forward or name in ("padding_idx", "momentum"):
                yield cause


def between(left: WeightGroup, right: WeightGroup) -> Iterator[tuple[str, Cause]]:
    """Settings that two layers have otherwise, and what is told of them."""
    for name in [name for name in left.settings if name in right.settings]:
        values = [group.settings[name] for group in (left, right)]
        both = [per_axis(value) if name in PER_AXIS else value for value in values]
        comparable = name not in PER_AXIS or isinstance(both[0], str) == isinstance(both[1], str)
        if both[0] != both[1] and comparable:
            words = f"{name} is {values[0]} on the left and {values[1]} on the right"
            yield name, Cause(words, entry_of(left.kind, name))


def entry_of(kind: str, name: str) -> str:
    return ENTRIES.get((kind, name), "") or ENTRIES.get(name, "")


def per_axis(value: Any) -> Any:
    """Return a setting of each axis; one number stands for all that are equal."""
    if isinstance(value, list) and value and all(size == value[0] for size in value):
        return per_axis(value[0])
    return 0 if value == "valid" else value


def the_only_one(broken: Broken) -> list[Cause]:
    """Return the only setting that differs and acts on what is shown, where both layers are of the frameworks' own
    classes and no operator computes them. That weights and inputs agree is its test."""
    groups, item = broken.groups, broken.item
    if not groups or groups[0].kind not in WEIGHTED or groups[0].kind in OPERATORS:
        return []
    if any(not group.layer.classes or "." in group.layer.classes[0] for group in groups):
        return []
    if item.is_statistic:
        sides = [{name: value for name, value in group.settings.items() if name == "momentum"} for group in groups]
    else:
        sides = of_pass(broken) if item.is_output else []
    left, right = sides or ({}, {})
    names = [name for name in left if name in right and differ(left[name], right[name])]
    unknown = "padding" in names and any(isinstance(of_side["padding"], str) for of_side in (left, right))
    if len(names) != 1 or unknown:
        return []
    name, entry = names[0], entry_of(groups[0].kind, names[0])
    words = WORDS.get(name, f"{name} is").format(broken.name)
    return [Cause(f"{words} {shown(left[name])} on the left and {shown(right[name])} on the right", entry)]


def of_pass(broken: Broken) -> list[dict[str, Any]]:
    """Return both sides' settings that act on the recorded pass; none where the layers are given something else, or
    drop at random."""
    given = [given_to(broken, place) for place in (0, 1)]
    if not all(given) or any(group.layer.training and group.settings.get("rate") for group in broken.groups):
        return []
    inputs, sides = [arrays[0] for arrays in given], []
    frames = [frame(group, array) for group, array in zip(broken.groups, inputs, strict=True)]
    if broken.kind != "conv" or inputs[0].ndim != inputs[1].ndim or frames[0] == frames[1]:
        frames = [[(0, 0)] * len(of_side) for of_side in frames]
    inputs = [within(*side) for side in zip(broken.groups, inputs, frames, strict=True)]
    turned = alike(broken, in_left_order(broken, inputs[1]), [inputs[0]])
    if not (turned or alike(broken, inputs[1], [inputs[0]])):
        return []
    for group, array, around in zip(broken.groups, inputs, frames, strict=True):
        settings = {name: value for name, value in group.settings.items() if name not in HIDDEN}
        if group.kind == "batchnorm" and group.layer.training is not None:
            settings["statistics"] = "those of the batch" if group.layer.training else "the running ones"
        if "padding_idx" in settings and group.side.framework != "paddle":  # which alone gives zeros for it
            settings["padding_idx"] = None
        if "recurrent_activation" in settings:
            both = settings.pop("recurrent_activation"), settings.pop("activation")
            settings["activations"] = " and ".join(map(str, both))
        time_first = settings.pop("time_first", None)
        if time_first is not None and not turned:  # else each side is given time where it expects it
            settings["time_first"] = "the first" if time_first else "the second"
        if "padding" in settings:
            settings["padding"] = padding_of(group, array, around)
        sides.append(settings)
    return sides


def in_left_order(broken: Broken, right: Array) -> Array:
    """Return what the right layer is given with its axes in the left layer's order, as far as the frameworks tell
    what they are."""
    axes = [group.side.known.axes_of(group.kind, group.layer.settings, right.ndim) for group in broken.groups]
    return right.transpose([axes[1].index(axis) for axis in axes[0]]) if all(axes) else right


def differ(left: Any, right: Any) -> bool:
    """Return True if two settings are not the same, but for the rounding to float32. Paddings that keep the size of
    what is given are the same."""
    if isinstance(left, float) and isinstance(right, float):
        return bool(np.float32(left) != np.float32(right))
    if isinstance(left, Padding) and isinstance(right, Padding):
        return left.pads != right.pads and not (left.is_same and right.is_same)
    return bool(per_axis(left) != per_axis(right))


def shown(value: Any) -> Any:
    if isinstance(value, Padding):
        pads = [before if before == after else (before, after) for before, after in value.pads]
        symmetric = all(isinstance(pad, int) for pad in pads)
        return "same" if value.is_same and not symmetric else tuple(pads)
    return tuple(value) if isinstance(value, list) else value


# Paddings

Pads = Sequence[tuple[int, int]]  # for each axis of positions how many zeros stand before and after


class Padding(NamedTuple):
    """The zeros around what a convolution is given."""

    pads: Pads
    is_same: bool  # as Keras's "same", where the odd zero stands after


def axes_of(group: WeightGroup, array: Array) -> range:
    """Return the axes of positions."""
    return range(2, array.ndim) if group.channels_stand_first else range(1, array.ndim - 1)


def frame(group: WeightGroup, array: Array) -> Pads:
    """Return how many positions are zero at both ends of each axis."""
    pads = []
    for axis in axes_of(group, array):
        filled = np.flatnonzero(np.moveaxis(array, axis, 0).reshape(array.shape[axis], -1).any(1))
        pads.append((int(filled[0]), array.shape[axis] - 1 - int(filled[-1])) if filled.size else (0, 0))
    return pads


def within(group: WeightGroup, array: Array, pads: Pads) -> Array:
    """Return an array without the zeros around it."""
    for axis, (before, after) in zip(axes_of(group, array), pads, strict=True):
        array = array.take(range(before, array.shape[axis] - after), axis)
    return array


def padding_of(group: WeightGroup, given: Array, around: Pads) -> Any:
    """Return the padding of what is given, with the zeros that stand around it already; the setting itself where
    nobody here knows what it means."""
    padding, kernel = per_axis(group.settings["padding"]), group.shapes.get("kernel", ())[:-2]
    sizes = [given.shape[axis] for axis in axes_of(group, given)]
    strides, dilations = (each_axis(group.settings.get(name, 1), len(sizes)) for name in ("stride", "dilation"))
    same, causal = [], []
    for size, width, stride, dilation in zip(sizes, kernel, strides, dilations, strict=False):
        span = (width - 1) * dilation
        whole = max(0, (-(-size // stride) - 1) * stride + span + 1 - size)
        same.append((whole // 2, whole - whole // 2))
        causal.append((span, 0))
    own: Any = each_axis(padding, len(sizes)) if isinstance(padding, int | list) else padding
    if group.kind == "conv" and isinstance(padding, str):
        own = {"same": same, "causal": causal}.get(padding.lower(), padding)
    if isinstance(own, str):
        return own
    own = own[2:] if len(own) == len(sizes) + 2 else own  # Paddle's, of all axes
    pairs = [(pad, pad) if isinstance(pad, int) else tuple(pad) for pad in own]
    pads = [(pair[0] + zeros[0], pair[1] + zeros[1]) for pair, zeros in zip(pairs, around, strict=False)]
    return Padding(pads, group.kind == "conv" and pads == same)


def each_axis(value: Any, axes: int) -> Any:
    return [value] * axes if isinstance(value, int) else value
