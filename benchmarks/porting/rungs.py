"""What is compared on each rung, and how far apart it may be. The left side is what is expected."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from math import inf, isfinite
from typing import Any

import numpy as np

from benchmarks.parity.checks import RUNGS, Check
from benchmarks.porting.activations import ACTIVATIONS, activated
from benchmarks.porting.layouts import GATES, Array, Group
from benchmarks.porting.pairing import Pair, Pairing
from benchmarks.porting.record import Record, is_number
from benchmarks.porting.sides import Load, Side, then
from common.comparison import TOLERANCES_OF_ANY_MODEL, largest, largest_difference

# How much wider bounds are in float64 where a framework computes with a constant of float32, which is off by 3e-8 at
# most. Layers with such a constant were off by up to 7e-9 of their largest output.
COARSER = 30.0
WIDENED = ("outputs", "loss", "gradients", "slots", "moving", "trajectory")
ACTIVATED = ("dense", "conv", "conv_transpose")  # kinds of layers that may have an activation in them
COMPARED = RUNGS[: RUNGS.index("trajectory") + 1]
# A tensor whose gradient is zero in theory, such as the bias of an attention's key, has a gradient of rounding alone.
# It is measured against this share of the largest gradient of the model. In float32 so has a bias before a batch
# normalization, whose gradient is a sum of many that cancel out: 3.6e-6 of the largest.
SMALLEST_SCALE = {"float64": 1e-2, "float32": 1e-1, "bfloat16": 1e-1}
LAST = "step-last"


@dataclass(frozen=True)
class Item:
    """Two arrays that are to agree. They are read when they are needed, and may be again."""

    rung: str
    tensor: str
    right: Callable[[], Array | None]  # None: not there
    left: Callable[[], Array | None]
    tolerance: float
    scale: float | None = None  # what differences are divided by; None: the left one's largest value
    smallest_scale: float = 0.0
    allowed: Callable[[], Callable[[slice], Array]] | None = None  # reads what tells how much does not count
    pair: Pair | None = None
    name: str = ""  # of the tensor within the pair
    is_update: bool = False  # whether the arrays are weights after a step
    is_output: bool = False  # whether axes may stand in another order: time or channels first on one side

    def load(self) -> tuple[Array | None, Array | None]:
        """The right array and the left one."""
        return self.right(), self.left()

    def scale_of(self, left: Array) -> float:
        """What differences from this array are divided by."""
        return self.scale if self.scale is not None else max(largest(left), self.smallest_scale) or 1.0


@dataclass
class Rungs:
    """Makes the items of each rung of two paired records."""

    left: Side
    right: Side
    pairing: Pairing
    notes: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        order = ("float64", "float32", "bfloat16")
        self.precision = max(self.left.record.precision, self.right.record.precision, key=order.index)
        tolerances = {name: bounds[self.precision] for name, bounds in TOLERANCES_OF_ANY_MODEL.items()}
        coarse = [path for side in (self.left, self.right) for path in side.coarse_layers]
        if coarse and self.precision == "float64":
            where = ", ".join(dict.fromkeys(coarse))
            self.notes.append(f"bounds are {COARSER:.0f} times as wide, since constants are float32 in {where}")
            tolerances |= {name: COARSER * tolerances[name] for name in WIDENED}
        self.tolerances = tolerances

    def items(self, rung: str) -> Iterator[Item]:
        """The items of a rung, of what both sides have; `notes` tell of the rest."""
        yield from getattr(self, f"_{rung}")()

    def _both(self, rung: str, file: str, words: str) -> bool:
        """Whether both sides have a file."""
        sides = [side.record.name for side in (self.left, self.right) if not side.record.arrays(file)]
        if sides:
            self.notes.append(f"not compared, {rung}: {' and '.join(sides)} recorded no {words}")
        return not sides

    def _named(self, rung: str, file: str, tolerance: float, exact: bool = False) -> Iterator[Item]:
        """Items of what both sides gave the same name, or have as the only one."""
        left, right = (side.record.arrays(file) for side in (self.left, self.right))
        names = [(name, name) for name in left if name in right]
        if not names and len(left) == len(right) == 1:
            names = [(next(iter(left)), next(iter(right)))]
        used = {name for pair in names for name in pair}
        alone = [*(name for name in left if name not in used), *(name for name in right if name not in used)]
        if alone:
            self.notes.append(f"not compared, {rung}: {', '.join(alone)}, recorded on one side only")
        for one, other in names:
            arrays = partial(right.__getitem__, other), partial(left.__getitem__, one)
            yield Item(rung, one, *arrays, tolerance, 1.0 if exact else None, is_output=True)

    def _tensors(self) -> Iterator[Item]:
        if self._both("tensors", "inputs", "inputs"):
            yield from self._named("tensors", "inputs", 0.0, exact=True)

    def _weights(self) -> Iterator[Item]:
        for side, groups in ((self.left, self.pairing.left), (self.right, self.pairing.right)):
            names = [group.name for group in groups if group.tensors]
            if names:
                self.notes.append(f"not compared, weights: {', '.join(names)}, of {side.record.name} alone")
        # Two records of one precision have the same numbers; otherwise one side's are rounded.
        same = self.left.record.precision == self.right.record.precision
        tolerance = 0.0 if same else {"float64": 0.0, "float32": 2.0**-24, "bfloat16": 2.0**-8}[self.precision]
        for pair, name in self._tensors_of_pairs():
            yield self._item("weights", pair, name, "weights", tolerance, scale=1.0 if same else None)

    def _forward(self) -> Iterator[Item]:
        for pair in self.pairing.pairs:
            calls = [side.record.calls.get(group.layer.path, []) for side, group in self.sides(pair)]
            if len(calls[0]) != len(calls[1]):
                numbers = f"{len(calls[0])} and {len(calls[1])}"
                self.notes.append(f"not compared, forward: outputs of {pair.name}, which was called {numbers} times")
                continue
            for number, (one, other) in enumerate(zip(*calls, strict=True)):
                left, right = self.left.outputs(pair.left, one), self.right.outputs(pair.right, other)
                again = f", call {number + 1}" if len(calls[0]) > 1 else ""
                for name in [name for name in left if name in right]:
                    loads, tensor = self._alike(pair, right[name], left[name]), f"{pair.name} {name}{again}"
                    if loads is None:
                        self.notes.append(f"not compared, forward: {tensor}, whose activation nobody here knows")
                        continue
                    bound = self.tolerances["outputs"]
                    yield Item("forward", tensor, *loads, bound, pair=pair, name=name, is_output=True)
        if self._both("forward", "outputs", "outputs"):
            yield from self._named("forward", "outputs", self.tolerances["outputs"])

    def _alike(self, pair: Pair, right: Load, left: Load) -> tuple[Load, Load] | None:
        """What reads the outputs of both sides. Where one side's layer has an activation in it, which follows the
        layer on the other side, that of the other side is activated, too; None where no such activation is here."""
        of_left, of_right = (side.settings(group).get("activation") or "linear" for side, group in self.sides(pair))
        if pair.left.kind not in ACTIVATED or of_left == of_right:
            return right, left
        if "linear" not in (of_left, of_right) or not {of_left, of_right} <= ACTIVATIONS.keys():
            return None
        if of_left == "linear":
            return right, then(left, lambda array: activated(array, of_right))
        return then(right, lambda array: activated(array, of_left)), left

    def _loss(self) -> Iterator[Item]:
        losses = [side.record.says.loss for side in (self.right, self.left)]
        if None in losses:
            self.notes.append("not compared, loss: not recorded on both sides")
        else:
            right, left = (partial(np.array, float(loss)) for loss in losses if loss is not None)
            yield Item("loss", "loss", right, left, self.tolerances["loss"])

    def _gradients(self) -> Iterator[Item]:
        if self._both("gradients", "gradients", "gradients"):
            smallest = SMALLEST_SCALE[self.precision] * _largest_of(self.left.record, "gradients")
            bound = self.tolerances["gradients"]
            for pair, name in self._tensors_of_pairs("gradients"):
                yield self._item("gradients", pair, name, "gradients", bound, smallest_scale=smallest)

    def _step(self) -> Iterator[Item]:
        if self._both("step", "slots", "slots of the optimizer"):
            yield from self._slots()
        if self._both("step", "step-1", "weights after a step"):
            floor = 4 * self._unit * _largest_of(self.left.record, "weights")
            for pair, name, scale in self._scales("step-1", SMALLEST_SCALE[self.precision]):
                allowed = partial(self._allowed, pair, name, floor)
                bound = self.tolerances["moving" if name.startswith("moving_") else "updates"]
                yield self._item("step", pair, name, "step-1", bound, scale=scale, allowed=allowed, is_update=True)

    def _slots(self) -> Iterator[Item]:
        both = [
            (slot, pair, name, left[slot], right[slot])
            for pair, name in self._tensors_of_pairs()
            for left, right in [(self.left.slots(pair.left, name), self.right.slots(pair.right, name))]
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
            tensor, tolerance = f"{slot} of {pair.name} {name}", self.tolerances["slots"]
            yield Item("step", tensor, right, left, tolerance, None, smallest, pair=pair, name=name)

    def _trajectory(self) -> Iterator[Item]:
        left, right = (
            {step.step: step.loss for step in side.record.says.steps if step.loss is not None}
            for side in (self.left, self.right)
        )
        steps = [step for step in left if step in right]
        if steps:
            one, other = (partial(np.array, [float(side[step]) for step in steps]) for side in (right, left))
            yield Item("trajectory", f"losses of {len(steps)} steps", one, other, self.tolerances["trajectory"])
        else:
            self.notes.append("not compared, trajectory: no losses of steps on both sides")
        if self._both("trajectory", LAST, "weights after the last step") and left.keys() == right.keys():
            rounding = 100 * self._unit * _largest_of(self.left.record, "gradients")
            for pair, name, scale in self._scales(LAST, 1.0):
                gradient = self.left.tensor(pair.left, name, "gradients")
                if gradient is not None and 0 < largest(gradient) < rounding:  # which Adam makes large
                    tensor = f"{pair.name} {name}"
                    self.notes.append(f"not compared, trajectory: {tensor}, whose gradient is rounding alone")
                    continue
                yield self._item("trajectory", pair, name, LAST, self.tolerances["last_weights"], scale=scale)

    def _item(self, rung: str, pair: Pair, name: str, file: str, tolerance: float, **more: Any) -> Item:
        left, right = (partial(side.tensor, group, name, file) for side, group in self.sides(pair))
        return Item(rung, f"{pair.name} {name}", right, left, tolerance, pair=pair, name=name, **more)

    def _tensors_of_pairs(self, file: str = "weights") -> Iterator[tuple[Pair, str]]:
        """Each tensor of which either side's file has anything."""
        for pair in self.pairing.pairs:
            for name in dict.fromkeys((*pair.left.tensors, *pair.right.tensors)):
                if any(side.has(group, name, file) for side, group in self.sides(pair)):
                    yield pair, name

    def sides(self, pair: Pair) -> tuple[tuple[Side, Group], tuple[Side, Group]]:
        return (self.left, pair.left), (self.right, pair.right)

    @property
    def _unit(self) -> float:
        """How far rounding moves a number, as a share of it."""
        return float(np.finfo(np.float64 if self.precision == "float64" else np.float32).eps)

    def _scales(self, file: str, smallest: float) -> list[tuple[Pair, str, float]]:
        """For each tensor how far it moved at most, and at least this share of the farthest that a weight did."""
        moved = [(pair, name, self._moved(pair, name, file)) for pair, name in self._tensors_of_pairs()]
        most = max((far for _, name, far in moved if not name.startswith("moving_")), default=0.0)
        return [(pair, name, max(far, smallest * most) or 1.0) for pair, name, far in moved]

    def _moved(self, pair: Pair, name: str, file: str) -> float:
        """How far a tensor moved at most from where it began, on the left."""
        before, after = (self.left.tensor(pair.left, name, which) for which in ("weights", file))
        if before is None or after is None or before.shape != after.shape:
            return 0.0
        return largest_difference(after, before)[0]

    def _allowed(self, pair: Pair, name: str, floor: float) -> Callable[[slice], Array]:
        """By how much weights may differ after a step: some units in the last place, and what becomes of the
        difference of the gradients, which has passed. No optimizer makes of an error of a gradient, as a share of it,
        a larger share of its update."""
        gradients = [side.tensor(group, name, "gradients") for side, group in self.sides(pair)]
        after = [side.tensor(group, name, "step-1") for side, group in self.sides(pair)]
        before = self.left.tensor(pair.left, name, "weights")
        arrays = [np.atleast_1d(array) for array in (*gradients, *after, before) if array is not None]
        if len(arrays) < 5 or any(array.shape != arrays[0].shape for array in arrays):
            return lambda rows: np.array(floor)

        def allowed(rows: slice) -> Array:
            one, other, left, right, start = (array[rows] for array in arrays)
            update = np.maximum(np.abs(left - start), np.abs(right - start))
            size = np.maximum(np.abs(one), np.abs(other))
            share = np.abs(one - other) / np.maximum(size, np.finfo(size.dtype).tiny)
            return np.asarray(floor + 2 * update * share)

        return allowed


def _largest_of(record: Record, file: str) -> float:
    """The largest number of a file."""
    arrays = record.arrays(file)
    found = [largest(array) for name in arrays if is_number(array := arrays[name])]
    return max(found, default=0.0)


ARRANGEMENTS: dict[str, Callable[[Array], Array]] = {
    "": lambda array: array,
    "the first two axes change places": lambda array: array.swapaxes(0, 1) if array.ndim > 1 else array,
    "channels stand first on the right": lambda array: np.moveaxis(array, 1, -1) if array.ndim > 2 else array,
    "channels stand first on the left": lambda array: np.moveaxis(array, -1, 1) if array.ndim > 2 else array,
}


def judge(item: Item, name: str, precision: str) -> Check:
    """The check of an item, for the side of this name."""
    make = partial(Check, name, "", precision, item.rung, item.tensor, tolerance=item.tolerance)
    right, left = item.load()
    if right is None or left is None:
        return make(error=inf, note=f"the {'left' if right is None else 'right'} side alone has it")
    tried = ARRANGEMENTS if item.is_output else {"": ARRANGEMENTS[""]}
    found = []
    for words, arranged in tried.items():
        found.append(_compared(item, make, arranged(right), left, words))
        if found[-1].passed:
            return found[-1]
    return found[0]


def _compared(item: Item, make: Callable[..., Check], right: Array, left: Array, words: str) -> Check:
    if right.shape != left.shape:
        return make(error=inf, note=f"shape {right.shape}, expected {left.shape}")
    difference, where = largest_difference(right, left, item.allowed() if item.allowed else None)
    note = f"got {right[where]!s}, expected {left[where]!s}" if right.size else ""
    error = difference / item.scale_of(left) if isfinite(difference) else inf
    return make(error=error, where=where, note="; ".join(filter(None, (note, words))))


def place(item: Item, where: tuple[int, ...]) -> str:
    """An index in words, such as "row 3, forget gate, unit 5"."""
    if not where:
        return ""
    kind, shapes = (item.pair.left.kind, item.pair.left.shapes) if item.pair else ("", {})
    *leading, last = where
    if item.rung == "trajectory" and not item.pair:
        return f"step {last + 1}"
    if item.name in shapes and kind in GATES:
        units = shapes[item.name][-1] // len(GATES[kind])
        gate = f"{GATES[kind][min(last // units, len(GATES[kind]) - 1)]} gate, unit {last % units}" if units else ""
        return "".join(f"row {row}, " for row in leading) + gate
    if item.is_output and len(where) in (2, 3):
        return f"row {where[0]}, " + (f"time step {where[1]}, " if len(where) == 3 else "") + f"unit {last}"
    if kind == "embedding" and len(where) == 2:
        return f"row {where[0]}, column {last}"
    if kind == "dense" and len(where) == 2:
        return f"input {where[0]}, unit {last}"
    return f"index {', '.join(map(str, where))}"
