"""Causes in the forward pass: a layer is computed anew from what is recorded before it, in the ways in which ports
differ, until one way gives the left side's numbers and another one the right side's."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from itertools import permutations, product
from math import prod
from typing import Any

import numpy as np

from benchmarks.compare.activations import ACTIVATIONS
from benchmarks.compare.broken import CHANNELLED, Broken, Space, number
from benchmarks.compare.comparer import ARRANGEMENTS, Array
from benchmarks.compare.computed import attended, rotated
from benchmarks.compare.groups import WeightGroup, groups_of
from benchmarks.compare.layers_anew import LAYERS, Arrays, Aspects, Shown
from benchmarks.compare.layouts import ACTIVATED, ARRANGED, OPERATOR, PARENT, RECURRENT
from benchmarks.compare.record import RecordedLayer
from benchmarks.compare.rungs import channels_stand_first
from benchmarks.compare.taken import channels_last, sums, taken

NUMBERS_TRIED, LARGEST_BATCH = 1 << 16, 1 << 24  # of an array, in its first rows
LARGEST_SCORES = 1 << 22  # numbers of an attention's scores
BEFORE = 9  # outputs that a layer may take, those computed last before it
UNUSUAL, OTHERWISE = (3, 2)  # aspects that may be unusual on the left, and otherwise on the right
SCALES: dict[str, Callable[[int, int], float]] = {  # of a head's size, and of the number of heads
    "one over the root of a head's size": lambda size, heads: size**-0.5,
    "1": lambda size, heads: 1.0,
    "one over a head's size": lambda size, heads: 1 / size,
    "one over the root of all heads' size": lambda size, heads: (size * heads) ** -0.5,
    "the root of a head's size": lambda size, heads: size**0.5,
}
IS_GIVEN = " is given"
PROJECTIONS = ("query", "key", "value")
ORDERS = {", ".join(order): [order.index(name) for name in PROJECTIONS] for order in permutations(PROJECTIONS)}
HEADS = ("num_heads", "n_heads", "heads", "n_head", "num_attention_heads")  # how models of one's own call settings
BASES = ("base", "rope_theta", "theta", "rope_base")
USUAL_BASES = (1e4, 5e5, 1e6, 100.0, 10.0)  # of rotary embeddings


def spaces(broken: Broken) -> Iterator[tuple[Space, Space, tuple[int, int]]]:
    """What both sides may compute, and how many aspects may be unusual on the left, and otherwise on the right."""
    sides = shown_sides(broken)
    for form in FORMS if sides else ():
        for one, other in product(*map(form, sides)):
            yield one, other, (UNUSUAL, OTHERWISE)


def shown_sides(broken: Broken) -> list[Shown]:
    """The left and the right side; none where an output is missing."""
    right, left = broken.arrays
    if not broken.item.is_output or not all(array.ndim > 1 and array.size for array in (right, left)):
        return []
    groups = [known(group) for group in broken.groups] or [
        WeightGroup(broken.sides[0], PARENT, RecordedLayer("", []))
    ]
    group = next((group for group in groups if group.kind in LAYERS), groups[0])
    before, of_right = computed_before(broken)
    found = [given_to(broken, place) for place in range(len(broken.groups))]
    given = [array for array in found if array is not None]
    given = given if len(given) == 2 else []
    if group.kind in CHANNELLED:
        first = [channels_stand_first(of_side) for of_side in broken.groups]
        given = [channels_last(array) if of else array for array, of in zip(given, first, strict=False)]
        if first[0]:  # then the right side's output has its axes as the left one's
            left, right = channels_last(left), channels_last(right)
            before, of_right = all_with_channels_last(before), all_with_channels_last(of_right)
    given = given if len({array.shape for array in given}) == 1 else []  # else one side has zeros around it
    numbers = LARGEST_BATCH if group.kind == "batchnorm" else NUMBERS_TRIED  # its statistics are of all rows
    cut = min(rows_tried(a.shape, numbers) for a in (left, right, *given, *before.values(), *of_right.values()))
    inputs = broken.rungs.left.arrays("inputs")
    ids = [name for name in inputs if inputs[name].dtype.kind in "iu" and inputs[name].ndim and "batch" not in name]
    of_model = {name: inputs[name][:cut].astype(np.int64) for name in ids}
    left_before, of_right = ({n: a[:cut].astype(np.float64) for n, a in of.items()} for of in (before, of_right))
    left, right, *given = (array[:cut].astype(np.float64) for array in (left, right, *given))
    all_before = left_before | of_right
    of_left = all_before if group.kind in RECURRENT else left_before  # a stacked layer's sequence may be on the right
    both = [
        Shown(broken, group, array, given[place] if given else None, (of_left, all_before)[place], of_model)
        for place, array in enumerate((left, right))
    ]
    parts = [parts_given(broken, place, cut) for place in range(2)]
    return [replace(one, parts_given=own) for one, own in zip(both, parts, strict=True)] if all(parts) else both


def parts_given(broken: Broken, place: int, cut: int) -> list[Array] | None:
    """What the query, the key and the value of a framework's attention are computed of, where that is recorded."""
    pairs = broken.rungs.pairing.pairs
    layer = broken.groups[0].layer if broken.groups else None
    parts = {pair.left.part: pair for pair in pairs if pair.left.layer is layer}
    if not {*PROJECTIONS} <= parts.keys():
        return None
    several = [given_to(replace(broken, item=replace(broken.item, pair=parts[name])), place) for name in PROJECTIONS]
    found = [array[:cut].astype(np.float64) for array in several if array is not None]
    return found if len(found) == len(PROJECTIONS) else None


def given_to(broken: Broken, place: int) -> Array | None:
    """What the layer that is shown was given on the left (0) or on the right (1), where that is recorded: of a
    framework's attention that of which its query, key or value is computed."""
    group, side = broken.groups[place], broken.sides[place]
    if group.part == "output" or (group.kind in RECURRENT and not (group.part or "l0").startswith("l0")):
        return None  # it is computed within the layer
    calls = [call.inputs for call in side.says.calls if call.layer == group.layers[0].path]
    call = calls[broken.item.call] if broken.item.call < len(calls) else {}
    arrays = side.arrays("layers")
    names = [call[group.part]] if group.part in call else [*call.values()]
    found = (arrays.mapped(name) for name in names)
    return next((array for array in found if array.dtype.kind == "f" and array.ndim > 1 and array.size), None)


def known(group: WeightGroup) -> WeightGroup:
    """The group of the layer itself where its weights were paired by their numbers."""
    own = groups_of(group.side) if group.kind == ARRANGED and len(group.layers) == 1 else []
    return next((one for one in own if one.layer is group.layer), group)


def all_with_channels_last(arrays: dict[str, Array]) -> dict[str, Array]:
    """Each with its channels last, whether they are the second axis or are last already."""
    last = {f"{name}, whose channels stand last,": array for name, array in arrays.items() if array.ndim > 2}
    return {name: channels_last(array) for name, array in arrays.items()} | last


def rows_tried(shape: Sequence[int], numbers: int = NUMBERS_TRIED) -> int:
    return max(1, numbers // max(1, prod(shape[1:])))


def computed_before(broken: Broken) -> tuple[dict[str, Array], dict[str, Array]]:
    """What the left side computed before the layer that is shown, and what the right side did that the left one did
    not: the outputs of layers, those computed last first, and the model's own inputs."""
    whole = [pair for pair in broken.rungs.pairing.pairs if not (pair.left.part or pair.right.part)]
    names = {p.right.layer.path: p.left.layer.path for p in whole if len(p.left.layers) == len(p.right.layers) == 1}
    found: list[dict[str, Array]] = []
    for place, side in enumerate(broken.sides):
        here: dict[str, Array] = {}
        own = {part for call in (broken.groups[place].calls if broken.groups else ()) for part in call}
        arrays, calls = side.arrays("layers"), side.says.calls
        end = next((n for n, call in enumerate(calls) if own & {*call.parts}), len(calls))
        for call in reversed([call for call in calls[:end] if call.parts and not call.layer.startswith(OPERATOR)]):
            own_name = (f"the right side's {call.layer}" if place else call.layer) or "the model"
            name = names.get(call.layer, own_name) if place else own_name
            array, known = arrays.mapped(call.parts[0]), found[0] if place else {}
            if len(here) >= BEFORE:
                break
            if name in known and (inner := before_activation(broken, name, array, known[name])):
                known[name] = inner[0]
                continue
            given = [(f"what {name}{IS_GIVEN}", arrays.mapped(own)) for own in [*call.inputs.values()][:1]]
            for words, one in ((name, array), *given):
                usable = one.dtype.kind == "f" and one.ndim > 1 and one.size
                if usable and not alike(broken, one, [*here.values(), *known.values()]):
                    here[f"the right side's {words}" if words in known else words] = one
        inputs = side.arrays("inputs")
        of_model = [name for name in inputs if inputs[name].dtype.kind == "f" and inputs[name].ndim > 1 and not place]
        found.append(here | {f"the input {name}": inputs[name] for name in of_model})
    return found[0], found[1]


def before_activation(broken: Broken, name: str, right: Array, left: Array) -> list[Array]:
    """What a layer computes before an activation that one side has in it and the other one after it; nothing where
    that is not so."""
    pair = next(pair for pair in broken.rungs.pairing.pairs if pair.left.layer.path == name)
    acts = [group.settings.get("activation") or "linear" for group in pair.both if pair.left.kind in ACTIVATED]
    if len({*acts}) < 2 or "linear" not in acts or not {*acts} <= ACTIVATIONS.keys():
        return []
    for arranged in ARRANGEMENTS.values():
        one = arranged(right)
        inner, outer, act = (left, one, acts[1]) if acts[0] == "linear" else (one, left, acts[0])
        if one.shape == left.shape and alike(broken, ACTIVATIONS[act](inner.astype(np.float64)), [outer]):
            return [inner]
    return []


def alike(broken: Broken, array: Array, others: Sequence[Array]) -> bool:
    """Whether the first rows of the array are those of another, but for rounding and the order of axes."""
    turned = [arranged(array) for arranged in ARRANGEMENTS.values()]
    pairs = [(one, other) for other in others for one in turned if one.shape == other.shape]
    return any(broken.explains(one[: rows_tried(one.shape)], other[: rows_tried(one.shape)]) for one, other in pairs)


def of_given(side: Shown) -> Iterator[Space]:
    """A layer that takes what it was given, where that is recorded; an unknown one may be an activation."""
    given, layer = side.picked(side.given), side.layer
    if side.given is None or given is None or layer.width != given.shape[-1] or side.group.kind == PARENT:
        return
    acts = {"before": [*ACTIVATIONS]} if side.group.kind not in LAYERS else {"before": ["linear"]}
    yield side.space(
        {**acts, **layer.aspects}, lambda before, **choice: layer.compute(ACTIVATIONS[before](given), **choice)
    )


def of_input(side: Shown) -> Iterator[Space]:
    """What a known layer takes, where that is recorded."""
    if side.given is not None and side.group.kind in LAYERS:
        yield from of_layer(replace(side, target=side.given, of_input=True))


def of_layer(side: Shown) -> Iterator[Space]:
    """A layer that takes what is recorded before it."""
    found, layer = taken(side) if side.layer.width else {}, side.layer

    def compute(takes: str, before: str, gated: str, **rest: Any) -> Array | None:
        array, times = found.get(takes, (None, None))
        if array is None or (times is None and gated != "linear"):
            return None
        x = ACTIVATIONS[before](array)
        return layer.compute(x if times is None else x * ACTIVATIONS[gated](times), **rest)

    if found:
        choices = {"takes": [*found], "before": [*ACTIVATIONS], "gated": ["linear", "tanh", "sigmoid"]}
        yield side.space({**choices, **layer.aspects}, compute)


def of_embedding(side: Shown) -> Iterator[Space]:
    """A table of which rows are looked up, by ids or by positions."""
    table = side.weights.get("embeddings") if side.group.kind == "embedding" else None
    if table is None:
        return
    shape = side.target.shape[:-1]
    ids = {name: array for name, array in side.ids.items() if array.shape == shape}
    ids["positions"] = np.broadcast_to(np.arange(shape[-1]), shape)

    def compute(ids_of: str, first: int, padding: Any, times: str) -> Array | None:
        rows = ids[ids_of] + first
        if rows.min() < 0 or rows.max() >= len(table):
            return None
        kept = np.ones(shape) if padding is None else rows != padding
        return side.picked(table[rows] * kept[..., None] * (table.shape[1] ** 0.5 if times == "the root" else 1))

    paddings = [None, *(one for one in side.settings("padding_idx", 0) if isinstance(one, int))]
    aspects: Aspects = {"ids_of": [*ids], "first": [0, 1, 2, -1], "padding": paddings, "times": ["1", "the root"]}
    yield side.space(aspects, compute)


# Attention


def of_attention(side: Shown) -> Iterator[Space]:
    """A dense layer that takes an attention of queries, keys and values."""
    if side.group.kind != "dense":
        return
    width, layer = side.layer.width, side.layer
    usual = {name: choices[0] for name, choices in layer.aspects.items()}
    inner = None  # what is given to the layer, which is the attention
    if side.given is not None and side.group.part != "output":
        inner = replace(side, target=side.given, of_input=True)
    recorded = [one.settings for of_side in side.broken.sides for one in of_side.says.layers]
    bases = [number(one.get(name)) for one in recorded for name in BASES]
    for found, is_one in projections(side):
        q, k, _ = next(iter(found.values()))
        sizes = [n for n in range(1, width + 1) if width % n == 0]
        named = [one.get(name) for one in recorded for name in HEADS]
        masks = masks_of(side, q.shape[1], k.shape[1])
        pairs = prod(q.shape[:2]) * k.shape[1]

        def compute(
            takes: str, order: str, packed: str, heads: int, shared: str, mask: str, scale: str, rope: str,
            base: float, first: int, all_masked: str, found: dict[str, list[Array]] = found, masks: Arrays = masks,
            pairs: int = pairs,
        ) -> Array | None:  # fmt: skip
            size, whole = width // heads, found.get(takes)
            if whole is None or heads * pairs > LARGEST_SCORES:
                return None
            parts = whole
            if packed != "one after the other":
                groups = whole[1].shape[-1] // size
                of_groups = np.concatenate(whole, -1).reshape(*whole[0].shape[:2], groups, -1)
                split = np.split(of_groups, [width // groups, width // groups + size], -1)
                parts = [part.reshape(*part.shape[:2], -1) for part in split]
            parts = [parts[place] for place in ORDERS[order]]
            q, k, v = (part.reshape(*part.shape[:2], -1, size) for part in parts)
            if rope != "none":
                q, k = (rotated(one, rope, base, first) for one in (q, k))
            k, v = (
                np.repeat(one, heads // k.shape[2], 2)
                if shared == "in blocks"
                else np.tile(one, (1, 1, heads // k.shape[2], 1))
                for one in (k, v)
            )
            made = attended(q, k, v, masks[mask], SCALES[scale](size, heads), all_masked == "nothing counts")
            if inner is not None:
                return inner.picked(made)
            picked = side.picked(made)
            return None if picked is None else layer.compute(picked, **usual)

        aspects: Aspects = {
            "takes": [*found], "heads": list(dict.fromkeys([one for one in named if one in sizes] + sizes)),
            "mask": [*masks], "scale": [*SCALES], "order": [*ORDERS],
            "packed": ["one after the other", "group by group"][: 1 + is_one], "shared": ["in blocks", "in turns"],
            "rope": ["none", "halves", "interleaved"],
            "base": list(dict.fromkeys((*(base for base in bases if base > 1), *USUAL_BASES))), "first": [0, 1],
            "all_masked": ["each counts the same", "nothing counts"],
        }  # fmt: skip
        if side.group.part == "output":  # a framework's own layer has these as usual
            as_usual = ("order", "shared", "rope", "base", "first")
            aspects = {name: choices[:1] if name in as_usual else choices for name, choices in aspects.items()}
        yield (inner or side).space(aspects, compute, pairs * width)


def projections(side: Shown) -> Iterator[tuple[dict[str, list[Array]], bool]]:
    """Queries, keys and values (N, T, ...) that an attention may take, by what they are computed of, and whether they
    are one output: computed of a layer's own weights, or three outputs of other layers, or one that has all."""
    width, layer = side.layer.width, side.group.layer
    parts = {pair.left.part: pair.left for pair in side.broken.rungs.pairing.pairs if pair.left.layer is layer}
    if side.group.part == "output" and {*PROJECTIONS} <= parts.keys():
        kernels, biases = ([parts[name].tensor(of) for name in PROJECTIONS] for of in ("kernel", "bias"))
        known = {name: (x, x, x) for name, x in (*side.before.items(), *sums(side))}
        found = {}
        for name, several in known.items() if side.parts_given is None else [("", side.parts_given)]:
            both = [*zip(several, kernels, biases, strict=True)]
            if all(x.ndim == 3 and k is not None and len(k) == x.shape[-1] for x, k, _ in both):
                found[name] = [x @ k + (0 if b is None else b) for x, k, b in both]
        if found:
            yield found, False
        return
    outputs = [array for name, array in side.before.items() if not name.endswith(IS_GIVEN)]
    before = [array for array in outputs if array.ndim in (3, 4) and width]
    wide = [array.reshape(*array.shape[:2], -1) for array in before]  # heads may have an axis of their own
    for v, k, q in zip(wide, wide[1:], wide[2:], strict=False):
        if q.shape[-1] == width and k.shape == v.shape and width % k.shape[-1] == 0:
            yield {"": [q, k, v]}, False
    for array in wide:
        of_keys = (array.shape[-1] - width) // 2
        if of_keys > 0 and array.shape[-1] == width + 2 * of_keys and width % of_keys == 0:
            yield {"": np.split(array, [width, width + of_keys], -1)}, True


def masks_of(side: Shown, queries: int, keys: int) -> dict[str, Array]:
    """What may be added to the scores (N, H, T, S), by what a cause calls it."""
    past = np.arange(keys) - np.arange(queries)[:, None]
    seen = {"none": np.ones((1, 1), bool), "causal": past <= 0, "causal, one position too far": past <= 1}
    seen |= {"causal without the position itself": past < 0, "of what is past": past >= 0}
    for name, ids in side.ids.items():
        if ids.ndim == 2 and ids.shape[1] == keys and 0 < (ids == 0).sum() < ids.size:
            real = (ids != 0)[:, None, None]
            for words, of in ((f"where {name} is not 0", real), (f"where {name} is 0", ~real)):
                seen |= {words: of, f"causal and {words}": of & (past <= 0)}
    masks = {name: np.where(array, 0.0, -np.inf) for name, array in seen.items()}
    return masks | {f"1 {name} and else 0, added": 1.0 * array for name, array in seen.items() if name[:5] == "where"}


FORMS = (of_embedding, of_given, of_input, of_layer, of_attention)
