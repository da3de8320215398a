"""The ladder in words: tables and lines for a terminal, and a report for a pull request."""

import re
from collections.abc import Iterator, Sequence
from io import StringIO
from itertools import islice
from math import inf, prod

from rich.console import Console
from rich.table import Table

from benchmarks.ladder.diff import Diff
from benchmarks.ladder.judge.check import Check
from benchmarks.ladder.judge.items import COMPARED
from benchmarks.ladder.judge.noise import PLANTED
from benchmarks.ladder.judge.tolerances import noises
from benchmarks.ladder.read.record import Side
from common.terminal import table
from common.text import printable

MOST_NAMED = 10  # remarks
MOST_OUTPUTS, MOST_STEPS, MOST_TOKENS = 20, 10, 10  # that a report lists
LONGEST = 300  # characters of a sentence or a name
COLUMNS = 100  # of a report


def cell(checks: Sequence[Check], marked: bool = True) -> str:
    """The cell of the table for the checks of one rung. Those inside a model that agrees have a remark instead."""
    if not checks:
        return ""
    worst = worst_of(checks)
    if worst.inside:
        return "inside"
    error = worst.error
    text = "equal" if error == 0 else "wrong" if error == inf else f"{error:.0e}"
    return text if not marked or all(check.passed for check in checks) else f"[bold red]{text}[/]"


def worst_of(checks: Sequence[Check]) -> Check:
    """The check that came nearest to its tolerance or exceeded it most. One inside a model that agrees comes last."""
    return max(checks, key=lambda check: (not check.inside, check.used))


def diff_table(diff: Diff) -> Table:
    """One row for each rung: its worst error, and what rounding does there."""
    heads = ["checks", "error", "bound", "from", "one ulp"]
    numeric = [head for head in heads if head != "from"]
    shown = table(f"{diff.right} against {diff.left}", ["rung", *heads], [], numeric=numeric)
    for rung, checks, worst, ulp in worst_of_rungs(diff):
        shown.add_row(rung, f"{len(checks)}", cell(checks), bound_of(worst), origin_of(worst), ulp)
    return shown


def worst_of_rungs(diff: Diff) -> Iterator[tuple[str, list[Check], Check, str]]:
    """Each rung that was compared, its checks, the worst of them, and the error after one unit in the last place."""
    for rung in COMPARED:
        checks = [check for check in diff.checks if check.rung == rung]
        if checks:
            ulp = cell([check for check in diff.control.rounding if check.rung == rung], False)
            yield rung, checks, worst_of(checks), ulp


def bound_of(check: Check) -> str:
    return f"{check.tolerance:.0e}" if check.tolerance else "equal"


def origin_of(check: Check) -> str:
    """The origin of a bound, in a word."""
    return "" if not check.tolerance else "noise" if check.item.measured else "table"


def bounds_line(diff: Diff) -> str:
    """The origin of all bounds, in a sentence."""
    if any(check.item.measured for check in diff.checks):
        times = noises(*diff.pairing.sides)
        return f"bounds from noise: {times:.0f} times what {' or '.join(diff.control.sources)} does"
    how = f"; a control of {diff.left}, which record.training makes, would show its noise"
    return f"bounds from table: those of {diff.control.precision}{'' if diff.control.sources else how}"


def planted_line(diff: Diff) -> str:
    missed = [rung for rung, seen in diff.control.seen.items() if not seen]
    if missed:
        return f"control: a number moved by {PLANTED} bounds was NOT seen on the rungs {', '.join(missed)}"
    return f"control: a number moved by {PLANTED} bounds was seen in every array of {len(diff.control.seen)} rungs"


def lines(diff: Diff) -> Iterator[str]:
    """The sentences below the table."""
    if diff.explanation:
        first, *rest = diff.explanation
        yield first
        yield from (f"  {line}" for line in rest)
        for cause in diff.causes:
            yield f"  {cause.standing}: {cause.line}"
    elif not diff.climbed:
        yield "nothing was compared, so nothing is known: both records lack what the other one has"
    elif diff.wrong_alone:
        yield f"{diff.right} agrees with {diff.left} as a whole and differs in the replay: {diff.wrong_alone[0]}"
    else:
        without = f"; not compared: {', '.join(diff.missing)}" if diff.missing else ""
        rungs = f"{', '.join(diff.climbed)}{without}"
        sentence = f"{diff.right} computes what {diff.left} computes{diff.but_for}: {rungs}"
        if diff.lacks:
            sentence = f"{diff.right} has what {diff.left} has{diff.but_for}: {rungs}"
        yield f"as far as they go, {sentence}" if diff.unfinished else sentence
    if diff.unfinished:
        yield f"the training of {diff.unfinished} was not finished; see why its script ended, and run it again"
    yield from diff.replay.lines() if diff.replay else ()
    yield from diff.notes[:MOST_NAMED]
    if len(diff.notes) > MOST_NAMED:
        yield f"{len(diff.notes) - MOST_NAMED} more such remarks; --json has them"
    yield bounds_line(diff)
    yield planted_line(diff)


def report(diff: Diff, command: str) -> str:
    """The verdict, remarks, versions, errors, outputs and losses as plain text in a fence of Markdown.

    Nothing in a fence is markup, a link or a mention, whatever names a record has. The report has less than 60 KB,
    however large the records are; `command` is what made it.
    """
    shown = table("", ["", "left", "right"], zip(FACTS, *map(facts, diff.pairing.sides), strict=True))
    outputs = table("", ["output", "error", "bound", "tokens on the left", "on the right"], output_rows(diff))
    losses = table("", ["step", "loss on the left", "on the right"], loss_rows(diff))
    tables = [shown, diff_table(diff), *(filled for filled in (outputs, losses) if filled.row_count)]
    console = Console(file=StringIO(), width=COLUMNS, color_system=None)
    for each in tables:
        each.title = None
        console.print(each, "")
    printed = "\n".join(line.rstrip() for line in console.file.getvalue().splitlines())  # type: ignore[attr-defined]
    text = "\n".join([*map(short, lines(diff)), "", printed.rstrip(), "", f"$ {short(command)}"])
    fence = "`" * max(3, *(len(run) + 1 for run in re.findall("`+", text)), 0)
    return f"{fence}text\n{text}\n{fence}"


FACTS = ("record", "framework", "Python", "NumPy", "precision", "numbers in trained weights")


def facts(side: Side) -> list[str]:
    """Facts about a side, in the order of FACTS."""
    framework, weights = side.says.framework, side.says.weights.items()
    versions = f"{framework.name} {framework.version}" + (f" on {framework.backend}" if framework.backend else "")
    trained = [name for name, weight in weights if weight.trainable and weight.tied_to is None]
    known = side.arrays("weights")
    number = sum(prod(known.shape(name)) for name in trained if name in known)
    precision = side.precision + (f", computed in {side.computed}" if side.computed != side.precision else "")
    told = [side.name, versions, side.says.python or "", side.says.numpy or "", precision, f"{number:,}"]
    return [*map(short, told)]


def output_rows(diff: Diff) -> Iterator[list[str]]:
    """The model's own outputs, with the first numbers of those that are whole, such as greedily decoded tokens."""
    arrays = [side.arrays("outputs") for side in diff.pairing.sides]
    outputs = [check for check in diff.checks if check.rung == "forward" and check.tensor in arrays[0]]
    for check in outputs[:MOST_OUTPUTS]:
        row = [short(check.tensor), cell([check], False) + ("" if check.passed else ", breaks"), bound_of(check)]
        for of_side in arrays:
            name = check.tensor if check.tensor in of_side else next(iter(of_side))
            array = of_side[name]
            tokens = array.ravel()[:MOST_TOKENS] if array.dtype.kind in "iu" else ()
            row.append(" ".join(map(str, tokens)))
        yield row


def loss_rows(diff: Diff) -> Iterator[list[str]]:
    """The losses of the first steps that both sides recorded."""
    left, right = ({step.step: step.loss for step in side.says.steps} for side in diff.pairing.sides)
    for step in islice((step for step in left if step in right), MOST_STEPS):
        yield [str(step), str(left[step]), str(right[step])]


def short(words: str) -> str:
    """Words in one line of at most so many characters."""
    line = printable(words)
    return line if len(line) <= LONGEST else f"{line[:LONGEST]}…"
