"""How a plan is carried out, on processes that are faked: who is visited when, for how long, and when it ends."""

import math
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import msgspec
import pytest

from backends.process.environment import groups_of
from benchmarks.measure import schedule
from benchmarks.measure.plan import PRESETS, Cell, Plan
from benchmarks.measure.recording import Cause, Certified, Decoded, Evidence, Generation, Recording
from benchmarks.measure.schedule import (
    CYCLES,
    DECODING_CYCLES,
    LEAD_SECONDS,
    SETTLING_STEPS,
    TIMED_SECONDS,
    Benchmark,
)
from benchmarks.results.rows import results_of
from benchmarks.results.timings import precision
from common.config import DataConfig
from common.material import Material, prepare
from tests.fake_processes import GIGABYTE, World, begun, put_in_place, step_numbers
from tests.recordings import plan_of

NAMES = ["torch", "keras", "paddle"]


def narrow(recording: Recording) -> float:
    """As narrow as can be from the start."""
    return 0.0


def never(recording: Recording) -> float:
    """Never narrow enough."""
    return math.inf


def measured(benchmark: Benchmark, precision: Callable[[Recording], float | None] = narrow) -> list[Generation]:
    list(benchmark.run(precision))
    return Recording.read(benchmark.recording.path).of_kind(Generation)


def orders(generations: list[Generation]) -> list[list[int]]:
    return [[visit.cell for visit in cycle] for generation in generations for cycle in generation.cycles]


@pytest.fixture(scope="module")
def small() -> Material:
    return prepare(DataConfig(num_samples=1500, split="grouped"), 0, "float32")[0]


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> World:
    return put_in_place(monkeypatch)


@pytest.fixture
def plan() -> Plan:
    return plan_of(NAMES)


def test_all_rows_are_visited_once_in_each_of_six_cycles(tmp_path: Path, plan, world, small) -> None:
    generations = measured(begun(plan, tmp_path / "a.jsonl", small))
    assert [(generation.number, generation.heat) for generation in generations] == [(n, 0) for n in range(1, 6)]
    assert all(len(generation.cycles) == CYCLES == 6 for generation in generations)
    assert all(sorted(order) == [0, 1, 2] for order in orders(generations))
    assert world.most_alive == 3, "all rows are alive at once"
    assert not world.alive, "and ended"


def test_only_rows_that_are_named_and_the_baseline_are_measured_and_certified(tmp_path, world, small) -> None:
    plan = msgspec.structs.replace(plan_of([*NAMES, "keras:example"]), named=("torch",))
    benchmark = begun(plan, tmp_path / "a.jsonl", small)
    both = {plan.cells.index(Cell(name)) for name in ("torch", "keras:example")}
    assert {visit.cell for g in measured(benchmark) for cycle in g.cycles for visit in cycle} == both
    assert {line.cell for line in benchmark.recording.of_kind(Certified)} == {plan.cells[cell] for cell in both}
    assert Recording.read(benchmark.recording.path).plan == plan


def test_the_order_is_another_in_each_cycle_and_the_same_for_the_same_seed(
    tmp_path: Path, plan, world, small
) -> None:
    first, second = (orders(measured(begun(plan, tmp_path / name, small))) for name in ("a", "b"))
    assert first == second
    assert len({tuple(order) for order in first}) == 6, "every order of three rows comes"
    seeded = msgspec.structs.replace(plan, settings=replace(plan.settings, seed=1))
    assert orders(measured(begun(seeded, tmp_path / "c", small))) != first


def test_in_a_cycle_all_rows_are_fed_the_same_batches_and_in_the_next_others(tmp_path, plan, world, small) -> None:
    measured(begun(plan, tmp_path / "a.jsonl", small))
    firsts = [place for _, _, place in world.visits]
    cycles = [set(firsts[start : start + 3]) for start in range(0, len(firsts), 3)]
    assert all(len(cycle) == 1 for cycle in cycles)
    assert len({next(iter(cycle)) for cycle in cycles}) > len(cycles) / 3


def test_a_visit_is_half_a_second_that_does_not_count_and_two_fifths_that_do(tmp_path, plan, world, small) -> None:
    world.step_seconds = lambda cell, step: 0.02 if cell.backend == "torch" else 0.1
    for generation in measured(begun(plan, tmp_path / "a.jsonl", small)):
        for place, cycle in enumerate(generation.cycles):
            for visit in cycle:
                step = 0.02 if plan.cells[visit.cell].backend == "torch" else 0.1
                assert len(visit.lead) == round(LEAD_SECONDS / step)
                timed = SETTLING_STEPS if place == schedule.SETTLING_CYCLE else round(TIMED_SECONDS / step)
                assert len(visit.steps) == timed


def test_a_step_that_takes_longer_than_a_visit_is_taken_twice(tmp_path, plan, world, small) -> None:
    world.step_seconds = lambda cell, step: 3.0
    visits = [v for g in measured(begun(plan, tmp_path / "a.jsonl", small)) for c in g.cycles for v in c]
    assert {(len(visit.lead), len(visit.steps)) for visit in visits} == {(2, 2)}


def test_what_decodes_sentence_by_sentence_or_bucketed_does_not_decode_in_turns(tmp_path, world, small) -> None:
    plan = plan_of(["torch", "keras:example"], "standard", within=0.05)
    plan = msgspec.structs.replace(plan, size=replace(plan.size, seeds=0))
    benchmark = begun(plan, tmp_path / "a.jsonl", small)
    for generation in measured(benchmark):
        for place, cycle in enumerate(generation.cycles):
            for visit in cycle:
                cell = plan.cells[visit.cell]
                decodes = place in DECODING_CYCLES and not cell.bucketed and cell.backend != "keras:example"
                assert bool(visit.batch) == bool(visit.alone) == decodes
    found = {line.cell: line for line in benchmark.recording.of_kind(Decoded)}
    assert set(found) == {cell for cell in plan.cells if not cell.bucketed}
    assert found[Cell("keras:example")].characters is None
    assert found[Cell("torch")].characters


def test_evidence_is_taken_once_a_row_and_the_referees_product_besides(tmp_path, world, small) -> None:
    plan = plan_of(["torch", "keras:example"], lanes=("matched", "default"))
    benchmark = begun(plan, tmp_path / "a.jsonl", small)
    measured(benchmark)
    found = {line.cell: line for line in benchmark.recording.of_kind(Evidence)}
    assert len(found) == len(benchmark.recording.of_kind(Evidence)) == 4
    assert set(found) == {*plan.cells, Cell("numpy")}
    assert found[Cell("torch")].products
    assert not found[Cell("keras:example")].products
    assert found[Cell("numpy")].profile is None


def test_rows_as_installed_are_measured_in_the_first_generations(tmp_path, world, small) -> None:
    plan = plan_of(["torch", "keras"], lanes=("matched", "default"))
    counts = [len(generation.starts) for generation in measured(begun(plan, tmp_path / "a.jsonl", small))]
    assert PRESETS["quick"].installed == 1
    assert counts == [4, 2, 2, 2, 2]
    one = plan_of(["torch"], lanes=("matched", "default"))
    assert [len(g.starts) for g in measured(begun(one, tmp_path / "c.jsonl", small))] == [2] * 5, "else none is alone"
    alone = plan_of(["torch", "keras"], lanes=("default",))
    assert [len(g.starts) for g in measured(begun(alone, tmp_path / "b.jsonl", small))] == [2] * 5


@pytest.mark.parametrize(("within", "least"), [(0.07, 5), (0.03, 5), (0.02, 8)])
def test_it_ends_when_the_intervals_are_narrow_and_at_least_five_generations_are_done(
    tmp_path, world, small, within: float, least: int
) -> None:
    plan = plan_of(NAMES, within=within)
    assert len(measured(begun(plan, tmp_path / "a.jsonl", small))) == least
    asked: list[int] = []

    def later(recording: Recording) -> float:
        asked.append(len(recording.of_kind(Generation)))
        return 1.001 * within if asked[-1] < 10 else within

    assert len(measured(begun(plan, tmp_path / "b.jsonl", small), later)) == 10


def test_no_generation_is_begun_that_would_end_after_the_budget(tmp_path, plan, world, small, monkeypatch) -> None:
    clock = [0.0]

    def measure(benchmark: Benchmark, number: int, heat: int, cells: list[Cell]) -> Generation:
        clock[0] += 60.0
        return Generation(number, heat, [], [], 60.0)

    monkeypatch.setattr(Benchmark, "_generation", measure)
    monkeypatch.setattr(Benchmark, "_heat", lambda self, number: [] if self._measured(number) else plan.cells[:1])
    monkeypatch.setattr(schedule, "perf_counter", lambda: clock[0])
    plan = msgspec.structs.replace(plan, size=replace(plan.size, budget=270.0))
    assert len(measured(begun(plan, tmp_path / "a.jsonl", small), never)) == 4, "the fifth would end after 300"
    benchmark = begun(plan, tmp_path / "a.jsonl", small)
    benchmark.budget = 125.0  # of what goes on
    assert len(measured(benchmark, never)) == 6


def test_where_memory_is_short_there_are_heats_with_the_first_row_in_each(tmp_path, world, small) -> None:
    world.available = int(3.5 * GIGABYTE)  # for two processes
    plan = plan_of(["torch", "keras", "paddle", "numpy"])
    found = measured(begun(plan, tmp_path / "a.jsonl", small), precision)
    assert [(generation.number, generation.heat) for generation in found] == [
        (number, heat) for number in range(1, 6) for heat in range(3)
    ]
    for generation in found:
        alive = sorted(start.cell for start in generation.starts)
        assert alive == [0, 1 + generation.heat], "the first row, and each other one once"
    assert world.most_alive == 2
    results = results_of(Recording.read(tmp_path / "a.jsonl"))
    assert len(results.pairs) == 6, "all are told apart, through the first row"
    assert {pair.word for pair in results.pairs} == {"same"}


def test_a_generation_whose_heats_found_other_room_is_made_whole_and_no_row_is_measured_twice(
    tmp_path, world, small
) -> None:
    """Other programs end while it is measured: the rest of the rows fit into one heat."""
    world.available = int(3.5 * GIGABYTE)
    plan = plan_of(["torch", "keras", "paddle", "numpy"])
    path = tmp_path / "a.jsonl"

    class KilledError(Exception):
        pass

    benchmark = begun(plan, path, small)
    append = benchmark.recording.append

    def until_a_heat_is_done(line: object) -> None:
        append(line)  # type: ignore[arg-type]
        if isinstance(line, Generation):
            raise KilledError

    benchmark.recording.append = until_a_heat_is_done  # type: ignore[method-assign, assignment]
    with pytest.raises(KilledError):
        list(benchmark.run(narrow))
    world.available = 100 * GIGABYTE
    found = measured(begun(plan, path, small))
    starts = [(g.number, g.heat, sorted(start.cell for start in g.starts)) for g in found]
    assert starts == [(1, 0, [0, 1]), (1, 1, [0, 2, 3]), *((number, 0, [0, 1, 2, 3]) for number in range(2, 6))]
    world.available = int(3.5 * GIGABYTE)
    assert len(measured(begun(plan, path, small))) == len(found), "what is whole stays whole with less memory"


def test_slow_early_steps_let_the_lead_grow(tmp_path, plan, world, small) -> None:
    """The first steps after a switch are slow for longer than half a second."""
    world.step_seconds = lambda cell, step: 0.105 if step < 15 else 0.1
    measured(begun(plan, tmp_path / "a.jsonl", small))
    leads = [
        sum(visit.lead) for g in Recording.read(tmp_path / "a.jsonl").of_kind(Generation) for visit in g.cycles[0]
    ]
    assert leads[0] == pytest.approx(0.5, rel=0.1)
    assert leads[-1] > 0.7
    assert all(after >= before - 0.11 for before, after in pairwise(leads))


def test_the_lead_stays_where_early_steps_are_slower_by_less_or_others_were_at_work(
    tmp_path, plan, world, small
) -> None:
    for name, early, others in (("a", 0.101, 0.0), ("b", 0.15, 0.5)):
        world.others = others
        world.step_seconds = lambda cell, step, early=early: early if step < 15 else 0.1  # type: ignore[misc]
        benchmark = begun(plan, tmp_path / name, small)
        measured(benchmark)
        assert benchmark.lead_seconds == LEAD_SECONDS


def causes(path: Path, small: Material, backend: str) -> list[Cause]:
    benchmark = begun(plan_of([backend], lanes=("matched", "default")), path, small)
    measured(benchmark)
    return benchmark.recording.of_kind(Cause)


def test_the_cause_of_a_slow_row_as_installed_is_looked_for_once(tmp_path, world, small) -> None:
    """Threads alone bring it near to what it takes with all settings; then nothing more is asked."""
    world.step_seconds = lambda cell, step: {"default": 0.2, "matched": 0.1, "threads": 0.105}[cell.lane]
    world.installed_threads = 1
    (cause,) = causes(tmp_path / "a.jsonl", small, "paddle")
    assert (cause.cell, cause.groups) == (Cell("paddle", "default"), ["threads"])
    assert (cause.installed, cause.given, cause.matched) == pytest.approx((0.2, 0.105, 0.1))
    (advice,) = results_of(Recording.read(tmp_path / "a.jsonl")).advice
    assert advice.startswith("A step of paddle as installed takes 2.00 times as long as with all settings matched; ")
    assert "; 93% of the difference comes from the number of threads. " in advice
    assert advice.endswith("Type before the command: OMP_NUM_THREADS=2 FLAGS_paddle_num_threads=2")


def test_where_no_setting_by_itself_is_the_cause_they_are_added_up(tmp_path, world, small) -> None:
    world.step_seconds = lambda cell, step: {"default": 0.2, "matched": 0.1}.get(
        cell.lane, 0.2 - 0.02 * (1 + cell.lane.count("+"))
    )
    world.installed_threads = 1
    groups = groups_of("paddle")
    assert groups[0] == "threads"
    found = [cause.groups for cause in causes(tmp_path / "a.jsonl", small, "paddle")]
    assert found == [groups[: 1 + count] for count in range(len(groups))]


def test_threads_that_are_as_many_anyway_are_no_cause_and_nor_is_a_row_that_is_not_slow(
    tmp_path, world, small
) -> None:
    world.step_seconds = lambda cell, step: 0.1 if cell.lane == "matched" else 0.2
    assert [cause.groups for cause in causes(tmp_path / "a.jsonl", small, "torch")] == [["memory"]]
    world.step_seconds = lambda cell, step: 0.1 if cell.lane == "matched" else 0.108
    assert causes(tmp_path / "b.jsonl", small, "torch") == []


def test_bucketed_rows_are_fed_a_sample_of_an_epochs_widths(tmp_path, world, small: Material) -> None:
    plan = plan_of(["torch"], "standard", within=0.05)
    benchmark = begun(plan, tmp_path / "a.jsonl", small)
    cell = next(cell for cell in plan.cells if cell.bucketed)
    one, two = (benchmark._rows(cell, first, 8, 16) for first in (0, 5))
    assert (one.encoder_ids == two.encoder_ids).all(), "the same sample in every visit"
    corpus, batches = benchmark._epoch(cell)
    assert len(one) == 24 * batches.batch_size
    mean = sum(batch.decoder_ids.shape[1] for batch in batches) / len(batches)
    timed = one.decoder_lengths[8 * batches.batch_size :].reshape(16, -1).max(1)
    assert timed.mean() == pytest.approx(mean, rel=0.1)
    assert corpus.padding == "mask"


def test_steps_of_visits_are_counted_by_the_latest_ones(tmp_path, plan, world, small) -> None:
    """A row that gets slower while it runs has visits of fewer steps, and not longer ones."""
    visits: list[Cell] = []

    def slower(cell: Cell, step: int) -> float:
        visits.extend([cell] if step == 0 and cell.backend == "torch" else [])
        return 0.1 if len(visits) < 3 else 0.2

    world.step_seconds = slower
    benchmark = begun(plan, tmp_path / "a.jsonl", small)
    benchmark._generation(1, 0, list(plan.cells))
    counts = step_numbers(world.visits, Cell("torch"))
    assert counts[0] == 9
    assert counts[-1] == 5
