"""Facts about a stage that breaks, and what to record next."""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial
from itertools import islice, permutations, product

import numpy as np

from rosetta_diff.activations import ACTIVATIONS
from rosetta_diff.arrays import head, largest, pieces
from rosetta_diff.explain.broken import Broken, Cause, dropouts
from rosetta_diff.explain.inputs import (
    WEIGHTED,
    bare_calls,
    computed_before,
    given_otherwise,
    given_the_same,
)
from rosetta_diff.explain.settings import settings_between, settings_differ
from rosetta_diff.judge.check import judge
from rosetta_diff.pair.drafts import (
    MOST_TURNED,
    find_rearranged,
    line_of,
    line_of_axes,
    line_of_turn,
)
from rosetta_diff.pair.pairs import LayerPair
from rosetta_diff.read.description import RecordedWeight
from rosetta_diff.read.groups import WeightGroup
from rosetta_diff.read.rules import RECURRENT
from rosetta_diff.read.side import is_within

ONE_IN_FLOAT32 = float(np.finfo(np.float32).eps)


# Weights and their pairs


def propose_lines(broken: Broken) -> Iterator[Cause]:
    """The layer's weights have the same numbers in different places,
    for which the layer may be made."""
    for pair in find_rearranged(broken.item.pair) if broken.item.pair else ():
        words = (
            "if the right layer computes with them where they are, --write-mapping writes this for "
            "--mapping"
        )
        yield Cause(f"both sides hold the same numbers: {line_of(pair)}; {words}")


def with_turned_axes(broken: Broken) -> Iterator[Cause]:
    """Both sides agree where the right one's axes are turned,
    which a mapping may say and nothing else can tell."""
    left, right = broken.item.left(), broken.item.right()
    if right is None or left is None or right.ndim != left.ndim or left.ndim > MOST_TURNED:
        return
    name = broken.item.name_of_axes
    if line_of_turn(name, left.shape, right.shape):
        return  # the check has told it
    axes = tuple((letter,) for letter in "abcde"[: left.ndim])
    for order in islice(permutations(range(left.ndim)), 1, None):  # the first one is as they stand
        way = partial(np.transpose, right, order)
        if way().shape == left.shape and judge(replace(broken.item, right=way)).passed:
            line = line_of_axes(
                name, axes, tuple(axes[order.index(place)] for place in range(left.ndim))
            )
            yield Cause(
                "both sides agree with axes turned so; if that is meant, a mapping file "
                f"says [axes] {line}"
            )


def called_between(broken: Broken) -> Iterator[Cause]:
    """The calls of layers without weights right before the layer that is shown: settings that
    differ, and the last one where the other side's layer takes what is given to it. Another side
    may call functions, which are unknown."""
    calls = [bare_calls(broken, place) for place in range(len(broken.groups))]
    if not any(calls) or given_the_same(broken):
        return
    for place, of_side in enumerate(calls) if len(calls[0]) != len(calls[1]) else ():
        has, lacks = ("left", "right")[:: 1 - 2 * place]
        for last, both in product(of_side[-1:], given_otherwise(broken)):
            start = (
                f"before {broken.name} the {has} side calls {last.layer.classes[0]} {last.name}, "
                f"the {lacks} side"
            )
            given = (
                name for call in last.calls for name in islice(call.recorded[0].inputs.values(), 1)
            )
            for made in map(last.side.arrays("layers").memory_map, given):
                yield Cause(f"{start} does not", "", made, both[1 - place])
    if all(calls):
        words = [
            " and ".join(f"{of.layer.classes[0]} {of.name}" for of in of_side) for of_side in calls
        ]
        if words[0] != words[1]:
            yield Cause(
                f"before {broken.name} the left side calls {words[0]}, the right side {words[1]}"
            )
    yield from settings_between_calls(calls)


def settings_before(broken: Broken) -> Iterator[Cause]:
    """Settings that differ of calls of layers without weights right before the layer that is shown,
    where that is given something else."""
    calls = [bare_calls(broken, place) for place in range(len(broken.groups))]
    if any(calls) and not given_the_same(broken):
        yield from settings_between_calls(calls)


def settings_between_calls(calls: Sequence[Sequence[WeightGroup]]) -> Iterator[Cause]:
    """Settings that differ of the calls of both sides: in their order where there are as many, else
    of the kinds that each side calls once."""
    of_kinds = [Counter(of.kind for of in of_side) for of_side in calls]
    alone = [kind for kind, number in of_kinds[0].items() if number == of_kinds[1][kind] == 1]
    of_one_kind = [
        (left, right) for left in calls[0] for right in calls[1] if left.kind == right.kind in alone
    ]
    for left, right in zip(*calls, strict=True) if len(calls[0]) == len(calls[1]) else of_one_kind:
        for _, cause in settings_between(left, right):
            yield replace(cause, sentence=f"of {left.name} {cause.sentence}")


def called_within(broken: Broken) -> Iterator[Cause]:
    """Layers without weights that the layer which is shown calls itself, such as a norm its
    activation, of one name and of two classes."""
    if broken.kind not in WEIGHTED:
        return
    inner = []
    for group in broken.groups:
        within = (
            layer for layer in group.side.says.layers if is_within(layer.path, group.layer.path)
        )
        own = [
            layer
            for layer in within
            if not layer.own and layer.classes and layer.path in group.side.called
        ]
        inner.append({layer.path.removeprefix(group.layer.path): layer for layer in own})
    for left, right in [(inner[0][name], inner[1][name]) for name in inner[0] if name in inner[1]]:
        kinds = left.classes[0], right.classes[0]
        if kinds[0] != kinds[1]:
            words = (
                f"within {broken.name} the left side calls {kinds[0]} {left.path}, the right side "
                f"{kinds[1]}"
            )
            call = broken.sides[0].called[left.path][0]
            activation = kinds[1].rpartition(".")[2].lower()
            given = [
                *map(broken.sides[0].arrays("layers").memory_map, islice(call.inputs.values(), 1))
            ]
            is_first = not (broken.item.call and broken.item.call.left.number)
            made = (
                ACTIVATIONS[activation](given[0])
                if given and is_first and activation in ACTIVATIONS
                else None
            )
            yield Cause(words, "", made, None if made is None else broken.arrays[1])


def found_elsewhere(broken: Broken) -> Iterator[Cause]:
    """Layers up to the one that breaks that were paired by their numbers, run in another order on
    the right, and give other outputs, as far as their outputs are compared."""
    order = {path: place for place, path in enumerate(broken.sides[1].called)}
    pairs, differ = broken.stages.pairing.pairs, {id(check.item.pair) for check in broken.failed}
    end = next((place for place, pair in enumerate(pairs) if pair is broken.item.pair), len(pairs))
    last, moved = -1, ""
    for pair in [*pairs[: end + 1], *(pair for pair in pairs[end + 1 :] if id(pair) in differ)]:
        places = [order[layer.path] for layer in pair.right.layers if layer.path in order]
        if (
            pair.how == "value"
            and places
            and (id(pair) in differ or not outputs_are_compared(pair))
        ):
            if places != sorted(places) or places[0] < last:
                moved = moved or f"{pair.name} has the numbers of {' + '.join(pair.right.names)}"
            last = places[0]
    if moved:
        words = (
            "which run in another order on the right: are they exchanged, there or in the weights?"
        )
        yield Cause(f"{moved}, {words}")


def outputs_are_compared(pair: LayerPair) -> bool:
    """Return True if the outputs of a pair are compared call by call."""
    return any(left.keys() & right.keys() for left, right in map(pair.outputs, pair.calls[:1]))


def paired_by_order(broken: Broken) -> Iterator[Cause]:
    """Nothing but their order paired the layers, so the weights may be those of another layer."""
    pair = broken.item.pair
    if pair and pair.how == "order":
        words = (
            "were paired by the order in which layers of their kind and shape ran; a line of "
            "[layers] pairs others"
        )
        yield Cause(f"{pair.left.name} and {pair.right.name} {words}")


# Numbers


def of_other_type(broken: Broken) -> Iterator[Cause]:
    left, right = broken.arrays
    if right.dtype != left.dtype and right.size:
        plain = Cause(f"the right side is {right.dtype}, the left one {left.dtype}", "array-dtype")
        made = [
            Cause(f"{group.layer.path} {deviation.words}", deviation.entry)
            for group in broken.groups
            for kind in group.layer.classes[:1]
            if (deviation := group.side.framework.made_in_float32.get(kind))
        ]
        yield made[0] if made else plain
    elif (
        broken.stages.tolerances.precision == "float64" and broken.check.error < 4 * ONE_IN_FLOAT32
    ):
        entries = [
            group.side.framework.float32_within[kind]
            for group in broken.groups
            for layer in group.side.says.layers
            if group.layer.path.startswith(f"{layer.path}.")
            for kind in layer.classes
            if kind in group.side.framework.float32_within
        ]
        words = "the difference is as small as the rounding of float32"
        yield Cause(words, entries[0] if entries else "array-dtype")


def multiple(broken: Broken) -> Iterator[Cause]:
    """One side is a multiple of the other."""
    left, right = (head(array).astype(np.float64) for array in broken.moved)
    if (
        right.shape != left.shape
        or not left.any()
        or not np.isfinite([right.sum(), left.sum()]).all()
    ):
        return
    scaled = left / largest(left)  # so that no square is too large
    ratio = float((right * scaled).sum() / (left * scaled).sum())
    if ratio and abs(ratio - 1) > 1e-6 and broken.criterion.explains(ratio * left, right):
        every = "every update" if broken.item.is_update else "every number"
        what = "the loss" if broken.item.stage == "loss" else every
        entry = "" if broken.item.is_output else "padding-denominator"
        yield Cause(f"on the right {what} is {ratio:.6g} times that of the left", entry)


def few_rows(broken: Broken) -> Iterator[Cause]:
    """All but a few rows of an embedding agree, perhaps those of a tied layer's kernel,
    which are its columns."""
    for check in broken.failed:
        item, left, right = check.item, check.item.left(), check.item.right()
        if item.pair is None or item.pair.left.kind != "embedding" or right is None or left is None:
            continue
        if right.shape == left.shape and left.ndim == 2:
            allowed = check.tolerance * item.scale_of(left)
            rows = [
                piece.start + row
                for piece in pieces(left.shape)
                for row in np.flatnonzero(
                    np.abs(right[piece].astype(np.float64) - left[piece]).max(1) > allowed
                )
            ]
            if len(rows) < min(len(left), 4):
                which = (
                    f"row {rows[0]} differs"
                    if len(rows) == 1
                    else f"the rows {', '.join(map(str, rows))} differ"
                )
                zero = [
                    words
                    for words, array in (("left", left), ("right", right))
                    if not array[rows].any()
                ]
                and_is = (
                    f" and is zero on the {zero[0]} only" if len(zero) == len(rows) == 1 else ""
                )
                yield Cause(f"of {item.pair.name} only {which}{and_is}", "padding-idx")


def where_in_it(broken: Broken) -> Iterator[Cause]:
    """The time step at which a recurrent layer begins to differ,
    and whether only rows with padding do."""
    left, right = broken.arrays
    if right.shape != left.shape or left.ndim < 2 or broken.kind == "embedding":
        return
    differs = np.abs(
        right.astype(np.float64) - left
    ) > broken.check.tolerance * broken.item.scale_of(left)
    if broken.kind in RECURRENT and left.ndim == 3:
        yield Cause(
            f"the first time step at which it differs is {int(differs.any((0, 2)).argmax())}"
        )
    rows = differs.reshape(len(left), -1).any(1)
    for name, array in broken.padded_inputs():
        padded = (array == 0).any(1)
        if not padded.all() and np.array_equal(rows, padded):
            yield Cause(
                f"only the rows differ whose {name} have a 0, which may be padding",
                "attention-mask",
            )
            return


# Training


def trained_on_one_side(broken: Broken) -> Iterator[Cause]:
    """One side alone has a gradient of a weight."""
    left, right = broken.item.left(), broken.item.right()
    if not broken.item.pair or (left is None) == (right is None):
        return
    has, lacks, place = ("left", "right", 1) if right is None else ("right", "left", 0)
    group, name = broken.groups[place], broken.item.name
    tensor = broken.item.pair.tensor(place, name)
    arrays = tensor.names if tensor else ()
    weights = [group.side.says.weights.get(array, RecordedWeight()) for array in arrays]
    why = (
        "the loss does not depend on it"
        if any(weight.trainable for weight in weights)
        else "it is frozen"
    )
    yield Cause(f"{broken.item.tensor} is trained on the {has} only: on the {lacks} {why}")


def drops(broken: Broken) -> Iterator[Cause]:
    """The first layer of each side that drops at random during the recorded pass."""
    for side in range(2):
        yield from islice((cause for place, _, cause in dropouts(broken) if place == side), 1)


def when(broken: Broken) -> Iterator[Cause]:
    """At which step losses part: a loss is computed before its step's update."""
    left, right = broken.arrays
    if broken.item.pair is not None or right.shape != left.shape or not broken.check.where:
        return
    part = ~(np.abs(right - left) <= broken.check.tolerance * np.abs(left)) & ~(
        np.isnan(right) & np.isnan(left)
    )
    first = int(part.argmax()) + 1
    if first == 2:
        kept = "something kept between steps or random, such as a recurrent state"
        words = f"it is of another batch, or of {kept}, or clipped"
        yield Cause(
            f"the weights after step 1 agree and the loss of step 2 does not: {words}", "shuffling"
        )
    elif first > 2:
        words = (
            f"the update of step {first - 1}, or the batch or the loss of step {first}, is another"
        )
        yield Cause(f"the losses part at step {first}, so {words}", "optimizer-slots")


def rates_differ(broken: Broken) -> Iterator[Cause]:
    """The first step of which the learning rates differ."""
    left, right = (side.rates for side in broken.sides)
    for step in [
        step
        for step in left
        if step in right and not np.isclose(left[step], right[step], 1e-6, 0.0)
    ][:1]:
        words = f"{left[step]:g} on the left and {right[step]:g} on the right"
        yield Cause(f"the learning rate of step {step} is {words}")


def of_rounded_gradients(broken: Broken) -> Iterator[Cause]:
    """Layers whose gradients have a constant of float32."""
    for side in broken.sides if broken.check.error < 4 * ONE_IN_FLOAT32 else ():
        for kind, (factor, entry) in side.framework.float32_gradients.items():
            paths = [layer.path for layer in side.says.layers if kind in layer.classes]
            if paths:
                of_kind = f"the gradients of {kind}, such as {paths[-1]},"
                yield Cause(
                    f"{side.framework.name} multiplies {of_kind} by {factor} in float32", entry
                )


def next_record(broken: Broken) -> str:
    """Return what shows more where no cause passed its test; "" where nothing does."""
    sides, stage = broken.sides, broken.item.stage
    if not np.isfinite(broken.check.error):
        return ""
    if stage == "forward":
        # Of a framework.
        attentions = [group.layer.path for group in broken.groups if group.part == "output"]
        name = attentions[0] if attentions else broken.name
        if given_the_same(broken):
            words = (
                f"{name} is given the same on both sides, so it differs inside: compare its "
                "settings"
            )
            if [*settings_differ(broken), *called_within(broken)]:
                return ""
            classes = [group.layer.classes[0] for group in broken.groups if group.layer.classes]
            if all("." in name for name in classes):  # none is the framework's own
                return f'{words}, or tap what it computes, as by tap("scores", scores)'
            return words
        if len(attentions) == 1:
            return f"compare the settings of {name}, and tap what it is given on both sides"
        before = [*computed_before(broken)[0]][:1]
        where = f"between {before[0]} and {name}" if before else f"before {name}"
        return (
            f'tap what is computed {where} on both sides, as by tap("scores", scores) of '
            "rosetta_record"
        )
    if stage == "loss" and not (sides[0].arrays("inputs") and sides[0].arrays("outputs")):
        return (
            "record targets with record.inputs and outputs with record.forward: the loss is "
            "computed from them"
        )
    if broken.item.is_statistic:
        return ""
    if stage == "step" and not all(side.arrays("gradients") for side in sides):
        return (
            "record the gradients of both sides with record.gradients, then the step is computed "
            "anew"
        )
    several = any(len(array) > 1 for array in sides[0].arrays("inputs").values() if array.ndim)
    what, of = ("without padding", "positions") if [*broken.padded_inputs()] else ("alone", "rows")
    return {
        "loss": "give the loss of each position to record.forward by name on both sides, or return "
        "it from loss_of",
        "gradients": f"record a batch of one row {what}: if it agrees, {of} are weighed otherwise"
        if several
        else "",
        "step": "call record.gradients before gradients are clipped, and record.optimizer right "
        "after the step",
        "trajectory": "load the weights from before the step that parts, and record that step as "
        "the first",
    }.get(stage, "")
