"""Judges each layer of the right side by itself, by a replay in which each layer's output became the left one's.

A feed has what the left layers gave, in the layout of the right ones. So no mistake reaches another layer: a layer
that is wrong shows by what it gives, and what stands between layers by what comes to the next one. Nothing passes by
default: what could not be judged is listed.
"""

import hashlib
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from itertools import product
from math import prod
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from benchmarks.ladder.arrays import PRECISE, Array, largest_difference, nearest_arrangement
from benchmarks.ladder.carry import laid_out
from benchmarks.ladder.explain.broken import LIKELY, SEEN, Broken, Cause
from benchmarks.ladder.explain.causes import causes_of
from benchmarks.ladder.explain.facts import settings_differ
from benchmarks.ladder.judge.axes import OUTPUT, time_is_turned
from benchmarks.ladder.judge.check import Check, Item, judge, nearest
from benchmarks.ladder.judge.items import Rungs, activations
from benchmarks.ladder.pair.pairs import GroupPair
from benchmarks.ladder.read.description import RecordedCall, RecordedLayer, UnfitRecordsError
from benchmarks.ladder.read.groups import WeightGroup
from benchmarks.ladder.read.record import Side, is_within
from benchmarks.ladder.read.rules import PARENT, RECURRENT
from benchmarks.ladder.read.view import PARTS
from common.errors import CannotBeginError
from common.files import write_atomically
from common.text import some_of

FORMAT = "rosetta-feed"
FIRST_LAYER = ("", "l0", "l0_reverse")  # parts of a stacked recurrent layer that are given what the layer is given
READ_AT_ONCE = 1 << 22  # bytes of a file
MOST_SHOWN, MOST_EXPLAINED = 20, 10  # wrong places, and those of them whose causes are looked for
TAKES, GIVES = "is given", "gives"
LOSS, STEP = "the loss", "the optimizer's step"


@dataclass(frozen=True)
class Partners:
    """Finds the left call that is given the same as a right one."""

    rungs: Rungs

    @cached_property
    def pairs(self) -> list[GroupPair]:
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
                        groups = WeightGroup(sides[0], PARENT, left), WeightGroup(sides[1], PARENT, right)
                        pairs.append(GroupPair(*groups, "order"))
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
    def of_call(self) -> dict[tuple[str, int], tuple[GroupPair, RecordedCall]]:
        """For each call of a right layer, by the layer's path and its number, its pair and the left call that is
        given the same."""
        partners: dict[tuple[str, int], tuple[GroupPair, RecordedCall]] = {}
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


# The feed


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
                left, right_array = pair.left.output(call.left, name, changes[0]), pair.right.output(call.right, name)
                array = turned_back(left, right_array, rungs.turns.ways(pair.name, pair).values())
                if array is None:
                    continue
                tensor = pair.right.outputs(call.right)[name]
                for part in tensor.names:
                    values.setdefault(part, np.zeros(right.shape(part, "layers"), array.dtype))
                    written.setdefault(part, np.zeros(right.shape(part, "layers"), bool))
                tensor.write(array, values)
                tensor.write(np.broadcast_to(True, array.shape), written)
    return {name: array for name, array in values.items() if written[name].all()}


def turned_back(array: Array, right: Array, ways: Iterable[Callable[[Array], Array]]) -> Array | None:
    """A left array with its axes as the right one has them; None where nothing tells how. Of several ways that fit
    the nearest to the right array's numbers is chosen."""
    made = []
    for way in ways:
        order = way(
            np.broadcast_to(0, range(1, array.ndim + 1))
        ).shape  # an axis of one number, one of two, and so on
        made.append(array.transpose(np.argsort(order)))
    fitting = [candidate for candidate in made if candidate.shape == right.shape]
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
    if any(tensor.times != 1 for pair in pairs for tensor in pair.right.tensors.values()):
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


# The replay


@dataclass(frozen=True)
class Wrong:
    """A place where the right side computes otherwise."""

    layer: str  # of the right side
    what: str  # whether it is what the layer gives, or what it is given
    check: Check
    lines: tuple[str, str]  # that call it, on the left and on the right
    causes: list[Cause] = field(default_factory=list)

    @property
    def place(self) -> str:
        return f"{self.layer or 'the model'} {self.what}"

    @property
    def sentence(self) -> str:
        error = "" if self.check.finite_error is None else f"error {self.check.error:.1e}, "
        where = f"{self.check.place}: " if self.check.place else ""
        return f"{self.what}: {error}bound {self.check.tolerance:.1e}; {where}{self.check.note}"


@dataclass
class Replay:
    """Verdicts on each layer of the right side by itself."""

    partners: Partners
    rungs: Rungs  # of the left side and the replay
    judged: set[str] = field(default_factory=set)  # the right side's layers
    wrong: list[Wrong] = field(default_factory=list)
    inside: list[Wrong] = field(default_factory=list)  # places that differ though what the model gives agrees
    not_judged: dict[str, str] = field(default_factory=dict)  # the right side's layers, and why
    settings: dict[str, list[str]] = field(default_factory=dict)  # that differ, and right layers that give the same

    def as_json(self) -> dict[str, Any]:
        wrong = [
            {"layer": place.layer, "what": place.sentence, "lines": list(place.lines), "check": place.check.as_json()}
            | {"causes": [cause.sentence for cause in place.causes], "inside": place in self.inside}
            for place in (*self.wrong, *self.inside)
        ]
        report = {"judged": sorted(self.judged), "wrong": wrong, "not_judged": self.not_judged}
        return report | {"settings": self.settings}

    def lines(self) -> Iterator[str]:
        """The result in words."""
        number = len({place.layer for place in self.wrong})
        are = "none is wrong" if not number else f"{number} {'is' if number == 1 else 'are'} wrong"
        yield f"each layer by itself, after what the left ones gave: of {len(self.judged)} judged {are}"
        for place in self.wrong[:MOST_SHOWN]:
            yield f"  {place.layer or 'the model'} {place.sentence}"
            left, right = place.lines
            if right:
                yield f"    called by {right}"
                yield from [f"    on the left by {left}"] if left else []
            for cause in place.causes:
                yield f"    {cause.standing}: {cause.line}"
        if self.inside:
            yield (
                f"  places that differ though what the model gives agrees, since they are cut, masked or called "
                f"otherwise: {len(self.inside)}, such as {self.inside[0].layer} {self.inside[0].sentence}"
            )
        if len(self.wrong) > MOST_SHOWN:
            yield f"  {len(self.wrong) - MOST_SHOWN} more such places; --json has them"
        for line, layers in self.settings.items():
            yield f"  no effect in the judged calls of {some_of(layers)}: {line}"
        for reason in dict.fromkeys(self.not_judged.values()):
            names = [name for name, why in self.not_judged.items() if why == reason]
            more = f" and {len(names) - 3} more" if len(names) > 3 else ""
            yield f"  not judged: {', '.join(name or 'the model' for name in names[:3])}{more}, {reason}"

    def judge(self) -> None:
        """Judge each call of the replay as it ran: what came to a layer, then what the layer gave."""
        outputs: dict[tuple[str, int], list[Item]] = {}
        for item in self.rungs.items("forward"):
            for place in places(item):
                outputs.setdefault(place, []).append(item)
        calls = [call for call in self.rungs.right.says.calls if self.partners.left_call(call)]
        arrivals = {(call.layer, call.number): [*self._arrivals(call)] for call in calls}
        arrived = {
            key: [arrival for arrival in of if not arrival[0].passed] for key, of in arrivals.items()
        }  # otherwise
        unfed = ""  # a wrong layer whose output did not become the left one's
        seen, settings = set[int](), dict[str, list[str]]()
        for call in self.rungs.right.says.calls:
            key = call.layer, call.number
            if arrived.get(key) and unfed:
                self.not_judged.setdefault(call.layer, f"since it comes after {unfed}, which is wrong")
                continue
            for check, array in arrived.get(key, ()):
                above = (place for place in arrived if is_within(call.layer, place[0]) and place[0] != call.layer)
                if not any(array == outer for place in above for _, outer in arrived[place]):
                    self._add(check, call, TAKES)
            for item in outputs.get(key, ()):
                of_item = places(item)
                if id(item) in seen or not {*of_item} <= arrived.keys():
                    continue
                seen.add(id(item))
                if any(arrived[place] for place in of_item):
                    self.not_judged.setdefault(call.layer, "since it is given something else, which comes first")
                    continue
                check = judge(item)
                if not (check.passed or arrivals[key]) and unfed:
                    self.not_judged.setdefault(call.layer, f"since it comes after {unfed}, which is wrong")
                    continue
                self.judged.update(path for path, _ in of_item)
                if check.passed:
                    for cause in settings_differ(Broken(self.rungs, check, [check])):
                        settings.setdefault(cause.line, []).append(call.layer)
                else:
                    self._add(check, call, GIVES)
                    unfed = unfed if len(call.fed_outputs) == len(call.parts) else call.layer
        wrong = {place.layer for place in self.wrong}
        same = {line: [path for path in dict.fromkeys(of) if path not in wrong] for line, of in settings.items()}
        self.settings = {line: layers for line, layers in same.items() if layers}
        told = self.judged | wrong  # of another call
        self.not_judged = {path: why for path, why in self.not_judged.items() if path not in told}
        self._list_not_judged(told)
        self._judge_loss()
        self._judge_step()

    def _arrivals(self, call: RecordedCall) -> Iterator[tuple[Check, str]]:
        """Compare the arguments of a call with those of the left call, where shapes fit: arguments of the same names,
        and the first ones; each with the name of its array."""
        pair, left_call = self.partners.of_call[call.layer, call.number]
        sides, bound = (self.rungs.left, self.rungs.right), self.rungs.tolerances["outputs"]
        arrays = [side.arrays("layers") for side in sides]
        left, right = (comparable(side, of) for side, of in zip(sides, (left_call, call), strict=True))
        ways = self._ways_of_input(pair)
        others = [name for name in left if name not in right]
        for place, (name, right_name) in enumerate(right.items()):
            left_names = [left[name]] if name in left else [left[other] for other in others[: 0 if place else 1]]
            for left_name in left_names:
                shape, wanted = sides[1].shape(right_name, "layers"), sides[0].shape(left_name, "layers")
                if any(way(np.broadcast_to(0, shape)).shape == wanted for way in ways.values()):
                    loads = partial(arrays[0].__getitem__, left_name), partial(arrays[1].__getitem__, right_name)
                    of_pair: dict[str, Any] = {"is_output": True, "pair": pair, "ways": ways, "axes": OUTPUT}
                    yield judge(Item("forward", name, *loads, bound, **of_pair)), right_name

    def _ways_of_input(self, pair: GroupPair) -> dict[str, Callable[[Array], Array]]:
        """Ways in which an argument of the right layer may be turned to stand as the left one's."""
        if pair.left.kind in RECURRENT:
            return {"": partial(rows_first, time_is_turned(pair))}
        ways, entry = dict(self.rungs.turns.ways(pair.name, pair)), pair.entry
        for left, right in product(*entry.axes) if entry else ():
            if entry and len(left) > 1 and {*left} == {*right} and PARTS not in left:  # the kernels' axis of inputs
                sizes = [entry.sizes[name] for name in right]
                ways[" ".join(right)] = partial(with_last_axis, sizes, [right.index(name) for name in left])
        return ways

    def _add(self, check: Check, call: RecordedCall, what: str) -> None:
        item, left = check.item, self.partners.left_call(call)
        lines = tuple(f"{of.line}: {of.code}" if of and of.line else "" for of in (left, call))
        words = what if what == GIVES else f"{what} another {item.tensor}"
        layer = (
            item.pair.right.name if item.pair and len(item.pair.right.layers) > 1 and what == GIVES else call.layer
        )
        if any((place.layer, place.what) == (layer, words) for place in self.wrong):  # of another call or output
            return
        causes: list[Cause] = []
        if what == GIVES and len(self.wrong) < MOST_EXPLAINED:
            causes = self._causes(check, [check])
        self.wrong.append(Wrong(layer, words, check, (lines[0], lines[1]), causes))

    def _causes(self, check: Check, failed: Sequence[Check]) -> list[Cause]:
        """Causes whose test passed, else settings that differ; what else is told needs the whole model."""
        found = [cause for cause in causes_of(self.rungs, check, failed) if cause.standing == LIKELY]
        differ = settings_differ(Broken(self.rungs, check, failed)) if check.item.is_output and not found else ()
        return [*found, *(replace(cause, standing=SEEN) for cause in differ)]

    def _judge_loss(self) -> None:
        """Judge the loss of the left side's outputs, where the model's own became these."""
        layers, called = self.rungs.right.says.layers, self.rungs.right.called
        model = next(iter(called.get(layers[0].path, ())), None) if layers else None
        if model and len(model.fed_outputs) == len(model.parts):
            self._judge_rung(LOSS, [*self.rungs.items("loss")])

    def _judge_step(self) -> None:
        """Judge one step of the optimizer with the left side's gradients, of the weights that are the same."""
        if not self.rungs.right.says.steps:
            return
        weights = [item for item in self.rungs.items("weights") if judge(item).passed]
        same = {(item.pair.name, item.name) for item in weights if item.pair}
        judged = list[Item]()
        for item in self.rungs.items("step"):
            of_rounding = item.pair and self.rungs.rounding_alone(item.pair, item.name)
            if of_rounding and not judge(item).passed:
                self.not_judged[f"{STEP} of {item.tensor}"] = "whose gradient is rounding alone"
            elif not item.pair or (item.pair.name, item.name) in same:
                judged.append(item)
        self._judge_rung(STEP, judged)

    def _judge_rung(self, name: str, items: Sequence[Item]) -> None:
        """Judge what no layer computes; of all that fails the nearest to the cause is told."""
        if items:
            self.judged.add(name)
        failed = [check for item in items if not (check := judge(item)).passed]
        if failed:
            check = nearest(failed)
            what = GIVES if name == LOSS else f"of {check.tensor}"
            self.wrong.append(Wrong(name, what, check, ("", ""), self._causes(check, failed)))

    def _list_not_judged(self, told: Collection[str]) -> None:
        """List the layers with weights, and those without that a side called and that are paired or have no parts, of
        which not a call was judged."""
        partners, right = self.partners, self.partners.rungs.right
        holders = {layer.path.rpartition(dot)[0] for layer in right.says.layers for dot in "./"}
        of_parts = {pair.right.layer.path for pair in partners.pairs[len(partners.rungs.pairing.pairs) :]}
        paired = {path for path, _ in partners.of_call}
        for layer in right.says.layers:
            path = layer.path
            within = any(holder in self.judged and is_within(path, holder) for holder in of_parts)
            computes = layer.own or (path in right.called and (path in paired or path not in holders))
            if path in told or within or not computes:
                continue
            if path not in right.called:
                why = "which was not called"
            elif path not in paired:
                why = "of which no call has one on the left that is given the same"
            elif path not in self.rungs.right.called:
                why = "which was not called in the replay; if the model has changed, write a feed anew"
            else:
                why = "whose output is of another kind or shape than the left one's"
            self.not_judged.setdefault(path, why)


def comparable(side: Side, call: RecordedCall) -> dict[str, str]:
    """The arguments of a call that may be compared. A mask is each side's own, since what it means may be the
    opposite."""
    arrays = side.arrays("layers")
    inputs = call.inputs.items()
    return {name: array for name, array in inputs if arrays.dtype(array).kind in "fiu" and "mask" not in name}


def rows_first(time_is_turned: bool, array: Array) -> Array:
    return array.swapaxes(0, 1) if time_is_turned and array.ndim == 3 else array


def with_last_axis(sizes: Sequence[int], order: Sequence[int], array: Array) -> Array:
    """The array whose last axis is a product of these sizes, with them in another order; as it is where it is not."""
    if array.shape[-1:] != (prod(sizes),):
        return array
    lead = array.shape[:-1]
    axes = [*range(len(lead)), *(len(lead) + place for place in order)]
    return array.reshape(*lead, *sizes).transpose(axes).reshape(array.shape)


def replay_of(rungs: Rungs, agrees: bool, notes: list[str]) -> Replay | None:
    """Judge each layer of the right side by itself; None where no replay was recorded. `agrees` is true if the whole
    model's outputs agree. `notes` get the reason why a replay cannot be judged."""
    side = rungs.right.replay
    if side is None:
        return None
    if side.says.fed != checksum(rungs.left):
        notes.append(
            f"{rungs.right.name} was fed by another record than {rungs.left.name}; --feed writes a feed anew"
        )
        return None
    partners = Partners(rungs)
    replay = Replay(partners, rungs_of(partners, side))
    replay.judge()
    if agrees:
        replay.inside = [place for place in replay.wrong if place.layer not in (LOSS, STEP)]
        replay.wrong = [place for place in replay.wrong if place.layer in (LOSS, STEP)]
    return replay


def rungs_of(partners: Partners, side: Side) -> Rungs:
    """The left side and a replay, whose layers are paired as those of the right side."""
    rungs = partners.rungs
    pairs = [replace(pair, right=replace(pair.right, side=side)) for pair in partners.pairs]
    noise = {} if rungs.tolerances.precision in PRECISE else rungs.noise
    pairing = replace(rungs.pairing, sides=(rungs.left, side), pairs=pairs, left=[], right=[])
    return Rungs(rungs.left, side, pairing, noise, rungs.accept)


def places(item: Item) -> list[tuple[str, int]]:
    """The right layers whose output an item is, each with the number of its call."""
    call = item.call.right if item.call else None
    return [(recorded.layer, call.number) for recorded in call.recorded] if call else []
