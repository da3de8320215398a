"""Writes a feed: what the left side's layers gave, by the right side's names and in its layout."""

import hashlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from benchmarks.ladder.arrays import Array, largest_difference, nearest_arrangement
from benchmarks.ladder.carry import laid_out
from benchmarks.ladder.judge.items import Rungs, activations
from benchmarks.ladder.pair.pairs import LayerPair
from benchmarks.ladder.read.description import RecordedCall, RecordedLayer, UnfitRecordsError
from benchmarks.ladder.read.groups import WeightGroup
from benchmarks.ladder.read.record import Side, is_within
from benchmarks.ladder.read.rules import PARENT, RECURRENT
from common.errors import CannotBeginError
from common.files import write_atomically

FORMAT = "rosetta-feed"
FIRST_LAYER = ("", "l0", "l0_reverse")  # parts of a stacked recurrent layer that are given what the layer is given
READ_AT_ONCE = 1 << 22  # bytes of a file


@dataclass(frozen=True)
class Partners:
    """Finds the left call that is given the same as a right one."""

    rungs: Rungs

    @cached_property
    def pairs(self) -> list[LayerPair]:
        """The pairs, and those of a layer and of the one that holds all layers in which the other side has its
        parts."""
        sides, pairs = self.rungs.pairing.sides, list(self.rungs.pairing.pairs)
        known = {(pair.left.layer.path, pair.right.layer.path) for pair in pairs if pair.left.kind == PARENT}
        for place, sets in enumerate(self._sets):
            layers = {layer.path: layer for layer in sides[place].says.layers}
            for path, of_pairs in sets.items():
                paths = frozenset(part for of_pair in of_pairs for part in of_pair)
                holder = holding(sides[1 - place], paths, self._sets[1 - place]) if len(of_pairs) > 1 else None
                if holder:
                    left, right = (layers[path], holder) if place == 0 else (holder, layers[path])
                    if (left.path, right.path) not in known:
                        known.add((left.path, right.path))
                        groups = WeightGroup(sides[0], PARENT, (left,)), WeightGroup(sides[1], PARENT, (right,))
                        pairs.append(LayerPair.of_groups(*groups, "order"))
        return pairs

    @cached_property
    def _sets(self) -> tuple[dict[str, set[frozenset[str]]], dict[str, set[frozenset[str]]]]:
        """For each layer of either side the layers of the other one in each of its pairs."""
        sets: tuple[dict[str, set[frozenset[str]]], dict[str, set[frozenset[str]]]] = {}, {}
        for pair in self.rungs.pairing.pairs:
            for place, group in enumerate(pair.both if pair.left.kind != PARENT and pair.numbers is None else ()):
                partners = frozenset(layer.path for layer in pair.both[1 - place].layers)
                for layer in group.layers:
                    sets[place].setdefault(layer.path, set()).add(partners)
        return sets

    @cached_property
    def of_call(self) -> dict[tuple[str, int], tuple[LayerPair, RecordedCall]]:
        """For each call of a right layer, by the layer's path and its number, its pair and the left call that is
        given the same."""
        partners: dict[tuple[str, int], tuple[LayerPair, RecordedCall]] = {}
        lefts, rights = self._sets
        for pair in self.pairs:
            paths = [layer.path for layer in pair.left.layers]
            alone = all(len(lefts.get(path, ())) == 1 for path in paths)
            alone = alone and len({self._first_input(path) for path in paths}) == 1
            of_first = pair.left.kind in RECURRENT and all(group.part in FIRST_LAYER for group in pair.both)
            whole = pair.left.kind == PARENT or pair.numbers is not None
            for recorded, call in ((recorded, of) for of in pair.calls for recorded in of.right.recorded):
                if whole or of_first or (alone and len(rights[recorded.layer]) == 1):
                    partners.setdefault((recorded.layer, call.right.number), (pair, call.left.recorded[0]))
        return partners

    def _first_input(self, left: str) -> str:
        """Name of the array that a left layer is given first."""
        call = next(iter(self.rungs.left.called.get(left, [])), None)
        return next(iter(call.inputs.values()), "") if call else ""

    def left_call(self, call: RecordedCall) -> RecordedCall | None:
        """The left side's call of this one of a replay, if there is one."""
        return self.of_call.get((call.layer, call.number), (None, None))[1]


def holding(side: Side, paths: frozenset[str], paired: Mapping[str, Any]) -> RecordedLayer | None:
    """The smallest layer that was called and in which these layers are, and no other one that is paired."""
    holders = []
    for layer in side.says.layers:
        within = {path for path in paired if is_within(path, layer.path) or path == layer.path}
        if within - {layer.path} == paths - {layer.path} and layer.path in side.called:
            holders.append(layer)
    return max(holders, key=lambda layer: len(layer.path), default=None)


def fed_outputs(partners: Partners) -> dict[str, Array]:
    """Outputs of the left layers, by the right side's names and in its layout: those of which the left side has the
    whole array."""
    rungs, right = partners.rungs, partners.rungs.right
    values: dict[str, Array] = {}
    written: dict[str, Array] = {}  # which numbers of these are the left side's
    for pair in partners.pairs:
        changes = activations(pair)
        if changes is None or changes[1] is not np.asarray:
            continue  # an activation of the left layer alone is of what the right one gives
        for call in pair.calls:
            for name in rungs.compared_outputs(pair, call)[0]:
                left, right_array = pair.left_output(call, name, changes[0]), pair.right_output(call, name)
                array = turned_back(left, right_array, rungs.turns.ways(pair.name, pair).values())
                if array is None:
                    continue
                tensor = pair.outputs(call)[1][name]
                for part in tensor.names:
                    values.setdefault(part, np.zeros(right.shape(part, "layers"), array.dtype))
                    written.setdefault(part, np.zeros(right.shape(part, "layers"), bool))
                tensor.write(array, values)
                tensor.write(np.broadcast_to(True, array.shape), written)
    return {name: array for name, array in values.items() if written[name].all()}


def turned_back(array: Array, right: Array, ways: Iterable[Callable[[Array], Array]]) -> Array | None:
    """A left array with its axes as the right one has them; None where nothing tells how. Of several ways that fit
    the nearest to the right array's numbers is chosen."""
    turned = []
    for way in ways:
        order = way(
            np.broadcast_to(0, range(1, array.ndim + 1))
        ).shape  # an axis of one number, one of two, and so on
        turned.append(array.transpose(np.argsort(order)))
    fitting = [candidate for candidate in turned if candidate.shape == right.shape]
    if len(fitting) < 2:
        return fitting[0] if fitting else None
    return fitting[nearest_arrangement([largest_difference(right, candidate)[0] for candidate in fitting])]


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
    if any(tensors.times != 1 for pair in pairs for tensors in pair.tensors.values()):
        return {}
    try:
        return laid_out(pairs, gradients.get, lambda name: np.zeros(rungs.right.shape(name)), are_weights=False)
    except UnfitRecordsError:
        return {}


def write_feed(folder: Path, rungs: Rungs) -> int:
    """Write a feed into a folder; return the number of calls whose output it has. Raises CannotBeginError for a
    folder that holds anything else, and where the left side has no outputs of layers."""
    left, path = rungs.left, folder / "feed.safetensors"
    if not any(call.inputs for call in left.says.calls):
        raise UnfitRecordsError(f"{left.name} has no inputs of layers; record it again with today's rosetta_record")
    if folder.exists() and not is_feed(path) and (not folder.is_dir() or any(folder.iterdir())):
        raise CannotBeginError(f"{folder} exists and is no feed; give --feed the name of a new folder")
    arrays = {f"gradients|{name}": array for name, array in gradients_of(rungs).items()}
    partners = Partners(rungs)
    outputs, calls = fed_outputs(partners), 0
    for layer, of_layer in rungs.right.called.items():
        for number, call in enumerate(of_layer):
            if (layer, number) not in partners.of_call:
                continue  # within a layer that is judged: fed, it would hide that layer's mistake
            given = {part: outputs[name] for part, name in enumerate(call.parts) if name in outputs}
            arrays |= {f"outputs {number} {layer}|{part}": array for part, array in given.items()}
            calls += bool(given)
    folder.mkdir(parents=True, exist_ok=True)
    arrays = {name: np.asarray(array, order="C") for name, array in arrays.items()}
    write_atomically(path, save(arrays, {"format": FORMAT, "of": checksum(left), "for": model_of(rungs.right)}))
    return calls


def is_feed(path: Path) -> bool:
    """Return whether `write_feed` wrote this file."""
    try:
        with safe_open(path, "np") as file:
            return bool((file.metadata() or {}).get("format") == FORMAT)
    except (OSError, SafetensorError):
        return False


def checksum(side: Side) -> str:
    """Tell the numbers of a record's layers from those of another one."""
    path, digest = side.path / "layers.safetensors", hashlib.blake2b()
    if path.exists():
        with path.open("rb") as file:
            while block := file.read(READ_AT_ONCE):
                digest.update(block)
    return digest.hexdigest()


def model_of(side: Side) -> str:
    """Tell a model from another one, by the names and shapes of its weights; as rosetta_record does."""
    shapes = {name: [*shape] for name, shape in sorted(side.arrays("weights").shapes.items())}
    return hashlib.blake2b(msgspec.json.encode(shapes)).hexdigest()
