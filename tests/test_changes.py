"""Two recordings against one another."""

import pytest

from benchmarks.measure.recording import Recording
from benchmarks.results.changes import compare
from tests.program import answer, refusal, rosetta
from tests.recordings import SECONDS, on_machine, plan_of, recording, slowed, written


def words(before: Recording, after: Recording) -> dict[tuple[str, str], str]:
    return {(change.label, change.figure): change.word for change in compare(before, after).changes}


def test_a_planted_slowdown_is_found_and_nothing_else() -> None:
    before, after = recording(seed=1), slowed(recording(seed=2), "torch", 1.1)
    found = compare(before, after)
    said = words(before, after)
    assert {key for key, word in said.items() if word == "slower"} == {("torch", "training step")}
    assert not [key for key, word in said.items() if word == "faster"]
    step = next(change for change in found.changes if (change.label, change.figure) == ("torch", "training step"))
    assert step.slower_by == pytest.approx(0.1, abs=0.02)
    assert step.ratio.value == pytest.approx(step.before / step.after)
    assert not found.differences


def test_what_became_faster_is_not_slower() -> None:
    before, after = recording(seed=1), slowed(recording(seed=2), "torch", 0.9)
    step = next(change for change in compare(before, after).changes if change.label == "torch")
    assert (step.word, step.slower_by) == ("faster", 0.0)


def test_a_figure_needs_two_generations_on_either_side() -> None:
    assert compare(recording(generations=2), recording(generations=1)).changes == []
    figures = {change.figure for change in compare(recording(), recording(seed=1)).changes}
    assert figures == {"training step", "character decoded in a batch", "character decoded alone"}


def test_recordings_that_give_no_verdict_are_not_compared() -> None:
    busy = recording(busy=[(1, place) for place in range(6)] + [(2, place) for place in range(6)])
    assert compare(recording(), busy).changes == compare(busy, recording()).changes == []


def test_what_else_differs_is_told() -> None:
    before = recording()
    after = recording(plan_of(["torch", "keras"]), seed=1)
    after = on_machine(after, processor="another one", versions={"torch": "99.0"})
    found = compare(before, after)
    assert found.differences == [
        "processor was a processor, is another one",
        "torch was 1.0, is 99.0",
        "keras:example is only in the first recording",
        "paddle is only in the first recording",
    ]
    assert {change.label for change in found.changes} == {"torch", "keras"}


def test_ci_is_told_of_what_became_slower(tmp_path) -> None:
    before = written(recording(seed=1), tmp_path / "before.jsonl").path
    after = written(slowed(recording(seed=2), "torch", 1.2), tmp_path / "after.jsonl").path
    one = written(recording(generations=1), tmp_path / "one.jsonl").path
    said = refusal(1, "compare", before, after, "--fail-slower", "10%", "--json")
    assert "1 figure slower by more than 10%; worst: torch, training step, by 2" in said
    assert "nothing can be compared" in refusal(1, "compare", before, one)
    assert "is no percentage" in refusal(2, "compare", before, after, "--fail-slower", "soon")
    assert rosetta("compare", before, after, "--fail-slower", "30%", "--json")[0] == 0
    told = {(c["label"], c["figure"]): c for c in answer("compare", before, after)["changes"]}
    assert told["torch", "training step"]["word"] == "slower"
    assert told["torch", "training step"]["ratio"]["value"] == pytest.approx(1 / 1.2, rel=0.02)
    assert len(told) == 3 * len(SECONDS) - 2, "the example has no batch"
