"""Pairs of models in two frameworks: each of 21 planted mistakes is named, and no correct pair is taken for wrong."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from benchmarks.compare.shown import lines
from tests.porting_guide import Side, sides
from tests.porting_pairs import compared, planted, random_pair

PAIRS = 24  # `python -m tests.porting_pairs 50 SEED` compares as many as one likes


@pytest.fixture(scope="module")
def started() -> Iterator[dict[str, Side]]:
    with sides() as found:
        yield found


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
