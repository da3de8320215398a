"""What the left side's layers were given and gave, in the layouts of the right side, for a replay of the right side.

In a replay each layer of the right side is given what the left one was given, and what it gives becomes what the left
one gave. So no mistake reaches another layer, and each layer is judged by itself: by what it gives, and by what came
to it, which shows what stands between layers.
"""

import hashlib
from collections.abc import Callable, Iterator, Sequence
from copy import copy
from dataclasses import dataclass, replace
from functools import cached_property, partial
from itertools import product
from math import prod
from pathlib import Path

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from benchmarks.ladder.arrays import Array, Ways, largest, largest_difference, nearest_arrangement
from benchmarks.ladder.carry import laid_out as laid_out_weights
from benchmarks.ladder.judge.items import Rungs, activations, time_is_turned
from benchmarks.ladder.pair.arrangement import PARTS
from benchmarks.ladder.read.groups import GroupPair, Read, WeightGroup
from benchmarks.ladder.read.layouts import PARENT, RECURRENT
from benchmarks.ladder.read.record import RecordedCall, RecordedLayer, Side, UnfitRecordsError
from common.errors import CannotBeginError
from common.files import write_atomically

FORMAT = "rosetta-feed"
FIRST_LAYER = ("", "l0", "l0_reverse")  # parts of a stacked recurrent layer that are given what it is given
NEAR = 1e-3  # of the largest value: how near an argument must be to one of another name to be the same
READ_AT_ONCE = 1 << 22  # bytes of a file


def places_of(group: WeightGroup, call: Sequence[str]) -> tuple[dict[str, slice], dict[str, Read]]:
    """Of the numbers of a call's arrays, one array after the other, those of each array; and where among them a
    group's outputs have theirs."""
    arrays, spans = {}, {}
    start = 0
    for name in call:
        shape = group.side.shape(name, "layers")
        spans[name] = slice(start, start + prod(shape))
        arrays[name] = np.arange(start, spans[name].stop).reshape(shape)
        start = spans[name].stop
    side = copy(group.side)
    side.arrays = lambda file: arrays  # type: ignore[method-assign,assignment,return-value]
    side.shape = lambda name, file="": arrays[name].shape  # type: ignore[method-assign]
    return spans, replace(group, side=side).outputs([*call])


@dataclass(frozen=True)
class Feeding:
    """What the left side has for each call of the right side's layers."""

    rungs: Rungs

    @property
    def sides(self) -> tuple[Side, Side]:
        return self.rungs.left, self.rungs.right

    @cached_property
    def pairs(self) -> list[GroupPair]:
        """The pairs, and those of layers of which one has in parts what the other one has in layers of its own."""
        pairs = self.rungs.pairing.pairs
        known = {(pair.left.layer.path, pair.right.layer.path) for pair in pairs if pair.left.kind == PARENT}
        found = list(pairs)
        for place, (side, other) in enumerate((self.sides, self.sides[::-1])):
            for path, sets in self._partner_sets[place].items():
                paths = frozenset(one for of_pair in sets for one in of_pair)
                holder = containing(other, paths, {*self._partner_sets[1 - place]}) if len(sets) > 1 else None
                if holder is None:
                    continue
                layer = next(layer for layer in side.says.layers if layer.path == path)
                both = (layer, holder) if place == 0 else (holder, layer)
                if (both[0].path, both[1].path) not in known:
                    known.add((both[0].path, both[1].path))
                    made = [WeightGroup(of, PARENT, one) for of, one in zip(self.sides, both, strict=True)]
                    found.append(GroupPair(made[0], made[1], "order"))
        return found

    @cached_property
    def _partner_sets(self) -> tuple[dict[str, set[frozenset[str]]], dict[str, set[frozenset[str]]]]:
        """For each layer of either side the layers of the other one in each of its pairs."""
        found: tuple[dict[str, set[frozenset[str]]], dict[str, set[frozenset[str]]]] = {}, {}
        for pair in self.rungs.pairing.pairs:
            for place, group in enumerate(pair.both if pair.left.kind != PARENT and not pair.left.in_turn else ()):
                others = frozenset(layer.path for layer in pair.both[1 - place].layers)
                for layer in group.layers:
                    found[place].setdefault(layer.path, set()).add(others)
        return found

    @cached_property
    def partners(self) -> dict[str, tuple[GroupPair, str]]:
        """For each right layer its pair, and the path of the left layer that is given the same."""
        found: dict[str, tuple[GroupPair, str]] = {}
        lefts, rights = self._partner_sets
        for pair in self.pairs:
            for layer in pair.right.layers:
                first, path = pair.left.layers[0].path, layer.path
                whole = (
                    pair.left.kind == PARENT
                    or pair.left.in_turn
                    or (
                        len(rights[path]) == 1
                        and all(len(lefts[one.path]) == 1 for one in pair.left.layers)
                        and len({self._first_input(one.path) for one in pair.left.layers}) == 1
                    )
                )
                of_first = pair.left.kind in RECURRENT and all(group.part in FIRST_LAYER for group in pair.both)
                if whole or of_first:
                    found.setdefault(path, (pair, first))
        return found

    def _first_input(self, left: str) -> str:
        """The name of the array that a left layer is given first."""
        call = next(iter(self.sides[0].called.get(left, [])), None)
        return next(iter(call.inputs.values()), "") if call else ""

    def calls(self, path: str) -> list[tuple[RecordedCall, RecordedCall]]:
        """The calls of a right layer with those of the left one; none where they are not as many."""
        pair, first = self.partners[path]
        both = self.sides[0].called.get(first, []), self.sides[1].called.get(path, [])
        if pair.left.in_turn:
            both = pair.left.recorded, pair.right.recorded
        together = zip(*both, strict=True) if len(both[0]) == len(both[1]) else ()
        return [(left, right) for left, right in together if right.layer == path]

    def inputs(self, path: str, number: int) -> dict[str, Array]:
        """The arrays that a call of a right layer is given, by the names of its arguments: the left one's of the same
        names, the first for the first, and of the rest those that are nearly the right side's own."""
        pair, _ = self.partners[path]
        left, right = self.calls(path)[number]
        arrays, owns = (side.arrays("layers") for side in self.sides)
        ours, theirs = (self.fed(side, call) for side, call in zip(self.sides, (left, right), strict=True))
        found: dict[str, Array] = {}
        by_array: dict[str, Array] = {}  # by the right side's own array, which may be that of several arguments
        rest = [name for name in ours if name not in theirs]
        for place, (name, own) in enumerate(theirs.items()):
            known = by_array.get(own)
            for other in () if known is not None else [name] if name in ours else rest[: None if place else 1]:
                made = laid_out(arrays[ours[other]], owns[own], pair, self.rungs.ways(pair.name, pair))
                if made is not None and (other == name or place == 0 or near(made, owns[own])):
                    known, rest = made, [one for one in rest if one != other]
                    break
            if known is not None:
                found[name] = by_array[own] = known
        return found

    @staticmethod
    def fed(side: Side, call: RecordedCall) -> dict[str, str]:
        """Those of a call's inputs that may be fed. A mask is each side's own, since what it means may be the
        opposite."""
        arrays = side.arrays("layers")
        return {
            name: own for name, own in call.inputs.items() if arrays.dtype(own).kind in "fiu" and "mask" not in name
        }

    @cached_property
    def outputs(self) -> dict[str, Array]:
        """What the left side has for arrays of outputs of the right one, by the right side's names of them."""
        right = self.rungs.right
        values: dict[str, Array] = {}
        known: dict[str, Array] = {}
        for pair in self.pairs:
            calls = pair.left.calls, pair.right.calls
            for one, other in zip(*calls, strict=True) if len(calls[0]) == len(calls[1]) else ():
                (spans, outputs), gave = places_of(pair.right, other), pair.left.outputs(one)
                names, _ = self.rungs.compared_outputs(pair, one, other)
                own = [right.arrays("layers")[part].ravel() for part in other]
                for name, read in outputs.items() if own else ():
                    where = read()
                    changes = activations(pair)  # of the left one alone, since the right one's is what it gives
                    if name not in names or changes is None or changes[1] is not np.asarray:
                        continue
                    ways = self.rungs.ways(pair.name, pair)
                    made = laid_out(changes[0](gave[name]()), np.concatenate(own)[where], pair, ways)
                    if made is None:
                        continue
                    for part, span in spans.items():
                        here, size = (where >= span.start) & (where < span.stop), span.stop - span.start
                        values.setdefault(part, np.zeros(size, made.dtype))[where[here] - span.start] = made[here]
                        known.setdefault(part, np.zeros(size, bool))[where[here] - span.start] = True
        return {name: values[name].reshape(right.shape(name, "layers")) for name in values if known[name].all()}


def containing(side: Side, paths: frozenset[str], paired: set[str]) -> RecordedLayer | None:
    """The smallest layer in which these are, and no other one that is paired."""
    found = []
    for layer in side.says.layers:
        starts = tuple(f"{layer.path}{dot}" for dot in "./") if layer.path else ("",)
        within = {path for path in paired if path.startswith(starts) or path == layer.path}
        if within - {layer.path} == paths - {layer.path} and layer.path in side.called:
            found.append(layer)
    return max(found, key=lambda layer: len(layer.path), default=None)


def laid_out(array: Array, own: Array, pair: GroupPair, ways: Ways) -> Array | None:
    """An array of the left side in the layout of the right side's own one; None where nothing tells how. Of several
    ways that fit the nearest to the right side's numbers is chosen."""
    if pair.left.kind in RECURRENT and array.ndim == 3:
        made = [array.swapaxes(0, 1) if time_is_turned(pair) else array]
    else:
        made = [backwards(way, array) for way in ways.values()] + [way(array) for way in reordered(pair)]
    fitting = [one for one in made if one.shape == own.shape]
    if not fitting and array.size == own.size and without_ones(array.shape, own.shape):
        fitting = [array.reshape(own.shape)]
    if len(fitting) < 2:
        return fitting[0] if fitting else None
    errors = [largest_difference(own, one)[0] for one in fitting]
    return fitting[nearest_arrangement(errors)]


def backwards(way: Callable[[Array], Array], array: Array) -> Array:
    """The array that this way turns into the given one."""
    order = way(np.broadcast_to(0, range(1, array.ndim + 1))).shape  # an axis of one number, one of two, and so on
    return array.transpose(np.argsort(order))


def reordered(pair: GroupPair) -> Iterator[Callable[[Array], Array]]:
    """How the last axis is reordered where the kernels' axis of inputs is, by a mapping or by their numbers."""
    left, right = (
        ([group for group in layout.axes if len(group) > 1] for layout in pair.entry.both) if pair.entry else ((), ())
    )
    for one, other in product(left, right):
        if pair.entry and {*one} == {*other} and PARTS not in one:
            sizes = [pair.entry.left.sizes[axis] for axis in one]
            yield partial(with_last_axis, sizes, [one.index(axis) for axis in other])


def with_last_axis(sizes: Sequence[int], order: Sequence[int], array: Array) -> Array:
    """The array whose last axis is a product of these sizes, with them in another order; as it is where it is not."""
    if array.shape[-1:] != (prod(sizes),):
        return array
    lead = array.shape[:-1]
    axes = [*range(len(lead)), *(len(lead) + place for place in order)]
    return array.reshape(*lead, *sizes).transpose(axes).reshape(array.shape)


def without_ones(one: tuple[int, ...], other: tuple[int, ...]) -> bool:
    """Whether two shapes are the same but for axes of one number, or for last axes that are one on one side."""
    short, long = sorted(([size for size in shape if size != 1] for shape in (one, other)), key=len)
    return short == long or (bool(short) and short[:-1] == long[: len(short) - 1])


def near(one: Array, other: Array) -> bool:
    return one.shape == other.shape and largest_difference(other, one)[0] <= NEAR * (largest(one) or 1.0)


def write_feed(folder: Path, feeding: Feeding) -> int:
    """Write a feed into a folder; returns how many calls have one. Raises CannotBeginError for a folder that holds
    anything else, and where the left side has no inputs of layers."""
    left = feeding.rungs.left
    if not any(call.inputs for call in left.says.calls):
        raise UnfitRecordsError(f"{left.name} has no inputs of layers; record it again with today's rosetta_record")
    path = folder / "feed.safetensors"
    if folder.exists() and not is_feed(path) and (not folder.is_dir() or any(folder.iterdir())):
        raise CannotBeginError(f"{folder} exists and is no feed; give --feed the name of a new folder")
    arrays = {f"gradients 0 |{name}": array for name, array in gradients_of(feeding.rungs).items()}
    outputs, count = feeding.outputs, 0
    for layer in feeding.partners:
        for number, (_, call) in enumerate(feeding.calls(layer)):
            given = feeding.inputs(layer, number)
            gave = {f"{part}": outputs[name] for part, name in enumerate(call.parts) if name in outputs}
            for kind, own in (("inputs", given), ("outputs", gave)):
                arrays.update({f"{kind} {number} {layer}|{name}": array for name, array in own.items()})
            count += 1
    folder.mkdir(parents=True, exist_ok=True)
    arrays = {name: np.asarray(array, order="C") for name, array in arrays.items()}
    write_atomically(path, save(arrays, {"format": FORMAT, "of": numbers_of(left)}))
    return count


def is_feed(path: Path) -> bool:
    """Return whether `write_feed` wrote this file."""
    if not path.is_file():
        return False
    try:
        with safe_open(path, "np") as file:
            metadata: dict[str, str] = file.metadata() or {}
    except (OSError, SafetensorError):
        return False
    return metadata.get("format") == FORMAT


def gradients_of(rungs: Rungs) -> dict[str, Array]:
    """The left side's gradients by the right side's weights; none where one has no place there. Raises
    UnfitRecordsError for one of another shape than its weight's, which no framework writes."""
    pairs, left = rungs.pairing.pairs, rungs.left
    gradients = left.arrays("gradients")
    for name in gradients:
        if name in left.arrays("weights") and gradients.shape(name) != left.shape(name):
            raise UnfitRecordsError(
                f"the gradient of {name} in {left.name} has the shape {gradients.shape(name)}, expected "
                f"{left.shape(name)}; record it again"
            )
    if any(tensor.times != 1 for pair in pairs for tensor in pair.right.tensors.values()):
        return {}
    try:
        return laid_out_weights(pairs, gradients, lambda name: np.zeros(rungs.right.shape(name)), are_weights=False)
    except UnfitRecordsError:
        return {}


def numbers_of(side: Side) -> str:
    """What tells the numbers of a record's layers from those of another one."""
    path, found = side.path / "layers.safetensors", hashlib.blake2b()
    if path.exists():
        with path.open("rb") as file:
            while block := file.read(READ_AT_ONCE):
                found.update(block)
    return found.hexdigest()
