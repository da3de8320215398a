"""Aligns layers with several layers of the other side, by their order and by widths that add up."""

import re
from collections.abc import Sequence

from rosetta_diff.read.groups import WeightGroup

Groups = Sequence[WeightGroup]


def align(lefts: Groups, rights: Groups) -> list[tuple[Groups, Groups]]:
    """One layer and those several of the other side, which follow one another,
    that have its outputs in parts.

    All have a kernel, with the outputs on its last axis, and are in order of execution. Both sides
    are gone through in this order, up to the first layer that is neither like the other side's nor
    fits its parts.
    """
    runs: list[tuple[Groups, Groups]] = []
    while lefts and rights:
        if lefts[0].signature == rights[0].signature:
            left_number = right_number = 1
        else:
            left_number = _number_of_parts(rights[0], lefts)
            right_number = _number_of_parts(lefts[0], rights)
            if not left_number and not right_number:
                break
            left_number, right_number = left_number or 1, right_number or 1
            runs.append((lefts[:left_number], rights[:right_number]))
        lefts, rights = lefts[left_number:], rights[right_number:]
    return runs


def _number_of_parts(whole: WeightGroup, next_groups: Groups) -> int:
    """Number of the next layers, two or more of one family, that have this layer's outputs in
    parts; 0 where widths do not add up."""
    *inputs, outputs = whole.shapes["kernel"]
    total = 0
    for number, group in enumerate(next_groups, 1):
        *other_inputs, width = group.shapes["kernel"]
        total += width
        if other_inputs != inputs or total >= outputs:
            fits = number > 1 and (other_inputs, total) == (inputs, outputs)
            return number if fits and _are_family(next_groups[:number]) else 0
    return 0


def _are_family(parts: Groups) -> bool:
    """True for layers with one parent and the same numbers in their names,
    as parts of a layer have."""
    paths = [group.layer.path for group in parts]
    return len({(re.sub(r"[^./]*$", "", path), *re.findall(r"\d+", path)) for path in paths}) == 1
