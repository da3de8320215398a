"""Programs that are attacked: started in a place of their own, ended, and looked after by what they leave there."""

import os
import resource
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import psutil

from backends.process.parent import PROJECT
from common.ending import ENDING
from tests.program import wait_until, workers
from tests.saves import temporary_files

LONGEST = 120.0  # seconds that any program is waited for
OUTLIVES = 10.0  # seconds by which a worker may outlive its program: while it imports a framework it hears nothing


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
        variables = {"TMPDIR": str(self.temporary), "ROSETTA_BENCHMARK_LOCK": str(folder / "lock")}
        self.environment = os.environ | variables

    def start(self, *arguments: object, module: str = "rosetta", output: int | None = None) -> Victim:
        return Victim([sys.executable, "-m", module, *map(str, arguments)], self, output)

    def does(self, *arguments: object, module: str = "rosetta") -> None:
        """Run a program to its end, which must be a success."""
        with self.start(*arguments, module=module) as victim:
            assert victim.status() == 0, victim.said()

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


def _dies_as_usual() -> None:
    """Of signals that whoever started the attack ignores, as `nohup` does, and without a core, which is large."""
    for number in ENDING:
        signal.signal(number, signal.SIG_DFL)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
