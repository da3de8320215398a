"""Layers and losses in NumPy, with what ports do otherwise: a parameter whose default is a
`choice` carries the hypotheses about it, the usual one first.

Arrays are in float64 and in the canonical layout, with channels last; weights are called as
canonical tensors are. An operator returns None where its choices do not fit its arrays, or make no
difference.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import partial

import numpy as np

from rosetta_diff.activations import ACTIVATIONS, softmax
from rosetta_diff.arrays import Array
from rosetta_diff.explain.search import Operator, choice
from rosetta_diff.read.rules import INSIDE

LARGEST_SCORES = 1 << 22  # numbers of an attention's scores


# Dense layers and norms


def dense(
    x: Array,
    kernel: Array,
    bias: Array | float = 0.0,
    *,
    # In it or after it.
    activation: str = choice("the activation after {} is", tuple(ACTIVATIONS), "activation"),
) -> Array:
    return ACTIVATIONS[activation](x @ kernel + bias)


def unchanged(
    x: Array,
    *,
    times: str = choice("what {} gives is multiplied by", ("1", "the root of the width")),
) -> Array:
    """A layer that contains others or has no weights: it gives what it takes."""
    return x if times == "1" else x * x.shape[-1] ** 0.5


EPSILONS = (1e-5, 1e-3, 1e-6, 1e-12, 0.0)
CENTERED, KEPT = "takes off the mean", "keeps the mean"
GAINS = ("its gain", "its gain plus 1", "its shift")


def rooted(square: Array, epsilon: float, root: str) -> Array:
    return np.sqrt(square + epsilon) if root == INSIDE else np.sqrt(square) + epsilon


def layernorm(
    x: Array,
    gamma: Array,
    beta: Array | float = 0.0,
    *,
    epsilon: float = choice("epsilon is", EPSILONS, "epsilon", "layernorm-epsilon"),
    root: str = choice("epsilon of {} is", (INSIDE, "added to the root")),
    center: str = choice("{}", (CENTERED, KEPT)),
    divisor: str = choice("the variance of {} is divided by", ("n", "n - 1")),
    gain: str = choice("{} multiplies by", GAINS),
) -> Array:
    factor, shift = (beta, gamma) if gain == GAINS[2] else (gamma + (gain == GAINS[1]), beta)
    x = x - x.mean(-1, keepdims=True) if center == CENTERED else x
    square = (x**2).sum(-1, keepdims=True) / (x.shape[-1] - (divisor == "n - 1"))
    return np.asarray(x / rooted(square, epsilon, root) * factor + shift)


# Attention

PROJECTIONS = ("query", "key", "value")
SCALES: dict[str, Callable[[int, int], float]] = {  # of a head's size, and of the number of heads
    "one over the root of a head's size": lambda size, heads: size**-0.5,
    "1": lambda size, heads: 1.0,
    "one over a head's size": lambda size, heads: 1 / size,
    "one over the root of all heads' size": lambda size, heads: (size * heads) ** -0.5,
    "the root of a head's size": lambda size, heads: size**0.5,
}
SOFTMAX_OVER = {"keys": -1, "queries": -2, "heads": 1}  # axes of the scores (N, H, T, S)
BASES = (1e4, 5e5, 1e6, 100.0, 10.0)  # usual ones, of rotary embeddings


def attention(
    # Query (N, T, heads * D), key and value (N, S, heads that are shared * D)
    parts: Sequence[Array],
    width: int,
    masks: Mapping[str, Array],
    *,
    heads: int = choice("the attention's number of heads is"),
    mask: str = choice("the attention's mask is", entry="attention-mask"),
    scale: str = choice("the attention's scores are multiplied by", tuple(SCALES)),
    rope: str = choice("pairs of rotary embeddings are", ("none", "halves", "interleaved")),
    base: float = choice("the base of rotary embeddings is", BASES),
    all_masked: str = choice("", ("each counts the same", "nothing counts")),
    over: str = choice("the attention's softmax is over the", tuple(SOFTMAX_OVER)),
) -> Array | None:
    size = width // heads
    if heads * len(parts[0]) * parts[0].shape[1] * parts[1].shape[1] > LARGEST_SCORES:
        return None
    q, k, v = (part.reshape(*part.shape[:2], -1, size) for part in parts)
    if rope != "none":
        q, k = (rotated(array, rope, base) for array in (q, k))
    k, v = (array.repeat(heads // k.shape[2], 2) for array in (k, v))
    strict, axis = all_masked == "nothing counts", SOFTMAX_OVER[over]
    return attended(q, k, v, masks[mask], SCALES[scale](size, heads), strict, axis)


def attended(
    q: Array,
    k: Array,
    v: Array,
    mask: Array,
    scale: float,
    strict: bool = False,
    axis: int = -1,
) -> Array:
    """The attention of q (N, T, H, D) to k and v (N, S, H, D). The mask is added to the scores
    (N, H, T, S), whose softmax is over `axis`; where all are infinitely small, each counts the
    same, or none where it is `strict`."""
    q, k, v = (array.swapaxes(1, 2) for array in (q, k, v))
    scores = q @ k.swapaxes(-1, -2) * scale + mask
    nothing = np.isneginf(scores).all(axis, keepdims=True)
    of_axis = np.where(nothing, 0.0, scores).swapaxes(axis, -1)
    weights = softmax(of_axis).swapaxes(axis, -1) * ~(nothing & strict)
    output = (weights @ v).swapaxes(1, 2)
    return np.asarray(output.reshape(*output.shape[:2], -1))


def rotated(x: Array, order: str, base: float) -> Array:
    """x (N, T, H, D) with rotary embeddings, whose pairs are halves apart or interleaved."""
    half = x.shape[-1] // 2
    angles = np.arange(x.shape[1])[:, None] / base ** (np.arange(half) / half)
    cos, sin = np.cos(angles)[:, None], np.sin(angles)[:, None]
    first, second = (
        (x[..., :half], x[..., half:]) if order == "halves" else (x[..., ::2], x[..., 1::2])
    )
    turned = first * cos - second * sin, second * cos + first * sin
    return (
        np.concatenate(turned, -1) if order == "halves" else np.stack(turned, -1).reshape(x.shape)
    )


# By the kind of a layer; each computes rows by themselves.
OPERATORS: dict[str, Operator] = {
    "dense": dense,
    "layernorm": layernorm,
    "rmsnorm": partial(
        layernorm,
        center=choice("{}", (KEPT, CENTERED)),
        epsilon=choice("epsilon is", EPSILONS, "epsilon"),
    ),
}


# Losses

# What the outputs (N, ..., V) may be, and how log-probabilities are made of them.
READINGS: dict[str, Callable[[Array], Array]] = {
    "logits": lambda outputs: log_softmax(outputs),
    "logits of which it takes the softmax twice": lambda outputs: log_softmax(softmax(outputs)),
    "probabilities": np.log,
    "log-probabilities": lambda outputs: outputs,
}
OVER_COUNTED, OVER_ALL = "a mean over the positions that count", "a mean over all positions"
OVER_ROWS, OF_ROWS = "a mean over the rows", "a mean of the means of rows"


def log_softmax(x: Array) -> Array:
    powers = x - x.max(-1, keepdims=True)
    return np.asarray(powers - np.log(np.exp(powers).sum(-1, keepdims=True)))


def cross_entropy(
    log_probabilities: Mapping[str, Array],  # (N, ..., V) for each reading of the outputs
    labels: Array,  # (N, ...)
    counted: Mapping[str, Array],  # (N, ...)
    *,
    reads: str = choice("the loss takes the outputs for", tuple(READINGS)),
    shift: int = choice("labels are shifted by", (0, 1, -1)),
    counts: str = choice("in the loss count", entry="padding-denominator"),
    mean: str = choice(
        "the loss is",
        (OVER_COUNTED, OVER_ALL, OVER_ROWS, "a sum", OF_ROWS),
        entry="padding-denominator",
    ),
) -> Array | None:
    logs, real = log_probabilities[reads], counted[counts]
    if shift:
        early, late = slice(0, -1), slice(1, None)
        of_output, of_label = (early, late) if shift > 0 else (late, early)
        logs, labels, real = logs[:, of_output], labels[:, of_label], real[:, of_label]
    right = np.take_along_axis(logs, np.clip(labels, 0, logs.shape[-1] - 1)[..., None], -1)[..., 0]
    each, rows = np.where(real, -right, 0.0), len(right)
    if (mean in (OVER_ALL, OF_ROWS) and real.all()) or (
        labels.ndim == 1 and mean in (OVER_ROWS, OF_ROWS)
    ):
        return None
    if mean == OF_ROWS:
        return np.asarray((each.reshape(rows, -1).sum(1) / real.reshape(rows, -1).sum(1)).mean())
    divisors = {OVER_COUNTED: real.sum(), OVER_ALL: each.size, OVER_ROWS: rows, "a sum": 1}
    return np.asarray(each.sum() / divisors[mean])
