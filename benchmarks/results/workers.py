"""The results of a sweep of workers: what a group loses, how fast it sums arrays, and what larger groups would do."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from math import fsum, log
from statistics import fmean, median

from benchmarks.measure.machine import MOST_OTHERS
from benchmarks.measure.workers import ARRANGEMENTS, PieceMeasured, Trained, Workers, WorkersHead
from benchmarks.results.intervals import Estimate, Fit
from benchmarks.results.scaling_workers import Network, Projection, fitted_network, gradient_bytes, project
from benchmarks.results.values import grouped
from common.config import ModelConfig

MOST_DROPPED = 0.5  # if a larger share of the cycles is disturbed, none is dropped
ASSUMED = (  # round numbers for such networks, which were not measured
    Network("1 Gbit/s Ethernet (assumed)", 125e6, 50e-6),
    Network("25 Gbit/s Ethernet (assumed)", 3.125e9, 20e-6),
)
COMMUNICATION = re.compile("gloo:all_reduce|CollectiveReduce")  # what profilers call sums over a group


@dataclass(frozen=True)
class Grouped:
    """The results of one framework."""

    backend: str
    seconds: Mapping[str, Estimate | None]  # of a step of each arrangement
    # Pairs a second of an arrangement, as a share of those of as many workers that are each as fast as one by itself.
    efficiency: Mapping[str, Estimate | None]
    communication: Estimate | None  # share of a group's step by which it is longer than one without a group
    alone: Sequence[float]  # all timed steps of one worker, while the others slept
    profiled: float | None  # share of a step in which the profiler saw the group sum; None where it does not tell
    sums: Mapping[int, float]  # median seconds to sum an array, by its bytes
    network: Network  # whose ring would take these times
    foreseen: float  # seconds of the group's step, computed from this network and from the workers by themselves
    projections: Sequence[tuple[Network, Sequence[Projection]]]


@dataclass(frozen=True)
class Scaled:
    """The results of a sweep of workers."""

    command: str  # the command that measures the same again
    head: WorkersHead
    gradients: int  # bytes of a model's gradients
    pieces: int  # of one framework in one generation each, which were measured so far
    cycles: int
    dropped: int  # cycles that are not used, since other processes were at work
    others: tuple[float, float]  # cores that other processes used in the cycles that are used: mean and largest
    frameworks: Sequence[Grouped]


def scaled_of(workers: Workers) -> Scaled:
    """The results of a sweep of workers; of one that is not finished, the results of what was measured so far.

    Cycles in which other processes used more than MOST_OTHERS cores are left out, unless these are too many: then all
    are used, and `others` tells.
    """
    head = workers.head
    cycles = [cycle for line in workers.lines for cycle in line.cycles]
    busy = sum(not _quiet(cycle) for cycle in cycles)
    limit = MOST_OTHERS if busy <= MOST_DROPPED * len(cycles) else float("inf")
    used = [turn.others for cycle in cycles if _quiet(cycle, limit) for turn in cycle]
    sizes = head.sizes
    tokens = sizes.num_encoder_tokens, sizes.num_decoder_tokens
    gradients = gradient_bytes(ModelConfig(*tokens, start_token=0, stop_token=0, latent_dim=head.latent_dim))
    frameworks = [
        _grouped(head, name, lines, limit, gradients)
        for name in head.backends
        if (lines := [line for line in workers.lines if line.backend == name])
        and any(_quiet(cycle, limit) for line in lines for cycle in line.cycles)
    ]
    return Scaled(
        workers.command,
        head,
        gradients,
        len(workers.lines),
        len(cycles),
        busy if limit == MOST_OTHERS else 0,
        (fmean(used), max(used)) if used else (0.0, 0.0),
        frameworks,
    )


def _grouped(
    head: WorkersHead, backend: str, lines: Sequence[PieceMeasured], limit: float, gradients: int
) -> Grouped:
    """The results of one framework from those of its turns in which others used at most `limit` cores."""
    batch_size = head.settings.batch_size
    used = [
        (line.generation, turn) for line in lines for cycle in line.cycles if _quiet(cycle, limit) for turn in cycle
    ]
    # By generation and arrangement: the steps of each turn, of all workers.
    turns = grouped(((number, turn.arrangement), list(chain(*turn.steps))) for number, turn in used)
    observed = {block: fmean(log(median(turn)) for turn in found) for block, found in turns.items()}
    steps = {
        name: [seconds for (_, one), found in turns.items() if one == name for turn in found for seconds in turn]
        for name in ARRANGEMENTS
    }
    by_size = grouped((summed.size, seconds) for line in lines for summed in line.sums for seconds in summed.seconds)
    sums = {size: median(seconds) for size, seconds in sorted(by_size.items())}
    name = f"{backend}'s own engine between processes of this machine (measured)"
    network = fitted_network(name, head.workers, sums)
    (foreseen,) = project(steps["apart"], batch_size, gradients, network, (head.workers,))
    fit = Fit(observed)
    longer = fit.ratio("group", "apart")
    efficiency = {name: fit.ratio(name, "one") for name in ARRANGEMENTS if name != "one"}
    if divided := efficiency["divided"]:  # which has only one worker's pairs
        efficiency["divided"] = divided.times(1 / head.workers)
    return Grouped(
        backend,
        {name: fit.seconds(name) for name in ARRANGEMENTS},
        efficiency,
        Estimate(1 - longer.value, 1 - longer.high, 1 - longer.low) if longer else None,
        steps["one"],
        _profiled(lines),
        sums,
        network,
        foreseen.step,
        [(one, project(steps["one"], batch_size, gradients, one)) for one in (network, *ASSUMED)],
    )


def _quiet(cycle: Sequence[Trained], limit: float = MOST_OTHERS) -> bool:
    """Whether other processes used at most so many cores in every turn of a cycle."""
    return bool(cycle) and all(turn.others <= limit for turn in cycle)


def _profiled(lines: Sequence[PieceMeasured]) -> float | None:
    """The median share of the profiled steps in which the group summed; None where no profile names a sum."""
    found = [
        fsum(kernel.seconds for kernel in line.profile.kernels if COMMUNICATION.search(kernel.name))
        / line.profile.seconds
        for line in lines
    ]
    return median(found) if any(found) else None
