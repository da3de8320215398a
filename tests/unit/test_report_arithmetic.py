"""The report's arithmetic, with numbers worked by hand."""

from datetime import date

import msgspec
import pytest

from backends.process.tuned import Effect
from benchmarks.measure.statistics import Estimate
from benchmarks.report.bench_results import BenchResults, step_parts, why_slower
from benchmarks.report.vary import VaryResults
from benchmarks.schema import Profile
from tests.support.measurements import Noise, measurement, plan_of

STEADY = Noise(0.0, 0.0, 0.0)
PARTS = ("products", "others", "data", "waiting")


def test_the_inverse_of_an_estimate_exchanges_its_ends() -> None:
    assert Estimate(2.0, 1.6, 4.0).inverse == Estimate(0.5, 0.25, 0.625)


def test_the_faster_row_of_a_pair_stands_on_the_left_with_its_ratio() -> None:
    """Where sizes vary the rows stand in the order of the plan."""
    plan = plan_of(["keras", "torch"], axes={"latent-dim": (8, 16)})
    pairs = VaryResults(measurement(plan, {"keras": 0.09, "torch": 0.06})).pairs
    assert [(pair.left[:5], pair.right[:5]) for pair in pairs] == [("torch", "keras")] * 2
    assert [pair.ratio.value for pair in pairs] == pytest.approx([1.5, 1.5], rel=0.02)


@pytest.mark.parametrize(("rows", "steps"), [(128, 2), (129, 3), (191, 3)])
def test_a_last_small_batch_takes_a_whole_step(rows: int, steps: int) -> None:
    bench = measurement(plan_of(["torch"]), {"torch": 0.5}, noise=STEADY)
    assert bench.head.text
    text = msgspec.structs.replace(bench.head.text, training_rows=rows)
    bench.head = msgspec.structs.replace(bench.head, text=text)
    epoch = BenchResults(bench).rows[0].epoch
    assert epoch
    assert epoch.value == pytest.approx(0.5 * steps)


@pytest.mark.parametrize(
    ("makes_tensors", "data", "waiting"),
    [(True, 0.05, 0.55), (False, 0.0, 0.6)],
)
def test_a_profile_gives_shares_of_a_step(makes_tensors: bool, data: float, waiting: float) -> None:
    """The profiler makes four steps take 8 s, 2 s each; without it a step takes 1 s."""
    profile = Profile(steps=4, seconds=8.0, products=2.4, others=0.8, data=0.2)
    parts = step_parts(profile, 1.0, makes_tensors)
    assert [parts[part] for part in PARTS] == pytest.approx([0.3, 0.1, data, waiting])


def test_kernels_that_run_longer_than_the_profile_leave_no_waiting() -> None:
    """Several threads may count together."""
    parts = step_parts(Profile(steps=4, seconds=1.0, products=1.5, others=0.5, data=0.2), 1.0, True)
    assert [parts[part] for part in PARTS] == pytest.approx([0.75, 0.25, 0.0, 0.0])


def test_a_slower_row_is_told_what_takes_more_and_what_less() -> None:
    slow = dict(zip(PARTS, (0.050, 0.020, 0.001, 0.010), strict=True))
    fast = dict(zip(PARTS, (0.020, 0.026, 0.001, 0.010), strict=True))
    assert why_slower("A", "B", slow, fast) == (
        "Tuned, A's step is 24 ms longer than B's: 30 ms more in fused LSTMs and matrix products "
        "and 6.0 ms less in other operators."
    )
    assert not why_slower("B", "A", fast, slow)


def test_a_measurement_tells_why_its_slower_row_is_slower() -> None:
    """By the profile half of each step is products and a quarter other operators;
    tensors take 2 ms."""
    seconds = {"torch": 0.060, "keras": 0.090, "keras:example": 0.100}
    results = BenchResults(measurement(plan_of(seconds), seconds, noise=STEADY))
    why = {(pair.left, pair.right): pair.why for pair in results.pairs}
    assert why["torch", "keras"] == (
        "Tuned, Keras's step is 30 ms longer than PyTorch's: 15 ms more in fused LSTMs and matrix "
        "products, 7.5 ms more in other operators and 7.5 ms more in Python and waiting."
    )
    parts = {
        label: [row.step_parts.get(part) for part in PARTS]
        for label, row in results.by_label.items()
    }
    assert parts["keras"] == pytest.approx([0.045, 0.0225, 0.002, 0.0205])
    assert parts["keras:example"] == pytest.approx([0.050, 0.025, 0.0, 0.025]), (
        "it makes tensors before its steps"
    )


@pytest.mark.parametrize(("low", "helps"), [(1.001, True), (1.0, False), (0.9, False)])
def test_a_setting_helps_by_its_whole_interval(low: float, helps: bool) -> None:
    assert Effect("torch", "memory", 1.2, low, 1.5, date(2026, 12, 2)).helps is helps
