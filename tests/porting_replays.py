"""Ports with several mistakes planted at once, each of which a replay is to name in one run.

`python -m tests.porting_replays [NAME...]` records all ten ports, or these, and prints what is named and what is not.
`python -m tests.porting_replays NUMBER` records so many random correct pairs and prints what is taken for wrong.
"""

import re
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.compare.diff import Diff, compare_records
from benchmarks.compare.drafts import write_mapping
from benchmarks.compare.feed import Feeding, write_feed
from benchmarks.compare.mapping import MappingFile, read_mapping
from benchmarks.compare.pairing import paired
from benchmarks.compare.record import Side as Recorded
from benchmarks.compare.rungs import Rungs
from common.errors import RosettaError
from tests.porting_pairs import (
    ADAM,
    BATCHNORM,
    CLIPPED,
    DENSE,
    EXPERTS,
    GELU,
    GROUPED,
    GRU,
    IMAGE,
    LSTM,
    MASKED,
    MLP,
    NORM,
    NORMED,
    OF_PAIRS,
    OF_QKV,
    ONE_WAY,
    OWN_NORM,
    ROTARY,
    SGD,
    STACK,
    THREE,
    Pair,
    computed,
    pair_of,
    random_pair,
    recorded,
    told,
)
from tests.porting_side import FRAMEWORKS, Side, record
from tests.porting_zoo import Config

THREE_ROTARY, LISTED = {**ROTARY, "cut": THREE}, {**STACK, "cut": "list"}
GATED = {**MLP, "cut": "gate up"}
LIST, CONV = {**EXPERTS, "cut": "list"}, {"kind": "conv"}

# The frameworks, the blocks, and for each mistake the block's number, or "norm" or "model", what is otherwise there,
# and the places that are wrong of it: patterns of the right side's layers.
Mistakes = list[tuple[int | str, Config, str]]
PORTS: dict[str, tuple[str, str, list[Config], dict[str, Any], Mistakes]] = {
    "decoder": ("torch", "paddle", [THREE_ROTARY, GATED], {"norm": NORM}, [
        (0, computed(base=7.0), "blocks.0.out is given"),
        (1, computed(gate="up"), "blocks.1.down is given"),
        ("norm", computed(epsilon=1e-3), "norms.[01].inner gives"),
    ]),
    "decoder to keras": ("paddle", "keras", [{**GROUPED, "cut": OF_QKV}, GATED, DENSE], {"norm": NORM}, [
        (0, {**computed(**{"heads order": True}), "cut": THREE}, "model/attention/.* is given"),
        (1, {"mistake": "gate and up exchanged"}, "model/mlp/dense.* is given"),
        (2, {"mistake": "transposed square kernel"}, "model/dense_7/dense_8 gives"),
        ("model", {"smoothing": 0.1}, "the loss"),
        ("model", {"optimizer": {**SGD, "rate": 0.2}}, "the optimizer's step"),
    ]),
    "encoder": ("torch", "paddle", [{**GROUPED, "cut": OF_QKV}, GELU, LISTED], {"norm": OWN_NORM}, [
        (0, {"cut": THREE, "mistake": "key and value exchanged"}, "blocks.0.q . blocks.0.[kv] . blocks.0.[kv] gives"),
        (1, computed(by_tanh=True), "blocks.1 gives|blocks.1.activation gives"),
        (2, {"mistake": "biases in another order"}, "blocks.2.layers_.[012] gives"),
        ("norm", computed(kind="rmsnorm"), "norms.[012] gives"),
    ]),
    "tagger": ("paddle", "torch", [LSTM, NORM, DENSE, ONE_WAY], {"optimizer": ADAM}, [
        (0, {"mistake": "gate order"}, "blocks.0.inner gives"),
        (1, computed(epsilon=1e-3), "blocks.1.inner gives"),
        (2, {"mistake": "transposed square kernel"}, "blocks.2.inner gives"),
        (3, computed(time_first=True), "blocks.3.inner gives"),
        ("model", {"optimizer": {**ADAM, "uncorrected": True}}, "the optimizer's step"),
    ]),
    "tagger from keras": ("keras", "torch", [{**LSTM, "one_bias": True}, DENSE, {**GRU, "cut": "both"}], {}, [
        (0, {"mistake": "gate order"}, "blocks.0.inner gives"),
        (1, {"mistake": "transposed square kernel"}, "blocks.1.inner gives"),
        (2, {"mistake": "directions exchanged"}, "blocks.2.inner gives"),
        ("model", {"smoothing": 0.1}, "the loss"),
    ]),
    "translator": ("torch", "keras", [ONE_WAY, MASKED, {**NORMED, "cut": "alone"}], {}, [
        (0, computed(initial=0.5), "model/recurrent/gru gives"),
        (1, computed(mask="words"), "model/attention/multi_head_attention gives"),
        (2, {"mistake": "gains in another order"}, "model/weight_normed/.* gives"),
    ]),
    "image": ("torch", "keras", [CONV, GELU, {**IMAGE, "cut": "first"}], {"norm": NORM, "optimizer": CLIPPED}, [
        (1, computed(by_tanh=True), "model/dense gives"),
        (2, {"mistake": "image transposed"}, "model/image/conv2d gives"),
        (2, computed(cut="last"), "model/image/dense.* is given"),
        ("model", {"optimizer": {**CLIPPED, "norm": "each"}}, "the optimizer's step"),
    ]),
    "image from keras": ("keras", "paddle", [BATCHNORM, GATED, {**IMAGE, "cut": "last"}], {"norm": NORM}, [
        (0, {"mistake": "biases in another order"}, "blocks.0.inner gives"),
        (1, computed(gate="up"), "blocks.1.down is given"),
        (2, computed(cut="first"), "blocks.2.dense is given"),
        ("norm", computed(epsilon=1e-3), "norms.[012].inner gives"),
    ]),
    "experts": ("paddle", "torch", [LIST, {**MLP, "cut": OF_PAIRS}, THREE_ROTARY], {"norm": NORM}, [
        (0, {"mistake": "experts exchanged"}, "blocks.0 gives"),
        (1, computed(cut="gate+up"), "blocks.1.down is given"),
        (2, computed(rope="interleaved"), "blocks.2.out is given"),
        ("norm", computed(epsilon=1e-3), "norms.[012].inner gives"),
        ("model", {"smoothing": 0.1}, "the loss"),
    ]),
    "stack": ("keras", "torch", [{**STACK, "cut": "packed"}, {**GROUPED, "cut": THREE}, CONV], {"norm": OWN_NORM}, [
        (0, {"mistake": "layers in another order"}, "blocks.0 gives"),
        (1, {**computed(**{"heads order": True})}, "blocks.1.out is given"),
        ("norm", {"mistake": "gain and shift exchanged"}, "norms.[012] gives"),
    ]),
}  # fmt: skip


def port(name: str) -> tuple[Pair, list[str]]:
    """The pair of a port, and a pattern of the places of each of its mistakes."""
    left, right, blocks, more, mistakes = PORTS[name]
    wrong: list[Config] = [{} for _ in blocks]
    instead: Config = {}
    for where, change, _ in mistakes:
        if isinstance(where, int):
            own = wrong[where].get("computed", {}) | change.get("computed", {})
            wrong[where] |= change | ({"computed": own} if own else {})
        else:
            instead |= {"norm": {**more["norm"], **change}} if where == "norm" else change
    pair = pair_of(left, right, *blocks, wrong=wrong, instead=instead, **more)
    return Pair(name.replace(" ", "-"), pair.frameworks, pair.configs), [pattern for *_, pattern in mistakes]


def places(diff: Diff) -> list[str]:
    """The places that a replay names."""
    return [f"{one.layer} {one.what}" for one in diff.replay.wrong] if diff.replay else []


def missed(found: list[str], patterns: list[str]) -> list[str]:
    """The patterns of which no place is named."""
    return [pattern for pattern in patterns if not any(re.match(pattern, place) for place in found)]


def others(found: list[str], patterns: list[str]) -> list[str]:
    """The places that are of no mistake."""
    return [place for place in found if not any(re.match(pattern, place) for pattern in patterns)]


def replayed(pairs: list[Pair], started: Mapping[str, Side], folder: Path, mapped: bool = False) -> list[Diff]:
    """What comes of pairs whose right sides are recorded with a replay, perhaps with the mapping that is written."""
    both, mappings = recorded(pairs, started, folder, 1), list[MappingFile | None]()
    for pair, (left, right) in zip(pairs, both, strict=True):
        written = right.path.with_suffix(".toml")
        write_mapping(written, paired(left, right))
        mappings.append(read_mapping(written) if mapped else None)
        feed = right.path.with_suffix(".feed")
        write_feed(feed, Feeding(Rungs(left, right, paired(left, right, mappings[-1]))))
        asked = {"config": pair.configs[1], "batches": folder / f"{pair.configs[0]['seed']}.safetensors", "steps": 1}
        started[pair.frameworks[1]].start(record, folder=right.path, feed=feed, **asked)
    for pair in pairs:
        assert started[pair.frameworks[1]].wait(), f"{pair}: the model was not put back"
    sides = [(left, Recorded(right.path)) for left, right in both]
    return [compare_records(*of, mapping) for of, mapping in zip(sides, mappings, strict=True)]


def main() -> None:
    names, folder = sys.argv[1:], Path(tempfile.mkdtemp(prefix="porting-replays-"))
    started = {name: Side(name) for name in FRAMEWORKS}
    if names and names[0].isdigit():
        rng = np.random.default_rng(int((names[1:] or ["0"])[0]))
        pairs = [random_pair(rng, number) for number in range(int(names[0]))]
        wrong = 0
        for pair, diff in zip(pairs, replayed(pairs, started, folder, mapped=True), strict=True):
            if places(diff) or not diff.replay or not diff.replay.seen:
                wrong += 1
                print(pair, told(diff), sep="\n")
            elif diff.replay.not_judged:
                print(pair, *[line for line in diff.replay.lines() if "judged" in line], sep="\n")
        print(f"{wrong} of {len(pairs)} correct pairs are taken for wrong; {folder} has their records")
        return
    total = count = 0
    for name in names or PORTS:
        pair, patterns = port(name)
        try:
            (diff,) = replayed([pair], started, folder)
        except (RuntimeError, RosettaError) as error:
            print(name, error, sep="\n")
            continue
        found = places(diff)
        total, count = total + len(patterns), count + len(patterns) - len(missed(found, patterns))
        print(
            f"{name}: missed {missed(found, patterns)}, besides {others(found, patterns)}", told(diff), "", sep="\n"
        )
    print(f"{count} of {total} mistakes are named in one run; {folder} has the records")


if __name__ == "__main__":
    main()
