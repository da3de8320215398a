"""How fast training is: the rows, each against every other, and why; rows that are a question of their own."""

from collections.abc import Callable, Mapping, Sequence

from benchmarks.report import cells, drawing, wording
from benchmarks.report.blocks import Block, Chart, Points, Table, Text
from benchmarks.report.drawing import Values
from benchmarks.results.intervals import Estimate
from benchmarks.results.values import Group, Results, Row

BUCKETED = (
    "These rows train on batches of sentences of like lengths, with the padding left out of states and loss: the "
    "same pairs in an epoch, in fewer positions. That is other work than the example's, so these rows are not "
    "compared with the rows above, but each with the same framework on shuffled batches."
)
REDUCED = (
    "These rows compute matrix products and LSTMs in fewer bits than float32 has, so that they do the same work less "
    "exactly. They are not compared with the rows above, but each with the same framework in float32."
)


TITLE = "Seconds to train one epoch, a shorter bar being faster"


def answer(results: Results) -> list[Block]:
    """Bars, and each framework against every other."""
    rows = results.of_group("main")
    bars = _bars("speed", rows, lambda row: cells.to_baseline(results, row), folded=False)
    return [*([bars] if bars else []), *cells.matrices(results, results.pairs, "trains")]


def why(results: Results) -> list[Block]:
    """What explains the differences; nothing where nothing does."""
    found: list[Block] = []
    if reasons := [pair.why for pair in results.pairs if pair.why and pair.kind == "frameworks"]:
        found.append(Points("What the time of a step goes to", reasons))
    installed = [(p.left, p.right, wording.ratio(p.ratio)) for p in results.pairs if p.kind == "installed"]
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


def _apart(results: Results, group: Group, lead: str, over: str) -> list[Block]:
    """The rows of a group, each beside the row that its pairs hold it against."""
    own = {pair.left: wording.ratio(pair.ratio) for pair in results.pairs if pair.kind == group}
    rows = results.of_group(group)
    chart = _bars(group, rows, lambda row: {over: own.get(row.label, "")})
    matrix = cells.matrix(
        results, results.pairs, rows, "How many times as fast each of these rows trains as each other"
    )
    return [Text(lead), chart, *([matrix] if matrix else [])] if chart else []


def _bars(
    name: str, rows: Sequence[Row], ratio: Callable[[Row], Mapping[str, str]], folded: bool = True
) -> Chart | None:
    """Seconds an epoch of rows as bars and as a table; `ratio` gives a cell by its column, or nothing."""
    values: Values = []
    for row in rows:
        if found := epoch(row):
            bounds = {"value": found.value, "low": found.low, "high": found.high}
            over = "".join(ratio(row).values())
            told = {"text": _at_the_end(row, found, over), "seconds": seconds(found), "over": over}
            values.append(drawing.look(row, rows) | bounds | told)
    if not values:
        return None
    own = "".join(ratio(rows[0])) if any(value["over"] for value in values) else ""
    spec = drawing.bars(values, "seconds an epoch", {"seconds": "seconds"} | ({"over": own} if own else {}), room=125)
    table = cells.table(
        rows,
        lambda row: {
            "seconds an epoch": seconds(epoch(row)),
            "a training step": wording.interval(row.speed.step if row.speed else None),
            "pairs a second": wording.digits(row.speed.pairs_per_second if row.speed else None),
            **ratio(row),
        },
        note=f"In brackets stand 95{wording.SPACE}% intervals.",
    )
    key = f"The line across a bar's end is the 95{wording.SPACE}% interval."
    key += f" Behind the seconds stands how many {own} a row trains." if own else ""
    key += " Hollow bars are rows as installed, with nothing set." if any(v["filled"] < 1 for v in values) else ""
    key += (
        " Grey bars are rows that are not compared; a warning says why."
        if any(not value["compared"] for value in values)
        else ""
    )
    key += " A very wide interval is drawn in part; the table has the whole of it." if drawing.is_cut(values) else ""
    return Chart(name, TITLE, spec, table, key, folded)


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
