"""Two recordings against one another."""

import pytest

from benchmarks.changes import compare
from tests.recordings import SECONDS, changed, each_cell, recording


def test_a_planted_slowdown_is_found_and_nothing_else(tmp_path) -> None:
    before = recording(tmp_path / "a.jsonl", seed=1)
    after = recording(tmp_path / "b.jsonl", SECONDS | {"torch": SECONDS["torch"] * 1.1}, seed=2)
    found = compare(before, after)
    slower = {(change.label, change.figure) for change in found.changes if change.verdict.word == "slower"}
    rows = {"torch", "torch, as installed", "torch, masked and bucketed"}
    assert slower >= {(label, "training step") for label in rows}
    assert {label for label, _ in slower} == rows
    assert not [change for change in found.changes if change.verdict.word == "faster"]
    step = next(c for c in found.changes if (c.label, c.figure) == ("torch", "training step"))
    assert step.slower_by == pytest.approx(0.1, abs=0.02)
    assert not found.banner


def test_what_an_early_recording_has_not_is_not_compared(tmp_path) -> None:
    made = recording(tmp_path / "a.jsonl")
    early = changed(made, "round", each_cell(lambda cell: cell.pop("longest")))
    assert "character decoded alone" in {change.figure for change in compare(made, made).changes}
    assert "character decoded alone" not in {change.figure for change in compare(early, made).changes}


def test_the_banner_says_what_else_differs(tmp_path) -> None:
    before = recording(tmp_path / "a.jsonl")
    after = recording(tmp_path / "b.jsonl", {name: SECONDS[name] for name in ("torch", "keras")})
    after.machine["processor"] = "another one"
    after.machine["versions"]["torch"] = "99.0"
    banner = compare(before, after).banner
    assert any(line.startswith("processor was") for line in banner)
    assert any(line.endswith("is 99.0") for line in banner)
    assert "paddle is in the first alone" in banner
