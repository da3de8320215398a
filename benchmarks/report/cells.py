"""What tables of rows have in common: a line a row, and a matrix of rows against one another."""

from collections.abc import Callable, Iterable, Mapping, Sequence

from benchmarks.report import wording
from benchmarks.report.blocks import Table
from benchmarks.results.values import Pair, Results, Row

HOW_TO_READ = (
    "Read a line from the left: {left} is {ratio} times as fast as {right}. In brackets stands the 95 % interval; "
    "where it holds 1.00, the two are not told apart."
).replace(" %", f"{wording.SPACE}%")


def table(
    rows: Sequence[Row],
    cells: Callable[[Row], Mapping[str, str]],
    words: Iterable[str] = (),
    title: str = "",
    note: str = "",
) -> Table:
    """One line a row, with its cells by column; columns in which nothing was measured are left out.

    Columns named in `words` hold words.
    """
    found = [cells(row) for row in rows]
    named = dict.fromkeys(name for line in found for name in line)
    columns = [name for name in named if any(line.get(name, "") not in ("", wording.MISSING) for line in found)]
    lines = [[row.label, *(line.get(name, "") for name in columns)] for row, line in zip(rows, found, strict=True)]
    flush_left = frozenset({0, *(place for place, name in enumerate(columns, 1) if name in words)})
    grey = frozenset(place for place, row in enumerate(rows) if not row.compared)
    return Table(title, ("row", *columns), lines, flush_left, grey, note)


def frameworks(results: Results, pairs: Sequence[Pair]) -> list[str]:
    """The labels of the rows that are held against one another in these pairs, in the order of the results."""
    found = {label for pair in pairs if pair.kind == "frameworks" for label in (pair.left, pair.right)}
    return [row.label for row in results.rows if row.label in found]


def matrix(results: Results, pairs: Sequence[Pair], title: str) -> Table | None:
    """How many times as fast each row is as each other one; None where there are no two rows."""
    labels = frameworks(results, pairs)
    lines = [[left, *(_against(results, left, right, pairs) for right in labels)] for left in labels]
    first = next((pair for pair in pairs if pair.kind == "frameworks"), None)
    if first is None:
        return None
    example = {"left": first.left, "right": first.right, "ratio": wording.digits(first.ratio.value)}
    return Table(title, ("row", *labels), lines, note=HOW_TO_READ.format(**example))


def _against(results: Results, left: str, right: str, pairs: Sequence[Pair]) -> str:
    return wording.SELF if left == right else wording.ratio(results.ratio(left, right, pairs))


def to_baseline(results: Results, row: Row, pairs: Sequence[Pair] | None = None) -> dict[str, str]:
    """How many times as fast as the baseline a row is, by the column that says so; empty where it is not known."""
    found = results.ratio(row.label, results.baseline, pairs)
    cell = wording.SELF if row.label == results.baseline else wording.ratio(found) if found else ""
    return {f"times as fast as {results.baseline}": cell} if results.baseline else {}
