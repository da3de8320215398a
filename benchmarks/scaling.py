"""What a sweep says: how cost grows along each axis, and where it departs from what the machine could do."""

from collections.abc import Callable, Sequence
from statistics import median

from benchmarks.plan import Cell
from benchmarks.recording import Record, Recording
from benchmarks.results import Curve, DataCost, Point, Scaling
from benchmarks.roofline import Sizes, step_flop
from benchmarks.wording import megabytes, percent, quantity, times
from common.config import DataConfig

DEPARTED = 0.5  # of a curve's best share


def scaling(
    recording: Recording, sizes: Sizes, peak: float | None, certified: Callable[[Cell, str], bool]
) -> Scaling | None:
    """The curves of a recording, None where there was no sweep.

    `sizes` are those of the axes that stay; `peak` is the machine's, in operations a second; `certified` tells
    whether a version of a cell has passed parity.
    """
    curves: dict[tuple[str, Cell], list[Record]] = {}
    for record in recording.of_kind("sweep"):
        curves.setdefault((record["axis"], Cell.of(record)), []).append(record)
    made = [_curve(axis, cell, records, sizes, peak, certified) for (axis, cell), records in curves.items()]
    data = [
        DataCost(record["num_samples"], median(record["encode_seconds"]), median(record["epoch_seconds"]))
        for record in recording.of_kind("data")
    ]
    return Scaling(made, sorted(data, key=lambda cost: cost.num_samples)) if made or data else None


def _curve(
    axis: str,
    cell: Cell,
    records: Sequence[Record],
    sizes: Sizes,
    peak: float | None,
    certified: Callable[[Cell, str], bool],
) -> Curve:
    points = sorted((_point(record, sizes, peak) for record in records), key=lambda point: point.value)
    ranked = all(certified(cell, record["facts"]["version"]) for record in records)
    shares = [point.share for point in points if point.share is not None]
    best = max(shares, default=None)
    return Curve(axis, cell.backend, cell.label, ranked, points, best, _departs(points, best))


def _point(record: Record, sizes: Sizes, peak: float | None) -> Point:
    seconds = median(record["step_seconds"])
    flop = step_flop(sizes.at(record["axis"], record["value"]).multiplied(record["facts"]["settings"]))
    ideal = flop / peak if peak else None
    return Point(record["value"], seconds, flop, ideal, ideal / seconds if ideal else None, record["peak"])


def _departs(points: Sequence[Point], best: float | None) -> int | None:
    """The first value, coming from the large end, where less than half of the best share is left."""
    if best is None:
        return None
    low = (p.value for p in reversed(points) if p.share is not None and p.share < DEPARTED * best)
    return next(low, None)


def growth(curve: Curve) -> dict[int, float]:
    """By value, the peak of memory over that at the example's 10,000 pairs, or at the fewest where these are not."""
    peaks = {point.value: point.peak_memory for point in curve.points}
    first = peaks.get(DataConfig.num_samples, curve.points[0].peak_memory)
    return {value: peak / first for value, peak in peaks.items()}


def told(curve: Curve) -> dict[int, str]:
    """By value, what a table says: the step's time and its share of the peak, or the memory and its growth."""
    if curve.axis == "num_samples":
        return {p.value: f"{megabytes(p.peak_memory)} ({times(growth(curve)[p.value])})" for p in curve.points}
    return {p.value: f"{quantity(p.seconds)} ({percent(p.share)})" for p in curve.points}
