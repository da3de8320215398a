"""The tables that `rosetta parity` prints, made from the checks."""

from collections.abc import Sequence
from math import inf

from rich.table import Table

from benchmarks.parity.checks import RUNGS, SPREADS, Check
from common.terminal import table

# The names of the rungs, the long ones broken so that all nine columns fit into a terminal.
HYPHENATED = ["ten-sors", "for-ward", "gradi-ents", "trajec-tory"]
BROKEN = {name.replace("-", ""): name.replace("-", "-\n") for name in HYPHENATED}
HEADERS = [BROKEN.get(rung, rung) for rung in RUNGS]


def ladder_table(checks: Sequence[Check]) -> Table:
    """One row for each backend and precision, one column for each rung, with its worst error; red where it failed."""
    rows: dict[str, dict[str, list[Check]]] = {}
    for check in checks:
        if check.rung in RUNGS:
            rows.setdefault(check.climber, {}).setdefault(check.rung, []).append(check)
    made = table("Worst error on each rung, against the float64 referee", ["", *HEADERS], [], numeric=HEADERS)
    for climber, rungs in rows.items():
        name = climber.replace(":", ":\n").replace(" ", "\n")  # narrow, to leave room for the rungs
        made.add_row(name, *(_rung(rungs.get(rung, [])) for rung in RUNGS))
    return made


def _rung(checks: Sequence[Check]) -> str:
    """The cell of the table for the checks of one rung."""
    if not checks:
        return ""
    error = max(checks, key=lambda check: check.used).error
    text = "equal" if error == 0 else "wrong" if error == inf else f"{error:.0e}"
    return text if all(check.passed for check in checks) else f"[bold red]{text}[/]"


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
