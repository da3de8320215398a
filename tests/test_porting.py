"""The guide to porting: what it shows is what comes, and its changes lead to the right ports."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from backends.process.parent import PROJECT
from tests.porting_guide import BLOCK, GUIDE, SCRIPTS, Session, Side, sides

NUMBER = re.compile(r"equal|-?\d+(?:\.\d+)?(?:e[-+]\d+)?")
ROUNDING = 1e-10  # an error below this is rounding, which is another on another machine
PRECISION = 1e-6  # to which other numbers are the same there


@pytest.fixture(scope="module")
def started() -> Iterator[dict[str, Side]]:
    with sides() as found:
        yield found


def same(printed: str, shown: str) -> bool:
    """Whether two texts are the same but for rounding and for spaces."""
    if NUMBER.sub("", " ".join(printed.split())) != NUMBER.sub("", " ".join(shown.split())):
        return False
    pairs = zip(NUMBER.findall(printed), NUMBER.findall(shown), strict=True)
    numbers = [[0.0 if number == "equal" else float(number) for number in pair] for pair in pairs]
    return all(abs(one - other) <= max(ROUNDING, PRECISION * abs(other)) for one, other in numbers)


def test_the_guide_shows_what_its_commands_print(started: dict[str, Side], tmp_path: Path) -> None:
    session = Session(tmp_path, started, whole=False)
    for block in BLOCK.finditer(GUIDE.read_text("utf-8")):
        printed = session.do(block)
        assert same(printed, block[2]), printed
    firsts = sorted(SCRIPTS.glob("*_first.py"))
    assert len(firsts) == 4
    for first in firsts:  # with the changes that the guide shows
        right = SCRIPTS / first.name.replace("_first", "")
        assert (tmp_path / first.name).read_text("utf-8") == right.read_text("utf-8")


def test_the_readme_shows_a_comparison_of_the_guide() -> None:
    readme = (PROJECT / "README.md").read_text("utf-8")
    (shown,) = re.findall(r"```console\n(\$ rosetta diff .*?)```", readme, re.DOTALL)
    assert shown in GUIDE.read_text("utf-8")


def test_a_text_with_another_number_is_not_the_same() -> None:
    shown = "error 9.3e-01, bound 1.0e-09; equal  5e-16"
    assert same("error 9.3e-01, bound 1.0e-09; 2e-16 equal", shown)
    assert not same("error 9.4e-01, bound 1.0e-09; equal 5e-16", shown)
    assert not same("error 9.3e-01, bound 1.0e-09; equal 5e-16 more", shown)
