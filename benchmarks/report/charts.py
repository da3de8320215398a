"""Charts as SVG, drawn for a column of 340 pixels: a telephone shows one such column, a wide page three.

- Text and lines have the page's colours, by `currentColor` and `var(--paper)`, so that one drawing serves light, dark
  and print.
- Each bar has its name and its figure above it. So it needs no axis, and no name is cut off.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal

from backends import BASELINE
from common.text import for_terminal

# Okabe and Ito's colours, which can be told apart with every common colour blindness.
COLOURS = {
    "torch": "#0072b2",
    "paddle": "#009e73",
    "keras": "#d55e00",
    "numpy": "#cc79a7",
    BASELINE: "#7b818c",
}
OTHERS = ("#56b4e9", "#e69f00", "#b8a800", "#882255", "#6f63c4", "#7a4a1e")
INK, PAPER = "currentColor", "var(--paper)"
WIDTH = 340
WIDEST = 1.5  # an interval is cut at this multiple of the longest bar

Values = Sequence[Mapping[str, Any]]


def colour_of(backend: str, others: Iterable[str] = ()) -> str:
    """A backend's colour. A variant has its framework's; an unknown name has one by its place among the `others`."""
    own = COLOURS.get(backend) or COLOURS.get(backend.partition(":")[0])
    unknown = sorted({backend, *others} - set(COLOURS))
    return own or OTHERS[unknown.index(backend) % len(OTHERS)]


def chart(kind: Literal["bars", "lines"], values: Values, width: int = WIDTH, x: str = "", y: str = "") -> str:
    """A chart of these values as SVG.

    - "bars": each value has `label`, `value`, `text` and `colour`, and may have the ends `low` and `high` of its
      interval.
    - "lines": each value is a point of the line `label`, with `x`, `y` and `colour`, and `dotted` is true for a line
      without points, such as an ideal. Both axes are logarithmic and have the titles `x` and `y`.
    """
    import altair as alt
    import vl_convert

    # Browsers show the names that charts were given, which a stranger may have chosen.
    clean = [{name: for_terminal(v) if isinstance(v, str) else v for name, v in value.items()} for value in values]
    drawn, height = (_lines(clean, x, y), 240) if kind == "lines" else (_bars(clean), 42 * len(clean))
    axis = {"gridColor": INK, "gridOpacity": 0.12, "domainOpacity": 0.35, "tickOpacity": 0.35, "domainColor": INK}
    words = {"labelColor": INK, "titleColor": INK, "labelFontSize": 12, "titleFontSize": 12}
    configured = drawn.properties(width=width, height=height, padding=1 if kind == "lines" else 0).configure(
        # The widths of words are measured in a typeface with Arial's widths.
        font="Arial, sans-serif",
        background="transparent",
        aria=False,
        autosize=alt.AutoSizeParams(type="fit" if kind == "lines" else "none", contains="padding"),
        view={"stroke": None},
        axis={**axis, **words, "tickColor": INK, "titleFontWeight": "normal"},
        legend={**words, "symbolType": "square", "symbolStrokeWidth": 0, "labelLimit": 140, "columnPadding": 30},
        text={"color": INK, "fontSize": 13},
    )
    svg: str = vl_convert.vegalite_to_svg(configured.to_dict())
    return svg


def _bars(values: Values) -> Any:
    """A bar for each value from zero, with a line for its interval; its name and its figure stand above it."""
    import altair as alt

    longest = max(value["value"] for value in values)
    ends = [min(value.get("high", value["value"]), WIDEST * longest) for value in values]
    x = alt.X("value:Q", axis=None, scale=alt.Scale(domain=[0, max([longest, *ends]) or 1], clamp=True, nice=False))
    bands = alt.Y("label:N", axis=None, scale=alt.Scale(domain=[value["label"] for value in values]))
    base = alt.Chart(alt.InlineData(values=values)).encode(y=bands)
    sure = alt.Chart(alt.InlineData(values=[value for value in values if "low" in value])).encode(y=bands)
    # Under each line lies a wider one in the page's colour, so that it is seen on a bar of any colour.
    rules = [
        sure.mark_rule(stroke=colour, strokeWidth=stroke, yOffset=9).encode(x="low:Q", x2="high:Q")
        for colour, stroke in ((PAPER, 5), (INK, 1.6))
    ]
    return alt.layer(
        base.mark_bar(height=12, yOffset=9).encode(x=x, fill=alt.Fill("colour:N", scale=None, legend=None)),
        *rules,
        base.mark_text(align="left", x=0, dy=-9, limit=230).encode(text="label:N"),
        base.mark_text(align="right", x="width", dy=-9, fontWeight="bold").encode(text="text:N"),
    )


def _lines(values: Values, x: str, y: str) -> Any:
    """A line for each label over sizes."""
    import altair as alt

    colours = {value["label"]: value["colour"] for value in values if not value.get("dotted")}
    sizes, heights = sorted({value["x"] for value in values}), [value["y"] for value in values]
    ticks = [tick for power in range(-12, 13) for tick in (10.0**power, 3 * 10.0**power)]
    ticks = [tick for tick in ticks if min(heights) <= tick <= max(heights)]
    axis = alt.Axis(values=sizes, format=",d", labelOverlap="greedy", labelSeparation=8, grid=False)
    legend = alt.Legend(title=None, orient="top", columns=2)
    drawn: dict[str, Any] = {
        "x": alt.X("x:Q", title=x, axis=axis, scale=alt.Scale(type="log", nice=False)),
        "y": alt.Y("y:Q", title=y, axis=alt.Axis(format="~g", values=ticks), scale=alt.Scale(type="log", nice=False)),
    }
    scale = alt.Scale(domain=list(colours), range=list(colours.values()))
    thick = alt.Chart(alt.InlineData(values=[value for value in values if not value.get("dotted")]))
    thick = thick.encode(**drawn, color=alt.Color("label:N", scale=scale, legend=legend))
    dotted = alt.Chart(alt.InlineData(values=[value for value in values if value.get("dotted")]))
    dotted = dotted.mark_line(stroke=INK, strokeDash=[2, 4]).encode(**drawn, detail="label:N")
    return alt.layer(dotted, thick.mark_line(strokeWidth=3), thick.mark_point(filled=True, size=45, opacity=1))
