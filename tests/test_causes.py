"""Causes of what `rosetta diff` finds: each is told where it is planted, and not where the numbers are a bit others.

Records are made of NumPy alone, and do not say what layers were given. What both sides compute is written out here,
and not taken from the product. tests/porting_mistakes.py plants most causes in models of the frameworks."""

from collections.abc import Callable
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


QKV = [RNG.normal(size=(N, T, 8)) for _ in range(3)]
OUT = RNG.normal(size=(8, D))


def attention(allowed: Array) -> Layers:
    """Two heads of size 4, which are computed of three dense layers' outputs."""
    q, k, v = (array.reshape(N, T, 2, 4) for array in QKV)
    scores = np.where(allowed, np.einsum("nthd,nshd->nhts", q, k) / 2, -1e30)
    weights = np.exp(scores - scores.max(-1, keepdims=True))
    out = np.einsum("nhts,nshd->nthd", weights / weights.sum(-1, keepdims=True), v).reshape(N, T, 8)
    of_three: Layers = [(n, "Dense", {"kernel": np.eye(8) + i}, {}, QKV[i]) for i, n in enumerate("qkv")]
    return [*of_three, ("o", "Dense", {"kernel": OUT}, {"num_heads": 2}, out @ OUT)]


def dense(x: Array, *before: tuple[str, Array], kernel: Array = KERNEL) -> Layers:
    layers: Layers = [(name, "Identity", {}, {}, array) for name, array in before]
    return [*layers, ("fc", "Dense", {"kernel": kernel, "bias": BIAS}, {}, x @ kernel + BIAS)]


def embedding(padding: int | None = None) -> Layers:
    rows = TABLE[IDS] * (1 if padding is None else np.not_equal(IDS, padding)[..., None])
    return [("emb", "Embedding", {"embeddings": TABLE}, {}, rows)]


def norm(kind: str, groups: int = 1, plus: float = 0.0) -> Layers:
    """Of the last axis; a GroupNormalization of all positions and each group of the last axis."""
    grouped = X.reshape(N, T, groups, -1) if kind[0] == "G" else X[:, :, None]
    axes = (1, 3) if kind[0] == "G" else (3,)
    of = grouped if kind[0] == "R" else grouped - grouped.mean(axes, keepdims=True)
    made = (of / np.sqrt((of**2).mean(axes, keepdims=True) + 1e-5)).reshape(X.shape) * (GAIN + plus)
    weights = {"scale": GAIN} if kind[0] == "R" else {"gamma": GAIN, "beta": SHIFT}
    settings = {"epsilon": 1e-5, **({"groups": groups} if kind[0] == "G" else {})}
    return [("x", "Identity", {}, {}, X), ("norm", kind, weights, settings, made + (0 if kind[0] == "R" else SHIFT))]


LONG, FILTER = RNG.normal(size=(N, 8, 2)), RNG.normal(size=(3, 2, 5))


def conv(before: int) -> Layers:
    """A convolution in one dimension with a stride of two and a zero after the numbers, number by number."""
    x = np.pad(LONG, [(0, 0), (before, 1), (0, 0)])
    out = np.zeros((N, (x.shape[1] - 3) // 2 + 1, 5))
    for t in range(out.shape[1]):
        for k in range(3):
            out[:, t] += x[:, 2 * t + k] @ FILTER[k]
    return [("x", "Identity", {}, {}, LONG), ("conv", "Conv1D", {"kernel": FILTER}, {"stride": [2]}, out)]


OF_GRU = [RNG.normal(size=shape) for shape in ((D, 3 * D), (D, 3 * D), 3 * D)]


def gru(after: bool = True) -> Layers:
    (kernel, own, bias), h, out = OF_GRU, np.zeros((N, D)), np.zeros((N, T, D))
    for t in range(T):
        inputs, of_own = X[:, t] @ kernel + bias, h @ own
        z, r = sigmoid(inputs[:, :D] + of_own[:, :D]), sigmoid(inputs[:, D : 2 * D] + of_own[:, D : 2 * D])
        last = r * of_own[:, 2 * D :] if after else (r * h) @ own[:, 2 * D :]
        h = out[:, t] = z * h + (1 - z) * np.tanh(inputs[:, 2 * D :] + last)
    weights = {"kernel": kernel, "recurrent_kernel": own, "bias": np.stack([bias, 0 * bias])}
    return [("x", "Identity", {}, {}, X), ("gru", "GRU", weights, {}, out)]


FLAT, PAST = RNG.normal(size=(9 * D, D)), np.tril(np.ones((T, T), bool))
# What both sides compute, and words of the cause.
FORWARD: dict[str, tuple[Layers, Layers, str]] = {
    "gate and up": (
        dense(X * sigmoid(X) * Y, ("gate", X), ("up", Y)), dense(X * Y * sigmoid(Y), ("gate", X), ("up", Y)),
        "fc takes up with gate as its gate on the left and gate with up as its gate on the right",
    ),
    "a residual": (dense(X + Y, ("a", X), ("x", Y)), dense(X, ("a", X), ("x", Y)), "+"),
    "order of a flatten": (
        dense(IMAGE.reshape(N, -1), ("conv", IMAGE), kernel=FLAT),
        dense(IMAGE.transpose(0, 3, 1, 2).reshape(N, -1), ("conv", IMAGE), kernel=FLAT),
        "flattened with its channels last on the left and conv flattened with its channels first on the right",
    ),
    "padding_idx": (embedding(), embedding(0), "padding_idx is None on the left and 0 on the right"),
    "groups of a norm": (
        norm("GroupNormalization"), norm("GroupNormalization", 2), "groups of norm is 1 on the left and 2 on"
    ),
    "gain without its 1": (
        norm("RMSNormalization"), norm("RMSNormalization", plus=1.0),
        "norm multiplies by its gain on the left and its gain plus 1",
    ),
    "padding same with stride": (conv(1), conv(0), "the padding of conv is (1,) on the left and same on the right"),
    "reset gate": (gru(), gru(False), "reset_after is True on the left and False on the right"),
    "mask shifted": (
        attention(PAST), attention(np.tril(PAST | True, 1)), "mask is causal on the left and causal, one position too"
    ),
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


def test_a_flipped_kernel_is_told_and_not_where_its_numbers_are_others(tmp_path: Path) -> None:
    kernel = RNG.normal(size=(3, 3, 2, 5))
    left, right, near = (
        record(tmp_path / str(number), [("conv", "Conv2D", {"kernel": array}, {}, X)])
        for number, array in enumerate((kernel, kernel[::-1, ::-1], kernel[::-1, ::-1] + 1e-4))
    )
    assert likely(compare_records(left, right)) == "the right side is the left one flipped"
    assert not likely(compare_records(left, near))


LOGITS, LABELS = RNG.normal(size=(N, T, V)), np.where(IDS == 0, 0, RNG.integers(1, V, (N, T)))
GRADIENTS = {"fc.kernel": RNG.normal(size=(D, D)), "fc.bias": RNG.normal(size=D)}
WEIGHTS = {"fc.kernel": KERNEL, "fc.bias": BIAS}
Arrays = dict[str, Array]


def training(
    path: Path, loss: float = 1.0, gradients: Arrays = GRADIENTS, optimizer: str = "SGD",
    updates: Arrays | None = None, **settings: float,
) -> Side:  # fmt: skip
    made = Record(path)
    made.inputs(ids=IDS, labels=LABELS)
    made.layer("fc", "Dense", {"kernel": KERNEL, "bias": BIAS})
    made.forward(logits=LOGITS)
    made.loss(loss)
    made.gradients(gradients=gradients)
    made.optimizer(optimizer, {"learning_rate": 0.01, **settings}, {})
    moved = updates or {name: np.zeros_like(array) for name, array in WEIGHTS.items()}
    made.step(1, loss, {name: array + moved[name] for name, array in WEIGHTS.items()})
    return Side(path)


def of_labels(counts: Array) -> float:
    """The mean cross-entropy, position by position."""
    found = []
    for place in np.ndindex(LABELS.shape):
        probabilities = np.exp(LOGITS[place]) / np.exp(LOGITS[place]).sum()
        if counts[place]:
            found.append(-np.log(probabilities[LABELS[place]]))
    return float(np.mean(found))


ALL, REAL = np.ones_like(LABELS), LABELS != 0
LOSSES = {
    "padding": (of_labels(REAL), "count all positions on the left and those whose labels is not 0 on the"),
    "a mean over rows": (of_labels(ALL) * T, "and a mean over the rows on the right"),
}


@pytest.mark.parametrize("name", LOSSES)
def test_a_cause_in_the_loss_is_told_and_not_where_it_is_another_number(name: str, tmp_path: Path) -> None:
    loss, words = LOSSES[name]
    left = training(tmp_path / "left", of_labels(ALL))
    found = compare_records(left, training(tmp_path / "right", loss))
    assert found.broken == "loss"
    assert words in likely(found), found.causes
    assert not likely(compare_records(left, training(tmp_path / "near", loss * 1.0001)))


NORM = float(np.sqrt(sum((array**2).sum() for array in GRADIENTS.values())))
OF_GRADIENTS: dict[str, tuple[Callable[[Array], Array], str]] = {
    "added up": (lambda g: 11 * g, "11 times as large (as where those of 11 passes"),
    "a sum": (lambda g: N * T * g, f"{N * T} times as large (as between the mean"),
    "the norm of all": (lambda g: g * 0.5 / NORM, "nowhere on the left and to a norm of all of 0.5 on the right"),
    "each norm": (lambda g: g / np.sqrt((g**2).sum()), "clipped nowhere on the left and each to a norm of 1.0"),
    "by value": (lambda g: np.clip(g, -0.3, 0.3), "nowhere on the left and to values of 0.3"),
}


@pytest.mark.parametrize("name", OF_GRADIENTS)
def test_a_cause_in_the_gradients_is_told_and_not_where_they_are_others(name: str, tmp_path: Path) -> None:
    change, words = OF_GRADIENTS[name]
    gradients = {name: change(array) for name, array in GRADIENTS.items()}
    left = training(tmp_path / "left")
    found = compare_records(left, training(tmp_path / "right", gradients=gradients))
    assert found.broken == "gradients"
    assert words in likely(found), found.causes
    near = {n: a * (1 + 1e-3 * np.arange(a.size).reshape(a.shape)) for n, a in gradients.items()}
    assert not likely(compare_records(left, training(tmp_path / "near", gradients=near)))


def adam(g: Array, w: Array, epsilon: float = 1e-3, step: int = 1) -> Array:
    """How far Adam moves a weight in its first step."""
    return -0.01 * (0.1 * g / (1 - 0.9**step)) / (np.sqrt(0.001 * g**2 / (1 - 0.999**step)) + epsilon)


def rmsprop(g: Array, w: Array, started: float = 0.0) -> Array:
    return -0.01 * g / (np.sqrt(0.9 * started + 0.1 * g**2) + 1e-3)


def sgd(g: Array, w: Array, moves: bool = True) -> Array:
    return -0.01 * g * (moves or g.ndim == 1)


# How far both sides' optimizers move weights, what is otherwise on the right, and words of the cause.
STEPS: dict[str, tuple[Callable[..., Array], dict[str, Any], dict[str, Any], str]] = {
    "Adam": (adam, {"step": 2}, {}, "Adam counts the first step as 1 on the left and 2"),
    "Adam with another epsilon": (adam, {"epsilon": 1e-5}, {"epsilon": 1e-5}, "is 0.001 on the left and 1e-05"),
    "RMSprop": (rmsprop, {"started": 1.0}, {}, "mean squares begin with 0 on the left and 1 on the right"),
    "SGD": (sgd, {"moves": False}, {}, "fc kernel is moved by the optimizer on the left and not moved by"),
}


@pytest.mark.parametrize("name", STEPS)
def test_a_cause_in_the_step_is_told_and_not_where_weights_move_otherwise(name: str, tmp_path: Path) -> None:
    rule, otherwise, settings, words = STEPS[name]
    usual: dict[str, Any] = {"optimizer": name.split()[0], "epsilon": 1e-3}
    of_left, of_right = ({n: rule(GRADIENTS[n], WEIGHTS[n], **how) for n in WEIGHTS} for how in ({}, otherwise))
    left = training(tmp_path / "left", updates=of_left, **usual)
    found = compare_records(left, training(tmp_path / "right", updates=of_right, **{**usual, **settings}))
    assert found.broken == "step"
    assert words in likely(found), found.causes
    steps = {n: 1e-3 * (np.abs(a).max() or 1.0) * np.arange(1, a.size + 1) for n, a in of_right.items()}
    near = {n: a + steps[n].reshape(a.shape) for n, a in of_right.items()}
    assert not likely(compare_records(left, training(tmp_path / "near", updates=near, **{**usual, **settings})))
