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


def matrix(results: Results, pairs: Sequence[Pair], rows: Sequence[Row], title: str) -> Table | None:
    """How many times as fast each of these rows is as each other one; None where no two of them are a pair."""
    among = {row.label for row in rows}
    pairs = [pair for pair in pairs if pair.kind == "frameworks" and {pair.left, pair.right} <= among]
    if not pairs:
        return None
    told = {label for pair in pairs for label in (pair.left, pair.right)}
    labels = [row.label for row in rows if row.label in told]
    lines = [[left, *(_against(results, left, right, pairs) for right in labels)] for left in labels]
    example = {
        "left": pairs[0].left,
        "right": pairs[0].right,
        "ratio": wording.times(pairs[0].ratio.value).rstrip("×"),
    }
    return Table(title, ("row", *labels), lines, note=HOW_TO_READ.format(**example))


def matrices(results: Results, pairs: Sequence[Pair], does: str) -> list[Table]:
    """One of the rows with matched settings, and one of those as installed: what each `does`, such as "trains"."""
    title = f"How many times as fast each row {does} as each other one"
    lanes = {
        title: [row for row in results.of_group("main") if row.cell.lane == "matched"],
        f"{title}, all as installed": [row for row in results.of_group("main") if row.cell.lane == "default"],
    }
    found = [matrix(results, pairs, rows, title) for title, rows in lanes.items()]
    return [table for table in found if table]


def _against(results: Results, left: str, right: str, pairs: Sequence[Pair]) -> str:
    return wording.SELF if left == right else wording.ratio(results.ratio(left, right, pairs))


def to_baseline(results: Results, row: Row, pairs: Sequence[Pair] | None = None) -> dict[str, str]:
    """How many times as fast as the baseline a row is, by the column that says so; empty where it is not known."""
    found = results.ratio(row.label, results.baseline, pairs)
    cell = wording.SELF if row.label == results.baseline else wording.ratio(found) if found else ""
    return {f"times as fast as {results.baseline}": cell} if results.baseline else {}
