"""The attacks of tests/fuzz/attack for a moment each; `python -m tests.fuzz.attack NAME COUNT` does the same at
length."""

import pytest

from tests.fuzz.attack.__main__ import namespace, tried

# Of each a number of cases, how many outcomes it must have, and the names of what to attack.
MOMENTS: dict[str, tuple[int, int, list[str]]] = {
    "files": (200, 35, []),
    "torch files": (200, 4, []),
    "keras files": (100, 2, []),
    "recordings": (24, 5, []),
    "workers": (6, 2, []),
    "requests": (300, 6, []),
    "command lines": (20, 5, []),
    "exits": (40, 2, ["the best epoch"]),
    "kills": (2, 1, ["train", "report"]),
    "signals": (1, 1, ["translate"]),
    "full disks": (1, 1, ["report"]),
    "limits": (1, 1, ["convert to weights"]),
    "places": (1, 1, ["convert to weights"]),
    "races": (1, 1, ["convert to weights"]),
}


@pytest.mark.parametrize("name", MOMENTS)
def test_nothing_is_lost_nothing_is_left_and_nothing_gets_in(name: str) -> None:
    count, kinds, what = MOMENTS[name]
    if name == "full disks" and not namespace():
        pytest.skip("no small disk can be mounted here: neither root's nor a user's mount namespace can be made")
    line = tried(name, count, 1, *what)
    assert "error" not in line, line["error"]
    assert sum(line["outcomes"].values()) == count
    assert len(line["outcomes"]) >= kinds
