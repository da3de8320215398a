"""A comparison in words: a table and lines for a terminal."""

from collections.abc import Iterator, Sequence
from math import inf

from rich.console import Console
from rich.table import Table

from rosetta_diff.diff import Diff
from rosetta_diff.helpers import say, table
from rosetta_diff.judge.check import STAGES, Check
from rosetta_diff.judge.tolerances import noises

MOST_NAMED = 10  # remarks


def cell(checks: Sequence[Check], marked: bool = True) -> str:
    """The cell of the table for the checks of one stage.
    Those inside a model that agrees have a remark instead."""
    if not checks:
        return ""
    worst = worst_of(checks)
    if worst.inside:
        return "inside"
    error = worst.error
    text = "equal" if error == 0 else "wrong" if error == inf else f"{error:.0e}"
    return text if not marked or all(check.passed for check in checks) else f"[bold red]{text}[/]"


def worst_of(checks: Sequence[Check]) -> Check:
    """The check that came nearest to its tolerance or exceeded it most.
    One inside a model that agrees comes last."""
    return max(checks, key=lambda check: (not check.inside, check.used))


def diff_table(diff: Diff) -> Table:
    """One row for each stage: its worst error, and what rounding does there."""
    measured = bool(diff.control.rounding)
    heads = ["checks", "error", "bound", "from", "one ulp"][: 4 + measured]
    numeric = [head for head in heads if head != "from"]
    title = f"{diff.right} against {diff.left}"
    shown = table(title, ["stage", *heads], numeric)
    shown.min_width = len(title)
    for stage, checks, worst, ulp in worst_of_stages(diff):
        bound = f"{worst.tolerance:.0e}" if worst.tolerance else "equal"
        cells = [f"{len(checks)}", cell(checks), bound, origin_of(worst), ulp]
        shown.add_row(stage, *cells[: 4 + measured])
    return shown


def worst_of_stages(diff: Diff) -> Iterator[tuple[str, list[Check], Check, str]]:
    """Each stage that was compared, its checks, the worst of them,
    and the error after one unit in the last place."""
    for stage in STAGES:
        checks = [check for check in diff.checks if check.stage == stage]
        if checks:
            ulp = cell([check for check in diff.control.rounding if check.stage == stage], False)
            yield stage, checks, worst_of(checks), ulp


def origin_of(check: Check) -> str:
    """The origin of a bound, in a word."""
    return "" if not check.tolerance else "noise" if check.item.bound.measured else "table"


def bounds_line(diff: Diff) -> str:
    """The origin of all bounds, in a sentence."""
    if any(check.item.bound.measured for check in diff.checks):
        times = noises(*diff.pairing.sides)
        of_all, of_gradients = times["outputs"], times["gradients"]
        more = f", of gradients {of_gradients:.0f} times" if of_gradients != of_all else ""
        does = f"what {' or '.join(diff.control.sources)} does"
        return f"bounds from noise: {of_all:.0f} times {does}{more}"
    how = f"; a control of {diff.left}, which record.training makes, would show its noise"
    is_known = diff.control.sources or "float64" in (
        diff.control.precision,
        diff.pairing.sides[0].computed,
    )
    return f"bounds from table: those of {diff.control.precision}{'' if is_known else how}"


def lines(diff: Diff) -> Iterator[str]:
    """The sentences below the table."""
    if diff.explanation:
        first, *rest = diff.explanation
        yield first
        yield from (f"  {line}" for line in rest)
        for cause in diff.causes:
            yield f"  {cause.standing}: {cause.line}"
    elif not diff.compared:
        yield "nothing was compared, so nothing is known: both records lack what the other one has"
    elif diff.wrong_alone:
        yield (
            f"{diff.right} agrees with {diff.left} as a whole and differs in the replay: "
            f"{diff.wrong_alone[0]}"
        )
    else:
        parts = [f"on {of.stage}, {of.what}" for of in diff.parts_left_out]
        without = "; ".join(filter(None, [", ".join(diff.missing), *parts]))
        stages = f"{', '.join(diff.compared)}{f'; not compared: {without}' if without else ''}"
        sentence = f"{diff.right} computes what {diff.left} computes: {stages}"
        if diff.lacks:
            sentence = f"{diff.right} has what {diff.left} has: {stages}"
        yield f"as far as they go, {sentence}" if diff.unfinished else sentence
    if diff.unfinished:
        yield (
            f"the training of {diff.unfinished} was not finished; see why its script ended, and "
            "run it again"
        )
    yield from diff.replay.lines() if diff.replay else ()
    told = {of.line for of in diff.parts_left_out} if diff.passed else ()
    notes = [note for note in diff.notes if note not in told]
    yield from notes[:MOST_NAMED]
    if len(notes) > MOST_NAMED:
        yield f"{len(notes) - MOST_NAMED} more such remarks; --json has them"
    yield bounds_line(diff)


def show(diff: Diff, console: Console) -> None:
    """Print the table and the sentences below it."""
    console.print(diff_table(diff))
    for line in lines(diff):
        say(line, console)
