"""Tells at which node of an exported graph two sides part."""

from collections.abc import Iterator

import numpy as np

from benchmarks.ladder.arrays import Array, largest
from benchmarks.ladder.judge.check import Check
from benchmarks.ladder.judge.items import Rungs
from benchmarks.ladder.read.record import Side, is_number
from common.text import some_of

LARGEST_SORTED = 1 << 22  # numbers of an array that is looked for


def in_graph(rungs: Rungs, check: Check) -> Iterator[str]:
    """Yield the node that is shown, and up to which layer of the original the graph has the same numbers."""
    if check.rung != "forward" or not rungs.right.known.folds_weights:
        return
    layer = check.item.pair.right.layer if check.item.pair else None
    if layer and "node" in layer.settings:
        told = {name: value for name, value in layer.settings.items() if name != "node" and value not in ("", [])}
        words = [f"{name} {f'{value:g}' if isinstance(value, float) else value}" for name, value in told.items()]
        of = f" with {some_of(words)}" if words else ""
        yield f"in the graph it is the node {layer.settings['node']}, {layer.classes[0]}{of}"
    yield from same_up_to(rungs)


def same_up_to(rungs: Rungs) -> Iterator[str]:
    """Yield the last layer of the original whose numbers a node gives, in any order of axes, and the next one."""
    values = [(part, array) for part, array in numbers_of(rungs.right)]
    calls = [(part, array) for part, array in numbers_of(rungs.left)]
    found = {}
    for place, (_, array) in enumerate(calls):
        bound = rungs.tolerances["outputs"] * largest(array)
        given = [node for node, value in values if value.size == array.size and np.abs(value - array).max() <= bound]
        found.update({place: given[0]} if given else {})
    last = max(found, default=-1)
    if 0 <= last < len(calls) - 1:
        layer, following = calls[last][0], calls[last + 1][0]
        yield f"the graph has the numbers of {layer}, by {found[last]}, and not those of {following}"


def numbers_of(side: Side) -> Iterator[tuple[str, Array]]:
    """Yield the numbers of each call's first output in ascending order, so that the order of axes does not count."""
    for call in side.says.calls:
        array = side.arrays("layers").mapped(call.parts[0]) if call.layer and call.parts else np.zeros(0)
        if is_number(array) and 1 < array.size <= LARGEST_SORTED:
            yield call.layer, np.sort(array, axis=None)
