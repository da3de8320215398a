"""Records as rosetta_record writes them, made from NumPy alone: a small tagger as torch, Paddle and Keras keep it."""

import json
from collections.abc import Callable, Mapping
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
        layer: {name: array - RATE * adam(gradients[layer].get(name), array) for name, array in of.items()}
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
    }


def adam(gradient: Array | None, array: Array) -> Array:
    """How far the first step moves a weight, as a multiple of the learning rate; a running mean moves by itself."""
    return 0.1 * array if gradient is None else gradient / (np.abs(gradient) + 1e-8)


def cross_entropy(logits: Array, targets: Array, smoothing: float = 0.0) -> float:
    log_probabilities = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
    plain = -np.take_along_axis(log_probabilities, targets[..., None], -1).mean()
    return float((1 - smoothing) * plain - smoothing * log_probabilities.mean())


# Each layer's classes in each framework.
CLASSES = {
    "torch": {
        "emb": ["Embedding"],
        "lstm": ["LSTM", "RNNBase"],
        "bn": ["BatchNorm1d", "_BatchNorm", "_NormBase"],
        "fc": ["Linear"],
    },
    "paddle": {
        "emb": ["Embedding"],
        "lstm": ["LSTM", "RNNBase", "LayerList"],
        "bn": ["BatchNorm1D", "_BatchNormBase"],
        "fc": ["Linear"],
    },
    "keras": {"emb": ["Embedding"], "lstm": ["LSTM", "RNN"], "bn": ["BatchNormalization"], "fc": ["Dense"]},
    "flax": {
        "emb": ["Embed"],
        "lstm": ["RNN", "OptimizedLSTMCell", "RNNCellBase"],
        "bn": ["BatchNorm"],
        "fc": ["Linear"],
    },
}
FRAMEWORKS = [*CLASSES]
# The frameworks' own names of each canonical array; ^T where one keeps it transposed. Beside `bias_ih_l0` stands a
# second bias, which is zero.
NAMES = {
    name: dict(zip(FRAMEWORKS, own.split(), strict=True))
    for name, own in {
        "emb embeddings": "weight weight embeddings embedding",
        "lstm kernel": "weight_ih_l0^T weight_ih_l0^T kernel dense_i.kernel",
        "lstm recurrent_kernel": "weight_hh_l0^T weight_hh_l0^T recurrent_kernel dense_h.kernel",
        "lstm bias": "bias_ih_l0 bias_ih_l0 bias dense_h.bias",
        "bn gamma": "weight weight gamma scale",
        "bn beta": "bias bias beta bias",
        "bn moving_mean": "running_mean _mean moving_mean mean",
        "bn moving_variance": "running_var _variance moving_variance var",
        "fc kernel": "weight^T weight kernel kernel",
        "fc bias": "bias bias bias bias",
    }.items()
}
SLOTS = {
    "torch": {"momentum": "exp_avg", "mean_square": "exp_avg_sq"},
    "paddle": {"momentum": "moment1", "mean_square": "moment2"},
    "keras": {"momentum": "momentum", "mean_square": "velocity"},
    "flax": {"momentum": "ScaleByAdamState.mu", "mean_square": "ScaleByAdamState.nu"},
}
SETTINGS: dict[str, dict[str, dict[str, Any]]] = {  # of the two sides on which mistakes are planted
    "torch": {"lstm": {"batch_first": True}, "bn": {"eps": 1e-5, "momentum": 0.1}, "emb": {"padding_idx": None}},
    "keras": {"bn": {"epsilon": 1e-5, "momentum": 0.9}},
}
OPTIMIZERS = {
    "torch": {"lr": RATE, "betas": [0.9, 0.999], "eps": 1e-8, "weight_decay": 0},
    "paddle": {"learning_rate": RATE, "_beta1": 0.9, "_beta2": 0.999, "_epsilon": 1e-8},
    "keras": {"learning_rate": RATE, "beta_1": 0.9, "beta_2": 0.999, "epsilon": 1e-8, "weight_decay": None},
    "flax": {
        "scale.step_size": -RATE,
        "scale_by_adam.b1": 0.9,
        "scale_by_adam.b2": 0.999,
        "scale_by_adam.eps": 1e-8,
    },
}


def saved(path: Path, name: str, layers: list[dict[str, Any]], files: dict[str, Any], **more: Any) -> Path:
    """Write a record of the framework `name`: layers as record.json has them, arrays by file and name, and what else
    record.json has."""
    path.mkdir(parents=True, exist_ok=True)
    for file, arrays in files.items():
        save_file({key: np.array(array, order="C") for key, array in arrays.items()}, path / f"{file}.safetensors")
    content = {"format": "rosetta-record", "version": 1, "framework": {"name": name}, "precision": "float64"}
    (path / "record.json").write_text(json.dumps({**content, "layers": layers, **more}), "utf-8")
    return path


def edited(path: Path, change: Callable[[dict[str, Any]], Any]) -> Path:
    """Change what record.json says."""
    content = json.loads((path / "record.json").read_text("utf-8"))
    change(content)
    (path / "record.json").write_text(json.dumps(content), "utf-8")
    return path


def write(path: Path, framework: str, data: dict[str, Any]) -> Path:
    """Write `data`, as `tagger` gives it, as a record of this framework."""
    kinds, dot = CLASSES[framework], "/" if framework == "keras" else "."

    def own(arrays: dict[str, dict[str, Array]]) -> dict[str, Array]:
        made = {}
        for layer, of in arrays.items():
            for name, array in of.items():
                role, _, transposed = NAMES[f"{layer} {name}"][framework].partition("^")
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
    files["inputs"], files["outputs"], files["layers"] = data["inputs"], {"logits": data["logits"]}, {}
    layers, calls = [], []
    for number, layer in enumerate(kinds):
        parts = [data["outputs"][layer]]
        if layer == "lstm" and framework in ("torch", "paddle"):
            parts += [parts[0][None, :, -1], np.zeros((1, N, H))]
        if layer == "bn" and framework in ("torch", "paddle"):
            parts = [parts[0].swapaxes(1, 2)]  # channels stand before time
        names = [f"{number}:{layer}:{part}" for part in range(len(parts))]
        files["layers"] |= dict(zip(names, parts, strict=True))
        calls.append({"layer": layer, "parts": names})
        owned = [name for name in files["weights"] if name.startswith(f"{layer}{dot}")]
        layers.append(
            {
                "path": layer,
                "classes": kinds[layer],
                "settings": SETTINGS.get(framework, {}).get(layer, {}) | data["settings"].get(layer, {}),
                "training": True,
                "parameters": {name.removeprefix(f"{layer}{dot}"): name for name in owned},
                "buffers": {},
            }
        )
    moving = ("running", "moving", "_mean", "_variance")
    weights = {name: {"trainable": not any(word in name for word in moving)} for name in files["weights"]}
    return saved(
        path,
        framework,
        layers,
        files,
        framework={"name": framework, "version": "1", "backend": "tensorflow" if framework == "keras" else None},
        calls=calls,
        weights=weights,
        optimizer={"class": "Adam", "settings": OPTIMIZERS[framework] | data["optimizer"]},
        loss=data["loss"],
        steps=[{"step": step, "loss": loss} for step, loss in enumerate(data["losses"], 1)],
    )


Layers = dict[str, tuple[list[str], dict[str, Array], Array]]  # path -> classes, own arrays, output


def of_layers(path: Path, framework: str, layers: Layers, gradients: Mapping[str, Array]) -> Path:
    """Write a record of these layers, with one step of Adam, whose slots are made of the gradients."""
    dot = "/" if framework == "keras" else "."
    weights = {f"{layer}{dot}{role}": array for layer, (_, own, _) in layers.items() for role, array in own.items()}
    slots, gradients = SLOTS[framework], {name: gradients[name] for name in weights if name in gradients}
    files = {
        "inputs": {"x": np.arange(6.0).reshape(2, 3)},
        "weights": weights,
        "gradients": gradients,
        "outputs": {"y": list(layers.values())[-1][2]},
        "layers": {f"{path}:0": output for path, (_, _, output) in layers.items()},
        "step-1": {name: weights[name] - 0.1 * gradient for name, gradient in gradients.items()},
        "slots": {f"{name}|{slots['momentum']}": 0.1 * gradient for name, gradient in gradients.items()}
        | {f"{name}|{slots['mean_square']}": 0.01 * gradient**2 for name, gradient in gradients.items()},
    }
    described = [
        {"path": name, "classes": classes, "parameters": {role: f"{name}{dot}{role}" for role in own}}
        for name, (classes, own, _) in layers.items()
    ]
    return saved(
        path,
        framework,
        described,
        files,
        calls=[{"layer": name, "parts": [f"{name}:0"]} for name in layers],
        optimizer={"class": "Adam"},
        loss=1.0,
        steps=[{"step": 1, "loss": 1.0}, {"step": 2, "loss": 0.5}],
    )


def cut(folder: Path) -> tuple[Path, Path]:
    """Two records of weights of the same numbers that are cut otherwise, of torch and of Keras."""
    rng, output = np.random.default_rng(4), np.ones(2)
    experts, kernel = rng.standard_normal((2, 3, 5)), rng.standard_normal((4, 6))
    left: Layers = {"moe.0": (["mine.Moe"], {"w": experts}, output), "out": (["Linear"], {"weight": kernel}, output)}
    right: Layers = {"moe": (["mine.Moe"], {str(number): one for number, one in enumerate(experts)}, output)}
    right["out"] = (["Dense"], {"kernel": kernel.T}, output)
    for block in range(2):
        qkv = rng.standard_normal((18, 6))
        left[f"b.{block}.qkv"] = (["Linear"], {"weight": qkv}, output)
        for name, part in zip("qkv", np.split(qkv, 3), strict=True):
            right[f"b{block}/{name}"] = (["Dense"], {"kernel": part.T}, output)
    return of_layers(folder / "left", "torch", left, {}), of_layers(folder / "right", "keras", right, {})


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
