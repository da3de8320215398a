"""rosetta_record: what it writes is what the framework itself had, and what cannot be recorded is refused."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file

from backends.process.parent import PROJECT
from rosetta_record import CONTROL, FILES, FRAMEWORKS, Framework, Record, RecordError, one_unit_moved
from tests.recorded import BATCHES, STEPS

# Other backends of Keras are tested where the environment names them: ROSETTA_KERAS_BACKENDS="torch jax"
OTHERS = os.environ.get("ROSETTA_KERAS_BACKENDS", "").split()
PROGRAMS = ["torch", "paddle", "keras:tensorflow", *(f"keras:{backend}" for backend in OTHERS)]


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """What each framework's program left; all of them run at once."""
    made, running = {}, {}
    for name in PROGRAMS:
        framework, _, backend = name.partition(":")
        made[name] = tmp_path_factory.mktemp(name.replace(":", "-"))
        running[name] = subprocess.Popen(
            [sys.executable, "-m", f"tests.recorded_{framework}", made[name]],
            cwd=PROJECT,
            env={**os.environ, "KERAS_BACKEND": backend, "TF_CPP_MIN_LOG_LEVEL": "3", "OMP_NUM_THREADS": "1"},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
    for process in running.values():
        said, _ = process.communicate(timeout=300)
        assert process.returncode == 0, said
    return made


def content(folder: Path) -> dict[str, Any]:
    read: dict[str, Any] = json.loads((folder / "record.json").read_text("utf-8"))
    return read


def arrays(folder: Path, file: str) -> dict[str, np.ndarray]:
    return load_file(folder / f"{file}.safetensors")


def assert_same(got: dict[str, np.ndarray], expected: dict[str, np.ndarray]) -> None:
    assert got.keys() == expected.keys()
    for name, array in expected.items():
        assert got[name].dtype == array.dtype, name
        np.testing.assert_array_equal(got[name], array, err_msg=name)


def layer(folder: Path, path: str) -> dict[str, Any]:
    return next(layer for layer in content(folder)["layers"] if layer["path"] == path)


# What the frameworks themselves had


@pytest.mark.parametrize("way", ["calls", "training"])
@pytest.mark.parametrize("name", PROGRAMS)
def test_each_rung_is_what_the_framework_had(folders: dict[str, Path], name: str, way: str) -> None:
    folder, expected = folders[name] / way, folders[name] / "expected"
    for file in ("weights", "outputs", "gradients", "slots", "step-1", "step-last"):
        got = arrays(folder, file)
        if file == "slots":
            got = {slot: array for slot, array in got.items() if not slot.endswith("|step") or name == "torch"}
        if name == "keras:jax":  # which rounds otherwise where it traces gradients
            for key, array in arrays(expected, file).items():
                np.testing.assert_allclose(got[key], array, atol=1e-6, err_msg=key)
        else:
            assert_same(got, arrays(expected, file))
    losses = json.loads((folders[name] / "facts.json").read_text("utf-8"))["losses"]
    steps = content(folder)["steps"]
    assert [step["step"] for step in steps] == list(range(1, STEPS + 1))
    assert [step["loss"] for step in steps] == pytest.approx(losses, rel=1e-5 if name == "keras:jax" else 0, abs=0)
    assert content(folder)["loss"] == steps[0]["loss"]


@pytest.mark.parametrize("name", PROGRAMS)
def test_outputs_of_layers_are_those_of_the_first_pass_in_order(folders: dict[str, Path], name: str) -> None:
    """Even where the next layer computes in place of them."""
    got, expected = arrays(folders[name] / "training", "layers"), arrays(folders[name] / "expected", "layers")
    calls = content(folders[name] / "training")["calls"]
    inner = [call for call in calls if not re.search("(forward|backward)_gru", call["layer"])]
    ordered = [part for call in inner for part in call["parts"]]
    assert {part for call in calls for part in call["parts"]} == got.keys()
    assert len(ordered) == len(expected)
    for number, part in enumerate(ordered):
        np.testing.assert_array_equal(got[part], expected[f"{number}"], err_msg=part)


CALLED = {
    "torch": "embedding lstm norm dropout dense dense attention narrow out <model>",
    "paddle": "embedding lstm norm dropout dense dense narrow out <model>",
    "keras": "embedding lstm forward_gru backward_gru bidirectional batch_normalization dropout dense dense dense_1 "
    "dense_2 tagger",
}


@pytest.mark.parametrize("name", PROGRAMS)
def test_calls_are_in_order_of_execution(folders: dict[str, Path], name: str) -> None:
    calls = content(folders[name] / "calls")["calls"]
    assert [call["layer"].rpartition("/")[2] or "<model>" for call in calls] == CALLED[name.partition(":")[0]].split()
    assert calls[1]["parts"] == [f"1:{calls[1]['layer']}:{part}" for part in range(3)]  # an LSTM's nested output
    assert [layer["training"] for layer in content(folders[name] / "calls")["layers"]].count(False) == 0


# Of a layer of a program: the classes, some settings, some parameters, some buffers.
LAYERS: list[tuple[str, str, list[str], dict[str, Any], str, str]] = [
    ("torch", "", ["__main__.Tagger"], {}, "", ""),
    ("torch", "embedding", ["Embedding"], {"padding_idx": 0, "num_embeddings": 7}, "weight", ""),
    ("torch", "lstm", ["LSTM", "RNNBase"], {"batch_first": True, "bidirectional": True}, "weight_ih_l0", ""),
    ("torch", "norm", ["BatchNorm1d"], {"eps": 1e-5, "momentum": 0.1}, "weight bias", "running_mean"),
    ("torch", "dropout", ["Dropout"], {"p": 0.25}, "", ""),
    ("torch", "attention", ["MultiheadAttention"], {"num_heads": 2}, "in_proj_weight out_proj.weight", ""),
    ("paddle", "", ["__main__.Tagger"], {}, "", ""),
    ("paddle", "embedding", ["Embedding"], {"_padding_idx": 0}, "weight", ""),
    ("paddle", "lstm", ["LSTM", "RNNBase"], {"time_major": False, "num_directions": 2}, "weight_ih_l0", ""),
    ("paddle", "norm", ["BatchNorm1D"], {"_epsilon": 1e-5, "_momentum": 0.9}, "weight _mean", ""),
    ("keras", "tagger", ["__main__.Tagger", "Model"], {}, "", ""),
    ("keras", "tagger/lstm", ["LSTM", "RNN"], {"units": 4, "activation": "tanh"}, "kernel bias", ""),
    ("keras", "tagger/bidirectional", ["Bidirectional"], {"merge_mode": "concat"}, "", ""),
    ("keras", "tagger/bidirectional/backward_gru", ["GRU"], {"go_backwards": True}, "recurrent_kernel", ""),
    ("keras", "tagger/batch_normalization", ["BatchNormalization"], {"epsilon": 0.01}, "gamma", "moving_mean"),
    ("keras", "tagger/dense", ["Dense"], {"activation": "tanh", "kernel_regularizer.l2": 0.01}, "kernel", ""),
]


@pytest.mark.parametrize("name", PROGRAMS)
def test_layers_are_described_in_the_frameworks_own_words(folders: dict[str, Path], name: str) -> None:
    folder = folders[name] / "calls"
    for framework, path, classes, settings, parameters, buffers in LAYERS:
        if framework == name.partition(":")[0]:
            found = layer(folder, path)
            assert found["classes"][: len(classes)] == classes
            assert settings.items() <= found["settings"].items()
            assert not [name for name in found["settings"] if "initializer" in name or "hook" in name]
            for kind, names in (("parameters", parameters), ("buffers", buffers)):
                assert set(names.split()) <= found[kind].keys()
                assert set(found[kind].values()) <= content(folder)["weights"].keys()


def test_every_weight_belongs_to_a_layer_and_the_framework_is_told(folders: dict[str, Path]) -> None:
    for name, folder in folders.items():
        read, (framework, _, backend) = content(folder / "calls"), name.partition(":")
        layers = read["layers"]
        owned = [weight for layer in layers for kind in ("parameters", "buffers") for weight in layer[kind].values()]
        assert sorted(owned) == sorted(read["weights"])
        assert not [layer["path"] for layer in layers if "cell" in layer["path"]]
        assert (read["framework"]["name"], read["framework"]["backend"]) == (framework, backend or None)
        assert re.match(r"\d+\.\d+", read["framework"]["version"])
        assert read["precision"] == ("float32" if backend == "jax" else "float64")
        assert (read["format"], read["version"]) == ("rosetta-record", 1)


@pytest.mark.parametrize(
    ("name", "tied", "frozen"),
    [
        ("torch", {"out.weight": "embedding.weight"}, {"narrow.bias"}),
        ("paddle", {"narrow.weight": "dense.weight"}, {"narrow.bias"}),
        ("keras:tensorflow", {}, {"tagger/dense_1/kernel", "tagger/dense_1/bias"}),
    ],
)
def test_tied_and_frozen_weights_are_told(
    folders: dict[str, Path], name: str, tied: dict[str, str], frozen: set[str]
) -> None:
    weights = content(folders[name] / "calls")["weights"]
    assert {weight: facts["tied_to"] for weight, facts in weights.items() if facts["tied_to"]} == tied
    fixed = {weight for weight, facts in weights.items() if not facts["trainable"]}
    assert {weight for weight in fixed if not re.search("norm", weight)} == frozen
    assert weights.keys() - fixed == arrays(folders[name] / "calls", "gradients").keys()


# Of an optimizer of a program: the record's folder, some settings, and all slots.
OPTIMIZERS: list[tuple[str, str, dict[str, Any], str]] = [
    ("torch", "training", {"lr": 0.01, "betas": [0.9, 0.999], "weight_decay": 0.1}, "exp_avg exp_avg_sq step"),
    ("torch", "sgd", {"lr": 0.1, "momentum": 0.9, "nesterov": False}, "momentum_buffer"),
    ("torch", "adamw", {"weight_decay": 0.01, "eps": 1e-8}, "exp_avg exp_avg_sq step"),
    ("torch", "rmsprop", {"alpha": 0.99}, "grad_avg momentum_buffer square_avg step"),
    (
        "paddle",
        "training",
        {"learning_rate": 0.01, "_beta1": 0.9, "_weight_decay": 0.1, "clipping.clip_norm": 0.5},
        "beta1_pow_acc beta2_pow_acc moment1 moment2",
    ),
    ("paddle", "sgd", {"_momentum": 0.9, "_regularization_coeff": 0.5}, "velocity"),
    ("paddle", "adam", {"learning_rate": 0.25}, "beta1_pow_acc beta2_pow_acc moment1 moment2"),
    ("paddle", "rmsprop", {"_rho": 0.95, "_epsilon": 1e-6}, "mean_grad mean_square momentum"),
    ("keras", "training", {"weight_decay": 0.1, "clipnorm": 0.5, "beta_1": 0.9}, "momentum velocity"),
    ("keras", "sgd", {"learning_rate": 0.25, "momentum": 0.9}, "momentum"),
    (
        "keras",
        "adam",
        {"amsgrad": True, "learning_rate": "ExponentialDecay", "learning_rate.decay_rate": 0.5},
        "momentum velocity velocity_hat",
    ),
    ("keras", "rmsprop", {"rho": 0.9, "centered": True}, "average_gradient momentum velocity"),
]


@pytest.mark.parametrize("name", PROGRAMS)
def test_optimizers_are_described_in_the_frameworks_own_words(folders: dict[str, Path], name: str) -> None:
    for framework, folder, settings, slots in OPTIMIZERS:
        if framework == name.partition(":")[0]:
            found = content(folders[name] / folder)["optimizer"]
            assert settings.items() <= found["settings"].items()
            assert not set(found["settings"]) & {"params", "_parameter_list"}
            named = {tuple(slot.split("|")) for slot in arrays(folders[name] / folder, "slots")}
            trained = arrays(folders[name] / folder, "gradients")
            assert named == {(weight, slot) for weight in trained for slot in slots.split()}


@pytest.mark.parametrize("name", ["torch", "paddle"])
def test_groups_of_weights_have_settings_of_their_own(folders: dict[str, Path], name: str) -> None:
    groups = content(folders[name] / "groups")["optimizer"]["groups"]
    assert [group["weights"] for group in groups] == [["weight"], ["bias"]]
    assert groups[0]["weight_decay"] == 0.5 != groups[1]["weight_decay"]
    assert content(folders[name] / "sgd")["optimizer"]["groups"] == []


def test_the_gradient_of_a_sparse_embedding_is_dense(folders: dict[str, Path]) -> None:
    """A row that is looked up twice has the sum of both gradients."""
    weight, gradient = (arrays(folders["paddle"] / "sparse", file)["weight"] for file in ("weights", "gradients"))
    np.testing.assert_allclose(gradient, weight * 2 / 9 * np.array([0, 2, 1, 0, 0])[:, None], rtol=1e-12)


# The control


@pytest.mark.parametrize("name", PROGRAMS)
def test_training_puts_everything_back(folders: dict[str, Path], name: str) -> None:
    assert json.loads((folders[name] / "facts.json").read_text("utf-8"))["put back"]


@pytest.mark.parametrize("name", PROGRAMS)
def test_the_control_began_one_unit_in_the_last_place_away(folders: dict[str, Path], name: str) -> None:
    folder = folders[name] / "training"
    control = folder / CONTROL
    weights, moved = arrays(folder, "weights"), arrays(control, "weights")
    assert weights.keys() == moved.keys()
    signs = set()
    for weight, array in weights.items():
        if array.dtype.kind == "f":
            step = (moved[weight] - array)[array != 0]
            assert (np.abs(step) >= np.spacing(np.abs(array[array != 0])) / 2).all(), weight
            assert (np.abs(step) <= np.spacing(np.abs(array[array != 0]))).all(), weight
            assert (moved[weight][array == 0] == 0).all()
            signs |= set(np.sign(step))
        else:
            np.testing.assert_array_equal(moved[weight], array)
    assert signs == {-1.0, 1.0}
    assert not (control / CONTROL).exists()
    bound = 1e-5 if content(folder)["precision"] == "float32" else 1e-13
    for file in FILES:
        left, right = arrays(folder, file), arrays(control, file)
        assert left.keys() == right.keys()
        for key, array in left.items() if file in ("inputs", "layers", "outputs", "gradients") else []:
            np.testing.assert_allclose(right[key], array, rtol=0, atol=bound, err_msg=f"{file} {key}")
    losses, moved_losses = ([step["loss"] for step in content(side)["steps"]] for side in (folder, control))
    np.testing.assert_allclose(moved_losses, losses, rtol=1e-4)  # with the same dropout and the same batches


@pytest.mark.parametrize("name", PROGRAMS)
def test_bfloat16_is_written_as_float32(folders: dict[str, Path], name: str) -> None:
    folder = folders[name] / "bfloat16"
    assert content(folder)["precision"] == "bfloat16"
    for file in ("weights", "layers", "gradients", "step-1"):
        for array in arrays(folder, file).values():
            assert array.dtype == np.float32
            assert not (array.view(np.uint32) & 0xFFFF).any(), file
    for weight, array in arrays(folder, "weights").items():
        moved = arrays(folder / CONTROL, "weights")[weight].view(np.int32).astype(np.int64)
        away = np.abs(moved - array.view(np.int32))[array != 0]
        assert (away == 1 << 16).all()


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_a_unit_in_the_last_place_is_the_neighbouring_number(dtype: str) -> None:
    array = np.array([1.0, -1.0, 0.1, 1.5, -3e-5, 0.0, -0.0], dtype)
    for seed in range(5):
        moved = one_unit_moved(array, dtype, np.random.default_rng(seed))
        neighbours = np.nextafter(array, np.inf, dtype=dtype), np.nextafter(array, -np.inf, dtype=dtype)
        assert ((moved == neighbours[0]) | (moved == neighbours[1]))[:5].all()
        assert moved[5:].tobytes() == array[5:].tobytes()
    assert one_unit_moved(np.array(1.0, dtype), dtype, np.random.default_rng(0)) != 1
    assert (one_unit_moved(np.arange(3), "int64", np.random.default_rng(0)) == np.arange(3)).all()


# Plain arrays


def test_plain_arrays_are_recorded_without_a_framework(tmp_path: Path) -> None:
    rng = np.random.default_rng(3)
    kernel, bias, x = rng.normal(size=(3, 2)), rng.normal(size=2), rng.normal(size=(2, 3)).T[:2].repeat(2, 1)[:, :3]
    record = Record(tmp_path / "side")
    record.inputs(x=x, more={"mask": x > 0, "pair": (x[0], np.float32(2))})
    record.layer("hidden", "Dense", {"kernel": kernel, "bias": bias}, {"activation": "tanh"}, output=x @ kernel)
    record.layer("hidden", "Dense", output=(x @ kernel, bias))
    record.weights(alone=bias)
    kept = kernel.copy()
    kernel += 1  # what is recorded was written
    record.forward(y=x @ kernel)
    record.loss(np.array([0.5]))
    record.gradients(gradients={"hidden.kernel": kernel.T.T, "alone": None})
    record.optimizer("SGD", {"momentum": np.float64(0.5), "other": object()}, {"hidden.kernel|velocity": kernel})
    record.step(1, 0.5, {"hidden.kernel": kernel})
    record.step(4, float("nan"), {"hidden.kernel": kernel})
    read = content(record.folder)
    assert read["layers"] == [
        {
            "path": "hidden",
            "classes": ["Dense"],
            "settings": {"activation": "tanh"},
            "training": None,
            "parameters": {"kernel": "hidden.kernel", "bias": "hidden.bias"},
            "buffers": {},
        }
    ]
    assert [call["parts"] for call in read["calls"]] == [["0:hidden:0"], ["1:hidden:0", "1:hidden:1"]]
    assert list(read["weights"]) == ["hidden.kernel", "hidden.bias", "alone"]
    assert (read["framework"]["name"], read["precision"]) == ("arrays", "float64")
    assert read["optimizer"]["class"] == "SGD"
    assert read["optimizer"]["settings"] == {"momentum": 0.5}
    assert read["steps"] == [{"step": 1, "loss": 0.5}, {"step": 4, "loss": "nan"}]
    inputs = {"x": x, "more.mask": x > 0, "more.pair.0": x[0], "more.pair.1": np.float32(2)}
    assert_same(arrays(record.folder, "inputs"), inputs)
    assert arrays(record.folder, "inputs")["more.pair.1"].shape == ()
    assert_same(arrays(record.folder, "weights"), {"hidden.kernel": kept, "hidden.bias": bias, "alone": bias})
    assert_same(arrays(record.folder, "gradients"), {"hidden.kernel": kernel})
    assert {path.stem for path in record.folder.iterdir()} == {*FILES, "record"}


@pytest.mark.parametrize(
    "array",
    [
        np.arange(6.0).reshape(2, 3).T,
        np.arange(12.0)[::2],
        np.broadcast_to(1.0, (2, 2)),
        np.arange(3.0).astype(">f8"),
    ],
)
def test_views_and_other_byte_orders_are_written_as_they_are_seen(tmp_path: Path, array: np.ndarray) -> None:
    """safetensors alone writes the memory of a view in the order in which it lies."""
    record = Record(tmp_path / "side")
    record.inputs(x=array)
    assert_same(arrays(record.folder, "inputs"), {"x": array.astype(float)})


def test_arrays_of_later_batches_bear_the_batchs_number(folders: dict[str, Path]) -> None:
    expected = {**BATCHES[0], **{f"batch1.{name}": array for name, array in BATCHES[1].items()}}
    assert_same(arrays(folders["torch"] / "training", "inputs"), expected)
    assert_same(arrays(folders["torch"] / "calls", "inputs"), BATCHES[0])


# Folders


def test_a_record_is_replaced_as_a_whole(tmp_path: Path, folders: dict[str, Path]) -> None:
    """Nothing of the former one may be taken for the new one's; what is none of its files stays."""
    folder = folders["torch"] / "groups"
    (folder / "notes.txt").write_text("mine")
    first = Record(folder)
    assert {path.name for path in folder.rglob("*") if path.is_file()} == {"record.json", "notes.txt"}
    first.inputs(x=np.ones(2))
    Record(folder)
    assert not (folder / "inputs.safetensors").exists()
    assert content(folder)["weights"] == {}


@pytest.mark.parametrize("what", ["file", "other", "json"])
def test_what_is_no_record_is_left_alone(tmp_path: Path, what: str) -> None:
    folder = tmp_path / "side"
    if what == "file":
        folder.write_text("mine")
    else:
        folder.mkdir()
        (folder / {"other": "inputs.safetensors", "json": "record.json"}[what]).write_text("[]")
    before = {path: path.read_text() for path in tmp_path.rglob("*") if path.is_file()}
    with pytest.raises(RecordError, match=r"side exists and is no record; expected a new name or a record"):
        Record(folder)
    assert {path: path.read_text() for path in tmp_path.rglob("*") if path.is_file()} == before


def test_a_call_that_fails_leaves_what_was_recorded(tmp_path: Path) -> None:
    record = Record(tmp_path / "new" / "side")
    record.inputs(x=np.ones(2))
    with pytest.raises(RecordError):
        record.inputs(y=np.ones(2), z=np.array(["word"]))
    assert_same(arrays(record.folder, "inputs"), {"x": np.ones(2)})


# What is refused


class Unknown:
    """A model of no framework."""


REFUSED: list[tuple[Callable[[Record], Any], str]] = [
    (lambda record: record.model(Unknown()), r"a model is of tests.test_record.Unknown; expected a layer of torch"),
    (lambda record: record.step(1, 0.5), "no model is recorded; call record.model"),
    (lambda record: record.gradients(Unknown()), "no model is recorded; call record.model"),
    (lambda record: record.optimizer(Unknown()), "no model is recorded; call record.model"),
    (lambda record: record.inputs(x=np.ones(1)), "'x' is already recorded among the inputs; expected each name once"),
    (lambda record: record.inputs(y=np.array(["a"])), "'y' of inputs is of type <U1; expected numbers"),
    (
        lambda record: record.inputs(y=[1, 2]),
        "'y' is of builtins.list; expected an array, or dicts or tuples of such",
    ),
    (lambda record: record.forward(y=None), "'y' is of builtins.NoneType; expected an array"),
    (lambda record: record.loss(np.ones(3)), r"the loss has shape \(3,\); expected one number"),
    (lambda record: [record.loss(1.0), record.loss(1.0)], "a loss is already recorded"),
    (lambda record: record.gradients(gradients={}), "no weight has a gradient; call record.gradients after"),
    (lambda record: record.gradients(gradients={"b": np.ones(1)}), "'b' is no weight that is recorded"),
    (lambda record: record.step(0, 0.5, {}), "step 0 came after step 0; expected steps in order"),
    (lambda record: record.step(2, 0.5, {}), "step 2 came after step 0; expected steps in order"),
    (lambda record: [record.step(1, 0.5, {}), record.step(1, 0.5, {})], "step 1 came after step 1"),
    (lambda record: [record.optimizer("SGD"), record.optimizer("SGD")], "an optimizer is already recorded"),
    (lambda record: record.training(Unknown(), [], abs, abs), "there is no batch or no step"),
    (lambda record: record.training(Unknown(), [1], abs, abs, steps=0), "there is no batch or no step"),
    (lambda record: [record.weights(w=np.ones(1)), record.model(Unknown())], "weights are already recorded"),
]


@pytest.mark.parametrize(("action", "line"), REFUSED, ids=[line[:30] for _, line in REFUSED])
def test_what_cannot_be_recorded_is_refused_in_one_line(
    tmp_path: Path, action: Callable[[Record], Any], line: str
) -> None:
    record = Record(tmp_path / "side")
    record.inputs(x=np.ones(1))
    with pytest.raises(RecordError, match=line) as refused:
        action(record)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("name", PROGRAMS)
def test_models_are_refused_in_one_line(folders: dict[str, Path], name: str) -> None:
    facts = json.loads((folders[name] / "facts.json").read_text("utf-8"))
    expected = {
        "step": "no model is recorded",
        "gradients": "no weight has a gradient",
        "other model": "this is another object than record.model was given",
        "optimizer": f"the optimizer is of builtins.object; expected one of {name.partition(':')[0]}",
        "lazy": "the model has no weights",
    }
    for what in facts.keys() & expected.keys():
        assert facts[what].startswith(expected[what])
        assert "\n" not in facts[what]


# The file itself


def test_adapters_have_the_same_methods_in_the_same_order() -> None:
    order = [name for name in vars(Framework) if not name.startswith("_")]
    for framework in FRAMEWORKS.values():
        for kind in type(framework).__mro__[:-1]:
            own = [name for name in vars(kind) if name in order]
            assert own == sorted(own, key=order.index), kind
