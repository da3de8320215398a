"""Records in which nothing could differ, or of which too little is compared,
do not pass `rosetta-diff`."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest

from porting_tests.support.altered import altered
from porting_tests.support.pairs import told
from porting_tests.support.program import refusal, rosetta
from porting_tests.support.records import (
    DATA,
    Array,
    changed,
    compared,
    edited,
    put,
    resaved,
    write_tagger,
)
from porting_tests.support.side import Side, run_program
from rosetta_record import Record


def test_a_gradient_of_a_second_bias_is_read(tmp_path: Path) -> None:
    """An LSTM of torch has two biases, which are added up, and one of Keras has their sum."""
    for times, broken in ((1.0, None), (1.01, "gradients")):
        left, right = (
            write_tagger(tmp_path / f"{side}-{times}", side, DATA) for side in ("torch", "keras")
        )
        resaved(
            left,
            "gradients",
            lambda of, times=times: of | {(bias := "lstm.bias_hh_l0"): times * of[bias]},
        )
        assert compared(left, right).broken == broken


class Alike(NamedTuple):
    """A record of both sides in which nothing could differ at a stage,
    and one in which something could."""

    nothing: Callable[[Record], Any]
    something: Callable[[Record], Any]
    stage: str = "forward"


NUMBERS = np.array([0.5, -2.0])
WEIGHTS = {"w": NUMBERS, "b": 3 * NUMBERS}


def giving(*outputs: Array) -> Callable[[Record], Any]:
    return lambda record: record.forward(
        **{f"y{place}": array for place, array in enumerate(outputs)}
    )


def with_noise(share: float) -> Callable[[Record], Any]:
    """The control shows that rounding moves the output by so much of it."""

    def write_into(record: Record) -> None:
        record.forward(y=NUMBERS)
        control = Record(record.folder / "control")
        control.forward(y=NUMBERS * (1 + share))
        for folder in (record.folder, control.folder):
            edited(folder, lambda said: said.update(precision="bfloat16"))

    return write_into


def trained(gradient: Array = NUMBERS, **after: Array) -> Callable[[Record], Any]:
    """One step, perhaps with the weights after it."""

    def write_into(record: Record) -> None:
        record.weights(**WEIGHTS)
        record.forward(y=NUMBERS)
        record.gradients(gradients={"w": gradient})
        record.optimizer("SGD", {})
        if after:
            record.step(1, 0.5, after)

    return write_into


NOTHING = {
    "nothing": Alike(giving(), giving(NUMBERS)),
    "inputs alone": Alike(
        lambda record: record.inputs(x=NUMBERS),
        lambda record: [record.inputs(x=NUMBERS), record.forward(y=NUMBERS)],
    ),
    "weights alone": Alike(
        lambda record: record.weights(**WEIGHTS),
        lambda record: [record.weights(**WEIGHTS), record.forward(y=NUMBERS)],
    ),
    "outputs of other names": Alike(
        lambda record: record.forward(**{f"{record.folder.name}{n}": NUMBERS for n in "ab"}),
        lambda record: record.forward(**{record.folder.name: NUMBERS, "y": NUMBERS}),
    ),
    "outputs without numbers": Alike(giving(np.zeros((0, 3))), giving(np.zeros((0, 3)), NUMBERS)),
    "outputs of zeros": Alike(giving(np.zeros((2, 3))), giving(np.zeros((2, 3)), NUMBERS)),
    "infinite outputs": Alike(giving(np.full(3, -np.inf)), giving(np.full(3, -np.inf), NUMBERS)),
    "outputs that rounding alone may change": Alike(with_noise(0.3), with_noise(0.2)),
    "gradients of zeros": Alike(trained(np.zeros(2)), trained(), "gradients"),
    "a step without weights after it": Alike(trained(), trained(**WEIGHTS), "step"),
}


@pytest.mark.parametrize("name", NOTHING)
def test_a_stage_on_which_nothing_could_differ_is_missing(name: str, tmp_path: Path) -> None:
    """And it fails where it is required, as the forward pass is by default."""
    case = NOTHING[name]
    require = [] if case.stage == "forward" else ["--require", case.stage]
    for write_into, passes in ((case.nothing, False), (case.something, True)):
        sides = [Record(tmp_path / f"{side}-{passes}") for side in ("left", "right")]
        for side in sides:
            write_into(side)
        folders = [side.folder for side in sides]
        del sides, side
        assert rosetta("diff", *folders, *require)[0] == (0 if passes else 1)
        told = json.loads(rosetta("diff", *folders, *require, "--json")[1].splitlines()[-1])
        assert (told["passed"], case.stage in told["not_compared"]) == (passes, not passes)


def test_records_of_weights_alone_are_compared_on_request(tmp_path: Path) -> None:
    for side in ("left", "right"):
        Record(tmp_path / side).weights(**WEIGHTS)
    folders = tmp_path / "left", tmp_path / "right"
    assert "required and not compared, forward" in refusal(1, "diff", *folders)
    assert rosetta("diff", *folders, "--require", "weights")[0] == 0
    assert "--require names fast" in refusal(2, "diff", *folders, "--require", "fast")


def test_most_weights_decide_the_precision(tmp_path: Path) -> None:
    """The first one may be of another type."""
    for name, share, broken in (("wrong", 1 + 1e-4, "forward"), ("equal", 1.0, None)):
        for side, times in (("left", 1.0), ("right", share)):
            record = Record(tmp_path / f"{side}-{name}")
            record.weights(table=NUMBERS.astype(np.float16), ids=np.arange(3), **WEIGHTS)
            record.forward(y=NUMBERS * times)
        found = compared(tmp_path / f"left-{name}", tmp_path / f"right-{name}")
        assert found.broken == broken


@pytest.mark.parametrize(("times", "broken"), [(1.0, None), (1.01, "step")])
def test_some_weights_after_a_step_are_compared(
    times: float, broken: str | None, tmp_path: Path
) -> None:
    """And the others are told."""
    for side, share in (("left", 1.0), ("right", times)):
        trained(w=WEIGHTS["w"] * 2 * share)(Record(tmp_path / side))
    found = compared(tmp_path / "left", tmp_path / "right")
    assert found.broken == broken
    assert broken or "on step, b weight, of which neither side recorded" in told(found)


def test_the_right_side_shows_no_noise_of_the_left_one(tmp_path: Path) -> None:
    wrong = changed(DATA, put("logits", lambda logits: 1.01 * logits))
    left = write_tagger(tmp_path / "left", "torch", DATA)
    right = write_tagger(tmp_path / "right", "torch", wrong)
    shutil.copytree(right, tmp_path / "copy")
    keras = write_tagger(tmp_path / "keras", "keras", wrong)
    again = write_tagger(tmp_path / "again", "torch", DATA)
    for other in (right, tmp_path / "copy", keras):
        assert "no other run of left" in refusal(2, "diff", left, right, "--again", other)
    assert rosetta("diff", left, right, "--again", again)[0] == 1
    assert rosetta("diff", left, again, "--again", again)[0] == 0


def test_a_record_that_is_still_being_made_is_not_compared(tmp_path: Path) -> None:
    """As in a notebook, whose objects live on."""
    sides = [Record(tmp_path / side) for side in ("left", "right")]
    for side, output in zip(sides, (NUMBERS, 2 * NUMBERS), strict=True):
        side.forward(y=NUMBERS)
        side.layer("fc", "mine.Linear", {"w": NUMBERS}, output=output)
    folders = tmp_path / "left", tmp_path / "right"
    assert "is still being made" in refusal(2, "diff", *folders)
    del sides, side
    found = compared(*folders)
    assert [check.tensor for check in found.checks if not check.passed or check.inside] == [
        "fc:w output"
    ]


def layers(*outputs: tuple[str, Array]) -> Callable[[Record], Any]:
    """Calls of layers, each of which has its weights from its first call on."""

    def write_into(record: Record) -> None:
        for place, (name, output) in enumerate(outputs):
            is_first = name not in [known for known, _ in outputs[:place]]
            record.layer(name, "mine.Linear", {"w": NUMBERS} if is_first else None, output=output)

    return write_into


FC, LAST = ("fc", NUMBERS), ("last", 3 * NUMBERS)
# What the left and the right side record, and what is not compared then.
LEFT_OUT = {
    "calls": (
        [FC, FC, LAST],
        [FC, FC, ("fc", 5 * NUMBERS), LAST],
        "fc:w, which was called 2 and 3 times",
    ),
    "shapes": (
        [FC, LAST],
        [("fc", NUMBERS[:, None] * [1, 2, 3]), LAST],
        "fc:w, which are of other shapes",
    ),
}


@pytest.mark.parametrize("name", LEFT_OUT)
def test_what_both_sides_have_is_compared_or_vouched_for(name: str, tmp_path: Path) -> None:
    """An output of the model vouches for it, and a line of [skip] leaves it out."""
    *both, words = LEFT_OUT[name]
    mapping = tmp_path / "mapping.toml"
    mapping.write_text('[skip]\n"fc*output" = "it is cached"\n')
    for outputs, skips, right, passes in (
        (False, (), both[1], False),
        (False, (), both[0], True),
        (False, ("--mapping", mapping), both[1], True),
        (True, (), both[1], True),
    ):
        folders = [
            tmp_path / f"{side}-{outputs}-{passes}-{len(skips)}" for side in ("left", "right")
        ]
        for folder, of in zip(folders, (both[0], right), strict=True):
            record = Record(folder)
            layers(*of)(record)
            if outputs:
                record.forward(y=7 * NUMBERS)
            del record
        status, out, err = rosetta("diff", *folders, *skips)
        assert status == (0 if passes else 1)
        assert (words in err) == (not passes)
        assert (f"not compared, forward: outputs of {words}" in out) == (outputs or not passes)


def test_a_pass_says_in_its_verdict_what_one_side_lacks(tmp_path: Path) -> None:
    """Such as a second batch."""
    for name, batches in (("left", 2), ("equal", 2), ("less", 1)):
        record = Record(tmp_path / name)
        record.inputs(**{f"x{batch}": NUMBERS for batch in range(batches)})
        record.forward(**{f"y{batch}": NUMBERS for batch in range(batches)})
        record.loss(0.5)
        for step in range(batches):
            record.step(step + 1, 0.5, {})
    said = [
        next(
            line
            for line in told(compared(tmp_path / "left", tmp_path / right)).splitlines()
            if "computes" in line
        )
        for right in ("equal", "less")
    ]
    assert said[0].endswith("forward, loss, trajectory; not compared: weights, gradients, step")
    for words in (
        "on tensors, x1, recorded on one side only",
        "on forward, y1, recorded on one side only",
    ):
        assert words in said[1]


RECORDED = "import sys; from porting_tests.support.excuses import record; record(*sys.argv[1:])"


def excuses(started: dict[str, Side], name: str, folder: Path) -> list[Path]:
    """The left side, an equal and a wrong right side of a row of support/excuses.py."""
    started["torch"].do(run_program, text=RECORDED, arguments=[name, str(folder)])
    return [folder / str(turn) for turn in range(3)]


@pytest.mark.parametrize(
    "name",
    [
        "MetMargin",
        *("BoxesInPixels", "LargeLogits", "TableAtTheEnd", "HeadOfZeros", "TimesZero"),
        "HugeNeighbours",
        "SmallGradient",
        "RoundedOnTheLeft",
    ],
)
def test_a_model_that_parts_does_not_pass(
    name: str, started: dict[str, Side], tmp_path: Path
) -> None:
    left, equal, wrong = excuses(started, name, tmp_path)
    assert compared(left, equal).passed
    assert not compared(left, wrong).passed


def test_a_tensor_that_rounding_moves_has_a_bound_of_its_own(
    started: dict[str, Side], tmp_path: Path
) -> None:
    """One ulp moves the scalar's gradient by 8e-5, and the table allows 1e-4."""
    left, *rights = excuses(started, "ScalarOfTermsThatCancel", tmp_path)
    for right, error, broken in zip(rights, (1.5e-4, 1e-3), (None, "gradients"), strict=True):
        times = np.float32([1 + error]).reshape(())
        resaved(
            right,
            "gradients",
            lambda of, times=times: of | {"scale": np.asarray(of["scale"] * times)},
        )
        assert compared(left, right).broken == broken


def test_outputs_without_weights_have_their_own_precision(tmp_path: Path) -> None:
    for name, times in (("left", 1.0), ("equal", 1.0), ("wrong", 1 + 1e-5)):
        giving(NUMBERS * times)(Record(tmp_path / name))
    assert compared(tmp_path / "left", tmp_path / "equal").passed
    assert not compared(tmp_path / "left", tmp_path / "wrong").passed


SETTINGS = {
    "Epsilon": "epsilon",
    "Dropout": "dropout",
    "Momentum": "momentum",
    "DecayOfZeros": "decay",
    "FrozenWeight": "frozen",
}


@pytest.mark.parametrize("name", SETTINGS)
def test_a_pass_lists_settings_that_differ(
    name: str, started: dict[str, Side], tmp_path: Path
) -> None:
    left, equal, other = excuses(started, name, tmp_path)
    assert SETTINGS[name] not in told(compared(left, equal))
    assert SETTINGS[name] in told(compared(left, other))


@pytest.mark.parametrize("name", ["MovedResidual", "OutputsInAnotherOrder", "SharedTable"])
def test_a_model_that_is_cut_otherwise_passes(
    name: str, started: dict[str, Side], tmp_path: Path
) -> None:
    left, equal, wrong = excuses(started, name, tmp_path)
    assert not compared(left, wrong).passed
    assert compared(left, equal).passed


# The words of a cause that does not act, the lines in which they may not stand, and what acts.
FALSE = {
    "CallsInAnotherOrder": ("backwards in time", "likely", ""),
    "ClampAfterStep": ("epsilon", "likely", ""),
    "DropoutOfOneLayer": ("dropout", "", ""),
    "PaddingModeOfAKernel": ("dilation", "", "padding_mode is zeros"),
    "FunctionForModule": ("calls", "", ""),
}


@pytest.mark.parametrize("name", FALSE)
def test_what_does_not_act_is_no_cause(name: str, started: dict[str, Side], tmp_path: Path) -> None:
    left, equal, wrong = excuses(started, name, tmp_path)
    words, among, acts = FALSE[name]
    assert compared(left, equal).passed
    for right, expected in ((equal, ""), (wrong, acts)):
        lines = told(compared(left, right)).splitlines()
        assert not any(words in line for line in lines if among in line)
        assert any(expected in line for line in lines)


LIKELY = {
    "NormWithActivation": "within norm the left side calls ReLU norm.act, the right side SiLU",
    "MissingModule": "before last the left side calls SELU act, the right side does not",
    "GatedHalves": "last takes first with its second half as the gate on the left and first with "
    "its first half as the gate on the right",
}


@pytest.mark.parametrize("name", LIKELY)
def test_what_acts_is_likely(name: str, started: dict[str, Side], tmp_path: Path) -> None:
    left, equal, wrong = excuses(started, name, tmp_path)
    assert compared(left, equal).passed
    assert f"likely: {LIKELY[name]}" in told(compared(left, wrong))


def test_the_axis_of_a_softmax_is_told(started: dict[str, Side], tmp_path: Path) -> None:
    """The last one may be counted from the first. What both sides call alike is not told."""
    left, equal, wrong = excuses(started, "SoftmaxOverAnAxis", tmp_path)
    assert "axis" not in told(compared(left, equal))
    found = told(compared(left, wrong))
    assert "differs: of act axis is -1 on the left and 1 on the right" in found
    assert "side calls" not in found

    def give_nothing(record: dict[str, Any]) -> None:
        for call in record["calls"]:
            if call["layer"] == "act":
                call["parts"] = []

    for right in (equal, wrong):  # a softmax whose outputs were not recorded
        edited(right, give_nothing)
    assert compared(left, equal).passed
    assert "axis" not in told(compared(left, wrong))


def test_calls_of_several_shapes_have_their_order(started: dict[str, Side], tmp_path: Path) -> None:
    """And the place of a mistake is right."""
    left, equal, wrong = excuses(started, "CallsOfOtherShapes", tmp_path)
    found = compared(left, equal)
    assert found.passed
    assert not any(check.inside for check in found.checks)
    assert compared(left, wrong).explanation[1].startswith("last output")


def test_complex_numbers_are_recorded(tmp_path: Path) -> None:
    """A layer gives them, and so does the model."""
    for name, times in (("left", 1), ("equal", 1), ("wrong", 1j)):
        record = Record(tmp_path / name)
        layers(("fft", times * np.fft.fft(NUMBERS + 1)), LAST)(record)
        record.forward(y=times * np.fft.fft(NUMBERS))
    assert compared(tmp_path / "left", tmp_path / "equal").passed
    found = compared(tmp_path / "left", tmp_path / "wrong")
    assert found.explanation[1].startswith("fft:w output: error")


def test_one_step_is_no_trajectory(tmp_path: Path) -> None:
    for name, steps in (("left", 2), ("right", 2), ("short", 1)):
        record = Record(tmp_path / name)
        record.forward(y=NUMBERS)
        for step in range(steps):
            record.step(step + 1, 0.5, {})
    assert compared(tmp_path / "left", tmp_path / "right").compared == [
        "forward",
        "loss",
        "trajectory",
    ]
    assert compared(tmp_path / "left", tmp_path / "short").compared == ["forward", "loss"]


def test_a_model_that_gives_its_outputs_itself_lacks_none(
    started: dict[str, Side], tmp_path: Path
) -> None:
    """Outputs by name are missed where nothing else tells what the model gives."""
    left, equal, _ = excuses(started, "OutputsOfTheRoot", tmp_path)
    assert "recorded no outputs" not in told(compared(left, equal))
    for side in ("one", "other"):
        layers(FC)(Record(tmp_path / side))
    assert "recorded no outputs" in told(compared(tmp_path / "one", tmp_path / "other"))


@pytest.mark.parametrize("name", ["", "MovedResidual", "OutputsInAnotherOrder"])
def test_each_array_that_changes_is_seen(
    name: str, started: dict[str, Side], tmp_path: Path
) -> None:
    """The comparison fails, or a remark tells.
    `python -m porting_tests.support.altered` tries all."""
    if name:
        left, right, _ = excuses(started, name, tmp_path)
    else:
        left, right = (write_tagger(tmp_path / side, side, DATA) for side in ("torch", "keras"))
    rng = np.random.default_rng(len(name))
    made = [*altered(left, right, rng, share=0.25)]
    assert len(made) > 4
    assert [change for change in made if not change.seen] == []
