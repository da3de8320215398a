"""Two recordings against one another."""

from dataclasses import replace

import msgspec
import pytest

from benchmarks.measure.recording import Recording, Round
from benchmarks.report.changes import compare, shown
from tests.results_example import of_rounds, slowed, standard


def on_machine(recording: Recording, **fields: object) -> Recording:
    return replace(recording, head=msgspec.structs.replace(recording.head, machine=recording.head.machine | fields))


def test_a_planted_slowdown_is_found_and_nothing_else() -> None:
    before = standard()
    found = compare(before, slowed(before, "paddle", 1.2))
    slower = [change for change in found.changes if change.word == "slower"]
    assert {change.label for change in slower} == {"paddle"}
    assert [change.figure for change in slower] == ["training step", "character in a batch", "character alone"]
    assert slower[0].slower_by == pytest.approx(0.2)
    assert slower[0].ratio.value == pytest.approx(slower[0].before / slower[0].after)
    assert not [change for change in found.changes if change.word == "faster"]
    assert not found.differences
    assert "| paddle | training step | 54.3" in shown(found)


def test_what_became_faster_is_not_slower() -> None:
    before = standard()
    step = next(one for one in compare(before, slowed(before, "torch", 0.8)).changes if one.label == "torch")
    assert (step.word, step.slower_by) == ("faster", 0.0)


def test_nothing_is_compared_of_one_round_or_where_other_programs_were_at_work() -> None:
    before = standard()
    single = [line for line in before.lines if not isinstance(line, Round) or line.number == 1]
    assert compare(before, replace(before, lines=single)).changes == []
    busy = of_rounds(before, lambda cycle: [msgspec.structs.replace(visit, others=0.5) for visit in cycle])
    assert compare(before, busy).changes == compare(busy, before).changes == []


def test_what_else_differs_is_told() -> None:
    before = standard()
    versions = before.head.machine["versions"] | {"torch": "99.0"}
    after = on_machine(before, processor="another one", versions=versions)
    for row in before.plan.rows:
        after = slowed(after, row.label, 1.1)
    first, second, third = compare(before, after).differences
    assert first == "processor was Intel(R) Xeon(R) Processor, is another one"
    assert second == "torch was 2.13.0+cpu, is 99.0"
    assert "a step takes 1.10 times as long as before" in third
    plan = msgspec.structs.replace(before.plan, rows=before.plan.rows[:3])
    fewer = replace(before, head=msgspec.structs.replace(before.head, plan=plan), lines=[])
    assert "keras is only in the first recording" in compare(before, fewer).differences
