"""Errors that a user may see, text for a terminal, and files within limits."""

import errno
import fcntl
import json
import os
import shlex
import stat
from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from secrets import token_hex
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

LARGEST_JSON = 1 << 24  # bytes
UNFINISHED = ".rosetta-diff-unfinished"  # suffix of temporary files; killed processes leave them

out = Console()
err = Console(stderr=True)


class DiffError(Exception):
    """Work began and failed. The message is one line, whatever names out of files are in it: what
    was found, what was expected, what to try."""

    exit_code = 1

    def __init__(self, message: str) -> None:
        super().__init__(printable(message))


class CannotBeginError(DiffError):
    """The request cannot be begun: wrong options or paths,
    or records that cannot be read, paired or carried."""

    exit_code = 2


def reason(error: OSError) -> str:
    """The operating system's reason for an error."""
    return error.strerror or str(error)


def printable(text: str) -> str:
    """The text in one line, without the control characters
    by which it could write over the terminal."""
    return "".join(c if c.isprintable() else " " if c.isspace() else "?" for c in text)


def quoted(word: str | Path) -> str:
    """A word as a shell takes it, in printable characters alone."""
    return shlex.quote(printable(str(word)))


def as_json(content: Any) -> str:
    """The content as JSON in one line, with escapes for characters that are not printable."""
    text = json.dumps(content, ensure_ascii=False)
    return "".join(c if c.isprintable() else json.dumps(c)[1:-1] for c in text)


def as_toml(value: str | list[str]) -> str:
    """A text or a list of texts as TOML has them,
    which is as JSON has them but for one character."""
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")


def some_of(names: Iterable[str], most: int = 8) -> str:
    """The first of many names, each once, and how many more there are."""
    first = [*dict.fromkeys(names)]
    more = f" and {len(first) - most} more" if len(first) > most else ""
    return ", ".join(first[:most]) + more


def count(number: int, noun: str) -> str:
    """A number and its noun in singular or plural: 1 pair, 2 pairs."""
    return f"{number:,} {noun}{'s' * (number != 1)}"


def say(message: str, console: Console | None = None) -> None:
    """Print a message in one line, which a terminal breaks."""
    (console or out).print(Text(printable(message)), soft_wrap=True)


def table(title: str, columns: Iterable[str], numeric: Collection[str] = ()) -> Table:
    """A Rich table without rows; the columns named in `numeric`
    are set flush right and never broken."""
    grid = Table(
        title=Text(printable(title), "bold"),
        title_justify="left",
        box=SIMPLE_HEAD,
        show_edge=False,
        pad_edge=False,
    )
    grid.padding = (0, 1, 0, 0)
    for column in columns:
        if column in numeric:
            grid.add_column(column, justify="right", no_wrap=True)
        else:
            grid.add_column(
                column, overflow="fold", min_width=max(map(len, column.split()), default=0)
            )
    return grid


def read_at_most(largest: int, path: Path) -> bytes:
    """The bytes of a file. Raises OSError for more than `largest` bytes, and where there is no
    file: a device or a pipe may have no end."""
    status = os.stat(path)
    if not stat.S_ISREG(status.st_mode):
        raise OSError(errno.EINVAL, "it is not a file", str(path))
    if status.st_size > largest:
        raise OSError(errno.EOVERFLOW, f"it holds more than {largest:,} bytes", str(path))
    return path.read_bytes()


def write_atomically(path: Path, content: bytes | str) -> None:
    """Write a file beside `path`, have the disk hold it, and rename it to `path`. Raises OSError,
    which names `path`; the file there is then as it was."""
    beside = path.with_name(f".{path.name}.{token_hex(8)}{UNFINISHED}")
    try:
        with _writing_in(path.parent):
            try:
                with beside.open("xb") as file:
                    file.write(content.encode() if isinstance(content, str) else content)
                    file.flush()
                    os.fsync(file.fileno())
                os.replace(beside, path)
            except BaseException:
                beside.unlink(missing_ok=True)
                raise
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(path)) from error


@contextmanager
def _writing_in(folder: Path) -> Iterator[None]:
    """Hold a lock on a folder, which several may hold.
    What killed processes left there is removed if nobody does."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        with suppress(OSError):  # another process writes there, or the file system has no locks
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            for left in folder.glob(f".*{UNFINISHED}"):
                left.unlink()
        with suppress(OSError):
            fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
        yield
    finally:
        os.close(descriptor)
