"""What every attack asserts of its outcomes, one line, little memory, little time; and the attack by many inputs."""

import resource
import signal
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from shutil import copytree
from tempfile import TemporaryDirectory
from types import FrameType
from unittest.mock import patch

import numpy as np

from common.errors import RosettaError

MOST_MEMORY = 1 << 30  # bytes that an attack may take above what was there before
MOST_SECONDS = 20.0  # that one input may take; the machine may be busy with other things


@dataclass(frozen=True)
class Target:
    """What is attacked: how an input is made at random, and what reads the file that it is written to.

    `read` returns what came of the input, None for that it was read, and raises RosettaError for what is refused.
    """

    make: Callable[[np.random.Generator], bytes]
    read: Callable[[Path], str | None]


def attacked(targets: Mapping[str, Target], count: int, start: int) -> Counter[str]:
    """Make `count` inputs for all targets in turn, at random from the seed `start`; returns what came of them.

    An input with any other outcome is left in the working folder.
    """
    outcomes: Counter[str] = Counter()
    rng, names = np.random.default_rng(start), list(targets)
    # Some file systems wait for the disk where a file is overwritten, and fsync takes longer than all the rest.
    with TemporaryDirectory() as folder, little_memory(), patch("os.fsync"):
        path = Path(folder) / "damaged"
        for number in range(count):
            name = names[number % len(names)]
            path.unlink(missing_ok=True)
            path.write_bytes(content := targets[name].make(rng))
            with left_behind(content), little_time():
                try:
                    outcome = targets[name].read(path) or "read"
                except RosettaError as error:
                    one_line(error)
                    outcome = "refused in one line"
            outcomes[f"{name}: {outcome}"] += 1
    return outcomes


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
