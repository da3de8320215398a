"""`rosetta diff` and `rosetta carry`, on records that NumPy made: what is compared, where it breaks, what is said."""

import json
import shutil
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from backends.native.paddle import StateDictUnpickler
from backends.process.parent import PROJECT
from benchmarks.compare import tables
from benchmarks.compare.activations import ACTIVATIONS, gelu, gelu_by_tanh
from benchmarks.compare.carry import aliases, carried, write_carried
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
    H,
    Layers,
    N,
    T,
    changed,
    cross_entropy,
    edited,
    of_layers,
    reaching_the_output,
    saved,
    tagger,
    write,
)

DATA = tagger()
REGISTERED = {
    entry["id"]
    for entry in tomllib.loads((PROJECT / "docs" / "deviations.toml").read_text(encoding="utf-8"))["deviation"]
}
PADDLES_OWN = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
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
    attention = {
        "in_proj_weight": np.vstack([q.T, k.T, v.T]),
        "in_proj_bias": np.hstack([q[0], k[0], v[0]]),
        "out_proj.weight": o.T,
        "out_proj.bias": o[0],
    }
    of_three = {"q_proj_weight": q.T, "k_proj_weight": k.T, "v_proj_weight": v.T, "out_proj.weight": o.T}
    heads = {"query": q, "key": k, "value": v, "output": o}
    transposed, in_groups = cube.transpose(3, 2, 0, 1), cube.reshape(3, 3, 1, 8)
    return {
        "dense": ("keras", ["Dense"], {}, {"kernel": a, "bias": h}, {"l": {"kernel": a, "bias": h}}),
        "a person's own class": ("torch", ["mine.Linear", "Linear"], {}, {"weight": a.T}, {"l": {"kernel": a}}),
        "transposed conv": ("torch", ["ConvTranspose2d"], {}, {"weight": transposed}, {"l": {"kernel": cube}}),
        "depthwise conv": ("keras", ["DepthwiseConv2D"], {}, {"kernel": cube}, {"l": {"kernel": in_groups}}),
        "conv in groups": (
            "torch", ["Conv2d"], {}, {"weight": in_groups.transpose(3, 2, 0, 1)}, {"l": {"kernel": in_groups}}
        ),
        "cell": (
            "torch", ["LSTMCell"], {}, {"weight_ih": a.T, "weight_hh": b.T},
            {"l": {"kernel": a, "recurrent_kernel": b}},
        ),
        "gru": ("paddle", ["GRU", "RNNBase"], {}, gru, {"l:l0": canonical_gru}),
        "attention": (
            "torch", ["MultiheadAttention"], {}, attention,
            {f"l:{name}": {"kernel": array, "bias": array[0]} for name, array in heads.items()},
        ),
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


def other_gelu(data: dict[str, Any]) -> None:
    weights = data["weights"]["fc"]
    data["logits"] = data["outputs"]["fc"] = gelu_by_tanh(data["outputs"]["bn"]) @ weights["kernel"] + weights["bias"]


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


def complement(data: dict[str, Any]) -> None:
    """The momentum of a batch norm is taken for its complement."""
    data["settings"]["bn"] = {"momentum": 0.1}
    updates(9, "bn moving_mean", "bn moving_variance")(data)


# A mistake of the right side, the rung that breaks, what is named, and the register's entry.
MISTAKES: dict[str, tuple[Change, str, str, str]] = {
    "rows in another order": (
        put("inputs", "x", value=lambda x: x[::-1]), "tensors", "x", "shuffling"
    ),
    "transposed square kernel": (
        put("weights", "fc", "kernel", value=np.transpose), "weights", "fc kernel", "output-layer-layout"
    ),
    "gates in another order": (
        put("weights", "lstm", "kernel", value=lambda k: np.hstack([k[:, H : 2 * H], k[:, :H], k[:, 2 * H :]])),
        "weights", "in the order forget, input, candidate, output", "lstm-kernel-layout",
    ),
    "a constant in float32": (
        put("weights", "bn", "moving_mean", value=lambda a: a.astype(np.float32)), "weights", "float32", "array-dtype"
    ),
    "numbers whose squares are too large": (
        put("weights", "fc", "kernel", value=lambda a: a * 1e200), "weights", "fc kernel", ""
    ),
    "one row of an embedding": (
        put("weights", "emb", "embeddings", value=one_row), "weights", "row 2 of emb is zero on the right only",
        "padding-idx",
    ),
    "initial state": (
        put("outputs", "lstm", value=lambda a: a + 0.01), "forward", "lstm:l0 sequence", ""
    ),
    "an LSTM's last output, where it gives no other": (
        put("outputs", "lstm", value=lambda a: a[:, -1] + 0.01), "forward", "lstm:l0 last", ""
    ),
    "a step of time": (
        put("outputs", "lstm", value=late), "forward", "the first time step at which it differs is 3", ""
    ),
    "epsilon of a norm": (settings("bn", epsilon=1e-3), "forward", "epsilon is 1e-05", "batchnorm-epsilon"),
    "gelu": (other_gelu, "forward", "gelu on the left and gelu by tanh on the right", "gelu-approximation"),
    "label smoothing": (
        put("loss", value=lambda _: cross_entropy(DATA["logits"], DATA["inputs"]["y"], smoothing=0.1)),
        "loss", "smoothed by 0 on the left and 0.1 on the right", "label-smoothing",
    ),
    "a sum for a mean": (
        put("loss", value=lambda loss: loss * N * T), "loss",
        "a mean over the positions that count on the left and a sum on", "padding-denominator",
    ),
    "gradient of a padding row": (
        put("gradients", "emb", "embeddings", value=one_row), "gradients",
        "row 2 of emb is zero on the right only", "padding-idx",
    ),
    "gradients of a sum": (
        scale_all("gradients", factor=N), "gradients", f"the mean over {N} rows", "padding-denominator"
    ),
    "gradients of all, of which the one nearest to the loss is named": (
        scale_all("gradients", factor=1.5), "gradients", "\n  fc bias: ", ""
    ),
    "second bias": (updates(2, "lstm bias"), "step", "one side trains two biases", "second-bias"),
    "momentum's complement": (complement, "step", "momentum is the old statistics' share", "batchnorm-momentum"),
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


# What the right side may do otherwise, and what is noted of it.
ALLOWED: dict[str, tuple[Change, str]] = {
    "a layer gives its last output, as Keras's LSTM does": (
        put("outputs", "lstm", value=lambda a: np.ascontiguousarray(a[:, -1])), ""
    ),
    "time stands first": (
        put("logits", value=lambda a: np.ascontiguousarray(a.swapaxes(0, 1))), "the first two axes change places"
    ),
    "an activation stands within a layer": (of_activation("tanh", np.tanh), ""),
}  # fmt: skip


@pytest.mark.parametrize("name", ALLOWED)
def test_what_is_otherwise_without_being_wrong_passes(name: str, tmp_path: Path) -> None:
    change, note = ALLOWED[name]
    found = compared(tmp_path, change)
    assert found.passed, found.explanation
    assert note in "".join([*found.notes, *(check.note for check in found.checks)])


def test_bounds_are_wider_where_a_framework_keeps_a_constant_in_float32(tmp_path: Path) -> None:
    for name, error, passes in (("near", 5e-9, True), ("far", 1e-7, False)):
        wrong = of_activation("gelu", lambda a, error=error: gelu(a) * (1 + error))
        found = compared(tmp_path / name, wrong if passes else reaching_the_output(wrong))
        assert found.passed == passes
        assert "30 times as wide" in found.notes[0]


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


OF_ACTIVATIONS = {
    "linear": [-2, 0, 1.5],
    "relu": [0, 0, 1.5],
    "gelu": [-0.04550026389635842, 0, 1.3997891981967037],
    "gelu by tanh": [-0.045402305912418925, 0, 1.3995715769802328],
    "tanh": [-0.9640275800758169, 0, 0.9051482536448664],
    "sigmoid": [0.11920292202211755, 0.5, 0.8175744761936437],
    "silu": [-0.2384058440442351, 0, 1.2263617142904656],
    "softmax": [0.0240937682868484, 0.17803020550615906, 0.7978760262069926],
    "softplus": [0.12692801104297252, 0.6931471805599453, 1.7014132779827524],
    "elu": [-0.8646647167633873, 0, 1.5],
}


def test_an_activation_is_what_its_name_says() -> None:
    assert ACTIVATIONS.keys() == OF_ACTIVATIONS.keys()
    for name, expected in OF_ACTIVATIONS.items():
        np.testing.assert_allclose(ACTIVATIONS[name](np.array([-2.0, 0.0, 1.5])), expected, rtol=1e-8, err_msg=name)


def test_zero_gradients_may_be_of_rounding_alone(tmp_path: Path) -> None:
    """As of the bias of an attention's key, which no output depends on."""
    rng = np.random.default_rng(5)
    noise = put("gradients", "fc", "bias", value=lambda _: 1e-17 * rng.standard_normal(H))
    found = compared(tmp_path, noise, data=changed(DATA, noise))
    assert not [check for check in found.checks if check.rung == "gradients" and not check.passed]


def test_the_control_fails_where_a_planted_mistake_is_not_seen(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("benchmarks.compare.comparer.largest_difference", lambda one, *_: (0.0, (0,) * one.ndim))
    found = compared(tmp_path, put("weights", "fc", "kernel", value=np.transpose))
    assert not found.control.passed
    assert "NOT seen" in tables.planted_line(found)


def test_a_recorded_control_shows_what_rounding_does(tmp_path: Path) -> None:
    path = write(tmp_path / "left", "torch", DATA)
    write(path / "control", "torch", changed(DATA, put("outputs", "fc", value=lambda a: a * (1 + 1e-12))))
    found = compare_records(Side(path), Side(write(tmp_path / "right", "keras", DATA)))
    worst = max(check.error for check in found.control.rounding if check.rung == "forward")
    assert 1e-13 < worst < 2e-12


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
        many = one_layer(tmp_path / "many", "torch", ["MultiheadAttention"], {}, layouts()["attention"][3])
        sides = many, one_layer(tmp_path / "one", "keras", ["Dense"], {}, layouts()["dense"][3])
    (tmp_path / "mapping.toml").write_text(text)
    with pytest.raises(CannotBeginError, match=OF_MAPPINGS[text]):
        compare_records(*sides, read_mapping(tmp_path / "mapping.toml"))


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-8])


def claims(path: Path) -> None:
    """An array that claims to be larger than its file."""
    header = json.dumps({"x": {"dtype": "F64", "shape": [1 << 40], "data_offsets": [0, 1 << 43]}}).encode()
    path.write_bytes(len(header).to_bytes(8, "little") + header)


HOSTILE: dict[str, Callable[[Path], Any]] = {
    "no folder": lambda record: shutil.rmtree(record),
    "no record.json": lambda record: (record / "record.json").unlink(),
    "no JSON": lambda record: (record / "record.json").write_text("{"),
    "deep JSON": lambda record: (record / "record.json").write_text("[" * 100_000),
    "another format": lambda record: edited(record, put("format", value=lambda _: "onnx")),
    "a later version": lambda record: edited(record, put("version", value=lambda _: 2)),
    "another framework": lambda record: edited(record, put("framework", "name", value=lambda _: "mxnet")),
    "a number for a name": lambda record: edited(record, lambda said: said["layers"][0].update(path=3)),
    "a long name": lambda record: edited(record, lambda said: said["layers"][0].update(path="x" * 5000)),
    "weights that are not there": lambda record: (record / "weights.safetensors").unlink(),
    "weights that are cut": lambda record: cut(record / "weights.safetensors"),
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
    "a name of two lines": lambda record: edited(
        record, lambda said: said["calls"].append({"layer": "fc", "parts": ["a\u2028b"]})
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


@pytest.mark.parametrize(
    ("change", "rung"),
    [
        (lambda data: data["inputs"].update(x=data["inputs"]["x"] * np.nan), "tensors"),
        (lambda data: data["weights"]["fc"]["bias"].__setitem__(1, np.nan), "weights"),
        (lambda data: data["logits"].__setitem__((0, 0, 0), np.nan), "forward"),
        (lambda data: data.update(loss="nan"), "loss"),
        (lambda data: data["gradients"]["fc"]["bias"].__setitem__(0, np.nan), "gradients"),
    ],
)
def test_nan_on_both_sides_is_not_equal_and_infinity_is(change: Change, rung: str, tmp_path: Path) -> None:
    data = changed(DATA, change)
    sides = write(tmp_path / "left", "torch", data), write(tmp_path / "right", "paddle", data)
    found = compare_records(*map(Side, sides))
    assert found.broken == rung
    assert "NaN on both sides" in found.explanation[1]
    masked = changed(DATA, lambda data: data["logits"].__setitem__((0, 0, 0), -np.inf))
    sides = write(tmp_path / "1", "torch", masked), write(tmp_path / "2", "paddle", masked)
    assert compare_records(*map(Side, sides)).passed


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
    unfinished = edited(
        shutil.copytree(sides["right"], tmp_path / "unfinished"), lambda says: says.update(finished=False)
    )
    status, out, err = rosetta("diff", sides["left"], unfinished)
    assert (status, err) == (1, "rosetta: the training of unfinished was not finished\n")
    assert "as far as they go, unfinished computes what left computes" in out
    assert "the training of unfinished was not finished; see why its script ended" in out
    assert json.loads(rosetta("diff", unfinished, sides["left"], "--json")[1])["passed"] is False
    status, out, err = rosetta("diff", sides["left"], sides["right"], "--write-mapping", tmp_path / "mapping.toml")
    assert (status, err) == (0, "")
    assert "has 4 pairs; 0 groups of weights have no partner" in out
    assert "holds no record" in refusal(2, "diff", sides["left"], tmp_path / "nowhere")


def test_a_weight_whose_gradient_is_rounding_alone_is_not_compared_after_several_steps(tmp_path: Path) -> None:
    still = changed(DATA, put("gradients", "fc", "bias", value=lambda a: np.full_like(a, 1e-16)))
    moved = put("step-last", "fc", "bias", value=lambda a: a + 1e-3)
    for name, data, passes in (("still", still, True), ("trained", DATA, False)):
        found = compared(tmp_path / name, moved, data=data)
        assert found.passed == passes, found.explanation
        assert any("fc bias, whose gradient is rounding alone" in note for note in found.notes) == passes


def test_a_step_from_rounding_alone_may_differ_where_weight_decay_cancels_it(tmp_path: Path) -> None:
    """Gradients that are zero in theory differ by 30 %, and so may what Adam makes of them."""

    def stepped(gradient: float, from_gradient: float) -> Change:
        def change(data: dict[str, Any]) -> None:
            start = data["weights"]["fc"]["bias"]
            data["gradients"]["fc"]["bias"] = np.full(6, gradient)
            data["step-1"]["fc"]["bias"] = start * (1 - 1e-5) + from_gradient * np.abs(start)

        return change

    decayed = changed(DATA, lambda data: data["optimizer"].update(weight_decay=1e-3))
    left = changed(decayed, stepped(4.0e-13, 1.0e-5))
    for name, from_gradient, passes in (("right", 0.7e-5, True), ("wrong", 4e-5, False)):
        found = compared(tmp_path / name, stepped(2.8e-13, from_gradient), data=left)
        assert found.passed == passes, found.explanation


def test_what_is_carried_is_written_for_paddles_own_loader(tmp_path: Path) -> None:
    sides = both(tmp_path, "keras", "paddle")
    assert aliases(sides[1]) == {f"lstm.0.cell.{kind}": f"lstm.{kind}_l0" for kind in PADDLES_OWN}
    assert not aliases(sides[0])
    arrays, path = carried(paired(*sides)), tmp_path / "model.pdparams"
    assert "paddle.load" in write_carried(path, sides[1], arrays)
    read = StateDictUnpickler(path.read_bytes(), path).load()
    assert read.keys() == arrays.keys()
    for name, array in arrays.items():
        np.testing.assert_array_equal(read[name].array, array)
    with pytest.raises(CannotBeginError, match="exists"):
        write_carried(path, sides[1], arrays)


def test_what_is_carried_to_keras_stands_in_the_order_in_which_it_reads(tmp_path: Path) -> None:
    folders = [write(tmp_path / name, name, DATA) for name in ("torch", "keras")]
    edited(folders[1], lambda said: said["layers"].insert(0, {"path": "model", "classes": ["Functional"]}))
    sides = list(map(Side, folders))
    arrays, path = carried(paired(*sides)), tmp_path / "model.h5"
    assert "model.load_weights" in write_carried(path, sides[1], arrays)
    with h5py.File(path) as file:
        layers = [file[name] for name in file.attrs["layer_names"]]
        found = [[layer[name][()] for name in layer.attrs["weight_names"]] for layer in layers]
        assert not len(file["top_level_model_weights"])
    outermost = dict.fromkeys(name.split("/")[0] for name in arrays)
    assert len(found) == len(outermost)
    for layer, of in zip(outermost, found, strict=True):
        expected = [array for name, array in arrays.items() if name.split("/")[0] == layer]
        for array, wanted in zip(of, expected, strict=True):
            np.testing.assert_array_equal(array, wanted)


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
    assert "--like" in refusal(2, "carry", paddle.path, "--to", "keras", "-o", out)
    wrong = refusal(2, "carry", paddle.path, "--to", "torch", "-o", tmp_path / "out.pt", "--like", keras.path)
    assert "is a record of keras" in wrong
    edited(paddle.path, lambda said: said["layers"][-1]["parameters"].pop("bias"))
    with pytest.raises(CannotBeginError, match="do not both have bias"):
        carried(paired(Side(paddle.path), keras))
