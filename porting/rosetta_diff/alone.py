"""Judges each layer of the right side by itself,
by a replay in which each layer's output became the left one's.

A feed has what the left layers gave, in the layout of the right ones. So no mistake reaches another
layer: a layer that is wrong shows by what it gives, and what stands between layers by what comes to
the next one. Nothing passes by default: what could not be judged is listed.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import islice
from typing import Any

import numpy as np

from rosetta_diff.arrays import PRECISE
from rosetta_diff.explain.broken import LIKELY, Broken, Cause
from rosetta_diff.explain.causes import causes_of
from rosetta_diff.explain.facts import settings_before
from rosetta_diff.explain.optimizers import step_differs
from rosetta_diff.explain.settings import settings_differ
from rosetta_diff.feed import FedCall, Partners, checksum, left_calls
from rosetta_diff.helpers import some_of
from rosetta_diff.judge import rules
from rosetta_diff.judge.check import Check, Item, Place, judge, nearest
from rosetta_diff.judge.excuses import excuse_by, leave_out_underflow
from rosetta_diff.judge.items import Stages
from rosetta_diff.judge.looser import judge_by_rules
from rosetta_diff.judge.tolerances import Noise
from rosetta_diff.read.description import RecordedCall
from rosetta_diff.read.rules import PARENT
from rosetta_diff.read.side import Side, is_within

MOST_SHOWN, MOST_EXPLAINED = 20, 10  # wrong places, and those of them whose causes are looked for
TAKES, GIVES = "is given", "gives"
LOSS, STEP, STATISTICS = "the loss", "the optimizer's step", "the running statistics after a step"

# What came to each call; the name of each item is its right array's.
Arrivals = Mapping[FedCall, Sequence[Check]]


@dataclass
class Replay:
    """Verdicts on each layer of the right side by itself."""

    whole: Stages  # of the left and the right side
    stages: Stages  # of the left side and the replay
    partners: Partners
    judged: set[str] = field(default_factory=set)  # the right side's layers
    checks: list[Check] = field(default_factory=list)  # each with its place
    causes: dict[Place, list[Cause]] = field(default_factory=dict)
    remarks: list[str] = field(default_factory=list)  # on the rules that the checks needed
    not_judged: dict[str, str] = field(default_factory=dict)  # the right side's layers, and why
    # That differ, and right layers that give the same.
    settings: dict[str, list[str]] = field(default_factory=dict)

    @property
    def wrong(self) -> dict[Place, Check]:
        """The places where the right side computes otherwise, in the order in which they ran."""
        return {check.place: check for check in self.checks if check.place and not check.passed}

    def as_json(self) -> dict[str, Any]:
        inside = {check.place: check for check in self.checks if check.place and check.inside}
        wrong = [
            {
                "layer": place.layer,
                "what": f"{place.words}: {check.result}",
                "lines": list(place.lines),
            }
            | {
                "check": check.as_json(),
                "causes": [cause.sentence for cause in self.causes.get(place, ())],
            }
            | {"inside": check.inside}
            for place, check in (self.wrong | inside).items()
        ]
        report = {"judged": sorted(self.judged), "wrong": wrong, "not_judged": self.not_judged}
        return report | {"settings": self.settings, "notes": self.remarks}

    def lines(self) -> Iterator[str]:
        """The result in words."""
        wrong = self.wrong
        number = len({place.layer for place in wrong})
        are = "none is wrong" if not number else f"{number} {'is' if number == 1 else 'are'} wrong"
        yield (
            f"each layer by itself, after what the left ones gave: of {len(self.judged)} judged "
            f"{are}"
        )
        for place, check in islice(wrong.items(), MOST_SHOWN):
            yield f"  {check.line}"
            left, right = place.lines
            if right:
                yield f"    called by {right}"
                yield from [f"    on the left by {left}"] if left else []
            for cause in self.causes.get(place, ()):
                yield f"    {cause.standing}: {cause.line}"
        yield from (f"  {remark}" for remark in self.remarks)
        if len(wrong) > MOST_SHOWN:
            yield f"  {len(wrong) - MOST_SHOWN} more such places; --json has them"
        for line, layers in self.settings.items():
            yield f"  no effect in the judged calls of {some_of(layers)}: {line}"
        for reason in dict.fromkeys(self.not_judged.values()):
            names = [name for name, why in self.not_judged.items() if why == reason]
            more = f" and {len(names) - 3} more" if len(names) > 3 else ""
            yield (
                f"  not judged: {', '.join(name or 'the model' for name in names[:3])}{more}, "
                f"{reason}"
            )

    def judge(self) -> None:
        """Judge each call of the replay as it ran: what came to a layer,
        then what the layer gave."""
        outputs: dict[FedCall, list[Item]] = {}
        for item in self.stages.items("forward"):
            for place in places(item):
                outputs.setdefault(place, []).append(item)
        calls = self.stages.right.says.calls
        known = [call for call in calls if (call.layer, call.number) in self.partners]
        arrivals = {(call.layer, call.number): [*self._compare_given(call)] for call in known}
        # Layers whose output did not become the left one's, of those that give something else, and
        # of these and those that are given something else; and items.
        unfed, strange, seen = list[str](), list[str](), set[int]()
        for call in calls:
            place = call.layer, call.number
            after = f"since it comes after {unfed[-1]}, which is wrong" if unfed else ""
            if after and not all(check.passed for check in arrivals.get(place, ())):
                self.not_judged.setdefault(call.layer, after)
                continue
            self._tell_arrivals(call, arrivals)
            for item in outputs.get(place, ()):
                if id(item) not in seen and {*places(item)} <= arrivals.keys():
                    seen.add(id(item))
                    failed = self._judge_output(item, call, arrivals, strange, after)
                    if len(call.fed_outputs) != len(call.parts):
                        unfed += [call.layer] if failed else []
                        given_otherwise = any(not check.passed for check in arrivals[place])
                        strange += [call.layer] if failed or given_otherwise else []
        wrong = {place.layer for place in self.wrong}
        same = {
            line: [path for path in of if path not in wrong] for line, of in self.settings.items()
        }
        self.settings = {line: layers for line, layers in same.items() if layers}
        told = self.judged | wrong  # of another call
        self.not_judged = {path: why for path, why in self.not_judged.items() if path not in told}
        self._list_not_judged(told)
        self._judge_loss()
        self._judge_step()

    def _tell_arrivals(self, call: RecordedCall, arrivals: Arrivals) -> None:
        """Tell what comes to a layer otherwise, but for an array that comes to a layer around it,
        and for a difference that a sum carries on."""
        around = [
            place
            for place in arrivals
            if is_within(call.layer, place[0]) and place[0] != call.layer
        ]
        told = {
            check.item.name for place in around for check in arrivals[place] if not check.passed
        }
        for check in arrivals.get((call.layer, call.number), ()):
            if not check.passed and check.item.name not in told:
                before = self._carried_from(check)
                if before:
                    again = f"since it is given the difference of {before} again, as by a residual"
                    self.not_judged.setdefault(call.layer, again)
                else:
                    self._add(check, call, TAKES)

    def _carried_from(self, check: Check) -> str:
        """Return the layer before which was given the same difference, which a sum carries on;
        "" where there is none."""
        left, right = check.item.left(), check.item.right()
        for place, first in reversed(self.wrong.items()):
            of_first = first.item.left(), first.item.right()
            arrays = [array for array in (left, right, *of_first) if array is not None]
            kinds = {(array.shape, array.dtype.kind) for array in arrays}
            if place.words == GIVES or len(arrays) < 4 or kinds != {(arrays[0].shape, "f")}:
                continue
            _, now, expected, got = (array.astype(np.float64) for array in arrays)
            rest = replace(check.item, right=partial(np.subtract, now, got - expected))
            if judge(rest).passed:
                return place.layer
        return ""

    def _judge_output(
        self, item: Item, call: RecordedCall, arrivals: Arrivals, strange: Sequence[str], after: str
    ) -> bool:
        """Judge what a layer gives where it is given the same; return True if that is wrong.
        `strange` are the layers before that gave something else, which stayed. `after` is why
        nothing is known of what was given, unless it was compared."""
        compared = arrivals[call.layer, call.number]
        if not all(check.passed for place in places(item) for check in arrivals[place]):
            self.not_judged.setdefault(
                call.layer, "since it is given something else, which comes first"
            )
            return False
        check = judge_by_rules(self.stages, item)
        if after and not (check.passed or compared):
            self.not_judged.setdefault(call.layer, after)
            return False
        misfit = None if check.passed else next(self._compare_given(call, fit=False), None)
        sources = [*strange, *([] if check.passed or misfit else [self._carried_from(check)])]
        within = next(
            (path for path in sources if path != call.layer and is_within(path, call.layer)), ""
        )
        if within and not (check.passed or misfit):
            self.not_judged.setdefault(call.layer, f"since it holds {within}, which is wrong")
            return False
        self.judged.update(path for path, _ in places(item))
        if check.passed:
            for cause in settings_differ(Broken(self.stages, check, [check])):
                layers = self.settings.setdefault(cause.line, [])
                layers += [call.layer] if call.layer not in layers else []
            self.checks.append(replace(check, place=Place(call.layer, GIVES)))
            return False
        self._add(*((misfit, call, TAKES) if misfit else (check, call, GIVES)))
        return True

    def _compare_given(self, call: RecordedCall, fit: bool = True) -> Iterator[Check]:
        """Compare what a call is given with what the left call is given,
        where shapes fit, or only where they do not."""
        pair, left_call = self.partners[call.layer, call.number]
        pair = replace(pair, right=replace(pair.right, side=self.stages.right))
        for item in self.stages.arguments(pair, (left_call, call)):
            if item.tensors and item.tensors.fit == fit:
                yield judge(item)

    def _add(self, check: Check, call: RecordedCall, what: str) -> None:
        item, (_, left) = check.item, self.partners[call.layer, call.number]
        lines = tuple(f"{of.line}: {of.code}" if of.line else "" for of in (left, call))
        words = what if what == GIVES else f"{what} another {item.tensor}"
        layer = (
            item.pair.right.name
            if item.pair and len(item.pair.right.layers) > 1 and what == GIVES
            else call.layer
        )
        # Of another call or output.
        if any((place.layer, place.words) == (layer, words) for place in self.wrong):
            return
        place = Place(layer, words, (lines[0], lines[1]))
        if len(self.wrong) < MOST_EXPLAINED:
            # Another input is explained by the outputs of the layer that is given it.
            of_call = [
                item
                for item in self.stages.items("forward")
                if (call.layer, call.number) in places(item)
            ]
            failed = (
                [check]
                if what == GIVES
                else [made for made in map(judge, of_call) if not made.passed]
            )
            self.causes[place] = self._causes(failed[0], failed) if failed else []
        self.checks.append(replace(check, place=place))

    def _causes(self, check: Check, failed: Sequence[Check]) -> list[Cause]:
        """Causes whose test passed, else settings that differ, of calls right before, too;
        what else is told needs the whole model."""
        causes = [
            cause for cause in causes_of(self.stages, check, failed) if cause.standing == LIKELY
        ]
        broken, item = Broken(self.stages, check, failed), check.item
        if causes or not (item.is_output or item.is_update):
            return causes
        if item.is_output:
            return [*settings_differ(broken), *settings_before(broken)]
        recorded = settings_differ if item.is_statistic else step_differs
        return [*recorded(broken)]

    def _judge_loss(self) -> None:
        """Judge the loss of the left side's outputs, where the model's own became these."""
        layers, called = self.stages.right.says.layers, self.stages.right.called
        model = next(iter(called.get(layers[0].path, ())), None) if layers else None
        if model and len(model.fed_outputs) == len(model.parts):
            self._judge_stage(LOSS, [*self.stages.items("loss")])

    def _judge_step(self) -> None:
        """Judge one step of the optimizer with the left side's gradients,
        of the weights that are the same."""
        if not self.stages.right.says.steps:
            return
        weights = [
            item
            for item in self.stages.items("weights")
            if judge_by_rules(self.stages, item).passed
        ]
        same = {(item.pair.name, item.name) for item in weights if item.pair}
        chosen = list[Item]()
        for item in self.stages.items("step"):
            of_rounding = item.pair and self.stages.rounding_alone(item.pair, item.name)
            if of_rounding and not judge_by_rules(self.stages, item).passed:
                self.not_judged[f"{STEP} of {item.tensor}"] = "whose gradient is rounding alone"
            elif not item.pair or (item.pair.name, item.name) in same:
                chosen.append(item)
        self._judge_stage(STEP, chosen)

    def _judge_stage(self, name: str, items: Sequence[Item]) -> None:
        """Judge what no layer computes; of all that fails the nearest to the cause is told."""
        if items:
            self.judged.add(name)
        checks = leave_out_underflow(
            self.stages, [judge_by_rules(self.stages, item) for item in items]
        )
        self.checks += [
            replace(check, place=Place(name, f"of {check.tensor}"))
            for check in checks
            if check.passed
        ]
        failed = [check for check in checks if not check.passed]
        if failed:
            check = nearest(failed)
            place = Place(name, GIVES if name == LOSS else f"of {check.tensor}")
            if check.item.is_statistic:
                place = Place(STATISTICS, f"in {check.tensor}")
            self.causes[place] = self._causes(check, failed)
            self.checks.append(replace(check, place=place))

    def _list_not_judged(self, told: Collection[str]) -> None:
        """List the layers with weights, and those without that are paired,
        of which not a call was judged."""
        right = self.whole.right
        parents = [pair for pair in self.whole.pairing.pairs if pair.left.kind == PARENT]
        of_parts = {
            pair.right.layer.path for pair in parents if pair.left.layer.own or pair.right.layer.own
        }
        paired = {path for path, _ in self.partners}
        for layer in right.says.layers:
            path = layer.path
            within = any(holder in self.judged and is_within(path, holder) for holder in of_parts)
            if path in told or within or not (layer.own or path in paired):
                continue
            if path not in right.called:
                why = "which was not called"
            elif path not in paired:
                why = "of which no call has one on the left that is given the same"
            elif path not in self.stages.right.called:
                why = (
                    "which was not called in the replay; if the model has changed, write a feed "
                    "anew"
                )
            else:
                why = "whose output is of another kind or shape than the left one's"
            self.not_judged.setdefault(path, why)


def replay_of(stages: Stages, side: Side, agrees: bool, notes: list[str]) -> Replay | None:
    """Judge each layer of the right side by itself in a replay; None where it cannot be judged, and
    `notes` get the reason. `agrees` is true if the whole model's outputs agree."""
    if side.says.fed != checksum(stages.left):
        notes.append(
            f"{stages.right.name} was fed by another record than {stages.left.name}; --feed writes "
            "a feed anew"
        )
        return None
    replay = Replay(stages, stages_of(stages, side), left_calls(stages.pairing.pairs))
    replay.judge()
    if agrees:
        replay.checks = [
            check if check.passed or is_of_no_layer(check) else excuse_by(rules.BY_ITSELF, check)
            for check in replay.checks
        ]
    return replay


def is_of_no_layer(check: Check) -> bool:
    """True for the loss and for what a step moves."""
    return check.place is not None and check.place.layer in (LOSS, STEP, STATISTICS)


def stages_of(stages: Stages, side: Side) -> Stages:
    """The left side and a replay, whose layers are paired as those of the right side."""
    pairs = [replace(pair, right=replace(pair.right, side=side)) for pair in stages.pairing.pairs]
    noise = Noise() if stages.tolerances.precision in PRECISE else stages.noise
    pairing = replace(stages.pairing, sides=(stages.left, side), pairs=pairs, left=[], right=[])
    return Stages(stages.left, side, pairing, noise)


def places(item: Item) -> list[tuple[str, int]]:
    """The right layers whose output an item is, each with the number of its call."""
    call = item.call.right if item.call else None
    return [(recorded.layer, call.number) for recorded in call.recorded] if call else []
