"""Ports with several mistakes planted at once, each of which a replay is to name in one run.

`python -m porting_tests.support.replays [NAME...]` records all ten ports,
or these, and prints what is named and what is not.
"""

import re
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from porting_tests.support.mistakes import MISTAKES, block_of
from porting_tests.support.pairs import Pair, pair_of, record_pairs, told
from porting_tests.support.side import FRAMEWORKS, Side, record
from porting_tests.support.zoo import Config
from rosetta_diff.alone import LOSS, STEP
from rosetta_diff.diff import Diff, compare_records
from rosetta_diff.feed import write_feed
from rosetta_diff.helpers import DiffError
from rosetta_diff.judge.items import Stages
from rosetta_diff.pair.drafts import write_mapping
from rosetta_diff.pair.mapping import MappingFile, read_mapping
from rosetta_diff.pair.pairing import pair_sides
from rosetta_diff.read.side import Side as Recorded

# The frameworks, and what is planted of porting_tests.support.mistakes, each in a block of its own.
PORTS: dict[str, tuple[str, str, list[str]]] = {
    "decoder": ("torch", "paddle", ["RoPE's base", "gate and up computed the other way",
        "LayerNorm's epsilon"]),
    "decoder to keras": ("paddle", "keras", ["queries with the keys of other groups",
        "gate and up exchanged",
        "post-norm", "label smoothing", "Nesterov's momentum"]),
    "encoder": ("torch", "paddle", ["key and value exchanged", "GELU's approximation",
        "a mean that is not taken off"]),
    "tagger": ("paddle", "torch", ["gate order", "variance divided by n - 1",
        "transposed square kernel", "time axis",
        "Adam's counter"]),
    "tagger from keras": ("keras", "torch", ["second bias", "transposed square kernel",
        "gain and shift exchanged",
        "labels shifted"]),
    "translator": ("torch", "keras", ["initial state", "mask inverted", "gains in another order"]),
    "image": ("torch", "keras", ["activation", "post-norm", "image transposed",
        "clipped each to a norm"]),
    "image from keras": ("keras", "paddle", ["epsilon out of the root",
        "gate and up computed the other way",
        "padding 'same' with a stride", "flatten in the other order"]),
    "halves": ("paddle", "torch", ["pairs of gate and up taken for halves", "RoPE's kind",
        "sum for a mean"]),
    "directions": ("keras", "torch", ["scale forgotten", "directions exchanged",
        "clipping forgotten"]),
}  # fmt: skip


def port(name: str) -> tuple[Pair, list[str]]:
    """The pair of a port, and a pattern of the places of each of its mistakes."""
    left, right, names = PORTS[name]
    blocks, wrong = list[Config](), list[Config]()
    model, instead = dict[str, Any](), dict[str, Any]()
    patterns = []
    for mistake in map(MISTAKES.__getitem__, names):
        model, instead = {**model, **mistake.model}, {**instead, **mistake.instead}
        if mistake.block:
            block, otherwise = mistake.sides(0)
            blocks.append(block)
            wrong.append(otherwise)
        found = {"loss": LOSS, "step": STEP}.get(mistake.stage) or block_of(
            right, blocks, len(blocks) - 1
        )
        patterns.append(rf"{found}\b")
    pair = pair_of(left, right, *blocks, wrong=wrong, instead=instead, **model)
    return replace(pair, name=name.replace(" ", "-")), patterns


def places(diff: Diff) -> list[str]:
    """The places that a replay names."""
    return [f"{one.layer} {one.words}" for one in diff.replay.wrong] if diff.replay else []


def missed_and_others(diff: Diff, patterns: list[str]) -> tuple[list[str], list[str]]:
    """The patterns of which a replay names no place,
    and the places that it names and that are of no pattern."""
    found = places(diff)
    missed = [
        pattern for pattern in patterns if not any(re.match(pattern, place) for place in found)
    ]
    return missed, [
        place for place in found if not any(re.match(pattern, place) for pattern in patterns)
    ]


def replayed(
    pairs: list[Pair], started: Mapping[str, Side], folder: Path, mapped: bool = False
) -> list[Diff]:
    """Results of pairs whose right sides are recorded with a replay,
    perhaps with the mapping that is written."""
    both = record_pairs(pairs, started, folder, 1)
    mappings = list[MappingFile | None]()
    answers = []
    for pair, (left, right) in zip(pairs, both, strict=True):
        written = right.path.with_suffix(".toml")
        write_mapping(written, pair_sides(left, right))
        mappings.append(read_mapping(written) if mapped else None)
        feed = right.path.with_suffix(".feed")
        write_feed(feed, Stages(left, right, pair_sides(left, right, mappings[-1])))
        asked = {
            "config": pair.configs[1],
            "batches": folder / f"{pair.configs[0]['seed']}.safetensors",
            "steps": 1,
        }
        answers.append(
            started[pair.frameworks[1]].start(record, folder=right.path, feed=feed, **asked)
        )
    for pair, answer in zip(pairs, answers, strict=True):
        assert answer.result(), f"{pair}: the model was not put back"
    sides = [(left, Recorded(right.path)) for left, right in both]
    return [compare_records(*of, mapping) for of, mapping in zip(sides, mappings, strict=True)]


def main() -> None:
    names, folder = sys.argv[1:], Path(tempfile.mkdtemp(prefix="porting-replays-"))
    started = {name: Side(name) for name in FRAMEWORKS}
    total = count = false = 0
    for name in names or PORTS:
        pair, patterns = port(name)
        try:
            (diff,) = replayed([pair], started, folder)
        except (RuntimeError, DiffError) as error:
            print(name, error, sep="\n")
            continue
        missed, others = missed_and_others(diff, patterns)
        total, count = total + len(patterns), count + len(patterns) - len(missed)
        false += len(others)
        print(f"{name}: missed {missed}, besides {others}", told(diff), "", sep="\n")
    print(f"{count} of {total} mistakes are named in one run; {folder} has the records")
    sys.exit(count < total or false > 0)


if __name__ == "__main__":
    main()
