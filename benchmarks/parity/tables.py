"""The tables that the parity command prints: functions of checks."""

from collections.abc import Sequence
from math import inf

from rich.table import Table

from benchmarks.parity.ladder import RUNGS, SPREADS, Check
from common.terminal import table

# The rungs, narrow enough for eight of them in a terminal.
HEADERS = [{"gradients": "gradi-\nents", "trajectory": "trajec-\ntory"}.get(rung, rung) for rung in RUNGS]


def ladder_table(checks: Sequence[Check]) -> Table:
    """One row a backend and precision, one column a rung, with the rung's worst error; bold where it broke."""
    rows: dict[str, dict[str, list[Check]]] = {}
    for check in checks:
        if check.rung in RUNGS:
            rows.setdefault(check.climber, {}).setdefault(check.rung, []).append(check)
    made = table("Worst error on each rung, against the float64 referee", ["", *HEADERS], [], numeric=HEADERS)
    for climber, rungs in rows.items():
        name = climber.replace(":", ":\n").replace(" ", "\n")  # as narrow as can be: there are many rungs
        made.add_row(name, *(_rung(rungs.get(rung, [])) for rung in RUNGS))
    return made


def _rung(checks: Sequence[Check]) -> str:
    if not checks:
        return ""
    error = max(checks, key=lambda check: check.used).error
    text = "equal" if error == 0 else "differs" if error == inf else f"{error:.0e}"
    return text if all(check.passed for check in checks) else f"[bold red]{text}[/]"


def budget_tables(checks: Sequence[Check]) -> list[Table]:
    """What is normal in float32: how far two backends are apart, and how far rounding moves a whole training."""
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
        title = "Two float32 backends: what their own errors allow"
        tables.append(table(title, ["of", "differs from", "by", "at most"], apart, numeric=["by", "at most"]))
    if moved:
        columns = ["", "off by", "its spread", "at most"]
        tables.append(table("Mean loss of a float32 training", columns, moved, numeric=columns[1:]))
        tables[-1].caption = "its spread: of the backend's own runs with the hidden units in other orders"
        tables[-1].caption_justify = "left"
    return tables


def _name(check: Check) -> str:
    return check.climber.removesuffix(" float32")
