"""The report of a sweep: a chart and a table for each axis, and the time that preparing the data takes."""

from collections.abc import Sequence

from benchmarks.report import content, drawing, wording
from benchmarks.report.blocks import Block, Chart, Report, Section, Table, Text
from benchmarks.report.drawing import Values
from benchmarks.results.scaling import Curve, Scaling, SizePoint
from benchmarks.results.values import grouped
from common.text import listed


def report(scaling: Scaling) -> Report:
    """The whole report of a sweep."""
    sections = [
        Section(axis, f"By {words}", [_chart(curves)], folded=False)
        for axis, words in wording.AXES.items()
        if (curves := scaling.of_axis(axis))
    ]
    if scaling.costs:
        sections.append(Section("costs", "Preparing the data", [_costs(scaling)], folded=False))
    sections.append(content.again(scaling.command, scaling.machine))
    data = scaling.data
    facts = {
        "Model": f"LSTM encoder-decoder; {scaling.latent_dim} units and batches of {scaling.batch_size}, unless "
        "these are varied",
        "Corpus": f"{data.data}, up to {data.num_samples:,} pairs",
        "Machine": content.machine(scaling.machine),
        "Peak": f"{wording.digits(scaling.flops / 1e9)} GFLOP/s, reached by the fastest matrix product that was "
        "measured",
        "When": wording.day(scaling.started),
    }
    return Report("Rosetta sweep", _headline(scaling), facts, sections)


def summary(scaling: Scaling) -> list[Block]:
    """What a terminal shows of the report."""
    tables = [
        _table(curves, title=f"By {wording.AXES[axis]}") for axis in wording.AXES if (curves := scaling.of_axis(axis))
    ]
    found: list[Block] = [Text(_headline(scaling), strong=True), *tables]
    return [*found, _costs(scaling)] if scaling.costs else found


def _headline(scaling: Scaling) -> str:
    """The largest share of the machine's peak that each row reaches at any size."""
    best: dict[str, float] = {}
    for curve in scaling.curves:
        if curve.axis != "num_samples":
            best[curve.cell.label] = max(curve.best_share, best.get(curve.cell.label, 0.0))
    if not best:
        return "How the memory of a training grows with its corpus"
    first, *rest = sorted(best, key=lambda label: -best[label])
    others = "".join(f", {label} {wording.percent(best[label])}" for label in rest)
    return f"At its best size {first} uses {wording.percent(best[first])} of this machine's peak{others}."


def _chart(curves: Sequence[Curve]) -> Chart:
    """The chart of one axis. Along the pairs in the corpus it shows megabytes, along all other axes a step's time."""
    axis = curves[0].axis
    values: Values = [
        {"label": curve.cell.label, "backend": curve.cell.backend, "x": point.value}
        | {"y": point.peak_memory / 1e6 if axis == "num_samples" else point.seconds}
        | {"size": f"{point.value:,}", "text": _cell(curve, point)}
        for curve in curves
        for point in curve.points
    ]
    words = wording.AXES[axis]
    if axis == "num_samples":
        spec = drawing.sizes(values, words, "peak memory, MB resident", {"size": words, "text": "peak memory"})
        return Chart(axis, "Peak memory of a process", spec, _table(curves))
    ideal = {point.value: point.ideal_seconds for curve in curves for point in curve.points}
    line: Values = [{"x": value, "y": seconds} for value, seconds in sorted(ideal.items())]
    tooltip = {"size": words, "text": "a step (share of the peak)"}
    spec = drawing.sizes(values, words, "time of a training step", tooltip, line)
    key = "Both axes are logarithmic. The dotted line shows the time that the same step would take at the machine's "
    key += "peak speed."
    return Chart(axis, "Time of a training step", spec, _table(curves), key)


def _cell(curve: Curve, point: SizePoint) -> str:
    """A point as text: 512 MB (1.03×) along the pairs in the corpus, 39.1 ms (45.5 %) along all other axes."""
    if curve.axis == "num_samples":
        return f"{wording.megabytes(point.peak_memory)} ({wording.times(curve.growth[point.value])})"
    return f"{wording.quantity(point.seconds)} ({wording.percent(point.share)})"


def _table(curves: Sequence[Curve], title: str = "") -> Table:
    """A table of one axis, with a line for each size and a column for each row of the sweep."""
    axis = curves[0].axis
    found = {curve.cell.label: {point.value: _cell(curve, point) for point in curve.points} for curve in curves}
    sizes = sorted({size for cells in found.values() for size in cells})
    lines = [[f"{size:,}", *(cells.get(size, "") for cells in found.values())] for size in sizes]
    return Table(title, (wording.AXES[axis], *found), lines, frozenset(), note=_note(curves))


def _note(curves: Sequence[Curve]) -> str:
    """How to read the cells, and at which sizes rows use much less of the machine than at their best size."""
    if curves[0].axis == "num_samples":
        base = next(value for value, factor in curves[0].growth.items() if factor == 1)
        return (
            "Each cell is the peak memory of a process that trained some dozens of steps; the number in brackets is "
            f"this peak as a multiple of that with {base:,} pairs."
        )
    note = (
        "Each cell is the time of a training step; the number in brackets is the share of the machine's peak speed "
        "that it reaches."
    )
    for size, labels in grouped((curve.departs, curve.cell.label) for curve in curves).items():
        names, their = listed(labels), "their" if len(labels) > 1 else "its"
        if size is None:
            note += f" At every size {names} reached at least half of {their} best share."
        else:
            note += f" At {size:,} {names} reached less than half of {their} best share."
    return note


def _costs(scaling: Scaling) -> Table:
    """The time that NumPy takes to prepare corpora of several sizes."""
    rows = [
        (
            f"{cost.num_samples:,}",
            wording.quantity(cost.encode_seconds),
            wording.quantity(cost.encode_seconds / cost.num_samples),
            wording.quantity(cost.epoch_seconds),
            wording.quantity(cost.epoch_seconds / cost.num_samples),
        )
        for cost in scaling.costs
    ]
    columns = ("pairs", "from text to ids", "for each pair", "tensors of an epoch", "for each pair")
    return Table("Time that NumPy takes to prepare the data for any framework", columns, rows, frozenset())
