"""The ladder in words: tables and lines for a terminal, Markdown for a pull request."""

import re
from collections.abc import Iterator, Sequence
from math import inf

from rich.markup import escape
from rich.table import Table

from benchmarks.compare.comparer import RUNGS, Check
from benchmarks.compare.diff import PLANTED, Diff
from benchmarks.compare.rungs import COMPARED
from common.terminal import table
from common.text import printable

# The names of the rungs, the long ones broken so that all nine columns fit into a terminal.
HYPHENATED = ["ten-sors", "for-ward", "gradi-ents", "trajec-tory"]
BROKEN = {name.replace("-", ""): name.replace("-", "-\n") for name in HYPHENATED}
MOST_NAMED = 10  # remarks


def ladder_table(
    checks: Sequence[Check], rungs: Sequence[str] = RUNGS, expected: str = "the float64 referee"
) -> Table:
    """One row for each side and precision, one column for each rung, with its worst error; red where it failed."""
    headers = [BROKEN.get(rung, rung) for rung in rungs]
    made = table(f"Worst error on each rung, against {expected}", ["", *headers], [], numeric=headers)
    checks = [check for check in checks if check.rung in rungs]
    for climber in dict.fromkeys(check.climber for check in checks):
        name = (
            escape(printable(climber)).replace(":", ":\n").replace(" ", "\n")
        )  # narrow, to leave room for the rungs
        own = [check for check in checks if check.climber == climber]
        made.add_row(name, *(cell([check for check in own if check.rung == rung]) for rung in rungs))
    return made


def cell(checks: Sequence[Check], marked: bool = True) -> str:
    """The cell of the table for the checks of one rung."""
    if not checks:
        return ""
    error = max(checks, key=lambda check: check.used).error
    text = "equal" if error == 0 else "wrong" if error == inf else f"{error:.0e}"
    return text if not marked or all(check.passed for check in checks) else f"[bold red]{text}[/]"


def diff_table(diff: Diff) -> Table:
    """One row for the right side and one for what rounding does, a column for each rung."""
    made = ladder_table([*diff.checks, *diff.control.rounding], COMPARED, diff.left)
    made.caption, made.caption_justify = printable(planted_line(diff)), "left"
    return made


def planted_line(diff: Diff) -> str:
    missed = [rung for rung, seen in diff.control.seen.items() if not seen]
    if missed:
        return f"control: a number moved by {PLANTED} bounds was NOT seen on the rungs {', '.join(missed)}"
    return f"control: a number moved by {PLANTED} bounds was seen in every array of {len(diff.control.seen)} rungs"


def lines(diff: Diff) -> Iterator[str]:
    """What is said below the table."""
    if diff.explanation:
        first, *others = diff.explanation
        yield first
        yield from (f"  {line}" for line in others)
        for cause in diff.causes:
            yield f"  likely: {cause.sentence}" + (f" ({cause.link})" if cause.link else "")
    elif not diff.checks:
        yield "nothing was compared, so nothing is known: both records lack what the other one has"
    else:
        without = f"; not compared: {', '.join(diff.missing)}" if diff.missing else ""
        yield f"{diff.right} computes what {diff.left} computes: {', '.join(diff.climbed)}{without}"
    yield from diff.notes[:MOST_NAMED]
    if len(diff.notes) > MOST_NAMED:
        yield f"{len(diff.notes) - MOST_NAMED} more such remarks; --json has them"


def markdown(diff: Diff) -> str:
    """A table of the rungs with the worst check of each, and what was diff, for a pull request."""
    made = [f"### {text(diff.right)} against {text(diff.left)}", ""]
    made += ["| rung | checks | worst | error | bound | one ulp |", "| --- | --- | --- | --- | --- | --- |"]
    for rung in COMPARED:
        checks = [check for check in diff.checks if check.rung == rung]
        if checks:
            worst = max(checks, key=lambda check: check.used)
            tensor = text(worst.tensor) + ("" if worst.passed else " **breaks**")
            ulp = cell([check for check in diff.control.rounding if check.rung == rung], False)
            error, bound = cell([worst], False), f"{worst.tolerance:.0e}"
            made.append(f"| {rung} | {len(checks)} | {tensor} | {error} | {bound} | {ulp} |")
    made.append("")
    made += [f"- {text(line.strip())}" for line in lines(diff)]
    made.append(f"- {text(planted_line(diff))}")
    return "\n".join(made)


def text(words: str) -> str:
    """Words in one line, in which Markdown finds no markup."""
    return re.sub(r"([\\`*_{}\[\]<>#|~&])", r"\\\1", printable(words))
