"""Programs that are attacked: each starts in a place, and is judged by how it ends and what it leaves there."""

import os
import resource
import signal
import subprocess
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Self

import psutil

from backends.process.parent import PROJECT
from common.terminal import ENDING
from tests.program import wait_until, workers
from tests.saves import temporary_files

LONGEST = 120.0  # seconds that any program is waited for
OUTLIVES = 10.0  # seconds by which a worker may outlive its program: while it imports a framework it hears nothing


def alive(temporary: Path) -> list[psutil.Process]:
    """The processes that live now and have their temporary files there: programs and their workers."""
    found = []
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            if process.environ().get("TMPDIR", "").startswith(str(temporary)):
                found.append(process)
    return found


class Place:
    """A folder with one for temporary files, which may be elsewhere, and a benchmark's lock."""

    def __init__(self, folder: Path, temporary: Path | None = None) -> None:
        self.folder, self.temporary = folder, temporary or folder / "temporary"
        folder.mkdir(parents=True, exist_ok=True)
        self.temporary.mkdir()
        (folder / "lock").touch()
        variables = {"TMPDIR": str(self.temporary), "ROSETTA_BENCHMARK_LOCK": str(folder / "lock")}
        self.environment = os.environ | variables

    def alive(self) -> list[psutil.Process]:
        return alive(self.temporary)

    def assert_nothing_temporary(self) -> None:
        """That the next program which has temporary files leaves none, neither of its own nor of killed ones.

        But for an empty file of eight letters: Python makes one where it looks for a folder for temporary files.
        """
        temporary_files(self.temporary)
        left = [path for path in self.temporary.iterdir() if len(path.name) != 8 or path.stat().st_size]
        assert not left, left


class Program:
    """`rosetta`, or another module, that runs in a place, after words such as those of `prlimit`.

    A context manager that ends it and its workers. Its standard output goes nowhere, if not to an open file.
    """

    def __init__(
        self, place: Place, words: Sequence[object], before: Sequence[str] = (), output: int = subprocess.DEVNULL
    ) -> None:
        self.words, self.place = [*map(str, words)], place
        self._errors = place.folder / f"errors-{len(list(place.folder.glob('errors-*')))}"
        with self._errors.open("wb") as errors:
            self.process = subprocess.Popen(
                [*before, sys.executable, "-m", *self.words],
                cwd=PROJECT,
                env=place.environment,
                stdin=subprocess.PIPE,  # which stays open, so that a program that reads it waits
                stdout=output,
                stderr=errors,
                preexec_fn=_dies_as_usual,
            )

    def workers(self) -> list[psutil.Process]:
        return workers(self.process)

    def runs_for(self, seconds: float) -> bool:
        """Wait so long; whether the program still runs."""
        with suppress(subprocess.TimeoutExpired):
            self.process.wait(seconds)
        return self.process.poll() is None

    def ended(self, *others: int) -> int:
        """The exit status, which is 0, 1, 2 or one of `others`.

        Raises AssertionError for any other one, for a program that hangs, for workers that do after its end, for a
        traceback, for two lines of an error, and for a failure without one.
        """
        try:
            status = self.process.wait(LONGEST)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"it hangs: {self.words}") from None
        wait_until(lambda: not self.place.alive(), OUTLIVES, f"a process outlives {self.words}")
        text = "\n".join(self.lines())
        assert not any(word in text for word in ("Traceback", "Exception ignored", "Error:")), text
        errors = sum(line.startswith("rosetta: ") for line in self.lines())
        as_it_should = errors == 1 if status in (1, 2) else errors <= 1 and status in (0, *others)
        assert as_it_should, f"status {status} of {self.words}: {text}"
        return status

    def lines(self) -> list[str]:
        """The lines on standard error."""
        return self._errors.read_text(encoding="utf-8", errors="replace").splitlines()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        alive = self.place.alive()
        self.process.kill()
        for process in alive:
            with suppress(psutil.NoSuchProcess):
                process.kill()
        with self.process:  # which closes its pipe
            pass


def _dies_as_usual() -> None:
    """Of signals that whoever started the attack ignores, as `nohup` does, and without a core, which is large."""
    for number in ENDING:
        signal.signal(number, signal.SIG_DFL)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
