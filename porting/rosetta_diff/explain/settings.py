"""Recorded settings of layers that differ."""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np

from rosetta_diff.explain.broken import Broken, Cause
from rosetta_diff.helpers import some_of
from rosetta_diff.pair.pairs import LayerPair
from rosetta_diff.read.groups import WeightGroup
from rosetta_diff.read.side import Side

PER_AXIS = ("stride", "dilation", "padding")  # settings that may have a number for each axis
WORDS = {
    "rate": "the rate of dropout",
    "momentum": "momentum, as the share of the old statistics that is kept,",
}
# Settings whose effect equal outputs may hide: it is small, or it is seen in training alone.
HIDDEN = (
    "training",
    "epsilon",
    "rate",
    "mode",
    "momentum",
    "padding_idx",
    "negative_slope",
    "approximate",
)
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
    """Settings of the layer that is shown; after the forward pass those that outputs hide,
    of all that fail."""
    forward = broken.item.stage in ("weights", "forward")
    for check in [broken.check] if forward else broken.failed:
        for name, cause in settings_between(*check.item.pair.both) if check.item.pair else ():
            if forward or name in ("padding_idx", "momentum"):
                yield cause


def hidden_settings(left: Side, right: Side, pairs: Sequence[LayerPair]) -> Iterator[str]:
    """Yield remarks on settings that differ though all that was compared agrees."""
    layers: dict[str, list[str]] = {}  # names by the remark on them
    for groups in (*(pair.both for pair in pairs), *of_one_name(left, right)):
        for name, cause in settings_between(*groups):
            if name in HIDDEN:
                layers.setdefault(cause.line, []).append(groups[0].layer.path)
    yield from frozen_weights(left, right, pairs)
    for words, names in layers.items():
        yield f"differs, in {some_of([*dict.fromkeys(names)])}: {words}"


def frozen_weights(left: Side, right: Side, pairs: Iterable[LayerPair]) -> Iterator[str]:
    """Yield a remark on weights that one side's training alone may change."""
    frozen: dict[str, list[str]] = {"left": [], "right": []}
    for pair in pairs if left.says.optimizer and right.says.optimizer else ():
        for name, weight in pair.weights.items():
            known = zip((left, right), weight.both, strict=True)
            trained = [
                any(
                    of not in side.says.weights or side.says.weights[of].trainable
                    for of in tensor.names
                )
                for side, tensor in known
            ]
            if trained[0] != trained[1] and not name.startswith("moving_"):
                frozen["left" if trained[1] else "right"].append(f"{pair.name} {name}")
    yield from (
        f"differs: frozen on the {side} only: {some_of(names)}"
        for side, names in frozen.items()
        if names
    )


def of_one_name(left: Side, right: Side) -> Iterator[tuple[WeightGroup, WeightGroup]]:
    """Yield the layers of one name and class that have no weights of their own,
    such as a dropout."""
    for path in [path for path in left.layers if path in right.layers]:
        layers = left.layers[path], right.layers[path]
        kinds = {"".join(layer.classes[:1]).lower() for layer in layers}
        if len(kinds) == 1 and not any(layer.own for layer in layers):
            kind = kinds.pop()
            yield WeightGroup(left, kind, layers[:1]), WeightGroup(right, kind, layers[1:])


def settings_between(left: WeightGroup, right: WeightGroup) -> Iterator[tuple[str, Cause]]:
    """Yield each setting in which two layers differ, and the cause."""
    trained = [group.layer.training for group in (left, right)]
    if left.kind == "batchnorm" and None not in trained and trained[0] != trained[1]:
        of_left, of_right = ("those of the batch" if on else "the running ones" for on in trained)
        yield (
            "training",
            Cause(f"its statistics are {of_left} on the left and {of_right} on the right"),
        )
    for name in [name for name in left.settings if name in right.settings]:
        values = [group.settings[name] for group in (left, right)]
        both = [per_axis(value) if name in PER_AXIS else value for value in values]
        if name == "axis" and not are_two_axes((left, right), both):
            continue
        if not equal(*both) and (name not in PER_AXIS or comparable(left, *both)):
            words = (
                f"{WORDS.get(name, name)} is {values[0]} on the left and {values[1]} on the right"
            )
            yield name, Cause(words, ENTRIES.get((left.kind, name), "") or ENTRIES.get(name, ""))


def are_two_axes(groups: Sequence[WeightGroup], axes: Sequence[Any]) -> bool:
    """Return True for two axes of layers that give arrays of one shape.
    One may be counted from the first axis, and the other from the last."""
    shapes = [
        group.side.shape(part, "layers")
        for group in groups
        for call in group.calls[:1]
        for part in call.parts[:1]
        if part in group.side.arrays("layers")
    ]
    rank = len(shapes[0]) if len(shapes) == len(groups) and shapes[0] == shapes[1] else 0
    numbers = all(isinstance(axis, int) for axis in axes)
    return numbers and rank > 0 and (axes[0] - axes[1]) % rank != 0


def comparable(group: WeightGroup, left: Any, right: Any) -> bool:
    """Return True unless one padding is a word,
    which may stand for the other one's numbers where the stride is 1."""
    return (
        isinstance(left, str) == isinstance(right, str)
        or per_axis(group.settings.get("stride", 1)) != 1
    )


def equal(left: Any, right: Any) -> bool:
    """Return True for equal settings. Paddle keeps some numbers in float32."""
    floats = isinstance(left, float) and isinstance(right, float)
    return left == right or (floats and bool(np.float32(left) == np.float32(right)))


def per_axis(value: Any) -> Any:
    """Return a setting of each axis; one number stands for all that are equal."""
    if isinstance(value, list) and value and all(size == value[0] for size in value):
        return per_axis(value[0])
    return 0 if value == "valid" else value
