"""A sweep of workers: results by known answers, what is left out, and the figures of the committed one."""

from collections.abc import Callable
from dataclasses import replace
from math import inf
from pathlib import Path

import msgspec
import pytest

from benchmarks.measure import machine, sweep
from benchmarks.measure.recording import Evidence, Recording, Round, Summed, Visit
from benchmarks.report import scaling
from benchmarks.report.words import SPACE
from common.config import DataConfig, TrainConfig
from tests.program import refusal

COMMITTED = Path(__file__).parents[1] / "docs" / "benchmark" / "workers.jsonl"
STEP = {"one": 0.100, "apart": 0.110, "group": 0.125, "divided": 0.080}  # seconds


def made(change: Callable[[int, Visit], Visit] = lambda number, visit: visit) -> Recording:
    """The committed sweep with planted steps, each visit as `change` makes it of the round's number and the visit.

    torch has the rounds 1, 4, 7 and 10.
    """
    committed = Recording.read(COMMITTED)

    def planted(number: int, visit: Visit) -> Visit:
        steps = [[*STEP.values()][visit.row]] * 3
        return change(number, msgspec.structs.replace(visit, steps=steps, others=0.0))

    lines = [
        msgspec.structs.replace(
            line, cycles=[[planted(line.number, visit) for visit in cycle] for cycle in line.cycles]
        )
        if isinstance(line, Round)
        else line
        for line in committed.lines
    ]
    return replace(committed, lines=lines)


def slower(visit: Visit, factor: float) -> Visit:
    return msgspec.structs.replace(visit, steps=[factor * seconds for seconds in visit.steps])


def test_efficiencies_are_shares_of_as_many_workers_that_are_as_fast_as_one() -> None:
    found, *_ = scaling.scaled_of(made(lambda number, visit: slower(visit, 1 + number / 10))).frameworks
    shares = [found.efficiency[name] for name in ("apart", "group", "divided")]
    assert [share and share.value for share in shares] == pytest.approx([100 / 110, 100 / 125, 100 / 80 / 2])
    assert all(share and share.half_width < 1e-9 for share in shares), "what slows all alike is no spread"
    assert found.communication
    assert found.communication.value == pytest.approx(1 - 110 / 125)


def test_the_spread_between_rounds_makes_the_interval() -> None:
    in_group = made(lambda number, visit: slower(visit, 1.2) if (number, visit.row) == (1, 2) else visit)
    found = scaling.scaled_of(in_group).frameworks[0].efficiency["group"]
    assert found
    assert found.value == pytest.approx(100 / 125 / 1.2**0.25)
    assert found.low < 0.75 < found.value < 100 / 125 < found.high


def test_cycles_in_which_others_were_at_work_are_left_out_unless_these_are_too_many() -> None:
    def disturbed(until: int) -> scaling.Scaled:
        return scaling.scaled_of(
            made(lambda n, visit: msgspec.structs.replace(slower(visit, 3), others=0.5) if n <= until else visit)
        )

    few, many = disturbed(6), disturbed(7)
    assert (few.cycles, few.dropped, few.others) == (36, 18, (0.0, 0.0))
    one = few.frameworks[0].seconds["one"]
    assert one
    assert one.value == pytest.approx(0.1)
    assert (many.dropped, many.others) == (0, (pytest.approx(0.5 * 7 / 12), 0.5))
    busy = made(lambda number, visit: msgspec.structs.replace(visit, others=0.5))
    assert "**Other programs used 0.50 cores" in scaling.page(busy)
    assert "Measure again on an idle" not in scaling.page(made())


def test_the_committed_sweep_has_the_figures_of_the_page() -> None:
    recording = Recording.read(COMMITTED)
    text = scaling.page(recording).replace(SPACE, " ")
    for told in (
        "of a group of 2 workers, as a multiple of those of one: 1.79× (1.74 to 1.84) in torch, 1.82× (1.77",
        "| torch | all workers at once, without a group | 128 | 76.4 ms",
        "| 98.2 % (95.6 to 100.9) |",
        "| keras | a group that divides one worker's batch | 64 | 74.3 ms",
        "| 68.9 % (66.2 to 71.7) |",
        "| torch | 8.8 % (6.3 to 11.3) | 10.2 % |",
        "| paddle | 8.4 % (6.2 to 10.5) | – |",
        "| torch | 250 µs | 347 µs | 461 µs | 1.60 ms | 4.15 ms |",
        "0 of 36 cycles are left out",
        "`rosetta sweep --workers 2 --backends torch,paddle,keras`",
    ):
        assert told in text
    torch, *_ = scaling.plain(recording)["frameworks"]
    assert torch["efficiency"]["group"]["value"] == pytest.approx(0.895, abs=0.001)


def test_a_round_is_measured_once_with_its_sums_and_its_profile(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sweep, "ROUNDS", 1)
    monkeypatch.setattr(sweep, "WORKERS_CYCLES", 1)
    monkeypatch.setattr(machine, "MOST_WAIT", machine.WINDOW)
    monkeypatch.setattr(machine, "MOST_OTHERS", inf)
    path, data = tmp_path / "a.jsonl", DataConfig(num_samples=200)
    begun = sweep.begin(path, ["torch"], data, TrainConfig(batch_size=8), 16, "cpu", None, workers=2)
    assert [*sweep.measure(begun)] == ["torch, round 1 of 1 (1 of 1)"]
    measured = Recording.read(path)
    assert [*sweep.measure(measured)] == []
    (line,) = measured.rounds()
    assert [(len(visit.steps), len(visit.lead)) for visit in sorted(line.cycles[0], key=lambda visit: visit.row)] == [
        (8, 2),
        (16, 4),
        (16, 4),
        (16, 4),
    ]
    assert [found.size for found in measured.of_kind(Summed)] == [*sweep.SUM_SIZES]
    (evidence,) = measured.of_kind(Evidence)
    assert evidence.profile
    assert any(scaling.COMMUNICATION.search(kernel.name) for kernel in evidence.profile.kernels)


def test_a_backend_without_an_engine_has_no_workers(tmp_path: Path) -> None:
    said = refusal(2, "sweep", "--workers", 2, "--backends", "numpy", "--out", tmp_path / "a.jsonl")
    assert "backend numpy cannot train in a group" in said
    assert not (tmp_path / "a.jsonl").exists()
