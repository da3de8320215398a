"""How charts are drawn: colours, axes, bars, lines, legends. The look that all have is in templates/report.js.

Colours that follow the page's scheme are written as CSS (`currentColor`, `var(--paper)`), which the SVG that Vega
draws takes from the page around it: light, dark and paper need one drawing. Whoever saves a chart gets them replaced
by those of paper. Lengths of bars start at zero; what spans powers of ten is drawn as points on a logarithmic axis,
since a bar has no length there.
"""

from collections.abc import Iterable, Mapping, Sequence
from math import ceil, floor, log10
from typing import Any

from backends import BASELINE
from benchmarks.report.blocks import Spec
from benchmarks.report.wording import PARTS, unit_of
from benchmarks.results.values import Row

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
OTHERS = ("#56b4e9", "#e69f00", "#b8a800", "#882255", "#6f63c4", "#7a4a1e")
# Of parts of a bar: searched so that they are told apart, from one another and from those of backends, by everybody.
TINTS = ("#e9a867", "#a936e2", "#67e9a8", "#e23653", "#f19df1", "#a9e236", "#b4b9c0")
# What stands at a tick of a logarithmic axis of seconds.
TIMES = (
    "datum.value >= 0.99 ? format(datum.value, ',.0f') + ' s' : datum.value >= 0.00099 ? "
    "format(datum.value * 1e3, '.0f') + ' ms' : format(datum.value * 1e6, '.3~g') + ' µs'"
)
SPAN = 30.0  # largest over smallest value above which an axis is logarithmic
WILD = 3.0  # an interval is drawn as far as this multiple of the largest value
TALL = 320  # pixels, of a chart of lines


def colours(backends: Iterable[str]) -> dict[str, str]:
    """A fixed colour a backend; those without one share the rest, in the order of their names."""
    names = sorted(set(backends))
    others = [name for name in names if name not in COLOURS]
    found = {name: OTHERS[place % len(OTHERS)] for place, name in enumerate(others)}
    return {name: COLOURS.get(name) or found[name] for name in names}


def look(row: Row, rows: Iterable[Row]) -> dict[str, Any]:
    """How a row is drawn: its backend's colour, hollow where it is as installed, grey where it is not compared."""
    colour = colours(other.cell.backend for other in rows)[row.cell.backend] if row.compared else GREY
    hollow = 0.12 if row.cell.lane == "default" else 1.0
    return {"label": row.label, "colour": colour, "filled": hollow, "compared": row.compared}


def bars(values: Values, title: str, told: Mapping[str, str], room: int = 70, at_least: float = 0.0) -> Spec:
    """Horizontal bars from zero; `low` and `high`, where values have them, are drawn as error bars.

    `room` pixels are left at the right for the text at a bar's end; a pointer shows the fields of `told`, by titles.
    """
    import altair as alt

    bounded = "low" in values[0]
    values = _within(values) if bounded else values
    highest = max(value["to"] if bounded else value["value"] for value in values)
    base = alt.Chart(alt.InlineData(values=values)).encode(y=_rows_axis(values))
    x = _quantity_axis("value", title, highest, room, at_least)
    layers: list[Any] = [
        base.mark_bar(height={"band": 0.6}, strokeWidth=1.6).encode(x=x, **_filled(), tooltip=_tooltips(told))
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
    return _finished(alt.layer(*layers), _height(values))


def by_size(values: Values, title: str, told: Mapping[str, str]) -> Spec:
    """Bars of seconds, or points on a logarithmic axis where they are of very different sizes."""
    import altair as alt

    found = [value["value"] for value in values]
    if max(found) <= SPAN * min(found):
        unit, name = unit_of(max(found))
        values = [v | {end: v[end] / unit for end in ("value", "low", "high")} for v in values]
        return bars(values, f"{name} {title}", told)
    values = _within(values)
    x = _time_axis("value", f"time {title}", [value[end] for value in values for end in ("from", "to")], room=62)
    base = alt.Chart(alt.InlineData(values=values)).encode(y=_rows_axis(values))
    rules = base.mark_rule(strokeWidth=2).encode(x="from:Q", x2="to:Q", color=alt.Color("colour:N", scale=None))
    points = base.mark_point(size=90, strokeWidth=1.8, opacity=1).encode(x=x, **_filled(), tooltip=_tooltips(told))
    text = base.mark_text(align="left", dx=10).encode(x="to:Q", text="text:N")
    return _finished(alt.layer(rules, points, text), _height(values))


def stacked(bars: Mapping[str, Mapping[str, float]], title: str, text: Mapping[str, str], room: int = 70) -> Spec:
    """Horizontal bars, each of parts on top of one another, by label and part; `text` stands at a bar's end."""
    import altair as alt

    values: Values = []
    for label, parts in bars.items():
        begin, total = 0.0, sum(parts.values())
        for part, size in parts.items():
            share = f"{100 * size / total if total else 0:.1f} %"
            values.append({"label": label, "part": part, "low": begin, "high": begin + size, "share": share})
            begin += size
    ends: Values = [
        {"label": label, "high": sum(parts.values()), "text": text[label]} for label, parts in bars.items()
    ]
    names = list(dict.fromkeys(value["part"] for value in values))
    # The parts of a step keep their colours, whichever of them a chart has.
    tints = [TINTS[(list(PARTS.values()) if name in PARTS.values() else names).index(name)] for name in names]
    legend = alt.Legend(title=None, orient="top", columns=_columns(1), symbolType="square", labelLimit=230)
    colour = alt.Color("part:N", sort=names, scale=alt.Scale(domain=names, range=tints), legend=legend)
    x = _quantity_axis("low", title, max(value["high"] for value in values), room)
    base = alt.Chart(alt.InlineData(values=values)).encode(y=_rows_axis(values))
    drawn = base.mark_bar(height={"band": 0.6}, stroke=PAPER, strokeWidth=0.5).encode(
        x=x, x2="high:Q", color=colour, tooltip=_tooltips({"part": "part", "share": "share"})
    )
    totals = alt.Chart(alt.InlineData(values=ends)).mark_text(align="left", dx=6)
    totals = totals.encode(x="high:Q", y=_rows_axis(values), text="text:N")
    return _finished(alt.layer(drawn, totals), _height(values))


def curves(thick: Values, thin: Values, x: str, y: str, told: Mapping[str, str]) -> Spec:
    """Lines with points by `backend` and `label` over thin ones for each `seed`, dotted where rows are bucketed."""
    import altair as alt

    axes = {
        "x": alt.X("x:Q", title=x, scale=alt.Scale(zero=True, nice=False), axis=alt.Axis(tickCount=6)),
        "y": alt.Y("y:Q", title=y, scale=alt.Scale(zero=True)),
        "color": _legend(value["backend"] for value in thick),
    }
    # Which are dotted is said in words beside the chart: a legend of that has no room on a telephone.
    dotted = alt.Scale(domain=[False, True], range=[[1, 0], [1, 3]])
    dashes = {"strokeDash": alt.StrokeDash("bucketed:N", scale=dotted, legend=None)}
    single = alt.Chart(alt.InlineData(values=thin)).mark_line(strokeWidth=1, opacity=0.35)
    middle = alt.Chart(alt.InlineData(values=thick)).mark_line(strokeWidth=2.6)
    dots = alt.Chart(alt.InlineData(values=thick)).mark_point(filled=True, size=26, opacity=1)
    layers = [
        single.encode(**axes, **dashes, detail=["label:N", "seed:N"]),
        middle.encode(**axes, **dashes, detail="label:N"),
        dots.encode(**axes, tooltip=_tooltips(told)),
    ]
    return _finished(alt.layer(*layers), TALL)


def sizes(values: Values, x: str, y: str, told: Mapping[str, str], ideal: Values | None = None) -> Spec:
    """Lines with a point a size, sizes on a logarithmic axis with a tick each: times of steps on one too where there
    are `ideal` ones, which are dotted; else amounts from zero, since what stays should look so."""
    import altair as alt

    found = sorted({value["x"] for value in values})
    scale = alt.Scale(type="log", domain=[found[0] / 1.25, found[-1] * 1.25], nice=False)
    axis = alt.Axis(values=found, format=",d", labelOverlap="greedy", labelSeparation=8)
    places = alt.X("x:Q", title=x, scale=scale, axis=axis)
    heights = alt.Y("y:Q", title=y, scale=alt.Scale(zero=True))
    layers: list[Any] = []
    if ideal:
        ends = [value["y"] for value in [*values, *ideal]]
        powers = [10.0**power for power in range(floor(log10(min(ends))), ceil(log10(max(ends))) + 1)]
        scale = alt.Scale(type="log", domain=[min(ends) / 1.25, max(ends) * 1.25], nice=False)
        heights = alt.Y("y:Q", title=y, scale=scale, axis=alt.Axis(values=powers, labelExpr=TIMES, grid=True))
        line = alt.Chart(alt.InlineData(values=ideal)).mark_line(stroke=INK, strokeDash=[2, 4], strokeWidth=1.6)
        layers.append(line.encode(x=places, y=heights))
    base = alt.Chart(alt.InlineData(values=values))
    base = base.encode(x=places, y=heights, color=_legend(value["backend"] for value in values))
    layers.append(base.mark_line(strokeWidth=2).encode(detail="label:N"))
    layers.append(base.mark_point(filled=True, size=50, opacity=1).encode(tooltip=_tooltips(told)))
    return _finished(alt.layer(*layers), TALL)


def is_cut(values: Values) -> bool:
    """Whether the interval of one of these is drawn only in part."""
    return any(value["from"] != value["low"] or value["to"] != value["high"] for value in _within(values))


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


def _filled() -> dict[str, Any]:
    import altair as alt

    return {
        "stroke": alt.Stroke("colour:N", scale=None),
        "fill": alt.Fill("colour:N", scale=None),
        "fillOpacity": alt.FillOpacity("filled:Q", scale=None),
    }


def _labels(values: Values) -> list[str]:
    return list(dict.fromkeys(value["label"] for value in values))


def _height(values: Values) -> int:
    """Of a chart with a band a row: more where a label takes two lines. A height by steps would not fit a page."""
    labels = _labels(values)
    return len(labels) * (38 if any(", " in label for label in labels) else 32)


def _rows_axis(values: Values) -> Any:
    """A band a row, in their order."""
    import altair as alt

    # A label's parts stand under one another, so that a telephone has room for the bars.
    middle = alt.condition("indexof(datum.label, ', ') > 0", alt.value(-7), alt.value(0))
    words = "split(datum.value, ', ')"
    axis = alt.Axis(title=None, labelExpr=words, labelLimit=145, labelOffset=middle, ticks=False, domain=False)
    return alt.Y("label:N", sort=None, axis=axis)


def _quantity_axis(field: str, title: str, highest: float, room: int, at_least: float = 0.0) -> Any:
    """From zero, with `room` pixels at the right for what is written there, however wide the page is."""
    import altair as alt

    # A page that is hidden or being closed has no width.
    share = f"max(width, 1) / max(width - {room}, width / 3, 0.3)"
    end = alt.ExprRef(f"max({at_least}, {highest} * {share})")
    axis = alt.Axis(tickCount=5, grid=True, labelFlush=True, labelBound=True)
    return alt.X(f"{field}:Q", title=title, scale=alt.Scale(domainMin=0, domainMax=end, nice=False), axis=axis)


def _time_axis(field: str, title: str, seconds: Sequence[float], room: int) -> Any:
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


def _legend(backends: Iterable[str]) -> Any:
    """Above the vertical axis's title, and as strong as the thick lines."""
    import altair as alt

    found = colours(backends)
    scale = alt.Scale(domain=list(found), range=list(found.values()))
    lines: dict[str, Any] = {"symbolType": "stroke", "symbolStrokeWidth": 3, "symbolOpacity": 1}
    legend = alt.Legend(title=None, orient="top", offset=30, columns=_columns(3), **lines)
    return alt.Color("backend:N", scale=scale, legend=legend)


def _tooltips(fields: Mapping[str, str]) -> list[Any]:
    """Of fields that hold words, each with its title; the row's first."""
    import altair as alt

    return [alt.Tooltip(f"{field}:N", title=title) for field, title in ({"label": "row"} | dict(fields)).items()]


def _finished(chart: Any, height: int) -> Spec:
    """A chart as wide as the page lets it be; fonts and lines are those of the page's script."""
    made: Spec = chart.properties(width="container", height=height).to_dict()
    del made["config"]  # Altair's own
    return made
