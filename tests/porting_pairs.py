"""Pairs of models in two frameworks: correct ones with random layers, and such with a planted mistake.

`python -m tests.porting_pairs NUMBER [SEED]` compares random correct pairs and prints those that are taken for wrong.
"""

import json
import re
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import save_file

from benchmarks.compare.carry import carried
from benchmarks.compare.diff import Diff, compare_records
from benchmarks.compare.pairing import paired
from benchmarks.compare.record import Side as ReadSide
from tests.porting_side import FRAMEWORKS, Side, record

Array = NDArray[Any]
WORDS, STEPS = 9, 2  # as many steps as batches


def rounded(number: float) -> float:
    """A number that float32 has, since Paddle keeps some in it."""
    return float(np.float32(number))


@dataclass
class Pair:
    """A model in two frameworks, where the right one has a mistake or none."""

    name: str
    left: str
    right: str
    config: dict[str, Any]  # of both sides
    mistake: dict[str, Any] = field(default_factory=dict)  # what is otherwise on the right
    mangle: Callable[[dict[str, Array]], None] | None = None  # of the weights that are carried
    carried_to_right: bool = False  # the weights are carried to the model without the mistake, whose shapes differ
    seed: int = 0

    @property
    def wrong(self) -> dict[str, Any]:
        return {**self.config, **self.mistake}


def write_batches(path: Path, seed: int = 0) -> None:
    """Two batches of ids, some of which are padding, and of targets."""
    rng, batches = np.random.default_rng(seed), {}
    for number in range(2):
        ids = rng.integers(1, WORDS, (4, 5))
        ids[1:3, 3:] = 0
        batches |= {f"ids{number}": ids, f"targets{number}": rng.integers(0, WORDS, (4, 5))}
    save_file(batches, path)


def compared(pairs: Sequence[Pair], started: dict[str, Side], folder: Path) -> list[Diff]:
    """The comparisons of the pairs, each recorded, carried and recorded again in two processes that do no more."""

    def ask(pair: Pair, framework: str, name: str, **more: Any) -> None:
        own = folder / pair.name
        started[framework].start(record, folder=own / name, batches=own / "batches.safetensors", **more)

    for pair in pairs:
        (folder / pair.name).mkdir()
        write_batches(folder / pair.name / "batches.safetensors", pair.seed)
        ask(pair, pair.left, "left", config=pair.config, steps=STEPS)
        ask(pair, pair.right, "like", config=pair.config if pair.carried_to_right else pair.wrong, steps=0)
    for pair in pairs:
        started[pair.left].wait()
        started[pair.right].wait()
        own = folder / pair.name
        weights = carried(paired(ReadSide(own / "left"), ReadSide(own / "like")))
        if pair.mangle:
            pair.mangle(weights)
        save_file({name: np.ascontiguousarray(array) for name, array in weights.items()}, own / "carried.safetensors")
    for pair in pairs:
        weights = folder / pair.name / "carried.safetensors"
        ask(pair, pair.right, "right", config=pair.wrong, steps=STEPS, weights=weights)
    for pair in pairs:
        started[pair.right].wait()
    names = [folder / pair.name for pair in pairs]
    return [compare_records(ReadSide(name / "left"), ReadSide(name / "right")) for name in names]


def random_recurrent(rng: np.random.Generator, width: int) -> dict[str, Any]:
    units, both = int(rng.integers(3, 6)), bool(rng.integers(2))
    return {"units": units, "layers": int(rng.integers(1, 3)), "both": both}


def random_dense(rng: np.random.Generator, width: int) -> dict[str, Any]:
    units = int(rng.choice([4, 6, 8]))
    return {"units": units, "activation": str(rng.choice(["linear", "relu", "tanh", "gelu"]))}


# What a random layer of a kind is given, after one that gives so many numbers.
RANDOM: dict[str, Callable[[np.random.Generator, int], dict[str, Any]]] = {
    "lstm": random_recurrent,
    "gru": random_recurrent,
    "rnn": random_recurrent,
    "dense": random_dense,
    "conv": lambda rng, width: {"units": int(rng.choice([4, 6]))},
    "attention": lambda rng, width: {"heads": 2 if width % 2 == 0 else 1},
    "batchnorm": lambda rng, width: {"epsilon": rounded(1e-5), "momentum": 0.75},
    "layernorm": lambda rng, width: {"epsilon": rounded(rng.choice([1e-3, 1e-5]))},
}


def random_pair(rng: np.random.Generator, number: int) -> Pair:
    """A correct pair: random layers, sizes, optimizer and frameworks; each fifth in float32."""
    left, right = (str(name) for name in rng.permutation(FRAMEWORKS)[:2])
    width, layers = int(rng.choice([4, 6, 8])), []
    config: dict[str, Any] = {"words": WORDS, "width": width, "training": True, "one_bias": "keras" in (left, right)}
    config["dtype"] = "float32" if number % 5 == 4 else "float64"
    kinds = [str(kind) for kind in rng.choice(list(RANDOM), int(rng.integers(1, 4)))]
    if "torch" in (left, right) and "batchnorm" in kinds:  # its variance is another, so it must not be trained;
        config["training"] = False  # then Paddle's recurrent layers have no gradients
        kinds = [kind if RANDOM[kind] is not random_recurrent else "dense" for kind in kinds]
    for kind in kinds:
        layers.append({"kind": kind, **RANDOM[kind](rng, width)})
        width = layers[-1].get("units", width) * (1 + layers[-1].get("both", False))
    config["layers"] = layers
    config["tied"] = bool(width == config["width"] and rng.integers(2))
    if "keras" not in (left, right) and not config["tied"] and rng.integers(2):
        config["padding_idx"] = 0  # torch uses its row and Paddle does not; it is zero until something trains it
    config["smoothing"] = float(rng.choice([0.0, 0.1]))
    config["optimizer"] = {
        "name": str(rng.choice(["sgd", "adam", "adamw", "rmsprop"])),
        "rate": rounded(10 ** -rng.uniform(2, 3)),
        "decay": rounded(0.01),
        "momentum": rounded(0.9),
        "beta_2": rounded(0.999),
        "epsilon": rounded(1e-7),
        "clip": float(rng.choice([0.0, 0.5])),
    }
    if config["optimizer"]["name"] == "adam" and "keras" in (left, right):
        config["optimizer"]["decay"] = 0.0  # Keras's goes straight to the weight
    return Pair(f"{number}-{left}-{right}", left, right, config, seed=number)


def planted() -> dict[str, tuple[Pair, str, str, str]]:
    """The mistakes by name: the pair, the rung at which it breaks, what is named there, and words of a cause."""
    base: dict[str, Any] = {"words": WORDS, "width": 6, "dtype": "float64", "training": True, "optimizer": SGD}
    dense, norm = {"kind": "dense", "units": 6}, {"kind": "layernorm", "epsilon": rounded(1e-5)}
    lstm, gru = {"kind": "lstm", "units": 6}, {"kind": "gru", "units": 6}
    batchnorm = {"kind": "batchnorm", "epsilon": rounded(1e-5), "momentum": 0.75}
    attention, gelu = {"kind": "attention", "heads": 2}, {"kind": "dense", "units": 6, "activation": "gelu"}

    def of(left: str, right: str, *layers: dict[str, Any], **more: Any) -> Pair:
        own = {name: more.pop(name) for name in ("mistake", "mangle", "carried_to_right") if name in more}
        config = {**base, "one_bias": "keras" in (left, right), "layers": list(layers), **more}
        return Pair("", left, right, config, **own)

    def transposed(weights: dict[str, Array]) -> None:
        weights["layers.1.inner.weight"] = weights["layers.1.inner.weight"].T

    def regated(weights: dict[str, Array]) -> None:
        name = "layers.0.inner.weight_hh_l0"
        weights[name] = weights[name].reshape(4, 6, 6)[[0, 1, 3, 2]].reshape(24, 6)

    found = {
        "transposed square kernel": (
            of("torch", "paddle", norm, dense, mangle=transposed), "weights", "layers.1.inner kernel", "transposed"
        ),
        "gate order": (
            of("paddle", "torch", lstm, mangle=regated), "weights", "layers.0.inner:l0 recurrent_kernel",
            "gates in the order input, forget, output, candidate",
        ),
        "reset_after": (
            of("torch", "keras", gru, mistake={"layers": [{**gru, "reset_after": False}]}, carried_to_right=True),
            "weights", "layers.0.inner:l0", "False on the right (docs/deviations.md#gru-reset-after)",
        ),
        "second bias": (
            of("keras", "paddle", lstm, mistake={"one_bias": False}), "step", "lstm bias", "trains two biases"
        ),
        "epsilon's place": (
            of("torch", "paddle", dense, optimizer=RMSPROP, mistake={"optimizer": {**RMSPROP, "stock": True}}),
            "step", "", "outside the root on the left and inside the root",
        ),
        "weight decay's kind": (
            of("torch", "paddle", dense, optimizer=DECAYED, mistake={"optimizer": {**DECAYED, "name": "adamw"}}),
            "step", "", "through the gradient on the left and straight to the weight on the right",
        ),
        "LayerNorm's epsilon": (
            of("torch", "keras", dense, norm, dense, mistake={"layers": [dense, {**norm, "epsilon": 1e-3}, dense]}),
            "forward", "layers.1 output", "and 0.001 on the right (docs/deviations.md#layernorm-epsilon)",
        ),
        "BatchNorm's momentum": (
            of("keras", "paddle", dense, batchnorm, mistake={"layers": [dense, {**batchnorm, "momentum": 0.9}]}),
            "step", "batch_normalization moving_", "that is kept, is 0.75 on the left and 0.9 on",
        ),
        "the complement of BatchNorm's momentum": (
            of("keras", "paddle", dense, batchnorm, mistake={"layers": [dense, {**batchnorm, "momentum": 0.25}]}),
            "step", "batch_normalization moving_", "the new batch's on the other",
        ),
        "padding_idx": (
            of("torch", "paddle", dense, mistake={"padding_idx": 0}),
            "forward", "embedding output", "padding_idx is None",
        ),
        "attention mask's sign": (
            of("torch", "keras", attention, mistake={"layers": [{**attention, "sign": -1}]}),
            "forward", "layers.0.inner:output output", "the attention's weights (docs/deviations.md#attention-mask)",
        ),
        "GELU's approximation": (
            of("keras", "torch", gelu, dense, mistake={"layers": [{**gelu, "approximate": True}, dense]}),
            "forward", "", "gelu by tanh",
        ),
        "dropout left on": (
            of("torch", "keras", dense, DROPOUT, dense, training=False, mistake={"training": True}),
            "forward", "layers.", "of the right side (docs/deviations.md#dropout)",
        ),
        "label smoothing": (
            of("keras", "torch", dense, mistake={"smoothing": 0.1}), "loss", "loss", "by 0 on the left and 0.1"
        ),
        "bias correction": (
            of("keras", "torch", dense, optimizer=ADAM, mistake={"optimizer": {**ADAM, "uncorrected": True}}),
            "step", "", "does not correct the bias",
        ),
        "gradient clipping's norm": (
            of("paddle", "keras", dense, optimizer={**SGD, "clip": 0.1},
               mistake={"optimizer": {**SGD, "clip": 0.1, "norm": "each"}}),
            "step", "", "to a norm of all of 0.1 on the left and each to a norm",
        ),
        "initial state": (
            of("torch", "paddle", gru, mistake={"layers": [{**gru, "initial": 0.5}]}),
            "forward", "layers.0.inner:l0 sequence", "initial state",
        ),
        "time axis": (
            of("paddle", "torch", gru, mistake={"layers": [{**gru, "time_first": True}]}),
            "forward", "layers.0.inner:l0 sequence", "time is the first axis",
        ),
        "tied weights untied": (
            of("torch", "paddle", norm, tied=True, mistake={"tied": False}),
            "gradients", "logits", "on the left only (docs/deviations.md#tied-weights)",
        ),
        "dtype of a constant": (
            of("torch", "keras", SCALE, dense, mistake={"layers": [{**SCALE, "dtype": "float32"}, dense]}),
            "forward", "layers.1.inner output", "float32",
        ),
        "order of batches": (
            of("torch", "paddle", dense, mistake={"order": [1, 0]}), "tensors", "ids", "another order"
        ),
    }  # fmt: skip
    for name, (pair, *_) in found.items():
        pair.name = re.sub(r"\W+", "-", name)
    return found


SGD: dict[str, Any] = {
    "name": "sgd",
    "rate": rounded(0.1),
    "decay": 0.0,
    "momentum": rounded(0.9),
    "beta_2": rounded(0.999),
    "epsilon": rounded(1e-7),
}
ADAM, RMSPROP = {**SGD, "name": "adam"}, {**SGD, "name": "rmsprop"}
DECAYED = {**ADAM, "decay": rounded(0.01)}
DROPOUT, SCALE = {"kind": "dropout", "rate": 0.5}, {"kind": "scale", "factor": 0.1}


def main() -> None:
    number, seed = int(sys.argv[1]), int((sys.argv[2:] or ["0"])[0])
    rng = np.random.default_rng(seed)
    pairs = [random_pair(rng, one) for one in range(number)]
    with tempfile.TemporaryDirectory() as folder:
        found = compared(pairs, {name: Side(name) for name in FRAMEWORKS}, Path(folder))
    wrong = 0
    for pair, diff in zip(pairs, found, strict=True):
        if not diff.passed or not diff.control.passed:
            wrong += 1
            print(pair.name, json.dumps(pair.config))
            print(*diff.explanation, *(cause.sentence for cause in diff.causes), diff.control.seen, sep="\n")
    print(f"{wrong} of {number} correct pairs are taken for wrong")


if __name__ == "__main__":
    main()
