"""Ends processes at each single point at which they write; what is there afterwards is the old or the new, and whole.

A point follows each call by which Python may change the disk: opening, writing, syncing, renaming, removing, locking.
A fork of this process ends there, as if it were killed. When every point of every save has been tried once, the
mending after an exit is ended at a random point, too. No framework is loaded.
"""

import os
import random
import shutil
import signal
import sys
import traceback
from collections.abc import Callable, Iterator
from itertools import count, cycle
from pathlib import Path
from types import FrameType
from typing import Any
from unittest.mock import patch

from tests.support.saves import SAVES

# Functions and methods of these names ask the system for a change; other functions of these names are idle points.
CHANGING = set("open write flush truncate close fsync flock chmod mkdir rmdir unlink remove rename replace".split())
CHANGING.add("fstat")  # which stands for fsync here
CUT_OFF = 3  # exit status of a process that ended at its point


def is_cut_off(point: int, what: Callable[[], object]) -> bool:
    """Call `what` in a fork that ends at this point, counted from 0. False where the fork ends before.

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


def exits(rng: random.Random, folder: Path) -> Iterator[str]:
    """Try each point of all saves; then each again, with an exit while mending."""
    place = folder / "saved"
    with (
        patch("common.run.describe_machine", dict),  # asking the processor takes a second
        patch.object(os, "fsync", os.fstat),  # what was written outlives the process, so no disk is waited for
    ):
        for number, name in enumerate(cycle(SAVES)):
            save, twice = SAVES[name], ", twice" if number >= len(SAVES) else ""
            for point in count():
                shutil.rmtree(place, ignore_errors=True)
                place.mkdir()
                save.before(place)
                cut_off = is_cut_off(point, lambda save=save: save.save(place))
                if twice:
                    is_cut_off(int(10 ** rng.uniform(0, 3)), lambda save=save: save.is_new(place))
                yield f"{name}{twice}: the {'new' if save.is_new(place) else 'old'}, whole"
                if not cut_off:
                    break
