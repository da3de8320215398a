"""Pairs layers that contain the same pairs."""

from collections.abc import Sequence

from rosetta_diff.pair.pairs import LayerPair
from rosetta_diff.read.description import RecordedLayer
from rosetta_diff.read.groups import WeightGroup, above_of
from rosetta_diff.read.rules import PARENT
from rosetta_diff.read.side import Side


def add_parents(pairs: list[LayerPair], *sides: Side) -> list[LayerPair]:
    """The pairs, and after the last pair within them those of layers that contain the same pairs,
    whose outputs tell whether what stands between the layers in them is the same."""
    inside = [find_parents(pairs, place, side) for place, side in enumerate(sides)]
    after: dict[int, list[LayerPair]] = {}
    for places, lefts in inside[0].items():
        for both in match_roots(lefts, inside[1].get(places, []), sides):
            left, right = (
                WeightGroup(side, PARENT, (layer,)) for side, layer in zip(sides, both, strict=True)
            )
            after.setdefault(max(places), []).append(LayerPair.of_groups(left, right, "order"))
    return [each for place, pair in enumerate(pairs) for each in (pair, *after.get(place, []))]


def match_roots(
    lefts: Sequence[RecordedLayer], rights: Sequence[RecordedLayer], sides: Sequence[Side]
) -> list[tuple[RecordedLayer, RecordedLayer]]:
    """Pairs of layers that contain the same. Both models themselves are a pair."""
    both = [*zip((lefts, rights), sides, strict=True)]
    roots = [[layer for layer in layers if layer.path == side.root] for layers, side in both]
    if not all(roots):
        return match_layers(lefts, rights)
    inner = ([layer for layer in layers if layer.path != side.root] for layers, side in both)
    return [*match_layers(*inner), *zip(*roots, strict=True)]


def match_layers(
    lefts: Sequence[RecordedLayer], rights: Sequence[RecordedLayer]
) -> list[tuple[RecordedLayer, RecordedLayer]]:
    """Pairs of layers that contain the same, the inner ones first, where both sides have as many;
    else of those without weights, or of the two inmost ones where one of them has weights."""
    plain = [[layer for layer in layers if not layer.own] for layers in (lefts, rights)]
    if len(lefts) != len(rights) and len(plain[0]) == len(plain[1]):
        lefts, rights = plain
    if len(lefts) != len(rights):
        has_weights = any(layer.own for layer in (*lefts, *rights))
        lefts, rights = lefts[-1:] if has_weights else [], rights[-1:]
    return [*zip(lefts, rights, strict=False)][::-1]


def find_parents(
    pairs: Sequence[LayerPair], number: int, side: Side
) -> dict[frozenset[int], list[RecordedLayer]]:
    """The layers of the left (0) or the right side (1)
    that contain whole pairs, by the places of these.

    Such a layer has no weights of its own, or some that are those of several layers on the other
    side, as packed experts are; or its parts are paired with several layers, as those of an
    attention are. The model itself may have weights that nothing is paired with.
    """
    paths = [{layer.path for layer in pair.both[number].layers} for pair in pairs]
    bare = {
        path
        for pair, of_pair in zip(pairs, paths, strict=True)
        if not pair.left.tensors
        for path in of_pair
    }
    cut = [bool(pair.lines) and len(pair.left.layers) != len(pair.right.layers) for pair in pairs]
    divided = {
        path for of_pair, is_cut in zip(paths, cut, strict=True) if is_cut for path in of_pair
    }
    divided |= {path for path, partners in partners_of(pairs, number).items() if len(partners) > 1}
    whole: dict[str, set[int]] = {}  # by a layer's path the pairs that are in it
    parted: set[str] = set()  # the paths of layers that have some layers of a pair
    for place, of_pair in enumerate(paths):
        above = [{side.root, *above_of(path)} | ({path} & divided) for path in of_pair]
        of_all = set.intersection(*above)
        parted |= set.union(*above) - of_all
        for path in of_all:
            whole.setdefault(path, set()).add(place)
    by_places: dict[frozenset[int], list[RecordedLayer]] = {}
    of_pairs = {path for of_pair in paths for path in of_pair}
    for layer in side.says.layers:
        has_own = bool(layer.own) and (layer.path in of_pairs or layer.path != side.root)
        is_parent = layer.path in side.called and (not has_own or layer.path in divided)
        if is_parent and layer.path in whole and layer.path not in bare | parted:
            by_places.setdefault(frozenset(whole[layer.path]), []).append(layer)
    return by_places


def partners_of(pairs: Sequence[LayerPair], number: int) -> dict[str, set[frozenset[str]]]:
    """For each layer of the left (0) or the right side (1)
    the layers of the other side in each of its pairs."""
    partners: dict[str, set[frozenset[str]]] = {}
    for pair in pairs:
        if pair.left.kind != PARENT:
            paths = frozenset(layer.path for layer in pair.both[1 - number].layers)
            for layer in pair.both[number].layers:
                partners.setdefault(layer.path, set()).add(paths)
    return partners
