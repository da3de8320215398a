"""The page of excuses is the table of rules; each rule is applied somewhere, and none is silent."""

import re
from pathlib import Path

import numpy as np
import pytest

from porting_tests.support import PORTING
from porting_tests.support.records import Layer, compared, dense, edited, linear, write_layers
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
    told = [
        line
        for line in lines
        if line.startswith("| ") and not line.startswith(("| rule |", "| --- |"))
    ]
    of_head = [
        (rules.FORMS, ""),
        (rules.WIDER, ""),
        (rules.EXCUSES, ""),
        (rules.LEFT_OUT, rules.NOT_COMPARED),
    ]
    assert told == [row(rule, head) for table, head in of_head for rule in table]


def test_each_rule_stands_in_the_table_and_is_applied() -> None:
    assert {*NAMED.values()} == {*rules.FORMS, *rules.WIDER, *rules.EXCUSES, *rules.LEFT_OUT}
    code = "".join(
        path.read_text("utf-8") for path in Path(rules.__file__).parents[1].rglob("*.py")
    )
    assert [name for name in NAMED if f"rules.{name}" not in code] == []
    loosening = {rule for of_stage in LOOSER.values() for rule, _ in of_stage}
    assert loosening <= {*rules.FORMS, *rules.WIDER, rules.UNDERFLOW}


def test_no_rule_is_silent() -> None:
    assert [rule.name for rule in NAMED.values() if not rule.remark.strip()] == []


SMALL = "small beside the model's largest, by which they are measured, gradients: b weight"
EXPLAINED = "explained by differences of gradients that are within their bound, step: b weight"


@pytest.mark.parametrize(
    ("gradient", "broken"), [(2e-15, None), (1e-15, None), (1e-3, "gradients")]
)
def test_a_gradient_of_rounding_is_told(
    gradient: float, broken: str | None, tmp_path: Path
) -> None:
    """And a step that Adam makes of it, which has one length in either direction."""
    weights = {"w": np.array([0.5, -2.0]), "b": np.array([1.5, -6.0])}
    for side, of_bias in (("left", -1e-15), ("equal", -1e-15), ("right", gradient)):
        gradients = {"w": np.array([1.0, 3.0]), "b": np.array([of_bias, 2e-15])}
        record = Record(tmp_path / side)
        record.weights(**weights)
        record.forward(y=weights["w"])
        record.gradients(gradients=gradients)
        record.optimizer("Adam", {})
        record.step(
            1, 0.5, {name: weights[name] - 0.01 * np.sign(of) for name, of in gradients.items()}
        )
        del record
    found = compared(tmp_path / "left", tmp_path / "right")
    assert found.broken == broken
    assert [words in found.notes for words in (SMALL, EXPLAINED)] == [broken is None] * 2
    assert not {SMALL, EXPLAINED} & {*compared(tmp_path / "left", tmp_path / "equal").notes}


@pytest.mark.parametrize(("further", "broken"), [(1.0, None), (1.1, "step")])
def test_a_norm_to_which_gradients_are_clipped_explains_a_step(
    further: float, broken: str | None, tmp_path: Path
) -> None:
    """The gradient of w is within its bound, which is measured, and by it b moves less."""
    start = {"w": np.array([0.5, -2.0], np.float32), "b": np.array([1.5, -6.0], np.float32)}

    def write(folder: Path, times: float, further: float = 1.0) -> None:
        gradients = {name: np.array([30.0, -20.0], np.float32) for name in start}
        gradients["w"] *= np.float32(times)
        record = Record(folder)
        record.weights(**start)
        record.forward(y=start["w"])
        record.gradients(gradients=gradients)
        if folder.name != "control":
            norm = np.linalg.norm([*gradients.values()])
            steps = {name: np.float32(0.1 / norm) * of for name, of in gradients.items()}
            steps["b"] *= np.float32(further)
            record.step(1, 0.5, {name: start[name] - step for name, step in steps.items()})

    write(tmp_path / "left", 1.0)
    write(tmp_path / "left" / "control", 1.01)
    write(tmp_path / "right", 1.02, further)
    found = compared(tmp_path / "left", tmp_path / "right")
    assert found.broken == broken
    if not broken:
        assert f"{EXPLAINED}, w weight" in found.notes


def test_a_square_that_underflows_is_left_out_of_a_step(tmp_path: Path) -> None:
    """Numbers above float16's normal ones are compared,
    and of a step without such numbers nothing is said."""
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
    equal = write("equal", [0.03, 0.03, 5.0, 0.01])
    rounded = write("rounded", [0.03, 0.03, 0.02, 3.0])
    wrong = write("wrong", [0.06, 0.03, 5.0, 0.01])
    remark = (
        "2 of 4 numbers of w weight, where the squares of gradients are below float16's normal "
        "numbers"
    )
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
    other_shape = (
        write("other shape", [0.03] * 4, [1e-3] * 2),
        write("its twin", [0.03] * 4, [1e-3] * 2),
    )
    assert compared(*other_shape).broken is None


@pytest.mark.parametrize(("gradient", "broken"), [(1e-3, None), (0.5, "trajectory")])
def test_a_loss_after_an_underflowing_step_is_left_out(
    gradient: float, broken: str | None, tmp_path: Path
) -> None:
    """And not one after a step that is compared whole."""
    start, remark = np.ones(2, np.float16), "not compared, trajectory: losses after such a step"
    for side, moved, loss in (("left", 5.0, 0.25), ("equal", 5.0, 0.25), ("right", 0.02, 0.5)):
        record = Record(tmp_path / side)
        record.weights(w=start)
        record.forward(y=start)
        record.gradients(gradients={"w": np.array([0.5, gradient], np.float16)})
        record.optimizer("RMSprop", {"rho": 0.9, "iterations": 1})
        step = [0.03, 0.03 if broken else moved]
        record.step(1, 0.5, {"w": start - np.array(step, np.float16)})
        record.step(2, loss, {})
        del record
    found = compared(tmp_path / "left", tmp_path / "right")
    assert (found.broken, remark in found.notes) == (broken, broken is None)
    assert remark not in compared(tmp_path / "left", tmp_path / "equal").notes


def test_a_last_state_of_padding_alone_is_excused(tmp_path: Path) -> None:
    """Keras's sequence ends with zeros where another framework gives the last state
    before the padding."""
    rng = np.random.default_rng(0)
    kernel, recurrent, bias = (rng.normal(size=size) for size in ((3, 3), (3, 3), 3))
    given, sequence, output = (rng.normal(size=(2, 4, 3)) for _ in range(3))
    sequence[1, 2:] = 0.0
    states = np.stack([sequence[0, 3], sequence[1, 1]])[None]
    of_keras = {"kernel": kernel, "recurrent_kernel": recurrent, "bias": bias}
    of_torch = {
        "weight_ih_l0": kernel.T,
        "weight_hh_l0": recurrent.T,
        "bias_ih_l0": bias,
        "bias_hh_l0": 0 * bias,
    }
    moved, of_padded = (states + np.array([[[a], [b]]]) for a, b in ((0.1, 0.0), (0.0, 0.1)))
    by_side = {
        "keras": (
            dense(np.eye(3), given),
            Layer(["SimpleRNN", "RNN"], of_keras, sequence),
            dense(kernel, output),
        )
    }
    for side, last in (("right", states), ("wrong", moved), ("wrong padded", of_padded)):
        rnn = Layer(["RNN", "RNNBase"], of_torch, (sequence, last), {"batch_first": True})
        by_side[side] = linear(np.eye(3), given), rnn, linear(kernel, output)
    records = []
    for side, layers in by_side.items():
        framework = "keras" if side == "keras" else "torch"
        named = dict(zip(("fc", "rnn", "out"), layers, strict=True))
        record = write_layers(tmp_path / side, framework, named)
        records.append(edited(record, lambda said: said["calls"][1].update(inputs={"x": "0:fc:0"})))
    left, right, *wrong = records
    found = compared(left, right)
    assert found.passed, found.explanation
    assert [check.tensor for check in found.checks if rules.PADDED in check.rules] == ["rnn last"]
    assert all(compared(left, other).explanation[1].startswith("rnn last") for other in wrong)
