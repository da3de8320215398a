"""Files and folders that are written whole or not at all, and reading within limits.

What is written survives a power loss: the disk holds a file before the file gets its name, and
holds the name before anything else is written.
"""

import errno
import fcntl
import io
import json
import os
import shutil
import stat
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from functools import partial
from pathlib import Path
from secrets import token_hex
from tempfile import gettempdir
from typing import Any, BinaryIO

from common.errors import CannotBeginError, RosettaError, refusing, why

LARGEST_JSON = 1 << 24  # bytes; a run's vocabulary has at most some 100,000
# Suffix of temporary files and folders; killed processes leave them.
UNFINISHED = ".rosetta-unfinished"
# Open no link, and wait for no pipe, which anybody may have put there.
ANYBODYS = os.O_NOFOLLOW | os.O_NONBLOCK
# Bytes of a corpus's archive; the largest of manythings.org has 20 million.
LARGEST_ARCHIVE = 1 << 28
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


def write_atomically(path: Path, content: bytes | str | Iterable[bytes | memoryview]) -> None:
    """Write a temporary file beside `path`, have the disk hold it, and rename it to `path`.

    The content may come in pieces. Raises OSError, which names `path`;
    the file there is then as it was.
    """
    whole = content.encode() if isinstance(content, str) else content
    pieces = [whole] if isinstance(whole, bytes) else whole
    try:
        with _temporary(path, partial(Path.touch, exist_ok=False)) as beside:
            with beside.open("wb") as file:
                file.writelines(pieces)
                file.flush()
                os.fsync(file.fileno())
            os.replace(beside, path)
        sync(path.parent)
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(path)) from error


def write_json(path: Path, content: Any) -> None:
    """Write `content` as indented JSON, as `write_atomically` does."""
    write_atomically(path, json.dumps(content, ensure_ascii=False, indent=2) + "\n")


@contextmanager
def new_folder(path: Path) -> Iterator[Path]:
    """A temporary folder beside `path` for the caller to fill. At the end it becomes `path`.

    Raises CannotBeginError where nothing can be written, or where `path` was made in the meantime;
    RosettaError where the disk is full before the folder is.
    """
    with ExitStack() as stack:
        with refusing(f"{path} cannot be written"):
            make_folder(path.parent)
            beside = stack.enter_context(_temporary(path, Path.mkdir))
        with refusing(f"{path} cannot be written", "; nothing is left of it", RosettaError):
            yield beside
            sync(beside)
            try:
                os.rename(beside, path)
            except OSError as error:
                exists = error.errno in (errno.ENOTEMPTY, errno.EEXIST)
                reason = (
                    "another process has made it in the meantime; choose another --out"
                    if exists
                    else why(error)
                )
                raise CannotBeginError(f"{path} cannot be made: {reason}") from error
        sync(path.parent)


def scratch_folder() -> AbstractContextManager[Path]:
    """A private folder for temporary files, removed at the end."""
    return _temporary(Path(gettempdir(), "rosetta"), partial(Path.mkdir, mode=0o700))


@contextmanager
def _temporary(path: Path, make: Callable[[Path], object]) -> Iterator[Path]:
    """A hidden file or folder beside `path`, which `make` makes.
    It is removed in the end, unless it was renamed.

    A lock holds it, which the system releases when this process ends, even when it is killed. What
    killed processes left in the folder is removed first.
    """
    for left in path.parent.glob(f".*{UNFINISHED}"):
        with suppress(OSError), _descriptor_of(left, ANYBODYS) as descriptor:
            # An error while its process lives.
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            _remove(left)
    with ExitStack() as stack:
        while True:
            beside = path.with_name(f".{path.name}.{token_hex(8)}{UNFINISHED}")
            stack.callback(_remove, beside)
            make(beside)
            with suppress(FileNotFoundError):  # another process removed it before it was locked
                descriptor = stack.enter_context(_descriptor_of(beside, ANYBODYS))
                # A file system has no locks; nothing there is taken for left.
                with suppress(OSError):
                    fcntl.flock(descriptor, fcntl.LOCK_SH)
                if beside.exists():
                    break
        yield beside


@contextmanager
def _descriptor_of(path: Path, flags: int = 0) -> Iterator[int]:
    """A descriptor of a file or folder."""
    descriptor = os.open(path, os.O_RDONLY | flags)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _remove(path: Path) -> None:
    """Remove a file or folder, if it is there."""
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def cache_folder() -> Path:
    """Rosetta's folder in the user's cache, for what can be downloaded or compiled again."""
    return Path(os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache"), "rosetta")


def make_folder(path: Path) -> None:
    """Make a folder and those above it that are missing, and have the disk hold their names."""
    missing = [folder for folder in (path, *path.parents) if not folder.exists()]
    for folder in reversed(missing):
        folder.mkdir(exist_ok=True)
        sync(folder.parent)


def sync(path: Path) -> None:
    """Have the disk hold a file that other code wrote, or the names that a folder has."""
    with _descriptor_of(path) as descriptor:
        try:
            os.fsync(descriptor)
        except OSError as error:
            if error.errno != errno.EINVAL:  # the answer of file systems that sync no folders
                raise


def size_of(path: Path) -> int:
    """Size of a file in bytes. Raises OSError where there is no file:
    a device or a pipe may have no end."""
    status = os.stat(path)
    if not stat.S_ISREG(status.st_mode):
        raise OSError(errno.EINVAL, "it is not a file", str(path))
    return status.st_size


def open_at_most(largest: int, path: Path) -> BinaryIO:
    """Open a file for reading. Raises OSError as `size_of` does,
    and for a file of more than `largest` bytes."""
    if size_of(path) > largest:
        raise OSError(errno.EOVERFLOW, f"it holds more than {largest:,} bytes", str(path))
    return open(path, "rb")


def read_at_most(largest: int, path: Path) -> bytes:
    """The bytes of a file. Raises as `open_at_most` does, before anything is read."""
    with open_at_most(largest, path) as file:
        return file.read(os.fstat(file.fileno()).st_size)


def open_archive(content: bytes) -> zipfile.ZipFile:
    """The archive in these bytes. Raises one of UNZIP_ERRORS.

    Members must be stored or deflated, as manythings.org packs them: of other methods zipfile
    unpacks all at once that it has read, and 1 MB of bzip2 may be 20 GB.
    """
    if content.count(MEMBER) > MOST_MEMBERS:
        raise zipfile.BadZipFile(f"it has more than {MOST_MEMBERS:,} members")
    archive = zipfile.ZipFile(io.BytesIO(content))
    if not {member.compress_type for member in archive.infolist()} <= {
        zipfile.ZIP_STORED,
        zipfile.ZIP_DEFLATED,
    }:
        raise zipfile.BadZipFile("it is packed by another method than deflate; pack it anew")
    return archive
