"""Starts a group of workers on this machine by their framework's own launcher, and tells in one line what failed.

Each worker is the same `rosetta train`, without --workers. What it says goes into a log of its own; the first
worker's is passed on as it is written.
"""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from backends.engines import ENDING_SECONDS, ENGINES, LOST, engine_of, free_addresses
from backends.process.parent import PROJECT, OnEvent
from backends.process.scratch import scratch_folder
from common.errors import RosettaError
from common.text import printable

POLL_SECONDS = 0.1  # between two looks at the logs
PROGRAM = str(PROJECT / "rosetta.py")
LIFELINE = "ROSETTA_LIFELINE"  # set for workers whose standard input is open as long as whoever wants them lives
LAUNCHER = "launcher"  # the name of the log of torch's and of Paddle's launcher
FAILED = "rosetta: "  # begins the line in which a program says why it failed


def run_workers(backend: str, workers: int, arguments: Sequence[str], on_event: OnEvent) -> dict[str, Any]:
    """Run `rosetta` with these arguments as each worker of a group, and return the first one's JSON object.

    Emits each line that the first worker says before, as `line`. Raises RosettaError where a worker fails, once all
    others are ended.
    """
    with scratch_folder() as folder:
        command = [PROGRAM, *arguments, "--json"]
        logs = [_Log(folder, rank) for rank in range(workers)]
        with _launched(_commands(backend, workers, command, folder), folder) as launchers:
            while not any(launcher.poll() for launcher in launchers):
                done = all(launcher.poll() == 0 for launcher in launchers)
                for line in logs[0].new_lines():
                    if line.strip() and not line.startswith(("{", FAILED)):
                        on_event({"line": line})
                if done:
                    answer: dict[str, Any] = json.loads([line for line in logs[0].lines if line.startswith("{")][-1])
                    return answer
                time.sleep(POLL_SECONDS)
        for log in logs:
            log.new_lines()
        raise RosettaError(_launchers_words(launchers, folder, logs) or _why([log.lines for log in logs]))


def without_workers(arguments: Sequence[str]) -> list[str]:
    """The arguments of a command without its option --workers."""
    kept = [argument for argument in arguments if not argument.startswith("--workers=")]
    while "--workers" in kept:
        place = kept.index("--workers")
        del kept[place : place + 2]
    return kept


def _commands(backend: str, workers: int, command: list[str], folder: Path) -> list[tuple[list[str], dict[str, str]]]:
    """The launcher's command line, or those of all workers, and the variables to set for each."""
    engine, python = engine_of(backend), [sys.executable, "-P"]
    if engine.launcher:
        return [([*python, *engine.launcher(workers, folder), *command], {})]
    addresses = free_addresses(workers)  # without a launcher, workers want nothing but their addresses
    return [([*python, *command], engine.variables(rank, addresses)) for rank in range(workers)]


@contextmanager
def _launched(
    commands: list[tuple[list[str], dict[str, str]]], folder: Path
) -> Iterator[list[subprocess.Popen[bytes]]]:
    """Start the commands. In the end, whatever happens, nothing of what they started is left."""
    environment = {name: value for name, value in os.environ.items() if name not in NOT_FOR_WORKERS} | {
        "GLOO_SOCKET_IFNAME": "lo",  # so that torch's and Paddle's workers listen to this machine alone
        LIFELINE: "1",
        "OMP_NUM_THREADS": "1",  # of the launcher, which would warn; a worker's own are set by --threads
    }
    launchers: list[subprocess.Popen[bytes]] = []
    read, lifeline = os.pipe()  # nothing is written into it
    try:
        for number, (command, variables) in enumerate(commands):
            name = f"workerlog.{number}" if len(commands) > 1 else LAUNCHER
            with open(folder / name, "wb") as log:
                launchers.append(
                    subprocess.Popen(
                        command,
                        stdin=read,
                        stdout=log,
                        stderr=log,
                        env=environment | variables,
                        process_group=0,  # Ctrl-C reaches this program alone, which then ends the others
                    )
                )
        yield launchers
    finally:
        _end(launchers)
        os.close(read)
        os.close(lifeline)  # which ends the workers of a launcher that was killed


# The variables of a group that this program may be in, and that of GPUs: Paddle's launcher wants one for each worker.
NOT_FOR_WORKERS = {*(engine.joining for engine in ENGINES.values()), "CUDA_VISIBLE_DEVICES"}


def _end(launchers: list[subprocess.Popen[bytes]]) -> None:
    """Ask the launchers to end, which then end their workers."""
    for launcher in launchers:
        launcher.terminate()
    for launcher in launchers:
        try:
            launcher.wait(ENDING_SECONDS)
        except subprocess.TimeoutExpired:
            launcher.kill()
            launcher.wait()


def end_with_starter() -> None:
    """Have this program end as by SIGTERM, if it is a worker, when the program that started the group has ended."""

    def wait() -> None:
        os.read(0, 1)  # and not sys.stdin, whose lock the interpreter's end wants
        os.kill(os.getpid(), signal.SIGTERM)

    if LIFELINE in os.environ:
        threading.Thread(target=wait, daemon=True).start()


class _Log:
    """What one worker says, wherever its launcher writes it."""

    def __init__(self, folder: Path, rank: int) -> None:
        self.patterns = [f"*/attempt_0/{rank}/std*.log", f"workerlog.{rank}"]  # torchrun's, and the others'
        self.folder = folder
        self.read: dict[Path, int] = {}  # bytes that have been read of each file
        self.lines: list[str] = []

    def new_lines(self) -> list[str]:
        """The whole lines that were written since the last call."""
        found = []
        for path in sorted(path for pattern in self.patterns for path in self.folder.glob(pattern)):
            with open(path, "rb") as file:
                file.seek(self.read.get(path, 0))
                whole = file.read().rpartition(b"\n")[0]
            if whole:
                self.read[path] = self.read.get(path, 0) + len(whole) + 1
                found += [printable(line) for line in whole.decode(errors="replace").split("\n")]
        self.lines += found
        return found


def _launchers_words(launchers: list[subprocess.Popen[bytes]], folder: Path, logs: list[_Log]) -> str:
    """Why torch's or Paddle's launcher failed, where the workers had no part in it; else ""."""
    if not (folder / LAUNCHER).exists():
        return ""
    if (status := launchers[0].returncode) < 0:
        return f"the launcher of the workers was ended by signal {-status}"
    if any(log.lines for log in logs):
        return ""
    *_, words = "", *filter(str.strip, (folder / LAUNCHER).read_text(errors="replace").split("\n"))
    return f"the workers could not be started: {printable(words)}"


def _why(logs: list[list[str]]) -> str:
    """The one line that tells why a group failed.

    A worker that fails takes the others with it: they lose it, or the launcher ends them. So what the others say
    counts only where nobody says anything else and nobody is silent.
    """
    said = [next((line.removeprefix(FAILED) for line in lines if line.startswith(FAILED)), "") for lines in logs]
    for rank, words in enumerate(said):
        if words and not words.startswith((LOST, "interrupted")):
            return f"worker {rank} of {len(logs)} failed: {words}"
    if "" in said:
        return f"worker {said.index('')} of {len(logs)} was ended without a word"
    return f"worker 0 of {len(logs)} failed: {said[0]}"
