"""Porting: each of 21 planted mistakes in pairs of models is named, no correct pair is taken for wrong, and what the
guide shows is what comes."""

import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from backends.process.parent import PROJECT
from benchmarks.compare.tables import lines
from tests.porting_guide import BLOCK, GUIDE, SCRIPTS, Session
from tests.porting_pairs import compared, planted, random_pair
from tests.porting_side import FRAMEWORKS, Side

NUMBER = re.compile(r"equal|-?\d+(?:\.\d+)?(?:e[-+]\d+)?")
ROUNDING = 1e-10  # an error below this is rounding, which is another on another machine
PRECISION = 1e-6  # to which other numbers are the same there
PAIRS = 12  # `python -m tests.porting_pairs 50 SEED` compares as many as one likes


@pytest.fixture
def started(side_of: Callable[[str], Side]) -> dict[str, Side]:
    return {name: side_of(name) for name in FRAMEWORKS}


def test_each_planted_mistake_is_named_at_its_rung_and_layer(started: dict[str, Side], tmp_path: Path) -> None:
    mistakes = planted()
    found = compared([pair for pair, *_ in mistakes.values()], started, tmp_path)
    wrong = []
    for (name, (_, rung, tensor, words)), diff in zip(mistakes.items(), found, strict=True):
        said = "\n".join(lines(diff))
        if diff.broken != rung or tensor not in diff.explanation[1] or words not in said:
            wrong.append(f"{name}: {said}")
    assert not wrong, "\n".join(wrong)


def test_no_correct_pair_is_taken_for_wrong(started: dict[str, Side], tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    pairs = [random_pair(rng, number) for number in range(PAIRS)]
    for pair, diff in zip(pairs, compared(pairs, started, tmp_path), strict=True):
        assert diff.passed, f"{pair}: {diff.explanation}"
        assert diff.control.passed, f"{pair}: {diff.control.seen}"


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
    assert len(firsts) == 5
    for first in firsts:  # with the changes that the guide shows
        right = SCRIPTS / first.name.replace("_first", "")
        assert (tmp_path / first.name).read_text("utf-8") == right.read_text("utf-8")


def test_the_readme_shows_a_comparison_of_the_guide() -> None:
    readme = (PROJECT / "README.md").read_text("utf-8")
    (shown,) = re.findall(r"```console\n(\$ rosetta diff .*?)```", readme, re.DOTALL)
    assert shown in GUIDE.read_text("utf-8")
