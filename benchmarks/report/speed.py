"""Training: the chart that answers first, verdicts, and the rows that are ranked apart."""

from collections.abc import Callable, Sequence

from benchmarks.intervals import SMALLEST_EFFECT, Verdict
from benchmarks.plan import BASELINE
from benchmarks.report import cells, charts, evidence, quality
from benchmarks.report.blocks import Block, Chart, Table, Text, Warnings
from benchmarks.report.drawing import cut
from benchmarks.results import FULL, Results, Row, among_bucketed, main_lane
from benchmarks.wording import MISSING, digits, interval, megabytes, percent, plain, quantity


def overview(results: Results) -> list[Block]:
    spec = charts.speed(results.rows)
    if spec is None:
        return [Text("Intervals take two rounds; there are none yet.")]
    ranked = [row for row in results.rows if row.ranked and row.step and row.lane == main_lane(results.rows)]
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
    key += cells.CUT if cut([row.step for row in results.rows if row.step]) else ""
    note = ""
    if any(row.ratio for row in results.rows):
        note += f"Ratio: how many times as fast as {BASELINE} in the same lane a row is. "
    unranked = [f"{row.label} ({plain(row.why_not)})" for row in results.rows if not row.ranked]
    note += f"Not ranked: {'; '.join(unranked)}." if unranked else ""
    return [Chart("speed", title, spec, table, note, key)]


def verdicts(results: Results) -> list[Block]:
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
    controls = [row for row in results.rows if row.control]
    if controls:
        rows = [[row.label, interval(row.control, "×"), percent(row.floor)] for row in controls]
        note = "A difference that is smaller than the larger noise floor of the two, or than "
        note += f"{percent(SMALLEST_EFFECT)}, is not called one."
        columns = ("row", "ratio to itself", "noise floor")
        found.append(Table("The same program against itself", columns, rows, note=note))
    else:
        found.append(Text("No program was measured against itself, so the noise floor is not known."))
    return found


def bucketed(results: Results) -> list[Block]:
    lead = "Batches of sentences of like lengths, trimmed to these, with padding left out of states and loss: "
    lead += "the same pairs an epoch in fewer positions. A step is other work than the example's, so that "
    lead += "these rows are ranked by themselves, and compared by the seconds that a pair takes."
    rows = among_bucketed(results.bucketed)
    return _apart("bucketed", rows, lead, "On bucketed batches", "shuffled", lambda row: row.bucketing)


def reduced(results: Results) -> list[Block]:
    rows = results.reduced
    lead = f"Matrix products and LSTMs in fewer bits than {FULL} has, beside weights, optimizer and loss in it: the "
    lead += "same work, done less exactly, so that these rows have no place in the ranking. Here are their speed, "
    lead += "what they reach, and how far they are from the referee, within bounds of their own."
    speed = _apart("reduced", rows, lead, "In reduced precision", FULL, lambda row: row.reducing)
    if not speed:
        return []
    other = cells.table(
        rows,
        ("computes in", "decoding in a batch, a character", "ratio", "one sentence", "peak of memory"),
        lambda row: [
            row.precision,
            interval(row.decode_character),
            cells.ratio(row.decode_ratio),
            interval(row.latency.get(50)),
            megabytes(row.memory.get("peak")),
        ],
        words={0, 1},
        title="Decoding and memory",
        note="One sentence: warm, the median.",
    )
    scored = [quality.scores(results, trained)] if (trained := [row for row in rows if row.quality]) else []
    climbed = [evidence.ladder(certified)] if (certified := [row for row in rows if row.certificate]) else []
    return [*speed, other, *scored, *climbed]


def _apart(
    name: str, rows: Sequence[Row], lead: str, where: str, own: str, over_own: Callable[[Row], Verdict | None]
) -> list[Block]:
    """The speed of rows that are not to be compared with the others, beside the same backends' `own` other ones."""
    if not rows:
        return []
    table = cells.table(
        rows,
        ("seconds an epoch", "pairs a second", "ratio", "verdict", f"against its own {own} row"),
        lambda row: [
            cells.epoch(row),
            digits(row.train_samples_per_second),
            cells.ratio(row.ratio),
            f"not ranked: {plain(row.why_not)}" if not row.ranked else cells.verdict(row.ratio),
            cells.ratio(over_own(row)),
        ],
        words={0, 4},
        note=f"In brackets: 95 % intervals. Ratio: how many times as fast as {BASELINE} a row is, a pair.",
    )
    spec, fastest = charts.speed(rows), rows[0]
    if spec is None:
        return [Text(lead), table]
    title = f"{where} {fastest.label} trains an epoch in {quantity(fastest.train_seconds_per_epoch)}"
    title += ", the shortest median" if len(rows) > 1 else ""
    key = cells.CUT if cut([row.step for row in rows if row.step]) else ""
    title = title if fastest.ranked else "Seconds an epoch"
    return [Text(lead), Chart(name, title, spec, table, key=key.strip())]
