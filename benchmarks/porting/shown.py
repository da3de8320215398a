"""The comparison of two records in words: a table and lines for a terminal, Markdown for a pull request."""

import re
from collections.abc import Iterator

from rich.table import Table

from benchmarks.parity.tables import cell, ladder_table
from benchmarks.porting.diff import Diff
from benchmarks.porting.rungs import COMPARED
from common.text import printable

MOST_NAMED = 10  # remarks


def diff_table(found: Diff) -> Table:
    """One row for the right side and one for what rounding does, a column for each rung."""
    made = ladder_table([*found.checks, *found.control.rounding], COMPARED, found.left)
    made.caption, made.caption_justify = printable(planted_line(found)), "left"
    return made


def planted_line(found: Diff) -> str:
    missed = [rung for rung, seen in found.control.seen.items() if not seen]
    if missed:
        return f"a planted mistake of 100 bounds was NOT seen on the rungs {', '.join(missed)}"
    return f"control: a planted mistake was seen in every array of {len(found.control.seen)} rungs"


def lines(found: Diff) -> Iterator[str]:
    """What is said below the table."""
    if found.explanation:
        first, *others = found.explanation
        yield first
        yield from (f"  {line}" for line in others)
        for cause in found.causes:
            yield f"  likely: {cause.sentence}" + (f" ({cause.link})" if cause.link else "")
    else:
        yield f"{found.right} computes what {found.left} computes, as far as both were recorded"
    yield from found.notes[:MOST_NAMED]
    if len(found.notes) > MOST_NAMED:
        yield f"{len(found.notes) - MOST_NAMED} more such remarks; --json has them"


def markdown(found: Diff) -> str:
    """A table of the rungs with the worst check of each, and what was found, for a pull request."""
    made = [f"### {text(found.right)} against {text(found.left)}", ""]
    made += ["| rung | checks | worst | error | bound | one ulp |", "| --- | --- | --- | --- | --- | --- |"]
    for rung in COMPARED:
        checks = [check for check in found.checks if check.rung == rung]
        if checks:
            worst = max(checks, key=lambda check: check.used)
            tensor = text(worst.tensor) + ("" if worst.passed else " **breaks**")
            ulp = cell([check for check in found.control.rounding if check.rung == rung], False)
            error, bound = cell([worst], False), f"{worst.tolerance:.0e}"
            made.append(f"| {rung} | {len(checks)} | {tensor} | {error} | {bound} | {ulp} |")
    made.append("")
    made += [f"- {text(line.strip())}" for line in lines(found)]
    made.append(f"- {text(planted_line(found))}")
    return "\n".join(made)


def text(words: str) -> str:
    """Words in one line, in which Markdown finds no markup."""
    return re.sub(r"([\\`*_{}\[\]<>#|~&])", r"\\\1", printable(words))
