"""Compares two records rung by rung, up to the first rung that breaks, and says what is known of it.

The control shows that the comparison can fail, and what rounding does to it: the left side against itself, changed.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import numpy as np

from benchmarks.compare.causes import causes_of
from benchmarks.compare.comparer import Array, Check, Item, explained, head, judge, nearest
from benchmarks.compare.mapping import MappingFile
from benchmarks.compare.pairing import ARRANGED, Pairing, line_of_pair, paired
from benchmarks.compare.probes import Cause
from benchmarks.compare.record import Side, is_number
from benchmarks.compare.rungs import COMPARED, Rungs

PLANTED = 100  # bounds by which a number is moved
ONE_ULP = "one ulp"


@dataclass
class Control:
    """What became of the left side's own numbers when they were changed."""

    precision: str
    rounding: list[Check] = field(default_factory=list)  # errors of one unit in the last place
    seen: dict[str, bool] = field(default_factory=dict)  # by rung: whether each planted mistake was seen

    @property
    def passed(self) -> bool:
        return all(check.passed for check in self.rounding) and all(self.seen.values())

    def add(self, item: Item) -> None:
        """Change the first rows of an item's left array by one unit in the last place, and then by a mistake."""
        left = item.left()
        if left is None or not left.size or not np.isfinite(left).all():
            return
        rows, make = head(left), partial(Check, ONE_ULP, "", self.precision)
        allowed = item.allowed() if item.allowed else None
        own = replace(
            item,
            left=lambda: rows,
            allowed=(lambda: allowed) if allowed else None,
            is_output=False,
            scale=item.scale_of(rows),
        )
        if item.tolerance and is_number(left):
            self.rounding.append(judge(replace(own, right=lambda: nudged(rows)), make))
        check = judge(replace(own, right=lambda: planted(rows, own)), make)
        self.seen[item.rung] = self.seen.get(item.rung, True) and not check.passed


@dataclass
class Diff:
    """The result of a comparison; the left side is what is expected."""

    left: str
    right: str
    pairing: Pairing
    control: Control
    checks: list[Check] = field(default_factory=list)
    explanation: list[str] = field(default_factory=list)  # of the rung that breaks
    causes: list[Cause] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)  # what was not compared, and other remarks

    @property
    def passed(self) -> bool:
        return all(check.passed for check in self.checks)

    @property
    def broken(self) -> str | None:
        """The rung that breaks."""
        return next((check.rung for check in self.checks if not check.passed), None)

    def as_json(self) -> dict[str, Any]:
        checks = [check.as_json() for check in self.checks]
        return {
            "passed": self.passed,
            "left": self.left,
            "right": self.right,
            "breaks_at": self.broken,
            "explanation": self.explanation,
            "causes": [{"sentence": cause.sentence, "link": cause.link or None} for cause in self.causes],
            "checks": [
                {name: check[name] for name in check if name not in ("backend", "variant", "dtype")}
                for check in checks
            ],
            "control": {
                "one_ulp": [
                    {"rung": check.rung, "tensor": check.tensor, "error": check.finite_error}
                    for check in self.control.rounding
                ],
                "planted_mistakes_seen": self.control.seen,
            },
            "pairs": {pair.left.name: pair.right.name for pair in self.pairing.pairs},
            "notes": self.notes,
        }


def compare_records(left: Side, right: Side, mapping: MappingFile | None = None) -> Diff:
    """Raises CannotBeginError where layers cannot be paired."""
    pairing = paired(left, right, mapping).require(left, right)
    rungs = Rungs(left, right, pairing)
    found = Diff(left.name, right.name, pairing, Control(rungs.precision), notes=rungs.notes)
    found.notes += [f"not compared: {name}, {reason}" for name, reason in pairing.skipped.items()]
    guessed = [pair for pair in pairing.pairs if pair.left.kind == ARRANGED and pair.found != "mapping"]
    if guessed:
        found.notes.append(
            f"paired by {' or '.join(dict.fromkeys(pair.found for pair in guessed))}: {len(guessed)} weights, such as "
            f"{line_of_pair(guessed[0])}; --write-mapping writes all"
        )
    for rung in COMPARED:
        judged = []
        for item in rungs.items(rung):
            judged.append((item, judge(item, partial(Check, right.name, "", rungs.precision))))
            found.control.add(item)
        found.checks += [check for _, check in judged]
        failed = [(item, check) for item, check in judged if not check.passed]
        if failed:
            item, check = failed[nearest([check for _, check in failed])]
            at = item.place(check.where)
            found.explanation = explained(right.name, check, at, len(failed), len(judged))
            found.causes = causes_of(rungs, item, check, failed)
            break
    found.control.rounding = list(recorded(left)) or found.control.rounding
    return found


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


def recorded(left: Side) -> Iterator[Check]:
    """The checks of the left side against its own control, in which every weight was moved by one unit."""
    if left.control is None:
        return
    rungs = Rungs(left, left.control, paired(left, left.control))
    for rung in COMPARED[2:]:
        for item in rungs.items(rung):
            yield judge(item, partial(Check, ONE_ULP, "", rungs.precision))
