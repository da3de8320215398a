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
import sys
import time
import traceback
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from types import FrameType
from typing import Any
from unittest.mock import patch

from common import run_directory
from tests.attack.limits import folder_left_behind
from tests.saves import SAVES, Save

MODULES = (posix, fcntl, sys.modules["_io"])  # whose functions ask the system, as methods of open files do
CHANGING = {
    *("open", "write", "flush", "truncate", "close", "fsync", "fstat", "flock", "chmod"),  # fstat in place of fsync
    *("mkdir", "rmdir", "unlink", "remove", "rename", "replace"),
}
CUT_OFF = 3  # the status of a process that ended at its point
LONGEST = 60.0  # seconds for what one process does


def ends_at(point: int, what: Callable[[], object]) -> bool:
    """Do something in another process that ends at this point, counted from 0; whether it had come to its end before.

    Raises AssertionError for a process that fails or hangs.
    """
    process = os.fork()
    if not process:
        status = 1
        try:
            points_of(what, end_at=point)
            status = 0
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(status)
    status = _status(process)
    assert status in (0, CUT_OFF), f"the process ended with {status}"
    return status == 0


def points_of(what: Callable[[], object], end_at: int | None = None) -> int:
    """Do something, and return its number of points; or end this process at the one of this number."""
    points = 0

    def profile(frame: FrameType, event: str, function: Any) -> None:
        nonlocal points
        if event == "c_return" and function.__name__ in CHANGING:
            asked = function.__self__
            if not (any(asked is module for module in MODULES) or isinstance(asked, io.IOBase)):
                return
            if points == end_at:
                os._exit(CUT_OFF)
            points += 1

    sys.setprofile(profile)
    try:
        what()
    finally:
        sys.setprofile(None)
    return points


def _status(process: int) -> int:
    """The exit status of a child, which is ended where it takes too long."""
    end = time.monotonic() + LONGEST
    while not (ended := os.waitpid(process, os.WNOHANG))[0]:
        if time.monotonic() > end:
            os.kill(process, 9)
            os.waitpid(process, 0)
            raise AssertionError("the process hangs")
        time.sleep(0.0005)
    return os.waitstatus_to_exitcode(ended[1])


def attack(count: int, seed: int = 0, *names: str) -> Counter[str]:
    """End processes `count` times, at random from the seed, in all saves or in those of these names.

    Returns how often what was found.
    """
    outcomes: Counter[str] = Counter()
    rng = random.Random(seed)
    with (
        TemporaryDirectory() as temporary,
        patch.object(run_directory, "describe_machine", dict),  # asking the processor takes a second
        patch.object(os, "fsync", os.fstat),  # what was written outlives the process, so no disk is waited for
    ):
        folder = Path(temporary, "folder")
        each = [(name, point) for name in names or SAVES for point in range(_number_of_points(SAVES[name], folder))]
        rng.shuffle(each)
        for number in range(count):
            first = number < len(each)
            name, point = each[number] if first else rng.choice(each)
            again = None if first else int(10 ** rng.uniform(0, 3))
            with folder_left_behind(folder, "cut-off", f"{name}, ended at point {point}, then at {again}"):
                new = _found_new(SAVES[name], folder, point, again)
            twice = "" if first else " twice"
            outcomes[f"{name}, cut off{twice}: {'the new' if new else 'the old'}, whole"] += 1
    return outcomes


def _made(save: Save, folder: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    save.before(folder)


def _number_of_points(save: Save, folder: Path) -> int:
    for _ in range(2):  # the first time has more, since Python keeps what it once read
        _made(save, folder)
        points = points_of(lambda: save.save(folder))
        assert save.is_new(folder), "what was saved is not found"
    return points


def _found_new(save: Save, folder: Path, point: int, again: int | None) -> bool:
    """Whether the new is found after an end at this point, and after another one while it was looked for."""
    _made(save, folder)
    ends_at(point, lambda: save.save(folder))
    if again is not None:
        ends_at(again, lambda: save.is_new(folder))
    return save.is_new(folder)
