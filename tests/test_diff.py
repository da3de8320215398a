"""`rosetta diff` and `rosetta carry`, on records that NumPy made: what is compared, where it breaks, what is said."""

import json
import re
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from backends.process.parent import PROJECT
from benchmarks.compare import tables
from benchmarks.compare.activations import gelu
from benchmarks.compare.carry import carried, write_carried
from benchmarks.compare.comparer import BREAKS
from benchmarks.compare.diff import Diff, compare_records
from benchmarks.compare.groups import groups_of
from benchmarks.compare.mapping import read_mapping
from benchmarks.compare.pairing import paired
from benchmarks.compare.record import Side
from benchmarks.compare.rungs import COMPARED
from common.errors import CannotBeginError
from tests.program import answer, refusal, rosetta
from tests.records import (
    FRAMEWORKS,
    Array,
    Layers,
    N,
    T,
    changed,
    edited,
    of_layers,
    reaching_the_output,
    saved,
    tagger,
    write,
)

DATA = tagger()
REGISTERED = {*re.findall(r"^## (\S+)$", (PROJECT / "docs" / "deviations.md").read_text("utf-8"), re.MULTILINE)}
Change = Callable[[dict[str, Any]], None]


def compared(
    tmp_path: Path, change: Change, left: str = "torch", right: str = "keras", data: dict[str, Any] = DATA
) -> Diff:
    """The comparison of a right side with a mistake with a left side without."""
    sides = write(tmp_path / "left", left, data), write(tmp_path / "right", right, changed(data, change))
    return compare_records(*map(Side, sides))


def both(tmp_path: Path, *frameworks: str) -> tuple[Side, ...]:
    """Records without a mistake."""
    return tuple(Side(write(tmp_path / name, name, DATA)) for name in frameworks)


@pytest.mark.parametrize("right", FRAMEWORKS)
@pytest.mark.parametrize("left", FRAMEWORKS)
def test_sides_that_agree_pass_every_rung_and_one_sides_weights_become_the_others(
    left: str, right: str, tmp_path: Path
) -> None:
    found = compared(tmp_path, lambda data: None, left, right)
    assert found.passed
    assert found.control.passed
    assert {check.rung for check in found.checks} == set(COMPARED)
    assert not found.notes
    sides = Side(tmp_path / "left"), Side(write(tmp_path / "like", right, tagger(seed=9)))
    arrays = carried(paired(*sides))
    expected = load_file(tmp_path / "right" / "weights.safetensors")
    assert arrays.keys() == expected.keys()
    for name, array in arrays.items():
        np.testing.assert_array_equal(array, expected[name])


# Own arrays of a layer by role, and the canonical tensors that they are; written by hand, one by one. Of layouts that
# the pairs of tests/porting_pairs.py have too, there is only what is put together of several arrays.
def layouts() -> dict[str, tuple[str, list[str], dict[str, Any], dict[str, Array], dict[str, dict[str, Array]]]]:
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
    of_three = {"q_proj_weight": q.T, "k_proj_weight": k.T, "v_proj_weight": v.T, "out_proj.weight": o.T}
    heads = {"query": q, "key": k, "value": v, "output": o}
    return {
        "a person's own class": ("torch", ["mine.Linear", "Linear"], {}, {"weight": a.T}, {"l": {"kernel": a}}),
        "depthwise conv": (
            "keras", ["DepthwiseConv2D"], {}, {"kernel": cube}, {"l": {"kernel": cube.reshape(3, 3, 1, 8)}}
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
            {"dense_i.kernel": np.hstack([r, z, n]), "dense_h.kernel": np.hstack([rr, rz, rn]), "dense_i.bias": one,
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
            {"kernel": q.reshape(6, 2, 3), "bias": one.reshape(2, 3)}, {"l": {"kernel": q, "bias": one}},
        ),
        "flax's projection of heads": (
            "flax", ["LinearGeneral"], {"in_features": [2, 3], "out_features": [6]},
            {"kernel": q.reshape(2, 3, 6)}, {"l": {"kernel": q}},
        ),
        "flax's transposed conv": (
            "flax", ["ConvTranspose"], {"transpose_kernel": True}, {"kernel": cube}, {"l": {"kernel": cube}}
        ),
        "flax's conv with its kernel the other way round": (
            "flax", ["ConvTranspose"], {"transpose_kernel": False}, {"kernel": cube},
            {"l:kernel": {"kernel": cube}},
        ),
        "a number of one's own": ("torch", ["mine.Scale"], {}, {"s": h[0]}, {"l:s": {"s": h[0]}}),
        "what nobody knows": ("torch", ["mine.Gate"], {}, {"weight": a}, {"l:weight": {"weight": a}}),
    }  # fmt: skip


def one_layer(
    path: Path, framework: str, classes: list[str], settings: dict[str, Any], own: dict[str, Array]
) -> Side:
    """A record of a layer and nothing but its weights."""
    weights = {f"l.{role}": array for role, array in own.items()}
    layer = {"path": "l", "classes": classes, "settings": settings, "parameters": {role: f"l.{role}" for role in own}}
    return Side(saved(path, framework, [layer], {"weights": weights}))


@pytest.mark.parametrize("name", layouts())
def test_each_layout_leads_to_the_canonical_one_and_back(name: str, tmp_path: Path) -> None:
    framework, classes, settings, own, expected = layouts()[name]
    record = one_layer(tmp_path / "record", framework, classes, settings, own)
    groups = {group.name: group for group in groups_of(record)}
    assert groups.keys() == expected.keys()
    made: dict[str, Array] = {}
    for group, tensors in expected.items():
        assert groups[group].tensors.keys() == tensors.keys()
        for tensor, array in tensors.items():
            found = groups[group].tensors[tensor]
            np.testing.assert_array_equal(found.array(record, "weights"), array)
            assert found.shape == groups[group].shapes[tensor] == array.shape
            for layout in found.layouts:
                made.update({name: np.zeros(record.shape(name)) for name in layout.own if name not in made})
                layout.apart(layout.together(record.arrays("weights")), made)
    for weight, array in made.items():
        np.testing.assert_array_equal(array, record.arrays("weights")[weight])


def test_a_softmax_of_flax_in_float32_is_named(tmp_path: Path) -> None:
    rng = np.random.default_rng(2)
    kernel, output = rng.random((6, 6)), rng.random((2, 3, 6))
    for name, own in (("left", output), ("right", np.asarray(output + 4e-8))):
        layers: Layers = {
            "attention.out": (["LinearGeneral"], {"kernel": kernel}, own),
            "attention": (["MultiHeadAttention"], {}, own),
        }
        of_layers(tmp_path / name, "flax", layers, {})
    found = compare_records(Side(tmp_path / "left"), Side(tmp_path / "right"))
    assert found.broken == "forward"
    assert "flax-attention-float32" in {cause.entry for cause in found.causes}


def at(*path: str) -> Callable[[dict[str, Any]], Any]:
    """What stands at the end of some keys."""

    def found(data: dict[str, Any]) -> Any:
        for key in path:
            data = data[key]
        return data

    return found


def put(*path: str, value: Callable[[Any], Any]) -> Change:
    """Replace what stands at the end of some keys."""

    def change(data: dict[str, Any]) -> None:
        at(*path[:-1])(data)[path[-1]] = value(at(*path)(data))

    return change


def late(outputs: Array) -> Array:
    return outputs + 0.01 * (np.arange(T) >= 3)[:, None]


def updates(factor: float, *names: str) -> Change:
    """These weights move by so many times as much, or all where none is named."""

    def change(data: dict[str, Any]) -> None:
        for layer, of in data["step-1"].items():
            for name, after in of.items():
                if not names or f"{layer} {name}" in names:
                    before = data["weights"][layer][name]
                    of[name] = before + factor * (after - before)

    return change


def divided_otherwise(data: dict[str, Any]) -> None:
    """The variance of a batch of N * T numbers is divided by one less."""
    kept = 0.9 * data["weights"]["bn"]["moving_variance"]
    new = data["step-1"]["bn"]["moving_variance"] - kept
    data["step-1"]["bn"]["moving_variance"] = kept + new * N * T / (N * T - 1)


def settings(layer: str, **own: Any) -> Change:
    def change(data: dict[str, Any]) -> None:
        data["settings"][layer] = own
        data["outputs"][layer] = data["outputs"][layer] * 1.001

    return change


def scale_all(*path: str, factor: float) -> Change:
    def change(data: dict[str, Any]) -> None:
        for of in at(*path)(data).values():
            for name in of:
                of[name] = of[name] * factor

    return change


def one_row(rows: Array) -> Array:
    return rows * (np.arange(len(rows)) != 2)[:, None]


# A mistake of the right side, the rung that breaks, what is named, and the register's entry. Those of models of the
# frameworks themselves are in tests/porting_mistakes.py.
MISTAKES: dict[str, tuple[Change, str, str, str]] = {
    "rows in another order": (
        put("inputs", "x", value=lambda x: x[::-1]), "tensors", "x", "shuffling"
    ),
    "a constant in float32": (
        put("weights", "bn", "moving_mean", value=lambda a: a.astype(np.float32)), "weights", "float32", "array-dtype"
    ),
    "numbers whose squares are too large": (
        put("weights", "fc", "kernel", value=lambda a: a * 1e200), "weights", "fc kernel", ""
    ),
    "one row of an embedding": (
        put("weights", "emb", "embeddings", value=one_row), "weights",
        "of emb only row 2 differs and is zero on the right only", "padding-idx",
    ),
    "an LSTM's last output, where it gives no other": (
        put("outputs", "lstm", value=lambda a: a[:, -1] + 0.01), "forward", "lstm:l0 last", ""
    ),
    "a step of time": (
        put("outputs", "lstm", value=late), "forward", "the first time step at which it differs is 3", ""
    ),
    "epsilon of a norm": (settings("bn", epsilon=1e-3), "forward", "epsilon is 1e-05", "batchnorm-epsilon"),
    "gradient of a padding row": (
        put("gradients", "emb", "embeddings", value=one_row), "gradients",
        "of emb only row 2 differs and is zero on the right only", "padding-idx",
    ),
    "gradients of a sum": (
        scale_all("gradients", factor=N), "gradients", f"the mean over {N} rows", "padding-denominator"
    ),
    "gradients of all, of which the one nearest to the loss is named": (
        scale_all("gradients", factor=1.5), "gradients", "\n  fc bias: ", ""
    ),
    "variance by n": (
        divided_otherwise, "step", "divided by n", "batchnorm-variance"
    ),
    "slots": (put("slots", "mean_square", "fc", "kernel", value=lambda a: a * 2),
              "step", "mean_square of fc kernel", ""),
    "squares of an embedding's slices": (
        put("slots", "mean_square", "emb", "embeddings", value=lambda a: a * 0.5),
        "step", "", "keras-sparse-embeddings",
    ),
    "order of batches": (
        put("losses", value=lambda losses: [losses[0], losses[2], losses[1], *losses[3:]]),
        "trajectory", "step 2", "shuffling",
    ),
    "kept between steps": (
        put("losses", value=lambda losses: [*losses[:4], *(loss * 1.01 for loss in losses[4:])]),
        "trajectory", "the losses part at step 5", "optimizer-slots",
    ),
    "a loss that is lost": (
        put("losses", value=lambda losses: [*losses[:4], "nan", *losses[5:]]), "trajectory", "step 5: got nan", ""
    ),
    "numbers that are none": (
        put("outputs", "emb", value=lambda a: a * np.where(np.arange(3) == 1, np.nan, 1)), "forward", "got nan", ""
    ),
    "another shape": (put("logits", value=lambda a: a[:, :-1]), "forward", "shape (4, 4, 6), expected (4, 5, 6)", ""),
}  # fmt: skip


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_breaks_its_rung_and_is_named(mistake: str, tmp_path: Path) -> None:
    change, rung, words, entry = MISTAKES[mistake]
    found = compared(tmp_path, reaching_the_output(change) if rung == "forward" else change)
    said = "\n".join(tables.lines(found))
    assert found.broken == rung
    assert {check.rung for check in found.checks} == set(COMPARED[: COMPARED.index(rung) + 1])
    assert words in said
    assert BREAKS[rung] in said
    if entry:
        assert entry in [cause.entry for cause in found.causes]
    assert {cause.entry for cause in found.causes} - {""} <= REGISTERED


def test_an_optimizer_of_other_settings_is_named(tmp_path: Path) -> None:
    def change(data: dict[str, Any]) -> None:
        updates(1.01, "fc kernel")(data)
        data["optimizer"] = {"epsilon": 1e-7, "weight_decay": 0.01, "global_clipnorm": 1.0}

    found = compared(tmp_path, change)
    assert {"optimizer-epsilon", "adam-epsilon", "weight-decay", "clipping"} <= {
        cause.entry for cause in found.causes
    }
    assert "and a record does not show it, on the left and to a norm of all of 1.0 on the right" in "".join(
        tables.lines(found)
    )


def of_activation(name: str, change: Callable[[Array], Array]) -> Change:
    """The right side's dense layer has an activation within it, which follows the left side's."""

    def changed(data: dict[str, Any]) -> None:
        data["settings"]["fc"] = {"activation": name}
        data["outputs"]["fc"] = change(data["outputs"]["fc"])

    return changed


def unchanged(data: dict[str, Any]) -> None:
    pass


def zero_gradients(size: float) -> Change:
    """Those of fc's bias are of rounding alone, as of the bias of an attention's key, which no output depends on."""
    return put("gradients", "fc", "bias", value=lambda bias: size * np.sign(bias))


def decayed(gradient: float, from_gradient: float) -> Change:
    """Weight decay takes away most of what Adam makes of a gradient of rounding alone."""

    def change(data: dict[str, Any]) -> None:
        start = data["weights"]["fc"]["bias"]
        data["optimizer"]["weight_decay"] = 1e-3
        data["gradients"]["fc"]["bias"] = np.full(6, gradient)
        data["step-1"]["fc"]["bias"] = start * (1 - 1e-5) + from_gradient * np.abs(start)

    return change


def gelu_within(error: float) -> Change:
    """GELU, for which TensorFlow has a constant in float32, is within fc."""
    return of_activation("gelu", lambda outputs: gelu(outputs) * (1 + error))


last_output = put("outputs", "lstm", value=lambda a: np.ascontiguousarray(a[:, -1]))  # as Keras's LSTM gives it
time_first = put("logits", value=lambda a: np.ascontiguousarray(a.swapaxes(0, 1)))
moved_bias = put("step-last", "fc", "bias", value=lambda a: a + 1e-3)
# What both sides have, what the right one has in its place, the rung that breaks, and what is said.
ALLOWED: dict[str, tuple[Change, Change, str | None, str]] = {
    "the last output": (unchanged, last_output, None, ""),
    "time first": (unchanged, time_first, None, "the first two axes change places"),
    "a constant in float32": (unchanged, gelu_within(5e-9), None, "30 times as wide"),
    "more than that": (unchanged, reaching_the_output(gelu_within(1e-7)), "forward", "30 times as wide"),
    "zero gradients": (zero_gradients(1e-17), zero_gradients(-1e-17), None, ""),
    "a step from rounding": (decayed(4e-13, 1e-5), decayed(2.8e-13, 0.7e-5), None, ""),
    "a step that is wrong": (decayed(4e-13, 1e-5), decayed(2.8e-13, 4e-5), "step", ""),
    "steps from rounding": (zero_gradients(1e-16), moved_bias, None, "fc bias, whose gradient is rounding alone"),
    "steps that are wrong": (unchanged, moved_bias, "trajectory", ""),
}


@pytest.mark.parametrize("name", ALLOWED)
def test_what_layouts_and_rounding_do_passes_and_more_does_not(name: str, tmp_path: Path) -> None:
    both_sides, right, rung, words = ALLOWED[name]
    found = compared(tmp_path, right, data=changed(DATA, both_sides))
    assert found.broken == rung, found.explanation
    assert words in "".join([*found.notes, *(check.note for check in found.checks)])


def test_a_layer_without_weights_is_paired_by_its_place(tmp_path: Path) -> None:
    """A dropout before a layer is not the other side's after it, though each has one."""

    def with_dropout(path: Path, place: int, output: float) -> Side:
        def change(said: dict[str, Any]) -> None:
            said["layers"].append({"path": "drop", "classes": ["Dropout"], "settings": {}})
            said["calls"].insert(place, {"layer": "drop", "parts": ["9:drop:0"]})

        edited(path, change)
        outputs = load_file(path / "layers.safetensors") | {"9:drop:0": np.full(3, output)}
        save_file(outputs, path / "layers.safetensors")
        return Side(path)

    left, right, after = (
        with_dropout(write(tmp_path / str(place), "torch", DATA), place, output)
        for place, output in ((1, 1.0), (2, 2.0), (3, 2.0))
    )
    assert compare_records(left, after).passed
    assert compare_records(right, after).passed
    other_logits = changed(DATA, put("logits", value=lambda a: a + 1))
    same = with_dropout(write(tmp_path / "same", "torch", other_logits), 1, 2.0)
    assert compare_records(left, same).explanation[1].startswith("drop output")


def test_the_control_fails_where_a_planted_mistake_is_not_seen(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("benchmarks.compare.comparer.largest_difference", lambda one, *_: (0.0, (0,) * one.ndim))
    found = compared(tmp_path, put("weights", "fc", "kernel", value=np.transpose))
    assert not found.control.passed
    assert "NOT seen" in tables.planted_line(found)


def test_what_a_mapping_skips_is_left_out_with_its_reason(tmp_path: Path) -> None:
    (tmp_path / "mapping.toml").write_text('[skip]\n"emb" = "it is frozen"\n')
    found = compare_records(*both(tmp_path, "torch", "keras"), read_mapping(tmp_path / "mapping.toml"))
    assert "not compared: emb, it is frozen" in found.notes
    assert found.passed
    assert not any("emb" in check.tensor for check in found.checks)


OF_MAPPINGS = {
    '[skip]\n"emb" = " "\n': "skips emb without a reason",
    '[skip]\n"nowhere" = "it is not there"\n': "skips nowhere, which neither side has",
    '[layers]\n"fc" = "nowhere"\n': "names nowhere",
    '[layers]\n"l" = "l"\n': "which are 4 and 1 groups of weights; name them one by one: l:query",
}


@pytest.mark.parametrize("text", OF_MAPPINGS)
def test_a_mapping_that_cannot_be_obeyed_is_refused(text: str, tmp_path: Path) -> None:
    sides = both(tmp_path, "torch", "keras")
    if '"l"' in text:
        many = one_layer(
            tmp_path / "many", "torch", ["MultiheadAttention"], {}, layouts()["attention of three widths"][3]
        )
        sides = many, one_layer(tmp_path / "one", "keras", ["Dense"], {}, {"kernel": np.ones((6, 18))})
    (tmp_path / "mapping.toml").write_text(text)
    with pytest.raises(CannotBeginError, match=OF_MAPPINGS[text]):
        compare_records(*sides, read_mapping(tmp_path / "mapping.toml"))


def claims(path: Path) -> None:
    """An array that claims to be larger than its file."""
    header = json.dumps({"x": {"dtype": "F64", "shape": [1 << 40], "data_offsets": [0, 1 << 43]}}).encode()
    path.write_bytes(len(header).to_bytes(8, "little") + header)


# Beside damage at random, which tests/attack/damaged_files.py does.
HOSTILE: dict[str, Callable[[Path], Any]] = {
    "no folder": lambda record: shutil.rmtree(record),
    "no record.json": lambda record: (record / "record.json").unlink(),
    "another format": lambda record: edited(record, put("format", value=lambda _: "onnx")),
    "a later version": lambda record: edited(record, put("version", value=lambda _: 2)),
    "another framework": lambda record: edited(record, put("framework", "name", value=lambda _: "mxnet")),
    "weights that are not there": lambda record: (record / "weights.safetensors").unlink(),
    "an array larger than its file": lambda record: claims(record / "weights.safetensors"),
    "a folder for a file": lambda record: (
        (record / "layers.safetensors").unlink(), (record / "layers.safetensors").mkdir()
    ),
    "a kernel of too few axes": lambda record: edited(
        record, lambda said: said["layers"][0].update(classes=["Linear"], parameters={"weight": "fc.bias"})
    ),
    "a layer of the wrong shape": lambda record: edited(
        record, lambda said: said["layers"][0].update(classes=["GRU"], parameters={"weight_ih_l0": "fc.bias"})
    ),
    "layers without a partner": lambda record: edited(record, lambda said: said["layers"].pop()),
}  # fmt: skip


@pytest.mark.parametrize("damage", HOSTILE)
def test_a_hostile_record_is_refused_in_one_line(damage: str, tmp_path: Path) -> None:
    left, right = (write(tmp_path / name, name, DATA) for name in ("torch", "keras"))
    HOSTILE[damage](left)
    with pytest.raises(CannotBeginError) as error:
        compare_records(Side(left), Side(right))
    assert "\n" not in str(error.value)


def test_weights_that_are_true_or_false_are_compared(tmp_path: Path) -> None:
    sides = [write(tmp_path / name, "torch", DATA) for name in ("left", "right")]
    weights = sides[1] / "weights.safetensors"
    save_file({name: array > 0 for name, array in load_file(weights).items()}, weights)
    assert compare_records(*map(Side, sides)).broken == "weights"


def test_running_statistics_that_a_record_lacks_after_a_step_are_a_break(tmp_path: Path) -> None:
    sides = [write(tmp_path / name, "torch", DATA) for name in ("left", "right")]
    arrays = load_file(sides[0] / "step-1.safetensors")
    del arrays["bn.running_mean"]
    save_file(arrays, sides[0] / "step-1.safetensors")
    assert compare_records(*map(Side, sides)).broken == "step"


def test_layers_that_differ_inside_a_model_whose_outputs_agree_are_a_remark_and_the_climb_goes_on(
    tmp_path: Path,
) -> None:
    def masked(data: dict[str, Any]) -> None:
        data["outputs"]["lstm"][0, 3:] = 0

    sides = write(tmp_path / "left", "torch", DATA), write(tmp_path / "right", "keras", changed(DATA, masked))
    outputs = load_file(sides[0] / "outputs.safetensors")
    save_file(outputs, sides[1] / "outputs.safetensors")
    found = compare_records(*map(Side, sides))
    assert found.passed
    assert {check.rung for check in found.checks} == set(COMPARED)
    assert [check.tensor for check in found.checks if check.inside] == ["lstm:l0 sequence", "lstm:l0 last"]
    assert found.notes[0].startswith("inside, 2 outputs of layers differ, and what the model gives agrees: lstm:l0")
    (sides[1] / "outputs.safetensors").unlink()  # then the loss speaks for the model
    assert compare_records(*map(Side, sides)).passed
    edited(sides[1], lambda said: said.update(loss=9.0))
    assert compare_records(*map(Side, sides)).broken == "forward"


def test_nothing_passes_by_default(tmp_path: Path) -> None:
    sides = write(tmp_path / "left", "torch", DATA), write(tmp_path / "right", "keras", DATA)
    for side in sides:
        for file in ("slots", "step-1", "step-last"):
            (side / f"{file}.safetensors").unlink()
        edited(side, lambda said: said.update(steps=[]))
    out = rosetta("diff", *sides)[1]
    assert "computes: tensors, weights, forward, loss, gradients; not compared: step, trajectory" in out.replace(
        "\n", " "
    )
    assert "step: left and right recorded no slots" in refusal(1, "diff", *sides, "--require", "forward,step")
    assert "--require names fast" in refusal(2, "diff", *sides, "--require", "fast")
    for side in sides:
        for file in side.glob("*.safetensors"):
            file.unlink()
        edited(side, lambda said: said.update(layers=[], calls=[], weights={}, loss=None, optimizer=None))
    assert "nothing of right and left was compared" in refusal(1, "diff", *sides)


OF_NAN: dict[str, Change] = {
    "tensors": put("inputs", "x", value=lambda x: x * np.nan),
    "weights": put("weights", "fc", "bias", value=lambda bias: bias * np.nan),
    "forward": put("logits", value=lambda logits: logits * np.nan),
    "loss": put("loss", value=lambda _: "nan"),
    "gradients": put("gradients", "fc", "bias", value=lambda bias: bias * np.nan),
}


@pytest.mark.parametrize("rung", OF_NAN)
def test_nan_on_both_sides_is_not_equal(rung: str, tmp_path: Path) -> None:
    found = compared(tmp_path, lambda data: None, data=changed(DATA, OF_NAN[rung]))
    assert found.broken == rung
    assert "NaN on both sides" in found.explanation[1]


def test_infinity_on_both_sides_is_equal(tmp_path: Path) -> None:
    masked = changed(DATA, lambda data: data["logits"].__setitem__((0, 0, 0), -np.inf))
    assert compared(tmp_path, lambda data: None, data=masked).passed


@pytest.mark.parametrize("file", ["layers", "weights"])
def test_a_file_that_was_lost_is_damage(file: str, tmp_path: Path) -> None:
    sides = write(tmp_path / "left", "torch", DATA), write(tmp_path / "right", "keras", DATA)
    (sides[1] / f"{file}.safetensors").unlink()
    assert f"{file}.safetensors has no " in refusal(2, "diff", *sides)
    edited(sides[0], lambda said: said.update(files={"gradients": 3}))
    assert "gradients.safetensors has 9 arrays, and record.json says 3" in refusal(2, "diff", *sides)


def test_a_call_that_gave_nothing_is_passed_over(tmp_path: Path) -> None:
    change = reaching_the_output(of_activation("tanh", lambda outputs: 2 * outputs))
    sides = write(tmp_path / "left", "torch", DATA), write(tmp_path / "right", "keras", changed(DATA, change))
    for side in sides:
        edited(side, lambda said: said["calls"].insert(0, {"layer": "fc", "parts": []}))
    assert compare_records(*map(Side, sides)).explanation[1].startswith("fc output, call 2")


def test_the_program_tells_by_its_exit_status(tmp_path: Path) -> None:
    wrong = changed(DATA, put("weights", "fc", "kernel", value=np.transpose))
    of = {"left": ("torch", DATA), "right": ("keras", DATA), "wrong": ("paddle", wrong)}
    sides = {name: str(write(tmp_path / name, *both)) for name, both in of.items()}
    found = answer("diff", sides["left"], sides["right"])
    assert found["passed"] is True
    assert {*"error tolerance measured where note passed rung tensor inside".split()} == found["checks"][0].keys()
    assert found["pairs"] == {"emb": "emb", "lstm:l0": "lstm", "bn": "bn", "fc": "fc"}
    assert all(found["control"]["planted_mistakes_seen"].values())
    status, out, err = rosetta("diff", sides["left"], sides["wrong"])
    assert (status, err) == (1, "rosetta: wrong and left differ\n")
    assert "transposed (docs/deviations.md#output-layer-layout)" in out
    unfinished = edited(Path(sides["right"]), lambda says: says.update(finished=False))
    status, out, err = rosetta("diff", sides["left"], unfinished)
    assert (status, err) == (1, "rosetta: the training of right was not finished\n")
    assert "as far as they go, right computes what left computes" in out
    assert "the training of right was not finished; see why its script ended" in out
    status, out, err = rosetta("diff", sides["left"], sides["right"], "--write-mapping", tmp_path / "mapping.toml")
    assert (status, err) == (0, "")
    assert "has 4 pairs; 0 groups of weights have no partner" in out
    assert "holds no record" in refusal(2, "diff", sides["left"], tmp_path / "nowhere")


def test_what_cannot_be_carried_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    paddle, keras = both(tmp_path, "paddle", "keras")
    out, to_keras = tmp_path / "out.safetensors", carried(paired(paddle, keras))
    with pytest.raises(CannotBeginError, match=r"no file of paddle; give it the ending \.pdparams"):
        write_carried(tmp_path / "model.onnx", paddle, carried(paired(keras, paddle)))
    with pytest.raises(CannotBeginError, match=r"name it \.h5"):
        write_carried(tmp_path / "model.weights.h5", keras, to_keras)
    monkeypatch.delitem(sys.modules, "backends.native.keras", raising=False)
    monkeypatch.setitem(sys.modules, "h5py", None)
    with pytest.raises(CannotBeginError, match="not installed here; try: pip install h5py"):
        write_carried(tmp_path / "model.h5", keras, to_keras)
    write_carried(out, keras, to_keras)
    with pytest.raises(CannotBeginError, match="exists"):
        write_carried(out, keras, to_keras)
    assert "--like" in refusal(2, "carry", paddle.path, "--to", "keras", "-o", out)
    wrong = refusal(2, "carry", paddle.path, "--to", "torch", "-o", tmp_path / "out.pt", "--like", keras.path)
    assert "is a record of keras" in wrong
    edited(paddle.path, lambda said: said["layers"][-1]["parameters"].pop("bias"))
    with pytest.raises(CannotBeginError, match="do not both have bias"):
        carried(paired(Side(paddle.path), keras))
