"""Each hypothesis of each operator is found by its numbers,
and none is where the numbers are a bit others."""

from collections.abc import Iterator
from functools import partial
from typing import Any

import numpy as np
import pytest

from porting_tests.support.records import Array
from rosetta_diff.activations import softmax
from rosetta_diff.explain import operators
from rosetta_diff.explain.operators import OPERATORS
from rosetta_diff.explain.search import (
    Choice,
    Computation,
    Criterion,
    Operator,
    Parting,
    Search,
    choices_of,
)

RNG = np.random.default_rng(0)
N, T, D, V = 3, 4, 8, 7


def random(*shape: int) -> Array:
    return RNG.normal(size=shape)


X, GAIN, SHIFT = random(N, T, D), random(D), random(D)
IDS = np.array([[1, 2, 3, 4], [5, 6, 1, 0], [2, 4, 0, 0]])
MASKS = {"none": np.zeros((1, 1)), "causal": np.where(np.tril(np.ones((T, T))), 0.0, -np.inf)}
MASKS["nothing of a row"] = np.where(np.arange(N) < 1, -np.inf, 0.0)[:, None, None, None]
PROBABILITIES = softmax(random(N, T, V))
# What both sides compute: the operator, its arrays, and values of choices that only records have.
CASES: dict[str, tuple[Operator, dict[str, Any], dict[str, list[Any]]]] = {
    "dense": (OPERATORS["dense"], {"x": X, "kernel": random(D, D), "bias": SHIFT}, {}),
    "layernorm": (OPERATORS["layernorm"], {"x": X, "gamma": GAIN, "beta": SHIFT}, {}),
    "rmsnorm": (OPERATORS["rmsnorm"], {"x": X, "gamma": GAIN, "beta": SHIFT}, {}),
    "parent": (operators.unchanged, {"x": X}, {}),
    "attention": (
        operators.attention,
        {"parts": [random(N, T, D) for _ in range(3)], "width": D, "masks": MASKS},
        {"heads": [2, 4], "mask": ["causal", "none", "nothing of a row"]},
    ),
    "shared keys": (
        operators.attention,
        {"parts": [random(N, T, width) for width in (16, 8, 8)], "width": 16, "masks": MASKS},
        {"heads": [4], "mask": ["none"], "rope": ["halves", "none", "interleaved"]},
    ),
    "loss": (
        operators.cross_entropy,
        {
            "log_probabilities": {
                name: read(PROBABILITIES) for name, read in operators.READINGS.items()
            },
            "labels": IDS,
            "counted": {"where ids is not 0": IDS != 0, "all positions": IDS >= 0},
        },
        {"counts": ["where ids is not 0", "all positions"]},
    ),
}


def planted(name: str) -> Iterator[tuple[str, Any, Operator, dict[str, Choice], Array, Array]]:
    """Yield each choice and each of its values but the usual one,
    with what both sides compute, if that differs."""
    operator, arrays, known = CASES[name]
    choices, operator = choices_of(operator, **known), partial(operator, **arrays)
    usual = {name: choice.values[0] for name, choice in choices.items()}
    left = operator(**usual)
    for parameter, choice in choices.items():
        for value in choice.values[1:]:
            right = Computation(operator, choices, left).made({**usual, parameter: value})
            alike = right is None or (
                right.shape == left.shape and np.allclose(left, right, 1e-6, 1e-9)
            )
            if not alike:
                yield parameter, value, operator, choices, left, right


def parted(
    operator: Operator, choices: dict[str, Choice], left: Array, right: Array
) -> Parting | None:
    sides = ([Computation(operator, choices, array)] for array in (left, right))
    return Search(Criterion(bound=1e-12, error=1.0)).parting(*sides, (0, 1))


@pytest.mark.parametrize("name", CASES)
def test_each_hypothesis_is_found_and_none_in_other_numbers(name: str) -> None:
    for parameter, value, operator, choices, left, right in planted(name):
        found = parted(operator, choices, left, right)
        assert found, (parameter, value)
        assert {**found.left, parameter: value} in found.rights, (parameter, value)
        assert parted(operator, choices, left, right + 1e-3 * np.abs(left).max()) is None, (
            parameter,
            value,
        )


def test_each_choice_makes_a_difference_somewhere() -> None:
    def function(operator: Any) -> Any:
        return getattr(operator, "func", operator)  # of a partial

    differing = {
        (function(CASES[name][0]), parameter) for name in CASES for parameter, *_ in planted(name)
    }
    for operator, _, known in CASES.values():
        same = {
            parameter
            for parameter in choices_of(operator, **known)
            if (function(operator), parameter) not in differing
        }
        assert same <= {"all_masked"}, operator
