"""Rules by which arrays that are not equal within their bound are compared in another form,
or within a wider one.

`judged` tries the rules of a stage on an item that fails, in their order,
and the check has those that it needed.
"""

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from math import inf, prod

import numpy as np

from rosetta_diff.arrays import Array, Load, largest
from rosetta_diff.judge import rules
from rosetta_diff.judge.bounds import DETERMINED, NOISES_OF_GRADIENTS, SMALLEST_DETERMINED
from rosetta_diff.judge.check import Check, Item, judge
from rosetta_diff.judge.items import Stages, rounding_of_start
from rosetta_diff.judge.outputs import activations, without_ones
from rosetta_diff.judge.rules import Rule
from rosetta_diff.judge.tolerances import rounding_of_momentum
from rosetta_diff.read.groups import values


def judge_by_rules(stages: Stages, item: Item) -> Check:
    """Compare the arrays of an item, by the rules of its stage
    where they are not equal within its bound.

    A check that fails has those of its rules that tell the form of its arrays.
    """
    check, needed = judge(item), list[Rule]()
    for rule, loosen in LOOSER.get(item.stage, ()):
        if check.passed:
            break
        looser = loosen(stages, item)
        if looser is not item:
            item, needed = looser, [*needed, rule]
            check = judge(item)
    return replace(
        check, rules=tuple(rule for rule in needed if check.passed or rule in rules.FORMS)
    )


def apply_all_rules(stages: Stages, item: Item) -> Item:
    """Return an item as all rules of its stage have it."""
    for _, loosen in LOOSER.get(item.stage, ()):
        item = loosen(stages, item)
    return item


# Each returns another item, or the same one where it does not apply.


def compare_as_carried(_: Stages, item: Item) -> Item:
    """Compare a weight that a mapping scales as the right side keeps it, if it is equal there:
    `carry` rounds on the way there, or on the way back."""
    assert item.pair
    weight, left = item.pair.weights.get(item.name), item.pair.left_array(item.name)
    if weight is None or not weight.is_scaled or left is None:
        return item
    stored = partial(values, item.pair.right.side, weight.right)
    right = stored()
    if right is None or not np.array_equal(weight.from_left(left), right):
        return item
    return replace(item, left=partial(weight.from_left, left), right=stored)


def activate_output(_: Stages, item: Item) -> Item:
    """Activate the output of the side whose layer lacks the activation
    that the other one has in it."""
    changes = activations(item.pair) if item.pair and item.call else None
    if changes is None or changes == (np.asarray, np.asarray):
        return item

    def changed(change: Callable[[Array], Array], load: Load) -> Load:
        return lambda: None if (array := load()) is None else change(array)

    return replace(item, left=changed(changes[0], item.left), right=changed(changes[1], item.right))


def drop_axes_of_one(_: Stages, item: Item) -> Item:
    """Give a right array of the model the left one's axes of one number,
    if they differ in nothing else."""
    left, right = item.left(), item.right()
    if item.pair or left is None or right is None or left.shape == right.shape:
        return item
    if without_ones(left) != without_ones(right):
        return item
    return replace(item, right=lambda: right.reshape(left.shape))


def settle_ties(stages: Stages, item: Item) -> Item:
    """Put left numbers in the place of right ones where each side has the best of its scores, which
    are compared themselves. So either may be the best by rounding alone."""
    left, right = item.left(), item.right()
    if (
        item.pair
        or not item.bound.quantity
        or left is None
        or right is None
        or left.shape != right.shape
    ):
        return item
    tokens = right
    for left_name, right_name in stages.named_pairs("outputs"):
        scores = (
            stages.left.arrays("outputs")[left_name],
            stages.right.arrays("outputs")[right_name],
        )
        if (
            scores[0].shape != scores[1].shape
            or scores[0].shape[:-1] != left.shape
            or not scores[0].shape[-1:] > (0,)
        ):
            continue
        best = [np.argmax(of, -1) for of in scores]
        tokens = np.where((best[0] == left) & (best[1] == tokens), left, tokens)
    return item if np.array_equal(tokens, right) else replace(item, right=lambda: tokens)


def measure_by_largest_gradient(stages: Stages, item: Item) -> Item:
    """Measure a small gradient by a share of the largest one. In float32 a control tells apart
    gradients of rounding alone, and how far rounding moves the others. Of a sum whose terms cancel
    it may show less than of most others, which then counts."""
    assert item.pair
    most, noise = stages.left.largest("gradients"), stages.noise.gradients.get(item.tensor, inf)
    gradient = item.pair.left_array(item.name, "gradients")
    if (
        stages.tolerances.precision != "float32"
        or gradient is None
        or noise > DETERMINED * largest(gradient)
    ):
        least = stages.tolerances.smallest_scale("gradients") * most
    else:
        of_noise = NOISES_OF_GRADIENTS * max(noise, stages.noise.of_most_gradients)
        bound = stages.tolerances.bound("gradients", item.tensor)
        least = max(SMALLEST_DETERMINED * most, of_noise / bound)
    return replace(item, bound=replace(item.bound, smallest_scale=least))


def measure_by_farthest_step(stages: Stages, item: Item) -> Item:
    """Measure a small update by a share of the largest one."""
    least = stages.tolerances.smallest_scale() * stages.farthest_step
    distance = stages.distance(item.pair, item.name) if item.pair else inf
    return replace(item, bound=replace(item.bound, scale=least)) if distance < least else item


def allow_explained(stages: Stages, item: Item) -> Item:
    """Allow what the accepted differences of gradients make of a step.

    No optimizer makes of an error of a gradient, as a share of it, a larger share of its update,
    from which weight decay, as a share of a weight, may have taken something; nor of an error of
    the norm of all gradients, by which some are clipped. An update is no larger than the farthest
    that the step moves a weight.
    """
    if item.pair is None:
        return item
    both = [
        array for file in ("gradients", "step-1") for array in item.pair.arrays(item.name, file)
    ]
    arrays = [
        np.atleast_1d(array)
        for array in (*both, item.pair.left_array(item.name))
        if array is not None
    ]
    if len(arrays) < 5 or any(array.shape != arrays[0].shape for array in arrays):
        return item
    decay, most = max(stages.left.decay, stages.right.decay), stages.farthest_step
    rounding = rounding_of_start(item.pair, item.name, stages.tolerances.unit)()

    def allowed(rows: slice) -> Array:
        left_gradient, right_gradient, left, right, start = (array[rows] for array in arrays)
        update = np.minimum(
            np.maximum(np.abs(left - start), np.abs(right - start)), most
        ) + decay * np.abs(start)
        size = np.maximum(np.abs(left_gradient), np.abs(right_gradient))
        share = np.abs(left_gradient - right_gradient) / np.maximum(size, np.finfo(size.dtype).tiny)
        return np.asarray(rounding(rows) + 2 * update * (share + stages.error_of_norm))

    return replace(item, bound=replace(item.bound, allowed=lambda: allowed))


def ignore_underflowing(stages: Stages, item: Item) -> Item:
    """Leave out the numbers in whose step the optimizer divides by rounding."""
    underflowing = stages.underflowing(item.pair, item.name) if item.pair else np.zeros(1, bool)
    if not underflowing.any():
        return item
    allowed = item.bound.allowed() if item.bound.allowed else lambda rows: np.array(0.0)

    def allowed_there(rows: slice) -> Array:
        return np.where(underflowing[rows], inf, allowed(rows))

    return replace(item, bound=replace(item.bound, allowed=lambda: allowed_there))


def allow_rounded_momentum(_: Stages, item: Item) -> Item:
    """Allow running statistics what a momentum makes that one side alone rounds to float32."""
    widest = 2 * rounding_of_momentum(item.pair) if item.pair and item.is_statistic else 0.0
    return (
        replace(item, bound=replace(item.bound, tolerance=widest))
        if widest > item.bound.tolerance
        else item
    )


def divide_as_on_left(_: Stages, item: Item) -> Item:
    """Convert the right side's running variance after a step from dividing by n to n - 1, or back.

    n is the number of rows and positions that the layer was given;
    the item stays where it is not known.
    """
    pair = item.pair
    if pair is None or item.name != "moving_variance":
        return item
    # True of a side that divides by n - 1
    by_less = [not group.side.framework.divides_by_n for group in pair.both]
    start, kept = pair.right_array(item.name), pair.right.settings.get("momentum")
    shapes = [
        pair.left.side.shape(call.parts[0], "layers") for call in pair.left.calls if call.parts
    ]
    was_updated = any(group.layer.training is not False for group in pair.both)
    if by_less[0] == by_less[1] or start is None or not was_updated:
        return item
    if not isinstance(kept, float) or not 0 <= kept < 1:
        return item
    n = prod(shapes[0]) // max(1, start.size) if len({*map(prod, shapes)}) == 1 else 0
    array = item.right()
    # It was not updated.
    if n < 2 or array is None or array.shape != start.shape or np.array_equal(array, start):
        return item
    of_start = kept ** len(shapes) * start.astype(np.float64)
    converted = of_start + (array - of_start) * (n / (n - 1) if by_less[0] else (n - 1) / n)
    return replace(item, right=lambda: np.asarray(converted))


LOOSER: Mapping[str, tuple[tuple[Rule, Callable[[Stages, Item], Item]], ...]] = {
    "tensors": ((rules.ONES, drop_axes_of_one),),
    "weights": ((rules.CARRIED, compare_as_carried),),
    "forward": (
        (rules.ACTIVATED, activate_output),
        (rules.ONES, drop_axes_of_one),
        (rules.TIES, settle_ties),
    ),
    "gradients": ((rules.SMALL, measure_by_largest_gradient),),
    "step": (
        (rules.VARIANCE, divide_as_on_left),
        (rules.MOMENTUM, allow_rounded_momentum),
        (rules.SMALL, measure_by_farthest_step),
        (rules.EXPLAINED, allow_explained),
        (rules.UNDERFLOW, ignore_underflowing),
    ),
}
