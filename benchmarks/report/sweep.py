"""What is said of a sweep: an axis at a time a chart and its figures, then the data alone."""

from collections.abc import Sequence

from benchmarks.report import content, drawing, wording
from benchmarks.report.blocks import Block, Chart, Code, Report, Section, Table, Text
from benchmarks.report.drawing import Values
from benchmarks.results.scaling import Curve, Scaling, SizePoint


def report(scaling: Scaling) -> Report:
    """The whole page of a sweep."""
    sections = [
        Section(axis, f"By {words}", [_chart(curves)], folded=False)
        for axis, words in wording.AXES.items()
        if (curves := scaling.of_axis(axis))
    ]
    if scaling.costs:
        sections.append(Section("costs", "The data alone", [_costs(scaling)], folded=False))
    again: list[Block] = [Text("Measure the same again with:"), Code(scaling.command)]
    versions = [(str(name), str(version)) for name, version in scaling.machine.get("versions", {}).items()]
    if versions:
        again.append(Table("What it was measured with", ("what", "version"), versions, frozenset({0, 1})))
    sections.append(Section("data", "Data, and how to measure again", again))
    data = scaling.data
    facts = {
        "Model": f"LSTM encoder-decoder; {scaling.latent_dim} units and batches of {scaling.batch_size} where these "
        "are not what is varied",
        "Corpus": f"{data.data}, up to {data.num_samples:,} pairs",
        "Machine": content.machine(scaling.machine),
        "Peak": f"{wording.digits(scaling.flops / 1e9)} GFLOP/s, the fastest matrix product that was measured",
        "When": wording.day(scaling.started),
    }
    return Report("Rosetta sweep", _headline(scaling), facts, sections)


def summary(scaling: Scaling) -> list[Block]:
    """The same as a terminal shows it."""
    tables = [
        _table(curves, title=f"By {wording.AXES[axis]}") for axis in wording.AXES if (curves := scaling.of_axis(axis))
    ]
    found: list[Block] = [Text(_headline(scaling), strong=True), *tables]
    return [*found, _costs(scaling)] if scaling.costs else found


def _headline(scaling: Scaling) -> str:
    """What each row makes of the machine at best."""
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
    axis = curves[0].axis
    values: Values = [
        {"label": curve.cell.label, "backend": curve.cell.backend, "x": point.value, "y": _amount(axis, point)}
        | {"size": f"{point.value:,}", "text": _cell(curve, point)}
        for curve in curves
        for point in curve.points
    ]
    words = wording.AXES[axis]
    told = {"size": words, "text": "peak of memory" if axis == "num_samples" else "a step (of the peak)"}
    if axis == "num_samples":
        spec = drawing.sizes(values, words, "MB resident at the peak", told)
        return Chart(axis, "The peak of a process's memory", spec, _table(curves))
    ideal = {point.value: point.ideal_seconds for curve in curves for point in curve.points}
    line: Values = [{"x": value, "y": seconds} for value, seconds in sorted(ideal.items())]
    spec = drawing.sizes(values, words, "time of a training step", told, line)
    key = "Both axes are logarithmic. The dotted line is the same step at the machine's peak."
    return Chart(axis, "The time of a training step", spec, _table(curves), key)


def _amount(axis: str, point: SizePoint) -> float:
    return point.peak_memory / 1e6 if axis == "num_samples" else point.seconds


def _cell(curve: Curve, point: SizePoint) -> str:
    if curve.axis == "num_samples":
        return f"{wording.megabytes(point.peak_memory)} ({wording.times(curve.growth[point.value])})"
    return f"{wording.quantity(point.seconds)} ({wording.percent(point.share)})"


def _table(curves: Sequence[Curve], title: str = "") -> Table:
    """A line a size, a column a row of the sweep."""
    axis = curves[0].axis
    found = {curve.cell.label: {point.value: _cell(curve, point) for point in curve.points} for curve in curves}
    sizes = sorted({size for cells in found.values() for size in cells})
    lines = [[f"{size:,}", *(cells.get(size, "") for cells in found.values())] for size in sizes]
    return Table(title, (wording.AXES[axis], *found), lines, frozenset(), note=_note(curves))


def _note(curves: Sequence[Curve]) -> str:
    """How the cells are read, and what they say."""
    if curves[0].axis == "num_samples":
        first = next(value for value, factor in curves[0].growth.items() if factor == 1)
        note = "The peak of a process that trained some dozens of steps. In brackets: over its peak with "
        return f"{note}{first:,} pairs."
    places: dict[int | None, list[str]] = {}
    for curve in curves:
        places.setdefault(curve.departs, []).append(curve.cell.label)
    note = "The time of a training step. In brackets: its share of the machine's peak."
    for place, labels in places.items():
        verb = "stay" if len(labels) > 1 else "stays"
        if place is None:
            note += f" {wording.listed(labels)} {verb} above half of the best share throughout."
        else:
            verb = "fall" if len(labels) > 1 else "falls"
            note += f" {wording.listed(labels)} {verb} below half of the best share at {place:,}."
    return note


def _costs(scaling: Scaling) -> Table:
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
    return Table("What the data costs before any framework has it", columns, rows, frozenset())
