"""Pairs of the zoo's models of the same numbers in two frameworks:
random correct ones, and such with a planted mistake.

`python -m porting_tests.support.pairs NUMBER [SEED [WHICH...]]` compares random correct pairs and
prints those that are taken for wrong; with PRECISION at the end, such as float32 or
autocast-bfloat16, all are in it, and bounds are measured.
"""

import json
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save_file

from porting_tests.support.side import FRAMEWORKS, Side, record
from porting_tests.support.zoo import Config
from rosetta_diff.arrays import PRECISE
from rosetta_diff.carry import carry_weights
from rosetta_diff.diff import Diff, compare_records
from rosetta_diff.helpers import DiffError
from rosetta_diff.pair.drafts import write_mapping
from rosetta_diff.pair.mapping import read_mapping
from rosetta_diff.pair.pairing import pair_sides
from rosetta_diff.read.side import Side as Recorded
from rosetta_diff.report import lines

WORDS, TIME = 9, 6
STEPS = 2  # as many as there are batches


def rounded(number: float) -> float:
    """A number that float32 has, since Paddle keeps some in it."""
    return float(np.float32(number))


SGD: Config = {
    "name": "sgd",
    "rate": rounded(0.1),
    "decay": 0.0,
    "momentum": rounded(0.9),
    "beta_2": rounded(0.999),
    "epsilon": rounded(1e-7),
}
ADAM: Config = {**SGD, "name": "adam"}
DENSE, NORM = {"kind": "dense"}, {"kind": "layernorm", "cut": "framework"}


@dataclass(frozen=True)
class Pair:
    """Two models of the same numbers, where the right one may have a mistake."""

    name: str
    frameworks: tuple[str, str]  # left and right
    configs: tuple[Config, Config]

    def __str__(self) -> str:
        return f"{self.name} {json.dumps(self.configs)}"


def write_batches(path: Path, seed: int = 0) -> None:
    """Two batches of ids, some of which are padding, and of targets."""
    rng, batches = np.random.default_rng(seed), {}
    for number in range(2):
        ids = rng.integers(1, WORDS, (4, TIME))
        ids[1:3, 3:] = 0
        batches |= {f"ids{number}": ids, f"targets{number}": rng.integers(0, WORDS, (4, TIME))}
    save_file(batches, path)


def record_pairs(
    pairs: Sequence[Pair],
    started: Mapping[str, Side],
    folder: Path,
    steps: int = STEPS,
    control: bool = False,
) -> list[tuple[Recorded, Recorded]]:
    """Both records of each pair, the left one perhaps with its control.
    A side that several pairs have is recorded once."""
    made, answers, found = dict[str, Path](), [], []
    folder.mkdir(exist_ok=True)
    for pair in pairs:
        batches = folder / f"{pair.configs[0]['seed']}.safetensors"
        write_batches(batches, pair.configs[0]["seed"])
        both = []
        for side, framework, config in zip(
            ("left", "right"), pair.frameworks, pair.configs, strict=True
        ):
            key = json.dumps([framework, side, config], sort_keys=True)
            own = folder / pair.name / side
            if key not in made:
                asked = {"config": config, "batches": batches, "steps": config.get("steps", steps)}
                answers.append(
                    started[framework].start(
                        record, folder=own, control=control and side == "left", **asked
                    )
                )
            both.append(made.setdefault(key, own))
        found.append(both)
    for answer in answers:
        answer.result()
    return [(Recorded(left), Recorded(right)) for left, right in found]


def told(found: Diff) -> str:
    return "\n".join(lines(found))


# Correct pairs

# How each kind of block may be cut.
CUTS = {
    "attention": ("q k v", "q+k+v", "grouped q+k+v", "q k+v"),
    "mlp": ("gate up", "gate+up", "up+gate", "grouped gate+up"),
    "image": ("first", "last"),
    "recurrent": ("both", "one each"),
    "weight_norm": ("alone",),
    "dense": ("alone",),
    "conv": ("alone",),
    "batchnorm": ("alone",),
    "layernorm": ("own", "framework"),
}


def random_block(rng: np.random.Generator, kind: str, width: int, keras: bool) -> Config:
    """The common part of both sides' blocks of a kind."""
    found: Config = {"kind": kind}
    if kind == "attention":
        groups = int(rng.choice([1, 2, 3]))
        heads_each = int(rng.choice([1, 2]))
        size = int(rng.choice([2, 4]))
        found |= {
            "groups": groups,
            "heads": groups * heads_each,
            "size": size,
            "rope": bool(rng.integers(2)),
        }
        found["bias"] = bool(rng.integers(2))
        if not found["rope"] and rng.integers(2):  # as the frameworks' own layer has it
            found |= {"heads": 2, "groups": 2, "size": width // 2, "bias": True, "own": True}
            found |= {"mask": "padding"} if rng.integers(2) else {}
    elif kind == "recurrent":
        found |= {"of": str(rng.choice(["lstm", "gru", "rnn"])), "units": int(rng.choice([3, 4]))}
        found |= {
            "both": bool(rng.integers(2)),
            "layers": int(rng.integers(1, 3)),
            "lengths": bool(rng.integers(2)),
        }
        found["one_bias"] = keras and found["of"] != "gru"
    else:
        found |= {"units": int(rng.choice([5, width])), "momentum": 0.75}
        found |= {"channels": int(rng.choice([2, 3])), "time": TIME}
        found["activation"] = str(rng.choice(["", "relu", "tanh", "gelu"]))
    return found


def random_cuts(rng: np.random.Generator, block: Config) -> list[Config]:
    """The cuts of a block on both sides.

    No line of a mapping says how "q k+v" and groups belong together, nor "q+k+v" and groups of
    several heads, since it has one arrangement for all parts of an array, nor how one array with
    query and key in RoPE's other order does, nor one with gate and up exchanged.
    """
    cuts = [*CUTS[block["kind"]], *(["framework"] * 2 if block.get("own") else [])]
    if block["kind"] == "recurrent" and (
        block["lengths"] or not block["both"] or block["layers"] > 1
    ):
        cuts = ["both"]
    cuts = ["framework"] if "mask" in block else cuts
    one, other = (str(rng.choice(cuts)) for _ in range(2))
    if {one, other} == {"q k+v", "grouped q+k+v"}:
        one, other = "q k+v", "q+k+v"
    if {one, other} == {"q+k+v", "grouped q+k+v"} and 1 < block["groups"] < block["heads"]:
        one = other
    if "up+gate" in (one, other) and "gate up" not in (one, other):
        other = one
    orders = [
        str(rng.choice(["halves", "interleaved"])) if one == other == "q k v" else "halves"
        for _ in range(2)
    ]
    rope = [{"rope": order} if block.get("rope") else {} for order in orders]
    return [{**block, "cut": cut, **more} for cut, more in zip((one, other), rope, strict=True)]


# The type of the weights, and that of automatic mixed precision,
# of which Paddle has little on the CPU.
PRECISIONS: dict[str, Config] = {
    **{dtype: {"dtype": dtype} for dtype in ("float64", "float32", "bfloat16", "float16")},
    **{
        f"autocast-{dtype}": {"dtype": "float32", "autocast": dtype}
        for dtype in ("bfloat16", "float16")
    },
}


def random_pair(rng: np.random.Generator, number: int, precision: str = "") -> Pair:
    """A correct pair of models of two blocks, in a precision, or each fifth in float32 and the
    others in float64. The kinds of the first blocks come in turns."""
    precision = precision or ("float32" if number % 5 == 4 else "float64")
    left, right = (str(name) for name in rng.permutation(FRAMEWORKS)[:2])
    if precision not in PRECISE:
        left, right = (str(name) for name in rng.choice(["torch", "keras"], 2))
    width = int(rng.choice([4, 6]))
    kinds = [list(CUTS)[number % len(CUTS)], str(rng.choice(list(CUTS)))]
    # TensorFlow makes no orthogonal matrix in it
    if precision == "bfloat16" and "recurrent" in kinds:
        left = right = "torch"
    keras, torch = "keras" in (left, right), "torch" in (left, right)
    base: Config = {"words": WORDS, "width": width, "training": True, "seed": number}
    if torch and "batchnorm" in kinds:  # its variance is another, so it must not be trained;
        base["training"] = False  # then Paddle's recurrent layers have no gradients
        kinds = ["dense" if kind == "recurrent" else kind for kind in kinds]

    def common(kind: str) -> Config:
        block = random_block(rng, kind, width, keras)
        # Torch has it on few processors.
        lacking = precision not in PRECISE and block.get("of") == "lstm"
        return {**block, "of": "gru", "one_bias": False} if lacking else block

    blocks = [random_cuts(rng, common(kind)) for kind in kinds]
    base |= {**PRECISIONS[precision], "smoothing": float(rng.choice([0.0, 0.1]))}
    base["tied"] = bool(rng.integers(2))
    if not keras and not base["tied"] and rng.integers(2):
        # Torch uses its row and Paddle does not; it is zero until something trains it.
        base["padding_idx"] = 0
    base["optimizer"] = {
        **SGD,
        "name": str(rng.choice(["sgd", "adam", "adamw", "rmsprop"])),
        "rate": rounded(10 ** -rng.uniform(2, 3)),
        "decay": rounded(0.01),
        "clip": float(rng.choice([0.0, 0.5])),
    }
    if keras and precision in ("bfloat16", "float16") and "adam" in base["optimizer"]["name"]:
        # Since there 0.999 is 1, and Keras's Adam does not step.
        base["optimizer"]["name"] = "rmsprop"
    if base["optimizer"]["name"] == "adam" and keras:
        base["optimizer"]["decay"] = 0.0  # Keras's goes straight to the weight
    norm = str(rng.choice(["layernorm", "rmsnorm"])) if "image" in kinds or rng.integers(2) else ""

    def config(side: int, framework: str) -> Config:
        own_only = (framework, norm) == ("paddle", "rmsnorm")  # which has no such layer
        cut = "own" if own_only else str(rng.choice(["own", "framework"]))
        more = {"norm": {"kind": norm, "cut": cut}} if norm else {}
        return {
            **base,
            "blocks": [both[side] for both in blocks],
            "compat": bool(rng.integers(2)),
            **more,
        }

    return Pair(f"{number}-{left}-{right}", (left, right), (config(0, left), config(1, right)))


def of_other_numbers(side: Recorded, folder: Path) -> Recorded:
    """The record with other numbers in its weights, but for counts,
    which the other side may lack."""
    rng, arrays = np.random.default_rng(1000), {}
    for name, array in side.arrays("weights").items():
        other = rng.normal(size=array.shape).astype(array.dtype)
        arrays[name] = other if array.ndim else array
    folder.mkdir()
    save_file(arrays, folder / "weights.safetensors")
    said = json.loads((side.path / "record.json").read_text("utf-8")) | {"files": None, "calls": []}
    (folder / "record.json").write_text(json.dumps(said), "utf-8")
    return Recorded(folder)


def wrong_of(left: Recorded, right: Recorded) -> str:
    """Failures of a correct pair: how it fails without a mapping, with the one that is written, or
    in being carried there and back; "" for nothing."""
    try:
        found = compare_records(left, right)
        if not found.passed and "--write-mapping writes this" not in told(found):
            return f"without a mapping: {told(found)}"
        for one, other in ((left, right), (right, left)):
            written = other.path.with_suffix(".toml")
            write_mapping(written, pair_sides(one, other))
            mapping = read_mapping(written)
            if other is right and not (found := compare_records(one, other, mapping)).passed:
                return f"with the mapping: {told(found)}"
            made = carry_weights(
                pair_sides(one, of_other_numbers(other, other.path.with_suffix(".like")), mapping)
            )
            for name, own in other.arrays("weights").items():
                if made[name].tobytes() != own.tobytes() or made[name].shape != own.shape:
                    return f"{name} of {other.name} comes out otherwise"
    except DiffError as error:
        return f"refused: {error}"
    return ""


def pair_of(
    left: str, right: str, *blocks: Config, wrong: Sequence[Config] = (), **more: Any
) -> Pair:
    """A pair whose right side has these changes of the blocks,
    and of the model those of `instead`."""
    changes, right_only = [*wrong, *({} for _ in blocks)], more.pop("instead", {})
    base = {
        "words": WORDS,
        "width": 6,
        "dtype": "float64",
        "training": True,
        "seed": 5,
        "optimizer": SGD,
        **more,
    }
    changed = [{**block, **change} for block, change in zip(blocks, changes, strict=False)]
    return Pair(
        "",
        (left, right),
        ({**base, "blocks": [*blocks]}, {**base, "blocks": changed, **right_only}),
    )


def computed(**otherwise: Any) -> Config:
    return {"computed": otherwise}


def has_nan(side: Recorded) -> bool:
    """True if the loss of a step is NaN."""
    return any(np.isnan(float(loss)) for loss in side.losses.values())


def main() -> None:
    precision = next((word for word in sys.argv[2:] if word in PRECISIONS), "")
    number, *more = (int(word) for word in sys.argv[1:] if word != precision)
    seed, *only = more or [0]
    folder = Path(tempfile.mkdtemp(prefix="porting-pairs-"))
    started, wrong = {name: Side(name) for name in FRAMEWORKS}, 0
    rng = np.random.default_rng(seed)
    drawn = [random_pair(rng, one, precision) for one in range(number)]
    drawn = [drawn[one] for one in only] or drawn
    pairs, total = list[tuple[Pair, tuple[Recorded, Recorded]]](), len(drawn)
    # Another pair in the place of one of which both sides have NaN, which shows nothing.
    while drawn:
        both = record_pairs(drawn, started, folder, control=bool(precision))
        pairs += [of for of in zip(drawn, both, strict=True) if not all(map(has_nan, of[1]))]
        drawn = [random_pair(rng, number + one, precision) for one in range(total - len(pairs))]
        number += len(drawn)
    for pair, sides in pairs:
        found = wrong_of(*sides)
        if found:
            wrong += 1
            print(pair, found, sep="\n")
    print(f"{wrong} of {len(pairs)} correct pairs are taken for wrong; {folder} has their records")
    sys.exit(wrong > 0)


if __name__ == "__main__":
    main()
