"""How the program ends when something ends it, and that it begins where the system gives it little."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO, TextIOWrapper
from pathlib import Path

import pytest

from backends.process.parent import PROJECT
from common.terminal import run_to_the_end
from tests.program import wait_until, workers

TRANSLATE = [sys.executable, "-m", "rosetta", "translate", "--backend", "numpy"]
SENTENCE = "I love you!"
ENDING = [signal.SIGINT, signal.SIGTERM, signal.SIGHUP]

# A module that says that it is being imported, waits, and turns an interruption into another error.
SLOW = """
import time
print("importing", flush=True)
try:
    time.sleep(20)
except KeyboardInterrupt:
    raise ImportError("a part in C could not be imported")
"""


def no_thread() -> None:
    raise RuntimeError("can't start new thread")


REFUSED = {  # what a command does, and what its one line tells
    "memory": (lambda: bytearray(1 << 62), "the system gives this program no more memory or threads; end other"),
    "a thread": (no_thread, "the system gives this program no more memory or threads; end other programs, or raise"),
    "a character": (
        lambda: TextIOWrapper(BytesIO(), "ascii").write("Ça"),
        "the output's encoding, ascii, has no U+00C7; set PYTHONIOENCODING=utf-8. Files that were written are kept",
    ),
}


@pytest.mark.parametrize("what", REFUSED)
def test_what_the_system_does_not_give_is_one_line(what: str, capsys, monkeypatch) -> None:
    monkeypatch.setattr(signal, "signal", lambda number, handler: None)  # which are ignored in the end
    command, told = REFUSED[what]
    with pytest.raises(SystemExit) as ended:
        run_to_the_end(command)
    assert ended.value.code == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"rosetta: {told}")


@contextmanager
def started(command: list[str], temporary: Path, modules: Path | None = None) -> Iterator["subprocess.Popen[bytes]"]:
    """A program with a folder of its own for temporary files, and perhaps a folder of modules that come first."""
    pipe = subprocess.PIPE
    environment = os.environ | {"TMPDIR": str(temporary)} | ({"PYTHONPATH": str(modules)} if modules else {})
    with subprocess.Popen(command, cwd=PROJECT, env=environment, stdin=pipe, stdout=pipe, stderr=pipe) as program:
        try:
            yield program
        finally:
            program.kill()


@pytest.mark.parametrize("number", ENDING)
def test_signals_end_the_program_as_ctrl_c_does_and_nothing_is_left(number: signal.Signals, tmp_path) -> None:
    with started(TRANSLATE, tmp_path) as program:
        program.stdin.write(f"{SENTENCE}\n".encode())
        program.stdin.flush()
        assert program.stdout.readline()
        assert len(list(tmp_path.iterdir())) == 1, "the backend's process has a folder for temporary files"
        program.send_signal(number)
        assert program.communicate(timeout=20) == (b"", b"")
    assert program.returncode == 128 + number
    assert list(tmp_path.iterdir()) == []


def test_ctrl_c_ends_all_processes_that_are_being_started(tmp_path) -> None:
    with started([sys.executable, "-m", "rosetta", "backends"], tmp_path) as program:
        wait_until(lambda: workers(program))
        starting = workers(program)
        program.send_signal(signal.SIGINT)
        program.communicate(timeout=20)
    assert program.returncode == 128 + signal.SIGINT
    assert not any(worker.is_running() for worker in starting)
    assert list(tmp_path.iterdir()) == []


# As dataclasses have Python run a text when they are imported. Python ends itself by SIGINT if its own
# KeyboardInterrupt has ever ended such a text.
TEXT = "exec('import os, signal; os.kill(os.getpid(), signal.SIGTERM)')"


@pytest.mark.parametrize(
    ("module", "source", "status"),
    [("typer", SLOW, -signal.SIGINT), ("numpy", SLOW, 128 + signal.SIGINT), ("numpy", TEXT, 128 + signal.SIGTERM)],
    ids=["the program", "a command", "a text that a command runs"],
)
def test_a_signal_while_modules_are_imported_ends_without_a_word(module, source, status, tmp_path) -> None:
    (tmp_path / f"{module}.py").write_text(source)
    with started(TRANSLATE, tmp_path, tmp_path) as program:
        if source == SLOW:
            assert program.stdout.readline() == b"importing\n"
            program.send_signal(signal.SIGINT)
        assert program.communicate(timeout=20) == (b"", b"")
    assert program.returncode == status


def test_an_ignored_signal_stays_ignored(tmp_path) -> None:
    with started(["nohup", *TRANSLATE], tmp_path) as program:
        for _ in range(2):
            program.stdin.write(f"{SENTENCE}\n".encode())
            program.stdin.flush()
            assert program.stdout.readline()
            program.send_signal(signal.SIGHUP)
        program.communicate(timeout=20)
    assert program.returncode == 0


@pytest.mark.parametrize(
    ("command", "status", "printed", "said"),
    [
        ("{} <&-", 0, "Je t'aime\u202f!\n", ""),
        ("{} <&- >&- 2>&-", 0, "", ""),  # to closed streams nothing is written
        ("ulimit -n 8; {}", 2, "", "rosetta: the numpy backend's process cannot be started: Too many open files\n"),
    ],
)
def test_closed_streams_lead_to_nowhere_and_too_few_open_files_are_one_line(command, status, printed, said) -> None:
    command = command.format(f"{' '.join(TRANSLATE)} '{SENTENCE}'")
    done = subprocess.run(["sh", "-c", command], cwd=PROJECT, capture_output=True, text=True, check=False, timeout=60)
    assert (done.returncode, done.stdout, done.stderr) == (status, printed, said)
