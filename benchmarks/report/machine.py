"""The table that `rosetta machine` shows."""

from collections.abc import Sequence

from benchmarks.measure.machine import Finding
from benchmarks.report.blocks import Block, Table


def blocks(findings: Sequence[Finding]) -> list[Block]:
    """What was found on the machine, with advice where it disturbs measurements."""
    rows = [(f.name, "yes" if f.ok else "NO", f.found, "" if f.ok else f.advice) for f in findings]
    title = "Is this machine fit to measure on now?"
    return [Table(title, ("", "fit", "found", "advice"), rows, frozenset(range(4)))]
