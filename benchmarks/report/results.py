"""From a recording of a benchmark to its results: rows and the parts of their steps, pairs of rows and why one is
slower, the headline, warnings. Nothing is measured.

Times are in seconds and memory in bytes unless it says otherwise.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import combinations
from math import ceil, fsum
from statistics import fmean, median
from typing import Literal, get_args

import msgspec

from backends import BASELINE, title_of
from benchmarks.compare.comparer import Certificate
from benchmarks.in_child import Profile
from benchmarks.measure.lines import Work
from benchmarks.measure.plan import LEAST_ROUNDS, Row
from benchmarks.measure.recording import Certified, Decoded, Recording, RowProfile, ShownSentence
from benchmarks.measure.statistics import Estimate, Word, beside_others, counting, grouped, half_width, observations
from benchmarks.report.render import times
from common.interface import BackendFacts
from common.text import listed

MOST_OUTSIDE = 0.05  # share of a visit's time that may pass outside its timed steps without a warning
MOST_STOLEN = 0.02  # cores that other virtual machines may take on average without a note
SURPRISE = 10.0  # the example's decoding is told of below the headline if Keras decodes this many times as fast
BETWEEN = ("data", "Python")  # the parts of a step in which none of its kernels runs
WORTH = 0.1  # a part of a step is named if it makes up at least this share of the difference between two rows
# The names of the parts of a step (see common.profiling.Part) in tables, and after "22 ms more in".
PARTS = {
    "LSTM": "its LSTM kernels",
    "products": "matrix products",
    "gates": "gates and other operators",
    "optimizer": "the optimizer",
    "data": "making the tensors",
    "Python": "Python and the framework's own bookkeeping",
    "other": "other kernels",
}

# What the two rows of a pair are: two backends with matched settings, or a row and its counterpart (see Row), which
# is as installed, in reduced precision, or simply measured a second time.
Kind = Literal["frameworks", "installed", "reduced", "control"]


@dataclass(frozen=True)
class RowResults:
    """What is known of one row."""

    row: Row
    label: str  # the row's name in tables and charts
    title: str  # its name in the headline
    facts: BackendFacts
    certificate: Certificate | None  # parity certificate of the framework's version that ran; None if there is none
    why_not: str  # why the row is not compared with others, such as broken parity; empty if it is compared
    step: Estimate | None  # a warm training step; None if no cycle could be used
    epoch: Estimate | None
    pairs_per_second: float | None
    batch: Estimate | None  # a character that is put out, where many sentences are decoded in one call
    # The same of the held-out sentence with the longest output, decoded by itself. A row that cannot decode a batch
    # decodes the shown sentences once instead, so its interval has no width.
    alone: Estimate | None
    sentences: int  # number of sentences that `batch` decodes in one call
    # The phases of a start: import, build, first step; and process, where a process was started while no other was.
    start: Mapping[str, float]
    peak_memory: int  # the most memory of any process while it trained
    flop: float | None  # floating-point operations of a step, by formula
    peak_share: float | None  # their number a second, as a share of the fastest matrix product that was measured
    step_parts: Mapping[str, float]  # a step by common.profiling.Part; empty where the profiler did not run


@dataclass(frozen=True)
class RowPair:
    """Two rows compared with one another."""

    kind: Kind
    left: str  # label of the faster row if the kind is "frameworks", otherwise of the row that the kind names
    right: str  # label of the row that it is compared with
    ratio: Estimate  # how many times as fast left is
    pairwise: Estimate | None  # the same ratio from these two rows alone
    word: Word  # the verdict
    why: str = ""  # a sentence that explains the difference; empty where the parts of a step were not measured


class TranslatedSentence(ShownSentence, frozen=True):
    """A sentence of the corpus, its references, and each row's translation. All rows decode with the same weights."""

    translations: dict[str, str]  # by the row's label

    @property
    def distinct(self) -> dict[str, list[str]]:
        """Each distinct translation, with the labels of the rows that give it."""
        return grouped((translation, label) for label, translation in self.translations.items())


class Results:
    """The results of a recording; of one that is not finished, of what was measured so far."""

    def __init__(self, recording: Recording) -> None:
        self.recording, self.plan, self.head = recording, recording.plan, recording.head
        self.observed = {work: observations(recording, work) for work in get_args(Work)}
        rounds, rows = recording.rounds(), self.plan.rows
        cycles, used = [cycle for line in rounds for cycle in line.cycles], counting(rounds)
        self.starts = grouped((start.row, start) for line in rounds for start in line.starts)
        self.visits = grouped((visit.row, visit) for cycle in cycles for visit in cycle)
        self.certificates = {line.row: line.certificate for line in recording.of_kind(Certified)}
        self.profiled = {line.row: line for line in recording.of_kind(RowProfile)}
        self.decoded = {line.row: line for line in recording.of_kind(Decoded)}
        self.question = [rows.index(row) for row in self.plan.question]
        self.rounds = len({line.number for line in rounds})  # of new processes
        self.cycles = len(cycles)
        self.dropped = len(cycles) - len(used)  # cycles that are left out, since other programs disturbed them
        self.again = sum(visit.tries - 1 for cycle in cycles for visit in cycle)  # turns taken again
        # Mean number of cores that other programs used during the visits that count, and that other virtual machines
        # took during all.
        self.others = fmean([visit.others for _, cycle in used for visit in cycle] or [0.0])
        self.stolen = fmean([visit.stolen for cycle in cycles for visit in cycle] or [0.0])
        self.seconds = sum(line.seconds for work in self.observed for line in recording.rounds(work))  # of all rounds
        # Of the weights, on all held-out sources; None if these were not decoded.
        self.scores = next((line.scores for line in self.decoded.values() if line.scores), None)
        # Operations a second of the fastest matrix product, and its backend; None where none was measured.
        peaks = [(line.flops, rows[row].backend) for row, line in self.profiled.items() if line.flops]
        self.peak = max(peaks, default=None)
        self.reached = half_width(recording)  # by the widest interval, to its wider side
        # The rows of which a process was started, without those that are measured a second time: from fast to slow;
        # those that are not compared come last.
        measured = [self._row(index) for index in sorted(self.starts) if not rows[index].control]
        self.rows = sorted(measured, key=lambda row: (bool(row.why_not), row.step.value if row.step else 0.0))
        self.by_label = {row.label: row for row in self.rows}

    @cached_property
    def pairs(self) -> list[RowPair]:
        """Every two rows of the question, the faster one on the left; then each special row and its counterpart.

        They are compared by their training steps.
        """
        rows = self.plan.rows
        compared = [rows.index(row.row) for row in self.rows if not row.why_not]
        members = [index for index in compared if index in self.question]
        pairs = [self._pair("frameworks", *pair) for pair in combinations(members, 2)]
        for index, row in enumerate(rows):
            if row.counterpart in rows:
                other = rows.index(row.counterpart)
                if row.control or {index, other} <= {*compared}:
                    kind: Kind = "control" if row.control else "installed" if row.installed else "reduced"
                    pairs.append(self._pair(kind, index, other))
        return [pair for pair in pairs if pair]

    def ratio(self, left: str, right: str) -> Estimate | None:
        """How many times as fast the row labelled `left` trains as the one labelled `right`; None if not known."""
        for pair in self.pairs:
            if {pair.left, pair.right} == {left, right}:
                return pair.ratio if pair.left == left else pair.ratio.inverse
        return None

    @property
    def baseline(self) -> str:
        """The label of the row that ratios in tables refer to: the one asked for, or the example, or the slowest.

        "" if there is none.
        """
        timed = [row for row in self.rows if row.step and not row.why_not and row.row in self.plan.question]
        named = [row.label for name in (self.plan.baseline, BASELINE) for row in timed if row.row.backend == name]
        return next(iter(named), timed[-1].label if timed else "")

    @property
    def sentences(self) -> list[TranslatedSentence]:
        """The sentences that the report shows, with the translations by the rows of the benchmark's question."""
        lines = {self.plan.rows[i].label: self.decoded[i] for i in self.question if i in self.decoded}
        return [
            TranslatedSentence(
                one.source, one.references, one.held_out, {by: line.translations[n] for by, line in lines.items()}
            )
            for n, one in enumerate(self.head.corpus.shown if lines else [])
        ]

    def of_frameworks(self, rows: Sequence[RowResults]) -> list[RowResults]:
        """Those of the rows that the question is about, without variants where two frameworks or more are left."""
        rows = [row for row in rows if row.row in self.plan.question]
        plain = [row for row in rows if ":" not in row.row.backend]
        return plain if len(plain) > 1 else rows

    @property
    def headline(self) -> str:
        """The answer in a sentence: how many times as fast the fastest framework trains as each of the others."""
        rows = self.of_frameworks([row for row in self.rows if row.step and not row.why_not])
        if not self.rounds:
            return "Nothing was measured yet."
        if len(rows) == 1 and rows[0].pairs_per_second:
            return f"{rows[0].title} trains {rows[0].pairs_per_second:,.0f} pairs a second."
        if len(rows) < 2 or not any(pair.kind == "frameworks" for pair in self.pairs):
            return "No answer yet: a comparison needs two rounds and two rows that pass parity."
        first, *others = rows
        faster: list[str] = []
        same: list[str] = []
        unknown: list[str] = []
        for other in others:
            ratio = self.ratio(first.label, other.label)
            word = ratio.word(self.plan.within) if ratio else "not told apart"
            if ratio and word in ("faster", "slower"):
                faster.append(f"{times(ratio.value)} times as fast as {other.title}")
            else:
                (same if word == "same" else unknown).append(other.title)
        clauses = [listed(faster)] if faster else []
        clauses += [f"as fast as {listed(same)}"] if same else []
        sentences = [f"{first.title} trains {listed(clauses)}"] if clauses else []
        if unknown:
            sentences.append(f"{listed([first.title, *unknown])} are not told apart yet")
        translated = self.sentences
        if translated and all(row.label in translated[0].translations for row in rows):
            alike = sum(len(one.distinct) == 1 for one in translated)
            sentences.append(f"all translate {alike} of {len(translated)} sentences alike")
        return f"{'; '.join(sentences)}."

    @property
    def surprise(self) -> str:
        """How much slower the official example decodes a character than Keras; "" if it is not, or not measured."""
        example, keras = map(self.by_label.get, (BASELINE, BASELINE.partition(":")[0]))
        if not (example and example.alone and keras and keras.alone):
            return ""
        slower, milliseconds, plain = (
            float(f"{value:.2g}")
            for value in (example.alone.value / keras.alone.value, example.alone.value * 1e3, keras.alone.value * 1e3)
        )
        if slower < SURPRISE:
            return ""
        return (
            f"The official example takes {milliseconds:g} ms to decode a character, plain "
            f"{keras.title} {plain:g}: the example decodes {slower:,.0f} times slower than "
            f"{keras.title} can."
        )

    @property
    def missing(self) -> list[str]:
        """What there was no time for, in the order of its worth."""
        batched = any(self.plan.rows[index].backend != BASELINE for index in self.question)
        installed = {index for index, row in enumerate(self.plan.rows) if row.installed}
        lacking = {
            "the ten sentences in every backend": not {*self.question} <= self.decoded.keys(),
            "decoding speed": batched and not self.recording.rounds("batch"),
            "rows as installed": not installed <= self.starts.keys(),
            "why one is slower": not {*self.question} <= self.profiled.keys(),
        }
        return [what for what, lacks in lacking.items() if lacks]

    @property
    def doubts(self) -> list[str]:
        """The reasons not to rely on the figures."""
        doubts = []
        doubts += beside_others(counting(self.recording.rounds()))
        used = len(self.observed["training"].logarithms)
        if self.reached is None:
            doubts.append("too few rounds can be used for an interval; --resume measures more")
        elif used < LEAST_ROUNDS:
            doubts.append(
                f"only {used} rounds could be measured, and {LEAST_ROUNDS} are the least for figures to rely on"
            )
        if self._bias:
            ratio = self._bias.ratio
            doubts.append(
                f"{self._bias.left} seems faster or slower than the same row measured before ({ratio.low:.2f} to "
                f"{ratio.high:.2f}): the measurement is biased by as much, and all intervals are widened by it"
            )
        for why_not, labels in grouped((row.why_not, row.label) for row in self.rows if row.why_not).items():
            doubts.append(f"not compared: {', '.join(labels)}, because {why_not}")
        asked = self.plan.threads or self.head.machine["cores"]
        for row in self.rows:
            if not row.row.installed and row.facts.threads != asked:
                doubts.append(f"{row.label} computed on {row.facts.threads} threads, although {asked} were asked for")
            visits = self.visits.get(self.plan.rows.index(row.row), [])
            if any(1 - fsum([*visit.lead, *visit.steps]) / visit.loop > MOST_OUTSIDE for visit in visits):
                doubts.append(
                    f"{row.label} spent over {MOST_OUTSIDE:.0%} of its time outside the timed steps, so the device "
                    "may still have been at work when a step's clock was stopped"
                )
        return doubts

    @property
    def notes(self) -> list[str]:
        """What else a reader should know of the figures."""
        notes = []
        if self.dropped:
            left_out = f"{self.dropped} of {self.cycles} cycles are left out because other programs were at work"
            notes.append(f"{left_out}; close other programs and measure again")
        if self.stolen > MOST_STOLEN:
            stolen = f"other virtual machines took {self.stolen:.2f} cores on average meanwhile"
            notes.append(f"{stolen}, which widens intervals")
        within = self.plan.within
        if self.reached and self.reached > within:
            spent = sum(line.seconds for line in self.recording.rounds())
            more = ceil(spent * ((self.reached / max(within, 1e-3)) ** 2 - 1) / 60)
            notes.append(
                f"the widest interval reaches {self.reached:.1%} to one side, although {within:.0%} was asked for; "
                f"about {more} more minute{'s' * (more > 1)} would do: --resume --budget {more}m"
            )
        matched = [row for row in self.rows if not row.row.installed]
        fates = grouped((str(row.facts.settings.get("denormals", "not known")), row.label) for row in matched)
        if len(fates) > 1:
            words = "; ".join(f"{fate} in {', '.join(labels)}" for fate, labels in fates.items())
            notes.append(f"denormal numbers (very close to zero) are not treated alike: {words}")
        return notes

    def _row(self, index: int) -> RowResults:
        row, starts, decoded = self.plan.rows[index], self.starts[index], self.decoded.get(index)
        facts, visits, profiled = starts[-1].facts, self.visits.get(index, []), self.profiled.get(index)
        step, (certificate, why_not) = self.observed["training"].seconds(index), self._parity(index)
        alone = self.observed["alone"].seconds(index)
        if alone is None and decoded and not decoded.characters:
            alone = Estimate(decoded.seconds, decoded.seconds, decoded.seconds)
        sizes, batch_size = self.head.corpus.sizes, self.plan.settings.batch_size
        start = {
            "process": [s.seconds - s.facts.import_seconds - s.facts.build_seconds for s in starts if s.seconds],
            "import": [s.facts.import_seconds for s in starts],
            "build": [s.facts.build_seconds for s in starts],
            "first step": [s.warm_up.first_step_seconds for s in starts],
        }
        flop, parts = None, {}
        if step and not row.reduced:
            flop = sizes.step_flop(batch_size, self.plan.latent_dim, starts[-1].one_hot)
        if step and profiled and profiled.profile:
            # keras:example makes all of its tensors before its steps.
            parts = step_parts(profiled.profile, step.value, makes_tensors=row.backend != BASELINE)
        return RowResults(
            row=row,
            label=row.label,
            title=row.called or title_of(row.backend),
            facts=facts,
            certificate=certificate,
            why_not=why_not,
            step=step,
            # An epoch's last batch has fewer pairs, but its step takes as long as the others.
            epoch=step and step.times(ceil(sizes.training_rows / batch_size)),
            pairs_per_second=batch_size / step.value if step else None,
            batch=self.observed["batch"].seconds(index),
            alone=alone,
            sentences=decoded.sentences if decoded else 0,
            start={phase: median(seconds) for phase, seconds in start.items() if seconds},
            peak_memory=max([start.warm_up.peak for start in starts] + [visit.peak for visit in visits]),
            flop=flop,
            peak_share=flop / step.value / self.peak[0] if flop and step and self.peak else None,
            step_parts=parts,
        )

    def _parity(self, index: int) -> tuple[Certificate | None, str]:
        """The certificate of a row, and why the row is not compared with others; "" if it is compared."""
        # Neither a lane nor measuring a second time changes mathematics.
        plain = msgspec.structs.replace(self.plan.rows[index], lane="matched", control=False)
        certificate = self.certificates.get(self.plan.rows.index(plain) if plain in self.plan.rows else index)
        versions = [start.facts.version for start in self.starts[index]]
        if certificate is None or certificate.version != versions[-1]:
            return None, "there is no parity certificate of this version"
        if not certificate.passed:
            return certificate, "parity is broken, and `rosetta parity` explains where"
        if len(set(versions)) > 1:
            return certificate, "the rounds ran in more than one version"
        finite = all(visit.finite for visit in self.visits.get(index, []))
        return certificate, "" if finite else "the loss is not finite"

    @cached_property
    def _bias(self) -> RowPair | None:
        """A row that was measured twice and seems faster or slower than itself; None if none does."""
        rows = self.plan.rows
        twice = [(index, row.counterpart) for index, row in enumerate(rows) if row.control]
        pairs = [self._pair("control", index, rows.index(row)) for index, row in twice if row in rows]
        return next((pair for pair in pairs if pair and pair.word in ("faster", "slower")), None)

    def _pair(self, kind: Kind, left: int, right: int) -> RowPair | None:
        """Two rows compared, of two frameworks the faster one on the left; None where their ratio is not known.

        A bias widens its intervals.
        """
        observed, (one, other) = self.observed["training"], (self.plan.rows[index].label for index in (left, right))
        ratio, pairwise = observed.ratio(left, right), observed.pairwise(left, right)
        if ratio is None:
            return None
        if kind == "frameworks" and ratio.value < 1:
            return self._pair(kind, right, left)
        if kind != "control" and self._bias:
            bias = max(self._bias.ratio.value, self._bias.ratio.inverse.value) - 1
            ratio, pairwise = ratio.widened(bias), pairwise and pairwise.widened(bias)
        word, why = ratio.word(self.plan.within), ""
        if kind == "frameworks" and word == "faster":
            faster, slower = self.by_label[one], self.by_label[other]
            why = why_slower(slower.title, faster.title, slower.step_parts, faster.step_parts)
        return RowPair(kind, one, other, ratio, pairwise, word, why)


def step_parts(profile: Profile, step_seconds: float, makes_tensors: bool) -> dict[str, float]:
    """The seconds that each part of a step takes, in the order of PARTS; their sum is `step_seconds`.

    A profiler slows down what it watches, so only shares are taken from it:

    - All kernels together have the share of the time in which at least one kernel was running. It is divided between
      them in proportion to their own times, since some of them run at the same time.
    - The rest of the step is Python and waiting. What making the tensors takes, which is measured by itself, is
      subtracted from it. Where `makes_tensors` is False, the row makes its tensors before its steps, and nothing is
      subtracted.
    """
    together = sum(kernel.seconds for kernel in profile.kernels) or 1.0
    busy = min(1.0, profile.busy_seconds / profile.seconds)
    shares: dict[str, float] = dict.fromkeys(PARTS, 0.0)
    for kernel in profile.kernels:
        shares[kernel.part] += busy * kernel.seconds / together
    between = 1.0 - sum(share for part, share in shares.items() if part not in BETWEEN)
    if makes_tensors:
        shares["data"] = min(profile.data_seconds / profile.steps / step_seconds, between)
    shares["Python"] = between - shares["data"]
    return {part: share * step_seconds for part, share in shares.items()}


def why_slower(slower: str, faster: str, parts: Mapping[str, float], others: Mapping[str, float]) -> str:
    """A sentence that names the parts of a step in which the slower row spends more time than the faster one.

    `parts` are the seconds of the slower row's step by part, `others` those of the faster row's step. The sentence is
    empty where one of the two has no profile, or where no part explains the difference.
    """
    if not parts or not others:
        return ""
    words, own, theirs = dict(PARTS), dict(parts), dict(others)
    if bool(own["LSTM"]) != bool(theirs["LSTM"]):
        # One row has fused LSTM kernels, the other a loop of products and gates: only their sums can be compared.
        fused = faster if theirs["LSTM"] else slower
        for row in (own, theirs):
            row["LSTM"] += row.pop("products") + row.pop("gates")
        words["LSTM"] = f"the model's operators (of the two, {fused} alone has a fused LSTM)"
    differences = sorted(((own[part] - theirs[part], words[part]) for part in own), reverse=True)
    total = sum(seconds for seconds, _ in differences)
    more = [f"{_ms(seconds)} more in {part}" for seconds, part in differences if seconds > WORTH * total]
    less = [f"{_ms(-seconds)} less in {part}" for seconds, part in differences if -seconds > WORTH * total]
    if total <= 0 or not more:
        return ""
    return f"{slower}'s step is {_ms(total)} longer than {faster}'s: {listed([*more, *less])}."


def _ms(seconds: float) -> str:
    return f"{1e3 * seconds:.0f} ms" if seconds >= 0.01 else f"{1e3 * seconds:.1f} ms"
