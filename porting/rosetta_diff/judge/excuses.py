"""Outputs of layers that differ and are excused, by named rules.

A layer that is given the same on both sides and gives something else differs, whatever the
model's outputs are, unless it differs at padded positions alone, or the other side has later what
it gives. A layer that is given something else, or whose input nobody recorded, is excused where
what the model
gives agrees, since the models may be cut otherwise.
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import chain, dropwhile, islice

import numpy as np

from rosetta_diff.arrays import COARSER_TYPES, Array, largest, largest_difference
from rosetta_diff.helpers import some_of
from rosetta_diff.judge import rules
from rosetta_diff.judge.check import STAGES, Check, Item, judge
from rosetta_diff.judge.items import LeftOut, Stages
from rosetta_diff.judge.looser import judge_by_rules
from rosetta_diff.judge.rules import Rule
from rosetta_diff.pair.pairs import LayerPair
from rosetta_diff.read.description import RecordedCall
from rosetta_diff.read.rules import RECURRENT
from rosetta_diff.read.side import is_number

FURTHER_CALLS = 36  # calls after a layer in which its output is looked for


def judge_stage(stages: Stages, stage: str) -> list[Check]:
    """The checks of a stage, each failure that is excused with its rule."""
    checks = [judge_by_rules(stages, item) for item in stages.items(stage)]
    if stage == "weights" and (
        stages.left.framework.folds_weights or stages.right.framework.folds_weights
    ):
        may_differ = [not (check.passed or is_rounded(check.item)) for check in checks]
        return [
            excuse_by(rules.FOLDED, check) if excused else check
            for check, excused in zip(checks, may_differ, strict=True)
        ]
    if stage == "forward":
        stages.left_out[:] = without_ground(stages, checks)
        return excuse_outputs(stages, checks)
    if stage == "trajectory" and any(of.rule is rules.UNDERFLOW for of in stages.left_out):
        return leave_out_losses(stages, checks)
    return leave_out_underflow(stages, checks) if stage == "step" else checks


def leave_out_underflow(stages: Stages, checks: Sequence[Check]) -> list[Check]:
    """Return the checks of a step. A counter alone tells nothing,
    nor does a tensor that is left out whole."""
    numbers: dict[str, Array] = {}  # True for those that a check leaves out
    told = []
    for check in checks:
        tells = check.tells and check.item.pair is not None
        if check.item.pair and rules.UNDERFLOW in check.rules:
            numbers[check.tensor] = stages.underflowing(check.item.pair, check.item.name)
            tells = tells and not numbers[check.tensor].all()
        told.append(replace(check, tells=tells))
    if numbers:
        some, size = (sum(int(count(of)) for of in numbers.values()) for count in (np.sum, np.size))
        stages.leave_out(rules.UNDERFLOW, "step", some=some, all=size, names=some_of([*numbers]))
    return told


def leave_out_losses(stages: Stages, checks: Sequence[Check]) -> list[Check]:
    """Return the checks of losses that agree though a step has left out numbers,
    on which they depend."""
    agreeing = [check for check in checks if check.passed or check.is_nan]
    if len(agreeing) < len(checks):
        stages.leave_out(rules.FOLLOWS, "trajectory")
    return agreeing


def excuse_by(rule: Rule, check: Check) -> Check:
    """Return the check of an item that a rule excuses."""
    return replace(check, rules=(*check.rules, rule))


def is_rounded(item: Item) -> bool:
    """Return True if the right array is the left one rounded to a coarser type,
    which no exporter does by itself."""
    left, right = item.left(), item.right()
    if left is None or right is None or not is_number(left):
        return False
    return any(np.array_equal(rounded(left), right) for rounded in COARSER_TYPES.values())


def excuse_outputs(stages: Stages, checks: Sequence[Check]) -> list[Check]:
    """Return the checks of the forward pass, each failure that is excused with its rule."""
    failed = [check for check in checks if not (check.passed or check.item.is_of_model)]
    if not failed:
        return [*checks]
    vouched = count_vouched(stages, checks)
    excuses = {id(check): excuse_of(stages, check, check in checks[:vouched]) for check in failed}
    stands = [check for check in checks if not check.passed and not excuses.get(id(check))]
    after = checks[checks.index(failed[-1]) :]
    if not (
        vouched
        or stands
        or any(check.passed and check.tells and check.item.pair for check in after)
    ):
        # Nothing but such layers differs, and nothing tells that what comes of them agrees.
        return [*checks]
    return [
        excuse_by(rule, check) if (rule := excuses.get(id(check))) else check for check in checks
    ]


def without_ground(stages: Stages, checks: Sequence[Check]) -> list[LeftOut]:
    """Return what no stage up to the forward pass compares
    and no output of the model vouches for."""
    vouched = count_vouched(stages, checks)
    places = {id(call): place for place, call in enumerate(stages.left.says.calls)}
    ran = [places[id(check.item.call.left.recorded[-1])] for check in checks if check.item.call]

    def has_ground(pair: LayerPair) -> bool:
        """True where what the model gives depends on the layer, and agrees."""
        calls = [call for of_layer in pair.left.calls for call in of_layer.recorded]
        last = max((places[id(call)] for call in calls), default=-1)
        is_whole = pair.left.layer.path == stages.left.root
        return vouched > (0 if is_whole else sum(place < last for place in ran))

    left_out = [of for of in stages.left_out if STAGES.index(of.stage) <= STAGES.index("forward")]
    return [of for of in left_out if not of.pairs or not all(map(has_ground, of.pairs))]


def excuse_of(stages: Stages, check: Check, vouched: bool) -> Rule | None:
    """Return the rule that excuses the output of a layer; None where none does, such as where the
    right side alone has NaN. `vouched` is true where what the model gives agrees."""
    if right_alone_has_nan(check.item):
        return None
    if vouched and not is_given_the_same(stages, check.item):
        return rules.AGREES
    if vouched and is_padding(check.item):
        return rules.PADDED
    return rules.LATER if is_found_later(stages, check.item) else None


def right_alone_has_nan(item: Item) -> bool:
    """True if NaN is on the right alone. A mask may be added within another layer,
    so infinities may."""
    left, right = item.left(), item.right()
    if left is None or right is None or not (is_number(left) and is_number(right)):
        return False
    return bool(np.isnan(right).any() and not np.isnan(left).any())


def is_given_the_same(stages: Stages, item: Item) -> bool:
    """True if both sides recorded what a layer is given, and all of it agrees."""
    given = [*compared_arguments(stages, item)]
    return bool(given) and all(check.passed for check in given)


def unmoved_outputs(stages: Stages, checks: Sequence[Check]) -> list[str]:
    """Return the outputs that agree though a layer is given other numbers of the same shape."""
    return [
        check.tensor
        for check in checks
        if check.passed
        and not (check.inside or all(map(may_be_the_same, compared_arguments(stages, check.item))))
    ]


def may_be_the_same(check: Check) -> bool:
    """True for arrays that agree, and for those of other shapes,
    which may hold the same numbers."""
    left, right = check.item.left(), check.item.right()
    return check.passed or left is None or right is None or left.shape != right.shape


def compared_arguments(stages: Stages, item: Item) -> Iterator[Check]:
    """Compare what the layers of an output are given on both sides."""
    if item.pair is None or item.call is None:
        return
    left, *_ = item.call.left.recorded
    for right in item.call.right.recorded:
        yield from map(judge, stages.arguments(item.pair, (left, right)))


def count_vouched(stages: Stages, checks: Sequence[Check]) -> int:
    """Return how many of the first outputs may differ, since they are cut, masked or called
    otherwise and nothing comes of it: the model's outputs agree. An output vouches for what was
    computed before it. Where the model gave none, its loss does."""
    outputs = [check for check in checks if check.item.is_of_model]
    agree = [check.passed for check in outputs]
    if not outputs:  # a loss of zero tells nothing
        agree = [check.passed and check.tells for check in map(judge, stages.items("loss"))]
    if not agree or not all(agree):
        return 0
    if not outputs:
        return len(checks)
    layers = [check for check in checks if not check.item.is_of_model]
    alone = bool(layers) and begins_anew(stages, layers[-1].item)
    reaches = [0]
    for array in filter(vouches, (check.item.left() for check in outputs)):
        if any(same(given, array) for given in stages.left.arrays("inputs").values()):
            continue
        given = [
            place
            for place, check in enumerate(checks, 1)
            if check in layers and same(check.item.left(), array)
        ]
        reaches.append(given[-1] if given else 0 if alone else len(checks))
    return max(reaches)


def begins_anew(stages: Stages, item: Item) -> bool:
    """True for a layer that takes whole numbers alone, as an embedding does. What is made of it
    after it depends on nothing that was computed before."""
    calls = item.call.left.recorded if item.call else ()
    arrays = stages.left.arrays("layers")
    kinds = {arrays.dtype(name).kind for call in calls for name in call.inputs.values()}
    return bool(kinds) and kinds <= {*"iu"}


def vouches(array: Array | None) -> bool:
    """True for an output that tells of the layers before it:
    fractions that are not the same in each row."""
    rows = np.squeeze(np.zeros(0) if array is None else array)
    return is_number(rows) and bool(
        rows.ndim and (rows != rows[:1]).any() and (rows != np.rint(rows)).any()
    )


def same(left: Array | None, right: Array | None) -> bool:
    return left is not None and right is not None and np.array_equal(left, right)


# Rules, each of which finds on one side what the layer gives on the other


def is_padding(item: Item) -> bool:
    """A recurrent layer gives other numbers at padded positions, where one side has zeros or the
    position before; or one side's last state is the zeros of a padded position, and the other
    side's is that side's position before."""
    left, right = item.left(), item.right()
    if item.pair is None or item.pair.left.kind not in RECURRENT or left is None or right is None:
        return False
    if left.shape != right.shape or left.ndim < 2:
        return False
    bound = item.bound.tolerance * item.scale_of(left)
    if left.ndim == 2:
        unpadded = [before_padding(item, place, state) for place, state in enumerate((left, right))]
        return not (np.abs(unpadded[0] - unpadded[1]) > bound).any()
    differs = (np.abs(left - right) > bound).any(-1)
    padded = ~left.any(-1) | ~right.any(-1)
    for array in (left, right):
        padded |= (array == np.roll(array, 1, 1)).all(-1)
    return not (differs & ~padded).any()


def before_padding(item: Item, place: int, state: Array) -> Array:
    """A side's last state (N, H), which has in its rows of zeros the side's last position
    (N, T, H) that is none."""
    if item.pair is None or item.call is None:
        return state
    group = item.pair.both[place]
    tensor = group.outputs(item.call[place]).get("sequence")
    sequence = tensor.of(group.side.arrays("layers").get) if tensor else None
    if sequence is None or sequence.ndim != 3 or sequence[:, 0].shape != state.shape:
        return state
    last = sequence.shape[1] - 1 - np.argmax(sequence[:, ::-1].any(-1), 1)
    return np.where(state.any(-1, keepdims=True), state, sequence[np.arange(len(last)), last])


def is_found_later(stages: Stages, item: Item) -> bool:
    """True if the other side has later what one side gives, in the same order or in another one:
    after an activation, a factor, a sum or a turn that the first side has within the layer."""
    if item.call is None:
        return False
    recorded = item.call.left.recorded, item.call.right.recorded
    loads = item.left, item.right
    for place, side in enumerate((stages.left, stages.right)):
        wanted = loads[1 - place]()
        names = arrays_after(side.says.calls, recorded[place][-1])
        if wanted is not None and any(
            holds(item, side.arrays("layers").memory_map(name), wanted) for name in names
        ):
            return True
    return False


def arrays_after(calls: Sequence[RecordedCall], call: RecordedCall) -> Iterator[str]:
    """Names of what the calls after one are given and give."""
    after = islice(dropwhile(lambda of: of is not call, calls), 1, FURTHER_CALLS)
    own = {*call.parts}
    names = chain.from_iterable((*of.inputs.values(), *of.parts) for of in after)
    yield from (name for name in dict.fromkeys(names) if name not in own)


def holds(item: Item, array: Array, wanted: Array) -> bool:
    """True if an array has the numbers of another, in any order, within the bound."""
    if array.size != wanted.size or array.size < 2 or not (is_number(array) and is_number(wanted)):
        return False
    bound = item.bound.tolerance * (item.scale_of(wanted) or 1.0)
    if abs(largest(array) - largest(wanted)) > bound:
        return False
    return largest_difference(np.sort(array, None), np.sort(wanted, None))[0] <= bound
