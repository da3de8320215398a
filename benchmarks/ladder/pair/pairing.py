"""Which weights and layers of two records belong together.

A mapping file comes first; then layers of one kind, by shape, name and order; then weights of which both sides hold
the same numbers, in whatever arrangement; then those whose shapes add up, in order; then layers without weights, by
their place among the pairs, call by call where one side calls one again. What comes of a mapping, of numbers or of
shapes that add up is an arrangement; of layers whose kinds are known the rules of their frameworks say it.
"""

import re
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import permutations, product, takewhile
from typing import Any

import numpy as np

from benchmarks.ladder.arrays import Array
from benchmarks.ladder.pair.alignment import aligned
from benchmarks.ladder.pair.by_value import found_by_value
from benchmarks.ladder.pair.mapping import (
    Arrangement,
    MappingFile,
    MappingLine,
    Turn,
    arranged,
    quoted,
    read_either_way,
    read_turns,
)
from benchmarks.ladder.pair.skipping import Skips
from benchmarks.ladder.read.groups import GroupPair, WeightGroup, above_of, groups_of
from benchmarks.ladder.read.record import RecordedLayer, Side, UnfitRecordsError
from benchmarks.ladder.read.rules import ARRANGED, PARENT, TAP
from benchmarks.ladder.read.view import LACKING, PARTS, Axes, Shape, flat

TOLD_BY = 64  # numbers of an array that tell it from others of its shape
OWN = ("parameters", "buffers")  # kinds of weights of which nobody here knows what their axes are
LETTERS = "nmklhijabcdefgopqrstuvwxyzABCDEF"  # names of axes in a line that is proposed; no array has more
SUMMED = ("dense", "conv")  # kinds of layers of which one may be several others side by side

Groups = Sequence[WeightGroup]
Pairs = Iterable[GroupPair]
Sides = tuple[Side, Side]
Way = Callable[[Sides, Groups, Groups], Pairs]  # pairs some of the groups that both sides have left


@dataclass(frozen=True)
class Pairing:
    sides: Sides
    pairs: list[GroupPair]  # in the left side's order of execution
    left: list[WeightGroup]  # those without a partner
    right: list[WeightGroup]
    skips: Skips = field(default_factory=Skips)
    left_out: list[str] = field(default_factory=list)  # weights that are left out with those that a mapping names
    turns: dict[str, Turn] = field(default_factory=dict)  # of arrays and layers whose axes a mapping turns

    def require(self) -> "Pairing":
        """Return this pairing. Raises UnfitRecordsError where a group that is trained has no partner."""
        alone = [[group for group in groups if group.required] for groups in (self.left, self.right)]
        for place, other in permutations(range(2)):
            if alone[place]:
                others = alone[other]
                kinds = {group.kind for group in others} - {*OWN}  # what resembles nothing says less
                missing = next((group for group in alone[place] if group.kind in kinds), alone[place][0])
                alike = [group for group in others if group.kind == missing.kind] or others
                candidates = ", ".join(described(group) for group in alike[:3]) or "nothing without a partner"
                raise UnfitRecordsError(
                    f"{described(missing)} of {self.sides[place].name} has no partner; {self.sides[other].name} has "
                    f"left {candidates}; say in a file for --mapping which belong together (rosetta diff "
                    f"--write-mapping drafts it), such as {proposed(missing, others, place == 0)}"
                )
        return self


def described(group: WeightGroup) -> str:
    """A group in words: its name, its kind and its shapes."""
    shapes = ", ".join(
        f"{name} {'×'.join(map(str, shape)) or 'of one number'}" for name, shape in group.shapes.items()
    )
    return f"{group.name} ({group.kind}{': ' + shapes if shapes else ''})"


def proposed(missing: WeightGroup, others: Groups, is_left: bool) -> str:
    """A line for a mapping file that is obeyed: it pairs the layer's first weight with another layer's of the same
    sizes, or leaves the layer out where there is none."""
    theirs = [(own, group.side.shape(own)) for group in others for own in group.names[:1]]
    for name, their in product(missing.names[:1], theirs):
        both = (name, missing.side.shape(name)), their
        (left, left_shape), (right, right_shape) = both if is_left else both[::-1]
        axes = axes_between(left_shape, right_shape)
        if axes is not None:
            return f"[weights] {quoted(left)} = {{to = {quoted(right)}, axes = {quoted(axes)}}}"
    return f'[skip] {quoted(missing.name)} = "why it is not compared"'


def axes_between(left: Shape, right: Shape) -> str | None:
    """The axes of two arrays of the same sizes, as a line has them; None where the sizes are others."""
    if sorted(size for size in left if size != 1) != sorted(size for size in right if size != 1) or 0 in left:
        return None
    letters = {place: LETTERS[place] for place, size in enumerate(left) if size != 1}
    one = [letters.get(place, "1") for place in range(len(left))]
    other = []
    for size in right:
        place = next((place for place in letters if left[place] == size), None)
        other.append("1" if place is None else letters.pop(place))
    return f"{' '.join(one)} -> {' '.join(other)}"


def paired(left: Side, right: Side, mapping: MappingFile | None = None) -> Pairing:
    """Pair the groups of two records. Raises UnfitRecordsError for a mapping that names what is not there."""
    mapping = mapping or MappingFile()
    lefts, rights = groups_of(left), groups_of(right)
    whole = lefts, rights
    order = {name: place for place, group in enumerate(lefts) for name in (group.layer.path, *group.names)}
    skips = Skips(mapping.skip)
    skips.check((*lefts, *rights), (left, right))
    turns = read_turns(mapping, (left, right))
    there = {name for side in (left, right) for file in ("inputs", "outputs") for name in side.arrays(file)}
    there |= {layer.path for side in (left, right) for layer in side.says.layers} | {*order}
    odd = next((name for name in turns if name not in there), None)
    if odd is not None:
        raise UnfitRecordsError(
            f"the mapping turns axes of {odd}, which neither side has; [axes] names inputs, outputs, taps and layers"
        )
    entries, layers = read_either_way(mapping, (left, right), order.keys() | {group.name for group in lefts})
    by_mapping: list[Way] = [lambda *_: [of_entry(entry, left, right) for entry in entries]]
    by_mapping += [partial(_by_names, names) for names in layers.items()]
    tries = []
    for first in (True, False) if mapping.skip else (True,):  # what is left out, before all is paired or after that
        both = [[group for group in of if not (first and skips.has_layer(group))] for of in (lefts, rights)]
        pairs, *alone = _paired((left, right), both[0], both[1], (*by_mapping, *WAYS))
        again = WAYS if mapping.skip else ()
        more, *alone = _paired((left, right), skips.without(alone[0]), skips.without(alone[1]), again)
        pairs, names = skips.without_pairs([*pairs, *more])
        tries.append((sum(group.required for of in alone for group in of), pairs, alone, names))
    _, pairs, alone, names = min(tries, key=lambda one: one[0])

    def place(pair: GroupPair) -> int:
        return min(order.get(name, -1) for name in (pair.left.names or [pair.left.layer.path]))

    pairs.sort(key=place)
    bare = [*_call_by_call(pairs, alone)]
    alone = [_rest(groups, [pair.both[number] for pair in bare]) for number, groups in enumerate(alone)]
    bare += _without_weights(pairs, whole, alone)
    lefts, rights = (_rest(groups, [pair.both[number] for pair in bare]) for number, groups in enumerate(alone))
    pairs = _with_parents(sorted([*pairs, *bare], key=place), left, right)
    return Pairing((left, right), pairs, lefts, rights, skips, names, turns)


def _paired(
    sides: Sides, lefts: Groups, rights: Groups, ways: Sequence[Way]
) -> tuple[list[GroupPair], Groups, Groups]:
    """The pairs of some groups, and the groups of each side that are left."""
    pairs: list[GroupPair] = []
    for way in ways:
        found = list(way(sides, lefts, rights))
        lefts, rights = _rest(lefts, [pair.left for pair in found]), _rest(rights, [pair.right for pair in found])
        pairs += found
    return pairs, lefts, rights


def _without(groups: Groups, names: Collection[str]) -> list[WeightGroup]:
    """The groups without those of these names, and without weights of these names."""
    found = []
    for group in groups:
        if group.name in names or group.layer.path in names:
            continue
        kept = {name: one for name, one in group.tensors.items() if not any(own in names for own in one.names)}
        if kept or not group.tensors:
            found.append(group if len(kept) == len(group.tensors) else replace(group, tensors=kept))
    return found


def _rest(groups: Groups, taken: Groups) -> list[WeightGroup]:
    """The groups of a side without those that are paired, or whose arrays are."""
    whole = {id(group) for group in taken}
    names = {name for group in taken if group.kind == ARRANGED for name in group.names}
    return _without([group for group in groups if id(group) not in whole], names)


def of_entry(entry: Arrangement, left: Side, right: Side) -> GroupPair:
    """The pair of an arrangement. Its tensor has the name that a layer has for the array that stands alone."""
    single, names = (left, entry.arrays[0]) if len(entry.arrays[0]) == 1 else (right, entry.arrays[1])
    owner = single.owners.get(names[0])
    role = next((role for role, name in owner.own.items() if name == names[0]), "") if owner else ""
    groups, outputs = [], entry.of_outputs() or (None, None)
    for side, names, tensor, of_outputs in zip(
        (left, right), entry.arrays, (entry.left, entry.right), outputs, strict=True
    ):
        layers = tuple(side.owners[name] for name in names if name in side.owners)
        known = layers if len(layers) == len(names) else ()
        layer = known[0] if known else RecordedLayer(" + ".join(names), [])
        groups.append(
            WeightGroup(
                side,
                ARRANGED,
                layer,
                tensors={role or "weight": tensor},
                side_by_side=known,
                of_outputs=of_outputs,
                alone=entry.alone,
            )
        )
    return GroupPair(groups[0], groups[1], entry.found, entry)


def _by_names(names: tuple[str, str], sides: Sides, lefts: Groups, rights: Groups) -> Pairs:
    """Pairs of the groups of two layers that a mapping names, or of two groups."""
    found = []
    for name, side, groups in zip(names, sides, (lefts, rights), strict=True):
        found.append([group for group in groups if name in (group.name, group.layer.path)])
        if not found[-1]:
            raise UnfitRecordsError(
                f"the mapping names {name}, which {side.name} does not have, or only once; it has "
                f"{', '.join(group.name for group in groups[:20]) or 'nothing more'}"
            )
    ones, others = found
    if len(ones) != len(others):
        raise UnfitRecordsError(
            f"the mapping has {names[0]} for {names[1]}, which are {len(ones)} and {len(others)} groups of "
            f"weights; name them one by one: {', '.join(g.name for g in (*ones, *others))}"
        )
    return [GroupPair(one, other, "mapping") for one, other in zip(ones, others, strict=True)]


def _by_kind(sides: Sides, lefts: Groups, rights: Groups, sure: bool = False) -> Pairs:
    """Pairs of groups of one kind, if their shapes agree throughout; otherwise of those of each shape. Tied weights
    without a partner are left out first. Of several of one shape those belong together that hold the same numbers, if
    there are such, then those of the same names, and then, where both sides have as many, those that ran at the same
    place. Weights of layers that no framework knows must have the same names. Only what is `sure` if that is asked
    for: kinds whose shapes agree throughout, and weights of the same numbers."""
    lefts, rights = ([group for group in groups if group.signature] for groups in (lefts, rights))
    for kind in dict.fromkeys(group.kind for group in lefts):
        ones, others = ([group for group in groups if group.kind == kind] for groups in (lefts, rights))
        in_order = [
            both
            for both in product(*((of, [group for group in of if group.required]) for of in (ones, others)))
            if [group.signature for group in both[0]] == [group.signature for group in both[1]]
            and (both[0] or kind != TAP)
        ]
        by_shape: dict[tuple[Any, ...], tuple[list[WeightGroup], list[WeightGroup]]] = {}
        for number, groups in enumerate(in_order[0] if in_order else (ones, others)):
            for group in groups:
                by_shape.setdefault(group.signature, ([], []))[number].append(group)
        for ones, others in by_shape.values():
            for pair in _of_one_shape(ones, others):
                one, other = pair.both
                alike = (kind not in OWN and in_order) or not sure or _numbers(one) == _numbers(other)
                if alike and (kind not in OWN or _parts(one)[-1] == _parts(other)[-1]):
                    yield pair


def _of_one_shape(lefts: Groups, rights: Groups) -> Pairs:
    """Pairs of groups of one shape: of those whose names end alike. Where they are as many on both sides, those that
    hold the same numbers come first, unless several of one side do, and the others are paired in order."""
    of_left, of_right = ([_numbers(group) for group in groups] for groups in (lefts, rights))
    moved: dict[int, int] = {}
    if len({*of_left}) == len({*of_right}) == len(lefts):
        places = {numbers: place for place, numbers in enumerate(of_right)}
        moved = {place: places[numbers] for place, numbers in enumerate(of_left) if numbers in places}
    rest = [place for place in range(len(lefts)) if place not in moved]
    others = [place for place in range(len(rights)) if place not in moved.values()]
    named = _of_like_names({place: lefts[place] for place in rest}, {place: rights[place] for place in others})
    in_order = iter([place for place in others if place not in named.values()] * (len(lefts) == len(rights)))
    for place, one in enumerate(lefts):
        other = moved[place] if place in moved else named[place] if place in named else next(in_order, None)
        if other is None:
            continue
        by_numbers = "kind" if other == place else "value"
        by_order = "kind" if len(lefts) == 1 else "order"
        found = by_numbers if place in moved else "name" if place in named else by_order
        yield GroupPair(one, rights[other], found)


def _of_like_names(lefts: Mapping[int, WeightGroup], rights: Mapping[int, WeightGroup]) -> dict[int, int]:
    """The right place of each left one whose name ends in the same parts: first of whole names, in the end of their
    last parts. What several end in is in order. A number in a name says which of several it is, and the other side
    may count from elsewhere, so names with numbers count where both sides have all of them."""
    found: dict[int, int] = {}
    parts = [{place: _parts(group) for place, group in of.items()} for of in (lefts, rights)]
    longest = max((len(of_one) for of in parts for of_one in of.values()), default=0)
    for length in range(longest, 0, -1):
        ends: list[dict[str, list[int]]] = [{}, {}]
        for of_side, of_places, taken in zip(ends, parts, ({*found}, {*found.values()}), strict=True):
            for place, of_one in of_places.items():
                if place not in taken:
                    of_side.setdefault(".".join(of_one[-length:]), []).append(place)
        counts = [{end: len(places) for end, places in of_side.items()} for of_side in ends]
        for end, places in ends[0].items():
            plain = not re.search(r"\d", end) and counts[0][end] == counts[1].get(end)
            if plain or counts[0] == counts[1]:
                found.update(zip(places, ends[1][end], strict=True))
    return found


def _parts(group: WeightGroup) -> list[str]:
    """The parts of its name."""
    return re.split("[./:]", group.name)


@np.errstate(all="ignore")  # numbers beyond float32 are infinite
def _numbers(group: WeightGroup) -> bytes:
    """Some numbers of the group's first tensor, by which it is told from others of its shape; the same of all
    groups without tensors."""
    if not group.tensors:
        return b""
    array = next(iter(group.tensors.values())).of(group.side.arrays("weights").mapped)
    assert array is not None
    array = np.atleast_1d(array)
    places = np.linspace(0, array.size - 1, min(array.size, TOLD_BY)).astype(np.int64)
    return np.asarray(array[np.unravel_index(places, array.shape)], np.float32).tobytes()


def _by_numbers(sides: Sides, lefts: Groups, rights: Groups) -> Pairs:
    """Pairs of weights that hold the same numbers, and of what else the same layers own in the same arrangement, such
    as biases of zeros."""
    if not lefts or not rights:
        return
    left, right = (
        {name: in_precision(side.arrays("weights")[name], sides) for group in groups for name in group.names}
        for side, groups in zip(sides, (lefts, rights), strict=True)
    )
    pairs = [of_entry(entry, *sides) for entry in found_by_value(left, right) if not _cut_short(entry, sides)]
    yield from pairs
    taken = [{name for pair in pairs for name in pair.both[number].names} for number in range(2)]
    rest = left.keys() - taken[0], right.keys() - taken[1]
    for pair in pairs:
        for companion in _companions(pair, sides, rest):
            yield companion
            for of_side, group in zip(rest, companion.both, strict=True):
                of_side.difference_update(group.names)


def _cut_short(entry: Arrangement, sides: Sides) -> bool:
    """Whether a weight of no layer, which is known by its name, has rows under this name on one side alone."""
    named = ({*names} - side.owners.keys() for names, side in zip(entry.arrays, sides, strict=True))
    return LACKING in entry.names[0] + entry.names[1] and bool(set.intersection(*named))


def in_precision(array: Array, sides: Sides) -> Array:
    """The array in the precision that both sides have."""
    precise = all(side.precision == "float64" for side in sides)
    return array if precise or array.dtype != np.float64 else array.astype(np.float32)


def _companions(pair: GroupPair, sides: Sides, rest: Sequence[set[str]]) -> Pairs:
    """Pairs of what stands beside the arrays of an arrangement in their layers, one array a layer, such as their
    biases: their one axis is arranged as the kernels' axis of outputs."""
    assert pair.entry
    axes = [[group for group in axes if PARTS in group][:1] for axes in pair.entry.axes]
    names = [
        [name for layer in group.side_by_side for name in layer.own.values() if name in of]
        for group, of in zip(pair.both, rest, strict=True)
    ]
    left, right = (
        tuple(name for name in of if len(side.shape(name)) == 1) for of, side in zip(names, sides, strict=True)
    )
    counts = [len(group.side_by_side) for group in pair.both]
    if all(axes) and all(counts) and [len(left), len(right)] == counts:
        both = tuple(axes[0]), tuple(axes[1])
        yield from _fitting(sides, (left, right), both, pair.found, pair.entry.sizes)


def _fitting(
    sides: Sides,
    names: tuple[tuple[str, ...], tuple[str, ...]],
    axes: tuple[Axes, Axes],
    found: str = "shape",
    sizes: Mapping[str, int] | None = None,
) -> Pairs:
    """The pair of these arrays, if their shapes fit the axes."""
    left, right = (
        {name: side.shape(name) for name in own if name != LACKING} for side, own in zip(sides, names, strict=True)
    )
    known = {axis: size for axis, size in (sizes or {}).items() if axis in flat(axes[0] + axes[1])}
    try:
        entry = arranged(", ".join(names[0]), names, axes, (left, right), MappingLine("", sizes=known))
    except UnfitRecordsError:
        return []
    return [of_entry(replace(entry, found=found), *sides)]


def _by_shapes_that_add_up(sides: Sides, lefts: Groups, rights: Groups) -> Pairs:
    """Pairs of a layer and of several of its kind that follow one another and have its outputs in parts, such as
    query, key and value."""
    for kind in SUMMED:
        ones, others = (
            [group for group in groups if group.kind == kind and "kernel" in group.tensors]
            for groups in (lefts, rights)
        )
        for left, right in aligned(ones, others):
            left, right = _as_named(right[0], left), _as_named(left[0], right)
            axes = [_own_axes(group) for group in (*left, *right)]
            if not all(axes) or any(group.tensors.keys() != left[0].tensors.keys() for group in (*left, *right)):
                continue
            for name in left[0].tensors:
                of_left, of_right = (
                    tuple(own for group in groups for own in group.tensors[name].names) for groups in (left, right)
                )
                yield from _fitting(sides, (of_left, of_right), (axes[0][name], axes[-1][name]))


def _as_named(one: WeightGroup, run: Groups) -> Groups:
    """The layers in the order in which the name of the one that holds them all has theirs, as `gate_up` has gate and
    up; as they ran where it does not tell."""
    paths = [group.layer.path for group in run]
    start, end = (
        len([*takewhile(lambda letters: len({*letters}) == 1, zip(*names, strict=False))])
        for names in (paths, [path[::-1] for path in paths])
    )
    own = [path[start : len(path) - end] for path in paths]
    places = [re.split(r"[./]", one.layer.path)[-1].find(name) for name in own]
    if not all(own) or len({*places} - {-1}) < len(run):
        return run
    return [group for _, group in sorted(zip(places, run, strict=True), key=lambda both: both[0])]


def _own_axes(group: WeightGroup) -> dict[str, Axes]:
    """Names for the axes of a layer's own arrays, the outputs being the parts; none where the tables do more to them
    than to transpose them."""
    found: dict[str, Axes] = {}
    for name, tensor in group.tensors.items():
        (view, *more), whole = tensor.views, tensor.axes
        if more or tensor.added or view.picked or any(len(group) != 1 for group in whole):
            return {}
        number = len(whole)
        letters = [*(f"k{place}" for place in range(number - 2)), "m", PARTS][-number:]
        of_axes = dict(zip(whole, letters, strict=False))
        found[name] = tuple((of_axes[axis],) for axis in view.axes)
    return found


def _by_more_rows(sides: Sides, lefts: Groups, rights: Groups) -> Pairs:
    """Pairs in order of embeddings of which one has more rows, such as padding at its end."""
    for one, other in zip(*([g for g in of if "embeddings" in g.tensors] for of in (lefts, rights)), strict=False):
        left, right = (group.tensors["embeddings"] for group in (one, other))
        if left.shape[1:] == right.shape[1:]:
            more = left.shape > right.shape
            names = (left.names, (*right.names, LACKING)) if more else ((*left.names, LACKING), right.names)
            axes = (PARTS,), ("m",)
            yield from _fitting(sides, names, (axes, axes))


def _by_shape(sides: Sides, lefts: Groups, rights: Groups) -> Pairs:
    """Pairs in order of trained weights of one shape, or of one that is the other turned round, where both sides have
    as many. A square matrix may be either, so it has no partner here unless no framework knows either layer."""
    by_shape: dict[Shape, tuple[list[tuple[WeightGroup, str]], list[tuple[WeightGroup, str]]]] = {}
    for number, groups in enumerate((lefts, rights)):
        for group in groups:
            for name in group.names if group.required else ():
                shape = group.side.shape(name)
                key = tuple(sorted(shape)) if len(shape) == 2 else shape
                by_shape.setdefault(key, ([], []))[number].append((group, name))
    for key, (ones, others) in by_shape.items():
        axes = tuple((f"a{number}",) for number in range(len(key)))
        for (one, name), (other, other_name) in zip(ones, others, strict=True) if len(ones) == len(others) else ():
            may_be_turned = len(key) > 1 and key == key[::-1]
            if not may_be_turned or one.kind == other.kind == "parameters":
                same = one.side.shape(name) == other.side.shape(other_name)
                both = axes, axes if same else axes[::-1]
                yield from _fitting(sides, ((name,), (other_name,)), both)


def _call_by_call(pairs: Sequence[GroupPair], alone: Sequence[Groups]) -> Pairs:
    """Pairs of layers without weights of a kind, of which one side calls some again where the other side has layers
    of their own: call by call, each after the same pairs."""
    bare = [[group for group in of if not group.tensors and group.kind != TAP and group.calls] for of in alone]
    for kind in dict.fromkeys(group.kind for group in bare[0]):
        both = [[group for group in of if group.kind == kind] for of in bare]
        counts = [[len(group.calls) for group in of] for of in both]
        if counts[0] == counts[1] or not all(both):
            continue
        ran, before = zip(*(_as_they_ran(of, [p.both[n] for p in pairs]) for n, of in enumerate(both)), strict=True)
        if before[0] == before[1] and _may_be_same(GroupPair(ran[0][0][0], ran[1][0][0], "order")):
            numbers: dict[tuple[str, str], list[tuple[int, int]]] = {}
            for (left, one), (right, other) in zip(*ran, strict=True):
                numbers.setdefault((left.name, right.name), []).append((one, other))
            named = [{group.name: group for group in of} for of in both]
            for (left, right), of_pair in numbers.items():
                yield GroupPair(named[0][left], named[1][right], "order", numbers=tuple(of_pair))


def _as_they_ran(groups: Groups, paired: Groups) -> tuple[list[tuple[WeightGroup, int]], list[set[int]]]:
    """The calls of groups in the order in which they ran, and before each the paired groups with weights, by their
    numbers, that ran before it."""
    order = {id(call): place for group in groups[:1] for place, call in enumerate(group.side.says.calls)}
    first = {n: order[id(of.calls[0].recorded[0])] for n, of in enumerate(paired) if of.tensors and of.calls}
    calls = [(order[id(call.recorded[0])], group, call.number) for group in groups for call in group.calls]
    calls.sort(key=lambda call: call[0])
    before = [{number for number, place in first.items() if place < here} for here, _, _ in calls]
    return [(group, number) for _, group, number in calls], before


def _without_weights(pairs: Sequence[GroupPair], whole: Sequence[Groups], alone: Sequence[Groups]) -> Pairs:
    """Pairs of layers without weights that stand at one place among the pairs, that are of one kind or whose names
    end alike, and whose outputs may be the same."""
    run = [
        {name for group in groups if group.kind != "buffers" for name in group.names if name in group.side.owners}
        for groups in whole
    ]  # the weights of layers: a constant may stand anywhere
    names = [tuple(own & {*group.names} for own, group in zip(run, pair.both, strict=True)) for pair in pairs]
    by_place: dict[int, tuple[list[WeightGroup], list[WeightGroup]]] = {}
    for number, groups in enumerate(alone):
        places = _places([own[number] for own in names if all(own)], whole[number])
        for group in groups:
            if id(group) in places:
                by_place.setdefault(places[id(group)], ([], []))[number].append(group)
    for ones, others in by_place.values():
        found: list[GroupPair] = []
        for kind in dict.fromkeys(group.kind for group in ones):
            of_kind = ([group for group in groups if group.kind == kind] for groups in (ones, others))
            found += filter(_may_be_same, _of_one_shape(*of_kind))
        rest = [_rest(ones, [pair.left for pair in found]), _rest(others, [pair.right for pair in found])]
        rest = [[group for group in groups if len(group.calls) == 1] for groups in rest]
        named = _of_like_names(*(dict(enumerate(groups)) for groups in rest))
        yield from found
        yield from filter(
            _may_be_same, (GroupPair(rest[0][one], rest[1][other], "name") for one, other in named.items())
        )


def _places(pairs: Sequence[set[str]], groups: Groups) -> dict[int, int]:
    """How many pairs ran before each layer without weights, by its id: only where these are the first of all pairs,
    and none of them has some of its weights after it. Pairs are told by the names of one side's weights."""
    pair_of = {name: place for place, names in enumerate(pairs) for name in names}
    left = Counter(pair_of.values())
    found, begun, ended = {}, 0, 0
    for group in groups:
        for place in [pair_of.pop(name) for name in group.names if name in pair_of]:
            left[place] -= 1
            begun, ended = max(begun, place + 1), ended + (not left[place])
        if not group.tensors and group.kind != TAP and begun == ended:
            found[id(group)] = ended
    return found


def _may_be_same(pair: GroupPair) -> bool:
    """Whether what the layers gave first, if both did, has as many axes, and as many rows or the same sizes."""
    left, right = map(_shape_given, pair.both)
    if left is None or right is None:
        return True
    return len(left) == len(right) and (left[:1] == right[:1] or sorted(left) == sorted(right))


def _shape_given(group: WeightGroup) -> Shape | None:
    """The shape of the layer's first recorded output."""
    parts, arrays = (part for call in group.calls for part in call.parts), group.side.arrays("layers")
    return next((arrays.shape(part) for part in parts if part in arrays), None)


WAYS: tuple[Way, ...] = (
    partial(_by_kind, sure=True), _by_numbers, _by_kind, _by_shapes_that_add_up, _by_kind, _by_more_rows, _by_shape
)  # fmt: skip


def _with_parents(pairs: list[GroupPair], *sides: Side) -> list[GroupPair]:
    """The pairs, and after the last pair within them those of layers that contain the same pairs, whose outputs tell
    whether what stands between the layers in them is the same. Such layers have no weights of their own, or some that
    are those of several layers on the other side, as packed experts are."""
    cut = [pair.entry is not None and len(pair.left.layers) != len(pair.right.layers) for pair in pairs]
    parents: list[dict[frozenset[int], list[RecordedLayer]]] = []  # of each side, by the numbers of the pairs inside
    for number, side in enumerate(sides):
        paths = [{layer.path for layer in pair.both[number].layers} for pair in pairs]
        alone = {
            path for pair, of_pair in zip(pairs, paths, strict=True) if not pair.left.tensors for path in of_pair
        }
        owners = {path for of_pair, is_cut in zip(paths, cut, strict=True) if is_cut for path in of_pair}
        whole: dict[str, set[int]] = {}  # by a layer's path the pairs that are in it
        parted: set[str] = set()  # the paths of layers that have some layers of a pair
        for place, of_pair in enumerate(paths):
            if pairs[place].numbers is not None:  # in any layer that calls them
                continue
            above = [{*above_of(path)} | ({path} & owners) for path in of_pair]
            of_all = set.intersection(*above)
            parted |= set.union(*above) - of_all
            for path in of_all:
                whole.setdefault(path, set()).add(place)
        parents.append({})
        for layer in side.says.layers:
            is_parent = layer.path in side.called and (not layer.own or layer.path in owners)
            is_parent = is_parent and layer.path not in alone
            if is_parent and layer.path in whole and layer.path not in parted:
                parents[-1].setdefault(frozenset(whole[layer.path]), []).append(layer)
    after: dict[int, list[GroupPair]] = {}
    for inside, ones in parents[0].items():
        others = parents[1].get(inside, [])
        for one, other in reversed([*zip(ones, others, strict=True)]) if len(ones) == len(others) else ():
            made = [WeightGroup(side, PARENT, layer) for side, layer in zip(sides, (one, other), strict=True)]
            after.setdefault(max(inside), []).append(GroupPair(made[0], made[1], "order"))  # the inner one ends first
    return [found for place, pair in enumerate(pairs) for found in (pair, *after.get(place, []))]
