"""The bounds of `rosetta-diff`: some times the left side's own noise where that was measured,
and else those of the table."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from porting_tests.support.program import answer, refusal, rosetta
from porting_tests.support.records import (
    DATA,
    Array,
    changed,
    controlled,
    described,
    edited,
    put,
    resaved,
    tagger,
    write_tagger,
)
from rosetta_diff import report
from rosetta_diff.diff import Diff, compare_records
from rosetta_diff.judge.bounds import NOISES, NOISES_OF_GRADIENTS, TOLERANCES_OF_ANY_MODEL
from rosetta_diff.judge.check import STAGES, Bound, Item, judge
from rosetta_diff.judge.noise import rounding_of_loss
from rosetta_diff.read.side import Side
from rosetta_record import Record
from rosetta_record.values import move_one_unit

AUTOCAST = {"precision": "float32", "autocast": "bfloat16"}
# Of a stage, where in a record its numbers are.
QUANTITIES = {
    "forward": ["logits", "outputs fc"],
    "loss": ["loss"],
    "gradients": ["gradients fc kernel"],
}


# How many times the noise of a stage its bound is.
TIMES = dict.fromkeys(QUANTITIES, NOISES) | {"gradients": NOISES_OF_GRADIENTS}


def off(stage: str, share: float) -> dict[str, Any]:
    """The data of a side whose numbers of a stage are too large by this share."""
    return changed(
        DATA, *(put(place, lambda numbers: numbers * (1 + share)) for place in QUANTITIES[stage])
    )


def written(path: Path, framework: str, data: dict[str, Any], **said: Any) -> Path:
    return edited(write_tagger(path, framework, data), lambda record: record.update(said))


def compared(
    folder: Path,
    right: dict[str, Any],
    control: dict[str, Any],
    said: dict[str, Any],
    said_right: dict[str, Any],
) -> Diff:
    """The data of a right side against DATA, of which the control has other data, in float64
    another run; and what both records say."""
    left = written(folder / "left", "torch", DATA, **said)
    again = [written(folder / "again", "torch", control, **said)] if control else []
    if described(left)["precision"] != "float64":
        again = [] if all(controlled(left, run) for run in again) else again
    right_side = Side(written(folder / "right", "keras", right, **said_right))
    return compare_records(Side(left), right_side, again=[*map(Side, again)])


# The stage whose numbers are off, and the one whose noise was measured: a loss may round as the
# outputs do that it is made of, since the effect of an ulp on the loss may cancel out.
@pytest.mark.parametrize(
    ("stage", "noisy"), [*zip(QUANTITIES, QUANTITIES, strict=True), ("loss", "forward")]
)
@pytest.mark.parametrize(
    ("noise", "said"),
    [(1e-11, {"precision": "float64"}), (0.04, AUTOCAST), (0.04, {"precision": "bfloat16"})],
)
def test_a_bound_is_so_many_times_the_noise(
    stage: str, noisy: str, noise: float, said: dict[str, Any], tmp_path: Path
) -> None:
    for share, broken in ((0.75, None), (1.25, stage)):
        right = off(stage, share * TIMES[stage] * noise)
        found = compared(tmp_path, right, off(noisy, noise), said, said)
        assert found.broken == broken, found.explanation
        worst = next(
            check for stage_, _, check, _ in report.worst_of_stages(found) if stage_ == stage
        )
        assert worst.item.bound.measured
        assert noisy != stage or worst.tolerance == pytest.approx(TIMES[stage] * noise, rel=1e-3)
        assert report.origin_of(worst) == "noise"
        run = (
            "again"
            if said["precision"] == "float64"
            else f"one ulp of {said.get('autocast', said['precision'])}"
        )
        assert f"times what {run} does" in report.bounds_line(found)


@pytest.mark.parametrize("said", [{"precision": "float64"}, AUTOCAST])
def test_tokens_must_be_the_same_in_every_precision(said: dict[str, Any], tmp_path: Path) -> None:
    for name, tokens in (("left", [1, 1 << 40]), ("same", [1, 1 << 40]), ("other", [2, 1 << 40])):
        resaved(
            written(tmp_path / name, "torch", DATA, **said),
            "outputs",
            lambda _, of=tokens: {"y": np.array(of)},
        )
    left, same, other = (Side(tmp_path / name) for name in ("left", "same", "other"))
    assert compare_records(left, same).passed
    found = compare_records(left, other)
    assert found.broken == "forward"
    assert "y: error 1.0e+00, bound 0.0e+00; index 0: got 2, expected 1" in found.explanation


def test_the_table_is_never_weaker_in_float64(tmp_path: Path) -> None:
    bound, says = TOLERANCES_OF_ANY_MODEL["outputs"]["float64"], {"precision": "float64"}
    found = compared(tmp_path, off("forward", 2 * bound), off("forward", 0.9 * bound), says, says)
    assert found.broken == "forward"
    assert {check.tolerance for check in found.checks if check.stage == "forward"} == {bound}
    assert not any(check.item.bound.measured for check in found.checks if check.stage == "forward")


@pytest.mark.parametrize(
    ("stage", "share"),
    [*((stage, 2) for stage in QUANTITIES), *((stage, 0.9) for stage in ("forward", "gradients"))],
)
def test_noise_of_float32_counts_where_it_exceeds_the_table(
    stage: str, share: float, tmp_path: Path
) -> None:
    """As in a stack of 60 layers; or where its bound does,
    as that of a scalar's gradient. In float64 the table holds."""
    quantity = "outputs" if stage == "forward" else stage
    noise = share * TOLERANCES_OF_ANY_MODEL[quantity]["float32"]
    for part, broken in ((0.75, None), (1.25, stage)):
        says = {"precision": "float32"}
        right = off(stage, part * TIMES[stage] * noise)
        found = compared(tmp_path, right, off(stage, noise), says, says)
        assert found.broken == broken, found.explanation
        assert found.passed == (broken is None)
        words = f"rounding alone moves {quantity} by "
        assert any(words in note for note in found.notes)
    says = {"precision": "float64"}
    assert compared(tmp_path, off(stage, 3 * noise), off(stage, noise), says, says).broken == stage


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_noise_of_a_tensor_is_its_own(precision: str, tmp_path: Path) -> None:
    """A tensor near zero, of which rounding moves a third,
    lifts no other tensor's bound above the table."""
    bound, numbers = TOLERANCES_OF_ANY_MODEL["outputs"][precision], np.array([0.5, -2.0])
    for name, far in (("within", 1.0), ("beyond", 1 + 2 * bound)):
        sides = [Record(tmp_path / f"{name}-{side}") for side in ("left", "right")]
        runs = [*sides, Record(sides[0].folder / "control")]
        for run, of_near, of_far in zip(runs, (1.0, 1.2, 1.3), (1.0, far, 1.0), strict=True):
            run.forward(near=1e-8 * numbers * of_near, far=numbers * of_far)
            edited(run.folder, lambda said: said.update(precision=precision))
        found = compare_records(*(Side(side.folder) for side in sides))
        assert [check.tensor for check in found.checks if not check.passed] == ["far"] * (
            name == "beyond"
        )


def test_another_left_run_shows_noise_of_the_same_weights(
    tmp_path: Path,
) -> None:
    left = written(tmp_path / "left", "torch", DATA, **AUTOCAST)
    right = written(tmp_path / "right", "keras", off("forward", 0.3), **AUTOCAST)
    precise = written(tmp_path / "in-float64", "torch", off("forward", 0.1), precision="float64")
    assert "breaks at forward" in rosetta("diff", left, right)[1]
    found = answer("diff", left, right, "--again", precise)
    assert found["passed"]
    assert found["noise"]["sources"] == ["in-float64"]
    assert found["noise"]["quantities"]["outputs"] == pytest.approx(0.1, rel=1e-3)
    assert "in-float64" in rosetta("diff", left, right, "--again", precise)[1]
    other = written(tmp_path / "other", "torch", tagger(seed=1), **AUTOCAST)
    assert "other is no other run of left, since their tensors differ: x" in refusal(
        2, "diff", left, right, "--again", other
    )


def test_a_finer_left_sides_noise_tells_no_coarser_right_side(tmp_path: Path) -> None:
    assert compared(tmp_path, off("forward", 0.01), off("forward", 1e-12), {}, AUTOCAST).passed


ROUNDED = float(np.float32(1e-5))
# The share by which a side of Paddle is off, its epsilon,
# the other side's settings, and the stage that breaks.
OF_NORMS: dict[str, tuple[float, float, dict[str, float], str | None]] = {
    "within the table": (1e-10, 1e-5, {}, None),
    "beyond the table": (1e-7, 1e-5, {}, "forward"),
    "another epsilon": (1e-7, 1.001e-5, {}, "forward"),
    "what float32 has on both sides": (1e-7, ROUNDED, {"eps": ROUNDED}, "forward"),
    "what float32 has on the left": (1e-7, 1e-5, {"eps": ROUNDED}, "forward"),
}


@pytest.mark.parametrize("name", OF_NORMS)
def test_an_epsilon_that_paddle_rounds_is_told_and_hides_nothing(name: str, tmp_path: Path) -> None:
    share, epsilon, of_left, broken = OF_NORMS[name]
    left = write_tagger(
        tmp_path / "left", "torch", changed(DATA, put("settings bn", lambda _: of_left))
    )
    everywhere = [
        put(place, lambda a: a * (1 + share)) for places in QUANTITIES.values() for place in places
    ]
    data = changed(DATA, *everywhere, put("settings bn", lambda _: {"_epsilon": epsilon}))
    found = compare_records(Side(left), Side(write_tagger(tmp_path / "right", "paddle", data)))
    told = "\n".join(report.lines(found))
    assert found.broken == broken, told
    assert ("Paddle rounds epsilon to float32 in bn" in told) == (name.endswith("the table")), told
    assert ("`layer.eps = float(np.float32(layer.eps))` in left" in told) == (
        name.endswith("the table")
    ), told


def test_the_noise_of_a_loss_is_not_that_of_a_single_run(tmp_path: Path) -> None:
    """It is the root mean square over all ways in which each weight moves up or down by a unit."""
    rng = np.random.default_rng(0)
    weight, gradient = rng.normal(size=(2, 30, 4)).astype(np.float32)
    record = Record(tmp_path / "side")
    record.weights(w=weight)
    record.loss(0.01)
    record.gradients(gradients={"w": gradient})
    moved = [move_one_unit(weight, "bfloat16", rng).astype(float) - weight for _ in range(1000)]
    each = [float((gradient * one).sum()) / 0.01 for one in moved]
    edited(record.folder, lambda said: said.update(autocast="bfloat16"))
    assert rounding_of_loss(Side(record.folder)) == pytest.approx(
        np.sqrt(np.square(each).mean()), rel=0.1
    )
    assert min(map(abs, each)) < 0.01 * rounding_of_loss(Side(record.folder))


MASK = np.where(np.eye(3), 0.0, -np.inf)


def planted(item: Item) -> Item:
    """The item with its left array on the right, but for the first finite number, or the first of
    all: moved by 100 bounds beyond what is allowed, or by an ulp where all must be equal."""
    left = np.asarray(item.left())
    right = np.array(
        left, np.float64 if item.bound.tolerance and left.dtype.kind == "f" else left.dtype
    )
    place = np.unravel_index(int(np.isfinite(left).argmax()), left.shape)
    if not np.isfinite(left[place]):
        right[place] = 0
    elif left.dtype.kind != "f":
        right[place] = ~right[place]
    elif item.bound.tolerance:
        size = max(item.scale_of(left), abs(right[place]) if item.by_number else 0.0) or 1.0
        slack = item.bound.allowed()(slice(None)) if item.bound.allowed else np.array(0.0)
        right[place] += (
            100 * item.bound.tolerance * size
            + 2 * np.broadcast_to(slack, left.shape or (1,))[place or 0]
        )
    else:
        right[place] = np.nextafter(right[place], np.inf)
    return replace(item, right=lambda: right)


@pytest.mark.parametrize("bound", [0.0, 1e-9])
@pytest.mark.parametrize(
    "array", [MASK, MASK.T[::-1], MASK.astype(np.float32), np.full(2, np.inf), np.array(-np.inf)]
)
def test_a_planted_mistake_is_seen_beside_infinities(array: Array, bound: float) -> None:
    item = Item("forward", "mask", lambda: array, lambda: array, Bound(bound))
    assert not judge(planted(item)).passed


def test_a_planted_mistake_is_seen_in_every_array(tmp_path: Path) -> None:
    checks = compared(tmp_path, DATA, {}, {}, {}).checks
    assert {check.stage for check in checks} == {*STAGES}
    assert [check.tensor for check in checks if judge(planted(check.item)).passed] == []


def of_layer(*dtypes: str, **more: Any) -> dict[str, Any]:
    """A layer gave arrays of these types."""
    return {
        "calls": [{"layer": "fc", "parts": ["3:fc:0"] * len(dtypes), "dtypes": [*dtypes], **more}]
    }


# By what both sides were computed in, the row of the table that holds without a control, and the
# layer that a remark names. What one layer of the right side computes in coarsely may be a mistake.
COMPUTED: list[tuple[dict[str, Any], dict[str, Any], str, str]] = [
    ({}, {}, "float64", ""),
    (AUTOCAST, AUTOCAST, "bfloat16", ""),
    ({}, AUTOCAST, "bfloat16", ""),
    ({**AUTOCAST, "autocast": "float16"}, {}, "float16", ""),
    ({}, of_layer("float16"), "float64", ""),
    (of_layer("float32", outside=[0]), {}, "float64", ""),  # such as positions
    (of_layer("float32"), {}, "float32", "fc"),
    (of_layer("float32", "float16", outside=[1]), {}, "float32", "fc"),  # and a mask
]


@pytest.mark.parametrize(("left", "right", "precision", "coarse"), COMPUTED)
def test_bounds_are_of_the_coarsest_type_computed_of_weights(
    left: dict[str, Any], right: dict[str, Any], precision: str, coarse: str, tmp_path: Path
) -> None:
    found = compared(tmp_path, DATA, {}, left, right)
    bounds = {check.tolerance for check in found.checks if check.tensor == "fc output"}
    assert bounds == {TOLERANCES_OF_ANY_MODEL["outputs"][precision]}
    assert f"bounds from table: those of {precision}" in report.bounds_line(found)
    # Of float64 there is no control.
    assert ("a control of left" in report.bounds_line(found)) == (
        bool(left) and precision != "float64"
    )
    remark = f"bounds are those of {precision}, in which left computes {coarse}"
    assert [note for note in found.notes if note.startswith("bounds")] == (
        [remark] if coarse else []
    )


# Of an optimizer of torch and one of Keras what is not as usual,
# and what a remark tells where they agree otherwise.
OTHER_SETTINGS: dict[str, tuple[dict[str, Any], dict[str, Any], str]] = {
    "decay": (
        {"weight_decay": 5e-4},
        {},
        "weight_decay is 0.0005 on the left and None on the right",
    ),
    "epsilon": ({}, {"epsilon": 1e-7}, "epsilon is 1e-08 on the left and 1e-07 on the right"),
    "clipping, which torch's optimizers leave to the program": ({}, {"clipnorm": 1.0}, ""),
    "nesterov": (
        {"momentum": 0.9, "nesterov": True},
        {"momentum": 0.9, "nesterov": False},
        "nesterov is True on",
    ),
    "nesterov without momentum": (
        {"nesterov": True, "momentum": 0},
        {"nesterov": False, "momentum": 0.0},
        "",
    ),
    "nesterov beside amsgrad": (
        {"amsgrad": True, "nesterov": True},
        {"amsgrad": True, "nesterov": False},
        "",
    ),
    "a rate in float32": ({}, {"learning_rate": float(np.float32(0.01))}, ""),
    "a schedule": ({}, {"learning_rate": "ExponentialDecay"}, ""),
    "none": ({"amsgrad": False}, {"amsgrad": None}, ""),
}


@pytest.mark.parametrize("name", OTHER_SETTINGS)
def test_differing_optimizer_settings_are_a_remark(name: str, tmp_path: Path) -> None:
    left, right, words = OTHER_SETTINGS[name]
    sides = (
        Side(
            write_tagger(
                tmp_path / framework,
                framework,
                changed(DATA, put("optimizer", lambda _, of=of: of)),
            )
        )
        for framework, of in (("torch", left), ("keras", right))
    )
    found = compare_records(*sides)
    assert found.passed
    notes = [note for note in found.notes if "optimizer" in note or "clipped" in note]
    assert all(words in note for note in notes)
    assert len(notes) == bool(words)
