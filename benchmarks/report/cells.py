"""What tables of rows have in common: a line a row, and its figures in words."""

from collections.abc import Callable, Iterable, Sequence

from benchmarks.intervals import Verdict
from benchmarks.plan import BASELINE
from benchmarks.report.blocks import Table
from benchmarks.results import Row
from benchmarks.wording import MISSING, digits, plain, times


def table(
    rows: Sequence[Row],
    columns: Iterable[str],
    figures: Callable[[Row], list[str]],
    words: Iterable[int] = (0,),
    title: str = "",
    note: str = "",
) -> Table:
    """One line a row of the results; columns are counted with the label's."""
    lines = [[row.label, *figures(row)] for row in rows]
    grey = frozenset(place for place, row in enumerate(rows) if not row.ranked)
    return Table(title, ("row", *columns), lines, frozenset(words), grey, note)


def epoch(row: Row) -> str:
    """Seconds, with their interval where there is one."""
    seconds = digits(row.train_seconds_per_epoch)
    if row.step is None:
        return seconds
    low, high = (digits(bound * row.steps_an_epoch) for bound in (row.step.low, row.step.high))
    return f"{seconds} ({low} to {high})"


def ratio(found: Verdict | None, row: Row | None = None) -> str:
    """That of `found`, with its interval; 1 where `row` is the baseline."""
    if found is None or found.ratio is None:
        return "1" if row is not None and row.name == BASELINE else MISSING
    low, high = digits(found.ratio.low), digits(found.ratio.high)
    return f"{times(found.ratio.value)} ({low} to {high})"


def verdict(found: Verdict | None, row: Row | None = None) -> str:
    """In words; "baseline" where `row` is that."""
    if found is None:
        return "baseline" if row is not None and row.name == BASELINE else MISSING
    return plain(found.text)
