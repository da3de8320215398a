"""Programs that are attacked: started in a place of their own, ended, and looked after by what they leave there."""

import os
import resource
import signal
import subprocess
import sys
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import psutil

from backends.process.parent import PROJECT
from common.ending import ENDING
from common.run_directory import Epoch, RunDirectory
from tests.program import wait_until, workers
from tests.saves import temporary_files
from tests.small_run import FILES

LONGEST = 120.0  # seconds that any program is waited for
OUTLIVES = 10.0  # seconds by which a worker may outlive its program: while it imports a framework it hears nothing
# A small run, of which a second of training has many epochs.
SMALL = ["--num-samples", "200", "--latent-dim", "16", "--threads", "1"]
# Benchmarks of the quickest backends; so wide an interval that the fewest rounds are enough.
BENCH = ["bench", "--within", "1000%", "--budget", "10m", *SMALL]
HERE_TOO = ["--python", f"numpy={sys.executable}"]
NUMPY_TWICE = ["--backends", "numpy", *HERE_TOO]


class Victim:
    """A program that runs in a place; its standard output goes nowhere, if not told otherwise."""

    def __init__(self, command: list[str], place: "Place", output: int | None) -> None:
        self.command, self.place = command, place
        self.said_at = place.folder / "said"
        with self.said_at.open("wb") as said:
            self.process = subprocess.Popen(
                command,
                cwd=PROJECT,
                env=place.environment,
                stdin=subprocess.PIPE,  # which stays open, so that a program that reads it waits
                stdout=subprocess.DEVNULL if output is None else output,
                stderr=said,
                preexec_fn=_dies_as_usual,
            )

    def workers(self) -> list[psutil.Process]:
        return workers(self.process)

    def runs_for(self, seconds: float) -> bool:
        """Wait so long; whether the program still runs."""
        with suppress(subprocess.TimeoutExpired):
            self.process.wait(seconds)
        return self.process.poll() is None

    def status(self, seconds: float = LONGEST) -> int:
        """The exit status. Raises AssertionError for a program that hangs, or whose workers do after its end."""
        try:
            status = self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            self.process.kill()
            raise AssertionError(f"it hangs: {self.command}") from None
        wait_until(lambda: not self.place.alive(), OUTLIVES, f"a process outlives {self.command}")
        return status

    def said(self) -> list[str]:
        """The lines on standard error. Raises AssertionError for a traceback, and for two lines of an error."""
        text = self.said_at.read_text(encoding="utf-8", errors="replace")
        assert not any(word in text for word in ("Traceback", "Exception ignored", "Error:")), text
        assert sum(line.startswith("rosetta: ") for line in text.splitlines()) <= 1, text
        return text.splitlines()

    def __enter__(self) -> "Victim":
        return self

    def __exit__(self, *error: object) -> None:
        """End it and its workers, whatever happened."""
        alive = self.place.alive()
        self.process.kill()
        for process in alive:
            with suppress(psutil.NoSuchProcess):
                process.kill()
        with self.process:  # which closes its pipe
            pass


class Place:
    """A folder with one for temporary files, which may be elsewhere, and a benchmark's lock."""

    def __init__(self, folder: Path, temporary: Path | None = None) -> None:
        self.folder, self.temporary = folder, temporary or folder / "temporary"
        folder.mkdir(parents=True, exist_ok=True)
        self.temporary.mkdir()
        (folder / "lock").touch()
        self.environment = os.environ | {
            "TMPDIR": str(self.temporary),
            "ROSETTA_BENCHMARK_LOCK": str(folder / "lock"),
        }

    def start(self, *arguments: object, module: str = "rosetta", output: int | None = None) -> Victim:
        return Victim([sys.executable, "-m", module, *map(str, arguments)], self, output)

    def start_short(self, rounds: int, *arguments: object) -> Victim:
        """A benchmark whose visits are short, which ends after so many rounds."""
        return self.start(rounds, *arguments, module="tests.short_bench")

    def does(self, *arguments: object, status: int = 0) -> list[str]:
        """Run `rosetta` to its end, which must have this status; returns what it said on standard error."""
        with self.start(*arguments) as victim:
            found = victim.status()
            said = victim.said()
            assert found == status, f"status {found} of {victim.command}: {said}"
        return said

    def alive(self) -> list[psutil.Process]:
        """The processes that live now and have their temporary files here: programs and their workers."""
        found = []
        for process in psutil.process_iter():
            with suppress(psutil.Error):
                if process.environ().get("TMPDIR", "").startswith(str(self.temporary)):
                    found.append(process)
        return found

    def assert_nothing_temporary(self) -> None:
        """That the next program which has temporary files leaves none, neither of its own nor of killed ones.

        But for an empty file of eight letters: Python makes one where it looks for a folder for temporary files.
        """
        temporary_files(self.temporary)
        left = [path for path in self.temporary.iterdir() if len(path.name) != 8 or path.stat().st_size]
        assert not left, left


def figures(run: RunDirectory) -> list[Epoch]:
    """The history without what differs each time."""
    return [replace(epoch, seconds=0.0) for epoch in run.history()]


def assert_same_run(found: Path, whole: Path) -> None:
    """That a run is what it would be if nothing had ended a program or filled a disk."""
    assert figures(RunDirectory.open(found)) == figures(RunDirectory.open(whole))
    assert sorted(os.listdir(found)) == FILES
    for name in set(FILES) - {"history.jsonl", "machine.json"}:
        assert (found / name).read_bytes() == (whole / name).read_bytes(), f"{name} has other bytes"


def _dies_as_usual() -> None:
    """Of signals that whoever started the attack ignores, as `nohup` does, and without a core, which is large."""
    for number in ENDING:
        signal.signal(number, signal.SIG_DFL)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
