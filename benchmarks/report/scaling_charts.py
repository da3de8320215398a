"""The charts of a sweep, as Vega-Lite: one an axis, a line a backend, a point a size; the look is drawing.py's."""

from collections.abc import Sequence
from math import ceil, floor, log10
from typing import Any

from benchmarks.report.blocks import Spec
from benchmarks.report.drawing import INK, TIMES, Values, colour_legend, finished, tooltips
from benchmarks.results import Curve
from benchmarks.wording import AXES, megabytes, percent, quantity

HEIGHT = 320
ROOM = 1.25  # that an axis goes on beyond its outermost points, as a factor


def cost(curves: Sequence[Curve]) -> Spec:
    """Seconds a step against the size, both logarithmic; dashed, the same step at the machine's peak."""
    import altair as alt

    values: Values = [
        {"name": curve.name, "label": curve.label, "size": p.value, "seconds": p.seconds}
        | {"a step": quantity(p.seconds), "share of the peak": percent(p.share)}
        for curve in curves
        for p in curve.points
    ]
    ideal = {p.value: p.ideal_seconds for curve in curves for p in curve.points if p.ideal_seconds}
    ends = [value["seconds"] for value in values] + list(ideal.values())
    powers = [10.0**power for power in range(floor(log10(min(ends))), ceil(log10(max(ends))) + 1)]
    scale = alt.Scale(type="log", domain=[min(ends) / ROOM, max(ends) * ROOM], nice=False)
    axis = alt.Axis(values=powers, labelExpr=TIMES, grid=True)
    y = alt.Y("seconds:Q", title="time a training step", scale=scale, axis=axis)
    layers = _lines(curves, values, y, ("label", "size", "a step", "share of the peak"))
    if ideal:
        peak: Values = [{"size": size, "seconds": seconds} for size, seconds in ideal.items()]
        line = alt.Chart(alt.InlineData(values=peak)).mark_line(stroke=INK, strokeDash=[2, 4], strokeWidth=1.6)
        layers.insert(0, line.encode(x=_sizes(curves), y=y))
    return finished(alt.layer(*layers), HEIGHT)


def memory(curves: Sequence[Curve]) -> Spec:
    """The peak of memory against the corpus: from zero, since what stays should look so."""
    import altair as alt

    values: Values = [
        {"name": curve.name, "label": curve.label, "size": p.value, "MB": p.peak_memory / 1e6}
        | {"peak": megabytes(p.peak_memory)}
        for curve in curves
        for p in curve.points
    ]
    y = alt.Y("MB:Q", title="MB resident at the peak", scale=alt.Scale(zero=True))
    return finished(alt.layer(*_lines(curves, values, y, ("label", "size", "peak"))), HEIGHT)


def _lines(curves: Sequence[Curve], values: Values, y: Any, told: Sequence[str]) -> list[Any]:
    import altair as alt

    base = alt.Chart(alt.InlineData(values=values)).encode(x=_sizes(curves), y=y, color=colour_legend(curves))
    line = base.mark_line(strokeWidth=2).encode(detail="label:N")
    return [line, base.mark_point(filled=True, size=50, opacity=1).encode(tooltip=tooltips(told))]


def _sizes(curves: Sequence[Curve]) -> Any:
    """Logarithmic, with a tick at each size that was measured."""
    import altair as alt

    sizes = sorted({p.value for curve in curves for p in curve.points})
    scale = alt.Scale(type="log", domain=[sizes[0] / ROOM, sizes[-1] * ROOM], nice=False)
    axis = alt.Axis(values=sizes, format=",d", labelOverlap="greedy", labelSeparation=8)
    return alt.X("size:Q", title=AXES[curves[0].axis], scale=scale, axis=axis)
