"""The results and the pages of both kinds of sweeps: of sizes, and of workers.

Of a sweep that is not finished, results and page have what was measured so far.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import fsum
from statistics import fmean, median

import msgspec

from benchmarks.in_child import Visit
from benchmarks.measure.machine import MOST_OTHERS
from benchmarks.measure.plan import Plan
from benchmarks.measure.recording import Recording, RowProfile, Summed
from benchmarks.measure.statistics import Estimate, counting, grouped, observed
from benchmarks.measure.sweep import ARRANGEMENTS, ROUNDS, points_of, sizes_at
from benchmarks.report import render
from benchmarks.report.render import Report
from common.config import DataConfig
from common.text import listed

DEPARTED = 0.5  # a size counts as departed below this fraction of its curve's best share of the peak
COMMUNICATION = re.compile("gloo:all_reduce|CollectiveReduce")  # what profilers call sums over a group
AXES = {  # the names of the axes on a page
    "seq_length": "characters in each sentence",
    "latent_dim": "units of each LSTM",
    "batch_size": "pairs in a batch",
    "num_samples": "pairs in the corpus",
}
MEMORY = "num_samples"  # the axis along which a page shows memory and not time


@dataclass(frozen=True)
class SizePoint:
    """One backend at one size of one axis."""

    axis: str
    backend: str
    size: int  # such as the number of units
    seconds: float  # median time of a warm training step
    share: float  # of the machine's peak speed, which the step reaches; 0 where that speed is not known
    peak_memory: int  # largest resident memory of the process, in bytes


@dataclass(frozen=True)
class Scaling:
    """The results of a sweep of sizes."""

    command: str  # the command that measures the same again
    flops: float  # floating-point operations a second of the fastest matrix product; 0 before one is measured
    points: Sequence[SizePoint]


@dataclass(frozen=True)
class Grouped:
    """The results of one framework in a sweep of workers."""

    backend: str
    seconds: Mapping[str, Estimate | None]  # of a step of each arrangement
    # Pairs a second of an arrangement, as a share of those of as many workers that are each as fast as one by itself.
    efficiency: Mapping[str, Estimate | None]
    communication: Estimate | None  # share of a group's step by which it is longer than one without a group
    profiled: float | None  # share of a step in which the profiler saw the group sum; None where it does not tell
    sums: Mapping[int, float]  # median seconds to sum an array, by its bytes


@dataclass(frozen=True)
class Scaled:
    """The results of a sweep of workers."""

    command: str  # the command that measures the same again
    cycles: int
    dropped: int  # cycles that are left out, since other programs were at work
    others: tuple[float, float]  # cores that other programs used in the cycles that are used: mean and largest
    frameworks: Sequence[Grouped]


def scaling_of(recording: Recording) -> Scaling:
    """The results of a sweep of sizes."""
    plan, sizes = recording.plan, recording.head.corpus.sizes
    flops = max((line.flops or 0.0 for line in recording.of_kind(RowProfile)), default=0.0)
    axes, points = points_of(plan), []
    for line in sorted(recording.rounds(), key=lambda line: line.number):
        if line.number > len(axes):
            continue
        axis, size = axes[line.number - 1]
        tensors, batch_size, latent_dim = sizes_at(plan, sizes, axis, size)
        one_hot = {start.row: start.one_hot for start in line.starts}
        cycles = counting([line])
        for row, visits in sorted(grouped((visit.row, visit) for _, cycle in cycles for visit in cycle).items()):
            seconds = median(step for visit in visits for step in visit.steps)
            flop = tensors.step_flop(batch_size, latent_dim, one_hot.get(row, True))
            share = flop / flops / seconds if flops else 0.0
            peak = max(visit.peak for visit in visits)
            points.append(SizePoint(axis, plan.rows[row].backend, size, seconds, share, peak))
    return Scaling(plan.command, flops, points)


def departed(points: Sequence[SizePoint]) -> int | None:
    """The largest size at which a backend reaches less than half of its best share of the peak; None if at none."""
    best = max(point.share for point in points)
    return max((point.size for point in points if point.share < DEPARTED * best), default=None)


def scaled_of(recording: Recording) -> Scaled:
    """The results of a sweep of workers."""
    rounds = [line for line in recording.rounds() if line.starts]
    cycles, used = sum(len(line.cycles) for line in rounds), counting(rounds)
    others = [visit.others for _, cycle in used for visit in cycle] or [0.0]
    visits = grouped((line.starts[0].row, (line.number, visit)) for line, cycle in used for visit in cycle)
    return Scaled(
        recording.plan.command,
        cycles,
        cycles - len(used),
        (fmean(others), max(others)),
        [_grouped(recording, row, visits[row]) for row in sorted(visits)],
    )


def _grouped(recording: Recording, row: int, visits: Sequence[tuple[int, Visit]]) -> Grouped:
    """The results of one backend, whose visits are given with the numbers of their rounds."""
    fit, (one, apart, group, divided) = observed(visits), range(len(ARRANGEMENTS))
    longer, shared = fit.ratio(group, apart), fit.ratio(divided, one)
    profiles = [line.profile for line in recording.of_kind(RowProfile) if line.row == row and line.profile]
    profiled = [
        fsum(kernel.seconds for kernel in profile.kernels if COMMUNICATION.search(kernel.name)) / profile.seconds
        for profile in profiles
    ]
    sums = grouped((line.size, s) for line in recording.of_kind(Summed) if line.row == row for s in line.seconds)
    return Grouped(
        recording.plan.rows[row].backend,
        {name: fit.seconds(place) for place, name in enumerate(ARRANGEMENTS)},
        {
            "apart": fit.ratio(apart, one),
            "group": fit.ratio(group, one),
            "divided": shared and shared.times(1 / recording.plan.workers),  # which has only one worker's pairs
        },
        longer and Estimate(1 - longer.value, 1 - longer.high, 1 - longer.low),
        median(profiled) if any(profiled) else None,
        {size: median(seconds) for size, seconds in sorted(sums.items())},
    )


def report_of(recording: Recording) -> Report:
    """The page of a sweep, of which a terminal shows all but how it was measured, and its results as plain values."""
    plan = recording.plan
    values = {
        "day": render.safe(render.day(recording.head.started)),
        "command": render.code(plan.command),
        "origin": render.origin(recording.head.machine, render.corpus_of(recording.head)),
        "units": str(plan.latent_dim),
        "pairs": str(plan.settings.batch_size),
    }
    results = scaled_of(recording) if plan.workers > 1 else scaling_of(recording)
    values |= _of_workers(results, plan) if isinstance(results, Scaled) else _of_sizes(results)
    parts = render.sections(f"{plan.kind}.md", values)
    title, measured = parts.popitem()
    summary = render.joined(parts.pop(""), render.under_headings(parts))
    content = msgspec.json.decode(msgspec.json.encode(results))
    return Report(f"{summary}\n\n---\n\n## {title}\n\n{measured}\n", summary + "\n", content, {})


def _of_sizes(scaling: Scaling) -> dict[str, str]:
    """What the template of a page about sizes has in its places: its headline, and of each axis a table."""
    shares = grouped((point.backend, point.share) for point in scaling.points if point.axis != MEMORY)
    best = sorted(((max(reached), name) for name, reached in shares.items()), reverse=True)
    of_backends = [f"{render.percent(most)} in {render.safe(name)}" for most, name in best]
    headline = "How the memory of a training grows with its corpus"
    if of_backends:
        headline = (
            f"At its best size a training step reaches this share of the machine's peak: {listed(of_backends)}."
        )
    values = {"headline": headline, "base": "", "peak": render.digits(scaling.flops / 1e9)}
    by_axis = grouped((point.axis, point) for point in scaling.points)
    for axis, name in AXES.items():
        along = grouped((point.backend, point) for point in by_axis.get(axis, []))
        cells = {
            (point.size, backend): _cell(point, _base(points))
            for backend, points in along.items()
            for point in points
        }
        lines = [
            [f"{size:,}", *(cells.get((size, backend), render.MISSING) for backend in along)]
            for size in sorted({size for size, _ in cells})
        ]
        values[axis] = render.table([name, *map(render.safe, along)], lines)
        values[f"{axis}_departed"] = _departures(along)
        if axis == MEMORY and along:
            values["base"] = f"{_base(next(iter(along.values()))).size:,}"
    return values


def _cell(point: SizePoint, base: SizePoint) -> str:
    """A point as text: 512 MB (1.03×) along the pairs in the corpus, 39.1 ms (45.5 %) along all other axes."""
    if point.axis != MEMORY:
        return f"{render.quantity(point.seconds)} ({render.percent(point.share)})"
    return f"{render.megabytes(point.peak_memory)} ({point.peak_memory / max(base.peak_memory, 1):.2f}×)"


def _base(along: Sequence[SizePoint]) -> SizePoint:
    """The point with which memory is compared: the example's 10,000 pairs, or else the fewest."""
    return min(along, key=lambda point: (point.size != DataConfig.num_samples, point.size))


def _departures(along: Mapping[str, Sequence[SizePoint]]) -> str:
    """Sentences that say at which sizes of an axis backends use much less of the machine than at best."""
    sentences = ""
    departures = grouped((departed(points), render.safe(backend)) for backend, points in along.items())
    for size, names in departures.items():
        where, reached = ("At every size", "at least") if size is None else (f"At {size:,}", "less than")
        sentences += (
            f" {where} {listed(names)} reached {reached} half of {'their' if names[1:] else 'its'} best share."
        )
    return sentences


def _of_workers(scaled: Scaled, plan: Plan) -> dict[str, str]:
    """What the template of a page about workers has in its places."""
    one, whole = plan.settings.batch_size, plan.settings.batch_size * plan.workers
    pairs = {"one": one, "apart": whole, "group": whole, "divided": one}
    mean, most = scaled.others
    frameworks = [(render.safe(result.backend), result) for result in scaled.frameworks]
    faster = [
        f"{render.ratio(efficiency.times(plan.workers))} in {name}"
        for name, result in frameworks
        if (efficiency := result.efficiency["group"])
    ]
    headline = "What a group of workers loses on this machine"
    if faster:
        of_one = f"Pairs a second of a group of {plan.workers} workers, as a multiple of those of one"
        headline = f"{of_one}: {listed(faster)}."
    busy = (
        f"**Other programs used {mean:.2f} cores on average, and up to {most:.2f}, in more than half of the "
        "cycles, so none was left out.** Workers at once had to share the cores with them, one worker hardly, so "
        "efficiencies are too low. Measure again on an idle machine before you rely on these figures."
    )
    steps = [
        [name, how, f"{pairs[key]:,}", render.interval(result.seconds[key]), render.share(result.efficiency.get(key))]
        for name, result in frameworks
        for key, how in ARRANGEMENTS.items()
    ]
    communication = [
        [name, render.share(result.communication), render.percent(result.profiled)] for name, result in frameworks
    ]
    sizes = sorted({size for result in scaled.frameworks for size in result.sums})
    sums = [[name, *(render.quantity(result.sums.get(size)) for size in sizes)] for name, result in frameworks]
    return {
        "headline": headline,
        "busy": busy if most > MOST_OTHERS else "",
        "steps": render.table(["framework", "processes at work", "pairs a step", "a step", "efficiency"], steps),
        "communication": render.table(["framework", "by the difference", "by the profiler"], communication),
        "sums": render.table(["framework", *(f"{size:,} bytes" for size in sizes)], sums),
        "planned": str(ROUNDS),
        "workers": str(plan.workers),
        "threads": render.count(plan.threads or 1, "thread"),
        "mean": f"{mean:.2f}",
        "most": f"{most:.2f}",
        "dropped": str(scaled.dropped),
        "cycles": render.count(scaled.cycles, "cycle"),
    }
