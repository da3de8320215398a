"""Makes the pairs of arrays that `rosetta-diff` compares on each stage.
The left side is what is expected."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property, partial
from math import inf, sqrt
from typing import Any

import numpy as np

from rosetta_diff.arrays import (
    UNIT,
    Array,
    Load,
    largest,
    largest_difference,
    pieces,
)
from rosetta_diff.helpers import count, some_of
from rosetta_diff.judge import rules
from rosetta_diff.judge.bounds import ROUNDED_WEIGHTS, ROUNDINGS
from rosetta_diff.judge.check import Bound, Item
from rosetta_diff.judge.outputs import (
    activations,
    arguments,
    compared_outputs,
    otherwise,
    pair_inputs,
    turn_axes,
    why_no_outputs,
)
from rosetta_diff.judge.rules import Rule
from rosetta_diff.judge.tolerances import Noise, tolerances_of
from rosetta_diff.pair.pairing import Pairing
from rosetta_diff.pair.pairs import CallPair, LayerPair, TensorPair
from rosetta_diff.read.description import RecordedCall
from rosetta_diff.read.side import Side
from rosetta_diff.read.view import Tensor, plain
from rosetta_record.values import coarsest

TINY = float(np.finfo(np.float64).tiny)
ROUNDINGS_OF_STEP = 4  # units of a weight's number that rounding may move it in a step
# Optimizers with a mean of squares, and what they keep of it.
SQUARING = {"Adam": "beta_2", "RMSprop": "rho"}


@dataclass(frozen=True)
class LeftOut:
    """A part that a stage does not compare, and why."""

    rule: Rule
    stage: str
    what: str  # the remark of the rule
    pairs: tuple[LayerPair, ...] = ()  # whose outputs these are
    both: bool = False  # True for outputs that both sides have

    @property
    def line(self) -> str:
        return rules.NOT_COMPARED.format(stage=self.stage) + self.what


@dataclass
class Stages:
    """Makes the items of each stage of two paired records;
    `notes` tell what is left out, and why."""

    left: Side
    right: Side
    pairing: Pairing
    noise: Noise = field(default_factory=Noise)  # of the left side
    notes: list[str] = field(default_factory=list)
    left_out: list[LeftOut] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._distances: dict[tuple[int, str], float] = {}
        self.tolerances = tolerances_of(self.left, self.right, self.pairing.pairs, self.noise)

    def items(self, stage: str) -> Iterator[Item]:
        """The items of a stage, of what both sides have."""
        makers = {
            "tensors": self._tensors,
            "weights": self._weights,
            "forward": self._forward,
            "loss": self._loss,
            "gradients": self._gradients,
            "step": self._step,
            "trajectory": self._trajectory,
        }
        yield from (
            item for item in makers[stage]() if not self.pairing.skips.has_printed(item.tensor)
        )

    def _tensors(self) -> Iterator[Item]:
        if self._both("tensors", "inputs", "inputs"):
            yield from self._named("tensors", "inputs")

    def _weights(self) -> Iterator[Item]:
        for side, groups in ((self.left, self.pairing.left), (self.right, self.pairing.right)):
            names = [group.name for group in groups if group.tensors]
            if names:
                self.leave_out(rules.ONE_MODEL, "weights", names=some_of(names), side=side.name)
        same = self.left.precision == self.right.precision
        bound = (
            0.0 if same else ROUNDED_WEIGHTS[coarsest(self.left.precision, self.right.precision)]
        )
        for pair, name in self.tensors_of_pairs():
            yield self._item(
                "weights", pair, name, "weights", Bound(bound, scale=1.0 if same else None)
            )

    def _forward(self) -> Iterator[Item]:
        """Outputs of layers in the order in which the left side computed them,
        then those of the model."""
        places = {
            part: place for place, call in enumerate(self.left.says.calls) for part in call.parts
        }

        def place(item: Item) -> int:
            return max(places[part] for part in item.call.left.parts) if item.call else len(places)

        of_layers = sorted(self._outputs_of_layers(), key=place)
        yield from of_layers
        unnamed = not (self.left.arrays("outputs") or self.right.arrays("outputs"))
        if unnamed and any(item.is_of_model for item in of_layers):
            return
        if self._both("forward", "outputs", "outputs"):
            yield from self._named("forward", "outputs", "outputs")

    def _loss(self) -> Iterator[Item]:
        left, right = self.left.first_loss, self.right.first_loss
        if left is None or right is None:
            self.leave_out(rules.NO_LOSS, "loss")
        else:
            both = partial(np.array, float(left)), partial(np.array, float(right))
            yield Item("loss", "loss", *both, self.bound_of("loss", "loss"))

    def _gradients(self) -> Iterator[Item]:
        if self._both("gradients", "gradients", "gradients"):
            idle: list[str] = []
            for pair, name in self.tensors_of_pairs("gradients", terms=True):
                there = [array for array in pair.arrays(name, "gradients") if array is not None]
                if len(there) == 1 and not there[0].any():
                    idle.append(f"{pair.name} {name}")
                else:
                    bound = self.bound_of("gradients", f"{pair.name} {name}", smallest_scale=TINY)
                    yield self._item("gradients", pair, name, "gradients", bound)
            if idle:
                self.leave_out(rules.IDLE, "gradients", names=some_of(idle))

    def _step(self) -> Iterator[Item]:
        for side in (self.left, self.right):
            outside = side.optimizer.outside
            if outside:
                what = "tensor that is no weight" if outside == 1 else "tensors that are no weights"
                self.leave_out(rules.OUTSIDE, "step", number=f"{outside} {what}", side=side.name)
        updates = self._both("step", "step-1", "weights after a step")
        left, right = (side.counters for side in (self.left, self.right))
        if left and right and updates:  # a counter alone is no step
            both = partial(np.array, left, np.float64), partial(np.array, right, np.float64)
            yield Item("step", "step counter", *both, Bound(0.0, scale=1.0))
        yield from self._updates() if updates else ()

    def _updates(self) -> Iterator[Item]:
        alone = [
            f"{pair.name} {name}"
            for pair, name in self.tensors_of_pairs()
            if not pair.has(name, "step-1")
        ]
        if alone:
            self.leave_out(rules.NO_WEIGHTS, "step", names=some_of(alone))
        for pair, name in self.tensors_of_pairs("step-1"):
            quantity = "updates" if pair.is_trained(name) else "moving"
            scale = self.distance(pair, name) or moved(pair.right_array, name) or 1.0
            allowed = rounding_of_start(pair, name, self.tolerances.unit)
            bound = self.bound_of(quantity, f"{pair.name} {name}", scale=scale, allowed=allowed)
            yield self._item("step", pair, name, "step-1", bound)

    def _trajectory(self) -> Iterator[Item]:
        left, right = self.left.losses, self.right.losses
        steps = [step for step in left if step in right]
        if steps[1:]:
            of_left, of_right = (
                partial(np.array, [float(side[step]) for step in steps]) for side in (left, right)
            )
            tensor = f"losses of {count(len(steps), 'step')}"
            yield Item(
                "trajectory",
                tensor,
                of_left,
                of_right,
                self.bound_of("trajectory", tensor, scale=0.0),
            )
        else:
            self.leave_out(rules.ONE_STEP, "trajectory")
        alone = len(left.keys() ^ right.keys())
        if alone:
            self.leave_out(rules.MORE_STEPS, "trajectory", number=alone)

    def _outputs_of_layers(self) -> Iterator[Item]:
        alone: list[LayerPair] = []  # those that one side computes without such layers
        further: list[LayerPair] = []  # those of which only the first output is compared
        for pair in self.pairing.pairs:
            if self.pairing.skips.has_printed(f"{pair.name or 'the model'} output"):
                continue
            why_not = why_no_outputs(pair, self.pairing.turns)
            if why_not:
                rule, words = why_not
                self.leave_out(rule, "forward", [pair], both=True, **words)
            elif pair.calls:
                for call in pair.calls:
                    yield from self._outputs_of_call(pair, call, further)
            elif pair.left.calls or pair.right.calls:
                alone.append(pair)
        for rule, of in ((rules.NOT_CALLED, alone), (rules.FURTHER, further)):
            if of:
                self.leave_out(
                    rule, "forward", of, names=some_of([pair.name or "the model" for pair in of])
                )

    def _outputs_of_call(
        self, pair: LayerPair, call: CallPair, further: list[LayerPair]
    ) -> Iterator[Item]:
        """The items of one call; the layer is added to `further` where outputs
        after the first are not compared."""
        again = (
            f", call {call.left.number + 1}"
            if len(pair.left.side.called[pair.left.layer.path]) > 1
            else ""
        )
        outputs, uncompared = compared_outputs(pair, call, self.pairing.turns)
        further += [pair] if uncompared else []
        for name, tensors in outputs.items():
            tensor = f"{pair.name or 'the model'} {name}{again}"
            if activations(pair) is None:
                self.leave_out(rules.UNKNOWN, "forward", [pair], both=True, names=tensor)
                continue
            bound = self.bound_of("outputs", tensor, self.precision_of(tensors.left))
            yield Item("forward", tensor, *self.loads(tensors), bound, tensors, pair, name, call)

    def arguments(
        self, pair: LayerPair, calls: tuple[RecordedCall, RecordedCall]
    ) -> Iterator[Item]:
        """The items of what a left and a right call of a pair are given: arguments of the same
        names, and the first ones. The name of each is that of its right array."""
        for left_name, right_name in arguments(pair, calls):
            tensors = pair_inputs(self.pairing.turns, pair, left_name, right_name)
            argument = next(name for name, array in calls[1].inputs.items() if array == right_name)
            bound = self.bound_of("outputs", argument, self.precision_of(tensors.left))
            yield Item("forward", argument, *self.loads(tensors), bound, tensors, pair, right_name)

    def loads(self, tensors: TensorPair, file: str = "layers") -> tuple[Load, Load]:
        """Functions that read a left and a right tensor out of a file,
        without a change of their numbers."""
        left, right = self.left.arrays(file), self.right.arrays(file)
        return partial(tensors.left.of, left.get), partial(tensors.right.of, right.get)

    def _named(self, stage: str, file: str, quantity: str = "") -> Iterator[Item]:
        """Items of what both sides gave the same name, or have as the only one. They must be equal
        where they are no quantity that has a bound."""
        left, right = self.left.arrays(file), self.right.arrays(file)
        names = self.named_pairs(file)
        used = {name for pair in names for name in pair}
        alone = [name for name in (*left, *right) if name not in used]
        if alone:
            self.leave_out(rules.ONE_SIDE, stage, names=some_of(alone))
        by_value: dict[str, list[str]] = {}  # by how they are otherwise
        for name, right_name in names:
            tensors = TensorPair(
                plain(name, left.shape(name)), plain(right_name, right.shape(right_name))
            )
            tensors = turn_axes(tensors, self.pairing.turns, [name])
            by_value.setdefault(
                otherwise(left[name], right[right_name], bool(quantity)), []
            ).append(name)
            bound = Bound(0.0, scale=1.0)
            if quantity:
                bound = self.bound_of(quantity, name, self.precision_of(tensors.left, file))
            yield Item(stage, name, *self.loads(tensors, file), bound, tensors)
        for words, of in by_value.items():
            self.notes += [rules.VALUES.told(names=some_of(of), difference=words)] if words else []

    def named_pairs(self, file: str) -> list[tuple[str, str]]:
        """The left and right names of arrays that both sides gave the same name,
        or have as the only one."""
        left, right = self.left.arrays(file), self.right.arrays(file)
        names = [(name, name) for name in left if name in right]
        is_only = not names and len(left) == len(right) == 1
        return [(next(iter(left)), next(iter(right)))] if is_only else names

    def _item(self, stage: str, pair: LayerPair, name: str, file: str, bound: Bound) -> Item:
        """A tensor of a pair out of a file, the right side's in the left side's convention."""
        both = partial(pair.left_array, name, file), partial(pair.right_array, name, file)
        return Item(stage, f"{pair.name} {name}", *both, bound, pair=pair, name=name)

    def bound_of(self, quantity: str, tensor: str, precision: str = "", **how: Any) -> Bound:
        """The bound of a tensor, of which something is computed in a precision;
        "" for the coarsest one of the models."""
        precision = precision or self.tolerances.precision
        tolerance = self.tolerances.bound(quantity, tensor, precision)
        measured = tolerance != self.tolerances.tables[precision][quantity]
        return Bound(tolerance, quantity, measured, rounding=ROUNDINGS * UNIT[precision], **how)

    def leave_out(
        self,
        rule: Rule,
        stage: str,
        pairs: Sequence[LayerPair] = (),
        both: bool = False,
        **words: object,
    ) -> None:
        """Leave out a part of a stage by a rule; `words` are those of its remark."""
        left_out = LeftOut(rule, stage, rule.told(**words), (*pairs,), both)
        if left_out.line not in self.notes:
            self.left_out.append(left_out)
            self.notes.append(left_out.line)

    def _both(self, stage: str, file: str, words: str) -> bool:
        """True if both sides have a file."""
        sides = [side.name for side in (self.left, self.right) if not side.arrays(file)]
        if sides:
            self.leave_out(rules.NO_FILE, stage, sides=" and ".join(sides), what=words)
        return not sides

    def precision_of(self, left: Tensor, file: str = "layers") -> str:
        """The precision in which a left tensor is compared."""
        return coarsest(
            self.right.mixed, *(self.left.precision_of(name, file) for name in left.names)
        )

    def rounding_alone(self, pair: LayerPair, name: str) -> bool:
        """True if the left gradient of a weight is rounding alone.
        Adam makes a whole step of it."""
        gradient, most = pair.left_array(name, "gradients"), self.left.largest("gradients")
        return gradient is not None and 0 < largest(gradient) < 100 * self.tolerances.unit * most

    def tensors_of_pairs(
        self, file: str = "weights", terms: bool = False
    ) -> Iterator[tuple[LayerPair, str]]:
        """Each tensor of which either side's file has anything;
        or each term of those that are sums, too."""
        for pair in self.pairing.pairs:
            yield from ((pair, name) for name in pair.names if pair.has(name, file))
            yield from pair.further_terms(file) if terms else ()

    @cached_property
    def farthest_step(self) -> float:
        """The farthest that the left step moved a weight."""
        trained = (
            (pair, name) for pair, name in self.tensors_of_pairs("step-1") if pair.is_trained(name)
        )
        return max((self.distance(*of) for of in trained), default=0.0)

    @cached_property
    def error_of_norm(self) -> float:
        """How far the norms of all gradients are apart, as a share of the larger one."""
        arrays = [pair.arrays(name, "gradients") for pair, name in self.tensors_of_pairs()]
        both = [(left, right) for left, right in arrays if left is not None and right is not None]
        norms = [sqrt(sum(map(sum_of_squares, of_side))) for of_side in zip(*both, strict=True)]
        return abs(norms[0] - norms[1]) / max(*norms, TINY) if norms else 0.0

    def distance(self, pair: LayerPair, name: str) -> float:
        """The farthest that the left step moved a number of a tensor,
        of those that do not underflow."""
        place = id(pair), name
        if place not in self._distances:
            self._distances[place] = moved(pair.left_array, name, self.underflowing(pair, name))
        return self._distances[place]

    def underflowing(self, pair: LayerPair, name: str) -> Array:
        """True for numbers of a weight of float16 in whose step the optimizer divides by rounding,
        since the square of a gradient that is not zero, or what is added of it to a mean, is below
        the type's normal numbers."""
        arrays = [
            np.atleast_1d(of)
            for of in (pair.left_array(name), *pair.arrays(name, "gradients"))
            if of is not None
        ]
        sides = [side for side in (self.left, self.right) if side.optimizer_family in SQUARING]
        if (
            not sides
            or len(arrays) < 3
            or arrays[0].dtype != np.float16
            or len({of.shape for of in arrays}) > 1
        ):
            return np.zeros(1, bool)
        kept = [side.optimizer_settings.get(SQUARING[side.optimizer_family]) for side in sides]
        share = 1 - max((of for of in kept if isinstance(of, float)), default=0.0)
        sizes = np.maximum(*map(np.abs, arrays[1:])).astype(np.float64)
        return (sizes > 0) & (share * sizes**2 < np.finfo(np.float16).tiny)


def moved(read: Callable[[str, str], Array | None], name: str, but: Array | None = None) -> float:
    """The largest distance of a tensor after a step from its start, but for some of its numbers."""
    before, after = read(name, "weights"), read(name, "step-1")
    if before is None or after is None or before.shape != after.shape:
        return 0.0
    ignored = None if but is None or not but.any() else np.where(but, inf, 0.0)
    return largest_difference(before, after, None if ignored is None else ignored.__getitem__)[0]


def sum_of_squares(array: Array) -> float:
    whole = np.atleast_1d(array)
    return sum(float(np.square(whole[of], dtype=np.float64).sum()) for of in pieces(whole.shape))


def rounding_of_start(
    pair: LayerPair, name: str, unit: float
) -> Callable[[], Callable[[slice], Array]]:
    """Return what reads how far rounding may move a weight's numbers in a step:
    some units of each at its start."""

    def read() -> Callable[[slice], Array]:
        after = pair.left_array(name, "step-1")
        rounded = ROUNDINGS_OF_STEP * unit * size_at_start(pair, name)
        fits = after is not None and rounded.shape == np.atleast_1d(after).shape
        return lambda rows: rounded[rows] if fits else np.array(0.0)

    return read


def size_at_start(pair: LayerPair, name: str) -> Array:
    """The sizes of a weight's numbers before the first step, of those that the right side has in
    its own scale, if that is more."""
    start, weight = pair.left_array(name), pair.weights.get(name)
    start = np.zeros(0) if start is None else np.atleast_1d(start)
    if weight is None or not weight.is_scaled:
        return np.abs(start)
    return np.maximum(np.abs(start), np.abs(weight.from_left(start)) / abs(weight.times))
