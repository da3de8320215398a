"""Pairs layers without weights, by their place among the pairs of weights, and layers that contain the same pairs."""

from collections import Counter
from collections.abc import Sequence

from rosetta_diff.pair.pairs import LayerPair
from rosetta_diff.pair.ways import Groups, Pairs, left_over, of_like_names, of_one_shape
from rosetta_diff.read.description import RecordedLayer
from rosetta_diff.read.groups import WeightGroup, above_of
from rosetta_diff.read.record import Side
from rosetta_diff.read.rules import PARENT, TAP
from rosetta_diff.read.view import Shape


def call_by_call(pairs: Sequence[LayerPair], alone: Sequence[Groups]) -> Pairs:
    """Pairs of layers without weights of a kind, of which one side calls some again where the other side has layers
    of their own: call by call, each after the same pairs."""
    bare = [[group for group in of if not group.tensors and group.kind != TAP and group.calls] for of in alone]
    for kind in dict.fromkeys(group.kind for group in bare[0]):
        both = [[group for group in of if group.kind == kind] for of in bare]
        counts = [[len(group.calls) for group in of] for of in both]
        if counts[0] == counts[1] or not all(both):
            continue
        ran, before = zip(*(_as_they_ran(of, [p.both[n] for p in pairs]) for n, of in enumerate(both)), strict=True)
        if before[0] == before[1] and _may_be_same(LayerPair.of_groups(ran[0][0][0], ran[1][0][0], "order")):
            numbers: dict[tuple[str, str], list[tuple[int, int]]] = {}
            for (left, left_number), (right, right_number) in zip(*ran, strict=True):
                numbers.setdefault((left.name, right.name), []).append((left_number, right_number))
            named = [{group.name: group for group in of} for of in both]
            for (left, right), of_pair in numbers.items():
                yield LayerPair.of_groups(named[0][left], named[1][right], "order", tuple(of_pair))


def _as_they_ran(groups: Groups, paired: Groups) -> tuple[list[tuple[WeightGroup, int]], list[set[int]]]:
    """The calls of groups in the order in which they ran, and before each the paired groups with weights, by their
    numbers, that ran before it."""
    order = {id(call): place for group in groups[:1] for place, call in enumerate(group.side.says.calls)}
    first = {n: order[id(of.calls[0].recorded[0])] for n, of in enumerate(paired) if of.tensors and of.calls}
    calls = [(order[id(call.recorded[0])], group, call.number) for group in groups for call in group.calls]
    calls.sort(key=lambda call: call[0])
    before = [{number for number, place in first.items() if place < here} for here, _, _ in calls]
    return [(group, number) for _, group, number in calls], before


def without_weights(pairs: Sequence[LayerPair], whole: Sequence[Groups], alone: Sequence[Groups]) -> Pairs:
    """Pairs of layers without weights that stand at one place among the pairs, that are of one kind or whose names
    end alike, and whose outputs may be the same."""
    run = [
        {name for group in groups if group.kind != "buffers" for name in group.names if name in group.side.owners}
        for groups in whole
    ]  # the weights of layers: a constant may stand anywhere
    names = [
        tuple(names_of_side & {*group.names} for names_of_side, group in zip(run, pair.both, strict=True))
        for pair in pairs
    ]
    by_place: dict[int, tuple[list[WeightGroup], list[WeightGroup]]] = {}
    for number, groups in enumerate(alone):
        places = _places([names_of_side[number] for names_of_side in names if all(names_of_side)], whole[number])
        for group in groups:
            if id(group) in places:
                by_place.setdefault(places[id(group)], ([], []))[number].append(group)
    for lefts, rights in by_place.values():
        of_place: list[LayerPair] = []
        for kind in dict.fromkeys(group.kind for group in lefts):
            of_kind = ([group for group in groups if group.kind == kind] for groups in (lefts, rights))
            of_place += filter(_may_be_same, of_one_shape(*of_kind))
        rest = left_over(lefts, rights, of_place)
        lefts, rights = ([group for group in groups if len(group.calls) == 1] for groups in rest)
        yield from of_place
        for left, right in of_like_names(dict(enumerate(lefts)), dict(enumerate(rights))).items():
            pair = LayerPair.of_groups(lefts[left], rights[right], "name")
            if _may_be_same(pair):
                yield pair


def _places(pairs: Sequence[set[str]], groups: Groups) -> dict[int, int]:
    """Number of pairs that ran before each layer without weights, by its id: only where these are the first of all
    pairs, and none of them has some of its weights after it. Pairs are told by the names of one side's weights."""
    pairs_of: dict[str, list[int]] = {}  # several where an array has the weights of both directions
    for place, names in enumerate(pairs):
        for name in names:
            pairs_of.setdefault(name, []).append(place)
    left = Counter(place for of_name in pairs_of.values() for place in of_name)
    places, begun, ended = {}, 0, 0
    for group in groups:
        for place in [place for name in group.names for place in pairs_of.pop(name, ())]:
            left[place] -= 1
            begun, ended = max(begun, place + 1), ended + (not left[place])
        if not group.tensors and group.kind != TAP and begun == ended:
            places[id(group)] = ended
    return places


def _may_be_same(pair: LayerPair) -> bool:
    """True if the layers' first outputs, where both are recorded, have as many axes, and as many rows or equal
    sizes."""
    left, right = map(_shape_given, pair.both)
    if left is None or right is None:
        return True
    return len(left) == len(right) and (left[:1] == right[:1] or sorted(left) == sorted(right))


def _shape_given(group: WeightGroup) -> Shape | None:
    """The shape of the layer's first recorded output."""
    parts, arrays = (part for call in group.calls for part in call.parts), group.side.arrays("layers")
    return next((arrays.shape(part) for part in parts if part in arrays), None)


def with_parents(pairs: list[LayerPair], *sides: Side) -> list[LayerPair]:
    """The pairs, and after the last pair within them those of layers that contain the same pairs, whose outputs tell
    whether what stands between the layers in them is the same."""
    inside = [parents(pairs, place, side) for place, side in enumerate(sides)]
    after: dict[int, list[LayerPair]] = {}
    for places, lefts in inside[0].items():
        for both in alike(lefts, inside[1].get(places, [])):
            left, right = (WeightGroup(side, PARENT, (layer,)) for side, layer in zip(sides, both, strict=True))
            after.setdefault(max(places), []).append(LayerPair.of_groups(left, right, "order"))
    return [each for place, pair in enumerate(pairs) for each in (pair, *after.get(place, []))]


def alike(
    lefts: Sequence[RecordedLayer], rights: Sequence[RecordedLayer]
) -> list[tuple[RecordedLayer, RecordedLayer]]:
    """Pairs of layers that contain the same, the inner ones first, where both sides have as many; else of those
    without weights, or of the two inmost ones where one of them has weights."""
    plain = [[layer for layer in layers if not layer.own] for layers in (lefts, rights)]
    if len(lefts) != len(rights) and len(plain[0]) == len(plain[1]):
        lefts, rights = plain
    if len(lefts) != len(rights):
        has_weights = any(layer.own for layer in (*lefts, *rights))
        lefts, rights = lefts[-1:] if has_weights else [], rights[-1:]
    return [*zip(lefts, rights, strict=False)][::-1]


def parents(pairs: Sequence[LayerPair], number: int, side: Side) -> dict[frozenset[int], list[RecordedLayer]]:
    """The layers of the left (0) or the right side (1) that contain whole pairs, by the places of these.

    Such a layer has no weights of its own, or some that are those of several layers on the other side, as packed
    experts are; or its parts are paired with several layers, as those of an attention are.
    """
    paths = [{layer.path for layer in pair.both[number].layers} for pair in pairs]
    bare = {path for pair, of_pair in zip(pairs, paths, strict=True) if not pair.left.tensors for path in of_pair}
    cut = [bool(pair.lines) and len(pair.left.layers) != len(pair.right.layers) for pair in pairs]
    divided = {path for of_pair, is_cut in zip(paths, cut, strict=True) if is_cut for path in of_pair}
    divided |= {path for path, partners in partners_of(pairs, number).items() if len(partners) > 1}
    whole: dict[str, set[int]] = {}  # by a layer's path the pairs that are in it
    parted: set[str] = set()  # the paths of layers that have some layers of a pair
    for place, of_pair in enumerate(paths):
        if pairs[place].numbers is not None:  # in any layer that calls them
            continue
        above = [{*above_of(path)} | ({path} & divided) for path in of_pair]
        of_all = set.intersection(*above)
        parted |= set.union(*above) - of_all
        for path in of_all:
            whole.setdefault(path, set()).add(place)
    by_places: dict[frozenset[int], list[RecordedLayer]] = {}
    for layer in side.says.layers:
        is_parent = layer.path in side.called and (not layer.own or layer.path in divided)
        if is_parent and layer.path in whole and layer.path not in bare | parted:
            by_places.setdefault(frozenset(whole[layer.path]), []).append(layer)
    return by_places


def partners_of(pairs: Sequence[LayerPair], number: int) -> dict[str, set[frozenset[str]]]:
    """For each layer of the left (0) or the right side (1) the layers of the other side in each of its pairs."""
    partners: dict[str, set[frozenset[str]]] = {}
    for pair in pairs:
        if pair.left.kind != PARENT and pair.numbers is None:
            paths = frozenset(layer.path for layer in pair.both[1 - number].layers)
            for layer in pair.both[number].layers:
                partners.setdefault(layer.path, set()).add(paths)
    return partners
