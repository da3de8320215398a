"""How fast training is: the main rows compared with one another, why they differ, and the special rows."""

from collections.abc import Callable, Sequence
from typing import Any

from benchmarks.report import cells, drawing, wording
from benchmarks.report.blocks import Block, Chart, Points, Table, Text
from benchmarks.results.intervals import Estimate
from benchmarks.results.values import Group, Results, Row

BUCKETED = (
    "These rows train on batches of sentences of similar lengths, with the padding left out of states and loss: an "
    "epoch has the same pairs in fewer positions. Since this is other work than the example's, these rows are not "
    "compared with the rows above. Each is compared with the same framework on shuffled batches."
)
REDUCED = (
    "These rows compute matrix products and LSTMs with fewer bits than float32 has: the same work, done less "
    "exactly. They are not compared with the rows above. Each is compared with the same framework in float32."
)
TITLE = "Seconds to train one epoch (a shorter bar is faster)"


def answer(results: Results) -> list[Block]:
    """The answer to the benchmark's question: a chart of all main rows, and matrices that compare them."""
    rows = results.of_group("main")
    bars = _bars("speed", rows, lambda row: cells.to_baseline(results, row), folded=False)
    return [*([bars] if bars else []), *cells.matrices(results, results.pairs, "trains")]


def why(results: Results) -> list[Block]:
    """What explains the differences; no blocks where nothing does."""
    found: list[Block] = []
    if reasons := [pair.why for pair in results.pairs if pair.why and pair.kind == "frameworks"]:
        found.append(Points("Where the time of a step goes", reasons))
    installed = [(p.left, p.right, wording.ratio(p.ratio)) for p in results.pairs if p.kind == "installed"]
    if installed:
        title = "Rows as installed (no settings for speed), compared with the same rows with matched settings"
        columns = ("row as installed", "compared with", "times as fast")
        found.append(Table(title, columns, installed, frozenset({0, 1})))
    if results.advice:
        found.append(Points("Which settings make the difference for rows as installed", results.advice))
    return found


def bucketed(results: Results) -> list[Block]:
    """The rows on bucketed batches."""
    return _special(results, "bucketed", BUCKETED, "times as fast as on shuffled batches")


def reduced(results: Results) -> list[Block]:
    """The rows in reduced precision."""
    return _special(results, "reduced", REDUCED, "times as fast as in float32")


def _special(results: Results, group: Group, lead: str, column: str) -> list[Block]:
    """The rows of a group. Each is compared with the same backend's plain row, in the column of this name."""
    ratios = {pair.left: wording.ratio(pair.ratio) for pair in results.pairs if pair.kind == group}
    rows = results.of_group(group)
    chart = _bars(group, rows, lambda row: {column: ratios.get(row.label, "")})
    title = "How many times as fast each of these rows trains as each other of them"
    matrix = cells.matrix(results.pairs, [row.label for row in rows], title)
    return [Text(lead), chart, *([matrix] if matrix else [])] if chart else []


def _bars(
    name: str, rows: Sequence[Row], ratio: Callable[[Row], dict[str, str]], folded: bool = True
) -> Chart | None:
    """A chart of the seconds that an epoch takes; None where no row was timed.

    `ratio` gives the cell that says how many times as fast a row is as another one, by the name of its column.
    """
    timed = [row for row in rows if row.speed]
    if not timed:
        return None

    def figures(row: Row) -> dict[str, Any]:
        compared = "".join(ratio(row).values())
        words = {"text": _at_the_end(row, compared), "seconds": seconds(row), "ratio": compared}
        return {**vars(epoch(row)), **words}

    values = drawing.of_rows(timed, figures)
    column = "".join(ratio(rows[0])) if any(value["ratio"] for value in values) else ""
    tooltip = {"seconds": "seconds"} | ({"ratio": column} if column else {})
    spec = drawing.bars(values, "seconds an epoch", tooltip, room=125)
    table = cells.table(
        rows,
        lambda row: {
            "seconds an epoch": seconds(row),
            "a training step": wording.interval(row.speed.step if row.speed else None),
            "pairs a second": wording.digits(row.speed.pairs_per_second if row.speed else None),
            **ratio(row),
        },
        note=f"The numbers in brackets are 95{wording.SPACE}% intervals.",
    )
    key = f"The line across the end of a bar shows the 95{wording.SPACE}% interval."
    if column:
        key += f" The number after the seconds says how many {column} the row trains."
    if any(row.cell.lane == "default" for row in timed):
        key += " Hollow bars are rows as installed, with no settings for speed."
    if not all(row.compared for row in timed):
        key += " Grey bars are rows that are not compared; a warning says why."
    if drawing.is_cut(values):
        key += " Only a part of a very wide interval is drawn; the table has all of it."
    return Chart(name, TITLE, spec, table, key, folded)


def epoch(row: Row) -> Estimate | None:
    """Seconds that a row takes for an epoch; None where it was not timed."""
    return row.speed.step.times(row.speed.epoch_seconds / row.speed.step.value) if row.speed else None


def seconds(row: Row) -> str:
    """The seconds of a row's epoch without their unit: 6.10 (6.01 to 6.20)."""
    found = epoch(row)
    if found is None:
        return wording.MISSING
    return f"{wording.digits(found.value)} ({wording.bounds(found.value, found.low, found.high)})"


def _at_the_end(row: Row, ratio: str) -> str:
    """The text at the end of a bar, such as 6.10 s, 1.77×."""
    text = f"{wording.digits(row.speed.epoch_seconds if row.speed else None)}{wording.SPACE}s"
    if not row.compared:
        return f"{text}, not compared"
    return f"{text}, {ratio.partition(' ')[0]}" if "×" in ratio else text
