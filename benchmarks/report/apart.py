"""Rows that are not ranked among the others: on bucketed batches, and of reduced precision."""

from collections.abc import Callable, Sequence

from benchmarks.intervals import Verdict
from benchmarks.plan import BASELINE
from benchmarks.report import cells, charts, evidence, quality
from benchmarks.report.blocks import Block, Chart, Text
from benchmarks.report.drawing import cut_note
from benchmarks.results import FULL, Results, Row, among_bucketed
from benchmarks.wording import digits, interval, megabytes, plain, quantity


def bucketed(results: Results) -> list[Block]:
    """Rows on bucketed batches; nothing where there are none."""
    lead = "Batches of sentences of like lengths, trimmed to these, with padding left out of states and loss: "
    lead += "the same pairs an epoch in fewer positions. A step is other work than the example's, so that "
    lead += "these rows are ranked by themselves, and compared by the seconds that a pair takes."
    rows = among_bucketed(results.bucketed)
    return _apart("bucketed", rows, lead, "On bucketed batches", "shuffled", lambda row: row.bucketing)


def reduced(results: Results) -> list[Block]:
    """Rows of reduced precision, and how far they are from the referee; nothing where there are none."""
    rows = results.reduced
    lead = f"Matrix products and LSTMs in fewer bits than {FULL} has, beside weights, optimizer and loss in it: the "
    lead += "same work, done less exactly, so that these rows have no place in the ranking. Here are their speed, "
    lead += "what they reach, and how far they are from the referee, within bounds of their own."
    speed = _apart("reduced", rows, lead, "In reduced precision", FULL, lambda row: row.reducing)
    if not speed:
        return []
    other = cells.table(
        rows,
        ("computes in", "in a batch, a character", "ratio", "one sentence", "longest, a character", "peak of memory"),
        lambda row: [
            row.precision,
            interval(row.decode_character),
            cells.ratio(row.decode_ratio),
            interval(row.latency.get(50)),
            interval(row.longest_character),
            megabytes(row.memory.get("peak")),
        ],
        words={0, 1},
        title="Decoding and memory",
        note="One sentence: warm, the median. Longest: the one source that puts out most.",
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
    key = cut_note([row.step for row in rows if row.step])
    title = title if fastest.ranked else "Seconds an epoch"
    return [Text(lead), Chart(name, title, spec, table, key=key)]
