"""Causes in the forward pass: a layer is computed anew from what is recorded before it, in the ways in which ports
differ, until one way gives the left side's numbers and another one the right side's."""

from collections.abc import Callable, Iterator, Sequence
from itertools import combinations, permutations, product
from math import prod
from typing import Any

import numpy as np

from benchmarks.compare.activations import ACTIVATIONS
from benchmarks.compare.broken import Broken, Space, number
from benchmarks.compare.comparer import ARRANGEMENTS, Array
from benchmarks.compare.computed import attended, rotated
from benchmarks.compare.groups import WeightGroup, groups_of
from benchmarks.compare.layers_anew import LAYERS, Arrays, Aspects, Shown
from benchmarks.compare.layouts import ARRANGED, OPERATOR, PARENT
from benchmarks.compare.record import RecordedLayer
from benchmarks.compare.rungs import channels_stand_first

NUMBERS_TRIED, LARGEST_BATCH = 1 << 16, 1 << 24  # of an array, in its first rows
LARGEST_SCORES = 1 << 22  # numbers of an attention's scores
BEFORE = 8  # outputs that a layer may take, those computed last before it
UNUSUAL, OTHERWISE = (
    3,
    2,
)  # aspects that may be unusual on the left, and otherwise on the right
CHANNELLED = (
    "conv",
    "conv_transpose",
    "batchnorm",
    "groupnorm",
)  # torch and Paddle have their channels first
SCALES: dict[str, Callable[[int, int], float]] = {  # of a head's size, and of the number of heads
    "one over the root of a head's size": lambda size, heads: size**-0.5,
    "1": lambda size, heads: 1.0,
    "one over a head's size": lambda size, heads: 1 / size,
    "one over the root of all heads' size": lambda size, heads: (size * heads) ** -0.5,
    "the root of a head's size": lambda size, heads: size**0.5,
}
PROJECTIONS = ("query", "key", "value")
ORDERS = {", ".join(order): [order.index(name) for name in PROJECTIONS] for order in permutations(PROJECTIONS)}
HEADS = (
    "num_heads",
    "n_heads",
    "heads",
    "n_head",
    "num_attention_heads",
)  # how models of one's own call settings
BASES = ("base", "rope_theta", "theta", "rope_base")
USUAL_BASES = (1e4, 5e5, 1e6, 100.0, 10.0)  # of rotary embeddings


def spaces(broken: Broken) -> Iterator[tuple[Space, Space, tuple[int, int]]]:
    """What both sides may compute, and how many aspects may be unusual on the left, and otherwise on the right."""
    sides = shown_sides(broken)
    for form in FORMS if sides else ():
        yield from ((one, other, (UNUSUAL, OTHERWISE)) for one, other in zip(*map(form, sides), strict=False))


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
    if group.kind in CHANNELLED:
        first = [channels_stand_first(of_side) for of_side in (broken.groups or [group] * 2)]
        first[1] = first[right.shape != left.shape]  # otherwise its axes stand as on the left
        left, right = (channels_last(array) if of else array for array, of in zip((left, right), first, strict=True))
        if first[0]:
            before, of_right = ({name: channels_last(a) for name, a in of.items()} for of in (before, of_right))
    arrays = (left, right, *before.values(), *of_right.values())
    numbers = LARGEST_BATCH if group.kind == "batchnorm" else NUMBERS_TRIED  # its statistics are of all rows
    cut = min(rows_tried(array.shape, numbers) for array in arrays)
    inputs = broken.rungs.left.arrays("inputs")
    ids = [name for name in inputs if inputs[name].dtype.kind in "iu" and inputs[name].ndim and "batch" not in name]
    of_model = {name: inputs[name][:cut].astype(np.int64) for name in ids}
    left_before, right_before = ({n: a[:cut].astype(np.float64) for n, a in of.items()} for of in (before, of_right))
    both = (left, left_before), (right, left_before | right_before)
    return [Shown(broken, group, array[:cut].astype(np.float64), of, of_model) for array, of in both]


def known(group: WeightGroup) -> WeightGroup:
    """The group of the layer itself where its weights were paired by their numbers."""
    own = groups_of(group.side) if group.kind == ARRANGED and len(group.layers) == 1 else []
    return next((one for one in own if one.layer is group.layer), group)


def channels_last(array: Array) -> Array:
    return np.moveaxis(array, 1, -1) if array.ndim > 2 else array


def rows_tried(shape: Sequence[int], numbers: int = NUMBERS_TRIED) -> int:
    return max(1, numbers // max(1, prod(shape[1:])))


def computed_before(broken: Broken) -> tuple[dict[str, Array], dict[str, Array]]:
    """What the left side computed before the layer that is shown, and what the right side did that the left one did
    not: the outputs of layers, those computed last first, and the model's own inputs."""
    names = {layer.path: pair.left.layer.path for pair in broken.rungs.pairing.pairs for layer in pair.right.layers}
    found: list[dict[str, Array]] = []
    for place, side in enumerate(broken.sides):
        here: dict[str, Array] = {}
        own = {part for call in (broken.groups[place].calls if broken.groups else ()) for part in call}
        arrays, calls = side.arrays("layers"), side.says.calls
        end = next((n for n, call in enumerate(calls) if own & {*call.parts}), len(calls))
        for call in reversed([call for call in calls[:end] if call.parts and not call.layer.startswith(OPERATOR)]):
            name = (names.get(call.layer, call.layer) if place else call.layer) or "the model"
            array = arrays.mapped(call.parts[0])
            if len(here) == BEFORE or array.dtype.kind != "f" or array.ndim < 2 or not array.size:
                continue
            if not alike(broken, array, [*here.values(), *(found[0].values() if place else ())]):
                here[name if not place or name not in found[0] else f"the right side's {name}"] = array
        inputs = side.arrays("inputs")
        of_model = [name for name in inputs if inputs[name].dtype.kind == "f" and inputs[name].ndim > 1 and not place]
        found.append(here | {f"the input {name}": inputs[name] for name in of_model})
    return found[0], found[1]


def alike(broken: Broken, array: Array, others: Sequence[Array]) -> bool:
    """Whether the first rows of the array are those of another, but for rounding and the order of axes."""
    turned = [arranged(array) for arranged in ARRANGEMENTS.values()]
    pairs = [(one, other) for other in others for one in turned if one.shape == other.shape]
    return any(broken.explains(one[: rows_tried(one.shape)], other[: rows_tried(one.shape)]) for one, other in pairs)


# What a layer takes


def taken(side: Shown) -> dict[str, tuple[Array, Array | None]]:
    """What the layer may take, by what a cause calls it: what an activation is applied to, and what that is then
    multiplied by."""
    width, found = side.layer.width, dict[str, tuple[Array, Array | None]]()
    channels_first = channels_stand_first(side.group) and side.group.kind not in CHANNELLED

    def add(name: str, array: Array, times: Array | None = None) -> None:
        one, other = side.picked(array), side.picked(times)
        if one is not None and array.shape[-1] == width:
            found.setdefault(name, (one, other))

    for name, array in side.before.items():
        add(name, array)
        if channels_first and array.ndim > 2:
            add(f"{name} with its channels last", channels_last(array))
        if array.ndim > 2 and prod(array.shape[1:]) == width:
            ways = {"last": array, "first": np.moveaxis(array, -1, 1)}
            if channels_first:
                ways = {"first": array, "last": channels_last(array)}
            for order, turned in ways.items():
                add(
                    f"{name} flattened with its channels {order}",
                    turned.reshape(len(turned), -1),
                )
        if array.ndim == 3 and side.target.ndim == 2:
            for token, chosen in (
                ("first", array[:, 0]),
                ("last", array[:, -1]),
                ("mean", array.mean(1)),
            ):
                add(f"the {token} token of {name}", chosen)
        if array.shape[-1] == 2 * width:
            halves = np.split(array, 2, -1), (array[..., ::2], array[..., 1::2])
            for how, (one, other) in zip(("half", "number of each two"), halves, strict=True):
                add(f"{name} with its first {how} as the gate", one, other)
                add(f"{name} with its second {how} as the gate", other, one)
    for (name, one), (also, other) in permutations(side.before.items(), 2):
        if one.shape[:-1] == other.shape[:-1] and one.shape[-1] + other.shape[-1] == width:
            add(f"{name} and then {also}", np.concatenate([one, other], -1))
        if one.shape == other.shape:
            add(f"{also} with {name} as its gate", one, other)
    for name, array in (*sums(side), *tokens(side)):
        add(name, array)
    return found


def sums(side: Shown) -> Iterator[tuple[str, Array]]:
    """Sums of two outputs or of three: of a residual, of ids and positions, which may be the same in each row, or of
    both."""
    for terms in (2, 3):
        for several in combinations(side.before.items(), terms):
            shape = max((array.shape for _, array in several), key=len)
            if all(array.shape in (shape, shape[1:]) for _, array in several):
                made = np.sum([np.broadcast_to(array, shape) for _, array in several], 0)
                yield " + ".join(name for name, _ in several), made


def tokens(side: Shown) -> Iterator[tuple[str, Array]]:
    """Tokens (N, T, D) of a sequence or of an image, beside the token of a class and with positions, which are
    weights of no known layer."""
    width = side.layer.width
    owned = [
        pair.left.tensor(name)
        for pair in side.broken.rungs.pairing.pairs
        if pair.left.kind == "parameters"
        for name in pair.left.tensors
    ]
    tables = [a.reshape(-1, width) for a in owned if a is not None and width and a.shape[-1:] == (width,)]
    for name, array in side.before.items():
        image = channels_last(array) if channels_stand_first(side.group) and array.ndim > 3 else array
        if array.ndim not in (3, 4) or image.shape[-1] != width:
            continue
        ways = {
            f"{name} row by row": image,
            f"{name} column by column": image.swapaxes(1, 2),
        }
        for words, patches in ways.items() if array.ndim == 4 else [(name, array)]:
            flat = patches.reshape(len(patches), -1, width)
            beside = {words: flat}
            for token in [np.broadcast_to(table, (len(flat), 1, width)) for table in tables if len(table) == 1]:
                beside[f"{words} after the class's token"] = np.concatenate([token, flat], 1)
                beside[f"{words} before the class's token"] = np.concatenate([flat, token], 1)
            for (words, x), table, first in product([*beside.items()], tables, (0, 1)):
                if 1 < x.shape[1] <= len(table) - first:
                    yield (
                        f"{words} with positions from {first}",
                        x + table[first : first + x.shape[1]],
                    )
            yield from beside.items()


def of_layer(side: Shown) -> Iterator[Space]:
    """A layer that takes what is recorded before it."""
    found, layer = taken(side) if side.layer.width else {}, side.layer

    def compute(takes: str, before: str, **rest: Any) -> Array | None:
        array, times = found.get(takes, (None, None))
        if array is None:
            return None
        x = ACTIVATIONS[before](array)
        return layer.compute(x if times is None else x * times, **rest)

    if found:
        yield side.space({"takes": [*found], "before": [*ACTIVATIONS], **layer.aspects}, compute)


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

    paddings = [
        None,
        *(one for one in side.settings("padding_idx", 0) if isinstance(one, int)),
    ]
    aspects: Aspects = {
        "ids_of": [*ids],
        "first": [0, 1, 2, -1],
        "padding": paddings,
        "times": ["1", "the root"],
    }
    yield side.space(aspects, compute)


# Attention


def of_attention(side: Shown) -> Iterator[Space]:
    """A dense layer that takes an attention of queries, keys and values."""
    if side.group.kind != "dense":
        return
    width, layer = side.layer.width, side.layer
    usual = {name: choices[0] for name, choices in layer.aspects.items()}
    recorded = [one.settings for of_side in side.broken.sides for one in of_side.says.layers]
    bases = [number(one.get(name)) for one in recorded for name in BASES]
    for whole, is_one in projections(side):
        sizes = [n for n in range(1, width + 1) if width % n == 0]
        named = [one.get(name) for one in recorded for name in HEADS]
        masks = masks_of(side, whole[0].shape[1], whole[1].shape[1])
        pairs = prod(whole[0].shape[:2]) * whole[1].shape[1]

        def compute(
            order: str, packed: str, heads: int, shared: str, mask: str, scale: str, rope: str, base: float,
            first: int, whole: Sequence[Array] = whole, masks: Arrays = masks, pairs: int = pairs,
        ) -> Array | None:  # fmt: skip
            size, parts = width // heads, whole
            if heads * pairs > LARGEST_SCORES:
                return None
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
            made = side.picked(attended(q, k, v, masks[mask], SCALES[scale](size, heads)))
            return None if made is None else layer.compute(made, **usual)

        aspects: Aspects = {
            "heads": list(dict.fromkeys([one for one in named if one in sizes] + sizes)), "mask": [*masks],
            "scale": [*SCALES], "order": [*ORDERS], "packed": ["one after the other", "group by group"][: 1 + is_one],
            "shared": ["in blocks", "in turns"], "rope": ["none", "halves", "interleaved"],
            "base": list(dict.fromkeys((*(base for base in bases if base > 1), *USUAL_BASES))), "first": [0, 1],
        }  # fmt: skip
        if side.group.part == "output":  # a framework's own layer has these as usual
            as_usual = ("order", "shared", "rope", "base", "first")
            aspects = {name: choices[:1] if name in as_usual else choices for name, choices in aspects.items()}
        yield side.space(aspects, compute, pairs * width)


def projections(side: Shown) -> Iterator[tuple[list[Array], bool]]:
    """Queries, keys and values (N, T, ...) that an attention may take, and whether they are one output: computed of a
    layer's own weights, or three outputs of other layers, or one that has all."""
    width, layer = side.layer.width, side.group.layer
    parts = {pair.left.part: pair.left for pair in side.broken.rungs.pairing.pairs if pair.left.layer is layer}
    if side.group.part == "output" and {*PROJECTIONS} <= parts.keys():
        for x in [*side.before.values(), *(array for _, array in sums(side))]:
            kernels, biases = ([parts[name].tensor(of) for name in PROJECTIONS] for of in ("kernel", "bias"))
            if x.ndim == 3 and all(kernel is not None and len(kernel) == x.shape[-1] for kernel in kernels):
                yield (
                    [x @ k + (0 if b is None else b) for k, b in zip(kernels, biases, strict=True)],
                    False,
                )
        return
    before = [array for array in side.before.values() if array.ndim in (3, 4) and width]
    wide = [array.reshape(*array.shape[:2], -1) for array in before]  # heads may have an axis of their own
    for v, k, q in zip(wide, wide[1:], wide[2:], strict=False):
        if q.shape[-1] == width and k.shape == v.shape and width % k.shape[-1] == 0:
            yield [q, k, v], False
    for array in wide:
        of_keys = (array.shape[-1] - width) // 2
        if of_keys > 0 and array.shape[-1] == width + 2 * of_keys and width % of_keys == 0:
            yield np.split(array, [width, width + of_keys], -1), True


def masks_of(side: Shown, queries: int, keys: int) -> dict[str, Array]:
    """What may be added to the scores (N, H, T, S), by what a cause calls it."""
    past = np.arange(keys) - np.arange(queries)[:, None]
    seen = {
        "none": np.ones((1, 1), bool),
        "causal": past <= 0,
        "causal, one position too far": past <= 1,
    }
    seen |= {
        "causal without the position itself": past < 0,
        "of what is past": past >= 0,
    }
    for name, ids in side.ids.items():
        if ids.ndim == 2 and ids.shape[1] == keys and 0 < (ids == 0).sum() < ids.size:
            real = (ids != 0)[:, None, None]
            for words, of in (
                (f"where {name} is not 0", real),
                (f"where {name} is 0", ~real),
            ):
                seen |= {words: of, f"causal and {words}": of & (past <= 0)}
    masks = {name: np.where(array, 0.0, -np.inf) for name, array in seen.items()}
    return masks | {f"1 {name} and else 0, added": 1.0 * array for name, array in seen.items() if name[:5] == "where"}


FORMS = (of_embedding, of_layer, of_attention)
