"""The tables that `rosetta parity` prints, made from the checks."""

from collections.abc import Sequence
from math import inf

from rich.markup import escape
from rich.table import Table

from benchmarks.parity.checks import RUNGS, SPREADS, Check
from common.terminal import table
from common.text import printable

# The names of the rungs, the long ones broken so that all nine columns fit into a terminal.
HYPHENATED = ["ten-sors", "for-ward", "gradi-ents", "trajec-tory"]
BROKEN = {name.replace("-", ""): name.replace("-", "-\n") for name in HYPHENATED}


def ladder_table(
    checks: Sequence[Check], rungs: Sequence[str] = RUNGS, expected: str = "the float64 referee"
) -> Table:
    """One row for each backend and precision, one column for each rung, with its worst error; red where it failed."""
    headers = [BROKEN.get(rung, rung) for rung in rungs]
    rows: dict[str, dict[str, list[Check]]] = {}
    for check in checks:
        if check.rung in rungs:
            rows.setdefault(check.climber, {}).setdefault(check.rung, []).append(check)
    made = table(f"Worst error on each rung, against {expected}", ["", *headers], [], numeric=headers)
    for climber, of_rung in rows.items():
        name = (
            escape(printable(climber)).replace(":", ":\n").replace(" ", "\n")
        )  # narrow, to leave room for the rungs
        made.add_row(name, *(cell(of_rung.get(rung, [])) for rung in rungs))
    return made


def cell(checks: Sequence[Check], marked: bool = True) -> str:
    """The cell of the table for the checks of one rung."""
    if not checks:
        return ""
    error = max(checks, key=lambda check: check.used).error
    text = "equal" if error == 0 else "wrong" if error == inf else f"{error:.0e}"
    return text if not marked or all(check.passed for check in checks) else f"[bold red]{text}[/]"


def budget_tables(checks: Sequence[Check]) -> list[Table]:
    """Errors that are normal in float32: between two backends, and in the mean loss of a whole training.

    A table is left out if there are no checks for it.
    """
    apart = [
        (_name(check), check.tensor, f"{check.error:.1e}", f"{check.tolerance:.1e}")
        for check in checks
        if check.rung == "pairs"
    ]
    moved = [
        (_name(check), f"{check.error:.1e}", f"{check.tolerance / SPREADS:.1e}", f"{check.tolerance:.1e}")
        for check in checks
        if check.tensor == "mean loss"
    ]
    tables = []
    if apart:
        columns = ["backend", "tensor and the other's", "difference", "at most"]
        tables.append(table("Differences between two float32 backends", columns, apart, numeric=columns[2:]))
        tables[-1].caption = "at most: the sum of both backends' errors against the referee"
        tables[-1].caption_justify = "left"
    if moved:
        columns = ["backend", "error", "spread", "at most"]
        tables.append(table("Mean loss of a float32 training", columns, moved, numeric=columns[1:]))
        tables[-1].caption = "spread: standard deviation over the backend's runs with permuted hidden units"
        tables[-1].caption_justify = "left"
    return tables


def _name(check: Check) -> str:
    """The name of the check's backend."""
    return check.climber.removesuffix(" float32")
