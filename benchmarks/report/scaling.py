"""The results and the pages of both kinds of sweeps: of sizes, and of workers.

Of a sweep that is not finished, results and page have what was measured so far.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from math import fsum
from statistics import fmean, median

from benchmarks.in_child import Visit
from benchmarks.measure.machine import MOST_OTHERS
from benchmarks.measure.plan import Plan
from benchmarks.measure.recording import Recording, RowProfile, Summed
from benchmarks.measure.statistics import Estimate, counting, grouped, observed
from benchmarks.measure.sweep import ARRANGEMENTS, ROUNDS, points_of, sizes_at
from benchmarks.report import render
from benchmarks.report.render import Report, percent, safe
from benchmarks.report.results import NOTHING
from common.config import DataConfig
from common.text import count, listed

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


class Scaling:
    """The results of a sweep of sizes."""

    def __init__(self, recording: Recording) -> None:
        plan, sizes = recording.plan, recording.head.corpus.sizes
        self.command = plan.command  # which measures the same again
        # Floating-point operations a second of the fastest matrix product; 0 before one is measured.
        self.flops = max((line.flops or 0.0 for line in recording.of_kind(RowProfile)), default=0.0)
        self.points: list[SizePoint] = []
        axes = points_of(plan)
        for line in sorted(recording.rounds(), key=lambda line: line.number):
            if line.number > len(axes):
                continue
            axis, size = axes[line.number - 1]
            tensors, batch_size, latent_dim = sizes_at(plan, sizes, axis, size)
            one_hot = {start.row: start.one_hot for start in line.starts}
            of_rows = grouped((visit.row, visit) for _, cycle in counting([line]) for visit in cycle)
            for row, visits in sorted(of_rows.items()):
                seconds = median(step for visit in visits for step in visit.steps)
                flop = tensors.step_flop(batch_size, latent_dim, one_hot.get(row, True))
                share = flop / self.flops / seconds if self.flops else 0.0
                peak = max(visit.peak for visit in visits)
                self.points.append(SizePoint(axis, plan.rows[row].backend, size, seconds, share, peak))


class Grouped:
    """The results of one framework in a sweep of workers, by its visits, each with the number of its round."""

    def __init__(self, recording: Recording, row: int, visits: Sequence[tuple[int, Visit]]) -> None:
        fit, (one, apart, group, divided) = observed(visits), range(len(ARRANGEMENTS))
        longer, shared = fit.ratio(group, apart), fit.ratio(divided, one)
        self.backend = recording.plan.rows[row].backend
        self.seconds = {name: fit.seconds(place) for place, name in enumerate(ARRANGEMENTS)}  # of a step
        # Pairs a second of an arrangement, as a share of those of as many workers that are each as fast as one by
        # itself.
        self.efficiency = {
            "apart": fit.ratio(apart, one),
            "group": fit.ratio(group, one),
            "divided": shared and shared.times(1 / recording.plan.workers),  # which has only one worker's pairs
        }
        # The share of a group's step by which it is longer than one without a group.
        self.communication = longer and Estimate(1 - longer.value, 1 - longer.high, 1 - longer.low)
        profiles = [line.profile for line in recording.of_kind(RowProfile) if line.row == row and line.profile]
        profiled = [
            fsum(kernel.seconds for kernel in profile.kernels if COMMUNICATION.search(kernel.name)) / profile.seconds
            for profile in profiles
        ]
        # The share of a step in which the profiler saw the group sum; None where it does not tell.
        self.profiled = median(profiled) if any(profiled) else None
        sums = grouped((line.size, s) for line in recording.of_kind(Summed) if line.row == row for s in line.seconds)
        self.sums = {size: median(seconds) for size, seconds in sorted(sums.items())}  # seconds, by an array's bytes


class Scaled:
    """The results of a sweep of workers."""

    def __init__(self, recording: Recording) -> None:
        rounds = [line for line in recording.rounds() if line.starts]
        used = counting(rounds)
        others = [visit.others for _, cycle in used for visit in cycle] or [0.0]
        visits = grouped((line.starts[0].row, (line.number, visit)) for line, cycle in used for visit in cycle)
        self.command = recording.plan.command  # which measures the same again
        self.cycles = sum(len(line.cycles) for line in rounds)
        self.dropped = self.cycles - len(used)  # cycles that are left out, since other programs were at work
        self.others = fmean(others), max(others)  # cores that other programs used in the cycles that count
        self.frameworks = [Grouped(recording, row, visits[row]) for row in sorted(visits)]


def departed(points: Sequence[SizePoint]) -> int | None:
    """The largest size at which a backend reaches less than half of its best share of the peak; None if at none."""
    best = max(point.share for point in points)
    return max((point.size for point in points if point.share < DEPARTED * best), default=None)


def report_of(recording: Recording) -> Report:
    """The page of a sweep, of which a terminal shows all but how it was measured, and its results as plain values."""
    plan, machine = recording.plan, recording.head.machine
    results = Scaled(recording) if plan.workers > 1 else Scaling(recording)
    values = {
        "day": render.day(recording.head.started),
        "command": render.code(plan.command),
        "origin": render.origin(machine, {"corpus": f"{plan.data.data}, up to {plan.data.num_samples:,} pairs"}),
        "units": str(plan.latent_dim),
        "pairs": str(plan.settings.batch_size),
    }
    values |= _of_workers(results, plan) if isinstance(results, Scaled) else _of_sizes(results)
    return render.report(f"{plan.kind}.md", values, results)


def _of_sizes(scaling: Scaling) -> dict[str, str]:
    """What the template of a page about sizes has in its places: its headline, and of each axis a table."""
    shares = grouped((point.backend, point.share) for point in scaling.points if point.axis != MEMORY)
    best = sorted(((max(reached), name) for name, reached in shares.items()), reverse=True)
    values = {"headline": NOTHING, "base": "", "peak": render.digits(scaling.flops / 1e9)}
    if best:
        of_backends = listed(f"{percent(most)} in {safe(name)}" for most, name in best)
        values["headline"] = (
            f"At its best size a training step reaches this share of the machine's peak: {of_backends}."
        )
    by_axis = grouped((point.axis, point) for point in scaling.points)
    for axis, name in AXES.items():
        along = grouped((point.backend, point) for point in by_axis.get(axis, []))
        cells = {}
        for backend, points in along.items():
            # Memory is compared with that of the example's 10,000 pairs, or else of the fewest.
            base = min(points, key=lambda point: (point.size != DataConfig.num_samples, point.size))
            for point in points:
                time = f"{render.quantity(point.seconds)} ({percent(point.share)})"
                times = f"({point.peak_memory / max(base.peak_memory, 1):.2f}×)"
                memory = f"{render.megabytes(point.peak_memory)} {times}"
                cells[point.size, backend] = memory if axis == MEMORY else time
            values["base"] = f"{base.size:,}"
        lines = [
            [f"{size:,}", *(cells.get((size, backend), render.MISSING) for backend in along)]
            for size in sorted({size for size, _ in cells})
        ]
        values[axis], values[f"{axis}_departed"] = render.table([name, *map(safe, along)], lines), ""
        departures = grouped((departed(points), safe(backend)) for backend, points in along.items())
        for size, names in departures.items():
            where, reached = ("At every size", "at least") if size is None else (f"At {size:,}", "less than")
            whose = "their" if names[1:] else "its"
            values[f"{axis}_departed"] += f" {where} {listed(names)} reached {reached} half of {whose} best share."
    return values


def _of_workers(scaled: Scaled, plan: Plan) -> dict[str, str]:
    """What the template of a page about workers has in its places."""
    one, whole = plan.settings.batch_size, plan.settings.batch_size * plan.workers
    pairs = {"one": one, "apart": whole, "group": whole, "divided": one}
    mean, most = scaled.others
    frameworks = [(safe(result.backend), result) for result in scaled.frameworks]
    groups = [(name, result.efficiency["group"]) for name, result in frameworks]
    faster = [f"{render.ratio(share.times(plan.workers))} in {name}" for name, share in groups if share]
    of_one = f"Pairs a second of a group of {plan.workers} workers, as a multiple of those of one"
    busy = (
        f"**Other programs used {mean:.2f} cores on average, and up to {most:.2f}, in more than half of the "
        "cycles, so none was left out.** Workers at once had to share the cores with them, one worker hardly, so "
        "efficiencies are too low. Measure again on an idle machine before you rely on these figures."
    )
    steps = [
        [name, how, f"{pairs[key]:,}", render.interval(result.seconds[key]), percent(result.efficiency.get(key))]
        for name, result in frameworks
        for key, how in ARRANGEMENTS.items()
    ]
    communication = [[name, percent(result.communication), percent(result.profiled)] for name, result in frameworks]
    sizes = sorted({size for result in scaled.frameworks for size in result.sums})
    sums = [[name, *(render.quantity(result.sums.get(size)) for size in sizes)] for name, result in frameworks]
    return {
        "headline": f"{of_one}: {listed(faster)}." if faster else NOTHING,
        "busy": busy if most > MOST_OTHERS else "",
        "steps": render.table(["framework", "processes at work", "pairs a step", "a step", "efficiency"], steps),
        "communication": render.table(["framework", "by the difference", "by the profiler"], communication),
        "sums": render.table(["framework", *(f"{size:,} bytes" for size in sizes)], sums),
        "planned": str(ROUNDS),
        "workers": str(plan.workers),
        "threads": count(plan.threads or 1, "thread"),
        "mean": f"{mean:.2f}",
        "most": f"{most:.2f}",
        "dropped": str(scaled.dropped),
        "cycles": count(scaled.cycles, "cycle"),
    }
