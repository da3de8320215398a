"""What is saved survives a power loss: the disk holds a file before it gets its name, and its name before the next.

Where a save may be cut off between two of its steps, tests/attack/exits.py tries each.
"""

import os
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from benchmarks.measure.recording import create_lines
from tests.recordings import head_of, plan_of
from tests.saves import SAVES, TEMPORARY

pytestmark = pytest.mark.usefixtures("known_machine")
State = tuple[int, int]  # of a file or folder: its size, and when it was changed


def state_of(path: Path) -> State:
    found = path.stat()
    return found.st_size, found.st_mtime_ns


def not_on_the_disk(folder: Path, synced: dict[int, State]) -> list[Path]:
    """What of a folder, and it itself, is in another state than at its last sync; `synced` has those by the inode."""
    return [path for path in (folder, *folder.rglob("*")) if synced.get(path.stat().st_ino) != state_of(path)]


@contextmanager
def on_the_disk(folder: Path, unsynced: Callable[[int], bool] = lambda mode: False) -> Iterator[None]:
    """Raise AssertionError where something gets a name before the disk holds it, or another name before the disk
    holds the last one, and where the disk does not hold all in the end. Files of a mode for which `unsynced` is true
    count as if nobody had synced them.
    """
    synced = {path.stat().st_ino: state_of(path) for path in (folder, *folder.rglob("*"))}
    real_sync, real_rename = os.fsync, os.replace
    named: list[Path] = []  # the folders that got a name

    def sync(descriptor: int) -> None:
        real_sync(descriptor)
        found = os.fstat(descriptor)
        if not unsynced(found.st_mode):
            synced[found.st_ino] = found.st_size, found.st_mtime_ns

    def rename(old: str | Path, new: str | Path) -> None:
        assert not not_on_the_disk(Path(old), synced), f"{old} gets its name before the disk holds it"
        assert all(synced.get(parent.stat().st_ino) for parent in named), "a name may be lost, and a later one not"
        real_rename(old, new)
        named[:] = [Path(new).parent]
        synced.pop(named[0].stat().st_ino, None)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", sync)
        patch.setattr(os, "replace", rename)
        patch.setattr(os, "rename", rename)
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


@pytest.mark.parametrize("unsynced", [stat.S_ISDIR, stat.S_ISREG], ids=["folders", "files"])
@pytest.mark.parametrize("name", ["the best epoch", "a new run"])
def test_what_is_not_synced_is_found(tmp_path: Path, name: str, unsynced: Callable[[int], bool]) -> None:
    SAVES[name].before(tmp_path)
    with pytest.raises(AssertionError, match=r"the disk|may be lost"), on_the_disk(tmp_path, unsynced):
        SAVES[name].save(tmp_path)
