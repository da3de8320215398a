"""Records that differ do not pass `rosetta diff`, and records that are equal do."""

from pathlib import Path
from typing import NamedTuple

import pytest

from benchmarks.ladder.diff import Diff, compare_records
from benchmarks.ladder.read.record import Side
from tests.support.records import DATA, Change, changed, edited, put, write


def same(_: object) -> None:
    """Change nothing."""


class Case(NamedTuple):
    """What both sides have, what the right side has otherwise, and the stage that sees it. Without the difference both
    sides pass."""

    both: Change
    right: Change
    stage: str
    precision: str = "float32"


# A large loss of the first step is no scale of the others, which are small.
FALLING = [5000.0, 3.0, 1.0]
CASES = {
    "a second loss that is larger by 8 %": Case(
        put("losses", lambda _: FALLING), put("losses", lambda _: [5000.0, 3.24, 1.0]), "trajectory"
    ),
    "a last loss that is larger by 1e-7": Case(
        put("losses", lambda _: FALLING), put("losses", lambda _: [5000.0, 3.0, 1.0000001]), "trajectory", "float64"
    ),
}


def compared(folder: Path, case: Case, right: Change) -> Diff:
    data = changed(DATA, case.both)
    paths = write(folder / "left", "torch", data), write(folder / "right", "keras", changed(data, right))
    return compare_records(*(Side(edited(path, put("precision", lambda _: case.precision))) for path in paths))


@pytest.mark.parametrize("name", CASES)
def test_a_difference_is_seen_at_its_stage_and_its_equal_twin_passes(name: str, tmp_path: Path) -> None:
    case = CASES[name]
    assert compared(tmp_path / "differ", case, case.right).broken == case.stage
    twin = compared(tmp_path / "equal", case, same)
    assert twin.passed, twin.explanation
