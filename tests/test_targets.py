"""What is asked of each framework, and what is said of it."""

from dataclasses import replace

import pytest

from benchmarks.analysis import analyse
from benchmarks.intervals import Estimate
from benchmarks.report.render import render_markdown
from benchmarks.targets import TARGETS, Reached, Target, reached
from tests.recordings import SECONDS, recording
from tests.results_example import example


def target(name: str) -> Target:
    return next(target for target in TARGETS if target.name == name)


@pytest.mark.parametrize(
    ("low", "value", "high", "word"),
    [
        (1.6, 1.7, 1.8, "met"),
        (1.5, 1.6, 1.7, "met by the median"),
        (1.5, 1.59, 1.7, "missed by the median"),
        (1.4, 1.5, 1.6, "missed by the median"),
        (1.4, 1.5, 1.59, "missed"),
    ],
)
def test_met_and_missed_are_said_as_surely_as_the_interval_allows(
    low: float, value: float, high: float, word: str
) -> None:
    assert Reached(1.6, "torch", Estimate(value, low, high)).word == word


def test_what_is_reached_is_what_was_planted(tmp_path) -> None:
    results = analyse(recording(tmp_path / "a.jsonl", SECONDS | {"keras:jit": 0.05}))
    training = target("training, one-hot products")
    expected = {"torch": ("torch", "torch"), "keras": ("keras:jit", "keras:jit"), "paddle": ("paddle", "paddle")}
    for framework, (label, name) in expected.items():
        found = reached(training, framework, results)
        assert found.label == label
        seconds = (SECONDS | {"keras:jit": 0.05})[name]
        assert found.figure.value == pytest.approx(SECONDS["keras:example"] / seconds, rel=0.01)
    assert reached(target("training, rows looked up"), "torch", results) is None
    bucketed = reached(target("pairs a second, masked and bucketed"), "torch", results)
    assert bucketed.label == "torch, masked and bucketed"
    sooner = reached(target("time to the example's chrF"), "torch", results)
    assert (sooner.figure.value, sooner.word) == (1.5, "missed")
    assert "| time to the example's chrF | torch | 4.00× | 1.50× | torch, masked and bucketed | missed |" in (
        render_markdown(results)
    )


def test_a_row_that_is_not_ranked_reaches_nothing() -> None:
    results = example()
    ranked = reached(target("share of the peak"), "torch", results)
    assert ranked.figure.low < ranked.figure.value < ranked.figure.high
    rows = [replace(row, ranked=row.backend != "torch") for row in results.rows]
    assert reached(target("share of the peak"), "torch", replace(results, rows=rows)) is None


def test_the_example_itself_is_no_row_of_keras() -> None:
    results = example()
    rows = [row for row in results.rows if row.name == "keras:example"]
    assert reached(target("share of the peak"), "keras", replace(results, rows=rows)) is None
