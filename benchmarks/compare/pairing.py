"""Which weights and layers of two records belong together.

A mapping file comes first; then layers of one kind, by order and shape; then weights of which both sides hold the
same numbers, in whatever arrangement; then those whose shapes add up, in order. What comes of a mapping or of numbers
is an entry (see arrangement.py); of layers whose kinds are known the tables of layouts.py say the arrangement.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import permutations

import numpy as np

from benchmarks.compare.arrangement import LACKING, PARTS, Arrangement, Axes
from benchmarks.compare.by_value import found_by_value
from benchmarks.compare.comparer import Array
from benchmarks.compare.groups import Arranged, Canonical, GroupPair, WeightGroup, groups_of
from benchmarks.compare.layouts import ARRANGED, PARENT, Shape
from benchmarks.compare.mapping import MappingFile, MappingLine, fitted, quoted, read_either_way
from benchmarks.compare.record import Arrays, RecordedLayer, Side, UnfitRecordsError

TOLD_BY = 64  # numbers of an array that tell it from others of its shape
OWN = ("parameters", "buffers")  # kinds of weights of which nobody here knows what their axes are
SUMMED = ("dense", "conv")  # kinds of layers of which one may be several others side by side


@dataclass(frozen=True)
class Pairing:
    pairs: list[GroupPair]  # in the left side's order of execution
    left: list[WeightGroup]  # those without a partner
    right: list[WeightGroup]
    skipped: dict[str, str] = field(default_factory=dict)  # names that a mapping leaves out, and its reasons

    def require(self, left: Side, right: Side) -> "Pairing":
        """Return this pairing. Raises CannotBeginError where a group that is trained has no partner."""
        sides = [(left, [g for g in self.left if g.required]), (right, [g for g in self.right if g.required])]
        for (side, alone), (other_side, others) in permutations(sides):
            if alone:
                missing = alone[0]
                alike = [group for group in others if group.kind == missing.kind] or others
                candidates = ", ".join(described(group) for group in alike[:3]) or "nothing without a partner"
                raise UnfitRecordsError(
                    f"{described(missing)} of {side.name} has no partner; {other_side.name} has left {candidates}; "
                    "say in a mapping file which belong together (--write-mapping drafts it, --mapping reads it), "
                    f"such as {proposed(missing, others, side is left)}"
                )
        return self


def described(group: WeightGroup) -> str:
    """A group in words: its name, its kind and its shapes."""
    shapes = ", ".join(
        f"{name} {'×'.join(map(str, shape)) or 'of one number'}" for name, shape in group.shapes.items()
    )
    return f"{group.name} ({group.kind}{': ' + shapes if shapes else ''})"


def proposed(missing: WeightGroup, others: Sequence[WeightGroup], is_left: bool) -> str:
    """A line for a mapping file, to begin with."""
    own, other = missing.names[0], others[0].names[0] if others else "…"
    left, right = (own, other) if is_left else (other, own)
    if not others:
        return f'[skip] {quoted(own)} = "why it is not compared"'
    return f'[weights] {quoted(left)} = {{to = {quoted(right)}, axes = "n m -> m n"}}'


def paired(left: Side, right: Side, mapping: MappingFile | None = None) -> Pairing:
    """Pair the groups of two records. Raises CannotBeginError for a mapping that names what is not there."""
    mapping = mapping or MappingFile()
    lefts, rights = groups_of(left), groups_of(right)
    order = {name: place for place, group in enumerate(lefts) for name in (group.layer.path, *group.names)}
    skipped = _skipped(mapping, (lefts, left), (rights, right))
    lefts, rights = (_without(groups, skipped) for groups in (lefts, rights))
    shapes = [{name: side.shape(name) for name in side.arrays("weights")} for side in (left, right)]
    entries, layers = read_either_way(mapping, shapes[0], shapes[1], order.keys() | {group.name for group in lefts})
    pairs = [of_entry(entry, left, right) for entry in entries]
    lefts, rights = _rest(pairs, lefts, rights)
    for name, other_name in layers.items():
        ones, others = _named(lefts, name, left), _named(rights, other_name, right)
        if len(ones) != len(others):
            raise UnfitRecordsError(
                f"the mapping has {name} for {other_name}, which are {len(ones)} and {len(others)} groups of "
                f"weights; name them one by one: {', '.join(g.name for g in (*ones, *others))}"
            )
        found = [GroupPair(one, other, "mapping") for one, other in zip(ones, others, strict=True)]
        lefts, rights = _rest(found, lefts, rights)
        pairs += found
    for way in (_surely_by_kind, _by_numbers, _by_kind, _by_shapes_that_add_up, _by_more_rows, _by_shape):
        found = list(way(lefts, rights))
        lefts, rights = _rest(found, lefts, rights)
        pairs += found
    places = [min(order[name] for name in (pair.left.names or [pair.left.layer.path])) for pair in pairs]
    in_order = [pairs[place] for place in sorted(range(len(pairs)), key=places.__getitem__)]
    return Pairing(_with_parents(in_order, left, right), lefts, rights, skipped)


def _skipped(mapping: MappingFile, *sides: tuple[Sequence[WeightGroup], Side]) -> dict[str, str]:
    """What the mapping leaves out. Raises CannotBeginError where neither side has it, or no reason is given."""
    there = {n for groups, _ in sides for group in groups for n in (group.name, group.layer.path, *group.names)}
    for name, reason in mapping.skip.items():
        if name not in there:
            raise UnfitRecordsError(
                f"the mapping skips {name}, which neither side has; [skip] names weights or layers"
            )
        if not reason.strip():
            raise UnfitRecordsError(f'the mapping skips {name} without a reason; give one: {quoted(name)} = "…"')
    return dict(mapping.skip)


def _without(groups: Sequence[WeightGroup], names: Collection[str]) -> list[WeightGroup]:
    """The groups without those of these names, and without weights of these names."""
    found = []
    for group in groups:
        if group.name in names or group.layer.path in names:
            continue
        kept = {name: tensor for name, tensor in group.tensors.items() if not {*tensor.names} & {*names}}
        if kept or not group.tensors:
            found.append(group if len(kept) == len(group.tensors) else replace(group, tensors=kept))
    return found


def _rest(
    pairs: Sequence[GroupPair], lefts: Sequence[WeightGroup], rights: Sequence[WeightGroup]
) -> tuple[list[WeightGroup], list[WeightGroup]]:
    """The groups of both sides without what is paired."""
    rests = []
    for groups, own in ((lefts, [pair.left for pair in pairs]), (rights, [pair.right for pair in pairs])):
        whole = {id(group) for group in own}
        taken = {name for group in own if group.kind == ARRANGED for name in group.names}
        rests.append(_without([group for group in groups if id(group) not in whole], taken))
    return rests[0], rests[1]


def of_entry(entry: Arrangement, left: Side, right: Side) -> GroupPair:
    """The pair of an entry. Its tensor has the name that a layer has for it."""
    owners = [side.owners.get(half.own[0]) for side, half in ((left, entry.left), (right, entry.right))]
    single = 0 if len(entry.left.own) == 1 else 1
    whole, own = owners[single], (entry.left, entry.right)[single].own[0]
    role = next((role for role, name in _roles(whole).items() if name == own), "weight") if whole else "weight"
    groups = []
    for side, half, is_left in ((left, entry.left, True), (right, entry.right, False)):
        layers = tuple(side.owners[name] for name in half.own if name in side.owners)
        known = layers if len(layers) == len(half.own) else ()
        layer = known[0] if known else RecordedLayer(" + ".join(half.own), [])
        tensors = {role: Arranged(entry, is_left)}
        groups.append(WeightGroup(side, ARRANGED, layer, "", tensors, side_by_side=known))
    return GroupPair(groups[0], groups[1], entry.found)


def _roles(layer: RecordedLayer) -> dict[str, str]:
    """The layer's names for its own weights, and the record's."""
    return {**layer.parameters, **layer.buffers}


def _by_kind(lefts: Sequence[WeightGroup], rights: Sequence[WeightGroup], sure: bool = False) -> Iterator[GroupPair]:
    """Pairs of groups of one kind in order, if their shapes agree throughout; otherwise of those of each shape whose
    number is the same on both sides. Tied weights without a partner are left out first. Of several of one shape those
    belong together that hold the same numbers, if there are such. Weights of layers that no framework knows must have
    the same names. Only what is `sure` if that is asked for: kinds whose shapes agree throughout, and weights of the
    same numbers."""
    for kind in dict.fromkeys(group.kind for group in lefts):
        known = kind not in OWN
        throughout, found = _by_order([g for g in lefts if g.kind == kind], [g for g in rights if g.kind == kind])
        by_shape: dict[tuple[Shape, ...], list[GroupPair]] = {}
        for pair in found:
            by_shape.setdefault(pair.left.signature, []).append(pair)
        for pairs in by_shape.values():
            for pair in _by_the_same_numbers(pairs):
                one, other = pair.both
                alike = (known and throughout) or not sure or _numbers(one) == _numbers(other)
                if alike and (known or one.part == other.part):
                    yield pair


def _surely_by_kind(lefts: Sequence[WeightGroup], rights: Sequence[WeightGroup]) -> Iterator[GroupPair]:
    return _by_kind(lefts, rights, sure=True)


def _by_order(lefts: Sequence[WeightGroup], rights: Sequence[WeightGroup]) -> tuple[bool, list[GroupPair]]:
    """Whether the shapes agree throughout, and the pairs."""
    for ones in (lefts, [group for group in lefts if group.required]):
        for others in (rights, [group for group in rights if group.required]):
            if [group.signature for group in ones] == [group.signature for group in others]:
                return True, [GroupPair(one, other, "kind") for one, other in zip(ones, others, strict=True)]
    by_shape: dict[tuple[Shape, ...], tuple[list[WeightGroup], list[WeightGroup]]] = {}
    for side, groups in enumerate((lefts, rights)):
        for group in groups:
            by_shape.setdefault(group.signature, ([], []))[side].append(group)
    return False, [
        GroupPair(one, other, "kind")
        for ones, others in by_shape.values()
        if len(ones) == len(others)
        for one, other in zip(ones, others, strict=True)
    ]


def _by_the_same_numbers(pairs: Sequence[GroupPair]) -> Iterator[GroupPair]:
    """These pairs, all of one shape, with those right groups exchanged that hold other left groups' numbers."""
    if len(pairs) == 1 or not pairs[0].left.tensors:
        yield from pairs
        return
    of_left, of_right = ([_numbers(group) for group in side] for side in zip(*(p.both for p in pairs), strict=True))
    if of_left == of_right:
        yield from pairs
        return
    lefts, rights = ({numbers: place for place, numbers in enumerate(of)} for of in (of_left, of_right))
    moved = {lefts[numbers]: rights[numbers] for numbers in lefts if numbers in rights}
    if len(lefts) < len(pairs) or len(rights) < len(pairs):  # some are the same, such as ones
        moved = {}
    others = iter([place for place in range(len(pairs)) if place not in moved.values()])
    for place, pair in enumerate(pairs):
        other = moved[place] if place in moved else next(others)
        yield pair if other == place else GroupPair(pair.left, pairs[other].right, "value")


def _numbers(group: WeightGroup) -> bytes:
    """Some numbers of the group's first tensor, by which it is told from others of its shape; the same of all
    groups without tensors."""
    tensor, arrays = next(iter(group.tensors.values()), None), group.side.arrays("weights")
    if not isinstance(tensor, Canonical) or not isinstance(arrays, Arrays):
        return b""
    source = tensor.sources[0]
    array = np.atleast_1d(source.canonical(arrays.mapped(source.name)))
    places = np.linspace(0, array.size - 1, min(array.size, TOLD_BY)).astype(np.int64)
    return np.asarray(array[np.unravel_index(places, array.shape)], np.float32).tobytes()


def _by_numbers(lefts: Sequence[WeightGroup], rights: Sequence[WeightGroup]) -> Iterator[GroupPair]:
    """Pairs of weights that hold the same numbers, and of what else the same layers own in the same arrangement, such
    as biases of zeros."""
    if not lefts or not rights:
        return
    sides = lefts[0].side, rights[0].side
    arrays = [
        {name: in_precision(side.arrays("weights")[name], sides) for group in groups for name in group.names}
        for side, groups in zip(sides, (lefts, rights), strict=True)
    ]
    entries = found_by_value(arrays[0], arrays[1])
    pairs = [of_entry(entry, *sides) for entry in entries]
    yield from pairs
    for name in [name for pair in pairs for group in pair.both for name in group.names]:
        for side in arrays:
            side.pop(name, None)
    for entry, pair in zip(entries, pairs, strict=True):
        yield from _companions(entry, pair, arrays[0], arrays[1])


def in_precision(array: Array, sides: Sequence[Side]) -> Array:
    """The array in the precision that both sides have."""
    precise = all(side.precision == "float64" for side in sides)
    return array if precise or array.dtype != np.float64 else array.astype(np.float32)


def _companions(
    entry: Arrangement, pair: GroupPair, lefts: dict[str, Array], rights: dict[str, Array]
) -> Iterator[GroupPair]:
    """Pairs of what stands beside the arrays of an entry in their layers, one array a layer, such as their biases:
    their one axis is arranged as the kernels' axis of outputs."""
    groups = [[group for group in half.axes if PARTS in group] for half in (entry.left, entry.right)]
    if not all(groups):
        return
    names = [
        [name for layer in group.side_by_side for name in _roles(layer).values() if name in of and of[name].ndim == 1]
        for group, of in zip(pair.both, (lefts, rights), strict=True)
    ]
    counts = [len(group.side_by_side) for group in pair.both]
    if [len(of) for of in names] != counts or not all(counts):
        return
    made = _fitted(names[0], names[1], ((groups[0][0],), (groups[1][0],)), entry.sizes, pair, entry.found)
    if made:
        yield made
        for name in made.left.names:
            lefts.pop(name)
        for name in made.right.names:
            rights.pop(name)


def _fitted(
    left: Sequence[str],
    right: Sequence[str],
    axes: tuple[Axes, Axes],
    sizes: Mapping[str, int],
    like: GroupPair,
    found: str,
) -> GroupPair | None:
    """The pair of an entry of these arrays, if their shapes fit the axes."""
    sides = like.left.side, like.right.side
    text = ", ".join(left)
    names = {name for both in axes for group in both for name in group}
    line = MappingLine(list(right), "axes", {name: size for name, size in sizes.items() if name in names})
    shapes = [
        {name: side.shape(name) for name in of if name != LACKING}
        for side, of in zip(sides, (left, right), strict=True)
    ]
    try:
        entry = fitted(text, line, (tuple(left), tuple(right)), axes, (shapes[0], shapes[1]))
    except UnfitRecordsError:
        return None
    return of_entry(replace(entry, found=found), *sides)


def _by_shapes_that_add_up(lefts: Sequence[WeightGroup], rights: Sequence[WeightGroup]) -> Iterator[GroupPair]:
    """Pairs of a layer and of several of its kind that follow one another and have its outputs in parts, such as
    query, key and value."""
    for turned in (False, True):
        ones, others = (rights, lefts) if turned else (lefts, rights)
        taken: set[int] = set()
        for one in ones:
            run = next(iter(_runs(one, [group for group in others if id(group) not in taken])), ())
            axes = [_raw_axes(group) for group in (one, *run)]
            if not run or not all(axes) or any(group.tensors.keys() != one.tensors.keys() for group in run):
                continue
            taken |= {id(group) for group in run}
            for name in one.tensors:
                whole, parts = list(one.tensors[name].names), [n for g in run for n in g.tensors[name].names]
                both = axes[0][name], axes[1][name]
                like = GroupPair(run[0], one, "shape") if turned else GroupPair(one, run[0], "shape")
                made = (
                    _fitted(parts, whole, (both[1], both[0]), {}, like, "shape")
                    if turned
                    else _fitted(whole, parts, both, {}, like, "shape")
                )
                if made:
                    yield made


def _by_more_rows(lefts: Sequence[WeightGroup], rights: Sequence[WeightGroup]) -> Iterator[GroupPair]:
    """Pairs in order of embeddings of which one has more rows, such as padding at its end."""
    for one, other in zip(*([g for g in of if "embeddings" in g.tensors] for of in (lefts, rights)), strict=False):
        own, others = one.names[0], other.names[0]
        if one.shapes["embeddings"][1:] == other.shapes["embeddings"][1:]:
            more = one.shapes["embeddings"] > other.shapes["embeddings"]
            names = ([own], [others, LACKING]) if more else ([own, LACKING], [others])
            axes = (PARTS,), ("m",)
            made = _fitted(*names, (axes, axes), {}, GroupPair(one, other, "shape"), "shape")
            if made:
                yield made


def _runs(one: WeightGroup, others: Sequence[WeightGroup]) -> Iterator[tuple[WeightGroup, ...]]:
    """Groups that follow one another and have this group's outputs in parts."""
    if one.kind not in SUMMED or "kernel" not in one.tensors:
        return
    alike = [group for group in others if group.kind == one.kind and "kernel" in group.tensors]
    *inputs, outputs = one.shapes["kernel"]
    for start in range(len(alike)):
        total = 0
        for end in range(start, len(alike)):
            *other_inputs, width = alike[end].shapes["kernel"]
            total += width
            if other_inputs != inputs or total > outputs:
                break
            if total == outputs and end > start:
                yield tuple(alike[start : end + 1])


def _raw_axes(group: WeightGroup) -> dict[str, Axes]:
    """Names for the axes of a layer's own arrays, the outputs being the parts; none where the tables do more to them
    than to transpose them."""
    found: dict[str, Axes] = {}
    for name, tensor in group.tensors.items():
        if not isinstance(tensor, Canonical) or len(tensor.sources) != 1:
            return {}
        own, axes = tensor.sources[0].own, len(tensor.shape)
        letters = [*(f"k{number}" for number in range(axes - 2)), "m", PARTS][-axes:]
        if own.shape or own.gates or own.part != (0, 1) or own.axes:
            return {}
        ordered = [letters[-1], letters[-2], *letters[:-2]] if own.transposed else letters
        found[name] = tuple((letter,) for letter in ordered)
    return found


def _by_shape(lefts: Sequence[WeightGroup], rights: Sequence[WeightGroup]) -> Iterator[GroupPair]:
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
        if len(ones) != len(others):
            continue
        for (one, name), (other, other_name) in zip(ones, others, strict=True):
            own_layers = one.kind == other.kind == "parameters"
            if len(key) > 1 and key == key[::-1] and not own_layers:
                continue
            letters = tuple((f"a{number}",) for number in range(len(key)))
            same = one.side.shape(name) == other.side.shape(other_name)
            axes = letters, letters if same else letters[::-1]
            made = _fitted([name], [other_name], axes, {}, GroupPair(one, other, "shape"), "shape")
            if made:
                yield made


def _with_parents(pairs: list[GroupPair], left: Side, right: Side) -> list[GroupPair]:
    """The pairs, and after the last pair within them those of layers that contain the same pairs, whose outputs tell
    whether what stands between the layers in them is the same. Such layers have no weights of their own, or some that
    are those of several layers on the other side, as packed experts are."""
    cut = [pair for pair in pairs if pair.left.kind == ARRANGED and len(pair.left.layers) != len(pair.right.layers)]
    of_left, of_right = (
        _parents(
            side,
            [{layer.path for layer in pair.both[number].layers} for pair in pairs],
            {layer.path for pair in cut for layer in pair.both[number].layers},
        )
        for number, side in enumerate((left, right))
    )
    after: dict[int, list[GroupPair]] = {}
    for inside, ones in of_left.items():
        others = of_right.get(inside, [])
        if len(ones) == len(others):
            made = [
                GroupPair(WeightGroup(left, PARENT, one), WeightGroup(right, PARENT, other), "order")
                for one, other in zip(ones, others, strict=True)
            ]
            after.setdefault(max(inside), []).extend(reversed(made))  # what is within another one ends before it
    return [found for place, pair in enumerate(pairs) for found in (pair, *after.get(place, []))]


def _parents(
    side: Side, paths: Sequence[set[str]], cut: Collection[str]
) -> dict[frozenset[int], list[RecordedLayer]]:
    """The layers without weights, or of the paths that are `cut` otherwise, that were called and contain others, by
    the numbers of the pairs in them, whose layers have these paths."""
    found: dict[frozenset[int], list[RecordedLayer]] = {}
    for layer in side.says.layers:
        if layer.path in side.calls and (layer.path in cut or not _roles(layer)):
            starts = tuple(f"{layer.path}{dot}" for dot in "./") if layer.path else ("",)
            own = {layer.path} if layer.path in cut else set()
            within = [
                {path in own or (path.startswith(starts) and path != layer.path) for path in of} for of in paths
            ]
            inside = frozenset(place for place, of in enumerate(within) if of == {True})
            if inside and not any(of == {True, False} for of in within):
                found.setdefault(inside, []).append(layer)
    return found


def _named(groups: Sequence[WeightGroup], name: str, side: Side) -> list[WeightGroup]:
    """The groups of a layer, or the one group of this name."""
    found = [group for group in groups if name in (group.name, group.layer.path)]
    if not found:
        raise UnfitRecordsError(
            f"the mapping names {name}, which {side.name} does not have, or only once; it has "
            f"{', '.join(group.name for group in groups[:20]) or 'nothing more'}"
        )
    return found
