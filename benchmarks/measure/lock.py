"""A lock for the whole machine, so that one benchmark runs at a time: two would slow each other down."""

import fcntl
import os
import shlex
import stat
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path

from common.errors import CannotBeginError
from common.text import printable


@contextmanager
def only_benchmark(on_wait: Callable[[str], None], wait: bool = True) -> Iterator[None]:
    """Hold the machine's benchmark lock while the block runs.

    If another benchmark holds the lock, `on_wait` is called with a message of that benchmark's process id, start and
    command, and this waits until it ends; with `wait` False it raises CannotBeginError instead. The operating system
    frees the lock when the process that holds it ends, even when it is killed.
    """
    with open(_opened(lock_path()), "r+", encoding="utf-8", errors="replace") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = printable(file.read(500).strip()) or "not known"
            if not wait:
                raise CannotBeginError(
                    f"another benchmark runs ({holder}); wait for its end, or let this one wait: --wait"
                ) from None
            on_wait(f"another benchmark runs ({holder}); waiting for its end")
            fcntl.flock(file, fcntl.LOCK_EX)  # waits without using the processor; Ctrl-C ends the wait
        file.truncate(0)
        file.seek(0)
        command = shlex.join(sys.argv)[:300]
        file.write(f"process {os.getpid()}, since {datetime.now():%Y-%m-%d %H:%M:%S}: {command}\n")
        file.flush()
        yield


def lock_path() -> Path:
    """The file that is locked, the same for all users of this machine. It is not deleted when the lock is freed."""
    return Path(tempfile.gettempdir()) / "rosetta-benchmark.lock"


def _opened(path: Path) -> int:
    """An open descriptor of the lock's file, which every user may write.

    Raises CannotBeginError if something else, such as a link, stands in its place; that is left as it is.
    """
    try:
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK)
        except FileNotFoundError:
            # In a second call, since Linux refuses O_CREAT for a file of another user in a folder such as /tmp.
            descriptor = os.open(path, os.O_RDWR | os.O_NOFOLLOW | os.O_CREAT, 0o666)
            os.fchmod(descriptor, 0o666)  # the umask may have taken these rights away
    except OSError as error:
        raise CannotBeginError(f"cannot lock {path}: {error.strerror}; remove it") from None
    found = os.fstat(descriptor)
    if not stat.S_ISREG(found.st_mode) or found.st_nlink > 1:
        os.close(descriptor)
        raise CannotBeginError(f"cannot lock {path}: it is not a regular file, or it has hard links; remove it")
    return descriptor
