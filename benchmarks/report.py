"""The comparison's tables: functions of its results."""

from collections.abc import Sequence
from math import inf

from rich.table import Table

from benchmarks.climber import RUNGS, SPREADS, Check
from benchmarks.results import BASELINE, Decoded, Results, Row
from common.terminal import table

COLUMNS = (
    "backend",
    "thr.",
    "s an\nepoch",
    "pairs\na s",
    "ratio",
    "loss",
    "val\nloss",
    "acc.\nall",
    "acc.\nreal",
    "decoded\na s",
)


def comparison_table(results: Results) -> Table:
    """One row a backend, fastest first."""
    rows = sorted(results.rows, key=lambda row: row.train_seconds_per_epoch)
    title = f"{results.data.data}, {results.num_epochs} epochs, split {results.data.split}"
    made = table(title, COLUMNS, [_cells(results, row) for row in rows], numeric=COLUMNS[1:])
    made.caption = (
        f"thr.: threads. ratio: {BASELINE}'s seconds an epoch over the row's. acc.: right characters of the "
        "validation rows, over all positions and over real characters. decoded a s: sentences in one batch; in "
        f"{BASELINE}, one by one."
    )
    made.caption_justify = "left"
    return made


def _cells(results: Results, row: Row) -> list[str]:
    ratio = results.ratio_to_baseline(row)
    return [
        f"{row.name}\n{row.version}",
        str(row.threads),
        f"{row.train_seconds_per_epoch:.2f}",
        f"{row.train_samples_per_second:,.0f}",
        f"{ratio:.2f}x" if ratio else "",
        f"{row.loss:.4f}",
        f"{row.val_loss:.4f}",
        f"{row.val_accuracy:.1%}",
        f"{row.val_accuracy_real:.1%}",
        f"{row.decode_sentences_per_second:,.1f}",
    ]


def decoded_table(results: Results) -> Table:
    """Held-out sentences, their references, and what each backend says; backends that agree share a line."""
    rows = []
    for sentence in results.decoded:
        lines = [("reference", reference) for reference in sentence.references]
        for translation, names in _by_translation(sentence).items():
            lines.append(("all" if len(names) == len(results.rows) else ", ".join(names), translation))
        rows += [[sentence.source if line is lines[0] else "", *line] for line in lines]
        rows.append(["", "", ""])
    made = table("Held-out sentences", ["sentence", "by", "decoded sentence"], rows[:-1])
    made.caption = (
        "Each backend decodes with the weights of its own training, which rounding moves apart after some dozens of "
        "steps; from one run's weights all decode the same. Few epochs leave much to learn."
    )
    made.caption_justify = "left"
    return made


def _by_translation(sentence: Decoded) -> dict[str, list[str]]:
    said: dict[str, list[str]] = {}
    for name, translation in sentence.translations.items():
        said.setdefault(translation, []).append(name)
    return said


# The rungs, narrow enough for eight of them in a terminal.
HEADERS = [{"gradients": "gradi-\nents", "trajectory": "trajec-\ntory"}.get(rung, rung) for rung in RUNGS]


def ladder_table(checks: Sequence[Check]) -> Table:
    """One row a backend and precision, one column a rung, with the rung's worst error; bold where it broke."""
    rows: dict[str, dict[str, list[Check]]] = {}
    for check in checks:
        if check.rung in RUNGS:
            rows.setdefault(check.cell, {}).setdefault(check.rung, []).append(check)
    made = table("Largest error on each rung, against the float64 referee", ["", *HEADERS], [], numeric=HEADERS)
    for cell, rungs in rows.items():
        made.add_row(cell.replace(" ", "\n"), *(_rung(rungs.get(rung, [])) for rung in RUNGS))
    return made


def _rung(checks: Sequence[Check]) -> str:
    if not checks:
        return ""
    error = max(check.error for check in checks)
    text = "equal" if error == 0 else "differs" if error == inf else f"{error:.0e}"
    return text if all(check.passed for check in checks) else f"[bold red]{text}[/]"


def budget_tables(checks: Sequence[Check]) -> list[Table]:
    """What is normal in float32: how far two backends are apart, and how far rounding moves a whole training."""
    apart = [
        (c.cell.removesuffix(" float32"), c.tensor, f"{c.error:.1e}", f"{c.tolerance:.1e}")
        for c in checks
        if c.rung == "pairs"
    ]
    moved = [
        (c.cell.removesuffix(" float32"), f"{c.error:.1e}", f"{c.tolerance / SPREADS:.1e}", f"{c.tolerance:.1e}")
        for c in checks
        if c.tensor == "mean loss"
    ]
    tables = []
    if apart:
        title = "Two float32 backends: what their own errors allow"
        tables.append(table(title, ["of", "differs from", "by", "at most"], apart, numeric=["by", "at most"]))
    if moved:
        columns = ["", "off by", "its spread", "at most"]
        tables.append(table("Mean loss of a float32 training", columns, moved, numeric=columns[1:]))
        tables[-1].caption = "its spread: of the backend's own runs with the hidden units in other orders"
        tables[-1].caption_justify = "left"
    return tables
