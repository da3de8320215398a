"""The page of excuses is the table of rules; each rule is applied somewhere, and none is silent."""

import re
from pathlib import Path

import numpy as np
import pytest

from porting_tests.support import PORTING
from porting_tests.support.records import compared
from rosetta_diff.judge import rules
from rosetta_diff.judge.looser import LOOSER
from rosetta_diff.judge.rules import Rule
from rosetta_record import Record

NAMED = {name: rule for name, rule in vars(rules).items() if isinstance(rule, Rule)}


def row(rule: Rule, head: str = "") -> str:
    remark = re.sub(r"{(\w+)(:.*?)?}", r"*\1*", head + rule.remark)
    return f"| {rule.name} | {remark} |"


def test_the_page_of_excuses_is_the_table() -> None:
    lines = (PORTING / "excuses.md").read_text("utf-8").splitlines()
    told = [line for line in lines if line.startswith("| ") and not line.startswith(("| rule |", "| --- |"))]
    of_head = [(rules.FORMS, ""), (rules.WIDER, ""), (rules.EXCUSES, ""), (rules.LEFT_OUT, rules.NOT_COMPARED)]
    assert told == [row(rule, head) for table, head in of_head for rule in table]


def test_each_rule_stands_in_the_table_and_is_applied() -> None:
    assert {*NAMED.values()} == {*rules.FORMS, *rules.WIDER, *rules.EXCUSES, *rules.LEFT_OUT}
    code = "".join(path.read_text("utf-8") for path in Path(rules.__file__).parents[1].rglob("*.py"))
    assert [name for name in NAMED if f"rules.{name}" not in code] == []
    loosening = {rule for of_stage in LOOSER.values() for rule, _ in of_stage}
    assert loosening <= {*rules.FORMS, *rules.WIDER, rules.UNDERFLOW}


def test_no_rule_is_silent() -> None:
    assert [rule.name for rule in NAMED.values() if not rule.remark.strip()] == []


SMALL = "small beside the model's largest, by which they are measured, gradients: b weight"
EXPLAINED = "explained by differences of gradients that are within their bound, step: b weight"


@pytest.mark.parametrize(("gradient", "broken"), [(2e-15, None), (1e-15, None), (1e-3, "gradients")])
def test_a_gradient_of_rounding_is_told(gradient: float, broken: str | None, tmp_path: Path) -> None:
    """And a step that Adam makes of it, which has one length in either direction."""
    weights = {"w": np.array([0.5, -2.0]), "b": np.array([1.5, -6.0])}
    for side, of_bias in (("left", -1e-15), ("equal", -1e-15), ("right", gradient)):
        gradients = {"w": np.array([1.0, 3.0]), "b": np.array([of_bias, 2e-15])}
        record = Record(tmp_path / side)
        record.weights(**weights)
        record.forward(y=weights["w"])
        record.gradients(gradients=gradients)
        record.optimizer("Adam", {})
        record.step(1, 0.5, {name: weights[name] - 0.01 * np.sign(of) for name, of in gradients.items()})
        del record
    found = compared(tmp_path / "left", tmp_path / "right")
    assert found.broken == broken
    assert [words in found.notes for words in (SMALL, EXPLAINED)] == [broken is None] * 2
    assert not {SMALL, EXPLAINED} & {*compared(tmp_path / "left", tmp_path / "equal").notes}


def test_a_square_that_underflows_is_left_out_of_a_step(tmp_path: Path) -> None:
    """Numbers above float16's normal ones are compared, and of a step without such numbers nothing is said."""
    start, root = np.ones(4, np.float16), [0.5, 0.25, 1e-3, 1e-3]

    def write(side: str, step: list[float], gradient: list[float] = root) -> Path:
        record = Record(tmp_path / side)
        record.weights(w=start)
        record.forward(y=start)
        record.gradients(gradients={"w": np.array(gradient, np.float16)})
        record.optimizer("RMSprop", {"rho": 0.9, "iterations": 1})
        record.step(1, 0.5, {"w": start - np.array(step, np.float16)})
        return tmp_path / side

    left = write("left", [0.03, 0.03, 5.0, 0.01])
    equal, rounded = write("equal", [0.03, 0.03, 5.0, 0.01]), write("rounded", [0.03, 0.03, 0.02, 3.0])
    wrong = write("wrong", [0.06, 0.03, 5.0, 0.01])
    remark = "2 of 4 numbers of w weight, where the squares of gradients are below float16's normal numbers"
    assert remark not in [of.what for of in compared(left, equal).left_out]
    found = compared(left, rounded)
    assert found.passed
    assert remark in [of.what for of in found.left_out]
    assert "step" in found.compared
    assert compared(left, wrong).broken == "step"
    small = [1e-3] * 4
    both = write("small", [0.03] * 4, small), write("other", [0.03, 0.03, 5.0, 0.01], small)
    found = compared(*both)
    assert "step" in found.missing
    assert any(note.startswith("not compared, step: 4 of 4 numbers of ") for note in found.notes)
