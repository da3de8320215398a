"""Files of others that are damaged anywhere; `python -m tests.attack.damaged_files` does the same at length."""

import os
from pathlib import Path

import pytest

from benchmarks.parity.certificate import read_certificates
from common.errors import CannotBeginError
from tests.attack.damaged_files import WHOLE, attack


@pytest.mark.parametrize("name", WHOLE)
def test_a_file_that_is_whole_is_read(tmp_path: Path, name: str) -> None:
    target = WHOLE[name]
    path = tmp_path / "whole"
    path.write_bytes(target.packed(target.whole))
    target.read(path)


def test_a_file_that_is_damaged_is_read_or_refused_in_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)  # in which an input is left that has another outcome
    outcomes = attack(1000)
    assert sum(outcomes.values()) == 1000
    assert {outcome.partition(": ")[2] for outcome in outcomes} == {"read", "refused in one line"}


@pytest.mark.parametrize(
    "content", ["[" * 100_000, '{"\x1b[2J": {}}', '{"a": {"\u202e": 1}}', " " * (1 << 24) + "{}"]
)
def test_certificates_that_are_hostile_are_one_line(tmp_path: Path, content: str) -> None:
    path = tmp_path / "certificates.json"
    path.write_text(content)
    with pytest.raises(CannotBeginError) as refused:
        read_certificates(path)
    assert str(refused.value).isprintable()


def test_certificates_out_of_a_pipe_are_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(CannotBeginError, match="not a file"):
        read_certificates(tmp_path / "pipe")
