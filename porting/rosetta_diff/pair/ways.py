"""Ways in which weights of two records are paired: by a mapping,
by kind, by their numbers, by shapes.

Each way is given the groups that both sides have left, and pairs some of them, or some of their
weights. What comes of a mapping, of numbers or of shapes that add up is a line, which arranges
weights; the rules of their frameworks arrange those of layers whose kinds are known.
"""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from itertools import product, takewhile
from typing import Any

import numpy as np

from rosetta_diff.arrays import Array
from rosetta_diff.helpers import CannotBeginError
from rosetta_diff.pair.alignment import align
from rosetta_diff.pair.arrangement import MappingLine, axes_between, solve_pair
from rosetta_diff.pair.by_value import find_by_value
from rosetta_diff.pair.pairs import LayerPair, TensorPair
from rosetta_diff.read.description import RecordedLayer
from rosetta_diff.read.groups import WeightGroup
from rosetta_diff.read.rules import TAP
from rosetta_diff.read.side import Side
from rosetta_diff.read.view import PARTS, Axes, Shape, Tensor, flat

TOLD_BY = 64  # numbers of an array that tell it from others of its shape
OWN = ("parameters", "buffers")  # kinds of weights of which nobody here knows what their axes are
SUMMED = ("dense", "conv")  # kinds of layers of which one may be several others side by side

Groups = Sequence[WeightGroup]
Pairs = Iterable[LayerPair]
Lines = Iterable[TensorPair]
Sides = tuple[Side, Side]
Way = Callable[[Sides, Groups, Groups], Iterable[LayerPair | TensorPair]]


def drop_paired(groups: Groups, taken: Sequence[WeightGroup | Tensor]) -> Groups:
    """The groups of a side without those that are taken,
    and without the weights of tensors that are."""
    whole = {id(group) for group in taken}
    names = {name for tensor in taken if isinstance(tensor, Tensor) for name in tensor.names}
    rest = []
    for group in groups:
        kept = {
            name: tensor for name, tensor in group.tensors.items() if not names & {*tensor.names}
        }
        if id(group) not in whole and (kept or not group.tensors):
            rest.append(group if len(kept) == len(group.tensors) else replace(group, tensors=kept))
    return rest


def pair_by_names(names: tuple[str, str], sides: Sides, lefts: Groups, rights: Groups) -> Pairs:
    """Pairs of the groups of two layers that a mapping names, or of two groups."""
    named = []
    for name, side, groups in zip(names, sides, (lefts, rights), strict=True):
        named.append([group for group in groups if name in (group.name, group.layer.path)])
        if not named[-1]:
            raise CannotBeginError(
                f"the mapping names {name}, which {side.name} does not have, or only once; it has "
                f"{', '.join(group.name for group in groups[:20]) or 'nothing more'}"
            )
    lefts, rights = named
    if len(lefts) != len(rights):
        raise CannotBeginError(
            f"the mapping has {names[0]} for {names[1]}, which are {len(lefts)} and {len(rights)} "
            "groups of weights; name them one by one: "
            f"{', '.join(g.name for g in (*lefts, *rights))}"
        )
    return [
        LayerPair.of_groups(left, right, "mapping")
        for left, right in zip(lefts, rights, strict=True)
    ]


def _pair_by_kind(sides: Sides, lefts: Groups, rights: Groups, sure: bool = False) -> Pairs:
    """Pairs of groups of one kind, if their shapes agree throughout; otherwise of those of each
    shape. Tied weights without a partner are left out first. Of several of one shape those belong
    together that hold the same numbers, if there are such, then those of the same names, and then,
    where both sides have as many, those that ran at the same place. Weights of layers that no
    framework knows must have the same names. Only what is `sure` if that is asked for: kinds whose
    shapes agree throughout, and weights of the same numbers."""
    lefts, rights = ([group for group in groups if group.signature] for groups in (lefts, rights))
    for kind in dict.fromkeys(group.kind for group in lefts):
        of_left, of_right = (
            [group for group in groups if group.kind == kind] for groups in (lefts, rights)
        )
        in_order = [
            both
            for both in product(
                *((of, [group for group in of if group.required]) for of in (of_left, of_right))
            )
            if [group.signature for group in both[0]] == [group.signature for group in both[1]]
            and (both[0] or kind != TAP)
        ]
        by_shape: dict[tuple[Any, ...], tuple[list[WeightGroup], list[WeightGroup]]] = {}
        for number, groups in enumerate(in_order[0] if in_order else (of_left, of_right)):
            for group in groups:
                by_shape.setdefault(group.signature, ([], []))[number].append(group)
        for of_left, of_right in by_shape.values():
            for pair in pair_one_shape(of_left, of_right):
                left, right = pair.both
                alike = (
                    (kind not in OWN and in_order) or not sure or _numbers(left) == _numbers(right)
                )
                if alike and (kind not in OWN or _parts(left)[-1] == _parts(right)[-1]):
                    yield pair


def pair_one_shape(lefts: Groups, rights: Groups) -> Pairs:
    """Pairs of groups of one shape: of those that hold the same numbers, unless several of one side
    do, then of those whose names end alike. Where they are as many on both sides, the others are
    paired in order."""
    of_left, of_right = ([_numbers(group) for group in groups] for groups in (lefts, rights))
    moved: dict[int, int] = {}
    if len({*of_left}) == len(lefts) and len({*of_right}) == len(rights):
        places = {numbers: place for place, numbers in enumerate(of_right)}
        moved = {
            place: places[numbers] for place, numbers in enumerate(of_left) if numbers in places
        }
    left_places = [place for place in range(len(lefts)) if place not in moved]
    right_places = [place for place in range(len(rights)) if place not in moved.values()]
    named = match_names(
        {place: lefts[place] for place in left_places},
        {place: rights[place] for place in right_places},
    )
    in_order = iter(
        [place for place in right_places if place not in named.values()]
        * (len(lefts) == len(rights))
    )
    for place, left in enumerate(lefts):
        right = (
            moved[place]
            if place in moved
            else named[place]
            if place in named
            else next(in_order, None)
        )
        if right is None:
            continue
        by_numbers = "kind" if right == place else "value"
        by_order = "kind" if len(lefts) == 1 else "order"
        how = by_numbers if place in moved else "name" if place in named else by_order
        yield LayerPair.of_groups(left, rights[right], how)


def match_names(
    lefts: Mapping[int, WeightGroup], rights: Mapping[int, WeightGroup]
) -> dict[int, int]:
    """The right place of each left one whose name ends in the same parts: first of whole names, in
    the end of their last parts. What several end in is in order. A number in a name says which of
    several it is, and the other side may count from elsewhere, so names with numbers count where
    one side has all those of the other side."""
    partners: dict[int, int] = {}
    parts = [{place: _parts(group) for place, group in of.items()} for of in (lefts, rights)]
    longest = max((len(words) for of in parts for words in of.values()), default=0)
    for length in range(longest, 0, -1):
        ends: list[dict[str, list[int]]] = [{}, {}]
        for of_side, of_places, taken in zip(
            ends, parts, ({*partners}, {*partners.values()}), strict=True
        ):
            for place, words in of_places.items():
                if place not in taken:
                    of_side.setdefault(".".join(words[-length:]), []).append(place)
        counts = [{(end, len(places)) for end, places in of_side.items()} for of_side in ends]
        has_all = counts[0] <= counts[1] or counts[1] <= counts[0]
        for end, _ in counts[0] & counts[1]:
            if has_all or not re.search(r"\d", end):
                partners.update(zip(ends[0][end], ends[1][end], strict=True))
    return partners


def _parts(group: WeightGroup) -> list[str]:
    """The parts of its name."""
    return re.split("[./:]", group.name)


@np.errstate(all="ignore")  # numbers beyond float32 are infinite
def _numbers(group: WeightGroup) -> bytes:
    """Some numbers of the group's first tensor, by which it is told from others of its shape; the
    same of all groups without tensors."""
    if not group.tensors:
        return b""
    array = next(iter(group.tensors.values())).of(group.side.arrays("weights").memory_map)
    assert array is not None
    array = np.atleast_1d(array)
    places = np.linspace(0, array.size - 1, min(array.size, TOLD_BY)).astype(np.int64)
    return np.asarray(array[np.unravel_index(places, array.shape)], np.float32).tobytes()


def _pair_by_numbers(sides: Sides, lefts: Groups, rights: Groups) -> Lines:
    """Lines of weights that hold the same numbers, and of what else the same layers own in the same
    arrangement, such as biases of zeros."""
    if not lefts or not rights:
        return
    left, right = (
        {
            name: round_to_both(side.arrays("weights")[name], sides)
            for group in groups
            for name in group.names
        }
        for side, groups in zip(sides, (lefts, rights), strict=True)
    )
    pairs = find_by_value(left, right)
    yield from pairs
    rest = {*left}, {*right}
    for pair in pairs:
        rest[0].difference_update(pair.left.names)
        rest[1].difference_update(pair.right.names)
    for pair in pairs:
        for companion in _pair_companions(pair, sides, rest):
            yield companion
            rest[0].difference_update(companion.left.names)
            rest[1].difference_update(companion.right.names)


def owners_of(side: Side, tensor: Tensor) -> Sequence[RecordedLayer]:
    """The layers that have a tensor's arrays; a weight of no layer is one."""
    layers = [side.owners.get(name) or RecordedLayer(name, []) for name in tensor.names]
    return [*{layer.path: layer for layer in layers}.values()]


def round_to_both(array: Array, sides: Sides) -> Array:
    """The array in the precision that both sides have."""
    precise = all(side.precision == "float64" for side in sides)
    return array if precise or array.dtype != np.float64 else array.astype(np.float32)


def _pair_companions(pair: TensorPair, sides: Sides, rest: Sequence[set[str]]) -> Lines:
    """Lines of what stands beside the arrays of a line in their layers, one array a layer, such as
    their biases: their one axis is arranged as the kernels' axis of outputs."""
    assert pair.line
    axes = [[group for group in of_side if PARTS in group][:1] for of_side in pair.line.axes]
    vectors: list[tuple[str, ...]] = []
    for side, tensor, names in zip(sides, pair.both, rest, strict=True):
        layers = owners_of(side, tensor)
        owned = [name for layer in layers for name in layer.own.values() if name in names]
        vectors.append(tuple(name for name in owned if len(side.shape(name)) == 1))
        if len(vectors[-1]) != len(layers):
            return
    if all(axes):
        yield from _fit(
            sides,
            (vectors[0], vectors[1]),
            (tuple(axes[0]), tuple(axes[1])),
            pair.how,
            pair.line.sizes,
        )


def _fit(
    sides: Sides,
    names: tuple[tuple[str, ...], tuple[str, ...]],
    axes: tuple[Axes, Axes],
    how: str = "shape",
    sizes: Mapping[str, int] | None = None,
) -> Lines:
    """The line of these arrays, if their shapes fit the axes."""
    left, right = (
        {name: side.shape(name) for name in of_side}
        for side, of_side in zip(sides, names, strict=True)
    )
    known = {axis: size for axis, size in (sizes or {}).items() if axis in flat(axes[0] + axes[1])}
    try:
        pair = solve_pair(
            ", ".join(names[0]), names, axes, (left, right), MappingLine("", sizes=known)
        )
    except CannotBeginError:
        return []
    return [replace(pair, how=how)]


def _pair_by_sums(sides: Sides, lefts: Groups, rights: Groups) -> Lines:
    """Lines of a layer and of several of its kind that follow one another and have its outputs in
    parts, such as query, key and value."""
    for kind in SUMMED:
        of_left_kind, of_right_kind = (
            [group for group in groups if group.kind == kind and "kernel" in group.tensors]
            for groups in (lefts, rights)
        )
        for left, right in align(of_left_kind, of_right_kind):
            left, right = _order_by_name(right[0], left), _order_by_name(left[0], right)
            axes = [_own_axes(group) for group in (*left, *right)]
            if not all(axes) or any(
                group.tensors.keys() != left[0].tensors.keys() for group in (*left, *right)
            ):
                continue
            for name in left[0].tensors:
                of_left, of_right = (
                    tuple(array for group in groups for array in group.tensors[name].names)
                    for groups in (left, right)
                )
                yield from _fit(sides, (of_left, of_right), (axes[0][name], axes[-1][name]))


def _order_by_name(holder: WeightGroup, run: Groups) -> Groups:
    """The layers in the order in which the name of the one that holds them all has theirs, as
    `gate_up` has gate and up; as they ran where it does not tell."""
    paths = [group.layer.path for group in run]
    start, end = (
        len([*takewhile(lambda letters: len({*letters}) == 1, zip(*names, strict=False))])
        for names in (paths, [path[::-1] for path in paths])
    )
    middles = [path[start : len(path) - end] for path in paths]
    places = [re.split(r"[./]", holder.layer.path)[-1].find(name) for name in middles]
    if not all(middles) or len({*places} - {-1}) < len(run):
        return run
    return [group for _, group in sorted(zip(places, run, strict=True), key=lambda both: both[0])]


def _own_axes(group: WeightGroup) -> dict[str, Axes]:
    """Names for the axes of a layer's own arrays, the outputs being the parts; none where the
    tables do more to them than to transpose them."""
    named: dict[str, Axes] = {}
    for name, tensor in group.tensors.items():
        (view, *more), whole = tensor.views, tensor.axes
        if more or tensor.added or view.picked or any(len(group) != 1 for group in whole):
            return {}
        number = len(whole)
        letters = [*(f"k{place}" for place in range(number - 2)), "m", PARTS][-number:]
        of_axes = dict(zip(whole, letters, strict=False))
        named[name] = tuple((of_axes[axis],) for axis in view.axes)
    return named


def _pair_by_shape(sides: Sides, lefts: Groups, rights: Groups) -> Lines:
    """Lines in order of trained weights of one shape, or of one that is the other turned round,
    where both sides have as many; axes of one number do not count. A square matrix may be either,
    so it has no partner here unless no framework knows either layer."""
    by_shape: dict[Shape, tuple[list[tuple[WeightGroup, str]], list[tuple[WeightGroup, str]]]] = {}
    for number, groups in enumerate((lefts, rights)):
        for group in groups:
            for name in group.names if group.required else ():
                sizes = tuple(size for size in group.side.shape(name) if size != 1)
                key = tuple(sorted(sizes)) if len(sizes) == 2 else sizes
                by_shape.setdefault(key, ([], []))[number].append((group, name))
    for key, (of_left, of_right) in by_shape.items():
        may_be_turned = len(key) > 1 and key == key[::-1]
        for (left, name), (right, right_name) in (
            zip(of_left, of_right, strict=True) if len(of_left) == len(of_right) else ()
        ):
            axes = axes_between(left.side.shape(name), right.side.shape(right_name))
            if axes and (not may_be_turned or left.kind == right.kind == "parameters"):
                yield from _fit(sides, ((name,), (right_name,)), axes)


WAYS: tuple[Way, ...] = (
    partial(_pair_by_kind, sure=True), _pair_by_numbers, _pair_by_kind, _pair_by_sums,
    _pair_by_kind, _pair_by_shape
)  # fmt: skip
