"""What `rosetta diff` compares on each rung, and how far apart it may be. The left side is what is expected."""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from math import inf
from typing import Any

import numpy as np

from benchmarks.ladder.arrays import (
    ARRANGEMENTS,
    CHANNELS_FIRST,
    CHANNELS_LAST,
    PRECISE,
    TIME_TURNED,
    UNIT,
    Array,
    Load,
    Ways,
    largest,
    largest_difference,
)
from benchmarks.ladder.explain.computed import ACTIVATIONS, activated
from benchmarks.ladder.judge.accepted import ACCEPTABLE
from benchmarks.ladder.judge.bounds import (
    COARSER,
    MEASURED,
    NOISES,
    ROUNDED_WEIGHTS,
    SMALLEST_SCALE,
    TOLERANCES_OF_ANY_MODEL,
    WIDENED,
)
from benchmarks.ladder.judge.check import GATES, RUNGS, Item, place
from benchmarks.ladder.pair.mapping import Turn, pattern_of
from benchmarks.ladder.pair.pairing import Pairing
from benchmarks.ladder.read.groups import FURTHER, GroupPair, WeightGroup, then
from benchmarks.ladder.read.layouts import (
    ACTIVATED,
    ARRANGED,
    EPSILONS,
    FLOAT32_EPSILON,
    FLOAT32_LAYERS,
    PARENT,
    RECURRENT,
    TAP,
    Shape,
)
from benchmarks.ladder.read.record import Side, coarsest
from common.text import count

COMPARED = RUNGS[: RUNGS.index("trajectory") + 1]
LAST = "step-last"
MOST_ALONE = 8  # layers of one side that are named
MOST_NORMS = 3  # norms with a rounded epsilon that are named
# Kinds of layers whose channels follow the rows or stand last, and those whose last axis is always that of features.
CHANNELLED = ("conv", "conv_transpose", "batchnorm", "groupnorm")
FEATURES_LAST = ("dense", "embedding", "layernorm", "rmsnorm")


@dataclass(frozen=True)
class LayerItem(Item):
    """Two arrays of a pair of groups, or of no layer."""

    quantity: str = ""  # whose bound it has; "" where both must be equal
    pair: GroupPair | None = None
    name: str = ""  # of the tensor within the pair
    is_update: bool = False  # whether the arrays are weights after a step
    call: int = 0  # of an output: which call of its layer gave it, from 0

    def place(self, where: tuple[int, ...]) -> str:
        """An index in words."""
        kind, shape = (self.pair.left.kind, self.pair.left.shapes.get(self.name)) if self.pair else ("", None)
        if self.rung == "trajectory" and not self.pair:
            return place(where, ["step"])
        if shape and kind in GATES:
            return place(where, [*("row" for _ in where[1:]), f"{kind} gate"], shape[-1] // len(GATES[kind]))
        if self.is_output and self.pair and kind in CHANNELLED and len(where) > 2:
            positions = ["position"] * (len(where) - 2)
            first = channels_stand_first(self.pair.left)
            return place(where, ["row", "channel", *positions] if first else ["row", *positions, "channel"])
        if self.is_output:
            return place(where, ["row", "time step", "unit"] if len(where) == 3 else ["row", "unit"])
        return place(where, {"embedding": ["row", "column"], "dense": ["input", "unit"]}.get(kind, []))


def channels_stand_first(group: WeightGroup) -> bool:
    """Whether the channels of a layer's output follow its rows, as its settings or its framework have it."""
    settings = group.layer.settings
    said = str(settings.get("data_format") or settings.get("_data_format") or "")
    usual = not said and group.side.framework in ("torch", "paddle")
    return usual or said == "channels_first" or said.startswith("NC") or settings.get("axis") in (1, [1])


def known_turn(pair: GroupPair) -> str | None:
    """How the axes of the right layer's output are turned, as settings or frameworks have it, in the words of
    ARRANGEMENTS; None where nothing tells."""
    if pair.left.kind in CHANNELLED:
        left, right = (channels_stand_first(group) for group in pair.both)
        return "" if left == right else CHANNELS_FIRST if left else CHANNELS_LAST
    return "" if pair.left.kind in (*RECURRENT, TAP) else None


def time_is_turned(pair: GroupPair) -> bool:
    """Whether time stands first in a recurrent layer of one side, whose output is told with the rows first."""
    time_first = [bool(group.settings.get("time_first")) for group in pair.both]
    return pair.left.kind in RECURRENT and time_first[0] != time_first[1]


def output_shapes(pair: GroupPair) -> list[Shape]:
    """The shapes of the first outputs of two layers."""
    return [group.side.shape(parts[0], "layers") for group in pair.both for parts in group.calls[:1] if parts]


def turned(turn: Turn, right: Array) -> Array:
    """A right array with its axes in the left one's order; as it is where it has another number of axes."""
    left_axes, right_axes = turn
    return right.transpose([right_axes.index(axis) for axis in left_axes]) if right.ndim == len(left_axes) else right


@dataclass
class Rungs:
    """Makes the items of each rung of two paired records. Their bounds follow from the left side's own noise, by
    quantity, where that is known, and else from the table."""

    left: Side
    right: Side
    pairing: Pairing
    noise: Mapping[str, float] = field(default_factory=dict)
    accept: Sequence[str] = ()  # deviations that a person accepts
    accepted: set[str] = field(default_factory=set)  # those of them that the sides have
    notes: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        for side in (self.left, self.right):
            first = next(iter(side.arrays("weights").values()), None)
            if side.precision == "float32" and first is not None and first.dtype == np.float64:
                self.notes.append(
                    f"{side.name} computes in float32, though its weights are of float64"
                    " (docs/deviations.md#keras-on-torch-float32)"
                )
        self.weights_precision = coarsest(self.left.precision, self.right.precision)
        if self.left.computed_by:
            names = some_of(self.left.computed_by)
            self.notes.append(f"bounds are those of {self.left.computed}, in which {self.left.name} computes {names}")
        # What a layer of the right side computes in a coarser precision than what surrounds it may be a mistake.
        self.precision = coarsest(self.left.computed, self.right.mixed)
        self.by_table = {name: bounds[self.precision] for name, bounds in TOLERANCES_OF_ANY_MODEL.items()}
        why_not = ""  # why the left side's noise says nothing
        if self.precision == "float64":
            coarse, rounded = (
                ", ".join(dict.fromkeys(path for side in (self.left, self.right) for path in layers(side)))
                for layers in (coarse_layers, rounded_layers)
            )
            epsilons, as_in_paddle = self._epsilons()
            self.notes += [epsilons] if as_in_paddle else []
            if coarse:
                why_not = f"bounds are {COARSER:.0f} times as wide, since constants are float32 in {coarse}"
                self.by_table |= {name: COARSER * self.by_table[name] for name in WIDENED}
            elif epsilons and not as_in_paddle:
                why_not = f"bounds are those of the table, since {epsilons}"
            elif rounded and self.noise:
                why_not = f"bounds are those of the table, since Paddle rounds constants to float32 in {rounded}"
        elif self.left.computed != self.precision and self.noise:
            why_not = f"bounds are those of the table, since {self.right.name} alone computes in {self.precision}"
        self.notes += [why_not] if why_not else []
        self.measured = {} if why_not else self._measured()
        self.tolerances = {**self.by_table, **self.measured}
        wide = [name for name, bound in self.measured.items() if bound >= 1]
        if wide:
            words = ", ".join(wide).replace("_", " ")
            self.notes.append(f"rounding alone may change as much as anything, and nothing is shown, of: {words}")
        # How far rounding moves a number, as a share of it.
        self.unit = UNIT["float64" if self.precision == "float64" else "float32"]

    def _epsilons(self) -> tuple[str, bool]:
        """What is told of norms whose epsilon Paddle rounds, "" where there are none; and whether the other side is
        compared as it computes with such epsilons."""
        norms = [pair.name for pair in self.pairing.pairs if rounds_epsilon(pair)]
        other = self.right if self.left.framework == "paddle" else self.left
        if not norms:
            return "", False
        more = f" and {len(norms) - MOST_NORMS} more" if len(norms) > MOST_NORMS else ""
        known = f", and {other.name} is compared as it computes with these" if other.as_in_paddle else ""
        words = f"Paddle rounds epsilon to float32 in {', '.join(norms[:MOST_NORMS])}{more}{known}"
        own = f"layer.{EPSILONS[other.framework]}"
        remedy = f"for equal ones set `{own} = float(np.float32({own}))` in {other.name}"
        return f"{words}; {remedy} (docs/deviations.md#paddle-norm-epsilon)", other.as_in_paddle

    def _measured(self) -> dict[str, float]:
        """The bounds that follow from the noise. In float64 and float32 the table's are never widened."""
        found = {name: NOISES * noise for name, noise in self.noise.items()}
        if self.precision in PRECISE:
            return {name: found[name] for name in MEASURED if found.get(name, inf) < self.by_table[name]}
        least = {
            "updates": TOLERANCES_OF_ANY_MODEL["updates"][self.weights_precision],
            "last_weights": self.by_table["last_weights"],
        }
        return {name: max(bound, least.get(name, 0.0)) for name, bound in found.items()}

    @cached_property
    def _turns(self) -> set[str]:
        """How layers turn whose axes are known, as others of these models may, too; in the words of ARRANGEMENTS."""
        found = {TIME_TURNED for pair in self.pairing.pairs if time_is_turned(pair)}
        wide = [pair for pair in self.pairing.pairs if any(len(shape) > 2 for shape in output_shapes(pair))]
        return found | {known_turn(pair) or "" for pair in wide} - {""}

    def ways(self, name: str, pair: GroupPair | None = None, is_input: bool = False) -> Ways:
        """How the axes of a right array may stand otherwise than the left one's: as a mapping has them, or as is
        known of the layer. A layer of which nothing is known may be turned as the known ones are, and so may an
        input; what a person named is as it is."""
        names = (name, pair.left.layer.path, pair.right.layer.path) if pair else (name,)
        turn = next((self.pairing.turns[one] for one in names if one in self.pairing.turns), None)
        if turn:
            return {f"the axes are {' -> '.join(map(pattern_of, turn))}": partial(turned, turn)}
        known = known_turn(pair) if pair else None if is_input else ""
        if known is not None:
            return {known: ARRANGEMENTS[known]}
        last = pair is not None and pair.left.kind in FEATURES_LAST
        found = [words for words in ARRANGEMENTS if words in self._turns and (words == TIME_TURNED or not last)]
        return {words: ARRANGEMENTS[words] for words in ("", *found)}

    def compared_outputs(self, pair: GroupPair, left: list[str], right: list[str]) -> tuple[list[str], list[str]]:
        """Return the names of a call's outputs that are compared, and of further ones that are not. Those of other
        numbers or shapes may mean other things, such as the attention weights of each head and their mean."""
        names, others = pair.left.outputs(left), pair.right.outputs(right)
        one, other = (
            [group.side.shape(part, "layers") for part in call[1:]]
            for group, call in zip(pair.both, (left, right), strict=True)
        )
        ways = self.ways(pair.name, pair).values()
        fit = len(one) == len(other) and all(
            any(way(np.broadcast_to(0, theirs)).shape == own for way in ways)
            for own, theirs in zip(one, other, strict=True)
        )
        found = [name for name in names if name in others and (fit or not name.startswith(FURTHER))]
        return found, [name for name in {**names, **others} if name.startswith(FURTHER) and name not in found]

    def items(self, rung: str) -> Iterator[LayerItem]:
        """The items of a rung, of what both sides have; `notes` tell of the rest."""
        yield from (item for item in getattr(self, f"_{rung}")() if not self.pairing.skips.has_printed(item.tensor))

    def _skipped(self, rung: str, what: str) -> None:
        self.notes.append(f"not compared, {rung}: {what}")

    def _both(self, rung: str, file: str, words: str) -> bool:
        """Whether both sides have a file."""
        sides = [side.name for side in (self.left, self.right) if not side.arrays(file)]
        if sides:
            self._skipped(rung, f"{' and '.join(sides)} recorded no {words}")
        return not sides

    def _named(self, rung: str, file: str, quantity: str = "") -> Iterator[LayerItem]:
        """Items of what both sides gave the same name, or have as the only one. They must be equal where they are no
        quantity that has a bound, and where they are whole numbers, such as tokens."""
        left, right = self.left.arrays(file), self.right.arrays(file)
        names = [(name, name) for name in left if name in right]
        if not names and len(left) == len(right) == 1:
            names = [(next(iter(left)), next(iter(right)))]
        used = {name for pair in names for name in pair}
        alone = [name for name in (*left, *right) if name not in used]
        if alone:
            self._skipped(rung, f"{', '.join(alone)}, recorded on one side only")
        by_value: dict[str, list[str]] = {}  # by both types
        for one, other in names:
            arrays = partial(right.__getitem__, other), partial(left.__getitem__, one)
            of_left, of_right = left.dtype(one), right.dtype(other)
            held = "" if {of_left.kind, of_right.kind} <= {*"iu"} else quantity
            item = self._held(rung, one, *arrays, held, scale=None if held else 1.0, is_output=True)
            exact = not held and not self._of_other_width(of_left, of_right)
            if not held and not exact:
                by_value.setdefault(f"{of_left} on the left and {of_right} on the right", []).append(one)
            yield replace(item, exact=exact, ways=self.ways(one, is_input=file == "inputs"))
        for types, of in by_value.items():
            self.notes.append(f"only values are compared of {some_of(of)}: {types}")

    def _of_other_width(self, left: np.dtype[Any], right: np.dtype[Any]) -> bool:
        """True for two types of one kind: whole numbers, or floating-point ones where the sides compute in two
        precisions."""
        kinds = {left.kind, right.kind}
        floats = kinds == {"f"} and self.left.precision != self.right.precision
        return left != right and (kinds <= {*"iu"} or floats)

    def _held(self, rung: str, tensor: str, right: Load, left: Load, quantity: str, **more: Any) -> LayerItem:
        """Two arrays within the bound of a quantity."""
        bound = self.tolerances[quantity] if quantity else 0.0
        return LayerItem(rung, tensor, right, left, bound, quantity=quantity, **more)

    def _tensors(self) -> Iterator[LayerItem]:
        if self._both("tensors", "inputs", "inputs"):
            yield from self._named("tensors", "inputs")

    def _weights(self) -> Iterator[LayerItem]:
        for side, groups in ((self.left, self.pairing.left), (self.right, self.pairing.right)):
            names = [group.name for group in groups if group.tensors]
            if names:
                self._skipped("weights", f"{', '.join(names)}, of {side.name} alone")
        same = self.left.precision == self.right.precision
        tolerance = 0.0 if same else ROUNDED_WEIGHTS[self.weights_precision]
        for pair, name in self.tensors_of_pairs():
            item = self._item("weights", pair, name, "weights", "", scale=1.0 if same else None)
            tensor, left = pair.right.tensors.get(name), pair.left.tensor(name)
            if tensor and tensor.scaled and left is not None:  # carry rounds on the way there, or on the way back
                own = partial(replace(tensor, times=1.0, add=0.0).array, self.right, "weights")
                if np.array_equal(tensor.kept(left), own()):  # type: ignore[arg-type]
                    item = replace(item, left=partial(tensor.kept, left), right=own)
            yield replace(item, tolerance=tolerance)

    def _forward(self) -> Iterator[LayerItem]:
        """Outputs of layers in the order in which the left side computed them, then those of the model."""
        places = {part: place for place, call in enumerate(self.left.says.calls) for part in call.parts}

        def place(item: LayerItem) -> int:
            return max(places[part] for part in item.pair.left.calls[item.call]) if item.pair else len(places)

        yield from sorted(self._outputs_of_layers(), key=place)
        if self._both("forward", "outputs", "outputs"):
            yield from self._named("forward", "outputs", "outputs")

    def _outputs_of_layers(self) -> Iterator[LayerItem]:
        alone: list[str] = []  # those that one side computes without such layers
        further: list[str] = []  # those of which only the first output is compared
        for pair in self.pairing.pairs:
            calls = pair.left.calls, pair.right.calls
            empty = [group.side.name for group, of in zip(pair.both, calls, strict=True) if of and not any(of)]
            if empty:
                words = f"in which {' and '.join(empty)} recorded no array"
                self._skipped("forward", f"outputs of {pair.name or 'the model'}, {words}")
                continue
            own = "." in pair.left.kind  # of a class of a person's own, which may give anything
            any_shape = own or pair.left.kind in (PARENT, ARRANGED, "parameters")
            single = any_shape and all(len(group.layers) == 1 for group in pair.both)
            if single and all(calls) and not alike_in_shape(pair):
                self._skipped("forward", f"outputs of {pair.name or 'the model'}, which are of other shapes")
                continue
            if len(calls[0]) != len(calls[1]) and not all(calls):
                alone.append(pair.name or "the model")
                continue
            if len(calls[0]) != len(calls[1]):
                numbers = f"{len(calls[0])} and {len(calls[1])}"
                self._skipped("forward", f"outputs of {pair.name}, which was called {numbers} times")
                continue
            for number, (one, other) in enumerate(zip(*calls, strict=True)):
                made = pair.of_call(number)
                left, right = made.left.outputs(one), made.right.outputs(other)
                of_layer = made.left.side.called[made.left.layer.path]
                again = f", call {of_layer.index(made.left.recorded[number]) + 1}" if len(of_layer) > 1 else ""
                names, others = self.compared_outputs(made, one, other)
                further += [made.name or "the model"] if others else []
                for name in names:
                    tensor = f"{made.name or 'the model'} {name}{again}"
                    changes = activations(made)
                    if changes is None:
                        self._skipped("forward", f"{tensor}, whose activation nobody here knows")
                        continue
                    both = then(right[name], changes[1]), then(left[name], changes[0])
                    item = self._held("forward", tensor, *both, "outputs", is_output=True, pair=made, name=name)
                    yield replace(item, call=number, ways=self.ways(made.name, made))
        if alone:
            self._skipped("forward", f"outputs of {some_of(alone)}, which one side computes without such layers")
        if further:
            words = some_of([*dict.fromkeys(further)])
            self._skipped("forward", f"further outputs of {words}, whose numbers or shapes differ")

    def _loss(self) -> Iterator[LayerItem]:
        losses = [side.says.loss for side in (self.right, self.left)]
        if None in losses:
            self._skipped("loss", "not recorded on both sides")
        else:
            right, left = (partial(np.array, float(loss)) for loss in losses if loss is not None)
            yield self._held("loss", "loss", right, left, "loss")

    def _gradients(self) -> Iterator[LayerItem]:
        if self._both("gradients", "gradients", "gradients"):
            share = SMALLEST_SCALE["float32" if "gradients" in self.measured else self.precision]
            smallest = share * self.left.largest("gradients")
            for pair, name in self.tensors_of_pairs("gradients"):
                yield self._item("gradients", pair, name, "gradients", "gradients", smallest_scale=smallest)

    def _step(self) -> Iterator[LayerItem]:
        left, right = (side.optimizer.counters for side in (self.left, self.right))
        if left and right:
            one, other = (partial(np.array, counters, np.float64) for counters in (right, left))
            yield self._held("step", "step counter", one, other, "", scale=1.0)
        for side in (self.left, self.right):
            outside = sum(key is None for key in side.optimizer.keys.values())
            if outside:
                what = "tensor that is no weight" if outside == 1 else "tensors that are no weights"
                self._skipped("step", f"{outside} {what} of the model, which {side.name}'s optimizer trains")
        if self._both("step", "slots", "slots of the optimizer"):
            yield from self._slots()
        if self._both("step", "step-1", "weights after a step"):
            floor, decay = 4 * self.unit * self.left.largest("weights"), max(self.left.decay, self.right.decay)
            for pair, name, scale in self._scales("step-1", SMALLEST_SCALE[self.precision]):
                allowed = partial(allowed_of, pair, name, floor, decay)
                quantity = "moving" if name.startswith("moving_") else "updates"
                yield self._item("step", pair, name, "step-1", quantity, scale=scale, allowed=allowed, is_update=True)

    def _slots(self) -> Iterator[LayerItem]:
        both = [
            (slot, pair, name, left[slot], right[slot])
            for pair, name in self.tensors_of_pairs()
            for left, right in [(pair.left.slots(name), pair.right.slots(name))]
            for slot in left
            if slot in right
        ]
        most: dict[str, float] = {}
        for slot, _, _, left, _ in both:
            most[slot] = max(most.get(slot, 0.0), largest(left()))
        for slot, pair, name, left, right in both:
            # A mean of squares is as small as the square of what it is of.
            share = SMALLEST_SCALE[self.precision]
            smallest = most[slot] * (share**2 if "square" in slot else share)
            tensor = f"{slot} of {pair.name} {name}"
            yield self._held("step", tensor, right, left, "slots", smallest_scale=smallest, pair=pair, name=name)

    def _trajectory(self) -> Iterator[LayerItem]:
        left, right = (
            {step.step: step.loss for step in side.says.steps if step.loss is not None}
            for side in (self.left, self.right)
        )
        steps = [step for step in left if step in right]
        if steps:
            one, other = (partial(np.array, [float(side[step]) for step in steps]) for side in (right, left))
            yield self._held("trajectory", f"losses of {count(len(steps), 'step')}", one, other, "trajectory")
        else:
            self._skipped("trajectory", "no losses of steps on both sides")
        alone = len(left.keys() ^ right.keys())
        if steps and alone:
            words = "steps, which one side alone recorded, and the weights after the last one"
            self._skipped("trajectory", f"{alone} {words}")
        elif self._both("trajectory", LAST, "weights after the last step") and not alone:
            for pair, name, scale in self._scales(LAST, 1.0):
                if self.accepted and name == "moving_variance" and not batches_alike(self.left):
                    self._skipped("trajectory", f"{pair.name} {name}, since batches have other numbers of rows")
                    continue
                if self.rounding_alone(pair, name):
                    self._skipped("trajectory", f"{pair.name} {name}, whose gradient is rounding alone")
                    continue
                yield self._item("trajectory", pair, name, LAST, "last_weights", scale=scale)

    def rounding_alone(self, pair: GroupPair, name: str) -> bool:
        """Return whether the left gradient of a weight is rounding alone. Adam makes a whole step of it."""
        gradient, largest_of_all = pair.left.tensor(name, "gradients"), self.left.largest("gradients")
        return gradient is not None and 0 < largest(gradient) < 100 * self.unit * largest_of_all

    def _item(self, rung: str, pair: GroupPair, name: str, file: str, quantity: str, **more: Any) -> LayerItem:
        left: Load = partial(pair.left.tensor, name, file)
        right: Load = partial(pair.right.tensor, name, file)
        steps = {"step-1": 1, LAST: max((step.step for step in self.left.says.steps), default=1)}.get(file, 0)
        for deviation in self.accept if steps else ():
            turned = ACCEPTABLE[deviation](pair, name, steps, right)
            if turned:
                self.accepted.add(deviation)
                right = turned
        made = self._held(rung, f"{pair.name} {name}", right, left, quantity, pair=pair, name=name, **more)
        if steps and name.startswith("moving_"):
            return replace(made, tolerance=max(made.tolerance, 2 * rounding_of_momentum(pair)))
        return made

    def tensors_of_pairs(self, file: str = "weights") -> Iterator[tuple[GroupPair, str]]:
        """Each tensor of which either side's file has anything."""
        for pair in self.pairing.pairs:
            for name in dict.fromkeys((*pair.left.tensors, *pair.right.tensors)):
                if any(group.has(name, file) for group in pair.both):
                    yield pair, name

    def _scales(self, file: str, smallest: float) -> list[tuple[GroupPair, str, float]]:
        """For each tensor how far it moved at most, and at least this share of the farthest that a weight did; on the
        right side, where nothing moved on the left."""
        far = [(pair, name, moved(pair.left, name, file)) for pair, name in self.tensors_of_pairs()]
        most = max((distance for _, name, distance in far if not name.startswith("moving_")), default=0.0)
        return [
            (pair, name, max(distance, smallest * most) or moved(pair.right, name, file) or 1.0)
            for pair, name, distance in far
        ]


def some_of(names: list[str]) -> str:
    """The first of many names, in words."""
    more = f" and {len(names) - MOST_ALONE} more" if len(names) > MOST_ALONE else ""
    return ", ".join(dict.fromkeys(names[:MOST_ALONE])) + more


def activations(pair: GroupPair) -> tuple[Callable[[Array], Array], Callable[[Array], Array]] | None:
    """What makes the outputs of a pair the same, the left one's first. Where one side's layer has an activation in
    it, which follows the layer on the other side, that of the other side is activated, too; None where no such
    activation is here."""
    if pair.left.kind not in ACTIVATED:
        return np.asarray, np.asarray
    of_left, of_right = map(named_activation, pair.both)
    if of_left == of_right:
        return np.asarray, np.asarray
    if "linear" not in (of_left, of_right) or not {of_left, of_right} <= ACTIVATIONS.keys():
        return None
    if of_left == "linear":
        return partial(activated, name=of_right), np.asarray
    return np.asarray, partial(activated, name=of_left)


def batches_alike(side: Side) -> bool:
    """Whether the arrays of all batches that were recorded have the shapes of the first one's."""
    shapes = side.arrays("inputs").shapes
    later = {name: shape for name, shape in shapes.items() if re.match(r"batch\d+(\.|$)", name)}
    return all(shapes.get(name.partition(".")[2], shape) == shape for name, shape in later.items())


def named_activation(group: WeightGroup) -> str:
    """Return the name of the activation in a layer; "function" where Keras has no name. Its batch norm has none."""
    unnamed = group.side.framework == "keras" and group.layer.settings and group.kind != "batchnorm"
    return str(group.settings.get("activation", "function" if unnamed else "linear") or "linear")


def alike_in_shape(pair: GroupPair) -> bool:
    """Whether the first outputs of two layers are of one shape, but for the order of axes."""
    shapes = [sorted(shape) for shape in output_shapes(pair)]
    return len(shapes) == 2 and shapes[0] == shapes[1]


def coarse_layers(side: Side) -> list[str]:
    """Paths of the layers that the framework computes with constants of float32."""
    coarse = FLOAT32_LAYERS.get(side.platform, set())
    return [
        layer.path for layer in side.says.layers if coarse & {*layer.classes, str(layer.settings.get("activation"))}
    ]


def as_in_paddle(left: Side, right: Side) -> tuple[Side, Side]:
    """Both sides; against Paddle's norms the other one as it computes with their epsilons, if that was recorded."""
    own = [any(FLOAT32_EPSILON & {*layer.classes} for layer in side.says.layers) for side in (left, right)]
    paddle = [side.framework == "paddle" for side in (left, right)]
    return (
        left.rounded or left if paddle[1] and own[1] and not paddle[0] else left,
        right.rounded or right if paddle[0] and own[0] and not paddle[1] else right,
    )


def rounds_epsilon(pair: GroupPair) -> bool:
    """Whether Paddle rounds the epsilon of one of two norms, which is the same for the other one, to float32."""
    own, others = (
        [group for group in pair.both if (group.side.framework == "paddle") == paddle] for paddle in (True, False)
    )
    if not others or not own or not FLOAT32_EPSILON & {*own[0].layer.classes}:
        return False
    one, other = (group.settings.get("epsilon") for group in (own[0], others[0]))
    floats = isinstance(one, float) and isinstance(other, float)
    return floats and np.float32(one) == np.float32(other) and other != float(np.float32(other))


def rounding_of_momentum(pair: GroupPair) -> float:
    """How far running statistics move otherwise, as a share, since Paddle rounds their momentum to float32."""
    kept = [group.settings.get("momentum") for group in pair.both if group.side.framework == "paddle"]
    if len(kept) != 1 or not isinstance(kept[0], float) or not 0 < kept[0] < 1:
        return 0.0
    return abs(float(np.float32(kept[0])) - kept[0]) / (1 - kept[0])


def rounded_layers(side: Side) -> list[str]:
    """Paths of Paddle's layers with a constant that it rounds to float32, or, of weight_norm, adds to a norm. Epsilon
    has a rule of its own, a momentum moves running statistics alone, whose bound is the table's, and a dropout's rate
    is of no output that can be compared."""
    if side.framework != "paddle":
        return []
    return [
        layer.path
        for layer in side.says.layers
        if "weight_g" in layer.parameters
        or any(
            isinstance(one, float) and one != float(np.float32(one))
            for name, one in layer.settings.items()
            if name not in ("_epsilon", "_momentum", "p")
        )
    ]


def moved(group: WeightGroup, name: str, file: str) -> float:
    """How far a tensor moved at most from where it began."""
    before, after = (group.tensor(name, which) for which in ("weights", file))
    if before is None or after is None or before.shape != after.shape:
        return 0.0
    return largest_difference(after, before)[0]


def allowed_of(pair: GroupPair, name: str, floor: float, decay: float) -> Callable[[slice], Array]:
    """By how much weights may differ after a step: some units in the last place, and what becomes of the difference
    of the gradients, which has passed. No optimizer makes of an error of a gradient, as a share of it, a larger share
    of its update, from which weight decay, as a share of a weight, may have taken something."""
    others = [group.tensor(name, file) for file in ("gradients", "step-1") for group in pair.both]
    arrays = [np.atleast_1d(array) for array in (*others, pair.left.tensor(name)) if array is not None]
    if len(arrays) < 5 or any(array.shape != arrays[0].shape for array in arrays):
        return lambda rows: np.array(floor)

    def allowed(rows: slice) -> Array:
        one, other, left, right, start = (array[rows] for array in arrays)
        update = np.maximum(np.abs(left - start), np.abs(right - start)) + decay * np.abs(start)
        size = np.maximum(np.abs(one), np.abs(other))
        share = np.abs(one - other) / np.maximum(size, np.finfo(size.dtype).tiny)
        return np.asarray(floor + 2 * update * share)

    return allowed
