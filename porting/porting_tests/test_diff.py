"""`rosetta-diff` and `rosetta-carry`, on records that NumPy made:
what is compared, where it breaks, what is said."""

import errno
import json
import os
import re
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import IO, Any, NamedTuple

import numpy as np
import pytest
from safetensors.numpy import load_file

from porting_tests.support import PORTING
from porting_tests.support.program import answer, refusal, rosetta
from porting_tests.support.records import (
    DATA,
    FRAMEWORKS,
    RATE,
    Array,
    Change,
    Layer,
    Layers,
    N,
    T,
    V,
    all_of,
    bare,
    by_n,
    changed,
    compared,
    dense,
    edited,
    linear,
    mapping_of,
    put,
    resaved,
    tagger,
    unchanged,
    write_layers,
    write_tagger,
)
from rosetta_diff import report
from rosetta_diff.activations import gelu
from rosetta_diff.carry import carry_weights
from rosetta_diff.diff import compare_records
from rosetta_diff.explain.optimizers import steps_differ
from rosetta_diff.helpers import CannotBeginError
from rosetta_diff.judge.check import BREAKS, OF_STATISTICS, STAGES
from rosetta_diff.pair.pairing import pair_sides
from rosetta_diff.pair.pairs import TensorPair
from rosetta_diff.read import files
from rosetta_diff.read.groups import groups_of
from rosetta_diff.read.side import Side

REGISTER = PORTING.parent / "docs" / "deviations.md"
REGISTERED = {*re.findall(r"^## (\S+)$", REGISTER.read_text("utf-8"), re.MULTILINE)}


def sides(
    folder: Path,
    change: Change = unchanged,
    left: str = "torch",
    right: str = "keras",
    data: dict[str, Any] = DATA,
) -> tuple[Path, Path]:
    """A record, and one of the same data after a change."""
    return write_tagger(folder / "left", left, data), write_tagger(
        folder / "right", right, changed(data, change)
    )


@pytest.mark.parametrize("right", FRAMEWORKS)
@pytest.mark.parametrize("left", FRAMEWORKS)
def test_equal_sides_pass_every_stage_and_carry_their_weights(
    left: str, right: str, tmp_path: Path
) -> None:
    found = compared(*sides(tmp_path, left=left, right=right))
    assert found.passed
    assert {check.stage for check in found.checks} == set(STAGES)
    assert not [note for note in found.notes if not note.startswith("converted, step: ")]
    converted = [
        note
        for note in found.notes
        if note.startswith("converted, step: running variances of bn moving_variance, ")
    ]
    assert len(converted) == ((left == "torch") != (right == "torch"))
    like = Side(write_tagger(tmp_path / "like", right, tagger(seed=9)))
    arrays = carry_weights(pair_sides(Side(tmp_path / "left"), like))
    expected = load_file(tmp_path / "right" / "weights.safetensors")
    assert arrays.keys() == expected.keys()
    for name, array in arrays.items():
        np.testing.assert_array_equal(array, expected[name])


def test_large_arrays_are_mapped_and_nothing_writes_to_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("rosetta_diff.read.files.LARGEST_READ", 0)
    left, right = map(Side, sides(tmp_path, put("step-1 fc kernel", moved_further)))
    assert isinstance(left.arrays("weights")["fc.weight"].base, np.memmap)
    found = compare_records(left, right)
    assert found.broken == "step"
    assert carry_weights(pair_sides(left, right)).keys() == right.arrays("weights").keys()


# Own arrays of a layer by role, and the canonical tensors that they are; written by hand, one by
# one. Of layouts that the pairs of support/pairs.py have too, there is only what is put together of
# several arrays.
def layouts() -> dict[
    str, tuple[str, list[str], dict[str, Any], dict[str, Array], dict[str, dict[str, Array]]]
]:
    rng = np.random.default_rng(1)
    a, b, h, cube = rng.random((3, 8)), rng.random((2, 8)), rng.random(8), rng.random((3, 3, 2, 4))
    r, z, n = rng.random((3, 5, 2))  # the gates of a GRU, of 5 inputs and 2 units
    rr, rz, rn = rng.random((3, 2, 2))
    one, two = rng.random((2, 6))
    q, k, v, o = rng.random((4, 6, 6))
    gru = {
        "weight_ih_l0": np.vstack([r.T, z.T, n.T]),
        "weight_hh_l0": np.vstack([rr.T, rz.T, rn.T]),
        "bias_ih_l0": one,
        "bias_hh_l0": two,
    }
    in_order = np.array([2, 3, 0, 1, 4, 5])  # of a bias: z, r, n out of r, z, n
    canonical_gru = {
        "kernel": np.hstack([z, r, n]),
        "recurrent_kernel": np.hstack([rz, rr, rn]),
        "bias": one[in_order],
        "recurrent_bias": two[in_order],
    }
    of_three = {
        "q_proj_weight": q.T,
        "k_proj_weight": k.T,
        "v_proj_weight": v.T,
        "out_proj.weight": o.T,
    }
    heads = {"query": q, "key": k, "value": v, "output": o}
    return {
        "a person's own class": ("torch", ["mine.Linear", "Linear"], {}, {"weight": a.T},
            {"l": {"kernel": a}}),
        "depthwise conv": (
            "keras", ["DepthwiseConv2D"], {}, {"kernel": cube}, {"l": {"kernel": cube.reshape(3, 3,
            1, 8)}}
        ),
        "transposed conv": (
            "torch", ["ConvTranspose2d"], {}, {"weight": cube.transpose(3, 2, 0, 1)},
            {"l": {"kernel": cube}},
        ),
        "keras's transposed conv": (
            "keras", ["Conv2DTranspose"], {}, {"kernel": cube}, {"l": {"kernel": cube}}
        ),
        "cell": (
            "torch", ["LSTMCell"], {}, {"weight_ih": a.T, "weight_hh": b.T},
            {"l": {"kernel": a, "recurrent_kernel": b}},
        ),
        "gru": ("paddle", ["GRU", "RNNBase"], {}, gru, {"l:l0": canonical_gru}),
        "attention of three widths": (
            "torch", ["MultiheadAttention"], {}, of_three,
            {f"l:{name}": {"kernel": array} for name, array in heads.items()},
        ),
        "flax's gru": (
            "flax", ["RNN", "mine.Cell", "GRUCell", "RNNCellBase"], {},
            {"dense_i.kernel": np.hstack([r, z, n]), "dense_h.kernel": np.hstack([rr, rz, rn]),
            "dense_i.bias": one,
             "dense_h.bias": two},
            {"l": canonical_gru},
        ),
        "flax's lstm in parts": (
            "flax", ["LSTMCell", "RNNCellBase"], {},
            {f"{role}.{name}": part for name, parts in (
                ("kernel", zip(("ii", "if_", "ig", "io"), np.split(a, 4, 1), strict=True)),
                ("kernel", zip(("hi", "hf", "hg", "ho"), np.split(b, 4, 1), strict=True)),
                ("bias", zip(("hi", "hf", "hg", "ho"), np.split(h, 4), strict=True)),
            ) for role, part in parts},
            {"l": {"kernel": a, "recurrent_kernel": b, "bias": h}},
        ),
        "flax's projection to heads": (
            "flax", ["LinearGeneral"], {"in_features": [6], "out_features": [2, 3]},
            {"kernel": q.reshape(6, 2, 3), "bias": one.reshape(2, 3)}, {"l": {"kernel": q,
            "bias": one}},
        ),
        "flax's projection of heads": (
            "flax", ["LinearGeneral"], {"in_features": [2, 3], "out_features": [6]},
            {"kernel": q.reshape(2, 3, 6)}, {"l": {"kernel": q}},
        ),
        "flax's transposed conv": (
            "flax", ["ConvTranspose"], {"transpose_kernel": True}, {"kernel": cube},
            {"l": {"kernel": cube}}
        ),
        "flax's conv with its kernel the other way round": (
            "flax", ["ConvTranspose"], {"transpose_kernel": False}, {"kernel": cube},
            {"l:kernel": {"kernel": cube}},
        ),
        "a number of one's own": ("torch", ["mine.Scale"], {}, {"s": h[0]}, {"l:s": {"s": h[0]}}),
        "what nobody knows": ("torch", ["mine.Gate"], {}, {"weight": a},
            {"l:weight": {"weight": a}}),
    }  # fmt: skip


@pytest.mark.parametrize("name", layouts())
def test_each_layout_leads_to_the_canonical_one_and_back(name: str, tmp_path: Path) -> None:
    framework, classes, settings, own, expected = layouts()[name]
    layers = {"l": Layer(classes, own, np.ones(1), settings)}
    record = Side(write_layers(tmp_path / "record", framework, layers))
    groups = {group.name: group for group in groups_of(record)}
    assert groups.keys() == expected.keys()
    made: dict[str, Array] = {}
    for group, tensors in expected.items():
        assert groups[group].tensors.keys() == tensors.keys()
        for tensor, array in tensors.items():
            found = groups[group].tensors[tensor]
            np.testing.assert_array_equal(groups[group].tensor(tensor), array)
            assert found.shape == groups[group].shapes[tensor] == array.shape
            both = TensorPair(found, found)
            both.move(record.arrays("weights").get, made, lambda name: np.zeros(record.shape(name)))
    for weight, array in made.items():
        np.testing.assert_array_equal(array, record.arrays("weights")[weight])


def test_a_softmax_of_flax_in_float32_is_named(tmp_path: Path) -> None:
    rng = np.random.default_rng(2)
    kernel, output = rng.random((6, 6)), rng.random((2, 3, 6))
    for name, own in (("left", output), ("right", np.asarray(output + 4e-8))):
        layers: Layers = {
            "attention.out": Layer(["LinearGeneral"], {"kernel": kernel}, own),
            "attention": Layer(["MultiHeadAttention"], {}, own),
        }
        write_layers(tmp_path / name, "flax", layers)
    found = compared(tmp_path / "left", tmp_path / "right")
    assert found.broken == "forward"
    assert "flax-attention-float32" in {cause.entry for cause in found.causes}


def test_a_wrong_value_is_refused_without_pydantics_words() -> None:
    status, _, said = rosetta("diff", "--demo", "broken")
    assert status == 2
    assert "Value error" not in said
    assert "'broken' is not one of 'mistakes', 'fixed'" in said


def test_an_attention_that_is_given_the_same_is_named_whole(tmp_path: Path) -> None:
    """Its last projection is given something else inside of it, where nobody can tap."""
    _, classes, _, own, _ = layouts()["attention of three widths"]
    rng = np.random.default_rng(2)
    given = {
        name: rng.random((2, 3, len(own[f"{name[0]}_proj_weight"][0])))
        for name in ("query", "key", "value")
    }
    output = rng.random((2, 3, len(own["out_proj.weight"])))
    for path in (tmp_path / "left", tmp_path / "right"):
        layers = {name: bare("Identity", array) for name, array in given.items()}
        made = output if path.name == "left" else 2 * output + rng.random(output.shape)
        write_layers(path, "torch", {**layers, "attn": Layer(classes, own, made)})

        def connect(said: dict[str, Any]) -> None:
            said["calls"][-1]["inputs"] = {
                call["layer"]: call["parts"][0] for call in said["calls"][:-1]
            }

        edited(path, connect)
    causes = [cause.sentence for cause in compared(tmp_path / "left", tmp_path / "right").causes]
    assert causes[-1:] == [
        "attn is given the same on both sides, so it differs inside: compare its settings"
    ]


def each(change: Callable[[Array], Array]) -> Callable[[dict[str, Any]], dict[str, Any]]:
    """The change of all arrays of all layers."""
    return lambda layers: {
        layer: {name: change(own) for name, own in of.items()} for layer, of in layers.items()
    }


def settings(layer: str, change: Callable[[Array], Array], **own: Any) -> Change:
    """A layer has other settings, and so another output."""
    return all_of(put(f"settings {layer}", lambda _: own), put(f"outputs {layer}", change))


def one_row(rows: Array) -> Array:
    return rows * (np.arange(len(rows)) != 2)[:, None]


def significant(bits: int) -> Callable[[Array], Array]:
    """Rounds to so many bits: float16 has 11 and bfloat16 has 8."""

    def rounded(array: Array) -> Array:
        mantissa, exponent = np.frexp(array)
        return np.asarray(np.ldexp(np.round(mantissa * 2.0**bits) / 2.0**bits, exponent))

    return rounded


def moved_further(kernel: Array) -> Array:
    start = DATA["weights"]["fc"]["kernel"]
    return np.asarray(start + 1.01 * (kernel - start))


def zero_gradients(size: float) -> Change:
    """Gradients of fc's bias are rounding alone, as of the bias of an attention's key,
    on which no output depends."""
    return put("gradients fc bias", lambda bias: size * np.sign(bias))


def decayed(gradient: float, from_gradient: float) -> Change:
    """Weight decay takes away most of what Adam makes of a gradient of rounding alone."""
    start = DATA["weights"]["fc"]["bias"]
    return all_of(
        put("optimizer weight_decay", lambda _: 1e-3),
        put("gradients fc bias", lambda _: np.full(6, gradient)),
        put("step-1 fc bias", lambda _: start * (1 - 1e-5) + from_gradient * np.abs(start)),
    )


def gelu_within(error: float) -> Change:
    """GELU, for which TensorFlow has a constant in float32, is within fc."""
    return settings("fc", lambda outputs: gelu(outputs) * (1 + error), activation="gelu")


def nan(place: str, value: Any = np.nan) -> Change:
    return put(place, lambda numbers: numbers * value)


def infinite(data: dict[str, Any]) -> None:
    data["logits"][0, 0, 0] = -np.inf


def rounded_momentum(share: float) -> Change:
    """The running mean takes less of each new batch by this share;
    0.99 in Paddle's float32 takes 9.5e-7 less."""
    start = DATA["weights"]["bn"]["moving_mean"]
    moved = put("step-1 bn moving_mean", lambda a: start + (a - start) * (1 - share))
    return all_of(moved, put("settings bn", lambda _: {"_momentum": 0.99, "_epsilon": 1e-5}))


class Case(NamedTuple):
    """The right side's deviation, the stage that breaks,
    the words told, and entries of the register."""

    right: Change
    stage: str | None
    words: str = ""
    entries: str = ""
    left: Change = unchanged  # what both sides have otherwise
    frameworks: tuple[str, str] = ("torch", "keras")
    said: Sequence[Change] = (unchanged, unchanged)  # of each side's record.json


def no_output(data: dict[str, Any]) -> None:
    """The call of the first layer gave nothing, and another call follows."""
    data["calls"].insert(0, {"layer": "fc", "parts": []})


LARGE = 1 << 60  # whose next number float64 lacks
other_optimizer = {"epsilon": 1e-7, "weight_decay": 0.01}
# As Keras's LSTM gives it.
last_output = put("outputs lstm", lambda a: np.ascontiguousarray(a[:, -1]))
of_paddle = put("settings bn", lambda _: {"momentum": 0.01, "eps": float(np.float32(1e-5))})
fused = put("settings bn", lambda _: {"_act": "relu"})  # which Paddle's batch norm may compute too
of_padding = "of emb only row 2 differs and is zero on the right only"
nothing_is_known = "NaN on both sides, which shows nothing"
# Mistakes of models of the frameworks themselves are in support/mistakes.py.
CASES = {
    "rows in another order": Case(put("inputs x", lambda x: x[::-1]), "tensors", "x", "shuffling"),
    "ids of another width": Case(
        put("inputs x", lambda x: x.astype(np.int32)), None,
        "only values are compared of x: int64 on the left and int32 on the right",
    ),
    "ids that float64 does not tell apart": Case(
        put("inputs x", lambda x: x + (np.arange(T) == 3)), "tensors",
        f"got {LARGE + 1}, expected {LARGE}",
        left=put("inputs x", lambda x: np.full_like(x, LARGE)),
    ),
    "ids of which another width has other values": Case(
        put("inputs x", lambda x: (x + 1).astype(np.uint64)), "tensors", "",
        left=put("inputs x", lambda x: np.full_like(x, LARGE)),
    ),
    "a constant in float32": Case(
        put("weights bn moving_mean", lambda a: a.astype(np.float32)), "weights", "float32",
        "array-dtype"
    ),
    "weights that were kept in float16": Case(
        put("weights fc kernel", significant(11)), "weights",
        "likely: the right side has the numbers of the left one rounded to float16", "array-dtype",
    ),
    "weights that were kept in bfloat16": Case(
        put("weights fc kernel", lambda _: DATA["weights"]["fc"]["kernel"]), "weights",
        "likely: the left side has the numbers of the right one rounded to bfloat16", "array-dtype",
        left=put("weights fc kernel", significant(8)),
    ),
    "numbers whose squares are too large": Case(
        put("weights fc kernel", lambda a: a * 1e200), "weights", "fc kernel"
    ),
    "one row of an embedding": Case(put("weights emb embeddings", one_row), "weights", of_padding,
        "padding-idx"),
    "an LSTM's last output, where it gives no other": Case(
        put("outputs lstm", lambda a: a[:, -1] + 0.01), "forward", "lstm:l0 last"
    ),
    "a step of time": Case(
        put("outputs lstm", lambda a: a + 0.01 * (np.arange(T) >= 3)[:, None]), "forward",
        "the first time step at which it differs is 3",
    ),
    "epsilon of a norm": Case(
        settings("bn", lambda a: a * 1.001, epsilon=1e-3), "forward", "epsilon is 1e-05",
        "batchnorm-epsilon"
    ),
    "gradient of a padding row": Case(
        put("gradients emb embeddings", one_row), "gradients", of_padding, "padding-idx"
    ),
    "gradients of a sum": Case(
        put("gradients", each(lambda a: N * a)), "gradients",
        f"every number is {N} times that of the left",
        "padding-denominator",
    ),
    "gradients of all, of which the one nearest to the loss is named": Case(
        put("gradients", each(lambda a: 1.5 * a)), "gradients", "\n  fc bias: "
    ),
    "variance by n": Case(by_n(), "step",
        "converted, step: running variances of bn moving_variance, "),
    "a running mean": Case(
        put("step-1 bn moving_mean", lambda a: a * 1.001), "step",
        "the running statistics after a step do not: look at their momentum",
    ),
    "squares of an embedding's slices": Case(
        put("step-1 emb embeddings", lambda a: a - 0.5 * RATE), "step", "",
        "keras-sparse-embeddings"
    ),
    "squares of slices of ids without a 0": Case(
        put("step-1 emb embeddings", lambda a: a - RATE * np.array([[0], *[[0.5]] * (V - 1)])),
        "step", "",
        "keras-sparse-embeddings",
        left=all_of(put("inputs x", lambda ids: ids % (V - 1) + 1), put("inputs",
        lambda of: {"x": of["x"]})),
    ),
    "an optimizer of other settings": Case(
        all_of(put("step-1 fc kernel", moved_further), put("optimizer", lambda _: other_optimizer)),
        "step",
        "epsilon is 1e-08 on the left and 1e-07 on the right",
        "optimizer-epsilon adam-epsilon weight-decay",
    ),
    "order of batches": Case(
        put("losses", lambda of: [of[0], of[2], of[1], *of[3:]]), "trajectory", "step 2",
        "shuffling",
    ),
    "a loss that is clipped": Case(
        put("losses", lambda of: [of[0], of[1] / 2, *of[2:]]), "trajectory", "or clipped"
    ),
    "kept between steps": Case(
        put("losses", lambda of: [*of[:4], *(loss * 1.01 for loss in of[4:])]), "trajectory",
        "the losses part at step 5", "optimizer-slots",
    ),
    "a loss that is lost": Case(
        put("losses", lambda of: [*of[:4], "nan", *of[5:]]), "trajectory", "step 5: got nan"
    ),
    "an activation in a layer by a function that Keras writes no name for": Case(
        settings("fc", np.tanh, units=6), None,
        "not compared, forward: fc output, whose activation nobody here knows"
    ),
    "numbers that are none": Case(nan("outputs emb", np.where(np.arange(3) == 1, np.nan, 1)),
        "forward", "got nan"),
    "another shape": Case(put("logits", lambda a: a[:, :-1]), "forward",
        "shape (4, 4, 6), expected (4, 5, 6)"),
    "a shape that would broadcast": Case(
        put("logits", lambda a: a[:, :1]), "forward", "shape (4, 1, 6), expected (4, 5, 6)"
    ),
    "fewer steps on one side": Case(
        put("losses", lambda of: of[:5]), None,
        "not compared: on trajectory, 5 steps, which one side alone recorded",
    ),
    "a momentum in float32": Case(
        rounded_momentum(9.5e-7), None,
        "within what a momentum rounded to float32 makes, step: bn moving_mean",
        left=of_paddle, frameworks=("torch", "paddle"),
    ),
    "more than that of a momentum": Case(
        rounded_momentum(4e-6), "step", left=of_paddle, frameworks=("torch", "paddle")
    ),
    "an activation in a batch norm of Paddle": Case(
        all_of(fused, put("outputs bn", lambda a: np.maximum(a, 0))), None,
        "compared after the activation that one side's layer has in it, forward: bn output",
        frameworks=("torch", "paddle"),
    ),
    "a batch norm of Paddle with another activation than it says": Case(
        all_of(fused, put("outputs bn", lambda a: np.maximum(a, 0.1))), "forward", "\n  bn output",
        frameworks=("torch", "paddle"),
    ),
    "a layer of Paddle that is in float32": Case(
        put("weights bn", lambda of: {n: a.astype(np.float32) for n, a in of.items()}), "weights",
        entries="paddle-legacy-batchnorm", frameworks=("torch", "paddle"),
        said=(unchanged, lambda said: said["layers"][2].update(classes=["BatchNorm"])),
    ),
    "weights that are true or false": Case(
        put("weights", each(lambda a: a > 0)), "weights", frameworks=("torch", "torch")
    ),
    "no running statistics after a step": Case(
        put("step-1 bn", lambda of: {n: a for n, a in of.items() if n != "moving_mean"}), "step",
        frameworks=("torch", "torch"),
    ),
    "a step counter": Case(
        put("step-1 fc kernel", lambda a: a + 0.01), "step",
        "differs: the step counter is 5 on the left and 6 on the right",
        said=(put("optimizer settings step", lambda _: [5]), put("optimizer settings iterations",
        lambda _: 6)),
    ),
    "a trained tensor outside the model": Case(
        unchanged, None, "on step, 1 tensor that is no weight of the model, which left's optimizer "
                         "trains",
        said=(put("optimizer outside", lambda _: 1), unchanged),
    ),
    "outputs in which no array was found": Case(
        unchanged, None, "not compared, forward: outputs of fc, in which right recorded no array",
        said=(unchanged, lambda said: said["calls"][-1].update(parts=[])),
    ),
    "a call after one that gave nothing": Case(
        settings("fc", lambda outputs: 2 * outputs, activation="tanh"), "forward",
        "\n  fc output, call 2",
        said=(no_output, no_output),
    ),
    # What layouts and rounding do passes, and more does not.
    "the last output": Case(last_output, None),
    "GELU with a constant in float32": Case(gelu_within(5e-9), None, "30 times as wide"),
    "more than that": Case(gelu_within(1e-7), "forward", "30 times as wide"),
    "zero gradients": Case(zero_gradients(-1e-17), None, left=zero_gradients(1e-17)),
    "a step from rounding": Case(decayed(2.8e-13, 0.7e-5), None, left=decayed(4e-13, 1e-5)),
    "a step that is wrong": Case(decayed(2.8e-13, 4e-5), "step", left=decayed(4e-13, 1e-5)),
    # What is no number on both sides is not equal, and what is infinite there is.
    "inputs of NaN": Case(unchanged, "tensors", nothing_is_known, left=nan("inputs x")),
    "weights of NaN": Case(unchanged, "weights", nothing_is_known, left=nan("weights fc bias")),
    "outputs of NaN": Case(unchanged, "forward", nothing_is_known, left=nan("logits")),
    "a loss of NaN": Case(unchanged, "loss", nothing_is_known, left=put("loss", lambda _: "nan")),
    "gradients of NaN": Case(unchanged, "gradients", nothing_is_known,
        left=nan("gradients fc bias")),
    "losses of NaN": Case(
        unchanged, "trajectory", nothing_is_known, left=put("losses", lambda of: [of[0],
        *(["nan"] * len(of[1:]))])
    ),
    "another number beside NaN": Case(
        put("gradients fc bias", lambda a: 1.1 * a), "gradients", "error ",
        left=put("gradients fc bias", lambda a: np.where(np.arange(6), a, np.nan)),
    ),
    "infinity": Case(put("logits", lambda a: a * (1 + 1e-12)), None, left=infinite),
    "infinity beside another number": Case(unchanged, "forward", "got ", left=infinite),
    "infinity on one side": Case(infinite, "forward", "got -inf"),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_a_mistake_breaks_its_stage_and_is_named(name: str, tmp_path: Path) -> None:
    """And what is none passes."""
    case = CASES[name]
    # Another output of a layer makes another one of the model.
    reaching = (
        all_of(case.right, put("logits", lambda a: a + 1))
        if case.stage == "forward"
        else case.right
    )
    paths = sides(tmp_path, reaching, *case.frameworks, changed(DATA, case.left))
    found = compared(*(edited(path, said) for path, said in zip(paths, case.said, strict=True)))
    assert found.broken == case.stage, found.explanation
    end = STAGES.index(case.stage) + 1 if case.stage else None
    assert {check.stage for check in found.checks} == set(STAGES[:end])
    assert case.stage or not any(check.inside for check in found.checks)
    told = "\n".join([*report.lines(found), *(check.note for check in found.checks)])
    assert case.words in told
    shows_nothing = case.words == nothing_is_known
    assert (
        case.stage is None or shows_nothing or BREAKS[case.stage] in told or OF_STATISTICS in told
    )
    assert {*case.entries.split()} <= {cause.entry for cause in found.causes} <= REGISTERED | {""}
    assert not (shows_nothing and found.causes)
    assert ("since both have NaN" in found.why_failed) == shows_nothing


def test_an_axis_shorter_than_its_gates_has_words(tmp_path: Path) -> None:
    """A damaged record may have one."""
    rng = np.random.default_rng(0)
    given, sequence = rng.normal(size=(2, 4, 3)), rng.normal(size=(2, 4, 1))
    kernels = {"kernel": rng.normal(size=(3, 2)), "recurrent_kernel": rng.normal(size=(1, 2))}
    for side, bias in (("left", 0.0), ("right", 0.1)):
        lstm = Layer(["LSTM", "RNN"], kernels | {"bias": np.full(2, bias)}, sequence)
        write_layers(tmp_path / side, "keras", {"fc": dense(np.eye(3), given), "lstm": lstm})
    assert "input gate, unit 0" in compared(tmp_path / "left", tmp_path / "right").explanation[1]


def test_updated_statistics_alone_are_converted(tmp_path: Path) -> None:
    for training in (True, False):
        of = sides(tmp_path / str(training))
        for path in of:
            edited(
                path,
                lambda said, mode=training: [
                    layer.update(training=mode) for layer in said["layers"]
                ],
            )
        assert any(note.startswith("converted, step: ") for note in compared(*of).notes) == training


def test_the_slope_of_a_hard_sigmoid_is_named(tmp_path: Path) -> None:
    records, x = [], np.random.default_rng(3).normal(size=(2, 4))
    for framework, slope in (("torch", 1 / 6), ("paddle", float(np.float32(0.1666667)))):
        name, output = "Hardsigmoid", np.clip(slope * x + 0.5, 0, 1)
        layers: Layers = {"fc": linear(np.eye(4), x), "gate": bare(name, output)}
        layers["out"] = linear(np.eye(4) + 1, output @ (np.eye(4) + 1))
        record = write_layers(tmp_path / framework, framework, layers)
        records.append(
            edited(record, lambda said: said["calls"][2].update(inputs={"x": "1:gate:0"}))
        )
    found = compared(*records)
    assert found.broken == "forward"
    words = (
        "hard_sigmoid with a slope of 1/6 on the left and hard_sigmoid with a slope of 0.1666667 "
        "in float32 on"
    )
    assert words in found.causes[0].sentence
    assert found.causes[0].entry == "paddle-hardsigmoid"


@pytest.mark.parametrize(
    ("framework", "kind", "entry"),
    [
        ("torch", "Hardsigmoid", "torch-hardsigmoid-gradient"),
        ("paddle", "AdaptiveAvgPool2D", "paddle-average-gradient"),
    ],
)
def test_gradients_with_constants_of_float32_are_named(
    tmp_path: Path, framework: str, kind: str, entry: str
) -> None:
    kernel = np.random.default_rng(3).random((4, 4))
    output = np.random.default_rng(4).random((2, 4))
    for number, side in enumerate((framework, "keras")):
        name = "fc/kernel" if side == "keras" else "fc.weight"
        weights = {name[3:]: kernel.T if side == "torch" else kernel}
        fc = Layer(["Dense" if side == "keras" else "Linear"], weights, output)
        gradients = {name: np.asarray(weights[name[3:]] * (1 + 3e-8 * number))}
        write_layers(tmp_path / side, side, {"fc": fc, "gate": bare(kind, output)}, gradients)
    found = compared(tmp_path / framework, tmp_path / "keras")
    assert found.broken == "gradients"
    assert entry in {cause.entry for cause in found.causes}


def test_a_decay_of_some_weights_alone_is_told(tmp_path: Path) -> None:
    data = changed(DATA, put("optimizer weight_decay", lambda _: 0.05))
    left, right = sides(
        tmp_path, put("step-1 fc bias", lambda bias: bias + 1e-4), right="torch", data=data
    )
    for groups, words in (
        ([0.05, 0.0], "0.0 and 0.05 in groups of weights on the left and 0.05 on"),
        ([0.05] * 2, ""),
    ):
        edited(
            left,
            lambda said, of=groups: said["optimizer"].update(
                groups=[{"weight_decay": one} for one in of]
            ),
        )
        assert words in " ".join(
            cause.sentence for cause in steps_differ(Side(left), Side(right), "float64")
        )
        assert words or not [*steps_differ(Side(left), Side(right), "float64")]
    edited(
        left,
        lambda said: said["optimizer"].update(
            groups=[{"weight_decay": 0.0, "weights": ["fc.bias"]}]
        ),
    )
    told = [cause.line for cause in compared(left, right).causes if cause.standing == "differs"]
    assert any(
        "the optimizer's weight_decay is 0 on the left and 0.05 on the right" in line
        for line in told
    )


# The shape of an output on the left, and a mapping's line of its axes on both sides.
TURNED = {
    "a transposed square": ((6, 6), "a b -> b a"),
    "a transposed matrix": ((4, 6), "a b -> b a"),
    "time first": ((4, 5, 6), "a b c -> b a c"),
    "channels first": ((2, 3, 4, 5), "a b c d -> a c d b"),
    "channels last": ((2, 3, 3, 3), "a b c d -> a d b c"),
}


@pytest.mark.parametrize("name", TURNED)
def test_a_named_output_is_transposed_by_a_mapping_alone(name: str, tmp_path: Path) -> None:
    """The line is told where it breaks, and that it was obeyed is told where it passes,
    in both directions."""
    shape, line = TURNED[name]
    output = np.random.default_rng(4).normal(size=shape)
    order = [line.split(" -> ")[0].split().index(axis) for axis in line.split(" -> ")[1].split()]
    data = changed(DATA, put("logits", lambda _: output))
    left, right = sides(tmp_path, put("logits", lambda array: array.transpose(order)), data=data)
    found = compared(left, right)
    assert found.broken == "forward"
    assert f'"logits" = "{line}"' in "\n".join(report.lines(found))
    mapping = mapping_of(tmp_path, f'left = "torch"\n[axes]\n"logits" = "{line}"\n')
    for both in ((left, right), (right, left)):
        found = compared(*both, mapping)
        assert found.passed, found.explanation
        assert any(
            note.startswith("axes turned, forward: logits: the axes are ") for note in found.notes
        )


def test_a_layer_whose_axes_are_turned_is_told_with_the_line(tmp_path: Path) -> None:
    """An image with channels first and last, given by layers of a person's own."""
    image = np.random.default_rng(4).normal(size=(2, 3, 4, 5))
    outputs = {"torch": image, "keras": np.moveaxis(image, 1, -1)}
    left, right = (
        write_layers(
            tmp_path / name, name, {"norm": Layer(["mine.Norm"], {"gain": np.ones(3)}, output)}
        )
        for name, output in outputs.items()
    )
    for side in (left, right):
        (side / "outputs.safetensors").unlink()
    line = '"norm:gain" = "a b c d -> a c d b"'
    found = compared(left, right)
    told = (
        "not compared, forward: outputs of norm:gain, which are of other shapes, unless [axes] "
        f"has {line}"
    )
    assert told in found.notes
    assert "forward" in found.missing
    found = compared(left, right, mapping_of(tmp_path, f'left = "torch"\n[axes]\n{line}\n'))
    assert found.passed
    assert any(note.startswith("axes turned, forward: norm:gain output") for note in found.notes)


@pytest.mark.parametrize("precision", ["float64", "float16"])
@pytest.mark.parametrize(
    ("trainable", "why"), [(False, "it is frozen"), (True, "the loss does not depend on it")]
)
def test_what_trains_on_one_side_only_is_named(
    trainable: bool, why: str, precision: str, tmp_path: Path
) -> None:
    left, right = (
        edited(side, lambda said: said.update(precision=precision)) for side in sides(tmp_path)
    )
    resaved(
        right,
        "gradients",
        lambda arrays: {name: arrays[name] for name in arrays if name != "fc/bias"},
    )
    edited(right, lambda said: said["weights"]["fc/bias"].update(trainable=trainable))
    for of, side, other in (((left, right), "left", "right"), ((right, left), "right", "left")):
        line = f"fc bias is trained on the {side} only: on the {other} {why}"
        assert compared(*of).causes[0].line == line


# What a layer gives on the left and on the right, and what is told.
HEADS = np.full((2, 3, 4, 4), 0.25)
SEVERAL: dict[str, tuple[list[Array], list[Array], str]] = {
    "equal": ([np.ones(3), HEADS], [np.ones(3), HEADS], ""),
    "the second is wrong": (
        [np.ones(3), HEADS],
        [np.ones(3), 1.01 * HEADS],
        "drop output 2: error 1.0e-02",
    ),
    "the third is wrong": (
        [np.ones(3)] * 3,
        [np.ones(3), np.ones(3), np.zeros(3)],
        "drop output 3: error 1.0e+00",
    ),
    "weights of each head and their mean": (
        [np.ones(3), HEADS],
        [np.ones(3), 2 * HEADS.mean(1)],
        "not compared",
    ),
    "axes that may be others": (
        [np.ones(3), HEADS],
        [np.ones(3), 2 * HEADS.swapaxes(1, 2)],
        "not compared",
    ),
    "another number": ([np.ones(3), HEADS], [np.ones(3)], "not compared"),
}


@pytest.mark.parametrize("name", SEVERAL)
def test_all_arrays_that_a_layer_gives_are_compared_or_told(name: str, tmp_path: Path) -> None:
    *sides, expected = SEVERAL[name]
    kernels = np.random.default_rng(3).random((2, 4, 4))
    left, right = (
        write_layers(
            tmp_path / f"{number}",
            "torch",
            {
                "first": linear(kernels[0], kernels[0]),
                "drop": Layer(["tap"], {}, parts),
                "last": linear(kernels[1], kernels[1] + number),
            },
        )
        for number, parts in enumerate(sides)
    )
    found = compared(left, right)
    told = "not compared, forward: further outputs of drop, whose numbers or shapes differ"
    assert (told in found.notes) == (expected == "not compared")
    assert found.explanation[1].startswith(
        expected if expected.startswith("drop") else "last output"
    )


def test_a_recurrent_layer_in_a_mapping_is_compared_too(tmp_path: Path) -> None:
    line = '"lstm.weight_hh_l0" = {to = "lstm.weight_hh_l0", axes = "n m -> n m"}'
    both = sides(tmp_path, right="paddle")
    alone, mapped = (
        compared(*both, mapping) for mapping in (None, mapping_of(tmp_path, f"[weights]\n{line}\n"))
    )
    assert mapped.passed
    forward = [
        {check.tensor for check in found.checks if check.stage == "forward"}
        for found in (alone, mapped)
    ]
    assert forward[0] <= forward[1]


# What a mapping names, and what is not compared on any stage.
# The left side is of torch, the right one of Keras.
SKIPPED = {
    "fc.weight": "fc kernel",
    "fc/kernel": "fc kernel",
    "fc kernel": "fc kernel",
    "*.running_*": "bn moving_mean, bn moving_variance",
    "lstm.*_l0": "lstm:l0 kernel, lstm:l0 recurrent_kernel, lstm:l0 bias, lstm:l0 bias 2, lstm:l0 "
    "sequence, lstm:l0 last",
    "lstm:l0 sequence": "lstm:l0 sequence",
    "fc output": "fc output",
    "log*": "logits",
    "emb": "emb embeddings, emb output",
}


@pytest.mark.parametrize("name", SKIPPED)
def test_a_mapping_skips_names_of_either_side_and_patterns(name: str, tmp_path: Path) -> None:
    left, right = sides(tmp_path)
    found = compared(left, right, mapping_of(tmp_path, f'[skip]\n"{name}" = "it is meant so"\n'))
    assert found.passed
    assert f"not compared: {name}, it is meant so" in found.notes
    tensors = {check.tensor.rpartition(" of ")[2] for check in compared(left, right).checks}
    assert tensors - {check.tensor.rpartition(" of ")[2] for check in found.checks} == {
        *SKIPPED[name].split(", ")
    }


def test_what_is_left_out_with_what_a_mapping_skips_is_told(tmp_path: Path) -> None:
    """The right side's layer that belongs to the left one."""
    one, other = np.random.default_rng(0).normal(size=(2, 6, 6))
    left = write_layers(tmp_path / "left", "torch", {"x": linear(one), "y": linear(other)})
    right = write_layers(tmp_path / "right", "keras", {"a": dense(one), "b": dense(other)})
    found = compared(left, right, mapping_of(tmp_path, '[skip]\n"x" = "it is meant so"\n'))
    assert found.passed
    assert "not compared: a/kernel, which belong to what is left out" in found.notes


OF_MAPPINGS = {
    '[axes]\n"nowhere" = "a b -> b a"\n': "turns axes of nowhere, which neither side has",
    '[axes]\n"*" = "a b -> b a"\n': r"turns axes of \*, which neither side has; \[axes\] takes "
    r"whole names",
    '[axes]\n"logits" = "a b -> a"\n': "expected the same axes in two orders",
    '[skip]\n"emb" = " "\n': "skips emb without a reason",
    '[skip]\n"nowhere" = "it is not there"\n': "skips nowhere, which neither side has",
    '[skip]\n"fc|em(b" = "it is meant so"\n': r"skips fc\|em\(b, which neither side has",
    '[layers]\n"fc" = "nowhere"\n': "names nowhere",
    '[layers]\n"l" = "l"\n': "which are 4 and 1 groups of weights; name them one by one: l:query",
}


@pytest.mark.parametrize("text", OF_MAPPINGS)
def test_a_mapping_that_cannot_be_obeyed_is_refused(text: str, tmp_path: Path) -> None:
    left, right = sides(tmp_path)
    if '"l"' in text:
        framework, classes, _, own, _ = layouts()["attention of three widths"]
        left = write_layers(tmp_path / "many", framework, {"l": Layer(classes, own, np.ones(1))})
        right = write_layers(tmp_path / "one", "keras", {"l": dense(np.ones((6, 18)))})
    with pytest.raises(CannotBeginError, match=OF_MAPPINGS[text]):
        compared(left, right, mapping_of(tmp_path, text))


def claims(path: Path) -> None:
    """An array that claims to be larger than its file."""
    header = json.dumps(
        {"x": {"dtype": "F64", "shape": [1 << 40], "data_offsets": [0, 1 << 43]}}
    ).encode()
    path.write_bytes(len(header).to_bytes(8, "little") + header)


def saying(change: Change) -> Callable[[Path], Path]:
    """A change of what record.json says."""
    return lambda record: edited(record, change)


def first_layer(**says: Any) -> Callable[[Path], Path]:
    return saying(lambda said: said["layers"][0].update(says))


def without(record: Path, *names: str) -> None:
    """The record without some weights of its last layer."""
    resaved(record, "weights", lambda of: {name: of[name] for name in of if name not in names})

    def change(said: dict[str, Any]) -> None:
        own = said["layers"][-1]["parameters"]
        said["layers"][-1]["parameters"] = {
            role: name for role, name in own.items() if name not in names
        }
        said["weights"] = {
            name: says for name, says in said["weights"].items() if name not in names
        }

    edited(record, change)


# Beside damage at random, which tests/nightly/test_damaged_files.py does.
# What is done to a record, and how it is refused.
HOSTILE: dict[str, tuple[Callable[[Path], Any], str]] = {
    "no folder": (shutil.rmtree, "holds no record"),
    "no record.json": (lambda record: (record / "record.json").unlink(), "holds no record"),
    "another format": (saying(put("format", lambda _: "onnx")), ""),
    "a later version": (saying(put("version", lambda _: 2)), ""),
    "another framework": (saying(put("framework name", lambda _: "mxnet")), ""),
    "no weights": (lambda record: (record / "weights.safetensors").unlink(),
        "weights.safetensors has no "),
    "no layers": (lambda record: (record / "layers.safetensors").unlink(),
        "layers.safetensors has no "),
    "fewer arrays than were written": (
        saying(lambda said: said.update(files={"gradients": 3})),
        "gradients.safetensors has 9 arrays, and record.json says 3",
    ),
    "an array larger than its file": (lambda record: claims(record / "weights.safetensors"), ""),
    "a folder for a file": (
        lambda record: ((record / "layers.safetensors").unlink(),
        (record / "layers.safetensors").mkdir()), ""
    ),
    "a kernel of too few axes": (first_layer(classes=["Linear"], parameters={"weight": "fc.bias"}),
        ""),
    "a layer of the wrong shape": (first_layer(classes=["GRU"],
        parameters={"weight_ih_l0": "fc.bias"}), ""),
    "layers without a partner": (lambda record: without(record, "fc.weight", "fc.bias"), ""),
}  # fmt: skip


@pytest.mark.parametrize("damage", HOSTILE)
def test_a_hostile_record_is_refused_in_one_line(damage: str, tmp_path: Path) -> None:
    left, right = sides(tmp_path)
    damaged, words = HOSTILE[damage]
    damaged(left)
    assert words in refusal(2, "diff", left, right)


def test_weights_that_may_not_be_read_are_not_called_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The system would not refuse a test that runs as root."""

    def denied(path: Path, mode: str) -> IO[bytes]:
        if path.name == "weights.safetensors":
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
        return open(path, mode)

    left, right = sides(tmp_path)
    monkeypatch.setattr(files, "open", denied, raising=False)
    assert "weights.safetensors cannot be read: Permission denied" in refusal(
        2, "diff", left, right
    )


def test_a_mistyped_folder_and_another_seed_get_a_hint(tmp_path: Path) -> None:
    left, right = sides(tmp_path)
    mistyped = left.with_name(f"{left.name}x")
    assert f"did you mean {left}?" in refusal(2, "diff", mistyped, right)
    resaved(right, "weights", lambda of: {name: of[name] + 1 for name in of})
    assert "did the right side load the file" in " ".join(rosetta("diff", left, right)[1].split())


def test_inner_layers_that_differ_are_a_remark_if_outputs_agree(
    tmp_path: Path,
) -> None:
    left, right = sides(
        tmp_path, lambda data: data["outputs"]["lstm"].__setitem__((0, slice(3, None)), 0)
    )
    shutil.copy(left / "outputs.safetensors", right)
    for layer in ("emb", "bn"):  # remarks that come before it
        edited(
            right, lambda said, name=layer: said["calls"].extend([{"layer": name, "parts": []}] * 2)
        )
    found = compared(left, right)
    assert found.passed
    assert {check.stage for check in found.checks} == set(STAGES)
    assert [check.tensor for check in found.checks if check.inside] == [
        "lstm:l0 sequence",
        "lstm:l0 last",
    ]
    assert found.notes[0].startswith(
        "inside, 2 outputs of layers differ, and what the model gives agrees: lstm:l0"
    )
    assert all(worst.error <= worst.tolerance for _, _, worst, _ in report.worst_of_stages(found))
    assert report.cell([check for check in found.checks if check.inside]) == "inside"
    (right / "outputs.safetensors").unlink()  # then the loss speaks for the model
    assert compared(left, right).passed
    edited(right, lambda said: said.update(loss=9.0))
    assert compared(left, right).broken == "forward"


def test_the_program_tells_by_its_exit_status(tmp_path: Path) -> None:
    left, right = sides(tmp_path)
    wrong = write_tagger(
        tmp_path / "wrong", "paddle", changed(DATA, put("weights fc kernel", np.transpose))
    )
    found = answer("diff", left, right)
    assert found["passed"] is True
    assert {
        *"error tolerance measured where note passed stage tensor turn inside".split()
    } == found["checks"][0].keys()
    assert found["pairs"] == {"emb": "emb", "lstm:l0": "lstm", "bn": "bn", "fc": "fc"}
    status, out, err = rosetta("diff", left, wrong)
    assert (status, err) == (1, "rosetta-diff: wrong and left differ\n")
    assert "transposed (docs/deviations.md#output-layer-layout)" in out
    edited(right, lambda says: says.update(finished=False))
    status, out, err = rosetta("diff", left, right)
    assert (status, err) == (1, "rosetta-diff: the training of right was not finished\n")
    assert "as far as they go, right computes what left computes" in out
    assert "the training of right was not finished; see why its script ended" in out
    status, out, err = rosetta("diff", left, right, "--write-mapping", tmp_path / "mapping.toml")
    assert (status, err) == (0, "")
    assert "has 4 pairs; 0 groups of weights have no partner" in out
