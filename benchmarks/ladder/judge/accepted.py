"""Deviations that no port can end. `--accept NAME` has a comparison accept one, by its name in docs/deviations.md.

What deviates is compared all the same: the right side's numbers are converted to the left side's convention.
"""

from collections.abc import Callable, Iterable
from math import prod

import numpy as np

from benchmarks.ladder.arrays import Array, Load
from benchmarks.ladder.pair.pairs import LayerPair
from common.errors import CannotBeginError


def running_variance(pair: LayerPair, name: str, right: Load) -> Load | None:
    """The right side's running variance after a step, converted from dividing by n to n - 1, or back.

    n is the number of rows and positions that the layer was given. None where both sides divide alike, or where n is
    not known.
    """
    by_less = [not group.side.known.divides_by_n for group in pair.both]  # True of a side that divides by n - 1
    start, kept = pair.right_array(name), pair.right.settings.get("momentum")
    shapes = [pair.left.side.shape(call.parts[0], "layers") for call in pair.left.calls if call.parts]
    if name != "moving_variance" or by_less[0] == by_less[1] or start is None:
        return None
    if all(group.layer.training is False for group in pair.both):  # none was updated
        return None
    if not isinstance(kept, float) or not 0 <= kept < 1:
        return None
    n = prod(shapes[0]) // max(1, start.size) if len({*map(prod, shapes)}) == 1 else 0
    if n < 2:
        return None
    left_of_start = kept ** len(shapes) * start.astype(np.float64)

    def divided() -> Array | None:
        array = right()
        if array is None or array.shape != start.shape or np.array_equal(array, start):  # it was not updated
            return array
        converted: Array = (array - left_of_start) * (n / (n - 1) if by_less[0] else (n - 1) / n)
        return left_of_start + converted

    return divided


# By name, the function that converts a tensor of the right side after a step.
ACCEPTABLE: dict[str, Callable[[LayerPair, str, Load], Load | None]] = {"batchnorm-variance": running_variance}


def acceptable(names: Iterable[str]) -> tuple[str, ...]:
    """The names. Raises CannotBeginError for one that cannot be accepted."""
    deviations = tuple(name.strip() for name in names)
    unknown = [name for name in deviations if name not in ACCEPTABLE]
    if unknown:
        known = ", ".join(ACCEPTABLE)
        raise CannotBeginError(f"--accept names {', '.join(unknown)}; what docs/deviations.md has for it is {known}")
    return deviations
