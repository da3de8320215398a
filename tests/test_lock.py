"""Two benchmarks do not run at once."""

import fcntl
import os
import re
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from backends.process.parent import PROJECT
from benchmarks.measure.lock import lock_path, only_benchmark
from common.errors import CannotBeginError

# A benchmark that says what it does and ends when its input does.
BENCHMARK = """
import sys
from benchmarks.measure.lock import only_benchmark
say = lambda text: print(text, flush=True)
with only_benchmark(lambda message: say("waits: " + message)):
    say("holds")
    sys.stdin.read()
say("released")
"""
Start = Callable[[], "subprocess.Popen[str]"]


@pytest.fixture
def start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Start]:
    """Starts benchmarks that share a directory for temporary files with this process."""
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr(tempfile, "tempdir", None)  # where the answer is kept
    started: list[subprocess.Popen[str]] = []

    def begin() -> "subprocess.Popen[str]":
        command = [sys.executable, "-c", BENCHMARK, "as planned"]
        pipe = subprocess.PIPE
        started.append(subprocess.Popen(command, cwd=PROJECT, stdin=pipe, stdout=pipe, stderr=pipe, text=True))
        return started[-1]

    yield begin
    for process in started:
        with process:  # which closes its pipes
            process.kill()


def line(process: "subprocess.Popen[str]") -> str:
    assert process.stdout
    return process.stdout.readline().strip()


def no_wait(message: str) -> None:
    pytest.fail(f"it waited: {message}")


def test_a_second_benchmark_says_who_holds_the_machine_and_waits(start: Start) -> None:
    first = start()
    assert line(first) == "holds"
    second = start()
    held = rf"another benchmark runs \(process {first.pid}, since \d{{4}}-\d\d-\d\d \d\d:\d\d:\d\d: -c 'as planned'\)"
    assert re.fullmatch(rf"waits: {held}; waiting for its end", line(second))
    with pytest.raises(CannotBeginError, match=held), only_benchmark(no_wait, wait=False):
        pass
    assert first.stdin
    first.stdin.close()
    assert line(first) == "released"
    assert line(second) == "holds"


def test_the_lock_of_a_killed_benchmark_is_free(start: Start) -> None:
    first = start()
    assert line(first) == "holds"
    second = start()
    assert line(second).startswith("waits")
    first.send_signal(signal.SIGKILL)
    assert line(second) == "holds"


def test_ctrl_c_ends_the_wait_and_leaves_the_lock(start: Start) -> None:
    first = start()
    assert line(first) == "holds"
    second = start()
    assert line(second).startswith("waits")
    second.send_signal(signal.SIGINT)
    assert second.wait(timeout=10) != 0
    assert second.stderr
    assert second.stderr.read().rstrip().endswith("KeyboardInterrupt")
    assert first.poll() is None
    with pytest.raises(CannotBeginError), only_benchmark(no_wait, wait=False):
        pass


@pytest.mark.usefixtures("start")
def test_the_lock_is_free_after_an_error_and_again_after_that() -> None:
    for _ in range(2):
        with pytest.raises(ZeroDivisionError), only_benchmark(no_wait, wait=False):
            raise ZeroDivisionError
    assert lock_path().stat().st_mode & 0o777 == 0o666  # for other users, whatever the umask


@pytest.mark.usefixtures("start")
def test_what_others_put_in_the_place_of_the_lock_is_left_alone(tmp_path: Path) -> None:
    valued, path = tmp_path / "valued", lock_path()
    valued.write_text("as it was")
    planted: list[Callable[[], object]] = [
        lambda: path.symlink_to(valued),
        lambda: path.symlink_to(tmp_path / "not there"),
        lambda: path.hardlink_to(valued),
        lambda: os.mkfifo(path),
        lambda: path.mkdir(),
    ]
    for put in planted:
        put()
        with pytest.raises(CannotBeginError, match=r"cannot lock .*; remove it"), only_benchmark(no_wait):
            pass
        path.rmdir() if path.is_dir() else path.unlink()
    assert valued.read_text() == "as it was"
    assert not (tmp_path / "not there").exists()


@pytest.mark.usefixtures("start")
def test_the_name_of_a_holder_cannot_write_over_the_terminal() -> None:
    path = lock_path()
    path.write_text("process 1\x1b[2J\nall is well")
    with path.open() as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        with (
            pytest.raises(CannotBeginError, match=re.escape("process 1?[2J all is well")),
            only_benchmark(no_wait, False),
        ):
            pass
