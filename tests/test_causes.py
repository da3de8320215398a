"""Causes of what `rosetta diff` finds: each is told where it is planted, and not where the numbers are a bit others.

Records are made of NumPy alone. What both sides compute is written out here, and not taken from the product."""

from collections.abc import Callable
from math import erf
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks.compare.diff import Diff, compare_records
from benchmarks.compare.record import Side
from rosetta_record import Record
from tests.records import Array

N, T, D, V = 3, 4, 4, 7
IDS = np.array([[1, 2, 3, 4], [5, 6, 1, 0], [2, 4, 0, 0]])
RNG = np.random.default_rng(0)
TABLE, KERNEL, BIAS, GAIN, SHIFT = (RNG.normal(size=shape) for shape in ((V, D), (D, D), D, D, D))
X, Y, IMAGE = RNG.normal(size=(N, T, D)), RNG.normal(size=(N, T, D)), RNG.normal(size=(N, 3, 3, D))
Layers = list[tuple[str, str, dict[str, Array], dict[str, Any], Array]]  # path, class, weights, settings, output


def record(path: Path, layers: Layers) -> Side:
    made = Record(path)
    made.inputs(ids=IDS)
    for layer in layers:
        made.layer(*layer)
    made.forward(out=layers[-1][-1])
    return Side(path)


def sigmoid(x: Array) -> Array:
    return np.asarray(1 / (1 + np.exp(-x)))


def gelu(x: Array, by_tanh: bool = False) -> Array:
    if by_tanh:
        return np.asarray(0.5 * x * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3))))
    return np.asarray(0.5 * x * (1 + np.vectorize(erf)(x / np.sqrt(2))))


def rotated(x: Array, interleaved: bool, base: float = 1e4, first: int = 0) -> Array:
    """x (N, T, heads, size), pair by pair."""
    size, out = x.shape[-1], np.empty_like(x)
    for t in range(x.shape[1]):
        for pair in range(size // 2):
            angle = (t + first) * base ** (-2 * pair / size)
            one, two = (2 * pair, 2 * pair + 1) if interleaved else (pair, pair + size // 2)
            out[:, t, :, one] = x[:, t, :, one] * np.cos(angle) - x[:, t, :, two] * np.sin(angle)
            out[:, t, :, two] = x[:, t, :, two] * np.cos(angle) + x[:, t, :, one] * np.sin(angle)
    return out


QKV = [RNG.normal(size=(N, T, 8)) for _ in range(3)]
OUT = RNG.normal(size=(8, D))


def attention(
    allowed: Array | bool = True, scale: float = 0.5, turn: Callable[[Array], Array] = lambda x: x, order: str = "qkv"
) -> Layers:
    """Two heads of size 4, which are computed of three dense layers' outputs."""
    q, k, v = (QKV["qkv".index(name)].reshape(N, T, 2, 4) for name in order)
    out = np.zeros((N, T, 2, 4))
    scores = np.einsum("nthd,nshd->nhts", turn(q), turn(k)) * scale
    scores = np.where(np.broadcast_to(allowed, scores.shape), scores, -1e30)
    weights = np.exp(scores - scores.max(-1, keepdims=True))
    out = np.einsum("nhts,nshd->nthd", weights / weights.sum(-1, keepdims=True), v).reshape(N, T, 8)
    of_three: Layers = [(n, "Dense", {"kernel": np.eye(8)[:, :8] + i}, {}, QKV[i]) for i, n in enumerate("qkv")]
    return [*of_three, ("o", "Dense", {"kernel": OUT}, {"num_heads": 2}, out @ OUT)]


def dense(x: Array, *before: tuple[str, Array], kernel: Array = KERNEL) -> Layers:
    layers: Layers = [(name, "Identity", {}, {}, array) for name, array in before]
    return [*layers, ("fc", "Dense", {"kernel": kernel, "bias": BIAS}, {}, x @ kernel + BIAS)]


def embedding(ids: Array, padding: int | None = None, times: float = 1.0) -> Layers:
    rows = TABLE[ids] * (1 if padding is None else (ids != padding)[..., None]) * times
    return [("emb", "Embedding", {"embeddings": TABLE}, {}, rows)]


def norm(
    kind: str, x: Array, epsilon: float = 1e-5, outside: bool = False, plus: float = 0.0, ddof: int = 0
) -> Layers:
    layer_norm = kind == "LayerNormalization"
    of = x - x.mean(-1, keepdims=True) if layer_norm else x
    square = (of**2).sum(-1, keepdims=True) / (D - ddof)
    made = of / (np.sqrt(square) + epsilon if outside else np.sqrt(square + epsilon)) * (GAIN + plus)
    weights = {"gamma": GAIN, "beta": SHIFT} if layer_norm else {"scale": GAIN}
    own = kind if layer_norm else "RMSNormalization"
    return [
        ("x", "Identity", {}, {}, x),
        ("norm", own, weights, {"epsilon": epsilon}, made + (SHIFT if layer_norm else 0)),
    ]


def batch_norm(training: bool) -> Layers:
    mean, variance = np.full(D, 0.1), np.full(D, 1.3)
    weights = {"gamma": GAIN, "beta": SHIFT, "moving_mean": mean, "moving_variance": variance}
    if training:
        mean, variance = X.mean((0, 1)), X.var((0, 1))
    out = (X - mean) / np.sqrt(variance + 1e-5) * GAIN + SHIFT
    return [("x", "Identity", {}, {}, X), ("norm", "BatchNormalization", weights, {"epsilon": 1e-5}, out)]


LONG, FILTER = RNG.normal(size=(N, 8, 2)), RNG.normal(size=(3, 2, 5))


def conv(before: int, after: int, stride: int = 1, dilation: int = 1, flipped: bool = False) -> Layers:
    """A convolution in one dimension, number by number."""
    x, kernel = np.pad(LONG, [(0, 0), (before, after), (0, 0)]), FILTER[::-1] if flipped else FILTER
    length = (x.shape[1] - 2 * dilation - 1) // stride + 1
    out = np.zeros((N, length, 5))
    for t in range(length):
        for k in range(3):
            out[:, t] += x[:, t * stride + k * dilation] @ kernel[k]
    return [("x", "Identity", {}, {}, LONG), ("conv", "Conv1D", {"kernel": FILTER}, {"stride": [stride]}, out)]


def grouped(in_turns: bool = False) -> Layers:
    """A convolution of two groups of two channels, one number wide."""
    x = X[..., [0, 2, 1, 3] if in_turns else [0, 1, 2, 3]]
    out = np.concatenate([x[..., :2] @ OF_GROUPS[0, :, :2], x[..., 2:] @ OF_GROUPS[0, :, 2:]], -1)
    return [("x", "Identity", {}, {}, X), ("conv", "Conv1D", {"kernel": OF_GROUPS}, {"groups": 2}, out)]


def conv_transpose(first: int, flipped: bool = False) -> Layers:
    """It spreads each number over three, two numbers apart, and leaves out the first ones."""
    kernel = RNG_KERNEL[::-1] if flipped else RNG_KERNEL
    out = np.zeros((N, 2 * 7 + 3 + 2, 5))
    for t in range(8):
        for k in range(3):
            out[:, 2 * t + k] += LONG[:, t] @ kernel[k].T
    layer = ("conv", "Conv1DTranspose", {"kernel": RNG_KERNEL}, {"stride": [2]}, out[:, first : first + 16])
    return [("x", "Identity", {}, {}, LONG), layer]


RNG_KERNEL, OF_GROUPS = RNG.normal(size=(3, 5, 2)), RNG.normal(size=(1, 2, 4))
OF_LSTM, OF_GRU = ([RNG.normal(size=shape) for shape in ((D, n * D), (D, n * D), n * D)] for n in (4, 3))


def lstm(exchanged: bool = False, reverse: bool = False) -> Layers:
    (kernel, own, bias), h, c, out = OF_LSTM, np.zeros((N, D)), np.zeros((N, D)), np.zeros((N, T, D))
    gate, squash = (np.tanh, sigmoid) if exchanged else (sigmoid, np.tanh)
    for t in range(T)[:: -1 if reverse else 1]:
        i, f, new, o = np.split(X[:, t] @ kernel + h @ own + bias, 4, -1)
        c = gate(f) * c + gate(i) * squash(new)
        h = out[:, t] = gate(o) * squash(c)
    weights = {"kernel": kernel, "recurrent_kernel": own, "bias": bias}
    return [("x", "Identity", {}, {}, X), ("lstm", "LSTM", weights, {}, out)]


def gru(after: bool = True, start: float = 0.0) -> Layers:
    (kernel, own, bias), h, out = OF_GRU, np.full((N, D), start), np.zeros((N, T, D))
    for t in range(T):
        inputs, of_own = X[:, t] @ kernel + bias, h @ own
        z, r = sigmoid(inputs[:, :D] + of_own[:, :D]), sigmoid(inputs[:, D : 2 * D] + of_own[:, D : 2 * D])
        last = r * of_own[:, 2 * D :] if after else (r * h) @ own[:, 2 * D :]
        h = out[:, t] = z * h + (1 - z) * np.tanh(inputs[:, 2 * D :] + last)
    weights = {"kernel": kernel, "recurrent_kernel": own, "bias": np.stack([bias, 0 * bias])}
    return [("x", "Identity", {}, {}, X), ("gru", "GRU", weights, {}, out)]


CLASS, PLACES = RNG.normal(size=(1, 1, D)), RNG.normal(size=(11, D))


def vit(columns: bool = False, last: bool = False, first: int = 0) -> Layers:
    patches = (IMAGE.swapaxes(1, 2) if columns else IMAGE).reshape(N, 9, D)
    token = np.broadcast_to(CLASS, (N, 1, D))
    x = np.concatenate([patches, token] if last else [token, patches], 1) + PLACES[first : first + 10]
    own: Layers = [("vit", "mine.Vit", {"cls": CLASS, "places": PLACES}, {}, None)]  # type: ignore[list-item]
    return [*own, ("patches", "Identity", {}, {}, IMAGE), *norm("LayerNormalization", x)[1:]]


FLAT, WIDE = RNG.normal(size=(9 * D, D)), RNG.normal(size=(2 * D, D))
PAST = np.tril(np.ones((T, T), bool))
REAL = (IDS != 0)[:, None, None]

THREE: Layers = [(name, "Identity", {}, {}, array) for name, array in (("a", X), ("b", Y), ("c", X[::-1]))]

# What both sides compute, and words of the cause.
FORWARD: dict[str, tuple[Layers, Layers, str]] = {
    "activation": (
        dense(gelu(X), ("x", X)), dense(gelu(X, True), ("x", X)),
        "the activation before fc is gelu on the left and gelu by tanh on"
    ),
    "gate and up": (
        dense(X * sigmoid(X) * Y, ("gate", X), ("up", Y)), dense(X * Y * sigmoid(Y), ("gate", X), ("up", Y)),
        "fc takes up with gate as its gate on the left and gate with up as its gate on the right",
    ),
    "activations of a gate": (
        dense(np.tanh(X) * sigmoid(Y), ("gate", Y), ("x", X)), dense(sigmoid(X) * np.tanh(Y), ("gate", Y), ("x", X)),
        "as its gate on the right",
    ),
    "backwards and not turned back": (
        dense(np.concatenate([X, Y[:, ::-1]], -1), ("there", X), ("back", Y), kernel=WIDE),
        dense(np.concatenate([X, Y], -1), ("there", X), ("back", Y), kernel=WIDE),
        "fc takes there and then back backwards in time on the left and there and then back on the right",
    ),
    "pre-norm and post-norm": (
        dense(X, ("norm", X), ("x", Y)), dense(Y, ("norm", X), ("x", Y)),
        "fc takes norm on the left and x on the right"
    ),
    "a residual": (dense(X + Y, ("a", X), ("x", Y)), dense(X, ("a", X), ("x", Y)), "+"),
    "epsilon after a sum of three": (
        [*THREE, *norm("LayerNormalization", X + Y + X[::-1])[1:]],
        [*THREE, *norm("LayerNormalization", X + Y + X[::-1], 1e-3)[1:]],
        "epsilon is 1e-05 on the left and 0.001 on the right",
    ),
    "order of a skip": (
        dense(np.concatenate([X, Y], -1), ("skip", X), ("up", Y), kernel=WIDE),
        dense(np.concatenate([Y, X], -1), ("skip", X), ("up", Y), kernel=WIDE),
        "fc takes skip and then up on the left and up and then skip on the right",
    ),
    "order of a flatten": (
        dense(IMAGE.reshape(N, -1), ("conv", IMAGE), kernel=FLAT),
        dense(IMAGE.transpose(0, 3, 1, 2).reshape(N, -1), ("conv", IMAGE), kernel=FLAT),
        "flattened with its channels last on the left and conv flattened with its channels first on the right",
    ),
    "token": (dense(X[:, 0], ("x", X)), dense(X[:, -1], ("x", X)),
        "the first token of x on the left and the last token"),
    "padding_idx": (embedding(IDS), embedding(IDS, 0), "padding_idx is None on the left and 0 on the right"),
    "positions from 1": (
        embedding(np.broadcast_to(np.arange(T), (N, T))), embedding(np.broadcast_to(np.arange(T) + 1, (N, T))),
        "positions begin at 0 on the left and at 1 on the right",
    ),
    "scaled embedding": (embedding(IDS), embedding(IDS, None, 2.0),
        "what emb gives is multiplied by 1 on the left and by the"),
    "epsilon": (norm("LayerNormalization", X), norm("LayerNormalization", X, 1e-3),
        "epsilon is 1e-05 on the left and 0.001"),
    "epsilon out of the root": (
        norm("LayerNormalization", X, 1e-3), norm("LayerNormalization", X, 1e-3, True),
        "inside the root on the left and added to the root"
    ),
    "divisor of a variance": (
        norm("LayerNormalization", X), norm("LayerNormalization", X, ddof=1), "divided by n on the left and by n - 1"
    ),
    "gain without its 1": (
        norm("RMS", X), norm("RMS", X, plus=1.0), "norm multiplies by its gain on the left and by its gain plus 1"
    ),
    "training flag": (batch_norm(False), batch_norm(True), "are the running ones on the left and those of the batch"),
    "padding same with stride": (conv(1, 1, 2), conv(0, 1, 2),
        "the padding of conv is 1 on the left and same on the right"),
    "stride": (conv(1, 1), conv(1, 1, 2), "the stride of conv is (1,) on the left and (2,) on the right"),
    "dilation": (conv(1, 1), conv(2, 2, 1, 2), "the dilation of conv is (1,) on the left and (2,) on the right"),
    "flipped kernel": (conv(1, 1), conv(1, 1, flipped=True),
        "used as it is stored on the left and flipped on the right"),
    "groups of channels": (grouped(), grouped(True), "into groups in blocks on the left and in turns on the right"),
    "crop of a transposed convolution": (conv_transpose(0), conv_transpose(1),
        "conv leaves out 0 at the beginning on the left and 1"),
    "flip of a transposed convolution": (conv_transpose(1), conv_transpose(1, True),
        "stored on the left and flipped"),
    "sigmoid and tanh": (lstm(), lstm(True),
        "sigmoid and tanh of lstm are as usual on the left and exchanged on the right"),
    "direction of time": (lstm(), lstm(reverse=True),
        "lstm begins with the first time step on the left and with the last"),
    "reset gate": (gru(), gru(False), "reset_after is True on the left and False on the right"),
    "initial state": (gru(), gru(start=0.5),
        "the initial state of gru is zeros on the left and another on the right"),
    "mask shifted": (attention(PAST), attention(np.tril(PAST | True, 1)),
        "mask is causal on the left and causal, one position too far"),
    "no mask": (attention(PAST), attention(), "mask is causal on the left and none on the right"),
    "mask inverted": (
        attention(REAL), attention(~REAL | ~REAL.any(-1, keepdims=True)),
        "where ids is not 0 on the left and where ids is 0 on the right"
    ),
    "scale": (attention(), attention(scale=1.0),
        "by one over the root of a head's size on the left and by 1 on the right"),
    "kind of RoPE": (
        attention(turn=lambda x: rotated(x, False)), attention(turn=lambda x: rotated(x, True)),
        "pairs of rotary embeddings are halves on the left and interleaved on the right",
    ),
    "base of RoPE": (
        attention(turn=lambda x: rotated(x, False)), attention(turn=lambda x: rotated(x, False, 5e5)),
        "the base of rotary embeddings is 10000 on the left and 500000 on the right",
    ),
    "order of query, key and value": (attention(), attention(order="kqv"),
        "query, key, value on the left and into key, query, value"),
    "class token": (vit(), vit(last=True),
        "after the class's token with positions from 0 on the left and patches row by row before"),
    "patch order": (vit(), vit(columns=True),
        "patches row by row after the class's token with positions from 0 on the left and patches column"),
    "added positions from 1": (vit(), vit(first=1),
        "positions from 0 on the left and patches row by row after the class's token with positions from 1"),
}  # fmt: skip


def likely(found: Diff) -> str:
    return "; ".join(cause.sentence for cause in found.causes if cause.standing == "likely")


@pytest.mark.parametrize("name", FORWARD)
def test_a_cause_in_the_forward_pass_is_told_and_not_where_the_numbers_are_others(name: str, tmp_path: Path) -> None:
    left, right, words = FORWARD[name]
    one = record(tmp_path / "left", left)
    found = compare_records(one, record(tmp_path / "right", right))
    assert found.broken == "forward"
    assert words in likely(found), found.causes
    *before, (path, kind, weights, settings, output) = right
    noise = 1e-4 * np.random.default_rng(1).normal(size=output.shape)
    near = compare_records(one, record(tmp_path / "near", [*before, (path, kind, weights, settings, output + noise)]))
    assert not likely(near), near.causes


PICTURE, FIVE, SIX = RNG.normal(size=(3, 3, 2, 5)), RNG.normal(size=5), RNG.normal(size=5)
OF_WEIGHTS = {
    "rows and columns of a kernel": (PICTURE.swapaxes(0, 1), FIVE, SIX, "one with its axes in the order 1, 0, 2, 3"),
    "a flipped kernel": (PICTURE[::-1, ::-1], FIVE, SIX, "the right side is the left one flipped"),
    "exchanged biases": (PICTURE, SIX, FIVE, "the right side has the numbers of fc bias of the left side"),
}


@pytest.mark.parametrize("name", OF_WEIGHTS)
def test_a_cause_in_the_weights_is_told_and_not_where_they_are_others(name: str, tmp_path: Path) -> None:
    def side(folder: str, kernel: Array, one: Array, other: Array) -> Side:
        conv: Layers = [("conv", "Conv2D", {"kernel": kernel, "bias": one}, {}, X)]
        return record(tmp_path / folder, [*conv, ("fc", "Dense", {"kernel": np.eye(4, 5), "bias": other}, {}, X)])

    *right, words = OF_WEIGHTS[name]
    left = side("left", PICTURE, FIVE, SIX)
    found = compare_records(left, side("right", *right))
    assert found.broken == "weights"
    assert words in likely(found), found.causes
    assert not likely(compare_records(left, side("near", *(array + np.arange(5) for array in right))))


LOGITS, LABELS = RNG.normal(size=(N, T, V)), np.where(IDS == 0, 0, RNG.integers(1, V, (N, T)))
GRADIENTS = {"fc.kernel": RNG.normal(size=(D, D)), "fc.bias": RNG.normal(size=D)}
WEIGHTS = {"fc.kernel": KERNEL, "fc.bias": BIAS}
USUAL = {"learning_rate": 0.01, "beta_1": 0.9, "beta_2": 0.999, "epsilon": 1e-3, "weight_decay": 0.1}
Arrays = dict[str, Array]


def training(
    path: Path, loss: float = 1.0, gradients: Arrays = GRADIENTS, optimizer: str = "Adam",
    updates: Arrays | None = None, slots: Arrays | None = None, **settings: float,
) -> Side:  # fmt: skip
    made = Record(path)
    made.inputs(ids=IDS, labels=LABELS)
    made.layer("fc", "Dense", {"kernel": KERNEL, "bias": BIAS})
    made.forward(logits=LOGITS)
    made.loss(loss)
    made.gradients(gradients=gradients)
    made.optimizer(optimizer, {**USUAL, **settings}, slots or {})
    moved = updates or {name: np.zeros_like(array) for name, array in WEIGHTS.items()}
    made.step(1, loss, {name: array + moved[name] for name, array in WEIGHTS.items()})
    return Side(path)


def of_labels(
    logits: Array = LOGITS, labels: Array = LABELS, counts: Array | None = None, smoothing: float = 0.0
) -> float:
    """The mean cross-entropy, position by position."""
    found = []
    for place in np.ndindex(labels.shape):
        probabilities = np.exp(logits[place]) / np.exp(logits[place]).sum()
        wanted = np.full(V, smoothing / V) + (1 - smoothing) * (np.arange(V) == labels[place])
        if counts is None or counts[place]:
            found.append(-(wanted * np.log(probabilities)).sum())
    return float(np.mean(found))


LOSSES = {
    "smoothing": (of_labels(smoothing=0.1), "labels are smoothed by 0 on the left and 0.1 on the right"),
    "labels shifted": (
        of_labels(LOGITS[:, :-1], LABELS[:, 1:]),
        "labels are shifted by 0 positions on the left and by 1",
    ),
    "padding": (
        of_labels(counts=LABELS != 0),
        "count all positions on the left and those whose labels is not 0 on the",
    ),
    "a sum": (
        of_labels() * N * T,
        "the loss is a mean over the positions that count on the left and a sum on the right",
    ),
    "a softmax too much": (
        of_labels(np.exp(LOGITS) / np.exp(LOGITS).sum(-1, keepdims=True)),
        "and for logits of which it takes the softmax twice",
    ),
    "a mean over rows": (of_labels() * T, "and a mean over the rows on the right"),
}


@pytest.mark.parametrize("name", LOSSES)
def test_a_cause_in_the_loss_is_told_and_not_where_it_is_another_number(name: str, tmp_path: Path) -> None:
    loss, words = LOSSES[name]
    left = training(tmp_path / "left", of_labels())
    found = compare_records(left, training(tmp_path / "right", loss))
    assert found.broken == "loss"
    assert words in likely(found), found.causes
    assert not likely(compare_records(left, training(tmp_path / "near", loss * 1.0001)))


def clipped(limit: float) -> Arrays:
    norm = np.sqrt(sum((array**2).sum() for array in GRADIENTS.values()))
    return {name: array * limit / norm for name, array in GRADIENTS.items()}


OF_GRADIENTS: dict[str, tuple[Arrays, str]] = {
    "added up": ({n: 11 * a for n, a in GRADIENTS.items()}, "11 times as large (as where those of 11 passes"),
    "a sum": ({n: N * T * a for n, a in GRADIENTS.items()}, f"{N * T} times as large (as between the mean"),
    "clipped by the norm of all": (clipped(0.5),
        "clipped nowhere on the left and to a norm of all of 0.5 on the right"),
    "clipped by each norm": (
        {n: a / np.sqrt((a**2).sum()) for n, a in GRADIENTS.items()},
        "clipped nowhere on the left and each to a norm of 1.0"
    ),
    "clipped by value": ({n: np.clip(a, -0.3, 0.3) for n, a in GRADIENTS.items()},
        "nowhere on the left and to values of 0.3"),
}  # fmt: skip


@pytest.mark.parametrize("name", OF_GRADIENTS)
def test_a_cause_in_the_gradients_is_told_and_not_where_they_are_others(name: str, tmp_path: Path) -> None:
    gradients, words = OF_GRADIENTS[name]
    left = training(tmp_path / "left")
    found = compare_records(left, training(tmp_path / "right", gradients=gradients))
    assert found.broken == "gradients"
    assert words in likely(found), found.causes
    near = {n: a * (1 + 1e-3 * np.arange(a.size).reshape(a.shape)) for n, a in gradients.items()}
    assert not likely(compare_records(left, training(tmp_path / "near", gradients=near)))


def adam(
    g: Array, w: Array, decay: str = "none", epsilon: float = 1e-3, place: str = "after", corrected: bool = True,
    step: int = 1, rate: float = 0.01,
) -> Array:  # fmt: skip
    """How far Adam moves a weight in its first step."""
    g = g + 0.1 * w if decay == "through the gradient" else g
    m, v = 0.1 * g, 0.001 * g**2
    one, two = (1 - 0.9**step, 1 - 0.999**step) if corrected else (1, 1)
    divisor = {
        "after": np.sqrt(v / two) + epsilon, "before": np.sqrt(v) / np.sqrt(two) + epsilon / np.sqrt(two),
        "inside": np.sqrt(v / two + epsilon),
    }[place]  # fmt: skip
    return np.asarray(-rate * (m / one / divisor + (0.1 * w if decay == "straight" else 0)))


def moves(rule: Callable[..., Array], **how: Any) -> Arrays:
    return {name: rule(GRADIENTS[name], WEIGHTS[name], **how) for name in WEIGHTS}


def sgd(g: Array, w: Array, nesterov: bool = False) -> Array:
    return -0.01 * (1.9 if nesterov else 1) * g


def rmsprop(g: Array, w: Array, inside: bool = False, started: float = 0.0) -> Array:
    v = 0.9 * started + 0.1 * g**2
    return -0.01 * g / (np.sqrt(v + 1e-3) if inside else np.sqrt(v) + 1e-3)


decayed = moves(adam, decay="straight")
# The optimizer, its settings on both sides, how far weights move, and words of the cause.
STEPS: dict[str, tuple[str, dict[str, Any], dict[str, Any], Arrays, Arrays, str]] = {
    "epsilon's place": (
        "Adam", {"weight_decay": 0}, {"weight_decay": 0}, moves(adam), moves(adam, place="before"),
        "epsilon is added to the root after its bias is corrected on the left and added to the root before its",
    ),
    "no correction": (
        "Adam", {}, {}, moves(adam), moves(adam, corrected=False),
            "the bias of Adam's means is corrected on the left and not"
    ),
    "the counter": ("Adam", {}, {}, moves(adam), moves(adam, step=2),
        "counts the first step as 1 on the left and as 2"),
    "the learning rate, as of a schedule": (
        "Adam", {}, {}, moves(adam), moves(adam, rate=0.002),
            "the first step is 0.01 on the left and 0.002 on the right"
    ),
    "epsilon": ("Adam", {}, {"epsilon": 1e-5}, moves(adam), moves(adam, epsilon=1e-5),
        "is 0.001 on the left and 1e-05"),
    "kind of decay": (
        "Adam", {}, {}, moves(adam, decay="through the gradient"), moves(adam, decay="straight"),
        "goes through the gradient on the left and straight to the weight on the right",
    ),
    "decay of biases": (
        "AdamW", {}, {}, decayed, {**decayed, "fc.bias": moves(adam)["fc.bias"]},
        "weight decay of fc bias goes straight to the weight on the left and nowhere on the right",
    ),
    "Nesterov's momentum": (
        "SGD", {"momentum": 0.9, "weight_decay": 0}, {"momentum": 0.9, "weight_decay": 0,
            "nesterov": True}, moves(sgd),
        moves(sgd, nesterov=True), "Nesterov's momentum is 0 on the left and 1 on the right",
    ),
    "a weight that is not moved": (
        "SGD", {"momentum": 0.9}, {"momentum": 0.9}, moves(sgd), {**moves(sgd), "fc.kernel": 0 * KERNEL},
        "the right side's optimizer does not move it",
    ),
    "the place of RMSprop's epsilon": (
        "RMSprop", {"weight_decay": 0}, {"weight_decay": 0}, moves(rmsprop), moves(rmsprop, inside=True),
        "epsilon is outside the root on the left and inside the root on the right",
    ),
    "where mean squares begin": (
        "RMSprop", {"weight_decay": 0}, {"weight_decay": 0}, moves(rmsprop), moves(rmsprop, started=1.0),
        "mean squares begin with 0 on the left and with 1 on the right",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", STEPS)
def test_a_cause_in_the_step_is_told_and_not_where_weights_move_otherwise(name: str, tmp_path: Path) -> None:
    optimizer, one, other, of_left, of_right, words = STEPS[name]
    slots = {f"{name}|{slot}": array for name, array in GRADIENTS.items() for slot in ("momentum",)}
    usual: dict[str, Any] = {"optimizer": optimizer, "slots": slots}
    left = training(tmp_path / "left", updates=of_left, **usual, **one)
    found = compare_records(left, training(tmp_path / "right", updates=of_right, **usual, **other))
    assert found.broken == "step"
    assert words in likely(found), found.causes
    steps = {n: 1e-3 * (np.abs(a).max() or 1.0) * np.arange(1, a.size + 1) for n, a in of_right.items()}
    near = {n: a + steps[n].reshape(a.shape) for n, a in of_right.items()}
    assert not likely(compare_records(left, training(tmp_path / "near", updates=near, **usual, **other)))
