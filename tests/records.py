"""Records as rosetta_record writes them, made from NumPy alone: a small tagger as torch, Paddle and Keras keep it."""

import json
from collections.abc import Callable
from copy import deepcopy
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import save_file

from benchmarks.compare.activations import gelu

Array = NDArray[Any]
N, T, V, H = 4, 5, 6, 6  # rows, time steps, ids, units: the dense kernel is square
RATE = 0.01


def tagger(seed: int = 0) -> dict[str, Any]:
    """What both sides compute, in the canonical layout: an embedding, an LSTM, a batch norm, and a dense layer that
    follows a GELU."""
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
        layer: {name: rng.standard_normal(array.shape) for name, array in of.items() if "moving" not in name}
        for layer, of in weights.items()
    }
    after = {
        layer: {name: array - RATE * gradients[layer].get(name, 0.1 * array) for name, array in of.items()}
        for layer, of in weights.items()
    }
    return {
        "inputs": inputs,
        "weights": weights,
        "outputs": outputs,
        "logits": outputs["fc"],
        "loss": cross_entropy(outputs["fc"], inputs["y"]),
        "gradients": gradients,
        "slots": {
            "momentum": {layer: {n: 0.1 * g for n, g in of.items()} for layer, of in gradients.items()},
            "mean_square": {layer: {n: 1e-3 * g**2 for n, g in of.items()} for layer, of in gradients.items()},
        },
        "step-1": after,
        "step-last": {layer: {n: a - 9 * RATE for n, a in of.items()} for layer, of in after.items()},
        "losses": list(np.linspace(2.0, 1.0, 10)),
        "settings": {},  # of a layer: what is not as usual, by the framework's own names
        "optimizer": {},
        "precision": "float64",
        "training": True,
    }


def cross_entropy(logits: Array, targets: Array, smoothing: float = 0.0) -> float:
    log_probabilities = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
    plain = -np.take_along_axis(log_probabilities, targets[..., None], -1).mean()
    return float((1 - smoothing) * plain - smoothing * log_probabilities.mean())


# Each layer's classes, and the framework's own name of each canonical array; ^T where it keeps it transposed. Beside
# `bias_ih_l0` stands a second bias, which is zero.
Layout = tuple[list[str], dict[str, str]]
EMBEDDING: Layout = (["Embedding"], {"embeddings": "weight"})
RECURRENT = {"kernel": "weight_ih_l0^T", "recurrent_kernel": "weight_hh_l0^T", "bias": "bias_ih_l0"}
NORM = {"gamma": "weight", "beta": "bias"}
FRAMEWORKS: dict[str, dict[str, Layout]] = {
    "torch": {
        "emb": EMBEDDING,
        "lstm": (["LSTM", "RNNBase"], RECURRENT),
        "bn": (
            ["BatchNorm1d", "_BatchNorm", "_NormBase"],
            NORM | {"moving_mean": "running_mean", "moving_variance": "running_var"},
        ),
        "fc": (["Linear"], {"kernel": "weight^T", "bias": "bias"}),
    },
    "paddle": {
        "emb": EMBEDDING,
        "lstm": (["LSTM", "RNNBase", "LayerList"], RECURRENT),
        "bn": (["BatchNorm1D", "_BatchNormBase"], NORM | {"moving_mean": "_mean", "moving_variance": "_variance"}),
        "fc": (["Linear"], {"kernel": "weight", "bias": "bias"}),
    },
    "keras": {
        layer: (classes, {name: name for name in names.split()})
        for layer, classes, names in [
            ("emb", ["Embedding"], "embeddings"),
            ("lstm", ["LSTM", "RNN"], "kernel recurrent_kernel bias"),
            ("bn", ["BatchNormalization"], "gamma beta moving_mean moving_variance"),
            ("fc", ["Dense"], "kernel bias"),
        ]
    },
}
SLOTS = {
    "torch": {"momentum": "exp_avg", "mean_square": "exp_avg_sq"},
    "paddle": {"momentum": "moment1", "mean_square": "moment2"},
    "keras": {"momentum": "momentum", "mean_square": "velocity"},
}
SETTINGS = {
    "torch": {"lstm": {"batch_first": True}, "bn": {"eps": 1e-5, "momentum": 0.1}, "emb": {"padding_idx": None}},
    "paddle": {
        "lstm": {"time_major": False},
        "bn": {"_epsilon": 1e-5, "_momentum": 0.9},
        "emb": {"_padding_idx": -1},
    },
    "keras": {"bn": {"epsilon": 1e-5, "momentum": 0.9}},
}
OPTIMIZERS = {
    "torch": {"lr": RATE, "betas": [0.9, 0.999], "eps": 1e-8, "weight_decay": 0},
    "paddle": {"learning_rate": RATE, "_beta1": 0.9, "_beta2": 0.999, "_epsilon": 1e-8},
    "keras": {"learning_rate": RATE, "beta_1": 0.9, "beta_2": 0.999, "epsilon": 1e-8, "weight_decay": None},
}


def write(path: Path, framework: str, data: dict[str, Any]) -> Path:
    """Write `data`, as `tagger` gives it, as a record of this framework."""
    path.mkdir(parents=True, exist_ok=True)
    kinds, dot = FRAMEWORKS[framework], "/" if framework == "keras" else "."

    def own(arrays: dict[str, dict[str, Array]]) -> dict[str, Array]:
        made = {}
        for layer, of in arrays.items():
            for name, array in of.items():
                role, _, transposed = kinds[layer][1][name].partition("^")
                made[f"{layer}{dot}{role}"] = array.T if transposed else array
                if role == "bias_ih_l0":
                    made[f"{layer}{dot}bias_hh_l0"] = np.zeros_like(array)
        return made

    files = {name: own(data[name]) for name in ("weights", "gradients", "step-1", "step-last")}
    files["slots"] = {
        f"{name}|{SLOTS[framework][slot]}": array
        for slot, of in data["slots"].items()
        for name, array in own(of).items()
    }
    for name in files["gradients"]:  # both biases of an LSTM have the same one
        if "bias_hh" in name:
            files["gradients"][name] = files["gradients"][name.replace("bias_hh", "bias_ih")]
    files["inputs"], files["outputs"] = data["inputs"], {"logits": data["logits"]}
    layers, calls, outputs = [], [], {}
    for number, layer in enumerate(kinds):
        parts = [data["outputs"][layer]]
        if layer == "lstm" and framework != "keras":
            parts += [parts[0][None, :, -1], np.zeros((1, N, H))]
        if layer == "bn" and framework != "keras":
            parts = [np.ascontiguousarray(parts[0].swapaxes(1, 2))]  # channels stand before time
        names = [f"{number}:{layer}:{part}" for part in range(len(parts))]
        outputs |= dict(zip(names, parts, strict=True))
        calls.append({"layer": layer, "parts": names})
        settings = SETTINGS[framework].get(layer, {}) | data["settings"].get(layer, {})
        owned = [name for name in files["weights"] if name.startswith(f"{layer}{dot}")]
        layers.append(
            {
                "path": layer,
                "classes": kinds[layer][0],
                "settings": settings,
                "training": data["training"],
                "parameters": {name.removeprefix(f"{layer}{dot}"): name for name in owned},
                "buffers": {},
            }
        )
    files["layers"] = outputs
    for name, arrays in files.items():
        save_file({key: np.ascontiguousarray(array) for key, array in arrays.items()}, path / f"{name}.safetensors")
    moving = ("running", "moving", "_mean", "_variance")
    said = {
        "format": "rosetta-record",
        "version": 1,
        "framework": {"name": framework, "version": "1", "backend": "tensorflow" if framework == "keras" else None},
        "precision": data["precision"],
        "layers": layers,
        "calls": calls,
        "weights": {
            name: {"trainable": not any(word in name for word in moving), "tied_to": data.get("tied", {}).get(name)}
            for name in files["weights"]
        },
        "optimizer": {"class": "Adam", "settings": OPTIMIZERS[framework] | data["optimizer"]},
        "loss": data["loss"],
        "steps": [{"step": step, "loss": loss} for step, loss in enumerate(data["losses"], 1)],
    }
    (path / "record.json").write_text(json.dumps(said), encoding="utf-8")
    return path


def cut(folder: Path) -> tuple[Path, Path]:
    """Two records of weights of the same numbers that are cut otherwise, of torch and of Keras."""
    rng = np.random.default_rng(4)
    width = 6
    left: dict[str, Array] = {"out.weight": rng.standard_normal((4, width))}
    right = {"out/kernel": left["out.weight"].T}
    for block in range(2):
        qkv = left[f"b.{block}.qkv.weight"] = rng.standard_normal((3 * width, width))
        right |= {f"b{block}/{n}/kernel": part.T for n, part in zip("qkv", np.split(qkv, 3), strict=True)}
    left["moe.0.w"] = rng.standard_normal((2, 3, 5))
    right |= {f"moe/{number}/kernel": expert for number, expert in enumerate(left["moe.0.w"])}
    for name, framework, weights, kind in (("left", "torch", left, "Linear"), ("right", "keras", right, "Dense")):
        (folder / name).mkdir(parents=True)
        dot = "/" if framework == "keras" else "."
        layers: dict[str, dict[str, str]] = {}
        for weight in weights:
            path, _, role = weight.rpartition(dot)
            layers.setdefault(path, {})[role] = weight
        said = {
            "format": "rosetta-record",
            "version": 1,
            "framework": {"name": framework},
            "precision": "float64",
            "layers": [
                {"path": path, "classes": ["mine.Moe" if "w" in own else kind], "parameters": own}
                for path, own in layers.items()
            ],
            "loss": 1.0,
        }
        (folder / name / "record.json").write_text(json.dumps(said), encoding="utf-8")
        for file in ("weights", "gradients"):
            arrays = {key: np.array(array, order="C") for key, array in weights.items()}
            save_file(arrays, folder / name / f"{file}.safetensors")
    return folder / "left", folder / "right"


def changed(data: dict[str, Any], change: Callable[[dict[str, Any]], None]) -> dict[str, Any]:
    """A copy of the data with a mistake in it."""
    copy = deepcopy(data)
    change(copy)
    return copy


def reaching_the_output(change: Callable[[dict[str, Any]], None]) -> Callable[[dict[str, Any]], None]:
    """The change, and another output of the model, as comes of another output of a layer."""

    def both(data: dict[str, Any]) -> None:
        change(data)
        data["logits"] = data["logits"] + 1

    return both
