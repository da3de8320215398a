"""Optimizers: recorded settings that differ, the only one that acts on a step, and steps of a person's own class."""

from collections.abc import Collection, Iterator, Mapping
from functools import partial
from typing import Any

import numpy as np

from rosetta_diff.arrays import Array, head
from rosetta_diff.explain.broken import Broken, Cause, number
from rosetta_diff.explain.operators import NOWHERE, UPDATES, stepped
from rosetta_diff.explain.search import Both, Computation, Search, choices_of
from rosetta_diff.explain.training import clipping, clippings, norm_of_all
from rosetta_diff.read.rules import BEFORE_CORRECTION, GRADIENT, STRAIGHT
from rosetta_diff.read.side import Side

ROUNDED = "constants-precision"  # the entry of settings that float32 makes equal
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


def optimizers_differ(broken: Broken) -> Iterator[Cause]:
    yield from acting(broken).values()
    yield from steps_differ(*broken.sides, broken.stages.tolerances.precision)


def steps_differ(left: Side, right: Side, precision: str) -> Iterator[Cause]:
    """Optimizers' settings that are not the same, and constants in float32."""
    yield from differences(left, right).values()
    for side in (left, right) if precision == "float64" else ():
        for name in side.float32_settings:
            value = number(side.optimizer_settings.get(name))
            if float(np.float32(value)) != value:
                entry = "tensorflow-constants" if side.framework == "keras" else ROUNDED
                words = f"{side.framework} rounds {name} to float32, and {value} is no number of float32"
                yield Cause(words, entry)


def other_optimizers(left: Side, right: Side) -> Iterator[Cause]:
    """Yield how the optimizers differ though their first steps may agree. Left out are settings that float32 makes
    others, settings of groups of weights, and those without effect where there is no momentum."""
    momentum = any(side.optimizer_settings.get("momentum") for side in (left, right))
    silent = {"kind", "root", "decay"} | (set() if momentum else {"nesterov", "dampening"})
    silent |= {"learning_rate", "weight_decay"} if left.optimizer.groups or right.optimizer.groups else set()
    for name, cause in differences(left, right).items():
        if name not in silent and cause.entry != ROUNDED:
            yield cause


def differences(
    left: Side, right: Side, weights: tuple[Collection[str], Collection[str]] = ((), ())
) -> dict[str, Cause]:
    """Return by name what the records of both optimizers say otherwise, of the groups that have these weights. A side
    without decay may lack its setting."""
    sides, causes = (left, right), dict[str, Cause]()
    if not all(side.says.optimizer for side in sides):
        return causes
    settings = [settings_of(*both) for both in zip(sides, weights, strict=True)]
    if any(is_own(side) for side in sides):  # which may compute otherwise than the class from which it comes
        settings = [{name: of[name] for name in of if name not in ("root", "decay")} for of in settings]
    for name in [name for name in settings[0] if name in settings[1]]:
        of_left, of_right = (of[name] for of in settings)
        if (of_left or 0) != (of_right or 0):
            floats = isinstance(of_left, float) and isinstance(of_right, float)
            equal = floats and np.float32(of_left) == np.float32(of_right)
            entry = "rmsprop-epsilon" if name == "root" and "RMS" in left.optimizer_kind else ENTRIES.get(name, "")
            words, both = WORDS.get(name, f"the optimizer's {name} is"), [of_left, of_right]
            if floats and not equal:
                both = [f"{value:g}" for value in both]
            causes[name] = Cause(
                f"{words} {both[0]} on the left and {both[1]} on the right", ROUNDED if equal else entry
            )
    return causes


def settings_of(side: Side, weights: Collection[str]) -> dict[str, Any]:
    """Return an optimizer's settings in canonical terms, of the group that has these weights."""
    group = group_of(side, weights)
    settings = {**side.optimizer_settings, **side.known.settings_of_optimizer(group)}
    decay = group.get("weight_decay", decay_of(side))
    settings |= {"weight_decay": decay, "kind": side.optimizer_family, "clip": clipping_in_words(side)}
    of_all, rate = side.optimizer_settings.get("learning_rate"), side.first_rate
    if isinstance(rate, int | float):
        share = number(group.get("lr", of_all)) / number(of_all) if group and number(of_all) else 1.0
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
    """Return where the optimizer may take weight decay from, the usual way first. A person's own may do either."""
    straight = side.optimizer_kind == "AdamW"
    either = (GRADIENT, STRAIGHT) if is_own(side) else ()
    return list(dict.fromkeys((*([STRAIGHT] if straight else []), *side.known.decays, *either)))


def clipping_in_words(side: Side) -> str:
    clip = clipping(side)
    return f"{clip[0]} of {float(f'{clip[1]:.4g}')}" if clip else NOWHERE


def is_own(side: Side) -> bool:
    """Return True for an optimizer whose class a person wrote."""
    return side.framework == "arrays" or ("." in side.optimizer.class_name and side.framework != "flax")


# The first step


def acting(broken: Broken) -> dict[str, Cause]:
    """Return by name the recorded differences that act on the first step of the weight that is shown."""
    item, sides = broken.item, broken.sides
    if not item.pair or not item.is_update or item.is_statistic:
        return {}
    tensors = [item.pair.tensor(place, item.name) for place in (0, 1)]
    left, right = (tensor.names if tensor else () for tensor in tensors)
    differ = differences(*sides, (left, right))
    nesterov, momentum = (
        any(side.optimizer_settings.get(name) for side in sides) for name in ("nesterov", "momentum")
    )
    silent = {"dampening", "amsgrad", "nesterov" if not momentum else "", "momentum" if not nesterov else ""}
    if {side.optimizer_family for side in sides} == {"Adam"}:
        before = BEFORE_CORRECTION in {side.place_of_epsilon for side in sides}
        silent |= {"beta_1"} if before else {"beta_1", "beta_2"}
    gradient = item.pair.left_array(item.name, "gradients")
    if gradient is not None and all(np.array_equal(clipped(side, gradient), gradient) for side in sides):
        silent.add("clip")
    causes = {name: cause for name, cause in differ.items() if name not in silent}
    if all(tensors) and len(tensors[0].terms) != len(tensors[1].terms):  # type: ignore[union-attr]
        words = "one side trains two biases, whose sum moves twice as far"
        causes["terms"] = Cause(words, "second-bias")
    if broken.kind == "embedding" and any(squares_slices(side) for side in sides):
        words = "squares the gradients of an id that stands several times in a batch one by one"
        causes["slices"] = Cause(f"Keras on TensorFlow {words}", "keras-sparse-embeddings")
    return causes


def squares_slices(side: Side) -> bool:
    """Return True where Keras's own optimizer is given the gradients of ids of which some are the same."""
    if side.backend != "tensorflow" or is_own(side) or side.optimizer_family not in ("Adam", "RMSprop"):
        return False
    inputs = side.arrays("inputs")
    ids = (inputs[name] for name in inputs if not name.startswith("batch") and inputs[name].dtype.kind in "iu")
    return any(np.unique(array).size < array.size for array in ids)


def the_only_setting(broken: Broken, search: Search) -> list[Cause]:
    """Return the only recorded setting that differs and acts on the step that is shown. That gradients agree is its
    test. A person's own class must compute as the framework's."""
    causes = acting(broken)
    real = [cause for cause in causes.values() if cause.entry != ROUNDED] or [*causes.values()]
    if len(real) != 1:
        return []
    for place in (place for place, side in enumerate(broken.sides) if is_own(side)):
        step = of_step(broken, place)
        trials = (chosen for changed in range(3) for chosen in step.others(step.usual(), changed)) if step else ()
        if not step or not any(search.passes(step.made(chosen), step.output) for chosen in trials):
            return []
    return real


def steps(broken: Broken) -> Iterator[Both]:
    """Yield first steps of a weight, where a person wrote the class of an optimizer."""
    if any(map(is_own, broken.sides)):
        left, right = of_step(broken, 0), of_step(broken, 1)
        if left and right:
            yield [left], [right], (2, 2)


def of_step(broken: Broken, place: int) -> Computation | None:
    """Return the left (0) or the right side's (1) step of a weight by its gradient and the recorded settings, with
    what no record has of a person's own class as choices; None where nobody here knows how."""
    pair, side, name = broken.item.pair, broken.sides[place], broken.item.name
    update = UPDATES.get(side.optimizer_family)
    if not pair or not update or not broken.item.is_update or broken.item.is_statistic:
        return None
    read, tensor = (pair.left_array, pair.right_array)[place], pair.tensor(place, name)
    arrays = read(name, "gradients"), read(name), broken.moved[place]
    if any(array is None or not array.size or tensor is None or array.shape != tensor.shape for array in arrays[:2]):
        return None
    gradient, start, wanted = (head(array).astype(np.float64) for array in arrays)  # type: ignore[arg-type]
    settings = {name: number(value) for name, value in settings_of(side, tensor.names if tensor else ()).items()}
    settings |= {name: float(np.float32(settings[name])) for name in side.float32_settings if name in settings}
    usual = choices_of(update)
    known: dict[str, list[Any]] = {"decay": [*decays_of(side), NOWHERE] if is_own(side) else decays_of(side)[:1]}
    if not is_own(side):
        known |= {name: [choice.values[0]] for name, choice in usual.items()}
        known |= {"root": [side.place_of_epsilon]} if "root" in usual and side.place_of_epsilon else {}
    terms = len(tensor.terms) if tensor else 1
    operator = partial(stepped, clipped(side, gradient), start, terms, update, settings)
    return Computation(operator, choices_of(stepped, **known) | choices_of(update, **known), wanted, gradient.size)


def clipped(side: Side, gradient: Array) -> Array:
    """Return a gradient as the optimizer clips it."""
    clip = clipping(side)
    if not clip:
        return gradient
    return clippings(gradient, norm_of_all(side), side, [clip[1]]).get(f"{clip[0]} of {clip[1]}", gradient)
