"""Judges each layer of the right side by itself, by a replay in which each layer's output became the left one's.

A feed has what the left layers gave, in the layout of the right ones. So no mistake reaches another layer: a layer
that is wrong shows by what it gives, and what stands between layers by what comes to the next one. Nothing passes by
default: what could not be judged is listed.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

from rosetta_diff.arrays import PRECISE
from rosetta_diff.explain.broken import LIKELY, Broken, Cause
from rosetta_diff.explain.causes import causes_of
from rosetta_diff.explain.optimizers import step_differs
from rosetta_diff.explain.settings import settings_differ
from rosetta_diff.feed import FedCall, Partners, checksum, left_calls
from rosetta_diff.helpers import some_of
from rosetta_diff.judge.axes import OUTPUT
from rosetta_diff.judge.check import Check, Item, judge, nearest
from rosetta_diff.judge.items import Stages
from rosetta_diff.judge.looser import judge_by_rules
from rosetta_diff.judge.outputs import arguments, views_of_input
from rosetta_diff.judge.tolerances import Noise
from rosetta_diff.read.description import RecordedCall
from rosetta_diff.read.rules import PARENT
from rosetta_diff.read.side import Side, is_within

MOST_SHOWN, MOST_EXPLAINED = 20, 10  # wrong places, and those of them whose causes are looked for
TAKES, GIVES = "is given", "gives"
LOSS, STEP, STATISTICS = "the loss", "the optimizer's step", "the running statistics after a step"

Arrivals = Mapping[FedCall, Sequence[tuple[Check, str]]]  # what came to each call, and the names of the arrays


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

    whole: Stages  # of the left and the right side
    stages: Stages  # of the left side and the replay
    partners: Partners
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
        outputs: dict[FedCall, list[Item]] = {}
        for item in self.stages.items("forward"):
            for place in places(item):
                outputs.setdefault(place, []).append(item)
        calls = self.stages.right.says.calls
        known = [call for call in calls if (call.layer, call.number) in self.partners]
        arrivals = {(call.layer, call.number): [*self._arrivals(call)] for call in known}
        # Layers whose output did not become the left one's, of those that give something else, and of these and
        # those that are given something else; and items.
        unfed, strange, seen = list[str](), list[str](), set[int]()
        for call in calls:
            place = call.layer, call.number
            after = f"since it comes after {unfed[-1]}, which is wrong" if unfed else ""
            if after and not all(check.passed for check, _ in arrivals.get(place, ())):
                self.not_judged.setdefault(call.layer, after)
                continue
            self._tell_arrivals(call, arrivals)
            for item in outputs.get(place, ()):
                if id(item) not in seen and {*places(item)} <= arrivals.keys():
                    seen.add(id(item))
                    failed = self._judge_output(item, call, arrivals, strange, after)
                    if len(call.fed_outputs) != len(call.parts):
                        unfed += [call.layer] if failed else []
                        given_otherwise = any(not check.passed for check, _ in arrivals[place])
                        strange += [call.layer] if failed or given_otherwise else []
        wrong = {place.layer for place in self.wrong}
        same = {line: [path for path in of if path not in wrong] for line, of in self.settings.items()}
        self.settings = {line: layers for line, layers in same.items() if layers}
        told = self.judged | wrong  # of another call
        self.not_judged = {path: why for path, why in self.not_judged.items() if path not in told}
        self._list_not_judged(told)
        self._judge_loss()
        self._judge_step()

    def _tell_arrivals(self, call: RecordedCall, arrivals: Arrivals) -> None:
        """Tell what comes to a layer otherwise, but for an array that comes to a layer around it."""
        around = [place for place in arrivals if is_within(call.layer, place[0]) and place[0] != call.layer]
        told = {array for place in around for check, array in arrivals[place] if not check.passed}
        for check, array in arrivals.get((call.layer, call.number), ()):
            if not check.passed and array not in told:
                self._add(check, call, TAKES)

    def _judge_output(
        self, item: Item, call: RecordedCall, arrivals: Arrivals, strange: Sequence[str], after: str
    ) -> bool:
        """Judge what a layer gives where it is given the same; return True if that is wrong. `strange` are
        the layers before that gave something else, which stayed. `after` is why nothing is known of what was given,
        unless it was compared."""
        compared = arrivals[call.layer, call.number]
        if not all(check.passed for place in places(item) for check, _ in arrivals[place]):
            self.not_judged.setdefault(call.layer, "since it is given something else, which comes first")
            return False
        check = judge_by_rules(self.stages, item)
        if after and not (check.passed or compared):
            self.not_judged.setdefault(call.layer, after)
            return False
        misfit = None if check.passed else next(self._arrivals(call, fit=False), None)
        within = next((path for path in strange if path != call.layer and is_within(path, call.layer)), "")
        if within and not (check.passed or misfit):
            self.not_judged.setdefault(call.layer, f"since it holds {within}, which is wrong")
            return False
        self.judged.update(path for path, _ in places(item))
        if check.passed:
            for cause in settings_differ(Broken(self.stages, check, [check])):
                layers = self.settings.setdefault(cause.line, [])
                layers += [call.layer] if call.layer not in layers else []
            return False
        self._add(*((misfit[0], call, TAKES) if misfit else (check, call, GIVES)))
        return True

    def _arrivals(self, call: RecordedCall, fit: bool = True) -> Iterator[tuple[Check, str]]:
        """Compare the arguments of a call with those of the left call, where shapes fit, or only where they do not:
        arguments of the same names, and the first ones; each with the name of its array."""
        pair, left_call = self.partners[call.layer, call.number]
        pair = replace(pair, right=replace(pair.right, side=self.stages.right))
        for left_name, right_name in arguments(pair, (left_call, call)):
            views = views_of_input(self.stages.pairing.turns, pair, left_name, right_name)
            if views.fit == fit:
                name = next(name for name, array in call.inputs.items() if array == right_name)
                loads = partial(views.array, 0), partial(views.array, 1)
                of_pair: dict[str, Any] = {"is_output": True, "pair": pair, "turn": views.turn, "axes": OUTPUT}
                of_pair |= {"precision": self.stages.precision_of(views.left)}
                yield judge(self.stages.held("forward", name, "outputs", *loads, **of_pair)), right_name

    def _add(self, check: Check, call: RecordedCall, what: str) -> None:
        item, (_, left) = check.item, self.partners[call.layer, call.number]
        lines = tuple(f"{of.line}: {of.code}" if of.line else "" for of in (left, call))
        words = what if what == GIVES else f"{what} another {item.tensor}"
        layer = (
            item.pair.right.name if item.pair and len(item.pair.right.layers) > 1 and what == GIVES else call.layer
        )
        if any((place.layer, place.what) == (layer, words) for place in self.wrong):  # of another call or output
            return
        causes: list[Cause] = []
        if len(self.wrong) < MOST_EXPLAINED:
            # Another input is explained by the outputs of the layer that is given it.
            of_call = [item for item in self.stages.items("forward") if (call.layer, call.number) in places(item)]
            failed = [check] if what == GIVES else [made for made in map(judge, of_call) if not made.passed]
            causes = self._causes(failed[0], failed) if failed else []
        self.wrong.append(Wrong(layer, words, check, (lines[0], lines[1]), causes))

    def _causes(self, check: Check, failed: Sequence[Check]) -> list[Cause]:
        """Causes whose test passed, else settings that differ; what else is told needs the whole model."""
        causes = [cause for cause in causes_of(self.stages, check, failed) if cause.standing == LIKELY]
        broken, item = Broken(self.stages, check, failed), check.item
        if causes or not (item.is_output or item.is_update):
            return causes
        recorded = settings_differ if item.is_output or item.is_statistic else step_differs
        return [*recorded(broken)]

    def _judge_loss(self) -> None:
        """Judge the loss of the left side's outputs, where the model's own became these."""
        layers, called = self.stages.right.says.layers, self.stages.right.called
        model = next(iter(called.get(layers[0].path, ())), None) if layers else None
        if model and len(model.fed_outputs) == len(model.parts):
            self._judge_stage(LOSS, [*self.stages.items("loss")])

    def _judge_step(self) -> None:
        """Judge one step of the optimizer with the left side's gradients, of the weights that are the same."""
        if not self.stages.right.says.steps:
            return
        weights = [item for item in self.stages.items("weights") if judge_by_rules(self.stages, item).passed]
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
        failed = [check for item in items if not (check := judge_by_rules(self.stages, item)).passed]
        if failed:
            check = nearest(failed)
            what = GIVES if name == LOSS else f"of {check.tensor}"
            if check.item.is_statistic:
                name, what = STATISTICS, f"in {check.tensor}"
            self.wrong.append(Wrong(name, what, check, ("", ""), self._causes(check, failed)))

    def _list_not_judged(self, told: Collection[str]) -> None:
        """List the layers with weights, and those without that are paired, of which not a call was judged."""
        right = self.whole.right
        parents = [pair for pair in self.whole.pairing.pairs if pair.left.kind == PARENT]
        of_parts = {pair.right.layer.path for pair in parents if pair.left.layer.own or pair.right.layer.own}
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
                why = "which was not called in the replay; if the model has changed, write a feed anew"
            else:
                why = "whose output is of another kind or shape than the left one's"
            self.not_judged.setdefault(path, why)


def replay_of(stages: Stages, agrees: bool, notes: list[str]) -> Replay | None:
    """Judge each layer of the right side by itself; None where no replay was recorded. `agrees` is true if the whole
    model's outputs agree. `notes` get the reason why a replay cannot be judged."""
    side = stages.right.replay
    if side is None:
        return None
    if side.says.fed != checksum(stages.left):
        notes.append(
            f"{stages.right.name} was fed by another record than {stages.left.name}; --feed writes a feed anew"
        )
        return None
    replay = Replay(stages, stages_of(stages, side), left_calls(stages.pairing.pairs))
    replay.judge()
    if agrees:
        replay.inside = [place for place in replay.wrong if place.layer not in (LOSS, STEP, STATISTICS)]
        replay.wrong = [place for place in replay.wrong if place.layer in (LOSS, STEP, STATISTICS)]
    return replay


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
