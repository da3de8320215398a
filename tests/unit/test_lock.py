"""Two benchmarks do not run at once, whoever starts them, and two processes do not write one recording."""

import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from pathlib import Path

import pytest

from backends.process.parent import PROJECT
from benchmarks.measure import bench, machine
from benchmarks.measure.machine import PLACE, only_benchmark
from benchmarks.measure.recording import only_writer, refuse_existing
from common.errors import CannotBeginError
from common.files import holder_of
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
    monkeypatch.setenv(PLACE, str(tmp_path))

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
    waits = f"another benchmark runs (process {first.pid}); waiting for its end"
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


def test_the_lock_lies_where_only_root_can_move_it(tmp_path: Path, monkeypatch) -> None:
    places: list[Path] = []
    with monkeypatch.context() as context:
        context.delenv(PLACE)
        context.setattr(machine, "locked", lambda place, *also, **more: places.append(place) or nullcontext())
        with only_benchmark(no_wait):  # a real one may hold it
            pass
    root = Path("/").stat()
    assert (places, root.st_uid, root.st_mode & 0o022) == ([Path("/")], 0, 0)
    with (tmp_path / "free").open("w") as file:
        assert holder_of(file.fileno()) == "which process is not known"
    monkeypatch.setenv(PLACE, str(tmp_path / "lock"))
    with pytest.raises(CannotBeginError, match=f"cannot be opened: .*; let {PLACE} name"), only_benchmark(no_wait):
        pass
    (tmp_path / "lock").touch()
    for _ in range(2):
        with pytest.raises(ZeroDivisionError), only_benchmark(no_wait):
            raise ZeroDivisionError  # which frees it


def test_what_another_process_measures_or_writes_is_left_alone(tmp_path: Path, monkeypatch) -> None:
    """A recording is not even read before it is one's own, or its next round would be measured twice."""
    path = tmp_path / "a.jsonl"
    monkeypatch.setenv(PLACE, str(tmp_path))
    monkeypatch.setattr("common.terminal.warn", no_wait)
    with only_benchmark(no_wait):
        assert "another benchmark runs" in refusal(2, "bench", "--backends", "numpy", "--out", path)
        assert not path.exists()
    path.write_bytes(b"as it was\n")
    with only_writer(path, new=False):  # even if its machine's lock is another one, as on a disk of several machines
        said = refusal(2, "bench", "--resume", "--out", path)
        assert f"another benchmark writes {path} (process {os.getpid()})" in said
    assert path.read_bytes() == b"as it was\n"
    assert "a.jsonl is damaged" in refusal(1, "bench", "--resume", "--out", path), "the locks are free again"

    def opened(*also: object) -> None:
        for lock in (only_benchmark(no_wait), only_writer(path, new=False)):
            with pytest.raises(CannotBeginError, match="another benchmark"), lock:
                pass
        raise CannotBeginError("both are held")

    monkeypatch.setattr(bench, "opened_benchmark", opened)
    assert "both are held" in refusal(2, "bench", "--resume", "--out", path)


def test_a_new_recording_replaces_nothing_and_is_never_empty(tmp_path: Path) -> None:
    path = tmp_path / "folder" / "a.jsonl"
    with only_writer(path, new=True):
        assert path.read_bytes() == b""
        with pytest.raises(CannotBeginError, match="another benchmark writes"), only_writer(path, new=True):
            pass
    assert not path.exists()
    with pytest.raises(CannotBeginError, match="No such file"), only_writer(path, new=False):
        pass
    path.touch()  # the empty file of a killed benchmark, which is no recording
    refuse_existing(path)
    with only_writer(path, new=True):
        path.write_bytes(b"as it was")
    with pytest.raises(CannotBeginError, match="exists already"), only_writer(path, new=True):
        pass
    assert path.read_bytes() == b"as it was"
