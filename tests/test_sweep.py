"""Sweeps of sizes and of workers: what is measured, and what follows from known times."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from functools import partial
from math import inf
from pathlib import Path

import msgspec
import pytest

from backends.process.parent import BackendProcess, Runtime, Worker
from benchmarks.measure import machine, sweep
from benchmarks.measure.lines import Round
from benchmarks.measure.plan import Plan, Row
from benchmarks.measure.recording import Recording, RowProfile, Sizes, Summed
from benchmarks.report import scaling
from common.config import DataConfig, TrainConfig
from tests import child
from tests.conftest import LATENT_DIM, batch_of
from tests.program import refusal
from tests.recordings import changed, committed, each_visit


@pytest.fixture
def measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[Plan], Recording]:
    """Makes the recording of a sweep with short visits, of which none is taken again for other programs."""
    for name, value in {"VISIT_SECONDS": 0.02, "ROUNDS": 1, "WORKERS_CYCLES": 1, "SUMS": 2}.items():
        monkeypatch.setattr(sweep, name, value)
    monkeypatch.setattr(sweep.in_child, "PRODUCT_SIZE", 128)
    monkeypatch.setattr(machine, "MOST_WAIT", machine.WINDOW)
    monkeypatch.setattr(machine, "MOST_OTHERS", inf)

    def run(plan: Plan) -> Recording:
        path, notes = tmp_path / "a.jsonl", []
        sweep.opened_sweep(path, plan).run(pytest.fail, notes.append)
        made = Recording.read(path)
        assert notes[-1].endswith(f"({len(made.rounds())} of {len(notes)})")
        return made

    return run


def test_every_size_is_measured_once(measured) -> None:
    axes = {"batch_size": [2], "num_samples": [400]}
    plan = Plan(DataConfig(num_samples=200), TrainConfig(), 16, "cpu", 1, (Row("numpy"),), axes=axes)
    made = measured(plan)
    (peak,) = made.of_kind(RowProfile)
    assert peak.flops > 1e7
    for line, least in zip(made.rounds(), (3, 16), strict=True):
        assert [start.row for start in line.starts] == [0]
        assert [[visit.row for visit in cycle] for cycle in line.cycles] == [[0]] * sweep.CYCLES
        assert all(len(visit.steps) >= least for cycle in line.cycles for visit in cycle)
        assert all(visit.peak > 20_000_000 for cycle in line.cycles for visit in cycle)
    found = scaling.Scaling(made)
    assert [(point.axis, point.size) for point in found.points] == sweep.points_of(plan)
    assert all(point.share > 0 for point in found.points)
    assert found.command == "rosetta sweep --backends numpy --latent-dim 16 --threads 1 --num-samples 200"


def test_a_round_of_workers_is_measured_once_with_its_sums_and_its_profile(
    measured, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With processes of NumPy, each a group by itself, in place of torch's; see tests/test_group.py for those."""
    start = Runtime.start
    monkeypatch.setattr(Runtime, "start", lambda runtime, name, *configs: start(runtime, "numpy", *configs))

    @contextmanager
    def started_group(workers: list[Worker], launch: "partial[BackendProcess]") -> Iterator[list[BackendProcess]]:
        with ExitStack() as stack:
            yield [stack.enter_context(BackendProcess("numpy", *launch.args[1:])) for _ in workers]

    monkeypatch.setattr(sweep, "started_group", started_group)
    settings = TrainConfig(batch_size=8)
    made = measured(Plan(DataConfig(num_samples=200), settings, 16, "cpu", 1, (Row("torch"),), workers=2))
    (line,) = made.rounds()
    visits = sorted(line.cycles[0], key=lambda visit: visit.row)
    assert [(len(visit.steps), len(visit.lead)) for visit in visits] == [(8, 2), (16, 4), (16, 4), (16, 4)]
    assert [found.size for found in made.of_kind(Summed)] == [*sweep.SUM_SIZES]
    assert [line.profile.steps for line in made.of_kind(RowProfile)] == [3]


@pytest.mark.parametrize("name", ["scaling", "workers"])
def test_cycles_in_which_others_were_at_work_are_left_out_unless_these_are_too_many(name: str) -> None:
    """What follows from times that nothing disturbed is on the committed page."""
    made = committed(name)

    def with_slow_cycle(line: Round) -> Round:
        slow = [msgspec.structs.replace(visit, steps=[9.0], others=0.5) for visit in line.cycles[0]]
        return msgspec.structs.replace(line, cycles=[*line.cycles, slow])

    few = changed(made, Round, with_slow_cycle)
    many = each_visit(made, lambda _, visit: msgspec.structs.replace(visit, others=0.5))
    assert scaling.report_of(few).summary == scaling.report_of(made).summary
    assert ("**Other programs used 0.50 cores" in scaling.report_of(many).page) == (name == "workers")


def test_what_was_ended_before_its_first_round_has_a_page_without_figures() -> None:
    for name in ("scaling", "workers"):
        assert "Nothing was measured yet" in scaling.report_of(replace(committed(name), lines=[])).page


def test_what_cannot_be_swept_is_refused(tmp_path: Path) -> None:
    out = tmp_path / "b.jsonl"
    assert "cannot be swept" in refusal(2, "sweep", "--backends", "keras:example", "--out", out)
    refused = refusal(2, "sweep", "--workers", 2, "--backends", "numpy", "--out", out)
    assert "backend numpy cannot train in a group" in refused
    assert not out.exists()


def test_the_operations_of_a_step_are_counted_as_by_hand_and_as_by_torch(backend_of) -> None:
    """Of the smallest model: four gates of an input and a state each, in encoder and decoder, and one logit."""
    assert Sizes(1, 1, 1, 1, 1).step_flop(1, 1) == 2 * 2 * (4 * 2 + 4 * 2 + 1) + 2 * (4 + 4 + 1)
    example = Sizes(8000, 16, 59, 71, 92)
    assert example.step_flop(64, 256, one_hot=False) == pytest.approx(8.1e9, rel=0.01)
    batch = batch_of(32, "float32")
    counted = backend_of("torch", "float32").call(child.flop_of_step, batch=batch)
    lengths = batch.encoder_ids.shape[1], batch.decoder_input_ids.shape[1]
    tensors = Sizes(32, *lengths, batch.num_encoder_tokens, batch.num_decoder_tokens)
    assert counted == pytest.approx(tensors.step_flop(32, LATENT_DIM), rel=0.01)
