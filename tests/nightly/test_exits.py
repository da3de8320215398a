"""Exits at each single point of a save; what is there afterwards is the old or the new, and whole.

A point follows each call by which Python may change the disk: opening, writing, syncing, renaming,
removing, locking. A fork of this process ends there, as if it were killed.
"""

import os
import random
import shutil
import signal
import sys
import traceback
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path
from types import FrameType
from typing import Any
from unittest.mock import patch

import pytest

from tests.support.saves import SAVES

# Functions and methods of these names ask the system for a change;
# other functions of these names are idle points.
CHANGING = set(
    "open write flush truncate close fsync flock chmod mkdir rmdir unlink remove rename "
    "replace".split()
)
CHANGING.add("fstat")  # which stands for fsync here
CUT_OFF = 3  # exit status of a process that ended at its point


def is_cut_off(point: int, what: Callable[[], object]) -> bool:
    """Call `what` in a fork that ends at this point, counted from 0.
    False where the fork ends before.

    Raises AssertionError for a fork that fails.
    """
    points = count()

    def profile(frame: FrameType, event: str, function: Any) -> None:
        if event == "c_return" and function.__name__ in CHANGING and next(points) == point:
            os._exit(CUT_OFF)

    process = os.fork()
    if not process:
        try:
            sys.setprofile(profile)
            what()
            os._exit(0)
        except BaseException:
            traceback.print_exc()
            os._exit(1)
    try:
        status = os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])
    except AssertionError:  # it hangs
        os.kill(process, signal.SIGKILL)
        raise
    assert status in (0, CUT_OFF), f"the process ended with {status}"
    return status == CUT_OFF


@pytest.fixture(autouse=True)
def quick_saves() -> Iterator[None]:
    with (
        patch("common.run.describe_machine", dict),  # asking the processor takes a second
        # What was written outlives the process, so no disk is waited for.
        patch.object(os, "fsync", os.fstat),
    ):
        yield


@pytest.mark.parametrize("twice", [False, True], ids=["once", "twice"])
@pytest.mark.parametrize("name", SAVES)
def test_a_save_that_is_cut_off_leaves_the_old_or_the_new(
    name: str, twice: bool, tmp_path: Path
) -> None:
    """Twice: the mending after an exit is ended at a random point, too."""
    save, place, rng, outcomes = SAVES[name], tmp_path / "saved", random.Random(0), set()
    for point in count():
        shutil.rmtree(place, ignore_errors=True)
        place.mkdir()
        save.before(place)
        cut_off = is_cut_off(point, lambda: save.save(place))
        if twice:
            is_cut_off(int(10 ** rng.uniform(0, 3)), lambda: save.is_new(place))
        outcomes.add(save.is_new(place))
        if not cut_off:
            break
    assert twice or outcomes == {False, True}
