"""Which group of one side is which of the other: by kind, order and shape, and by a mapping file where these fail."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import permutations
from pathlib import Path
from typing import Any

import msgspec

from benchmarks.compare.groups import GroupPair, Source, WeightGroup, groups_of
from benchmarks.compare.layouts import Own, Shape
from benchmarks.compare.record import Name, RecordedLayer, Side
from common.errors import CannotBeginError, RosettaError
from common.files import LARGEST_JSON, read_at_most, write_json


class Partner(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The other side's name of a weight, and the order of axes in which it has the left side's layout."""

    name: Name
    transpose: list[int] | None = None


class Mapping(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A mapping file. `unpaired` is what `--write-mapping` found no partner for; it is not read."""

    layers: dict[Name, Name] = {}  # left group or layer -> right one
    weights: dict[Name, Partner] = {}
    unpaired: dict[str, list[str]] = {}


@dataclass(frozen=True)
class Pairing:
    pairs: list[GroupPair]  # in the left side's order of execution
    left: list[WeightGroup]  # those without a partner
    right: list[WeightGroup]

    def require(self, left: Side, right: Side) -> "Pairing":
        """Return this pairing. Raises CannotBeginError where a group that is trained has no partner."""
        sides = [(left, [g for g in self.left if g.required]), (right, [g for g in self.right if g.required])]
        for (side, alone), (other_side, others) in permutations(sides):
            if alone:
                missing = alone[0]
                alike = [group for group in others if group.kind == missing.kind] or others
                candidates = ", ".join(described(group) for group in alike[:3]) or "nothing without a partner"
                raise CannotBeginError(
                    f"{described(missing)} of {side.name} has no partner; {other_side.name} has left {candidates}; "
                    "say in a mapping file which belong together: --write-mapping drafts it, --mapping reads it"
                )
        return self


def described(group: WeightGroup) -> str:
    """A group in words: its name, its kind and its shapes."""
    shapes = ", ".join(
        f"{name} {'×'.join(map(str, shape)) or 'of one number'}" for name, shape in group.shapes.items()
    )
    return f"{group.name} ({group.kind}{': ' + shapes if shapes else ''})"


def paired(left: Side, right: Side, mapping: Mapping | None = None) -> Pairing:
    """Pair the groups of two records. Raises CannotBeginError for a mapping that names what is not there."""
    mapping = mapping or Mapping()
    lefts, rights = groups_of(left), groups_of(right)
    order = {group.name: place for place, group in enumerate(lefts)}
    pairs = []
    for name, partner in mapping.weights.items():
        one, lefts = _taken_out(lefts, name, left, None)
        other, rights = _taken_out(rights, partner.name, right, partner.transpose)
        pairs.append(GroupPair(one, other))
        order.setdefault(one.name, order.get(one.layer.path, len(order)))
    for name, other_name in mapping.layers.items():
        ones, others = _named(lefts, name, left), _named(rights, other_name, right)
        if len(ones) != len(others):
            raise CannotBeginError(
                f"the mapping has {name} for {other_name}, which are {len(ones)} and {len(others)} groups of "
                f"weights; name them one by one: {', '.join(g.name for g in (*ones, *others))}"
            )
        pairs += [GroupPair(one, other) for one, other in zip(ones, others, strict=True)]
        lefts = [group for group in lefts if group not in ones]
        rights = [group for group in rights if group not in others]
    for kind in dict.fromkeys(group.kind for group in lefts):
        pairs += _by_order([g for g in lefts if g.kind == kind], [g for g in rights if g.kind == kind])
    taken = {id(group) for pair in pairs for group in pair.both}
    lefts, rights = ([group for group in groups if id(group) not in taken] for groups in (lefts, rights))
    return Pairing(sorted(pairs, key=lambda pair: order[pair.name]), lefts, rights)


def _by_order(lefts: Sequence[WeightGroup], rights: Sequence[WeightGroup]) -> list[GroupPair]:
    """Pairs of groups of one kind in order, if their shapes agree throughout; otherwise of those of each shape whose
    number is the same on both sides. Tied weights without a partner are left out first."""
    for ones in (lefts, [group for group in lefts if group.required]):
        for others in (rights, [group for group in rights if group.required]):
            if [group.signature for group in ones] == [group.signature for group in others]:
                return [GroupPair(one, other) for one, other in zip(ones, others, strict=True)]
    by_shape: dict[tuple[Shape, ...], tuple[list[WeightGroup], list[WeightGroup]]] = {}
    for side, groups in enumerate((lefts, rights)):
        for group in groups:
            by_shape.setdefault(group.signature, ([], []))[side].append(group)
    return [
        GroupPair(one, other)
        for ones, others in by_shape.values()
        if len(ones) == len(others)
        for one, other in zip(ones, others, strict=True)
    ]


def _named(groups: Sequence[WeightGroup], name: str, side: Side) -> list[WeightGroup]:
    """The groups of a layer, or the one group of this name."""
    found = [group for group in groups if name in (group.name, group.layer.path)]
    if not found:
        raise CannotBeginError(
            f"the mapping names {name}, which {side.name} does not have, or only once; it has "
            f"{', '.join(group.name for group in groups[:20]) or 'nothing more'}"
        )
    return found


def _taken_out(
    groups: list[WeightGroup], name: str, side: Side, transpose: list[int] | None
) -> tuple[WeightGroup, list[WeightGroup]]:
    """A weight as a group of its own, and the other groups without it."""
    if name not in side.arrays("weights"):
        raise CannotBeginError(
            f"the mapping names the weight {name}, which {side.name} does not have; it has "
            f"{', '.join(list(side.arrays('weights'))[:20])}"
        )
    shape: Shape = side.shape(name)
    axes = tuple(transpose) if transpose else tuple(range(len(shape)))
    if sorted(axes) != list(range(len(shape))):
        raise CannotBeginError(f"the mapping transposes {name} by {list(axes)}, and it has {len(shape)} axes")
    source = Source(name, Own(name, axes=axes, least=0), shape)
    rest = []
    for group in groups:
        kept = {n: sources for n, sources in group.tensors.items() if all(s.name != name for s in sources)}
        if len(kept) < len(group.tensors):
            group = replace(group, tensors=kept)
        rest.append(group)
    return WeightGroup(side, "parameters", RecordedLayer(name, []), "", {"weight": (source,)}), rest


def read_mapping(path: Path) -> Mapping:
    """Raises CannotBeginError for a file that holds no mapping."""
    try:
        return msgspec.json.decode(read_at_most(LARGEST_JSON, path), type=Mapping)
    except (OSError, RosettaError, msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        why: Any = error.strerror if isinstance(error, OSError) else error
        raise CannotBeginError(f"{path} holds no mapping: {why}; --write-mapping drafts one") from error


def write_mapping(path: Path, pairing: Pairing) -> None:
    """Write a mapping file of what was paired, and of what was not, for a person to fill in."""
    if path.exists():
        raise CannotBeginError(f"{path} exists; give --write-mapping the name of a new file")
    unpaired = {
        side: [described(group) for group in groups if group.tensors]
        for side, groups in (("left", pairing.left), ("right", pairing.right))
    }
    layers = {pair.left.name: pair.right.name for pair in pairing.pairs if pair.left.tensors}
    write_json(path, {"layers": layers, "weights": {}, "unpaired": unpaired})
