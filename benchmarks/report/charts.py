"""The report's charts, as Vega-Lite: functions of results, each None where nothing was measured to be shown."""

from collections.abc import Iterable, Mapping, Sequence
from math import isfinite
from statistics import median
from typing import Any

from benchmarks.plan import BASELINE
from benchmarks.report.blocks import Spec
from benchmarks.report.drawing import (
    INK,
    PAPER,
    Values,
    bars,
    by_size,
    colour_legend,
    dotted,
    finished,
    height,
    in_order,
    look,
    quantity_axis,
    rows_axis,
    spans,
    stacked,
    time_axis,
    tooltips,
)
from benchmarks.results import Overtaking, Results, Row, answering
from benchmarks.wording import digits, interval, percent, plain, quantity, times, unit_of

# Phases of a start.
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
EPOCHS_SHOWN = 10  # of training, at most, in the chart of break-even points


def speed(rows: Sequence[Row]) -> Spec | None:
    """Seconds an epoch, fastest first, with intervals; the ratio to the baseline stands at each bar."""
    values: Values = []
    for row in in_order(rows):
        if row.step is None:
            continue
        seconds = row.train_seconds_per_epoch
        low, high = (bound * row.steps_an_epoch for bound in (row.step.low, row.step.high))
        note = "not ranked" if not row.ranked else "baseline" if row.name == BASELINE else ""
        if row.ratio and row.ratio.ratio and row.ranked:
            told_apart = row.ratio.word in ("faster", "slower")
            note = times(row.ratio.ratio.value) if told_apart else row.ratio.word
        values.append(
            look(row, rows)
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
    return bars(values, "seconds an epoch; the shorter, the faster", told, room=128) if values else None


def start(results: Results) -> Spec | None:
    """What passes before the second step, phase by phase, on top of one another."""
    rows = [row for row in in_order(results.rows) if row.start]
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
    return stacked(values, "seconds until the first step is done", told, room=56) if values else None


def time_parts(results: Results) -> Spec | None:
    """What a training step's time goes to, part by part, on top of one another."""
    rows = [row for row in in_order(results.rows) if row.time_parts]
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
    return stacked(values, f"{name} a training step", ("label", "phase", "time", "share", "a step"), room=70)


def parts_of(rows: Iterable[Row]) -> dict[str, str]:
    """The parts that these rows' time goes to, in words."""
    return {part: words for part, words in PARTS.items() if any(row.time_parts.get(part) for row in rows)}


def break_even(results: Results) -> Spec | None:
    """Seconds since the command was given against steps done, one line a row; points where one overtakes another."""
    import altair as alt

    rows = _startable(results)
    if not rows:
        return None
    by_label = {row.label: row for row in rows}
    shown = overtakings_shown(results)
    last = 1.3 * max((o.steps for o in shown), default=100.0)
    values: Values = []
    for row in rows:
        told = {"start": quantity(_seconds_after(row, 0)), "each further step": quantity(_warm(row))}
        for steps in (0.0, last):
            values.append(look(row, results.rows) | {"steps": steps, "seconds": _seconds_after(row, steps)} | told)
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
    for overtaking in shown:
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


def overtakings_shown(results: Results) -> list[Overtaking]:
    """Those between the rows whose lines are drawn, as far as these go, the first one first."""
    rows = _startable(results)
    labels = {row.label for row in rows}
    within = EPOCHS_SHOWN * max((row.steps_an_epoch for row in rows), default=0)
    shown = [o for o in results.overtakings if o.steps <= within and {o.slow_starter, o.overtakes} <= labels]
    return sorted(shown, key=lambda overtaking: overtaking.steps)


def _startable(results: Results) -> list[Row]:
    return [row for row in in_order(answering(results.rows)) if row.start and row.step and row.ranked]


def decoding(results: Results) -> Spec | None:
    """Seconds a character when many sentences are decoded at once."""
    values: Values = [
        look(row, results.rows)
        | {"value": row.decode_character.value, "low": row.decode_character.low, "high": row.decode_character.high}
        | {"text": quantity(row.decode_character.value), "a character": interval(row.decode_character)}
        | {"sentences": f"{row.decode_sentences:,}"}
        for row in in_order(results.rows)
        if row.decode_character
    ]
    values.sort(key=lambda value: (not value["ranked"], value["value"]))
    told = ("a character", "sentences")
    return by_size(values, "a character", told) if values else None


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
                look(row, results.rows)
                | {"value": found.value, "percentile": _percentile(percentile), "a sentence": interval(found)}
            )
    names = list(dict.fromkeys(value["percentile"] for value in values))
    if spans(value["value"] for value in values):
        x = time_axis("value", "time a sentence; left is faster", [v["value"] for v in values], room=20)
    else:
        unit, name = unit_of(max(value["value"] for value in values))
        values = [v | {"value": v["value"] / unit} for v in values]
        x = quantity_axis("value", f"{name} a sentence", max(v["value"] for v in values), room=20)
    base = alt.Chart(alt.InlineData(values=values)).encode(y=rows_axis(rows))
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
    return finished(alt.layer(ranges, points), height(rows))


def roofline(results: Results) -> Spec | None:
    """Of the machine's measured peak, the share that each row's training step reaches."""
    values: Values = [
        look(row, results.rows)
        | {"value": 100 * row.roofline.share, "text": percent(row.roofline.share)}
        | {"GFLOP/s": digits(row.roofline.flops / 1e9), "GFLOP a step": digits(row.roofline.flop_a_step / 1e9)}
        for row in in_order(results.rows)
        if row.roofline
    ]
    values.sort(key=lambda value: (not value["ranked"], -value["value"]))
    if not values:
        return None
    return bars(values, "% of the machine's measured peak", ("text", "GFLOP/s", "GFLOP a step"), at_least=100)


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
    return stacked(values, "MB resident", ("label", "imported", "at the peak"), room=70) if values else None


def quality(rows: Sequence[Row], field: str, title: str, target: float | None = None) -> Spec | None:
    """A figure of each epoch against the seconds trained so far: a thin line a seed, a thick one for their median."""
    import altair as alt

    rows = [row for row in rows if any(field in epoch for q in row.quality for epoch in q.epochs)]
    thin: Values = []
    thick: Values = []
    for row in rows:
        curves = [_curve(training.epochs, field) for training in row.quality]
        for training, curve in zip(row.quality, curves, strict=True):
            for seconds, value in curve:
                thin.append(look(row, rows) | {"seconds": seconds, "value": value, "seed": training.seed})
        for number, points in enumerate(zip(*curves, strict=False), 1):
            middle = {"seconds": median(p[0] for p in points), "value": median(p[1] for p in points)}
            told = {
                "epoch": number,
                "median": digits(middle["value"]),
                "trained for": f"{digits(middle['seconds'])} s",
            }
            thick.append(look(row, rows) | middle | told)
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
    dashes = {"strokeDash": dotted()}
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
