"""What a report says of a sweep: an axis at a time, a chart and its figures; then the data alone."""

from collections.abc import Sequence

from benchmarks.plan import BASELINE
from benchmarks.report import scaling_charts
from benchmarks.report.blocks import Block, Chart, Table, Text
from benchmarks.results import Curve, DataCost, Results
from benchmarks.scaling import growth, told
from benchmarks.wording import AXES, percent, quantity, times


def blocks(results: Results) -> list[Block]:
    """Nothing where there was no sweep."""
    if results.scaling is None:
        return []
    by_axis = {axis: results.scaling.of_axis(axis) for axis in AXES}
    charts = [
        _memory(curves) if axis == "num_samples" else _cost(curves) for axis, curves in by_axis.items() if curves
    ]
    lacking = dict.fromkeys(curve.label for curve in results.scaling.curves if not curve.ranked)
    said = [Text(f"Without a certificate of parity: {', '.join(lacking)}.")] if lacking else []
    return [*charts, *([_data(results.scaling.data)] if results.scaling.data else []), *said]


def _cost(curves: Sequence[Curve]) -> Chart:
    words = AXES[curves[0].axis]
    note = f"In brackets: the share of the machine's peak. {BASELINE} is not swept."
    key = "Both axes are logarithmic. Dashed: the same step at the machine's peak."
    title = f"What a step takes, by {words}: {_departures(curves)}"
    return Chart(curves[0].axis, title, scaling_charts.cost(curves), _table(curves), note, key)


def _departures(curves: Sequence[Curve]) -> str:
    """Where each curve, coming from the large end, has first lost half of its best share of the peak."""
    places: dict[int | None, list[str]] = {}
    for curve in curves:
        places.setdefault(curve.departs, []).append(curve.label)
    parts = [
        f"{', '.join(labels)} {'keep' if len(labels) > 1 else 'keeps'} half of the best share throughout"
        if place is None
        else f"{', '.join(labels)} under half of the best share at {place:,}"
        for place, labels in places.items()
    ]
    return "; ".join(parts)


def _memory(curves: Sequence[Curve]) -> Chart:
    grown = [growth(curve) for curve in curves]
    largest = max(max(sizes) for sizes in grown)
    first = next(size for size, factor in grown[0].items() if factor == 1)
    most = max(sizes.get(largest, 0.0) for sizes in grown)
    title = f"Training on {largest:,} pairs takes at most {times(most)} the memory of {first:,}"
    note = f"The peak of a process that trained some dozens of steps. In brackets: over that of {first:,} pairs."
    return Chart(curves[0].axis, title, scaling_charts.memory(curves), _table(curves), note)


def _table(curves: Sequence[Curve]) -> Table:
    sizes = sorted({point.value for curve in curves for point in curve.points})
    memory = curves[0].axis == "num_samples"
    rows = [
        [
            curve.label,
            *(told(curve).get(size, "") for size in sizes),
            *([] if memory else [percent(curve.best_share)]),
        ]
        for curve in curves
    ]
    columns = [AXES[curves[0].axis], *(f"{size:,}" for size in sizes), *([] if memory else ["best share"])]
    return Table("", columns, rows)


def _data(costs: Sequence[DataCost]) -> Table:
    rows = [
        [f"{cost.num_samples:,}"]
        + [
            text
            for seconds in (cost.encode_seconds, cost.epoch_seconds)
            for text in (quantity(seconds), quantity(seconds / cost.num_samples))
        ]
        for cost in costs
    ]
    columns = ("pairs", "from text to ids", "a pair", "an epoch's tensors", "a pair")
    return Table("The data alone, before any framework has it", columns, rows, frozenset())
