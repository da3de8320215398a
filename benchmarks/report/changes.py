"""The blocks that `rosetta compare` shows: what became faster or slower between two recordings."""

from benchmarks.report import wording
from benchmarks.report.blocks import Block, Table, Warnings
from benchmarks.results.changes import Comparison


def blocks(comparison: Comparison) -> list[Block]:
    """What else differs between the recordings, as warnings; then a line for each row and figure."""
    found: list[Block] = [Warnings(comparison.differences)] if comparison.differences else []
    rows = [
        (
            change.label,
            change.figure,
            wording.quantity(change.before),
            wording.quantity(change.after),
            f"{change.word}: {wording.ratio(change.ratio)}",
        )
        for change in comparison.changes
    ]
    columns = ("row", "time of a", "before", "after", "the second recording is")
    note = "The number before × says how many times as fast as the first recording the second one is; the numbers in "
    note += f"brackets are its 95{wording.SPACE}% interval."
    return [*found, Table("From the first recording to the second", columns, rows, frozenset({0, 1, 4}), note=note)]
