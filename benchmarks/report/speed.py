"""How fast training is: the chart that answers first, and the verdicts."""

from benchmarks.intervals import SMALLEST_EFFECT
from benchmarks.plan import BASELINE
from benchmarks.report import cells, charts
from benchmarks.report.blocks import Block, Chart, Table, Text, Warnings
from benchmarks.report.drawing import cut_note
from benchmarks.results import Results, answering
from benchmarks.wording import MISSING, digits, interval, percent, plain, quantity


def overview(results: Results) -> list[Block]:
    """The chart that answers first, or why there is none yet; nothing where no round is planned."""
    if not results.planned_rounds:
        return []
    spec = charts.speed(results.rows)
    if spec is None:
        return [Text("Intervals take two rounds; there are none yet.")]
    ranked = [row for row in answering(results.rows) if row.ranked and row.step]
    fastest = ranked[0] if ranked else None
    title = (
        f"{fastest.label} trains an epoch in {quantity(fastest.train_seconds_per_epoch)}"
        if fastest
        else "Seconds an epoch"
    )
    title += ", the shortest median" if len(ranked) > 1 else ""
    title += " of the matched rows" if len(ranked) > 1 and len({row.lane for row in results.rows}) > 1 else ""
    table = cells.table(
        results.rows,
        ("seconds an epoch", "a warm step", "pairs a second", "ratio", "not ranked because"),
        lambda row: [
            cells.epoch(row),
            interval(row.step),
            digits(row.train_samples_per_second) if row.step else MISSING,
            cells.ratio(row.ratio, row),
            plain(row.why_not),
        ],
        words={0, 5},
        note="In brackets: 95 % intervals.",
    )
    key = "The whisker at a bar's end is the 95 % interval of the median."
    if any(row.ratio and row.ranked for row in results.rows):
        key += " After the seconds stands the ratio, where it is sure that there is a difference."
    if any(row.lane == "default" for row in results.rows):
        key += " Hollow: as installed, with nothing set."
    key += " Grey: not ranked." if any(not row.ranked for row in results.rows) else ""
    wide = cut_note([row.step for row in results.rows if row.step])
    key += f" {wide}" if wide else ""
    note = ""
    if any(row.ratio for row in results.rows):
        note += f"Ratio: how many times as fast as {BASELINE} in the same lane a row is. "
    unranked = [f"{row.label} ({plain(row.why_not)})" for row in results.rows if not row.ranked]
    note += f"Not ranked: {'; '.join(unranked)}." if unranked else ""
    return [Chart("speed", title, spec, table, note, key)]


def verdicts(results: Results) -> list[Block]:
    """Warnings, each row against the baseline and the next slower one, and the noise floors."""
    found: list[Block] = [Warnings([plain(warning) for warning in results.warnings])] if results.warnings else []
    if not results.rows:
        return found
    found.append(
        cells.table(
            results.rows,
            ("seconds an epoch", "ratio", "verdict", "evaluation, a pair", "threads", "version"),
            lambda row: [
                cells.epoch(row),
                cells.ratio(row.ratio, row),
                f"not ranked: {plain(row.why_not)}" if not row.ranked else cells.verdict(row.ratio, row),
                quantity(row.evaluate.value if row.evaluate else None),
                str(row.threads),
                row.version,
            ],
            words={0, 3, 6},
            title=f"Each row against {BASELINE} in the same lane"
            if any(row.ratio for row in results.rows)
            else "All rows",
            note="In brackets: 95 % intervals, by a bootstrap over processes and steps. A ratio above 1 is faster.",
        )
    )
    if results.pairs:
        rows = [
            [pair["first"], pair["second"], cells.ratio(pair["verdict"]), cells.verdict(pair["verdict"])]
            for pair in results.pairs
        ]
        title = "Each row against the next slower one"
        found.append(Table(title, ("row", "next slower row", "ratio", "verdict"), rows, frozenset({0, 1, 3})))
    else:
        found.append(Text("There are no two ranked rows to compare with each other."))
    controls = [row for row in [*results.rows, *results.reduced] if row.control]
    if controls:
        rows = [[row.label, interval(row.control, "×"), percent(row.floor)] for row in controls]
        note = "A difference that is smaller than the larger noise floor of the two, or than "
        note += f"{percent(SMALLEST_EFFECT)}, is not called one."
        columns = ("row", "ratio to itself", "noise floor")
        found.append(Table("The same program against itself", columns, rows, note=note))
    else:
        found.append(Text("No program was measured against itself, so the noise floor is not known."))
    return found
