"""Records that differ do not pass `rosetta-diff`, and records that are equal do."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest

from porting_tests.support.program import refusal, rosetta
from porting_tests.support.records import DATA, Array, Change, changed, edited, put, resaved, write
from rosetta_diff.diff import Diff, compare_records
from rosetta_diff.read.record import Side
from rosetta_record import Record


def same(_: object) -> None:
    """Change nothing."""


class Case(NamedTuple):
    """What both sides have, what the right side has otherwise, and the stage that sees it."""

    both: Change
    right: Change
    stage: str
    precision: str = "float32"


def giving_tokens(last: int, dtype: type = np.float32) -> Change:
    """Beside the logits the model gives ten whole numbers, such as tokens."""
    return put("further tokens", lambda _: np.array([0, 7, 3, 9, 2, 1, 1, 4, 8, last], dtype))


# A large loss of the first step is no scale of the others, which are small.
FALLING = [5000.0, 3.0, 1.0]
CASES = {
    "a token that is off by one": Case(giving_tokens(100_000), giving_tokens(100_001), "forward"),
    "a token that is off by one in float64": Case(
        giving_tokens(1 << 40, float), giving_tokens((1 << 40) + 1, float), "forward", "float64"
    ),
    "a token that is off by one beside bfloat16": Case(giving_tokens(100), giving_tokens(101), "forward", "bfloat16"),
    "a token that is a float on one side": Case(giving_tokens(100_000), giving_tokens(100_001, int), "forward"),
    "a gradient that one side lacks": Case(
        same, put("gradients fc", lambda of: {"kernel": of["kernel"]}), "gradients"
    ),
    "a second loss that is larger by 8 %": Case(
        put("losses", lambda _: FALLING), put("losses", lambda _: [5000.0, 3.24, 1.0]), "trajectory"
    ),
    "a last loss that is larger by 1e-7": Case(
        put("losses", lambda _: FALLING), put("losses", lambda _: [5000.0, 3.0, 1.0000001]), "trajectory", "float64"
    ),
}


def compared(folder: Path, both: Change, right: Change, precision: str) -> Diff:
    data = changed(DATA, both)
    paths = write(folder / "left", "torch", data), write(folder / "right", "keras", changed(data, right))
    return compare_records(*(Side(edited(path, put("precision", lambda _: precision))) for path in paths))


@pytest.mark.parametrize("name", CASES)
def test_a_difference_is_seen_at_its_stage_and_its_equal_twin_passes(name: str, tmp_path: Path) -> None:
    case = CASES[name]
    assert compared(tmp_path / "differ", case.both, case.right, case.precision).broken == case.stage
    twin = compared(tmp_path / "equal", case.both, same, case.precision)
    assert twin.passed, twin.explanation


# Of the left side, which is torch's, a file and an array in it, and the stage that sees another array there. An LSTM
# of torch has two biases, which are added up, and one of Keras has their sum.
OF_FILES = {
    "the gradient of a second bias": ("gradients", "lstm.bias_hh_l0", "gradients"),
}


@pytest.mark.parametrize("name", OF_FILES)
def test_an_array_that_nothing_else_shows_is_read(name: str, tmp_path: Path) -> None:
    file, array, stage = OF_FILES[name]
    for times, broken in ((1.0, None), (1.01, stage)):
        left, right = (write(tmp_path / f"{side}-{times}", side, DATA) for side in ("torch", "keras"))
        resaved(left, file, lambda arrays, times=times: arrays | {array: times * arrays[array]})
        assert compare_records(Side(left), Side(right)).broken == broken


class Told(NamedTuple):
    """What both sides have, a right side without a mistake and the words that tell of it, and one with a mistake and
    the stage that sees it."""

    both: Change
    right: Change
    words: str
    wrong: Change
    stage: str
    precision: str = "float64"


def either(data: dict[str, Any]) -> None:
    """Both sides are fed a mask, and the labels as numbers."""
    data["inputs"] |= {"mask": np.tri(4, 5), "labels": np.arange(4.0)}


def tied(best: int, token: int | None = None) -> Change:
    """Of the scores (4, 5, 6) of one token two are the highest but for rounding; it is the best one, or another."""

    def change(data: dict[str, Any]) -> None:
        scores = np.array(DATA["logits"])
        scores[1, 2, 4:] = 10 - 0.01 * (np.arange(4, 6) != best)
        data["logits"], chosen = scores, scores.argmax(-1)
        chosen[1, 2] = best if token is None else token
        data["further"] = {"tokens": chosen}

    return change


TOLD = {
    "a mask of true and false": Told(
        either, put("inputs mask", lambda mask: mask.astype(bool)),
        "only values are compared of mask: float64 on the left and bool on the right",
        put("inputs mask", lambda mask: mask == 0), "tensors",
    ),
    "an image of the same numbers in float32": Told(
        either, put("inputs mask", lambda mask: mask.astype(np.float32)),
        "only values are compared of mask: float64 on the left and float32 on the right",
        put("inputs mask", lambda mask: (mask / 3).astype(np.float32)), "tensors",
    ),
    "zeros with a sign": Told(
        either, put("inputs mask", lambda mask: np.where(mask == 0, -0.0, mask)),
        "only values are compared of mask: zeros have other signs",
        put("inputs mask", lambda mask: -mask), "tensors",
    ),
    "labels with an axis of one number": Told(
        either, put("inputs labels", lambda labels: labels[:, None]),
        "only values are compared of labels: (4,) on the left and (4, 1) on the right",
        put("inputs labels", lambda labels: np.roll(labels, 1)[:, None]), "tensors",
    ),
    "a token near a tie": Told(
        tied(4), tied(5), "numbers of tokens differ where logits is a tie", tied(5, token=3), "forward",
        "bfloat16",
    ),
    "a weight that no loss reaches, without a gradient": Told(
        put("gradients fc bias", np.zeros_like), put("gradients fc", lambda of: {"kernel": of["kernel"]}),
        "not compared, gradients: fc bias, of which one side has no gradient and the other one zeros",
        put("gradients fc bias", lambda bias: bias + 1e-3), "gradients",
    ),
    "an output with an axis of one number": Told(
        put("logits", lambda logits: logits[0, 0]), put("logits", lambda logits: logits[:, None]),
        "only values are compared of logits: (6,) on the left and (6, 1) on the right",
        put("logits", lambda logits: 1.01 * logits[:, None]), "forward",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", TOLD)
def test_what_is_no_mistake_is_told_and_a_mistake_beside_it_is_seen(name: str, tmp_path: Path) -> None:
    case = TOLD[name]
    told = compared(tmp_path / "told", case.both, case.right, case.precision)
    assert told.passed, told.explanation
    assert any(case.words in note for note in told.notes), told.notes
    assert compared(tmp_path / "wrong", case.both, case.wrong, case.precision).broken == case.stage


class Alike(NamedTuple):
    """A record of both sides in which nothing could differ at a stage, and one in which something could."""

    nothing: Callable[[Record], Any]
    something: Callable[[Record], Any]
    stage: str = "forward"


NUMBERS = np.array([0.5, -2.0])
WEIGHTS = {"w": NUMBERS, "b": 3 * NUMBERS}


def giving(*outputs: Array) -> Callable[[Record], Any]:
    return lambda record: record.forward(**{f"y{place}": array for place, array in enumerate(outputs)})


def with_noise(share: float) -> Callable[[Record], Any]:
    """The control shows that rounding moves the output by so much of it."""

    def recorded(record: Record) -> None:
        record.forward(y=NUMBERS)
        control = Record(record.folder / "control")
        control.forward(y=NUMBERS * (1 + share))
        for folder in (record.folder, control.folder):
            edited(folder, lambda said: said.update(precision="bfloat16"))

    return recorded


def trained(gradient: Array = NUMBERS, **after: Array) -> Callable[[Record], Any]:
    """One step, perhaps with the weights after it."""

    def recorded(record: Record) -> None:
        record.weights(**WEIGHTS)
        record.forward(y=NUMBERS)
        record.gradients(gradients={"w": gradient})
        record.optimizer("SGD", {})
        if after:
            record.step(1, 0.5, after)

    return recorded


NOTHING = {
    "nothing": Alike(giving(), giving(NUMBERS)),
    "inputs alone": Alike(
        lambda record: record.inputs(x=NUMBERS), lambda record: [record.inputs(x=NUMBERS), record.forward(y=NUMBERS)]
    ),
    "weights alone": Alike(
        lambda record: record.weights(**WEIGHTS),
        lambda record: [record.weights(**WEIGHTS), record.forward(y=NUMBERS)],
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
    for recorded, passes in ((case.nothing, False), (case.something, True)):
        sides = [Record(tmp_path / f"{side}-{passes}") for side in ("left", "right")]
        for side in sides:
            recorded(side)
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


def test_outputs_of_other_names_are_not_compared(tmp_path: Path) -> None:
    for name, outputs, others in (("other", "ab", "cd"), ("same", "ab", "bc")):
        folders = []
        for side, names in (("left", outputs), ("right", others)):
            Record(tmp_path / f"{side}-{name}").forward(**dict.fromkeys(names, NUMBERS))
            folders.append(tmp_path / f"{side}-{name}")
        assert rosetta("diff", *folders)[0] == (0 if name == "same" else 1)


def test_most_weights_decide_the_precision(tmp_path: Path) -> None:
    """The first one may be of another type."""
    for name, share, broken in (("wrong", 1 + 1e-4, "forward"), ("equal", 1.0, None)):
        for side, times in (("left", 1.0), ("right", share)):
            record = Record(tmp_path / f"{side}-{name}")
            record.weights(table=NUMBERS.astype(np.float16), ids=np.arange(3), **WEIGHTS)
            record.forward(y=NUMBERS * times)
        found = compare_records(Side(tmp_path / f"left-{name}"), Side(tmp_path / f"right-{name}"))
        assert found.broken == broken


def test_the_right_side_shows_no_noise_of_the_left_one(tmp_path: Path) -> None:
    wrong = changed(DATA, put("logits", lambda logits: 1.01 * logits))
    left, right = write(tmp_path / "left", "torch", DATA), write(tmp_path / "right", "torch", wrong)
    shutil.copytree(right, tmp_path / "copy")
    keras, again = write(tmp_path / "keras", "keras", wrong), write(tmp_path / "again", "torch", DATA)
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
    found = compare_records(*map(Side, folders))
    assert [check.tensor for check in found.checks if not check.passed or check.inside] == ["fc:w output"]
