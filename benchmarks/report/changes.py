"""What is said of two recordings held against one another."""

from benchmarks.report import wording
from benchmarks.report.blocks import Block, Table, Warnings
from benchmarks.results.changes import Change, Comparison


def blocks(comparison: Comparison) -> list[Block]:
    """What else differs, as warnings; then a line for each row and figure."""
    found: list[Block] = [Warnings(comparison.differences)] if comparison.differences else []
    rows = [
        (change.label, change.figure, *map(wording.quantity, (change.before, change.after)), _verdict(change))
        for change in comparison.changes
    ]
    columns = ("row", "time of a", "before", "after", "the second recording is")
    note = (
        f"× says how many times as fast as the first the second recording is, with its 95{wording.SPACE}% interval."
    )
    return [*found, Table("From the first recording to the second", columns, rows, frozenset({0, 1, 4}), note=note)]


def _verdict(change: Change) -> str:
    return f"{change.word}: {wording.ratio(change.ratio)}"
