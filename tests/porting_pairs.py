"""Pairs of models in two frameworks: correct ones with random layers, and such with a planted mistake.

`python -m tests.porting_pairs NUMBER [SEED]` compares random correct pairs and prints those that are taken for wrong.
"""

import json
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import save_file

from benchmarks.porting.carry import carried
from benchmarks.porting.diff import Diff, compare_records
from benchmarks.porting.record import Record
from tests.porting_guide import Side, sides

Array = NDArray[Any]
FRAMEWORKS = ("torch", "paddle", "keras")
WORDS = 9


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


def compared(pairs: Sequence[Pair], started: dict[str, Side], folder: Path) -> list[Diff]:
    """The comparisons of the pairs, each recorded, carried and recorded again in two processes that do no more."""
    for pair in pairs:
        own = folder / pair.name
        own.mkdir()
        rng = np.random.default_rng(pair.seed)
        batches = {}
        for number in range(2):
            ids = rng.integers(1, WORDS, (4, 5))
            ids[1:3, 3:] = 0
            batches |= {f"ids{number}": ids, f"targets{number}": rng.integers(0, WORDS, (4, 5))}
        save_file(batches, own / "batches.safetensors")
        like = pair.config if pair.carried_to_right else pair.wrong
        for framework, side, config, steps in ((pair.left, "left", pair.config, 3), (pair.right, "like", like, 0)):
            request = {"folder": str(own / side), "batches": str(own / "batches.safetensors")}
            started[framework].start("record", config=config, steps=steps, **request)
    wait(pairs, started)
    for pair in pairs:
        own = folder / pair.name
        weights = carried(Record(own / "left"), Record(own / "like"))
        if pair.mangle:
            pair.mangle(weights)
        save_file({name: np.ascontiguousarray(array) for name, array in weights.items()}, own / "carried.safetensors")
        request = {"folder": str(own / "right"), "batches": str(own / "batches.safetensors")}
        started[pair.right].start("record", config=pair.wrong, weights=str(own / "carried.safetensors"), **request)
    for pair in pairs:
        started[pair.right].wait()
    return [
        compare_records(Record(folder / pair.name / "left"), Record(folder / pair.name / "right")) for pair in pairs
    ]


def wait(pairs: Sequence[Pair], started: dict[str, Side]) -> None:
    for pair in pairs:
        started[pair.left].wait()
        started[pair.right].wait()


def random_pair(rng: np.random.Generator, number: int) -> Pair:
    """A correct pair: random layers, sizes, optimizer and directions."""
    left, right = (str(name) for name in rng.permutation(FRAMEWORKS)[:2])
    width, layers = int(rng.choice([4, 6, 8])), []
    config: dict[str, Any] = {"words": WORDS, "width": width, "training": True, "one_bias": "keras" in (left, right)}
    kinds = [str(kind) for kind in rng.choice(KINDS, int(rng.integers(1, 4)))]
    if "torch" in (left, right) and "batchnorm" in kinds:  # its variance is another, so it must not be trained;
        config["training"] = False  # then Paddle's recurrent layers have no gradients
        kinds = [kind if kind not in ("lstm", "gru", "rnn") else "dense" for kind in kinds]
    for kind in kinds:
        if kind in ("lstm", "gru", "rnn"):
            units, both = int(rng.integers(3, 6)), bool(rng.integers(2))
            layers.append({"kind": kind, "units": units, "layers": int(rng.integers(1, 3)), "both": both})
            width = units * (1 + both)
        elif kind == "dense":
            width = int(rng.choice([4, 6, 8]))
            activation = str(rng.choice(["linear", "relu", "tanh", "gelu"]))
            layers.append({"kind": kind, "units": width, "activation": activation})
        elif kind == "conv":
            width = int(rng.choice([4, 6]))
            layers.append({"kind": kind, "units": width})
        elif kind == "attention":
            layers.append({"kind": kind, "heads": 2 if width % 2 == 0 else 1})
        elif kind == "batchnorm":
            layers.append({"kind": kind, "epsilon": rounded(1e-5), "momentum": 0.75})
        else:
            layers.append({"kind": kind, "epsilon": rounded(rng.choice([1e-3, 1e-5]))})
    config["layers"] = layers
    config["tied"] = bool(width == config["width"] and rng.integers(2))
    if "keras" not in (left, right) and not config["tied"] and rng.integers(2):
        config["padding_idx"] = 0  # of which torch uses the row and Paddle does not; it is 0 until something trains it
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


KINDS = ["lstm", "gru", "rnn", "dense", "conv", "attention", "batchnorm", "layernorm"]


def main() -> None:
    number, seed = int(sys.argv[1]), int((sys.argv[2:] or ["0"])[0])
    rng = np.random.default_rng(seed)
    pairs = [random_pair(rng, one) for one in range(number)]
    with tempfile.TemporaryDirectory() as folder, sides() as started:
        found = compared(pairs, started, Path(folder))
    wrong = 0
    for pair, diff in zip(pairs, found, strict=True):
        if not diff.passed or not diff.control.passed:
            wrong += 1
            print(pair.name, json.dumps(pair.config))
            print(*diff.explanation, *(cause.sentence for cause in diff.causes), diff.control.seen, sep="\n")
    print(f"{wrong} of {number} correct pairs are taken for wrong")


if __name__ == "__main__":
    main()
