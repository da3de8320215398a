"""Decoding: many sentences in a batch, and one by one."""

from benchmarks.plan import BASELINE
from benchmarks.report import cells, charts
from benchmarks.report.blocks import Block, Chart, Text
from benchmarks.report.drawing import cut_note
from benchmarks.results import Results, answering
from benchmarks.wording import digits, interval, quantity


def blocks(results: Results) -> list[Block]:
    """In a batch, then alone; what was not measured is said, where a round was planned."""
    if not results.planned_rounds:
        return []
    found: list[Block] = []
    spec = charts.decoding(results)
    if spec is not None:
        rows = [row for row in results.rows if row.decode_character and row.ranked]
        best = min(
            answering(rows),
            key=lambda row: row.decode_character.value if row.decode_character else 0.0,
            default=None,
        )
        took = quantity(best.decode_character.value) if best and best.decode_character else ""
        title = f"In a batch {best.label} puts out a character every {took}" if best else "Decoding in a batch"
        table = cells.table(
            results.rows,
            ("a character", "ratio", "verdict", "sentences", "sentences a second"),
            lambda row: [
                interval(row.decode_character),
                cells.ratio(row.decode_ratio, row),
                cells.verdict(row.decode_ratio, row),
                f"{row.decode_sentences:,}",
                digits(row.decode_sentences_per_second),
            ],
            words={0, 3},
        )
        note = 'All with the same weights; characters up to and with the "\\n" that ends a sentence. '
        note += f"{BASELINE} has no batch and decodes sentence by sentence, with predict."
        key = cut_note([row.decode_character for row in results.rows if row.decode_character])
        found.append(Chart("decoding", title, spec, table, note, key))
    else:
        found.append(Text("Decoding in a batch was not measured."))
    spec = charts.latency(results)
    if spec is None:
        return [*found, Text("The time of single sentences was not measured.")]
    rows = [row for row in results.rows if row.latency]
    best = min(answering(rows), key=lambda row: (not row.ranked, min(row.latency.items())[1].value))
    took = quantity(min(best.latency.items())[1].value)
    title = f"{best.label} decodes a single sentence in {took}, the shortest median"
    percentiles = sorted({percentile for row in rows for percentile in row.latency})
    table = cells.table(
        results.rows,
        (*(f"p{percentile}" for percentile in percentiles), "longest, a character", "ratio", "verdict"),
        lambda row: [
            *(interval(row.latency.get(percentile)) for percentile in percentiles),
            interval(row.longest_character),
            cells.ratio(row.longest_ratio, row),
            cells.verdict(row.longest_ratio, row),
        ],
        words={0, len(percentiles) + 3},
    )
    missing = [row.label for row in results.rows if not row.latency]
    note = "One sentence a call, warm. 95th, 99th: so many of 100 sentences take no longer."
    longest = next((row.longest_output for row in rows if row.longest_output), None)
    note += f" Longest: the one source that puts out most, {longest} characters; ratios are of it." if longest else ""
    note += f" Percentiles not measured: {'; '.join(missing)}." if missing else ""
    return [*found, Chart("latency", title, spec, table, note)]
