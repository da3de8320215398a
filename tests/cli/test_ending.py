"""Ends by signals and closed streams, and starts where the system gives little."""

import signal
import subprocess
import sys
from io import BytesIO, TextIOWrapper

import pytest

from backends.process.parent import PROJECT
from common.terminal import run_to_the_end
from tests.support.program import started, wait_until, workers

TRANSLATE = ["translate", "--backend", "numpy"]
SENTENCE = "I love you!"
# A module that says that it is being imported, waits, and turns an interruption into another error.
SLOW = """
import time
print("importing", flush=True)
try:
    time.sleep(20)
except KeyboardInterrupt:
    raise ImportError("a part in C could not be imported")
"""
# As dataclasses have Python run a text when they are imported. Python ends itself by SIGINT if its own
# KeyboardInterrupt has ever ended such a text.
TEXT = "exec('import os, signal; os.kill(os.getpid(), signal.SIGTERM)')"


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


SIGNALS: dict[str, tuple[int, int, str, str]] = {  # a signal, the status, and a module of this name and source
    **{number.name: (number, 128 + number, "", "") for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)},
    "while the program is imported": (signal.SIGINT, -signal.SIGINT, "typer", SLOW),
    "while a command is imported": (signal.SIGINT, 128 + signal.SIGINT, "numpy", SLOW),
    "in a text that a command runs": (signal.SIGTERM, 128 + signal.SIGTERM, "numpy", TEXT),
    "that nohup ignores": (signal.SIGHUP, 0, "", ""),
}


@pytest.mark.parametrize("name", SIGNALS)
def test_a_signal_ends_the_program_silently_and_leaves_nothing(name: str, tmp_path) -> None:
    number, status, module, source = SIGNALS[name]
    if module:
        (tmp_path / f"{module}.py").write_text(source)
    before = ("nohup",) if "nohup" in name else ()
    places = {"TMPDIR": str(tmp_path), "PYTHONPATH": str(tmp_path)}
    with started(*TRANSLATE, text=False, before=before, **places) as program:
        if not module:
            program.stdin.write(f"{SENTENCE}\n".encode())
            program.stdin.flush()
            assert program.stdout.readline()
            assert len(list(tmp_path.iterdir())) == 1, "the backend's process has a folder for temporary files"
        elif source == SLOW:
            assert program.stdout.readline() == b"importing\n"
        if source != TEXT:
            program.send_signal(number)
        printed, said = program.communicate(SENTENCE.encode() if status == 0 else None, timeout=20)
    assert (program.returncode, bool(printed), said) == (status, status == 0, b"")
    assert module or list(tmp_path.iterdir()) == []


def test_ctrl_c_ends_all_processes_that_are_being_started(tmp_path) -> None:
    with started("backends", TMPDIR=str(tmp_path)) as program:
        wait_until(lambda: workers(program))
        starting = workers(program)
        program.send_signal(signal.SIGINT)
        program.communicate(timeout=20)
    assert program.returncode == 128 + signal.SIGINT
    assert not any(worker.is_running() for worker in starting)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("command", "status", "printed", "said"),
    [
        ("{} <&-", 0, "Je t'aime\u202f!\n", ""),
        ("{} <&- >&- 2>&-", 0, "", ""),  # to closed streams nothing is written
        ("ulimit -n 8; {}", 2, "", "rosetta: the numpy backend's process cannot be started: Too many open files\n"),
    ],
)
def test_closed_streams_are_accepted_and_few_open_files_refused(command, status, printed, said) -> None:
    command = command.format(f"{sys.executable} -m rosetta {' '.join(TRANSLATE)} '{SENTENCE}'")
    done = subprocess.run(["sh", "-c", command], cwd=PROJECT, capture_output=True, text=True, check=False, timeout=60)
    assert (done.returncode, done.stdout, done.stderr) == (status, printed, said)
