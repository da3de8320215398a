"""The report's charts, as Vega-Lite: functions of results, each None where nothing was measured that it could show.

Colours that follow the page's scheme are written as CSS (`currentColor`, `var(--paper)`), which the SVG that Vega
draws takes from the page around it: light, dark and paper need one drawing. Lengths of bars start at zero; what
spans powers of ten is drawn as points on a logarithmic axis, since a bar has no length there.
"""

from collections.abc import Iterable, Mapping, Sequence
from math import ceil, floor, isfinite, log10
from statistics import median
from typing import Any

from benchmarks.intervals import Estimate
from benchmarks.plan import BASELINE, BATCHES
from benchmarks.results import Curve, Results, Row, main_lane
from benchmarks.wording import digits, interval, percent, plain, quantity, times, unit_of

Spec = dict[str, Any]
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
# Phases of a start. Parts of a bar are told apart by how dark they are: colours belong to backends.
PHASES = {"process": "process and NumPy", "import": "import", "build": "build the model", "first_step": "first step"}
# What common.interface.Part calls them.
PARTS = {
    "LSTM": "LSTM in one kernel",
    "products": "matrix products",
    "gates": "gates and other operators",
    "optimizer": "optimizer",
    "data": "making tensors",
    "Python": "Python and waiting",
    "other": "other",
}
# What stands at a tick of a logarithmic axis of seconds.
TIMES = (
    "datum.value >= 0.99 ? format(datum.value, ',.0f') + ' s' : datum.value >= 0.00099 ? "
    "format(datum.value * 1e3, '.0f') + ' ms' : format(datum.value * 1e6, '.3~g') + ' µs'"
)
SPAN = 30.0  # largest over smallest value above which an axis is logarithmic
WILD = 3.0  # an interval is drawn as far as this multiple of the largest value
EPOCHS_SHOWN = 10  # of training, at most, in the chart of break-even points


def colours(rows: Iterable[Row | Curve]) -> dict[str, str]:
    """A fixed colour a backend; those without one share the rest, in the order of their names."""
    names = sorted({row.name for row in rows})
    others = [name for name in names if name not in COLOURS]
    found = {name: OTHERS[place % len(OTHERS)] for place, name in enumerate(others)}
    return {name: COLOURS.get(name) or found[name] for name in names}


def speed(rows: Sequence[Row]) -> Spec | None:
    """Seconds an epoch, fastest first, with intervals; the ratio to the baseline stands at each bar."""
    values: Values = []
    for row in _in_order(rows):
        if row.step is None:
            continue
        seconds = row.train_seconds_per_epoch
        low, high = (bound * row.steps_an_epoch for bound in (row.step.low, row.step.high))
        note = "not ranked" if not row.ranked else "baseline" if row.name == BASELINE else ""
        if row.ratio and row.ratio.ratio and row.ranked:
            told_apart = row.ratio.word in ("faster", "slower")
            note = times(row.ratio.ratio.value) if told_apart else row.ratio.word
        values.append(
            _look(row, rows)
            | {
                "value": seconds,
                "low": low,
                "high": high,
                "text": " · ".join(part for part in (quantity(seconds), note) if part),
            }
            | {
                "seconds an epoch": f"{digits(seconds)} ({digits(low)} to {digits(high)})",
                "pairs a second": digits(row.train_samples_per_second),
                "ratio": interval(row.ratio.ratio, "×") if row.ratio and row.ratio.ratio else "",
                "verdict": plain(row.why_not or (row.ratio.text if row.ratio else "")),
            }
        )
    told = ("seconds an epoch", "pairs a second", "ratio", "verdict")
    return _bars(values, "seconds an epoch; the shorter, the faster", told, room=128) if values else None


def start(results: Results) -> Spec | None:
    """What passes before the second step, phase by phase, on top of one another."""
    rows = [row for row in _in_order(results.rows) if row.start]
    values: Values = []
    for row in rows:
        begin, total = 0.0, sum(row.start.get(phase, 0.0) for phase in PHASES)
        for phase, words in PHASES.items():
            seconds = row.start.get(phase, 0.0)
            values.append(
                {"label": row.label, "low": begin, "high": begin + seconds, "phase": words}
                | {"seconds": quantity(seconds), "all together": quantity(total)}
            )
            begin += seconds
    told = ("label", "phase", "seconds", "all together")
    return _stacked(values, "seconds until the first step is done", told, room=56) if values else None


def time_parts(results: Results) -> Spec | None:
    """What a training step's time goes to, part by part, on top of one another."""
    rows = [row for row in _in_order(results.rows) if row.time_parts]
    if not rows:
        return None
    unit, name = unit_of(max(sum(row.time_parts.values()) for row in rows))
    values: Values = []
    for row in rows:
        begin, total = 0.0, sum(row.time_parts.values())
        for part, words in parts_of(rows).items():
            seconds = row.time_parts[part]
            values.append(
                {"label": row.label, "low": begin / unit, "high": (begin + seconds) / unit, "phase": words}
                | {"time": quantity(seconds), "share": percent(seconds / total), "a step": quantity(total)}
            )
            begin += seconds
    return _stacked(values, f"{name} a training step", ("label", "phase", "time", "share", "a step"), room=70)


def parts_of(rows: Iterable[Row]) -> dict[str, str]:
    """The parts that these rows' time goes to, in words."""
    return {part: words for part, words in PARTS.items() if any(row.time_parts.get(part) for row in rows)}


def break_even(results: Results) -> Spec | None:
    """Seconds since the command was given against steps done, one line a row; points where one overtakes another."""
    import altair as alt

    rows = [row for row in _in_order(results.rows) if row.start and row.step and row.ranked]
    rows = [row for row in rows if row.lane == main_lane(results.rows)]
    if not rows:
        return None
    by_label = {row.label: row for row in rows}
    within = EPOCHS_SHOWN * max(row.steps_an_epoch for row in rows)
    shown = [o for o in results.overtakings if o.steps <= within and {o.slow_starter, o.overtakes} <= by_label.keys()]
    last = 1.3 * max((o.steps for o in shown), default=100.0)
    values: Values = []
    for row in rows:
        told = {"start": quantity(_seconds_after(row, 0)), "each further step": quantity(_warm(row))}
        for steps in (0.0, last):
            values.append(_look(row, results.rows) | {"steps": steps, "seconds": _seconds_after(row, steps)} | told)
    line = (
        alt.Chart(alt.InlineData(values=values))
        .mark_line(strokeWidth=2)
        .encode(
            x=alt.X(
                "steps:Q",
                title="training steps after the first",
                scale=alt.Scale(domain=[0, last], nice=False),
                axis=alt.Axis(tickCount=6),
            ),
            y=alt.Y("seconds:Q", title="seconds since the start", scale=alt.Scale(zero=True)),
            color=colour_legend(rows),
            detail="label:N",
            tooltip=tooltips(("label", "start", "each further step")),
        )
    )
    points: Values = []
    for overtaking in sorted(shown, key=lambda overtaking: overtaking.steps):
        labelled = [point["steps"] for point in points if point["text"]]
        near = bool(labelled) and overtaking.steps - labelled[-1] < 0.05 * last
        points.append(
            {
                "steps": overtaking.steps,
                "seconds": _seconds_after(by_label[overtaking.slow_starter], overtaking.steps),
                "what": f"{overtaking.slow_starter} overtakes {overtaking.overtakes}",
                "after": f"{overtaking.steps:,.0f} steps",
                "text": "" if near else f"{overtaking.steps:,.0f}",
            }
        )
    layers: list[Any] = [line]
    if points:
        base = alt.Chart(alt.InlineData(values=points)).encode(x="steps:Q", y="seconds:Q")
        layers += [
            base.mark_point(size=70, filled=True, fill=PAPER, stroke=INK, strokeWidth=1.6, opacity=1).encode(
                tooltip=tooltips(("what", "after"))
            ),
            base.mark_text(dy=-13, fontWeight=600, stroke=PAPER, strokeWidth=4).encode(text="text:N"),
            base.mark_text(dy=-13, fontWeight=600).encode(text="text:N"),
        ]
    return finished(alt.layer(*layers), 340)


def decoding(results: Results) -> Spec | None:
    """Seconds a character when many sentences are decoded at once."""
    values: Values = [
        _look(row, results.rows)
        | {"value": row.decode_character.value, "low": row.decode_character.low, "high": row.decode_character.high}
        | {"text": quantity(row.decode_character.value), "a character": interval(row.decode_character)}
        | {"sentences": f"{row.decode_sentences:,}"}
        for row in _in_order(results.rows)
        if row.decode_character
    ]
    values.sort(key=lambda value: (not value["ranked"], value["value"]))
    told = ("a character", "sentences")
    return _by_size(values, "a character", told) if values else None


def latency(results: Results) -> Spec | None:
    """One sentence at a time: median, 95th and 99th percentile of the seconds that one takes."""
    import altair as alt

    rows = [row for row in results.rows if row.latency]
    rows.sort(key=lambda row: (not row.ranked, min(row.latency.items())[1].value))
    if not rows:
        return None
    values: Values = []
    for row in rows:
        for percentile, found in sorted(row.latency.items()):
            values.append(
                _look(row, results.rows)
                | {"value": found.value, "percentile": _percentile(percentile), "a sentence": interval(found)}
            )
    names = list(dict.fromkeys(value["percentile"] for value in values))
    if _spans(value["value"] for value in values):
        x = _time_axis("value", "time a sentence; left is faster", [v["value"] for v in values], room=20)
    else:
        unit, name = unit_of(max(value["value"] for value in values))
        values = [v | {"value": v["value"] / unit} for v in values]
        x = _quantity_axis("value", f"{name} a sentence", max(v["value"] for v in values), room=20)
    base = alt.Chart(alt.InlineData(values=values)).encode(y=_rows_axis(rows))
    ranges = base.mark_rule(strokeWidth=2, opacity=0.45).encode(
        x=alt.X("min(value):Q"), x2="max(value):Q", color=alt.Color("colour:N", scale=None)
    )
    points = base.mark_point(size=75, strokeWidth=1.8, opacity=1).encode(
        x=x,
        stroke=alt.Stroke("colour:N", scale=None),
        fill=alt.Fill("fill:N", scale=None),
        shape=alt.Shape(
            "percentile:N",
            sort=names,
            scale=alt.Scale(domain=names, range=["circle", "square", "triangle-up"][: len(names)]),
            legend=alt.Legend(title=None, orient="top", columns=3, symbolFillColor=INK, symbolStrokeColor=INK),
        ),
        tooltip=tooltips(("label", "percentile", "a sentence")),
    )
    return finished(alt.layer(ranges, points), _height(rows))


def roofline(results: Results) -> Spec | None:
    """Of the machine's measured peak, the share that each row's training step reaches."""
    values: Values = [
        _look(row, results.rows)
        | {"value": 100 * row.roofline.share, "text": percent(row.roofline.share)}
        | {"GFLOP/s": digits(row.roofline.flops / 1e9), "GFLOP a step": digits(row.roofline.flop_a_step / 1e9)}
        for row in _in_order(results.rows)
        if row.roofline
    ]
    values.sort(key=lambda value: (not value["ranked"], -value["value"]))
    if not values:
        return None
    return _bars(values, "% of the machine's measured peak", ("text", "GFLOP/s", "GFLOP a step"), at_least=100)


def memory(results: Results) -> Spec | None:
    """Resident memory: what the import takes, and on top of it what the whole training takes at its peak."""
    rows = [row for row in results.rows if "peak" in row.memory]
    rows.sort(key=lambda row: (not row.ranked, row.memory["peak"]))
    phases = ("after import", "peak of training")
    values: Values = []
    for row in rows:
        imported, peak = row.memory.get("after_import", 0.0) / 1e6, row.memory["peak"] / 1e6
        told = {"at the peak": f"{peak:,.0f} MB", "imported": f"{imported:,.0f} MB"}
        for phase, low, high in zip(phases, (0.0, imported), (imported, peak), strict=True):
            values.append({"label": row.label, "low": low, "high": high, "phase": phase} | told)
    return _stacked(values, "MB resident", ("label", "imported", "at the peak"), room=70) if values else None


def quality(rows: Sequence[Row], field: str, title: str, target: float | None = None) -> Spec | None:
    """A figure of each epoch against the seconds trained so far: a thin line a seed, a thick one for their median."""
    import altair as alt

    rows = [row for row in rows if any(field in epoch for q in row.quality for epoch in q.epochs)]
    thin: Values = []
    thick: Values = []
    for row in rows:
        curves = [_curve(training.epochs, field) for training in row.quality]
        for training, curve in zip(row.quality, curves, strict=True):
            for number, (seconds, value) in enumerate(curve, 1):
                told = {"seed": training.seed, "epoch": number, "trained for": f"{digits(seconds)} s"}
                thin.append(_look(row, rows) | {"seconds": seconds, "value": value, "shown": digits(value)} | told)
        for number, points in enumerate(zip(*curves, strict=False), 1):
            middle = {"seconds": median(p[0] for p in points), "value": median(p[1] for p in points)}
            told = {
                "epoch": number,
                "median": digits(middle["value"]),
                "trained for": f"{digits(middle['seconds'])} s",
            }
            thick.append(_look(row, rows) | middle | told)
    if not thin:
        return None
    axes = {
        "x": alt.X(
            "seconds:Q",
            title="seconds of training",
            scale=alt.Scale(zero=True, nice=False),
            axis=alt.Axis(tickCount=6),
        ),
        "y": alt.Y("value:Q", title=title, scale=alt.Scale(zero=True)),
        "color": colour_legend(rows),
    }
    dashes = {"strokeDash": _dashes()}
    single = alt.Chart(alt.InlineData(values=thin)).mark_line(strokeWidth=1, opacity=0.35)
    middle_line = alt.Chart(alt.InlineData(values=thick)).mark_line(strokeWidth=2.6)
    dots = alt.Chart(alt.InlineData(values=thick)).mark_point(filled=True, size=26, opacity=1)
    layers: list[Any] = [
        single.encode(**axes, **dashes, detail=["label:N", "seed:N"]),
        middle_line.encode(**axes, **dashes, detail="label:N"),
        dots.encode(**axes, tooltip=tooltips(("label", "epoch", "trained for", "median"))),
    ]
    if target is not None:
        values = [{"target": target, "text": f"target {digits(target)}"}]
        base = alt.Chart(alt.InlineData(values=values)).encode(y=alt.Y("target:Q", title=title))
        layers += [
            base.mark_rule(strokeDash=[2, 4], strokeWidth=1.4),
            base.mark_text(align="left", x=6, dy=-8).encode(text="text:N"),
        ]
    return finished(alt.layer(*layers), 320)


def _in_order(rows: Iterable[Row]) -> list[Row]:
    """Fastest first, those that are not ranked after the others: the order that results come in, held here too."""
    return sorted(rows, key=lambda row: not row.ranked)


def _look(row: Row, rows: Sequence[Row]) -> dict[str, Any]:
    """How a row is drawn: its backend's colour, hollow in the lane `default`, grey where it is not ranked."""
    colour = colours(rows)[row.name] if row.ranked else GREY
    fill = f"color-mix(in srgb, {colour} 18%, {PAPER})" if row.lane == "default" else colour
    lane = LANES.get(row.lane, row.lane)
    look = {"label": row.label, "name": row.name, "lane": lane, "ranked": row.ranked, "batches": row.batches}
    return look | {"colour": colour, "fill": fill}


LANES = {"matched": "matched", "default": "as installed"}


def _curve(epochs: Sequence[Mapping[str, float]], field: str) -> list[tuple[float, float]]:
    seconds, points = 0.0, []
    for epoch in epochs:
        seconds += epoch["seconds"]
        if field in epoch and isfinite(epoch[field]):
            points.append((seconds, epoch[field]))
    return points


def _warm(row: Row) -> float:
    return row.step.value if row.step else 0.0


def _seconds_after(row: Row, steps: float) -> float:
    """From the start of the process until so many steps are done after the first, cold one."""
    return sum(row.start.get(phase, 0.0) for phase in PHASES) + steps * _warm(row)


def _percentile(percentile: int) -> str:
    return "median" if percentile == 50 else f"{percentile}th"


def _spans(values: Iterable[float]) -> bool:
    found = [value for value in values if value > 0]
    return bool(found) and max(found) / min(found) > SPAN


def _highest(values: Values) -> float:
    return max(float(value["high"]) for value in values)


def _bars(values: Values, title: str, told: Sequence[str], room: int = 70, at_least: float = 0.0) -> Spec:
    """Horizontal bars from zero; `low` and `high`, where values have them, are drawn as error bars."""
    import altair as alt

    bounded = "low" in values[0]
    values = _within(values) if bounded else values
    highest = max(value["to"] if bounded else value["value"] for value in values)
    base = alt.Chart(alt.InlineData(values=values)).encode(y=_rows_axis(values))
    x = _quantity_axis("value", title, highest, room, at_least)
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
    return finished(alt.layer(*layers), _height(values))


def _stacked(values: Values, title: str, told: Sequence[str], room: int) -> Spec:
    """Horizontal bars of phases, each from `low` to `high`; the last of what is told stands at the end of a bar."""
    import altair as alt

    phases = list(dict.fromkeys(value["phase"] for value in values))
    base = alt.Chart(alt.InlineData(values=values)).encode(y=_rows_axis(values))
    bars = base.mark_bar(height={"band": 0.6}, stroke=PAPER, strokeWidth=0.8).encode(
        x=_quantity_axis("low", title, _highest(values), room),
        x2="high:Q",
        color=_tints(phases),
        tooltip=tooltips(told),
    )
    totals = alt.Chart(alt.InlineData(values=[value for value in values if value["phase"] == phases[-1]]))
    text = totals.mark_text(align="left", dx=6).encode(x="high:Q", y=_rows_axis(values), text=f"{told[-1]}:N")
    return finished(alt.layer(bars, text), _height(values))


def _by_size(values: Values, title: str, told: Sequence[str]) -> Spec:
    """Bars, or points on a logarithmic axis where values are of very different sizes. In seconds."""
    import altair as alt

    if not _spans(value["value"] for value in values):
        unit, name = unit_of(max(value["value"] for value in values))
        values = [v | {end: v[end] / unit for end in ("value", "low", "high")} for v in values]
        return _bars(values, f"{name} {title}", told)
    values = _within(values)
    seconds = [value[end] for value in values for end in ("from", "to")]
    x = _time_axis("value", f"time {title}; left is faster", seconds, room=62)
    base = alt.Chart(alt.InlineData(values=values)).encode(y=_rows_axis(values))
    rules = base.mark_rule(strokeWidth=2).encode(x="from:Q", x2="to:Q", color=alt.Color("colour:N", scale=None))
    points = base.mark_point(size=90, strokeWidth=1.8, opacity=1).encode(
        x=x,
        stroke=alt.Stroke("colour:N", scale=None),
        fill=alt.Fill("fill:N", scale=None),
        tooltip=tooltips(("label", *told)),
    )
    text = base.mark_text(align="left", dx=10).encode(x="to:Q", text="text:N")
    return finished(alt.layer(rules, points, text), _height(values))


def cut(estimates: Sequence[Estimate]) -> bool:
    """Whether one of these intervals is drawn only in part."""
    most, least = max(found.value for found in estimates), min(found.value for found in estimates)
    return any(found.high > most * WILD or found.low < least / WILD for found in estimates)


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


def _height(rows: Sequence[Any]) -> int:
    """Of a chart with a band a row: more where a label takes two lines. A height by steps would not fit a page."""
    labels = _labels(rows)
    return len(labels) * (38 if any(", " in label for label in labels) else 32)


def _rows_axis(rows: Sequence[Any]) -> Any:
    import altair as alt

    # A label's parts stand under one another, so that a telephone has room for the bars.
    middle = alt.condition("indexof(datum.label, ', ') > 0", alt.value(-7), alt.value(0))
    words = "split(datum.value, ', ')"
    axis = alt.Axis(title=None, labelExpr=words, labelLimit=132, labelOffset=middle, ticks=False, domain=False)
    return alt.Y("label:N", sort=_labels(rows), axis=axis)


def _quantity_axis(field: str, title: str, highest: float, room: int, at_least: float = 0.0) -> Any:
    """From zero, with `room` pixels at the right for what is written there, however wide the page is."""
    import altair as alt

    # A page that is hidden or being closed has no width.
    share = f"max(width, 1) / max(width - {room}, width / 3, 0.3)"
    end = alt.ExprRef(f"max({at_least}, {highest} * {share})")
    axis = alt.Axis(tickCount=5, grid=True, labelFlush=True)
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


# A legend above the vertical axis's title, and as strong as the thick lines.
_ABOVE: dict[str, Any] = {"offset": 30, "symbolOpacity": 1}


def _tints(parts: Sequence[str]) -> Any:
    """From light to dark, as far apart as their number lets them be."""
    import altair as alt

    shares = [round(20 + 74 * place / max(1, len(parts) - 1)) for place in range(len(parts))]
    tints = [f"color-mix(in srgb, {INK} {share}%, {PAPER})" for share in shares]
    legend = alt.Legend(title=None, orient="top", columns=_columns(2 if len(parts) <= 4 else 1), symbolType="square")
    return alt.Color("phase:N", sort=list(parts), scale=alt.Scale(domain=list(parts), range=tints), legend=legend)


def colour_legend(rows: Sequence[Row | Curve]) -> Any:
    import altair as alt

    found = colours(rows)
    scale = alt.Scale(domain=list(found), range=list(found.values()))
    legend = alt.Legend(
        title=None, orient="top", columns=_columns(3), symbolType="stroke", symbolStrokeWidth=3, **_ABOVE
    )
    return alt.Color("name:N", scale=scale, legend=legend)


def _dashes() -> Any:
    """Bucketed rows are dotted, which words beside the chart say; a legend of them has no room on a telephone."""
    import altair as alt

    return alt.StrokeDash("batches:N", scale=alt.Scale(domain=BATCHES, range=[[1, 0], [1, 3]]), legend=None)


def tooltips(fields: Iterable[str]) -> list[Any]:
    import altair as alt

    titles = {"label": "backend", "shown": "value", "text": "share"}
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
