"""What a user does with one command, again where it was ended, until it is done; kills and full disks disturb it.

Each story looks at what is there after a disturbance, which must be whole, and in the end at what was made, which has
the bytes of the same story without a disturbance.
"""

import json
import os
import shutil
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from benchmarks.measure.recording import Certified, Decoded, Recording, RowProfile
from benchmarks.report.render import MARK_OF_MARKDOWN
from common.files import UNFINISHED
from common.run_directory import Epoch, RunDirectory
from tests.attack.victims import Place, Victim
from tests.damage import COMMITTED
from tests.small_run import FILES, NEW_FILES, contents, names, same_training

# A small run, of which a second of training has many epochs.
SMALL = ["--num-samples", "200", "--latent-dim", "16", "--threads", "1"]
# Benchmarks of the quickest backends; so wide an interval that the fewest rounds are enough.
BENCH = ["bench", "--within", "1000%", "--budget", "10m", *SMALL]
HERE_TOO = ["--python", f"numpy={sys.executable}"]  # which no recording starts by itself
NUMPY_TWICE = ["--backends", "numpy", *HERE_TOO]
ROUNDS = 2  # of a benchmark, at least: more where the interval of the first ones is too wide


class Story:
    """A story in a folder. `whole` is the same one, which nothing disturbed; None for that one itself."""

    seconds = 5.0  # that it takes, more or less
    out: Path  # what it makes

    def __init__(self, folder: Path, place: Place, whole: "Story | None") -> None:
        self.folder, self.place = folder, place
        self.whole: Story = whole or self
        folder.mkdir(parents=True, exist_ok=True)

    def command(self) -> list[object]:
        """What the user types next."""
        raise NotImplementedError

    def look(self) -> str:
        """Fail for what is damaged or lost, and tell what is found."""
        raise NotImplementedError

    def check_end(self) -> None:
        """Fail for what differs from the whole."""
        raise NotImplementedError

    def start(self) -> Victim:
        return self.place.start(*self.command())

    def go_on(self) -> None:
        """Do the rest, which nothing disturbs."""
        began = time.monotonic()
        with self.start() as victim:
            status, said = victim.status(), victim.said()
        assert status == 0, f"status {status} of {victim.command}: {said}"
        self.seconds = time.monotonic() - began


class Training(Story):
    """A run that is begun and trained, or one that has epochs already."""

    def __init__(
        self, folder: Path, place: Place, whole: Story | None, backend: str, epochs: int = 60, begun: int = 0
    ) -> None:
        super().__init__(folder, place, whole)
        self.backend, self.epochs, self.begun, self.out = backend, epochs, begun, folder / "runs" / "run"
        if begun:
            place.does(*self._command(begun))

    def _command(self, epochs: int) -> list[object]:
        how = ["--resume", "--threads", 1] if self.out.exists() else SMALL
        return ["train", "--out", self.out, *how, "--backend", self.backend, "--epochs", epochs]

    def command(self) -> list[object]:
        return self._command(self.epochs)

    def look(self) -> str:
        if not self.out.exists():
            return "no run yet"
        assert names(self.out) in (NEW_FILES, FILES), "a run is there that is not whole"
        found = _figures(self.out)
        assert found == _figures(self.whole.out)[: len(found)], "other figures than those of the whole"
        assert len(found) >= self.begun, "epochs are lost"
        return "its epochs are kept" if len(found) < self.epochs else "done"

    def check_end(self) -> None:
        assert_same_run(self.out, self.whole.out)
        assert os.listdir(self.out.parent) == ["run"]


def _figures(path: Path) -> list[Epoch]:
    """All that a run holds is read; its history without what differs each time."""
    run = RunDirectory.open(path)
    run.pairs(), run.vocabularies(), run.read_state("last"), run.read_state("best")
    return [replace(epoch, seconds=0.0) for epoch in run.history()]


def assert_same_run(found: Path, whole: Path) -> None:
    """That a run is what it would be if nothing had ended a program or filled a disk."""
    assert same_training(RunDirectory.open(found)) == same_training(RunDirectory.open(whole))
    assert names(found) == FILES


class Benchmark(Story):
    """A recording that is new or, where the whole one is there, has its first lines already."""

    def __init__(self, folder: Path, place: Place, whole: Story | None, backends: list[str], lines: int = 0) -> None:
        super().__init__(folder, place, whole)
        self.backends, self.out = backends, folder / "a.jsonl"
        if whole and lines:
            self.out.write_bytes(b"".join(whole.out.read_bytes().splitlines(keepends=True)[:lines]))
        self.before = whole_lines(self.out)

    def command(self) -> list[object]:
        go_on = ["--resume", *(HERE_TOO if HERE_TOO[1] in self.backends else [])]
        how = go_on if whole_lines(self.out) else [*BENCH[1:], *self.backends]
        return [ROUNDS, "bench", *how, "--out", self.out]

    def start(self) -> Victim:
        return self.place.start(*self.command(), module="tests.short_bench")

    def look(self) -> str:
        lines = whole_lines(self.out)
        assert lines.startswith(self.before), "a line that was recorded is lost"
        assert all(json.loads(line) for line in lines.splitlines()), "a whole line is not JSON"
        self.before = lines
        return "all lines are whole" if lines else "no lines yet"

    def check_end(self) -> None:
        assert self.out.read_bytes() == whole_lines(self.out)
        assert whole_lines(self.out).startswith(self.before)
        recording = Recording.read(self.out)
        numbers = [line.number for line in recording.rounds()]
        assert numbers == list(range(1, max(ROUNDS, len(numbers)) + 1)), "a round is lost or twice"
        matched = {n for n, row in enumerate(recording.plan.rows) if not row.installed}
        assert all({start.row for start in line.starts} >= matched for line in recording.rounds())
        for kind in (Certified, Decoded, RowProfile):
            rows = [line.row for line in recording.of_kind(kind)]  # type: ignore[attr-defined]
            assert set(rows) - {-1} <= matched, f"lost: {kind.__name__}"
            assert len(set(rows)) == len(rows), f"a line is twice: {kind.__name__}"
        assert {path.name for path in self.folder.glob("a*")} == {"a.jsonl"}


def whole_lines(path: Path) -> bytes:
    content = path.read_bytes() if path.exists() else b""
    return content[: content.rfind(b"\n") + 1]


OLD_PAGE = f"{MARK_OF_MARKDOWN}\n\nan old page"


class Page(Story):
    """A page that is written over an older one."""

    def __init__(self, folder: Path, place: Place, whole: Story | None, suffix: str) -> None:
        super().__init__(folder, place, whole)
        self.out = folder / f"page{suffix}"
        self.out.write_text(OLD_PAGE)

    def command(self) -> list[object]:
        return ["report", COMMITTED / "intel.jsonl", "-o", self.out]

    def look(self) -> str:
        new = self.out.read_bytes() == self.whole.out.read_bytes()
        assert new or self.out.read_text() == OLD_PAGE, "half a page"
        return "the new page, whole" if new else "the old page, whole"

    def check_end(self) -> None:
        assert self.out.read_bytes() == self.whole.out.read_bytes()
        # What a killed one was writing beside its place stays there, hidden.
        assert [path.name for path in self.folder.iterdir() if path.suffix != UNFINISHED] == [self.out.name]


class Conversion(Story):
    """A run that is written in another form."""

    def __init__(self, folder: Path, place: Place, whole: "Conversion | None", to: str) -> None:
        super().__init__(folder, place, whole)
        self.run, self.to, self.out = place.folder / "run", to, folder / "converted" / "files"
        if whole:
            shutil.copytree(whole.run, self.run)
        else:
            place.does("train", "--backend", "numpy", *SMALL, "--epochs", 2, "--out", self.run)
        self.before = contents(self.run)

    def command(self) -> list[object]:
        shutil.rmtree(self.out, ignore_errors=True)
        return ["convert", self.run, "--to", self.to, "--out", self.out]

    def look(self) -> str:
        if self.out.exists():
            assert contents(self.out) == contents(self.whole.out)
        return "whole files" if self.out.exists() else "no files"

    def check_end(self) -> None:
        assert contents(self.out) == contents(self.whole.out)
        assert os.listdir(self.out.parent) == ["files"]
        assert contents(self.run) == self.before


class Translation(Story):
    """Many translations into a file."""

    def __init__(self, folder: Path, place: Place, whole: Story | None) -> None:
        super().__init__(folder, place, whole)
        self.out, self.sentences = folder / "translations", place.folder / "sentences"
        self.out.touch()
        self.sentences.write_text("Look at the skirt!\n" * 600)

    def command(self) -> list[object]:
        return ["translate", "--backend", "numpy", "--file", self.sentences]

    def start(self) -> Victim:
        with self.out.open("wb") as output:
            return self.place.start(*self.command(), output=output.fileno())

    def look(self) -> str:
        assert self.whole.out.read_bytes().startswith(self.out.read_bytes())
        return "some lines"

    def check_end(self) -> None:
        assert self.out.read_bytes() == self.whole.out.read_bytes()


class Wholes:
    """Stories that nothing disturbs, each done once."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._done: dict[str, Story] = {}

    def of(self, name: str, make: Callable[[Path, Place, None], Story]) -> Story:
        if name not in self._done:
            folder = self.folder / name
            story = make(folder / "made", Place(folder), None)
            story.go_on()
            self._done[name] = story
        return self._done[name]
