"""Fixtures of attacks: a working folder of their own, and the limit of memory."""

import resource
from collections.abc import Iterator
from contextlib import chdir
from pathlib import Path

import pytest

MOST_MEMORY = 1 << 30  # bytes above the peak before


def peak_memory() -> int:
    """Return the peak of this process, or of a process that it started
    and that has ended, in bytes."""
    return 1024 * max(
        resource.getrusage(who).ru_maxrss
        for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
    )


@pytest.fixture(autouse=True)
def memory_is_limited() -> Iterator[None]:
    before = peak_memory()
    yield
    taken = peak_memory() - before
    assert taken <= MOST_MEMORY, f"{taken:,} bytes of memory were taken"


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    """An empty folder, which is the working folder meanwhile."""
    (tmp_path / "folder").mkdir()
    with chdir(tmp_path / "folder"):
        yield tmp_path / "folder"
