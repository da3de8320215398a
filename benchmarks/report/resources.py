"""What a row makes of the machine: start, memory, where a step's time goes, and its share of the peak."""

from itertools import pairwise

from benchmarks.report import cells, drawing, wording
from benchmarks.report.blocks import Block, Chart, Table, Text
from benchmarks.results.values import Results, Row


def start_and_memory(results: Results) -> list[Block]:
    """What passes until the first step is done, and the memory of the process."""
    rows = list(results.rows)
    if not rows:
        return []
    starts = {row.label: _phases(row) for row in rows}
    table = cells.table(
        rows,
        lambda row: {
            **{name: wording.quantity(seconds) for name, seconds in starts[row.label].items()},
            "all together": wording.quantity(row.resources.start_seconds),
            "a warm step": wording.quantity(row.speed.step.value if row.speed else None),
        },
        note="The first step includes all that the framework compiles for it; a warm step is a later one.",
    )
    totals = {row.label: wording.quantity(row.resources.start_seconds) for row in rows}
    spec = drawing.stacked(starts, "seconds", totals)
    start = Chart("start", "Seconds from nothing until the first training step is done", spec, table)

    rows.sort(key=lambda row: (not row.compared, row.resources.peak))
    table = cells.table(
        rows,
        lambda row: {
            "after the import": wording.megabytes(row.resources.after_import),
            "after building the model": wording.megabytes(row.resources.after_build),
            "peak while training": wording.megabytes(row.resources.peak),
        },
        note="Memory of the whole process that is resident, in megabytes of 1,000,000 bytes.",
    )
    peaks = {row.label: wording.megabytes(row.resources.peak) for row in rows}
    spec = drawing.stacked({row.label: _growth(row) for row in rows}, "MB resident", peaks)
    return [start, Chart("memory", "Memory of the process at its peak while training", spec, table)]


def _phases(row: Row) -> dict[str, float]:
    return {name: getattr(row.resources, phase) for phase, name in wording.PHASES.items()}


def _growth(row: Row) -> dict[str, float]:
    """Megabytes that each stage adds."""
    r = row.resources
    ends = (0.0, r.after_import, max(r.after_import, r.after_build), max(r.after_import, r.after_build, r.peak))
    return {name: (end - begin) / 1e6 for name, (begin, end) in zip(wording.STAGES, pairwise(ends), strict=True)}


def peak(results: Results) -> list[Block]:
    """Shares of the machine's peak, and the products that were measured."""
    if not results.peaks:
        return []
    first = results.peaks[0]
    title = "Matrix products that were measured, in float32"
    products = [(p.backend, p.name, wording.shape(p.shape), wording.digits(p.flops / 1e9)) for p in results.peaks]
    columns = ("measured in", "which product", "m × k × n", "GFLOP/s")
    measured = Table(title, columns, products, frozenset({0, 1}))
    lead = Text(
        f"The fastest matrix product that was measured on this machine is {first.backend}'s, of "
        f"{wording.shape(first.shape)}: {wording.digits(first.flops / 1e9)}{wording.SPACE}GFLOP/s. It is taken as "
        "the machine's peak. Operations of a step are counted by formula, matrix products alone."
    )
    shares = {row.label: row.resources.roofline for row in results.rows if row.resources.roofline}
    if not shares:
        return [lead, measured]
    rows = [row for row in results.rows if row.label in shares]
    rows.sort(key=lambda row: (not row.compared, -shares[row.label].share))
    table = cells.table(
        rows,
        lambda row: {
            "share of the peak": wording.percent(shares[row.label].share),
            "GFLOP/s": wording.digits(shares[row.label].flops / 1e9),
            "GFLOP a step": wording.digits(shares[row.label].flop / 1e9),
        },
    )
    values = []
    for row in rows:
        share = shares[row.label].share
        values.append(drawing.look(row, rows) | {"value": 100 * share, "text": wording.percent(share)})
    spec = drawing.bars(values, "% of the machine's peak", {"text": "share"}, at_least=100)
    return [lead, Chart("peak", "How much of the machine's peak a training step uses", spec, table), measured]


def step_parts(results: Results) -> list[Block]:
    """What the time of a training step goes to."""
    rows = [row for row in results.rows if row.resources.step_parts]
    if not rows:
        return []
    found = {row.label: row.resources.step_parts for row in rows}
    totals = {label: sum(parts.values()) for label, parts in found.items()}
    unit, name = wording.unit_of(max(totals.values()))
    words = {part: word for part, word in wording.PARTS.items() if any(parts.get(part) for parts in found.values())}
    bars = {label: {words[part]: parts.get(part, 0.0) / unit for part in words} for label, parts in found.items()}
    spec = drawing.stacked(bars, f"{name} a training step", {k: wording.quantity(t) for k, t in totals.items()})
    table = cells.table(
        rows,
        lambda row: {
            "a step": wording.quantity(totals[row.label]),
            **{word: _part(found[row.label].get(part, 0.0), totals[row.label]) for part, word in words.items()},
        },
        note="Shares come from a few steps under the framework's own profiler and are laid on the median step "
        "without it. Kernels that run side by side share the time in which any of them runs. A fused LSTM has "
        "products and gates in one kernel, which cannot be told apart.",
    )
    return [Chart("parts", "What the time of one training step goes to", spec, table)]


def _part(seconds: float, total: float) -> str:
    return f"{wording.quantity(seconds)} ({wording.percent(seconds / total)})" if seconds else "0"
