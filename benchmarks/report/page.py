"""The page of a recording, as one Markdown string that GitHub, a browser and a terminal show.

Its text is in templates/page.md. This module has its values for a bench, and those that a race has in common with it.
Above the line `---` is the answer, fit for a talk: headline, charts, a small table, and reasons. Below it are the
sections that support the answer, which a browser folds.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import Any, get_args

from backends import BASELINE, framework_of
from backends.process.tuned import GROUPS, computing, settings_of
from benchmarks.measure.recording import Recording
from benchmarks.measure.statistics import UNSURE_FROM
from benchmarks.report import charts, render, vary
from benchmarks.report.bench import PARTS, BenchResults, BenchRow, Kind
from benchmarks.report.render import MISSING, Report, code, interval, joined, percent, quantity, ratio, safe, table
from benchmarks.report.results import Results
from common.text import count, listed, printable, quoted

SURPRISE = 10.0  # least ratio of decoding, the example to Keras, for a sentence below the headline
MOST_REFERENCES = 3  # of a sentence, beside a translation that is none of them
SLOWER = 1.1  # least ratio of steps, as installed to tuned, for advice
BATCHED = "Batched: the time to decode a character of many sentences together."
ALONE = "Alone: the time to decode a character of a sentence by itself."
NOT_COMPARED = "not compared"

# Results that `--json` prints, beside the command, the machine and sentences of the page.
PRINTED = (
    "headline head reached rounds cycles dropped again others seconds scores baseline rows pairs sentences "
    "doubts notes missing"
).split()


def _part(part: str, row: BenchRow) -> str:
    """The time of a part of a row's step, and its share of the step: 32.0 ms (83.6 %)."""
    seconds = row.step_parts.get(part)
    return f"{quantity(seconds)} ({percent(seconds / sum(row.step_parts.values()))})" if seconds else ""


def _characters(work: Any, row: BenchRow) -> str:
    return f"{row.characters[work]:,}" if work in row.characters else MISSING


Columns = Mapping[str, Callable[[Any], str]]  # of a table with a line a row: the text of a cell
TRAINING: Columns = {
    "an epoch": lambda row: interval(row.epoch),
    "a step": lambda row: interval(row.step),
    "pairs a second": lambda row: render.digits(row.pairs_per_second),
    "not compared because": lambda row: safe(row.why_not),
}
DECODING: Columns = {
    "a character in a batch": lambda row: interval(row.batch),
    "characters": partial(_characters, "batch"),
    "characters a second": lambda row: render.digits(1 / row.batch.value if row.batch else None),
    "sentences": lambda row: f"{row.sentences:,}" if row.batch else MISSING,
    "a character alone": lambda row: interval(row.alone),
    "characters alone": partial(_characters, "alone"),
}
DECODING_ANSWER: Columns = {
    "batched": lambda row: render.around(row.batch),
    "characters": partial(_characters, "batch"),
    "alone": lambda row: render.around(row.alone),
    "characters alone": partial(_characters, "alone"),
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
    **{name: partial(_part, part) for part, name in PARTS.items()},
}
SETTINGS: Columns = {
    "parity": lambda row: ("passed" if row.certificate.passed else "**broken**") if row.certificate else MISSING,
    "version": lambda row: safe(row.facts.version),
    "device": lambda row: safe(row.facts.device),
    "precision": lambda row: safe(row.facts.precision),
    "Python": lambda row: safe(row.facts.python_version),
    "threads": lambda row: str(row.facts.threads),
    "settings, read back from the framework": lambda row: ", ".join(
        code(f"{name}={value}") for name, value in row.facts.settings.items()
    ),
}


def report_of(recording: Recording) -> Report:
    """The whole page, with answer and decoded sentences for a terminal, and the results for --json."""
    results: BenchResults
    if recording.plan.training and recording.plan.training.axes:
        results = varied = vary.VaryResults(recording)
        answer, drawn = vary.values_of(varied)
    else:
        results = BenchResults(recording)
        answer, drawn = _answer(results), _charts(results)
    printed = {name: getattr(results, name) for name in PRINTED}
    printed |= {"command": results.plan.command, "machine": results.head.machine}
    printed |= {"surprise": surprise(results), "advice": advice(results)}
    return page(results, _support(results) | answer, printed, drawn)


def page(results: Results, values: Mapping[str, str], printed: Any, drawn: dict[str, str]) -> Report:
    """The page with these values and those that a bench and a race have in common; `drawn` are charts by title."""
    common = {
        "headline": safe(results.headline),
        "machine": _machine(results),
        "reached": f"{_reached(results.reached)} · " if results.reached else "",
        "when": render.day(results.head.started),
        "doubts": joined(*(f"**Warning:** {safe(doubt)}" for doubt in results.doubts)),
        "charts": " ".join(f"![{title}](chart)" for title in drawn),
        "notes": "\n".join(f"* Note: {safe(note)}" for note in results.notes),
        "rounds": count(results.rounds, "round"),
        "cycles": count(results.cycles, "cycle"),
        "seconds": render.duration(results.seconds),
        "dropped": count(results.dropped, "cycle"),
        "again": count(results.again, "turn"),
        "others": f"{results.others:.2f}",
        "within": percent(results.plan.within),
    }
    return render.report({**common, **values}, printed, drawn)


def _reached(half_width: float) -> str:
    """The half-width of the widest interval, in words."""
    if half_width > UNSURE_FROM:
        return "intervals are too wide to rely on"
    return f"95{render.SPACE}% intervals within ±{percent(half_width)}"


def machines(recordings: Sequence[tuple[str, Recording]]) -> Report:
    """Recordings of several machines side by side, each with a name. Nothing is compared across machines."""
    all = [(safe(name), BenchResults(recording)) for name, recording in recordings]
    answers = [f"- **{name}**, {_machine(results)}: {safe(results.headline)}" for name, results in all]
    columns = [
        {row.label: f"{quantity(row.epoch)}, {_to_baseline(results, row)}" for row in results.rows if row.epoch}
        for _, results in all
    ]
    labels = dict.fromkeys(label for column in columns for label in column)
    lines = [(safe(label), *(column.get(label, MISSING) for column in columns)) for label in labels]
    figures = table(("an epoch", *(name for name, _ in all)), lines)
    note = (
        "Beside the time of an epoch: how many times as fast the row trains as the baseline on the same machine. "
        "Times of different machines are not compared."
    )
    head = f"# {count(len(all), 'machine')} side by side"
    page = joined(head, "\n".join(answers), figures, figures and note) + "\n"
    return Report(page, page, {}, {})


def _answer(results: BenchResults) -> dict[str, str]:
    """The values of a bench above the page's sections."""
    rows = rows_of_answer(results)
    columns: Columns = {
        "an epoch": lambda row: interval(row.epoch),
        "times as fast": lambda row: _to_baseline(results, row),
        "computes the same": _equality,
    }
    titled = [(safe(row.title), row) for row in rows]
    decoding = [line for line in _lines(titled, DECODING_ANSWER) if set(line[1:]) != {MISSING}]
    labels, missing = [row.label for row in rows], results.missing
    why = [pair.why for pair in results.pairs if pair.left in labels[:1] and pair.right in labels and pair.why]
    explained = {BATCHED: [row.batch for row in rows], ALONE: [row.alone for row in rows]}
    return {
        "surprise": safe(surprise(results)),
        "answer": table(("row", *columns), _lines(titled, columns)),
        "decoding_answer": table(("row", *DECODING_ANSWER), decoding),
        "decoding_columns": " ".join(words for words, measured in explained.items() if any(measured)),
        "why": "\n".join(f"- {safe(sentence)}" for sentence in why),
        "missing": f"There was no time for {listed(missing)}; give a larger `--budget`." if missing else "",
    }


def _support(results: BenchResults) -> dict[str, str]:
    """The values of a bench in the page's sections."""
    training, scores, rows = results.training, results.scores, results.rows
    # Each piece of advice ends with the words to type.
    given = [(before, typed) for before, _, typed in (text.rpartition(": ") for text in advice(results))]
    facts = {
        "corpus": f"{training.data.data}, up to {training.data.num_samples:,} pairs",
        "held out": percent(training.data.validation_split),
        "SHA-256 of the corpus": results.text.sha256,
        "model": f"LSTM encoder-decoder, {training.latent_dim} units, batches of {training.settings.batch_size}",
        "score": scores["chrf_signature"] if scores else "",
    }
    alone = [(safe(row.label), code(results.plan.command_of(row.row))) for row in rows]
    return {
        "training": by_row(rows, TRAINING),
        **{kind: _verdicts(results, kind) for kind in get_args(Kind)},
        "advice": "\n".join(f"- {safe(before)}: {code(typed)}" for before, typed in given),
        "decoding": by_row(rows, DECODING),
        **_sentences(results),
        "start": by_row(rows, START),
        "parts": by_row(rows, PARTS_OF_A_STEP),
        "settings": by_row(rows, SETTINGS),
        "commands": table(("row", "command that measures it with as little else as can be"), alone),
        "command": "\n".join(["```sh", *map(printable, results.plan.command.split("\n")), "```"]),
        "origin": render.origin(results.head.machine, facts),
    }


def _machine(results: Results) -> str:
    """The processor and its number of cores."""
    machine = results.head.machine
    return f"{safe(machine['processor'] or 'an unknown processor')}, {count(machine['cores'], 'core')}"


def rows_of_answer(results: BenchResults) -> list[BenchRow]:
    """The rows of the answer: plain frameworks and the official example; all of fewer than two frameworks."""
    labels = {BASELINE, *(row.label for row in results.of_frameworks(results.rows))}
    return [row for row in results.rows if row.label in labels]


def _to_baseline(results: BenchResults, row: BenchRow) -> str:
    """The training speed of a row as a multiple of the baseline's."""
    if row.why_not:
        return NOT_COMPARED
    return "1× (baseline)" if row.label == results.baseline else ratio(results.ratio(row.label, results.baseline))


def _equality(row: BenchRow) -> str:
    """The largest error of a row against the reference, by its certificate."""
    if row.certificate is None or row.error is None:
        return NOT_COMPARED
    return f"to {row.error:.0e}" if row.certificate.passed else "**no**: parity is broken"


def _charts(results: BenchResults) -> dict[str, str]:
    """The charts with times, as SVG, by their titles.

    A row without a time keeps its place, so that charts side by side are alike.
    """
    rows = rows_of_answer(results)
    sentences = max((row.sentences for row in rows), default=0)
    times = {
        "Training: an epoch": [row.epoch for row in rows],
        f"Decoding {sentences} sentences: a character": [row.batch for row in rows],
        "Decoding one sentence: a character": [row.alone for row in rows],
    }
    names = [row.title if not row.why_not else f"{row.title}, not compared" for row in rows]
    backends = [row.row.backend for row in rows]
    drawn = {}
    for title, of_rows in times.items():
        if any(of_rows):
            bars = [*map(charts.Bar, names, backends, of_rows)]
            drawn[title + ", logarithmic scale" * charts.logarithmic(bars)] = charts.bars(bars)
    return drawn


def by_row(rows: Iterable[Any], columns: Columns, of: str = "row") -> str:
    """A table with a line for each measured row; `of` heads their names."""
    lines = _lines([(safe(row.label), row) for row in rows], columns)
    return table((of, *columns), [line for line in lines if set(line[1:]) - {"", MISSING}])


def _lines(named: Iterable[tuple[str, Any]], columns: Columns) -> list[tuple[str, ...]]:
    """The lines of a table: the name of each row, and the cells of its results."""
    return [(name, *(cell(row) for cell in columns.values())) for name, row in named]


def _verdicts(results: BenchResults, kind: Kind) -> str:
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
    return table(("row", "compared with", "verdict", "times as fast"), lines)


def _sentences(results: BenchResults) -> dict[str, str]:
    """Tables of sentences that were trained on and held out, with a line for each translation."""
    sentences, weights = results.sentences, ""
    if sentences:
        weights = f"All rows decode with {safe(results.text.weights)}."
    if sentences and results.scores:
        weights += f" On all held-out sources these reach a chrF of {results.scores['chrf']:.1f} of 100."
    lines: dict[bool, list[Sequence[str]]] = {False: [], True: []}
    for sentence in sentences:
        for words, by in sentence.distinct.items():
            rows = "all" if by == [*sentence.translations] else safe(", ".join(by))
            references = sentence.references
            beside = "exact" if words in references else " / ".join(references[:MOST_REFERENCES])
            lines[sentence.held_out].append((safe(sentence.source), safe(words) or "(nothing)", safe(beside), rows))
    columns = ("translation", "references", "by")
    return {
        "weights": weights,
        "trained_on": table(("trained on", *columns), lines[False]),
        "held_out": table(("held out of training", *columns), lines[True]),
    }


def advice(results: BenchResults) -> list[str]:
    """Advice on each row as installed that is slower than its tuned row: the settings that it lacks.

    Each piece ends with the words to type for them.
    """
    pieces = []
    for pair in results.pairs:
        slower = pair.ratio.inverse.value
        if pair.kind != "installed" or slower <= SLOWER:
            continue
        tuned = results.by_label[pair.right].row
        groups = settings_of(computing(tuned.backend), results.head.machine["cores"])
        lacked = [GROUPS[group] for group, names in groups.items() if names.keys() & tuned.variables.keys()]
        typed = [quoted(f"{name}={value}") for name, value in tuned.variables.items()]
        if lacked:
            pieces.append(
                f"A step of {tuned.backend} as installed takes {slower:.2f} times as long as with tuned settings, "
                f"which decide {listed(lacked)}. To set them, type before the command: {' '.join(typed)}"
            )
    return pieces


def surprise(results: BenchResults) -> str:
    """Sentences on the official example, if it decodes a character much slower than Keras does; else ""."""
    example, keras = map(results.by_label.get, (BASELINE, framework_of(BASELINE)))
    if not (example and example.alone and keras and keras.alone):
        return ""
    seconds, plain_seconds = example.alone.value, keras.alone.value
    slower, milliseconds, plain = (
        float(f"{value:.2g}") for value in (seconds / plain_seconds, seconds * 1e3, plain_seconds * 1e3)
    )
    if slower < SURPRISE:
        return ""
    return (
        f"The official example takes {milliseconds:g} ms to decode a character. {keras.title} takes {plain:g} ms, "
        f"{slower:,.0f} times less."
    )
