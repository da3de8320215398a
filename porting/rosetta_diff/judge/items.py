"""Makes the pairs of arrays that `rosetta-diff` compares on each stage. The left side is what is expected."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from math import inf
from typing import Any

import numpy as np

from rosetta_diff.arrays import (
    UNIT,
    Array,
    Load,
    largest,
    largest_difference,
)
from rosetta_diff.helpers import count, some_of
from rosetta_diff.judge.axes import OUTPUT, Views, axes_of_output, axes_of_weight, in_one_order
from rosetta_diff.judge.bounds import DETERMINED, NOISES, ROUNDED_WEIGHTS, ROUNDINGS, SMALLEST_DETERMINED
from rosetta_diff.judge.check import Item, no_array
from rosetta_diff.judge.constants import rounding_of_momentum
from rosetta_diff.judge.outputs import (
    activations,
    compared_outputs,
    otherwise,
    settled_ties,
    why_no_outputs,
    with_ones_of,
)
from rosetta_diff.judge.tolerances import Noise, tolerances_of
from rosetta_diff.judge.variances import converted_variance
from rosetta_diff.pair.pairing import Pairing
from rosetta_diff.pair.pairs import CallPair, LayerPair
from rosetta_diff.read.groups import values
from rosetta_diff.read.side import Side
from rosetta_diff.read.view import Tensor, plain
from rosetta_record.control import coarsest


@dataclass(frozen=True)
class LeftOut:
    """A part that a stage does not compare, and why."""

    stage: str
    what: str
    pairs: tuple[LayerPair, ...] = ()  # whose outputs these are
    both: bool = False  # True for outputs that both sides have

    @property
    def line(self) -> str:
        return f"not compared, {self.stage}: {self.what}"


@dataclass
class Stages:
    """Makes the items of each stage of two paired records; `notes` tell what is left out, and why."""

    left: Side
    right: Side
    pairing: Pairing
    noise: Noise = field(default_factory=Noise)  # of the left side
    notes: list[str] = field(default_factory=list)
    left_out: list[LeftOut] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.tolerances = tolerances_of(self.left, self.right, self.pairing.pairs, self.noise)

    def items(self, stage: str) -> Iterator[Item]:
        """The items of a stage, of what both sides have."""
        yield from (item for item in getattr(self, f"_{stage}")() if not self.pairing.skips.has_printed(item.tensor))

    def _tensors(self) -> Iterator[Item]:
        if self._both("tensors", "inputs", "inputs"):
            yield from self._named("tensors", "inputs")

    def _weights(self) -> Iterator[Item]:
        for side, groups in ((self.left, self.pairing.left), (self.right, self.pairing.right)):
            names = [group.name for group in groups if group.tensors]
            if names:
                self.notes.append(f"not compared, weights: {some_of(names)}, of {side.name} alone")
        same = self.left.precision == self.right.precision
        bound = 0.0 if same else ROUNDED_WEIGHTS[coarsest(self.left.precision, self.right.precision)]
        for pair, name in self.tensors_of_pairs():
            item = self._item("weights", pair, name, "weights", "", scale=1.0 if same else None)
            yield replace(_as_carried(item), tolerance=bound)

    def _forward(self) -> Iterator[Item]:
        """Outputs of layers in the order in which the left side computed them, then those of the model."""
        places = {part: place for place, call in enumerate(self.left.says.calls) for part in call.parts}

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
            self._skipped("loss", "not recorded on both sides")
        else:
            yield self.held("loss", "loss", "loss", partial(np.array, float(left)), partial(np.array, float(right)))

    def _gradients(self) -> Iterator[Item]:
        if self._both("gradients", "gradients", "gradients"):
            idle: list[str] = []
            for pair, name in self.tensors_of_pairs("gradients", terms=True):
                there = [array for array in pair.arrays(name, "gradients") if array is not None]
                if len(there) == 1 and not there[0].any():
                    idle.append(f"{pair.name} {name}")
                else:
                    smallest = self._smallest_gradient(pair, name)
                    yield self._item("gradients", pair, name, "gradients", "gradients", smallest_scale=smallest)
            if idle:
                words = "of which one side has no gradient and the other one zeros"
                self.notes.append(f"not compared, gradients: {some_of(idle)}, {words}")

    def _smallest_gradient(self, pair: LayerPair, name: str) -> float:
        """Return the least that a gradient's differences are divided by. In float32 a control tells apart gradients
        of rounding alone, and how far rounding moves the others."""
        most, noise = self.left.largest("gradients"), self.noise.gradients.get(f"{pair.name} {name}", inf)
        gradient = pair.left_array(name, "gradients")
        if self.tolerances.precision != "float32" or gradient is None or noise > DETERMINED * largest(gradient):
            return self.tolerances.smallest_scale("gradients") * most
        return max(
            SMALLEST_DETERMINED * most, NOISES * noise / self.tolerances.bound("gradients", f"{pair.name} {name}")
        )

    def _step(self) -> Iterator[Item]:
        for side in (self.left, self.right):
            outside = side.optimizer.outside
            if outside:
                what = "tensor that is no weight" if outside == 1 else "tensors that are no weights"
                self._skipped("step", f"{outside} {what} of the model, which {side.name}'s optimizer trains")
        updates = self._both("step", "step-1", "weights after a step")
        left, right = (side.counters for side in (self.left, self.right))
        if left and right and updates:  # a counter alone is no step
            both = (partial(np.array, counters, np.float64) for counters in (left, right))
            yield self.held("step", "step counter", "", *both, scale=1.0)
        yield from self._updates() if updates else ()

    def _updates(self) -> Iterator[Item]:
        decay = max(self.left.decay, self.right.decay)
        converted = list[str]()
        alone = [f"{pair.name} {name}" for pair, name in self.tensors_of_pairs() if not pair.has(name, "step-1")]
        if alone:
            self._skipped("step", f"{some_of(alone)}, of which neither side recorded the weights after it")
        most, scales = self._scales()
        for pair, name, scale in scales:
            converted += [pair.name] if converted_variance(pair, name, no_array) else []
            allowed = partial(allowed_of, pair, name, 4 * self.tolerances.unit, decay, most)
            quantity = "updates" if pair.is_trained(name) else "moving"
            yield self._item("step", pair, name, "step-1", quantity, scale=scale, allowed=allowed, is_update=True)
        if converted:
            self.notes.append(
                f"converted, step: running variances of {some_of(converted)}, which one side divides by n and the "
                "other one by n - 1 (docs/deviations.md#batchnorm-variance)"
            )

    def _trajectory(self) -> Iterator[Item]:
        left, right = self.left.losses, self.right.losses
        steps = [step for step in left if step in right]
        if steps[1:]:
            both = (partial(np.array, [float(side[step]) for step in steps]) for side in (left, right))
            tensor = f"losses of {count(len(steps), 'step')}"
            yield self.held("trajectory", tensor, "trajectory", *both, scale=0.0, axes=[["step"]])
        else:
            self._skipped("trajectory", "no losses of several steps on both sides")
        alone = len(left.keys() ^ right.keys())
        if alone:
            self._skipped("trajectory", f"{alone} steps, which one side alone recorded")

    def _outputs_of_layers(self) -> Iterator[Item]:
        alone: list[LayerPair] = []  # those that one side computes without such layers
        further: list[LayerPair] = []  # those of which only the first output is compared
        for pair in self.pairing.pairs:
            if self.pairing.skips.has_printed(f"{pair.name or 'the model'} output"):
                continue
            why_not = why_no_outputs(pair, self.pairing.turns)
            if why_not:
                self._skipped("forward", why_not, [pair], both=True)
            elif pair.calls:
                for call in pair.calls:
                    yield from self._outputs_of_call(pair, call, further)
            elif pair.left.calls or pair.right.calls:
                alone.append(pair)
        for of, start, end in (
            (alone, "outputs of", "which one side computes without such layers"),
            (further, "further outputs of", "whose numbers or shapes differ"),
        ):
            if of:
                names = some_of([pair.name or "the model" for pair in of])
                self._skipped("forward", f"{start} {names}, {end}", of)

    def _outputs_of_call(self, pair: LayerPair, call: CallPair, further: list[LayerPair]) -> Iterator[Item]:
        """The items of one call; the layer is added to `further` where outputs after the first are not compared."""
        again = f", call {call.left.number + 1}" if len(pair.left.side.called[pair.left.layer.path]) > 1 else ""
        outputs, uncompared = compared_outputs(pair, call, self.pairing.turns)
        further += [pair] if uncompared else []
        for name, views in outputs.items():
            tensor, changes = f"{pair.name or 'the model'} {name}{again}", activations(pair)
            if changes is None:
                self._skipped("forward", f"{tensor}, whose activation nobody here knows", [pair], both=True)
                continue
            left, right = (partial(views.array, place, change) for place, change in enumerate(changes))
            how: dict[str, Any] = {"precision": self.precision_of(views.left), "is_output": True, "turn": views.turn}
            of_pair: dict[str, Any] = {"pair": pair, "name": name, "call": call, "axes": axes_of_output(views.left)}
            yield self.held("forward", tensor, "outputs", left, right, **how, **of_pair)

    def _named(self, stage: str, file: str, quantity: str = "") -> Iterator[Item]:
        """Items of what both sides gave the same name, or have as the only one. They must be equal where they are no
        quantity that has a bound."""
        left, right = self.left.arrays(file), self.right.arrays(file)
        names = [(name, name) for name in left if name in right]
        if not names and len(left) == len(right) == 1:
            names = [(next(iter(left)), next(iter(right)))]
        used = {name for pair in names for name in pair}
        alone = [name for name in (*left, *right) if name not in used]
        if alone:
            self._skipped(stage, f"{some_of(alone)}, recorded on one side only")
        by_value: dict[str, list[str]] = {}  # by how they are otherwise
        for name, right_name in names:
            tensors = plain(name, left.shape(name)), plain(right_name, right.shape(right_name))
            views = in_one_order(Views(*tensors, (left, right)), self.pairing.turns, [name])
            load, right_load = partial(left.__getitem__, name), partial(views.array, 1)
            by_value.setdefault(otherwise(left[name], right[right_name], bool(quantity)), []).append(name)
            given: Load = partial(with_ones_of, load, right_load)
            for scores, right_scores in names if quantity else ():
                shape = left.shape(scores)
                if shape[:-1] == left.shape(name) and shape[-1:] > (0,) and right.shape(right_scores) == shape:
                    best = partial(left.__getitem__, scores), partial(right.__getitem__, right_scores)
                    settled = partial(settled_ties, load, given, best)
                    if not np.array_equal(settled(), given()):  # type: ignore[arg-type]
                        self.notes.append(f"numbers of {name} differ where {scores} is a tie")
                    given = settled
            how: dict[str, Any] = {"scale": None if quantity else 1.0, "is_output": True, "axes": OUTPUT}
            precision = self.precision_of(tensors[0], file) if quantity else ""
            yield self.held(stage, name, quantity, load, given, precision=precision, turn=views.turn, **how)
        for words, of in by_value.items():
            self.notes += [f"only values are compared of {some_of(of)}: {words}"] if words else []

    def _item(self, stage: str, pair: LayerPair, name: str, file: str, quantity: str, **how: Any) -> Item:
        """A tensor of a pair out of a file, the right side's in the left side's convention."""
        left: Load = partial(pair.left_array, name, file)
        right: Load = partial(pair.right_array, name, file)
        after_step = file == "step-1"
        right = (after_step and converted_variance(pair, name, right)) or right
        of_pair = {"pair": pair, "name": name, **axes_of_weight(pair, name)}
        item = self.held(stage, f"{pair.name} {name}", quantity, left, right, **of_pair, **how)
        if after_step and name.startswith("moving_"):
            return replace(item, tolerance=max(item.tolerance, 2 * rounding_of_momentum(pair)))
        return item

    def held(
        self, stage: str, tensor: str, quantity: str, left: Load, right: Load, *, precision: str = "", **how: Any
    ) -> Item:
        """Two arrays within the bound of a quantity, of which something is computed in a precision; "" for the
        coarsest one of the models."""
        if not quantity:
            return Item(stage, tensor, left, right, 0.0, **how)
        precision = precision or self.tolerances.precision
        bound = self.tolerances.bound(quantity, tensor, precision)
        how |= {"quantity": quantity, "measured": bound != self.tolerances.tables[precision][quantity]}
        return Item(stage, tensor, left, right, bound, rounding=ROUNDINGS * UNIT[precision], **how)

    def _skipped(self, stage: str, what: str, pairs: Sequence[LayerPair] = (), both: bool = False) -> None:
        left_out = LeftOut(stage, what, (*pairs,), both)
        if left_out.line not in self.notes:
            self.left_out.append(left_out)
            self.notes.append(left_out.line)

    def _both(self, stage: str, file: str, words: str) -> bool:
        """True if both sides have a file."""
        sides = [side.name for side in (self.left, self.right) if not side.arrays(file)]
        if sides:
            self._skipped(stage, f"{' and '.join(sides)} recorded no {words}")
        return not sides

    def precision_of(self, left: Tensor, file: str = "layers") -> str:
        """The precision in which a left tensor is compared."""
        return coarsest(self.right.mixed, *(self.left.precision_of(name, file) for name in left.names))

    def rounding_alone(self, pair: LayerPair, name: str) -> bool:
        """True if the left gradient of a weight is rounding alone. Adam makes a whole step of it."""
        gradient, most = pair.left_array(name, "gradients"), self.left.largest("gradients")
        return gradient is not None and 0 < largest(gradient) < 100 * self.tolerances.unit * most

    def tensors_of_pairs(self, file: str = "weights", terms: bool = False) -> Iterator[tuple[LayerPair, str]]:
        """Each tensor of which either side's file has anything; or each term of those that are sums, too."""
        for pair in self.pairing.pairs:
            yield from ((pair, name) for name in pair.names if pair.has(name, file))
            yield from pair.further_terms(file) if terms else ()

    def _scales(self) -> tuple[float, list[tuple[LayerPair, str, float]]]:
        """The farthest that the left step moved a weight. And for each tensor how far it moved that, and at least a
        share of the farthest; how far the right step did where nothing moved on the left."""
        smallest = self.tolerances.smallest_scale()
        far = [(pair, name, moved(pair.left_array, name)) for pair, name in self.tensors_of_pairs("step-1")]
        most = max((distance for pair, name, distance in far if pair.is_trained(name)), default=0.0)
        return most, [
            (pair, name, max(distance, smallest * most) or moved(pair.right_array, name) or 1.0)
            for pair, name, distance in far
        ]


def _as_carried(item: Item) -> Item:
    """The item of a weight that a mapping scales, compared as the right side keeps it where that is equal: `carry`
    rounds on the way there, or on the way back."""
    assert item.pair
    weight, left = item.pair.weights.get(item.name), item.pair.left_array(item.name)
    if weight is None or not weight.is_scaled or left is None:
        return item
    stored = partial(values, item.pair.right.side, weight.right)
    right = stored()
    if right is None or not np.array_equal(weight.from_left(left), right):
        return item
    return replace(item, left=partial(weight.from_left, left), right=stored)


def moved(read: Callable[[str, str], Array | None], name: str) -> float:
    """The largest distance of a tensor after a step from its start."""
    before, after = read(name, "weights"), read(name, "step-1")
    if before is None or after is None or before.shape != after.shape:
        return 0.0
    return largest_difference(before, after)[0]


def allowed_of(pair: LayerPair, name: str, units: float, decay: float, most: float) -> Callable[[slice], Array]:
    """The accepted difference of weights after a step: what the accepted gradient difference explains, plus so many
    units of each number where it starts.

    No optimizer makes of an error of a gradient, as a share of it, a larger share of its update, from which weight
    decay, as a share of a weight, may have taken something. An update is `most` at most, the farthest that the step
    moves a weight.
    """
    both = [array for file in ("gradients", "step-1") for array in pair.arrays(name, file)]
    arrays = [np.atleast_1d(array) for array in (*both, pair.left_array(name)) if array is not None]
    rounded = units * size_at_start(pair, name)
    if len(arrays) < 5 or any(array.shape != arrays[0].shape for array in arrays):
        return lambda rows: rounded[rows] if rounded.shape == arrays[0].shape else np.array(0.0)

    def allowed(rows: slice) -> Array:
        left_gradient, right_gradient, left, right, start = (array[rows] for array in arrays)
        update = np.minimum(np.maximum(np.abs(left - start), np.abs(right - start)), most) + decay * np.abs(start)
        size = np.maximum(np.abs(left_gradient), np.abs(right_gradient))
        share = np.abs(left_gradient - right_gradient) / np.maximum(size, np.finfo(size.dtype).tiny)
        return np.asarray(rounded[rows] + 2 * update * share)

    return allowed


def size_at_start(pair: LayerPair, name: str) -> Array:
    """The sizes of a weight's numbers before the first step, of those that the right side has in its own scale, if
    that is more."""
    start, weight = pair.left_array(name), pair.weights.get(name)
    start = np.zeros(0) if start is None else np.atleast_1d(start)
    if weight is None or not weight.is_scaled:
        return np.abs(start)
    return np.maximum(np.abs(start), np.abs(weight.from_left(start)) / abs(weight.times))
