"""Decoding: how fast, in a batch and alone, and what the rows make of sentences."""

from collections.abc import Sequence
from typing import Literal

from benchmarks.report import cells, drawing, wording
from benchmarks.report.blocks import Block, Chart, Line, Sentence, Sentences, Text
from benchmarks.report.differences import difference
from benchmarks.report.drawing import Values
from benchmarks.results.intervals import Estimate
from benchmarks.results.values import Pair, Results, Row
from benchmarks.results.values import Sentence as Decoded

Way = Literal["batch", "alone"]

COUNTED = (
    'A character is one that is put out, up to and with the "\\n" that ends a sentence. All rows decode with the '
    "same weights."
)


def speed(results: Results) -> list[Block]:
    """In a batch, then alone."""
    longest = max((row.decoding.alone_characters for row in results.rows if row.decoding), default=0)
    alone = (
        f"The sentence is the longest that was held out; {longest} characters are put out. A row that has no batch, "
    )
    alone += "as the example, decodes the sentences below one by one in its place, once."
    return [
        *_one_way(results, "batch", "decodes many sentences in one call", results.decoding, COUNTED),
        *_one_way(results, "alone", "decodes one sentence by itself", results.alone, alone),
    ]


def _one_way(results: Results, way: Way, does: str, pairs: Sequence[Pair], note: str) -> list[Block]:
    found = {row.label: estimate for row in results.rows if (estimate := character(row, way))}
    rows = [row for row in results.rows if row.label in found]
    rows.sort(key=lambda row: (not row.compared, found[row.label].value))
    if not rows:
        return []
    told = {label: wording.interval(e) if e.low < e.high else wording.quantity(e.value) for label, e in found.items()}
    values: Values = []
    for row in rows:
        e = found[row.label]
        words = {"text": wording.quantity(e.value), "time": told[row.label]}
        values.append(drawing.look(row, rows) | {"value": e.value, "low": e.low, "high": e.high} | words)
    table = cells.table(
        rows,
        lambda row: {
            "time of a character": told[row.label],
            "characters a second": per_second(row, way),
            "sentences in the call": f"{row.decoding.sentences:,}" if row.decoding and way == "batch" else "",
            **cells.to_baseline(results, row, pairs),
        },
        note=note,
    )
    key = f"Further left is faster; the line at a point or a bar's end is the 95{wording.SPACE}% interval."
    spec = drawing.by_size(values, "a character", {"time": "a character"})
    title = f"Time that a character takes where a row {does}"
    return [Chart(way, title, spec, table, key), *cells.matrices(results, pairs, does)]


def character(row: Row, way: Way) -> Estimate | None:
    """Seconds that a row takes for a character; of what was measured once, without an interval."""
    if row.decoding is None:
        return None
    if way == "batch":
        return row.decoding.batch_character
    once = row.decoding.once_character
    return row.decoding.alone_character or (Estimate(once, once, once) if once else None)


def per_second(row: Row, way: Way) -> str:
    """Characters that a row decodes in a second."""
    found = character(row, way)
    return wording.digits(1 / found.value) if found else "–"


def sentences(results: Results) -> list[Block]:
    """What the rows make of sentences: the measured quality of the weights, then each sentence."""
    if not results.sentences:
        return []
    lead = f"All rows decode with {results.weights}."
    if results.chrf is not None:
        lead += f" On all held-out sources these weights reach a chrF of {results.chrf:.1f} out of 100 "
        lead += f"({results.chrf_signature})."
    note = (
        "Against the nearest reference, characters that a translation adds are underlined, and those that it leaves "
    )
    note += "out are struck through."
    return [Text(lead), Sentences("", [_sentence(decoded) for decoded in results.sentences], note)]


def summary(results: Results) -> list[Block]:
    """The same in short."""
    if not results.sentences:
        return []
    labels = list(dict.fromkeys(label for decoded in results.sentences for label in decoded.translations))
    agreed = sum(len(decoded.said) == 1 for decoded in results.sentences)
    title = f"Decoded with {results.weights}"
    if len(labels) > 1:
        title += f"; {agreed} of {len(results.sentences)} sentences are identical in {wording.listed(labels)}"
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
