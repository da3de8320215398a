"""Why a rung breaks. A likely cause is told only where its test passes on the recorded numbers; where none does, what
differs is told as a fact, and what to record next.

`ASPECTS` and `HYPOTHESES` are the table: all that can be told as a cause. `FACTS` is what is only told.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from itertools import permutations
from math import prod
from typing import Any

import numpy as np

from benchmarks.compare import forward_causes, training_causes
from benchmarks.compare.broken import (
    MORE,
    SEEN,
    TWO_BIASES,
    Broken,
    Cause,
    Choice,
    drops,
    embeddings,
    name_of,
    number,
    parting,
    tied,
)
from benchmarks.compare.comparer import GATES, Array, Check, head
from benchmarks.compare.facts import FACTS, arranged, next_record
from benchmarks.compare.layers_anew import LAYERS
from benchmarks.compare.layouts import RECURRENT, SAME_SLOTS
from benchmarks.compare.rungs import LayerItem, Rungs

# What can be otherwise in a layer, a loss or a step that is computed anew: in words, and the register's entry, by the
# layer's kind where it depends on that. {0} is the layer, {1} and {2} what the left and the right side have.
ASPECTS: dict[str, tuple[str, str | dict[str, str]]] = {
    "takes": ("{0} takes {1} on the left and {2} on the right", ""),
    "before": ("the activation before {0} is {1} on the left and {2} on the right", ""),
    "gated": ("the activation of what a gate multiplies before {0} is {1} on the left and {2} on the right", ""),
    "within": ("the activation after {0} is {1} on the left and {2} on the right", ""),
    "times": ("what {0} gives is multiplied by {1} on the left and by {2} on the right", ""),
    "ids_of": ("{0} looks up {1} on the left and {2} on the right", ""),
    "first": ("positions begin at {1} on the left and at {2} on the right", ""),
    "padding": ("padding_idx is {1} on the left and {2} on the right", "padding-idx"),
    "order": ("an output is divided into {1} on the left and into {2} on the right", ""),
    "packed": ("query, key and value stand {1} on the left and {2} on the right", ""),
    "heads": ("the attention has {1} heads on the left and {2} on the right", ""),
    "shared": ("heads share keys {1} on the left and {2} on the right", ""),
    "mask": ("the attention's mask is {1} on the left and {2} on the right", "attention-mask"),
    "scale": ("the attention's scores are multiplied by {1} on the left and by {2} on the right", ""),
    "rope": ("pairs of rotary embeddings are {1} on the left and {2} on the right", ""),
    "base": ("the base of rotary embeddings is {1:g} on the left and {2:g} on the right", ""),
    "epsilon": (
        "epsilon is {1} on the left and {2} on the right",
        {"layernorm": "layernorm-epsilon", "batchnorm": "batchnorm-epsilon"},
    ),
    "place": ("epsilon of {0} is {1} on the left and {2} on the right", ""),
    "mean": ("{0} {1} on the left and {2} on the right", ""),
    "groups": ("{0} has {1} groups on the left and {2} on the right", ""),
    "divisor": ("the variance of {0} is divided by {1} on the left and by {2} on the right", ""),
    "gain_is": ("{0} multiplies by {1} on the left and by {2} on the right", ""),
    "statistics": ("the statistics of {0} are {1} on the left and {2} on the right", ""),
    "stride": ("the stride of {0} is {1} on the left and {2} on the right", ""),
    "dilation": ("the dilation of {0} is {1} on the left and {2} on the right", ""),
    "pad": ("the padding of {0} is {1} on the left and {2} on the right", ""),
    "groups_are": ("the channels of {0} are divided into groups {1} on the left and {2} on the right", ""),
    "kernel_is": ("the kernel of {0} is used {1} on the left and {2} on the right", ""),
    "crop": ("{0} leaves out {1} at the beginning on the left and {2} on the right", ""),
    "time": ("{0} begins with the {1} time step on the left and with the {2} on the right", ""),
    "axis": ("the axis of time in {0} is the {1} on the left and the {2} on the right", "time-axis"),
    "gates": ("sigmoid and tanh of {0} are {1} on the left and {2} on the right", ""),
    "after": ("reset_after is {1} on the left and {2} on the right", "gru-reset-after"),
    "start": ("the initial state of {0} is {1} on the left and {2} on the right", "state-shape"),
    "lengths": ("the lengths by which {0} stops are {1} on the left and {2} on the right", ""),
}
OF_LOSS: dict[str, tuple[str, str | dict[str, str]]] = {
    "reads": ("the loss takes the outputs for {1} on the left and for {2} on the right", ""),
    "shift": ("labels are shifted by {1} positions on the left and by {2} on the right", ""),
    "counted": ("in the loss count {1} on the left and {2} on the right", "padding-denominator"),
    "mean": ("the loss is {1} on the left and {2} on the right", "padding-denominator"),
    "smoothing": ("labels are smoothed by {1:g} on the left and {2:g} on the right", "label-smoothing"),
    "measure": ("the loss is of {1} on the left and of {2} on the right", ""),
}
OF_STEP: dict[str, tuple[str, str | dict[str, str]]] = {
    "clips_to": ("gradients are clipped {1} on the left and {2} on the right", "clipping"),
    "times": ("gradients are {1} on the left and {2} on the right", "padding-denominator"),
    "decay": ("weight decay of {0} goes {1} on the left and {2} on the right", "weight-decay"),
    "weight_decay": ("weight decay is {1} on the left and {2} on the right", "weight-decay"),
    "rate": ("the learning rate of the first step is {1:g} on the left and {2:g} on the right", ""),
    "constants": ("the optimizer's constants are {1} on the left and {2} on the right", "constants-precision"),
    "biases": (TWO_BIASES, "second-bias"),
    "momentum": ("momentum is {1} on the left and {2} on the right", ""),
    "nesterov": ("Nesterov's momentum is {1:g} on the left and {2:g} on the right", ""),
    "beta_1": ("beta_1 is {1} on the left and {2} on the right", ""),
    "beta_2": ("beta_2 is {1} on the left and {2} on the right", ""),
    "rho": ("rho is {1} on the left and {2} on the right", "rmsprop-defaults"),
    "epsilon": ("the optimizer's epsilon is {1} on the left and {2} on the right", "optimizer-epsilon"),
    "place": ("epsilon is {1} on the left and {2} on the right", {"RMSprop": "rmsprop-epsilon", "": "adam-epsilon"}),
    "corrected": ("the bias of Adam's means is {1} on the left and {2} on the right", ""),
    "counter": ("Adam counts the first step as {1} on the left and as {2} on the right", "optimizer-slots"),
    "started": ("mean squares begin with {1:g} on the left and with {2:g} on the right", "rmsprop-slot-start"),
}


def computed_anew(broken: Broken) -> Iterator[Cause]:
    """What both sides compute, where one choice of all aspects gives the left side's numbers and another one the
    right side's. Where several are as near to the left one, any of them may be it."""
    for left, right, most in SPACES[broken.item.rung](broken) if broken.item.rung in SPACES else ():
        parted = parting(left, right, most)
        if parted:
            yield from causes_of_choices(broken, *parted)
            return


def causes_of_choices(broken: Broken, one: Choice, others: Sequence[Choice]) -> Iterator[Cause]:
    def causes(other: Choice) -> list[Cause]:
        aspects = [aspect for aspect in one if one[aspect] != other[aspect]]
        if not (one.get("weight_decay", 1) and other.get("weight_decay", 1)):  # of nothing it goes nowhere
            aspects = [aspect for aspect in aspects if aspect != "decay"]
        aspects = [aspect for aspect in aspects if aspect != "all_masked"]  # which only shows where the mask differs
        return [in_words(broken, aspect, one[aspect], other[aspect]) for aspect in aspects]

    several = [found for found in map(causes, others) if found]
    if len(several) == 1:
        yield from several[0]
    elif several:
        sentences = [" and ".join(cause.sentence for cause in found) for found in several]
        yield Cause(", or ".join(dict.fromkeys(sentences)), several[0][0].entry)


def in_words(broken: Broken, aspect: str, left: Any, right: Any) -> Cause:
    rung, optimizer = broken.item.rung, broken.sides[0].optimizer.kind
    words, entry = {"forward": ASPECTS, "loss": OF_LOSS}.get(rung, OF_STEP)[aspect]
    if isinstance(entry, dict):
        entry = entry.get(SAME_SLOTS.get(optimizer, optimizer) if rung == "step" else broken.kind, entry.get("", ""))
    if aspect in ("before", "within") and "gelu" in left and "gelu" in right:
        entry = "gelu-approximation"
    if aspect == "before" and broken.kind not in LAYERS:  # it may be the activation itself
        words = words.replace(" before ", " before or in ")
    name = f"{broken.item.pair.name} {broken.item.name}" if rung == "step" and broken.item.pair else name_of(broken)
    return Cause(words.format(name, left, right), entry)


# Mistakes that are undone on the numbers that are shown. A test is what the mistake would make, and what is there.

Test = tuple[Array | None, Array, Cause]


def other_places(broken: Broken) -> Iterator[Test]:
    """The numbers are the same in other places."""
    (right, left), rung = broken.arrays, broken.item.rung
    if left.ndim == 2:
        entry = "output-layer-layout" if broken.kind == "dense" else "lstm-kernel-layout"
        yield right.T, left, Cause("the right side is the left one transposed", entry)
    if right.shape != left.shape or not left.ndim:
        return
    for axes in permutations(range(left.ndim)) if 2 < left.ndim < 5 and not broken.item.is_output else ():
        turned = right.transpose(axes)
        words = ", ".join(str(axes.index(axis)) for axis in range(left.ndim))
        if turned.shape == left.shape and axes != (*range(left.ndim),):
            yield turned, left, Cause(f"the right side is the left one with its axes in the order {words}")
    if left.ndim > 2 and not broken.item.is_output:
        spatial = tuple(range(left.ndim - 2))
        yield np.flip(right, spatial), left, Cause("the right side is the left one flipped")
    if left.ndim == 2:
        reshaped = "the right side was reshaped where it should have been transposed"
        yield right.reshape(left.shape[::-1]).T, left, Cause(reshaped, "lstm-kernel-layout")
    gates = GATES.get(broken.kind, ()) if not broken.item.is_output else ()
    for order in permutations(range(len(gates))) if gates and left.shape[-1] % len(gates) == 0 else ():
        names = ", ".join(gates[order.index(place)] for place in range(len(gates)))
        words = f"the right side has the gates in the order {names}, expected {', '.join(gates)}"
        entry = "gru-gates" if broken.kind == "gru" else "lstm-kernel-layout"
        yield with_gates(right, order), left, Cause(words, entry)
    for axis, words in ((0, "rows"), (-1, "units" if broken.item.is_output else "columns")):
        one, other = (np.moveaxis(array, axis, 0) for array in (right, left))
        if left.ndim > -axis and 1 < len(other) <= 100_000 and left.size < 1 << 24:
            of_right, of_left = (np.lexsort(array.reshape(len(array), -1)[:, :8].T) for array in (one, other))
            cause = Cause(
                f"the right side has the same {words} in another order", "shuffling" if rung == "tensors" else ""
            )
            yield one[of_right[np.argsort(of_left)]], other, cause


def with_gates(array: Array, order: tuple[int, ...]) -> Array:
    """The array with the equal blocks of its last axis in another order."""
    blocks = array.reshape(*array.shape[:-1], len(order), -1)
    return blocks[..., list(order), :].reshape(array.shape)


def exchanged(broken: Broken) -> Iterator[Test]:
    """The right side's weight has the numbers of another weight of the left side."""
    right = broken.arrays[0]
    for pair, name in broken.rungs.tensors_of_pairs() if right.size > 1 and (right != right.flat[0]).any() else ():
        if pair.left.shapes.get(name) == right.shape and (pair is not broken.item.pair or name != broken.item.name):
            other = pair.left.tensor(name)
            if other is not None:
                yield right, other, Cause(f"the right side has the numbers of {pair.name} {name} of the left side")


def elsewhere(broken: Broken) -> Iterator[Test]:
    """The right side's array is another of the left side's inputs."""
    for name, array in broken.rungs.left.arrays("inputs").items():
        if name != broken.item.tensor:
            other_batch = name.startswith("batch") or broken.item.tensor.startswith("batch")
            words = f"it is {name} of the left side{', so another batch is fed' if other_batch else ''}"
            yield array, broken.arrays[0], Cause(words, "shuffling" if other_batch else "")


def untied(broken: Broken) -> Iterator[Test]:
    """A weight that one side shares between two layers has the gradients of both."""
    words = tied(broken)
    right, left = (array.astype(np.float64) for array in broken.arrays)
    whole, part = (left, right) if words == "left" else (right, left)
    for pair in broken.rungs.pairing.pairs if words else ():
        for name in pair.right.tensors:
            other = pair.both[words == "left"].tensor(name, "gradients")
            for turned in (other, other.T) if other is not None and other.ndim == 2 else ():
                if turned.shape == part.shape and pair is not broken.item.pair:
                    cause = Cause(f"the weight is tied to another layer's on the {words} only", "tied-weights")
                    yield part + turned, whole, cause


def row_of_padding(broken: Broken) -> Iterator[Test]:
    """A row of an embedding that is zero on one side alone."""
    for name, _, right, left in embeddings(broken):
        for one, other, words in ((left, right, "right"), (right, left, "left")):
            empty = np.asarray(~other.any(1) & one.any(1))
            if empty.sum() == 1:
                where = f"row {int(empty.argmax())} of {name}"
                yield one * ~empty[:, None], other, Cause(f"{where} is zero on the {words} only", "padding-idx")


def dropped(broken: Broken) -> Iterator[Test]:
    """Numbers of one side are zero by chance, and the others larger."""
    for place, words in ((1, "left"), (0, "right")):
        side, own, other = broken.sides[1 - place], broken.arrays[place], broken.arrays[1 - place]
        for path, rate in drops(side):
            if own.shape == other.shape and (own == 0).any() and not broken.kind.startswith(RECURRENT):
                cause = Cause(f"dropout of {rate} was on in {path} of the {words} side", "dropout")
                yield other * (own != 0) / (1 - rate), own, cause


def multiplied(broken: Broken) -> Iterator[Test]:
    """What a dense layer or a convolution takes is a multiple; or what any layer gives, where float32 explains it."""
    right, left = (array.astype(np.float64) for array in broken.arrays)
    if right.shape != left.shape or not broken.item.is_output:
        return
    takes = broken.kind in ("dense", "conv")
    bias = broken.groups[0].tensor("bias") if takes else None
    of_kernel = left - bias if bias is not None and bias.shape == left.shape[-1:] else left
    ratio = float(((right - left) * of_kernel).sum() / ((of_kernel**2).sum() or 1.0))
    what = f"what {name_of(broken)} {'takes' if takes else 'gives'} is"
    if abs(ratio) < np.finfo(np.float32).eps:
        cause = Cause(f"{what} multiplied by a number that is rounded to float32 on one side", "array-dtype")
        yield left + ratio * of_kernel, right, cause
    elif takes:
        yield left + ratio * of_kernel, right, Cause(f"{what} {1 + ratio:.6g} times as large on the right")


def running(broken: Broken) -> Iterator[Test]:
    """Running means and variances after a step: another share of what is new, or another divisor."""
    if not broken.item.name.startswith("moving_"):
        return
    right, left = broken.moved
    shares = [number(share) for share in broken.settings("momentum")]
    for one in dict.fromkeys(shares):
        for other in dict.fromkeys((*shares, 1 - one)):
            if 0 < one < 1 and 0 < other < 1 and one != other:
                words = "momentum, as the share of the old statistics that is kept,"
                words += f" is {one} on the left and {other} on the right"
                if abs(one + other - 1) < 1e-6:
                    words = "momentum is the old statistics' share on one side and the new batch's on the other"
                yield left * (1 - other) / (1 - one), right, Cause(words, "batchnorm-momentum")
    start = broken.groups[0].tensor(broken.item.name)
    kept = shares[0] if shares else 0.0
    shapes = [broken.sides[0].shape(parts[0], "layers") for parts in broken.groups[0].calls if parts]
    for count in {prod(shape) // left.size for shape in shapes if left.size} - {0, 1}:
        if broken.item.name == "moving_variance" and start is not None and 0 < kept < 1:
            batch = left / (1 - kept) + head(start)
            for times in (count / (count - 1), (count - 1) / count):
                cause = Cause("one side's variance is divided by n, the other's by n - 1", "batchnorm-variance")
                yield (times * batch - head(start)) * (1 - kept), right, cause


def unmoved(broken: Broken) -> Iterator[Test]:
    """A weight that has a gradient on both sides, and that one side's optimizer leaves as it was."""
    gradients = [group.tensor(broken.item.name, "gradients") for group in broken.groups if broken.item.is_update]
    for place, words in ((1, "left"), (0, "right")) if len(gradients) == 2 else ():
        still, other = broken.moved[place], broken.moved[1 - place]
        if still.size and not still.any() and other.any() and all(g is not None and g.any() for g in gradients):
            yield still, still, Cause(f"the {words} side's optimizer does not move it: does it know this weight?")


def squared_slices(broken: Broken) -> Iterator[Test]:
    """The mean squares of an embedding on Keras with TensorFlow: those of ids that stand once in the batch agree."""
    slots = [item for item, _ in broken.failed if not item.is_update]
    keras = any(side.says.framework.backend == "tensorflow" for side in broken.sides)
    if not keras or not all(item.pair and item.pair.left.kind == "embedding" for item in slots):
        return
    for item in [item for item in slots if "square" in item.tensor and item.pair is broken.item.pair]:
        right, left = item.load()
        if right is None or left is None or right.shape != left.shape:
            continue
        for ids in [a for _, a in broken.padded_inputs() if a.size and a.min() >= 0 and a.max() < len(left)]:
            several = np.bincount(ids.ravel(), minlength=len(left)) > 1
            words = "squares the gradients of an id that stands several times in a batch one by one"
            if (right[several] != left[several]).any():
                cause = Cause(f"Keras on TensorFlow {words}", "keras-sparse-embeddings")
                yield np.where(several[:, None], right, left), right, cause


def counters(broken: Broken) -> Iterator[Test]:
    """How many steps the optimizers took, by which Adam corrects the bias of its means."""
    left, right = (side.optimizer.counters for side in broken.sides)
    if left and right and left != right:
        one, other = (" and ".join(map(str, counts)) for counts in (left, right))
        words = f"the step counter is {one} on the left and {other} on the right"
        yield np.ones(1), np.ones(1), Cause(words, "optimizer-slots")


HYPOTHESES: dict[str, tuple[Callable[[Broken], Iterator[Test]], ...]] = {
    "tensors": (elsewhere, other_places),
    "weights": (exchanged, other_places, row_of_padding),
    "forward": (other_places, dropped, multiplied),
    "loss": (),
    "gradients": (untied, row_of_padding, other_places),
    "step": (counters, unmoved, squared_slices, running),
    "trajectory": (),
}
SPACES = {
    "forward": forward_causes.spaces,
    "loss": training_causes.losses,
    "gradients": training_causes.gradients,
    "step": training_causes.steps,
}


def causes_of(rungs: Rungs, item: LayerItem, check: Check, failed: Sequence[tuple[LayerItem, Check]]) -> list[Cause]:
    """The causes whose tests pass; where none does, facts and what to record next. Which line of a mapping would pair
    weights that hold the same numbers is always told."""
    broken, rung = Broken(rungs, item, check, failed), item.rung
    tests = (test for hypothesis in HYPOTHESES[rung] for test in hypothesis(broken))
    found = [cause for made, seen, cause in tests if broken.explains(made, seen)][:1]
    if not found:
        found = list(computed_anew(broken))
    if not found:
        found = [replace(cause, standing=SEEN) for fact in FACTS[rung] for cause in fact(broken)]
        more = next_record(broken)
        found += [Cause(more, standing=MORE)] if more else []
    if rung == "weights":
        found += [replace(cause, standing=SEEN) for cause in arranged(broken)]
    return list(dict.fromkeys(found))
