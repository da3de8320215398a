"""What a training step makes of the machine: its peak, where the time goes, memory."""

from collections.abc import Iterable

from benchmarks.plan import BASELINE
from benchmarks.report import cells, charts
from benchmarks.report.blocks import Block, Chart, Table
from benchmarks.results import Results, Row, answering
from benchmarks.wording import MISSING, digits, megabytes, percent, quantity


def roofline(results: Results) -> list[Block]:
    """Shares of the machine's peak; nothing where no peak was measured."""
    spec, peak = charts.roofline(results), results.peak
    if spec is None or peak is None:
        return []
    rows = [row for row in results.rows if row.roofline and row.ranked]
    best = max(answering(rows), key=lambda row: row.roofline.share if row.roofline else 0.0, default=None)
    title = "How much of the machine's peak a training step uses"
    if best and best.roofline:
        title = f"{best.label} does {percent(best.roofline.share)} of what this machine can"
    table = cells.table(
        results.rows,
        ("share of the peak", "GFLOP/s", "GFLOP a step"),
        lambda row: [
            percent(row.roofline.share) if row.roofline else MISSING,
            digits(row.roofline.flops / 1e9) if row.roofline else MISSING,
            digits(row.roofline.flop_a_step / 1e9) if row.roofline else MISSING,
        ],
    )
    note = f"The peak is {digits(peak['flops'] / 1e9)} GFLOP/s: {peak.get('backend', '')}'s product of "
    note += f"{_shape(peak.get('shape', ()))} matrices in float32. "
    note += "Operations of a step by formula, matrix products alone."
    rates = sorted(peak.get("rates", []), key=lambda rate: -rate["flops"])
    products = [
        [rate["backend"], str(rate.get("name", "")), _shape(rate["shape"]), digits(rate["flops"] / 1e9)]
        for rate in rates
    ]
    found: list[Block] = [Chart("roofline", title, spec, table, note)]
    if products:
        columns = ("backend", "which", "m × k × n", "GFLOP/s")
        found.append(Table("All matrix products that were measured", columns, products, frozenset({0, 1})))
    return found


def time_parts(results: Results) -> list[Block]:
    """What a step's time goes to; nothing where no step was profiled."""
    spec = charts.time_parts(results)
    if spec is None:
        return []
    rows = [row for row in results.rows if row.time_parts]
    parts = charts.parts_of(rows)
    first = answering(rows)[0]
    largest = max(parts, key=lambda part: first.time_parts[part])
    title = f"The largest part of a step of {first.label}: {parts[largest]}, {_part(first, largest)}"
    table = cells.table(
        rows,
        ("a step", *parts.values()),
        lambda row: [quantity(sum(row.time_parts.values())), *(_part(row, part) for part in parts)],
    )
    note = "Shares of a few steps under the framework's own profiler, laid on the median step without it. Kernels "
    note += "that run side by side share the time in which any of them runs. A fused LSTM has products and gates in "
    note += f"one kernel. Making tensors is measured by itself; {BASELINE} makes them before it trains."
    return [Chart("parts", title, spec, table, note)]


def _part(row: Row, part: str) -> str:
    seconds = row.time_parts[part]
    return f"{quantity(seconds)} ({percent(seconds / sum(row.time_parts.values()))})"


def memory(results: Results) -> list[Block]:
    """Peaks of memory; nothing where none was measured."""
    spec = charts.memory(results)
    if spec is None:
        return []
    rows = [row for row in results.rows if "peak" in row.memory]
    least = min(answering(rows), key=lambda row: (not row.ranked, row.memory["peak"]))
    title = f"{least.label} takes {megabytes(least.memory['peak'])} at its peak, the least"
    columns = ("after_import", "after_build", "peak")
    table = cells.table(
        results.rows,
        ("after import", "after building the model", "peak of training", "growth since the import"),
        lambda row: [
            *(megabytes(row.memory.get(column)) for column in columns),
            megabytes(row.memory["peak"] - row.memory["after_import"]) if row.memory else MISSING,
        ],
    )
    note = (
        "Resident memory of the whole process, in megabytes of 1,000,000. The peak is of whole epochs; as installed, "
    )
    note += "and where no training was scored, of the timed steps."
    return [Chart("memory", title, spec, table, note)]


def _shape(shape: Iterable[int]) -> str:
    return " × ".join(f"{size:,}" for size in shape)
