"""Layers that are several on the other side are told by order and widths, in every block of a model."""

from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import pytest

from benchmarks.compare.alignment import MOST_ALONE, aligned

FUSED = {"qkv": 48, "out": 16, "gate_up": 32}
APART = {"q": 16, "k": 16, "v": 16, "o": 16, "gate": 16, "up": 16}
WANTED = [("qkv", ["q", "k", "v"]), ("gate_up", ["gate", "up"])]


def layers(widths: dict[str, int], blocks: int, names: str) -> list[Any]:
    """Layers of so many blocks, of 16 inputs each."""
    found = []
    for block in range(blocks):
        for name, width in widths.items():
            path = names.format(block=block, name=name, count=len(found))
            shapes = {"kernel": (16, width)}
            found.append(
                SimpleNamespace(
                    layer=SimpleNamespace(path=path), shapes=shapes, signature=(16, width), name=name, block=block
                )
            )
    return found


def told(found: Sequence[tuple[Sequence[Any], Sequence[Any]]]) -> list[Any]:
    return [
        ([(one.name, one.block) for one in left], [(one.name, one.block) for one in right]) for left, right in found
    ]


@pytest.mark.parametrize("names", ["blocks.{block}.{name}", "{name}_{block}", "model/dense_{count}"])
def test_parts_are_those_of_their_own_block_however_layers_are_called(names: str) -> None:
    left, right = layers(FUSED, 3, names), layers(APART, 3, names)
    wanted = [([(whole, block)], [(part, block) for part in parts]) for block in range(3) for whole, parts in WANTED]
    assert told(aligned(left, right)) == wanted
    assert told(aligned(right, left)) == [(parts, whole) for whole, parts in wanted]


def test_where_order_leaves_several_alignments_parts_are_of_one_parent() -> None:
    left, right = layers({"qkv": 48}, 1, "{name}"), layers({"first": 16}, 1, "{name}")
    right += layers({"q": 16, "k": 16, "v": 16}, 1, "attention.{name}")
    assert told(aligned(left, right)) == [([("qkv", 0)], [("q", 0), ("k", 0), ("v", 0)])]


def test_sides_of_which_too_much_has_no_counterpart_are_not_aligned() -> None:
    left = layers({"other": 7}, MOST_ALONE + 1, "{name}_{block}") + layers(FUSED, 1, "{name}")
    assert aligned(left, layers(APART, 1, "{name}")) == []
