"""Computations that may have made a loss: operators with the recorded arrays."""

from collections.abc import Iterator
from functools import partial
from itertools import product

import numpy as np

from rosetta_diff.explain import operators
from rosetta_diff.explain.broken import Broken, number
from rosetta_diff.explain.operators import READINGS
from rosetta_diff.explain.search import Both, Computation, choices_of

LARGEST_OUTPUT = 1 << 24  # numbers, of which the loss is computed anew


def losses(broken: Broken) -> Iterator[Both]:
    """Cross-entropies of each output and each target."""
    arrays = broken.stages.left.arrays("inputs")
    inputs = {name: arrays[name] for name in arrays if not name.startswith("batch")}
    outputs = [array for array in broken.stages.left.arrays("outputs").values() if array.ndim > 1]
    turned = [
        way
        for array in outputs
        for way in (array, np.moveaxis(array, 1, -1))[: 1 if array.ndim < 3 else 2]
    ]
    for output, labels in product(turned, inputs.values()):  # classes may stand last or second
        fits = labels.dtype.kind in "iu" and labels.shape == output.shape[:-1]
        if not fits or output.size > LARGEST_OUTPUT:
            continue
        counted = {"all positions": np.ones(labels.shape, bool)}
        counted |= (
            {"those whose label is not -100": labels != -100} if (labels == -100).any() else {}
        )
        ids = {
            name: array
            for name, array in inputs.items()
            if array.shape == labels.shape and (array == 0).any()
        }
        counted |= {f"those whose {name} is not 0": array != 0 for name, array in ids.items()}
        read = {name: reading(output.astype(np.float64)) for name, reading in READINGS.items()}
        operator = partial(operators.cross_entropy, read, labels.astype(np.int64), counted)
        shifts = [0, 1, -1] if labels.ndim > 1 else [0]
        choices = choices_of(operator, counts=[*counted], shift=shifts)
        left, right = (
            Computation(operator, choices, np.array(number(side.says.loss)), output.size)
            for side in broken.sides
        )
        yield [left], [right], (3, 2)
