"""What every attack asserts of its outcomes: one line, little memory, little time."""

import resource
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from shutil import copytree
from types import FrameType

from common.errors import RosettaError

MOST_MEMORY = 1 << 30  # bytes that an attack may take above what was there before
MOST_SECONDS = 20.0  # that one input may take; the machine may be busy with other things


def one_line(error: RosettaError) -> str:
    """The message of an error, which must be one line that a terminal can be given."""
    line = str(error)
    assert line.isprintable(), f"not one line that can be printed: {line[:1000]!r}"
    return line


@contextmanager
def little_memory() -> Iterator[None]:
    """Raise AssertionError at the end if the block took more than MOST_MEMORY."""
    before = _resident()
    yield
    taken = _resident() - before
    assert taken <= MOST_MEMORY, f"{taken:,} bytes of memory were taken"


def _resident() -> int:
    """The most bytes of memory that this process has had."""
    return 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


@contextmanager
def little_time(seconds: float = MOST_SECONDS) -> Iterator[None]:
    """Raise AssertionError in the block if it takes longer. This must run in the main thread, which hears signals."""

    def too_long(number: int, frame: FrameType | None) -> None:
        raise AssertionError(f"it took longer than {seconds:.0f} s")

    before = signal.signal(signal.SIGALRM, too_long)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


@contextmanager
def left_behind(content: bytes) -> Iterator[None]:
    """Leave an input in the working folder, in a file "damaged", if the block ends with an exception."""
    try:
        yield
    except BaseException:
        Path("damaged").write_bytes(content)
        raise


@contextmanager
def folder_left_behind(folder: Path, name: str, story: str) -> Iterator[None]:
    """Leave a folder in the working folder, under this name, if the block ends with an exception; the story that led
    there is noted in it."""
    try:
        yield
    except BaseException as error:
        copytree(folder, name, dirs_exist_ok=True)
        error.add_note(f"{story}; see the folder {name}")
        raise
