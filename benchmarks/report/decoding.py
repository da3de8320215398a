"""Decoding: how fast it is, in a batch and for one sentence by itself, and the sentences that rows decode."""

from collections.abc import Sequence
from typing import Literal

from benchmarks.report import cells, drawing, wording
from benchmarks.report.blocks import Block, Chart, Line, Sentence, Sentences, Text
from benchmarks.report.differences import difference
from benchmarks.results.intervals import Estimate
from benchmarks.results.values import Pair, Results, Row
from benchmarks.results.values import Sentence as Decoded
from common.text import listed

Way = Literal["batch", "alone"]  # many sentences in one call, or one sentence by itself

BATCH_NOTE = (
    'Characters are those that a row puts out, including the "\\n" that ends a sentence. All rows decode with the '
    "same weights."
)
ALONE_NOTE = (
    "The sentence is the held-out one with the longest output, {longest} characters. A row that cannot decode a "
    "batch, such as keras:example, is measured once, while it decodes the sentences shown above one by one."
)


def speed(results: Results) -> list[Block]:
    """The speed of decoding, first in a batch and then for one sentence by itself."""
    longest = max((row.decoding.alone_characters for row in results.rows if row.decoding), default=0)
    alone_note = ALONE_NOTE.format(longest=longest)
    return [
        *_one_way(results, "batch", "many sentences in one call", results.decoding, BATCH_NOTE),
        *_one_way(results, "alone", "one sentence by itself", results.alone, alone_note),
    ]


def _one_way(results: Results, way: Way, what: str, pairs: Sequence[Pair], note: str) -> list[Block]:
    """A chart and matrices of decoding in one way; `what` names the sentences that are decoded."""
    times = {row.label: time for row in results.rows if (time := character(row, way))}
    if not times:
        return []
    rows = [row for row in results.rows if row.label in times]
    rows = cells.fastest_first(rows, lambda row: times[row.label].value)

    def text(row: Row) -> str:
        time = times[row.label]
        return wording.interval(time) if time.low < time.high else wording.quantity(time.value)

    values = drawing.of_rows(
        rows,
        lambda row: {**vars(times[row.label]), "text": wording.quantity(times[row.label].value), "time": text(row)},
    )
    table = cells.table(
        rows,
        lambda row: {
            "time per character": text(row),
            "characters a second": per_second(row, way),
            "sentences in the call": f"{row.decoding.sentences:,}" if row.decoding and way == "batch" else "",
            **cells.to_baseline(results, row, pairs),
        },
        note=note,
    )
    key = "Further left is faster. The line across a point or the end of a bar shows the "
    key += f"95{wording.SPACE}% interval."
    spec = drawing.by_size(values, "per character", {"time": "per character"})
    chart = Chart(way, f"Time per character when decoding {what}", spec, table, key)
    return [chart, *cells.matrices(results, pairs, f"decodes {what}")]


def character(row: Row, way: Way) -> Estimate | None:
    """Seconds that a row takes for a character. What was measured only once has an interval without width."""
    if row.decoding is None:
        return None
    if way == "batch":
        return row.decoding.batch_character
    once = row.decoding.once_character
    return row.decoding.alone_character or (Estimate(once, once, once) if once else None)


def per_second(row: Row, way: Way) -> str:
    """Number of characters that a row decodes in a second, as text; a dash where it was not measured."""
    time = character(row, way)
    return wording.digits(1 / time.value) if time else "–"


def sentences(results: Results) -> list[Block]:
    """How good the weights are, and then each sentence with its translations."""
    if not results.sentences:
        return []
    lead = f"All rows decode with {results.weights}."
    if results.chrf is not None:
        lead += f" On all held-out sources these weights reach a chrF of {results.chrf:.1f} out of 100 "
        lead += f"({results.chrf_signature})."
    note = "Each translation is compared with the nearest reference: characters that it adds are underlined, and "
    note += "characters that it leaves out are struck through."
    return [Text(lead), Sentences("", [_sentence(decoded) for decoded in results.sentences], note)]


def summary(results: Results) -> list[Block]:
    """The decoded sentences as a terminal shows them, and how good the weights are."""
    if not results.sentences:
        return []
    labels = list(dict.fromkeys(label for decoded in results.sentences for label in decoded.translations))
    agreed = sum(len(decoded.said) == 1 for decoded in results.sentences)
    title = f"Decoded with {results.weights}"
    if len(labels) > 1:
        title += f"; {agreed} of {len(results.sentences)} sentences are identical in {listed(labels)}"
    quality = f"chrF of these weights on all held-out sources: {results.chrf:.1f} of 100" if results.chrf else ""
    return [Sentences(title, [_sentence(decoded) for decoded in results.sentences], quality)]


def _sentence(decoded: Decoded) -> Sentence:
    said = decoded.said
    lines = []
    for labels, translation in said:
        identical = "identical in " if len(said) == 1 and len(labels) > 1 else ""
        lines.append(Line(identical + ", ".join(labels), *difference(translation, decoded.references)))
    known = "held out of training" if decoded.held_out else "trained on"
    return Sentence(decoded.source, known, decoded.references, lines)
