"""The report of a sweep of workers: what a group loses, its communication, and what larger groups would do."""

from collections.abc import Sequence

from benchmarks.measure.machine import MOST_OTHERS
from benchmarks.measure.workers import ARRANGEMENTS
from benchmarks.report import content, wording
from benchmarks.report.blocks import Block, Points, Report, Section, Table, Text, Warnings
from benchmarks.results.intervals import Estimate
from benchmarks.results.scaling_workers import ASSUMPTIONS, Network, Projection
from benchmarks.results.workers import Scaled
from common.text import listed

MORE_ASSUMPTIONS = (
    "A worker is one process with as many threads as here, on a machine of its own that is as fast as this one.",
    "Each worker's step is one of those that were measured with one worker, while the other processes slept.",
    "The bandwidths and latencies of Ethernet are round numbers for such networks. They were not measured, and "
    "neither was what a framework adds to them.",
)


def report(scaled: Scaled) -> Report:
    """The whole report of a sweep of workers."""
    head = scaled.head
    sections = [
        Section("efficiency", "What a group of workers loses here", [*_warnings(scaled), *_measured(scaled)], False)
    ]
    sections += [
        Section(
            f"projected-{one.backend}",
            f"What more workers of {one.backend} would do",
            [_projected(*projections) for projections in one.projections],
            False,
        )
        for one in scaled.frameworks
    ]
    assumptions = Points("Assumptions of these projections", [*MORE_ASSUMPTIONS, *ASSUMPTIONS])
    sections.append(Section("assumptions", "What is assumed", [assumptions], False))
    sections.append(content.again(scaled.command, head.machine))
    mean, most = scaled.others
    facts = {
        "Model": f"LSTM encoder-decoder; {head.latent_dim} units, {scaled.gradients / 1e6:.2f} MB of gradients",
        "Batches": f"{head.settings.batch_size} pairs a worker, unless a group divides them",
        "Workers": f"{head.workers} processes on one machine, each with {wording.count(head.threads, 'thread')}",
        "Corpus": f"{head.data.data}, up to {head.data.num_samples:,} pairs",
        "Machine": content.machine(head.machine),
        "Measured": f"{scaled.pieces} of {head.generations * len(head.backends)} turns of a framework, each with new "
        "processes",
        "Other programs": f"{mean:.2f} cores on average, at most {most:.2f}, in the cycles that are used; "
        f"{scaled.dropped} of {wording.count(scaled.cycles, 'cycle')} left out because of them",
        "When": wording.day(head.started),
    }
    return Report("Rosetta sweep of workers", _headline(scaled), facts, sections)


def summary(scaled: Scaled) -> list[Block]:
    """What a terminal shows of the report."""
    return [Text(_headline(scaled), strong=True), *_warnings(scaled), *_measured(scaled)]


def _headline(scaled: Scaled) -> str:
    """How many times as many pairs a second the group trains in each framework."""
    workers = scaled.head.workers
    found = [
        f"{wording.ratio(efficiency.times(workers))} in {one.backend}"
        for one in scaled.frameworks
        if (efficiency := one.efficiency["group"])
    ]
    if not found:
        return "What a group of workers loses on this machine"
    return f"Pairs a second of a group of {workers} workers, as a multiple of those of one: {listed(found)}."


def _warnings(scaled: Scaled) -> list[Block]:
    """Whether other programs disturbed what is shown."""
    mean, most = scaled.others
    if most <= MOST_OTHERS:
        return []
    warning = (
        f"Other programs used {mean:.2f} cores on average, and up to {most:.2f}, in more than half of the cycles, so "
        "none was left out. Workers at once, in a group or not, had to share the cores with them, one worker hardly. "
        "So the efficiencies are lower than on an idle machine, and there are more stragglers; compare a group with "
        "the workers at once. Measure again on an idle machine before you rely on these figures."
    )
    return [Warnings([warning])]


def _measured(scaled: Scaled) -> list[Block]:
    """The tables of what was measured."""
    return [_efficiency(scaled), _communication(scaled), _sums(scaled)]


def _efficiency(scaled: Scaled) -> Table:
    """The step and the efficiency of each arrangement in each framework."""
    workers, batch_size = scaled.head.workers, scaled.head.settings.batch_size
    pairs = {"one": batch_size, "apart": workers * batch_size, "group": workers * batch_size, "divided": batch_size}
    rows = [
        (
            one.backend,
            words,
            f"{pairs[name]:,}",
            wording.interval(one.seconds[name]),
            wording.SELF if name == "one" else _share(one.efficiency[name]),
        )
        for one in scaled.frameworks
        for name, words in ARRANGEMENTS.items()
    ]
    note = (
        "Efficiency is the share of pairs a second that is left of those of as many workers that are each as fast as "
        "one by itself. Workers at once without a group lose what processes on one machine take from one another. "
        f"Brackets hold 95{wording.SPACE}% intervals. All these take turns."
    )
    columns = ("framework", "processes at work", "pairs a step", "a step", "efficiency")
    return Table("Efficiency", columns, rows, frozenset({0, 1}), note=note)


def _communication(scaled: Scaled) -> Table:
    """Which part of a group's step is communication, and what the projections would say of this step."""
    workers = scaled.head.workers
    rows = [
        (
            one.backend,
            _share(one.communication),
            wording.percent(one.profiled) if one.profiled is not None else "not told",
            wording.quantity(one.foreseen),
            wording.interval(one.seconds["group"]),
        )
        for one in scaled.frameworks
    ]
    note = (
        "By the difference: the part of a group's step by which it is longer than a step of the same workers at "
        "once without a group. By the profiler: the part of the profiled steps in which a sum over the group was "
        "under way in the first worker, which torch calls gloo:all_reduce and TensorFlow CollectiveReduceV2. It "
        "includes waiting for the slowest worker and, in torch, what runs at the same time as the backward pass. "
        f"Paddle's profiler names no such operator. The last two columns test the assumptions below with {workers} "
        "workers: the step foreseen from workers at once, the slowest of them, and the engine's own bandwidth and "
        "latency; and the step that was measured."
    )
    columns = ("framework", "by the difference", "by the profiler", "step foreseen", "step measured")
    return Table("Communication in a group's step", columns, rows, note=note)


def _sums(scaled: Scaled) -> Table:
    """How long each framework's engine takes to sum arrays, and the network that fits this."""
    sizes = sorted({size for one in scaled.frameworks for size in one.sums})
    rows = [
        (
            one.backend,
            *(wording.quantity(one.sums.get(size)) for size in sizes),
            f"{wording.digits(one.network.bandwidth / 1e6)} MB/s",
            wording.quantity(one.network.latency),
        )
        for one in scaled.frameworks
    ]
    note = (
        "Medians over all generations of the time in which each framework's own engine sums arrays of float64 over "
        "the group, through this machine's loopback. Copying the array from NumPy and back is included. Bandwidth "
        "and latency are those of a ring that would take these times, by least squares of relative errors."
    )
    columns = ("framework", *(f"{size:,} bytes" for size in sizes), "bandwidth", "latency")
    return Table("Time to sum arrays over the group", columns, rows, note=note)


def _projected(network: Network, projections: Sequence[Projection]) -> Table:
    lines = [
        (
            f"{one.workers:,}",
            f"{one.global_batch:,}",
            wording.quantity(one.slowest),
            wording.quantity(one.communication),
            wording.quantity(one.step),
            wording.digits(one.pairs_per_second),
            wording.percent(one.efficiency),
        )
        for one in projections
    ]
    columns = ("workers", "global batch", "slowest worker", "communication", "a step", "pairs a second", "efficiency")
    title = f"{network.name}: {wording.digits(network.bandwidth / 1e6)} MB/s, latency "
    title += wording.quantity(network.latency)
    alone = wording.quantity(projections[0].alone)
    note = (
        f"A worker that waits for nobody takes {alone} for a step. Efficiency is the share of pairs a second that is "
    )
    note += "left of those that as many such workers would train."
    return Table(title, columns, lines, frozenset(), note=note)


def _share(estimate: Estimate | None) -> str:
    """A share in per cent with its interval: 81.2 % (79.0 to 83.5)."""
    if estimate is None:
        return wording.MISSING
    return f"{wording.percent(estimate.value)} ({100 * estimate.low:.1f} to {100 * estimate.high:.1f})"
