"""A user's command, typed again where it was ended, until it is done.

Each story is a line of a table. Whatever disturbs it, one rule holds: what was there before is the beginning of what
is there now. That is a part of what the undisturbed story makes, and in the end the whole.
"""

import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from backends import TABLE
from backends.process.group import GROUP_BACKENDS
from backends.process.parent import PROJECT
from common.files import UNFINISHED
from common.run import RunDirectory
from tests.fuzz.attack.programs import Program
from tests.support.small_run import FILES, contents, names, same_training

FRAMEWORKS = [name for name, entry in TABLE.items() if entry.extra and ":" not in name]
EPOCHS = 40
SMALL = "--num-samples 200 --latent-dim 16 --threads 1"  # a run of many epochs a second
RECORDINGS = PROJECT / "docs" / "benchmark"
OLD = (RECORDINGS / "amd.md").read_bytes()  # a page of Rosetta, which is there before
NOTHING = "nothing"
SECONDS = 3.0  # of a story that makes nothing, roughly


def run_of(path: Path) -> list[Any]:
    """Read all files of a run. Return its epochs, without their seconds, and after the last one all else."""
    if not path.exists():
        return []
    assert names(path) == FILES, "a run is there that is not whole"
    run = RunDirectory.open(path)
    run.pairs(), run.vocabularies(), run.read_state("last"), run.read_state("best")
    epochs: list[Any] = [replace(epoch, seconds=0.0) for epoch in run.history()]
    return ["a run", *epochs, *([same_training(run)] if len(epochs) == EPOCHS else [])]


def whole_of(path: Path) -> list[Any]:
    """Return a folder's files, or a page, which is there whole or not at all."""
    if not path.exists():
        return []
    content = contents(path) if path.is_dir() else path.read_bytes()
    return [] if content == OLD else [content]


@dataclass(frozen=True)
class Story:
    """A command, and what it makes."""

    words: str  # of the command; {out} is what it makes, {run} a run that is there
    out: str = NOTHING  # name of what it makes
    read: Callable[[Path], list[Any]] = whole_of  # reads what is there, the oldest first
    again: str = ""  # the words where something is there already; "": the same
    old: bytes = b""  # what is there before
    quiet: bool = True  # one line on standard error at most; others show their progress there


def train(backend: str, more: str = "") -> Story:
    command = f"rosetta train --backend {backend} --epochs {EPOCHS} --out {{out}}"
    words = f"{command} {SMALL} {more}"
    return Story(words, "run", run_of, words if more else f"{command} --resume --threads 1", quiet=False)


REPORT = f"rosetta report {RECORDINGS / 'intel.jsonl'} -o {{out}}"
CONVERT = "rosetta convert {run} --out {out} --to "
WITH_NUMPY = {
    "train": train("numpy"),
    "report": Story(REPORT, "page.md", old=OLD),
    "report as a page": Story(REPORT, "page.html"),
    "convert to weights": Story(CONVERT + "weights", "files"),
}
WITH_FRAMEWORKS = {f"train in {name}": train(name) for name in FRAMEWORKS}
WITH_FRAMEWORKS |= {"convert to torch": Story(CONVERT + "torch", "files")}
GROUPS = {f"a group in {name}": train(name, "--workers 2 --resume-or-begin") for name in GROUP_BACKENDS}
ANSWERING = {  # those that make nothing
    "translate": Story("rosetta translate --backend numpy"),
    "translate in torch": Story("rosetta translate --backend torch"),
    "evaluate": Story("rosetta evaluate --backend numpy --limit 20"),
    "parity": Story("rosetta parity --quick --backends numpy --latent-dim 16"),
    "serve": Story("rosetta serve --backends numpy,torch --port 0"),
    "backends": Story("rosetta backends"),
    "data": Story("rosetta data"),
}
STORIES = WITH_NUMPY | WITH_FRAMEWORKS | GROUPS | ANSWERING


class Told:
    """A story in a folder. `whole` is the same story undisturbed; None for the undisturbed one itself."""

    def __init__(self, story: Story, folder: Path, run: Path, whole: "Told | None" = None) -> None:
        self.story, self.folder, self.whole, self.seconds = story, folder, whole or self, SECONDS
        self.run, self.temporary = Path(shutil.copytree(run, folder / "run")), folder / "temporary"
        self.temporary.mkdir()
        self.out = folder / "made" / story.out
        self.set_out()

    def set_out(self) -> None:
        """Make the output's folder, and what is there before."""
        self.out.parent.mkdir(exist_ok=True)
        if self.story.old:
            self.out.write_bytes(self.story.old)
        self.before: list[Any] = []

    def start(self, prefix: Sequence[str] = ()) -> Program:
        """Type the command, after words such as those of `prlimit`."""
        words = self.story.again if self.before and self.story.again else self.story.words
        return Program(self.folder, [word.format(out=self.out, run=self.run) for word in words.split()], prefix)

    def look(self) -> str:
        """Say how much is there. Fails for what is damaged or lost."""
        there = self.story.read(self.out)
        whole = self.whole.story.read(self.whole.out)
        assert all(item in whole for item in there), "it is not a part of the whole"
        assert there[: len(self.before)] == self.before, "what was there is lost"
        self.before = there
        return "all of it" if all(item in there for item in whole) else "a part of it" if there else "nothing of it"

    def go_on(self) -> None:
        """Do the rest undisturbed."""
        began = time.monotonic()
        with self.start() as program:
            assert program.ended() == 0, program.lines()
        self.seconds = time.monotonic() - began

    def check_end(self) -> None:
        """Go on until it is done. Fails for what differs from the whole, or is left, but for unfinished files."""
        if self.look() != "all of it":
            self.go_on()
            assert self.look() == "all of it"
        left = [path.name for path in self.out.parent.iterdir() if path.suffix != UNFINISHED]
        assert left == [self.out.name], left
        assert contents(self.run) == contents(self.whole.run)
