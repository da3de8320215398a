"""Exported models are a side: correct exports pass,
and planted mistakes are placed at their node."""

import sys
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file

from porting_tests.support import PORTING
from porting_tests.support.program import rosetta
from porting_tests.support.records import compared
from porting_tests.support.side import Side, script
from rosetta_diff.read.side import Side as Recorded
from rosetta_record import Record, RecordError

MISSING = [name for name in ("onnx", "onnxruntime", "onnxscript") if find_spec(name) is None]
pytestmark = pytest.mark.skipif(
    bool(MISSING), reason=f"needs {', '.join(MISSING)}, of the extra onnx"
)
if not MISSING:
    import onnx

FOLDER = PORTING / "porting_tests" / "exported"
IDS = np.random.default_rng(0).integers(1, 20, (4, 7))
Change = Callable[[Any], None]


@pytest.fixture(scope="module")
def exports(side_of: Callable[[str], Side], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with models of torch, their records,
    and what two exporters of torch made of them."""
    folder = tmp_path_factory.mktemp("exports")
    arguments = ["exported_torch.py", str(folder)]
    side_of("torch").do(
        script, folder=PORTING / "porting_tests" / "support", arguments=arguments, steps=1
    )
    return folder


def record_model(file: Path, name: str, inputs: list[Any], change: Change | None = None) -> Path:
    """Record an exported model, which is changed before, as a folder beside it."""
    if change:
        model = onnx.load(file)
        change(model)
        file = file.with_name(f"{name}.onnx")
        onnx.save(model, file)
    Record(file.with_name(name)).inference(file, inputs)
    return file.with_name(name)


def inputs_of(record: Path) -> list[Any]:
    """The batches of a record."""
    arrays = load_file(record / "inputs.safetensors")
    return [arrays[name] for name in sorted(arrays)]


# What a mistake of an exporter would write


def node(model: Any, kind: str) -> Any:
    return next(node for node in model.graph.node if node.op_type == kind)


def has(kind: str, **attributes: Any) -> Change:
    """Give the first operator of a kind these attributes; None takes one away,
    so that its opset's default holds."""

    def change(model: Any) -> None:
        operator = node(model, kind)
        kept = [each for each in operator.attribute if each.name not in attributes]
        new = [
            onnx.helper.make_attribute(name, value)
            for name, value in attributes.items()
            if value is not None
        ]
        del operator.attribute[:]
        operator.attribute.extend([*kept, *new])

    return change


def change_array(model: Any, name: str, change: Callable[[Any], Any]) -> None:
    tensor = next(tensor for tensor in model.graph.initializer if tensor.name == name)
    array = np.ascontiguousarray(change(onnx.numpy_helper.to_array(tensor)))
    tensor.CopyFrom(onnx.numpy_helper.from_array(array, name))


def gates_exchanged(model: Any) -> None:
    """The gates of the GRU are in torch's order."""

    def exchanged(array: Any) -> Any:
        update, reset, *rest = np.split(array, array.shape[1] // 6, 1)
        later = [rest[2], rest[1], rest[3]] if len(rest) > 1 else []
        return np.concatenate([reset, update, rest[0], *later], 1)

    for name in node(model, "GRU").input[1:4]:
        change_array(model, name, exchanged)


def softmax_of_opset_11(model: Any) -> None:
    """Its axis is 1 by default, and from there on all is one."""
    has("Softmax", axis=None)(model)
    model.opset_import[0].version = 11


def constant_of_float32(model: Any) -> None:
    """Round the constant to float32, as torch 2.13 does itself."""
    change_array(
        model,
        node(model, "Mul").input[1],
        lambda array: array.astype(np.float32).astype(np.float64),
    )


PLANTED = {
    "gates": (
        "tagger",
        gates_exchanged,
        "gru:l0 sequence",
        "GRU",
        "gates in the order reset, update, candidate",
    ),
    "reset": (
        "tagger",
        has("GRU", linear_before_reset=0),
        "gru:l0 sequence",
        "GRU",
        "reset_after is True on the left",
    ),
    "epsilon": (
        "tagger",
        has("LayerNormalization", epsilon=1e-3),
        "norm output",
        "LayerNormalization",
        "epsilon is 1e-05",
    ),
    "gelu": (
        "tagger",
        has("Gelu", approximate="tanh"),
        "tags output",
        "",
        "gelu by tanh on the right",
    ),
    "default": ("scaled", softmax_of_opset_11, "last output", "", ""),
    "folded": (
        "scaled64",
        constant_of_float32,
        "last output",
        "MatMul",
        "a number that is rounded to float32",
    ),
    "length": ("mean5", None, "last output, call 2", "Gemm", "is 0.6 times as large on the right"),
}


@pytest.mark.parametrize("name", PLANTED)
def test_a_wrong_export_is_placed_at_its_node(exports: Path, name: str) -> None:
    model, change, place, operator, cause = PLANTED[name]
    left = exports / model.removesuffix("5")
    diff = compared(left, record_model(exports / f"{model}.onnx", name, inputs_of(left), change))
    assert diff.broken == "forward"
    assert diff.explanation[1].startswith(place)
    assert any("it is the node" in line and operator in line for line in diff.explanation)
    # A recorded setting differs; what was tested on the numbers is likely.
    standing = "differs" if name == "reset" else "likely"
    assert any(
        cause in each.sentence and (each.standing == standing or not cause) for each in diff.causes
    )


@pytest.mark.parametrize("name", ["tagger", "tagger-old", "image", "image-old", "mean"])
def test_a_right_export_is_within_the_noise_of_float32(exports: Path, name: str) -> None:
    left = exports / name.removesuffix("-old")
    diff = compared(left, record_model(exports / f"{name}.onnx", f"{name}-onnx", inputs_of(left)))
    assert diff.passed
    assert {"tensors", "weights", "forward"} <= {*diff.compared}
    outputs = [check for check in diff.checks if check.stage == "forward"]
    assert all(check.item.bound.measured for check in outputs)
    assert len({check.item.pair.name for check in outputs if check.item.pair}) >= 3, (
        "layers are compared"
    )


@pytest.mark.parametrize("framework", ["keras", "paddle"])
def test_what_other_exporters_wrote_is_read(tmp_path: Path, framework: str) -> None:
    """The taggers of the worked port, with other weights,
    as tf2onnx and paddle2onnx exported them."""
    folder = FOLDER / framework
    Record(tmp_path / "onnx").inference(folder / "model.onnx", inputs_of(folder / "record"))
    diff = compared(folder / "record", tmp_path / "onnx")
    assert diff.passed
    assert not [check for check in diff.checks if check.inside]
    kinds = [
        check.item.pair.left.kind
        for check in diff.checks
        if check.stage == "forward" and check.item.pair
    ]
    assert {"embedding", "lstm", "dense"} <= {*kinds}
    assert len([kind for kind in kinds if kind == "lstm"]) >= 4, "each direction of both layers"


def test_what_a_file_or_a_batch_lacks_is_told(exports: Path, tmp_path: Path) -> None:
    file = exports / "mean.onnx"
    for batches, words in (
        ([], "there is no batch"),
        ([(IDS, IDS)], "a batch has 2 arrays; .* takes 1: x"),
        (
            [np.zeros((4, 5, 7), np.float32)],
            "does not compute a batch: .*Got: 7 Expected: 6.* exported as a constant",
        ),
        ([{"y": np.zeros((4, 5, 6), np.float32)}], "a batch has y; .* takes 1: x"),
    ):
        with pytest.raises(RecordError, match=words):
            Record(tmp_path / "record").inference(file, batches)
    (tmp_path / "no.onnx").write_bytes(b"no graph")
    with pytest.raises(RecordError, match="is not loaded by ONNX Runtime"):
        Record(tmp_path / "record").inference(tmp_path / "no.onnx", [IDS])
    model = onnx.load(file)
    onnx.save(
        model,
        tmp_path / "mean.onnx",
        save_as_external_data=True,
        location="mean.data",
        size_threshold=0,
    )
    (tmp_path / "second").hardlink_to(tmp_path / "mean.data")
    with pytest.raises(RecordError, match=r"is not loaded .* multiple hard links"):
        Record(tmp_path / "record").inference(tmp_path / "mean.onnx", [IDS])
    assert not Recorded(tmp_path / "record").says.finished


# A loop whose body alone takes a folded weight, and unnamed nodes.
LOOP = """<ir_version: 9, opset_import: ["": 17]>
graph (float[rows, 2] x) => (float[rows, 2] y)
    <float[2, 2] w = {1, 2, 3, 4}, float[2] b = {5, 6}, bool go = {1}, int64 times = {2}> {
    kernel = Neg(w)
    shift = Neg(b)
    start = Mul(x, shift)
    y = Loop(times, go, start) <body = turn (int64 number, bool going, float[r, 2] value) =>
        (bool goes, float[r, 2] next) { goes = Identity(going) next = MatMul(value, kernel) }>
}"""
UNNAMED = """<ir_version: 9, opset_import: ["": 17]>
graph (float[times, rows, 2] x) => (float[1, rows, 1] y)
    <float[1, 1, 2] w = {1, 2}, float[1, 1, 1] r = {3},
     float[1, 1, 2] w2 = {4, 5}, float[1, 1, 1] r2 = {6}> {
    unread, left = RNN <hidden_size = 1> (x, w, r)
    unread2, right = RNN <hidden_size = 1> (x, w2, r2)
    y = Add(left, right)
}"""


def test_a_weight_that_a_loop_takes_is_the_loops(tmp_path: Path) -> None:
    onnx.save(onnx.parser.parse_model(LOOP), tmp_path / "loop.onnx")
    given = np.array([[1, 2], [3, 4]], np.float32)
    side = Recorded(record_model(tmp_path / "loop.onnx", "loop", [given]))
    assert side.owners.keys() == {"kernel", "shift"}
    assert side.owners["kernel"].classes == ["Loop"]
    kernel = -np.array([[1, 2], [3, 4]])
    np.testing.assert_array_equal(
        side.arrays("outputs")["output0"], given * [-5, -6] @ kernel @ kernel
    )


def test_nodes_without_names_are_layers(tmp_path: Path) -> None:
    model = onnx.parser.parse_model(UNNAMED)
    for node in model.graph.node[:2]:
        node.output[0] = ""
    onnx.save(model, tmp_path / "unnamed.onnx")
    side = Recorded(
        record_model(tmp_path / "unnamed.onnx", "unnamed", [np.ones((3, 2, 2), np.float32)])
    )
    assert [layer.path for layer in side.says.layers] == ["", "left", "right", "y"]


def test_a_weight_that_is_rounded_is_no_exporters_doing(exports: Path) -> None:
    """Though it changes nothing here, since what it is multiplied with is rounded anyway."""

    def rounded(model: Any) -> None:
        name = node(model, "LayerNormalization").input[2]
        change_array(model, name, lambda array: array.astype(np.float16).astype(array.dtype))

    diff = compared(
        exports / "tagger",
        record_model(exports / "tagger.onnx", "rounded", inputs_of(exports / "tagger"), rounded),
    )
    assert diff.broken == "weights"
    assert any("rounded to float16" in cause.sentence for cause in diff.causes)


def test_a_quantized_file_is_compared_with_its_original(exports: Path) -> None:
    from onnxruntime.quantization import quantize_dynamic

    inputs, file = inputs_of(exports / "mean"), exports / "quantized.onnx"
    quantize_dynamic(exports / "mean.onnx", file)
    diff = compared(
        record_model(exports / "mean.onnx", "original", inputs),
        record_model(file, "quantized", inputs),
    )
    assert diff.broken == "forward"
    assert {check.tensor for check in diff.checks if not check.passed} >= {
        "output0",
        "batch1.output0",
    }


def test_weights_are_carried_out_of_a_file(exports: Path) -> None:
    inputs, out = inputs_of(exports / "tagger"), exports / "carried.safetensors"
    record = record_model(exports / "tagger.onnx", "to-carry", inputs)
    assert (
        rosetta("carry", record, "--to", "torch", "--like", exports / "tagger", "-o", out)[0] == 0
    )
    carried, weights = load_file(out), load_file(exports / "tagger" / "weights.safetensors")
    assert carried.keys() == weights.keys()
    assert all(np.array_equal(carried[name], array) for name, array in weights.items())


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(RecordError, match="onnxruntime is missing; pip install onnx onnxruntime"):
        Record(tmp_path / "record").inference("model.onnx", [IDS])
