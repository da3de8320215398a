"""A model of a disk that loses power: which files and folders may be found on it afterwards.

Nothing but what was synced is sure to be there. Of the rest, each write and each change of a name may have reached
the disk or not, whatever came before or after it, and the last part of what was written may be cut.
"""

import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from itertools import product
from pathlib import Path

import pytest

Content = bytes | dict[str, int]  # of a file its bytes, of a folder the numbers of its files and folders by name
Tree = dict[int, Content]  # by the number of the inode
# A file or folder, and what happened to it: None if it was synced, bytes if they were written to a file, and for a
# folder the names that it got, or lost where the number is None. A rename is both at once.
Operation = tuple[int, bytes | dict[str, int | None] | None]


class Disk:
    """Records what happens in a folder, so that a power loss can be tried at each point of it."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.root = folder, folder.stat().st_ino
        self.operations: list[Operation] = []
        self._descriptors = ExitStack()
        self._known: set[int] = set()
        self._before = self._now = self._read()

    @contextmanager
    def recording(self) -> Iterator[None]:
        """Record while the block runs."""
        rename = os.replace

        def recorded_sync(descriptor: int) -> None:
            self._notice()
            self.operations.append((os.fstat(descriptor).st_ino, None))

        def recorded_rename(old: str | Path, new: str | Path) -> None:
            self._notice()
            old, new = Path(old), Path(new)
            self.operations.append((new.parent.stat().st_ino, {old.name: None, new.name: old.stat().st_ino}))
            rename(old, new)
            self._now = self._read()

        with self._descriptors, pytest.MonkeyPatch.context() as patch:
            patch.setattr(os, "fsync", recorded_sync)
            patch.setattr(os, "replace", recorded_rename)
            patch.setattr(os, "rename", recorded_rename)
            yield
            self._notice()

    def after(self, count: int) -> Iterator[Tree]:
        """All that the disk may hold if the power is lost after so many operations."""
        synced = dict(self._before)
        pending: list[Operation] = []
        for number, change in self.operations[:count]:
            if change is None:
                for waiting in pending:
                    if waiting[0] == number:
                        _apply(waiting, synced)
                pending = [waiting for waiting in pending if waiting[0] != number]
            else:
                pending.append((number, change))
        for parts in product(*([0, 0.5, 1] if isinstance(change, bytes) else [0, 1] for _, change in pending)):
            tree = dict(synced)
            for waiting, part in zip(pending, parts, strict=True):
                _apply(waiting, tree, part)
            yield tree

    def write(self, tree: Tree, path: Path, number: int | None = None) -> None:
        """Make the folder, or the file or folder of this number, at `path`."""
        number = self.root if number is None else number
        content = tree.get(number, {} if isinstance(self._now.get(number), dict) else b"")
        if isinstance(content, bytes):
            path.write_bytes(content)
        else:
            path.mkdir()
            for name, inner in content.items():
                self.write(tree, path / name, inner)

    def _read(self) -> Tree:
        """What the folder holds now. Files are kept open, so that no other file gets the number of a deleted one."""
        tree: Tree = {}
        for path in [self.folder, *self.folder.rglob("*")]:
            number = path.stat().st_ino
            if number not in self._known:
                self._known.add(number)
                self._descriptors.callback(os.close, os.open(path, os.O_RDONLY))
            inside = {inner.name: inner.stat().st_ino for inner in path.iterdir()} if path.is_dir() else None
            tree[number] = path.read_bytes() if inside is None else inside
        return tree

    def _notice(self) -> None:
        """Record what was written, made and deleted since the last time."""
        before, self._now = self._now, self._read()
        for number, now in self._now.items():
            if isinstance(now, bytes):
                if now != before.get(number, b""):
                    self.operations.append((number, now))
            else:
                names = before.get(number, {})
                assert isinstance(names, dict)
                for name in sorted(now.keys() | names.keys()):
                    if now.get(name) != names.get(name):
                        self.operations.append((number, {name: now.get(name)}))


def _apply(operation: Operation, tree: Tree, part: float = 1) -> None:
    """Do an operation, or do only this part of it: of written bytes those that come first."""
    number, change = operation
    if isinstance(change, bytes):
        before = tree.get(number, b"")
        assert isinstance(before, bytes)
        kept = len(before) if change.startswith(before) else 0  # a cut append leaves what was there
        tree[number] = change[: int(kept + (len(change) - kept) * part)] if part else before
    elif change is not None and part:
        names = tree.get(number, {})
        assert isinstance(names, dict)
        changed = names | change
        tree[number] = {name: inner for name, inner in changed.items() if inner is not None}
