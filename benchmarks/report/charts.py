"""Charts as SVG, drawn for a column of 340 pixels:
a telephone shows one such column, a wide page three.

Text and lines have the page's colours, by `currentColor` and `var(--paper)`, so that one drawing
serves light, dark and print. Bars have their row's name and figures above them, so they need no
axis, unless it is logarithmic.
"""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from html import escape
from math import ceil, floor, log10
from typing import NamedTuple

from backends import colour_of
from benchmarks.measure.statistics import Estimate
from benchmarks.report.render import LONGEST_NAME, quantity
from common.text import for_terminal

WIDTH = 340  # pixels
HEADING, BAR, GAP = 22, 14, 6  # pixels: the height of a row's name, of a bar, and between rows
PALE = 0.45  # opacity of the bars before a row's last
FAR = 20.0  # ratio of the longest bar to the shortest beyond which the scale is logarithmic
# Pixels: an axis's height, a legend's line, a plot's height, its ticks.
AXIS, LEGEND, PLOT, LEFT = 24, 20, 200, 52
MOST_TICKS = 6
FAINT = 'stroke="currentColor" stroke-width="0.4" opacity="0.5"'  # a line of a scale


class Bar(NamedTuple):
    """A row of a chart: its times in the lanes of all rows, pale ones before the last."""

    name: str
    backend: str  # gives the colour
    times: Sequence[Estimate | None]  # None if not measured, which leaves the time's place empty


class Point(NamedTuple):
    """A point of a curve."""

    size: int
    time: Estimate


def logarithmic(bars: Sequence[Bar]) -> bool:
    """True if the times of bars need a logarithmic scale."""
    values = [time.value for bar in bars for time in bar.times if time]
    return max(values) > FAR * min(values)


def bars(bars: Sequence[Bar]) -> str:
    """A bar for each time, with a line for its interval;
    the row's name and its figures stand above them.

    At least one bar has a time. Bars begin at zero. On a logarithmic scale, where nothing can, each
    time is a point instead, and an axis is drawn. The scale has room for every interval that says
    something.
    """
    times = [time for bar in bars for time in bar.times if time]
    ends = [end for time in times for end in reach_of(time)]
    height = HEADING + BAR * len(bars[0].times) + GAP
    bottom, drawn, points = height * len(bars), list[str](), logarithmic(bars)
    if points:
        first, last = floor(log10(min(ends))), ceil(log10(max(ends)))
        place = _logarithm(10.0**first, 10.0**last, 0, WIDTH)
        for power in range(first, last):
            x = place(10.0**power)
            drawn.append(f'<path d="M{x:.1f} {HEADING}V{bottom}" {FAINT}/>')
            drawn.append(
                f'<text x="{x:.1f}" y="{bottom + 16}" font-size="11">{_tick(10.0**power)}</text>'
            )
    else:
        place = lambda seconds: WIDTH / max(ends) * seconds  # noqa: E731
    for top, bar in zip(range(0, bottom, height), bars, strict=True):
        figures, colour = ", ".join(quantity(time) for time in bar.times), colour_of(bar.backend)
        name = _short_name(bar.name, LONGEST_NAME - len(figures))
        drawn.append(f'<text y="{top + 16}">{name}</text>')
        drawn.append(
            f'<text x="{WIDTH}" y="{top + 16}" text-anchor="end" '
            f'font-weight="bold">{figures}</text>'
        )
        for number, time in enumerate(bar.times, 1):
            if time:
                y = top + HEADING + BAR * (number - 1)
                start, end = (place(end) for end in reach_of(time))
                shade = f'fill="{colour}"' + (
                    f' fill-opacity="{PALE}"' if number < len(bar.times) else ""
                )
                if not points:
                    drawn.append(
                        f'<rect y="{y}" width="{place(time.value):.1f}" '
                        f'height="{BAR - 2}" {shade}/>'
                    )
                drawn += _whisker(f"M{start:.1f} {y + BAR // 2 - 1}H{end:.1f}")
                if points:
                    drawn.append(
                        f'<circle cx="{place(time.value):.1f}" cy="{y + BAR // 2 - 1}" '
                        f'r="4.5" {shade}/>'
                    )
    return _svg(bottom + AXIS * points, drawn)


def reach_of(time: Estimate) -> tuple[float, float]:
    """The ends of the line of an interval; of one that says nothing, the time alone."""
    return (time.value, time.value) if time.unsure else (time.low, time.high)


def lines(curves: Mapping[str, Sequence[Point]], ends: tuple[float, float]) -> str:
    """A curve for each backend over the sizes, both on logarithmic scales,
    with a line for each point's interval.

    `ends` are the least and the most seconds that the axis holds;
    the charts of a page have the same.
    """
    sizes = sorted({point.size for points in curves.values() for point in points})
    top, bottom = LEGEND * len(curves) + 8, LEGEND * len(curves) + 8 + PLOT
    across = _logarithm(sizes[0], max(sizes[-1], 2 * sizes[0]), LEFT, WIDTH - 18)
    upwards = _logarithm(ends[0] / 1.1, ends[1] * 1.1, bottom, top)
    drawn = []
    for seconds in _ticks(ends[0] / 1.1, ends[1] * 1.1):
        y = upwards(seconds)
        drawn.append(f'<path d="M{LEFT} {y:.1f}H{WIDTH}" {FAINT}/>')
        drawn.append(
            f'<text x="{LEFT - 6}" y="{y + 4:.1f}" font-size="11" '
            f'text-anchor="end">{_tick(seconds)}</text>'
        )
    for size in sizes:
        drawn.append(
            f'<text x="{across(size):.1f}" y="{bottom + 18}" font-size="11" '
            f'text-anchor="middle">{size:,}</text>'
        )
    scales = "lower is better; logarithmic scales"
    drawn.append(f'<text x="{WIDTH}" y="15" font-size="11" text-anchor="end">{scales}</text>')
    for number, (name, points) in enumerate(curves.items()):
        colour, places = colour_of(name), [(across(p.size), upwards(p.time.value)) for p in points]
        drawn.append(f'<rect y="{LEGEND * number + 5}" width="14" height="10" fill="{colour}"/>')
        drawn.append(
            f'<text x="20" y="{LEGEND * number + 15}">{_short_name(name, LONGEST_NAME - 18)}</text>'
        )
        path = "L".join(f"{x:.1f} {y:.1f}" for x, y in places)
        drawn.append(f'<path d="M{path}" fill="none" stroke="{colour}" stroke-width="2.5"/>')
        for point, (x, y) in zip(points, places, strict=True):
            low, high = (upwards(end) for end in reach_of(point.time))
            drawn += _whisker(f"M{x:.1f} {low:.1f}V{high:.1f}")
            drawn.append(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3.5" fill="{colour}"/>')
    return _svg(bottom + AXIS, drawn)


def losses(curves: Mapping[str, Sequence[float]], backend: str) -> str:
    """A curve for each name over the epochs, from 1 on, upwards from zero.
    The last has the backend's colour."""
    epochs, most = len(next(iter(curves.values()))), max(1e-9, *map(max, curves.values()))
    drawn, right, bottom = list[str](), WIDTH - 18, LEGEND * len(curves) + 8 + PLOT
    step = 10.0 ** floor(log10(most)) / 2
    for value in (number * step for number in range(floor(most / step) + 1)):
        y = bottom - PLOT * value / most
        drawn.append(f'<path d="M{LEFT} {y:.1f}H{WIDTH}" {FAINT}/>')
        drawn.append(
            f'<text x="{LEFT - 6}" y="{y + 4:.1f}" font-size="11" '
            f'text-anchor="end">{value:g}</text>'
        )
    for epoch, x in ((1, LEFT), (epochs, right)):
        drawn.append(
            f'<text x="{x}" y="{bottom + 18}" font-size="11" text-anchor="middle">{epoch:,}</text>'
        )
    for number, (name, values) in enumerate(curves.items(), 1):
        colour = colour_of(backend) if number == len(curves) else "currentColor"
        drawn.append(f'<rect y="{LEGEND * number - 15}" width="14" height="10" fill="{colour}"/>')
        drawn.append(f'<text x="20" y="{LEGEND * number - 5}">{name}</text>')
        across = (LEFT + (right - LEFT) * place / max(epochs - 1, 1) for place in range(epochs))
        path = "L".join(
            f"{x:.1f} {bottom - PLOT * y / most:.1f}" for x, y in zip(across, values, strict=True)
        )
        drawn.append(f'<path d="M{path}" fill="none" stroke="{colour}" stroke-width="2"/>')
    return _svg(bottom + AXIS, drawn)


def _logarithm(first: float, last: float, start: float, end: float) -> Callable[[float], float]:
    """The place of a value on a logarithmic scale from `first`
    at the pixel `start` to `last` at `end`."""
    return lambda value: start + (end - start) * log10(value / first) / log10(last / first)


def _ticks(low: float, high: float) -> list[float]:
    """Round values between two ends: 1, 2 and 5 times the powers of ten,
    or the powers alone if those are many."""

    def within(digits: Sequence[int]) -> Iterator[float]:
        powers = range(floor(log10(low)), ceil(log10(high)) + 1)
        return (
            value
            for power in powers
            for digit in digits
            if low <= (value := digit * 10.0**power) <= high
        )

    ticks = [*within((1, 2, 5))]
    return ticks if len(ticks) <= MOST_TICKS else [*within((1,))]


def _tick(seconds: float) -> str:
    """A round time at an axis: 1 ms."""
    return re.sub(r"\.0+(?=\D)", "", quantity(seconds))


def _whisker(path: str) -> list[str]:
    """A line for an interval, over a wider line in the page's colour,
    so that it is seen on any colour."""
    return [
        f'<path d="{path}" stroke="{colour}" stroke-width="{width}"/>'
        for colour, width in (("var(--paper)", 5), ("currentColor", 1.6))
    ]


def _short_name(name: str, longest: int) -> str:
    """A stranger's name as HTML, with so many characters at most."""
    shown = for_terminal(name)
    return escape(shown if len(shown) <= longest else shown[: longest - 1] + "…")


def _svg(height: int, drawn: Sequence[str]) -> str:
    size = f'width="{WIDTH}" height="{height}" viewBox="0 0 {WIDTH} {height}"'
    font = 'font-family="Arial, sans-serif" font-size="13" fill="currentColor"'
    return f'<svg xmlns="http://www.w3.org/2000/svg" {size} {font}>{"".join(drawn)}</svg>'
