"""Running variances of batch normalizations, which frameworks divide by n or by n - 1.

They are compared all the same: the right side's numbers are converted to the left side's convention.
"""

from math import prod

import numpy as np

from rosetta_diff.arrays import Array, Load
from rosetta_diff.pair.pairs import LayerPair


def converted_variance(pair: LayerPair, name: str, right: Load) -> Load | None:
    """The right side's running variance after a step, converted from dividing by n to n - 1, or back.

    n is the number of rows and positions that the layer was given. None for another tensor, where both sides divide
    alike, or where n is not known.
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
