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
    columns: Mapping[str, Callable[[Row], str]],
    words: Iterable[str] = (),
    title: str = "",
    note: str = "",
) -> Table:
    """One line a row, with the columns in which something was measured; those in `words` hold words."""
    found = {name: [cell(row) for row in rows] for name, cell in columns.items()}
    found = {name: cells for name, cells in found.items() if set(cells) - {wording.MISSING, ""}}
    lines = list(zip([row.label for row in rows], *found.values(), strict=True))
    flush_left = frozenset({0, *(place for place, name in enumerate(found, 1) if name in words)})
    grey = frozenset(place for place, row in enumerate(rows) if not row.compared)
    return Table(title, ("row", *found), lines, flush_left, grey, note)


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


def over(results: Results, pairs: Sequence[Pair], kind: str) -> Callable[[Row], str]:
    """A cell with the ratio of a row to the one that a pair of this kind holds it against."""
    found = {pair.left: wording.ratio(pair.ratio) for pair in pairs if pair.kind == kind}
    return lambda row: found.get(row.label, "")


def to_baseline(results: Results, pairs: Sequence[Pair] | None = None) -> Callable[[Row], str]:
    """A cell with the ratio of a row to the baseline of the results."""

    def cell(row: Row) -> str:
        if results.baseline and row.label == results.baseline:
            return wording.SELF
        found = results.ratio(row.label, results.baseline, pairs)
        return wording.ratio(found) if found else ""

    return cell
