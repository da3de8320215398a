"""Likely causes of a rung that breaks: the table of probes, and those that compare settings."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

import numpy as np

from benchmarks.compare import probes
from benchmarks.compare.comparer import Check
from benchmarks.compare.drafts import line_of_pair, rearranged
from benchmarks.compare.groups import settings_of
from benchmarks.compare.layouts import EPSILON, FLOAT32_SETTINGS
from benchmarks.compare.probes import Broken, Cause, number
from benchmarks.compare.record import Side
from benchmarks.compare.rungs import LayerItem, Rungs

# Paddle's classes and Keras's settings of clipping.
CLIPPING = {
    "ClipGradByGlobalNorm": "to a norm of all",
    "ClipGradByNorm": "each to a norm",
    "ClipGradByValue": "to values",
    "global_clipnorm": "to a norm of all",
    "clipnorm": "each to a norm",
    "clipvalue": "to values",
}
# Settings that differ: what they mean, and the register's entry, by the layer's kind where it depends on that.
MEANINGS: dict[str, tuple[str, dict[str, str] | str]] = {
    "epsilon": ("epsilon", {"layernorm": "layernorm-epsilon", "batchnorm": "batchnorm-epsilon"}),
    "momentum": ("momentum, as the share of the old statistics that is kept,", "batchnorm-momentum"),
    "padding_idx": ("padding_idx", "padding-idx"),
    "approximate": ("GELU's approximation by tanh", "gelu-approximation"),
    "reset_after": ("reset_after", "gru-reset-after"),
    "time_first": ("whether time is the first axis", "time-axis"),
}
UNSEEN_FORWARD = ("padding_idx", "momentum")  # settings that change no output


def settings_differ(broken: Broken) -> Iterator[Cause]:
    """The settings of paired layers that are not the same: of the layer that is shown in the forward pass, and later,
    of all that fail, those that the forward pass does not show."""
    forward = broken.item.rung in ("weights", "forward")
    for item in [broken.item] if forward else [item for item, _ in broken.failed]:
        one = replace(broken, item=item)
        left, right = [group.settings for group in one.groups] or ({}, {})
        for name in left:
            if name in right and left[name] != right[name] and (forward or name in UNSEEN_FORWARD):
                words, entry = MEANINGS.get(name, (name, ""))
                entry_of_kind = entry if isinstance(entry, str) else entry.get(one.kind, "")
                yield Cause(f"{words} is {left[name]} on the left and {right[name]} on the right", entry_of_kind)


def counters_differ(broken: Broken) -> Iterator[Cause]:
    """How many steps the optimizers took, by which Adam corrects the bias of its means."""
    left, right = (side.counters for side in broken.sides)
    if left and right and left != right:
        one, other = (" and ".join(map(str, counters)) for counters in (left, right))
        yield Cause(f"the step counter is {one} on the left and {other} on the right", "optimizer-slots")


def optimizers_differ(broken: Broken) -> Iterator[Cause]:
    return steps_differ(*broken.sides, broken.rungs.precision)


def steps_differ(left_side: Side, right_side: Side, precision: str) -> Iterator[Cause]:
    """The optimizers' settings that are not the same, where epsilon stands, and what weight decay goes by."""
    sides = left_side, right_side
    left, right = (side.optimizer_settings for side in sides)
    classes = [side.optimizer_class for side in sides]
    entries = {"epsilon": "optimizer-epsilon", "weight_decay": "weight-decay", "rho": "rmsprop-defaults"}
    for name in left:
        one, other = left[name], right.get(name)
        if name in right and (one or 0) != (other or 0):
            single = isinstance(one, float) and isinstance(other, float) and np.float32(one) == np.float32(other)
            entry = "constants-precision" if single else entries.get(name, "")
            yield Cause(f"the optimizer's {name} is {one} on the left and {other} on the right", entry)
    for side, (framework, class_name) in zip(sides, classes, strict=True):
        coarse = FLOAT32_SETTINGS.get(side.platform, {}) if precision == "float64" else {}
        for name in coarse.get(class_name, ()):
            value = number(side.optimizer_settings.get(name))
            if float(np.float32(value)) != value:
                entry = "tensorflow-constants" if framework == "keras" else "constants-precision"
                yield Cause(f"{framework} rounds {name} to float32, and {value} is no number of float32", entry)
    places = [EPSILON.get(which) for which in classes]
    if all(places) and places[0] != places[1]:
        entry = "rmsprop-epsilon" if "RMS" in classes[0][1] else "adam-epsilon"
        yield Cause(f"epsilon is {places[0]} on the left and {places[1]} on the right", entry)
    decoupled = [name == "AdamW" or framework == "keras" for framework, name in classes]
    if decoupled[0] != decoupled[1] and any(side.get("weight_decay") for side in (left, right)):
        one, other = ("straight to the weight" if alone else "through the gradient" for alone in decoupled)
        yield Cause(f"weight decay goes {one} on the left and {other} on the right", "weight-decay")
    one, other = map(clipping, sides)
    if one != other:
        words = f"gradients are clipped {one} on the left and {other} on the right, as far as is known"
        yield Cause(words, "clipping")


def clipping(side: Side) -> str:
    """How an optimizer clips gradients, in words."""
    optimizer = side.says.optimizer
    settings = optimizer.settings if optimizer else {}
    own = settings.get("clipping")  # the class of Paddle's
    if own in CLIPPING:
        return f"{CLIPPING[own]} of {settings.get('clipping.clip_norm', settings.get('clipping.max'))}"
    return next((f"{words} of {settings[name]}" for name, words in CLIPPING.items() if settings.get(name)), "nowhere")


def dropping(broken: Broken) -> Iterator[Cause]:
    """Layers that drop at random during the recorded pass."""
    for words, side in zip(("left", "right"), broken.sides, strict=True):
        for layer in side.says.layers:
            rate = settings_of(side.framework, layer).get("rate")
            drops = any("rop" in name or "RNN" in name for name in layer.classes)
            if layer.training and drops and isinstance(rate, int | float) and rate > 0:
                yield Cause(f"dropout of {rate} was on in {layer.path} of the {words} side", "dropout")
                break


def arranged(broken: Broken) -> Iterator[Cause]:
    """The layer's weights have the same numbers in different places, for which the layer may be made."""
    for pair in rearranged(broken.item.pair) if broken.item.pair else ():
        words = "if the right layer computes with them where they are, --write-mapping writes this for --mapping"
        yield Cause(f"both sides hold the same numbers: {line_of_pair(pair)}; {words}")


def found_elsewhere(broken: Broken) -> Iterator[Cause]:
    """What was paired by its numbers before the layer that breaks, and stands in another order on the right."""
    order = {name: place for place, name in enumerate(broken.sides[1].owners)}
    last, moved = -1, []
    for pair in broken.rungs.pairing.pairs:
        if pair is broken.item.pair:
            break
        places = [order[name] for name in pair.right.names if name in order] if pair.found == "value" else []
        if places:
            if places != sorted(places) or places[0] < last:
                moved.append(f"{pair.name} has the numbers of {' + '.join(pair.right.names)}")
            last = places[0]
    if moved:
        yield Cause(
            f"{moved[-1]}, which run in another order on the right: are they exchanged, there or in the weights?"
        )


def tied(broken: Broken) -> Iterator[Cause]:
    """A weight that one side shares between two layers."""
    marks = []
    for group in broken.groups:
        names = set(group.names)
        weights = group.side.says.weights
        marks.append(any(name in names or w.tied_to in names for name, w in weights.items() if w.tied_to))
    if len(marks) == 2 and marks[0] != marks[1]:
        which = "left" if marks[0] else "right"
        yield Cause(f"the weight is tied to another layer's on the {which} only", "tied-weights")


def squared_slices(broken: Broken) -> Iterator[Cause]:
    """The mean squares of an embedding on Keras with TensorFlow."""
    keras = any(group.side.says.framework.backend == "tensorflow" for group in broken.groups)
    if keras and broken.kind == "embedding":
        words = "squares the gradients of an id that stands several times in a batch one by one"
        yield Cause(f"Keras on TensorFlow {words}", "keras-sparse-embeddings")


PROBES: dict[str, tuple[Callable[[Broken], Iterator[Cause]], ...]] = {
    "tensors": (probes.elsewhere, probes.rearranged, probes.other_dtype, probes.scaled),
    "weights": (
        probes.rearranged, probes.one_sided, probes.other_dtype, probes.few_rows, probes.scaled, tied,
        settings_differ, arranged,
    ),
    "forward": (
        settings_differ, probes.activated_otherwise, probes.activations_differ, probes.by_time, probes.padded_rows,
        probes.attention, dropping, probes.other_dtype, probes.rearranged, probes.scaled, probes.of_float32,
        found_elsewhere,
    ),
    "loss": (probes.smoothed, probes.scaled, probes.of_float32),
    "gradients": (
        probes.one_sided, tied, probes.few_rows, probes.scaled, settings_differ, probes.rearranged, dropping,
    ),
    "step": (
        counters_differ, squared_slices, probes.two_biases, probes.scaled, probes.variance, settings_differ,
        probes.uncorrected, probes.decayed, optimizers_differ,
    ),
    "trajectory": (probes.two_biases, probes.later, optimizers_differ, dropping),
}  # fmt: skip


def causes_of(rungs: Rungs, item: LayerItem, check: Check, failed: Sequence[tuple[LayerItem, Check]]) -> list[Cause]:
    """The likely causes, each once, those that the numbers show first."""
    broken = Broken(rungs, item, check, failed)
    return list(dict.fromkeys(cause for probe in PROBES[item.rung] for cause in probe(broken)))
