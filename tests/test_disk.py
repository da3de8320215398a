"""A disk that loses its power or is full: what was there stays, what was saved is there, and one line says so.

Where a save may be cut off between two of its steps, tests/attack/exits.py tries each.
"""

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from unittest.mock import patch

import numpy as np
import pytest

from backends.numpy_backend import NumpyBackend
from backends.process.in_child import TrainingData, fit
from backends.process.parent import PROJECT
from benchmarks.commands import _measuring
from benchmarks.measure.recording import create_lines
from common import run_directory
from common.errors import RosettaError, in_words
from common.files import UNFINISHED, write_atomically
from common.run_directory import RunDirectory
from common.tensors import Batch
from tests.recordings import head_of, plan_of
from tests.saves import SAVES, TEMPORARY
from tests.small_run import CONFIGS, MODEL, PAIRS, VOCABULARIES, create

pytestmark = pytest.mark.usefixtures("known_machine")
State = tuple[int, int]  # of a file or folder: its size, and when it was changed
FULL = OSError(28, "No space left on device")


def state_of(path: Path) -> State:
    found = path.stat()
    return found.st_size, found.st_mtime_ns


def not_on_the_disk(folder: Path, synced: dict[int, State]) -> list[Path]:
    """What of a folder, and it itself, is in another state than at its last sync; `synced` has those by the inode."""
    return [path for path in (folder, *folder.rglob("*")) if synced.get(path.stat().st_ino) != state_of(path)]


@contextmanager
def on_the_disk(folder: Path) -> Iterator[None]:
    """Raise AssertionError where something gets a name before the disk holds it, or another name before the disk
    holds the last one, and where the disk does not hold all in the end."""
    synced = {path.stat().st_ino: state_of(path) for path in (folder, *folder.rglob("*"))}
    real_sync, real_rename = os.fsync, os.replace
    named: list[Path] = []  # the folders that got a name

    def sync(descriptor: int) -> None:
        real_sync(descriptor)
        found = os.fstat(descriptor)
        synced[found.st_ino] = found.st_size, found.st_mtime_ns

    def rename(old: str | Path, new: str | Path) -> None:
        assert not not_on_the_disk(Path(old), synced), f"{old} gets its name before the disk holds it"
        assert all(synced.get(parent.stat().st_ino) for parent in named), "a name may be lost, and a later one not"
        real_rename(old, new)
        named[:] = [Path(new).parent]
        synced.pop(named[0].stat().st_ino, None)

    with patch.multiple(os, fsync=sync, replace=rename, rename=rename):
        yield
    lost = not_on_the_disk(folder, synced)
    assert not lost, f"the disk may not hold {lost}"


@pytest.mark.parametrize("name", [name for name in SAVES if name != TEMPORARY])
def test_what_is_saved_is_on_the_disk(tmp_path: Path, name: str) -> None:
    save = SAVES[name]
    save.before(tmp_path)
    with on_the_disk(tmp_path):
        save.save(tmp_path)
    assert save.is_new(tmp_path)


def test_a_recording_in_a_new_folder_is_on_the_disk(tmp_path: Path) -> None:
    with on_the_disk(tmp_path):
        create_lines(tmp_path / "results" / "a.jsonl", head_of(plan_of()))


@contextmanager
def ends_at(point: int, error: BaseException) -> Iterator[None]:
    """Raise an error in place of one of the calls that have the disk hold something; `point` counts them from 0."""
    calls = count()

    def instead_of(function: Callable[..., None]) -> Callable[..., None]:
        def call(*arguments: object) -> None:
            if next(calls) == point:
                raise error
            function(*arguments)

        return call

    with patch.multiple(os, **{name: instead_of(getattr(os, name)) for name in ("fsync", "replace", "rename")}):
        yield


@pytest.mark.parametrize("error", [FULL, KeyboardInterrupt()], ids=["full", "Ctrl-C"])
@pytest.mark.parametrize("name", SAVES)
def test_what_cannot_be_saved_leaves_the_old_and_no_litter(tmp_path: Path, name: str, error: BaseException) -> None:
    save = SAVES[name]
    for point in count():
        (folder := tmp_path / str(point)).mkdir()
        save.before(folder)
        message = None
        try:
            with ends_at(point, error):
                save.save(folder)
        except (RosettaError, OSError, KeyboardInterrupt) as ended:
            message = in_words(ended) if isinstance(ended, OSError) else str(ended)
        assert not [*folder.rglob(f"*{UNFINISHED}")]
        assert message is None or ("the disk is full" in message) == (error is FULL), message
        if name == "a new run" and point < 9 and error is FULL:
            assert message in (
                f"{folder / 'runs' / 'run'} cannot be written: the disk is full",
                f"{folder / 'runs' / 'run'} cannot be written: the disk is full; nothing is left of it",
            )
        is_new = save.is_new(folder)  # or the old; it fails for what is neither
        if message is None:
            assert is_new
            break


# What a full disk says


def trained(run: RunDirectory, epochs: int) -> None:
    """Train a small run on in this process, as a backend's process does."""
    rows = np.arange(len(PAIRS))
    fit(
        NumpyBackend(MODEL, CONFIGS[1]),
        lambda **event: None,
        run=run.path,
        name="numpy",
        learning_rate=CONFIGS[1].learning_rate,
        epochs=epochs,
        data=TrainingData(Batch.of_pairs(PAIRS, *VOCABULARIES), rows, rows),
    )


@pytest.mark.parametrize(("file", "kept"), [("state.safetensors", 1), ("best.safetensors", 2)])
def test_training_tells_which_epoch_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, file: str, kept: int
) -> None:
    run = create(tmp_path / "run")
    trained(run, 1)

    def write_or_not(path: Path, content: bytes | str) -> None:
        if path.name == file:
            raise OSError(FULL.errno, FULL.strerror, str(path))
        write_atomically(path, content)

    with monkeypatch.context() as context:
        context.setattr(run_directory, "write_atomically", write_or_not)
        with pytest.raises(RosettaError) as caught:
            trained(run, 3)
    assert str(caught.value) == f"{run.path / file} cannot be written: the disk is full. Mend that first"
    assert RunDirectory.open(run.path).kept(3) == (  # which the command adds
        f"{run.path} keeps epoch {kept}. Go on with: rosetta train --out {run.path} --resume --epochs 3"
    )
    assert RunDirectory.open(run.path).read_state("last")[1].epoch == kept
    trained(run, 3)
    assert len(RunDirectory.open(run.path).history()) == 3


def test_measuring_tells_what_is_kept_and_how_to_go_on(tmp_path: Path) -> None:
    path = tmp_path / "my results.jsonl"
    with pytest.raises(RosettaError) as caught, _measuring("bench", path, json=False):
        raise FULL
    assert str(caught.value) == (
        f"{path}: the disk is full; {path} keeps what was measured before; go on with: rosetta bench --out '{path}' "
        "--resume"
    )


@pytest.mark.parametrize(("argument", "unbuffered"), [("data", "1"), ("data", ""), ("--version", "")])
def test_an_output_that_takes_nothing_is_one_line(argument: str, unbuffered: str) -> None:
    command = [sys.executable, "-m", "rosetta", argument]
    environment = os.environ | {"PYTHONUNBUFFERED": unbuffered}
    with open("/dev/full", "w", encoding="utf-8") as full:
        done = subprocess.run(
            command, cwd=PROJECT, stdout=full, stderr=subprocess.PIPE, text=True, env=environment, check=False
        )
    assert done.stderr == "rosetta: standard output or a temporary file: the disk is full\n"
    assert done.returncode == 1
