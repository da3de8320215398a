"""Two benchmarks do not run at once, whoever starts them."""

from contextlib import ExitStack
from pathlib import Path

import pytest

from benchmarks.measure.quiet import LOCK_VARIABLE, only_benchmark
from common.errors import CannotBeginError
from tests.support.program import refusal

WAITS = "another benchmark runs; waiting for its end"


def no_wait(message: str) -> None:
    raise CannotBeginError(message)


def test_a_second_benchmark_waits_for_the_end_of_the_first(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setenv(LOCK_VARIABLE, str(tmp_path / "lock"))
    said, first = list[str](), ExitStack()
    first.enter_context(only_benchmark(no_wait))
    with pytest.raises(CannotBeginError, match=WAITS), only_benchmark(no_wait):
        pass

    def end_the_first(message: str) -> None:
        said.append(message)
        first.close()

    with only_benchmark(end_the_first):
        assert said == [WAITS]


def test_a_lock_that_cannot_be_had_is_refused_and_an_error_frees_it(
    tmp_path: Path, monkeypatch
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv(LOCK_VARIABLE, str(tmp_path / "file" / "lock"))
    with (
        pytest.raises(CannotBeginError, match=f"cannot be locked: .*; let {LOCK_VARIABLE} name"),
        only_benchmark(no_wait),
    ):
        pass
    monkeypatch.setenv(LOCK_VARIABLE, str(tmp_path / "lock"))
    for _ in range(2):
        with pytest.raises(ZeroDivisionError), only_benchmark(no_wait):
            raise ZeroDivisionError


def test_nothing_is_measured_beside_another_benchmark(tmp_path: Path, monkeypatch) -> None:
    path = tmp_path / "a.jsonl"
    monkeypatch.setenv(LOCK_VARIABLE, str(tmp_path / "lock"))
    monkeypatch.setattr("common.terminal.warn", no_wait)
    with only_benchmark(no_wait):
        assert "another benchmark runs" in refusal(2, "bench", "--backends", "numpy", "--out", path)
        assert not path.exists()
