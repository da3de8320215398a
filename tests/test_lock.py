"""Two benchmarks do not run at once, whoever starts them, and two processes do not write one recording."""

import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from backends.process.parent import PROJECT
from benchmarks.measure.lock import PLACE, holder_of, lock_path, only_benchmark, only_writer
from benchmarks.measure.recording import refuse_existing
from common.errors import CannotBeginError
from tests.program import refusal

# A benchmark that says what it does and ends when its input does. Its first argument may be the id of another user.
BENCHMARK = """
import os, sys
from benchmarks.measure.lock import only_benchmark
say = lambda text: print(text, flush=True)
if sys.argv[1:] and sys.argv[1].isdecimal():
    os.setuid(int(sys.argv[1]))
with only_benchmark(lambda message: say("waits: " + message)):
    say("holds")
    sys.stdin.read()
say("released")
"""
NOBODY = "65534"  # id of a user without rights
Start = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture
def start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Start]:
    """Starts benchmarks that share a lock with this process and have temporary folders of their own."""
    (tmp_path / "lock").touch()
    monkeypatch.setenv(PLACE, str(tmp_path / "lock"))
    started: list[subprocess.Popen[str]] = []

    def begin(*arguments: str) -> "subprocess.Popen[str]":
        temporary = tmp_path / str(len(started))
        temporary.mkdir()
        command, environment = [sys.executable, "-c", BENCHMARK, *arguments], os.environ | {"TMPDIR": str(temporary)}
        pipe = subprocess.PIPE
        started.append(
            subprocess.Popen(command, cwd=PROJECT, env=environment, stdin=pipe, stdout=pipe, stderr=pipe, text=True)
        )
        return started[-1]

    yield begin
    for process in started:
        with process:  # which closes its pipes
            process.kill()


def line(process: "subprocess.Popen[str]") -> str:
    return process.stdout.readline().strip()


def no_wait(message: str) -> None:
    pytest.fail(f"it waited: {message}")


def test_a_second_benchmark_says_who_holds_the_machine_and_waits_until_the_first_ends_or_is_killed(
    start: Start,
) -> None:
    first = start("as planned")
    assert line(first) == "holds"
    second, third = start(), start()
    holder = rf"process {first.pid} of \w+, since \d{{4}}-\d\d-\d\d \d\d:\d\d:\d\d: \S+ -c "
    for other in (second, third):
        assert re.match(rf"waits: another benchmark runs \({holder}", said := line(other))
        assert said.endswith("waiting for its end")
    with pytest.raises(CannotBeginError, match=holder), only_benchmark(no_wait, wait=False):
        pass
    third.send_signal(signal.SIGINT)  # Ctrl-C ends the wait and leaves the lock
    assert third.wait(timeout=10) != 0
    assert third.stderr.read().rstrip().endswith("KeyboardInterrupt")
    assert first.poll() is None
    first.send_signal(signal.SIGKILL)
    assert line(second) == "holds"
    fourth = start()
    assert line(fourth).startswith(f"waits: another benchmark runs (process {second.pid} ")
    second.stdin.close()
    assert line(second) == "released"
    assert line(fourth) == "holds"


def test_the_lock_is_in_a_place_that_only_the_administrator_changes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(PLACE)
    path = lock_path()
    assert path == lock_path().resolve()
    found = path.stat()
    assert (found.st_uid, found.st_mode & 0o022) == (0, 0)  # neither its group nor others may write there


@pytest.mark.skipif(os.getuid() != 0, reason="only root starts processes of other users")
def test_another_user_waits_and_cannot_free_the_lock(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    with TemporaryDirectory(dir="/tmp") as folder:  # pytest's own are closed to other users
        os.chmod(folder, 0o755)
        monkeypatch.setenv(PLACE, folder)
        first = start()
        assert line(first) == "holds"
        other = start(NOBODY)
        assert line(other).startswith(f"waits: another benchmark runs (process {first.pid} of root, ")
        other.kill()
        with pytest.raises(CannotBeginError, match=f"process {first.pid} "), only_benchmark(no_wait, wait=False):
            pass


def test_a_place_that_cannot_be_opened_is_named_and_an_error_frees_the_lock(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setenv(PLACE, str(tmp_path / "lock"))
    with pytest.raises(CannotBeginError, match=f"cannot lock .*; let {PLACE} name"), only_benchmark(no_wait):
        pass
    (tmp_path / "lock").touch()
    for _ in range(2):
        with pytest.raises(ZeroDivisionError), only_benchmark(no_wait, wait=False):
            raise ZeroDivisionError


def test_the_command_of_a_holder_cannot_write_over_the_terminal(tmp_path: Path) -> None:
    with (tmp_path / "free").open("w") as file:
        assert holder_of(file.fileno()) == "not known"
    code = "import fcntl, sys; file = open(sys.argv[2]); fcntl.flock(file, fcntl.LOCK_EX); input(print(flush=True))"
    with (tmp_path / "lock").open("w") as file:
        command = [sys.executable, "-c", code, "\x1b[2J\nall is well", file.name]
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as holder:
            line(holder)
            said = holder_of(file.fileno())
            holder.kill()
    assert f" '?[2J all is well' {file.name}" in said
    assert said.isprintable()


@pytest.mark.parametrize("command", ["bench", "sweep"])
def test_a_recording_that_another_process_writes_is_not_written(tmp_path: Path, command: str) -> None:
    """Even if it holds another lock of the machine, as on another machine that shares the disk."""
    path = tmp_path / "a.jsonl"
    path.write_bytes(b"as it was\n")
    with only_writer(path, new=False):
        said = refusal(2, command, "--resume", "--out", path)
        assert f"another benchmark writes {path} (process {os.getpid()} of " in said
    assert path.read_bytes() == b"as it was\n"
    assert "is no line of" in refusal(1, command, "--resume", "--out", path), "the lock is free again"


def test_a_new_recording_replaces_nothing_and_leaves_no_empty_file(tmp_path: Path) -> None:
    path = tmp_path / "folder" / "a.jsonl"
    with only_writer(path, new=True):
        assert path.read_bytes() == b""
        with pytest.raises(CannotBeginError, match="another benchmark writes"), only_writer(path, new=True):
            pass
        assert path.exists()
    assert not path.exists()
    with pytest.raises(CannotBeginError, match="No such file"), only_writer(path, new=False):
        pass
    path.touch()  # the empty file of a killed benchmark, which is no recording
    refuse_existing(path)
    with only_writer(path, new=False):
        pass
    assert path.exists()
    with only_writer(path, new=True):
        path.write_bytes(b"as it was")
    with pytest.raises(CannotBeginError, match="exists already"), only_writer(path, new=True):
        pass
    assert path.read_bytes() == b"as it was"
