"""Tells at which node of an exported graph two sides part."""

from collections.abc import Iterator

import numpy as np

from benchmarks.ladder.arrays import Array, largest_unmasked
from benchmarks.ladder.judge.check import Check
from benchmarks.ladder.judge.items import Rungs
from benchmarks.ladder.read.record import Side, is_number
from common.text import some_of

LARGEST_SORTED = 1 << 22  # numbers of an array that is looked for
TOLD_BY = 64  # numbers that tell it from others


def in_graph(rungs: Rungs, check: Check) -> Iterator[str]:
    """Yield the node that is shown, and up to which layer of the original the graph has the same numbers."""
    if check.rung != "forward" or not rungs.right.known.folds_weights:
        return
    layer = check.item.pair.right.layer if check.item.pair else None
    if layer and "node" in layer.settings:
        told = {name: value for name, value in layer.settings.items() if name != "node" and value not in ("", [])}
        words = [
            f"{name} {f'{value:g}' if isinstance(value, float) else value}" for name, value in sorted(told.items())
        ]
        of = f" with {some_of(words)}" if words else ""
        yield f"in the graph it is the node {layer.settings['node']}, {layer.classes[0]}{of}"
    yield from same_up_to(rungs)


def same_up_to(rungs: Rungs) -> Iterator[str]:
    """Yield the last layer of the original whose numbers a node gives, in any order of axes, and the next one."""
    nodes, layers = [*numbers_of(rungs.right)], [*numbers_of(rungs.left)]
    found = {}
    for place, (_, size, numbers) in enumerate(layers):
        bound = rungs.tolerances["outputs"] * largest_unmasked(numbers)
        given = (node for node, other, of in nodes if other == size and np.abs(of - numbers).max() <= bound)
        found[place] = next(given, None)
    last = max((place for place, node in found.items() if node is not None), default=-1)
    if 0 <= last < len(layers) - 1:
        layer, following = layers[last][0], layers[last + 1][0]
        yield f"the graph has the numbers of {layer}, by {found[last]}, and not those of {following}"


def numbers_of(side: Side) -> Iterator[tuple[str, int, Array]]:
    """Yield of each call the layer, how many numbers its first output has, and some of them, evenly chosen in
    ascending order, so that the order of axes does not count."""
    for call in side.says.calls:
        array = side.arrays("layers").mapped(call.parts[0]) if call.layer and call.parts else np.zeros(0)
        if is_number(array) and 1 < array.size <= LARGEST_SORTED:
            places = np.linspace(0, array.size - 1, TOLD_BY).astype(np.int64)
            yield call.layer, array.size, np.sort(array, axis=None)[places].astype(np.float64)
