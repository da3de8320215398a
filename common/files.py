"""Writing of files and folders that are either whole or not there, the lock of a folder, and the reading of zips.

What is written survives a power loss: the disk holds a file before the file gets its name, and holds the name before
anything else is written. Anybody may have written a zip: nothing in it is unpacked but what is asked for, up to its
limit.
"""

import errno
import fcntl
import glob
import io
import json
import os
import shutil
import stat
import zipfile
import zlib
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from secrets import token_hex
from time import monotonic, sleep
from typing import Any, BinaryIO

from common.errors import CannotBeginError, RosettaError, refusing, why

LARGEST_JSON = 1 << 24  # bytes; a run's vocabulary has at most some 100,000
UNFINISHED = ".unfinished"  # the end of the names of temporary files and folders; killed processes leave them
LARGEST_ARCHIVE = 1 << 28  # bytes of a corpus's archive; the largest of manythings.org has 20 million
MOST_MEMBERS = 10_000  # each takes 420 bytes of memory and may take 46 of the archive
MEMBER = b"PK\x01\x02"  # the bytes that begin an entry of an archive's list of members

# The exceptions with which zipfile answers to an archive that it cannot unpack.
UNZIP_ERRORS = (
    zipfile.BadZipFile,
    zlib.error,
    RuntimeError,  # an archive with a password, or an unknown method of compression
    EOFError,
    ValueError,
    OSError,
)


def write_atomically(path: Path, content: bytes | str | Iterable[bytes]) -> None:
    """Write a temporary file beside `path`, have the disk hold it, and rename it to `path`.

    The content may come in pieces. Raises OSError, which names `path`; the file there is then as it was.
    """
    whole = content.encode() if isinstance(content, str) else content
    pieces = [whole] if isinstance(whole, bytes) else whole
    beside = _beside(path)
    try:
        try:
            with beside.open("xb") as file:
                file.writelines(pieces)
                file.flush()
                os.fsync(file.fileno())
            os.replace(beside, path)
        except BaseException:
            beside.unlink(missing_ok=True)
            raise
        sync(path.parent)
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(path)) from error


@contextmanager
def new_folder(path: Path) -> Iterator[Path]:
    """A temporary folder beside `path` for the caller to fill. At the end it becomes `path`.

    Raises CannotBeginError where nothing can be written, or where `path` was made in the meantime; RosettaError where
    the disk is full before the folder is.
    """
    with ExitStack() as stack:
        with refusing(f"{path} cannot be written"):
            make_folder(path.parent)
            beside = stack.enter_context(temporary_folder(path))
        with refusing(f"{path} cannot be written", "; nothing is left of it", RosettaError):
            yield beside
            sync(beside)
            try:
                os.rename(beside, path)
            except OSError as error:
                made = error.errno in (errno.ENOTEMPTY, errno.EEXIST)
                reason = "another process has made it in the meantime; choose another --out" if made else why(error)
                raise CannotBeginError(f"{path} cannot be made: {reason}") from error
        sync(path.parent)


@contextmanager
def temporary_folder(path: Path, mode: int = 0o777) -> Iterator[Path]:
    """A new folder beside `path`, which is removed at the end, as are now those whose processes were killed.

    This process holds a lock on the folder. The operating system frees it when this process ends, even when it is
    killed. So a folder that is not locked belongs to a process that has ended.
    """
    for left in path.parent.glob(f".{glob.escape(path.name)}.*{UNFINISHED}"):
        with suppress(OSError), locked(left) as free:
            if free:
                shutil.rmtree(left)
    # Named before it is made, so that it is removed at whatever moment a signal ends this program.
    beside = _beside(path)
    with ExitStack() as stack:
        stack.callback(shutil.rmtree, beside, ignore_errors=True)  # or by a later process, if it cannot be removed
        while True:
            beside.mkdir(mode)
            with suppress(FileNotFoundError):  # another process saw the folder before it was locked, and removed it
                lock = os.open(beside, os.O_RDONLY)
                stack.callback(os.close, lock)
                fcntl.flock(lock, fcntl.LOCK_SH)  # not LOCK_EX, which NFS refuses for a folder
                if beside.exists():
                    break
        yield beside


def _beside(path: Path) -> Path:
    """A name for a temporary file or folder that is to become `path`."""
    return path.with_name(f".{path.name}.{token_hex(8)}{UNFINISHED}")


@contextmanager
def locked(folder: Path, seconds: float = 0) -> Iterator[bool]:
    """Hold the lock of a folder while the block runs. Yields False if another process holds it for `seconds` more.

    The operating system frees the lock when the process that holds it ends, even when it is killed. Other machines
    that have the same folder by a network do not see the lock.
    """
    deadline, free = monotonic() + seconds, False
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        while not free:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                free = True
            except BlockingIOError:
                if monotonic() >= deadline:
                    break
                sleep(0.05)
        yield free
    finally:
        os.close(descriptor)


def cache_folder() -> Path:
    """Rosetta's folder in the user's cache, for what can be downloaded or compiled again."""
    return Path(os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache"), "rosetta")


def make_folder(path: Path) -> None:
    """Make a folder and those above it that are missing, and have the disk hold their names."""
    if not path.exists():
        make_folder(path.parent)
        path.mkdir(exist_ok=True)
        sync(path.parent)


def sync(path: Path) -> None:
    """Have the disk hold a file that other code wrote, or the names that a folder has."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno != errno.EINVAL:  # which is the answer of file systems that sync no folders
            raise
    finally:
        os.close(descriptor)


def read_at_most(largest: int, path: Path) -> bytes:
    """The bytes of a file, which has so many at most.

    Raises RosettaError for a file that has more, before it is read, and OSError for what is not there or no file: a
    device or a pipe may have no end.
    """
    with open_at_most(largest, path) as file:
        return file.read(os.fstat(file.fileno()).st_size)


def open_at_most(largest: int, path: Path) -> BinaryIO:
    """A file opened for reading. Raises as `read_at_most` does."""
    found = os.stat(path)
    if not stat.S_ISREG(found.st_mode):
        raise OSError(errno.EINVAL, "it is not a file", str(path))
    if found.st_size > largest:
        raise RosettaError(f"{path} holds more than {largest:,} bytes, expected less")
    return open(path, "rb")


def write_json(path: Path, content: Any) -> None:
    """Write `content` as indented JSON, as `write_atomically` does."""
    text = json.dumps(content, ensure_ascii=False, indent=2) + "\n"
    # JSON has an escape for a surrogate, which Python gives in place of each byte of a name that is not UTF-8.
    write_atomically(path, text.encode(errors="backslashreplace"))


def open_archive(content: bytes) -> zipfile.ZipFile:
    """The archive in these bytes. Raises one of UNZIP_ERRORS.

    Members must be stored or deflated, as manythings.org and the frameworks pack them: of other methods zipfile
    unpacks all at once that it has read, and 1 MB of bzip2 may be 20 GB.
    """
    if content.count(MEMBER) > MOST_MEMBERS:
        raise zipfile.BadZipFile(f"it has more than {MOST_MEMBERS:,} members")
    archive = zipfile.ZipFile(io.BytesIO(content))
    if not {member.compress_type for member in archive.infolist()} <= {zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED}:
        raise zipfile.BadZipFile("it is packed by another method than deflate; pack it anew")
    return archive


def read_member(archive: zipfile.ZipFile, name: str, largest: int) -> bytes:
    """A member of at most so many bytes. Raises one of UNZIP_ERRORS, KeyError where there is none of this name."""
    size = archive.getinfo(name).file_size  # of what is unpacked; without it zipfile would unpack 2 GB in one piece
    if size > largest:
        raise zipfile.BadZipFile(f"{name} has more than {largest:,} bytes")
    with archive.open(name) as member:
        return member.read(size)
