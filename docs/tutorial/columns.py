"""Scripts side by side: lines that do the same stand level.

What a line does is judged by its words, without what each framework calls its own, so nothing has
to be marked in the scripts: the rows follow when a script changes.
"""

import re
from collections.abc import Sequence
from difflib import SequenceMatcher
from functools import cache
from itertools import zip_longest

LEAST = 0.5  # likeness of two lines that may stand level
OWN = re.compile(
    r"\b(?:torch|paddle|keras|jax|np|jnp|nn|nnx|F|layers|self|model|optim|optimizer|optax)\.|  #.*"
)
Row = list[str | None]  # a line of each column, or None where a column has none


def level(columns: Sequence[list[str]]) -> list[Row]:
    """Rows with every line of every column, each column in its own order."""
    rows: list[Row] = [[line] for line in columns[0]]
    for lines in columns[1:]:
        rows = _beside(rows, lines)
    return rows


def _beside(rows: list[Row], lines: list[str]) -> list[Row]:
    """Rows with one column more. What lies between two rows that match begins level,
    alike or not."""
    width, joined, row, line = len(rows[0]), list[Row](), 0, 0
    for next_row, next_line in [*_matches(rows, lines), (len(rows), len(lines))]:
        for left, right in zip_longest(rows[row:next_row], lines[line:next_line]):
            joined.append([*(left or [None] * width), right])
        if next_row < len(rows):
            joined.append([*rows[next_row], lines[next_line]])
        row, line = next_row + 1, next_line + 1
    return joined


def _matches(rows: list[Row], lines: list[str]) -> list[tuple[int, int]]:
    """The pairs of a row and a line, both ascending, that are most alike in sum."""
    # Of the rows and lines before each place.
    best = [[0.0] * (len(lines) + 1) for _ in range(len(rows) + 1)]
    pairs = [
        [max(likeness(cell, line) for cell in row if cell is not None) for line in lines]
        for row in rows
    ]
    for row in range(len(rows)):
        for line in range(len(lines)):
            together = best[row][line] + pairs[row][line]
            best[row + 1][line + 1] = max(together, best[row][line + 1], best[row + 1][line])
    matches, row, line = list[tuple[int, int]](), len(rows), len(lines)
    while row and line:
        if best[row][line] == best[row - 1][line]:
            row -= 1
        elif best[row][line] == best[row][line - 1]:
            line -= 1
        else:
            row, line = row - 1, line - 1
            matches.append((row, line))
    return matches[::-1]


@cache
def likeness(left: str, right: str) -> float:
    """The share of words that are the same, if it is LEAST or more;
    and 1 for the same beginning, such as `x =`."""
    left_words, right_words = (re.findall(r"\w+|\S", OWN.sub("", text)) for text in (left, right))
    ratio = SequenceMatcher(None, left_words, right_words, autojunk=False).ratio()
    return (ratio if ratio >= LEAST else 0) + (left_words[:2] == right_words[:2])
