"""The surroundings of the layer that is shown, by names for causes: its output, its input where
that is recorded, the outputs before it, and what it may have taken of them."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import chain, combinations, islice, permutations, takewhile
from math import prod

import numpy as np

from rosetta_diff.activations import ACTIVATIONS
from rosetta_diff.arrays import Array
from rosetta_diff.explain.broken import Broken
from rosetta_diff.explain.operators import OPERATORS, PROJECTIONS
from rosetta_diff.judge.outputs import activations, pair_inputs
from rosetta_diff.read.description import RecordedCall, RecordedLayer
from rosetta_diff.read.groups import Call, WeightGroup, above_of, groups_of
from rosetta_diff.read.rules import CHANNELLED, PARENT, RECURRENT, TAP

NUMBERS_TRIED = 1 << 16  # of an array, in its first rows
ROWS_TRIED = 8, 64  # of a layer that computes each row by itself: at least, and at most
NUMBERS_OF_ROWS = 1 << 28  # multiplications for all of these rows
BEFORE = 9  # outputs that a layer may take, those computed last before it
LOOKED_AT = 36  # calls of the right side before the layer
IS_GIVEN = " is given"
OF_RIGHT = "the right side's "  # begins the name of what the right side computed
NORMS = ("layernorm", "rmsnorm")
WEIGHTED = ("dense", "embedding", *NORMS, *CHANNELLED, *RECURRENT)  # kinds of layers
Way = Callable[[Array], Array]
AS_THEY_ARE: tuple[Way, Way] = np.asarray, np.asarray


@dataclass(frozen=True)
class Context:
    """The surroundings of the layer that is shown, on one side. Arrays are in float64, of the first
    rows alone, with their axes as the left side has them."""

    broken: Broken
    group: WeightGroup  # the left side's where its kind is known, since the weights agree
    output: Array
    # By its caller; to a framework's attention query, key and value; empty if one lacks it.
    given: Sequence[Array]
    before: Mapping[str, Array]  # what the side computed before, that which was computed last first
    ids: Mapping[str, Array]  # the integers that the model takes

    @cached_property
    def weights(self) -> dict[str, Array]:
        arrays = {name: self.group.tensor(name) for name in self.group.tensors}
        return {
            name: array.astype(np.float64) for name, array in arrays.items() if array is not None
        }

    @property
    def has_weights(self) -> bool:
        """True for a layer of a kind that is known by its weights."""
        return self.group.kind in WEIGHTED

    @property
    def is_bare(self) -> bool:
        """True for a layer without weights that contains no other layer."""
        return not self.group.tensors and self.group.kind != PARENT

    @cached_property
    def rows(self) -> tuple[Array, ...] | None:
        """The indices of some rows of a layer that computes each by itself: the first ones, and
        those in which the sides differ most. None for other layers."""
        if self.has_weights and self.group.kind not in OPERATORS:
            return None
        lead, (left, right) = self.output.shape[:-1], self.broken.arrays
        total, (fewest, most) = prod(lead), ROWS_TRIED
        size = max((array.size for array in self.weights.values()), default=1)
        number = max(fewest, min(most, NUMBERS_OF_ROWS // max(1, size)))
        if right.shape != left.shape or total <= number:
            rows = np.arange(min(total, number))
        else:
            differs = np.abs(right.astype(np.float64) - left).max(-1).ravel()[:total]
            rows = np.unique([*np.argsort(differs)[-number // 2 :], *range(number // 2)])
        return np.unravel_index(rows, lead)

    def picked(self, array: Array) -> Array | None:
        """Return these rows of an array, or all of it;
        None where it has another number of rows than the output."""
        if self.rows is None:
            return array
        lead = self.output.shape[:-1]
        if array.shape[:-1] == lead:
            return array[self.rows]
        fits = prod(array.shape[:-1]) == prod(lead)
        return array.reshape(*lead, array.shape[-1])[self.rows] if fits else None


def contexts(broken: Broken) -> list[Context]:
    """Return the contexts of the left and the right side; none where an output is missing."""
    left, right = broken.arrays
    if not broken.item.is_output or not all(
        array.ndim > 1 and array.size for array in (left, right)
    ):
        return []
    groups = [group_of_layer(group) for group in broken.groups]
    groups = groups or [WeightGroup(broken.sides[0], "output", (RecordedLayer("", []),))]
    group = next((group for group in groups if group.kind in WEIGHTED), groups[0])
    before, of_right = computed_before(broken)
    arrays = given(broken) if broken.groups and group.kind != "embedding" else []
    if (
        broken.groups[0].channels_stand_first
        if group.kind in CHANNELLED
        else width_is_second(group, left)
    ):
        left, right = channels_last(left), channels_last(right)
        arrays = [(channels_last(of_left), channels_last(of_right)) for of_left, of_right in arrays]
        before, of_right = all_with_channels_last(before), all_with_channels_last(of_right)
    every = left, right, *chain(*arrays), *before.values(), *of_right.values()
    cut = min(max(1, NUMBERS_TRIED // max(1, prod(array.shape[1:]))) for array in every)

    def rows(array: Array) -> Array:
        return array[:cut].astype(np.float64)

    inputs = broken.stages.left.arrays("inputs")
    ids = [
        name
        for name in inputs
        if inputs[name].dtype.kind in "iu" and inputs[name].ndim and "batch" not in name
    ]
    of_model = {name: inputs[name][:cut].astype(np.int64) for name in ids}
    of_left, of_right = (
        {name: rows(array) for name, array in of.items()} for of in (before, of_right)
    )
    of_both = of_left | of_right
    # A stacked layer's sequence may be on the right.
    had = of_both if group.kind in RECURRENT else of_left
    return [
        Context(
            broken, group, rows(output), [rows(both[place]) for both in arrays], outputs, of_model
        )
        for place, (output, outputs) in enumerate([(left, had), (right, of_both)])
    ]


def group_of_layer(group: WeightGroup) -> WeightGroup:
    """Return the group of the layer itself where a line pairs its weights. A layer of one's own
    with a gain, or with a gain and a shift, may be a norm."""
    groups = groups_of(group.side) if group.kind == "parameters" and len(group.layers) == 1 else []
    of_layer = [candidate for candidate in groups if candidate.layer is group.layer]
    vectors = [
        candidate.tensors[candidate.part]
        for candidate in of_layer
        if candidate.kind == "parameters"
    ]
    shapes = {vector.shape for vector in vectors}
    if len(vectors) == len(of_layer) in (1, 2) and len(shapes) == len(vectors[0].shape) == 1:
        kind = "rmsnorm" if len(vectors) == 1 else "layernorm"
        return replace(
            of_layer[0],
            kind=kind,
            part="",
            tensors=dict(zip(("gamma", "beta"), vectors, strict=False)),
        )
    return next(iter(of_layer), group)


def names_given(broken: Broken, place: int) -> list[str]:
    """Return the names of what the layer that is shown was given on the left (0) or on the right
    (1), where that is recorded: of a framework's attention three arrays, of which its query, key
    and value are computed."""
    shown = broken.groups[place]
    arrays = broken.sides[place].arrays("layers")
    given_names = list[str]()
    groups = [shown]
    if broken.groups[0].part == "output":
        pairs = [
            pair
            for pair in broken.stages.pairing.pairs
            if pair.left.layer is broken.groups[0].layer
        ]
        groups = [
            pair.both[place] for name in PROJECTIONS for pair in pairs if pair.left.part == name
        ]
    elif shown.part == "output" or (
        shown.kind in RECURRENT and not (shown.part or "l0").startswith("l0")
    ):
        return []  # it is computed within the layer
    for group in groups:
        inputs = next((call.recorded[0].inputs for call in shown_call(broken, place, group)), {})
        names = [inputs[group.part]] if group.part in inputs else inputs.values()
        of_group = {name: arrays.memory_map(name) for name in names}
        whole = {
            name: array
            for name, array in of_group.items()
            if array.dtype.kind in "iu" and array.size
        }
        ids = whole if group.kind == "embedding" else ()
        given_names += [*ids, *(name for name, array in of_group.items() if is_usable(array))][:1]
    return given_names if len(given_names) == len(groups) else []


def given(broken: Broken) -> list[tuple[Array, Array]]:
    """Return the arrays that the layer that is shown is given on both sides, the right ones with
    their axes in the left ones' order; none where a side lacks one, or where shapes differ."""
    names = [names_given(broken, place) for place in range(len(broken.groups))]
    pair = broken.item.pair
    if pair is None or len(names[0]) != len(names[1]):
        return []
    pairs = [pair_inputs(broken.stages.pairing.turns, pair, *of) for of in zip(*names, strict=True)]
    loads = (
        [broken.stages.loads(tensors) for tensors in pairs]
        if all(tensors.fit for tensors in pairs)
        else []
    )
    return [(np.asarray(left()), np.asarray(right())) for left, right in loads]


def given_otherwise(broken: Broken) -> list[tuple[Array, Array]]:
    """Return those of the arrays that the layer that is shown is given that differ."""
    return [
        (left, right) for left, right in given(broken) if not broken.criterion.explains(right, left)
    ]


def given_the_same(broken: Broken) -> bool:
    """Return True if both sides recorded what the layer that is shown was given,
    and that agrees."""
    return bool(given(broken)) and not given_otherwise(broken)


def shown_call(broken: Broken, place: int, group: WeightGroup) -> list[Call]:
    """Return the call of a group on the left (0) or on the right (1) at which the sides are shown;
    none where the group was not called so often."""
    number = broken.item.call[place].number if broken.item.call else 0
    return group.calls[number : number + 1]


def is_usable(array: Array) -> bool:
    """Return True for numbers that a layer may take."""
    return array.dtype.kind == "f" and array.ndim > 1 and array.size > 0


def width_is_second(group: WeightGroup, array: Array) -> bool:
    """Return True if the second axis of an array is as long as a norm is wide,
    and the last one is not."""
    width = group.shapes.get("gamma", (0,))[-1] if group.kind in NORMS else 0
    return array.ndim > 2 and array.shape[1] == width != array.shape[-1]


def channels_last(array: Array) -> Array:
    return np.moveaxis(array, 1, -1) if array.ndim > 2 else array


def all_with_channels_last(arrays: Mapping[str, Array]) -> dict[str, Array]:
    """Return each array with its channels last,
    whether they are the second axis or are last already."""
    last = {
        f"{name}, whose channels stand last,": array
        for name, array in arrays.items()
        if array.ndim > 2
    }
    return {name: channels_last(array) for name, array in arrays.items()} | last


def computed_before(broken: Broken) -> tuple[dict[str, Array], dict[str, Array]]:
    """Return what the left side computed before the layer that is shown, and what the right side
    did that the left one did not: the outputs of layers, those computed last first, and the model's
    own inputs. Of layers without weights these are outputs that both sides have, since others
    explain nothing."""
    whole = [
        pair for pair in broken.stages.pairing.pairs if not (pair.left.part or pair.right.part)
    ]
    pairs = {pair.left.layer.path: pair for pair in whole}
    names = {
        p.right.layer.path: p.left.layer.path
        for p in whole
        if len(p.left.layers) == len(p.right.layers) == 1
    }
    of_left, of_right = dict[str, Array](), dict[str, Array]()
    arrays = [side.arrays("layers") for side in broken.sides]
    weighted = [{layer.path for layer in side.owners.values()} for side in broken.sides]
    rights = [
        (*of, arrays[1].memory_map(of[2].parts[0]))
        for of in islice(calls_before(broken, 1, names), LOOKED_AT)
    ]
    outputs = [of[3] for of in rights]
    for _, name, call in islice(calls_before(broken, 0, {}), LOOKED_AT):
        known = call.layer in weighted[0] or is_among(
            broken, arrays[0].memory_map(call.parts[0]), outputs
        )
        if len(of_left) < BEFORE and known:
            add_arrays(broken, 0, name, call, of_left, of_left)
    inputs = broken.sides[0].arrays("inputs")
    of_left |= {f"the input {name}": inputs[name] for name in inputs if is_usable(inputs[name])}
    for path, name, call, output in rights:
        ways = activations(pairs[path]) if path in pairs else AS_THEY_ARE
        if ways is None and is_activated(broken, output, of_left):
            continue
        inner = (
            before_activation(broken, ways, of_left[name], output)
            if ways and name in of_left
            else None
        )
        if inner is not None:
            of_left[name] = inner
        elif len(of_right) < BEFORE and name not in of_left and call.layer in weighted[1]:
            add_arrays(broken, 1, name, call, of_right, of_left)
    return of_left, of_right


def calls_before(
    broken: Broken, place: int, names: Mapping[str, str]
) -> Iterator[tuple[str, str, RecordedCall]]:
    """Yield the calls of the left (0) or the right side (1) before the one that is shown, the last
    one first: the path of the layer, by the other side's name where `names` has one, the name of
    the output, and the call."""
    side = broken.sides[place]
    of_group = shown_call(broken, place, broken.groups[place]) if broken.groups else []
    shown = {part for call in of_group for part in call.parts}
    before = [*takewhile(lambda call: not shown & {*call.parts}, side.says.calls)]
    for call in [call for call in reversed(before) if call.parts]:
        alone = (f"{OF_RIGHT}{call.layer}" if place else call.layer) or "the model"
        path, of_layer = names.get(call.layer, alone), side.called[call.layer]
        yield path, f"{path}, call {of_layer.index(call) + 1}" if len(of_layer) > 1 else path, call


def bare_calls(broken: Broken, place: int) -> list[WeightGroup]:
    """Return the layers without weights, that contain no others, of the left (0) or the right
    side's (1) calls after the last layer with weights before the one that is shown, as they ran."""
    side = broken.sides[place]
    holders = {above for layer in side.says.layers for above in above_of(layer.path)}
    ran = (
        side.layers[call.layer]
        for _, _, call in calls_before(broken, place, {})
        if call.layer in side.layers
    )
    between = takewhile(lambda layer: not layer.own and layer.classes[:1] != [TAP], ran)
    bare = [layer for layer in between if layer.path not in holders and layer.classes]
    return [WeightGroup(side, layer.classes[0].lower(), (layer,)) for layer in reversed(bare)]


def add_arrays(
    broken: Broken,
    place: int,
    name: str,
    call: RecordedCall,
    arrays: dict[str, Array],
    of_left: Mapping[str, Array],
) -> None:
    """Add what a call gave and what it was given, unless that is there or among the left side's."""
    parts = {name: call.parts[0]} | {
        f"what {name}{IS_GIVEN}": part for part in islice(call.inputs.values(), 1)
    }
    for words, part in parts.items():
        array = broken.sides[place].arrays("layers").memory_map(part)
        if is_usable(array) and not is_among(broken, array, [*arrays.values(), *of_left.values()]):
            arrays[f"{OF_RIGHT}{words}" if place and words in of_left else words] = array


def is_activated(broken: Broken, output: Array, of_left: Mapping[str, Array]) -> bool:
    """Return True for an activation of what the left side computed."""
    ways = (change(inner) for inner in of_left.values() for change in ACTIVATIONS.values())
    return any(is_among(broken, way, [output]) for way in ways)


def before_activation(
    broken: Broken, ways: tuple[Way, Way], left: Array, right: Array
) -> Array | None:
    """Return what a layer computes before an activation that one side has in it and the other one
    after it; None where that is not so."""
    for inner, change, outer in ((left, ways[0], right), (right, ways[1], left)):
        if (
            change is not np.asarray
            and right.shape == left.shape
            and is_among(broken, change(inner), [outer])
        ):
            return inner
    return None


def is_among(broken: Broken, array: Array, candidates: Sequence[Array]) -> bool:
    """Return True if the first rows of the array are those of another, but for rounding."""
    rows = max(1, NUMBERS_TRIED // max(1, prod(array.shape[1:])))
    of_shape = [
        candidate for candidate in candidates if candidate.shape == array.shape and array.ndim
    ]
    return any(broken.criterion.explains(array[:rows], candidate[:rows]) for candidate in of_shape)


@dataclass(frozen=True)
class Input:
    """A possible input: a sum of arrays, an activation of which may be multiplied by a gate."""

    terms: Sequence[Array]
    gate: Array | None = None

    @property
    def array(self) -> Array:
        return sum(self.terms[1:], self.terms[0])


def inputs_of(context: Context, width: int) -> dict[str, Input]:
    """Return what a layer of this width may take, in the rows that are tried,
    by what a cause calls it."""
    inputs = dict[str, Input]()

    def add(name: str, *terms: Array, gate: Array | None = None) -> None:
        if name in context.before and name.startswith(OF_RIGHT):
            return  # what one side alone has explains nothing as it is
        rows = [context.picked(term) for term in (*terms, *([] if gate is None else [gate]))]
        if terms[0].shape[-1] == width and not any(row is None for row in rows):
            arrays = [row for row in rows if row is not None]
            inputs.setdefault(
                name, Input(arrays) if gate is None else Input(arrays[:-1], arrays[-1])
            )

    outputs = context.before
    for name, array in outputs.items():
        for words, way in ways(context, array, width):
            add(f"{name}{words}", way)
        if array.shape[-1] == 2 * width:
            first, second = np.split(array, 2, -1)
            add(f"{name} with its first half as the gate", first, gate=second)
            add(f"{name} with its second half as the gate", second, gate=first)
    for (name, array), (also, second) in permutations(outputs.items(), 2):
        if array.shape == second.shape:
            add(f"{also} with {name} as its gate", array, gate=second)
    for name, terms in sums(context):
        add(name, *terms)
    return inputs


def ways(context: Context, array: Array, width: int) -> Iterator[tuple[str, Array]]:
    """Yield how the axes of an output may stand when the layer takes it."""
    channels_first = context.group.channels_stand_first and context.group.kind not in CHANNELLED
    yield "", array
    if channels_first and array.ndim > 2:
        yield " with its channels last", channels_last(array)
    if array.ndim > 2 and prod(array.shape[1:]) == width:
        orders = (
            (channels_last(array), array) if channels_first else (array, np.moveaxis(array, -1, 1))
        )
        for order, turned in zip(("last", "first"), orders, strict=True):
            yield f" flattened with its channels {order}", turned.reshape(len(turned), -1)


Terms = tuple[str, list[Array]]  # a name and what is added up


def sums(context: Context) -> Iterator[Terms]:
    """Yield sums of two outputs or of three: of a residual, of ids and positions, which may be the
    same in each row, or of both; the rows of an embedding may be multiplied by the root of its
    width."""
    pairs = context.broken.stages.pairing.pairs
    tables = {pair.left.layer.path for pair in pairs if pair.left.kind == "embedding"}
    rows = {
        name: array for name, array in context.before.items() if name.partition(",")[0] in tables
    }
    scaled = {
        f"{name} times the root of its width": array * array.shape[-1] ** 0.5
        for name, array in rows.items()
    }
    yield from ((name, [array]) for name, array in scaled.items())
    for number in (2, 3):
        for several in combinations({**context.before, **scaled}.items(), number):
            shape = max((array.shape for _, array in several), key=len)
            if all(array.shape in (shape, shape[1:]) for _, array in several):
                terms = [np.broadcast_to(array, shape) for _, array in several]
                yield " + ".join(name for name, _ in several), terms
