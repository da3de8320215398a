"""The comparison's tables: functions of its results."""

from collections.abc import Sequence
from statistics import median

from rich.markup import escape
from rich.table import Table

from benchmarks.changes import Comparison
from benchmarks.fitness import Finding
from benchmarks.intervals import Verdict
from benchmarks.plan import BASELINE, BUCKETED
from benchmarks.results import FULL, REDUCED, Curve, Results, Row, Scaling, among_bucketed
from benchmarks.scaling import told
from benchmarks.wording import AXES, digits, quantity
from common.terminal import table

COLUMNS = ("", "thr.", "s an epoch", "pairs\na s", "ratio\n95 %", "val\nloss", "chrF", "decoded\na s", "alone")


def comparison_table(results: Results) -> Table:
    """One row a backend and lane, fastest first; those that are not ranked are dim."""
    title = f"{results.headline}\n\n{results.data.data}, {results.rounds} rounds"
    title += f", noise floor {results.floor:.1%}" if results.floor is not None else ""
    made = table(title, COLUMNS, [_cells(row) for row in results.rows], numeric=COLUMNS[1:])
    for row, shown in zip(results.rows, made.rows, strict=True):
        shown.style = "" if row.ranked else "dim"
    notes = [
        f"thr.: threads. ratio: {BASELINE}'s seconds a step over the row's, with its 95 % interval. val loss and "
        f"chrF: after {results.num_epochs} epochs. decoded a s: sentences in one batch; in {BASELINE}, one by one. "
        f"alone: {BASELINE}'s seconds over the row's for the sentence with the longest output."
    ]
    notes += [f"{row.label} is not ranked: {row.why_not}." for row in results.rows if not row.ranked]
    notes += [f"Mind: {warning}." for warning in results.warnings]
    made.caption, made.caption_justify = escape("\n".join(notes)), "left"
    return made


def apart_tables(results: Results) -> list[Table]:
    """The rows that are not to be compared with the others: on bucketed batches, and of reduced precision."""
    bucketed = (
        "Batches of sentences of like lengths, trimmed to them, padding left out of states and loss. ratio: "
        f"{BASELINE}'s seconds a pair over the row's; over shuffled: the backend's own, without masks and buckets."
    )
    reduced = (
        f"Less exact than {FULL}, within bounds of its own. ratio: {BASELINE}'s seconds a pair over the row's; over "
        f"{FULL}: the backend's own. error: the largest of its loss and of its gradients on the parity ladder."
    )
    columns = (*COLUMNS[:5], f"over\n{FULL}", "val\nloss", "chrF", "error")
    rows = among_bucketed(results.bucketed)
    tables = []
    if rows:
        shuffled = (*COLUMNS[:5], "over\nshuffled", "chrF")
        cells = [[*_speed_cells(row), _over(row.bucketing), _chrf(row)] for row in rows]
        tables.append(_apart_table(BUCKETED.capitalize(), shuffled, rows, cells, bucketed + _after(rows)))
    if results.reduced:
        cells = [
            [*_speed_cells(row), _over(row.reducing), _val_loss(row), _chrf(row), _errors(row)]
            for row in results.reduced
        ]
        tables.append(_apart_table(REDUCED, columns, results.reduced, cells, reduced + _after(results.reduced)))
    return tables


def _apart_table(
    title: str, columns: Sequence[str], rows: Sequence[Row], cells: Sequence[Sequence[str]], note: str
) -> Table:
    """One line a row, fastest first; those that are not ranked are dim."""
    made = table(title, columns, cells, numeric=columns[1:])
    for row, shown in zip(rows, made.rows, strict=True):
        shown.style = "" if row.ranked else "dim"
    notes = [note, *(f"{row.label} is not ranked: {row.why_not}." for row in rows if not row.ranked)]
    made.caption, made.caption_justify = escape("\n".join(notes)), "left"
    return made


def _over(verdict: Verdict | None) -> str:
    return f"{verdict.ratio.value:.2f}x" if verdict and verdict.ratio else ""


def _errors(row: Row) -> str:
    """The largest of its loss and of its gradients, in the certificate."""
    rungs = row.certificate["rungs"] if row.certificate else {}
    errors = [rungs.get(rung, {}).get("error") for rung in ("loss", "gradients")]
    return "\n".join(f"{error:.0e}" for error in errors if error is not None)


def _cells(row: Row) -> list[str]:
    alone = row.longest_ratio.ratio if row.longest_ratio else None
    return [
        *_speed_cells(row),
        _val_loss(row),
        _chrf(row),
        f"{row.decode_sentences_per_second:,.1f}" if row.decode_sentences_per_second else "",
        f"{digits(alone.value)}x" if alone else "1" if row.name == BASELINE else "",
    ]


def _val_loss(row: Row) -> str:
    return f"{row.val_loss:.3f}" if row.val_loss is not None else ""


def _chrf(row: Row) -> str:
    return f"{median(training.epochs[-1]['chrf'] for training in row.quality):.1f}" if row.quality else ""


def _after(rows: Sequence[Row]) -> str:
    """Of how many epochs their chrF is."""
    counts = sorted({len(row.epochs) for row in rows if row.epochs})
    return f" chrF: after {' or '.join(map(str, counts))} epochs." if counts else ""


def _speed_cells(row: Row) -> list[str]:
    ratio = row.ratio.ratio if row.ratio else None
    return [
        f"{row.label}\n{row.version}",
        str(row.threads),
        f"{row.train_seconds_per_epoch:.2f}",
        f"{row.train_samples_per_second:,.0f}",
        f"{ratio.value:.2f}x\n{ratio.low:.2f}-{ratio.high:.2f}" if ratio else "1" if row.name == BASELINE else "",
    ]


def decoded_table(results: Results) -> Table:
    """Held-out sentences, their references, and what each backend says; backends that agree share a line."""
    rows = []
    for sentence in results.decoded:
        lines = [*(("reference", reference) for reference in sentence.references), *sentence.said]
        rows += [[sentence.source if line is lines[0] else "", *line] for line in lines]
        rows.append(["", "", ""])
    made = table("Held-out sentences", ["sentence", "by", "decoded sentence"], rows[:-1])
    made.caption = (
        "Each backend decodes with the weights of its own training, which rounding moves apart after some dozens of "
        "steps; from one run's weights all in float32 decode the same. Few epochs leave much to learn."
    )
    made.caption_justify = "left"
    return made


def fitness_table(findings: Sequence[Finding]) -> Table:
    """What was found of the machine, and what to do about what is not as it should be."""
    rows = [(f.name, "yes" if f.ok else "NO", f.found, "" if f.ok else f.advice) for f in findings]
    return table("Is this machine fit to measure on?", ["", "fit", "found", "advice"], rows)


def scaling_table(scaling: Scaling) -> Table:
    """A line a size of each axis: what a step takes in each backend, or the peak of memory by pairs."""
    labels = list(dict.fromkeys(curve.label for curve in scaling.curves))
    rows = [
        [f"{value:,} {AXES[axis]}", *(cells.get(label, "") for label in labels)]
        for axis in AXES
        for value, cells in _cells_by_value(scaling.of_axis(axis)).items()
    ]
    made = table("How cost grows", ["", *labels], rows, numeric=labels)
    notes = [
        "A step, and its share of the machine's peak; by pairs in the corpus, the peak of memory, and its growth."
    ]
    notes += [
        f"{cost.num_samples:,} pairs: from text to ids {quantity(cost.encode_seconds)}, an epoch's tensors "
        f"{quantity(cost.epoch_seconds)}."
        for cost in scaling.data
    ]
    made.caption, made.caption_justify = "\n".join(notes), "left"
    return made


def _cells_by_value(curves: Sequence[Curve]) -> dict[int, dict[str, str]]:
    """By size and by the curve's label."""
    found: dict[int, dict[str, str]] = {}
    for curve in curves:
        for value, text in told(curve).items():
            found.setdefault(value, {})[curve.label] = text
    return dict(sorted(found.items()))


def changes_table(comparison: Comparison) -> Table:
    """A line a row and figure."""
    columns = ["", "seconds for one", "before", "after", "verdict"]
    rows = [(c.label, c.figure, quantity(c.before), quantity(c.after), c.verdict.text) for c in comparison.changes]
    return table("From the first recording to the second", columns, rows, numeric=["before", "after"])
