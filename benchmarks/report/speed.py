"""How fast training is: the rows, each against every other, and why; rows that are a question of their own."""

from collections.abc import Sequence

from benchmarks.report import cells, drawing, wording
from benchmarks.report.blocks import Block, Chart, Points, Table, Text
from benchmarks.report.drawing import Values
from benchmarks.results.intervals import Estimate
from benchmarks.results.values import Results, Row

BUCKETED = (
    "These rows train on batches of sentences of like lengths, with the padding left out of states and loss: the "
    "same pairs in an epoch, in fewer positions. That is other work than the example's, so these rows are not "
    "compared with the rows above, but each with the same framework on shuffled batches."
)
REDUCED = (
    "These rows compute matrix products and LSTMs in fewer bits than float32 has, so that they do the same work less "
    "exactly. They are not compared with the rows above, but each with the same framework in float32."
)


def answer(results: Results) -> list[Block]:
    """Bars, and each framework against every other."""
    rows = results.of_group("main")
    note = ""
    if any(row.speed and row.label != results.baseline for row in rows) and results.baseline:
        note = f"The last column says how many times as fast as {results.baseline} a row trains."
    found: list[Block | None] = [
        _bars(results, rows, "speed", "Seconds to train one epoch, a shorter bar being faster", note, folded=False),
        cells.matrix(results, results.pairs, "How many times as fast each row trains as each other one"),
    ]
    left_out = [f"{row.label} is not compared: {row.why_not}." for row in results.rows if row.why_not]
    return [block for block in (*found, *map(Text, left_out)) if block]


def why(results: Results) -> list[Block]:
    """What explains the differences; nothing where nothing does."""
    found: list[Block] = []
    if reasons := [pair.why for pair in results.pairs if pair.why]:
        found.append(Points("What the time of a step goes to", reasons))
    installed = [
        (pair.left, pair.right, wording.ratio(pair.ratio)) for pair in results.pairs if pair.kind == "installed"
    ]
    if installed:
        title = "Rows as installed, with nothing set, against the same framework with matched settings"
        columns = ("row as installed", "against", "times as fast")
        found.append(Table(title, columns, installed, frozenset({0, 1})))
    if results.advice:
        found.append(Points("What makes the difference for rows as installed", results.advice))
    return found


def bucketed(results: Results) -> list[Block]:
    return _apart(results, "bucketed", BUCKETED, "times as fast as on shuffled batches")


def reduced(results: Results) -> list[Block]:
    return _apart(results, "reduced", REDUCED, "times as fast as in float32")


def _apart(results: Results, group: str, lead: str, over: str) -> list[Block]:
    """The rows of a group, each beside the row that its pairs hold it against."""
    rows = [row for row in results.rows if row.group == group]
    title = "Seconds to train one epoch, a shorter bar being faster"
    chart = _bars(results, rows, group, title, over=(over, group))
    return [Text(lead), chart] if chart else []


def _bars(
    results: Results,
    rows: Sequence[Row],
    name: str,
    title: str,
    note: str = "",
    folded: bool = True,
    over: tuple[str, str] | None = None,
) -> Chart | None:
    """Seconds an epoch of rows as bars and as a table; `over` is a column's title and the kind of its pairs."""
    timed = {row.label: (row, found) for row in rows if (found := epoch(row))}
    if not timed:
        return None
    own = over[0] if over else f"times as fast as {results.baseline}"
    cell = cells.over(results, results.pairs, over[1]) if over else cells.to_baseline(results)
    values: Values = [
        drawing.look(row, rows)
        | {"value": found.value, "low": found.low, "high": found.high, "text": _at_the_end(row, found, cell(row))}
        | {"seconds": seconds(found), "over": cell(row)}
        for row, found in timed.values()
    ]
    told = {"seconds": "seconds"} | ({"over": own} if any(cell(row) for row, _ in timed.values()) else {})
    spec = drawing.bars(values, "seconds an epoch", told, room=125)
    table = cells.table(
        rows,
        {
            "seconds an epoch": lambda row: seconds(epoch(row)),
            "a training step": lambda row: wording.interval(row.speed.step if row.speed else None),
            "pairs a second": lambda row: wording.digits(row.speed.pairs_per_second if row.speed else None),
            own: cell,
        },
        note=f"In brackets stand 95{wording.SPACE}% intervals. {note}".strip(),
    )
    key = f"The line across a bar's end is the 95{wording.SPACE}% interval."
    key += f" Behind the seconds stands how many {own}." if len(told) > 1 else ""
    key += " Hollow bars are rows as installed, with nothing set." if any(v["filled"] < 1 for v in values) else ""
    key += " Grey bars are rows that are not compared." if any(not value["compared"] for value in values) else ""
    key += " A very wide interval is drawn in part; the table has the whole of it." if drawing.is_cut(values) else ""
    return Chart(name, title, spec, table, key, folded)


def epoch(row: Row) -> Estimate | None:
    """Seconds that an epoch takes."""
    return row.speed.step.times(row.speed.epoch_seconds / row.speed.step.value) if row.speed else None


def seconds(estimate: Estimate | None) -> str:
    """An epoch's, without their unit: 6.10 (6.01 to 6.20)."""
    if estimate is None:
        return wording.MISSING
    return f"{wording.digits(estimate.value)} ({wording.bounds(estimate.value, estimate.low, estimate.high)})"


def _at_the_end(row: Row, found: Estimate, ratio: str) -> str:
    """What stands at the end of a bar."""
    words = f"{wording.digits(found.value)}{wording.SPACE}s"
    if not row.compared:
        return f"{words}, not compared"
    return f"{words}, {ratio.partition(' ')[0]}" if "×" in ratio else words
