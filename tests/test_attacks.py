"""The attacks of tests/attack for a moment each; `python -m tests.attack NAME COUNT` does the same at length."""

import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from backends.process.parent import PROJECT
from tests.attack import (
    command_lines,
    damaged_files,
    damaged_torch,
    fake_workers,
    full_disks,
    garbled_messages,
    kills,
    signals,
    visitors,
)


@pytest.mark.parametrize(
    ("attack", "count"),
    [
        (damaged_files.attack, 1000),
        (damaged_torch.attack, 300),
        (garbled_messages.attack, 900),
        (fake_workers.attack, 8),
        (visitors.attack, 800),
        (command_lines.attack, 50),
    ],
    ids=["files", "PyTorch's files", "messages", "workers", "visitors", "command lines"],
)
def test_what_is_hostile_has_an_outcome_that_may_be(
    attack: Callable[[int, int], Counter[str]], count: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)  # in which an input is left that has another one
    outcomes = attack(count, 0)
    assert outcomes.total() == count
    assert len(outcomes) > 2


def test_what_is_killed_goes_on_and_nothing_is_lost() -> None:
    assert kills.attack(2, 0, "train in numpy").total() > 2


def test_what_an_exit_cuts_off_is_the_old_or_the_new() -> None:
    """In a process without threads, since it forks."""

    def attacked(*arguments: str) -> str:
        command = [sys.executable, "-m", "tests.attack", "exits", *arguments]
        done = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, check=False, timeout=120)
        assert done.returncode == 0, done.stderr
        return done.stdout

    assert "cut off twice: the new, whole" in attacked("40", "0", "the best epoch"), "each point was tried once"
    assert "cut off: " in attacked("12", "0"), "all ways of writing are done to their end before, without an exit"


def test_signals_end_commands_with_their_status_and_nothing_is_left() -> None:
    assert signals.attack(2, 1, "train").total() == 2


def test_a_page_on_a_full_disk_stays_the_old_one_and_is_written_where_there_is_room() -> None:
    if not full_disks.namespace_command():
        pytest.skip(full_disks.NONE)
    assert full_disks.attack(1, 1, "report") == {"report: the old page, whole": 1}
