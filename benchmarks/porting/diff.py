"""Compares two records rung by rung, up to the first rung that breaks, and says what is known of it."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from benchmarks.parity.checks import Check
from benchmarks.porting.causes import BREAKS, Broken, Cause, causes_of
from benchmarks.porting.control import Control, recorded
from benchmarks.porting.pairing import Mapping, Pairing, paired
from benchmarks.porting.record import Record
from benchmarks.porting.rungs import COMPARED, Item, Rungs, judge, place
from benchmarks.porting.sides import Side


@dataclass
class Diff:
    """The result of a comparison; the left side is what is expected."""

    left: str
    right: str
    pairing: Pairing
    checks: list[Check] = field(default_factory=list)
    explanation: list[str] = field(default_factory=list)  # of the rung that breaks
    causes: list[Cause] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)  # what was not compared, and other remarks
    control: Control = field(default_factory=Control)

    @property
    def passed(self) -> bool:
        return all(check.passed for check in self.checks)

    @property
    def broken(self) -> str | None:
        """The rung that breaks."""
        return next((check.rung for check in self.checks if not check.passed), None)

    def as_json(self) -> dict[str, Any]:
        """An error that is not finite is null."""
        return {
            "passed": self.passed,
            "left": self.left,
            "right": self.right,
            "breaks_at": self.broken,
            "explanation": self.explanation,
            "causes": [{"sentence": cause.sentence, "link": cause.link or None} for cause in self.causes],
            "checks": [
                {name: value for name, value in asdict(check).items() if name not in ("backend", "variant", "dtype")}
                | {"error": check.finite_error, "passed": check.passed}
                for check in self.checks
                if check.backend == self.right
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


def compare_records(left: Record, right: Record, mapping: Mapping | None = None) -> Diff:
    """Raises CannotBeginError where layers cannot be paired."""
    pairing = paired(left, right, mapping).require(left, right)
    rungs = Rungs(Side(left), Side(right), pairing)
    found = Diff(left.name, right.name, pairing, notes=rungs.notes)
    for rung in COMPARED:
        judged = []
        for item in rungs.items(rung):
            judged.append((item, judge(item, right.name, rungs.precision)))
            found.control.add(item, rungs.precision)
        found.checks += [check for _, check in judged]
        failed = [(item, check) for item, check in judged if not check.passed]
        if failed:
            item, check = shown(rung, failed)
            found.explanation = explained(item, check, len(failed), len(judged))
            found.causes = causes_of(Broken(rungs, item, check, failed))
            break
    found.control.rounding = list(recorded(left)) or found.control.rounding
    return found


def shown(rung: str, failed: Sequence[tuple[Item, Check]]) -> tuple[Item, Check]:
    """The failure nearest to the cause: the first in the order in which things are computed, which is backwards for
    gradients; of a step, where each tensor has an update of its own, the worst."""
    if rung == "gradients":
        return failed[-1]
    return max(failed, key=lambda pair: pair[1].error) if rung == "step" else failed[0]


def explained(item: Item, check: Check, failures: int, checks: int) -> list[str]:
    """The rung, the tensor, where in it, the size against the bound and both values."""
    at = place(item, check.where)
    error = "" if check.finite_error is None else f"error {check.error:.1e}, bound {check.tolerance:.1e}; "
    return [
        f"{check.backend} breaks at {check.rung}: {BREAKS[check.rung]}",
        f"{check.tensor}: {error}{at + ': ' if at else ''}{check.note}",
        *([f"{failures} of {checks} checks of this rung fail"] if checks > 1 else []),
    ]
