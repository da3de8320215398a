"""Computations that may have made a loss and gradients: operators with the recorded arrays."""

from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from itertools import product
from math import prod

import numpy as np

from rosetta_diff.arrays import Array, head, largest, pieces
from rosetta_diff.explain import operators
from rosetta_diff.explain.broken import Broken, number
from rosetta_diff.explain.operators import NOWHERE, READINGS
from rosetta_diff.explain.search import Both, Computation, choices_of
from rosetta_diff.read.rules import NORM_OF_ALL, NORM_OF_EACH, VALUES
from rosetta_diff.read.side import Side

USUAL_LIMITS = (1.0, 0.5, 0.1, 5.0, 10.0)  # to which gradients are clipped
TENSORS_TRIED = 4
MOST_ADDED_UP = 1000  # passes, of which gradients are added up
LARGEST_OUTPUT = 1 << 24  # numbers, of which the loss is computed anew


def losses(broken: Broken) -> Iterator[Both]:
    """Cross-entropies of each output and each target."""
    arrays = broken.stages.left.arrays("inputs")
    inputs = {name: arrays[name] for name in arrays if not name.startswith("batch")}
    outputs = [array for array in broken.stages.left.arrays("outputs").values() if array.ndim > 1]
    turned = [way for array in outputs for way in (array, np.moveaxis(array, 1, -1))[: 1 if array.ndim < 3 else 2]]
    for output, labels in product(turned, inputs.values()):  # classes may stand last or second
        fits = labels.dtype.kind in "iu" and labels.shape == output.shape[:-1]
        if not fits or output.size > LARGEST_OUTPUT:
            continue
        counted = {"all positions": np.ones(labels.shape, bool)}
        counted |= {"those whose label is not -100": labels != -100} if (labels == -100).any() else {}
        ids = {name: array for name, array in inputs.items() if array.shape == labels.shape and (array == 0).any()}
        counted |= {f"those whose {name} is not 0": array != 0 for name, array in ids.items()}
        read = {name: reading(output.astype(np.float64)) for name, reading in READINGS.items()}
        operator = partial(operators.cross_entropy, read, labels.astype(np.int64), counted)
        shifts = [0, 1, -1] if labels.ndim > 1 else [0]
        choices = choices_of(operator, counts=[*counted], shift=shifts)
        left, right = (
            Computation(operator, choices, np.array(number(side.says.loss)), output.size) for side in broken.sides
        )
        yield [left], [right], (3, 2)


def gradients(broken: Broken) -> Iterator[Both]:
    """The gradients that differ are those of one side, clipped or multiplied."""
    pairs = [(check.item.left(), check.item.right()) for check in broken.failed[-TENSORS_TRIED:]]
    if any(left is None or right is None or left.shape != right.shape for left, right in pairs):
        return
    both = [[head(pair[place]).astype(np.float64) for pair in pairs] for place in (0, 1)]  # type: ignore[arg-type]
    factors = factors_of(broken, *map(norm, both))
    wanted = [np.concatenate([array.ravel() for array in of]) for of in both]
    of_all = [norm_of_all(side) for side in broken.sides]
    for place in range(2):  # the other side's are clipped
        source = both[1 - place]
        norms = [norm(source), of_all[1 - place], max(map(largest, source))]
        limits = [*(float(f"{limit:.3g}") for limit in norms), *USUAL_LIMITS]
        clips = [clippings(array, of_all[place], broken.sides[1 - place], limits) for array in both[place]]
        clipped = {name: [of[name] for of in clips] for name in clips[0]}
        acts = (name for name in clipped if not all(map(np.array_equal, clipped[name], both[place])))
        clipped = {name: clipped[name] for name in (NOWHERE, *acts)}
        operator = partial(operators.given_gradients, clipped, factors)
        choices = choices_of(operator, clip=[*clipped], times=[*factors])
        left, right = (Computation(operator, choices, array) for array in wanted)
        yield [left], [right], (1, 1)


def factors_of(broken: Broken, left: float, right: float) -> dict[str, float]:
    """Return by what gradients of these norms may be multiplied."""
    shapes = [array.shape for array in broken.stages.left.arrays("inputs").values()]
    counts = {prod(shape[:axes]) for shape in shapes for axes in (1, 2) if len(shape) >= axes} - {0, 1}
    factors = {"as they are": 1.0}
    for count in sorted(counts):
        words = f"(as between the mean over {count} rows or positions and their sum)"
        factors |= {f"{count} times as large {words}": count, f"{count} times smaller {words}": 1 / count}
    for large, small in ((left, right), (right, left)):
        ratio = large / (small or 1.0)
        if 1.5 < ratio < MOST_ADDED_UP and round(ratio) not in counts:
            words = f"(as where those of {round(ratio)} passes are added up)"
            factors[f"{round(ratio)} times as large {words}"] = round(ratio)
    return factors


def norm(arrays: Iterable[Array]) -> float:
    squares = 0.0
    for array in map(np.atleast_1d, arrays):
        squares += sum(float((array[rows].astype(np.float64) ** 2).sum()) for rows in pieces(array.shape))
    return float(squares**0.5)


def norm_of_all(side: Side) -> float:
    arrays = side.arrays("gradients")
    return norm(arrays.mapped(name) for name in side.once("gradients"))


def clipping(side: Side) -> tuple[str, float] | None:
    """Return how the optimizer itself clips gradients, and to what; None where it does not."""
    clip = side.known.clipping(side.optimizer.settings)
    return (clip[0], number(clip[1])) if clip else None


def clippings(gradient: Array, of_all: float, side: Side, limits: Sequence[float]) -> dict[str, Array]:
    """Return a gradient, clipped as a side does it, by how it is clipped. `of_all` is the norm of all gradients."""
    clipped, added = {NOWHERE: gradient}, side.known.added_to_norm
    for limit in dict.fromkeys(limit for limit in limits if limit > 0):
        for how, size in ((NORM_OF_ALL, of_all), (NORM_OF_EACH, norm([gradient]))):
            clipped[f"{how} of {limit}"] = gradient * min(1.0, limit / (size or 1.0))
            if added:
                words = f"{how}, to which {added} is added, of {limit}"
                clipped[words] = gradient * min(1.0, limit / (size + added))
        clipped[f"{VALUES} of {limit}"] = np.clip(gradient, -limit, limit)
    return clipped
