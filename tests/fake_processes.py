"""A machine with a clock of its own, on which backends' processes only say how long something would have taken.

A benchmark of minutes is run on it in no time, on machines as slow and as busy as a test wants.
"""

import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from benchmarks.in_child import Profile, Visit, WarmUp
from benchmarks.measure import bench, machine, sentences, trainees
from benchmarks.measure.bench import Benchmark
from benchmarks.measure.plan import Plan, Row
from benchmarks.measure.recording import Certified, Recording, Sizes, Text
from benchmarks.measure.sentences import Sentences, Weights
from common.corpus import Material
from common.tensors import Batch, Batches, model_config
from common.weights import initial_state
from tests import recordings

GIGABYTE = 1_000_000_000
TICK = 0.05  # seconds in which the simulation goes on where somebody waits


@dataclass
class World:
    """What the machine is like, and what was done on it."""

    step_seconds: Callable[[Row, int], float] = lambda row, step: 0.1  # of a visit's steps
    slowness: float = 1.0  # how many times as long as elsewhere everything takes
    start_seconds: float = 2.0  # of a process that is started alone
    parity_seconds: float = 20.0
    neighbour: Callable[[float], float] = lambda now: 0.0  # cores that other programs use at a time
    stolen: Callable[[float], float] = lambda now: 0.0  # cores that other virtual machines take at a time
    disturbs: float = 1.0  # how many times as long a step takes while a core is used by others
    available: int = 100 * GIGABYTE  # bytes of memory
    now: float = 1000.0  # seconds on the clock
    visits: list[tuple[Row, int, int]] = field(default_factory=list)  # the row, steps in all, first pair's place
    alive: list["FakeProcess"] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    statuses: list[float] = field(default_factory=list)  # when something was said

    def work(self, seconds: float) -> float:
        """Let something take so long on a machine without neighbours; returns how long it took."""
        taken = seconds * self.slowness * (1 + (self.disturbs - 1) * min(1.0, self.neighbour(self.now)))
        self.now += taken
        return taken

    def sleep(self, seconds: float) -> None:
        self.now += seconds

    def used(self, began: float) -> float:
        """Cores that others have used since then, on average."""
        times = np.arange(began, max(self.now, began + TICK), TICK)
        return float(np.mean([self.neighbour(time) for time in times]))

    def wait_until_idle(self) -> None:
        began = self.now
        self.sleep(TICK)
        while self.used(self.now - TICK) > machine.IDLE and self.now - began < machine.MOST_WAIT:
            self.sleep(TICK)

    def status(self, doing: str) -> None:
        self.statuses.append(self.now)


class FakeProcess:
    """Answers as the functions of in_child do."""

    pid = 1

    def __init__(self, world: World, row: Row) -> None:
        self.world, self.row, self.facts = world, row, recordings.facts(row)
        world.alive.append(self)

    def call(self, function: Callable[..., Any], *listening: object, **arguments: Any) -> Any:
        answer: Callable[..., Any] = getattr(self, function.__name__)
        return answer(**arguments)

    def _steps(self, count: int) -> list[float]:
        return [self.world.work(self.world.step_seconds(self.row, step)) for step in range(count)]

    def warm_up(self, batches: Batches) -> WarmUp:
        first, *others = self._steps(1 + len(batches))
        return WarmUp(first, others, 600_000_000)

    def steps(self, batches: Batches, lead: int) -> Visit:
        self.world.visits.append((self.row, len(batches), int(batches.rows[0])))
        taken = self._steps(len(batches))
        return Visit(0, taken[:lead], taken[lead:], sum(taken), True, peak=700_000_000)

    def decoding(self, state: object, batch: Batch) -> Visit:
        calls = [self.world.work(0.06) for _ in range(3)]
        return Visit(0, [], calls, sum(calls), True)

    def decoded(self, state: object, batch: Batch) -> tuple[float, np.ndarray]:
        seconds = self.world.work(1.0 if self.row.backend == "keras:example" else 0.1)
        return seconds, np.ones((len(batch), 20), np.int64)

    def profiled(self, batches: Batches) -> Profile:
        self.world.work(2.0)
        return Profile(3, 0.3, 0.2, recordings.KERNELS, 0.01)

    def product_speed(self, size: int) -> float:
        self.world.work(0.5)
        return recordings.FLOPS


def put_in_place(monkeypatch: pytest.MonkeyPatch) -> World:
    """A machine whose clock goes on only by what is done on it, and every backend of which is a fake."""
    world = World()

    def watch(children: Iterable[int]) -> SimpleNamespace:
        list(children)
        began = world.now
        return SimpleNamespace(others=lambda: world.used(began), stolen=lambda: world.stolen(began))

    def certify(benchmark: Benchmark) -> None:
        if not benchmark.recording.of_kind(Certified):
            world.work(world.parity_seconds)
            for line in recordings.recording(benchmark.plan, rounds=0).of_kind(Certified):
                benchmark.recording.append(line)

    @contextmanager
    def started(
        indices: Iterable[int], launch: Callable[[int], FakeProcess], at_once: int
    ) -> Iterator[Iterator[tuple[int, SimpleNamespace]]]:
        def one_after_another() -> Iterator[tuple[int, SimpleNamespace]]:
            for index in indices:
                world.work(world.start_seconds / at_once)
                process = launch(index)
                yield index, SimpleNamespace(result=lambda process=process: process)

        yield one_after_another()
        world.alive.clear()

    fakes: dict[Any, dict[str, Any]] = {
        Benchmark: {
            "_launch": lambda benchmark, index: FakeProcess(world, benchmark.plan.rows[index]),
            "_certify": certify,
        },
        bench: {"psutil": SimpleNamespace(virtual_memory=lambda: SimpleNamespace(available=world.available))},
        trainees: {"started_side_by_side": started},
        sentences: {"score": lambda *texts: recordings.decoded(0, Row("torch")).scores},
        machine: {
            "Watch": watch,
            "now": lambda: world.now,
            "wait_until_idle": world.wait_until_idle,
            "time": SimpleNamespace(sleep=world.sleep),
            "_processes": dict,
        },
        os: {"fsync": lambda descriptor: None},  # which takes longer than all the rest
    }
    for place, names in fakes.items():
        for name, fake in names.items():
            monkeypatch.setattr(place, name, fake)
    return world


def begun(plan: Plan, path: Path, material: Material, budget: float | None = None) -> Benchmark:
    """A benchmark on its way to the first round; gone on with where it was begun."""
    model = model_config(material.batch, material.decoder_vocabulary, plan.latent_dim, "float32")
    sentences = Sentences(material, Weights("fresh weights", "", fresh(model), frozenset()))
    if path.exists():
        return Benchmark(Recording.read(path), material, sentences, budget)
    corpus = Text("0" * 64, Sizes.of(material), "fresh weights", "", sentences.shown)
    return Benchmark(Recording.begin(path, plan, corpus), material, sentences, budget)


fresh = cache(lambda model: initial_state(model, 0))  # which takes long for many units
