"""A disk that loses its power or is full: what was there stays,
what was saved is there, and one line says so.

Where a save may be cut off between two of its steps, tests/nightly/test_exits.py tries each.
"""

import errno
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from itertools import count
from pathlib import Path
from types import SimpleNamespace
from unittest.mock import Mock, patch

import numpy as np
import pytest

from backends import numpy_model
from backends.commands.training import how_to_go_on
from backends.interface import Backend
from backends.process.parent import PROJECT
from backends.process.train_in_child import TrainingData, fit
from benchmarks.commands import measure
from common.errors import CtrlCError, RosettaError, in_words
from common.files import UNFINISHED
from common.run import STATE, RunDirectory
from common.tensors import Batch
from tests.support.saves import SAVES
from tests.support.small_run import CONFIGS, MODEL, PAIRS, VOCABULARIES, create

FULL = OSError(28, "No space left on device")


@contextmanager
def on_the_disk(folder: Path) -> Iterator[None]:
    """Raise AssertionError where something gets a name before the disk holds it, or another name
    before the disk holds the last one, and where the disk does not hold all in the end."""
    real_sync, real_rename = os.fsync, os.replace
    # By the inode, the size and time of change at the last sync.
    synced: dict[int, tuple[int, int]] = {}
    named: list[Path] = []  # the folder that got a name

    def note(status: os.stat_result) -> None:
        synced[status.st_ino] = status.st_size, status.st_mtime_ns

    def lost(path: Path) -> list[Path]:
        statuses = {each: each.stat() for each in (path, *path.rglob("*"))}
        return [
            each
            for each, at in statuses.items()
            if synced.get(at.st_ino) != (at.st_size, at.st_mtime_ns)
        ]

    def sync(descriptor: int) -> None:
        real_sync(descriptor)
        note(os.fstat(descriptor))

    def rename(old: str | Path, new: str | Path) -> None:
        assert not lost(Path(old)), f"{old} gets its name before the disk holds it"
        assert all(synced.get(parent.stat().st_ino) for parent in named), (
            "a name may be lost, and a later one not"
        )
        real_rename(old, new)
        named[:] = [Path(new).parent]
        synced.pop(named[0].stat().st_ino, None)

    for path in (folder, *folder.rglob("*")):
        note(path.stat())
    with patch.multiple(os, fsync=sync, replace=rename, rename=rename):
        yield
    assert not lost(folder)


@pytest.mark.parametrize("name", SAVES)
def test_what_is_saved_is_on_the_disk(tmp_path: Path, name: str) -> None:
    save = SAVES[name]
    save.before(tmp_path)
    with on_the_disk(tmp_path):
        save.save(tmp_path)
    assert save.is_new(tmp_path)


@contextmanager
def ends_at(point: int, error: BaseException) -> Iterator[None]:
    """Raise an error in place of one of the calls that have the disk hold something;
    `point` counts them from 0."""
    calls = count()

    def call(function: Callable[..., None], *arguments: object) -> None:
        if next(calls) == point:
            raise error
        function(*arguments)

    with patch.multiple(
        os, **{name: partial(call, getattr(os, name)) for name in ("fsync", "replace", "rename")}
    ):
        yield


@pytest.mark.parametrize("error", [FULL, KeyboardInterrupt()], ids=["full", "Ctrl-C"])
@pytest.mark.parametrize("name", SAVES)
def test_what_cannot_be_saved_leaves_the_old_and_no_litter(
    tmp_path: Path, name: str, error: BaseException
) -> None:
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
            words = f"{folder / 'runs' / 'run'} cannot be written: the disk is full"
            assert message in (words, f"{words}; nothing is left of it")
        is_new = save.is_new(folder)  # or the old; it fails for what is neither
        if message is None:
            assert is_new
            break


# What a full disk says


def test_full_folders_for_temporary_files_are_told_in_words(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("tempfile.tempdir", None)
    with patch("os.open", side_effect=FULL), pytest.raises(FileNotFoundError) as raised:
        tempfile.gettempdir()
    assert in_words(raised.value) == (
        "no folder takes temporary files; free space in one, and let TMPDIR name it"
    )


def trained(run: RunDirectory, epochs: int) -> None:
    """Train a small run on in this process, as a backend's process does."""
    rows = np.arange(len(PAIRS))
    fit(
        Backend(numpy_model, MODEL, CONFIGS[1]),
        lambda **event: None,
        run=run.path,
        name="numpy",
        epochs=epochs,
        data=TrainingData(Batch.of_pairs(PAIRS, *VOCABULARIES), rows, rows),
    )


def test_training_tells_which_epoch_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = create(tmp_path / "run")
    trained(run, 1)
    with monkeypatch.context() as context:
        full = OSError(FULL.errno, FULL.strerror, str(run.path / STATE))
        context.setattr("common.run.write_atomically", Mock(side_effect=full))
        with pytest.raises(RosettaError) as caught:
            trained(run, 3)
    assert str(caught.value) == (
        f"{run.path / STATE} cannot be written: the disk is full. Mend that first"
    )
    assert how_to_go_on(RunDirectory.open(run.path), 3) == (  # which the command adds
        f"{run.path} keeps epoch 1. Go on with: rosetta train --out {run.path} --resume --epochs 3"
    )
    trained(run, 3)
    assert len(RunDirectory.open(run.path).history()) == 3


ENDINGS: dict[str, tuple[BaseException, str]] = {
    "full": (FULL, "my results.jsonl: the disk is full"),
    "unwritable": (
        OSError(errno.EROFS, os.strerror(errno.EROFS)),
        "my results.jsonl: Read-only file system",
    ),
    "failed": (RosettaError("numpy died"), "numpy died"),
    "Ctrl-C": (KeyboardInterrupt(), "interrupted"),
}


@pytest.mark.parametrize("how", ENDINGS)
@pytest.mark.parametrize("rounds", [0, 1])
def test_measuring_tells_what_is_kept(tmp_path: Path, how: str, rounds: int) -> None:
    error, said = ENDINGS[how]
    path = tmp_path / "my results.jsonl"
    path.touch()
    begun = SimpleNamespace(
        run=Mock(side_effect=error), measurement=Mock(rounds=lambda: [1] * rounds)
    )
    report = Mock(summary="", content={})
    with (
        patch("benchmarks.commands.read_report", return_value=report),
        pytest.raises(RosettaError) as caught,
    ):
        measure(path, json=False, opened=lambda: begun)
    assert isinstance(caught.value, CtrlCError) == (how == "Ctrl-C")
    kept = str(caught.value).endswith(f"{said}; {path} keeps what was measured before")
    assert (kept, path.exists()) == (rounds > 0, rounds > 0)
    assert rounds or str(caught.value).endswith(said)


def test_a_measurement_that_cannot_be_removed_hides_no_error(tmp_path: Path) -> None:
    path = tmp_path / "results.jsonl"
    path.touch()
    begun = SimpleNamespace(
        run=Mock(side_effect=RosettaError("numpy died")), measurement=Mock(rounds=list)
    )
    unlink = patch.object(Path, "unlink", side_effect=OSError(errno.EROFS, "Read-only file system"))
    with unlink, pytest.raises(RosettaError, match="numpy died"):
        measure(path, json=False, opened=lambda: begun)


@pytest.mark.parametrize(("argument", "unbuffered"), [("data", "1"), ("--version", "")])
def test_an_output_that_takes_nothing_is_one_line(argument: str, unbuffered: str) -> None:
    command = [sys.executable, "-m", "rosetta", argument]
    environment = os.environ | {"PYTHONUNBUFFERED": unbuffered}
    with open("/dev/full", "w", encoding="utf-8") as full:
        done = subprocess.run(
            command,
            cwd=PROJECT,
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            env=environment,
            check=False,
        )
    assert done.stderr == "rosetta: standard output or a temporary file: the disk is full\n"
    assert done.returncode == 1
