"""From the recording of a race to its answer and its page: which script is faster and by how much, and whether all
compute the same. Nothing is measured."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from statistics import fmean, median
from typing import Any

import msgspec

from benchmarks.compare.rungs import COMPARED
from benchmarks.in_child import Visit
from benchmarks.measure.machine import MOST_OTHERS
from benchmarks.measure.plan import LEAST_ROUNDS
from benchmarks.measure.race import Proof, RaceRecording
from benchmarks.measure.statistics import (
    UNEVEN,
    Estimate,
    beside_others,
    counting,
    grouped,
    half_width,
    observations,
)
from benchmarks.report.render import (
    MISSING,
    SPACE,
    TWICE,
    Bar,
    Report,
    chart,
    code,
    count,
    day,
    digits,
    duration,
    interval,
    joined,
    megabytes,
    origin,
    percent,
    quantity,
    ratio,
    safe,
    sections,
    table,
    under_headings,
    verdict,
)
from common.text import listed, quoted

NO_ENERGY = "Energy was not measured: the system does not let this user read its counters (RAPL)."
GROWN = 1.2  # how many times as long a script's steps may take in the last turns of its rounds as in the first


@dataclass(frozen=True)
class RacerResults:
    """What is known of a script. Times are in seconds, memory is in bytes."""

    label: str
    items: int  # in a step
    item: Estimate | None
    ratio: Estimate | None  # how many times as fast the first script is, by the item; None for the first
    start: float  # until take_turns was called
    first_step: float
    peak_memory: int
    joules: float | None  # of an item; None where the system does not tell
    versions: str
    threads: int

    @property
    def step(self) -> Estimate | None:
        return self.item.times(self.items) if self.item else None


class RaceResults:
    """The results of a race, or of what was measured of it so far."""

    def __init__(self, recording: RaceRecording) -> None:
        self.recording, self.plan = recording, recording.head.plan
        self.observed, rounds = observations(recording), recording.rounds()
        cycles, used = [cycle for line in rounds for cycle in line.cycles], counting(rounds)
        self.visits = grouped((visit.row, visit) for cycle in cycles for visit in cycle)
        self.starts = grouped((start.row, start) for line in rounds for start in line.starts)
        self.rounds, self.cycles = len(rounds), len(cycles)
        self.dropped = len(cycles) - len(used)
        self.seconds = sum(line.seconds for line in rounds)
        self.reached = half_width(recording)
        self.same_steps = self.observed.same_steps
        self.proofs = {proof.row: proof for proof in recording.of_kind(Proof)}
        controls = [row for row, runner in enumerate(self.plan.rows) if runner not in self.plan.question]
        self.control = self.observed.ratio(controls[0], 0) if controls else None  # of one script raced twice
        self.rows = [self._row(row) for row in sorted(self.starts) if row not in controls]

    @property
    def bias(self) -> float:
        """The share by which two processes of one script surely differ, or 0."""
        biased = self.control and not self.control.low <= 1 <= self.control.high
        return abs(self.control.value - 1) if self.control and biased else 0.0

    @cached_property
    def sentences(self) -> list[str]:
        """A verdict on the first script against each other one."""
        if not self.rounds:
            return ["Nothing was measured yet"]
        if len(self.rows) < 2 or any(row.ratio is None for row in self.rows[1:]):
            return [f"No answer yet: a comparison needs {LEAST_ROUNDS} rounds"]
        first, *others = self.rows
        return [self._compared(first.label, other.label, other.ratio) for other in others if other.ratio]

    def _compared(self, left: str, right: str, ratio: Estimate) -> str:
        """The verdict on two scripts, as a sentence with its interval."""
        word, words = ratio.word(self.plan.within), verdict(ratio, self.plan.within, self.rounds, self.seconds)
        if word not in ("faster", "slower"):
            return f"{left} and {right} are {words}"
        surely = ratio if word == "faster" else ratio.inverse
        if surely.value >= TWICE:
            return f"{left} {'is ' * (word == 'faster')}{words} as {right} ({surely.low:.2f} to {surely.high:.2f})"
        ends = f"{100 * (surely.low - 1):.1f} to {100 * (surely.high - 1):.1f}"
        return f"{left} is {words.replace(' by', f' than {right} by', 1)} ({ends})"

    @property
    def headline(self) -> str:
        """Which script is faster by how much, and whether all compute the same; this first where they do not."""
        proven = [*self._proven()]
        differs = any(proof.word == "differs" for proof in self.proofs.values())
        return f"{'; '.join([*proven, *self.sentences] if differs else [*self.sentences, *proven])}."

    def slower(self, limit: float) -> str:
        """Whether the first script is surely slower than the second by more than a limit ("slower"), surely not ("not
        slower"), or neither ("not told apart")."""
        found = self.rows[1].ratio if len(self.rows) > 1 else None
        if found is None or found.low <= 1 / (1 + limit) <= found.high:
            return "not told apart"
        return "slower" if found.high < 1 / (1 + limit) else "not slower"

    def _proven(self) -> Iterator[str]:
        """What the records show, in words; those that are alike in one sentence."""
        found = [(self.proof_of(row), self.plan.rows[row].label) for row in sorted(self.proofs)]
        for words, labels in grouped(found).items():
            yield words if len(labels) == len(found) else f"{listed(labels)}: {words}"

    def proof_of(self, row: int) -> str:
        """What the records of a script and the first one show, in words."""
        proof = self.proofs[row]
        if proof.word == "same":
            climbed = [rung for rung in COMPARED[COMPARED.index("forward") :] if rung in proof.rungs] or ["forward"]
            rungs = climbed[0] if len(climbed) == 1 else f"{climbed[0]} to {climbed[-1]}"
            return (
                f"computes the same to {proof.error:.0e} ({rungs})" if proof.error else f"computes the same ({rungs})"
            )
        if proof.word == "differs":
            return f"**not the same model**: parts at {proof.rungs[-1] if proof.rungs else 'its records'}"
        return "not compared"

    @property
    def doubts(self) -> list[str]:
        """The reasons not to rely on the figures."""
        doubts = beside_others(counting(self.recording.rounds()))
        if self.reached is not None and self.rounds < LEAST_ROUNDS:
            doubts.append(f"only {count(self.rounds, 'round')} could be measured, and {LEAST_ROUNDS} are the least")
        if self.bias:
            doubts.append(
                f"two processes of the first script seem to differ by {percent(self.bias)}, so the measurement is "
                "biased, and intervals are widened by as much"
            )
        for row, visits in self.visits.items():
            doubts += misfits(self.plan.rows[row].label, visits, self._growth(row))
        return doubts

    @property
    def notes(self) -> list[str]:
        """What else a reader should know of the figures."""
        notes = []
        if self.same_steps:
            notes.append(
                f"some steps differ by more than {UNEVEN:.0%} from one another, so the same steps were compared; "
                "take_turns gives their number to a step that takes an argument"
            )
        if self.dropped:
            notes.append(f"{self.dropped} of {self.cycles} cycles are left out because other programs were at work")
        return notes

    def _growth(self, row: int) -> float:
        """How many times as long steps took in the last cycle of a round as in the first, in the median of rounds."""
        found = []
        for line in self.recording.rounds():
            steps = [median(visit.steps) for cycle in line.cycles for visit in cycle if visit.row == row]
            found += [steps[-1] / steps[0]] if len(steps) > 1 else []
        return median(found) if found else 1.0

    def _row(self, row: int) -> RacerResults:
        starts, visits, items = self.starts[row], self.visits.get(row, []), self.recording.items("training")[row]
        versus = self.observed.ratio(0, row) if row else None
        joules = [
            visit.joules / (visit.loop / median(visit.steps) * items) for visit in visits if visit.joules is not None
        ]
        return RacerResults(
            self.plan.rows[row].label,
            items,
            self.observed.seconds(row),
            versus.widened(self.bias) if versus else None,
            median(start.seconds for start in starts),
            median(start.warm_up.first_step_seconds for start in starts),
            max([*(visit.peak for visit in visits), *(start.warm_up.peak for start in starts)]),
            fmean(joules) if joules else None,
            starts[-1].facts.version,
            starts[-1].facts.os_threads,
        )


def misfits(label: str, visits: list[Visit], growth: float) -> Iterator[str]:
    """What a script does that makes its own figures or those of others doubtful."""
    idle = median(visit.idle for visit in visits)
    if idle > MOST_OTHERS:
        yield (
            f"{label} used {idle:.1f} cores while it was not its turn, which slows the others: its threads spin or "
            "work in the background; OMP_WAIT_POLICY=PASSIVE has OpenMP's sleep"
        )
    if growth > GROWN:
        yield (
            f"a step of {label} takes {growth:.1f} times as long at the end of a round as at its beginning; it may "
            "keep something of each step"
        )


Columns = Mapping[str, Callable[[RacerResults], str]]  # of a table with a line for each script: the text of a cell
ANSWER: Columns = {
    "an item": lambda row: interval(row.item),
    "a step": lambda row: quantity(row.step),
    "items a step": lambda row: f"{row.items:,}",
    "speed of the first": lambda row: ratio(row.ratio),
}
START: Columns = {
    "until take_turns": lambda row: quantity(row.start),
    "the first step": lambda row: quantity(row.first_step),
    "most memory": lambda row: megabytes(row.peak_memory),
    "threads": lambda row: str(row.threads),
    "energy of an item": lambda row: f"{digits(row.joules)}{SPACE}J" if row.joules is not None else MISSING,
    "versions": lambda row: safe(row.versions),
}


def report_of(recording: RaceRecording) -> Report:
    """The whole page, of which a terminal shows the answer, and the results for --json."""
    results = RaceResults(recording)
    head, plan, machine = recording.head, results.plan, recording.head.machine
    timed = [row for row in results.rows if row.item]
    charts = {"An item": chart([Bar(row.label, "", row.item) for row in timed])} if timed else {}
    bold = "**not the same model**"  # our own words keep their stars
    values = {
        "headline": bold.join(map(safe, results.headline.split(bold))),
        "machine": f"{safe(machine['processor'] or 'an unknown processor')}, {count(machine['cores'], 'core')}",
        "reached": f"95{SPACE}% intervals within ±{percent(results.reached)} · " if results.reached else "",
        "rounds": count(results.rounds, "round"),
        "when": safe(day(head.started)),
        "doubts": joined(*(f"**Warning:** {safe(doubt)}." for doubt in results.doubts)),
        "charts": " ".join(f"![{title}](chart)" for title in charts),
        "answer": _by_script(results, ANSWER),
        "notes": "\n".join(f"* Note: {safe(note)}." for note in results.notes),
        "proof": table(
            ("script", f"against {safe(plan.rows[0].label)}", "rungs", "what was found"),
            [
                (safe(plan.rows[row].label), results.proof_of(row), ", ".join(map(safe, proof.rungs)), _why(proof))
                for row, proof in results.proofs.items()
            ],
        ),
        "start": _by_script(results, START),
        "energy": "" if any(row.joules is not None for row in results.rows) else NO_ENERGY,
        "scripts": table(
            ("script", "command", "variables"),
            [
                (
                    safe(runner.label),
                    code(" ".join(map(quoted, [runner.python, *runner.command]))),
                    ", ".join(code(f"{name}={value}") for name, value in runner.variables.items()),
                )
                for runner in plan.rows
            ],
        ),
        "cycles": count(results.cycles, "cycle"),
        "seconds": duration(results.seconds),
        "dropped": count(results.dropped, "cycle"),
        "within": percent(plan.within),
        "control": f"The first script was raced twice: its second process is {ratio(results.control)} as fast. "
        "Without a bias the interval contains 1."
        if results.control
        else "",
        "origin": origin(machine, {}),
    }
    parts = sections("race.md", values)
    answer = parts.pop("")
    names = (
        "headline sentences doubts notes rows proofs control rounds cycles dropped seconds reached same_steps".split()
    )
    printed: dict[str, Any] = {name: getattr(results, name) for name in names} | {"machine": machine}
    content = msgspec.json.decode(msgspec.json.encode(printed))
    return Report(joined(answer, "---", under_headings(parts)) + "\n", answer, content, charts)


def _by_script(results: RaceResults, columns: Columns) -> str:
    lines = [(safe(row.label), *(cell(row) for cell in columns.values())) for row in results.rows]
    return table(("script", *columns), lines)


def _why(proof: Proof) -> str:
    return "; ".join(map(safe, proof.why))
