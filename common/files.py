"""Writing of files and folders that are either whole or not there."""

import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from common.errors import CannotBeginError, RosettaError


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


def write_json(path: Path, content: Any) -> None:
    """Write `content` as indented JSON, as `write_atomically` does."""
    write_atomically(path, json.dumps(content, ensure_ascii=False, indent=2) + "\n")


def read_json(path: Path) -> dict[str, Any]:
    """The object in a JSON file. Raises RosettaError."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise RosettaError(f"{path} cannot be read: {error}") from error
    if not isinstance(content, dict):
        raise RosettaError(f"{path} holds {type(content).__name__}, expected an object")
    return content
