"""The answer of a benchmark, which one shows in a talk: headline, charts, a small table, and why.

It is Markdown, as the whole page is. An image whose address begins with `chart:` stands for a chart of `charts_of`.
"""

from typing import Any

from backends import BASELINE
from benchmarks.report.charts import Values, chart, colour_of
from benchmarks.report.results import Results, RowResults
from benchmarks.report.statistics import Estimate
from benchmarks.report.words import SPACE, count, day, interval, joined, noted, percent, quantity, ratio, safe, table
from common.text import listed


def answer(results: Results) -> str:
    """The part of the page above the first line `---`."""
    rows = _shown(results)
    reached = f"95{SPACE}% intervals within ±{percent(results.reached)} · " if results.reached else ""
    rounds, when = count(results.rounds, "round"), safe(day(results.head.started))
    lines = [
        (
            safe(row.title),
            interval(row.epoch),
            to_baseline(results, row),
            quantity(row.batch),
            quantity(alone_of(row)),
        )
        for row in rows
    ]
    note = "Batched and alone: the time to decode a character of many sentences together, or of one by itself."
    labels = [row.label for row in rows]
    why = [pair.why for pair in results.pairs if pair.left in labels[:1] and pair.right in labels and pair.why]
    notes = [warning for warning in results.warnings if warning not in results.doubts]
    return joined(
        f"# {safe(results.headline)}",
        f"{machine_of(results)} · {reached}{rounds} · {when}",
        *(f"**Warning:** {safe(doubt)}" for doubt in results.doubts),
        safe(results.surprise),
        " ".join(f"![{title}](chart:{name})" for name, (title, _) in _pictures(results).items()),
        noted(table(("row", "an epoch", "times as fast", "batched", "alone"), lines), note),
        "\n".join(f"- {safe(sentence)}" for sentence in why),
        "\n".join(f"* Note: {safe(note)}" for note in notes),
        f"There was no time for {listed(results.missing)}; go on with `--resume`." if results.missing else "",
    )


def machine_of(results: Results) -> str:
    """A machine's processor and its number of cores."""
    machine = results.head.machine
    return f"{safe(machine['processor'] or 'an unknown processor')}, {count(machine['cores'], 'core')}"


def _shown(results: Results) -> list[RowResults]:
    """The rows of the answer: plain frameworks and the official example; all where there are not two frameworks."""
    labels = {BASELINE, *(row.label for row in results.of_frameworks(results.rows))}
    return [row for row in results.rows if row.label in labels]


def alone_of(row: RowResults) -> Estimate | None:
    """Seconds of a character where one sentence is decoded. What was measured once has no width."""
    return row.alone or (Estimate(row.once, row.once, row.once) if row.once else None)


def to_baseline(results: Results, row: RowResults) -> str:
    """How many times as fast as the baseline a row trains."""
    if not row.compared:
        return "not compared"
    return "1× (baseline)" if row.label == results.baseline else ratio(results.ratio(row.label, results.baseline))


def _pictures(results: Results) -> dict[str, tuple[str, Values]]:
    """Title and bars of each chart for which there are values, by its name."""
    rows = _shown(results)
    sentences = max((row.sentences for row in rows), default=0)
    found = {
        "training": ("Training: an epoch", [_bar(row, row.epoch) for row in rows]),
        "batch": (f"Decoding {sentences} sentences: a character", [_bar(row, row.batch) for row in rows]),
        "alone": ("Decoding one sentence: a character", [_bar(row, alone_of(row)) for row in rows]),
    }
    return {name: (title, bars) for name, (title, bars) in found.items() if any(bar["value"] for bar in bars)}


def _bar(row: RowResults, estimate: Estimate | None) -> dict[str, Any]:
    """A bar for a row's time. A row that has none has its place, so that charts side by side are alike."""
    label = row.title if row.compared else f"{row.title}, not compared"
    look = {"label": label, "colour": colour_of(row.row.backend), "text": quantity(estimate)}
    return look | (vars(estimate) if estimate else {"value": 0.0})


def charts_of(results: Results) -> dict[str, str]:
    """The charts of the page as SVG, by their names."""
    return {name: chart("bars", bars) for name, (_, bars) in _pictures(results).items()}
