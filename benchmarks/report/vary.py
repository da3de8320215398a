"""Growth of cost with sizes: the results and the page of a bench whose sizes vary,
with a line chart.

Rows of one combination of sizes took turns, and are compared as in any bench. Rows of different
sizes share no round, so the interval of a time includes what the machine did from one round to the
next.
"""

from math import exp, hypot, log

from benchmarks.measure.measurement import Measurement
from benchmarks.measure.statistics import Estimate, grouped, mean_of
from benchmarks.report import render
from benchmarks.report.bench_results import BenchResults, BenchRow
from benchmarks.report.charts import Point, lines, reach_of
from benchmarks.report.render import around, markdown_table, safe
from benchmarks.report.results import NOTHING
from benchmarks.schema import Axis
from common.text import listed

AXIS_NAMES: dict[Axis, str] = {  # names of the axes on a page
    "latent-dim": "units of a layer",
    "length": "characters in each sentence",
    "batch-size": "pairs in a batch",
}


class VaryResults(BenchResults):
    """The results of a bench whose sizes vary, in the order of the plan."""

    def __init__(self, measurement: Measurement) -> None:
        super().__init__(measurement)
        for row in self.rows:  # times that are comparable from one size to the next
            item = mean_of(self.observed.of_row(self.plan.rows.index(row.row)))
            row.step, row.epoch = item and item.times(row.items), None
        self.rows.sort(key=lambda row: self.plan.rows.index(row.row))
        # The axis of charts and curves, and the second axis or none.
        self.axis, *self.second = self.training.axes

    def curves(self) -> dict[tuple[str, tuple[int, ...]], list[BenchRow]]:
        """The rows of each backend along the first axis,
        by the backend and its sizes on the second axis."""
        measured = [row for row in self.rows if row.step]
        fixed = (tuple(row.row.sizes[axis] for axis in self.second) for row in measured)
        return grouped(
            ((row.row.backend, sizes), row) for row, sizes in zip(measured, fixed, strict=True)
        )

    @property
    def headline(self) -> str:
        """A step at the largest size as a multiple of one at the smallest,
        by backend, with intervals."""
        grown, unknown = [], []
        largest = tuple(self.training.axes[axis][-1] for axis in self.second)
        for (name, sizes), rows in self.curves().items():
            if len(rows) > 1 and rows[0].step and rows[-1].step and sizes == largest:
                growth = ratio_across(rows[-1].step, rows[0].step)
                if growth.unsure or growth.low <= 1:
                    unknown.append(name)
                else:
                    grown.append(f"{around(growth)} in {name}")
        if not grown and not unknown:
            return (
                NOTHING
                if not self.rounds
                else ("No answer yet: a curve needs three rounds of two sizes")
            )
        first, *_, last = self.training.axes[self.axis]
        grew = f"From {first:,} to {last:,} {AXIS_NAMES[self.axis]} the time of a step grows"
        sentences = (
            [f"{grew} this many times: {listed(grown)}."]
            if grown
            else [f"{grew} by an unknown factor."]
        )
        sentences += [f"More rounds are needed for {listed(unknown)}."] if unknown else []
        return self.named + " ".join(sentences)

    @property
    def missing(self) -> list[str]:
        return []


def ratio_across(left: Estimate, right: Estimate) -> Estimate:
    """`left` as a multiple of `right`: times without a common round,
    each with an interval of its own."""
    value = left.value / right.value
    reach = hypot(log(left.high / left.value), log(right.high / right.value))
    return Estimate(value, value * exp(-reach), value * exp(reach))


def values_of(results: VaryResults) -> tuple[dict[str, str], dict[str, str]]:
    """The template's values for sizes that vary; and charts by title,
    for each size on the second axis."""
    columns = [safe(AXIS_NAMES[axis]) for axis in (*results.second, results.axis)]
    names = [*dict.fromkeys(name for name, _ in results.curves())]
    cells: dict[tuple[int, ...], dict[str, str]] = {}
    for row in results.rows:
        sizes = tuple(row.row.sizes[axis] for axis in (*results.second, results.axis))
        cells.setdefault(sizes, {})[row.row.backend] = render.quantity(row.step)
    body = [
        [*(f"{size:,}" for size in sizes), *(of_sizes.get(name, render.MISSING) for name in names)]
        for sizes, of_sizes in sorted(cells.items())
    ]
    charts = {}
    by_second = grouped((sizes, (name, rows)) for (name, sizes), rows in results.curves().items())
    known = [row.step for row in results.rows if row.step]
    ends = [end for step in known for end in reach_of(step)]
    for sizes, curves in by_second.items():
        at = "".join(
            f", {size:,} {AXIS_NAMES[axis]}"
            for axis, size in zip(results.second, sizes, strict=True)
        )
        points = {
            name: [Point(row.row.sizes[results.axis], row.step) for row in rows if row.step]
            for name, rows in curves
        }
        charts[f"A step by {AXIS_NAMES[results.axis]}{at}"] = lines(points, (min(ends), max(ends)))
    answer = markdown_table([*columns, *map(safe, names)], body)
    if known:
        reach = sorted(step.half_width for step in known)
        width = dict.fromkeys(render.percent(half_width) for half_width in (reach[0], reach[-1]))
        answer += f"\n\nThe interval of a time reaches {' to '.join(width)} to either side."
    return {"answer": answer}, charts
