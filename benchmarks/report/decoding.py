"""Decoding: how fast, in a batch and alone, and what the rows make of sentences."""

from collections.abc import Callable, Sequence

from benchmarks.report import cells, drawing, wording
from benchmarks.report.blocks import Block, Chart, Line, Sentence, Sentences, Text
from benchmarks.report.differences import difference
from benchmarks.report.drawing import Values
from benchmarks.results.intervals import Estimate
from benchmarks.results.values import Decoding, Pair, Results, Row
from benchmarks.results.values import Sentence as Decoded

COUNTED = 'A character is one that is put out, up to and with the "\\n" that ends a sentence.'


def speed(results: Results) -> list[Block]:
    """In a batch, then alone."""

    def batch(decoding: Decoding) -> Estimate | None:
        return decoding.batch_character

    def alone(decoding: Decoding) -> Estimate | None:
        return decoding.alone_character

    together = f"{COUNTED} All rows decode with the same weights."
    longest = max((row.decoding.alone_characters for row in results.rows if row.decoding), default=0)
    single = f"The sentence is the one with the longest output: {longest} characters."
    return [
        *_one_way(results, "batch", "Decoding many sentences in one call", batch, results.decoding, together),
        *_one_way(results, "alone", "Decoding one sentence by itself", alone, results.alone, single),
    ]


def _one_way(
    results: Results,
    name: str,
    title: str,
    figure: Callable[[Decoding], Estimate | None],
    pairs: Sequence[Pair],
    note: str,
) -> list[Block]:
    found = {row.label: e for row in results.rows if row.decoding and (e := figure(row.decoding))}
    rows = sorted(
        (row for row in results.rows if row.label in found),
        key=lambda row: (not row.compared, found[row.label].value),
    )
    if not rows:
        return []
    values: Values = []
    for row in rows:
        e = found[row.label]
        told = {"text": wording.quantity(e.value), "time": wording.interval(e)}
        values.append(drawing.look(row, rows) | {"value": e.value, "low": e.low, "high": e.high} | told)
    table = cells.table(
        rows,
        {
            "time of a character": lambda row: wording.interval(found[row.label]),
            "characters a second": lambda row: wording.digits(1 / found[row.label].value),
            "sentences in the call": lambda row: (
                f"{row.decoding.sentences:,}" * (name == "batch") if row.decoding else ""
            ),
            f"times as fast as {results.baseline}": cells.to_baseline(results, pairs),
        },
        note=note,
    )
    key = "Further left is faster; the line at a point or a bar's end is the 95 % interval.".replace(
        " %", f"{wording.SPACE}%"
    )
    spec = drawing.by_size(values, "a character", {"time": "a character"})
    how = "how many times as fast each row decodes as each other one"
    matrix = cells.matrix(results, pairs, f"{title}: {how}")
    blocks: list[Block] = [Chart(name, f"{title}: the time that a character takes", spec, table, key)]
    return [*blocks, matrix] if matrix else blocks


def per_second(row: Row, figure: str) -> str:
    """Characters that a row decodes in a second; `figure` is a field of Decoding."""
    found: Estimate | None = getattr(row.decoding, figure) if row.decoding else None
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
        title += f"; {agreed} of {len(results.sentences)} are identical in {wording.listed(labels)}"
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
