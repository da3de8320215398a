"""Locks: one for the whole machine, since two benchmarks at once would slow each other down, and one for a recording.

- A lock is an `flock`, which the operating system frees when the process that holds it ends, even when it is killed.
- The machine's lock is on the root folder. Every user may open it and nobody but the administrator may replace it, so
  no other user can free the lock, plant something in its place, or write what is told of its holder.
- Who holds a lock is asked of the system, which knows it on Linux.
"""

import fcntl
import os
import re
import shlex
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path

import psutil

from common.errors import CannotBeginError
from common.text import printable

PLACE = "ROSETTA_BENCHMARK_LOCK"  # environment variable with a file to lock in place of the root folder
LONGEST = 400  # characters that are shown of a lock's holder


@contextmanager
def only_benchmark(on_wait: Callable[[str], None], wait: bool = True) -> Iterator[None]:
    """Hold the machine's benchmark lock while the block runs.

    If another benchmark holds the lock, `on_wait` is called with a message that names that benchmark's process, and
    this waits until it ends; with `wait` False it raises CannotBeginError instead.
    """
    path = lock_path()
    with _opened(path, os.O_RDONLY, f"cannot lock {path}", f"let {PLACE} name another file") as descriptor:
        if not _locked(descriptor, path):
            found = f"another benchmark runs ({holder_of(descriptor)})"
            if not wait:
                raise CannotBeginError(f"{found}; wait for its end, or let this one wait: --wait")
            on_wait(f"{found}; waiting for its end")
            fcntl.flock(descriptor, fcntl.LOCK_EX)  # waits without using the processor; Ctrl-C ends the wait
        yield


@contextmanager
def only_writer(path: Path, new: bool) -> Iterator[None]:
    """Hold a recording's lock while the block runs; a `new` one is made, and removed if it is still empty at the end.

    The machine's lock does not suffice, since a recording may lie on a disk that several machines share. Raises
    CannotBeginError if another process holds the lock, for a file that cannot be written, and for a new one
    that is not empty.
    """
    # Opened for writing too, without which a disk in the network gives no lock.
    flags = os.O_RDWR | (os.O_CREAT if new else 0)
    with _opened(path, flags, f"{path} cannot be opened", "choose another --out") as descriptor:
        if not _locked(descriptor, path):
            raise CannotBeginError(f"another benchmark writes {path} ({holder_of(descriptor)}); wait for its end")
        status = os.fstat(descriptor)
        if new and (status.st_size or not status.st_nlink):  # another process has just written or removed it
            raise CannotBeginError(f"{path} exists already; choose another --out")
        try:
            yield
        finally:
            if new and not os.fstat(descriptor).st_size:
                path.unlink(missing_ok=True)


def lock_path() -> Path:
    """What is locked for the whole machine, the same for all of its users whatever their TMPDIR is."""
    return Path(os.environ.get(PLACE) or "/")


@contextmanager
def _opened(path: Path, flags: int, failure: str, advice: str) -> Iterator[int]:
    """The descriptor of a file, which is made where the flags say so. Raises CannotBeginError."""
    try:
        if flags & os.O_CREAT:
            path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(path, flags | os.O_NONBLOCK, 0o666)
    except OSError as error:
        raise CannotBeginError(f"{failure}: {error.strerror}; {advice}") from error
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _locked(descriptor: int, path: Path) -> bool:
    """Take the lock and return True, or False if another process holds it. Raises CannotBeginError without locks."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:
        raise CannotBeginError(f"cannot lock {path}: {error.strerror}; its disk gives no locks") from error
    return True


def holder_of(descriptor: int) -> str:
    """Id, user, start and command of the process that holds the lock of an open file, or what of this is known.

    Linux lists all locks in /proc/locks: "1: FLOCK  ADVISORY  WRITE 4711 08:01:2 0 EOF", where 4711 is the process
    and 2 the inode. The device before the inode is not compared, since some file systems name another one there.
    """
    inode = os.fstat(descriptor).st_ino
    try:
        locks = Path("/proc/locks").read_text(encoding="utf-8")
    except OSError:  # a system that is not Linux
        locks = ""
    entry = re.search(rf"^\d+: FLOCK +ADVISORY +WRITE (\d+) \S+:{inode} ", locks, re.MULTILINE)
    if entry is None:
        return "not known"
    try:
        process = psutil.Process(int(entry[1]))
        since = f"{datetime.fromtimestamp(process.create_time()):%Y-%m-%d %H:%M:%S}"
        command = shlex.join(process.cmdline())
        return printable(f"process {process.pid} of {process.username()}, since {since}: {command}")[:LONGEST]
    except psutil.Error:  # another user's, of which the system tells nothing, or one that has just ended
        return f"process {entry[1]}"
