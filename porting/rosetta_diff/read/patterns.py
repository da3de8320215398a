"""Patterns of axes, as lines of a mapping and rules of frameworks have them, such as "(g parts d) m"."""

import re
from collections import Counter

from rosetta_diff.read.description import UnfitRecordsError
from rosetta_diff.read.view import PARTS, Axes

GROUP = re.compile(r"\(([^()]*)\)|(\S+)")
AXIS = re.compile(r"[A-Za-z]\w*")


def parse_axes(pattern: str, where: str) -> Axes:
    """The axes of one side's pattern, such as "(g parts d) m"; "1" is an axis of one number."""
    axes: list[tuple[str, ...]] = []
    for inside, alone in GROUP.findall(pattern):
        group = tuple(inside.split()) if not alone else () if alone == "1" else (alone,)
        wrong = next((name for name in group if not AXIS.fullmatch(name)), None)
        if wrong:
            raise UnfitRecordsError(
                f"{where}: {wrong!r} is no name of an axis; expected words, such as {PARTS}, m or head"
            )
        axes.append(group)
    count = Counter(name for group in axes for name in group)
    twice = next((name for name, number in count.items() if number > 1), None)
    if twice:
        raise UnfitRecordsError(f"{where}: the axis {twice} stands twice in {pattern!r}; expected each once")
    return tuple(axes)


def format_axes(axes: Axes) -> str:
    return " ".join(group[0] if len(group) == 1 else f"({' '.join(group)})" if group else "1" for group in axes)
