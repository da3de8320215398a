"""Climb the parity ladder with every backend: what passed, why it did not where it did not, and certificates."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from itertools import combinations
from typing import Any

import numpy as np

from backends import BASELINE, TABLE
from benchmarks.parity.certificate import Certificate, Rung
from benchmarks.parity.explanations import explain
from benchmarks.parity.ladder import Check, Climber, Course
from common.errors import CannotBeginError
from common.interface import Forward


@dataclass
class Parity:
    """What the ladder found, as far as it was climbed."""

    checks: list[Check] = field(default_factory=list)
    explanations: list[str] = field(default_factory=list)  # of each backend's first broken rung
    certificates: dict[str, Certificate] = field(default_factory=dict)  # by "NAME dtype"
    whole: bool = False  # all have climbed that were to

    @property
    def passed(self) -> bool:
        return self.whole and all(check.passed for check in self.checks)

    def as_json(self) -> dict[str, Any]:
        """`passed`, and each check; an error that no number can tell is null."""
        checks = [asdict(check) | {"error": check.finite_error, "passed": check.passed} for check in self.checks]
        return {"passed": self.passed, "checks": checks, "explanations": self.explanations}


def backends_and_dtypes(names: Sequence[str], dtypes: Sequence[str]) -> list[tuple[str, str]]:
    """Each backend with each precision of its weights that it can be held to.

    In float32 alone climb the official example, whose constants are not rounded, and what computes in less than that.
    Raises CannotBeginError where nothing is left.
    """
    alone = [name for name in names if name == BASELINE or TABLE[name].reduced]
    found = [(name, dtype) for name in names for dtype in dtypes if dtype == "float32" or name not in alone]
    if not found:
        raise CannotBeginError(f"{' and '.join(alone)} can be held to float32 alone; use --dtype float32")
    return found


def climb(
    course: Course,
    names: Sequence[str],
    dtypes: Sequence[str],
    found: Parity,
    on_check: Callable[[], None] = lambda: None,
) -> Parity:
    """Every backend in every precision, one after another, each in a process of its own.

    Returns `found`, which is filled check by check: an error keeps what there was before it.
    """
    forwards: dict[str, Forward] = {}
    for name, dtype in backends_and_dtypes(names, dtypes):
        with course.start(name, dtype) as process:
            climber = Climber(course, process, dtype)
            own = []
            for check in climber.climb():
                own.append(check)
                found.checks.append(check)
                on_check()
            failed = [check for check in own if not check.passed]
            if failed:
                found.explanations.append(explain(climber, failed))
            elif climber.precision == "float32":
                forwards[name] = climber.forward
            found.certificates[f"{name} {dtype}"] = certificate(course, climber, own)
    for check in _pairs(course, forwards):
        found.checks.append(check)
        on_check()
    found.whole = True
    return found


def _pairs(course: Course, forwards: Mapping[str, Forward]) -> Iterator[Check]:
    """Two float32 backends may differ by no more than their own errors against the referee allow.

    That follows where each was measured against the referee; it is stated so that "what is normal" has a number.
    """
    for one, other in combinations(forwards, 2):
        for tensor, expected in vars(course.expected_forward).items():
            a, b = (getattr(forwards[name], tensor).astype(np.float64) for name in (one, other))
            allowed = float(np.abs(a - expected).max() + np.abs(b - expected).max())
            backend, _, variant = one.partition(":")
            note = "the tolerance is the sum of their errors against the referee"
            error = float(np.abs(a - b).max())
            yield Check(backend, variant, "float32", "pairs", f"{tensor} and {other}'s", error, allowed, note=note)


def certificate(course: Course, climber: Climber, checks: Sequence[Check]) -> Certificate:
    """The certificate of a backend that has climbed, of all of its checks."""
    rungs = {}
    for rung in dict.fromkeys(check.rung for check in checks):
        own = [check for check in checks if check.rung == rung]
        worst = max(own, key=lambda check: check.used)
        rungs[rung] = Rung(worst.finite_error, worst.tolerance, all(check.passed for check in own))
    return Certificate(
        backend=climber.process.name,
        version=climber.process.facts.version,
        device=climber.process.facts.device,
        dtype=climber.dtype,
        precision=climber.precision,
        latent_dim=course.model.latent_dim,
        padding=course.model.padding,
        corpus_sha256=course.sha256,
        size=course.size,
        referee=f"numpy {course.referee.process.facts.version} float64",
        machine=dict(course.machine),
        passed=all(check.passed for check in checks),
        rungs=rungs,
    )
