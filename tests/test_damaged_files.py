"""Files of others that are damaged anywhere; `python -m tests.attack.damaged_files` does the same at length."""

from pathlib import Path

import pytest

from tests.attack.damaged_files import WHOLE, attack


@pytest.mark.parametrize("name", WHOLE)
def test_a_file_that_is_whole_is_read(tmp_path: Path, name: str) -> None:
    whole, packed, read = WHOLE[name]
    path = tmp_path / "whole"
    path.write_bytes(packed(whole))
    read(path)


def test_a_file_that_is_damaged_is_read_or_refused_in_one_line() -> None:
    outcomes = attack(1600)
    assert sum(outcomes.values()) == 1600
    assert {outcome.partition(": ")[2] for outcome in outcomes} == {"read", "refused in one line"}
