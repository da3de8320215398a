"""Measurements: with known answers, as if every step took just so long;
those of docs/benchmark; and a hostile one.

The first are built in memory; `written` puts one into a file.
"""

import json
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar
from unittest.mock import patch

import msgspec
import numpy as np

from backends import lookup
from backends.interface import BackendFacts
from backends.process.parent import PROJECT
from benchmarks.commands import read_report
from benchmarks.measure import plan as plans
from benchmarks.measure.measurement import Measurement, append_line
from benchmarks.measure.plan import rows_of
from benchmarks.report import render
from benchmarks.schema import (
    BUDGET,
    WITHIN,
    Certificate,
    Certified,
    Decoded,
    Head,
    Line,
    Plan,
    Profile,
    Round,
    Row,
    RowProfile,
    ShownSentence,
    StageResult,
    Start,
    Text,
    Training,
    Turn,
    WarmUp,
    Work,
)
from common.machine import Machine
from common.scoring import Scores
from common.settings import DataConfig, TrainConfig

OF_FRAMEWORK = "1.0"  # the version of every backend
SECONDS = {"keras:example": 0.10, "keras": 0.09, "paddle": 0.08, "torch": 0.06}  # a step
CYCLES = 4
STEPS = 7  # timed in a turn
LEAD = 8  # steps of a turn that do not count
SHOWN = [
    ShownSentence("It is red.", ["C'est rouge."], False),
    ShownSentence("Is it red?", ["Est-ce rouge ?"], True),
]
TRAINING_ROWS = 640
# What helps each framework, on whatever machine the tests run.
HELPED = {
    "torch": {"GLIBC_TUNABLES": "glibc.malloc.arena_max=1"},
    "paddle": {"FLAGS_paddle_num_threads": "2"},
}
CHARACTERS: dict[Work, int] = {"batch": 2000, "alone": 40}  # that a call puts out

MACHINE = Machine(
    processor="AMD EPYC",
    instructions="X86_V4",
    cores=2,
    memory=8 << 30,
    system="Linux",
    python="3.12.1",
    versions={"torch": OF_FRAMEWORK},
)
COMMITTED, RACING = PROJECT / "docs" / "benchmark", PROJECT / "docs" / "racing"
# HTML, a table's line, code, a link, a mention, an address,
# and what writes over a terminal or turns a line round.
HOSTILE = (
    "<img src=x onerror=alert(1)>|`**a**`[b](http://e.vil)@you #1 "
    "www.e.vil\u2028\u202e\x1b[31m\n---\n# c"
)

Kind = TypeVar("Kind", bound=Line)


@dataclass(frozen=True)
class Noise:
    """Noise of planted times: standard deviations of their logarithms, and shares."""

    process: float = 0.004  # of one process from others of its program
    turn: float = 0.002
    step: float = 0.002
    drift: float = 0.0  # of the machine from one cycle to the next, in which all rows take part
    outliers: float = 0.0  # share of processes that are slower by 15 % for as long as they live
    slow_turns: float = 0.0  # share of turns that are slower by 30 %


QUIET = Noise()
# As on a shared machine with two cores:
# a round's ratio of two rows has a standard deviation of about 4 %.
RESTLESS = Noise(process=0.027, turn=0.01, step=0.02, drift=0.02, outliers=0.02, slow_turns=0.03)


def plan_of(
    names: Collection[str] = SECONDS,
    within: float = WITHIN,
    baseline: str = "",
    budget: float = BUDGET,
    seed: int = 0,
    axes: Any = (),
) -> Plan:
    """A plan of these backends on the default corpus, two threads each."""
    with patch.object(
        plans, "tuned_variables", lambda framework, threads, tuning: HELPED.get(framework, {})
    ):
        rows = rows_of(list(names), dict(axes), 2)
    data, settings = DataConfig(split="grouped"), TrainConfig(seed=seed)
    training = Training(data, settings, 256, "cpu", 2, baseline, axes=dict(axes))
    return Plan(rows, within, budget, budget != BUDGET, training)


def measurement(
    plan: Plan | None = None,
    seconds: Mapping[str, float] = SECONDS,
    rounds: int = 6,
    noise: Noise = QUIET,
    seed: int = 0,
    busy: Collection[tuple[int, int]] = (),
    decoding: int = 2,
) -> Measurement:
    """`seconds` a step by backend, in either lane.

    The rows decode in the last rounds, of which there are `decoding`. In the cycles named in
    `busy`, by round from 1 and place from 0, half a core is at work elsewhere.
    """
    plan = plan or plan_of(seconds)
    rng = np.random.default_rng(seed)
    corpus = Text(
        "0" * 64, TRAINING_ROWS, "the weights of the bundled run after 30 epochs", "1" * 64, SHOWN
    )
    head = Head(
        machine=MACHINE, started=datetime(2026, 7, 1, 10, tzinfo=UTC), plan=plan, text=corpus
    )
    bench = Measurement(Path("made.jsonl"), head)
    numbers = [*range(len(plan.rows))]
    for n, row in enumerate(plan.rows):
        bench.lines.append(Certified(n, certificate()))
        if not row.installed:
            bench.lines += [decoded(n, row), RowProfile(n, Profile(3, 0.2, 0.1, 0.05, 0.006))]
    level = 0.0
    for number in range(1, rounds + 1):
        off = rng.normal(0, noise.process, len(plan.rows))
        off += np.log(1.15) * (rng.random(len(plan.rows)) < noise.outliers)
        cycles = []
        for place in range(CYCLES):
            level += rng.normal(0, noise.drift)
            turns = []
            for n in map(int, rng.permutation(numbers)):
                level_of_turn = level + off[n] + rng.normal(0, noise.turn)
                level_of_turn += np.log(1.3) * (rng.random() < noise.slow_turns)
                times = seconds[plan.rows[n].backend] * np.exp(
                    level_of_turn + rng.normal(0, noise.step, LEAD + STEPS)
                )
                turns.append(turn(n, times.tolist()))
            if (number, place) in busy:
                turns = [msgspec.structs.replace(taken, others=0.5, tries=4) for taken in turns]
            cycles.append(turns)
        starts = [
            Start(n, 2.5, WarmUp(1.0, [0.1] * 4, 600_000_000), facts(plan.rows[n])) for n in numbers
        ]
        bench.lines.append(Round(number, "training", starts, cycles, 60.0))
        decoders = [n for n in numbers if lookup(plan.rows[n].backend).decodes_batches]
        if number > rounds - decoding and decoders:  # they decode as fast as they train
            calls = [
                10 * seconds[plan.rows[n].backend] * np.exp(rng.normal(0, noise.turn))
                for n in decoders
            ]
            for work, characters in CHARACTERS.items():
                timed = zip(decoders, calls, strict=True)
                turns = [turn(n, [float(call)] * 3, 0, characters) for n, call in timed]
                bench.lines.append(Round(number, work, [], [turns], 5.0))
    return bench


def turn(number: int, times: list[float], lead: int = LEAD, items: int = 64) -> Turn:
    """A turn whose steps take `times`, `lead` of them before those that count."""
    return Turn(number, times[:lead], times[lead:], 1.001 * sum(times), items=items, others=0.01)


def facts(row: Row) -> BackendFacts:
    return BackendFacts(
        version=OF_FRAMEWORK,
        device="cpu",
        threads=2,
        precision="float32",
        settings={"jit_compile": False, "threads": 2},
        import_seconds=2.0,
        build_seconds=0.1,
        python="/usr/bin/python3",
        python_version="3.12.1",
        os_threads=8,
    )


def certificate(passed: bool = True, version: str = OF_FRAMEWORK) -> Certificate:
    return Certificate(
        version, "numpy 2.0 float64", passed, {"forward": StageResult(1e-7, 1e-6, passed)}
    )


def decoded(number: int, row: Row) -> Decoded:
    """The decoding of two shown sentences."""
    sentences = ["C'est rouge.", "Est-ce rouge ?"]
    if not lookup(row.backend).decodes_batches:
        return Decoded(number, sentences, 0, None)
    scores = Scores(
        chrf=61.0,
        chrf_signature="nrefs:var",
        exact_match=0.2,
        character_error_rate=0.3,
        sentences=140,
    )
    return Decoded(number, sentences, 100, scores)


def written(bench: Measurement, path: Path) -> Measurement:
    """The measurement in a file, read from there."""
    Measurement.create(path, bench.head)
    for line in bench.lines:
        append_line(path, line)
    return Measurement.read(path)


def changed(
    bench: Measurement, kind: type[Kind], change: Callable[[Kind], Line | None]
) -> Measurement:
    """The measurement with each line of a kind as `change` makes it;
    without it where that is None."""
    lines = [change(line) if isinstance(line, kind) else line for line in bench.lines]
    return replace(bench, lines=[line for line in lines if line is not None])


def each_turn(bench: Measurement, change: Callable[[Round, Turn], Turn]) -> Measurement:
    """The measurement with each turn as `change` makes it of its round and itself."""

    def altered(line: Round) -> Round:
        cycles = [[change(line, turn) for turn in cycle] for cycle in line.cycles]
        return msgspec.structs.replace(line, cycles=cycles)

    return changed(bench, Round, altered)


def slowed(bench: Measurement, factor: float, label: str = "") -> Measurement:
    """The measurement with every step and call of a row, or of all rows,
    taking `factor` times as long."""

    def change(_: Round, old: Turn) -> Turn:
        if label and bench.plan.rows[old.row].label != label:
            return old
        lead, steps = ([factor * seconds for seconds in times] for times in (old.lead, old.steps))
        return msgspec.structs.replace(old, lead=lead, steps=steps, loop=factor * old.loop)

    return each_turn(bench, change)


def reported(path: Path) -> str:
    """Make all that a report makes of a measurement."""
    report = read_report([path])
    return render.html(report.page, report.charts) + render.markdown(report.page) + report.summary


def committed(name: str) -> Measurement:
    """A measurement of docs/benchmark."""
    return Measurement.read(COMMITTED / f"{name}.jsonl")


def hostile(path: Path) -> Measurement:
    """The committed measurement with a hostile text wherever a stranger could write one,
    saved at `path`."""
    bench = committed("demo-1")
    text, shown = bench.path.read_text(encoding="utf-8"), bench.head.text.shown[0]
    words = ["torch", "flushed", "cpu", shown.source, shown.references[0]]
    for word in [*words, bench.head.machine["processor"], bench.head.text.weights]:
        text = text.replace(json.dumps(word), json.dumps(HOSTILE))
    path.write_text(text, encoding="utf-8")
    return Measurement.read(path)
