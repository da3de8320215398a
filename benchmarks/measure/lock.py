"""Two benchmarks at once would measure each other: one lock for the whole machine."""

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
from common.terminal import printable


@contextmanager
def only_benchmark(on_wait: Callable[[str], None], wait: bool = True) -> Iterator[None]:
    """Hold the machine's benchmark lock.

    Where another holds it, `on_wait` is told its process id, since when, and its command, and this waits for its end;
    with `wait` False it raises CannotBeginError. The system drops the lock when its holder ends, however it ends.
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
            fcntl.flock(file, fcntl.LOCK_EX)  # takes no CPU, and Ctrl-C ends it
        file.truncate(0)
        file.seek(0)
        command = shlex.join(sys.argv)[:300]
        file.write(f"process {os.getpid()}, since {datetime.now():%Y-%m-%d %H:%M:%S}: {command}\n")
        file.flush()
        yield


def lock_path() -> Path:
    """The file that is locked: one for all users of this machine. It stays when nobody holds it."""
    return Path(tempfile.gettempdir()) / "rosetta-benchmark.lock"


def _opened(path: Path) -> int:
    """A descriptor of the lock's file, for all users. What somebody else put in its place is left as it is."""
    try:
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK)
        except FileNotFoundError:
            # Not in one call: Linux refuses O_CREAT for what others have made in a folder such as /tmp.
            descriptor = os.open(path, os.O_RDWR | os.O_NOFOLLOW | os.O_CREAT, 0o666)
            os.fchmod(descriptor, 0o666)  # whatever the umask
    except OSError as error:
        raise CannotBeginError(f"cannot lock {path}: {error.strerror}; remove it") from None
    found = os.fstat(descriptor)
    if not stat.S_ISREG(found.st_mode) or found.st_nlink > 1:
        os.close(descriptor)
        raise CannotBeginError(f"cannot lock {path}: it is not a plain file of its own; remove it")
    return descriptor
