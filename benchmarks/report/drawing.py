"""How charts are drawn: colours, axes, bars, lines and legends. What all charts share is in templates/report.js.

- Colours that depend on the page's colour scheme are written as CSS (`currentColor`, `var(--paper)`). Vega draws an
  SVG inside the page, which takes them from the page around it, so one drawing serves light, dark and print. When a
  chart is saved, they are replaced by the colours of print.
- Bars start at zero. Values of very different sizes are drawn as points on a logarithmic axis, which has no zero that
  a bar could start at.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from math import ceil, floor, log10
from typing import Any

from backends import BASELINE
from benchmarks.report.blocks import Spec
from benchmarks.report.wording import PARTS, unit_of
from benchmarks.results.values import Row
from common.text import printable

Values = list[dict[str, Any]]  # the data of a chart: a dictionary for each point or bar

INK, PAPER, GREY = "currentColor", "var(--paper)", "#8b919a"
# Okabe and Ito's colours, which can be distinguished with every common colour blindness; INK is their black.
COLOURS = {
    BASELINE: INK,
    "keras": "#d55e00",
    "torch": "#0072b2",
    "paddle": "#009e73",
    "numpy": "#cc79a7",
}
OTHERS = ("#56b4e9", "#e69f00", "#b8a800", "#882255", "#6f63c4", "#7a4a1e")
# Colours for the parts of a bar. They were searched so that everybody can distinguish them from one another and from
# the colours of backends, with a colour blindness or without.
TINTS = ("#e9a867", "#a936e2", "#67e9a8", "#e23653", "#f19df1", "#a9e236", "#b4b9c0")
# Vega expression for the label at a tick of a logarithmic axis of seconds.
TIMES = (
    "datum.value >= 0.99 ? format(datum.value, ',.0f') + ' s' : datum.value >= 0.00099 ? "
    "format(datum.value * 1e3, '.0f') + ' ms' : format(datum.value * 1e6, '.3~g') + ' µs'"
)
SPAN = 30.0  # if the largest value is more than this many times the smallest, the axis is logarithmic
WILD = 3.0  # an interval is cut above this multiple of the largest value, and below this fraction of the smallest
TALL = 320  # height of a chart of lines, in pixels


def colours(backends: Iterable[str]) -> dict[str, str]:
    """A colour for each backend: its fixed one, or one of OTHERS, which are given out in the order of the names."""
    names = sorted(set(backends))
    others = [name for name in names if name not in COLOURS]
    found = {name: OTHERS[place % len(OTHERS)] for place, name in enumerate(others)}
    return {name: COLOURS.get(name) or found[name] for name in names}


def of_rows(rows: Sequence[Row], figures: Callable[[Row], dict[str, Any]]) -> Values:
    """The data of a chart with one bar or point for each row: how the row looks, and the figures of it.

    A row has its backend's colour, and is grey where it is not compared. It is hollow where it is as installed.
    """
    by_backend = colours(row.cell.backend for row in rows)
    return [
        {
            "label": row.label,
            "colour": by_backend[row.cell.backend] if row.compared else GREY,
            "filled": 0.12 if row.cell.lane == "default" else 1.0,
            "compared": row.compared,
        }
        | figures(row)
        for row in rows
    ]


def bars(values: Values, title: str, tooltip: Mapping[str, str], room: int = 70, at_least: float = 0.0) -> Spec:
    """Horizontal bars of `value`, starting at zero. Where the values have `low` and `high`, these are error bars.

    - `room` pixels are left at the right for the `text` at the end of a bar.
    - `tooltip` names the fields that appear under the pointer, each with its title.
    - The axis reaches to `at_least`, even if all bars are shorter.
    """
    import altair as alt

    bounded = "low" in values[0]
    values = _within(values) if bounded else values
    highest = max(value["to"] if bounded else value["value"] for value in values)
    base = alt.Chart(alt.InlineData(values=values)).encode(y=_rows_axis(values))
    x = _quantity_axis("value", title, highest, room, at_least)
    layers: list[Any] = [
        base.mark_bar(height={"band": 0.6}, strokeWidth=1.6).encode(x=x, **_filled(), tooltip=_tooltips(tooltip))
    ]
    if bounded:
        # Under each narrow mark lies a wider one in the paper's colour, so that it is visible on a bar of any colour.
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


def by_size(values: Values, title: str, tooltip: Mapping[str, str]) -> Spec:
    """Times in seconds as bars, or as points on a logarithmic axis where they are of very different sizes."""
    import altair as alt

    found = [value["value"] for value in values]
    if max(found) <= SPAN * min(found):
        unit, name = unit_of(max(found))
        values = [v | {end: v[end] / unit for end in ("value", "low", "high")} for v in values]
        return bars(values, f"{name} {title}", tooltip)
    values = _within(values)
    x = _time_axis("value", f"time {title}", [value[end] for value in values for end in ("from", "to")], room=62)
    base = alt.Chart(alt.InlineData(values=values)).encode(y=_rows_axis(values))
    rules = base.mark_rule(strokeWidth=2).encode(x="from:Q", x2="to:Q", color=alt.Color("colour:N", scale=None))
    points = base.mark_point(size=90, strokeWidth=1.8, opacity=1)
    points = points.encode(x=x, **_filled(), tooltip=_tooltips(tooltip))
    text = base.mark_text(align="left", dx=10).encode(x="to:Q", text="text:N")
    return _finished(alt.layer(rules, points, text), _height(values))


def stacked(bars: Mapping[str, Mapping[str, float]], title: str, text: Mapping[str, str], room: int = 70) -> Spec:
    """Horizontal bars that consist of parts, one after another.

    `bars` gives the sizes by the bar's label and the part's name, `text` what is written at a bar's end by its label.
    """
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
    # The parts of a step have the same colours in every chart, even if a chart lacks some of them.
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


def curves(thick: Values, thin: Values, x: str, y: str, tooltip: Mapping[str, str]) -> Spec:
    """A thick line with points for each `label`, over a thin line for each of its `seed`s; dotted where `bucketed`.

    `x` and `y` are the titles of the axes, and `tooltip` those of the fields that appear under the pointer.
    """
    import altair as alt

    axes = {
        "x": alt.X("x:Q", title=x, scale=alt.Scale(zero=True, nice=False), axis=alt.Axis(tickCount=6)),
        "y": alt.Y("y:Q", title=y, scale=alt.Scale(zero=True)),
        "color": _legend(value["backend"] for value in thick),
    }
    # The text under the chart says which lines are dotted: a second legend has no room on a telephone.
    dotted = alt.Scale(domain=[False, True], range=[[1, 0], [1, 3]])
    dashes = {"strokeDash": alt.StrokeDash("bucketed:N", scale=dotted, legend=None)}
    single = alt.Chart(alt.InlineData(values=thin)).mark_line(strokeWidth=1, opacity=0.35)
    middle = alt.Chart(alt.InlineData(values=thick)).mark_line(strokeWidth=2.6)
    dots = alt.Chart(alt.InlineData(values=thick)).mark_point(filled=True, size=26, opacity=1)
    layers = [
        single.encode(**axes, **dashes, detail=["label:N", "seed:N"]),
        middle.encode(**axes, **dashes, detail="label:N"),
        dots.encode(**axes, tooltip=_tooltips(tooltip)),
    ]
    return _finished(alt.layer(*layers), TALL)


def sizes(values: Values, x: str, y: str, tooltip: Mapping[str, str], ideal: Values | None = None) -> Spec:
    """Lines over sizes, with a point at each size. The axis of sizes is logarithmic, with a tick for each size.

    - With `ideal`, `y` is a time in seconds and its axis is logarithmic too. The ideal times are a dotted line.
    - Without, the axis of `y` starts at zero, so that an amount which stays the same looks like it.
    """
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
    layers.append(base.mark_point(filled=True, size=50, opacity=1).encode(tooltip=_tooltips(tooltip)))
    return _finished(alt.layer(*layers), TALL)


def is_cut(values: Values) -> bool:
    """Whether the interval of any of these values is so wide that only a part of it is drawn."""
    return any(value["from"] != value["low"] or value["to"] != value["high"] for value in _within(values))


def _within(values: Values) -> Values:
    """The values with `from` and `to`, the ends of that part of their interval which is drawn.

    If very wide intervals were drawn as a whole, there would be little room for the bars.
    """
    most, least = max(value["value"] for value in values), min(value["value"] for value in values)
    drawn = []
    for value in values:
        start, stop = max(value["low"], least / WILD), min(value["high"], most * WILD)
        # An end is marked only where the interval ends, and not where it is cut.
        ends = {"from seen": int(start == value["low"]), "to seen": int(stop == value["high"])}
        drawn.append(value | {"from": start, "to": stop} | ends)
    return drawn


def _filled() -> dict[str, Any]:
    """Outline and filling of a mark from its `colour` and `filled`."""
    import altair as alt

    return {
        "stroke": alt.Stroke("colour:N", scale=None),
        "fill": alt.Fill("colour:N", scale=None),
        "fillOpacity": alt.FillOpacity("filled:Q", scale=None),
    }


def _labels(values: Values) -> list[str]:
    return list(dict.fromkeys(value["label"] for value in values))


def _height(values: Values) -> int:
    """Height of a chart with one band for each row, in pixels; a band is higher where labels take two lines.

    Vega's own way, a fixed step for each band, does not work in a chart that fits the width of the page.
    """
    labels = _labels(values)
    return len(labels) * (38 if any(", " in label for label in labels) else 32)


def _rows_axis(values: Values) -> Any:
    """A vertical axis with one band for each row, in the order of the values."""
    import altair as alt

    # The parts of a label are written below one another, so that there is room for the bars on a telephone.
    middle = alt.condition("indexof(datum.label, ', ') > 0", alt.value(-7), alt.value(0))
    words = "split(datum.value, ', ')"
    axis = alt.Axis(title=None, labelExpr=words, labelLimit=145, labelOffset=middle, ticks=False, domain=False)
    return alt.Y("label:N", sort=None, axis=axis)


def _quantity_axis(field: str, title: str, highest: float, room: int, at_least: float = 0.0) -> Any:
    """An axis from zero, with `room` pixels left at the right for text, however wide the page is."""
    import altair as alt

    # A page that is hidden or being closed has a width of zero, by which nothing may be divided.
    share = f"max(width, 1) / max(width - {room}, width / 3, 0.3)"
    end = alt.ExprRef(f"max({at_least}, {highest} * {share})")
    axis = alt.Axis(tickCount=5, grid=True, labelFlush=True, labelBound=True)
    return alt.X(f"{field}:Q", title=title, scale=alt.Scale(domainMin=0, domainMax=end, nice=False), axis=axis)


def _time_axis(field: str, title: str, seconds: Sequence[float], room: int) -> Any:
    """A logarithmic axis of seconds with a tick at each power of ten, and `room` pixels at the right for text."""
    import altair as alt

    first, last = floor(log10(min(seconds))), log10(max(seconds))
    powers = [10.0**power for power in range(first, ceil(last) + 4)]
    axis = alt.Axis(values=powers, labelExpr=TIMES, grid=True, labelOverlap="greedy", labelSeparation=8)
    share = f"max(width, 1) / max(width - {room}, width / 3, 0.3)"
    end = alt.ExprRef(f"pow(10, {first} + {last - first} * {share})")
    scale = alt.Scale(type="log", domainMin=10.0**first, domainMax=end, nice=False)
    return alt.X(f"{field}:Q", title=title, scale=scale, axis=axis)


def _columns(narrow: int) -> Any:
    """Number of columns of a legend: `narrow` ones on a telephone; elsewhere all entries stand in one line."""
    import altair as alt

    return alt.ExprRef(f"width < 480 ? {narrow} : 9")


def _legend(backends: Iterable[str]) -> Any:
    """The colours of backends, with a legend above the title of the vertical axis."""
    import altair as alt

    found = colours(backends)
    scale = alt.Scale(domain=list(found), range=list(found.values()))
    lines: dict[str, Any] = {"symbolType": "stroke", "symbolStrokeWidth": 3, "symbolOpacity": 1}
    legend = alt.Legend(title=None, orient="top", offset=30, columns=_columns(3), **lines)
    return alt.Color("backend:N", scale=scale, legend=legend)


def _tooltips(fields: Mapping[str, str]) -> list[Any]:
    """What appears under the pointer: the row's label, then these fields, each with its title.

    Vega writes the titles into an expression and escapes only their quotes, so they may hold neither a backslash nor
    the end of a line.
    """
    import altair as alt

    titles = {
        field: printable(title).replace("\\", "/") for field, title in ({"label": "row"} | dict(fields)).items()
    }
    return [alt.Tooltip(f"{field}:N", title=title) for field, title in titles.items()]


def _finished(chart: Any, height: int) -> Spec:
    """The specification of a chart that is as wide as the page allows."""
    made: Spec = chart.properties(width="container", height=height).to_dict()
    del made["config"]  # Altair's; the page's script sets fonts and lines
    return made
