"""Growth of cost with sizes: measured for sizes that vary, and computed from known times."""

import re
from pathlib import Path

import msgspec
import numpy as np
import pytest

from benchmarks.measure.measurement import Measurement
from benchmarks.measure.statistics import Observations, mean_of
from benchmarks.report.page import report_of_bench
from benchmarks.report.vary import VaryResults
from benchmarks.schema import Round
from tests.support.measurements import changed, measurement, plan_of, slowed
from tests.support.program import refusal, short

TINY = [*"--backends numpy --num-samples 300 --threads 1 --within 100000% --budget 10m".split()]


@pytest.mark.at_length
def test_each_combination_of_sizes_is_a_row_with_rounds_in_turn(tmp_path: Path) -> None:
    """On NumPy's backend, from the command line to JSON and the page."""
    out = tmp_path / "a.jsonl"
    axes = ["--vary", "latent-dim=8,16", "--vary", "length=4"]
    bench = short(2, *TINY, *axes, "--out", out)
    recorded = Measurement.read(out)
    assert [tuple(row["row"]["sizes"].values()) for row in bench["rows"]] == [(8, 4), (16, 4)]
    assert all(len(line.starts) == 1 for line in recorded.rounds()), (
        "a round starts the rows of one combination"
    )
    order = [line.starts[0].row for line in recorded.rounds()]
    assert sorted(order[:2]) == sorted(order[2:4]) == [0, 1]
    assert all(row["certificate"]["passed"] for row in bench["rows"])
    assert "--vary latent-dim=8,16" in bench["command"]
    page = report_of_bench(recorded)
    assert [*page.charts] == ["A step by units of a layer, 4 characters in each sentence"]
    assert "--vary latent-dim=8,16" in page.page
    assert "only benches of one size are compared" in refusal(1, "report", out, out)


def grown() -> Measurement:
    """A measurement of two backends at three sizes,
    of which each takes twice as long as the one before."""
    plan = plan_of(["torch", "keras"], axes={"latent-dim": (64, 128, 256)})
    bench = measurement(plan, {"torch": 0.01, "keras": 0.02}, rounds=9)
    lines = []
    for line in bench.lines:
        if hasattr(line, "cycles"):  # each round is of one size
            rows = plan.rows_by_size[line.number % 3]
            cycles = [[turn for turn in cycle if turn.row in rows] for cycle in line.cycles]
            starts = [start for start in line.starts if start.row in rows]
            line = msgspec.structs.replace(line, cycles=cycles, starts=starts)
        lines.append(line)
    bench.lines = lines
    for row in plan.rows:
        bench = slowed(bench, row.sizes["latent-dim"] / 64, row.label)
    return bench


def test_the_curve_of_known_times_is_told_and_drawn() -> None:
    results = VaryResults(grown())
    assert results.headline.replace("\N{NO-BREAK SPACE}", " ") == (
        "From 64 to 256 units of a layer the time of a step grows this many times: 3.99× ±1.7 % in "
        "torch and 4.02× ±1 % in keras."
    )
    assert {(p.left, p.right) for p in results.pairs if p.kind == "frameworks"} == {
        (f"torch (latent-dim {n})", f"keras (latent-dim {n})") for n in (64, 128, 256)
    }
    for row in results.rows:
        assert (
            row.step.value == pytest.approx(0.01 * row.row.sizes["latent-dim"] / 64, rel=0.02)
            or "keras" in row.label
        )
    assert results.rows[0].step.half_width < 0.02
    page = report_of_bench(grown())
    (svg,) = page.charts.values()
    assert svg.count("<circle") == 6


def test_noise_makes_no_curve() -> None:
    grew = (
        "From 64 to 256 units of a layer the time of a step grows by an unknown factor. More "
        "rounds are needed for"
    )
    noisy = changed(grown(), Round, lambda line: slow_round(line) if line.number % 2 else line)
    results = VaryResults(noisy)
    assert results.headline == f"{grew} torch and keras."
    (chart,) = report_of_bench(noisy).charts.values()
    assert not re.search(r'd="M[\d.]+ -', chart), "no interval leaves the drawing"


def slow_round(line: Round) -> Round:
    """The round of a machine that was eight times as slow."""
    cycles = [
        [msgspec.structs.replace(v, steps=[8 * s for s in v.steps]) for v in cycle]
        for cycle in line.cycles
    ]
    return msgspec.structs.replace(line, cycles=cycles)


def test_intervals_across_rounds_hold_the_truth_despite_drift() -> None:
    """The times share no round; intervals of rows that took turns leave the drift out."""
    covered = []
    for seed in range(200):
        rng = np.random.default_rng(seed)
        logarithms = {}
        for number in range(9):
            level, rows = rng.normal(0, 0.05), (2 * (number % 3), 2 * (number % 3) + 1)
            logarithms[number] = {row: level + rng.normal(0, 0.01) for row in rows}
        observed = Observations(logarithms)
        intervals = [mean_of(observed.of_row(row)) for row in range(6)]
        covered += [interval.low <= 1 <= interval.high for interval in intervals]
    assert 0.93 < np.mean(covered) < 0.975
