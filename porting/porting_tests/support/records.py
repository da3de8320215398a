"""Records as rosetta_record writes them, made from NumPy alone:
a small tagger as torch, Paddle and Keras keep it."""

import json
import shutil
from collections.abc import Callable, Mapping
from copy import deepcopy
from functools import reduce
from operator import getitem
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import load_file, save_file

from rosetta_diff.activations import gelu
from rosetta_diff.diff import Diff, compare_records
from rosetta_diff.pair.mapping import MappingFile, read_mapping
from rosetta_diff.read.side import Side
from rosetta_record.values import arrays_in

Array = NDArray[Any]
Change = Callable[[dict[str, Any]], Any]  # of a side's data, or of what record.json says
N, T, V, H = 4, 5, 6, 6  # rows, time steps, ids, units: the dense kernel is square
RATE = 0.01


def tagger(seed: int = 0) -> dict[str, Any]:
    """The results of both sides in the canonical layout: an embedding, an LSTM, a batch norm, and a
    dense layer that follows a GELU."""
    rng = np.random.default_rng(seed)
    weights = {
        "emb": {"embeddings": rng.standard_normal((V, 3))},
        "lstm": {
            "kernel": rng.standard_normal((3, 4 * H)),
            "recurrent_kernel": rng.standard_normal((H, 4 * H)),
            "bias": rng.standard_normal(4 * H),
        },
        "bn": {
            "gamma": rng.standard_normal(H),
            "beta": rng.standard_normal(H),
            "moving_mean": rng.standard_normal(H),
            "moving_variance": rng.random(H) + 1,
        },
        "fc": {"kernel": rng.standard_normal((H, H)), "bias": rng.standard_normal(H)},
    }
    inputs = {"x": rng.integers(0, V, (N, T)), "y": rng.integers(0, H, (N, T))}
    outputs = {
        "emb": weights["emb"]["embeddings"][inputs["x"]],
        "lstm": rng.standard_normal((N, T, H)),
        "bn": rng.standard_normal((N, T, H)),
    }
    outputs["fc"] = gelu(outputs["bn"]) @ weights["fc"]["kernel"] + weights["fc"]["bias"]
    gradients = {
        layer: {
            name: rng.standard_normal(array.shape)
            for name, array in of.items()
            if "moving" not in name
        }
        for layer, of in weights.items()
    }
    after = {
        layer: {
            name: array - RATE * adam(gradients[layer].get(name), array)
            for name, array in of.items()
        }
        for layer, of in weights.items()
    }
    return {
        "inputs": inputs,
        "weights": weights,
        "outputs": outputs,
        "logits": outputs["fc"],
        "further": {},  # outputs of the model
        "loss": cross_entropy(outputs["fc"], inputs["y"]),
        "gradients": gradients,
        "step-1": after,
        "losses": list(np.linspace(2.0, 1.0, 10)),
        "settings": {},  # of a layer: what is not as usual, by the framework's own names
        "optimizer": {},
    }


def adam(gradient: Array | None, array: Array) -> Array:
    """The move of a weight in the first step, in learning rates; a running mean moves by itself."""
    return 0.1 * array if gradient is None else gradient / (np.abs(gradient) + 1e-8)


def cross_entropy(logits: Array, targets: Array) -> float:
    log_probabilities = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
    return float(-np.take_along_axis(log_probabilities, targets[..., None], -1).mean())


FRAMEWORKS = ["torch", "paddle", "keras", "flax"]


def in_each(*words: str) -> dict[str, str]:
    """Names of a thing in each of the frameworks."""
    return dict(zip(FRAMEWORKS, words, strict=True))


CLASSES = {  # of each layer
    "emb": in_each("Embedding", "Embedding", "Embedding", "Embed"),
    "lstm": in_each(
        "LSTM RNNBase", "LSTM RNNBase LayerList", "LSTM RNN", "RNN OptimizedLSTMCell RNNCellBase"
    ),
    "bn": in_each(
        "BatchNorm1d _BatchNorm _NormBase",
        "BatchNorm1D _BatchNormBase",
        "BatchNormalization",
        "BatchNorm",
    ),
    "fc": in_each("Linear", "Linear", "Dense", "Linear"),
}
# Of each canonical array; ^T where a framework keeps it transposed.
# A second bias stands beside `bias_ih_l0`: zeros.
NAMES = {
    "emb embeddings": in_each("weight", "weight", "embeddings", "embedding"),
    "lstm kernel": in_each("weight_ih_l0^T", "weight_ih_l0^T", "kernel", "dense_i.kernel"),
    "lstm recurrent_kernel": in_each(
        "weight_hh_l0^T", "weight_hh_l0^T", "recurrent_kernel", "dense_h.kernel"
    ),
    "lstm bias": in_each("bias_ih_l0", "bias_ih_l0", "bias", "dense_h.bias"),
    "bn gamma": in_each("weight", "weight", "gamma", "scale"),
    "bn beta": in_each("bias", "bias", "beta", "bias"),
    "bn moving_mean": in_each("running_mean", "_mean", "moving_mean", "mean"),
    "bn moving_variance": in_each("running_var", "_variance", "moving_variance", "var"),
    "fc kernel": in_each("weight^T", "weight", "kernel", "kernel"),
    "fc bias": in_each("bias", "bias", "bias", "bias"),
}
SETTINGS: dict[str, dict[str, dict[str, Any]]] = {  # of the two sides on which mistakes are planted
    "torch": {
        "lstm": {"batch_first": True},
        "bn": {"eps": 1e-5, "momentum": 0.1},
        "emb": {"padding_idx": None},
    },
    "keras": {"bn": {"epsilon": 1e-5, "momentum": 0.9}},
    "paddle": {"bn": {"_momentum": 0.9}},
    "flax": {"bn": {"momentum": 0.9}},
}
OPTIMIZERS: dict[str, dict[str, Any]] = {
    "torch": {"lr": RATE, "betas": [0.9, 0.999], "eps": 1e-8, "weight_decay": 0},
    "paddle": {"learning_rate": RATE, "_beta1": 0.9, "_beta2": 0.999, "_epsilon": 1e-8},
    "keras": {
        "learning_rate": RATE,
        "beta_1": 0.9,
        "beta_2": 0.999,
        "epsilon": 1e-8,
        "weight_decay": None,
    },
    "flax": {
        f"scale_by_adam.{name}": value
        for name, value in (("b1", 0.9), ("b2", 0.999), ("eps", 1e-8))
    }
    | {"scale.step_size": -RATE},
}


def described(path: Path) -> dict[str, Any]:
    """The content of record.json."""
    content: dict[str, Any] = json.loads((path / "record.json").read_text("utf-8"))
    return content


def edited(path: Path, change: Change) -> Path:
    """Change what record.json says."""
    content = described(path)
    change(content)
    (path / "record.json").write_text(json.dumps(content), "utf-8")
    return path


def arrays(path: Path, file: str) -> dict[str, Array]:
    return load_file(path / f"{file}.safetensors")


def controlled(path: Path, control: Path) -> Path:
    """Give a record a control, which is another record."""
    shutil.copytree(control, path / "control", dirs_exist_ok=True)
    return path


def resaved(path: Path, file: str, change: Callable[[dict[str, Array]], dict[str, Array]]) -> None:
    """Change the arrays of one of a record's files."""
    save_file(change(arrays(path, file)), path / f"{file}.safetensors")


def compared(left: Path, right: Path, mapping: MappingFile | None = None) -> Diff:
    return compare_records(Side(left), Side(right), mapping)


def mapping_of(folder: Path, text: str) -> MappingFile:
    """A mapping file of this text."""
    (folder / "mapping.toml").write_text(text, "utf-8")
    return read_mapping(folder / "mapping.toml")


class Layer(NamedTuple):
    """A layer of a record, which was called once."""

    classes: list[str]
    own: dict[str, Array]  # by the layer's own names
    output: Any  # an array or several
    settings: dict[str, Any] = {}  # noqa: RUF012
    training: bool | None = None


Layers = dict[str, Layer]  # by path


# What a layer gives of which no test asks more.
INNER = np.random.default_rng(6).normal(size=(2, 3, 6))


def linear(kernel: Array, output: Array = INNER, **own: Array) -> Layer:
    return Layer(["Linear"], {"weight": kernel.T, **own}, output)


def dense(kernel: Array, output: Array = INNER, **own: Array) -> Layer:
    return Layer(["Dense"], {"kernel": kernel, **own}, output)


def mine(output: Array, **own: Array) -> Layer:
    """A layer of a class of one's own, which may contain others."""
    return Layer(["mine.Layer"], own, output)


def bare(of: str, output: Array) -> Layer:
    """A layer without weights."""
    return Layer([of], {}, output)


def write_layers(
    path: Path,
    framework: str,
    layers: Layers,
    gradients: Mapping[str, Array] | None = None,
    /,
    **more: Any,
) -> Path:
    """Write a record of these layers, with one step of Adam; `more` has other arrays of a file, by
    its name with "_" for "-", and what else record.json says."""
    path.mkdir(parents=True, exist_ok=True)
    dot = "/" if framework == "keras" else "."
    weights, outputs, layers_described, calls = dict[str, Array](), dict[str, Array](), [], []
    for number, (name, layer) in enumerate(layers.items()):
        names = {role: f"{name}{dot}{role}" for role in layer.own}
        weights |= {names[role]: array for role, array in layer.own.items()}
        parts = {
            f"{number}:{name}:{part}": array
            for part, array in enumerate(arrays_in(layer.output).values())
        }
        outputs |= parts
        calls.append({"layer": name, "parts": [*parts]})
        own = {"classes": layer.classes, "settings": layer.settings, "training": layer.training}
        layers_described.append({"path": name, "parameters": names, **own})
    gradients = {name: array for name, array in (gradients or {}).items() if name in weights}
    files = {
        "inputs": {"x": np.arange(6.0).reshape(2, 3)},
        "weights": weights,
        "gradients": gradients,
        "outputs": {"y": [*outputs.values()][-1]},
        "layers": outputs,
        "step-1": {name: weights[name] - 0.1 * gradient for name, gradient in gradients.items()},
    }
    for file, arrays in files.items():
        arrays = {
            key: np.array(array, order="C")
            for key, array in more.pop(file.replace("-", "_"), arrays).items()
        }
        save_file(arrays, path / f"{file}.safetensors")
    said = {
        "format": "rosetta-record",
        "version": 1,
        "framework": {"name": framework},
        "precision": "float64",
        "layers": layers_described,
        "calls": calls,
        "optimizer": {"class": "Adam"},
        "loss": 1.0,
        "steps": [{"step": 1, "loss": 1.0}, {"step": 2, "loss": 0.5}],
    }
    (path / "record.json").write_text(json.dumps({**said, **more}), "utf-8")
    return path


def write_tagger(path: Path, framework: str, data: dict[str, Any]) -> Path:
    """Write `data`, as `tagger` gives it, as a record of this framework.
    Running variances are by n but in torch."""
    if framework != "torch":
        data = changed(data, by_n())
    dot = "/" if framework == "keras" else "."

    def named(file: str, second: Any = np.zeros_like) -> dict[str, Array]:
        """By the framework's names; `second` makes the second bias of an LSTM's first."""
        made = {}
        for layer, arrays in data[file].items():
            for name, array in arrays.items():
                role, _, transposed = NAMES[f"{layer} {name}"][framework].partition("^")
                made[f"{layer}{dot}{role}"] = array.T if transposed else array
                if role == "bias_ih_l0":
                    made[f"{layer}{dot}bias_hh_l0"] = second(array)
        return made

    weights = named("weights")
    layers = {}
    for layer, output in data["outputs"].items():
        parts = [output]
        if layer == "lstm" and framework in ("torch", "paddle"):
            parts += [output[None, :, -1], np.zeros((1, N, H))]
        if layer == "bn" and framework in ("torch", "paddle"):
            parts = [output.swapaxes(1, 2)]  # channels stand before time
        settings = SETTINGS.get(framework, {}).get(layer, {}) | data["settings"].get(layer, {})
        classes = CLASSES[layer][framework].split()
        own = {
            name.split(dot, 1)[1]: array
            for name, array in weights.items()
            if name.startswith(layer + dot)
        }
        layers[layer] = Layer(classes, own, parts, settings, training=True)
    path = write_layers(
        path,
        framework,
        layers,
        named("gradients", second=np.array),
        inputs=data["inputs"],
        outputs={"logits": data["logits"], **data["further"]},
        step_1=named("step-1"),
        framework={
            "name": framework,
            "version": "1",
            "backend": "tensorflow" if framework == "keras" else None,
        },
        optimizer={"class": "Adam", "settings": OPTIMIZERS[framework] | data["optimizer"]},
        loss=data["loss"],
        steps=[{"step": step, "loss": loss} for step, loss in enumerate(data["losses"], 1)],
    )
    moving = ("running", "moving", "_mean", "_variance")
    trainable = {name: {"trainable": not any(word in name for word in moving)} for name in weights}
    return edited(path, lambda said: said.update(weights=trainable))


DATA = tagger()


def changed(data: dict[str, Any], *changes: Change) -> dict[str, Any]:
    """A copy of the data with changes in it, such as mistakes."""
    copy = deepcopy(data)
    for change in changes:
        change(copy)
    return copy


def unchanged(_: dict[str, Any]) -> None:
    """Change nothing."""


def all_of(*changes: Change) -> Change:
    return lambda data: [change(data) for change in changes]


def put(place: str, value: Callable[[Any], Any]) -> Change:
    """Replaces what stands at the end of some keys, such as "weights fc bias"."""
    *above, last = place.split(" ")

    def change(data: dict[str, Any]) -> None:
        of = reduce(getitem, above, data)
        of[last] = value(of.get(last))

    return change


def by_n() -> Change:
    """The running variance after a step is that of a framework that divides by n numbers of a
    batch, where the data's is divided by n - 1."""

    def change(data: dict[str, Any]) -> None:
        share = data["settings"].get("bn", {}).get("_momentum", 0.9)
        kept = share * data["weights"]["bn"]["moving_variance"]
        divided = put(
            "step-1 bn moving_variance", lambda a: kept + (a - kept) * (N * T - 1) / (N * T)
        )
        divided(data)

    return change
