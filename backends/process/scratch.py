"""The folder for the temporary files of a backend's process; what killed programs left of theirs is removed."""

import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

PREFIX = ".rosetta-scratch-"  # of the folders' names; nobody else names a folder so, since such folders are removed


@contextmanager
def scratch_folder() -> Iterator[Path]:
    """A new folder, which is removed at the end, as are now those whose programs were killed before their end.

    This process holds a lock on the folder. The operating system frees it when this process ends, even when it is
    killed. So a folder that is not locked belongs to a program that has ended.
    """
    _remove_abandoned()
    folder, lock = _locked_folder()
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)  # what cannot be removed now is removed by a later program
        os.close(lock)


def _locked_folder() -> tuple[Path, int]:
    """A new folder, and the descriptor that holds its lock."""
    while True:
        folder = Path(tempfile.mkdtemp(prefix=PREFIX))
        with suppress(FileNotFoundError):  # another program saw the folder before it was locked, and removed it
            lock = os.open(folder, os.O_RDONLY)
            fcntl.flock(lock, fcntl.LOCK_SH)  # not LOCK_EX, which NFS refuses for a folder
            if folder.exists():
                return folder, lock
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
