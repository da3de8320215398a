"""The attacks of tests/attack for a moment each; `python -m tests.attack NAME COUNT` does the same at length."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from random import Random
from typing import Any

import pytest

from common.errors import RosettaError
from tests.attack import limits
from tests.attack.__main__ import ATTACKS, namespace, tried

# Those that need no process of their own, each with a number of cases, and with how many outcomes it must have.
QUICK = {
    "files": (200, 35),
    "recordings": (24, 5),
    "messages": (400, 12),
    "workers": (6, 2),
    "requests": (300, 6),
    "command lines": (20, 5),
}


@pytest.mark.parametrize("name", QUICK)
def test_what_is_hostile_has_an_outcome_that_may_be(name: str) -> None:
    count, kinds = QUICK[name]
    outcomes = limits.judged(limits.attack_named(ATTACKS[name][0]), count, 0)
    assert outcomes.total() == count
    assert len(outcomes) >= kinds


@pytest.mark.parametrize(
    ("name", "count", "what"),
    [
        ("torch files", 200, []),
        ("exits", 40, ["the best epoch"]),
        ("kills", 1, ["train"]),
        ("signals", 1, ["translate"]),
        ("full disks", 1, ["report"]),
        ("limits", 1, ["convert to weights"]),
        ("places", 1, ["convert to weights"]),
        ("races", 1, ["convert to weights"]),
    ],
)
def test_what_is_disturbed_loses_nothing_and_leaves_nothing(name: str, count: int, what: list[str]) -> None:
    if name == "full disks" and not namespace():
        pytest.skip("no small disk can be mounted here: neither root's nor a user's mount namespace can be made")
    line: dict[str, Any] = tried(name, count, 1, *what, timeout=120)
    assert "error" not in line, line["error"]
    assert sum(line["outcomes"].values()) == count


def test_an_outcome_that_must_not_be_ends_an_attack_and_its_folder_is_left() -> None:
    def failing(rng: Random, folder: Path, names: Sequence[str]) -> Iterator[str]:
        yield limits.one_line(RosettaError("two\nlines"))

    with pytest.raises(AssertionError, match="not one line") as caught:
        limits.judged(failing, 1, 0)
    assert "case 0 of seed 0; see" in caught.value.__notes__[0]
