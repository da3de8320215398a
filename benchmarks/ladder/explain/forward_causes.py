"""Causes in the forward pass: a layer is computed anew from what is recorded before it, in the ways in which ports
differ, until one way gives the left side's numbers and another one the right side's."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from itertools import chain, combinations, islice, permutations, product
from math import prod
from typing import Any

import numpy as np

from benchmarks.ladder.arrays import ARRANGEMENTS, Array
from benchmarks.ladder.explain.broken import OF_RIGHT, Broken, Space, Spaces, number
from benchmarks.ladder.explain.computed import ACTIVATIONS, ALONE, attended, rotated
from benchmarks.ladder.explain.layers_anew import LAYERS, Aspects, Shown
from benchmarks.ladder.judge.items import CHANNELLED, activations, channels_stand_first
from benchmarks.ladder.read.groups import WeightGroup, groups_of
from benchmarks.ladder.read.layouts import ARRANGED, OPERATOR, PARENT, RECURRENT
from benchmarks.ladder.read.record import RecordedLayer

NUMBERS_TRIED, LARGEST_BATCH = 1 << 16, 1 << 24  # of an array, in its first rows
LARGEST_SCORES, COST_OF_SCORE = 1 << 22, 32  # numbers of an attention's scores; multiplications as long as a score
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
GATED = "the activation of what a gate multiplies before {} is"
PROJECTIONS = ("query", "key", "value")
NORMS = ("layernorm", "rmsnorm")  # which compute each row by itself
ORDERS = {", ".join(order): [order.index(name) for name in PROJECTIONS] for order in permutations(PROJECTIONS)}
HEADS = ("num_heads", "n_heads", "heads", "n_head", "num_attention_heads")  # how models of one's own call settings
BASES = ("base", "rope_theta", "theta", "rope_base")
USUAL_BASES = (1e4, 5e5, 1e6, 100.0, 10.0)  # of rotary embeddings


def spaces(broken: Broken) -> Spaces:
    """Yield for each form the spaces of the left and of the right side, and how many aspects may be unusual on the
    left, and otherwise on the right. What is shown may be within an attention, such as a dropout of its weights,
    whose output a dense layer takes."""
    dense = (check for check in broken.failed if check.item.pair and check.item.pair.left.kind == "dense")
    within = [(replace(broken, check=later), (of_attention,)) for later in islice(dense, 1)]
    for one_broken, forms in [(broken, FORMS), *(within if broken.kind != "dense" else [])]:
        sides = shown_sides(one_broken)
        for form in forms if sides else ():
            lefts, rights = map(list, map(form, sides))
            yield lefts, rights, (UNUSUAL, OTHERWISE)


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
    given = [given_to(broken, place) for place in range(len(broken.groups))]
    if group.kind in CHANNELLED or (group.kind in NORMS and len(broken.groups) == 2):
        first = [channels_stand_first(of_side) for of_side in broken.groups]
        if group.kind in NORMS:  # their width tells where channels stand
            first = [width_is_second(group, arrays) for arrays in ([left], given[1])]
        given = [[*map(channels_last, own)] if of else own for own, of in zip(given, first, strict=True)]
        if first[0]:  # then the right side's output has its axes as the left one's
            left, right = channels_last(left), channels_last(right)
            before, of_right = all_with_channels_last(before), all_with_channels_last(of_right)
    if not given or not all(given) or (len(given[0]) == 1 and given[0][0].shape != given[1][0].shape):
        given = [[], []]  # one side may have zeros around it
    numbers = LARGEST_BATCH if group.kind == "batchnorm" else NUMBERS_TRIED  # its statistics are of all rows
    every = left, right, *chain(*given), *before.values(), *of_right.values()
    cut = min(max(1, numbers // max(1, prod(array.shape[1:]))) for array in every)

    def rows(array: Array) -> Array:
        return array[:cut].astype(np.float64)

    inputs = broken.rungs.left.arrays("inputs")
    ids = [name for name in inputs if inputs[name].dtype.kind in "iu" and inputs[name].ndim and "batch" not in name]
    of_model = {name: inputs[name][:cut].astype(np.int64) for name in ids}
    left_before, of_right = ({name: rows(array) for name, array in of.items()} for of in (before, of_right))
    all_before = left_before | of_right
    of_left = all_before if group.kind in RECURRENT else left_before  # a stacked layer's sequence may be on the right
    sides = zip((left, right), given, (of_left, all_before), strict=True)
    return [Shown(broken, group, rows(target), [*map(rows, own)], had, of_model) for target, own, had in sides]


def width_is_second(group: WeightGroup, arrays: Sequence[Array]) -> bool:
    """Return whether the second axis of any array is as long as a norm is wide, and the last one is not."""
    width = group.shapes.get("gamma", (0,))[-1]
    return any(array.ndim > 2 and array.shape[1] == width != array.shape[-1] for array in arrays)


def given_to(broken: Broken, place: int) -> list[Array]:
    """What the layer that is shown was given on the left (0) or on the right (1), where that is recorded: of a
    framework's attention three, of which its query, key and value are computed."""
    shown, side, found = broken.groups[place], broken.sides[place], list[Array]()
    groups = [shown]
    if broken.groups[0].part == "output":
        pairs = [pair for pair in broken.rungs.pairing.pairs if pair.left.layer is broken.groups[0].layer]
        groups = [pair.both[place] for name in PROJECTIONS for pair in pairs if pair.left.part == name]
    elif shown.part == "output" or (shown.kind in RECURRENT and not (shown.part or "l0").startswith("l0")):
        return []  # it is computed within the layer
    for group in groups:
        calls = [call.inputs for call in group.recorded]
        call = calls[broken.item.call] if broken.item.call < len(calls) else {}
        names = [call[group.part]] if group.part in call else call.values()
        arrays = map(side.arrays("layers").mapped, names)
        found += [array for array in arrays if array.dtype.kind == "f" and array.ndim > 1 and array.size][:1]
    return found if len(found) == len(groups) else []


def known(group: WeightGroup) -> WeightGroup:
    """The group of the layer itself where its weights were paired by their numbers. A layer of one's own with a gain,
    or with a gain and a shift, may be a norm."""
    own = groups_of(group.side) if group.kind in (ARRANGED, "parameters") and len(group.layers) == 1 else []
    own = [one for one in own if one.layer is group.layer]
    vectors = [one.tensors[one.part] for one in own if one.kind == "parameters"]
    if len(vectors) == len(own) in (1, 2) and len({one.shape for one in vectors}) == len(vectors[0].shape) == 1:
        kind = "rmsnorm" if len(own) == 1 else "layernorm"
        return replace(own[0], kind=kind, part="", tensors=dict(zip(("gamma", "beta"), vectors, strict=False)))
    return next(iter(own), group)


def all_with_channels_last(arrays: dict[str, Array]) -> dict[str, Array]:
    """Each with its channels last, whether they are the second axis or are last already."""
    last = {f"{name}, whose channels stand last,": array for name, array in arrays.items() if array.ndim > 2}
    return {name: channels_last(array) for name, array in arrays.items()} | last


def computed_before(broken: Broken) -> tuple[dict[str, Array], dict[str, Array]]:
    """What the left side computed before the layer that is shown, and what the right side did that the left one did
    not: the outputs of layers, those computed last first, and the model's own inputs."""
    whole = [pair for pair in broken.rungs.pairing.pairs if not (pair.left.part or pair.right.part)]
    names = {p.right.layer.path: p.left.layer.path for p in whole if len(p.left.layers) == len(p.right.layers) == 1}
    unnamed = {pair.left.layer.path for pair in whole if activations(pair) is None}
    found: list[dict[str, Array]] = []
    for place, side in enumerate(broken.sides):
        here: dict[str, Array] = {}
        of_group = broken.groups[place].calls if broken.groups else []
        own = {part for parts in of_group[broken.item.call : broken.item.call + 1] for part in parts}
        arrays, calls = side.arrays("layers"), side.says.calls
        end = next((n for n, call in enumerate(calls) if own & {*call.parts}), len(calls))
        for call in reversed([call for call in calls[:end] if call.parts and not call.layer.startswith(OPERATOR)]):
            own_name = (f"{OF_RIGHT}{call.layer}" if place else call.layer) or "the model"
            path = names.get(call.layer, own_name) if place else own_name
            of_layer = side.called[call.layer]
            name = f"{path}, call {of_layer.index(call) + 1}" if len(of_layer) > 1 else path
            array, known = arrays.mapped(call.parts[0]), found[0] if place else {}
            if len(here) >= BEFORE:
                break
            if path in unnamed and any(
                alike(broken, change(inner), [array]) for inner in known.values() for change in ACTIVATIONS.values()
            ):
                continue  # what the left side computed, activated
            if name in known and (inner := before_activation(broken, path, array, known[name])):
                known[name] = inner[0]
                continue
            given = [(f"what {name}{IS_GIVEN}", arrays.mapped(own)) for own in [*call.inputs.values()][:1]]
            for words, one in ((name, array), *given):
                usable = one.dtype.kind == "f" and one.ndim > 1 and one.size
                if usable and not alike(broken, one, [*here.values(), *known.values()]):
                    here[f"{OF_RIGHT}{words}" if words in known else words] = one
        inputs = side.arrays("inputs")
        of_model = [name for name in inputs if inputs[name].dtype.kind == "f" and inputs[name].ndim > 1 and not place]
        found.append(here | {f"the input {name}": inputs[name] for name in of_model})
    return found[0], found[1]


def before_activation(broken: Broken, name: str, right: Array, left: Array) -> list[Array]:
    """What a layer computes before an activation that one side has in it and the other one after it; nothing where
    that is not so."""
    pair = next(pair for pair in broken.rungs.pairing.pairs if pair.left.layer.path == name)
    of_left, of_right = activations(pair) or (np.asarray, np.asarray)
    for one in (arranged(right) for arranged in ARRANGEMENTS.values()):
        for inner, change, outer in ((left, of_left, one), (one, of_right, left)):
            if change is not np.asarray and one.shape == left.shape and alike(broken, change(inner), [outer]):
                return [inner]
    return []


def alike(broken: Broken, array: Array, others: Sequence[Array]) -> bool:
    """Whether the first rows of the array are those of another, but for rounding and the order of axes."""
    turned = [arranged(array) for arranged in ARRANGEMENTS.values()]
    pairs = [(one, other) for other in others for one in turned if one.shape == other.shape]
    rows = max(1, NUMBERS_TRIED // max(1, prod(array.shape[1:])))
    return any(broken.explains(one[:rows], other[:rows]) for one, other in pairs)


def of_given(side: Shown) -> Iterator[Space]:
    """A layer that takes what it was given, where that is recorded; an unknown one may be an activation."""
    given = side.picked(side.given[0]) if len(side.given) == 1 and side.group.kind != PARENT else None
    if given is not None and side.layer.width == given.shape[-1]:
        yield computed(side, {"": (given, None)}, ["linear"] if side.group.kind in LAYERS else [*ACTIVATIONS, *ALONE])


def of_input(side: Shown) -> Iterator[Space]:
    """What a known layer takes, where that is recorded."""
    if len(side.given) == 1 and side.group.kind in LAYERS:
        yield from of_layer(replace(side, target=side.given[0], of_input=True))


def of_layer(side: Shown) -> Iterator[Space]:
    """A layer that takes what is recorded before it."""
    found = taken(side) if side.layer.width else {}
    if found:
        yield computed(side, found, [*ACTIVATIONS])


def computed(side: Shown, found: dict[str, tuple[Array, Array | None]], activations: list[str]) -> Space:
    """A layer that takes one of these arrays, perhaps multiplied by another one as its gate."""
    layer = side.layer

    def compute(takes: str, before: str, gated: str, *rest: Any) -> Array | None:
        array, times = found.get(takes, (None, None))
        if array is None or (times is None and gated != "linear"):
            return None
        x = (ACTIVATIONS | ALONE)[before](array)
        return layer.compute(x if times is None else x * ACTIVATIONS[gated](times), *rest)

    before = "the activation before {} is" if side.group.kind in LAYERS else "the activation before or in {} is"
    choices = {"{} takes": [*found], before: activations, GATED: ["linear", "tanh", "sigmoid"]}
    return side.space({**choices, **layer.aspects}, compute)


# What a layer may take of what is recorded before it, by what a cause calls it


def channels_last(array: Array) -> Array:
    return np.moveaxis(array, 1, -1) if array.ndim > 2 else array


def taken(side: Shown) -> dict[str, tuple[Array, Array | None]]:
    """What the layer may take, by what a cause calls it: what an activation is applied to, and what that is then
    multiplied by."""
    found = dict[str, tuple[Array, Array | None]]()

    def add(name: str, array: Array, times: Array | None = None) -> None:
        one, other = side.picked(array), side.picked(times)
        if one is not None and array.shape[-1] == side.layer.width:
            found.setdefault(name, (one, other))

    outputs, summed = side.before, [*sums(side)]
    for name, array in outputs.items():
        for words, way in ways(side, array):
            add(f"{name}{words}", way)
        if array.shape[-1] == 2 * side.layer.width:
            halves = np.split(array, 2, -1), (array[..., ::2], array[..., 1::2])
            for how, (one, other) in zip(("half", "number of each two"), halves, strict=True):
                add(f"{name} with its first {how} as the gate", one, other)
                add(f"{name} with its second {how} as the gate", other, one)
    for name, array in (*outputs.items(), *summed) if side.target.ndim == 2 else ():
        if array.ndim == 3:
            for token, chosen in (("first", array[:, 0]), ("last", array[:, -1]), ("mean", array.mean(1))):
                add(f"the {token} token of {name}", chosen)
    backwards = {f"{name} backwards in time": array[:, ::-1] for name, array in outputs.items() if array.ndim == 3}
    for (name, one), (also, other) in permutations({**outputs, **backwards}.items(), 2):
        if one.shape[:-1] == other.shape[:-1] and one.shape[-1] + other.shape[-1] == side.layer.width:
            add(f"{name} and then {also}", np.concatenate([one, other], -1))
        if name in outputs and also in outputs and one.shape == other.shape:
            add(f"{also} with {name} as its gate", one, other)
    for name, array in (*backwards.items(), *summed, *tokens(side)):
        add(name, array)
    return found


def ways(side: Shown, array: Array) -> Iterator[tuple[str, Array]]:
    """How the axes of an output may stand when the layer takes it."""
    channels_first = channels_stand_first(side.group) and side.group.kind not in CHANNELLED
    yield "", array
    if channels_first and array.ndim > 2:
        yield " with its channels last", channels_last(array)
    if array.ndim > 2 and prod(array.shape[1:]) == side.layer.width:
        orders = (channels_last(array), array) if channels_first else (array, np.moveaxis(array, -1, 1))
        for order, turned in zip(("last", "first"), orders, strict=True):
            yield f" flattened with its channels {order}", turned.reshape(len(turned), -1)


def sums(side: Shown) -> Iterator[tuple[str, Array]]:
    """Sums of two outputs or of three: of a residual, of ids and positions, which may be the same in each row, or of
    both; the rows of an embedding may be multiplied by the root of its width."""
    tables = {pair.left.layer.path for pair in side.broken.rungs.pairing.pairs if pair.left.kind == "embedding"}
    rows = {name: array for name, array in side.before.items() if name.partition(",")[0] in tables}
    scaled = {f"{name} times the root of its width": array * array.shape[-1] ** 0.5 for name, array in rows.items()}
    yield from scaled.items()
    for terms in (2, 3):
        for several in combinations({**side.before, **scaled}.items(), terms):
            shape = max((array.shape for _, array in several), key=len)
            if all(array.shape in (shape, shape[1:]) for _, array in several):
                made = np.sum([np.broadcast_to(array, shape) for _, array in several], 0)
                yield " + ".join(name for name, _ in several), made


def tokens(side: Shown) -> Iterator[tuple[str, Array]]:
    """Tokens (N, T, D) of a sequence or of an image, beside the token of a class and with positions, which are
    weights of no known layer."""
    width = side.layer.width
    groups = [pair.left for pair in side.broken.rungs.pairing.pairs if pair.left.kind == "parameters"]
    owned = [group.tensor(name) for group in groups for name in group.tensors]
    tables = [a.reshape(-1, width) for a in owned if a is not None and width and a.shape[-1:] == (width,)]
    for name, array in side.before.items():
        image = channels_last(array) if channels_stand_first(side.group) and array.ndim > 3 else array
        if array.ndim not in (3, 4) or image.shape[-1] != width:
            continue
        ways = {f"{name} row by row": image, f"{name} column by column": image.swapaxes(1, 2)}
        for words, patches in ways.items() if array.ndim == 4 else [(name, array)]:
            flat = patches.reshape(len(patches), -1, width)
            beside = {words: flat}
            for token in [np.broadcast_to(table, (len(flat), 1, width)) for table in tables if len(table) == 1]:
                beside[f"{words} after the class's token"] = np.concatenate([token, flat], 1)
                beside[f"{words} before the class's token"] = np.concatenate([flat, token], 1)
            for (words, x), table, first in product([*beside.items()], tables, (0, 1)):
                if 1 < x.shape[1] <= len(table) - first:
                    yield (f"{words} with positions from {first}", x + table[first : first + x.shape[1]])
            yield from beside.items()


def of_embedding(side: Shown) -> Iterator[Space]:
    """A table of which rows are looked up, by ids or by positions."""
    table = side.weights.get("embeddings") if side.group.kind == "embedding" else None
    if table is None:
        return
    shape = side.target.shape[:-1]
    ids = {name: array for name, array in side.ids.items() if array.shape == shape}
    ids["positions"] = np.broadcast_to(np.arange(shape[-1]), shape)

    def compute(ids_of: str, first: int, padding: Any) -> Array | None:
        rows = ids[ids_of] + first
        if rows.min() < 0 or rows.max() >= len(table):
            return None
        return side.picked(table[rows] * (rows != padding)[..., None])

    paddings = [None, *(one for one in side.settings("padding_idx", 0) if isinstance(one, int))]
    aspects: Aspects = {"{} looks up": [*ids], "positions begin at": [0, 1, 2, -1], "padding_idx is": paddings}
    yield side.space(aspects, compute)


# Attention


def of_attention(side: Shown) -> Iterator[Space]:
    """A dense layer that takes an attention of queries, keys and values, or a layer without weights that is one."""
    may_be = side.group.kind == "dense" or is_bare(side.group)
    for parts, one_output in projections(side) if may_be else ():
        yield attention(side, parts, one_output)


def is_bare(group: WeightGroup) -> bool:
    """Return whether a layer has no weights and contains no other layer."""
    return not group.tensors and group.kind != PARENT


def attention(side: Shown, whole: list[Array], one_output: bool) -> Space:
    """The layer takes an attention of query, key and value (N, T, ...), which one output may have together."""
    width, layer = side.layer.width, side.layer
    usual = [choices[0] for choices in layer.aspects.values()]
    # What the layer gives is the attention, or what is given to it.
    given = side.target if is_bare(side.group) else side.given[0] if len(side.given) == 1 else None
    shown = side if given is None else replace(side, target=given, of_input=True)
    recorded = [one.settings for of_side in side.broken.sides for one in of_side.says.layers]
    bases = [base for one in recorded for name in BASES if (base := number(one.get(name))) > 1]
    sizes = [n for n in range(1, width + 1) if width % n == 0]
    named = [one.get(name) for one in recorded for name in HEADS]
    queries, keys = whole[0].shape[1], whole[1].shape[1]
    masks, pairs = masks_of(side, queries, keys), len(whole[0]) * queries * keys

    def compute(
        heads: int, mask: str, scale: str, order: str, packed: str, shared: str, rope: str, base: float,
        all_masked: str,
    ) -> Array | None:  # fmt: skip
        size, parts = width // heads, whole
        if heads * pairs > LARGEST_SCORES:
            return None
        if packed != "one after the other":
            groups = whole[1].shape[-1] // size
            of_groups = np.concatenate(whole, -1).reshape(*whole[0].shape[:2], groups, -1)
            parts = np.split(of_groups, [width // groups, width // groups + size], -1)
        q, k, v = (parts[place].reshape(*parts[place].shape[:2], -1, size) for place in ORDERS[order])
        if rope != "none":
            q, k = (rotated(one, rope, base) for one in (q, k))
        each = heads // k.shape[2]
        k, v = (one.repeat(each, 2) if shared == "in blocks" else np.tile(one, (1, 1, each, 1)) for one in (k, v))
        made = attended(q, k, v, masks[mask], SCALES[scale](size, heads), all_masked == "nothing counts")
        picked = shown.picked(made)
        return layer.compute(picked, *usual) if shown is side and picked is not None else picked

    own = side.group.part == "output"  # a framework's own layer has these as usual
    aspects: Aspects = {
        "the attention's number of heads is": list(dict.fromkeys([one for one in named if one in sizes] + sizes)),
        "the attention's mask is": [*masks],
        "the attention's scores are multiplied by": [*SCALES],
        "an output is divided into": [*ORDERS][: 1 if own else None],
        "query, key and value stand": ["one after the other", "group by group"][: 1 + one_output],
        "heads share keys": ["in blocks", "in turns"][: 1 if own else None],
        "pairs of rotary embeddings are": ["none", "halves", "interleaved"][: 1 if own else None],
        "the base of rotary embeddings is": list(dict.fromkeys((*bases, *USUAL_BASES))),
        "": ["each counts the same", "nothing counts"],  # where all is masked
    }
    return shown.space(aspects, compute, lambda heads, *_: pairs * (width + COST_OF_SCORE * heads))


def projections(side: Shown) -> Iterator[tuple[list[Array], bool]]:
    """Query, key and value (N, T, ...) that an attention may take, and whether they are one output: computed with a
    framework's own weights, or three outputs of other layers, or one that has all."""
    width, layer = side.layer.width, side.group.layer
    groups = {pair.left.part: pair.left for pair in side.broken.rungs.pairing.pairs if pair.left.layer is layer}
    if side.group.part == "output" and {*PROJECTIONS} <= groups.keys():
        found = []
        for x, group in zip(side.given, map(groups.__getitem__, PROJECTIONS), strict=False):
            kernel, bias = group.tensor("kernel"), group.tensor("bias")
            if kernel is not None and x.ndim == 3 and x.shape[-1] == len(kernel):
                found.append(x @ kernel + (0 if bias is None else bias))
        if len(found) == len(PROJECTIONS):
            yield found, False
        return
    outputs = [array for name, array in side.before.items() if not name.endswith(IS_GIVEN)]
    before = [array for array in outputs if array.ndim in (3, 4) and width]
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
    seen = {"none": np.ones((1, 1), bool), "causal": past <= 0, "causal, one position too far": past <= 1}
    seen |= {"causal without the position itself": past < 0, "of what is past": past >= 0}
    for name, ids in side.ids.items():
        if ids.ndim == 2 and ids.shape[1] == keys and 0 < (ids == 0).sum() < ids.size:
            real = (ids != 0)[:, None, None]
            for words, of in ((f"where {name} is not 0", real), (f"where {name} is 0", ~real)):
                seen |= {words: of, f"causal and {words}": of & (past <= 0)}
        if ids.ndim == 1 and 0 < ids.min() <= ids.max() <= keys and ids.min() < keys:
            seen[f"of as many positions as {name} says"] = (np.arange(keys) < ids[:, None])[:, None, None]
    masks = {name: np.where(array, 0.0, -np.inf) for name, array in seen.items()}
    return masks | {f"1 {name} and else 0, added": 1.0 * array for name, array in seen.items() if name[:5] == "where"}


FORMS = (of_embedding, of_given, of_input, of_layer, of_attention)
