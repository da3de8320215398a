"""Rounds of a plan on a simulated machine with a clock of its own:
the order of turns, their length, and the end.

Backends' processes only say how long something would have taken, so a benchmark of minutes runs in
no time, on machines that nobody has: slower ones, busier ones, and with any budget.
"""

import math
import os
import re
from collections.abc import Callable, Iterable
from contextlib import nullcontext
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from statistics import fmean, median
from types import SimpleNamespace
from typing import Any, NamedTuple

import numpy as np
import pytest

from benchmarks.measure import bench, quiet, race
from benchmarks.measure import sentences as decoded_sentences
from benchmarks.measure.bench import Benchmark
from benchmarks.measure.measurement import Measurement
from benchmarks.measure.race import Race
from benchmarks.measure.rounds import CAREFUL_ROUNDS, CYCLES, ENOUGH_ROUNDS, LEAD_SECONDS, Rounds
from benchmarks.measure.sentences import Sentences
from benchmarks.measure.statistics import Estimate
from benchmarks.measure.turns import MOST_TRIES, Runner
from benchmarks.report.bench_results import BenchResults
from benchmarks.schema import (
    BUDGET,
    Certified,
    Decoded,
    Plan,
    Profile,
    Ready,
    Round,
    Row,
    RowProfile,
    Start,
    Text,
    Turn,
    WarmUp,
)
from common.corpus import prepare
from common.errors import CannotBeginError, RosettaError
from common.settings import DataConfig
from common.tensors import Batch, Batches
from tests.support import measurements
from tests.support.measurements import SECONDS, plan_of

NAMES = ["torch", "keras", "paddle"]
THREE = plan_of(NAMES)
TICK = 0.05  # seconds in which the simulation goes on where somebody waits


@dataclass
class World:
    """The simulated machine: its settings, its clock, and what was done on it."""

    # Standard deviation of processes and of steps, so that intervals have a width.
    spread: float = 0.02
    turns: float = 0.0  # the same of the turns of a script
    slowness: float = 1.0  # how many times as long as elsewhere everything takes
    start_seconds: float = 2.0  # of a process that is started alone
    neighbour: Callable[[float], float] = lambda now: 0.0  # cores that other programs use at a time
    # Cores that other virtual machines take at a time.
    stolen: Callable[[float], float] = lambda now: 0.0
    disturbs: float = 1.0  # how many times as long a step takes while a core is used by others
    available: int = 100 * 10**9  # bytes of memory
    now: float = 1000.0  # seconds on the clock
    busy: float = 0.0  # seconds that other programs have used the cores
    rng: np.random.Generator = field(default_factory=lambda: np.random.default_rng(0))
    # The row and the first batch's number.
    taken: list[tuple[Row, int]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    statuses: list[float] = field(default_factory=list)  # when something was said

    def seconds_of(self, process: "FakeProcess") -> float:
        """Seconds of the process's next step; tests replace this method."""
        return SECONDS[process.row.backend] * math.exp(
            process.off + self.rng.normal(0, self.spread)
        )

    def work(self, seconds: float) -> float:
        """Let something take so long on a machine without neighbours; returns how long it took."""
        taken = (
            seconds * self.slowness * (1 + (self.disturbs - 1) * min(1.0, self.neighbour(self.now)))
        )
        self.sleep(taken)
        return taken

    def sleep(self, seconds: float) -> None:
        """Let time pass, in which others work. Nothing takes a day."""
        assert self.now < 1e5
        self.busy += seconds * fmean(
            map(self.neighbour, np.arange(self.now, self.now + seconds, TICK))
        )
        self.now += seconds

    def watch(self, children: Iterable[int]) -> SimpleNamespace:
        now, busy = self.now, self.busy
        cores = lambda: (self.busy - busy) / (self.now - now)  # noqa: E731
        return SimpleNamespace(others_and_stolen=lambda: (cores(), self.stolen(now)))

    def certify(self, benchmark: Benchmark) -> None:
        self.work(20.0)
        for line in measurements.measurement(benchmark.plan, rounds=0).of_kind(Certified):
            benchmark.measurement.append(line)

    def started(
        self, indices: Iterable[int], launch: Callable[[int], "FakeProcess"], at_once: int
    ) -> nullcontext:
        def start(index: int) -> tuple[int, SimpleNamespace]:
            self.work(self.start_seconds / at_once)
            process = launch(index)
            return index, SimpleNamespace(result=lambda: process)

        return nullcontext(map(start, indices))


class FakeProcess:
    """Answers as the functions of measure_in_child do."""

    pid = 1

    def __init__(self, world: World, row: Row) -> None:
        self.world, self.row, self.facts = world, row, measurements.facts(row)
        self.off = world.rng.normal(0, world.spread)  # by which it is slower, as a logarithm

    def call(self, function: Callable[..., Any], *listening: object, **arguments: Any) -> Any:
        answer: Callable[..., Any] = getattr(self, function.__name__)
        return answer(**arguments)

    def _steps(self, count: int) -> list[float]:
        return [self.world.work(self.world.seconds_of(self)) for _ in range(count)]

    def warm_up(self, epoch: Batches, steps: int) -> WarmUp:
        first, *rest = self._steps(1 + steps)
        return WarmUp(first, rest, 600_000_000)

    def time_steps(self, first: int, lead: int, timed: int) -> Turn:
        self.world.taken.append((self.row, first))
        taken = self._steps(lead + timed)
        return Turn(0, taken[:lead], taken[lead:], sum(taken), items=64, peak=700_000_000)

    def time_decoding(self, state: object, batch: Batch) -> tuple[Turn, np.ndarray]:
        calls = self._steps(3)
        return Turn(0, [], calls, sum(calls), items=100), np.zeros((len(batch), 20), np.int64)

    def decode(self, state: object, batch: Batch) -> np.ndarray:
        self.world.work(1.0 if self.row.backend == "keras:example" else 0.1)
        return np.ones((len(batch), 20), np.int64)

    def profile_steps(self, steps: int) -> Profile:
        self.world.work(2.0)
        return Profile(3, 0.3, 0.14, 0.06, 0.01)


class FakeScript(Runner):
    """A script of a race, whose step takes 0.1 s."""

    pids = (1,)

    def __init__(self, world: World, row: int, **options: Any) -> None:
        super().__init__(row, **options)
        self.world, self.off = world, world.rng.normal(0, world.spread)

    def start(self, stack: object) -> None:
        self.world.work(self.world.start_seconds)

    def wait_until_ready(self) -> SimpleNamespace:
        return SimpleNamespace(record=None)

    def warm_up(self, seconds: float) -> Start:
        first, *rest = self._steps(3)
        self.step_seconds = fmean(rest)
        ready = Ready("3", {}, 1, False, None)
        return Start(self.row, seconds, WarmUp(first, rest, 600_000_000), ready=ready, threads=1)

    def turn(self, work: str, first: int) -> Turn:
        lead, timed = self.counts(self.step_seconds)
        taken = self._steps(lead + timed)
        self.step_seconds = fmean(taken[lead:])
        return Turn(self.row, [sum(taken[:lead])], taken[lead:], sum(taken), first=first)

    def _steps(self, count: int) -> list[float]:
        seconds = 0.1 * math.exp(self.off + self.world.rng.normal(0, self.world.turns))
        return [self.world.work(seconds) for _ in range(count)]


class Run(NamedTuple):
    """The result of a simulated benchmark."""

    rounds: list[Round]  # of training
    results: BenchResults
    took: float  # seconds

    @property
    def tries(self) -> set[int]:
        """The numbers of tries that turns took."""
        return {turn.tries for line in self.rounds for cycle in line.cycles for turn in cycle}

    @property
    def answers(self) -> int:
        """The number of pairs of frameworks in the tuned lane that have an answer."""
        pairs = [pair for pair in self.results.pairs if pair.kind == "frameworks"]
        return sum(", as installed" not in pair.left + pair.right for pair in pairs)

    def ratio(self, row: str) -> Estimate:
        """Speed of torch as a multiple of that of another row, by their labels."""
        ratio = self.results.ratio(*map(self.results.by_label.get, ("torch", row)))
        assert ratio
        return ratio

    def is_right(self, row: str, rel: float) -> bool:
        """True if the interval of torch's speed over another row's,
        widened by `rel`, holds the true ratio."""
        ratio, true = self.ratio(row), SECONDS[row] / SECONDS["torch"]
        return ratio.low / (1 + rel) < true < ratio.high * (1 + rel)


Measure = Callable[..., Run]


@pytest.fixture(scope="module")
def sentences() -> Sentences:
    """Sentences of a small corpus, to which no run fits."""
    material = prepare(DataConfig(num_samples=1500, split="grouped"), 0, "float32")
    return Sentences(material, 256, "lstm", "", 0)


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> World:
    """A machine whose clock goes on only by what is done on it,
    and every backend of which is a fake."""
    world = World()
    memory = SimpleNamespace(virtual_memory=lambda: SimpleNamespace(available=world.available))
    fakes: dict[Any, dict[str, Any]] = {
        Benchmark: {
            "_launch": lambda benchmark, index: FakeProcess(world, benchmark.plan.rows[index]),
            "_certify": lambda benchmark: world.certify(benchmark),
        },
        bench: {"psutil": memory, "start_side_by_side": world.started},
        race: {
            "Script": lambda row, runner, patience, counts: FakeScript(world, row, counts=counts)
        },
        decoded_sentences: {"score": lambda *texts: measurements.decoded(0, Row("torch")).scores},
        quiet: {
            "Watch": world.watch,
            "now": lambda: world.now,
            "busy_seconds": lambda: world.busy,
            "time": SimpleNamespace(sleep=world.sleep),
            "_processes": lambda: {7: ("shell", 1.0), 8: ("compi\x1bler", world.busy)},
        },
        os: {"fsync": lambda descriptor: None},  # which takes longer than all the rest
    }
    for place, names in fakes.items():
        for name, fake in names.items():
            monkeypatch.setattr(place, name, fake)
    return world


@pytest.fixture
def measure(tmp_path: Path, world: World, sentences: Sentences) -> Measure:
    """Runs a benchmark whose measurement has this name."""

    def run(plan: Plan, name: str = "a.jsonl") -> Run:
        began, path = world.now, tmp_path / name
        corpus = Text(
            "0" * 64, len(sentences.material.training_rows), sentences.weights, "", sentences.shown
        )
        measurement = Measurement.begin(path, plan, corpus)
        Benchmark(measurement, sentences.material, None if plan.training.axes else sentences).run(
            lambda doing: world.statuses.append(world.now), world.notes.append
        )
        recorded = Measurement.read(path)
        return Run(recorded.rounds(), BenchResults(recorded), world.now - began)

    return run


@pytest.mark.parametrize(
    ("slowness", "start", "budget"),
    [(slowness, start, BUDGET) for slowness in (1.0, 8.0) for start in (1.0, 20.0)]
    + [(1.0, 1.0, 6.0), (1.0, 20.0, 60.0), (4.0, 1.0, 60.0), (8.0, 20.0, 60.0), (8.0, 5.0, 120.0)],
)
def test_any_machine_gets_an_answer_or_a_budget_that_will_do(
    world, measure, slowness, start, budget
) -> None:
    """Steps are slower, and so is parity; starting a process takes a second to twenty.

    Time that nobody gave grows; time that somebody gave is refused
    before anything is measured in vain.
    """
    world.slowness, world.start_seconds = slowness, start / slowness
    if budget < BUDGET:
        with pytest.raises(
            RosettaError,
            match=r"take about \d+ minutes .*; measure fewer rows, "
            r"leave out",
        ):
            measure(plan_of(budget=budget), "b.jsonl")
        assert not world.taken
    run = measure(plan_of())
    assert run.answers == 6
    grown = [
        re.search(r"4 min 45 s are too few for .*, so this takes (\d+) min (\d+) s$", n)
        for n in world.notes
    ]
    assert run.took <= 1.1 * (
        sum(60 * int(note[1]) + int(note[2]) for note in grown) if grown else BUDGET
    )
    assert run.results.rounds >= 3
    assert run.is_right("paddle", 0.02)


def test_a_quick_machine_measures_everything_in_the_default_time(world, measure) -> None:
    run = measure(plan_of())
    assert len(run.rounds) >= ENOUGH_ROUNDS
    assert run.results.reached < 0.07
    assert run.results.missing == []
    assert run.took < 285
    assert not world.notes
    for kind in (Decoded, RowProfile):
        rows = {line.row for line in run.results.measurement.of_kind(kind)}
        assert rows == {0, 1, 2, 3} - ({0} if kind is Decoded else set()), (
            "the example decodes one sentence alone"
        )
    assert sum(line.scores is not None for line in run.results.measurement.of_kind(Decoded)) == 1
    assert all(len(line.starts) == 6 for line in run.rounds), (
        "both lanes take turns in the same rounds"
    )
    assert all(row.alone.low < row.alone.high for row in run.results.rows), (
        "decoding has an interval in each row"
    )
    # Something was said at least every thirty seconds, after parity.
    assert max(after - before for before, after in pairwise(world.statuses)) < 30


def test_decoding_comes_before_rounds_that_narrow_intervals(world, measure) -> None:
    """The fourth and later rounds would leave a few seconds,
    which do not suffice for the official example."""
    world.spread = 0.08
    run = measure(plan_of())
    assert run.results.reached > 0.05
    assert len(run.rounds) > 3
    assert run.results.missing == []
    decoding = [line.number for line in run.results.measurement.rounds("alone")]
    assert decoding == [3, 4, 5], "the first rounds in which an answer stands already"


def test_a_cycle_visits_every_row_in_a_new_order(world, measure) -> None:
    """Half a second that does not count, and two fifths that do."""
    world.start_seconds = 8.0
    world.seconds_of = lambda process: 0.02 if process.row.backend == "torch" else 0.1
    cycles = measure(THREE).rounds[0].cycles
    assert len(cycles) == CYCLES
    places = [place for _, place in world.taken]
    assert all(len({*places[start : start + 5]}) == 1 for start in range(0, 5 * CYCLES, 5))
    for turn in (turn for cycle in cycles for turn in cycle):
        step = 0.02 if THREE.rows[turn.row].backend == "torch" else 0.1
        assert (len(turn.lead), len(turn.steps)) == (
            round(LEAD_SECONDS / step),
            round(Rounds.timed_seconds / step),
        )
    orders = [[turn.row for turn in cycle] for cycle in cycles]
    assert all(sorted(order) == [0, 1, 2, 3, 4] for order in orders)
    assert len({*map(tuple, orders)}) > 1


def test_a_neighbour_that_works_at_times_leaves_no_bias(world, measure) -> None:
    """Whatever it disturbs is taken again, be the row slow or quick:
    ratios are those of an idle machine."""
    world.spread = 0.005
    world.neighbour = lambda now: 1.0 if now % 6 < 2 else 0.0
    world.disturbs = 4.0
    runs = [measure(plan_of(NAMES, seed=n), f"{n}.jsonl") for n in range(4)]
    for run in runs:
        assert run.took < 1.1 * THREE.budget
        assert run.results.dropped <= 0.1 * run.results.cycles
        assert run.results.again > 0
    for row in ("paddle", "keras"):
        ratio = fmean(run.ratio(row).value for run in runs)
        assert ratio == pytest.approx(SECONDS[row] / SECONDS["torch"], rel=0.01)


def test_a_turn_is_retried_for_the_work_of_others_alone(world, measure) -> None:
    """Time that other virtual machines took has it taken again too,
    and counts at last, since it may never end."""
    # Some turns are slow.
    world.seconds_of = lambda process: 0.5 if len(world.taken) % 7 == 0 else 0.06
    assert measure(THREE).tries == {1}
    world.stolen = lambda now: 0.3
    run = measure(THREE, "b.jsonl")
    assert run.tries == {MOST_TRIES}
    assert (run.results.dropped, len(run.rounds) >= 3) == (0, True)
    assert run.took < 1.1 * THREE.budget
    assert any("other virtual machines took 0.30 cores" in note for note in run.results.notes)


def test_threads_that_still_spin_slow_no_warm_up(world, measure) -> None:
    """Paddle's threads spin for a second after a step;
    the next row's first turn would have a lead of two steps."""
    ended = 0.0

    def seconds_of(process: FakeProcess) -> float:
        nonlocal ended
        spoilt = world.now < ended + 1.0
        seconds = SECONDS[process.row.backend] * math.exp(process.off)
        if process.row.backend == "paddle":
            spoilt, ended = False, world.now + seconds
        return 8 * seconds if spoilt else seconds

    world.seconds_of = seconds_of
    world.neighbour = lambda now: float(ended <= now < ended + 1.0)
    run = measure(THREE)
    turns = [turn for line in run.rounds for cycle in line.cycles for turn in cycle]
    assert min(sum(turn.lead) for turn in turns) > 0.4
    assert run.is_right("keras", 0.02)


def test_turns_beside_a_restless_program_have_a_doubt(world, measure) -> None:
    """No turn is taken again in vain, all cycles count,
    and the answer is right where the work slows all alike."""
    world.neighbour, world.disturbs = lambda now: 1.9, 2.0
    run = measure(THREE)
    assert run.took < 1.1 * THREE.budget
    assert run.tries == {1}
    assert (run.answers, run.results.dropped) == (3, 0)
    assert run.is_right("paddle", 0.02)
    assert world.notes == [
        "other programs use the machine, now 1.9 cores, most by compi?ler (process 8); waiting up "
        "to 20 s for their end",
        "other programs leave the machine no rest, so turns are taken beside them, with wider "
        "intervals; end them, or measure later",
    ]
    assert "other programs used 1.90 cores during the turns" in run.results.doubts[0]


def test_programs_that_hardly_rest_are_waited_for_once(world, measure) -> None:
    """And not again after each short rest, which would take the budget."""
    world.neighbour = lambda now: 0.0 if now % 40 < 4 else 1.9
    run = measure(THREE)
    assert run.answers == 3
    assert len([note for note in world.notes if "waiting up to 20 s" in note]) == 1


def test_cycles_beside_a_passing_program_are_left_out(world, measure) -> None:
    """While they are fewer than the others; once it ends, turns are taken again."""
    began = world.now
    world.neighbour = lambda now: 1.9 if began + 60 < now < began + 90 else 0.0
    run = measure(THREE)
    assert (run.answers, run.results.doubts) == (3, [])
    assert 0 < run.results.dropped < run.results.cycles / 2
    assert max(run.tries) == MOST_TRIES


@pytest.mark.parametrize(
    ("names", "within", "rounds"),
    [(NAMES, 0.07, 5), (NAMES, 0.02, 8), (["keras:example"], 0.07, 5)],
)
def test_it_ends_with_narrow_intervals_after_enough_rounds(
    world, measure, names, within, rounds
) -> None:
    """The example alone has one row, in both lanes."""
    world.spread = 0.001
    plan = plan_of(names, within, budget=3000.0)
    training = measure(plan).rounds
    assert len([line for line in training if len(line.starts) == len(training[0].starts)]) == rounds


def test_parts_without_time_are_named(world, measure) -> None:
    world.slowness = 1.4
    cut_short = measure(plan_of(budget=110.0))
    assert cut_short.answers == 6
    assert cut_short.results.missing == ["why one is slower"]


@pytest.mark.parametrize("budget", [5.0, 60.0])
def test_a_budget_that_cannot_hold_is_refused_at_once(world, measure, raced, budget) -> None:
    began = world.now
    with pytest.raises(
        CannotBeginError,
        match=r"an answer needs 3 rounds .* leave out --budget, "
        r"or give more",
    ):
        measure(plan_of(budget=budget))
    assert world.now == began
    world.start_seconds = 20.0
    with pytest.raises(
        RosettaError,
        match=r"an answer needs 3 rounds .* leave out --budget, or "
        r"give more",
    ):
        raced(budget=budget)
    assert world.now - began <= 20.0 + 1.0, "at the latest once the first script is ready"


def test_no_more_than_an_hour_is_advised(world, measure) -> None:
    world.start_seconds = 1000.0
    with pytest.raises(RosettaError, match=r"take over an hour; measure fewer rows$"):
        measure(plan_of())


def test_rows_beyond_memory_are_refused_with_what_to_do(world, measure) -> None:
    world.available, began = 2 * 10**9, world.now
    with pytest.raises(
        CannotBeginError,
        match=r"6 processes need about 4\.8 GB.*name fewer with "
        r"--backends",
    ):
        measure(plan_of())
    assert world.now - began < 20, "before parity"


def test_sizes_take_turns_and_are_planned_by_operations(world, measure) -> None:
    """Where three rounds of each size do not fit, it is said after the first start,
    be it of the smallest size."""
    axes = {"latent-dim": (64, 256, 1024)}
    world.seconds_of = lambda process: (
        (process.row.sizes["latent-dim"] / 256) ** 1.5 * SECONDS[process.row.backend]
    )
    run = measure(plan_of(["torch", "keras"], axes=axes, budget=600.0))
    order = [line.starts[0].row // 2 for line in run.rounds]
    assert [len(line.starts) for line in run.rounds] == [2] * len(order)
    laps = [order[start : start + 3] for start in range(0, len(order) - len(order) % 3, 3)]
    assert len(laps) >= 3
    assert all(sorted(lap) == [0, 1, 2] for lap in laps)
    assert len({*map(tuple, laps)}) > 1
    assert run.took < 600
    assert run.answers == 3
    began = world.now
    with pytest.raises(
        RosettaError,
        match=r"an answer needs 9 rounds of new processes, .* or give "
        r"more",
    ):
        measure(plan_of(["torch", "keras"], axes=axes, budget=30.0), "b.jsonl")
    assert world.now - began < 60
    world.available = 10**9
    with pytest.raises(CannotBeginError, match=r"2 processes need about 1\.6 GB"):
        measure(plan_of(["torch", "keras"], axes=axes), "c.jsonl")


@pytest.fixture
def raced(tmp_path: Path, world: World) -> Callable[..., Measurement]:
    """Races two scripts that take the same time."""

    def run(within: float = 0.03, budget: float = 300.0) -> Measurement:
        rows = (Row(name="one", command=("a",)), Row(name="two", command=("b",)))
        measurement = Measurement.begin(
            tmp_path / "race.jsonl", Plan(rows, within, budget, budget != 300.0)
        )
        Race(measurement).run(lambda doing: None, world.notes.append)
        return Measurement.read(measurement.path)

    return run


@pytest.mark.parametrize(("start", "budget", "cycles"), [(30.0, 800.0, CYCLES), (0.1, 60.0, 1)])
def test_cycles_take_as_long_as_starting(world, raced, start, budget, cycles) -> None:
    world.start_seconds = start
    rounds = raced(budget=budget).rounds()
    assert median(len(line.cycles) for line in rounds) == cycles


def test_a_race_ends_when_its_interval_is_narrow(world, raced) -> None:
    world.spread = world.turns = 0.005
    assert len(raced().rounds()) == CAREFUL_ROUNDS
    assert world.now - 1000.0 < 150
