"""Likely causes of a rung that breaks, from the numbers themselves and from settings that differ."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import islice, permutations
from math import isfinite, prod
from typing import Any

import numpy as np

from benchmarks.parity.checks import CAUSES, Check
from benchmarks.porting.activations import ACTIVATIONS
from benchmarks.porting.layouts import EPSILON, FLOAT32_SETTINGS, GATES, RECURRENT, Array, Group, with_gates
from benchmarks.porting.rungs import ACTIVATED, ARRANGEMENTS, Item, Rungs
from benchmarks.porting.sides import Side
from common.comparison import largest, largest_difference, pieces

REGISTER = "docs/deviations.md"
TWO_BIASES = "one side trains two biases, whose sum moves twice as far"
# What a rung says of two sides of which neither is the referee.
BREAKS = CAUSES | {
    "tensors": "the two sides are not fed the same arrays",
    "weights": "the two sides do not begin with the same weights",
    "forward": "the same weights and inputs give other outputs",
    "loss": "the outputs agree and their loss does not: look at the targets, their padding, and the mean",
}
ROWS_TRIED = 256
TENSORS_TRIED = 4
LAYERS_TRIED = 4  # before the one that breaks


@dataclass(frozen=True)
class Cause:
    sentence: str
    entry: str = ""  # of the register

    @property
    def link(self) -> str:
        return f"{REGISTER}#{self.entry}" if self.entry else ""


@dataclass(frozen=True)
class Broken:
    """A rung that breaks: the item that is shown, and all items of the rung that fail."""

    rungs: Rungs
    item: Item
    check: Check
    failed: Sequence[tuple[Item, Check]]

    @cached_property
    def arrays(self) -> tuple[Array, Array]:
        """The right and the left array that are shown; empty ones where a side has none."""
        right, left = (np.zeros(0) if array is None else array for array in self.item.load())
        return right, left

    @cached_property
    def moved(self) -> tuple[Array, Array]:
        """The arrays; of weights after a step by how much both sides moved them, in their first rows."""
        if not self.item.is_update:
            return self.arrays
        left, right = (side.tensor(group, self.item.name, "weights") for side, group in self.sides)
        found = [
            head(after).astype(np.float64) - head(start)
            for after, start in zip(self.arrays, (right, left), strict=True)
            if start is not None and after.shape == start.shape
        ]
        return (found[0], found[1]) if len(found) == 2 else (np.zeros(0), np.zeros(0))

    @property
    def both(self) -> tuple[Side, Side]:
        """The left and the right side."""
        return self.rungs.left, self.rungs.right

    @property
    def kind(self) -> str:
        """The kind of layer that is shown."""
        return self.item.pair.left.kind if self.item.pair else ""

    def settings(self, name: str) -> list[Any]:
        """A setting of the layer that is shown, left and right."""
        return [side.settings(group).get(name) for side, group in self.sides]

    @property
    def sides(self) -> list[tuple[Side, Group]]:
        """Both sides with the group that is shown, left and right."""
        return [] if self.item.pair is None else list(self.rungs.sides(self.item.pair))

    @property
    def close(self) -> float:
        """How near two numbers must be, as a share of them, to be taken for the same."""
        return 1e-6 if self.rungs.precision == "float64" else 1e-2

    def near(self, one: Array, other: Array) -> bool:
        """Whether two arrays are the same but for rounding."""
        if one.shape != other.shape or not one.size:
            return False
        return largest_difference(one, other)[0] <= self.close * largest(other)


def head(array: Array) -> Array:
    """The first rows of a large array."""
    return array if array.ndim == 0 else array[next(pieces(array.shape), slice(0, 0))]


def factor(broken: Broken, right: Array, left: Array) -> float | None:
    """The number by which the right array is the left one's multiple, if it is one."""
    right, left = head(right).astype(np.float64), head(left).astype(np.float64)
    if (
        right.shape != left.shape
        or not left.size
        or not left.any()
        or not np.isfinite([right.sum(), left.sum()]).all()
    ):
        return None
    found = float((right * left).sum() / (left * left).sum())
    return found if found and abs(found - 1) > broken.close and broken.near(right, found * left) else None


def rearranged(broken: Broken) -> Iterator[Cause]:
    """The numbers are the same in other places."""
    right, left = broken.arrays
    if not broken.near(right, left):
        tried = rearrangements(broken.kind, right, left)
        yield from islice((cause for array, cause in tried if broken.near(array, left)), 1)


def rearrangements(kind: str, right: Array, left: Array) -> Iterator[tuple[Array, Cause]]:
    """The right array as it would be without each mistake, and the mistake."""
    if left.ndim == 2:
        entry = "output-layer-layout" if kind == "dense" else "lstm-kernel-layout"
        yield right.T, Cause("the right side is the left one transposed", entry)
    if right.shape != left.shape or not left.ndim:
        return
    if left.ndim == 2:
        reshaped = "the right side was reshaped where it should have been transposed"
        yield right.reshape(left.shape[::-1]).T, Cause(reshaped, "lstm-kernel-layout")
    gates = GATES.get(kind, ())
    for order in permutations(range(len(gates))) if gates and left.shape[-1] % len(gates) == 0 else ():
        found = ", ".join(gates[order.index(place)] for place in range(len(gates)))
        words = f"the right side has the gates in the order {found}, expected {', '.join(gates)}"
        yield with_gates(right, order), Cause(words, "gru-gates" if kind == "gru" else "lstm-kernel-layout")
    if 1 < len(left) <= 100_000 and left.size < 1 << 24:
        of_right, of_left = (np.lexsort(array.reshape(len(array), -1)[:, :8].T) for array in (right, left))
        rows = right[of_right[np.argsort(of_left)]]
        yield rows, Cause("the right side has the same rows in another order", "shuffling")


def elsewhere(broken: Broken) -> Iterator[Cause]:
    """The right side's array is another of the left side's inputs."""
    right, _ = broken.arrays
    for name, array in broken.rungs.left.record.arrays("inputs").items():
        if name != broken.item.tensor and np.array_equal(array, right):
            yield Cause(f"it is {name} of the left side: the batches come in another order", "shuffling")
            return


def other_dtype(broken: Broken) -> Iterator[Cause]:
    right, left = broken.arrays
    if right.dtype != left.dtype and right.size:
        yield Cause(f"the right side is {right.dtype}, the left one {left.dtype}", "array-dtype")


def of_float32(broken: Broken) -> Iterator[Cause]:
    """In float64 a difference of the size of float32's rounding."""
    if broken.rungs.precision == "float64" and broken.check.error < 4 * float(np.finfo(np.float32).eps):
        words = "as small as the rounding of float32: one side has a constant in it, or computes in it"
        yield Cause(f"the difference is {words}", "array-dtype")


def one_sided(broken: Broken) -> Iterator[Cause]:
    """A tensor that one side has not."""
    if all(array.size for array in broken.arrays) or not broken.kind:
        return
    if broken.kind == "gru" and broken.item.name == "recurrent_bias":
        words = "one side's reset gate stands before the recurrent product, which has one bias"
        yield Cause(words, "gru-reset-after")
    elif broken.item.rung == "gradients":
        yield Cause("one side does not train it, or it takes no part in the loss there")


def scaled(broken: Broken) -> Iterator[Cause]:
    """One side is a multiple of the other, and the number tells why."""
    found = factor(broken, *broken.moved)
    if found is None:
        return
    what = "every update" if broken.item.is_update else "the loss" if broken.item.rung == "loss" else "every number"
    yield Cause(f"on the right {what} is {found:.6g} times that of the left")
    known = [
        Cause(sentence, entry)
        for number, sentence, entry in _known_factors(broken)
        if any(abs(abs(found) / other - 1) < broken.close for other in (number, 1 / number))
    ]
    yield from known
    slot = broken.item.tensor.partition(" of ")[0]  # or the tensor itself
    alike = [item for item, _ in broken.failed if item.tensor.partition(" of ")[0] == slot]
    if not known and broken.item.rung in ("gradients", "step") and len(alike) > 1:
        factors = [factor(broken, *replace(broken, item=item).moved) for item in alike[:TENSORS_TRIED]]
        if all(other is not None and abs(other / found - 1) < broken.close for other in factors):
            words = "all tensors alike: one side clips gradients by the norm of all, or scales the loss"
            yield Cause(words, "clipping")


def _known_factors(broken: Broken) -> Iterator[tuple[float, str, str]]:
    """Numbers by which an array may be off, with what that means."""
    item = broken.item
    if item.name.startswith("moving_"):
        for share in dict.fromkeys(map(_number, broken.settings("momentum"))):
            if 0 < share < 1:
                words = "momentum is the old statistics' share on one side and the new batch's on the other"
                yield share / (1 - share), words, "batchnorm-momentum"
    if item.rung in ("loss", "gradients"):
        shapes = [array.shape for array in broken.rungs.left.record.arrays("inputs").values()]
        sizes = {prod(shape[:axes]) for shape in shapes for axes in (1, 2) if len(shape) >= axes}
        for size in sorted(sizes - {0, 1}):
            words = f"one side takes the mean over {size} rows or positions, the other their sum"
            yield float(size), words, "padding-denominator"
        for name, array in padded_inputs(broken):
            real = int(np.count_nonzero(array))
            if 0 < real < array.size:
                words = f"the mean over {array.size} positions, the other over those {real} whose {name} is not 0"
                yield array.size / real, f"one side takes {words}, which is padding", "padding-denominator"
    if item.name == "bias" and broken.kind in RECURRENT and item.rung in ("step", "trajectory"):
        yield 2.0, TWO_BIASES, "second-bias"
    one, other = (_number(side.optimizer_settings.get("learning_rate")) for side in broken.both)
    if one and other and one != other:
        yield other / one, f"the learning rates are {one:g} and {other:g}", ""


def padded_inputs(broken: Broken) -> Iterator[tuple[str, Array]]:
    """The left side's inputs (N, T) in which a 0 may be padding; those of batches after the first are left out."""
    for name, array in broken.rungs.left.record.arrays("inputs").items():
        if array.dtype.kind == "i" and array.ndim == 2 and not name.startswith("batch"):
            yield name, array


def _number(value: Any) -> float:
    return float(value) if isinstance(value, int | float) and isfinite(value) else 0.0


def two_biases(broken: Broken) -> Iterator[Cause]:
    """A recurrent layer of which one side trains two biases and the other one."""
    for pair in [item.pair for item, _ in broken.failed if item.name == "bias" and item.pair]:
        moved = [_moved(broken.rungs.left, pair.left), _moved(broken.rungs.right, pair.right)]
        if pair.left.kind in RECURRENT and sorted(moved) == [1, 2]:
            yield Cause(TWO_BIASES, "second-bias")
            return


def _moved(side: Side, group: Group) -> int:
    """How many of the arrays whose sum is the bias the first step changed."""
    names = [source.name for source in group.tensors.get("bias", ())]
    arrays = [(side.record.weight("weights", name), side.record.weight("step-1", name)) for name in names]
    return sum(
        before is not None and after is not None and not np.array_equal(before, after) for before, after in arrays
    )


def few_rows(broken: Broken) -> Iterator[Cause]:
    """All but a few rows of an embedding agree, perhaps those of a tied layer's kernel, which are its columns."""
    for item, check in broken.failed:
        right, left = item.load()
        if item.pair is None or item.pair.left.kind != "embedding" or right is None or left is None:
            continue
        if right.shape != left.shape or left.ndim != 2:
            continue
        scale = check.tolerance * item.scale_of(left)
        rows = [
            piece.start + row
            for piece in pieces(left.shape)
            for row in np.flatnonzero(np.abs(right[piece].astype(np.float64) - left[piece]).max(1) > scale)
        ]
        if len(rows) < min(len(left), 4):
            which = f"row {rows[0]} differs" if len(rows) == 1 else f"the rows {', '.join(map(str, rows))} differ"
            yield Cause(f"of {item.pair.name} only {which}", "padding-idx")


# Paddle's classes and Keras's settings of clipping.
CLIPPING = {
    "ClipGradByGlobalNorm": "to a norm of all",
    "ClipGradByNorm": "each to a norm",
    "ClipGradByValue": "to values",
    "global_clipnorm": "to a norm of all",
    "clipnorm": "each to a norm",
    "clipvalue": "to values",
}
# Settings that differ: what they mean, and the register's entry, by the layer's kind where it depends on that.
MEANINGS: dict[str, tuple[str, dict[str, str] | str]] = {
    "epsilon": ("epsilon", {"layernorm": "layernorm-epsilon", "batchnorm": "batchnorm-epsilon"}),
    "momentum": ("momentum, as the share of the old statistics that is kept,", "batchnorm-momentum"),
    "padding_idx": ("padding_idx", "padding-idx"),
    "approximate": ("GELU's approximation by tanh", "gelu-approximation"),
    "reset_after": ("reset_after", "gru-reset-after"),
    "time_first": ("whether time is the first axis", "time-axis"),
}
UNSEEN_FORWARD = ("padding_idx", "momentum")  # settings that change no output


def settings_differ(broken: Broken) -> Iterator[Cause]:
    """The settings of paired layers that are not the same: of the layer that is shown in the forward pass, and later,
    of all that fail, those that the forward pass does not show."""
    forward = broken.item.rung in ("weights", "forward")
    for item in [broken.item] if forward else [item for item, _ in broken.failed]:
        shown = replace(broken, item=item)
        left, right = [side.settings(group) for side, group in shown.sides] or ({}, {})
        for name in left:
            if name in right and left[name] != right[name] and (forward or name in UNSEEN_FORWARD):
                words, entry = MEANINGS.get(name, (name, ""))
                found = entry if isinstance(entry, str) else entry.get(shown.kind, "")
                yield Cause(f"{words} is {left[name]} on the left and {right[name]} on the right", found)


def optimizers_differ(broken: Broken) -> Iterator[Cause]:
    """The optimizers' settings that are not the same, where epsilon stands, and what weight decay goes by."""
    left, right = (side.optimizer_settings for side in broken.both)
    classes = [side.optimizer_class for side in broken.both]
    entries = {"epsilon": "optimizer-epsilon", "weight_decay": "weight-decay", "rho": "rmsprop-defaults"}
    for name in left:
        one, other = left[name], right.get(name)
        if name in right and (one or 0) != (other or 0):
            single = isinstance(one, float) and isinstance(other, float) and np.float32(one) == np.float32(other)
            entry = "constants-precision" if single else entries.get(name, "")
            yield Cause(f"the optimizer's {name} is {one} on the left and {other} on the right", entry)
    for side, (framework, class_name) in zip(broken.both, classes, strict=True):
        coarse = FLOAT32_SETTINGS.get(side.record.platform, {}) if broken.rungs.precision == "float64" else {}
        for name in coarse.get(class_name, ()):
            value = _number(side.optimizer_settings.get(name))
            if float(np.float32(value)) != value:
                entry = "tensorflow-constants" if framework == "keras" else "constants-precision"
                yield Cause(f"{framework} rounds {name} to float32, and {value} is no number of float32", entry)
    places = [EPSILON.get(which) for which in classes]
    if all(places) and places[0] != places[1]:
        entry = "rmsprop-epsilon" if "RMS" in classes[0][1] else "adam-epsilon"
        yield Cause(f"epsilon is {places[0]} on the left and {places[1]} on the right", entry)
    decoupled = [name == "AdamW" or framework == "keras" for framework, name in classes]
    if decoupled[0] != decoupled[1] and any(side.get("weight_decay") for side in (left, right)):
        one, other = ("straight to the weight" if alone else "through the gradient" for alone in decoupled)
        yield Cause(f"weight decay goes {one} on the left and {other} on the right", "weight-decay")
    one, other = map(clipping, broken.both)
    if one != other:
        words = f"gradients are clipped {one} on the left and {other} on the right, as far as is known"
        yield Cause(words, "clipping")


def clipping(side: Side) -> str:
    """How an optimizer clips gradients, in words."""
    optimizer = side.record.says.optimizer
    settings = optimizer.settings if optimizer else {}
    own = settings.get("clipping")  # the class of Paddle's
    if own in CLIPPING:
        return f"{CLIPPING[own]} of {settings.get('clipping.clip_norm', settings.get('clipping.max'))}"
    return next((f"{words} of {settings[name]}" for name, words in CLIPPING.items() if settings.get(name)), "nowhere")


def uncorrected(broken: Broken) -> Iterator[Cause]:
    """Adam's means without the correction of their bias: large updates differ by its factor, all but for epsilon."""
    right, left = broken.moved
    large = np.abs(left) > largest(left) / 2
    if not broken.item.is_update or not large.any():
        return
    ratio = abs(float(np.median(right[large] / left[large])))
    for side in broken.both:
        beta_1, beta_2 = (_number(side.optimizer_settings.get(name)) for name in ("beta_1", "beta_2"))
        correction = (1 - beta_1) / (1 - beta_2) ** 0.5 if 0 < beta_1 < 1 and 0 < beta_2 < 1 else 0.0
        if correction and ratio and min(abs(ratio / correction - 1), abs(ratio * correction - 1)) < 0.01:
            yield Cause("one side does not correct the bias of Adam's means")
            return


def decayed(broken: Broken) -> Iterator[Cause]:
    """The updates differ by a multiple of the weights."""
    if not broken.item.is_update or not broken.sides:
        return
    right, left = broken.moved
    start = broken.sides[0][0].tensor(broken.sides[0][1], broken.item.name, "weights")
    if start is None or not right.size:
        return
    found = factor(broken, right - left, head(start))
    if found is not None:
        yield Cause(f"the updates differ by {abs(found):.3g} times the weight: weight decay", "weight-decay")


def dropping(broken: Broken) -> Iterator[Cause]:
    """Layers that drop at random during the recorded pass."""
    for words, side in zip(("left", "right"), broken.both, strict=True):
        for layer in side.record.says.layers:
            rate = side.settings(Group("", layer)).get("rate")
            drops = any("rop" in name or "RNN" in name for name in layer.classes)
            if layer.training and drops and isinstance(rate, int | float) and rate > 0:
                yield Cause(f"dropout of {rate} was on in {layer.path} of the {words} side", "dropout")
                break


def tied(broken: Broken) -> Iterator[Cause]:
    """A weight that one side shares between two layers."""
    marks = []
    for side, group in broken.sides:
        names = {s.name for sources in group.tensors.values() for s in sources}
        weights = side.record.says.weights
        marks.append(any(name in names or w.tied_to in names for name, w in weights.items() if w.tied_to))
    if len(marks) == 2 and marks[0] != marks[1]:
        which = "left" if marks[0] else "right"
        yield Cause(f"the weight is tied to another layer's on the {which} only", "tied-weights")


def by_time(broken: Broken) -> Iterator[Cause]:
    """When in time a recurrent layer begins to differ; and shapes that say that the time axis is another."""
    right, left = broken.arrays
    if sorted(right.shape) == sorted(left.shape) and right.shape != left.shape:
        words = f"the axes are {right.shape} and {left.shape}: time, batch or channels stand elsewhere"
        yield Cause(words, "time-axis")
    if broken.kind not in RECURRENT or left.ndim != 3 or right.shape != left.shape:
        return
    differs = np.abs(right.astype(np.float64) - left).max((0, 2)) > broken.check.tolerance * largest(left)
    first = int(differs.argmax())
    one, other = broken.settings("time_first")
    if differs.all() and one == other:
        yield Cause("it differs from the first time step on: look at the initial state", "state-shape")
    elif not differs.all():
        yield Cause(f"the first time step at which it differs is {first}")


def activations_differ(broken: Broken) -> Iterator[Cause]:
    """A dense layer's outputs are computed anew from the output of a layer before it, with each activation."""
    pair, pairs = broken.item.pair, broken.rungs.pairing.pairs
    if pair is None or pair.left.kind != "dense" or not broken.item.is_output:
        return
    place = next(number for number, other in enumerate(pairs) if other is pair)
    for before in reversed(pairs[max(0, place - LAYERS_TRIED) : place]):
        left = between(broken, broken.rungs.left, before.left, pair.left, broken.arrays[1])
        right = between(broken, broken.rungs.right, before.right, pair.right, broken.arrays[0])
        if left and right and left != right:
            words = f"between {before.name} and {pair.name} the left side has {left}, the right one {right}"
            yield Cause(words, "gelu-approximation" if "gelu" in left and "gelu" in right else "")
            return


def between(broken: Broken, side: Side, before: Group, group: Group, array: Array) -> str:
    """The activation that leads from one group's output to a dense one's, in the first rows; "" if none is found."""
    kernel, bias = (side.tensor(group, name, "weights") for name in ("kernel", "bias"))
    calls = side.record.calls.get(before.layer.path, [])
    outputs = list(side.outputs(before, calls[0]).values()) if calls else []
    if kernel is None or kernel.ndim != 2 or array.ndim < 2 or array.shape[-1] != kernel.shape[1]:
        return ""
    expected = rows_of(array)
    for x in (arranged(load()) for load in outputs for arranged in ARRANGEMENTS.values()):
        if x.ndim < 2 or x.shape[-1] != len(kernel):
            continue
        for name, activation in ACTIVATIONS.items():
            with np.errstate(all="ignore"):
                computed = activation(rows_of(x)) @ kernel + (0 if bias is None else bias)
            bound = broken.check.tolerance * largest(expected)
            if computed.shape == expected.shape and largest_difference(computed, expected)[0] <= bound:
                within = side.settings(before).get("activation")  # the layer's own, which x has gone through
                return str(within) if name == "linear" and within and before.kind in ACTIVATED else name
    return ""


def rows_of(array: Array) -> Array:
    return array.reshape(-1, array.shape[-1])[:ROWS_TRIED].astype(np.float64)


def attention(broken: Broken) -> Iterator[Cause]:
    """The projections of an attention agree, and what comes of them does not."""
    names = " ".join(group.name for _, group in broken.sides)
    if broken.item.is_output and any(word in names for word in ("out_proj", "attention_output", ":output")):
        words = "look at the mask's sign and kind, at the scale, and at dropout of the attention's weights"
        yield Cause(f"query, key and value agree as far as they were recorded: {words}", "attention-mask")


def padded_rows(broken: Broken) -> Iterator[Cause]:
    """Only the rows differ that have padding, which something masks."""
    right, left = broken.arrays
    if right.shape != left.shape or left.ndim < 2 or broken.kind == "embedding":
        return
    bound = broken.check.tolerance * largest(left)
    differs = np.array([np.abs(one - other).max() > bound for one, other in zip(right, left, strict=True)])
    for name, array in padded_inputs(broken):
        if len(array) == len(left):
            padded = (array == 0).any(1)
            if not padded.all() and np.array_equal(differs, padded):
                words = f"only the rows differ whose {name} have a 0, which is padding"
                yield Cause(f"{words}: look at the sign and the kind of the mask", "attention-mask")
                return


def activated_otherwise(broken: Broken) -> Iterator[Cause]:
    """A layer of which one side has an activation in it, and another than its settings say."""
    if not broken.item.is_output or broken.kind not in ACTIVATED:
        return
    said = [str(name or "linear") for name in broken.settings("activation")]
    calls = [side.outputs(group, side.record.calls[group.layer.path][0]) for side, group in broken.sides]
    if said.count("linear") != 1 or not all(calls):
        return
    outputs = [next(iter(call.values()))() for call in calls]
    if outputs[0].shape != outputs[1].shape:
        return
    plain, other = (rows_of(outputs[said.index("linear") ^ place]) for place in (0, 1))
    for name, activation in ACTIVATIONS.items():
        if name not in said and broken.near(activation(plain), other):
            words = next(word for word in said if word != "linear")
            layer = broken.sides[0][1].name
            words = f"the activation that the settings of {layer} call {words} is {name}"
            yield Cause(words, "gelu-approximation" if "gelu" in name else "")
            return


def squared_slices(broken: Broken) -> Iterator[Cause]:
    """The mean squares of an embedding on Keras with TensorFlow."""
    keras = any(side.record.says.framework.backend == "tensorflow" for side, _ in broken.sides)
    if keras and broken.kind == "embedding":
        words = "squares the gradients of an id that stands several times in a batch one by one"
        yield Cause(f"Keras on TensorFlow {words}", "keras-sparse-embeddings")


def smoothed(broken: Broken) -> Iterator[Cause]:
    """The losses are cross-entropies with different label smoothing."""
    left = broken.rungs.left.record
    losses = [float(side.record.says.loss or 0) for side in broken.both]
    for logits in left.arrays("outputs").values():
        for targets in left.arrays("inputs").values():
            if logits.ndim < 2 or targets.shape != logits.shape[:-1] or targets.dtype.kind not in "iu":
                continue
            if targets.min() < 0 or targets.max() >= logits.shape[-1]:
                continue
            shifted = logits.astype(np.float64) - logits.max(-1, keepdims=True)
            log_probabilities = shifted - np.log(np.exp(shifted).sum(-1, keepdims=True))
            plain = -np.take_along_axis(log_probabilities, targets[..., None].astype(np.int64), -1).mean()
            uniform = -log_probabilities.mean()
            with np.errstate(all="ignore"):
                shares = [(loss - plain) / (uniform - plain) for loss in losses]
            if all(abs(share - round(share, 3)) < 1e-5 and 0 <= round(share, 3) < 1 for share in shares):
                one, other = (round(share, 3) + 0.0 for share in shares)
                words = f"by {one:g} on the left and {other:g} on the right"
                if one == other:
                    words = f"by {one:g} on both sides, which Paddle does in float32"
                yield Cause(f"labels are smoothed {words}", "label-smoothing")
                return


def variance(broken: Broken) -> Iterator[Cause]:
    mean_agrees = all(item.name != "moving_mean" for item, _ in broken.failed)
    if broken.item.name == "moving_variance" and mean_agrees:
        words = "the running mean agrees: one side's variance is divided by n, the other's by n - 1"
        yield Cause(words, "batchnorm-variance")


def later(broken: Broken) -> Iterator[Cause]:
    """At which step losses part: a loss is computed before its step's update."""
    right, left = broken.arrays
    if broken.item.pair is not None or right.shape != left.shape or not broken.check.where:
        return
    bound = broken.check.tolerance * largest(left)
    first = int((~(np.abs(right - left) <= bound)).argmax()) + 1
    if first == 2:
        words = "it is another batch, or something is kept between steps, such as a recurrent state"
        yield Cause(f"the weights after step 1 agree and the loss of step 2 does not: {words}", "shuffling")
    elif first > 2:
        words = f"the update of step {first - 1} is another: look at what the optimizer keeps between steps"
        yield Cause(f"the losses part at step {first}, so {words}", "optimizer-slots")


Probe = Callable[[Broken], Iterator[Cause]]
PROBES: dict[str, tuple[Probe, ...]] = {
    "tensors": (elsewhere, rearranged, other_dtype, scaled),
    "weights": (rearranged, one_sided, other_dtype, few_rows, scaled, tied, settings_differ),
    "forward": (
        settings_differ, activated_otherwise, activations_differ, by_time, padded_rows, attention, dropping,
        other_dtype, rearranged, scaled, of_float32,
    ),
    "loss": (smoothed, scaled, of_float32),
    "gradients": (one_sided, tied, few_rows, scaled, settings_differ, rearranged, dropping),
    "step": (squared_slices, two_biases, scaled, variance, settings_differ, uncorrected, decayed, optimizers_differ),
    "trajectory": (two_biases, later, optimizers_differ, dropping),
}  # fmt: skip


def causes_of(broken: Broken) -> list[Cause]:
    """The likely causes, each once, those that the numbers show first."""
    return list(dict.fromkeys(cause for probe in PROBES[broken.item.rung] for cause in probe(broken)))
