"""Facts about optimizers that differ."""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from rosetta_diff.explain.broken import Broken, Cause, number
from rosetta_diff.explain.operators import CLIPPED, UPDATES, stepped
from rosetta_diff.explain.search import choices_of
from rosetta_diff.explain.training import clipping, decays_of
from rosetta_diff.read.record import Side

OF_STEPS: list[Callable[..., Any]] = [*UPDATES.values(), stepped]
ENTRIES = {choice.setting: choice.entry for step in OF_STEPS for choice in choices_of(step).values()}  # by a setting


def optimizers_differ(broken: Broken) -> Iterator[Cause]:
    return steps_differ(*broken.sides, broken.rungs.tolerances.precision)


def steps_differ(left: Side, right: Side, precision: str) -> Iterator[Cause]:
    """Optimizers' settings that are not the same, constants in float32, where epsilon stands, and where weight decay
    goes."""
    sides = left, right
    yield from settings_of_optimizers(left, right).values()
    for side in sides if precision == "float64" else ():
        for name in side.float32_settings:
            value = number(side.optimizer_settings.get(name))
            if float(np.float32(value)) != value:
                entry = "tensorflow-constants" if side.framework == "keras" else "constants-precision"
                words = f"{side.framework} rounds {name} to float32, and {value} is no number of float32"
                yield Cause(words, entry)
    # A person's own class may compute otherwise than the framework's from which it comes.
    if not any("." in side.optimizer.class_name and side.framework != "flax" for side in sides):
        places, ways = [side.place_of_epsilon for side in sides], [decays_of(side)[0] for side in sides]
        if all(places) and places[0] != places[1]:
            entry = "rmsprop-epsilon" if "RMS" in left.optimizer_kind else "adam-epsilon"
            yield Cause(f"epsilon is {places[0]} on the left and {places[1]} on the right", entry)
        if ways[0] != ways[1] and any(side.optimizer_settings.get("weight_decay") for side in sides):
            yield Cause(f"weight decay goes {ways[0]} on the left and {ways[1]} on the right", "weight-decay")
    yield from clippings_differ(left, right)


def settings_of_optimizers(left: Side, right: Side) -> dict[str, Cause]:
    """Return the optimizers' settings that are not the same, by name. A side without decay may lack its setting."""
    sides, causes = (left, right), dict[str, Cause]()
    if not all(side.says.optimizer for side in sides):
        return causes
    settings = [{**side.optimizer_settings, "weight_decay": decay_of(side)} for side in sides]
    for name in [name for name in settings[0] if name in settings[1]]:
        left_value, right_value = (of[name] for of in settings)
        if (left_value or 0) != (right_value or 0):
            floats = isinstance(left_value, float) and isinstance(right_value, float)
            equal = floats and np.float32(left_value) == np.float32(right_value)
            entry = "constants-precision" if equal else ENTRIES.get(name, "")
            causes[name] = Cause(
                f"the optimizer's {name} is {left_value} on the left and {right_value} on the right", entry
            )
    return causes


def clippings_differ(left: Side, right: Side) -> Iterator[Cause]:
    if clipping(left) != clipping(right):
        left_words, right_words = map(clipping_in_words, (left, right))
        yield Cause(f"{CLIPPED.words} {left_words} on the left and {right_words} on the right", "clipping")


def other_optimizers(left: Side, right: Side) -> Iterator[Cause]:
    """Yield how the optimizers differ though their first steps may agree. Left out are settings that float32 makes
    others, schedules, settings of groups of weights, and those without effect where there is no momentum."""
    momentum = any(side.optimizer_settings.get("momentum") for side in (left, right))
    silent = set() if momentum else {"nesterov", "dampening"}
    silent |= {"learning_rate", "weight_decay"} if left.optimizer.groups or right.optimizer.groups else set()
    for name, cause in settings_of_optimizers(left, right).items():
        words = any(isinstance(side.optimizer_settings.get(name), str) for side in (left, right))
        if name not in silent and not words and cause.entry != "constants-precision":
            yield cause
    yield from clippings_differ(left, right)


def decay_of(side: Side) -> Any:
    """Return the optimizer's weight decay; in words where groups of weights have several."""
    of_all = side.optimizer_settings.get("weight_decay")
    decays = sorted({number(group.get("weight_decay", of_all)) for group in side.optimizer.groups})
    if len(decays) > 1:
        return f"{' and '.join(map(str, decays))} in groups of weights"
    return decays[0] if decays else of_all


def clipping_in_words(side: Side) -> str:
    clip = clipping(side)
    if clip:
        return f"{clip[0]} of {clip[1]}"
    never = f", where {side.framework} never does it and a record does not show it," if not side.known.clips else ""
    return f"not by the optimizer{never}"
