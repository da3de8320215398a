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
from tests.support.program import wait_until

LONGEST = 300.0  # timeout of any program, in seconds; an idle machine needs a third for a benchmark
OUTLIVES = 10.0  # seconds by which a backend's process may outlive its program: during an import it hears nothing


def alive(temporary: Path) -> list[psutil.Process]:
    """Return the processes that have their temporary files there: programs and backends' processes."""
    living = []
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            if process.environ().get("TMPDIR", "").startswith(str(temporary)):
                living.append(process)
    return living


class Program:
    """`rosetta`, or another module, which runs after words such as those of `prlimit`.

    A context manager that ends the program and its children. Temporary files and a benchmark's lock are in `folder`.
    Standard output goes nowhere, or to the descriptor `output`.
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
        """Wait so long. True if the program still runs then."""
        with suppress(subprocess.TimeoutExpired):
            self.process.wait(seconds)
        return self.process.poll() is None

    def ended(self, *allowed: int) -> int:
        """Wait for the end, and return the exit status: 0, 1, 2 or one of `others`.

        Raises AssertionError for any other status, for a program that hangs, for children that outlive it, for a
        traceback, for two lines of an error, and for a failure without a line.
        """
        assert not self.runs_for(LONGEST), f"it hangs: {self.words}"
        wait_until(lambda: not alive(self.temporary), OUTLIVES, f"a process outlives {self.words}")
        status, text = self.process.returncode, "\n".join(self.lines())
        assert not any(word in text for word in ("Traceback", "Exception ignored", "Error:")), text
        errors = sum(line.startswith("rosetta: ") for line in self.lines())
        as_it_should = errors == 1 if status in (1, 2) else errors <= 1 and status in (0, *allowed)
        assert as_it_should, f"status {status} of {self.words}: {text}"
        return status

    def lines(self) -> list[str]:
        """Return the lines on standard error."""
        return self._errors.read_text(encoding="utf-8", errors="replace").splitlines()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        for process in [self.process, *alive(self.temporary)]:
            with suppress(psutil.NoSuchProcess):
                process.kill()
        with self.process:  # which closes its pipe
            pass
