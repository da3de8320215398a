"""Causes of what `rosetta-diff` finds: each is told where it is planted,
and not where the numbers are a bit others.

Records are made of NumPy alone, and do not say what layers were given. What both sides compute is
written out here, and not taken from the product. support/mistakes.py plants other causes in models
of the frameworks."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest

from porting_tests.support.records import Array, edited, resaved
from rosetta_diff.activations import ACTIVATIONS, gelu
from rosetta_diff.arrays import PRECISE
from rosetta_diff.diff import Diff, compare_records
from rosetta_diff.explain import operators
from rosetta_diff.explain.operators import attended
from rosetta_diff.explain.search import CHOICES_TRIED
from rosetta_diff.read.side import Side
from rosetta_record import Record

N, T, D, V = 3, 4, 4, 7
IDS = np.array([[1, 2, 3, 4], [5, 6, 1, 0], [2, 4, 0, 0]])
RNG = np.random.default_rng(0)
LENGTHS = np.array([2, 4, 3])
KERNEL, BIAS, GAIN, SHIFT = (RNG.normal(size=shape) for shape in ((D, D), D, D, D))
X, FILTER = RNG.normal(size=(N, T, D)), RNG.normal(size=(3, 3, 2, 5))
IMAGE = RNG.normal(size=(N, 3, 2, D))
LOGITS, LABELS = RNG.normal(size=(N, T, V)), RNG.integers(0, V, (N, T))
Arrays = dict[str, Array]
Layer = tuple[str, str, Arrays, dict[str, Any], Array]  # path, class, weights, settings, output
GRADIENTS: Arrays = {"fc.kernel": RNG.normal(size=(D, D)), "fc.bias": RNG.normal(size=D)}


class Facts(NamedTuple):
    """The computation of a side."""

    # Which takes X.
    layer: Layer = ("fc", "Dense", {"kernel": KERNEL, "bias": BIAS}, {}, X @ KERNEL + BIAS)
    loss: float = 1.0
    gradients: Arrays = GRADIENTS
    optimizer: str = "SGD"
    updates: Arrays = {name: np.zeros_like(array) for name, array in GRADIENTS.items()}  # noqa: RUF012
    before: Sequence[Layer] = [("x", "Identity", {}, {}, X)]


def record_facts(path: Path, facts: Facts) -> Side:
    made = Record(path)
    made.inputs(ids=IDS, labels=LABELS, lengths=LENGTHS)
    for layer in (*facts.before, facts.layer):
        made.layer(*layer)
    made.forward(logits=LOGITS, out=facts.layer[-1])
    if facts.layer[0] == "fc":
        made.loss(facts.loss)
        made.gradients(gradients=facts.gradients)
        made.optimizer(facts.optimizer, {"learning_rate": 0.01, "epsilon": 1e-3})
        weights = {"fc.kernel": KERNEL, "fc.bias": BIAS}
        made.step(
            1, facts.loss, {name: array + facts.updates[name] for name, array in weights.items()}
        )
    return Side(path)


def of_layer(
    path: str, kind: str, weights: Arrays, settings: dict[str, Any], output: Array
) -> Facts:
    return Facts((path, kind, weights, settings, output))


QKV, OUT = RNG.normal(size=(3, N, T, 8)), RNG.normal(size=(8, D))
FULL, PAST = np.ones((T, T), bool), np.tril(np.ones((T, T), bool))


def attention(allowed: Array, within: bool = False, layer: str = "") -> Facts:
    """Two heads of three dense layers' outputs; perhaps a layer within gives their weights, or a
    layer of a class computes them."""
    q, k, v = QKV.reshape(3, N, T, 2, 4)
    scores = np.where(allowed, np.einsum("nthd,nshd->nhts", q, k) / 2, -1e30)
    weights = np.exp(scores - scores.max(-1, keepdims=True))
    weights /= weights.sum(-1, keepdims=True)
    out = np.einsum("nhts,nshd->nthd", weights, v).reshape(N, T, 8)
    before: list[Layer] = [
        (n, "Dense", {"kernel": np.eye(8) + i}, {}, QKV[i]) for i, n in enumerate("qkv")
    ]
    before += [("drop", "Dropout", {}, {}, weights.reshape(-1, T, T))] if within else []
    before += [("attention", layer, {}, {}, out)] if layer else []
    return of_layer("o", "Dense", {"kernel": OUT}, {"num_heads": 2.0}, out @ OUT)._replace(
        before=before
    )


def gated(of_left: bool, gate: Callable[[Array], Array]) -> Facts:
    """A layer that takes a product with a gate,
    whose activation is a layer of its own on the left."""
    a, b = X @ KERNEL, X @ KERNEL.T
    before: list[Layer] = [
        ("gate", "Dense", {"kernel": KERNEL}, {}, a),
        ("up", "Dense", {"kernel": KERNEL.T}, {}, b),
    ]
    before += [("act", "mine.Act", {}, {}, gate(a))] if of_left else []
    return of_layer("down", "Dense", {"kernel": OUT[:D]}, {}, (gate(a) * b) @ OUT[:D])._replace(
        before=before
    )


def without_last(facts: Facts) -> Facts:
    *before, layer = facts.before
    return facts._replace(before=before, layer=layer)


def called_twice(taken: int) -> Facts:
    """A layer that takes what an activation gave in one of its two calls."""
    first = np.tanh(X @ KERNEL)
    second = np.tanh(first @ KERNEL.T)
    dense: list[Layer] = [
        (n, "Dense", {"kernel": k}, {}, x @ k)
        for n, k, x in (("a", KERNEL, X), ("b", KERNEL.T, first))
    ]
    before = [
        dense[0],
        ("act", "mine.Act", {}, {}, first),
        dense[1],
        ("act", "mine.Act", {}, {}, second),
    ]
    made = (first, second)[taken - 1] @ (KERNEL + 1)
    return of_layer("fc2", "Dense", {"kernel": KERNEL + 1}, {}, made)._replace(before=before)


def conv(kernel: Array) -> Facts:
    return of_layer("conv", "Conv2D", {"kernel": kernel}, {}, X)


def mean_loss(rows: int) -> Facts:
    """The cross-entropy, position by position, divided by so many."""
    chosen = [
        LOGITS[place][LABELS[place]] - np.log(np.exp(LOGITS[place]).sum())
        for place in np.ndindex(N, T)
    ]
    return Facts(loss=-sum(map(float, chosen)) / rows)


OF_KERNEL, OF_BIAS = GRADIENTS["fc.kernel"], GRADIENTS["fc.bias"]
# What both sides compute, the stage that breaks, and words of the cause.
CAUSES: dict[str, tuple[Facts, Facts, str, str]] = {
    "flipped": (conv(FILTER), conv(FILTER[::-1, ::-1]), "weights",
        "the right side is the left one flipped"),
    "lengths": (
        attention(FULL, within=True), attention((np.arange(T) < LENGTHS[:, None])[:, None, None],
        within=True),
        "forward", "mask is none on the left and of as many positions as lengths says on",
    ),
    "mask of a layer of another class": (
        without_last(attention(PAST, layer="mine.Attention")),
        without_last(attention(np.tril(PAST | True, 1), layer="theirs.Attention")), "forward",
        "mask is causal on the left and causal, one position too",
    ),
    "an earlier call": (
        called_twice(2), called_twice(1), "forward",
        "fc2 takes act, call 2 on the left and act, call 1 on the right",
    ),
    "activation of a gate": (
        gated(True, ACTIVATIONS["silu"]), gated(False, gelu), "forward",
        "the activation before down is silu on the left and gelu on the right",
    ),
    "a mean over rows": (mean_loss(N * T), mean_loss(N), "loss",
        "and a mean over the rows on the right"),
}  # fmt: skip


def near(facts: Facts, stage: str) -> Facts:
    """The same, but for what the stage compares, which is a bit other."""
    rng, (path, kind, weights, settings, output) = np.random.default_rng(1), facts.layer

    def other(arrays: Arrays) -> Arrays:
        return {
            n: a + 1e-3 * (np.abs(a).max() or 1.0) * rng.normal(size=a.shape)
            for n, a in arrays.items()
        }

    changes: dict[str, Any] = {
        "weights": {"layer": (path, kind, other(weights), settings, output)},
        "forward": {"layer": (path, kind, weights, settings, other({"": output})[""])},
        "loss": {"loss": facts.loss * 1.0001},
        "gradients": {"gradients": other(facts.gradients)},
        "step": {"updates": other(facts.updates)},
    }
    return facts._replace(**changes[stage])


OTHER = near(Facts(), "forward")


def likely(found: Diff) -> str:
    return "; ".join(cause.sentence for cause in found.causes if cause.standing == "likely")


@pytest.mark.parametrize("name", CAUSES)
def test_a_cause_is_told_and_not_where_the_numbers_are_others(name: str, tmp_path: Path) -> None:
    left, right, stage, words = CAUSES[name]
    one = record_facts(tmp_path / "left", left)
    found = compare_records(one, record_facts(tmp_path / "right", right))
    assert found.broken == stage
    assert words in likely(found), found.causes
    other = compare_records(one, record_facts(tmp_path / "near", near(right, stage)))
    assert other.broken == stage
    assert not likely(other), other.causes


def test_dropout_before_a_layer_is_told(tmp_path: Path) -> None:
    dropped = 2 * X * (np.random.default_rng(1).random(X.shape) < 0.5)
    left, right = (
        of_layer("fc2", "Dense", {"kernel": KERNEL + 1}, {}, x @ (KERNEL + 1)) for x in (X, dropped)
    )
    right = right._replace(before=[*right.before, ("drop", "Dropout", {}, {"rate": 0.5}, dropped)])
    sides = [
        record_facts(tmp_path / name, facts) for name, facts in (("left", left), ("right", right))
    ]
    edited(sides[1].path, lambda said: said["layers"][1].update(training=True))
    found = compare_records(sides[0], Side(sides[1].path))
    told = [
        cause.standing
        for cause in found.causes
        if "dropout of 0.5 was on in drop of the right" in cause.sentence
    ]
    assert told == ["differs"]
    assert not likely(found)


def in_precision(precision: str, path: Path, facts: Facts) -> Side:
    return Side(
        edited(record_facts(path, facts).path, lambda said: said.update(precision=precision))
    )


@pytest.mark.parametrize(
    ("precision", "random"), [("float64", 2), ("float32", 60), ("float16", 40), ("bfloat16", 40)]
)
def test_a_single_loss_has_no_likely_cause_by_chance(
    precision: str, random: int, tmp_path: Path
) -> None:
    """It would agree with one of many hypotheses by chance."""
    left = in_precision(precision, tmp_path / "left", mean_loss(N * T))
    factors = np.random.default_rng(0).uniform(0.1, 3.0, random)
    wrong = [Facts(loss=mean_loss(N * T).loss * factor) for factor in factors]
    for number, facts in enumerate([*wrong, mean_loss(N)]):
        found = compare_records(left, in_precision(precision, tmp_path / "right", facts))
        assert bool(likely(found)) == (number == random and precision in PRECISE), found.causes


def test_a_step_by_a_gradient_of_rounding_alone_is_shown_last(tmp_path: Path) -> None:
    gradients = {"fc.kernel": OF_KERNEL, "fc.bias": OF_BIAS * 1e-20}
    left = Facts(gradients=gradients, updates={name: -0.01 * g for name, g in gradients.items()})
    right = left._replace(
        updates={"fc.kernel": -0.01 * OF_KERNEL - 1e-4, "fc.bias": OF_BIAS * 0 - 0.1}
    )
    found = compare_records(
        record_facts(tmp_path / "left", left), record_facts(tmp_path / "right", right)
    )
    assert found.broken == "step"
    assert found.explanation[1].startswith("fc kernel")


def test_calls_are_compared_in_the_order_in_which_they_ran(tmp_path: Path) -> None:
    """In a block that runs twice, where its last layer is the one that is wrong."""

    def of(name: str, wrong: float) -> Side:
        record, arrays = Record(tmp_path / name), np.random.default_rng(1).normal(size=(6, N, D))
        for call in range(2):
            first, scores, last = (
                arrays[3 * call : 3 * call + 3] + wrong * np.array([call, call, 1])[:, None, None]
            )
            record.layer("first", "Dense", {} if call else {"kernel": KERNEL}, output=first)
            record.tap("scores", scores)
            record.layer("last", "Dense", {} if call else {"kernel": KERNEL.T + 1}, output=last)
        record.forward(y=last)
        return Side(record.folder)

    found = compare_records(of("left", 0.0), of("right", 0.5))
    order = [check.tensor for check in found.checks if check.stage == "forward"]
    assert order == [
        f"{name} output, call {n}" for n in (1, 2) for name in ("first", "tap scores", "last")
    ] + ["y"]
    assert found.explanation[1].startswith("last output, call 1")
    assert "between tap scores, call 1 and last" in str(found.causes)


def in_turns(
    path: Path, names: Sequence[str], order: Sequence[int], chained: bool, mistake: float
) -> Side:
    """Two layers that nobody here computes anew, each of X or one after the other, and one of both.
    `order` has the numbers of their kernels."""
    kernels, outputs, made = [KERNEL, KERNEL.T], [X], Record(path)
    for name, number in zip(names, order, strict=True):
        outputs.append(np.sin(outputs[-1 if chained else 0] @ kernels[number]))
        made.layer(name, "Dense", {"kernel": kernels[number]}, {}, outputs[-1])
    out = np.sin(sum(outputs) @ np.eye(D)) + mistake
    made.layer("out", "Dense", {"kernel": np.eye(D)}, {}, out)
    made.forward(out=out)
    return Side(path)


@pytest.mark.parametrize("exchanged", [True, False])
def test_layers_in_another_order_are_told_at_their_outputs(exchanged: bool, tmp_path: Path) -> None:
    left = in_turns(tmp_path / "left", ("one", "two"), (0, 1), exchanged, 0.0)
    right = in_turns(tmp_path / "right", ("first", "second"), (1, 0), exchanged, 0.1)
    found = compare_records(left, right)
    assert found.broken == "forward"
    words = "two has the numbers of first.kernel, which run in another order on the right"
    assert any(words in cause.sentence for cause in found.causes) == exchanged, found.causes
    assert any("another order" in cause.sentence for cause in found.causes) == exchanged


def connected(side: Side, giver: str) -> Side:
    """The side, whose last layer is given what this layer gives."""

    def connect(said: dict[str, Any]) -> None:
        outputs = {call["layer"]: call["parts"][0] for call in said["calls"]}
        said["calls"][-1]["inputs"] = {"x": outputs[giver]}

    return Side(edited(side.path, connect))


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ((), "between x and fc"),
        (("x", "x"), "it differs inside"),
        (("x", "fc"), "between x and fc"),
    ],
)
def test_advice_names_a_place_only_where_something_may_lie_there(
    given: Sequence[str], words: str, tmp_path: Path
) -> None:
    """`given` are the layers whose outputs "fc" is given on the left and on the right."""
    sides = [
        record_facts(tmp_path / name, facts)
        for name, facts in (("left", Facts()), ("right", OTHER))
    ]
    sides = [connected(*both) for both in zip(sides, given, strict=True)] if given else sides
    assert words in compare_records(*sides).causes[-1].sentence


def test_a_scalar_before_the_place_is_no_input(tmp_path: Path) -> None:
    scalar: Layer = ("auxiliary", "mine.Loss", {}, {}, np.array(0.5))
    facts = {
        name: of._replace(before=[*of.before, scalar])
        for name, of in (("left", Facts()), ("right", OTHER))
    }
    found = compare_records(*(record_facts(tmp_path / name, of) for name, of in facts.items()))
    assert found.explanation[1].startswith("fc output")


def own_norm(names: str, epsilon: float, centered: bool, axis: int) -> Facts:
    """A norm of a class of one's own, with settings that nobody here knows,
    of channels that stand on an axis."""
    x = IMAGE
    of = x - x.mean(-1, keepdims=True) if centered else x
    made = of / np.sqrt((of**2).mean(-1, keepdims=True) + epsilon) * GAIN + (
        SHIFT if centered else 0.0
    )
    weights = dict(zip(names.split(), (GAIN, SHIFT), strict=False))
    x, made = (np.moveaxis(array, -1, axis) for array in (x, made))
    facts = of_layer("norm", "mine.Norm", weights, {"variance_epsilon": epsilon}, made)
    return facts._replace(before=[("x", "Identity", {}, {}, x)])


@pytest.mark.parametrize(
    ("left", "right", "axis"),
    [("weight", "scale", -1), ("weight bias", "gain shift", -1), ("weight", "scale", 1)],
)
def test_an_epsilon_of_a_norm_of_ones_own_is_named(
    left: str, right: str, axis: int, tmp_path: Path
) -> None:
    centered = " " in left
    facts = {
        "left": own_norm(left, 1e-6, centered, axis),
        "right": own_norm(right, 2e-5, centered, axis),
    }
    facts["near"] = near(facts["right"], "forward")
    sides = {
        name: connected(record_facts(tmp_path / name, one), "x") for name, one in facts.items()
    }
    assert (
        likely(compare_records(sides["left"], sides["right"]))
        == "epsilon is 1e-06 on the left and 2e-05 on the right"
    )
    assert not likely(compare_records(sides["left"], sides["near"]))


@pytest.mark.parametrize(
    ("left", "right", "words"),
    [
        ({"stride": [2, 2]}, {"stride": 1}, "stride is [2, 2] on the left and 1 on the right"),
        ({"stride": [2, 2]}, {"stride": 2}, ""),
        ({"padding": "same"}, {"padding": 1}, ""),
        (
            {"padding": "same", "stride": 2},
            {"padding": 1, "stride": 2},
            "padding is same on the left and 1 on",
        ),
    ],
)
def test_recorded_settings_that_differ_are_told_and_not_likely(
    left: dict[str, Any], right: dict[str, Any], words: str, tmp_path: Path
) -> None:
    image, sides = RNG.normal(size=(N, 4, 6, 2)), []
    for name, settings in (("left", left), ("right", right)):
        record = Record(tmp_path / name)
        record.layer("conv", "Conv2D", {"kernel": FILTER}, settings, image + (name == "right"))
        record.forward(out=image + (name == "right"))
        sides.append(Side(record.folder))
    found = compare_records(*sides)
    differs = [cause.sentence for cause in found.causes if cause.standing == "differs"]
    assert (
        any(words in sentence for sentence in differs)
        if words
        else not any(" on the left" in s for s in differs)
    )
    assert "stride" not in likely(found)
    assert "padding" not in likely(found)


@pytest.mark.parametrize("padded", [True, False])
def test_advice_names_padding_only_where_there_is_some(padded: bool, tmp_path: Path) -> None:
    sides = [
        record_facts(tmp_path / name, facts)
        for name, facts in (("left", Facts()), ("right", near(Facts(), "gradients")))
    ]
    for side in sides:
        resaved(
            side.path,
            "inputs",
            lambda arrays: {name: array + (not padded) for name, array in arrays.items()},
        )
    found = compare_records(*(Side(side.path) for side in sides))
    assert found.broken == "gradients"
    assert ("padding" in found.causes[-1].sentence) == padded


def among_others(facts: Facts) -> Facts:
    """An attention whose query, key and value are not the last that was computed before it."""
    rng = np.random.default_rng(2)
    others: list[Layer] = [
        (f"other{n}", "Dense", {"kernel": rng.normal(size=(8, 8))}, {}, rng.normal(size=(N, T, 8)))
        for n in range(6)
    ]
    return facts._replace(before=[*facts.before, *others])


def test_a_search_among_many_outputs_finds_an_attention_and_ends(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tried = list[None]()

    def counted(*arguments: Any) -> Array:
        tried.append(None)
        return attended(*arguments)

    monkeypatch.setattr(operators, "attended", counted)
    shifted = among_others(attention(np.tril(PAST | True, 1)))
    sides = {
        "left": among_others(attention(PAST)),
        "right": shifted,
        "near": near(shifted, "forward"),
    }
    left, right, other = (record_facts(tmp_path / name, facts) for name, facts in sides.items())
    assert "mask is causal on the left and causal, one position too far" in likely(
        compare_records(left, right)
    )
    tried.clear()
    assert not likely(compare_records(other, right))
    assert 0 < len(tried) <= CHOICES_TRIED


def headed(name: str) -> Facts:
    """A layer of a head, which takes what a cell of no known kind gives."""
    given = np.sin(X + len(name))
    before: list[Layer] = [("x", "Identity", {}, {}, X), (name, "mine.Cell", {}, {}, given)]
    return of_layer("head", "Dense", {"kernel": KERNEL}, {}, given @ KERNEL)._replace(before=before)


def test_taking_the_output_of_another_layer_is_no_cause(tmp_path: Path) -> None:
    sides = [record_facts(tmp_path / name, headed(name)) for name in ("rnn", "cell")]
    for both in (sides, [connected(side, side.path.name) for side in sides]):
        found = compare_records(*both)
        assert found.explanation[1].startswith("head output")
        assert not likely(found)
