"""Shows that the comparison can fail, and what rounding does to it: the left side against itself, changed."""

from collections.abc import Iterator
from dataclasses import dataclass, field, replace

import numpy as np

from benchmarks.parity.checks import Check
from benchmarks.porting.layouts import Array
from benchmarks.porting.pairing import paired
from benchmarks.porting.record import Record, is_number
from benchmarks.porting.rungs import COMPARED, Item, Rungs, judge
from benchmarks.porting.sides import Side
from common.comparison import pieces

PLANTED = 100  # bounds by which a number is moved
ONE_ULP = "one ulp"


@dataclass
class Control:
    """What became of the left side's own numbers when they were changed."""

    rounding: list[Check] = field(default_factory=list)  # errors of one unit in the last place
    seen: dict[str, bool] = field(default_factory=dict)  # by rung: whether each planted mistake was seen

    @property
    def passed(self) -> bool:
        return all(check.passed for check in self.rounding) and all(self.seen.values())

    def add(self, item: Item, precision: str) -> None:
        """Change the first rows of an item's left array by one unit in the last place, and then by a mistake."""
        left = item.left()
        if left is None or not left.size or not np.isfinite(left).all():
            return
        rows = left[next(pieces(left.shape))] if left.ndim else left
        allowed = item.allowed() if item.allowed else None
        own = replace(
            item, allowed=(lambda: allowed) if allowed else None, is_output=False, scale=item.scale_of(rows)
        )
        if item.tolerance and is_number(left):
            nudge = replace(own, right=lambda: nudged(rows), left=lambda: rows)
            self.rounding.append(judge(nudge, ONE_ULP, precision))
        mistake = replace(own, right=lambda: planted(rows, own), left=lambda: rows)
        check = judge(mistake, ONE_ULP, precision)
        self.seen[item.rung] = self.seen.get(item.rung, True) and not check.passed


def nudged(array: Array) -> Array:
    """The array with its largest number moved by one unit in the last place."""
    changed = np.array(array)
    where = np.unravel_index(int(np.abs(changed).argmax()), changed.shape)
    changed[where] = np.nextafter(changed[where], changed.dtype.type(0))
    return changed


def planted(array: Array, item: Item) -> Array:
    """The array with its first number moved by 100 bounds, or one by an ulp where all must be equal."""
    if item.tolerance == 0 and is_number(array):
        return nudged(array) if array.any() else array + 1
    changed = array.astype(np.float64) if is_number(array) else np.array(array)
    first = (0,) * changed.ndim
    if is_number(array):
        slack = item.allowed()(slice(0, 1)).flat[0] if item.allowed else 0.0
        changed[first] += PLANTED * item.tolerance * item.scale_of(array) + 2 * slack
    else:
        changed[first] = ~changed[first]
    return changed


def recorded(left: Record) -> Iterator[Check]:
    """The checks of the left side against its own control, in which every weight was moved by one unit."""
    if left.control is None:
        return
    rungs = Rungs(Side(left), Side(left.control), paired(left, left.control))
    for rung in COMPARED[2:]:
        for item in rungs.items(rung):
            yield judge(item, ONE_ULP, rungs.precision)
