"""One process at a time writes a run, and what killed processes leave behind is removed."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from backends.process.parent import PROJECT
from common import run_directory
from common.errors import CannotBeginError
from common.files import UNFINISHED, new_folder
from common.run_directory import RunDirectory
from tests.small_run import FILES, contents, create, epoch_of, state_of, write

# Each says that it is ready and ends when its input does.
HOLDS_THE_LOCK = """
with RunDirectory.open(path).only_writer():
    wait()
"""
MAKES_A_RUN = """
with new_folder(Path(path)) as beside:
    (beside / "config.json").write_text("half")
    wait()
"""
SAVES_AN_EPOCH = """
os.replace = lambda *names: wait()
RunDirectory.open(path).write_epoch(state_of(4), epoch_of(4, 0.5), step=40)
"""
PROGRAM = """
import os, sys
from pathlib import Path
from common.files import new_folder
from common.run_directory import RunDirectory
from tests.small_run import epoch_of, state_of
path = sys.argv[1]
def wait():
    print("ready", flush=True)
    sys.stdin.read()
"""
Start = Callable[[str, Path], "subprocess.Popen[str]"]


pytestmark = pytest.mark.usefixtures("known_machine")


@pytest.fixture
def start() -> Iterator[Start]:
    """Starts one of these programs and waits until it is ready."""
    started: list[subprocess.Popen[str]] = []

    def begin(program: str, path: Path) -> "subprocess.Popen[str]":
        command, pipe = [sys.executable, "-c", PROGRAM + program, str(path)], subprocess.PIPE
        started.append(subprocess.Popen(command, cwd=PROJECT, stdin=pipe, stdout=pipe, text=True))
        assert started[-1].stdout.readline() == "ready\n"
        return started[-1]

    yield begin
    for process in started:
        with process:  # which closes its pipes
            process.kill()


def kill(process: "subprocess.Popen[str]") -> None:
    process.send_signal(signal.SIGKILL)
    process.wait(timeout=10)


@pytest.fixture
def run(tmp_path: Path) -> RunDirectory:
    run = create(tmp_path / "run")
    write(run, [3.0, 1.0, 2.0])
    return run


def test_a_second_writer_is_refused_until_the_first_ends_even_by_a_kill(
    run: RunDirectory, start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    holder = start(HOLDS_THE_LOCK, run.path)
    before = contents(run.path)
    with monkeypatch.context() as patch:
        patch.setattr(run_directory, "LOCK_SECONDS", 0.1)
        with pytest.raises(CannotBeginError) as refused, run.only_writer():
            pass
    expected = f"another process is training {run.path}; wait for its end, or train a copy of the folder"
    assert str(refused.value) == expected
    assert contents(run.path) == before
    kill(holder)
    for _ in range(2):
        with run.only_writer():
            assert run.begin()[1].epoch == 3
    assert sorted(os.listdir(run.path)) == FILES


def test_a_run_that_is_written_is_read_and_not_mended(run: RunDirectory, start: Start) -> None:
    holder = start(HOLDS_THE_LOCK, run.path)
    old = (run.path / "best.safetensors").read_bytes()
    run.write_epoch(state_of(4), epoch_of(4, 0.5), step=40)
    (run.path / "best.safetensors").write_bytes(old)
    (run.path / f".state.safetensors.abcdefgh{UNFINISHED}").write_bytes(b"half")
    before = contents(run.path)
    assert RunDirectory.open(run.path).read_state("best")[1].epoch == 4
    assert contents(run.path) == before
    kill(holder)
    RunDirectory.open(run.path)
    assert sorted(os.listdir(run.path)) == FILES


def test_the_file_of_a_killed_save_is_removed_when_the_run_is_opened(run: RunDirectory, start: Start) -> None:
    (run.path / f".trouble.json.abcdefgh{UNFINISHED}").write_bytes(b"half")
    before = contents(run.path)
    kill(start(SAVES_AN_EPOCH, run.path))
    (left,) = contents(run.path).keys() - before.keys()
    assert left.startswith(".state.safetensors.")
    assert left.endswith(UNFINISHED)
    RunDirectory.open(run.path)
    assert sorted(os.listdir(run.path)) == FILES
    assert len(run.history()) == 3


@pytest.mark.parametrize("again", [create, RunDirectory.open], ids=["made", "opened"])
def test_the_folder_of_a_killed_process_is_removed_and_that_of_a_living_one_is_not(
    tmp_path: Path, start: Start, again: Callable[[Path], RunDirectory]
) -> None:
    path = tmp_path / "[run]"
    killed, _ = start(MAKES_A_RUN, path), start(MAKES_A_RUN, path)
    folders = sorted(os.listdir(tmp_path))
    assert len(folders) == 2
    assert all(name.startswith(".[run].") and name.endswith(UNFINISHED) for name in folders)
    kill(killed)
    assert sorted(os.listdir(tmp_path)) == folders
    if again == RunDirectory.open:
        create(tmp_path / "other").path.rename(path)
    again(path)
    found = sorted(os.listdir(tmp_path))
    assert found == [found[0], "[run]"]
    assert found[0] in folders


def test_a_folder_that_was_made_in_the_meantime_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "run"
    with pytest.raises(CannotBeginError, match="run cannot be made: Directory not empty"), new_folder(path):
        create(path)
    assert sorted(os.listdir(tmp_path)) == ["run"]
    assert sorted(os.listdir(path)) == FILES
