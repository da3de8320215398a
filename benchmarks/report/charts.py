"""Charts as SVG, drawn for a column of 340 pixels: a telephone shows one such column, a wide page three.

Text and lines have the page's colours, by `currentColor` and `var(--paper)`, so that one drawing serves light, dark
and print. A bar has its name and its figure above it, so it needs no axis, unless its scale is logarithmic.
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

WIDTH, HEIGHT = 340, 42  # pixels of a chart's width, and of a bar with its name
LONGEST_INTERVAL = 1.5  # an interval is cut at this multiple of the longest bar
FAR = 20.0  # ratio of the longest bar to the shortest beyond which the scale is logarithmic
AXIS, LEGEND, PLOT, LEFT = 24, 20, 200, 52  # pixels: an axis's height, a legend's line, a plot's height, its ticks
MOST_TICKS = 6
FAINT = 'stroke="currentColor" stroke-width="0.4" opacity="0.5"'  # a line of a scale


class Bar(NamedTuple):
    """A bar of a chart."""

    name: str
    backend: str  # gives the colour
    time: Estimate | None  # None if not measured, which leaves the bar's place empty


class Point(NamedTuple):
    """A point of a curve."""

    size: int
    time: Estimate


def logarithmic(bars: Sequence[Bar]) -> bool:
    """True if the times of bars need a logarithmic scale."""
    values = [bar.time.value for bar in bars if bar.time]
    return max(values) > FAR * min(values)


def bars(bars: Sequence[Bar]) -> str:
    """A bar for each time, with a line for its interval; its name and its figure stand above it.

    At least one bar has a time. Bars begin at zero, or on a logarithmic scale at a power of ten, and an axis
    is drawn.
    """
    times = [bar.time for bar in bars if bar.time]
    longest = max(time.value for time in times)
    low, most = min(time.value for time in times), min(max(time.high for time in times), LONGEST_INTERVAL * longest)
    height, drawn, ticks = HEIGHT * len(bars), [], list[str]()
    if logarithmic(bars):
        first, last = floor(log10(low)), max(ceil(log10(max(longest, most))), floor(log10(low)) + 1)
        place = _logarithm(10.0**first, 10.0**last, 0, WIDTH)
        for power in range(first, last):
            x = place(10.0**power)
            ticks.append(f'<path d="M{x:.1f} 20V{height}" {FAINT}/>')
            ticks.append(f'<text x="{x:.1f}" y="{height + 16}" font-size="11">{_tick(10.0**power)}</text>')
        height += AXIS
    else:
        place = lambda seconds: WIDTH / max(longest, most) * seconds  # noqa: E731
    for top, bar in zip(range(0, HEIGHT * len(bars), HEIGHT), bars, strict=True):
        drawn.append(f'<text y="{top + 16}">{_named(bar.name)}</text>')
        drawn.append(
            f'<text x="{WIDTH}" y="{top + 16}" text-anchor="end" font-weight="bold">{quantity(bar.time)}</text>'
        )
        if bar.time:
            ends = (bar.time.value, bar.time.low, bar.time.high)
            value, start, end = (min(max(place(seconds), 0.0), WIDTH) for seconds in ends)
            drawn.append(f'<rect y="{top + 24}" width="{value:.1f}" height="12" fill="{colour_of(bar.backend)}"/>')
            drawn += _whisker(f"M{start:.1f} {top + 30}H{end:.1f}")
    return _svg(height, [*ticks, *drawn])


def lines(curves: Mapping[str, Sequence[Point]], ends: tuple[float, float]) -> str:
    """A curve for each backend over the sizes, both on logarithmic scales, with a line for each point's interval.

    `ends` are the least and the most seconds that the axis holds.
    """
    sizes = sorted({point.size for points in curves.values() for point in points})
    top, bottom = LEGEND * len(curves) + 8, LEGEND * len(curves) + 8 + PLOT
    across = _logarithm(sizes[0], max(sizes[-1], 2 * sizes[0]), LEFT, WIDTH - 18)
    upwards = _logarithm(ends[0] / 1.1, ends[1] * 1.1, bottom, top)
    drawn = []
    for seconds in _ticks(ends[0] / 1.1, ends[1] * 1.1):
        y = upwards(seconds)
        drawn.append(f'<path d="M{LEFT} {y:.1f}H{WIDTH}" {FAINT}/>')
        drawn.append(f'<text x="{LEFT - 6}" y="{y + 4:.1f}" font-size="11" text-anchor="end">{_tick(seconds)}</text>')
    for size in sizes:
        drawn.append(
            f'<text x="{across(size):.1f}" y="{bottom + 18}" font-size="11" text-anchor="middle">{size:,}</text>'
        )
    drawn.append(f'<text x="{WIDTH}" y="15" font-size="11" text-anchor="end">logarithmic scales</text>')
    for number, (name, points) in enumerate(curves.items()):
        colour, places = colour_of(name), [(across(p.size), upwards(p.time.value)) for p in points]
        drawn.append(f'<rect y="{LEGEND * number + 5}" width="14" height="10" fill="{colour}"/>')
        drawn.append(f'<text x="20" y="{LEGEND * number + 15}">{_named(name)}</text>')
        path = "L".join(f"{x:.1f} {y:.1f}" for x, y in places)
        drawn.append(f'<path d="M{path}" fill="none" stroke="{colour}" stroke-width="2.5"/>')
        for point, (x, y) in zip(points, places, strict=True):
            low, high = (min(max(upwards(end), top), bottom) for end in (point.time.low, point.time.high))
            drawn += _whisker(f"M{x:.1f} {low:.1f}V{high:.1f}")
            drawn.append(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3.5" fill="{colour}"/>')
    return _svg(bottom + AXIS, drawn)


def _logarithm(first: float, last: float, start: float, end: float) -> Callable[[float], float]:
    """The place of a value on a logarithmic scale from `first` at the pixel `start` to `last` at `end`."""
    return lambda value: start + (end - start) * log10(value / first) / log10(last / first)


def _ticks(low: float, high: float) -> list[float]:
    """Round values between two ends: 1, 2 and 5 times the powers of ten, or the powers alone if those are many."""

    def within(digits: Sequence[int]) -> Iterator[float]:
        powers = range(floor(log10(low)), ceil(log10(high)) + 1)
        return (value for power in powers for digit in digits if low <= (value := digit * 10.0**power) <= high)

    ticks = [*within((1, 2, 5))]
    return ticks if len(ticks) <= MOST_TICKS else [*within((1,))]


def _tick(seconds: float) -> str:
    """A round time at an axis: 1 ms."""
    return re.sub(r"\.0+(?=\D)", "", quantity(seconds))


def _whisker(path: str) -> list[str]:
    """A line for an interval, over a wider line in the page's colour, so that it is seen on any colour."""
    return [
        f'<path d="{path}" stroke="{colour}" stroke-width="{width}"/>'
        for colour, width in (("var(--paper)", 5), ("currentColor", 1.6))
    ]


def _named(name: str) -> str:
    """A stranger's name as HTML."""
    shown = for_terminal(name)
    return escape(shown if len(shown) <= LONGEST_NAME else shown[: LONGEST_NAME - 1] + "…")


def _svg(height: int, drawn: Sequence[str]) -> str:
    size = f'width="{WIDTH}" height="{height}" viewBox="0 0 {WIDTH} {height}"'
    font = 'font-family="Arial, sans-serif" font-size="13" fill="currentColor"'
    return f'<svg xmlns="http://www.w3.org/2000/svg" {size} {font}>{"".join(drawn)}</svg>'
