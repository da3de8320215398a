"""One process at a time writes a run, and what killed processes leave behind is removed."""

import os
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
from tests.small_run import FILES, NEW_FILES, contents, create, write

# Each says that it is ready and ends when its input does.
PROGRAM = """
import sys
from pathlib import Path
from common.files import new_folder
from common.run_directory import RunDirectory
path = sys.argv[1]
def wait():
    print("ready", flush=True)
    sys.stdin.read()
"""
HOLDS_THE_LOCK = f"""{PROGRAM}
with RunDirectory.open(path).only_writer():
    wait()
"""
MAKES_A_RUN = f"""{PROGRAM}
with new_folder(Path(path)) as beside:
    (beside / "config.json").write_text("half")
    wait()
"""
Start = Callable[[str, Path], "subprocess.Popen[str]"]


pytestmark = pytest.mark.usefixtures("known_machine")


@pytest.fixture
def start() -> Iterator[Start]:
    """Starts one of these programs and waits until it is ready."""
    started: list[subprocess.Popen[str]] = []

    def begin(program: str, path: Path) -> "subprocess.Popen[str]":
        command, pipe = [sys.executable, "-c", program, str(path)], subprocess.PIPE
        started.append(subprocess.Popen(command, cwd=PROJECT, stdin=pipe, stdout=pipe, text=True))
        assert started[-1].stdout.readline() == "ready\n"
        return started[-1]

    yield begin
    for process in started:
        with process:  # which closes its pipes
            process.kill()


def kill(process: "subprocess.Popen[str]") -> None:
    process.kill()
    process.wait(timeout=10)


def test_a_second_writer_is_refused_until_the_first_ends_even_by_a_kill(
    tmp_path: Path, start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = create(tmp_path / "run")
    write(run, [3.0, 1.0, 2.0])
    for name in ("state.safetensors", "trouble.json"):
        (run.path / f".{name}.abcdefgh{UNFINISHED}").write_bytes(b"half")  # as of a save that was killed
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


def test_the_folder_of_a_killed_process_is_removed_and_that_of_a_living_one_is_not(
    tmp_path: Path, start: Start
) -> None:
    path = tmp_path / "[run]"
    killed, _ = start(MAKES_A_RUN, path), start(MAKES_A_RUN, path)
    folders = sorted(os.listdir(tmp_path))
    assert len(folders) == 2
    assert all(name.startswith(".[run].") and name.endswith(UNFINISHED) for name in folders)
    kill(killed)
    RunDirectory.open(create(path).path)
    living, made = sorted(os.listdir(tmp_path))
    assert (living in folders, made) == (True, "[run]")


def test_a_folder_that_was_made_in_the_meantime_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "run"
    with (
        pytest.raises(CannotBeginError, match="run cannot be made: another process has made it"),
        new_folder(path),
    ):
        create(path)
    assert sorted(os.listdir(tmp_path)) == ["run"]
    assert sorted(os.listdir(path)) == NEW_FILES
