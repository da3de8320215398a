"""Climb the parity ladder with every backend, explain what fails, and make the certificates."""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

from backends import BASELINE, TABLE
from benchmarks.compare.certificate import Certificate, Rung
from benchmarks.compare.climber import Climber, explain
from benchmarks.compare.comparer import Check
from benchmarks.compare.course import REFEREE, Answers, Course
from common.errors import CannotBeginError


@dataclass
class Parity:
    """The results of the ladder so far."""

    checks: list[Check] = field(default_factory=list)
    explanations: list[str] = field(default_factory=list)  # why each failed backend failed
    certificates: dict[str, Certificate] = field(default_factory=dict)  # by "NAME dtype"
    whole: bool = False  # whether every backend has climbed

    @property
    def passed(self) -> bool:
        return self.whole and all(check.passed for check in self.checks)

    def as_json(self) -> dict[str, Any]:
        checks = [check.as_json() for check in self.checks]
        return {"passed": self.passed, "checks": checks, "explanations": self.explanations}


def backends_and_dtypes(names: Sequence[str], dtypes: Sequence[str]) -> list[tuple[str, str]]:
    """Pairs of a backend and a dtype of its weights in which it can be compared with the referee.

    Two kinds of backends are compared in float32 only: keras:example, whose optimizer constants are not rounded to
    float32, and backends that compute in less than float32. Raises CannotBeginError if no pair is left.
    """
    float32_only = [name for name in names if name == BASELINE or TABLE[name].reduced]
    pairs = [(name, dtype) for name in names for dtype in dtypes if dtype == "float32" or name not in float32_only]
    if not pairs:
        raise CannotBeginError(f"{' and '.join(float32_only)} can be compared in float32 only; use --dtype float32")
    return pairs


def climb(
    course: Course,
    names: Sequence[str],
    dtypes: Sequence[str],
    parity: Parity,
    on_check: Callable[[], None] = lambda: None,
    at_once: int = 1,
) -> Parity:
    """Let every backend climb in every precision, `at_once` of them side by side, each in a process of its own.

    Returns `parity`, which is filled backend by backend, so that the results before an error are kept. `on_check` is
    called after each of them. An error ends the course.
    """
    with ThreadPoolExecutor(at_once) as pool:

        def one(name: str, dtype: str) -> Climber:
            climber = Climber(course, Answers(course.start(name, dtype), dtype, course.questions))
            climber.checks = list(climber.climb())
            return climber

        pairs = backends_and_dtypes(names, dtypes)
        climbing = [pool.submit(one, name, dtype) for name, dtype in pairs]
        try:
            for (name, dtype), future in zip(pairs, climbing, strict=True):
                climber = future.result()
                parity.checks += climber.checks
                if not all(check.passed for check in climber.checks):
                    parity.explanations.append(explain(climber))
                parity.certificates[f"{name} {dtype}"] = Certificate(
                    version=climber.process.facts.version,
                    referee=f"{REFEREE} {course.referee.process.facts.version} float64",
                    passed=all(check.passed for check in climber.checks),
                    rungs=rungs_of(climber.checks),
                )
                climber.process.close()
                on_check()
        except BaseException:  # Ctrl-C too: the others are ended, since the pool waits for them
            pool.shutdown(wait=False, cancel_futures=True)
            course.end()
            raise
    parity.whole = True
    return parity


def rungs_of(checks: Sequence[Check]) -> dict[str, Rung]:
    """The results of the rungs that these checks are of."""
    rungs = {}
    for rung in dict.fromkeys(check.rung for check in checks):
        own = [check for check in checks if check.rung == rung]
        worst = max(own, key=lambda check: check.used)
        rungs[rung] = Rung(worst.finite_error, worst.tolerance, all(check.passed for check in own))
    return rungs
