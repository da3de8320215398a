"""Kills, exits, signals and full disks, some of each; `python -m tests.attack.kills` and its like do it at length."""

import subprocess
import sys

import pytest

from backends.process.parent import PROJECT
from tests.attack import full_disks, kills, signals


def test_what_is_killed_goes_on_and_nothing_is_lost() -> None:
    assert kills.attack(1, 0, "bench of numpy").total() > 1
    assert kills.attack(2, 0, "train in numpy").total() > 2


def test_what_an_exit_cuts_off_is_the_old_or_the_new() -> None:
    """In a process without threads, since it forks."""
    command = [sys.executable, "-m", "tests.attack.exits", "40", "0", "the best epoch"]
    done = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stderr
    assert "cut off twice: the new, whole" in done.stdout, "each of its points was tried once"


def test_signals_end_commands_with_their_status_and_nothing_is_left() -> None:
    assert signals.attack(2, 1, "train").total() == 2


def test_a_page_on_a_full_disk_stays_the_old_one_and_is_written_where_there_is_room() -> None:
    if not full_disks.namespace_command():
        pytest.skip(full_disks.NONE)
    assert full_disks.attack(1, 1, "report") == {"report: the old page": 1}
