"""What a layer may take of what is recorded before it, by what a cause calls it."""

from collections.abc import Iterator
from itertools import combinations, permutations, product
from math import prod

import numpy as np

from benchmarks.compare.broken import CHANNELLED
from benchmarks.compare.comparer import Array
from benchmarks.compare.layers_anew import Shown
from benchmarks.compare.rungs import channels_stand_first


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
