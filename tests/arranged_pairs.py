"""Pairs of models that hold the same numbers in other arrangements: random correct ones, and such with a mistake.

`python -m tests.arranged_pairs NUMBER SEED [WHICH...]` compares random correct pairs and prints what is wrong.
"""

import json
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save_file

from benchmarks.compare.carry import carried
from benchmarks.compare.diff import Diff, compare_records
from benchmarks.compare.drafts import write_mapping
from benchmarks.compare.mapping import read_mapping
from benchmarks.compare.pairing import paired
from benchmarks.compare.record import Side as Recorded
from common.errors import RosettaError
from tests.porting_pairs import SGD, WORDS, rounded, write_batches
from tests.porting_side import FRAMEWORKS, Side, record

STEPS, TIME = 2, 5
Config = dict[str, Any]
# How each kind of block may be cut; Keras has no other layer for an RMSNorm than Paddle lacks.
CUTS = {
    "attention": ("three", "fused", "grouped", "kv"),
    "mlp": ("two", "fused", "up first", "pairs"),
    "experts": ("list", "packed", "turned"),
    "stack": ("list", "packed", "second"),
    "image": ("first", "last"),
    "recurrent": ("both", "one each"),
    "weight_norm": ("alone",),
}


@dataclass
class Pair:
    """Two models of the same numbers, each cut in its own way."""

    name: str
    frameworks: tuple[str, str]  # left and right
    configs: tuple[Config, Config]
    carried: bool = False  # whether the right weights come of `rosetta carry` rather than of a converter

    def __str__(self) -> str:
        return f"{self.name} {json.dumps(self.configs)}"


def random_block(rng: np.random.Generator, kind: str, width: int, keras: bool) -> Config:
    """What both sides' blocks of a kind have in common."""
    found: Config = {"kind": kind}
    if kind == "attention":
        groups, heads_each, size = int(rng.choice([1, 2, 3])), int(rng.choice([1, 2])), int(rng.choice([2, 4]))
        found |= {"groups": groups, "heads": groups * heads_each, "size": size, "rope": bool(rng.integers(2))}
        found["bias"] = bool(rng.integers(2))
        if not found["rope"] and rng.integers(2):  # as the frameworks' own layer has it
            found |= {"heads": 2, "groups": 2, "size": width // 2, "bias": True, "own": True}
    elif kind == "image":
        found |= {"channels": int(rng.choice([2, 3])), "time": TIME}
    elif kind == "recurrent":
        found |= {"units": int(rng.choice([3, 4])), "lengths": bool(rng.integers(2))}
        found["of"] = "gru" if keras else str(rng.choice(["gru", "lstm"]))
    else:
        found |= {"units": int(rng.choice([5, width])), "experts": int(rng.choice([2, 3])), "layers": 3}
    return found


def random_cut(rng: np.random.Generator, framework: str, one: Config) -> Config:
    """How one side has a block."""
    cuts = list(CUTS[one["kind"]])
    if one.get("own"):
        cuts += ["framework", "framework"]
    if one.get("lengths"):
        cuts = ["both"]
    return {**one, "cut": str(rng.choice(cuts))}


def expressible(rng: np.random.Generator, one: Config, other: Config) -> tuple[Config, Config]:
    """The two sides' blocks, changed where no line of a mapping says how they belong together: it has one arrangement
    for all parts of an array, and query and key are turned for rotary embeddings and value is not."""
    if {one["cut"], other["cut"]} == {"kv", "grouped"}:
        other = {**other, "cut": "fused"}
        one = {**one, "cut": "kv"}
    if one.get("rope"):
        separate = one["cut"] == other["cut"] == "three"
        orders = [str(rng.choice(["halves", "interleaved"])) if separate else "halves" for _ in range(2)]
        return {**one, "rope": orders[0]}, {**other, "rope": orders[1]}
    return one, other


def random_pair(rng: np.random.Generator, number: int) -> Pair:
    """A correct pair. The kinds of the first blocks come in turns."""
    frameworks = tuple(str(name) for name in rng.permutation(FRAMEWORKS)[:2])
    width = int(rng.choice([4, 6]))
    kinds = [list(CUTS)[number % len(CUTS)], *(str(kind) for kind in rng.choice(list(CUTS), int(rng.integers(2))))]
    blocks = [random_block(rng, kind, width, "keras" in frameworks) for kind in kinds]
    norm = str(rng.choice(["layernorm", "rmsnorm"]))
    optimizer = {**SGD, "name": str(rng.choice(["sgd", "adam"])), "rate": rounded(0.01)}
    cut = [expressible(rng, *(random_cut(rng, framework, one) for framework in frameworks)) for one in blocks]
    configs = []
    for side, framework in enumerate(frameworks):
        cuts = ["own"] if (framework, norm) == ("paddle", "rmsnorm") else ["own", "framework"]
        configs.append(
            {
                **{"words": WORDS, "width": width, "dtype": "float64", "training": True, "seed": number},
                "blocks": [both[side] for both in cut],
                "norm": {"kind": norm, "cut": str(rng.choice(cuts))},
                "padding": int(rng.choice([0, 0, 3])),
                "compat": bool(rng.integers(2)),
                "optimizer": optimizer,
            }
        )
    name = f"{number}-{'-'.join(frameworks)}"
    return Pair(name, (frameworks[0], frameworks[1]), (configs[0], configs[1]), number % 3 == 2)


def recorded(
    pairs: Sequence[Pair], started: Mapping[str, Side], folder: Path, steps: int = STEPS
) -> list[tuple[Recorded, Recorded]]:
    """Both records of each pair. Where the right weights are to be carried, a record with the converter's own weights
    gives the mapping that carries the left weights over other ones."""

    def ask(pair: Pair, side: int, name: str, **more: Any) -> None:
        own, config = folder / pair.name, {**pair.configs[side], **more.pop("changed", {})}
        batches = own / "batches.safetensors"
        arguments = {"steps": steps, **more}
        started[pair.frameworks[side]].start(record, folder=own / name, config=config, batches=batches, **arguments)

    def wait(pair: Pair) -> None:
        for framework in pair.frameworks:
            started[framework].wait()

    for pair in pairs:
        (folder / pair.name).mkdir()
        write_batches(folder / pair.name / "batches.safetensors", pair.configs[0]["seed"])
        ask(pair, 0, "left")
        ask(pair, 1, "given" if pair.carried else "right", steps=0 if pair.carried else steps)
    for pair in pairs:
        wait(pair)
    again = [pair for pair in pairs if pair.carried]
    for pair in again:
        ask(pair, 1, "like", steps=0, changed={"seed": 1000})
    for pair in again:
        started[pair.frameworks[1]].wait()
        own = folder / pair.name
        left = Recorded(own / "left")
        try:
            write_mapping(own / "mapping.toml", paired(left, Recorded(own / "given")))
            weights = carried(paired(left, Recorded(own / "like"), read_mapping(own / "mapping.toml")))
        except RosettaError as error:
            raise AssertionError(f"{pair}: {error}") from error
        save_file({name: np.ascontiguousarray(array) for name, array in weights.items()}, own / "carried.safetensors")
        ask(pair, 1, "right", changed={"seed": 1000}, weights=own / "carried.safetensors")
    for pair in again:
        started[pair.frameworks[1]].wait()
    return [(Recorded(folder / pair.name / "left"), Recorded(folder / pair.name / "right")) for pair in pairs]


def wrong_of(left: Recorded, right: Recorded, folder: Path) -> str:
    """What is wrong with a correct pair: how it fails without a mapping, with the one that is written, or in being
    carried there and back; "" for nothing."""
    try:
        found = compare_records(left, right)
        passed = found.passed and found.control.passed
        if not passed and "--write-mapping writes this" not in told(found):
            return f"without a mapping: {told(found)}"
        if not folder.joinpath("mapping.toml").exists():
            write_mapping(folder / "mapping.toml", paired(left, right))
        elif passed:  # it was carried with this mapping
            passed = False
        mapping = read_mapping(folder / "mapping.toml")
        if not passed:
            found = compare_records(left, right, mapping)
            if not found.passed:
                return f"with the mapping: {told(found)}"
        write_mapping(folder / "back.toml", paired(right, left))
        there, back = (
            carried(paired(left, right, mapping)),
            carried(paired(right, left, read_mapping(folder / "back.toml"))),
        )
    except RosettaError as error:
        return f"refused: {error}"
    for made, side in ((there, right), (back, left)):
        own = side.arrays("weights")
        for name in own:
            if made[name].tobytes() != own[name].tobytes() or made[name].shape != own[name].shape:
                return f"{name} of {side.name} comes out otherwise"
    return ""


def told(found: Diff) -> str:
    return "; ".join([*found.explanation, *(cause.sentence for cause in found.causes), *found.notes])


def mistaken() -> dict[str, tuple[Pair, str]]:
    """The mistakes by name: the pair, and words of what is shown."""
    attention = {"kind": "attention", "groups": 2, "heads": 4, "size": 2, "rope": False, "bias": True}
    rotary = {**attention, "size": 4, "rope": "halves"}
    mlp = {"kind": "mlp", "units": 6}
    experts = {"kind": "experts", "units": 6, "experts": 3}
    stack = {"kind": "stack", "layers": 3}
    image = {"kind": "image", "channels": 2, "time": TIME}
    gru = {"kind": "recurrent", "of": "gru", "units": 3, "lengths": False}
    weight_norm = {"kind": "weight_norm", "cut": "alone"}
    base: Config = {"words": WORDS, "width": 6, "dtype": "float64", "training": True, "seed": 5, "optimizer": SGD}
    base["norm"] = {"kind": "layernorm", "cut": "framework"}

    def of(left: str, right: str, one: Config, cuts: tuple[str, str], more: Config, **both: Any) -> Pair:
        """A pair with one block; `more` is what the right one has otherwise."""
        blocks = {**one, **both, "cut": cuts[0]}, {**one, **both, "cut": cuts[1], **more}
        return Pair("", (left, right), ({**base, "blocks": [blocks[0]]}, {**base, "blocks": [blocks[1]]}))

    def wrong(left: str, right: str, one: Config, cuts: tuple[str, str], mistake: str) -> Pair:
        return of(left, right, one, cuts, {"mistake": mistake})

    own_norm = of("torch", "keras", mlp, ("two", "two"), {})
    own_norm.configs[0]["norm"] = {"kind": "layernorm", "cut": "own"}
    gains = replace(own_norm, configs=(own_norm.configs[0], {**own_norm.configs[1]}))
    gains.configs[1]["norm"] = {"kind": "layernorm", "cut": "framework", "mistake": "gain and shift exchanged"}
    no_mean = replace(own_norm, configs=(own_norm.configs[0], {**own_norm.configs[1]}))
    no_mean.configs[1]["norm"] = {"kind": "layernorm", "cut": "own", "computed": {"kind": "rmsnorm"}}
    shifted = of("paddle", "keras", mlp, ("two", "fused"), {})
    shifted.configs[1].update(padding=3, shifted=True)
    compat = of("torch", "paddle", attention, ("fused", "three"), {"mistake": "key and value exchanged"})
    compat.configs[1]["compat"] = True
    found = {
        "grouped qkv split in blocks": (
            of("torch", "keras", attention, ("grouped", "grouped"), {"computed": {"cut": "fused"}}), "blocks.0"
        ),
        "qkv split in groups": (
            of("torch", "paddle", attention, ("fused", "fused"), {"computed": {"cut": "grouped"}}), "blocks.0"
        ),
        "key and value exchanged": (
            wrong("torch", "keras", attention, ("fused", "three"), "key and value exchanged"), "blocks.0"
        ),
        "key and value exchanged in compat": (compat, "blocks.0"),
        "biases of key and value exchanged": (
            wrong("paddle", "torch", attention, ("three", "fused"), "biases exchanged"), "blocks.0"
        ),
        "heads in another order": (
            wrong("keras", "torch", attention, ("kv", "grouped"), "heads in another order"), "model/attention"
        ),
        "queries with the keys of other groups": (
            of("torch", "paddle", attention, ("three", "three"), {"computed": {"heads order": True}}), "blocks.0"
        ),
        "RoPE in the other order": (
            of("torch", "paddle", rotary, ("three", "three"), {"computed": {"rope": "interleaved"}}),
            "blocks.0",
        ),
        "gate and up exchanged": (
            wrong("torch", "paddle", mlp, ("fused", "two"), "gate and up exchanged"), "blocks.0"
        ),
        "pairs of gate and up taken for halves": (
            of("paddle", "keras", mlp, ("pairs", "pairs"), {"computed": {"cut": "fused"}}), "blocks.0"
        ),
        "experts exchanged": (wrong("torch", "paddle", experts, ("packed", "list"), "experts exchanged"), "blocks.0"),
        "an expert transposed": (
            wrong("torch", "paddle", experts, ("packed", "list"), "an expert transposed"), "blocks.0"
        ),
        "router in another order": (
            wrong("paddle", "torch", experts, ("list", "turned"), "router in another order"), "blocks.0"
        ),
        "layers in another order": (
            wrong("torch", "paddle", stack, ("list", "packed"), "layers in another order"), "blocks.0"
        ),
        "biases of layers in another order": (
            wrong("keras", "paddle", stack, ("second", "list"), "biases in another order"), "model/stack"
        ),
        "flatten in the other order": (
            of("torch", "paddle", image, ("first", "first"), {"computed": {"cut": "last"}}), "blocks.0"
        ),
        "image transposed": (wrong("paddle", "keras", image, ("first", "last"), "image transposed"), "blocks.0"),
        "directions exchanged": (
            wrong("torch", "paddle", gru, ("both", "one each"), "directions exchanged"), "blocks.0"
        ),
        "gates in another order": (
            wrong("paddle", "torch", gru, ("one each", "both"), "gates in another order"), "blocks.0"
        ),
        "lengths passed over": (
            of("torch", "paddle", gru, ("both", "both"), {"computed": {"lengths": False}}, lengths=True), "blocks.0"
        ),
        "weight_norm of the other axis": (
            wrong("torch", "paddle", weight_norm, ("alone", "alone"), "norm of the other axis"), "blocks.0"
        ),
        "gains of weight_norm in another order": (
            wrong("torch", "paddle", weight_norm, ("alone", "alone"), "gains in another order"), "blocks.0"
        ),
        "gain and shift exchanged": (gains, "norms.0"),
        "a mean that is not taken off": (no_mean, "norms.0"),
        "rows of padding shifted": (shifted, "embedding"),
    }  # fmt: skip
    for number, (pair, _) in enumerate(found.values()):
        pair.name = f"mistake-{number}"
    return found


def main() -> None:
    number, seed, *only = (int(word) for word in sys.argv[1:])
    rng = np.random.default_rng(seed)
    pairs, wrong = [random_pair(rng, one) for one in range(number)], 0
    pairs = [pairs[one] for one in only] or pairs
    folder = Path(tempfile.mkdtemp(prefix="arranged-pairs-"))
    both = recorded(pairs, {name: Side(name) for name in FRAMEWORKS}, folder)
    for pair, sides in zip(pairs, both, strict=True):
        found = wrong_of(*sides, folder / pair.name)
        if found:
            wrong += 1
            print(pair, found, sep="\n")
    print(f"{wrong} of {len(pairs)} correct pairs are taken for wrong; {folder} has their records")


if __name__ == "__main__":
    main()
