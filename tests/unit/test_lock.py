"""Two benchmarks do not run at once, whoever starts them."""

import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from backends.process.parent import PROJECT
from benchmarks.measure.machine import PLACE, only_benchmark
from common.errors import CannotBeginError
from tests.support.program import refusal

# A benchmark that says what it does and ends when its input does.
BENCHMARK = """
import sys
from benchmarks.measure.machine import only_benchmark
say = lambda text: print(text, flush=True)
with only_benchmark(lambda message: say("waits: " + message)):
    say("holds")
    sys.stdin.read()
say("released")
"""
Start = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture
def start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Start]:
    """Starts benchmarks that share a lock with this process."""
    started: list[subprocess.Popen[str]] = []
    monkeypatch.setenv(PLACE, str(tmp_path / "lock"))

    def begin() -> "subprocess.Popen[str]":
        command, pipe = [sys.executable, "-c", BENCHMARK], subprocess.PIPE
        started.append(subprocess.Popen(command, cwd=PROJECT, stdin=pipe, stdout=pipe, stderr=pipe, text=True))
        return started[-1]

    yield begin
    for process in started:
        with process:  # which closes its pipes
            process.kill()


def line(process: "subprocess.Popen[str]") -> str:
    return process.stdout.readline().strip()


def no_wait(message: str) -> None:
    raise CannotBeginError(message)


def test_a_second_benchmark_waits_for_the_end_of_the_first(start: Start) -> None:
    first = start()
    assert line(first) == "holds"
    second, third = start(), start()
    waits = "another benchmark runs; waiting for its end"
    for waiting in (second, third):
        assert line(waiting) == f"waits: {waits}"
    with pytest.raises(CannotBeginError, match=re.escape(waits)), only_benchmark(no_wait):
        pass
    third.send_signal(signal.SIGINT)  # Ctrl-C ends the wait and leaves the lock
    assert third.wait(timeout=10) != 0
    assert third.stderr.read().rstrip().endswith("KeyboardInterrupt")
    assert first.poll() is None
    first.send_signal(signal.SIGKILL)
    assert line(second) == "holds"
    second.stdin.close()
    assert line(second) == "released"


def test_a_lock_that_cannot_be_had_is_refused_and_an_error_frees_it(tmp_path: Path, monkeypatch) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv(PLACE, str(tmp_path / "file" / "lock"))
    with pytest.raises(CannotBeginError, match=f"cannot be locked: .*; let {PLACE} name"), only_benchmark(no_wait):
        pass
    monkeypatch.setenv(PLACE, str(tmp_path / "lock"))
    for _ in range(2):
        with pytest.raises(ZeroDivisionError), only_benchmark(no_wait):
            raise ZeroDivisionError


def test_nothing_is_measured_beside_another_benchmark(tmp_path: Path, monkeypatch) -> None:
    path = tmp_path / "a.jsonl"
    monkeypatch.setenv(PLACE, str(tmp_path / "lock"))
    monkeypatch.setattr("common.terminal.warn", no_wait)
    with only_benchmark(no_wait):
        assert "another benchmark runs" in refusal(2, "bench", "--backends", "numpy", "--out", path)
        assert not path.exists()
