"""Models that hold the same numbers in other arrangements, in each framework: a correct pair passes without a mapping
and with the one that is written, and comes back to the byte; each of the planted mistakes is named."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from benchmarks.compare.diff import compare_records
from benchmarks.compare.record import Side as Recorded
from common.errors import RosettaError
from tests.arranged_pairs import mistaken, random_pair, recorded, told, wrong_of
from tests.porting_side import FRAMEWORKS, Side, script_of_torch

PAIRS = 9  # `python -m tests.arranged_pairs 40 SEED` compares as many as one likes


@pytest.fixture
def started(side_of: Callable[[str], Side]) -> dict[str, Side]:
    return {name: side_of(name) for name in FRAMEWORKS}


def test_no_correct_pair_is_taken_for_wrong_and_each_wrong_one_is_named(
    started: dict[str, Side], tmp_path: Path
) -> None:
    """A correct one is carried there and back to the byte, too."""
    rng, mistakes = np.random.default_rng(0), mistaken()
    pairs = [random_pair(rng, number) for number in range(PAIRS)]
    for pair, sides in zip(pairs, recorded(pairs, started, tmp_path), strict=True):
        wrong = wrong_of(*sides, tmp_path / pair.name)
        assert not wrong, f"{pair}: {wrong}"
    missed = []
    both = recorded([pair for pair, _ in mistakes.values()], started, tmp_path, steps=1)
    for (name, (_, words)), sides in zip(mistakes.items(), both, strict=True):
        try:
            found = compare_records(*sides)
        except RosettaError as error:
            missed.append(f"{name}: {error}")
            continue
        if found.passed or not found.explanation[1].startswith(words):
            missed.append(f"{name}: {told(found)}")
    assert not missed, "\n".join(missed)
    assert len(mistakes) == 25


def test_one_script_of_torch_runs_on_torch_and_on_paddle(started: dict[str, Side], tmp_path: Path) -> None:
    started["torch"].start(script_of_torch, folder=tmp_path / "torch", arguments=[])
    for name, arguments in {"paddle": [], "wrong": ["wrong"]}.items():
        started["paddle"].start(script_of_torch, folder=tmp_path / name, arguments=arguments)
    for name in ("torch", "paddle", "paddle"):
        started[name].wait()
    torch, paddle, wrong = (Recorded(tmp_path / name) for name in ("torch", "paddle", "wrong"))
    assert "compat.Linear" in paddle.owners["hidden.weight"].classes
    found = compare_records(torch, paddle)
    assert found.passed, told(found)
    assert {"weights", "forward", "loss", "gradients", "step"} <= {*found.climbed}
    assert "hidden kernel" in compare_records(torch, wrong).explanation[1]
