"""What a row makes of the machine: start, memory, where a step's time goes, and its share of the peak."""

from collections.abc import Callable

from benchmarks.report import cells, drawing, wording
from benchmarks.report.blocks import Block, Chart, Table, Text
from benchmarks.report.drawing import Values
from benchmarks.results.values import Results, Row


def start_and_memory(results: Results) -> list[Block]:
    """What passes until the first step is done, and the memory of the process."""
    rows = list(results.rows)
    if not rows:
        return []
    starts = {
        row.label: {name: getattr(row.resources, phase) for phase, name in wording.PHASES.items()} for row in rows
    }
    totals = {row.label: wording.quantity(row.resources.start_seconds) for row in rows}
    phases: dict[str, Callable[[Row], str]] = {
        name: lambda row, phase=phase: wording.quantity(getattr(row.resources, phase))  # type: ignore[misc]
        for phase, name in wording.PHASES.items()
    }
    columns = phases | {
        "all together": lambda row: wording.quantity(row.resources.start_seconds),
        "a warm step": lambda row: wording.quantity(row.speed.step.value if row.speed else None),
    }
    note = (
        "The first step includes all that the framework compiles for it; a warm step is one of those measured after."
    )
    title = "Seconds from nothing until the first training step is done"
    start = Chart("start", title, drawing.stacked(starts, "seconds", totals), cells.table(rows, columns, note=note))

    ordered = sorted(rows, key=lambda row: (not row.compared, row.resources.peak))
    amounts = {row.label: _growth(row) for row in ordered}
    peaks = {row.label: wording.megabytes(row.resources.peak) for row in ordered}
    table = cells.table(
        ordered,
        {
            "after the import": lambda row: wording.megabytes(row.resources.after_import),
            "after building the model": lambda row: wording.megabytes(row.resources.after_build),
            "peak while training": lambda row: wording.megabytes(row.resources.peak),
        },
        note="Memory of the whole process that is resident, in megabytes of 1,000,000 bytes.",
    )
    spec = drawing.stacked(amounts, "MB resident", peaks)
    return [start, Chart("memory", "Memory of the process at its peak while training", spec, table)]


def _growth(row: Row) -> dict[str, float]:
    r = row.resources
    steps = {
        "importing the framework": r.after_import,
        "building the model": max(r.after_build - r.after_import, 0.0),
    }
    return {name: size / 1e6 for name, size in (steps | {"training": max(r.peak - sum(steps.values()), 0.0)}).items()}


def peak(results: Results) -> list[Block]:
    """Shares of the machine's peak, and the products that were measured."""
    if not results.peaks:
        return []
    first = results.peaks[0]
    title = "Matrix products that were measured, in float32"
    products = [(p.backend, p.name, wording.shape(p.shape), wording.digits(p.flops / 1e9)) for p in results.peaks]
    columns = ("measured in", "which product", "m × k × n", "GFLOP/s")
    measured = Table(title, columns, products, frozenset({0, 1}))
    shares = {row.label: row.resources.roofline for row in results.rows}
    rows = sorted(
        (row for row in results.rows if row.resources.roofline),
        key=lambda row: (not row.compared, -row.resources.roofline.share if row.resources.roofline else 0.0),
    )
    lead = Text(
        f"The fastest matrix product that was measured on this machine is {first.backend}'s, of "
        f"{wording.shape(first.shape)}: {wording.digits(first.flops / 1e9)}{wording.SPACE}GFLOP/s. It is taken as "
        "the machine's peak. Operations of a step are counted by formula, matrix products alone."
    )
    values: Values = []
    for row in rows:
        if found := shares[row.label]:
            share = wording.percent(found.share)
            told = {"text": share, "rate": wording.digits(found.flops / 1e9)}
            values.append(drawing.look(row, rows) | {"value": 100 * found.share} | told)
    if not values:
        return [lead, measured]
    table = cells.table(
        rows,
        {
            "share of the peak": lambda row: wording.percent(r.share) if (r := shares[row.label]) else "",
            "GFLOP/s": lambda row: wording.digits(r.flops / 1e9) if (r := shares[row.label]) else "",
            "GFLOP a step": lambda row: wording.digits(r.flop / 1e9) if (r := shares[row.label]) else "",
        },
    )
    spec = drawing.bars(values, "% of the machine's peak", {"rate": "GFLOP/s"}, at_least=100)
    return [lead, Chart("peak", "How much of the machine's peak a training step uses", spec, table), measured]


def step_parts(results: Results) -> list[Block]:
    """What the time of a training step goes to."""
    rows = [row for row in results.rows if row.resources.step_parts]
    if not rows:
        return []
    unit, name = wording.unit_of(max(sum(row.resources.step_parts.values()) for row in rows))
    parts = [part for part in wording.PARTS if any(row.resources.step_parts.get(part) for row in rows)]
    bars = {
        row.label: {wording.PARTS[part]: row.resources.step_parts.get(part, 0.0) / unit for part in parts}
        for row in rows
    }
    totals = {row.label: wording.quantity(sum(row.resources.step_parts.values())) for row in rows}
    columns: dict[str, Callable[[Row], str]] = {"a step": lambda row: totals[row.label]}
    columns |= {wording.PARTS[part]: lambda row, part=part: _part(row, part) for part in parts}  # type: ignore[misc]
    note = (
        "Shares come from a few steps under the framework's own profiler and are laid on the median step without it. "
    )
    note += (
        "Kernels that run side by side share the time in which any of them runs. A fused LSTM has products and gates "
    )
    note += "in one kernel, which cannot be told apart."
    spec = drawing.stacked(bars, f"{name} a training step", totals)
    title = "What the time of one training step goes to"
    return [Chart("parts", title, spec, cells.table(rows, columns, note=note))]


def _part(row: Row, part: str) -> str:
    seconds, total = row.resources.step_parts.get(part, 0.0), sum(row.resources.step_parts.values())
    return f"{wording.quantity(seconds)} ({wording.percent(seconds / total)})" if seconds else "0"
