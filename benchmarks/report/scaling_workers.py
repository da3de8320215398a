"""The blocks that show what data-parallel training would do on more workers than there are."""

from collections.abc import Mapping, Sequence

from benchmarks.report import wording
from benchmarks.report.blocks import Block, Points, Table
from benchmarks.results.scaling_workers import ASSUMPTIONS, Network, Projection


def blocks(projections: Mapping[Network, Sequence[Projection]]) -> list[Block]:
    """A table for each network, and everything that was assumed."""
    return [*tables(projections), Points("Assumptions", ASSUMPTIONS)]


def tables(projections: Mapping[Network, Sequence[Projection]]) -> list[Block]:
    """A table for each network."""
    return [_table(network, lines) for network, lines in projections.items()]


def _table(network: Network, projections: Sequence[Projection]) -> Table:
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
