"""Writing of files and folders that are either whole or not there."""

import errno
import json
import os
import shutil
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from common.errors import CannotBeginError, RosettaError

LARGEST_JSON = 1 << 24  # bytes; a run's vocabulary has at most some 100,000


def write_atomically(path: Path, content: bytes | str) -> None:
    """Write a temporary file beside `path`, have the disk hold it, and rename it to `path`."""
    data = content.encode() if isinstance(content, str) else content
    descriptor, beside = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(beside, _permitted(0o666))
        os.replace(beside, path)
    except BaseException:
        os.unlink(beside)
        raise


@contextmanager
def new_folder(path: Path) -> Iterator[Path]:
    """A new folder beside `path` for the caller to fill. At the end it becomes `path`; after an error it is removed.

    Raises CannotBeginError where nothing can be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        beside = Path(tempfile.mkdtemp(dir=path.parent, prefix=f".{path.name}."))
    except OSError as error:
        raise CannotBeginError(f"{path.parent} cannot be written: {error.strerror}") from error
    try:
        yield beside
        os.chmod(beside, _permitted(0o777))
        os.rename(beside, path)
    except BaseException:
        shutil.rmtree(beside, ignore_errors=True)
        raise


def _permitted(mode: int) -> int:
    """The permissions of `mode` that the umask leaves. Temporary files are made without regard to the umask."""
    umask = os.umask(0)
    os.umask(umask)
    return mode & ~umask


def sync(path: Path) -> None:
    """Have the disk hold a file that other code wrote."""
    with open(path, "rb") as file:
        os.fsync(file.fileno())


def read_at_most(largest: int, path: Path) -> bytes:
    """The bytes of a file, which has so many at most.

    Raises RosettaError for a file that has more, before it is read, and OSError for what is not there or no file: a
    device or a pipe may have no end.
    """
    found = os.stat(path)
    if not stat.S_ISREG(found.st_mode):
        raise OSError(errno.EINVAL, "it is not a file", str(path))
    if found.st_size > largest:
        raise RosettaError(f"{path} holds more than {largest:,} bytes, expected less")
    with open(path, "rb") as file:
        return file.read(found.st_size)


def write_json(path: Path, content: Any) -> None:
    """Write `content` as indented JSON, as `write_atomically` does."""
    text = json.dumps(content, ensure_ascii=False, indent=2) + "\n"
    # JSON has an escape for a surrogate, which Python gives in place of each byte of a name that is not UTF-8.
    write_atomically(path, text.encode(errors="backslashreplace"))


def read_json(path: Path) -> dict[str, Any]:
    """The object in a JSON file. Raises RosettaError."""
    try:
        content = json.loads(read_at_most(LARGEST_JSON, path).decode())
    except (OSError, ValueError, RecursionError) as error:
        raise RosettaError(f"{path} cannot be read: {error}") from error
    if not isinstance(content, dict):
        raise RosettaError(f"{path} holds {type(content).__name__}, expected an object")
    return content
