"""What is saved after a power loss at each point of a save: the old or the new, and whole."""

from pathlib import Path

import pytest

import common.files
from benchmarks.measure.recording import create_lines
from common.errors import RosettaError
from tests.power_loss import Disk
from tests.recordings import head_of, plan_of
from tests.saves import SAVES, Save, nothing

# For each the least number of disks that are tried: as many as there are ways in which its save may be cut off.
LEAST = {
    "an epoch that is not the best": 20,
    "the best epoch": 20,
    "a run that is mended": 10,
    "a new run": 50,
    "another learning rate": 4,
}


pytestmark = pytest.mark.usefixtures("known_machine")


def tried(tmp_path: Path, save: Save) -> int:
    """Lose the power at each point of a save; returns the number of disks tried.

    The first must have the old, and after the end of the save all must have the new.
    """
    (tmp_path / "disk").mkdir()
    save.before(tmp_path / "disk")
    disk, number = Disk(tmp_path / "disk"), 0
    with disk.recording():
        save.save(disk.folder)
    for count in range(len(disk.operations) + 1):
        found = set()
        for tree in disk.after(count):
            number += 1
            disk.write(tree, tmp_path / str(number))
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(common.files.os, "fsync", lambda descriptor: None)  # which takes time
                found.add(save.is_new(tmp_path / str(number)))
        assert count > 0 or found == {False}
    assert found == {True}, "what was saved can be lost"
    return number


@pytest.mark.parametrize("name", SAVES)
def test_what_is_saved_is_whole_after_a_power_loss(tmp_path: Path, name: str) -> None:
    assert tried(tmp_path, SAVES[name]) >= LEAST[name]


def test_a_new_recording_has_its_name_on_the_disk(tmp_path: Path) -> None:
    place = Path("results", "a.jsonl")

    def is_new(folder: Path) -> bool:
        return (folder / place).is_file() and (folder / place).read_bytes().endswith(b"\n")

    save = Save(nothing, lambda folder: create_lines(folder / place, head_of(plan_of())), is_new)
    assert tried(tmp_path, save) > 5


def test_an_epoch_may_be_lost_if_folders_are_not_synced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(common.files, "sync", lambda path: None)
    with pytest.raises(RosettaError, match="is of epoch 4, and the history"):
        tried(tmp_path, SAVES["the best epoch"])
