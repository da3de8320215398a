"""Judges each layer of the right side by itself, by a replay in which it was given what the left one was given.

Two things of a call are judged: what the layer gives, and what came to it, which the layers around it compute. Either
is compared with the left side's before the left side's takes its place, so a mistake shows once, where it is. Nothing
passes by default: what could not be judged is listed.
"""

from collections.abc import Iterator, Mapping, Sequence
from copy import copy
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import msgspec
import numpy as np

from benchmarks.ladder.arrays import PRECISE
from benchmarks.ladder.explain.broken import LIKELY, SEEN, Broken, Cause
from benchmarks.ladder.explain.causes import causes_of
from benchmarks.ladder.explain.facts import settings_differ
from benchmarks.ladder.feed import Feeding, numbers_of
from benchmarks.ladder.judge.check import Check, Item, judge, nearest
from benchmarks.ladder.judge.items import OUTPUT, Rungs
from benchmarks.ladder.read.record import RecordedCall, Side, is_within
from common.text import some_of

MOST_SHOWN, MOST_EXPLAINED = 20, 10  # wrong places, and those of them whose causes are looked for
TAKES, GIVES = "is given", "gives"
LOSS, STEP = "the loss", "the optimizer's step"


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
    """What is known of each layer of the right side by itself."""

    feeding: Feeding
    rungs: Rungs  # of the left side and the replay
    side: Side  # the replay
    judged: set[str] = field(default_factory=set)  # the right side's layers
    wrong: list[Wrong] = field(default_factory=list)
    inside: list[Wrong] = field(default_factory=list)  # places that differ though what the model gives agrees
    not_judged: dict[str, str] = field(default_factory=dict)  # the right side's layers, and why
    settings: dict[str, list[str]] = field(default_factory=dict)  # that differ, and right layers that give the same
    planted: str = ""  # the layer in which the control had a mistake
    seen: bool = False  # whether that was seen

    def as_json(self) -> dict[str, Any]:
        wrong = [
            {"layer": one.layer, "what": one.sentence, "lines": list(one.lines), "check": one.check.as_json()}
            | {"causes": [cause.sentence for cause in one.causes], "inside": one in self.inside}
            for one in (*self.wrong, *self.inside)
        ]
        control = {"planted": self.planted or None, "seen": self.seen}
        found = {"judged": sorted(self.judged), "wrong": wrong, "not_judged": self.not_judged}
        return found | {"settings": self.settings, "control": control}

    def lines(self) -> Iterator[str]:
        """What is said of it."""
        number = len({one.layer for one in self.wrong})
        are = "none is wrong" if not number else f"{number} {'is' if number == 1 else 'are'} wrong"
        yield f"each layer by itself, given what the left one was given: of {len(self.judged)} judged {are}"
        for one in self.wrong[:MOST_SHOWN]:
            yield f"  {one.layer or 'the model'} {one.sentence}"
            left, right = one.lines
            if right:
                yield f"    called by {right}"
                yield from [f"    on the left by {left}"] if left else []
            for cause in one.causes:
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
        seen = "was seen" if self.seen else "was NOT seen"
        yield f"control: a mistake planted in {self.planted or 'a layer'} {seen}"

    def judge(self) -> None:
        fed = self._fed()
        items: dict[tuple[str, int], list[Item]] = {}
        for item in self.rungs.items("forward"):
            for place in places(item):
                items.setdefault(place, []).append(item)
        unfed = ""  # a wrong layer whose output did not become the left one's
        seen = set[int]()
        for call in self.side.says.calls:
            key = call.layer, call.number
            if key not in fed:
                continue
            for item in self._arrivals(call):
                check = judge(item)
                if not check.passed and unfed:
                    self.not_judged.setdefault(call.layer, f"since it comes after {unfed}, which is wrong")
                elif not check.passed:
                    self._add(check, call, TAKES)
            for item in items.get(key, []):
                if id(item) in seen or not {*places(item)} <= fed.keys():
                    continue
                seen.add(id(item))
                self.judged.update(path for path, _ in places(item))
                check = judge(item)
                if check.passed:
                    for cause in settings_differ(Broken(self.rungs, check, [check])):
                        self.settings.setdefault(cause.line, []).append(call.layer)
                else:
                    self._add(check, call, GIVES)
                    unfed = unfed if len(call.fed_outputs) == len(call.parts) else call.layer
        wrong = {one.layer for one in self.wrong}
        same = {line: [one for one in dict.fromkeys(of) if one not in wrong] for line, of in self.settings.items()}
        self.settings = {line: layers for line, layers in same.items() if layers}
        self._loss(fed)
        self._step()
        self._not_judged(fed)
        self._control()

    def _fed(self) -> dict[tuple[str, int], RecordedCall]:
        """The calls that were given all that the left one's was."""
        found = {}
        for call in self.side.says.calls:
            if call.layer in self.feeding.partners and call.number < len(self.feeding.calls(call.layer)):
                given = self.feeding.inputs(call.layer, call.number).keys()
                was_fed = given <= {*call.fed_inputs} & call.inputs.keys()
                if was_fed and (given or not self.feeding.fed(self.side, call)):
                    found[call.layer, call.number] = call
        return found

    def _arrivals(self, call: RecordedCall) -> Iterator[Item]:
        """What came to a layer beside what came to the left one."""
        pair, _ = self.feeding.partners[call.layer]
        arrays = self.side.arrays("layers")
        for name, left in self.feeding.inputs(call.layer, call.number).items():
            right, bound = partial(arrays.__getitem__, call.inputs[name]), self.rungs.tolerances["outputs"]
            yield Item(
                "forward", name, partial(np.asarray, left), right, bound, is_output=True, pair=pair, axes=OUTPUT
            )

    def _add(self, check: Check, call: RecordedCall, what: str) -> None:
        item, left = check.item, self.feeding.calls(call.layer)[call.number][0]
        left_line, right_line = (f"{one.line}: {one.code}" if one.line else "" for one in (left, call))
        words = what if what == GIVES else f"{what} another {item.tensor}"
        layer = item.pair.right.name if item.pair and item.pair.right.side_by_side and what == GIVES else call.layer
        if any((one.layer, one.what) == (layer, words) for one in self.wrong):  # of another call or output
            return
        causes: list[Cause] = []
        if what == GIVES and len(self.wrong) < MOST_EXPLAINED:
            causes = self._causes(check, [check])
        self.wrong.append(Wrong(layer, words, check, (left_line, right_line), causes))

    def _causes(self, check: Check, failed: Sequence[Check]) -> list[Cause]:
        """Those whose test passed, else settings that differ; what else is told needs the whole model."""
        found = [one for one in causes_of(self.rungs, check, failed) if one.standing == LIKELY]
        differ = settings_differ(Broken(self.rungs, check, failed)) if check.item.is_output and not found else ()
        return [*found, *(replace(one, standing=SEEN) for one in differ)]

    def _loss(self, fed: Mapping[tuple[str, int], RecordedCall]) -> None:
        """Judge the loss of the left side's outputs, where the model's own became these."""
        model = fed.get((self.side.says.layers[0].path, 0)) if self.side.says.layers else None
        if model and len(model.fed_outputs) == len(model.parts):
            self._judge_rung(LOSS, [*self.rungs.items("loss")])

    def _step(self) -> None:
        """Judge one step of the optimizer with the left side's gradients, of the weights that are the same."""
        if self.side.says.steps:
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

    def _not_judged(self, fed: Mapping[tuple[str, int], RecordedCall]) -> None:
        """List the layers with weights, and those without that a side called and that are paired or have no parts, of
        which not a call was judged."""
        feeding, left, right = self.feeding, self.feeding.rungs.left, self.feeding.rungs.right
        holders = {layer.path.rpartition(dot)[0] for layer in right.says.layers for dot in "./"}
        of_parts = {pair.right.layer.path for pair in feeding.pairs[len(feeding.rungs.pairing.pairs) :]}
        for layer in right.says.layers:
            path = layer.path
            within = any(holder in self.judged and is_within(path, holder) for holder in of_parts)
            is_paired = path in feeding.partners
            was_called = path in right.called or (is_paired and feeding.partners[path][1] in left.called)
            computes = layer.own or (was_called and (is_paired or path not in holders))
            if path in self.judged or within or not computes:
                continue
            if path not in right.called:
                why = "which was not called"
            elif not is_paired:
                why = "which no layer of the left side is given the same as"
            elif not feeding.calls(path):
                why = "which the left side called another number of times"
            elif any(key[0] == path for key in fed):
                why = "whose output is of another kind or shape than the left one's"
            elif any(feeding.inputs(path, number) for number in range(len(feeding.calls(path)))):
                why = "which could not be given what the left one was; if the model has changed, write a feed anew"
            else:
                why = "which could not be given what the left one was, since nothing of that has its input's shape"
            self.not_judged.setdefault(path, why)

    def _control(self) -> None:
        """See whether the mistake that was planted is seen: the layer with other weights must fail, by another error
        than without."""
        planted = self.side.says.planted
        if planted is None:
            return
        self.planted = planted.layer
        place = planted.layer, planted.number
        calls = [planted if (call.layer, call.number) == place else call for call in self.side.says.calls]
        side = copy(self.side)
        side.says = msgspec.structs.replace(side.says, calls=calls)
        vars(side).pop("called", None)
        errors = [
            [judge(item) for item in rungs.items("forward") if place in places(item)]
            for rungs in (self.rungs, rungs_of(self.feeding, side))
        ]
        both = zip(*errors, strict=False)
        self.seen = any(not wrong.passed and wrong.error != check.error for check, wrong in both)


def replay_of(rungs: Rungs, agrees: bool, notes: list[str]) -> Replay | None:
    """What is known of each layer of the right side by itself; None where no replay was recorded. `agrees` is whether
    what the whole model gives does. `notes` say why a replay cannot be judged."""
    side = rungs.right.replay
    if side is None:
        return None
    if side.says.fed != numbers_of(rungs.left):
        notes.append(
            f"{rungs.right.name} was fed by another record than {rungs.left.name}; --feed writes a feed anew"
        )
        return None
    feeding = Feeding(rungs)
    found = Replay(feeding, rungs_of(feeding, side), side)
    found.judge()
    if agrees:
        found.inside = [one for one in found.wrong if one.layer not in (LOSS, STEP)]
        found.wrong = [one for one in found.wrong if one.layer in (LOSS, STEP)]
    return found


def rungs_of(feeding: Feeding, replay: Side) -> Rungs:
    """The left side and a replay, whose layers are paired as those of the right side."""
    left = feeding.rungs.left
    pairs = [replace(pair, right=replace(pair.right, side=replay)) for pair in feeding.pairs]
    noise = {} if feeding.rungs.tolerances.precision in PRECISE else feeding.rungs.noise
    pairing = replace(feeding.rungs.pairing, sides=(left, replay), pairs=pairs, left=[], right=[])
    return Rungs(left, replay, pairing, noise, feeding.rungs.accept)


def places(item: Item) -> list[tuple[str, int]]:
    """The right layers whose output an item is, each with the number of its call."""
    group = item.pair.right if item.pair else None
    if group and group.in_turn:
        call = group.recorded[item.call]
        return [(call.layer, call.number)]
    return [(layer.path, item.call) for layer in group.layers] if group else []
