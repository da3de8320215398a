"""A comparison as a report for a pull request: the verdict first, then what a reviewer asks for, in Markdown.

Names in it come from somebody's record, so nothing in them is markup, a link or a mention, and each has a limit.
"""

import re
from collections.abc import Iterable, Iterator
from itertools import islice
from math import prod

from benchmarks.compare.diff import Diff
from benchmarks.compare.record import Side
from benchmarks.compare.tables import bound_of, cell, lines, origin_of, worst_of_rungs
from common.text import printable

MOST_OUTPUTS, MOST_STEPS, MOST_TOKENS = 20, 10, 10  # that are listed
LONGEST = 300  # characters of a sentence or a name
# Where a break that nobody sees keeps a mention, the number of an issue or an address from being a link.
LINKED = re.compile(r"@|#(?=\d)|(?<=:)/(?=/)|www(?=\.)", re.IGNORECASE)
BREAK = "\N{ZERO WIDTH SPACE}"


def report(diff: Diff, command: str) -> str:
    """The report; `command` is what made it. It has less than 60 KB, however large the records are."""
    verdict, *remarks = (text(line.strip()) for line in lines(diff))
    parts = [
        [f"### {verdict}"],
        [f"- {remark}" for remark in remarks],
        table(["", "left", "right"], zip(FACTS, *map(facts, diff.pairing.sides), strict=True)),
        table(["rung", "checks", "worst", "error", "bound", "from", "one ulp"], rungs(diff)),
        table(["output", "error", "bound", "tokens on the left", "tokens on the right"], outputs(diff)),
        table(["step", "loss on the left", "loss on the right"], losses(diff)),
        [f"Made by `{printable(command)[:LONGEST].replace('`', '')}`"],
    ]
    return "\n\n".join("\n".join(part) for part in parts if part)


FACTS = ("record", "framework", "Python", "NumPy", "precision", "numbers in trained weights")


def facts(side: Side) -> list[str]:
    """What a side is, in the order of FACTS."""
    framework, weights = side.says.framework, side.says.weights.items()
    versions = f"{framework.name} {framework.version}" + (f" on {framework.backend}" if framework.backend else "")
    trained = [name for name, weight in weights if weight.trainable and weight.tied_to is None]
    known = side.arrays("weights")
    number = sum(prod(known.shape(name)) for name in trained if name in known)
    precision = side.precision + (f", computed in {side.computed}" if side.computed != side.precision else "")
    own = [side.name, versions, side.says.python or "", side.says.numpy or "", precision, f"{number:,}"]
    return [text(fact) for fact in own]


def rungs(diff: Diff) -> Iterator[list[str]]:
    for rung, checks, worst, ulp in worst_of_rungs(diff):
        tensor = text(worst.tensor) + ("" if worst.passed else " **breaks**")
        yield [rung, str(len(checks)), tensor, cell([worst], False), bound_of(worst), origin_of(worst), ulp]


def outputs(diff: Diff) -> Iterator[list[str]]:
    """The model's own outputs, with the first numbers of those that are whole, such as greedily decoded tokens."""
    arrays = [side.arrays("outputs") for side in diff.pairing.sides]
    own = [check for check in diff.checks if check.rung == "forward" and check.tensor in arrays[0]]
    for check in own[:MOST_OUTPUTS]:
        row = [text(check.tensor), cell([check], False) + ("" if check.passed else " **breaks**"), bound_of(check)]
        for of_side in arrays:
            name = check.tensor if check.tensor in of_side else next(iter(of_side))
            array = of_side[name]
            tokens = array.ravel()[:MOST_TOKENS] if array.dtype.kind in "iu" else ()
            row.append(" ".join(map(str, tokens)))
        yield row


def losses(diff: Diff) -> Iterator[list[str]]:
    """The losses of the first steps that both sides recorded."""
    left, right = ({step.step: step.loss for step in side.says.steps} for side in diff.pairing.sides)
    for step in islice((step for step in left if step in right), MOST_STEPS):
        yield [str(step), str(left[step]), str(right[step])]


def table(heads: list[str], rows: Iterable[Iterable[object]]) -> list[str]:
    """The lines of a table; none where it has no rows."""
    made = [f"| {' | '.join(map(str, row))} |" for row in rows]
    return [f"| {' | '.join(heads)} |", f"|{' --- |' * len(heads)}", *made] if made else []


def text(words: str) -> str:
    """Words in one line, in which Markdown finds no markup, no link and no mention."""
    short = printable(words)
    short = short if len(short) <= LONGEST else f"{short[:LONGEST]}…"
    return re.sub(r"([\\`*_{}\[\]<>#|~&])", r"\\\1", LINKED.sub(lambda found: found[0] + BREAK, short))
