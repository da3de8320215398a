"""Backends' processes that only say how long something would have taken: a benchmark is run in no time."""

import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Self

import numpy as np
import pytest

from benchmarks.measure import schedule
from benchmarks.measure.plan import Cell, Plan
from benchmarks.measure.recording import Certified, Corpus, Recording, Sizes
from benchmarks.measure.scenarios import Product, Profile, Steps, WarmUp
from benchmarks.measure.schedule import Benchmark
from benchmarks.measure.sentences import Sentences, Weights
from common.material import Material
from common.tensors import Batch, model_config
from common.weights import initial_state
from tests import recordings

GIGABYTE = 1_000_000_000


@dataclass
class World:
    """What the machine is like, and what was done on it."""

    step_seconds: Callable[[Cell, int], float] = lambda cell, step: 0.1  # of the steps of a visit, counted from 0
    installed_threads: int = 2  # that a backend computes on where nothing is set
    others: float = 0.0
    available: int = 100 * GIGABYTE  # bytes of memory
    visits: list[tuple[Cell, int, int]] = field(default_factory=list)  # the cell, steps in all, first pair's place
    alive: list["FakeProcess"] = field(default_factory=list)
    most_alive: int = 0


class FakeProcess:
    """Answers as the scenarios do."""

    pid = 1

    def __init__(self, world: World, cell: Cell) -> None:
        self.world, self.cell = world, cell
        threads = world.installed_threads if cell.lane == "default" else 2
        self.facts = replace(recordings.facts(cell), threads=threads)
        world.alive.append(self)
        world.most_alive = max(world.most_alive, len(world.alive))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.world.alive.remove(self)

    def listening(self, *told: Any, **also: Any) -> Self:
        return self

    def call(self, function: Callable[..., Any], **arguments: Any) -> Any:
        answer: Callable[..., Any] = getattr(self, function.__name__)
        return answer(**arguments)

    def close(self) -> None:
        """There is nothing to end."""

    def warm_up(self, rows: Batch, batch_size: int) -> WarmUp:
        first, *others = (self.world.step_seconds(self.cell, step) for step in range(1 + len(rows) // batch_size))
        return WarmUp(first, others, 600_000_000, 8, 2)

    def steps(self, rows: Batch, batch_size: int) -> Steps:
        count = len(rows) // batch_size
        self.world.visits.append((self.cell, count, int(rows.encoder_ids[0].sum())))
        taken = [self.world.step_seconds(self.cell, step) for step in range(count)]
        return Steps(taken, sum(taken), True)

    def load(self, state: Any) -> None:
        """Weights change no time."""

    def decoding(self, **sources: Any) -> list[float]:
        return [0.05, 0.05]

    def translate(self, encoder_ids: np.ndarray, encoder_lengths: np.ndarray, max_length: int) -> np.ndarray:
        return np.ones((len(encoder_ids), max_length), np.int64)

    def profiled(self, rows: Batch, batch_size: int) -> Profile:
        return Profile(3, 0.3, 0.2, recordings.KERNELS, 0.01)

    def matrix_products(self, shapes: Mapping[str, tuple[int, int, int]]) -> list[Product]:
        return recordings.LARGE


class FakeWatch:
    """Sees what the world says that others use."""

    world: World

    def __init__(self, children: Iterable[int]) -> None:
        list(children)

    def others(self) -> float:
        return self.world.others


def put_in_place(monkeypatch: pytest.MonkeyPatch) -> World:
    """A machine on which nothing takes any time, and every backend is a fake."""
    made = World()

    monkeypatch.setattr(Benchmark, "_start", lambda benchmark, cell: FakeProcess(made, cell))
    monkeypatch.setattr(FakeWatch, "world", made, raising=False)
    monkeypatch.setattr(schedule, "Watch", FakeWatch)
    monkeypatch.setattr(schedule, "wait_until_idle", lambda: 0.0)
    psutil = SimpleNamespace(virtual_memory=lambda: SimpleNamespace(available=made.available))
    monkeypatch.setattr(schedule, "psutil", psutil)
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)  # which takes longer than all the rest
    return made


def begun(plan: Plan, path: Path, material: Material) -> Benchmark:
    """A benchmark whose rows are certified, on its way to the first generation; gone on with where it was begun."""
    model = model_config(material.batch, material.decoder_vocabulary, plan.latent_dim, "float32")
    sentences = Sentences(material, Weights("fresh weights", "", fresh(model), frozenset()))
    if path.exists():
        return Benchmark(Recording.read(path), material, sentences, {})
    corpus = Corpus("0" * 64, Sizes.of(material), "fresh weights", "", sentences.shown, len(sentences.held_out))
    recording = Recording.begin(path, plan=plan, corpus=corpus)
    for line in recordings.recording(plan, generations=0).of_kind(Certified):
        recording.append(line)
    return Benchmark(recording, material, sentences, {})


fresh = cache(lambda model: initial_state(model, 0))  # which takes long for many units


def step_numbers(visits: list[tuple[Cell, int, int]], cell: Cell) -> list[int]:
    """The steps of each visit to a cell."""
    return [count for visited, count, _ in visits if visited == cell]
