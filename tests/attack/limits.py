"""The shape of all attacks, and the rules by which every outcome is judged.

An attack is a generator. From a random number generator, an empty folder, in which it also is, and the names of what
to attack (all, where none is given) it prepares its victim, and then tries one case after another without end. It
yields what came of each, as "what was attacked: outcome". These rules hold for each:

- an input is read, or refused by a RosettaError of one line that a terminal can be given;
- a program ends with 0, 1 or 2, or as the signal that ended it says, with one line of error at most, without a
  traceback, and with no process left behind (see `programs`);
- what was there before is as it was, or is what the program makes, whole (see `stories`);
- no case takes longer than its limit, and no attack more than a gigabyte above what it began with;
- nothing that a file holds was run.
"""

import random
import resource
import shutil
import signal
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import chdir, closing
from itertools import cycle
from pathlib import Path
from tempfile import mkdtemp
from types import FrameType
from typing import Any, NamedTuple

from common.errors import RosettaError

MOST_MEMORY = 1 << 30  # bytes that an attack may take above what was there before
HARMED = "harmed"  # the file that hostile code would leave in the attack's folder

Attack = Callable[[random.Random, Path, Sequence[str]], Iterator[str]]


class Target(NamedTuple):
    """How a hostile input is made, and what reads it and may return in a word what came of it."""

    make: Callable[[random.Random], Any]
    read: Callable[[Any], object]


def inputs(targets: Mapping[str, Target], names: Sequence[str], rng: random.Random) -> Iterator[str]:
    """What comes of hostile inputs, for the targets of these names, or for all, in turn."""
    for name in cycle(names or targets):
        made = targets[name].make(rng)
        try:
            outcome = targets[name].read(made)
            yield f"{name}: {outcome if isinstance(outcome, str) else 'read'}"
        except RosettaError as error:
            one_line(error)
            yield f"{name}: refused in one line"


def judged(attack: Attack, count: int, seconds: float, seed: int, names: Sequence[str]) -> Counter[str]:
    """Try so many cases, at random from the seed, each within its seconds; returns how often what came of what.

    Raises AssertionError at the first outcome that must not be; the folder that it names is then left.
    """
    outcomes: Counter[str] = Counter()
    folder, before = Path(mkdtemp(prefix="attack-")), most_memory()
    signal.signal(signal.SIGALRM, too_long)  # which the main thread hears, wherever it is
    try:
        with chdir(folder), closing(attack(random.Random(seed), folder, names)) as cases:  # type: ignore[type-var]
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
    """The message of an error, which must be one line that a terminal can be given."""
    line = str(error)
    assert line.isprintable(), f"not one line that can be printed: {line[:1000]!r}"
    return line


def most_memory() -> int:
    """The most bytes of memory that this process has had."""
    return 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
