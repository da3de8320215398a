"""Ends processes at each single point at which they write; what is found is the old or the new, and whole.

A point is after each call by which Python may change what is on the disk: of opening, writing, syncing, renaming,
removing, locking. A fork of this process ends there, as if it were killed. When every point of every save has been
tried once, what follows after an exit is ended at a random point, too. No framework is loaded.
"""

import fcntl
import io
import os
import posix
import random
import shutil
import signal
import sys
import traceback
from collections.abc import Callable, Iterator, Sequence
from itertools import chain, repeat
from pathlib import Path
from types import FrameType
from typing import Any
from unittest.mock import patch

from common import run_directory
from tests.saves import SAVES, Save

MODULES = (posix, fcntl, sys.modules["_io"])  # whose functions ask the system, as methods of open files do
CHANGING = set("open write flush truncate close fsync flock chmod mkdir rmdir unlink remove rename replace".split())
CHANGING.add("fstat")  # which stands for fsync here
CUT_OFF = 3  # the status of a process that ended at its point


def points_of(what: Callable[[], object], end_at: int | None = None) -> int:
    """Do something, and return its number of points; or end this process at the one of this number."""
    points = 0

    def profile(frame: FrameType, event: str, function: Any) -> None:
        nonlocal points
        if event == "c_return" and function.__name__ in CHANGING:
            asked = function.__self__
            if any(asked is module for module in MODULES) or isinstance(asked, io.IOBase):
                if points == end_at:
                    os._exit(CUT_OFF)
                points += 1

    sys.setprofile(profile)
    try:
        what()
    finally:
        sys.setprofile(None)
    return points


def end_at(point: int, what: Callable[[], object]) -> None:
    """Do something in another process, which ends at this point, counted from 0, or has come to its end before.

    Raises AssertionError for a process that fails.
    """
    process = os.fork()
    if not process:
        try:
            points_of(what, end_at=point)
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


def made_before(save: Save, folder: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    save.before(folder)


def number_of_points(save: Save, folder: Path) -> int:
    for _ in range(2):  # the first time has more, since Python keeps what it once read
        made_before(save, folder)
        points = points_of(lambda: save.save(folder))
        assert save.is_new(folder), "what was saved is not found"
    return points


def exits(rng: random.Random, folder: Path, names: Sequence[str]) -> Iterator[str]:
    """Each point of all saves, or of those of these names; then each is cut off twice."""
    place = folder / "saved"
    with (
        patch.object(run_directory, "describe_machine", dict),  # asking the processor takes a second
        patch.object(os, "fsync", os.fstat),  # what was written outlives the process, so no disk is waited for
    ):
        each = [(name, point) for name in names or SAVES for point in range(number_of_points(SAVES[name], place))]
        rng.shuffle(each)
        twice = ((*rng.choice(each), int(10 ** rng.uniform(0, 3))) for _ in repeat(None))
        for name, point, again in chain(((*one, None) for one in each), twice):
            save = SAVES[name]
            made_before(save, place)
            end_at(point, lambda save=save: save.save(place))
            if again is not None:
                end_at(again, lambda save=save: save.is_new(place))
            found = "new" if save.is_new(place) else "old"
            yield f"{name}{'' if again is None else ', twice'}: the {found}, whole"
