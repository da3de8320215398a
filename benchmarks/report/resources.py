"""How rows use the machine: start-up time, memory, where a step's time goes, and the share of the machine's peak."""

from collections.abc import Sequence
from itertools import pairwise

from benchmarks.report import cells, drawing, wording
from benchmarks.report.blocks import Block, Chart, Table, Text
from benchmarks.results.values import Results, Row


def start_and_memory(results: Results) -> list[Block]:
    """How long a process takes until its first step is done, and how much memory it has."""
    return [_start(results.rows), _memory(results.rows)] if results.rows else []


def _start(rows: Sequence[Row]) -> Chart:
    """The seconds that each phase of a start takes."""
    phases = {
        row.label: {name: getattr(row.resources, field) for field, name in wording.PHASES.items()} for row in rows
    }
    totals = {row.label: wording.quantity(row.resources.start_seconds) for row in rows}
    table = cells.table(
        rows,
        lambda row: {
            **{name: wording.quantity(seconds) for name, seconds in phases[row.label].items()},
            "total": totals[row.label],
            "a warm step": wording.quantity(row.speed.step.value if row.speed else None),
        },
        note="The first training step includes everything that the framework compiles for it. A warm step is a later "
        "one, for comparison.",
    )
    spec = drawing.stacked(phases, "seconds", totals)
    return Chart("start", "Seconds from starting the process to the end of the first training step", spec, table)


def _memory(rows: Sequence[Row]) -> Chart:
    """The memory that each stage of a process adds."""
    rows = cells.fastest_first(rows, lambda row: row.resources.peak)
    table = cells.table(
        rows,
        lambda row: {
            "after the import": wording.megabytes(row.resources.after_import),
            "after building the model": wording.megabytes(row.resources.after_build),
            "peak while training": wording.megabytes(row.resources.peak),
        },
        note="Resident memory of the whole process, in megabytes of 1,000,000 bytes.",
    )
    peaks = {row.label: wording.megabytes(row.resources.peak) for row in rows}
    spec = drawing.stacked({row.label: _growth(row) for row in rows}, "MB resident", peaks)
    return Chart("memory", "Peak memory of the process while training", spec, table)


def _growth(row: Row) -> dict[str, float]:
    """Megabytes that each stage of a process adds."""
    r = row.resources
    ends = (0.0, r.after_import, max(r.after_import, r.after_build), max(r.after_import, r.after_build, r.peak))
    return {name: (end - begin) / 1e6 for name, (begin, end) in zip(wording.STAGES, pairwise(ends), strict=True)}


def peak(results: Results) -> list[Block]:
    """Which share of the machine's peak speed a training step reaches, and the matrix products that were measured."""
    if not results.peaks:
        return []
    fastest = results.peaks[0]
    title = "Speed of matrix products in float32, of the shapes (m, k) @ (k, n)"
    products = [(p.backend, p.name, wording.shape(p.shape), wording.digits(p.flops / 1e9)) for p in results.peaks]
    columns = ("measured in", "which product", "m × k × n", "GFLOP/s")
    measured = Table(title, columns, products, frozenset({0, 1}))
    lead = Text(
        f"The fastest matrix product that was measured on this machine reaches {wording.digits(fastest.flops / 1e9)}"
        f"{wording.SPACE}GFLOP/s, in {fastest.backend} with m × k × n = {wording.shape(fastest.shape)}. This speed "
        "is taken as the machine's peak. The operations of a step are counted by formula, and only its matrix "
        "products are counted."
    )
    shares = {row.label: row.resources.roofline for row in results.rows if row.resources.roofline}
    if not shares:
        return [lead, measured]
    rows = [row for row in results.rows if row.label in shares]
    rows = cells.fastest_first(rows, lambda row: -shares[row.label].share)
    table = cells.table(
        rows,
        lambda row: {
            "share of the peak": wording.percent(shares[row.label].share),
            "GFLOP/s": wording.digits(shares[row.label].flops / 1e9),
            "GFLOP a step": wording.digits(shares[row.label].flop / 1e9),
        },
    )
    values = drawing.of_rows(
        rows,
        lambda row: {"value": 100 * shares[row.label].share, "text": wording.percent(shares[row.label].share)},
    )
    spec = drawing.bars(values, "% of the machine's peak", {"text": "share"}, at_least=100)
    return [lead, Chart("peak", "Share of the machine's peak that a training step reaches", spec, table), measured]


def step_parts(results: Results) -> list[Block]:
    """Where the time of a training step goes."""
    rows = [row for row in results.rows if row.resources.step_parts]
    if not rows:
        return []
    parts = {row.label: row.resources.step_parts for row in rows}
    totals = {label: sum(seconds.values()) for label, seconds in parts.items()}
    unit, name = wording.unit_of(max(totals.values()))
    words = {part: word for part, word in wording.PARTS.items() if any(found.get(part) for found in parts.values())}
    bars = {
        label: {word: found.get(part, 0.0) / unit for part, word in words.items()} for label, found in parts.items()
    }
    texts = {label: wording.quantity(total) for label, total in totals.items()}
    table = cells.table(
        rows,
        lambda row: {
            "a step": texts[row.label],
            **{word: _part(parts[row.label].get(part, 0.0), totals[row.label]) for part, word in words.items()},
        },
        note="The shares are from a few steps under the framework's own profiler, the times are these shares of the "
        "median step without it. Kernels that run at the same time divide that time between them. A fused LSTM "
        "computes matrix products and gates in one kernel, so they cannot be separated.",
    )
    spec = drawing.stacked(bars, f"{name} a training step", texts)
    return [Chart("parts", "Where the time of one training step goes", spec, table)]


def _part(seconds: float, total: float) -> str:
    """A part of a step and its share: 2.43 ms (6.3 %)."""
    return f"{wording.quantity(seconds)} ({wording.percent(seconds / total)})" if seconds else "0"
