"""Writes a mapping file of what was paired, and of what holds the same numbers in different places."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from benchmarks.compare.by_value import found_by_value
from benchmarks.compare.groups import Arranged, Canonical, GroupPair
from benchmarks.compare.layouts import ARRANGED
from benchmarks.compare.mapping import line_of, quoted
from benchmarks.compare.pairing import Pairing, described, in_precision, of_entry
from common.errors import CannotBeginError
from common.files import write_atomically


def line_of_pair(pair: GroupPair) -> str:
    """The line of a mapping file that pairs these weights."""
    (tensor,) = pair.left.tensors.values()
    assert isinstance(tensor, Arranged)
    return line_of(tensor.entry)


def rearranged(pair: GroupPair) -> Iterator[GroupPair]:
    """Pairs of those weights of two layers of one kind that hold the same numbers in different places, by value. Such
    weights belong together only if the layers compute accordingly, which a mapping says and nothing else can tell."""
    left, right = (group.side for group in pair.both)
    for name, one in pair.left.tensors.items():
        other = pair.right.tensors.get(name)
        if not isinstance(one, Canonical) or not isinstance(other, Canonical):
            continue
        sources = *one.sources, *other.sources
        if len(sources) != 2 or any(source.own.gates or source.own.part != (0, 1) for source in sources):
            continue
        arrays = [
            in_precision(side.arrays("weights")[source.name], (left, right))
            for side, source in zip((left, right), sources, strict=True)
        ]
        canonical = [source.canonical(array) for source, array in zip(sources, arrays, strict=True)]
        ends = {(array.size, float(array.min()), float(array.max())) for array in arrays if array.size}
        if len(ends) == 1 and not np.array_equal(canonical[0], canonical[1]):
            for entry in found_by_value({sources[0].name: arrays[0]}, {sources[1].name: arrays[1]}):
                within = any(len(group) > 1 for half in (entry.left, entry.right) for group in half.axes)
                if within or entry.order:  # a transposed kernel is a mistake where both frameworks know the layer
                    yield of_entry(entry, left, right)


def write_mapping(path: Path, pairing: Pairing) -> None:
    """Write a mapping file of what was paired and how, and of what was not, for a person to fill in."""
    if path.exists():
        raise CannotBeginError(f"{path} exists; give --write-mapping the name of a new file")
    layers, weights = [], []
    for pair in pairing.pairs:
        if pair.left.kind == ARRANGED:
            weights.append(f"{line_of_pair(pair)}  # by {pair.found}")
            continue
        others = list(rearranged(pair))
        weights += [f"{line_of_pair(other)}  # by {other.found}" for other in others]
        if len(pair.left.tensors) > len(others):
            layers.append(f"{quoted(pair.left.name)} = {quoted(pair.right.name)}  # by {pair.found}")
    alone = [
        f"# without a partner on the {side}: {described(group)}"
        for side, groups in (("left", pairing.left), ("right", pairing.right))
        for group in groups
        if group.tensors
    ]
    skip = [f"{quoted(name)} = {quoted(reason)}" for name, reason in pairing.skipped.items()]
    made = ["[layers]", *layers, "", "[weights]", *weights, *alone, "", "[skip]", *skip, ""]
    write_atomically(path, "\n".join(made).encode())
