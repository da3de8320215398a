"""Why a stage breaks. Each cause has a test, which is what it would make and what is seen,
or is a recorded fact.

`CAUSES` has them by stage: those that are tested on the numbers first. What both sides compute is
in forward.py and training.py, facts are in facts.py.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from itertools import chain, islice, permutations, product
from typing import Any

import numpy as np

from rosetta_diff.arrays import COARSER_TYPES
from rosetta_diff.explain import facts
from rosetta_diff.explain.broken import LIKELY, MORE, Broken, Cause, dropouts
from rosetta_diff.explain.forward import forward
from rosetta_diff.explain.inputs import given_otherwise
from rosetta_diff.explain.optimizers import optimizers_differ, step_differs
from rosetta_diff.explain.search import Both, Choice, Chosen, Parting
from rosetta_diff.explain.settings import settings_differ
from rosetta_diff.explain.training import losses
from rosetta_diff.judge.check import GATES, Check
from rosetta_diff.judge.items import Stages
from rosetta_diff.read.side import is_number

# Entries where both sides have such an activation.
ACTIVATIONS_OF_ENTRIES = {"gelu": "gelu-approximation", "hard_sigmoid": "paddle-hardsigmoid"}


def causes_of(stages: Stages, check: Check, failed: Sequence[Check]) -> list[Cause]:
    """Return the first cause whose test passes; where none does, facts and what to record next.
    Lines of a mapping under which both sides agree are always told."""
    broken, told = Broken(stages, check, failed), list[Cause]()
    for cause in chain.from_iterable(causes(broken) for causes in CAUSES[check.stage]):
        if cause.made is None or cause.seen is None:
            told.append(cause)
        elif broken.search.passes(cause.made, cause.seen):
            told = [replace(cause, standing=LIKELY)]
            break
    else:
        more = facts.next_record(broken)
        told += [Cause(more, standing=MORE)] if more else []
    lines = facts.propose_lines(broken) if check.stage == "weights" else ()
    turned = islice(facts.with_turned_axes(broken), 1) if check.item.is_output else ()
    return list(dict.fromkeys([*told, *lines, *turned]))


def parted(computations: Callable[[Broken], Iterator[Both]], broken: Broken) -> Iterator[Cause]:
    """Yield the choices in which both sides differ, where one gives the left side's numbers and
    another one the right side's. Where several are as near to the left one, any of them may be
    it."""
    for lefts, rights, most in computations(broken):
        parting = broken.search.parting(lefts, rights, most)
        several = (
            [found for right in parting.rights if (found := [*between(broken, parting, right)])]
            if parting
            else []
        )
        if parting and several:
            sentences = [" and ".join(cause.sentence for cause in found) for found in several]
            words = ", or ".join(dict.fromkeys(sentences))
            yield Cause(words, several[0][0].entry, *parting.test)


def between(broken: Broken, parting: Parting, right: Chosen) -> Iterator[Cause]:
    """Yield each choice in which both sides differ."""
    for parameter, choice in parting.choices.items():
        both = parting.left[parameter], right[parameter]
        if both[0] != both[1] and choice.words:
            of_left, of_right = (
                f"{value:g}" if isinstance(value, float) else value for value in both
            )
            words = (
                f"{choice.words.format(broken.name)} {of_left} on the left and {of_right} on the "
                "right"
            )
            yield Cause(words, entry_of(parameter, choice, *both))


def entry_of(parameter: str, choice: Choice, left: Any, right: Any) -> str:
    """Return the register's entry of a choice in which both sides differ."""
    entries = (
        ACTIVATIONS_OF_ENTRIES.items() if parameter in ("activation", "before", "gated") else ()
    )
    return next((entry for name, entry in entries if name in left and name in right), choice.entry)


# Mistakes that are undone on the numbers that are shown


def other_places(broken: Broken) -> Iterator[Cause]:
    """The numbers are the same in other places."""
    (left, right), stage = broken.arrays, broken.item.stage
    if left.ndim == 2:
        entry = "output-layer-layout" if broken.kind == "dense" else "lstm-kernel-layout"
        yield Cause("the right side is the left one transposed", entry, right.T, left)
    if right.shape != left.shape or not left.ndim:
        return
    if left.ndim > 2 and not broken.item.is_output:
        for axes in permutations(range(left.ndim)) if left.ndim < 5 else ():
            turned = right.transpose(axes)
            words = ", ".join(str(axes.index(axis)) for axis in range(left.ndim))
            if turned.shape == left.shape and axes != (*range(left.ndim),):
                sentence = f"the right side is the left one with its axes in the order {words}"
                yield Cause(sentence, "", turned, left)
        spatial = tuple(range(left.ndim - 2))
        yield Cause("the right side is the left one flipped", "", np.flip(right, spatial), left)
    if left.ndim == 2:
        reshaped = "the right side was reshaped where it should have been transposed"
        yield Cause(reshaped, "lstm-kernel-layout", right.reshape(left.shape[::-1]).T, left)
    gates = GATES.get(broken.kind, ()) if not broken.item.is_output else ()
    for order in (
        permutations(range(len(gates))) if gates and left.shape[-1] % len(gates) == 0 else ()
    ):
        names = ", ".join(gates[order.index(place)] for place in range(len(gates)))
        words = f"the right side has the gates in the order {names}, expected {', '.join(gates)}"
        entry = "gru-gates" if broken.kind == "gru" else "lstm-kernel-layout"
        blocks = right.reshape(*right.shape[:-1], len(gates), -1)
        yield Cause(words, entry, blocks[..., list(order), :].reshape(right.shape), left)
    for axis, words in ((0, "rows"), (-1, "units" if broken.item.is_output else "columns")):
        of_left, of_right = (np.moveaxis(array, axis, 0) for array in (left, right))
        if left.ndim > -axis and 1 < len(of_left) <= 100_000 and left.size < 1 << 24:
            sorts = (
                np.lexsort(array.reshape(len(array), -1)[:, :8].T) for array in (of_left, of_right)
            )
            left_order, right_order = sorts
            entry = "shuffling" if stage == "tensors" else ""
            sentence = f"the right side has the same {words} in another order"
            yield Cause(sentence, entry, of_right[right_order[np.argsort(left_order)]], of_left)


def exchanged(broken: Broken) -> Iterator[Cause]:
    """The right side's weight has the numbers of another weight of the left side."""
    right = broken.arrays[1]
    for pair, name in (
        broken.stages.tensors_of_pairs()
        if right.size > 1 and (right != right.flat[0]).any()
        else ()
    ):
        tensor = pair.tensor(0, name)
        left = pair.left_array(name) if tensor and tensor.shape == right.shape else None
        if left is not None and (pair is not broken.item.pair or name != broken.item.name):
            yield Cause(
                f"the right side has the numbers of {pair.name} {name} of the left side",
                "",
                right,
                left,
            )


def rounded(broken: Broken) -> Iterator[Cause]:
    """One side's weight is the other side's,
    rounded to a coarser type than the record has it in."""
    left, right = broken.arrays
    if right.dtype != left.dtype:
        return
    for words, source, finer, seen in (
        ("right", "left", left, right),
        ("left", "right", right, left),
    ):
        for dtype, change in COARSER_TYPES.items() if is_number(finer) else ():
            sentence = f"the {words} side has the numbers of the {source} one rounded to {dtype}"
            yield Cause(sentence, "array-dtype", change(finer).astype(np.float64), seen)


def elsewhere(broken: Broken) -> Iterator[Cause]:
    """The right side's array is another of the left side's inputs."""
    for name, array in broken.stages.left.arrays("inputs").items():
        if name != broken.item.tensor:
            other_batch = name.startswith("batch") or broken.item.tensor.startswith("batch")
            words = (
                f"it is {name} of the left side{', so another batch is fed' if other_batch else ''}"
            )
            yield Cause(words, "shuffling" if other_batch else "", array, broken.arrays[1])


def dropped(broken: Broken) -> Iterator[Cause]:
    """The inputs of a layer agree if a dropout,
    whose output may have been added to something, gives its input."""
    for both, (place, path, cause) in product(given_otherwise(broken), dropouts(broken)):
        side = broken.sides[place]
        for call in side.called.get(path, []):
            names = [*islice(call.inputs.values(), 1), *call.parts[:1]]
            arrays = [side.arrays("layers").memory_map(name) for name in names]
            if len(arrays) == 2 and arrays[0].shape == arrays[1].shape == both[place].shape:
                yield replace(
                    cause, made=both[place] + (arrays[0] - arrays[1]), seen=both[1 - place]
                )


def multiplied(broken: Broken) -> Iterator[Cause]:
    """The inputs of a layer are a multiple; or its outputs, where float32 explains it."""
    arrays = [("takes", *both) for both in given_otherwise(broken)]
    arrays += [("gives", *broken.arrays)] if broken.item.is_output else []
    for verb, *both in arrays:
        left, right = (array.astype(np.float64) for array in both)
        ratio = (
            float((right * left).sum() / ((left**2).sum() or 1.0))
            if left.shape == right.shape
            else 1.0
        )
        what = f"what {broken.name} {verb} is"
        if 0 < abs(ratio - 1) < np.finfo(np.float32).eps:
            words = f"{what} multiplied by a number that is rounded to float32 on one side"
            yield Cause(words, "array-dtype", ratio * left, right)
        elif verb == "takes" and ratio != 1:
            yield Cause(f"{what} {ratio:.6g} times as large on the right", "", ratio * left, right)


def shifted(broken: Broken) -> Iterator[Cause]:
    """The right side's embedding is given other ids or positions, as those that begin at 1."""
    for both in given_otherwise(broken) if broken.kind == "embedding" else ():
        left, right = (array.astype(np.int64) for array in both)
        more = int((right - left).flat[0])
        words = (
            f"what {broken.name} is given is {abs(more)} {'more' if more > 0 else 'less'} on the "
            "right"
        )
        if more:
            yield Cause(words, "", left + more, right)


# In the order in which they are tried and told.
CAUSES: dict[str, tuple[Callable[[Broken], Iterator[Cause]], ...]] = {
    "tensors": (elsewhere, other_places, facts.of_other_type, facts.multiple),
    "weights": (
        exchanged,
        rounded,
        other_places,
        facts.paired_by_order,
        facts.of_other_type,
        facts.few_rows,
        facts.multiple,
        settings_differ,
    ),
    "forward": (
        other_places,
        dropped,
        multiplied,
        shifted,
        partial(parted, forward),
        settings_differ,
        facts.called_within,
        facts.called_between,
        facts.where_in_it,
        facts.drops,
        facts.of_other_type,
        facts.multiple,
        facts.found_elsewhere,
    ),
    "loss": (partial(parted, losses), facts.multiple, facts.of_other_type),
    "gradients": (
        other_places,
        facts.trained_on_one_side,
        facts.few_rows,
        facts.multiple,
        settings_differ,
        facts.drops,
        facts.of_rounded_gradients,
    ),
    "step": (settings_differ, step_differs, facts.multiple),
    "trajectory": (facts.rates_differ, facts.when, optimizers_differ, facts.drops),
}
