"""Records that differ by one thing, and beside each its equal twin,
whose numbers are rounded otherwise."""

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest

from porting_tests.support.records import Array, Change, all_of, changed, edited, put, unchanged
from rosetta_diff.diff import Diff, compare_records
from rosetta_diff.read.side import Side
from rosetta_record import Record

Data = dict[str, Any]
RNG = np.random.default_rng(0)
RATE = 0.1  # of SGD


def normal(*shape: int) -> Array:
    return RNG.standard_normal(shape).astype(np.float32)


def model() -> Data:
    """Two layers of a model in float32, and one step of SGD."""
    weights = {"hidden.weight": normal(6, 3), "hidden.bias": normal(6), "head.weight": normal(5, 6)}
    inputs = {"x": normal(4, 3)}
    hidden = inputs["x"] @ weights["hidden.weight"].T + weights["hidden.bias"]
    logits = np.tanh(hidden) @ weights["head.weight"].T
    gradients = {name: normal(*array.shape) for name, array in weights.items()}
    return {
        "framework": "torch",
        "precision": "float32",
        "inputs": inputs,
        "classes": {"hidden": "Linear", "head": "Linear", "": "mine.Model"},
        "calls": {"hidden": [hidden], "head": [logits], "": [logits]},
        "weights": weights,
        "buffers": {},  # by name: before and after the step
        "outputs": {"logits": logits},
        "gradients": gradients,
        "step": {
            name: array - np.float32(RATE) * gradients[name] for name, array in weights.items()
        },
        "losses": [2.0],
        "control": 0.0,  # share by which a control has moved the logits
    }


MODEL = model()


def written(path: Path, data: Data) -> Side:
    """A record of these data."""
    record = Record(path)
    record.inputs(**data["inputs"])
    weights = data["weights"] | {name: before for name, (before, _) in data["buffers"].items()}
    for layer, kind in sorted(data["classes"].items(), key=lambda item: item[1] != "mine.Model"):
        names = [name.rpartition(".") for name in weights]
        record.layer(
            layer,
            kind,
            {role: weights[f"{of}{dot}{role}"] for of, dot, role in names if of == layer},
        )
    for layer, arrays in data["calls"].items():
        record.layer(layer, "", output=arrays)
    if data["outputs"]:
        record.forward(**data["outputs"])
    if data["gradients"]:
        record.gradients(gradients=data["gradients"])
    record.optimizer("SGD", {"lr": RATE})
    step = data["step"] | {name: after for name, (_, after) in data["buffers"].items()}
    for number, loss in enumerate(data["losses"], 1):
        record.step(number, loss, step)
        if number == 1:
            record.loss(loss)
    if data["control"]:
        written(
            path / "control",
            changed(data, larger(1 + data["control"]), put("control", lambda _: 0.0)),
        )

    def described(said: Data) -> None:
        said.update(framework={"name": data["framework"]}, precision=data["precision"])
        for layer in said["layers"]:
            buffers = {
                role for role, name in layer["parameters"].items() if name in data["buffers"]
            }
            layer["buffers"] = {role: layer["parameters"].pop(role) for role in buffers}
        for call in said["calls"]:
            del call["dtypes"]  # so that the precision that is said has its bounds
        for name in data["buffers"]:
            said["weights"][name]["trainable"] = False

    return Side(edited(path, described))


def rounded(data: Data) -> None:
    """Move what is computed by one unit in the last place, up or down."""
    rng = np.random.default_rng(1)

    def moved(value: Any) -> Any:
        if isinstance(value, dict):
            return {name: moved(part) for name, part in value.items()}
        if isinstance(value, (list, tuple)):
            return [moved(part) for part in value]
        array = np.asarray(value)
        if array.dtype.kind != "f":
            return value
        up = np.where(rng.random(array.shape) < 0.5, np.inf, -np.inf).astype(array.dtype)
        with np.errstate(over="ignore"):
            near = np.nextafter(array, up)
        return np.where(np.isfinite(near) & np.isfinite(array) & (array != 0), near, array)[()]

    data.update({name: moved(data[name]) for name in ("calls", "outputs", "gradients", "step")})


class Difference(NamedTuple):
    stage: str  # that breaks
    place: str  # what is told to differ
    both: Change  # what both sides have
    right: Change  # what the right side has otherwise
    twin: Change = rounded  # what an equal right side may have otherwise
    words: str = ""  # of a remark on the twin


def added(layer: str, *outputs: Array, **buffers: Array) -> Change:
    """A layer of a class of one's own that is called first, and has buffers alone."""

    def change(data: Data) -> None:
        data["classes"] = {layer: "mine.Table", **data["classes"]}
        data["calls"] = {layer: [*outputs], **data["calls"]}
        data["buffers"].update(
            {f"{layer}.{name}": (array, array) for name, array in buffers.items()}
        )

    return change


FREQUENCIES = np.geomspace(1, 1e-4, 3, dtype=np.float32)
COSINES = np.cos(np.arange(4, dtype=np.float32)[:, None] * FREQUENCIES)


def renamed(data: Data) -> None:
    """The table and its buffer have other names."""
    for of in ("classes", "calls"):
        data[of] = {
            "rope" if name == "rotary_emb" else name: value for name, value in data[of].items()
        }
    data["buffers"]["rope.frequencies"] = data["buffers"].pop("rotary_emb.inv_freq")


def masked(constant: float, added: bool = False, columns: int = 2) -> Change:
    """The first columns of the model's output are a constant, or the constant is added to them."""

    def change(data: Data) -> None:
        logits = data["outputs"]["logits"].copy()
        logits[:, :columns] = np.float32(constant) + logits[:, :columns] * added
        data["outputs"]["logits"], data["calls"][""] = logits, [logits]

    return change


def larger(times: float, part: Any = ...) -> Change:
    """The model's own output is so many times as large, but for what a mask has."""

    def change(data: Data) -> None:
        logits = data["outputs"]["logits"].copy()
        part_of = logits[part]
        part_of[np.abs(part_of) < 100] *= np.float32(times)
        logits[part] = part_of
        data["outputs"]["logits"], data["calls"][""] = logits, [logits]

    return change


def inference(data: Data) -> None:
    data.update(gradients={}, step={}, losses=[])


def noisy(data: Data) -> None:
    """The left side's control has moved the logits by some units in the last place."""
    data["control"] = 1e-6


def scores(root: float) -> Change:
    """A tap of an attention's scores, causally masked, divided by so much."""
    masked = np.where(np.tri(8, dtype=bool), SCORES / np.float32(root), np.finfo(np.float32).min)

    def change(data: Data) -> None:
        data["classes"]["tap scores"] = "tap"
        data["calls"] = {"tap scores": [], **data["calls"]} | {"tap scores": [masked]}

    return change


SCORES = normal(2, 8, 8)
MASKS = {
    "-1e9": masked(-1e9),
    "the least float32": masked(float(np.finfo(np.float32).min)),
    "-65504": masked(-65504),
    "-inf": masked(-np.inf),
    "-1e4, added": masked(-1e4, added=True),
    "-1e9, added": masked(-1e9, added=True),
    "-1e9 twice in places": all_of(masked(-1e9), masked(-2e9, columns=1)),
    "1e30 in a single place": put(
        "calls ", lambda of: [np.where(of[0] == of[0].max(), np.float32(1e30), of[0])]
    ),
}


def giving_tokens(last: int, dtype: type = np.float32, precision: str = "float32") -> Change:
    """Beside the logits the model gives ten whole numbers, such as tokens."""
    tokens = np.array([0, 7, 3, 9, 2, 1, 1, 4, 8, last], dtype)
    return all_of(put("outputs tokens", lambda _: tokens), put("precision", lambda _: precision))


def tied(best: int, token: int | None = None) -> Change:
    """Two scores of one token are the highest but for rounding; the token is `best`, or another."""
    scores = LOGITS.copy()
    scores[1, 3:] = 10 - 0.01 * (np.arange(3, 5) != best)
    chosen = scores.argmax(-1)
    chosen[1] = best if token is None else token
    return put("outputs", lambda _: {"logits": scores, "tokens": chosen})


def losses(*numbers: float, precision: str = "float32") -> Change:
    return all_of(put("losses", lambda _: [*numbers]), put("precision", lambda _: precision))


def lacks_gradient(data: Data) -> None:
    del data["gradients"]["hidden.bias"]


def gives(*arrays: Any) -> Change:
    """The model gives these arrays, and nothing else is recorded of it."""
    return all_of(
        put("outputs", lambda _: {f"output{number}": array for number, array in enumerate(arrays)}),
        put("calls ", lambda _: [*arrays]),
    )


def otherwise(*layers: str) -> Change:
    """Layers give other numbers."""
    return all_of(
        *(
            put(f"calls {layer}", lambda of: [array * np.float32(1.1) for array in of])
            for layer in layers
        )
    )


def named(data: Data) -> None:
    """The model has a name, as in Keras."""
    data["framework"] = "keras"
    for of in ("classes", "calls"):
        data[of] = {name or "functional": value for name, value in data[of].items()}


def buffer(before: float, after: float | None = None) -> Change:
    """The model has a buffer of its own, which the step moves."""
    both = tuple(
        np.full(3, number, np.float32) for number in (before, before if after is None else after)
    )
    return lambda data: data["buffers"].update(statistic=both)


def ascends(data: Data) -> None:
    data["step"] = {name: 2 * data["weights"][name] - after for name, after in data["step"].items()}


HIDDEN, LOGITS = MODEL["calls"]["hidden"][0], MODEL["calls"]["head"][0]
LOG_PROBABILITIES = LOGITS - np.log(np.exp(LOGITS).sum(-1, keepdims=True))
TOKENS, MASK = LOGITS.argmax(-1), np.tri(4, 5, dtype=bool)
# Outputs that say nothing of the layers before them.
SILENT: dict[str, list[Array]] = {
    "a mask": [MASK],
    "a mask of floats": [np.where(MASK, 0, np.float32(-1e9))],
    "tokens": [TOKENS],
    "tokens that are floats": [TOKENS.astype(np.float32)],
    "an empty array": [np.zeros((0, 5), np.float32)],
    "zeros": [np.zeros((4, 5), np.float32)],
    "a bias": [np.tile(normal(5), (4, 1))],
    "equal probabilities": [np.full((4, 5), 0.2, np.float32)],
}

DIFFERENCES: dict[str, Difference] = {
    "what a layer of buffers alone gives": Difference(
        "forward", "rotary_emb output",
        added("rotary_emb", COSINES, inv_freq=FREQUENCIES),
        all_of(renamed, put("calls rope", lambda _: [COSINES + 0.1]), put("outputs logits",
        lambda a: a + 0.1)),
        all_of(rounded, renamed),
    ),
    **{
        f"what a mask of {name} leaves": Difference("forward", "the model output", mask,
        larger(1.7))
        for name, mask in MASKS.items()
    },
    "what a mask leaves, by inference": Difference(
        "forward", "the model output", all_of(masked(-1e9), inference), larger(1.7)
    ),
    "what a mask leaves, beside a control": Difference(
        "forward", "the model output", all_of(masked(-65504), noisy), larger(1.00002)
    ),
    "one number beside a mask": Difference("forward", "the model output", masked(-1e9), larger(1.1,
        (1, slice(4)))),
    **{
        f"a layer before {name}": Difference("forward", "hidden output", gives(*arrays),
        otherwise("hidden"))
        for name, arrays in SILENT.items()
    },
    "a layer that gives NaN before a mask": Difference(
        "forward", "hidden output", gives(MASK), put("calls hidden", lambda of: [of[0] * np.nan])
    ),
    "a layer after the only output that is no token": Difference(
        "forward", "head output", gives(HIDDEN, TOKENS), otherwise("head")
    ),
    "what the model gives, with a loss alone": Difference(
        "forward", "the model output", put("outputs", lambda _: {}), put("calls ",
        lambda _: [LOG_PROBABILITIES])
    ),
    "what a model with a name gives, with a loss alone": Difference(
        "forward", "functional output",
        all_of(put("outputs", lambda _: {}), named), put("calls functional",
        lambda _: [LOG_PROBABILITIES]),
    ),
    "a loss, beside the rounding of a model with a name": Difference(
        "loss", "loss",
        named, put("losses", lambda _: [2.0001]), put("losses", lambda _: [2.0 + 6e-6]),
    ),
    **{
        f"a layer that only {stage} shows": Difference(
            stage, "hidden output", unchanged, all_of(otherwise("hidden"), change),
            otherwise("hidden")
        )
        for stage, change in {
            "loss": put("losses", lambda losses: [1.1 * loss for loss in losses]),
            "gradients": put("gradients hidden.bias", lambda a: a + np.linspace(0, 1, 6,
                dtype=np.float32)),
        }.items()
    },
    "an optimizer that ascends, beside a buffer of -1e9": Difference("step", "", buffer(-1e9),
        ascends),
    "a bias, beside a variance of 5,000": Difference(
        "step", "hidden bias", buffer(5000.0, 4990.0), put("step hidden.bias",
        lambda a: a + np.float32(2e-3))
    ),
    "a bias that the optimizer lacks, beside a counter": Difference(
        "step", "hidden bias", buffer(0.0, 1e5), put("step hidden.bias",
        lambda _: MODEL["weights"]["hidden.bias"])
    ),
    # A large loss of the first step is no scale of the others, which are small.
    "a second loss that is larger by 8 %": Difference(
        "trajectory", "step 2", losses(5000, 3, 1), losses(5000, 3.24, 1), unchanged
    ),
    "a last loss that is larger by 1e-7": Difference(
        "trajectory", "step 3", losses(5000, 3, 1, precision="float64"),
        losses(5000, 3, 1.0000001, precision="float64"), unchanged,
    ),
    "a gradient that one side lacks": Difference("gradients", "hidden bias", unchanged,
        lacks_gradient),
    "a weight that no loss reaches, without a gradient": Difference(
        "gradients", "hidden bias",
        put("gradients hidden.bias", np.zeros_like), put("gradients hidden.bias",
        lambda bias: bias + 1e-3),
        lacks_gradient,
        "not compared, gradients: hidden bias, of which one side has no gradient and the other one "
        "zeros",
    ),
    **{
        f"a token that is off by one, {name}": Difference(
            "forward", "tokens", giving_tokens(last, left, precision), giving_tokens(last + 1,
            right, precision),
            unchanged,
        )
        for name, last, left, right, precision in (
            ("in float32", 100_000, np.float32, np.float32, "float32"),
            ("in float64", 1 << 40, float, float, "float64"),
            ("beside bfloat16", 100, np.float32, np.float32, "bfloat16"),
            ("a float on one side", 100_000, np.float32, int, "float32"),
        )
    },
    "a token near a tie": Difference(
        "forward", "tokens", all_of(tied(3), put("precision", lambda _: "bfloat16")), tied(4,
        token=1), tied(4),
        "numbers differ where the best scores are a tie, forward: tokens",
    ),
    "an output with an axis of one number": Difference(
        "forward", "logits", put("outputs logits", lambda logits: logits[0]),
        put("outputs logits", lambda logits: 1.01 * logits[:, None]),
        put("outputs logits", lambda logits: logits[:, None]),
        "compared without axes of one number, forward: logits",
    ),
    **{
        f"a mask of {name}": Difference(
            "tensors", "mask", put("inputs mask", lambda _: np.tri(4, 5)), put("inputs mask",
            wrong),
            put("inputs mask", right), words,
        )
        for name, wrong, right, words in (
            ("true and false", lambda mask: mask == 0, lambda mask: mask.astype(bool),
                "only values are compared of mask: float64 on the left and bool on the right"),
            ("float32", lambda mask: (mask / 3).astype(np.float32),
            lambda mask: mask.astype(np.float32),
                "only values are compared of mask: float64 on the left and float32 on the right"),
            ("zeros with a sign", np.negative, lambda mask: np.where(mask == 0, -0.0, mask),
                "only values are compared of mask: zeros have other signs"),
            ("one more axis", lambda mask: mask[..., None] + 1, lambda mask: mask[..., None],
                "compared without axes of one number, tensors: mask"),
        )
    },
    "scores that are divided by d": Difference("forward", "tap scores", scores(2), all_of(scores(4),
        larger(1.1))),
}  # fmt: skip


def compared(folder: Path, both: Change, right: Change) -> Diff:
    left = changed(MODEL, both)
    return compare_records(
        written(folder / "left", left), written(folder / "right", changed(left, right))
    )


@pytest.mark.parametrize("name", DIFFERENCES)
def test_a_difference_breaks_its_stage_and_its_equal_twin_passes(name: str, tmp_path: Path) -> None:
    difference = DIFFERENCES[name]
    diff = compared(tmp_path / "differ", difference.both, difference.right)
    assert diff.broken == difference.stage
    assert difference.place in diff.explanation[1]
    assert diff.why_failed
    twin = compared(tmp_path / "equal", difference.both, difference.twin)
    assert not twin.why_failed, twin.explanation
    assert any(difference.words in note for note in twin.notes) or not difference.words, twin.notes


def test_an_output_that_tells_nothing_is_named(tmp_path: Path) -> None:
    diff = compared(tmp_path, gives(TOKENS), otherwise("hidden"))
    told = (
        "the model output, output0 agree, which tells nothing of this layer; record an output that "
        "depends on it"
    )
    assert told in diff.explanation
