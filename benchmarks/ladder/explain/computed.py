"""Activations and layers in NumPy, computed from recorded inputs and weights in the canonical layout, which has
channels last."""

from collections.abc import Callable, Sequence
from functools import partial
from math import erf

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from benchmarks.ladder.arrays import Array

Sizes = tuple[int, ...]
Pads = Sequence[tuple[int, int]]  # for each axis how many zeros stand before and after


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
    "hard_sigmoid with a slope of 0.1666667 in float32": partial(hard_sigmoid, slope=float(np.float32(0.1666667))),
}


def activated(x: Array, name: str) -> Array:
    """The activation of an output, in the output's own precision."""
    return ACTIVATIONS[name](x.astype(np.float64)).astype(x.dtype)


def convolved(x: Array, kernel: Array, stride: Sizes, dilation: Sizes, pads: Pads) -> Array | None:
    """The convolution of x (N, ..., C) with a kernel (..., C / groups, F); None where x is too small for it."""
    axes = kernel.ndim - 2
    x = np.pad(x, [(0, 0), *pads, (0, 0)])
    spans = [(size - 1) * step + 1 for size, step in zip(kernel.shape, dilation, strict=False)]
    if any(size < span for size, span in zip(x.shape[1:-1], spans, strict=True)):
        return None
    windows = sliding_window_view(x, spans, tuple(range(1, axes + 1)))  # (N, ..., C, spans)
    windows = windows[:, *(slice(None, None, step) for step in stride)]
    windows = windows[(slice(None),) * (axes + 2) + tuple(slice(None, None, step) for step in dilation)]
    groups = x.shape[-1] // kernel.shape[-2]
    over = [*range(axes + 2, 2 * axes + 2), axes + 1], [*range(axes), axes]
    parts = zip(np.split(windows, groups, axes + 1), np.split(kernel, groups, -1), strict=True)
    return np.concatenate([np.tensordot(one, other, over) for one, other in parts], -1)


def spread(x: Array, kernel: Array, stride: Sizes, first: int, shape: Sizes) -> Array | None:
    """The transposed convolution of x (N, ..., C) with a kernel (..., F, C): as much as has this shape and begins at
    `first` on each axis."""
    sizes = kernel.shape[:-2]
    wide = np.zeros((len(x), *((n - 1) * s + 1 for n, s in zip(x.shape[1:-1], stride, strict=True)), x.shape[-1]))
    wide[:, *(slice(None, None, step) for step in stride)] = x
    turned = np.flip(kernel, tuple(range(len(sizes)))).swapaxes(-1, -2)
    once = (1,) * len(sizes)
    full = convolved(wide, turned, once, once, [(size - 1, size - 1) for size in sizes])
    if full is None or len(shape) != full.ndim:
        return None
    full = full[:, *(slice(first, None) for _ in sizes)]
    short = [max(0, wanted - size) for size, wanted in zip(full.shape, shape, strict=True)]
    return np.pad(full, [(0, size) for size in short])[:, *(slice(0, size) for size in shape[1:-1])]


def pads_of(padding: str | Sizes, sizes: Sizes, kernel: Sizes, stride: Sizes, dilation: Sizes) -> Pads:
    """What a setting means: so many zeros on each side of each axis, "causal", or "same" as in Keras, where the odd
    zero stands after."""
    found = []
    for axis, (size, k, s, d) in enumerate(zip(sizes, kernel, stride, dilation, strict=True)):
        span = (k - 1) * d
        if padding == "same":
            whole = max(0, (-(-size // s) - 1) * s + span + 1 - size)
            found.append((whole // 2, whole - whole // 2))
        elif padding == "causal":
            found.append((span, 0))
        else:
            found.append((int(padding[axis]), int(padding[axis])))
    return found


def normalized(x: Array, axes: Sizes, epsilon: float, place: str, centered: bool = True, ddof: int = 0) -> Array:
    """x with mean 0, where it is centered, and mean square 1 along these axes."""
    of = x - x.mean(axes, keepdims=True) if centered else x
    number = np.prod([x.shape[axis] for axis in axes]) - ddof
    return of / rooted((of**2).sum(axes, keepdims=True) / number, epsilon, place)


def rooted(square: Array, epsilon: float, place: str) -> Array:
    return np.sqrt(square + epsilon) if place == "inside the root" else np.sqrt(square) + epsilon


def attended(q: Array, k: Array, v: Array, mask: Array, scale: float, strict: bool = False) -> Array:
    """The attention of q (N, T, H, D) to k and v (N, S, H, D). The mask is added to the scores (N, H, T, S); where
    all are infinitely small, each counts the same, or none where it is `strict`."""
    q, k, v = (array.swapaxes(1, 2) for array in (q, k, v))
    scores = q @ k.swapaxes(-1, -2) * scale + mask
    nothing = np.isneginf(scores).all(-1, keepdims=True)
    weights = softmax(np.where(nothing, 0.0, scores)) * ~(nothing & strict)
    made = (weights @ v).swapaxes(1, 2)
    return np.asarray(made.reshape(*made.shape[:2], -1))


def rotated(x: Array, order: str, base: float) -> Array:
    """x (N, T, H, D) with rotary embeddings, whose pairs are halves apart or interleaved."""
    half = x.shape[-1] // 2
    angles = np.arange(x.shape[1])[:, None] / base ** (np.arange(half) / half)
    cos, sin = np.cos(angles)[:, None], np.sin(angles)[:, None]
    one, two = (x[..., :half], x[..., half:]) if order == "halves" else (x[..., ::2], x[..., 1::2])
    turned = one * cos - two * sin, two * cos + one * sin
    return np.concatenate(turned, -1) if order == "halves" else np.stack(turned, -1).reshape(x.shape)


def recurrent(
    kind: str, x: Array, kernel: Array, own: Array, biases: tuple[Array, Array], gates: str, after: bool, start: Array
) -> Array:
    """The outputs (N, T, H) of a recurrent layer that begins with `start` (N, H) and, of an LSTM, a cell of zeros.
    `gates` says whether sigmoid and tanh are exchanged; `after` whether a GRU's reset gate stands after the product.
    Gates are in Keras's order, i f c o and z r h."""
    gate, squash = (np.tanh, sigmoid) if gates == "exchanged" else (sigmoid, np.tanh)
    inputs, h, c, found = x @ kernel + biases[0], start, np.zeros_like(start), []
    for step in range(x.shape[1]):
        now = inputs[:, step]
        if kind == "rnn":
            h = np.tanh(now + h @ own + biases[1])
        elif kind == "lstm":
            i, f, new, o = np.split(now + h @ own + biases[1], 4, -1)
            c = gate(f) * c + gate(i) * squash(new)
            h = gate(o) * squash(c)
        else:
            units = h.shape[-1]
            z, r = np.split(gate(now[:, : 2 * units] + (h @ own + biases[1])[:, : 2 * units]), 2, -1)
            of_own = r * (h @ own + biases[1])[:, 2 * units :] if after else (r * h) @ own[:, 2 * units :]
            h = z * h + (1 - z) * squash(now[:, 2 * units :] + of_own)
        found.append(h)
    return np.stack(found, 1)
