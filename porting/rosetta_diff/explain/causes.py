"""Why a stage breaks. A likely cause is told only where its test passes on the recorded numbers. Where none does, the
difference is told as a fact, and what to record next.

`HYPOTHESES` has what is undone on the numbers that are shown, `COMPUTATIONS` what is computed anew, and facts.py what
is only told.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from itertools import islice, permutations, product
from typing import Any

import numpy as np

from rosetta_diff.arrays import COARSER_TYPES, Array, head
from rosetta_diff.explain.broken import LIKELY, MORE, SEEN, Broken, Cause, dropouts
from rosetta_diff.explain.facts import FACTS, arranged, next_record, with_turned_axes
from rosetta_diff.explain.forward import forward
from rosetta_diff.explain.inputs import given_otherwise, given_the_same
from rosetta_diff.explain.operators import NOWHERE
from rosetta_diff.explain.optimizers import acting, steps, the_only_setting
from rosetta_diff.explain.search import Both, Choice, Chosen, Parting, Search
from rosetta_diff.explain.settings import the_only_one
from rosetta_diff.explain.training import gradients, losses
from rosetta_diff.judge.check import GATES, Check
from rosetta_diff.judge.items import Stages
from rosetta_diff.read.description import RecordedWeight
from rosetta_diff.read.rules import CHANNELLED, STRAIGHT
from rosetta_diff.read.side import is_number, is_within

# Entries where both sides have such an activation.
ACTIVATIONS_OF_ENTRIES = {"gelu": "gelu-approximation", "hard_sigmoid": "paddle-hardsigmoid"}


def causes_of(stages: Stages, check: Check, failed: Sequence[Check]) -> list[Cause]:
    """Return the causes whose tests pass; where none does, facts and what to record next. Which line of a mapping
    would pair weights that hold the same numbers is always told."""
    broken, stage = Broken(stages, check, failed), check.stage
    search = Search(broken.criterion)
    causes = undone(broken, search) or computed_anew(broken, search)
    if not any(cause.standing == LIKELY for cause in causes):
        reorderings = (cause for right, left, cause in reordered(broken) if search.passes(right, left))
        causes += the_only_one(broken) or the_only_setting(broken, search) or reorderings
    if not any(cause.standing == LIKELY for cause in causes):
        causes += [replace(cause, standing=SEEN) for fact in FACTS[stage] for cause in fact(broken)]
        more = next_record(broken)
        causes += [Cause(more, standing=MORE)] if more else []
    if stage == "weights":
        causes += [replace(cause, standing=SEEN) for cause in arranged(broken)]
    if check.item.is_output:
        causes += [replace(cause, standing=SEEN) for cause in with_turned_axes(broken)][:1]
    return list(dict.fromkeys(causes))


def undone(broken: Broken, search: Search) -> list[Cause]:
    """Return the first cause that is undone on the numbers that are shown."""
    tests = (test for hypothesis in HYPOTHESES[broken.item.stage] for test in hypothesis(broken))
    return next(([cause] for computed, seen, cause in tests if search.passes(computed, seen)), [])


def computed_anew(broken: Broken, search: Search) -> list[Cause]:
    """Return what both sides compute, where one choice gives the left side's numbers and another one the right
    side's. Where several are as near to the left one, any of them may be it."""
    compute = COMPUTATIONS.get(broken.item.stage)
    for lefts, rights, most in compute(broken) if compute else ():
        parting = search.parting(lefts, rights, most)
        if parting:
            several = [causes for right in parting.rights if (causes := [*causes_between(broken, parting, right)])]
            sentences = [" and ".join(cause.sentence for cause in causes) for causes in several]
            if several[1:]:
                return [Cause(", or ".join(dict.fromkeys(sentences)), several[0][0].entry)]
            return several[0] if several else []
    return []


def causes_between(broken: Broken, parting: Parting, right: Chosen) -> Iterator[Cause]:
    """Yield a cause for each choice in which both sides differ."""
    name, left = broken.item.tensor if broken.item.stage == "step" else broken.name, parting.left
    for parameter, choice in parting.choices.items():
        both = left[parameter], right[parameter]
        if both[0] != both[1] and choice.words:
            of_left, of_right = (f"{value:g}" if isinstance(value, float) else value for value in both)
            words = f"{choice.words.format(name)} {of_left} on the left and {of_right} on the right"
            yield Cause(words, entry_of(parameter, choice, *both))
    yield from acting(broken).values()  # with which the step was computed


def entry_of(parameter: str, choice: Choice, left: Any, right: Any) -> str:
    """Return the register's entry of a choice in which both sides differ."""
    entries = ACTIVATIONS_OF_ENTRIES.items() if parameter in ("activation", "before", "gated") else ()
    return next((entry for name, entry in entries if name in left and name in right), choice.entry)


# Mistakes that are undone on the numbers that are shown. A test is what the mistake would make, and what is there.

Test = tuple[Array | None, Array, Cause]
RECORDED = np.ones(64)  # made and seen of what is recorded itself, and follows from no numbers


def other_places(broken: Broken) -> Iterator[Test]:
    """The numbers are the same in other places."""
    (left, right), stage = broken.arrays, broken.item.stage
    if left.ndim == 2:
        entry = "output-layer-layout" if broken.kind == "dense" else "lstm-kernel-layout"
        yield right.T, left, Cause("the right side is the left one transposed", entry)
    if right.shape != left.shape or not left.ndim:
        return
    if left.ndim > 2 and not broken.item.is_output:
        for axes in permutations(range(left.ndim)) if left.ndim < 5 else ():
            turned = right.transpose(axes)
            words = ", ".join(str(axes.index(axis)) for axis in range(left.ndim))
            if turned.shape == left.shape and axes != (*range(left.ndim),):
                yield turned, left, Cause(f"the right side is the left one with its axes in the order {words}")
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
        blocks = right.reshape(*right.shape[:-1], len(gates), -1)
        yield blocks[..., list(order), :].reshape(right.shape), left, Cause(words, entry)
    for axis, words in ((0, "rows"), (-1, "units" if broken.item.is_output else "columns")):
        of_left, of_right = (np.moveaxis(array, axis, 0) for array in (left, right))
        if left.ndim > -axis and 1 < len(of_left) <= 100_000 and left.size < 1 << 24:
            sorts = (np.lexsort(array.reshape(len(array), -1)[:, :8].T) for array in (of_left, of_right))
            left_order, right_order = sorts
            entry = "shuffling" if stage == "tensors" else ""
            cause = Cause(f"the right side has the same {words} in another order", entry)
            yield of_right[right_order[np.argsort(left_order)]], of_left, cause


def exchanged(broken: Broken) -> Iterator[Test]:
    """The right side's weight has the numbers of another weight of the left side."""
    right = broken.arrays[1]
    for pair, name in broken.stages.tensors_of_pairs() if right.size > 1 and (right != right.flat[0]).any() else ():
        tensor = pair.tensor(0, name)
        left = pair.left_array(name) if tensor and tensor.shape == right.shape else None
        if left is not None and (pair is not broken.item.pair or name != broken.item.name):
            yield right, left, Cause(f"the right side has the numbers of {pair.name} {name} of the left side")


def rounded(broken: Broken) -> Iterator[Test]:
    """One side's weight is the other side's, rounded to a coarser type than the record has it in."""
    left, right = broken.arrays
    if right.dtype != left.dtype:
        return
    for words, source, finer, seen in (("right", "left", left, right), ("left", "right", right, left)):
        for dtype, change in COARSER_TYPES.items() if is_number(finer) else ():
            cause = Cause(f"the {words} side has the numbers of the {source} one rounded to {dtype}", "array-dtype")
            yield change(finer).astype(np.float64), seen, cause


def elsewhere(broken: Broken) -> Iterator[Test]:
    """The right side's array is another of the left side's inputs."""
    for name, array in broken.stages.left.arrays("inputs").items():
        if name != broken.item.tensor:
            other_batch = name.startswith("batch") or broken.item.tensor.startswith("batch")
            words = f"it is {name} of the left side{', so another batch is fed' if other_batch else ''}"
            yield array, broken.arrays[1], Cause(words, "shuffling" if other_batch else "")


def untied(broken: Broken) -> Iterator[Test]:
    """A weight that one side shares between two layers has the gradients of both."""
    marks = []
    for group in broken.groups:
        names, weights = {*group.names}, group.side.says.weights
        marks.append(any(name in names or w.tied_to in names for name, w in weights.items() if w.tied_to))
    if len({*marks}) < 2:
        return
    words = "left" if marks[0] else "right"
    left, right = (array.astype(np.float64) for array in broken.arrays)
    whole, part = (left, right) if words == "left" else (right, left)
    for pair in broken.stages.pairing.pairs:
        for name in pair.weights:
            gradient = (pair.right_array if words == "left" else pair.left_array)(name, "gradients")
            for turned in (gradient, gradient.T) if gradient is not None and gradient.ndim == 2 else ():
                if turned.shape == part.shape and pair is not broken.item.pair:
                    cause = Cause(f"the weight is tied to another layer's on the {words} only", "tied-weights")
                    yield part + turned, whole, cause


def trained_on_one_side(broken: Broken) -> Iterator[Test]:
    """One side alone has a gradient of a weight."""
    left, right = broken.item.left(), broken.item.right()
    if not broken.item.pair or (left is None) == (right is None):
        return
    has, lacks, place = ("left", "right", 1) if right is None else ("right", "left", 0)
    group, name = broken.groups[place], broken.item.name
    tensor = broken.item.pair.tensor(place, name)
    arrays = tensor.names if tensor else ()
    weights = [group.side.says.weights.get(array, RecordedWeight()) for array in arrays]
    why = "the loss does not depend on it" if any(weight.trainable for weight in weights) else "it is frozen"
    cause = Cause(f"{broken.item.tensor} is trained on the {has} only: on the {lacks} {why}")
    yield RECORDED, RECORDED, cause


def dropped(broken: Broken) -> Iterator[Test]:
    """The inputs of a layer agree if a dropout, whose output may have been added to something, gives its input."""
    for both, (place, path, cause) in product(given_otherwise(broken), dropouts(broken)):
        side = broken.sides[place]
        for call in side.called.get(path, []):
            names = [*islice(call.inputs.values(), 1), *call.parts[:1]]
            arrays = [side.arrays("layers").mapped(name) for name in names]
            if len(arrays) == 2 and arrays[0].shape == arrays[1].shape == both[place].shape:
                yield both[place] + (arrays[0] - arrays[1]), both[1 - place], cause


def dropping(broken: Broken) -> Iterator[Test]:
    """A layer drops at random in what is shown, or before it. No other framework drops the same numbers."""
    fed = broken.sides[1].says.fed or given_the_same(broken)  # by a replay
    for place, path, cause in dropouts(broken):
        calls, call = broken.sides[place].says.calls, broken.item.call
        end = calls.index(call[place].recorded[-1]) + 1 if call else len(calls)
        within = any(is_within(path, group.layer.path) for group in broken.groups[place : place + 1])
        if any(before.layer == path for before in calls[:end]) and (within or not fed):
            yield RECORDED, RECORDED, cause


def multiplied(broken: Broken) -> Iterator[Test]:
    """The inputs of a layer are a multiple; or its outputs, where float32 explains it."""
    arrays = [("takes", *both) for both in given_otherwise(broken)]
    arrays += [("gives", *broken.arrays)] if broken.item.is_output else []
    for verb, *both in arrays:
        left, right = (array.astype(np.float64) for array in both)
        ratio = float((right * left).sum() / ((left**2).sum() or 1.0)) if left.shape == right.shape else 1.0
        what = f"what {broken.name} {verb} is"
        if 0 < abs(ratio - 1) < np.finfo(np.float32).eps:
            cause = Cause(f"{what} multiplied by a number that is rounded to float32 on one side", "array-dtype")
            yield ratio * left, right, cause
        elif verb == "takes" and ratio != 1:
            yield ratio * left, right, Cause(f"{what} {ratio:.6g} times as large on the right")


def shifted(broken: Broken) -> Iterator[Test]:
    """The right side's embedding is given other ids or positions, as those that begin at 1."""
    for both in given_otherwise(broken) if broken.kind == "embedding" else ():
        left, right = (array.astype(np.int64) for array in both)
        more = int((right - left).flat[0])
        words = f"what {broken.name} is given is {abs(more)} {'more' if more > 0 else 'less'} on the right"
        if more:
            yield left + more, right, Cause(words)


def reordered(broken: Broken) -> Iterator[Test]:
    """Test whether both layers are given the same channels in different orders, such as groups in turns."""
    for both in given_otherwise(broken) if broken.item.is_output and broken.kind in CHANNELLED else ():
        axis = 1 if broken.groups[0].channels_stand_first else -1
        left, right = (np.moveaxis(array, axis, -1) for array in both)
        sorts = [array[..., np.argsort(array.reshape(-1, array.shape[-1]).sum(0))] for array in (left, right)]
        words = f"what {broken.name} is given has its channels in another order on the right"
        yield sorts[1], sorts[0], Cause(words)


def left_alone(broken: Broken) -> Iterator[Test]:
    """One side's step leaves a weight where it is."""
    left, right = broken.moved
    rates = [side.first_rate for side in broken.sides]
    if broken.item.is_update and broken.groups and left.shape == right.shape and 0 not in rates:
        both = ("moved", "not moved") if left.any() else ("not moved", "moved")
        words = (
            f"{broken.item.tensor} is {both[0]} by the optimizer on the left and {both[1]} by the optimizer on the"
        )
        if left.any() != right.any():
            yield RECORDED, RECORDED, Cause(f"{words} right")


def decay_left_out(broken: Broken) -> Iterator[Test]:
    """One side's weight decay passes over a weight that the other side's moves straight."""
    decays, item = [side.decay for side in broken.sides], broken.item
    if not (item.pair and item.is_update and decays[0] == decays[1] > 0):
        return
    moved, start = broken.moved, item.pair.left_array(item.name)
    start = np.zeros(0) if start is None else head(start)
    if start.shape != moved[0].shape or moved[0].shape != moved[1].shape:
        return
    ways = (NOWHERE, STRAIGHT), (STRAIGHT, NOWHERE)
    for place, (of_left, of_right) in enumerate(ways):
        words = f"weight decay of {item.tensor} goes {of_left} on the left and {of_right} on the right"
        yield moved[place] - decays[0] * start, moved[1 - place], Cause(words, "weight-decay")


def counters(broken: Broken) -> Iterator[Test]:
    """The optimizers counted other steps, by which Adam corrects the bias of its means."""
    left, right = (side.counters for side in broken.sides)
    if left and right and left != right:
        left_words, right_words = (" and ".join(map(str, counts)) for counts in (left, right))
        words = f"the step counter is {left_words} on the left and {right_words} on the right"
        yield RECORDED, RECORDED, Cause(words, "optimizer-slots")


HYPOTHESES: dict[str, tuple[Callable[[Broken], Iterator[Test]], ...]] = {
    "tensors": (elsewhere, other_places),
    "weights": (exchanged, rounded, other_places),
    "forward": (other_places, dropped, dropping, multiplied, shifted),
    "loss": (),
    "gradients": (trained_on_one_side, untied, other_places),
    "step": (counters, left_alone, decay_left_out),
    "trajectory": (),
}
COMPUTATIONS: dict[str, Callable[[Broken], Iterator[Both]]] = {
    "forward": forward,
    "loss": losses,
    "gradients": gradients,
    "step": steps,
}
