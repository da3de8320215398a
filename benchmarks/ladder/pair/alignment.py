"""Aligns layers with several layers of the other side, by their order and by widths that add up.

Both sides are gone through in the order in which their layers ran. The alignment is a shortest path over the places
in both, on which a layer without a counterpart costs most, and parts that seem not to belong together cost a little.
"""

import re
from collections.abc import Iterator, Sequence
from heapq import heappop, heappush
from itertools import islice

from benchmarks.ladder.read.groups import WeightGroup

MOST_ALONE = 64  # layers without a counterpart, above which two sides are not aligned
Groups = Sequence[WeightGroup]
Place = tuple[int, int]  # how many layers of the left and of the right side are behind
Cost = tuple[int, int]  # how many layers are left alone, and in how many places parts are no family


def aligned(lefts: Groups, rights: Groups) -> list[tuple[Groups, Groups]]:
    """One layer and those several of the other side, which follow one another, that have its outputs in parts.

    All have a kernel, with the outputs on its last axis, and are in order of execution.
    """
    begin, end = (0, 0), (len(lefts), len(rights))
    best: dict[Place, Cost] = {begin: (0, 0)}
    came_from: dict[Place, Place] = {}
    reached: list[tuple[Cost, Place]] = [((0, 0), begin)]
    while reached:
        cost, place = heappop(reached)
        if place == end or cost[0] > MOST_ALONE:
            break
        for step, (alone, odd) in _steps(lefts, rights, place) if cost == best[place] else ():
            there, more = (place[0] + step[0], place[1] + step[1]), (cost[0] + alone, cost[1] + odd)
            if there not in best or more < best[there]:
                best[there], came_from[there] = more, place
                heappush(reached, (more, there))
    runs, place = [], end
    while place in came_from:
        before = came_from[place]
        left, right = lefts[before[0] : place[0]], rights[before[1] : place[1]]
        if left and right and len(left) != len(right):
            runs.append((left, right))
        place = before
    return runs[::-1]


def _steps(lefts: Groups, rights: Groups, place: Place) -> Iterator[tuple[Place, Cost]]:
    """Steps from a place: numbers of layers of each side, and their costs."""
    i, j = place
    if i < len(lefts):
        yield (1, 0), (1, 0)
    if j < len(rights):
        yield (0, 1), (1, 0)
    if i == len(lefts) or j == len(rights):
        return
    if lefts[i].signature == rights[j].signature:
        yield (1, 1), (0, 0)
    if number := _number_of_parts(lefts[i], islice(rights, j, None)):
        yield (1, number), (0, _odd(rights[j : j + number]))
    if number := _number_of_parts(rights[j], islice(lefts, i, None)):
        yield (number, 1), (0, _odd(lefts[i : i + number]))


def _number_of_parts(whole: WeightGroup, next_groups: Iterator[WeightGroup]) -> int:
    """Number of the next layers, two or more, that have this layer's outputs in parts; 0 where widths do not add
    up."""
    *inputs, outputs = whole.shapes["kernel"]
    total = 0
    for number, group in enumerate(next_groups, 1):
        *other_inputs, width = group.shapes["kernel"]
        total += width
        if other_inputs != inputs or total >= outputs:
            return number if number > 1 and (other_inputs, total) == (inputs, outputs) else 0
    return 0


def _odd(parts: Groups) -> int:
    """1 for layers with several parents or several numbers in their names, which parts of a layer have not."""
    paths = [group.layer.path for group in parts]
    families = {(re.sub(r"[^./]*$", "", path), *re.findall(r"\d+", path)) for path in paths}
    return int(len(families) > 1)
