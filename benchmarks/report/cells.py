"""The two kinds of tables that most sections need: one line for each row, and a matrix of rows by rows."""

from collections.abc import Callable, Iterable, Mapping, Sequence

from benchmarks.report import wording
from benchmarks.report.blocks import Table
from benchmarks.results.values import Pair, Results, Row, ratio_among

HOW_TO_READ = (
    "Read each line from left to right: {left} is {ratio} times as fast as {right}. The numbers in brackets are the "
    f"95{wording.SPACE}% interval; where it contains 1.00, either row may be the faster one."
)


def table(
    rows: Sequence[Row],
    cells: Callable[[Row], Mapping[str, str]],
    words: Iterable[str] = (),
    title: str = "",
    note: str = "",
) -> Table:
    """A table with one line for each row. `cells` gives a row's cells by the names of their columns.

    Columns in which no row has a measurement are left out. The columns named in `words` hold words, not numbers.
    """
    lines = [cells(row) for row in rows]
    names = dict.fromkeys(name for line in lines for name in line)
    columns = [name for name in names if any(line.get(name, "") not in ("", wording.MISSING) for line in lines)]
    texts = [[row.label, *(line.get(name, "") for name in columns)] for row, line in zip(rows, lines, strict=True)]
    with_words = frozenset({0, *(place for place, name in enumerate(columns, 1) if name in words)})
    grey = frozenset(place for place, row in enumerate(rows) if not row.compared)
    return Table(title, ("row", *columns), texts, with_words, grey, note)


def fastest_first(rows: Iterable[Row], seconds: Callable[[Row], float]) -> list[Row]:
    """The rows by their seconds, or by another figure that should be small; rows that are not compared come last."""
    return sorted(rows, key=lambda row: (not row.compared, seconds(row)))


def matrix(pairs: Sequence[Pair], labels: Sequence[str], title: str) -> Table | None:
    """How many times as fast each of these rows is as each other row; None where no two of them are a pair."""
    pairs = [pair for pair in pairs if pair.kind == "frameworks" and {pair.left, pair.right} <= {*labels}]
    if not pairs:
        return None
    paired = {label for pair in pairs for label in (pair.left, pair.right)}
    labels = [label for label in labels if label in paired]
    lines = [[left, *(_ratio(pairs, left, right) for right in labels)] for left in labels]
    first = pairs[0]
    ratio = wording.times(first.ratio.value).rstrip("×")
    note = HOW_TO_READ.format(left=first.left, right=first.right, ratio=ratio)
    return Table(title, ("row", *labels), lines, note=note)


def matrices(results: Results, pairs: Sequence[Pair], does: str) -> list[Table]:
    """A matrix of the rows with matched settings, and one of the rows as installed.

    `does` is the verb for what was timed, such as "trains".
    """
    title = f"How many times as fast each row {does} as each other row"
    rows = results.of_group("main")
    found = [
        matrix(pairs, [row.label for row in rows if row.cell.lane == "matched"], title),
        matrix(pairs, [row.label for row in rows if row.cell.lane == "default"], f"{title}, all as installed"),
    ]
    return [table for table in found if table]


def _ratio(pairs: Sequence[Pair], left: str, right: str) -> str:
    """The cell that says how many times as fast the row `left` is as the row `right`."""
    return wording.SELF if left == right else wording.ratio(ratio_among(pairs, left, right))


def to_baseline(results: Results, row: Row, pairs: Sequence[Pair] | None = None) -> dict[str, str]:
    """The cell that says how many times as fast as the baseline a row is, by the name of its column.

    The cell is empty where this is not known, and there is no column where there is no baseline.
    """
    if not results.baseline:
        return {}
    cell = _ratio(results.pairs if pairs is None else pairs, row.label, results.baseline)
    return {f"times as fast as {results.baseline}": "" if cell == wording.MISSING else cell}
