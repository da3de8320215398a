"""The results and the page of a race: the speed of each script,
and the equality of what all compute."""

from collections.abc import Iterator
from functools import cached_property
from statistics import median

from benchmarks.measure.measurement import Measurement
from benchmarks.measure.statistics import (
    LEAST_ROUNDS,
    ROBUST_ROUNDS,
    UNEVEN,
    Estimate,
    Word,
    grouped,
)
from benchmarks.report import render
from benchmarks.report.charts import Bar, bars
from benchmarks.report.page import Columns, by_row, page, reached
from benchmarks.report.render import TWICE, Report, code, markdown_table, quantity, safe
from benchmarks.report.results import NOTHING, Results, RowResults
from benchmarks.schema import MOST_OTHERS, Proof, Turn
from common.text import listed, quoted

PER_ITEM = "Times are per item, so that scripts with other batches can be compared."
# The estimate of ratios, by the number of rounds.
STUDENTS = "Ratios are means over the rounds, with Student's intervals."
ROBUST = (
    "Ratios are means over the rounds without the fifth at either end, as they are from "
    f"{ROBUST_ROUNDS} rounds on, with the intervals of Tukey and McLaughlin."
)
TUNED = (
    "Tuned scripts have the same number of threads, and all keep freed memory, unless the shell or "
    "`--env` sets something else, which is listed; `--lanes installed` has the shell's settings "
    "alone."
)
DIFFERS = "**not the same model**"  # stands in bold on the page
# How many times as long a script's steps may take in the last turns of its rounds as in the first.
GROWN = 1.2


class RaceRow(RowResults):
    """The results of a script."""

    def __init__(self, results: "RaceResults", index: int) -> None:
        super().__init__(results, index)
        starts = results.starts[index]
        ready = starts[-1].ready
        assert ready
        # Speed of the first script as a multiple of this one's, by the item; None for the first.
        self.ratio = results.observed.ratio(0, index) if index else None
        self.start = median(start.seconds for start in starts)  # until its call of take_turns
        self.versions = ", ".join(
            f"{name} {version}" for name, version in ready.versions.items() if version
        )
        self.threads = starts[-1].threads


class RaceResults(Results):
    """The results of a race, so far if it is unfinished."""

    rows: list[RaceRow]

    def __init__(self, measurement: Measurement) -> None:
        super().__init__(measurement)
        self.proofs = {proof.row: proof for proof in measurement.of_kind(Proof)}
        self.rows = [RaceRow(self, row) for row in sorted(self.starts)]

    @cached_property
    def verdicts(self) -> list[str]:
        """Verdicts on the first script against each later one."""
        if not self.rounds:
            return [NOTHING.removesuffix(".")]
        if len(self.rows) < 2 or any(row.ratio is None for row in self.rows[1:]):
            return [f"No answer yet: a comparison needs {LEAST_ROUNDS} rounds"]
        first, *later = self.rows
        return [self._compared(first.label, row.label, row.ratio) for row in later if row.ratio]

    def _compared(self, left: str, right: str, ratio: Estimate) -> str:
        """The verdict on two scripts, as a sentence with its interval."""
        word = ratio.word(self.plan.within)
        words = render.verdict(ratio, self.plan.within, self.rounds, self.seconds)
        if word not in ("faster", "slower"):
            return f"{left} and {right} are {words}"
        surely = ratio if word == "faster" else ratio.inverse
        if surely.value >= TWICE:
            return (
                f"{left} {'is ' * (word == 'faster')}{words} as {right} ({surely.low:.2f} to "
                f"{surely.high:.2f})"
            )
        ends = f"{100 * (surely.low - 1):.1f} to {100 * (surely.high - 1):.1f}"
        return f"{left} is {words.replace(' by', f' than {right} by', 1)} ({ends})"

    @property
    def headline(self) -> str:
        """The verdicts on speed, and the one on equality,
        which comes first if the scripts differ."""
        proven = [*self._proven()]
        differs = any(proof.word == "differs" for proof in self.proofs.values())
        return f"{'; '.join([*proven, *self.verdicts] if differs else [*self.verdicts, *proven])}."

    def slower(self, limit: float) -> Word:
        """The verdict on the first script against the second:
        "slower" if by surely more than `limit`."""
        ratio = self.rows[1].ratio if len(self.rows) > 1 else None
        return ratio.times(1 + limit).word(within=0.0) if ratio else "not told apart"

    def _proven(self) -> Iterator[str]:
        """Verdicts of the records, with scripts of one verdict in one sentence."""
        verdicts = [(self.proof_of(row), self.plan.rows[row].label) for row in sorted(self.proofs)]
        for words, labels in grouped(verdicts).items():
            yield words if len(labels) == len(verdicts) else f"{listed(labels)}: {words}"

    def proof_of(self, row: int) -> str:
        """The verdict on a script's record against that of the first script, in words."""
        proof = self.proofs[row]
        if proof.word == "same":
            compared = (
                proof.stages[proof.stages.index("forward") :]
                if "forward" in proof.stages
                else ["forward"]
            )
            stages = compared[0] if len(compared) == 1 else f"{compared[0]} to {compared[-1]}"
            return (
                f"its record computes the same{f' to {proof.error:.0e}' if proof.error else ''} "
                f"({stages})"
            )
        if proof.word == "differs":
            return f"{DIFFERS}: parts at {proof.stages[-1] if proof.stages else 'its records'}"
        return "not compared"

    def _doubts_of_rows(self) -> Iterator[str]:
        for row, turns in self.turns.items():
            yield from misfits(self.plan.rows[row].label, turns, self._growth(row))

    def _more_notes(self) -> Iterator[str]:
        if self.observed.same_steps:
            yield (
                f"some steps differ by more than {UNEVEN:.0%} from one another, so the same steps "
                "are compared"
            )
        for row, proof in self.proofs.items():
            if proof.word != "same" and proof.why:
                verb = "differs" if proof.word == "differs" else "is not compared"
                yield f"{self.plan.rows[row].label} {verb}: {'; '.join(proof.why)}"

    def _growth(self, row: int) -> float:
        """Steps in the last cycle of a round as a multiple of those in the first:
        the smallest of all rounds."""
        growths = []
        for line in self.measurement.rounds():
            steps = [
                median(turn.steps) for cycle in line.cycles for turn in cycle if turn.row == row
            ]
            growths += [steps[-1] / steps[0]] if len(steps) > 1 else []
        return min(growths) if len(growths) >= LEAST_ROUNDS else 1.0


def misfits(label: str, turns: list[Turn], growth: float) -> Iterator[str]:
    """Reasons to doubt a script's figures, or those of scripts beside it."""
    idle = median(turn.idle for turn in turns)
    if idle > MOST_OTHERS:
        yield (
            f"{label} used {idle:.1f} cores while it was not its turn, which slows the others: its "
            "threads spin or work in the background; OMP_WAIT_POLICY=PASSIVE has OpenMP's sleep"
        )
    if growth > GROWN:
        yield (
            f"a step of {label} takes {growth:.1f} times as long at the end of a round as at its "
            "beginning; it may keep something of each step"
        )


ANSWER: Columns = {
    "an item": lambda row: quantity(row.item),
    "a step": lambda row: quantity(row.step),
    "items a step": lambda row: f"{row.items:,}",
    "speed of the first": lambda row: render.ratio(row.ratio),
}
START_OF_A_SCRIPT: Columns = {
    "until take_turns": lambda row: quantity(row.start),
    "the first step": lambda row: quantity(row.first_step),
    "most memory": lambda row: render.megabytes(row.peak_memory),
    "threads": lambda row: str(row.threads),
    "versions": lambda row: safe(row.versions),
}
# Results that `--json` prints, beside the machine.
PRINTED_OF_A_RACE = (
    "headline verdicts doubts notes rows proofs rounds cycles dropped seconds reached"
).split()


def report_of_race(measurement: Measurement) -> Report:
    """The whole page, with its answer for a terminal, and the results for --json."""
    results = RaceResults(measurement)
    rows, machine = results.plan.rows, measurement.head.machine
    drawn = [Bar(row.label, "", [row.item]) for row in results.rows if row.item]
    charts = {"An item; shorter is better": bars(drawn)} if drawn else {}
    one_python = len({row.python for row in rows}) == 1
    is_robust = len(results.observed.logarithms) >= ROBUST_ROUNDS
    values = {
        "headline": _bold(results.headline),
        "reached": reached({"": results.reached}),
        "answer": by_row(results.rows, ANSWER, "script"),
        "proof": markdown_table(
            ("script", f"against {safe(rows[0].label)}", "stages", "what was found"),
            [
                (
                    safe(rows[row].label),
                    _bold(results.proof_of(row)),
                    ", ".join(map(safe, proof.stages)),
                    "; ".join(map(safe, proof.why)),
                )
                for row, proof in results.proofs.items()
            ],
        ),
        "start": by_row(results.rows, START_OF_A_SCRIPT, "script"),
        "commands": markdown_table(
            ("script", "command", "threads and memory", "variables"),
            [
                (
                    safe(row.label),
                    code(
                        " ".join(
                            map(quoted, ["python" if one_python else row.python, *row.command])
                        )
                    ),
                    "tuned" if row.lane == "tuned" else "as installed",
                    ", ".join(code(f"{name}={value}") for name, value in row.variables.items()),
                )
                for row in rows
            ],
        ),
        "lane": TUNED if any(row.lane == "tuned" for row in rows) else "",
        "per_item": f"{PER_ITEM} {ROBUST if is_robust else STUDENTS}",
        "origin": render.origin(machine, {}),
    }
    printed = {name: getattr(results, name) for name in PRINTED_OF_A_RACE} | {"machine": machine}
    return page(results, values, printed, charts)


def _bold(text: str) -> str:
    """A sentence of any origin, in which the stars of DIFFERS are kept."""
    return DIFFERS.join(map(safe, text.split(DIFFERS)))
