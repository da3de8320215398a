"""How charts are drawn: colours, axes, bars, legends, and the look that all have.

Colours that follow the page's scheme are written as CSS (`currentColor`, `var(--paper)`), which the SVG that Vega
draws takes from the page around it: light, dark and paper need one drawing. Lengths of bars start at zero; what
spans powers of ten is drawn as points on a logarithmic axis, since a bar has no length there.
"""

from collections.abc import Iterable, Sequence
from math import ceil, floor, log10
from typing import Any

from benchmarks.intervals import Estimate
from benchmarks.plan import BASELINE, BATCHES, LANES
from benchmarks.report.blocks import Spec
from benchmarks.results import Curve, Row
from benchmarks.wording import unit_of

Values = list[dict[str, Any]]

INK, PAPER, GREY = "currentColor", "var(--paper)", "#8b919a"
# Okabe and Ito's colours, which are told apart with every common colour blindness; ink stands for their black.
COLOURS = {
    BASELINE: INK,
    "keras": "#d55e00",
    "torch": "#0072b2",
    "paddle": "#009e73",
    "numpy": "#cc79a7",
}
OTHERS = ("#56b4e9", "#e69f00", "#b8a800", "#882255", "#44aa99", "#6f63c4")
FONT = 'system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", "Liberation Sans", Arial, sans-serif'
# What stands at a tick of a logarithmic axis of seconds.
TIMES = (
    "datum.value >= 0.99 ? format(datum.value, ',.0f') + ' s' : datum.value >= 0.00099 ? "
    "format(datum.value * 1e3, '.0f') + ' ms' : format(datum.value * 1e6, '.3~g') + ' µs'"
)
SPAN = 30.0  # largest over smallest value above which an axis is logarithmic
WILD = 3.0  # an interval is drawn as far as this multiple of the largest value


def colours(rows: Iterable[Row | Curve]) -> dict[str, str]:
    """A fixed colour a backend; those without one share the rest, in the order of their names."""
    names = sorted({row.name for row in rows})
    others = [name for name in names if name not in COLOURS]
    found = {name: OTHERS[place % len(OTHERS)] for place, name in enumerate(others)}
    return {name: COLOURS.get(name) or found[name] for name in names}


def look(row: Row, rows: Sequence[Row]) -> dict[str, Any]:
    """How a row is drawn: its backend's colour, hollow in the lane `default`, grey where it is not ranked."""
    colour = colours(rows)[row.name] if row.ranked else GREY
    fill = f"color-mix(in srgb, {colour} 18%, {PAPER})" if row.lane == "default" else colour
    lane = LANES.get(row.lane, row.lane)
    told = {"label": row.label, "name": row.name, "lane": lane, "ranked": row.ranked, "batches": row.batches}
    return told | {"colour": colour, "fill": fill}


def in_order(rows: Iterable[Row]) -> list[Row]:
    """Fastest first, those that are not ranked after the others: the order that results come in, held here too."""
    return sorted(rows, key=lambda row: not row.ranked)


def spans(values: Iterable[float]) -> bool:
    """Whether they are of so different sizes that an axis should be logarithmic."""
    found = [value for value in values if value > 0]
    return bool(found) and max(found) / min(found) > SPAN


def _highest(values: Values) -> float:
    return max(float(value["high"]) for value in values)


def bars(values: Values, title: str, told: Sequence[str], room: int = 70, at_least: float = 0.0) -> Spec:
    """Horizontal bars from zero; `low` and `high`, where values have them, are drawn as error bars."""
    import altair as alt

    bounded = "low" in values[0]
    values = _within(values) if bounded else values
    highest = max(value["to"] if bounded else value["value"] for value in values)
    base = alt.Chart(alt.InlineData(values=values)).encode(y=rows_axis(values))
    x = quantity_axis("value", title, highest, room, at_least)
    layers: list[Any] = [
        base.mark_bar(height={"band": 0.6}, strokeWidth=1.4).encode(
            x=x,
            fill=alt.Fill("fill:N", scale=None),
            stroke=alt.Stroke("colour:N", scale=None),
            tooltip=tooltips(("label", *told)),
        )
    ]
    if bounded:
        # Wider marks in the paper's colour under the narrow ones, so that they are seen on a bar of any colour.
        for colour, width, tall in ((PAPER, 4, 13), (INK, 1.5, 10)):
            layers.append(base.mark_rule(stroke=colour, strokeWidth=width).encode(x="from:Q", x2="to:Q"))
            layers += [
                base.mark_tick(color=colour, thickness=width, height=tall).encode(
                    x=f"{bound}:Q", opacity=alt.Opacity(f"{bound} seen:Q", scale=None)
                )
                for bound in ("from", "to")
            ]
    layers.append(base.mark_text(align="left", dx=7).encode(x="to:Q" if bounded else "value:Q", text="text:N"))
    return finished(alt.layer(*layers), height(values))


def stacked(values: Values, title: str, told: Sequence[str], room: int) -> Spec:
    """Horizontal bars of phases, each from `low` to `high`; the last of what is told stands at the end of a bar."""
    import altair as alt

    phases = list(dict.fromkeys(value["phase"] for value in values))
    base = alt.Chart(alt.InlineData(values=values)).encode(y=rows_axis(values))
    bars = base.mark_bar(height={"band": 0.6}, stroke=PAPER, strokeWidth=0.8).encode(
        x=quantity_axis("low", title, _highest(values), room),
        x2="high:Q",
        color=_tints(phases),
        tooltip=tooltips(told),
    )
    totals = alt.Chart(alt.InlineData(values=[value for value in values if value["phase"] == phases[-1]]))
    text = totals.mark_text(align="left", dx=6).encode(x="high:Q", y=rows_axis(values), text=f"{told[-1]}:N")
    return finished(alt.layer(bars, text), height(values))


def by_size(values: Values, title: str, told: Sequence[str]) -> Spec:
    """Bars, or points on a logarithmic axis where values are of very different sizes. In seconds."""
    import altair as alt

    if not spans(value["value"] for value in values):
        unit, name = unit_of(max(value["value"] for value in values))
        values = [v | {end: v[end] / unit for end in ("value", "low", "high")} for v in values]
        return bars(values, f"{name} {title}", told)
    values = _within(values)
    seconds = [value[end] for value in values for end in ("from", "to")]
    x = time_axis("value", f"time {title}; left is faster", seconds, room=62)
    base = alt.Chart(alt.InlineData(values=values)).encode(y=rows_axis(values))
    rules = base.mark_rule(strokeWidth=2).encode(x="from:Q", x2="to:Q", color=alt.Color("colour:N", scale=None))
    points = base.mark_point(size=90, strokeWidth=1.8, opacity=1).encode(
        x=x,
        stroke=alt.Stroke("colour:N", scale=None),
        fill=alt.Fill("fill:N", scale=None),
        tooltip=tooltips(("label", *told)),
    )
    text = base.mark_text(align="left", dx=10).encode(x="to:Q", text="text:N")
    return finished(alt.layer(rules, points, text), height(values))


def cut_note(estimates: Sequence[Estimate]) -> str:
    """What is said where one of these intervals is drawn only in part; else nothing."""
    most, least = max(found.value for found in estimates), min(found.value for found in estimates)
    if any(found.high > most * WILD or found.low < least / WILD for found in estimates):
        return "A very wide interval is drawn in part; the figures have it whole."
    return ""


def _within(values: Values) -> Values:
    """With the part of each interval that is drawn, `from` and `to`: a wild one would press all others together."""
    most, least = max(value["value"] for value in values), min(value["value"] for value in values)
    drawn = []
    for value in values:
        start, stop = max(value["low"], least / WILD), min(value["high"], most * WILD)
        # A whisker's end is not seen where it is cut.
        ends = {"from seen": int(start == value["low"]), "to seen": int(stop == value["high"])}
        drawn.append(value | {"from": start, "to": stop} | ends)
    return drawn


def _labels(rows: Sequence[Any]) -> list[str]:
    return list(dict.fromkeys(row.label if isinstance(row, Row) else row["label"] for row in rows))


def height(rows: Sequence[Any]) -> int:
    """Of a chart with a band a row: more where a label takes two lines. A height by steps would not fit a page."""
    labels = _labels(rows)
    return len(labels) * (38 if any(", " in label for label in labels) else 32)


def rows_axis(rows: Sequence[Any]) -> Any:
    """A band a row, in their order."""
    import altair as alt

    # A label's parts stand under one another, so that a telephone has room for the bars.
    middle = alt.condition("indexof(datum.label, ', ') > 0", alt.value(-7), alt.value(0))
    words = "split(datum.value, ', ')"
    axis = alt.Axis(title=None, labelExpr=words, labelLimit=132, labelOffset=middle, ticks=False, domain=False)
    return alt.Y("label:N", sort=_labels(rows), axis=axis)


def quantity_axis(field: str, title: str, highest: float, room: int, at_least: float = 0.0) -> Any:
    """From zero, with `room` pixels at the right for what is written there, however wide the page is."""
    import altair as alt

    # A page that is hidden or being closed has no width.
    share = f"max(width, 1) / max(width - {room}, width / 3, 0.3)"
    end = alt.ExprRef(f"max({at_least}, {highest} * {share})")
    axis = alt.Axis(tickCount=5, grid=True, labelFlush=True)
    return alt.X(f"{field}:Q", title=title, scale=alt.Scale(domainMin=0, domainMax=end, nice=False), axis=axis)


def time_axis(field: str, title: str, seconds: Sequence[float], room: int) -> Any:
    """Logarithmic, from microseconds to seconds, a tick a power of ten; `room` pixels are left at the right."""
    import altair as alt

    first, last = floor(log10(min(seconds))), log10(max(seconds))
    powers = [10.0**power for power in range(first, ceil(last) + 4)]
    axis = alt.Axis(values=powers, labelExpr=TIMES, grid=True, labelOverlap="greedy", labelSeparation=8)
    share = f"max(width, 1) / max(width - {room}, width / 3, 0.3)"
    end = alt.ExprRef(f"pow(10, {first} + {last - first} * {share})")
    scale = alt.Scale(type="log", domainMin=10.0**first, domainMax=end, nice=False)
    return alt.X(f"{field}:Q", title=title, scale=scale, axis=axis)


def _columns(narrow: int) -> Any:
    """Of a legend: on a telephone so many, elsewhere all in a line."""
    import altair as alt

    return alt.ExprRef(f"width < 480 ? {narrow} : 9")


def _tints(parts: Sequence[str]) -> Any:
    """From light to dark, as far apart as their number lets them be: colours belong to backends."""
    import altair as alt

    shares = [round(20 + 74 * place / max(1, len(parts) - 1)) for place in range(len(parts))]
    tints = [f"color-mix(in srgb, {INK} {share}%, {PAPER})" for share in shares]
    legend = alt.Legend(title=None, orient="top", columns=_columns(2 if len(parts) <= 4 else 1), symbolType="square")
    return alt.Color("phase:N", sort=list(parts), scale=alt.Scale(domain=list(parts), range=tints), legend=legend)


def colour_legend(rows: Sequence[Row | Curve]) -> Any:
    """Above the vertical axis's title, and as strong as the thick lines."""
    import altair as alt

    found = colours(rows)
    scale = alt.Scale(domain=list(found), range=list(found.values()))
    lines: dict[str, Any] = {"symbolType": "stroke", "symbolStrokeWidth": 3, "symbolOpacity": 1}
    legend = alt.Legend(title=None, orient="top", offset=30, columns=_columns(3), **lines)
    return alt.Color("name:N", scale=scale, legend=legend)


def dotted() -> Any:
    """Bucketed rows are dotted, which words beside the chart say; a legend of them has no room on a telephone."""
    import altair as alt

    return alt.StrokeDash("batches:N", scale=alt.Scale(domain=BATCHES, range=[[1, 0], [1, 3]]), legend=None)


def tooltips(fields: Iterable[str]) -> list[Any]:
    """Of fields that hold words, each under its name or what the reader calls it."""
    import altair as alt

    titles = {"label": "backend", "text": "share"}
    return [alt.Tooltip(f"{field}:N", title=titles.get(field, field)) for field in fields]


def finished(chart: Any, height: Any) -> Spec:
    """A chart as wide as the page lets it be, in the page's own colours."""
    made: Spec = chart.properties(width="container", height=height).to_dict()
    made["config"] = {
        "background": "transparent",
        "font": FONT,
        "view": {"stroke": None},
        "axis": {
            "labelColor": INK,
            "titleColor": INK,
            "gridColor": INK,
            "gridOpacity": 0.12,
            "domainColor": INK,
            "domainOpacity": 0.35,
            "tickColor": INK,
            "tickOpacity": 0.35,
            "labelFontSize": 12,
            "titleFontSize": 12,
            "titleFontWeight": "normal",
            "titlePadding": 10,
            "labelPadding": 6,
        },
        "axisY": {"titleAngle": 0, "titleAlign": "left", "titleAnchor": "end", "titleY": -12, "titleX": 0},
        "legend": {"labelColor": INK, "labelFontSize": 12, "symbolSize": 130, "rowPadding": 5, "columnPadding": 14},
        "text": {"color": INK, "fontSize": 12},
        "rule": {"color": INK},
    }
    return made
