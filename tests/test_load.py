"""What `rosetta train` says where other programs keep cores busy that its threads would share."""

import os

import pytest

from common import load
from common.load import Watch, fewer_threads


@pytest.fixture
def two_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(load, "cores", lambda: 2)
    monkeypatch.setattr(load, "SAMPLE_SECONDS", 0.0)


@pytest.mark.usefixtures("two_cores")
@pytest.mark.parametrize(
    ("others", "threads", "advised"),
    [(0.0, 2, None), (0.4, 2, None), (1.0, 2, 1), (1.0, 1, None), (2.0, 2, 1), (0.6, 2, 1)],
)
def test_fewer_threads_are_advised_where_they_would_share_a_core(
    monkeypatch: pytest.MonkeyPatch, others: float, threads: int, advised: int | None
) -> None:
    monkeypatch.setattr(Watch, "others", lambda self: others)
    advice = fewer_threads(threads, os.getpid())
    assert advice == "" if advised is None else advice.endswith(f"--threads {advised}")
