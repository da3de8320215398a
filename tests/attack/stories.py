"""What a user does with one command, again where it was ended, until it is done.

Each story is a line of a table. Whatever disturbs it, one rule holds: what was there before is the beginning of what
is there now, which is the beginning of what the same story makes undisturbed, and in the end the whole.
"""

import json
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from operator import eq
from pathlib import Path
from typing import Any

from backends.process.parent import PROJECT
from common.files import UNFINISHED
from common.run_directory import RunDirectory
from tests.attack.programs import Place, Program
from tests.conftest import FRAMEWORKS
from tests.small_run import FILES, NEW_FILES, contents, names, same_training

EPOCHS = 40
# A small run, of which a second of training has many epochs.
SMALL = "--num-samples 200 --latent-dim 16 --threads 1"
RECORDINGS = PROJECT / "docs" / "benchmark"
OLD = (RECORDINGS / "amd.md").read_text(encoding="utf-8")  # a page of Rosetta, which is there before


def run_of(path: Path) -> list[Any]:
    """That there is a run, its epochs, without what differs each time, and after the last one all else.

    All files are read.
    """
    if not path.exists():
        return []
    assert names(path) in (NEW_FILES, FILES), "a run is there that is not whole"
    run = RunDirectory.open(path)
    run.pairs(), run.vocabularies(), run.read_state("last"), run.read_state("best")
    epochs: list[Any] = [replace(epoch, seconds=0.0) for epoch in run.history()]
    return ["a run", *epochs, *([same_training(run)] if len(epochs) == EPOCHS else [])]


def lines_of(path: Path) -> list[Any]:
    """The whole lines of a recording. Fails where one is none, or is recorded twice."""
    lines = whole_lines(path).splitlines()
    keys = [tuple(map(json.loads(line).get, ("kind", "number", "work", "row"))) for line in lines]
    assert len({*keys}) == len(keys), f"a line is twice: {keys}"
    return lines


def whole_lines(path: Path) -> bytes:
    content = path.read_bytes() if path.exists() else b""
    return content[: content.rfind(b"\n") + 1]


def has_all_lines(found: Sequence[Any], whole: Sequence[Any]) -> bool:
    """Whether a recording has all that another one has, except that the number of rounds may differ."""

    def kinds(lines: Sequence[bytes]) -> set[tuple[Any, ...]]:
        return {tuple(map(json.loads(line).get, ("kind", "work", "row"))) for line in lines}

    return kinds(found) == kinds(whole)


def page_of(path: Path) -> list[Any]:
    return [text] if path.exists() and (text := path.read_text(encoding="utf-8")) != OLD else []


def bytes_of(path: Path) -> bytes:
    return path.read_bytes() if path.exists() else b""


def files_of(path: Path) -> list[Any]:
    return [contents(path)] if path.exists() else []


def nothing_of(path: Path) -> list[Any]:
    return []


@dataclass(frozen=True)
class Story:
    """A command, and what it makes."""

    words: str  # of the command; {out} is what it makes, {run} a run that is there, {run}.txt sentences
    out: str = "nothing"  # the name of what it makes
    read: Callable[[Path], Sequence[Any]] = nothing_of  # what is there: what comes later stands behind it
    again: str = ""  # the words where something is there already; "": the same
    old: str | None = None  # what is there before
    repeats: bool = True  # it makes the same each time
    is_whole: Callable[[Sequence[Any], Sequence[Any]], bool] = eq
    weight: int = 1  # how often it is told, among all: those that take long are rarer
    seconds: float = 3.0  # that it takes, more or less, where it makes nothing
    ends: bool = True  # by itself
    quiet: bool = True  # has one line on standard error at most; others tell there how far they have come
    printed: bool = False  # what it makes is its standard output


def train(backend: str, weight: int = 1, more: str = "") -> Story:
    command = f"rosetta train --backend {backend} --epochs {EPOCHS} --out {{out}}"
    words, again = f"{command} {SMALL} {more}", f"{command} --resume --threads 1"
    return Story(words, "run", run_of, words if more else again, weight=weight, quiet=False)


def bench(backends: str, weight: int = 1) -> Story:
    """A benchmark with so wide an interval that two rounds are enough."""
    here = f"--python numpy={sys.executable} --out {{out}}"  # which no recording starts by itself
    begun = f"tests.short_bench 2 bench --within 1000% --budget 10m {SMALL} --backends {backends} {here}"
    resumed = f"tests.short_bench 2 bench --resume {here}"
    return Story(
        begun, "a.jsonl", lines_of, resumed, repeats=False, is_whole=has_all_lines, weight=weight, quiet=False
    )


def report(out: str, old: str | None = None) -> Story:
    return Story(f"rosetta report {RECORDINGS / 'intel.jsonl'} -o {{out}}", out, page_of, old=old, weight=2)


def convert(to: str) -> Story:
    return Story(f"rosetta convert {{run}} --to {to} --out {{out}}", "files", files_of, weight=2)


WITH_NUMPY = {
    "train": train("numpy", 12),
    "bench": bench("numpy", 3),
    "report": report("page.md", OLD),
    "report as a page": report("page.html"),
    "convert to weights": convert("weights"),
    "convert to torch": convert("torch"),
}
TRANSLATE = "rosetta translate --backend numpy"
PRINTING = {
    "translate a file": Story(f"{TRANSLATE} --file {{run}}.txt", "out.txt", bytes_of, weight=3, printed=True),
}
WITH_FRAMEWORKS = {
    **{f"train in {name}": train(name) for name in FRAMEWORKS},
    "bench of two": bench("numpy,torch"),
}
GROUPS = {f"a group in {name}": train(name, more="--workers 2 --resume-or-begin") for name in FRAMEWORKS}
ANSWERING = {  # those that make nothing which is looked at
    "translate": Story(TRANSLATE, ends=False),
    "translate in torch": Story("rosetta translate --backend torch", ends=False),
    "evaluate": Story("rosetta evaluate --backend numpy --limit 20"),
    "sweep": Story(f"rosetta sweep --backends numpy {SMALL} --out {{out}}.jsonl", ends=False, quiet=False),
    "parity": Story("rosetta parity --quick --backends numpy --latent-dim 16"),
    "serve": Story("rosetta serve --backends numpy,torch --port 0", ends=False),
    "compare": Story(f"rosetta compare {RECORDINGS / 'intel.jsonl'} {RECORDINGS / 'intel.jsonl'}"),
    "backends": Story("rosetta backends"),
    "data": Story("rosetta data"),
}


class Told:
    """A story in a place. `whole` is the same one, which nothing disturbed; None for that one itself."""

    def __init__(self, story: Story, place: Place, run: Path, whole: "Told | None") -> None:
        self.story, self.place, self.run, self.whole = story, place, run, whole or self
        self.seconds = story.seconds
        self.out = place.folder / "made" / story.out
        self.set_out()

    def set_out(self) -> None:
        """Make the folder of what is made, and what is there before."""
        self.out.parent.mkdir(exist_ok=True)
        if self.story.old is not None:
            self.out.write_text(self.story.old, encoding="utf-8")
        self.before = self.found()

    def start(self, prefix: Sequence[str] = ()) -> Program:
        """Type the command, after words such as those of `prlimit`."""
        words = self.story.again if self.before and self.story.again else self.story.words
        command = [word.format(out=self.out, run=self.run) for word in words.split()]
        if not self.story.printed:
            return Program(self.place, command, prefix)
        with self.out.open("wb") as output:
            return Program(self.place, command, prefix, output.fileno())

    def found(self) -> Sequence[Any]:
        return self.story.read(self.out)

    def look(self) -> str:
        """Fail for what is damaged or lost, and tell what is found."""
        found, whole = self.found(), self.whole.found()
        assert not self.story.repeats or found == whole[: len(found)], "it is not the beginning of the whole"
        assert found[: len(self.before)] == self.before, "what was there is lost"
        self.before = found
        return "all of it" if self.story.is_whole(found, whole) else "a part of it" if found else "nothing of it"

    def go_on(self) -> None:
        """Do the rest, which nothing disturbs."""
        began = time.monotonic()
        with self.start() as program:
            assert program.ended() == 0, program.lines()
        self.seconds = time.monotonic() - began

    def check_end(self, unfinished: bool = False) -> None:
        """Go on until it is done, and fail for what differs from the whole, or is `unfinished` and left."""
        if self.look() != "all of it":
            self.go_on()
            assert self.look() == "all of it"
        left = [path.name for path in self.out.parent.iterdir() if not (unfinished and path.suffix == UNFINISHED)]
        assert left == [self.out.name], left
        assert contents(self.run) == contents(self.whole.run)
