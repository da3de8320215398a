"""The verdicts, on what a real `standard` run recorded: itself is never another, and a slowdown is seen."""

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from benchmarks.analysis import Analysis
from benchmarks.figures import Measured, steps
from benchmarks.intervals import Rounds, compared
from benchmarks.recording import Recording

from backends.process import PROJECT

RESAMPLINGS = 20
QUIET = 0.03  # a noise floor that a quiet machine has
STANDARD: Path = PROJECT / "docs" / "benchmark" / "standard.jsonl"


@pytest.fixture(scope="module")
def analysis() -> Analysis:
    return Analysis(Recording.read(STANDARD))


def controls(analysis: Analysis) -> dict[str, tuple[Measured, Measured]]:
    """What a float32 backend's two processes of each round measured, by its label."""
    found = {}
    for cell in analysis.plan.rows:
        again = replace(cell, control=True)
        if again in analysis.measured and not cell.reduced:  # whose noise no verdict between the others reckons with
            found[cell.label] = analysis.measured[cell], analysis.measured[again]
    return found


def resampled(analysis: Analysis, seed: int) -> dict[str, tuple[Rounds, Rounds]]:
    """Rounds drawn with replacement, the same for all, then each process's blocks likewise."""
    rng = np.random.default_rng(seed)
    drawn = rng.choice([record["round"] for record in analysis.rounds], len(analysis.rounds))
    found = {}
    for label, sides in controls(analysis).items():
        timed = [steps(side) for side in sides]
        one, other = ({n: rng.choice(side[k], len(side[k])) for n, k in enumerate(drawn)} for side in timed)
        found[label] = one, other
    return found


def test_it_is_a_whole_standard_run(analysis) -> None:
    names = {
        "keras",
        "keras:jit",
        "keras:fast",
        "keras:example",
        "torch",
        "torch:compile",
        "paddle",
    }
    assert analysis.plan.preset == "standard"
    assert len(analysis.rounds) == analysis.plan.size.rounds == 7
    assert set(controls(analysis)) == names
    assert {cell.backend for cell in analysis.plan.rows} == names | {"torch:bfloat16"}


@pytest.fixture(scope="module")
def floors(analysis: Analysis) -> dict[str, float]:
    """Those that the report's verdicts take, by label: of the whole recording, not of what is drawn from it."""
    controlled = controls(analysis)
    return {cell.label: analysis.floor(steps, cell) for cell in analysis.plan.rows if cell.label in controlled}


def test_the_floors_are_those_that_the_committed_report_tells(floors) -> None:
    report = STANDARD.with_name("report.md").read_text(encoding="utf-8")
    _, told = report.split("**The same program against itself**")
    shown = {label: float(share) / 100 for label, share in re.findall(r"^\| (\S+) \| .* \| (\S+)\s% \|$", told, re.M)}
    assert {label: shown[label] for label in floors} == pytest.approx(floors, abs=0.001)
    assert max(floors.values()) < 0.2, "what is planted below is three times as much"


def test_a_backend_is_neither_faster_nor_slower_than_itself(analysis, floors) -> None:
    """Without the floors two of them are in more than half of the drawings."""
    called = dict.fromkeys(floors, 0)
    for seed in range(RESAMPLINGS):
        for label, sides in resampled(analysis, seed).items():
            called[label] += compared(*sides, floors[label]).word in ("faster", "slower")
    assert max(called.values()) <= RESAMPLINGS - 19, called


def test_a_planted_slowdown_is_called_slower(analysis, floors) -> None:
    for seed in range(RESAMPLINGS):
        for label, (rounds, others) in resampled(analysis, seed).items():
            floor = floors[label]
            # Twice the floor, where it is small; a large one may hide that much, since either side may be off by it.
            slowdown = max(0.05, (2 if floor < QUIET else 3) * floor)
            slowed = {number: seconds * (1 + slowdown) for number, seconds in others.items()}
            verdict = compared(slowed, rounds, floor)
            assert verdict.word == "slower", (seed, label, floor, verdict)
