"""Activations in NumPy, by the names that causes have for them."""

from collections.abc import Callable
from functools import partial
from math import erf

import numpy as np

from rosetta_diff.arrays import Array


def gelu(x: Array) -> Array:
    return np.asarray(0.5 * x * (1 + np.vectorize(erf, otypes=[np.float64])(x / 2**0.5)))


def gelu_by_tanh(x: Array) -> Array:
    return np.asarray(0.5 * x * (1 + np.tanh((2 / np.pi) ** 0.5 * (x + 0.044715 * x**3))))


def sigmoid(x: Array) -> Array:
    return np.asarray(1 / (1 + np.exp(-x)))


def softmax(x: Array) -> Array:
    powers = np.exp(x - x.max(-1, keepdims=True))
    return np.asarray(powers / powers.sum(-1, keepdims=True))


# By Keras's names, which are those of the settings. "gelu by tanh" is what it names nothing for.
ACTIVATIONS: dict[str, Callable[[Array], Array]] = {
    "linear": lambda x: x,
    "relu": lambda x: np.maximum(x, 0),
    "gelu": gelu,
    "gelu by tanh": gelu_by_tanh,
    "tanh": np.tanh,
    "sigmoid": sigmoid,
    "silu": lambda x: x * sigmoid(x),
    "softmax": softmax,
    "softplus": lambda x: np.logaddexp(x, 0),
    "elu": lambda x: np.where(x > 0, x, np.expm1(np.minimum(x, 0))),
}


def hard_sigmoid(x: Array, slope: float) -> Array:
    return np.clip(x * slope + 0.5, 0, 1)


# Of a layer that is nothing else.
ALONE: dict[str, Callable[[Array], Array]] = {
    "hard_sigmoid with a slope of 1/6": partial(hard_sigmoid, slope=1 / 6),
    "hard_sigmoid with a slope of 0.1666667 in float32": partial(
        hard_sigmoid, slope=float(np.float32(0.1666667))
    ),
}


def activate(x: Array, name: str) -> Array:
    """Return the activation of an output, in the output's own precision."""
    return ACTIVATIONS[name](x.astype(np.float64)).astype(x.dtype)
