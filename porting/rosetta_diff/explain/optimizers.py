"""Optimizers: recorded settings that differ."""

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from rosetta_diff.explain.broken import Broken, Cause, number
from rosetta_diff.helpers import some_of
from rosetta_diff.pair.pairs import LayerPair
from rosetta_diff.read.rules import GRADIENT, STRAIGHT
from rosetta_diff.read.side import Side

ENTRY_OF_ROUNDED = "constants-precision"  # the entry of settings that float32 makes equal
# Words and entries of the register by the name of a setting; other names are told as they are.
WORDS = {
    "kind": "the optimizer is",
    "learning_rate": "the learning rate of the first step is",
    "root": "epsilon is",
    "decay": "weight decay goes",
    "clip": "gradients are clipped",
}
ENTRIES = {
    "epsilon": "optimizer-epsilon",
    "rho": "rmsprop-defaults",
    "root": "adam-epsilon",
    "weight_decay": "weight-decay",
    "decay": "weight-decay",
    "clip": "clipping",
}


# Recorded settings


def step_differs(broken: Broken) -> Iterator[Cause]:
    """Recorded differences that act on the step of the weight that is shown."""
    yield from counters(broken)
    yield from left_alone(broken)
    yield from optimizers_differ(broken)


def left_alone(broken: Broken) -> Iterator[Cause]:
    """One side's step leaves a weight where it is."""
    left, right = broken.moved
    rates = [side.first_rate for side in broken.sides]
    if broken.item.is_update and broken.groups and left.shape == right.shape and 0 not in rates:
        both = ("moved", "not moved") if left.any() else ("not moved", "moved")
        words = (
            f"{broken.item.tensor} is {both[0]} by the optimizer on the left and {both[1]} by the "
            "optimizer on the"
        )
        if left.any() != right.any():
            yield Cause(f"{words} right")


def counters(broken: Broken) -> Iterator[Cause]:
    """The optimizers counted other steps, by which Adam corrects the bias of its means."""
    left, right = (side.counters for side in broken.sides)
    if left and right and left != right:
        left_words, right_words = (" and ".join(map(str, counts)) for counts in (left, right))
        words = f"the step counter is {left_words} on the left and {right_words} on the right"
        yield Cause(words, "optimizer-slots")


def optimizers_differ(broken: Broken) -> Iterator[Cause]:
    """Settings of the optimizers that differ, of the groups that have the weight that is shown."""
    item = broken.item
    tensors = [item.pair.tensor(place, item.name) if item.pair else None for place in (0, 1)]
    left, right = (tensor.names if tensor else () for tensor in tensors)
    yield from acting(broken)
    yield from steps_differ(*broken.sides, broken.stages.tolerances.precision, (left, right))


def steps_differ(
    left: Side,
    right: Side,
    precision: str,
    weights: tuple[Collection[str], Collection[str]] = ((), ()),
) -> Iterator[Cause]:
    """Yield the optimizers' settings that differ for these weights, and constants in float32."""
    yield from differences(left, right, weights).values()
    for side in (left, right) if precision == "float64" else ():
        for name in side.float32_settings:
            value = number(side.optimizer_settings.get(name))
            if float(np.float32(value)) != value:
                words = (
                    f"{side.framework.name} rounds {name} to float32, and {value} is no number of "
                    "float32"
                )
                yield Cause(words, side.framework.entry_of_constants)


def other_optimizers(left: Side, right: Side, pairs: Iterable[LayerPair]) -> Iterator[Cause]:
    """Yield how the optimizers differ though their first steps may agree, and for which weights.
    Left out are settings that float32 makes others, settings without effect where there is no
    momentum, and the groups of one side where the other framework tells weights apart by other
    means."""
    momentum = any(side.optimizer_settings.get("momentum") for side in (left, right))
    silent = {"kind", "root", "decay"} | (set() if momentum else {"nesterov", "dampening"})
    groups = [side.optimizer.groups for side in (left, right)]
    if any(groups) and not all(groups) and left.framework is not right.framework:
        silent |= {"learning_rate", "weight_decay"}
    weights = trained(pairs) if any(groups) else {"": ((), ())}
    told: dict[Cause, list[str]] = {}  # names of weights by what differs for them
    for weight, names in weights.items():
        for name, cause in differences(left, right, names).items():
            if name not in silent and cause.entry != ENTRY_OF_ROUNDED:
                told.setdefault(cause, []).append(weight)
    for cause, of in told.items():
        some = "" if len(of) == len(weights) else f", for {some_of(of)}"
        yield replace(cause, sentence=f"{cause.sentence}{some}")


def trained(pairs: Iterable[LayerPair]) -> Mapping[str, tuple[Collection[str], Collection[str]]]:
    """Return the names of the arrays of each trained weight, left and right."""
    weights: dict[str, tuple[Collection[str], Collection[str]]] = {}
    for pair in pairs:
        for name in filter(pair.is_trained, pair.weights):
            left, right = pair.weights[name].both
            weights[f"{pair.name} {name}"] = left.names, right.names
    return weights


def differences(
    left: Side, right: Side, weights: tuple[Collection[str], Collection[str]] = ((), ())
) -> dict[str, Cause]:
    """Return by name what the records of both optimizers say otherwise, of the groups that have
    these weights. A side without decay may lack its setting."""
    sides, causes = (left, right), dict[str, Cause]()
    if not all(side.says.optimizer for side in sides):
        return causes
    settings = [settings_of(*both) for both in zip(sides, weights, strict=True)]
    # Which may compute otherwise than the class from which it comes.
    if any(is_own(side) for side in sides):
        settings = [
            {name: of[name] for name in of if name not in ("root", "decay")} for of in settings
        ]
    for name in [name for name in settings[0] if name in settings[1]]:
        of_left, of_right = (of[name] for of in settings)
        if (of_left or 0) != (of_right or 0):
            floats = isinstance(of_left, float) and isinstance(of_right, float)
            equal = floats and np.float32(of_left) == np.float32(of_right)
            entry = (
                "rmsprop-epsilon"
                if name == "root" and "RMS" in left.optimizer_kind
                else ENTRIES.get(name, "")
            )
            words, both = WORDS.get(name, f"the optimizer's {name} is"), [of_left, of_right]
            if floats and not equal:
                both = [f"{value:g}" for value in both]
            causes[name] = Cause(
                f"{words} {both[0]} on the left and {both[1]} on the right",
                ENTRY_OF_ROUNDED if equal else entry,
            )
    return causes


def settings_of(side: Side, weights: Collection[str]) -> dict[str, Any]:
    """Return an optimizer's settings in canonical terms, of the group that has these weights."""
    group = group_of(side, weights)
    settings = {**side.optimizer_settings, **side.framework.settings_of_optimizer(group)}
    decay = group.get("weight_decay", decay_of(side))
    settings |= {"weight_decay": decay, "kind": side.optimizer_family}
    settings |= {"clip": clipping_in_words(side)} if side.framework.clips else {}
    of_all, rate = side.optimizer_settings.get("learning_rate"), side.first_rate
    if isinstance(rate, int | float):
        share = (
            number(group.get("lr", of_all)) / number(of_all) if group and number(of_all) else 1.0
        )
        settings["learning_rate"] = rate * share  # before a schedule's first step
    settings |= {"root": side.place_of_epsilon} if side.place_of_epsilon else {}
    return settings | ({"decay": decays_of(side)[0]} if decay else {})


def group_of(side: Side, weights: Collection[str]) -> Mapping[str, Any]:
    """Return the recorded group that has any of these weights; nothing where there is none."""
    for group in side.optimizer.groups:
        names = group.get("weights")
        if isinstance(names, list) and any(name in names for name in weights):
            return group
    return {}


def decay_of(side: Side) -> Any:
    """Return the optimizer's weight decay; in words where groups of weights have several."""
    of_all = side.optimizer_settings.get("weight_decay")
    decays = sorted({number(group.get("weight_decay", of_all)) for group in side.optimizer.groups})
    if len(decays) > 1:
        return f"{' and '.join(map(str, decays))} in groups of weights"
    return decays[0] if decays else of_all


def decays_of(side: Side) -> list[str]:
    """Return where the optimizer may take weight decay from,
    the usual way first. A person's own may do either."""
    straight = side.optimizer_kind == "AdamW"
    either = (GRADIENT, STRAIGHT) if is_own(side) else ()
    return list(dict.fromkeys((*([STRAIGHT] if straight else []), *side.framework.decays, *either)))


def clipping_in_words(side: Side) -> str:
    """Return how the optimizer itself clips gradients, and to what."""
    clip = side.framework.clipping(side.optimizer.settings)
    return f"{clip[0]} of {float(f'{number(clip[1]):.4g}')}" if clip else "nowhere"


def is_own(side: Side) -> bool:
    """Return True for an optimizer whose class a person wrote."""
    return side.framework.is_custom_optimizer(side.optimizer.class_name)


# The first step


def acting(broken: Broken) -> Iterator[Cause]:
    """Yield what else the records tell of the step of the weight that is shown."""
    item = broken.item
    if not item.pair or not item.is_update or item.is_statistic:
        return
    left, right = (item.pair.tensor(place, item.name) for place in (0, 1))
    if left and right and len(left.terms) != len(right.terms):
        yield Cause("one side trains two biases, whose sum moves twice as far", "second-bias")
    for side in broken.sides if broken.kind == "embedding" else ():
        deviation = side.framework.repeated_ids(side.backend, side.optimizer_family)
        if deviation and not is_own(side) and repeats_ids(side):
            yield Cause(*deviation)


def repeats_ids(side: Side) -> bool:
    """Return True where an id stands several times in the first batch."""
    inputs = side.arrays("inputs")
    ids = (
        inputs[name]
        for name in inputs
        if not name.startswith("batch") and inputs[name].dtype.kind in "iu"
    )
    return any(np.unique(array).size < array.size for array in ids)
