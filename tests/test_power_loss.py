"""A run after a power loss at each point of a save: the old one or the new one, and whole."""

from collections.abc import Callable
from pathlib import Path

import pytest

import common.files
from benchmarks.measure.recording import create_lines
from common import run_directory
from common.config import as_float32
from common.errors import RosettaError
from common.run_directory import RunDirectory
from tests.power_loss import Disk
from tests.recordings import head_of, plan_of
from tests.small_run import assert_state, contents, create, epoch_of, state_of, write

VAL_LOSSES = [3.0, 1.0, 2.0, 0.5, 0.7]
Check = Callable[[Path], bool]


@pytest.fixture(autouse=True)
def known_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """Asking the processor takes a second."""
    monkeypatch.setattr(run_directory, "describe_machine", lambda: {"processor": "known"})


def tried(tmp_path: Path, save: Callable[[Path], object], is_new: Check) -> int:
    """Lose the power at each point of `save`, which changes the folder "disk"; returns the number of disks tried.

    `is_new` is given a folder as it was found again, fails for one that is damaged, and tells whether it is the new
    one. The first must be an old one, and after the end of the save all must be new.
    """
    disk, number = Disk(tmp_path / "disk"), 0
    with disk.recording():
        save(disk.folder)
    for count in range(len(disk.operations) + 1):
        found = set()
        for tree in disk.after(count):
            number += 1
            disk.write(tree, tmp_path / str(number))
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(common.files.os, "fsync", lambda descriptor: None)  # which takes time
                found.add(is_new(tmp_path / str(number)))
        assert count > 0 or found == {False}
    assert found == {True}, "what was saved can be lost"
    return number


def saved_epoch(run: RunDirectory, number: int) -> None:
    run.write_epoch(state_of(number), epoch_of(number, VAL_LOSSES[number - 1]), step=10 * number)


@pytest.fixture
def runs(tmp_path: Path) -> Callable[[int], RunDirectory]:
    """Makes a run of some epochs in the folder "disk", and one of all epochs beside it."""
    write(create(tmp_path / "whole"), VAL_LOSSES)

    def begun(epochs: int) -> RunDirectory:
        run = create(tmp_path / "disk" / "run")
        write(run, VAL_LOSSES[:epochs])
        return run

    return begun


def epoch_is_whole(tmp_path: Path, epoch: int) -> Check:
    def check(folder: Path) -> bool:
        run = RunDirectory.open(folder / "run")
        found = len(run.history())
        assert found in (epoch - 1, epoch)
        assert_state(run, "last", found)
        assert_state(run, "best", min(range(found), key=VAL_LOSSES.__getitem__) + 1)
        run.begin()
        for number in range(found + 1, len(VAL_LOSSES) + 1):
            saved_epoch(run, number)
        assert contents(run.path) == contents(tmp_path / "whole")
        return found == epoch

    return check


@pytest.mark.parametrize("epoch", [3, 4], ids=["another is best", "the best"])
def test_an_epoch_is_whole_after_a_power_loss(
    tmp_path: Path, runs: Callable[[int], RunDirectory], epoch: int
) -> None:
    run = runs(epoch - 1)
    assert tried(tmp_path, lambda disk: saved_epoch(run, epoch), epoch_is_whole(tmp_path, epoch)) >= 20


def test_an_epoch_may_be_lost_if_folders_are_not_synced(
    tmp_path: Path, runs: Callable[[int], RunDirectory], monkeypatch: pytest.MonkeyPatch
) -> None:
    run = runs(3)
    monkeypatch.setattr(common.files, "sync", lambda path: None)
    with pytest.raises(RosettaError, match="is of epoch 4, and the history"):
        tried(tmp_path, lambda disk: saved_epoch(run, 4), epoch_is_whole(tmp_path, 4))


def test_what_is_mended_is_whole_after_a_power_loss(tmp_path: Path, runs: Callable[[int], RunDirectory]) -> None:
    run = runs(3)
    old = (run.path / "best.safetensors").read_bytes()
    saved_epoch(run, 4)
    (run.path / "best.safetensors").write_bytes(old)
    with (run.path / "history.jsonl").open("ab") as log:
        log.write(b'{"epoch": 5, "lo')

    def check(folder: Path) -> bool:
        best = (folder / "run" / "best.safetensors").read_bytes()
        assert epoch_is_whole(tmp_path, 4)(folder)
        return best != old

    assert tried(tmp_path, lambda disk: RunDirectory.open(disk / "run").begin(), check) > 10


def test_a_new_run_is_whole_or_not_there_after_a_power_loss(tmp_path: Path) -> None:
    (tmp_path / "disk").mkdir()
    expected = contents(create(tmp_path / "whole").path)

    def check(folder: Path) -> bool:
        there = (folder / "runs" / "run").exists()
        if not there:
            create(folder / "runs" / "run")
        RunDirectory.open(folder / "runs" / "run")
        assert [path.name for path in (folder / "runs").iterdir()] == ["run"]
        assert contents(folder / "runs" / "run") == expected
        return there

    assert tried(tmp_path, lambda disk: create(disk / "runs" / "run"), check) > 50


def test_a_new_recording_has_its_name_on_the_disk(tmp_path: Path) -> None:
    (tmp_path / "disk").mkdir()
    head = head_of(plan_of())

    def check(folder: Path) -> bool:
        path = folder / "results" / "a.jsonl"
        return path.is_file() and path.read_bytes().endswith(b"\n")

    assert tried(tmp_path, lambda disk: create_lines(disk / "results" / "a.jsonl", head), check) > 5


def test_another_learning_rate_is_there_or_not_after_a_power_loss(
    tmp_path: Path, runs: Callable[[int], RunDirectory]
) -> None:
    run, slower = runs(2), as_float32(1e-4)

    def check(folder: Path) -> bool:
        found = RunDirectory.open(folder / "run")
        rate = found.train_config.learning_rate
        assert rate in (run.train_config.learning_rate, slower)
        assert_state(found, "last", 2)
        return rate == slower

    assert tried(tmp_path, lambda disk: run.with_learning_rate(slower), check) > 3
