"""Computations that may have made the output that is shown: operators with the recorded arrays, and
with the recorded settings before the usual ones."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from inspect import signature
from math import prod
from typing import Any

import numpy as np

from rosetta_diff.activations import ACTIVATIONS, ALONE
from rosetta_diff.arrays import Array
from rosetta_diff.explain import operators
from rosetta_diff.explain.broken import Broken, number
from rosetta_diff.explain.inputs import IS_GIVEN, NORMS, Context, Input, contexts, inputs_of
from rosetta_diff.explain.operators import BASES, OPERATORS, PROJECTIONS
from rosetta_diff.explain.search import Both, Choice, Computation, Operator, choice, choices_of

COST_OF_SCORE = 256  # multiplications as long as the scores of two positions
# How models of one's own call settings.
HEADS = ("num_heads", "n_heads", "heads", "n_head", "num_attention_heads")
BASES_OF_ROPE = ("base", "rope_theta", "theta", "rope_base")
UNUSUAL, OTHERWISE = (3, 2)  # choices that may be unusual on the left, and otherwise on the right


def forward(broken: Broken) -> Iterator[Both]:
    """Yield for each form what both sides may compute."""
    sides = contexts(broken)
    for form in FORMS if sides else ():
        lefts, rights = map(list, map(form, sides))
        yield lefts, rights, (UNUSUAL, OTHERWISE)


# The layer that is shown, and what it takes


def operator_of(context: Context) -> tuple[Operator, int] | None:
    """Return the operator of the layer's kind with the recorded weights, and the width of what it
    takes; None where nobody here can compute it."""
    weights, kind = context.weights, context.group.kind
    if kind not in OPERATORS:
        return None
    parameters = signature(OPERATORS[kind]).parameters
    bound = {name: weights[name] for name in parameters if name in weights}
    name = "kernel" if kind == "dense" else "gamma"
    return (partial(OPERATORS[kind], **bound), len(weights[name])) if name in weights else None


def read_choices(broken: Broken, choice: Choice) -> list[Any]:
    """Return a setting of the layer on the left and on the right,
    where it is a value that an operator may have."""
    values = broken.settings(choice.setting)
    return [value for value in values if value in choice.values or isinstance(value, int | float)]


def choices_with_settings(context: Context, operator: Operator) -> dict[str, Choice]:
    """Return an operator's choices, with what is recorded before what is usual."""
    usual = choices_of(operator)
    first = {
        name: read_choices(context.broken, choice)
        for name, choice in usual.items()
        if choice.setting
    }
    if context.group.kind in NORMS:
        known = [*first["epsilon"], *usual["epsilon"].values]
        first["epsilon"] += [
            of for of in epsilons(context) if not np.isclose(of, known, 0.05, 0.0).any()
        ]
    if "activation" in first:  # within a layer, which another framework has after it
        first["activation"] = [name for name in first["activation"] if name != "linear"]
    return choices_of(
        operator, **{name: [*first.get(name, ()), *choice.values] for name, choice in usual.items()}
    )


def epsilons(context: Context) -> Iterator[float]:
    """Yield the epsilon that follows from what a norm of each row was given and gave,
    to three digits."""
    gain, shift = context.weights["gamma"], context.weights.get("beta", 0.0)
    for x in context.given:
        if x.shape == context.output.shape and x.shape[-1:] == gain.shape:
            centered = x - x.mean(-1, keepdims=True) if context.group.kind == "layernorm" else x
            square = (gain * centered / (context.output - shift)) ** 2 - (centered**2).mean(
                -1, keepdims=True
            )
            yield float(f"{np.nanmedian(square):.3g}")


def taken(
    inputs: Mapping[str, Input],
    operator: Operator,
    *,
    takes: str = choice("{} takes"),
    before: str = choice("the activation before {} is", tuple(ACTIVATIONS)),
    gated: str = choice(
        "the activation of what a gate multiplies before {} is", ("linear", "tanh", "sigmoid")
    ),
    **choices: Any,
) -> Array | None:
    """Return the output of an operator that takes one of these inputs."""
    taken = inputs[takes]
    # A gate is what has the activation, where one of two factors has one.
    misfits = (
        gated != "linear" if taken.gate is None else before in ALONE or before == "linear" != gated
    )
    if misfits:
        return None
    x = (ACTIVATIONS | ALONE)[before](taken.array)
    return operator(x if taken.gate is None else x * ACTIVATIONS[gated](taken.gate), **choices)


def layer_of(
    context: Context,
    operator: Operator,
    choices: Mapping[str, Choice],
    inputs: Mapping[str, Input],
    activations: Sequence[str] = (*ACTIVATIONS, *ALONE),
) -> Iterator[Computation]:
    """Yield what the layer makes of one of these inputs, in the rows that are tried."""
    output = context.picked(context.output)
    if not inputs or output is None:
        return
    choices = choices_of(taken, takes=[*inputs], before=activations) | dict(choices)
    if not context.has_weights:
        choices["before"] = replace(choices["before"], words="the activation before or in {} is")
    each = max(
        (array.size // max(1, array.shape[-1]) for array in context.weights.values()), default=1
    )
    yield Computation(partial(taken, inputs, operator), choices, output, output.size * each)


# The forms in which a side may have made what is shown


def of_given(context: Context) -> Iterator[Computation]:
    """A layer that takes what it was given."""
    known = operator_of(context)
    x = context.picked(context.given[0]) if known and len(context.given) == 1 else None
    if known and x is not None and x.shape[-1] == known[1]:
        choices = choices_with_settings(context, known[0])
        yield from layer_of(context, known[0], choices, {"": Input([x])}, ["linear"])


def taker(context: Context) -> tuple[Context, Operator, dict[str, Choice], int] | None:
    """Return what is explained, the operator that makes it of what the layer takes, its choices,
    and the width of what it takes: what the layer is given where that is recorded, or else what it
    gives. None where nobody here can compute that."""
    if len(context.given) == 1 and context.has_weights:
        return replace(context, output=context.given[0]), np.asarray, {}, context.given[0].shape[-1]
    known = operator_of(context)
    if known:
        return context, known[0], choices_with_settings(context, known[0]), known[1]
    operator = operators.unchanged
    return (
        None
        if context.has_weights
        else (context, operator, choices_of(operator), context.output.shape[-1])
    )


def of_before(context: Context) -> Iterator[Computation]:
    """A layer that takes what is recorded before it."""
    of = taker(context)
    if of:
        yield from layer_of(*of[:3], inputs_of(of[0], of[3]))


def of_attention(context: Context) -> Iterator[Computation]:
    """A dense layer, or one without weights,
    that takes an attention of queries, keys and values."""
    of = taker(context) if context.group.kind == "dense" or context.is_bare else None
    if of is None:
        return
    shown, operator, choices, width = of
    output = shown.output
    layer = partial(operator, **{name: choice.values[0] for name, choice in choices.items()})
    for parts in projections(context, width):
        if prod(output.shape[:-1]) == prod(parts[0].shape[:2]):
            wanted = output.reshape(*parts[0].shape[:2], -1)
            yield attention_of(context, layer, wanted, parts)


def attention_of(
    context: Context, layer: Operator, output: Array, parts: Sequence[Array]
) -> Computation:
    """A layer that takes an attention of these queries, keys and values (N, T, ...). As most
    choices are wrong, the row of the batch in which the sides differ most is computed first."""
    (rows, queries, width), keys = parts[0].shape, parts[1].shape[1]
    masks = masks_of(context, queries, keys)
    choices = choices_of_attention(context, width, masks)

    def of_rows(some: slice) -> Computation:
        of_masks = {
            name: mask[some] if mask.ndim == 4 and len(mask) > 1 else mask
            for name, mask in masks.items()
        }
        attended = partial(operators.attention, [part[some] for part in parts], width, of_masks)
        work = output[some].size * width + len(parts[0][some]) * queries * keys * (
            width + COST_OF_SCORE
        )
        return Computation(partial(through, layer, attended), choices, output[some], work)

    row = row_that_differs(context, rows)
    return replace(of_rows(slice(None)), sample=of_rows(slice(row, row + 1)))


def through(layer: Operator, attended: Operator, **choices: Any) -> Array | None:
    """Return the output of a layer that takes an attention."""
    output = attended(**choices)
    return None if output is None else layer(output)


def row_that_differs(context: Context, rows: int) -> int:
    """Return the first of so many rows of a batch in which the sides differ most."""
    left, right = (array[:rows].astype(np.float64) for array in context.broken.arrays)
    if left.shape != right.shape or len(left) != rows:
        return 0
    return int(np.abs(right - left).reshape(rows, -1).max(-1).argmax())


def choices_of_attention(
    context: Context, width: int, masks: Mapping[str, Array]
) -> dict[str, Choice]:
    settings = [layer.settings for side in context.broken.sides for layer in side.says.layers]
    bases = [
        base for of in settings for name in BASES_OF_ROPE if (base := number(of.get(name))) > 1
    ]
    sizes = [size for size in range(1, width + 1) if width % size == 0]
    heads = [int(value) for of in settings for name in HEADS if (value := of.get(name)) in sizes]
    known: dict[str, Sequence[Any]] = {
        "heads": [*heads, *sizes],
        "mask": [*masks],
        "base": [*bases, *BASES],
    }
    if context.group.part == "output":  # a framework's own layer has these as usual
        usual = choices_of(operators.attention)
        known |= {name: usual[name].values[:1] for name in ("rope", "base")}
    return choices_of(operators.attention, **known)


def projections(context: Context, width: int) -> Iterator[list[Array]]:
    """Yield query, key and value (N, T, ...) that an attention may take: computed with a
    framework's own weights, or three outputs of other layers, or one that has all, one after the
    other."""
    layer = context.group.layer
    groups = {
        pair.left.part: pair.left
        for pair in context.broken.stages.pairing.pairs
        if pair.left.layer is layer
    }
    if context.group.part == "output" and {*PROJECTIONS} <= groups.keys():
        parts = []
        for x, group in zip(context.given, map(groups.__getitem__, PROJECTIONS), strict=False):
            kernel, bias = group.tensor("kernel"), group.tensor("bias")
            if kernel is not None and x.ndim == 3 and x.shape[-1] == len(kernel):
                parts.append(x @ kernel + (0 if bias is None else bias))
        if len(parts) == len(PROJECTIONS):
            yield parts
        return
    outputs = [array for name, array in context.before.items() if not name.endswith(IS_GIVEN)]
    # Heads may have an axis of their own.
    wide = [a.reshape(*a.shape[:2], -1) for a in outputs if a.ndim in (3, 4)]
    for v, k, q in zip(wide, wide[1:], wide[2:], strict=False):
        if q.shape[-1] == width and k.shape == v.shape and width % k.shape[-1] == 0:
            yield [q, k, v]
    for array in wide:
        of_keys = (array.shape[-1] - width) // 2
        if of_keys > 0 and array.shape[-1] == width + 2 * of_keys and width % of_keys == 0:
            yield np.split(array, [width, width + of_keys], -1)


def masks_of(context: Context, queries: int, keys: int) -> dict[str, Array]:
    """Return what may be added to the scores (N, H, T, S), by what a cause calls it."""
    past = np.arange(keys) - np.arange(queries)[:, None]
    seen = {
        "none": np.ones((1, 1), bool),
        "causal": past <= 0,
        "causal, one position too far": past <= 1,
    }
    seen |= {"causal without the position itself": past < 0, "of what is past": past >= 0}
    for name, ids in context.ids.items():
        if ids.ndim == 2 and ids.shape[1] == keys and 0 < (ids == 0).sum() < ids.size:
            real = (ids != 0)[:, None, None]
            for words, of in ((f"where {name} is not 0", real), (f"where {name} is 0", ~real)):
                seen |= {words: of, f"causal and {words}": of & (past <= 0)}
        if ids.ndim == 1 and 0 < ids.min() <= ids.max() <= keys and ids.min() < keys:
            seen[f"of as many positions as {name} says"] = (np.arange(keys) < ids[:, None])[
                :, None, None
            ]
    masks = {name: np.where(array, 0.0, -np.inf) for name, array in seen.items()}
    return masks | {
        f"1 {name} and else 0, added": 1.0 * array
        for name, array in seen.items()
        if name[:5] == "where"
    }


FORMS = (of_given, of_before, of_attention)
