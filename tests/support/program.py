"""`rosetta` as a program: run, answered by, refused by."""

import io
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any
from unittest.mock import patch

import psutil

from backends.process.parent import PROJECT
from common.errors import RosettaError
from common.terminal import ENDING
from rosetta import main

LONGEST = 900  # seconds that a test waits for a program


def rosetta(*arguments: object, stdin: bytes = b"") -> tuple[int, str, str]:
    """Exit status, standard output, standard error. The program runs in this process, which has
    imported it already; its terminal has 80 columns."""
    out = io.TextIOWrapper(io.BytesIO(), "utf-8", newline="")
    err = io.TextIOWrapper(io.BytesIO(), "utf-8", "backslashreplace", newline="")
    handlers = {number: signal.getsignal(number) for number in ENDING}
    status: object = None
    with TemporaryFile() as given, io.TextIOWrapper(given, "utf-8") as text:
        given.write(stdin)
        given.seek(0)
        argv = ["rosetta", *map(str, arguments)]
        with (
            patch.multiple(sys, argv=argv, stdin=text, stdout=out, stderr=err),
            patch.dict(os.environ, {"COLUMNS": "80"}),
        ):
            try:
                main()
            except SystemExit as ended:
                status = ended.code
            finally:
                for number, handler in handlers.items():
                    signal.signal(number, handler)
    for stream in (out, err):
        stream.seek(0)
    return int(status or 0), out.read(), err.read()  # type: ignore[call-overload]


def answer(*arguments: object, stdin: bytes = b"") -> dict[str, Any]:
    """The JSON object on the last line of output."""
    status, out, err = rosetta(*arguments, "--json", stdin=stdin)
    assert status == 0, err
    answered: dict[str, Any] = json.loads(out.splitlines()[-1])
    return answered


def refusal(status: int, *arguments: object, stdin: bytes = b"") -> str:
    """The one line on standard error of a command that must end with this status."""
    got, _, err = rosetta(*arguments, stdin=stdin)
    assert got == status, err
    assert "Traceback" not in err
    lines = [line for line in err.splitlines() if line.strip()]
    assert len(lines) == 1, err
    return lines[0]


def one_line(error: RosettaError) -> str:
    """Return the message of an error. Raises AssertionError unless it is one printable line."""
    line = str(error)
    assert line.isprintable(), f"not one line that can be printed: {line[:1000]!r}"
    return line


def wait_until(
    what: Callable[[], object], seconds: float = 60.0, why: str = "waited in vain"
) -> None:
    end = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < end, why
        time.sleep(0.05)  # seconds; asking takes some of the processor that is waited for


def alive(temporary: Path) -> list[psutil.Process]:
    """Return the processes that have their temporary files there:
    programs and backends' processes."""
    living = []
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            if process.environ().get("TMPDIR", "").startswith(str(temporary)):
                living.append(process)
    return living


def is_backend(process: psutil.Process) -> bool:
    return any("backends.process.child" in word for word in process.cmdline())


def workers(program: "subprocess.Popen[Any]") -> list[psutil.Process]:
    """The backends' processes that live now; children of another kind come and go."""
    backends = []
    with suppress(psutil.NoSuchProcess):
        for child in psutil.Process(program.pid).children():
            with suppress(psutil.NoSuchProcess):
                backends += [child] if is_backend(child) else []
    return backends


class Started(subprocess.Popen[Any]):
    """A program with pipes, which is killed where it still runs at the end of a `with`."""

    def __exit__(self, *error: Any) -> None:
        self.kill()
        super().__exit__(*error)


def started(
    *arguments: object, module: str = "rosetta", text: bool = True, **variables: str
) -> Started:
    """The program in a process of its own, with variables besides those of this one."""
    command, pipe = [sys.executable, "-m", module, *map(str, arguments)], subprocess.PIPE
    environment = os.environ | variables
    return Started(
        command, cwd=PROJECT, env=environment, stdin=pipe, stdout=pipe, stderr=pipe, text=text
    )


def start_short(rounds: int, *arguments: object) -> Started:
    """A benchmark whose turns are short, which ends after so many rounds; see
    tests.support.short_bench."""
    return started(rounds, *arguments, module="tests.support.short_bench")


def short(rounds: int, *arguments: object) -> dict[str, Any]:
    """Run `start_short`'s benchmark, and return what --json prints."""
    program = start_short(rounds, "bench", *arguments, "--json")
    printed, said = program.communicate(timeout=LONGEST)
    assert program.returncode == 0, said
    answered: dict[str, Any] = json.loads(printed.splitlines()[-1])
    return answered
