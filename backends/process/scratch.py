"""The folder for the temporary files of a backend's process; what killed programs left of theirs is removed."""

import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from secrets import token_hex

PREFIX = ".rosetta-scratch-"  # of the folders' names; nobody else names a folder so, since such folders are removed


@contextmanager
def scratch_folder() -> Iterator[Path]:
    """A new folder, which is removed at the end, as are now those whose programs were killed before their end.

    This process holds a lock on the folder. The operating system frees it when this process ends, even when it is
    killed. So a folder that is not locked belongs to a program that has ended.
    """
    _remove_abandoned()
    # Named before it is made, so that it is removed at whatever moment a signal ends this program.
    folder = Path(tempfile.gettempdir(), PREFIX + token_hex(8))
    with ExitStack() as stack:
        stack.callback(shutil.rmtree, folder, ignore_errors=True)  # or by a later program, if it cannot be removed
        stack.callback(os.close, _made_and_locked(folder))
        yield folder


def _made_and_locked(folder: Path) -> int:
    """Make the folder; returns the descriptor that holds its lock."""
    while True:
        folder.mkdir(0o700)
        with suppress(FileNotFoundError):  # another program saw the folder before it was locked, and removed it
            lock = os.open(folder, os.O_RDONLY)
            fcntl.flock(lock, fcntl.LOCK_SH)  # not LOCK_EX, which NFS refuses for a folder
            if folder.exists():
                return lock
            os.close(lock)


def _remove_abandoned() -> None:
    """Remove the folders of this user's programs that have ended."""
    for folder in Path(tempfile.gettempdir()).glob(f"{PREFIX}*"):
        with suppress(OSError):  # it is locked, another user's, no folder, or gone
            lock = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
            try:
                if os.fstat(lock).st_uid == os.geteuid():
                    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    shutil.rmtree(folder, ignore_errors=True)
            finally:
                os.close(lock)
