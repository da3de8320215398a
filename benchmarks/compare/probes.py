"""Likely causes of a rung that breaks, from the numbers themselves."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import permutations
from math import prod
from typing import Any

import numpy as np

from benchmarks.compare.activations import ACTIVATIONS
from benchmarks.compare.comparer import ARRANGEMENTS, GATES, Array, Check, head, largest, largest_difference, pieces
from benchmarks.compare.groups import WeightGroup
from benchmarks.compare.layouts import ACTIVATED, PARENT, RECURRENT
from benchmarks.compare.record import LARGEST_SETTING, Side
from benchmarks.compare.rungs import LayerItem, Rungs

REGISTER = "docs/deviations.md"
ROWS_TRIED = 256
TENSORS_TRIED = 4
LAYERS_TRIED = 4  # before the one that breaks
TWO_BIASES = "one side trains two biases, whose sum moves twice as far"


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
    item: LayerItem
    check: Check
    failed: Sequence[tuple[LayerItem, Check]]

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
        starts = [group.tensor(self.item.name) for group in reversed(self.groups)]
        pairs = list(zip(self.arrays, starts, strict=True))
        if any(start is None or start.shape != after.shape for after, start in pairs):
            return np.zeros(0), np.zeros(0)
        right, left = (head(after).astype(np.float64) - head(start) for after, start in pairs if start is not None)
        return right, left

    @property
    def sides(self) -> tuple[Side, Side]:
        """The left and the right side."""
        return self.rungs.left, self.rungs.right

    @property
    def groups(self) -> Sequence[WeightGroup]:
        """The groups that are shown, left and right; none for what is of no layer."""
        return self.item.pair.both if self.item.pair else ()

    @property
    def kind(self) -> str:
        """The kind of layer that is shown."""
        return self.item.pair.left.kind if self.item.pair else ""

    def settings(self, name: str) -> list[Any]:
        """A setting of the layer that is shown, left and right."""
        return [group.settings.get(name) for group in self.groups]

    @property
    def close(self) -> float:
        """How near two numbers must be, as a share of them, to be taken for the same."""
        return 1e-6 if self.rungs.precision == "float64" else 1e-2

    @cached_property
    def bound(self) -> float:
        """By how much numbers of the left array may be off."""
        return self.check.tolerance * largest(self.arrays[1])

    def near(self, one: Array, other: Array) -> bool:
        """Whether two arrays are the same but for rounding."""
        return same(one, other, self.close * largest(other))

    def padded_inputs(self) -> Iterator[tuple[str, Array]]:
        """The left side's inputs (N, T) in which a 0 may be padding, without those of batches after the first."""
        for name, array in self.rungs.left.arrays("inputs").items():
            if array.dtype.kind == "i" and array.ndim == 2 and not name.startswith("batch"):
                yield name, array


def same(one: Array, other: Array, bound: float) -> bool:
    """Whether two arrays that hold anything are of one shape, and no numbers of them farther apart than this."""
    return one.shape == other.shape and one.size > 0 and largest_difference(one, other)[0] <= bound


def number(value: Any) -> float:
    return float(value) if isinstance(value, int | float) and abs(value) < LARGEST_SETTING else 0.0


def factor(broken: Broken, right: Array, left: Array) -> float | None:
    """The number by which the right array is the left one's multiple, if it is one."""
    right, left = head(right).astype(np.float64), head(left).astype(np.float64)
    if right.shape != left.shape or not left.any() or not np.isfinite([right.sum(), left.sum()]).all():
        return None
    ratio = float((right * left).sum() / (left * left).sum())
    return ratio if ratio and abs(ratio - 1) > broken.close and broken.near(right, ratio * left) else None


def rearranged(broken: Broken) -> Iterator[Cause]:
    """The numbers are the same in other places."""
    right, left = broken.arrays
    if not broken.near(right, left):
        tried = rearrangements(broken.kind, right, left)
        yield from [cause for array, cause in tried if broken.near(array, left)][:1]


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
        names = ", ".join(gates[order.index(place)] for place in range(len(gates)))
        words = f"the right side has the gates in the order {names}, expected {', '.join(gates)}"
        yield with_gates(right, order), Cause(words, "gru-gates" if kind == "gru" else "lstm-kernel-layout")
    if 1 < len(left) <= 100_000 and left.size < 1 << 24:
        of_right, of_left = (np.lexsort(array.reshape(len(array), -1)[:, :8].T) for array in (right, left))
        rows = right[of_right[np.argsort(of_left)]]
        yield rows, Cause("the right side has the same rows in another order", "shuffling")


def with_gates(array: Array, order: tuple[int, ...]) -> Array:
    """The array with the equal blocks of its last axis in another order."""
    blocks = array.reshape(*array.shape[:-1], len(order), -1)
    return blocks[..., list(order), :].reshape(array.shape)


def elsewhere(broken: Broken) -> Iterator[Cause]:
    """The right side's array is another of the left side's inputs."""
    for name, array in broken.rungs.left.arrays("inputs").items():
        if name != broken.item.tensor and np.array_equal(array, broken.arrays[0]):
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
    ratio = factor(broken, *broken.moved)
    if ratio is None:
        return
    what = "every update" if broken.item.is_update else "the loss" if broken.item.rung == "loss" else "every number"
    yield Cause(f"on the right {what} is {ratio:.6g} times that of the left")
    known = [
        cause
        for times, cause in known_factors(broken)
        if any(abs(abs(ratio) / other - 1) < broken.close for other in (times, 1 / times))
    ]
    yield from known
    slot = broken.item.tensor.partition(" of ")[0]  # or the tensor itself
    alike = [item for item, _ in broken.failed if item.tensor.partition(" of ")[0] == slot]
    if not known and broken.item.rung in ("gradients", "step") and len(alike) > 1:
        factors = [factor(broken, *replace(broken, item=item).moved) for item in alike[:TENSORS_TRIED]]
        if all(other is not None and abs(other / ratio - 1) < broken.close for other in factors):
            words = "all tensors alike: one side clips gradients by the norm of all, or scales the loss"
            yield Cause(words, "clipping")


def known_factors(broken: Broken) -> Iterator[tuple[float, Cause]]:
    """Numbers by which an array may be off, with what that means."""
    item = broken.item
    if item.name.startswith("moving_"):
        for share in map(number, broken.settings("momentum")):
            if 0 < share < 1:
                words = "momentum is the old statistics' share on one side and the new batch's on the other"
                yield share / (1 - share), Cause(words, "batchnorm-momentum")
    if item.rung in ("loss", "gradients"):
        shapes = [array.shape for array in broken.rungs.left.arrays("inputs").values()]
        for size in sorted(
            {prod(shape[:axes]) for shape in shapes for axes in (1, 2) if len(shape) >= axes} - {0, 1}
        ):
            words = f"one side takes the mean over {size} rows or positions, the other their sum"
            yield float(size), Cause(words, "padding-denominator")
        for name, array in broken.padded_inputs():
            real = int(np.count_nonzero(array))
            if 0 < real < array.size:
                words = f"the mean over {array.size} positions, the other over those {real} whose {name} is not 0"
                cause = Cause(f"one side takes {words}, which is padding", "padding-denominator")
                yield array.size / real, cause
    if item.name == "bias" and broken.kind in RECURRENT and item.rung in ("step", "trajectory"):
        yield 2.0, Cause(TWO_BIASES, "second-bias")
    one, other = (number(side.optimizer_settings.get("learning_rate")) for side in broken.sides)
    if one and other and one != other:
        yield other / one, Cause(f"the learning rates are {one:g} and {other:g}")


def two_biases(broken: Broken) -> Iterator[Cause]:
    """A recurrent layer of which one side trains two biases and the other one."""
    pairs = [item.pair for item, _ in broken.failed if item.name == "bias" and item.pair]
    if any(pair.left.kind in RECURRENT and sorted(map(trained_biases, pair.both)) == [1, 2] for pair in pairs):
        yield Cause(TWO_BIASES, "second-bias")


def trained_biases(group: WeightGroup) -> int:
    """How many of the arrays whose sum is the bias the first step changed."""
    names = group.tensors["bias"].names if "bias" in group.tensors else ()
    pairs = [[group.side.weight(file, name) for file in ("weights", "step-1")] for name in names]
    return sum(start is not None and end is not None and not np.array_equal(start, end) for start, end in pairs)


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


def uncorrected(broken: Broken) -> Iterator[Cause]:
    """Adam's means without the correction of their bias: large updates differ by its factor, all but for epsilon."""
    right, left = broken.moved
    large = np.abs(left) > largest(left) / 2
    if not broken.item.is_update or not large.any():
        return
    ratio = abs(float(np.median(right[large] / left[large])))
    for side in broken.sides:
        beta_1, beta_2 = (number(side.optimizer_settings.get(name)) for name in ("beta_1", "beta_2"))
        correction = (1 - beta_1) / (1 - beta_2) ** 0.5 if 0 < beta_1 < 1 and 0 < beta_2 < 1 else 0.0
        if correction and ratio and min(abs(ratio / correction - 1), abs(ratio * correction - 1)) < 0.01:
            yield Cause("one side does not correct the bias of Adam's means")
            return


def decayed(broken: Broken) -> Iterator[Cause]:
    """The updates differ by a multiple of the weights."""
    right, left = broken.moved
    start = broken.groups[0].tensor(broken.item.name) if broken.item.is_update and right.size else None
    ratio = None if start is None else factor(broken, right - left, head(start))
    if ratio is not None:
        yield Cause(f"the updates differ by {abs(ratio):.3g} times the weight: weight decay", "weight-decay")


def by_time(broken: Broken) -> Iterator[Cause]:
    """When in time a recurrent layer begins to differ; and shapes that say that the time axis is another."""
    right, left = broken.arrays
    if sorted(right.shape) == sorted(left.shape) and right.shape != left.shape:
        words = f"the axes are {right.shape} and {left.shape}: time, batch or channels stand elsewhere"
        yield Cause(words, "time-axis")
    if broken.kind not in RECURRENT or left.ndim != 3 or right.shape != left.shape:
        return
    differs = np.abs(right.astype(np.float64) - left).max((0, 2)) > broken.bound
    one, other = broken.settings("time_first")
    if differs.all() and one == other:
        yield Cause("it differs from the first time step on: look at the initial state", "state-shape")
    elif not differs.all():
        yield Cause(f"the first time step at which it differs is {int(differs.argmax())}")


def activations_differ(broken: Broken) -> Iterator[Cause]:
    """The outputs of a dense layer, or of a layer that contains others, are computed anew from the output of a layer
    before it, with each activation."""
    pair, pairs = broken.item.pair, broken.rungs.pairing.pairs
    if pair is None or pair.left.kind not in ("dense", PARENT) or not broken.item.is_output:
        return
    place = next(place for place, other in enumerate(pairs) if other is pair)
    for before in reversed(pairs[max(0, place - LAYERS_TRIED) : place]):
        left = between(broken, before.left, pair.left, broken.arrays[1])
        right = between(broken, before.right, pair.right, broken.arrays[0])
        if left and right and left != right:
            where = f"between {before.name} and {pair.name}" if pair.left.kind == "dense" else f"after {before.name}"
            words = f"{where} the left side has {left}, the right one {right}"
            yield Cause(words, "gelu-approximation" if "gelu" in left and "gelu" in right else "")
            return


def between(broken: Broken, before: WeightGroup, group: WeightGroup, array: Array) -> str:
    """The activation that leads from one group's output to a dense one's, or to that of a layer without weights, in
    the first rows; "" if none is found."""
    kernel, bias = (group.tensor(name) for name in ("kernel", "bias"))
    outputs = before.outputs(before.calls[0]).values() if before.calls else ()
    if array.ndim < 2 or (group.kind == "dense" and (kernel is None or kernel.ndim != 2)):
        return ""
    expected, width = rows_of(array), array.shape[-1] if kernel is None else len(kernel)
    bound = broken.check.tolerance * largest(expected)
    for x in (arranged(read()) for read in outputs for arranged in ARRANGEMENTS.values()):
        for name, activation in ACTIVATIONS.items() if x.ndim > 1 and x.shape[-1] == width else ():
            computed = activation(rows_of(x))
            computed = computed if kernel is None else computed @ kernel + (0 if bias is None else bias)
            if same(computed, expected, bound):
                within = before.settings.get("activation")  # the layer's own, which x has gone through
                return str(within) if name == "linear" and within and before.kind in ACTIVATED else name
    return ""


def activated_otherwise(broken: Broken) -> Iterator[Cause]:
    """A layer of which one side has an activation in it, and another than its settings say."""
    settings = [str(name or "linear") for name in broken.settings("activation")]
    if not broken.item.is_output or broken.kind not in ACTIVATED or settings.count("linear") != 1:
        return
    calls = [group.outputs(group.calls[0]) for group in broken.groups]
    outputs = [rows_of(next(iter(call.values()))()) for call in calls if call]
    if len(outputs) < 2:
        return
    plain, other = outputs if settings[0] == "linear" else reversed(outputs)
    (words,) = {*settings} - {"linear"}
    for name, activation in ACTIVATIONS.items():
        if name not in settings and broken.near(activation(plain), other):
            words = f"the activation that the settings of {broken.groups[0].name} call {words} is {name}"
            yield Cause(words, "gelu-approximation" if "gelu" in name else "")
            return


def rows_of(array: Array) -> Array:
    return array.reshape(-1, array.shape[-1])[:ROWS_TRIED].astype(np.float64)


def attention(broken: Broken) -> Iterator[Cause]:
    """The projections of an attention agree, and what comes of them does not."""
    names = " ".join(group.name for group in broken.groups)
    if broken.item.is_output and any(word in names for word in ("out_proj", "attention_output", ":output")):
        words = "look at the mask's sign and kind, at the scale, and at dropout of the attention's weights"
        yield Cause(f"query, key and value agree as far as they were recorded: {words}", "attention-mask")


def padded_rows(broken: Broken) -> Iterator[Cause]:
    """Only the rows differ that have padding, which something masks."""
    right, left = broken.arrays
    if right.shape != left.shape or left.ndim < 2 or broken.kind == "embedding":
        return
    differs = np.array([np.abs(one - other).max() for one, other in zip(right, left, strict=True)]) > broken.bound
    for name, array in broken.padded_inputs():
        padded = (array == 0).any(1)
        if not padded.all() and np.array_equal(differs, padded):
            words = f"only the rows differ whose {name} have a 0, which is padding"
            yield Cause(f"{words}: look at the sign and the kind of the mask", "attention-mask")
            return


def smoothed(broken: Broken) -> Iterator[Cause]:
    """The losses are cross-entropies with different label smoothing."""
    left = broken.rungs.left
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
            shares = [(float(side.says.loss or 0) - plain) / (uniform - plain) for side in broken.sides]
            one, other = (round(share, 3) + 0.0 for share in shares)
            if all(abs(share - round(share, 3)) < 1e-5 and 0 <= round(share, 3) < 1 for share in shares):
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
    first = int((~(np.abs(right - left) <= broken.bound)).argmax()) + 1
    if first == 2:
        words = "it is another batch, or something is kept between steps, such as a recurrent state"
        yield Cause(f"the weights after step 1 agree and the loss of step 2 does not: {words}", "shuffling")
    elif first > 2:
        words = f"the update of step {first - 1} is another: look at what the optimizer keeps between steps"
        yield Cause(f"the losses part at step {first}, so {words}", "optimizer-slots")
