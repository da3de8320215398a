"""Compares two records stage by stage, up to the first stage that breaks,
and says what is known of it."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import product
from typing import Any

import numpy as np

from rosetta_diff.alone import Replay, replay_of
from rosetta_diff.explain.broken import LIKELY, Cause
from rosetta_diff.explain.causes import causes_of
from rosetta_diff.explain.optimizers import other_optimizers
from rosetta_diff.explain.settings import hidden_settings
from rosetta_diff.helpers import CannotBeginError, some_of
from rosetta_diff.judge import rules
from rosetta_diff.judge.check import STAGES, Check, Item, explain_stage, nearest
from rosetta_diff.judge.excuses import judge_stage, unmoved_outputs
from rosetta_diff.judge.items import LeftOut, Stages
from rosetta_diff.judge.noise import Control, noise_of
from rosetta_diff.judge.rules import Rule
from rosetta_diff.pair.drafts import remark_on_lines
from rosetta_diff.pair.mapping import MappingFile
from rosetta_diff.pair.pairing import Pairing, pair_sides
from rosetta_diff.read.rules import PARENT, TAP
from rosetta_diff.read.side import Side

REQUIRED = ("forward",)


@dataclass
class Diff:
    """The result of a comparison; the left side is what is expected."""

    left: str
    right: str
    pairing: Pairing
    control: Control
    checks: list[Check] = field(default_factory=list)
    explanation: list[str] = field(default_factory=list)  # of the stage that breaks
    causes: list[Cause] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)  # what was not compared, and other remarks
    # What was not compared, and nothing vouches for.
    left_out: list[LeftOut] = field(default_factory=list)
    replay: Replay | None = None  # of each layer by itself
    required: Sequence[str] = REQUIRED  # stages on which something must have been compared

    @property
    def passed(self) -> bool:
        return not self.why_failed

    @property
    def wrong_alone(self) -> list[str]:
        """The places that are wrong in the replay, where no stage of the whole model breaks."""
        return (
            [str(place) for place in self.replay.wrong] if self.replay and not self.broken else []
        )

    @property
    def unfinished(self) -> str:
        """The sides whose scripts ended in the middle of Record.training;
        "" where there is none."""
        return " and ".join(side.name for side in self.pairing.sides if not side.says.finished)

    def inside(self, stage: str) -> list[Check]:
        """The checks of a stage that fail and are excused."""
        return [check for check in self.checks if check.stage == stage and check.inside]

    @property
    def compared(self) -> list[str]:
        """The stages on which anything was compared that could differ."""
        return list(
            dict.fromkeys(check.stage for check in self.checks if check.tells or not check.passed)
        )

    @property
    def missing(self) -> list[str]:
        """The stages before the last one on which nothing was compared."""
        end = STAGES.index(self.broken) if self.broken else len(STAGES)
        return [stage for stage in STAGES[:end] if stage not in self.compared]

    @property
    def broken(self) -> str | None:
        """The stage that breaks."""
        return next((check.stage for check in self.checks if not check.passed), None)

    @property
    def lacking(self) -> list[str]:
        """The required stages before the last one on which nothing was compared,
        or not all that both sides have."""
        partly = {of.stage for of in self.left_out if of.both}
        return [stage for stage in self.required if stage in self.missing or stage in partly]

    @property
    def lacks(self) -> str:
        """The required stages that were not compared, and why;
        "" if all were, or one broke before them."""
        why = [
            of.what
            for of in self.left_out
            if of.stage in self.lacking and (of.both or of.stage in self.missing)
        ]
        if not why:
            empty = any(check.stage in self.lacking for check in self.checks)
            why = ["nothing that could differ was recorded" if empty else "nothing was recorded"]
        return f"{', '.join(self.lacking)}: {'; '.join(why)}" if self.lacking else ""

    @property
    def parts_left_out(self) -> list[LeftOut]:
        """The parts that were not compared on stages that were."""
        return [of for of in self.left_out if of.stage in self.compared]

    @property
    def why_failed(self) -> str:
        """The line with which the comparison ends; "" for a success."""
        if not self.compared:
            return f"nothing of {self.right} and {self.left} was compared"
        if self.unfinished and not self.broken:
            return f"the training of {self.unfinished} was not finished"
        if self.broken and all(check.passed or check.is_nan for check in self.checks):
            return (
                f"{self.broken} of {self.right} and {self.left} shows nothing, since both have NaN"
            )
        if self.broken or self.wrong_alone:
            return f"{self.right} and {self.left} differ"
        if self.lacks:
            rest = [stage for stage in self.compared if stage not in self.lacking]
            skips = "[skip] of a mapping file says why it need not be"
            advice = (
                f"--require {rest[-1]} asks for what was"
                if {*self.lacking} & {*self.missing}
                else skips
            )
            return f"required and not compared, {self.lacks}; {advice}"
        return ""

    def as_json(self) -> dict[str, Any]:
        return {
            "passed": self.passed,
            "left": self.left,
            "right": self.right,
            "breaks_at": self.broken,
            "not_compared": self.missing,
            "explanation": self.explanation,
            "causes": [
                {"standing": cause.standing, "sentence": cause.sentence, "link": cause.link or None}
                for cause in self.causes
            ],
            "checks": [check.as_json() for check in self.checks],
            "control": {
                "one_ulp": [
                    {"stage": check.stage, "tensor": check.tensor, "error": check.finite_error}
                    for check in self.control.rounding
                ]
            },
            "replay": self.replay.as_json() if self.replay else None,
            "noise": {"sources": self.control.sources, "quantities": self.control.noise.most},
            "pairs": {
                pair.left.name: pair.right.name
                for pair in self.pairing.pairs
                if pair.left.kind != PARENT
            },
            "notes": self.notes,
        }


def parse_stages(names: Iterable[str]) -> list[str]:
    """The stages of these names. Raises CannotBeginError for one that is none."""
    stages = [name.strip() for name in names]
    unknown = [stage for stage in stages if stage not in STAGES]
    if unknown:
        raise CannotBeginError(
            f"--require names {', '.join(unknown)}; the stages are {', '.join(STAGES)}"
        )
    return stages


# A record may have any numbers, and results are checked for numbers that are not finite.
@np.errstate(all="ignore")
def compare_records(
    left: Side,
    right: Side,
    mapping: MappingFile | None = None,
    again: Sequence[Side] = (),
    require: Sequence[str] = REQUIRED,
) -> Diff:
    """Compare two records. `again` are records of other runs of the left side, which show its
    noise; `require` are stages that must be compared. Raises CannotBeginError where layers cannot
    be paired, and where a record is of another model."""
    control = noise_of(left, right, again)
    pairing = pair_sides(left, right, mapping).require()
    stages = Stages(left, right, pairing, control.noise)
    control.precision = stages.tolerances.precision
    diff = Diff(left.name, right.name, pairing, control, left_out=stages.left_out, required=require)
    exported = left.framework.folds_weights or right.framework.folds_weights  # and does not train
    for stage in STAGES[: STAGES.index("forward") + 1] if exported else STAGES:
        checks = judge_stage(stages, stage)
        diff.checks += checks
        failed = [check for check in checks if not check.passed]
        if failed:
            explain(diff, stages, checks, failed)
            break
    of_replay: list[str] = []
    agrees = "forward" in diff.compared and diff.broken != "forward"
    if right.replay and most_weights_differ(diff):
        of_replay.append(
            "no layer is judged by itself, since most weights differ, so that each layer does"
        )
    elif right.replay:
        diff.replay = replay_of(stages, right.replay, agrees, of_replay)
    told = {cause.sentence for cause in diff.causes}
    others = other_optimizers(left, right, pairing.pairs)
    unmoved = unmoved_outputs(stages, diff.checks) if not diff.broken else []
    diff.notes = [
        *(hidden_settings(left, right, pairing.pairs) if not diff.broken else ()),
        *(cause.line for cause in others if cause.sentence not in told),
        *([rules.UNMOVED.told(names=some_of(unmoved))] if unmoved else ()),
        *remarks_on_rules(diff.checks),
        *stages.tolerances.remarks,
        *remarks_on_pairing(pairing),
        *stages.notes,
        *of_replay,
    ]
    if diff.replay:
        numbers = [of.line for of in diff.replay.stages.left_out if of.rule is rules.UNDERFLOW]
        diff.replay.remarks = [
            line
            for line in (*remarks_on_rules(diff.replay.checks), *numbers)
            if line not in diff.notes
        ]
    return diff


def explain(diff: Diff, stages: Stages, checks: Sequence[Check], failed: Sequence[Check]) -> None:
    """Say where a stage breaks, and why. The step of a weight
    whose gradient is rounding alone is shown last."""
    numbers = [check for check in failed if not check.is_nan] or failed
    broken = nearest([check for check in numbers if not is_of_rounding(stages, check)] or numbers)
    if broken.is_nan:
        diff.explanation = explain_stage(diff.right, broken, len(failed), len(checks))
        return
    head, *lines = explain_stage(diff.right, broken, len(failed), len(checks))
    if most_weights_differ(diff):
        head += "; did the right side load the file that `rosetta-carry` wrote?"
    diff.causes = causes_of(stages, broken, failed)
    before: list[str] = []  # of a layer that differs, though the outputs of the model agree
    inside = diff.inside("forward")
    if (
        inside
        and broken.stage not in ("forward", "step")
        and not any(cause.standing == LIKELY for cause in diff.causes)
    ):
        before = [inside[0].line]
        diff.causes = [*causes_of(stages, inside[0], inside), *diff.causes]
    of_layer = [
        check
        for check in diff.inside("weights")
        if broken.item.pair and check.item.pair is broken.item.pair
    ]
    if of_layer and broken.stage == "forward":
        diff.causes = [*causes_of(stages, of_layer[0], of_layer), *diff.causes]
    outputs = [check for check in checks if check.item.is_of_model]
    agree = outputs and not any(check in failed for check in outputs)
    names = some_of([check.tensor for check in outputs])
    words = "agree, which tells nothing of this layer; record an output that depends on it"
    after = [f"{names} {words}"] if agree else []
    diff.explanation = [
        head,
        *before,
        *lines,
        *lines_of_tap(broken.item),
        *lines_of_graph(stages, broken),
        *after,
    ]


def most_weights_differ(diff: Diff) -> bool:
    checks = [check for check in diff.checks if check.stage == "weights"]
    return 2 * sum(not check.passed for check in checks) > len(checks) > 1


def is_of_rounding(stages: Stages, check: Check) -> bool:
    """Return True for a step of a weight whose gradient is rounding alone."""
    pair = check.item.pair
    return (
        check.stage == "step" and pair is not None and stages.rounding_alone(pair, check.item.name)
    )


def remarks_on_pairing(pairing: Pairing) -> Iterator[str]:
    """Remarks on what a mapping leaves out, what is on one side alone, and what was guessed."""
    yield from (f"not compared: {name}, {reason}" for name, reason in pairing.skips.lines.items())
    if pairing.left_out:
        yield f"not compared: {some_of(pairing.left_out)}, which belong to what is left out"
    for group in (*pairing.left, *pairing.right):
        if group.kind == TAP:
            yield f"not compared, forward: {group.name}, of {group.side.name} alone"
    yield from remark_on_lines(pairing, ("value", "shape"), "--write-mapping")


def lines_of_tap(item: Item) -> Iterator[str]:
    """The lines of both programs that tap the arrays that differ."""
    calls = item.call if item.call and item.pair and item.pair.left.kind == TAP else ()
    lines = [call.recorded[0].line for call in calls]
    if any(lines):
        yield f"tapped at {lines[0]} on the left and at {lines[1]} on the right"


def lines_of_graph(stages: Stages, check: Check) -> Iterator[str]:
    """The node of an exported graph that is shown."""
    if check.stage != "forward" or not stages.right.framework.folds_weights:
        return
    layer = check.item.pair.right.layer if check.item.pair else None
    if layer and "node" in layer.settings:
        told = {
            name: value
            for name, value in layer.settings.items()
            if name != "node" and value not in ("", [])
        }
        words = [
            f"{name} {f'{value:g}' if isinstance(value, float) else value}"
            for name, value in sorted(told.items())
        ]
        of = f" with {some_of(words)}" if words else ""
        yield f"in the graph it is the node {layer.settings['node']}, {layer.classes[0]}{of}"


def remarks_on_rules(checks: Sequence[Check]) -> Iterator[str]:
    """Remarks on the rules that checks needed."""
    for stage, rule in product(STAGES, (*rules.FORMS, *rules.WIDER, *rules.EXCUSES)):
        used = [check for check in checks if check.stage == stage and rule in rules_of(check)]
        for turn in dict.fromkeys(
            check.item.turn if rule is rules.TURNED else "" for check in used
        ):
            of = [check for check in used if not turn or check.item.turn == turn]
            outputs = (
                f"{len(of)} outputs of layers differ"
                if of[1:]
                else ("the output of a layer differs")
            )
            names = some_of([check.tensor for check in of])
            yield rule.told(
                stage=stage,
                names=names,
                turn=turn,
                outputs=outputs,
                first=of[0].line,
                number=len(of),
            )


def rules_of(check: Check) -> list[Rule]:
    """The rules that a check needed."""
    return [*check.rules, *([rules.TURNED] if check.passed and check.item.turn else [])]
