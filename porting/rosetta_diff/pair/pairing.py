"""Pairs weights and layers of two records.

A mapping file comes first; then layers of one kind, by shape, name and order; then weights of which
both sides hold the same numbers, in whatever arrangement; then those whose shapes add up, in order;
then layers that contain the same pairs. What comes of a mapping, of numbers or of shapes that add
up is paired by a line of a mapping; layers whose kinds are known by the rules of their frameworks.
Other layers without weights are paired by a mapping alone: the next layer is given what they
compute.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import permutations

from rosetta_diff.helpers import CannotBeginError, as_toml
from rosetta_diff.pair.mapping import MappingFile, Turn, read_lines, read_turns
from rosetta_diff.pair.pairs import LayerPair, TensorPair
from rosetta_diff.pair.parents import add_parents
from rosetta_diff.pair.skipping import Skips
from rosetta_diff.pair.ways import (
    OWN,
    WAYS,
    Groups,
    Sides,
    Way,
    drop_paired,
    owners_of,
    pair_by_names,
)
from rosetta_diff.read.groups import WeightGroup, groups_of
from rosetta_diff.read.side import Side


@dataclass(frozen=True)
class Pairing:
    sides: Sides
    pairs: list[LayerPair]  # in the left side's order of execution
    left: list[WeightGroup]  # those without a partner
    right: list[WeightGroup]
    skips: Skips = field(default_factory=Skips)
    # Weights that are left out with those that a mapping names.
    left_out: list[str] = field(default_factory=list)
    # Of arrays and layers whose axes a mapping turns.
    turns: dict[str, Turn] = field(default_factory=dict)

    def require(self) -> "Pairing":
        """Return this pairing. Raises CannotBeginError where a group that is trained has no
        partner, unless a side's weights may be made of several."""
        if any(side.framework.folds_weights for side in self.sides):
            return self
        alone = [
            [group for group in groups if group.required] for groups in (self.left, self.right)
        ]
        for place, opposite in permutations(range(2)):
            if alone[place]:
                unpaired = alone[opposite]
                # What resembles nothing says less.
                kinds = {group.kind for group in unpaired} - {*OWN}
                missing = next(
                    (group for group in alone[place] if group.kind in kinds), alone[place][0]
                )
                alike = [group for group in unpaired if group.kind == missing.kind] or unpaired
                candidates = ", ".join(describe(group) for group in alike[:3])
                left_over = f"has left {candidates}" if candidates else self._around(missing, place)
                skip = f'[skip] {as_toml(missing.name)} = "why it is not compared"'
                raise CannotBeginError(
                    f"{describe(missing)} of {self.sides[place].name} has no partner; "
                    f"{self.sides[opposite].name} {left_over}; say in a file for --mapping which "
                    "belong together (rosetta-diff --write-mapping drafts it), or that it has "
                    f"none: {skip}"
                )
        return self

    def _around(self, missing: WeightGroup, place: int) -> str:
        """The opposite side's layers next to where the partner of a group would stand, in words.
        `place` is the group's side."""
        order = {group.name: number for number, group in enumerate(groups_of(self.sides[place]))}
        here = order[missing.name]
        placed = {order.get(pair.both[place].name): pair for pair in self.pairs}
        numbers = [number for number in placed if number is not None]
        before, after = ([n for n in numbers if n < here], [n for n in numbers if n > here])
        nearest = [placed[number] for number in (*sorted(before)[-1:], *sorted(after)[:1])]
        if not nearest:
            return "has no layer with a partner"
        words = [
            f"{describe(pair.both[1 - place])} with {pair.both[place].name}" for pair in nearest
        ]
        return f"has a partner for each of its own; nearest stand {', and '.join(words)}"


def describe(group: WeightGroup) -> str:
    """A group in words: its name, its kind and its shapes."""
    shapes = ", ".join(
        f"{name} {'×'.join(map(str, shape)) or 'of one number'}"
        for name, shape in group.shapes.items()
    )
    return f"{group.name} ({group.kind}{': ' + shapes if shapes else ''})"


def pair_sides(left: Side, right: Side, mapping: MappingFile | None = None) -> Pairing:
    """Pair the groups of two records. Raises CannotBeginError
    for a mapping that names what is not there."""
    mapping = mapping or MappingFile()
    sides, whole = (left, right), (groups_of(left), groups_of(right))
    order = {
        name: place
        for place, group in enumerate(whole[0])
        for name in (group.layer.path, *group.names)
    }
    skips = Skips(mapping.skip)
    skips.check((*whole[0], *whole[1]), sides)
    turns = read_turns(mapping, sides)
    check_turns(turns, sides, {*order, *(group.name for group in whole[0])})
    lines, layers = read_lines(mapping, sides)
    by_mapping: list[Way] = [lambda *_: lines]
    by_mapping += [partial(pair_by_names, names) for names in layers.items()]
    tries = []
    # What is left out, before all is paired or after that.
    for first in (True, False) if mapping.skip else (True,):
        kept = [
            [group for group in groups if not (first and skips.has_layer(group))]
            for groups in whole
        ]
        pairs, lefts, rights = _pair(sides, kept[0], kept[1], (*by_mapping, *WAYS))
        again = WAYS if mapping.skip else ()
        more, lefts, rights = _pair(sides, skips.without(lefts), skips.without(rights), again)
        pairs, names = skips.without_pairs([*pairs, *more])
        tries.append(
            (sum(group.required for group in (*lefts, *rights)), pairs, (lefts, rights), names)
        )
    _, pairs, (lefts, rights), names = min(tries, key=lambda attempt: attempt[0])

    def place(pair: LayerPair) -> int:
        return min(order.get(name, -1) for name in (pair.left.names or [pair.left.layer.path]))

    pairs = add_parents(sorted(join_lines(pairs, whole), key=place), left, right)
    lefts, rights = (
        drop_tied(groups, side, [pair.both[number] for pair in pairs])
        for number, (groups, side) in enumerate(zip((lefts, rights), sides, strict=True))
    )
    return Pairing(sides, pairs, lefts, rights, skips, names, turns)


def drop_tied(groups: Groups, side: Side, paired: Groups) -> list[WeightGroup]:
    """The groups without those whose weights are paired under other names."""
    there = {side.first_name(name) for group in paired for name in group.names}
    return [
        group
        for group in groups
        if not (group.names and {*map(side.first_name, group.names)} <= there)
    ]


def check_turns(turns: Mapping[str, Turn], sides: Sides, left_names: Iterable[str]) -> None:
    """Raises CannotBeginError for turned axes of what neither side has."""
    there = {name for side in sides for file in ("inputs", "outputs") for name in side.arrays(file)}
    there |= {layer.path for side in sides for layer in side.says.layers} | {*left_names}
    odd = next((name for name in turns if name not in there), None)
    if odd is not None:
        raise CannotBeginError(
            f"the mapping turns axes of {odd}, which neither side has; [axes] takes whole names of "
            "inputs, outputs, taps and layers"
        )


def join_lines(pairs: Iterable[LayerPair], whole: tuple[Groups, Groups]) -> list[LayerPair]:
    """The pairs in which weights that lines pair stand with the rest of their layers, where both
    layers are of one kind that their frameworks know."""
    claims: list[dict[str, list[WeightGroup]]] = [{}, {}]  # by the names of arrays
    for of_side, groups in zip(claims, whole, strict=True):
        for group in groups:
            for name in group.names:
                of_side.setdefault(name, []).append(group)
    by_name: dict[tuple[str, str], LayerPair] = {}
    for pair in pairs:
        layers = find_layers(pair, claims) if pair.lines else pair
        known = by_name.setdefault((layers.left.name, layers.right.name), layers)
        if known is not layers:
            by_name[known.left.name, known.right.name] = known.join(layers)
    return [*by_name.values()]


def find_layers(
    pair: LayerPair, claims: Sequence[Mapping[str, Sequence[WeightGroup]]]
) -> LayerPair:
    """A pair of a line with the groups to which its weights belong,
    where these are of one kind; else as it is."""
    owners = []
    for group, of_side in zip(pair.both, claims, strict=True):
        groups = {id(owner): owner for name in group.names for owner in of_side.get(name, ())}
        owners.append([*groups.values()])
    kinds = [[owner.kind for owner in groups] for groups in owners]
    if kinds[0] != kinds[1] or len(kinds[0]) != 1 or kinds[0][0] in OWN:
        return pair
    return replace(pair, left=owners[0][0], right=owners[1][0])


def _pair(
    sides: Sides, lefts: Groups, rights: Groups, ways: Sequence[Way]
) -> tuple[list[LayerPair], Groups, Groups]:
    """The pairs of some groups, and the groups of each side that are left."""
    pairs: list[LayerPair] = []
    for way in ways:
        of_way = list(way(sides, lefts, rights))
        lefts = drop_paired(lefts, [pair.left for pair in of_way])
        rights = drop_paired(rights, [pair.right for pair in of_way])
        pairs += [
            make_layers(pair, *sides) if isinstance(pair, TensorPair) else pair for pair in of_way
        ]
    return pairs, lefts, rights


def make_layers(pair: TensorPair, left: Side, right: Side) -> LayerPair:
    """The layers whose weights a line pairs. The weight has the name that a layer has for the array
    that stands alone on its side."""
    single, names = (
        (left, pair.left.names) if len(pair.left.names) == 1 else (right, pair.right.names)
    )
    owner = single.owners.get(names[0])
    role = next((role for role, name in owner.own.items() if name == names[0]), "") if owner else ""
    role = role or "weight"
    groups = []
    for side, tensor in zip((left, right), pair.both, strict=True):
        groups.append(
            WeightGroup(side, "parameters", (*owners_of(side, tensor),), tensors={role: tensor})
        )
    return LayerPair(groups[0], groups[1], pair.how, {role: pair})
