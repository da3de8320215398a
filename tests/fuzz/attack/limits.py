"""The shape of all attacks, and the rules by which every outcome is judged.

An attack is a generator. It is given a random number generator and an empty folder, which is its working folder too.
It yields the outcome of each case, as "what was attacked: outcome". The rules of every case:

- an input is read, or refused by a RosettaError of one printable line;
- a command ends with 0, 1 or 2, with one line of error at most, without a traceback;
- what was there before is unchanged, or is what the command makes, whole;
- a case takes no longer than its limit, and an attack no more than a gigabyte above what it began with;
- nothing that a file holds was run.
"""

import random
import resource
import shutil
import signal
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import chdir, closing
from itertools import cycle
from pathlib import Path
from tempfile import mkdtemp
from types import FrameType
from typing import Any, NamedTuple

from common.errors import RosettaError

MOST_MEMORY = 1 << 30  # bytes above what the process had before
HARMED = "harmed"  # file that hostile code would leave in the attack's folder

Attack = Callable[[random.Random, Path], Iterator[str]]


class Target(NamedTuple):
    """A maker of hostile inputs, and their reader, which may return the outcome as a word."""

    make: Callable[[random.Random], Any]
    read: Callable[[Any], object]


def inputs(targets: Mapping[str, Target], rng: random.Random) -> Iterator[str]:
    """Yield the outcomes of hostile inputs, for the targets in turn."""
    for name in cycle(targets):
        target = targets[name].make(rng)
        try:
            outcome = targets[name].read(target)
            yield f"{name}: {outcome if isinstance(outcome, str) else 'read'}"
        except RosettaError as error:
            one_line(error)
            yield f"{name}: refused in one line"


def judged(attack: Attack, count: int, seconds: float, seed: int) -> Counter[str]:
    """Try `count` cases, each within its seconds, and count the outcomes.

    Raises AssertionError at the first outcome that must not be; the folder that it names is then left.
    """
    outcomes: Counter[str] = Counter()
    folder, before = Path(mkdtemp(prefix="attack-")), most_memory()
    signal.signal(signal.SIGALRM, too_long)  # which the main thread hears, wherever it is
    try:
        with chdir(folder), closing(attack(random.Random(seed), folder)) as cases:  # type: ignore[type-var]
            for _ in range(count):
                signal.setitimer(signal.ITIMER_REAL, seconds)
                outcomes[next(cases)] += 1
                signal.setitimer(signal.ITIMER_REAL, 0)
                assert not (folder / HARMED).exists(), "what a file holds was run"
        taken = most_memory() - before
        assert taken <= MOST_MEMORY, f"{taken:,} bytes of memory were taken"
    except BaseException as error:
        error.add_note(f"case {outcomes.total()} of seed {seed}; see {folder}")
        raise
    shutil.rmtree(folder)
    return outcomes


def too_long(number: int, frame: FrameType | None) -> None:
    raise AssertionError("it took longer than it may")


def one_line(error: RosettaError) -> str:
    """Return the message of an error. Raises AssertionError unless it is one printable line."""
    line = str(error)
    assert line.isprintable(), f"not one line that can be printed: {line[:1000]!r}"
    return line


def most_memory() -> int:
    """Return the peak of this process's memory, in bytes."""
    return 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
