"""rosetta_record: what it writes is what the framework itself had,
and what cannot be recorded is refused."""

import os
import re
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file

from porting_tests.support import PORTING
from porting_tests.support.pairs import ADAM, write_batches
from porting_tests.support.records import arrays, described
from porting_tests.support.side import Side, record, record_small, run_program, train
from rosetta_diff.carry import carry_weights
from rosetta_diff.pair.pairing import pair_sides
from rosetta_diff.read.side import Side as Recorded
from rosetta_record import Record, RecordError
from rosetta_record.folder import FILES
from rosetta_record.values import DIGITS, arrays_in, move_one_unit, replace_arrays

# Keras on torch is tested where the environment names it: ROSETTA_KERAS_BACKENDS="torch"
OTHERS = os.environ.get("ROSETTA_KERAS_BACKENDS", "").split()
NAMES = ["torch", "paddle", "keras", *(f"keras:{backend}" for backend in OTHERS)]
STEPS = 2
CONFIG: dict[str, Any] = {
    "words": 9,
    "width": 4,
    "dtype": "float64",
    "seed": 0,
    "padding_idx": 0,  # which Keras lacks
    "blocks": [
        {"kind": "recurrent", "of": "lstm", "units": 4, "cut": "both", "return_state": True},
        {"kind": "batchnorm", "momentum": 0.75},
        {"kind": "dropout", "rate": 0.25},
        {"kind": "dense", "activation": "tanh"},
        {"kind": "attention", "heads": 2, "groups": 2, "size": 2, "cut": "framework"},
        {"kind": "dense", "weight_of": 3},  # but for Keras
        {"kind": "dense", "frozen": True},
    ],
    "calls": [0, 1, 2, 3, 3, 4, 5, 6],
    "tied": True,
    "training": True,
    "optimizer": {**ADAM, "name": "adamw", "rate": 0.01, "decay": 0.1, "clip": 0.5},
}


@dataclass
class Left:
    """The folder that a framework's program left: records,
    and the program's own results of the same training."""

    name: str
    folder: Path
    losses: list[float]
    put_back: bool  # whether the model was as before after it was recorded
    refused: dict[str, str]  # the lines with which models are refused

    @property
    def framework(self) -> str:
        return self.name.partition(":")[0]

    def __truediv__(self, name: str) -> Path:
        return self.folder / name


@pytest.fixture(scope="module")
def folders(
    side_of: Callable[[str], Side], tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Left]:
    """By name; all frameworks work at once."""
    made = {name: tmp_path_factory.mktemp(name.replace(":", "-")) for name in NAMES}
    answers = {}
    for name, folder in made.items():
        write_batches(folder / "batches.safetensors")
        asked = {"config": CONFIG, "batches": folder / "batches.safetensors", "steps": STEPS}
        side = side_of(name)
        answers[name] = [
            side.start(train, folder=folder, **asked),
            side.start(record, folder=folder / "training", control=True, **asked),
            side.start(record_small, folder=folder),
        ]
    return {
        name: Left(name, folder, *(one.result() for one in answers[name]))
        for name, folder in made.items()
    }


@pytest.fixture(params=NAMES)
def left(request: pytest.FixtureRequest, folders: dict[str, Left]) -> Left:
    return folders[request.param]


def assert_same(got: dict[str, np.ndarray], expected: dict[str, np.ndarray]) -> None:
    assert got.keys() == expected.keys()
    for name, array in expected.items():
        assert got[name].dtype == array.dtype, name
        np.testing.assert_array_equal(got[name], array, err_msg=name)


# What the frameworks themselves had

# Layers within others of a framework's own, whose outputs the models do not keep themselves.
WITHIN = "(forward|backward)_lstm|_proj$|multi_head_attention/"
OF_BLOCKS = (
    "embedding blocks.0.inner blocks.0.out blocks.0 blocks.1.inner blocks.1 blocks.2.inner "
    "blocks.2 blocks.3.inner blocks.3 blocks.3.inner blocks.3 blocks.4.inner blocks.4 "
    "blocks.5.inner blocks.5 blocks.6.inner blocks.6"
)
CALLED = {
    "torch": f"{OF_BLOCKS} head <model>",
    "paddle": f"{OF_BLOCKS} <model>",
    "keras": "embedding bidirectional dense recurrent batch_normalization of_channels dropout_1 "
    "dropout dense_2 dense_1 dense_2 dense_1 multi_head_attention attention dense_4 dense_3 "
    "dense_6 dense_5 model",
}


@pytest.mark.parametrize("way", ["calls", "training"])
def test_each_stage_is_what_the_framework_had(left: Left, way: str) -> None:
    folder, expected = left / way, left / "expected"
    for file in ("weights", "outputs", "gradients", "step-1"):
        assert_same(arrays(folder, file), arrays(expected, file))
    steps = described(folder)["steps"]
    assert [step["step"] for step in steps] == list(range(1, STEPS + 1))
    assert [step["loss"] for step in steps] == left.losses
    assert described(folder)["loss"] == steps[0]["loss"]
    batches = load_file(left / "batches.safetensors")
    fed = {name: batches[f"{name}0"] for name in ("ids", "targets")}
    fed |= {f"batch1.{name}": batches[f"{name}1"] for name in fed if way == "training"}
    assert_same(arrays(folder, "inputs"), fed)


@pytest.mark.parametrize("way", ["calls", "training"])
def test_outputs_of_layers_are_of_the_first_pass_in_its_order(left: Left, way: str) -> None:
    """Even where the next layer computes in place of them;
    with what the layers were given, and by which line."""
    got, expected = (arrays(left / name, "layers") for name in (way, "expected"))
    calls = described(left / way)["calls"]
    assert {
        name for call in calls for name in (*call["parts"], *call["inputs"].values())
    } == got.keys()
    outermost = [call for call in calls if not re.search(WITHIN, call["layer"])]
    assert [call["layer"].rpartition("/")[2] or "<model>" for call in outermost] == CALLED[
        left.framework
    ].split()
    ordered = [part for call in outermost for part in call["parts"]]
    assert len(ordered) == len(expected)
    for number, part in enumerate(ordered):
        np.testing.assert_array_equal(got[part], expected[f"{number}"], err_msg=part)
    lstm = next(
        call for call in calls if call["layer"].endswith(("bidirectional", "blocks.0.inner"))
    )
    # Output, and states of both directions.
    assert len(lstm["parts"]) == (5 if left.framework == "keras" else 3)
    dense = next(call for call in calls if call["layer"].endswith(("/dense", "blocks.0.out")))
    (given,), weights = dense["inputs"].values(), arrays(left / way, "weights")
    assert given == lstm["parts"][0]  # where it is there once
    kernel = next(array for name, array in weights.items() if name.startswith(dense["layer"]))
    made = got[given] @ (kernel.T if left.framework == "torch" else kernel)
    np.testing.assert_allclose(got[dense["parts"][0]], made, rtol=1e-5)
    assert dense["code"] == "return keep(self.out(found * real))"
    # Whatever folder the process works in.
    assert re.fullmatch(r"(porting_tests/support/)?zoo.py:\d+", dense["line"])
    assert [layer["training"] for layer in described(left / way)["layers"]].count(False) == 0


OF_TWO_LAYERS = {"blocks.5.inner.weight": "blocks.3.inner.weight"}
TIED = {
    "torch": {"head.weight": "embedding.weight"} | OF_TWO_LAYERS,
    "paddle": OF_TWO_LAYERS,
    "keras": {},
}
FROZEN = {"keras": {"model/dense_5/dense_6/kernel", "model/dense_5/dense_6/bias"}}
BACKENDS = {"keras": "tensorflow", "keras:torch": "torch"}


def test_layers_and_weights_have_the_frameworks_own_words(left: Left) -> None:
    """Classes and settings are what support/pairs.py pairs by, and names causes by."""
    read, backend = described(left / "calls"), BACKENDS.get(left.name)
    layers, weights = read["layers"], read["weights"]
    settings = {name for layer in layers for name in layer["settings"]}
    assert not [name for name in settings if "initializer" in name or "hook" in name]
    owned = [
        weight
        for layer in layers
        for kind in ("parameters", "buffers")
        for weight in layer[kind].values()
    ]
    assert sorted(owned) == sorted(weights), "every weight belongs to a layer"
    assert not [layer["path"] for layer in layers if "cell" in layer["path"]]
    assert (read["framework"]["name"], read["framework"]["backend"]) == (left.framework, backend)
    assert re.match(r"\d+\.\d+", read["framework"]["version"])
    assert read["precision"] == "float64"
    assert (read["format"], read["version"]) == ("rosetta-record", 1)
    assert {weight: of["tied_to"] for weight, of in weights.items() if of["tied_to"]} == TIED[
        left.framework
    ]
    fixed = {weight for weight, of in weights.items() if not of["trainable"]}
    frozen = FROZEN.get(left.framework, {"blocks.6.inner.weight", "blocks.6.inner.bias"})
    assert {weight for weight in fixed if not re.search("_mean|_var|num_batches", weight)} == frozen
    assert weights.keys() - fixed == arrays(left / "calls", "gradients").keys()


# Some settings of a program's optimizers by the record's folder.
OPTIMIZERS: dict[str, dict[str, dict[str, Any]]] = {
    "torch": {
        "training": {"lr": 0.01, "weight_decay": 0.1},
        "sgd": {"lr": 0.1, "momentum": 0.9, "nesterov": False},
        "rmsprop": {"alpha": 0.99},
    },
    "paddle": {
        "training": {"learning_rate": 0.01, "_weight_decay": 0.1, "clipping.clip_norm": 0.5},
        "sgd": {"_momentum": 0.9, "_regularization_coeff": 0.5},
        "adam": {"learning_rate": 0.25},  # of a schedule
        "rmsprop": {"_rho": 0.95, "_epsilon": 1e-6},
    },
    "keras": {
        "training": {"weight_decay": 0.1, "global_clipnorm": 0.5},
        "sgd": {"learning_rate": 0.25, "momentum": 0.9},
        "adam": {"amsgrad": True, "learning_rate.decay_rate": 0.5},
        "rmsprop": {"rho": 0.9, "centered": True},
    },
}


def test_optimizers_are_described_in_the_frameworks_own_words(left: Left) -> None:
    assert Recorded(left / "training").counters == [1]
    for folder, settings in OPTIMIZERS[left.framework].items():
        found = described(left / folder)["optimizer"]
        assert settings.items() <= found["settings"].items()
        assert not set(found["settings"]) & {"params", "_parameter_list"}
    if left.framework == "paddle":
        assert Recorded(left / "sgd").optimizer_settings["weight_decay"] == 0.5


def test_what_only_some_frameworks_have_is_recorded_too(folders: dict[str, Left]) -> None:
    for name in ("torch", "paddle"):
        groups = described(folders[name] / "groups")["optimizer"]["groups"]
        assert [group["weights"] for group in groups] == [["weight"], ["bias"]]
        assert groups[0]["weight_decay"] == 0.5 != groups[1]["weight_decay"]
        assert described(folders[name] / "sgd")["optimizer"]["groups"] == []
    # The gradient of a sparse embedding is dense,
    # and a row that is looked up twice has the sum of both gradients.
    weight, gradient = (
        arrays(folders["paddle"] / "sparse", file)["weight"] for file in ("weights", "gradients")
    )
    np.testing.assert_allclose(
        gradient, weight * 2 / 9 * np.array([0, 2, 1, 0, 0])[:, None], rtol=1e-12
    )
    # A regularizer is described by dotted names.
    dense = next(
        layer
        for layer in described(folders["keras"] / "sgd")["layers"]
        if layer["path"].endswith("dense")
    )
    assert dense["settings"]["kernel_regularizer"] == "L2"
    assert dense["settings"]["kernel_regularizer.l2"] == pytest.approx(0.01)


# The control


def unit_of(folder: Path) -> str:
    """The type by whose unit the control's weights were moved; "" without a control."""
    if not (folder / "control").exists():
        return ""
    units = set()
    for name, weight in arrays(folder, "weights").items():
        bits, moved = f"i{weight.itemsize}", arrays(folder / "control", "weights")[name]
        far = int(np.abs(moved.view(bits) - weight.view(bits)).max())
        units |= {DIGITS[weight.dtype.name] - far.bit_length() + 1} if far else set()
    return next(name for name, digits in DIGITS.items() if {digits} == units)


@pytest.mark.parametrize(
    ("precision", "units"), [("float64", 1), ("float32", 1 << 29), ("bfloat16", 1 << 45)]
)
def test_weights_of_a_control_move_by_one_unit_of_a_type(precision: str, units: int) -> None:
    weights = np.array([0.0, 1.0, -3.5, 1e-9] * 9)
    moved = move_one_unit(weights, precision, np.random.default_rng(0))
    assert {*(moved.view("i8") - weights.view("i8")).tolist()} == {-units, 0, units}
    assert not moved[weights == 0].any()


def test_the_control_is_a_record_of_the_same_from_moved_weights(left: Left) -> None:
    folder, control = left / "bfloat16", left / "bfloat16" / "control"
    assert described(control)["files"] == described(folder)["files"]
    losses, moved = (
        [step["loss"] for step in described(side)["steps"]] for side in (folder, control)
    )
    # With the same dropout and the same batches.
    np.testing.assert_allclose(moved, losses, rtol=0.1)


def test_a_training_in_float64_has_no_control_and_no_autocast(left: Left) -> None:
    assert left.put_back
    assert described(left / "training")["finished"]
    assert not described(left / "midway")["finished"]
    assert unit_of(left / "training") == ""
    assert described(left / "calls")["autocast"] is None
    assert described(left / "calls")["dtypes"] == {"loss": "float64"}


def test_bfloat16_is_written_as_float32(left: Left) -> None:
    folder = left / "bfloat16"
    assert described(folder)["precision"] == "bfloat16"
    for file in ("weights", "layers", "gradients", "step-1"):
        # What the test gives.
        given = {name for call in described(folder)["calls"] for name in call["inputs"].values()}
        for array in (array for name, array in arrays(folder, file).items() if name not in given):
            assert array.dtype == np.float32
            assert not (array.view(np.uint32) & 0xFFFF).any(), file
    assert unit_of(folder) == "bfloat16"


def test_a_buffer_the_framework_does_not_save_is_not_carried(folders: dict[str, Left]) -> None:
    """The framework's loader calls it unexpected."""
    for name in ("torch", "paddle"):
        side = Recorded(folders[name] / "constant")
        assert side.arrays("weights").keys() == {"weight", "bias", "table"}
        assert carry_weights(pair_sides(side, side)).keys() == {"weight", "bias"}


# Paddle has no mixed precision on the CPU.
@pytest.mark.parametrize("left", [name for name in NAMES if name != "paddle"], indirect=True)
def test_the_control_of_mixed_precision_is_one_unit_of_it(left: Left) -> None:
    """A unit of float32 would vanish where weights are rounded to bfloat16."""
    folder = left / "mixed"
    read = described(folder)
    assert (read["precision"], read["autocast"]) == ("float32", "bfloat16")
    assert {dtype for call in read["calls"] for dtype in call["dtypes"]} == {"bfloat16"}
    assert read["dtypes"]["loss"] == ("bfloat16" if left.framework == "keras" else "float32")
    assert unit_of(folder) == "bfloat16"


# A model in float64, in which a mask and positions are of float32,
# and perhaps what comes of the weights.
IN_FLOAT32 = """
import sys
import numpy as np
from rosetta_record import Record, tap
{imports}

class Mask({base}):
    {call}(self, x):
        return {cast}(x > 0, "float32")

class Cast({base}):
    {call}(self, x):
        return {cast}(x, "float32")

class Model({base}):
    def __init__(self):
        super().__init__()
        self.fc, self.mask, self.cast = {linear}, Mask(), Cast()

    {call}(self, x):
        y = self.fc(x) * {cast}(self.mask(x), "float64")
        y = y + {cast}(tap("positions", {cast}({arange}(3), "float32")), "float64")
        if sys.argv[2] == "tap scores":
            y = {cast}(tap("scores", {cast}(y, "float32")), "float64")
        if sys.argv[2] == "within":
            y = {cast}({cast}(y, "float32"), "float64")
        return {cast}(self.cast(y), "float64") if sys.argv[2] == "cast" else y

def loss_of(model, x):
    return {mean}(model(x) ** 2)

x = {tensor}(np.random.default_rng(0).normal(size=(2, 3)))
model = Model()
model(x)
Record(sys.argv[1]).training(model, [x], loss_of, {optimizer}, steps=1)
Record(sys.argv[1] + "-inference").inference(model, [x])
"""
WORDS = {
    "torch": {
        "imports": "import torch", "base": "torch.nn.Module", "call": "def forward",
            "arange": "torch.arange",
        "cast": "(lambda x, kind: x.to(getattr(torch, kind)))", "tensor": "torch.tensor",
            "mean": "torch.mean",
        "linear": "torch.nn.Linear(3, 3, dtype=torch.float64)",
        "optimizer": "lambda weights: torch.optim.SGD(weights, 0.1)",
    },
    "paddle": {
        "imports": "import paddle", "base": "paddle.nn.Layer", "call": "def forward",
            "arange": "paddle.arange",
        "cast": "paddle.cast", "linear": "paddle.nn.Linear(3, 3)", "tensor": "paddle.to_tensor",
        "mean": "paddle.mean",
        "optimizer": "lambda weights: paddle.optimizer.SGD(0.1, parameters=weights)",
    },
    "keras": {
        "imports": "import keras", "base": "keras.Model", "call": "def call",
            "arange": "keras.ops.arange",
        "cast": "keras.ops.cast", "linear": "keras.layers.Dense(3)",
            "tensor": "keras.ops.convert_to_tensor",
        "mean": "keras.ops.mean",
        "optimizer": "lambda weights: keras.optimizers.SGD(0.1)",
    },
    "flax": {
        "imports": "import jax.numpy as jnp, optax; from flax import nnx", "base": "nnx.Module",
        "call": "def __call__", "arange": "jnp.arange", "cast": "jnp.asarray",
            "tensor": "jnp.asarray",
        "mean": "jnp.mean",
        "linear": "nnx.Linear(3, 3, param_dtype=jnp.float64, rngs=nnx.Rngs(0))",
        "optimizer": "lambda weights: optax.sgd(0.1)",
    },
}  # fmt: skip


# Torch alone tells what rounds within a layer.
@pytest.mark.parametrize(
    ("framework", "coarse"),
    [*product(WORDS, ["", "tap scores", "cast"]), ("torch", "within")],
)
def test_a_coarse_type_counts_only_if_weights_use_it(
    framework: str, coarse: str, side_of: Callable[[str], Side], tmp_path: Path
) -> None:
    text = IN_FLOAT32.format(**WORDS[framework])
    side_of(framework).do(run_program, text=text, arguments=[str(tmp_path / "side"), coarse])
    read, passes = Recorded(tmp_path / "side"), Recorded(tmp_path / "side-inference")
    assert passes.computed == ("float32" if coarse not in ("", "within") else "float64")
    assert unit_of(tmp_path / "side") == ("float32" if coarse else "")
    assert read.computed == ("float32" if coarse else "float64")
    line = next(number for number, line in enumerate(text.splitlines(), 2) if '"within"' in line)
    rounds = f"<string>:{line}"
    named = [name.rpartition("/")[2] for name in read.computed_by]
    assert named == ([] if not coarse else [rounds if coarse == "within" else coarse])


FRUGAL = """
import itertools, sys, weakref
import torch
from rosetta_record import Record

model, read, made, alive = torch.nn.Linear(2, 1), [], [], []

def batches():
    for number in range(9):
        read.append(number)
        yield torch.full((1, 2), float(number))

class Sgd(torch.optim.SGD):
    def step(self):
        made.append(weakref.ref(model.weight.grad))
        super().step()

def loss_of(model, batch):
    alive.append(sum(one() is not None for one in made))
    return model(batch).sum()

Record(sys.argv[1]).training(model, batches(), loss_of, Sgd(model.parameters(), lr=0.1), steps=3)
assert (read, alive) == ([0, 1, 2], [0, 0, 0]), (read, alive)
batches = itertools.cycle([torch.ones(1, 2)])
Record(sys.argv[1]).training(model, batches, loss_of, torch.optim.SGD, steps=2)
"""


def test_one_batch_a_step_is_read_and_gradients_are_dropped(
    side_of: Callable[[str], Side], tmp_path: Path
) -> None:
    """A loader may take long, itertools.cycle never ends,
    and gradients are as large as the model."""
    side_of("torch").do(run_program, text=FRUGAL, arguments=[str(tmp_path / "side")])
    assert arrays(tmp_path / "side", "inputs").keys() == {"", "batch1"}


COPIED = """
import copy, sys
import torch
from rosetta_record import Record

torch.manual_seed(0)
model = torch.nn.Sequential(torch.nn.Linear(2, 3), torch.nn.ReLU(), torch.nn.Linear(3, 1))
batch = torch.ones(1, 2)

def loss_of(model, batch):
    teacher = copy.deepcopy(model)
    with torch.no_grad():
        for weight in teacher.parameters():
            weight.add_(1.0)
    return (model(batch) - teacher(batch).detach()).square().mean()

expected = loss_of(model, batch).item()
record = Record(sys.argv[1])
record.training(model, [batch], loss_of, lambda weights: torch.optim.SGD(weights, 0.1), steps=1)
assert expected > 0
record.step(2, expected)
"""


def test_a_copy_of_the_model_computes_with_its_own_weights(
    side_of: Callable[[str], Side], tmp_path: Path
) -> None:
    """As that of a teacher, inside of the loss."""
    side_of("torch").do(run_program, text=COPIED, arguments=[str(tmp_path / "side")])
    read = described(tmp_path / "side")
    assert read["loss"] == read["steps"][1]["loss"]
    assert [call["layer"] for call in read["calls"]] == ["0", "1", "2", ""]


COMPILED = """
import sys
import torch
from rosetta_record import Record, RecordError

model = torch.nn.Linear(2, 1)
for number, made in enumerate((torch.compile(model), torch.jit.trace(model, torch.ones(1, 2)))):
    try:
        Record(sys.argv[1]).model(made)
    except RecordError as error:
        assert str(error).startswith(("torch.compile", "torch.jit")[number]), error
    else:
        raise AssertionError("it was not refused")
"""


def test_a_compiled_model_is_refused_in_a_sentence(
    side_of: Callable[[str], Side], tmp_path: Path
) -> None:
    side_of("torch").do(run_program, text=COMPILED, arguments=[str(tmp_path / "side")])


CONFIGS = """
import sys
import keras, numpy as np
from rosetta_record import Record

class Dense(keras.layers.Dense):
    def get_config(self):
        return {**super().get_config(), "rank": self.rank}

class Adam(keras.optimizers.Adam):
    def get_config(self):
        raise OSError("no configuration")

model = keras.Sequential([keras.Input((2,)), Dense(3), keras.layers.Dense(3)])
Record(sys.argv[1]).training(
    model,
    [np.ones((4, 2))],
    lambda model, x: keras.ops.mean(model(x) ** 2),
    lambda weights: Adam(0.25),
    steps=1,
)
"""


def test_a_layer_whose_configuration_fails_has_no_settings(
    side_of: Callable[[str], Side], tmp_path: Path
) -> None:
    side_of("keras").do(run_program, text=CONFIGS, arguments=[str(tmp_path / "side")])
    read = described(tmp_path / "side")
    strange, dense = (layer for layer in read["layers"] if "dense" in layer["path"])
    assert (strange["settings"], dense["settings"]["units"]) == ({}, 3)
    assert len(strange["parameters"]) == 2
    assert (read["optimizer"]["classes"][1:2], read["optimizer"]["settings"]) == (
        ["Adam"],
        {"iterations": 1},
    )


OF_A_FRAMEWORK = """
import sys
import paddle
from rosetta_record import Record

record, model = Record(sys.argv[1]), paddle.vision.models.LeNet()
record.model(model)
record.forward(y=model(paddle.zeros([1, 1, 28, 28])))
"""


def test_lines_of_a_frameworks_own_models_are_told(
    side_of: Callable[[str], Side], tmp_path: Path
) -> None:
    side_of("paddle").do(run_program, text=OF_A_FRAMEWORK, arguments=[str(tmp_path / "side")])
    calls = {call["layer"]: call for call in described(tmp_path / "side")["calls"]}
    assert re.fullmatch(r"paddle/vision/models/lenet.py:\d+", calls["features.0"]["line"])
    assert (calls["features.0"]["code"], calls["fc.2"]["code"]) == (
        "x = self.features(inputs)",
        "x = self.fc(x)",
    )
    assert calls[""]["line"] == "<string>:8"


# Plain arrays


@dataclass(frozen=True)
class Output:
    logits: np.ndarray
    more: dict[str, np.ndarray]
    loss: None = None


def test_a_replay_gives_a_dataclass_back_with_other_arrays() -> None:
    output = Output(np.zeros(2), {"state": np.zeros(3)})
    assert [*arrays_in(output)] == ["logits", "more.state"]
    other = replace_arrays(output, iter([np.ones(2), np.ones(3)]))
    assert type(other) is Output
    assert (other.logits.sum(), other.more["state"].sum(), output.logits.any()) == (2, 3, False)


def test_plain_arrays_are_recorded_without_a_framework(tmp_path: Path) -> None:
    kernel, bias, x = np.arange(6.0).reshape(3, 2), np.ones(2), np.arange(6.0).reshape(2, 3) - 2
    views = x.T, np.arange(12.0)[::2], np.broadcast_to(1.0, (2, 2)), np.arange(3.0).astype(">f8")
    record = Record(tmp_path / "side")
    record.inputs(x=x, more={"mask": x > 0, "pair": (x[0], np.float32(2)), "views": views})
    record.layer(
        "hidden",
        "Dense",
        {"kernel": kernel, "bias": bias},
        {"activation": "tanh"},
        output=x @ kernel,
    )
    record.layer("hidden", "Dense", output=Output(x @ kernel, {"state": bias}))
    record.layer("twice", "Identity", output=(bias, bias))
    record.weights(alone=bias)
    kept = kernel.copy()
    kernel += 1  # what is recorded was written
    record.forward(y=x @ kernel)
    record.loss(np.array([0.5]))
    record.gradients(gradients={"hidden.kernel": kernel.T.T, "alone": None})
    record.optimizer("SGD", {"momentum": np.float64(0.5), "other": object()})
    record.step(1, 0.5, {"hidden.kernel": kernel})
    record.step(4, float("nan"), {"hidden.kernel": kernel})
    read = described(record.folder)
    layer, _ = read["layers"]
    assert (layer["path"], layer["classes"], layer["settings"]) == (
        "hidden",
        ["Dense"],
        {"activation": "tanh"},
    )
    assert layer["parameters"] == {"kernel": "hidden.kernel", "bias": "hidden.bias"}
    assert [call["parts"] for call in read["calls"]] == [
        ["0:hidden:0"],
        ["1:hidden:0", "1:hidden:1"],
        ["2:twice:0", "2:twice:1"],
    ]
    assert list(read["weights"]) == ["hidden.kernel", "hidden.bias", "alone"]
    assert (read["framework"]["name"], read["precision"]) == ("arrays", "float64")
    assert (read["optimizer"]["class"], read["optimizer"]["settings"]) == ("SGD", {"momentum": 0.5})
    assert read["steps"] == [{"step": 1, "loss": 0.5}, {"step": 4, "loss": "nan"}]
    inputs = {"x": x, "more.mask": x > 0, "more.pair.0": x[0], "more.pair.1": np.float32(2)}
    # As they are seen.
    inputs |= {f"more.views.{number}": view.astype(float) for number, view in enumerate(views)}
    assert_same(arrays(record.folder, "inputs"), inputs)
    assert arrays(record.folder, "inputs")["more.pair.1"].shape == ()
    assert_same(
        arrays(record.folder, "weights"),
        {"hidden.kernel": kept, "hidden.bias": bias, "alone": bias},
    )
    assert_same(arrays(record.folder, "gradients"), {"hidden.kernel": kernel})
    assert {path.stem for path in record.folder.iterdir()} == {*FILES, "record"}


MANY = """
import atexit, os, sys
written = []
atexit.register(lambda: print(sum(written)))  # after the recorder's own
import numpy as np
from rosetta_record import Record, folder

def counted(arrays, path, save_file=folder.save_file):
    save_file(arrays, path)
    written.append(os.path.getsize(path))

folder.save_file = counted
record, kernel = Record("side"), np.zeros((8, 8))
for number in range(40):
    kernel += 1
    record.layer(f"l{number}", "Dense", {"kernel": kernel}, output=kernel[number % 8])
os.chdir("/")
raise ZeroDivisionError
"""


def test_layers_are_written_even_if_the_script_fails_later(tmp_path: Path) -> None:
    ended = subprocess.run(
        [sys.executable, "-c", MANY],
        cwd=tmp_path,
        env={"PYTHONPATH": str(PORTING)},
        capture_output=True,
        text=True,
    )
    assert ended.stderr.endswith("\nZeroDivisionError\n")
    weights, layers = (arrays(tmp_path / "side", file) for file in ("weights", "layers"))
    assert_same(
        weights, {f"l{number}.kernel": np.full((8, 8), number + 1.0) for number in range(40)}
    )
    assert_same(layers, {f"{number}:l{number}:0": np.full(8, number + 1.0) for number in range(40)})
    files = (tmp_path / "side").glob("*.safetensors")
    assert int(ended.stdout) == sum(file.stat().st_size for file in files)


# Folders


def test_a_record_is_replaced_as_a_whole(tmp_path: Path) -> None:
    """Nothing of the former one may be taken for the new one's; what is none of its files stays."""
    folder = tmp_path / "side"
    Record(folder).inputs(x=np.ones(2))
    former = Record(folder)
    former.weights(w=np.ones(2))  # which is to be written later
    (folder / "notes.txt").write_text("mine")
    Record(folder).inputs(y=np.ones(2))
    del former
    names = {"record.json", "notes.txt", "inputs.safetensors"}
    assert {path.name for path in folder.rglob("*") if path.is_file()} == names
    assert arrays(folder, "inputs").keys() == {"y"}


@pytest.mark.parametrize("name", ["side", "side/inputs.safetensors", "side/record.json"])
def test_what_is_no_record_is_left_alone(tmp_path: Path, name: str) -> None:
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).write_text("[]")
    with pytest.raises(
        RecordError,
        match=r"side exists and is no record; expected a new name or a "
        r"record",
    ):
        Record(tmp_path / "side")
    assert [path.relative_to(tmp_path) for path in tmp_path.rglob("*") if path.is_file()] == [
        Path(name)
    ]
    assert (tmp_path / name).read_text() == "[]"


def test_a_call_that_fails_leaves_what_was_recorded(tmp_path: Path) -> None:
    record = Record(tmp_path / "new" / "side")
    record.inputs(x=np.ones(2))
    with pytest.raises(RecordError):
        record.inputs(y=np.ones(2), z=np.array(["word"]))
    assert_same(arrays(record.folder, "inputs"), {"x": np.ones(2)})


@pytest.mark.parametrize("name", ["inputs.safetensors", "record.json"])
def test_a_write_that_is_cut_off_leaves_the_former_file(
    tmp_path: Path, monkeypatch, name: str
) -> None:
    record, rename = Record(tmp_path / "side"), os.replace
    record.inputs(x=np.ones(2))
    before = (record.folder / name).read_bytes()

    def cut_off(beside: Path, path: Path) -> None:
        if path.name == name:
            raise KeyboardInterrupt
        rename(beside, path)

    monkeypatch.setattr(os, "replace", cut_off)
    with pytest.raises(KeyboardInterrupt):
        record.inputs(y=np.ones(2))
    assert (record.folder / name).read_bytes() == before


# What is refused


class Unknown:
    """A model of no framework."""


REFUSED: dict[str, Callable[[Record], Any]] = {
    "a model is of porting_tests.test_record.Unknown; expected a layer of torch": lambda r: r.model(
        Unknown()
    ),
    "no model is recorded; call record.model": lambda r: r.step(1, 0.5),
    "'x' is already recorded among the inputs; expected each name once": lambda r: r.inputs(
        x=np.ones(1)
    ),
    "'y' of inputs is of type <U1; expected numbers": lambda r: r.inputs(y=np.array(["a"])),
    "'y' is of builtins.list; expected arrays, or dicts, tuples or dataclasses of": lambda r: (
        r.inputs(y=[1, 2])
    ),
    "'y' is of builtins.NoneType; expected arrays": lambda r: r.forward(y=None),
    "the loss has shape (3,); expected one number": lambda r: r.loss(np.ones(3)),
    "a loss is already recorded": lambda r: [r.loss(1.0), r.loss(1.0)],
    "no weight has a gradient; call record.gradients after": lambda r: r.gradients(gradients={}),
    "'b' is no weight that is recorded": lambda r: r.gradients(gradients={"b": np.ones(1)}),
    "step 0 came after step 0; expected steps in order": lambda r: r.step(0, 0.5, {}),
    "step 2 came after step 0; expected steps in order": lambda r: r.step(2, 0.5, {}),
    "step 1 came after step 1": lambda r: [r.step(1, 0.5, {}), r.step(1, 0.5, {})],
    "an optimizer is already recorded": lambda r: [r.optimizer("SGD"), r.optimizer("SGD")],
    "there is no batch or no step": lambda r: r.training(Unknown(), [1], abs, abs, steps=0),
    "weights are already recorded": lambda r: [r.weights(w=np.ones(1)), r.model(Unknown())],
}


@pytest.mark.parametrize("line", REFUSED)
def test_what_cannot_be_recorded_is_refused_in_one_line(tmp_path: Path, line: str) -> None:
    record = Record(tmp_path / "side")
    record.inputs(x=np.ones(1))
    with pytest.raises(RecordError, match=re.escape(line)) as refused:
        REFUSED[line](record)
    assert "\n" not in str(refused.value)


def test_models_are_refused_in_one_line(left: Left) -> None:
    expected = {
        "step": "no model is recorded",
        "gradients": "no weight has a gradient",
        "other model": "this is another object than record.model was given",
        "optimizer": (
            other := f"the optimizer is of builtins.object; expected one of {left.framework}"
        ),
        "optimizer of a training": other,
        "lazy": "the model has no weights",
        "used": "the function of weights gave an optimizer that has made a step",
    }
    assert left.refused.keys() >= expected.keys() - {"lazy", "used"}
    for what, line in left.refused.items():
        assert line.startswith(expected[what])
        assert "\n" not in line
