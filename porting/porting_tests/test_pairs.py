"""Porting: each planted mistake in pairs of models is named; no correct pair is taken for wrong,
and each is carried there and back to the byte; and what the guide shows is what comes."""

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from porting_tests.conftest import AT_LENGTH
from porting_tests.support import PORTING
from porting_tests.support.guide import BLOCK, GUIDE, SCRIPTS, Session
from porting_tests.support.mistakes import answer, normed, planted
from porting_tests.support.pairs import pair_of, random_pair, record_pairs, told, wrong_of
from porting_tests.support.side import Side, script
from rosetta_diff.diff import compare_records
from rosetta_diff.read.side import Side as Recorded

# Which check is the worst of the trajectory, and what bounds it, is a matter of rounding.
# Rounding decides which check is the worst.
WORST = re.compile(r"^((?:step|trajectory) +\d+).*", re.MULTILINE)
NUMBER = re.compile(r"equal|-?\d+(?:\.\d+)?(?:e[-+]\d+)?")
ROUNDING = 1e-10  # an error below this is rounding, which is another on another machine
PRECISION = 1e-6  # to which other numbers are the same there
PRECISIONS_OF_PAIRS = ("float32", "bfloat16", "autocast-bfloat16")
PAIRS = 10  # `python -m porting_tests.support.pairs 50 SEED` compares as many as one likes


def test_each_planted_mistake_is_named_at_its_stage_and_layer(
    started: dict[str, Side], tmp_path: Path
) -> None:
    """Each in the one of its three models that is recorded soonest, and every fourth one where time
    is short; `python -m porting_tests.support.mistakes` plants all in all."""
    mistakes = [*planted().items()]
    chosen = {
        name: (one, *min(three, key=lambda two: two[0].frameworks.count("keras")))
        for name, (one, three) in (mistakes if AT_LENGTH else mistakes[::4])
    }
    both = record_pairs([pair for _, pair, _ in chosen.values()], started, tmp_path, steps=1)
    missed = []
    for (name, (mistake, _, named)), sides in zip(chosen.items(), both, strict=True):
        found = answer(mistake, named, sides)
        if not found.place or found.others or (mistake.cause and not found.cause):
            missed.append(f"{name}: {found.told}")
    assert not missed, "\n".join(missed)


@pytest.mark.parametrize("measured", [False, True])
def test_correct_pairs_pass_and_are_carried_there_and_back(
    measured: bool, started: dict[str, Side], tmp_path: Path
) -> None:
    """In the bounds of the table, or in measured ones; support/pairs.py does so at length."""
    rng, numbered = np.random.default_rng(0), [("", number) for number in range(PAIRS)]
    if measured:
        numbered = [(precision, number) for number, precision in enumerate(PRECISIONS_OF_PAIRS, 7)]
    pairs = [random_pair(rng, number, precision) for precision, number in numbered]
    for pair, sides in zip(
        pairs, record_pairs(pairs, started, tmp_path, control=measured), strict=True
    ):
        wrong = wrong_of(*sides)
        assert not wrong, f"{pair}: {wrong}"
        assert not measured or any(
            check.item.bound.measured for check in compare_records(*sides).checks
        )


def test_only_paddles_rounding_of_an_epsilon_is_no_mistake(
    started: dict[str, Side], tmp_path: Path
) -> None:
    both = {"kind": "feedforward", "units": 7, **normed(epsilon=1e-5)}
    pairs = [
        replace(
            pair_of(left, "paddle", both, wrong=[normed(epsilon=epsilon)]), name=f"{left} {epsilon}"
        )
        for left in ("torch", "keras")
        for epsilon in (1e-5, 1.001e-5)
    ]
    for pair, sides in zip(pairs, record_pairs(pairs, started, tmp_path, steps=1), strict=True):
        found = compare_records(*sides)
        if "1.001" in pair.name:
            assert found.broken == "forward"
            assert "epsilon is 1e-05 on the left and 1.001e-05 on the right" in told(found)
        else:
            assert found.passed, told(found)
            assert "Paddle rounds epsilon to float32 in " in told(found)


def test_batch_normalization_trains_alike_but_for_its_variance(
    started: dict[str, Side], tmp_path: Path
) -> None:
    block = {"kind": "batchnorm", "momentum": 0.75}
    frameworks = ("torch", "paddle"), ("keras", "torch")
    pairs = [replace(pair_of(*both, block), name=both[0]) for both in frameworks]
    for left, right in record_pairs(pairs, started, tmp_path):
        found = compare_records(left, right)
        assert found.passed, told(found)
        assert "converted, step: running variances of " in told(found)


def test_one_script_of_torch_runs_on_torch_and_on_paddle(
    started: dict[str, Side], tmp_path: Path
) -> None:
    for name in ("torch", "paddle", "wrong"):
        side, more = ("torch" if name == "torch" else "paddle"), ["wrong"] * (name == "wrong")
        arguments = ["script_of_torch.py", str(tmp_path / name), *more]
        asked = {
            "folder": PORTING / "porting_tests" / "support",
            "arguments": arguments,
            "compat": side == "paddle",
        }
        started[side].do(script, **asked, steps=1)
    torch, paddle, wrong = (Recorded(tmp_path / name) for name in ("torch", "paddle", "wrong"))
    assert "compat.Linear" in paddle.owners["hidden.weight"].classes
    found = compare_records(torch, paddle)
    assert found.passed, told(found)
    assert {"weights", "forward", "loss", "gradients", "step"} <= {*found.compared}
    assert "hidden kernel" in compare_records(torch, wrong).explanation[1]


def same(printed: str, shown: str) -> bool:
    """True if two texts are the same but for rounding and for spaces."""
    printed, shown = (WORST.sub(r"\1", text) for text in (printed, shown))
    if NUMBER.sub("", " ".join(printed.split())) != NUMBER.sub("", " ".join(shown.split())):
        return False
    pairs = zip(NUMBER.findall(printed), NUMBER.findall(shown), strict=True)
    numbers = [[0.0 if number == "equal" else float(number) for number in pair] for pair in pairs]
    return all(abs(one - other) <= max(ROUNDING, PRECISION * abs(other)) for one, other in numbers)


def test_the_guide_shows_what_its_commands_print(started: dict[str, Side], tmp_path: Path) -> None:
    session = Session(tmp_path, started, whole=False)
    for block in BLOCK.finditer(GUIDE.read_text("utf-8")):
        printed = session.do(block)
        shown = [
            line
            for line in block[2].splitlines(True)
            if not any(words in line for words in session.left_out)
        ]
        assert same(printed, "".join(shown)), printed
        session.left_out.clear()
    firsts = sorted(tmp_path.glob("*_first.py"))
    assert len(firsts) == 5
    for first in firsts:  # with the changes that the guide shows
        right = SCRIPTS / first.name.replace("_first", "")
        assert first.read_text("utf-8") == right.read_text("utf-8")


def test_porting_md_shows_what_the_guide_shows() -> None:
    guide = GUIDE.read_text("utf-8")
    (found,) = re.findall(
        r"```\n(each layer .*?)```", (PORTING / "guide.md").read_text("utf-8"), re.DOTALL
    )
    assert found in guide
