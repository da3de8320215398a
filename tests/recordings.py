"""Recordings with known answers: what `rosetta bench` would write if every step took just so long.

They are built in memory; `written` puts one into a file.
"""

from collections.abc import Callable, Collection, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

import msgspec
import numpy as np

from backends import BASELINE
from benchmarks.measure.plan import PRESETS, Cell, Plan, cells, certified_as
from benchmarks.measure.recording import (
    Certified,
    Corpus,
    Decoded,
    Evidence,
    Generation,
    Head,
    Line,
    Lines,
    Recording,
    Shown,
    Sizes,
    Start,
    Trained,
    Visit,
    append_line,
    create_lines,
)
from benchmarks.measure.scenarios import EpochDone, Point, Product, Profile, WarmUp
from benchmarks.measure.sweep import Axes, DataMeasured, PointMeasured, Sweep, SweepHead, sizes_at
from benchmarks.parity.certificate import Certificate, Rung
from benchmarks.parity.ladder import QUICK
from benchmarks.results.roofline import step_flop
from common.config import DataConfig, TrainConfig
from common.evidence import Kernel
from common.interface import BackendFacts
from common.machine import Machine
from common.scoring import Scores

OF_FRAMEWORK = "1.0"  # the version of every backend
SECONDS = {"keras:example": 0.10, "keras": 0.09, "paddle": 0.08, "torch": 0.06}  # a step
CYCLES = 6
STEPS = 7  # timed in a visit
LEAD = 8  # steps of a visit that do not count
KERNELS = [Kernel("mkldnn_rnn_layer", 6, 0.10, "LSTM"), Kernel("mm", 3, 0.05, "products")]
SIZES = Sizes(640, 160, 24, 42, 60, 75)
LARGE = [Product("large", (2048, 2048, 2048), 2e11)]

Kind = TypeVar("Kind", bound=Line)


@dataclass(frozen=True)
class Noise:
    """How times stray from what is planted: standard deviations of their logarithms, and shares."""

    process: float = 0.004  # of one process from others of its program
    visit: float = 0.002
    step: float = 0.002
    drift: float = 0.0  # of the machine from one cycle to the next, in which all rows take part
    outliers: float = 0.0  # share of processes that are slower by 15 % for as long as they live
    slow_visits: float = 0.0  # share of visits that are slower by 30 %


QUIET = Noise()
# As on a shared machine with two cores: a generation's ratio of two rows has a standard deviation of about 4 %.
RESTLESS = Noise(process=0.027, visit=0.01, step=0.02, drift=0.02, outliers=0.02, slow_visits=0.03)


def plan_of(
    names: Collection[str] = SECONDS,
    preset: str = "quick",
    lanes: tuple[str, ...] = ("matched",),
    baseline: str = "",
    within: float | None = None,
) -> Plan:
    """A plan of these backends on the default corpus, two threads each."""
    size = PRESETS[preset] if within is None else replace(PRESETS[preset], within=within)
    rows = cells(list(names), [], lanes, size)
    return Plan(DataConfig(split="grouped"), TrainConfig(), 256, "cpu", 2, preset, size, baseline, "", tuple(rows))


def opening(kind: type[Lines[Any, Any]]) -> dict[str, Any]:
    """What every head of this kind begins with."""
    return {"format": kind.format, "version": kind.version, "started": "2026-07-01T10:00:00Z"}


def head_of(plan: Plan) -> Head:
    shown = [Shown("It is red.", ["C'est rouge."], False), Shown("Is it red?", ["Est-ce rouge ?"], True)]
    machine = Machine(
        processor="a processor",
        instructions="X86_V4",
        cores=2,
        memory=8 << 30,
        system="Linux",
        python="3.12.1",
        versions={"torch": OF_FRAMEWORK},
    )
    corpus = Corpus("0" * 64, SIZES, "the weights of the bundled run after 30 epochs", "1" * 64, shown, 140)
    return Head(**opening(Recording), machine=machine, plan=plan, corpus=corpus)


def recording(
    plan: Plan | None = None,
    seconds: Mapping[str, float] = SECONDS,
    generations: int = 6,
    noise: Noise = QUIET,
    seed: int = 0,
    busy: Collection[tuple[int, int]] = (),
    installed: float = 1.0,
) -> Recording:
    """`seconds` a step by backend: half of them where batches are bucketed, `installed` times as many where nothing
    is set. In the cycles named in `busy`, by generation from 1 and place from 0, half a core is at work elsewhere."""
    plan = plan or plan_of(seconds)
    rng = np.random.default_rng(seed)
    made = Recording(Path("made.jsonl"), head_of(plan))
    made.lines += [Certified(cell, certificate(cell)) for cell in dict.fromkeys(map(certified_as, plan.measured))]
    made.lines += [decoded(cell) for cell in plan.measured if not cell.bucketed]
    made.lines += [evidence(cell) for cell in plan.measured if not (cell.bucketed or cell.again)]

    def planted(cell: Cell) -> float:
        return seconds[cell.backend] / (1 + cell.bucketed) * (installed if cell.lane == "default" else 1.0)

    machine = 0.0
    for number in range(1, generations + 1):
        numbers = [plan.cells.index(cell) for cell in plan.alive_in(number)]
        off = rng.normal(0, noise.process, len(plan.cells))
        off += np.log(1.15) * (rng.random(len(plan.cells)) < noise.outliers)
        cycles = []
        for place in range(CYCLES):
            machine += rng.normal(0, noise.drift)
            visits = []
            for n in map(int, rng.permutation(numbers)):
                level = machine + off[n] + rng.normal(0, noise.visit)
                level += np.log(1.3) * (rng.random() < noise.slow_visits)
                times = planted(plan.cells[n]) * np.exp(level + rng.normal(0, noise.step, LEAD + STEPS))
                visits.append(visit(n, times.tolist(), plan.cells[n]))
            if (number, place) in busy:
                visits[-1] = msgspec.structs.replace(visits[-1], others=0.5)
            cycles.append(visits)
        starts = [Start(n, 2.5, facts(plan.cells[n]), WarmUp(1.0, [0.1] * 4, 600_000_000, 8, 2)) for n in numbers]
        made.lines.append(Generation(number, 0, starts, cycles, 60.0))
    return made


def visit(number: int, times: list[float], cell: Cell) -> Visit:
    """A visit whose steps take `times`, LEAD of them before those that count; it decodes as fast as it trains."""
    in_turns = not cell.bucketed and cell.backend != BASELINE
    decoding = [10 * times[-1]] * 3 if in_turns else []
    return Visit(number, times[:LEAD], times[LEAD:], 1.001 * sum(times), True, decoding, decoding, 0.06, 0.01)


def facts(cell: Cell) -> BackendFacts:
    return BackendFacts(
        version=OF_FRAMEWORK,
        device="cpu",
        threads=2,
        precision="bfloat16" if cell.reduced else "float32",
        settings={"denormals": "flushed", "threads": 2},
        import_seconds=2.0,
        build_seconds=0.1,
        resident_before_import=50_000_000,
        resident_after_import=300_000_000,
        resident_after_build=310_000_000,
        python="/usr/bin/python3",
        python_version="3.12.1",
        libraries=["openblas"],
        os_threads=8,
    )


def certificate(cell: Cell, passed: bool = True, version: str = OF_FRAMEWORK) -> Certificate:
    padding = "mask" if cell.bucketed else "space"
    rungs = {"forward": Rung(1e-7, 1e-6, passed)}
    backend, precision = cell.backend, "bfloat16" if cell.reduced else "float32"
    corpus, referee = "0" * 64, "numpy 2.0 float64"
    return Certificate(
        backend, version, "cpu", "float32", precision, 256, padding, corpus, QUICK, referee, {}, passed, rungs
    )


def decoded(cell: Cell) -> Decoded:
    """Of two shown sentences; 2,000 characters are put out in a batch and 40 alone."""
    said = ["C'est rouge.", "Est-ce rouge ?"]
    if cell.backend == BASELINE:
        return Decoded(cell, said, 0.05, None, 0, None)
    return Decoded(cell, said, 0.001, (2000, 40), 100, scores(61.0))


def evidence(cell: Cell) -> Evidence:
    products = [] if cell.reduced or cell.backend == BASELINE or cell.lane != "matched" else LARGE
    return Evidence(cell, Profile(3, 0.2, 0.15, KERNELS, 0.006), products)


def trained(cell: Cell, seed: int, reached: tuple[float, ...] = (10.0, 20.0, 30.0)) -> Trained:
    """Two seconds an epoch, one where batches are bucketed; `reached` is the chrF after each."""
    epochs = [EpochDone(1.0 if cell.bucketed else 2.0, 1.0, 1.1, 0.8, 0.6) for _ in reached]
    return Trained(cell, seed, epochs, [*map(scores, reached)], 700_000_000)


def scores(chrf: float) -> Scores:
    return Scores(chrf=chrf, chrf_signature="nrefs:var", exact_match=0.2, character_error_rate=0.3, sentences=140)


def swept(seconds: Mapping[str, float], overhead: float = 0.0, axes: Axes = Axes()) -> Sweep:  # noqa: B008 (frozen)
    """A sweep in which a step takes its backend's `seconds` per TFLOP, and `overhead` besides."""
    cells = tuple(map(Cell, seconds))
    machine = head_of(plan_of()).machine
    of_text = {"data": DataConfig(), "sizes": SIZES, "sha256": "0" * 64, "machine": machine}
    of_steps = {"settings": TrainConfig(), "latent_dim": 256, "device": "cpu", "threads": 2}
    head = SweepHead(**opening(Sweep), **of_text, **of_steps, cells=cells, axes=axes)
    made = Sweep(Path("made.jsonl"), head)
    for axis, values in asdict(axes).items():
        for value in values:
            flop = step_flop(*sizes_at(head, axis, value))
            for cell in cells:
                step = overhead + seconds[cell.backend] * flop / 1e12
                peak = 700_000_000 + (100 * value if axis == "num_samples" else 0)
                point = Point([step] * 3, peak, LARGE)
                made.lines.append(PointMeasured(axis, value, cell, facts(cell), point))
    made.lines += [DataMeasured(count, [1e-6 * count], [2e-6 * count]) for count in axes.num_samples]
    return made


def written(made: Recording, path: Path) -> Recording:
    """The recording in a file, read from there."""
    create_lines(path, made.head)
    for line in made.lines:
        append_line(path, line)
    return Recording.read(path)


def changed(made: Recording, kind: type[Kind], change: Callable[[Kind], Line | None]) -> Recording:
    """The recording with each line of a kind as `change` makes it; without it where that is None."""
    lines = [change(line) if isinstance(line, kind) else line for line in made.lines]
    return replace(made, lines=[line for line in lines if line is not None])


def each_visit(made: Recording, change: Callable[[Cell, Visit], Visit], number: int | None = None) -> Recording:
    """The recording with each visit as `change` makes it, or only those of the generation with this number."""

    def altered(generation: Generation) -> Generation:
        if number not in (None, generation.number):
            return generation
        cycles = [[change(made.plan.cells[v.cell], v) for v in cycle] for cycle in generation.cycles]
        return msgspec.structs.replace(generation, cycles=cycles)

    return changed(made, Generation, altered)


def slowed(made: Recording, label: str, factor: float) -> Recording:
    """The recording with every step of a row taking `factor` times as long."""

    def change(cell: Cell, old: Visit) -> Visit:
        if cell.label != label:
            return old
        lead, steps = ([factor * seconds for seconds in times] for times in (old.lead, old.steps))
        return msgspec.structs.replace(old, lead=lead, steps=steps, loop=factor * old.loop)

    return each_visit(made, change)


def on_machine(made: Recording, **facts: Any) -> Recording:
    """The recording as one of a machine of which these facts are told."""
    machine = made.head.machine | facts
    return replace(made, head=msgspec.structs.replace(made.head, machine=machine))
