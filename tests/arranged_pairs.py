"""Pairs of models that hold the same numbers in other arrangements: random correct ones, and such with a mistake.

`python -m tests.arranged_pairs NUMBER SEED [WHICH...]` compares random correct pairs and prints what is wrong.
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
    "attention": ("q k v", "q+k+v", "grouped q+k+v", "q k+v"),
    "mlp": ("gate up", "gate+up", "up+gate", "grouped gate+up"),
    "experts": ("list", "packed", "turned"),
    "stack": ("list", "packed", "second"),
    "image": ("first", "last"),
    "recurrent": ("both", "one each"),
    "weight_norm": ("alone",),
}


@dataclass(frozen=True)
class Pair:
    """Two models of the same numbers, each cut in its own way."""

    name: str
    frameworks: tuple[str, str]  # left and right
    configs: tuple[Config, Config]

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


def random_cuts(rng: np.random.Generator, block: Config) -> list[Config]:
    """How both sides have a block. No line of a mapping says how "q k+v" and groups belong together, since it has one
    arrangement for all parts of an array, nor how one array with query and key in RoPE's other order does."""
    cuts = [*CUTS[block["kind"]], *(["framework"] * 2 if block.get("own") else [])]
    cuts = ["both"] if block.get("lengths") else cuts
    one, other = (str(rng.choice(cuts)) for _ in range(2))
    if {one, other} == {"q k+v", "grouped q+k+v"}:
        one, other = "q k+v", "q+k+v"
    orders = [str(rng.choice(["halves", "interleaved"])) if one == other == "q k v" else "halves" for _ in range(2)]
    rope = [{"rope": order} if block.get("rope") else {} for order in orders]
    return [{**block, "cut": cut, **more} for cut, more in zip((one, other), rope, strict=True)]


def random_pair(rng: np.random.Generator, number: int) -> Pair:
    """A correct pair of models of two blocks. The kinds of the first blocks come in turns."""
    left, right = (str(name) for name in rng.permutation(FRAMEWORKS)[:2])
    width = int(rng.choice([4, 6]))
    kinds = [list(CUTS)[number % len(CUTS)], str(rng.choice(list(CUTS)))]
    blocks = [random_cuts(rng, random_block(rng, kind, width, "keras" in (left, right))) for kind in kinds]
    norm = str(rng.choice(["layernorm", "rmsnorm"]))
    base = {"words": WORDS, "width": width, "dtype": "float64", "training": True, "seed": number}
    base["optimizer"] = {**SGD, "name": str(rng.choice(["sgd", "adam"])), "rate": rounded(0.01)}

    def config(side: int, framework: str) -> Config:
        own_only = (framework, norm) == ("paddle", "rmsnorm")
        cut = "own" if own_only else str(rng.choice(["own", "framework"]))
        padding, compat = int(rng.choice([0, 0, 3])), bool(rng.integers(2))
        more = {"norm": {"kind": norm, "cut": cut}, "padding": padding, "compat": compat}
        return {**base, "blocks": [both[side] for both in blocks], **more}

    configs = config(0, left), config(1, right)
    return Pair(f"{number}-{left}-{right}", (left, right), configs)


def recorded(
    pairs: Sequence[Pair], started: Mapping[str, Side], folder: Path, steps: int = STEPS
) -> list[tuple[Recorded, Recorded]]:
    """Both records of each pair."""
    for pair in pairs:
        own = folder / pair.name
        own.mkdir()
        write_batches(own / "batches.safetensors", pair.configs[0]["seed"])
        for side, framework, config in zip(("left", "right"), pair.frameworks, pair.configs, strict=True):
            asked = {"folder": own / side, "config": config, "batches": own / "batches.safetensors", "steps": steps}
            started[framework].start(record, **asked)
    for framework in [name for pair in pairs for name in pair.frameworks]:
        started[framework].wait()
    return [(Recorded(folder / pair.name / "left"), Recorded(folder / pair.name / "right")) for pair in pairs]


def of_other_numbers(side: Recorded, folder: Path) -> Recorded:
    """The record with other numbers in its weights, but for the rows of padding, which the other side may lack."""
    rng, arrays = np.random.default_rng(1000), {}
    for name, array in side.arrays("weights").items():
        rows = np.arange(len(array))[:, None]
        arrays[name] = np.where(rows < WORDS, 0.0, array) if "embed" in name else rng.normal(size=array.shape)
    folder.mkdir()
    save_file(arrays, folder / "weights.safetensors")
    said = json.loads((side.path / "record.json").read_text("utf-8")) | {"files": None, "calls": []}
    (folder / "record.json").write_text(json.dumps(said), "utf-8")
    return Recorded(folder)


def wrong_of(left: Recorded, right: Recorded, folder: Path) -> str:
    """What is wrong with a correct pair: how it fails without a mapping, with the one that is written, or in being
    carried there and back; "" for nothing."""
    try:
        found = compare_records(left, right)
        passed = found.passed and found.control.passed
        if not passed and "--write-mapping writes this" not in told(found):
            return f"without a mapping: {told(found)}"
        for one, other in ((left, right), (right, left)):
            written = folder / f"to-{other.name}.toml"
            write_mapping(written, paired(one, other))
            mapping = read_mapping(written)
            if other is right and not (found := compare_records(one, other, mapping)).passed:
                return f"with the mapping: {told(found)}"
            made = carried(paired(one, of_other_numbers(other, folder / f"other-{other.name}"), mapping))
            for name, own in other.arrays("weights").items():
                if made[name].tobytes() != own.tobytes() or made[name].shape != own.shape:
                    return f"{name} of {other.name} comes out otherwise"
    except RosettaError as error:
        return f"refused: {error}"
    return ""


def told(found: Diff) -> str:
    return "; ".join([*found.explanation, *(cause.sentence for cause in found.causes), *found.notes])


GROUPED = {"kind": "attention", "groups": 2, "heads": 4, "size": 2, "rope": False, "bias": True}
ROTARY = {**GROUPED, "size": 4, "rope": "halves"}
MLP = {"kind": "mlp", "units": 6}
EXPERTS = {"kind": "experts", "units": 6, "experts": 3}
STACK = {"kind": "stack", "layers": 3}
IMAGE = {"kind": "image", "channels": 2, "time": TIME}
GRU = {"kind": "recurrent", "of": "gru", "units": 3, "lengths": False}
LENGTHS = {**GRU, "lengths": True}
NORMED = {"kind": "weight_norm"}
OF_QKV, THREE, OF_PAIRS = "q+k+v", "q k v", "grouped gate+up"
# Mistakes by name: the frameworks and the cuts of both sides, the block, and what is otherwise in the right one: the
# mistake of its converter, by the name of the row or by its own, or how it computes.
MISTAKES: dict[str, tuple[str, str, Config, str, str, Config]] = {
    "grouped qkv split in blocks": (
        "torch", "keras", GROUPED, f"grouped {OF_QKV}", f"grouped {OF_QKV}", {"computed": {"cut": OF_QKV}}
    ),
    "qkv split in groups": ("torch", "paddle", GROUPED, OF_QKV, OF_QKV, {"computed": {"cut": f"grouped {OF_QKV}"}}),
    "key and value exchanged": ("torch", "keras", GROUPED, OF_QKV, THREE, {}),
    "key and value exchanged in compat": (
        "torch", "paddle", GROUPED, OF_QKV, THREE, {"mistake": "key and value exchanged"}
    ),
    "biases exchanged": ("paddle", "torch", GROUPED, THREE, OF_QKV, {}),
    "heads in another order": ("keras", "torch", GROUPED, "q k+v", f"grouped {OF_QKV}", {}),
    "queries with the keys of other groups": (
        "torch", "paddle", GROUPED, THREE, THREE, {"computed": {"heads order": True}}
    ),
    "RoPE in the other order": ("torch", "paddle", ROTARY, THREE, THREE, {"computed": {"rope": "interleaved"}}),
    "gate and up exchanged": ("torch", "paddle", MLP, "gate+up", "gate up", {}),
    "pairs of gate and up taken for halves": (
        "paddle", "keras", MLP, OF_PAIRS, OF_PAIRS, {"computed": {"cut": "gate+up"}}
    ),
    "experts exchanged": ("torch", "paddle", EXPERTS, "packed", "list", {}),
    "an expert transposed": ("torch", "paddle", EXPERTS, "packed", "list", {}),
    "router in another order": ("paddle", "torch", EXPERTS, "list", "turned", {}),
    "layers in another order": ("torch", "paddle", STACK, "list", "packed", {}),
    "biases in another order": ("keras", "paddle", STACK, "second", "list", {}),
    "flatten in the other order": ("torch", "paddle", IMAGE, "first", "first", {"computed": {"cut": "last"}}),
    "image transposed": ("paddle", "keras", IMAGE, "first", "last", {}),
    "directions exchanged": ("torch", "paddle", GRU, "both", "one each", {}),
    "gates in another order": ("paddle", "torch", GRU, "one each", "both", {}),
    "lengths passed over": ("torch", "paddle", LENGTHS, "both", "both", {"computed": {"lengths": False}}),
    "norm of the other axis": ("torch", "paddle", NORMED, "alone", "alone", {}),
    "gains in another order": ("torch", "paddle", NORMED, "alone", "alone", {}),
    # Those that are not in the block.
    "gain and shift exchanged": ("torch", "keras", MLP, "gate up", "gate up", {"computed": {}}),
    "a mean that is not taken off": ("torch", "keras", MLP, "gate up", "gate up", {"computed": {}}),
    "rows of padding shifted": ("paddle", "keras", MLP, "gate up", "gate+up", {"computed": {}}),
}  # fmt: skip
OWN_NORM = {"kind": "layernorm", "cut": "own"}
# What is otherwise outside of the block, on the left and on the right, and the layer that is named then.
OUTSIDE: dict[str, tuple[Config, Config, str]] = {
    "key and value exchanged in compat": ({}, {"compat": True}, "blocks.0"),
    "gain and shift exchanged": (
        {"norm": OWN_NORM},
        {"norm": {"kind": "layernorm", "cut": "framework", "mistake": "gain and shift exchanged"}},
        "norms.0",
    ),
    "a mean that is not taken off": (
        {"norm": OWN_NORM}, {"norm": {**OWN_NORM, "computed": {"kind": "rmsnorm"}}}, "norms.0"
    ),
    "rows of padding shifted": ({}, {"padding": 3, "shifted": True}, "embedding"),
}  # fmt: skip


def mistaken() -> dict[str, tuple[Pair, str]]:
    """The mistakes by name: the pair, and the layer that is named."""
    base: Config = {"words": WORDS, "width": 6, "dtype": "float64", "training": True, "seed": 5, "optimizer": SGD}
    base["norm"] = {"kind": "layernorm", "cut": "framework"}
    found = {}
    for number, (name, (left, right, block, one, other, wrong)) in enumerate(MISTAKES.items()):
        usual = f"model/{block['kind']}" if left == "keras" else "blocks.0"
        of_left, of_right, named = OUTSIDE.get(name, ({}, {}, usual))
        configs = (
            {**base, "blocks": [{**block, "cut": one}], **of_left},
            {**base, "blocks": [{**block, "cut": other, **(wrong or {"mistake": name})}], **of_right},
        )
        found[name] = Pair(f"mistake-{number}", (left, right), configs), named
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
