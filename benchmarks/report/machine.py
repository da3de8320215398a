"""What is said of a machine that was looked at."""

from collections.abc import Sequence

from benchmarks.measure.machine import Finding
from benchmarks.report.blocks import Block, Table


def blocks(findings: Sequence[Finding]) -> list[Block]:
    """What was found, and what to do about what is not as it should be."""
    rows = [(f.name, "yes" if f.ok else "NO", f.found, "" if f.ok else f.advice) for f in findings]
    title = "Is this machine fit to measure on?"
    return [Table(title, ("", "fit", "found", "advice"), rows, frozenset(range(4)))]
