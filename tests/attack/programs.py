"""Programs that are attacked: each has a folder, and is judged by how it ends and what it leaves there."""

import os
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Self

import psutil

from backends.process.parent import PROJECT
from tests.program import wait_until

LONGEST = 300.0  # seconds that any program is waited for; an idle machine needs a third for a benchmark
OUTLIVES = 10.0  # seconds by which a worker may outlive its program: while it imports a framework it hears nothing


def alive(temporary: Path) -> list[psutil.Process]:
    """The processes that live now and have their temporary files there: programs and their workers."""
    found = []
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            if process.environ().get("TMPDIR", "").startswith(str(temporary)):
                found.append(process)
    return found


class Program:
    """`rosetta`, or another module, that runs after words such as those of `prlimit`.

    A context manager that ends it and its workers. Its temporary files and a benchmark's lock are in a folder. Its
    standard output goes nowhere, if not to an open file.
    """

    def __init__(
        self, folder: Path, words: Sequence[object], before: Sequence[str] = (), output: int = subprocess.DEVNULL
    ) -> None:
        self.words, self.temporary = [*map(str, words)], folder / "temporary"
        self.temporary.mkdir(parents=True, exist_ok=True)
        (folder / "lock").touch()
        self._errors = folder / f"errors-{time.monotonic_ns()}"
        with self._errors.open("wb") as errors:
            self.process = subprocess.Popen(
                [*before, sys.executable, "-m", *self.words],
                cwd=PROJECT,
                env=os.environ | {"TMPDIR": str(self.temporary), "ROSETTA_BENCHMARK_LOCK": str(folder / "lock")},
                stdin=subprocess.PIPE,  # which stays open, so that a program that reads it waits
                stdout=output,
                stderr=errors,
            )

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
        assert not self.runs_for(LONGEST), f"it hangs: {self.words}"
        wait_until(lambda: not alive(self.temporary), OUTLIVES, f"a process outlives {self.words}")
        status, text = self.process.returncode, "\n".join(self.lines())
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
        for process in [self.process, *alive(self.temporary)]:
            with suppress(psutil.NoSuchProcess):
                process.kill()
        with self.process:  # which closes its pipe
            pass
