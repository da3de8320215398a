"""Ends by signals, and starts where the system gives little."""

import os
import shlex
import signal
import subprocess
import sys
from pathlib import Path
from subprocess import PIPE
from unittest.mock import patch

import pytest

from backends.process.parent import PROJECT
from common.files import UNFINISHED, new_folder, scratch_folder
from common.terminal import run_to_the_end
from tests.support.program import Started, refusal, started, wait_until, workers

TRANSLATE = ["translate", "--backend", "numpy"]
SENTENCE = "I love you!"
# A module that says that it is being imported, and waits.
SLOW = """
import time
print("importing", flush=True)
time.sleep(20)
"""


def no_thread() -> None:
    raise RuntimeError("can't start new thread")


REFUSED = {  # what a command does, and what its one line tells
    "memory": (
        lambda: bytearray(1 << 62),
        "the system gives this program no more memory or threads; end other",
    ),
    "a thread": (
        no_thread,
        "the system gives this program no more memory or threads; end other programs, or raise",
    ),
}


@pytest.mark.parametrize("what", REFUSED)
def test_what_the_system_does_not_give_is_one_line(what: str, capsys, monkeypatch) -> None:
    # Which are ignored in the end.
    monkeypatch.setattr(signal, "signal", lambda number, handler: None)
    command, told = REFUSED[what]
    with pytest.raises(SystemExit) as ended:
        run_to_the_end(command)
    assert ended.value.code == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"rosetta: {told}")


SIGNALS: dict[str, tuple[int, int, str]] = {  # a signal, the status, and a module that is SLOW
    **{number.name: (number, 128 + number, "") for number in (signal.SIGINT, signal.SIGTERM)},
    "while a command is imported": (signal.SIGINT, 128 + signal.SIGINT, "numpy"),
}


@pytest.mark.parametrize("name", SIGNALS)
def test_a_signal_ends_the_program_silently_and_leaves_nothing(name: str, tmp_path) -> None:
    number, status, module = SIGNALS[name]
    if module:
        (tmp_path / f"{module}.py").write_text(SLOW)
    places = {"TMPDIR": str(tmp_path), "PYTHONPATH": str(tmp_path)}
    with started(*TRANSLATE, text=False, **places) as program:
        if not module:
            program.stdin.write(f"{SENTENCE}\n".encode())
            program.stdin.flush()
            assert program.stdout.readline()
            assert len(list(tmp_path.iterdir())) == 1, (
                "the backend's process has a folder for temporary files"
            )
        else:
            assert program.stdout.readline() == b"importing\n"
        program.send_signal(number)
        printed, said = program.communicate(timeout=20)
    assert (program.returncode, printed, said) == (status, b"", b"")
    assert module or list(tmp_path.iterdir()) == []


# A program that holds a temporary file and folder beside its results, and one for temporary files.
HOLDS = """
from pathlib import Path
from common.files import new_folder, scratch_folder, write_atomically

def pieces():
    with new_folder(Path("run")) as folder, scratch_folder() as scratch:
        (folder / "weights").touch()
        (scratch / "compiled").touch()
        print("held", flush=True)
        input()
        yield b""

write_atomically(Path("page.html"), pieces())
"""


def test_what_a_kill_leaves_goes_with_the_next_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def left() -> int:
        return len([*tmp_path.glob(f".*{UNFINISHED}")])

    def next_command() -> None:
        with scratch_folder():
            pass

    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    (tmp_path / "rosetta-main").mkdir()  # another's
    os.mkfifo(tmp_path / f".pipe{UNFINISHED}")  # which nobody writes
    program = [sys.executable, "-c", HOLDS]
    environment = {"PYTHONPATH": str(PROJECT), "TMPDIR": str(tmp_path)}
    with Started(program, cwd=tmp_path, env=environment, stdin=PIPE, stdout=PIPE) as living:
        assert living.stdout.readline() == b"held\n"
        next_command()
        assert left() == 3, "a living process keeps what it holds"
        living.kill()
        living.wait()
        assert left() == 3
        next_command()
    assert [path.name for path in tmp_path.iterdir()] == ["rosetta-main"]


def test_a_temporary_folder_that_was_taken_for_left_is_made_again(tmp_path: Path) -> None:
    made, mkdir = [], Path.mkdir

    def taken_once(path: Path) -> None:
        mkdir(path)
        made.append(path)
        if len(made) == 1:
            path.rmdir()

    with patch.object(Path, "mkdir", taken_once), new_folder(tmp_path / "run") as folder:
        assert (folder.is_dir(), folder) == (True, made[1])
    assert [path.name for path in tmp_path.iterdir()] == ["run"]


def test_ctrl_c_ends_all_processes_that_are_being_started(tmp_path) -> None:
    with started("backends", TMPDIR=str(tmp_path)) as program:
        wait_until(lambda: workers(program))
        starting = workers(program)
        program.send_signal(signal.SIGINT)
        program.communicate(timeout=20)
    assert program.returncode == 128 + signal.SIGINT
    assert not any(worker.is_running() for worker in starting)
    assert list(tmp_path.iterdir()) == []


def test_a_removed_working_folder_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    said = "rosetta: the working folder: No such file or directory"
    assert refusal(1, "carry", "a", "--to", "torch", "--like", "b", "-o", "c.pt") == said


@pytest.mark.parametrize(
    ("closed", "command", "status", "printed", "said"),
    [
        ("<&-", ["translate", SENTENCE, "--backend", "numpy"], 0, "Je t'aime", ""),
        ("<&-", ["translate", "--backend", "numpy"], 0, "", ""),
        (">&-", ["backends", "numpy"], 0, "", ""),
        (">&-", ["translate", SENTENCE, "--backend", "numpy"], 0, "", ""),
        ("<&- >&-", ["evaluate", "nowhere"], 2, "", "rosetta: "),
        ("<&- >&- 2>&-", ["translate", SENTENCE, "--backend", "numpy"], 0, "", ""),
    ],
)
def test_a_closed_stream_is_nowhere(
    closed: str, command: list[str], status: int, printed: str, said: str
) -> None:
    line = f"{shlex.join([sys.executable, '-m', 'rosetta', *command])} {closed}"
    done = subprocess.run(
        ["sh", "-c", line], cwd=PROJECT, capture_output=True, text=True, check=False, timeout=60
    )
    assert (done.returncode, printed in done.stdout, said in done.stderr) == (status, True, True), (
        done
    )
    assert "Traceback" not in done.stderr
    assert bool(done.stderr) == bool(said)


def test_few_open_files_are_refused() -> None:
    command = (
        f"ulimit -n 8; {shlex.quote(sys.executable)} -m rosetta {' '.join(TRANSLATE)} '{SENTENCE}'"
    )
    done = subprocess.run(
        ["sh", "-c", command], cwd=PROJECT, capture_output=True, text=True, check=False, timeout=60
    )
    said = "rosetta: the numpy backend's process cannot be started: Too many open files\n"
    assert (done.returncode, done.stdout, done.stderr) == (2, "", said)
