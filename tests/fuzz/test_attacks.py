"""The attacks of tests/fuzz/attack for a moment each; `python -m tests.fuzz.attack NAME COUNT` does the same at
length."""

import json
import subprocess
import sys

import pytest

from backends.process.parent import PROJECT
from tests.fuzz.attack.__main__ import ATTACKS

# Of each a number of cases, and how many outcomes it must have.
MOMENTS = {
    "files": (200, 30),
    "torch files": (200, 4),
    "keras files": (100, 2),
    "recordings": (24, 5),
    "requests": (300, 6),
    "command lines": (20, 5),
    "exits": (60, 2),
}


@pytest.mark.parametrize("name", ATTACKS)
def test_nothing_is_lost_and_nothing_gets_in(name: str) -> None:
    count, kinds = MOMENTS[name]
    command = [sys.executable, "-m", "tests.fuzz.attack", name, str(count), "1"]
    done = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    outcomes = json.loads(done.stdout)["outcomes"]
    assert sum(outcomes.values()) == count
    assert len(outcomes) >= kinds
