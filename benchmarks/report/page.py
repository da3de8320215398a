"""The page of a measurement, as one Markdown string that GitHub, a browser and a terminal show.

Its text is in templates/page.md. This module has its values for a bench, and those that a race has
in common with it. Above the line `---` is the answer, fit for a talk: headline, charts, a small
table, and reasons. Below it are the sections that support the answer, which a browser folds.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import Any, get_args

from backends import title_of
from benchmarks.measure.measurement import Measurement
from benchmarks.measure.statistics import UNSURE_FROM, grouped
from benchmarks.report import charts, render, vary
from benchmarks.report.bench_results import PARTS, BenchResults, BenchRow, PairKind
from benchmarks.report.render import (
    MISSING,
    Report,
    around,
    code,
    joined,
    markdown_table,
    percent,
    quantity,
    ratio,
    safe,
)
from benchmarks.report.repeated import RepeatedResults
from benchmarks.report.results import Results
from benchmarks.schema import LANES, Lane
from common.machine import processor_of
from common.models import MODELS
from common.text import count, duration, for_terminal, listed, printable, quoted

REFERENCES_SHOWN = 3  # of a sentence, beside a translation that is none of them
AN_EPOCH = (
    "Times are of an epoch. × {first}: as a multiple of {first}'s time in the same lane. Tuning: "
    "how many times as fast settings make a row. {intervals}"
)
OF_ROUNDS = (
    "± is a 95 % interval over the rounds of this measurement. It leaves out what changes from one "
    "measurement to the next on the same machine."
)
OF_MEASUREMENTS = (
    "Figures are means of {measurements} on one machine. ± is where a further measurement falls, "
    "in 95 of 100 cases; it leaves out what lasts longer than they did, and other processors."
)
EQUAL = "Each compared row computes the same as NumPy in float64, to {error:.0e}."
BATCHED = (
    "Decoding: the time of a character where many sentences are decoded together, tuned where "
    "settings help."
)
NOT_COMPARED = "not compared"

# Results that `--json` prints, beside the command, the machine and sentences of the page.
PRINTED = (
    "headline gain alike head reached rounds cycles dropped again others seconds scores baseline "
    "rows pairs sentences doubts notes missing"
).split()


def _part_of_step(part: str, row: BenchRow) -> str:
    """The time of a part of a row's step, and its share of the step: 32.0 ms (83.6 %)."""
    seconds = row.step_parts.get(part)
    return (
        f"{quantity(seconds)} ({percent(seconds / sum(row.step_parts.values()))})"
        if seconds
        else ""
    )


Columns = Mapping[str, Callable[[Any], str]]  # of a table with a line a row: the text of a cell
TRAINING: Columns = {
    "an epoch": lambda row: quantity(row.epoch),
    "a step": lambda row: quantity(row.step),
    "pairs a second": lambda row: render.digits(row.pairs_per_second),
    "not compared because": lambda row: safe(row.why_not),
}
DECODING: Columns = {
    "a character in a batch": lambda row: quantity(row.batch),
    "a character alone": lambda row: quantity(row.alone),
}
START: Columns = {
    "starting Python": lambda row: quantity(row.start.get("process")),
    "importing": lambda row: quantity(row.start["import"]),
    "building the model": lambda row: quantity(row.start["build"]),
    "the first step": lambda row: quantity(row.start["first step"]),
    "in all": lambda row: quantity(sum(row.start.values())) if "process" in row.start else MISSING,
    "most memory": lambda row: render.megabytes(row.peak_memory),
}
PARTS_OF_A_STEP: Columns = {
    "a step": lambda row: quantity(row.step if row.step_parts else None),
    **{name: partial(_part_of_step, part) for part, name in PARTS.items()},
}
SETTINGS: Columns = {
    "parity": lambda row: (
        ("passed" if row.certificate.passed else "**broken**") if row.certificate else MISSING
    ),
    "version": lambda row: safe(row.facts.version),
    "device": lambda row: safe(row.facts.device),
    "precision": lambda row: safe(row.facts.precision),
    "Python": lambda row: safe(row.facts.python_version),
    "threads": lambda row: str(row.facts.threads),
    "settings, read back from the framework": lambda row: ", ".join(
        code(f"{name}={value}") for name, value in row.facts.settings.items()
    ),
}


def report_of_bench(*measurements: Measurement) -> Report:
    """The whole page, with answer and decoded sentences for a terminal, and the results for --json.

    Of several measurements `repeated.are_repeated` is true.
    """
    results: BenchResults
    measurement = measurements[0]
    if measurement.plan.training and measurement.plan.training.axes:
        results = varied = vary.VaryResults(measurement)
        answer, drawn = vary.values_of(varied)
    else:
        results = (
            RepeatedResults(measurements) if len(measurements) > 1 else BenchResults(measurement)
        )
        answer, drawn = _values_of_answer(results), _charts(results)
    printed = {name: getattr(results, name) for name in PRINTED}
    printed |= {"command": results.plan.command, "machine": results.head.machine}
    return page(results, _values_of_sections(results) | answer, printed, drawn)


def page(
    results: Results, values: Mapping[str, str], printed: Any, drawn: dict[str, str]
) -> Report:
    """The page with these values and those that a bench and a race have in common;
    `drawn` are charts by title."""
    common = {
        "headline": safe(results.headline),
        "machine": machine_of(results),
        "when": render.day(results.head.started),
        "doubts": joined(*(f"**Warning:** {safe(doubt)}" for doubt in results.doubts)),
        "charts": " ".join(f"![{title}](chart)" for title in drawn),
        "notes": "\n".join(f"* Note: {safe(note)}" for note in results.notes),
        "rounds": count(results.rounds, "round"),
        "cycles": count(results.cycles, "cycle"),
        "seconds": duration(results.seconds),
        "dropped": count(results.dropped, "cycle"),
        "again": count(results.again, "turn"),
        "others": f"{results.others:.2f}",
        "within": percent(results.plan.within),
    }
    return render.fill_template({**common, **values}, printed, drawn)


def reached(widths: Mapping[str, float | None]) -> str:
    """The half-width of the widest interval in words, by the name of what was compared."""
    known = {name: half_width for name, half_width in widths.items() if half_width}
    if any(half_width > UNSURE_FROM for half_width in known.values()):
        return "intervals are too wide to rely on · "
    words = [f"±{percent(half_width)} {name}".rstrip() for name, half_width in known.items()]
    return f"95{render.SPACE}% intervals of training within {', '.join(words)} · " if words else ""


def report_of_several(measurements: Sequence[tuple[str, Measurement]]) -> Report:
    """Measurements of several machines or models side by side,
    each with a name. Nothing is compared across them."""
    benches = [(safe(name), BenchResults(measurement)) for name, measurement in measurements]
    answers = [
        f"- **{name}**, {machine_of(results)}: {safe(results.headline)}"
        for name, results in benches
    ]
    columns = [
        {row.label: quantity(row.epoch) for row in results.rows if row.epoch}
        for _, results in benches
    ]
    labels = dict.fromkeys(label for column in columns for label in column)
    lines = [(safe(label), *(column.get(label, MISSING) for column in columns)) for label in labels]
    figures = markdown_table(("an epoch", *(name for name, _ in benches)), lines)
    models = {results.training.model for _, results in benches}
    what = "machines" if len(models) == 1 else "models"
    note = f"Times of different {what} are not compared."
    head = f"# {count(len(benches), 'measurement')} of different {what} side by side"
    page = joined(head, "\n".join(answers), figures, figures and note) + "\n"
    return Report(page, page, {}, {})


def _values_of_answer(results: BenchResults) -> dict[str, str]:
    """The values of a bench above the page's sections."""
    first, missing = safe(title_of(results.baseline)), results.missing
    against = f"× {first}"
    training = []
    for name in results.backends:
        cells = [_epoch_cells(results, name, lane) for lane in LANES]
        training.append((safe(title_of(name)), *cells[0], *cells[1], around(results.gain_of(name))))
    installed, tuned = LANES.values()
    tuned_rows = {name: rows["tuned"] for name, rows in results.backends.items() if "tuned" in rows}
    decoding = [
        (safe(title_of(name)), quantity(row.batch)) for name, row in tuned_rows.items() if row.batch
    ]
    errors = [row.error for row in results.rows if row.error is not None and not row.why_not]
    return {
        "gain": safe(results.gain),
        "reached": reached(results.reached_by_lane or {"": results.reached}),
        "answer": markdown_table(("row", installed, against, tuned, against, "tuning"), training),
        "answer_columns": AN_EPOCH.format(first=first, intervals=_intervals(results))
        if training
        else "",
        "typed": typed(results),
        "tuning": safe(results.training.tuning.origin),
        "equality": EQUAL.format(error=max(errors)) if errors else "",
        "decoding_answer": markdown_table(("row", "decoding"), decoding),
        "decoding_columns": BATCHED if decoding else "",
        "alike": results.alike,
        "why": "\n".join(
            f"- {safe(pair.why)}"
            for pair in results.pairs
            if pair.why and pair.left == results.baseline
        ),
        "missing": f"There was no time for {listed(missing)}; give a larger `--budget`."
        if missing
        else "",
    }


def _intervals(results: BenchResults) -> str:
    """A sentence that says what ± means and what it leaves out."""
    if isinstance(results, RepeatedResults):
        return OF_MEASUREMENTS.format(measurements=count(len(results.single), "measurement"))
    return OF_ROUNDS


def _epoch_cells(results: BenchResults, backend: str, lane: Lane) -> tuple[str, str]:
    """The time of a backend's epoch, and that time as a multiple
    of the baseline's in the same lane."""
    row, first = (results.backends.get(name, {}).get(lane) for name in (backend, results.baseline))
    if row is None:
        return MISSING, MISSING
    multiple = "1×" if row is first else around(results.ratio(first, row))
    return quantity(row.epoch), NOT_COMPARED if row.why_not else multiple if row.epoch else MISSING


def _values_of_sections(results: BenchResults) -> dict[str, str]:
    """The values of a bench in the page's sections."""
    training, scores, rows = results.training, results.scores, results.rows
    sizes = f"{training.latent_dim} units, batches of {training.settings.batch_size}"
    facts = {
        "corpus": f"{training.data.data}, up to {training.data.num_samples:,} pairs",
        "held out": percent(training.data.validation_split),
        "SHA-256 of the corpus": results.text.sha256,
        "model": f"{MODELS[training.model].title}, {sizes}",
        "score": scores["chrf_signature"] if scores else "",
    }
    return {
        "training": by_row(rows, TRAINING),
        **{kind: _verdicts(results, kind) for kind in get_args(PairKind)},
        "decoding": by_row(rows, DECODING),
        **_sentences(results),
        "start": by_row(rows, START),
        "parts": by_row(rows, PARTS_OF_A_STEP),
        "settings": by_row(rows, SETTINGS),
        "command": "\n".join(["```sh", *map(printable, results.plan.command.split("\n")), "```"]),
        "origin": render.origin(results.head.machine, facts),
    }


def machine_of(results: Results) -> str:
    """The processor and its number of cores."""
    machine = results.head.machine
    return f"{safe(processor_of(machine))}, {count(machine['cores'], 'core')}"


def _charts(results: BenchResults) -> dict[str, str]:
    """The chart of epochs, as SVG, by its title; none before a step was measured.

    A row without a time keeps its place.
    """
    known = {lane: [row for row in results.of_lane(lane) if row.epoch] for lane in LANES}
    lanes = [lane for lane, rows in known.items() if rows]
    bars = []
    for name, rows in results.backends.items():
        marked = ", not compared" if any(row.why_not for row in rows.values()) else ""
        times = [rows[lane].epoch if lane in rows else None for lane in lanes]
        bars.append(charts.Bar(title_of(name) + marked, name, times))
    if not lanes:
        return {}
    words = "as installed (pale) and tuned" if len(lanes) > 1 else LANES[lanes[0]]
    better = (
        "shorter is better"
        if not charts.logarithmic(bars)
        else ("the further left, the better; logarithmic")
    )
    return {f"An epoch of training, {words}; {better}": charts.bars(bars)}


def by_row(rows: Iterable[Any], columns: Columns, of: str = "row") -> str:
    """A table with a line for each measured row; `of` heads their names."""
    lines = [(safe(row.label), *(cell(row) for cell in columns.values())) for row in rows]
    return markdown_table((of, *columns), [line for line in lines if set(line[1:]) - {"", MISSING}])


def _verdicts(results: BenchResults, kind: PairKind) -> str:
    """A table of the pairs of one kind."""
    lines = [
        (
            *(safe(pair.left), safe(pair.right)),
            render.verdict(pair.ratio, results.plan.within, results.rounds, results.seconds),
            ratio(pair.ratio),
        )
        for pair in results.pairs
        if pair.kind == kind
    ]
    return markdown_table(("row", "compared with", "verdict", "times as fast"), lines)


def _sentences(results: BenchResults) -> dict[str, str]:
    """Tables of sentences that were trained on and held out, with a line for each translation."""
    sentences, weights = results.sentences, ""
    if sentences:
        weights = f"All rows decode with {safe(results.text.weights)}."
    if sentences and results.scores:
        weights += (
            f" On all held-out sources these reach a chrF of {results.scores['chrf']:.1f} of 100."
        )
    lines: dict[bool, list[Sequence[str]]] = {False: [], True: []}
    for sentence in sentences:
        for words, by in sentence.distinct.items():
            rows = "all" if by == [*sentence.translations] else safe(", ".join(by))
            references = sentence.references
            beside = "exact" if words in references else " / ".join(references[:REFERENCES_SHOWN])
            lines[sentence.held_out].append(
                (safe(sentence.source), safe(words) or "(nothing)", safe(beside), rows)
            )
    columns = ("translation", "references", "by")
    return {
        "weights": weights,
        "trained_on": markdown_table(("trained on", *columns), lines[False]),
        "held_out": markdown_table(("held out of training", *columns), lines[True]),
    }


def typed(results: BenchResults) -> str:
    """The settings of the tuned lane, by framework,
    as lines to copy into a shell; "" if none are set."""
    rows = [row for row in results.rows if row.row.variables]
    given = grouped(
        (tuple(quoted(f"{n}={value}") for n, value in row.row.variables.items()), row.title)
        for row in rows
    )
    lines = [
        line
        for words, of in given.items()
        for line in (f"# {', '.join(of)}", f"export {' '.join(words)}")
    ]
    return (
        "\n".join(["```sh", *(for_terminal(line).replace("`", "'") for line in lines), "```"])
        if lines
        else ""
    )
