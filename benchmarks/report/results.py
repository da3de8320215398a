"""From a recording of a benchmark to its results: rows, pairs of rows, the headline, warnings. Nothing is measured.

Times are in seconds and memory in bytes unless it says otherwise.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import combinations
from math import ceil, fsum
from statistics import fmean, median
from typing import Any, Literal, get_args

import msgspec

from backends import BASELINE, title_of
from benchmarks.compare.certificate import Certificate
from benchmarks.measure.in_child import Product
from benchmarks.measure.plan import LEAST_ROUNDS, Row
from benchmarks.measure.recording import BenchHead, Certified, Decoded, Evidence, Recording, Round, Shown, Work
from benchmarks.measure.turns import usable
from benchmarks.report.roofline import multiplies_one_hot, step_flop
from benchmarks.report.statistics import MOST_DROPPED, Estimate, Word, grouped, half_width, observations, trusted
from benchmarks.report.why import advice_for, step_parts, why_slower
from common.evidence import Kernel
from common.interface import BackendFacts
from common.scoring import Scores
from common.text import listed

MOST_OUTSIDE = 0.05  # share of a visit's time that may pass outside its timed steps without a warning
SLOWER = 1.1  # a row as installed gets advice if its step takes this many times as long as the matched one
MOST_STOLEN = 0.02  # cores that other virtual machines may take on average without a note
SURPRISE = 10.0  # the example's decoding is told of below the headline if Keras decodes this many times as fast

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
    alone: Estimate | None  # the same of the held-out sentence with the longest output, decoded by itself
    once: float | None  # the same of the shown sentences, of a row that cannot decode a batch and so is measured once
    sentences: int  # number of sentences that `batch` decodes in one call
    start: Mapping[str, float]  # the phases of a start: process, import, build, first step
    memory: Mapping[str, float]  # resident memory: after import, after build, peak
    flop: float | None  # floating-point operations of a step, by formula
    peak_share: float | None  # their number a second, as a share of the fastest matrix product that was measured
    threads: tuple[int, int]  # of the process, as the operating system counts them; of these those that were busy
    kernels: Sequence[Kernel]  # from the framework's own profiler, the longest first; empty where it did not run
    step_parts: Mapping[str, float]  # a step by common.evidence.Part; empty where the profiler did not run

    @property
    def compared(self) -> bool:
        """Whether the row's figures are compared with those of other rows."""
        return not self.why_not


@dataclass(frozen=True)
class Pair:
    """Two rows compared with one another."""

    kind: Kind
    left: str  # label of the faster row if the kind is "frameworks", otherwise of the row that the kind names
    right: str  # label of the row that it is compared with
    ratio: Estimate  # how many times as fast left is
    pairwise: Estimate | None  # the same ratio from these two rows alone
    word: Word  # the verdict
    why: str = ""  # a sentence that explains the difference; empty where the parts of a step were not measured


class Translated(Shown, frozen=True):
    """A sentence of the corpus, its references, and each row's translation. All rows decode with the same weights."""

    translations: dict[str, str]  # by the row's label

    @property
    def distinct(self) -> list[tuple[list[str], str]]:
        """Each distinct translation, with the labels of the rows that give it."""
        labels = grouped((translation, label) for label, translation in self.translations.items())
        return [(names, translation) for translation, names in labels.items()]


class Peak(Product, frozen=True):
    """The speed that a backend's library reached in a matrix product in float32."""

    backend: str


@dataclass(frozen=True)
class Results:
    """A whole comparison. Rows are ordered from fast to slow, and those that are not compared come last."""

    head: BenchHead  # the plan, the machine, and the corpus
    reached: float | None  # how far the widest interval reaches to either side; None before there is one
    rounds: int  # number of rounds of new processes
    cycles: int  # number of cycles in all rounds
    dropped: int  # number of cycles that are not used, because other programs disturbed them
    again: int  # number of turns that were taken again, because other programs disturbed them
    others: float  # mean number of cores that other programs used during the visits that count
    seconds: float  # total seconds of all rounds
    scores: Scores | None  # of the weights on all held-out sources; None if these were not decoded
    baseline: str  # label of the row that ratios in tables refer to; "" if there is none
    rows: Sequence[RowResults]
    pairs: Sequence[Pair]  # pairs of rows, compared by their training steps
    decoding: Sequence[Pair]  # pairs of rows, compared by seconds per character in a batch
    alone: Sequence[Pair]  # pairs of rows, compared by seconds per character of one sentence by itself
    sentences: Sequence[Translated]
    peaks: Sequence[Peak]  # the fastest product first
    doubts: Sequence[str]  # those warnings for which the figures should not be relied on
    warnings: Sequence[str]  # all that a reader must know
    advice: Sequence[str]  # for rows as installed: which settings they lack, and what to type
    missing: Sequence[str]  # what there was no time for

    def ratio(self, left: str, right: str, pairs: Sequence[Pair] | None = None) -> Estimate | None:
        """How many times as fast the row labelled `left` is as the one labelled `right`; None if it is not known.

        `pairs` are those of training unless others are given.
        """
        for pair in self.pairs if pairs is None else pairs:
            if (pair.left, pair.right) == (left, right):
                return pair.ratio
            if (pair.right, pair.left) == (left, right):
                return pair.ratio.inverse
        return None

    def of_frameworks(self, rows: Sequence[RowResults]) -> list[RowResults]:
        """Those of the rows that the question is about, without variants where two frameworks or more are left."""
        rows = [row for row in rows if row.row in self.head.plan.question]
        plain = [row for row in rows if ":" not in row.row.backend]
        return plain if len(plain) > 1 else rows

    @property
    def headline(self) -> str:
        """The answer in a sentence: how many times as fast the fastest framework trains as each of the others."""
        rows = self.of_frameworks([row for row in self.rows if row.compared and row.step])
        if not self.rounds:
            return "Nothing was measured yet."
        if not trusted(self.dropped, self.cycles):
            return f"No answer: other programs were at work in {self.dropped} of {self.cycles} cycles."
        if len(rows) == 1 and rows[0].pairs_per_second:
            return f"{rows[0].title} trains {rows[0].pairs_per_second:,.0f} pairs a second."
        if len(rows) < 2 or not any(pair.kind == "frameworks" for pair in self.pairs):
            return "No answer yet: a comparison needs two rounds and two rows that pass parity."
        first, *others = rows
        words: dict[str, list[str]] = {"faster": [], "same": [], "not told apart": []}
        for other in others:
            ratio = self.ratio(first.label, other.label)
            word = ratio.word(self.head.plan.within) if ratio else "not told apart"
            if ratio and word in ("faster", "slower"):
                words["faster"].append(f"{times(ratio.value)} times as fast as {other.title}")
            else:
                words[word].append(other.title)
        clauses = [f"trains {listed(words['faster'])}"] if words["faster"] else []
        if words["same"]:
            clauses.append(f"{'' if clauses else 'trains '}as fast as {listed(words['same'])}")
        sentences = [f"{first.title} {listed(clauses)}"] if clauses else []
        if words["not told apart"]:
            sentences.append(f"{listed([first.title, *words['not told apart']])} are not told apart yet")
        if self.sentences and all(row.label in self.sentences[0].translations for row in rows):
            alike = sum(len(one.distinct) == 1 for one in self.sentences)
            sentences.append(f"all translate {alike} of {len(self.sentences)} sentences alike")
        return f"{'; '.join(sentences)}."

    @property
    def surprise(self) -> str:
        """How much slower the official example decodes a character than Keras; "" if it is not, or not measured."""
        by_label = {row.label: row for row in self.rows}
        example, keras = by_label.get(BASELINE), by_label.get(BASELINE.partition(":")[0])
        if not (example and example.once and keras and keras.alone) or example.once < SURPRISE * keras.alone.value:
            return ""
        slower = float(f"{example.once / keras.alone.value:.2g}")
        return (
            f"The official example takes {example.once * 1e3:.2g} ms to decode a character, plain {keras.title} "
            f"{keras.alone.value * 1e3:.2g}: the example decodes {slower:,.0f} times slower than {keras.title} can."
        )


def times(ratio: float) -> str:
    """A ratio for a sentence: 1.4, 12, and 1.03 or 1.003 where one place would say too little."""
    places = 3 if ratio < 1.005 else 2 if ratio < 1.095 else 1 if ratio < 10 else 0
    return f"{ratio:,.{places}f}"


def as_json(results: Results) -> dict[str, Any]:
    """The results as `--json` prints them; NaN and infinity are null.

    - A pair has `ratio`, which says how many times as fast `left` is as `right`, beside the ends `low` and `high` of
      its interval, all three as plain numbers.
    - A sentence has its first reference as `reference`, in addition to all of them as `references`.
    """
    own: dict[str, Any] = {"headline": results.headline, "surprise": results.surprise}
    own |= {"command": results.head.plan.command, "machine": results.head.machine}
    content: dict[str, Any] = msgspec.json.decode(msgspec.json.encode(own | vars(results)))
    for name in ("pairs", "decoding", "alone"):
        for pair in content[name]:
            ratio = pair.pop("ratio")
            pair |= {"ratio": ratio["value"], "low": ratio["low"], "high": ratio["high"]}
    for sentence in content["sentences"]:
        sentence["reference"] = sentence["references"][0]
    return content


def results_of(recording: Recording) -> Results:
    """The results of a recording; of one that is not finished, the results of what was measured so far."""
    return _Analysis(recording).results()


class _Analysis:
    """A recording's lines by the index of their row in the plan, and the results that follow from them."""

    def __init__(self, recording: Recording) -> None:
        self.recording, self.plan, self.head = recording, recording.plan, recording.head
        self.observed = {work: observations(recording, work) for work in get_args(Work)}
        rounds = recording.rounds()
        self.cycles = [cycle for line in rounds for cycle in line.cycles]
        self.dropped = sum(not usable(cycle) for cycle in self.cycles)
        self.starts = grouped((start.row, start) for line in rounds for start in line.starts)
        self.visits = grouped((visit.row, visit) for cycle in self.cycles for visit in cycle)
        self.certificates = {line.row: line.certificate for line in recording.of_kind(Certified)}
        self.evidence = {line.row: line for line in recording.of_kind(Evidence)}
        self.decoded = {line.row: line for line in recording.of_kind(Decoded)}
        peaks = [
            Peak(product.name, product.shape, product.flops, self.plan.rows[index].backend if index >= 0 else "numpy")
            for index, line in self.evidence.items()
            for product in line.products
        ]
        self.peaks = sorted(peaks, key=lambda peak: -peak.flops)
        self.reached = half_width(recording)
        self.question = [self.plan.rows.index(row) for row in self.plan.question]
        self.rows = {index: self._row(index) for index in self.starts if not self.plan.rows[index].control}

    def results(self) -> Results:
        """All results of the recording."""
        rows = [self.rows[index] for index in sorted(self.rows)]
        rows.sort(key=lambda row: (bool(row.why_not), row.step.value if row.step else 0.0))
        visits = [visit for cycle in self.cycles if usable(cycle) for visit in cycle]
        pairs, doubts = self._pairs("training"), [*self._doubts(rows)]
        return Results(
            head=self.head,
            reached=self.reached,
            rounds=len({line.number for line in self.recording.rounds()}),
            cycles=len(self.cycles),
            dropped=self.dropped,
            again=sum(visit.tries - 1 for cycle in self.cycles for visit in cycle),
            others=fmean(visit.others for visit in visits) if visits else 0.0,
            seconds=sum(line.seconds for line in self.recording.of_kind(Round)),
            scores=next((line.scores for line in self.decoded.values() if line.scores), None),
            baseline=self._baseline(rows),
            rows=rows,
            pairs=pairs,
            decoding=self._pairs("batch"),
            alone=self._pairs("alone"),
            sentences=self._sentences(),
            peaks=self.peaks,
            doubts=doubts,
            warnings=[*doubts, *self._notes(rows)],
            advice=self._advice(pairs),
            missing=[*self._missing()],
        )

    def _row(self, index: int) -> RowResults:
        row, starts, decoded = self.plan.rows[index], self.starts[index], self.decoded.get(index)
        facts, visits = starts[-1].facts, self.visits.get(index, [])
        step, (certificate, why_not) = self.observed["training"].seconds(index), self._parity(index)
        sizes, batch_size = self.head.corpus.sizes, self.plan.settings.batch_size
        profile = self.evidence[index].profile if index in self.evidence else None
        makes_tensors = row.backend != BASELINE  # keras:example makes all of its tensors before its steps
        timed = [start for start in starts if start.seconds] or starts[:1]  # where starting was timed
        flop = peak_share = None
        if step and not row.reduced:
            flop = step_flop(sizes, batch_size, self.plan.latent_dim, multiplies_one_hot(facts))
            peak_share = flop / step.value / self.peaks[0].flops if self.peaks else None
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
            alone=self.observed["alone"].seconds(index),
            once=decoded.seconds if decoded and not decoded.characters else None,
            sentences=decoded.sentences if decoded else 0,
            start={
                "process": median(s.seconds - s.facts.import_seconds - s.facts.build_seconds for s in timed),
                "import": median(s.facts.import_seconds for s in timed),
                "build": median(s.facts.build_seconds for s in timed),
                "first step": median(s.warm_up.first_step_seconds for s in starts),
            },
            memory={
                "after import": median(s.facts.resident_after_import for s in starts),
                "after build": median(s.facts.resident_after_build for s in starts),
                "peak": max([start.warm_up.peak for start in starts] + [visit.peak for visit in visits]),
            },
            flop=flop,
            peak_share=peak_share,
            threads=(starts[-1].warm_up.threads, starts[-1].warm_up.busy_threads),
            kernels=profile.kernels if profile else [],
            step_parts=step_parts(profile, step.value, makes_tensors) if step else {},
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
    def _bias(self) -> Pair | None:
        """A row that was measured twice and seems faster or slower than itself; None if none does."""
        rows = self.plan.rows
        twice = [(index, row.counterpart) for index, row in enumerate(rows) if row.control]
        pairs = [self._pair("control", index, rows.index(row)) for index, row in twice if row in rows]
        return next((pair for pair in pairs if pair and pair.word in ("faster", "slower")), None)

    def _pair(self, kind: Kind, left: int, right: int, work: Work = "training") -> Pair | None:
        """Two rows compared by their work; None where their ratio is not known. A bias widens its intervals."""
        ratio, pairwise = self.observed[work].ratio(left, right), self.observed[work].pairwise(left, right)
        if ratio is None:
            return None
        if kind != "control" and self._bias:
            bias = max(self._bias.ratio.value, self._bias.ratio.inverse.value) - 1
            ratio, pairwise = ratio.widened(bias), pairwise and pairwise.widened(bias)
        word, why = ratio.word(self.plan.within), ""
        if kind == "frameworks" and work == "training" and word == "faster":
            slower, faster = self.rows[right], self.rows[left]
            why = why_slower(slower.title, faster.title, slower.step_parts, faster.step_parts)
        return Pair(kind, self.plan.rows[left].label, self.plan.rows[right].label, ratio, pairwise, word, why)

    def _pairs(self, work: Work) -> list[Pair]:
        """Every two rows of the question, the faster one on the left; then each special row and its counterpart.

        Special rows are compared by training alone. None is compared where too many cycles were disturbed.
        """
        if not trusted(self.dropped, len(self.cycles)):
            return []
        observed, found = self.observed[work], []
        compared = {index for index, row in self.rows.items() if row.compared}
        members = [index for index in self.question if index in compared]
        members.sort(key=lambda index: fmean(observed.of_row(index) or [0.0]))
        for left, right in combinations(members, 2):
            ratio = observed.ratio(left, right)
            if ratio and ratio.value < 1:
                left, right = right, left
            found.append(self._pair("frameworks", left, right, work))
        for index, row in enumerate(self.plan.rows if work == "training" else []):
            if row.counterpart in self.plan.rows:
                other = self.plan.rows.index(row.counterpart)
                kind: Kind = "control" if row.control else "installed" if row.installed else "reduced"
                if row.control or {index, other} <= compared:
                    found.append(self._pair(kind, index, other))
        return [pair for pair in found if pair]

    def _baseline(self, rows: Sequence[RowResults]) -> str:
        """The label of the row that ratios in tables refer to: the one asked for, or the example, or the slowest."""
        timed = [row for row in rows if row.compared and row.step and row.row in self.plan.question]
        named = [row.label for name in (self.plan.baseline, BASELINE) for row in timed if row.row.backend == name]
        return next(iter(named), timed[-1].label if timed else "")

    def _sentences(self) -> list[Translated]:
        """The sentences that the report shows, with the translations by the rows of the benchmark's question."""
        lines = {self.plan.rows[i].label: self.decoded[i] for i in self.question if i in self.decoded}
        return [
            Translated(
                one.source, one.references, one.held_out, {by: line.translations[n] for by, line in lines.items()}
            )
            for n, one in enumerate(self.head.corpus.shown if lines else [])
        ]

    def _advice(self, pairs: Sequence[Pair]) -> list[str]:
        """One piece of advice for each row as installed that is slower than its counterpart."""
        by_label, processor = {row.label: row for row in self.rows.values()}, self.head.machine["processor"]
        found = []
        for pair in pairs:
            if pair.kind == "installed" and pair.ratio.inverse.value > SLOWER:
                own, matched = by_label[pair.left], by_label[pair.right]
                threads = matched.facts.threads, own.facts.threads
                found.append(advice_for(own.row.backend, pair.ratio.inverse.value, *threads, processor))
        return [*filter(None, found)]

    def _missing(self) -> Iterator[str]:
        """What there was no time for, in the order of its worth."""
        if any(index not in self.decoded for index in self.question):
            yield "the ten sentences in every backend"
        batched = any(self.plan.rows[index].backend != BASELINE for index in self.question)
        if batched and not self.recording.rounds("batch"):
            yield "decoding speed"
        if any(row.installed and index not in self.starts for index, row in enumerate(self.plan.rows)):
            yield "rows as installed"
        if any(index not in self.evidence for index in self.question):
            yield "why one is slower"

    def _doubts(self, rows: Sequence[RowResults]) -> Iterator[str]:
        """The reasons not to rely on the figures."""
        if not trusted(self.dropped, len(self.cycles)):
            yield (
                f"other programs were at work in more than {MOST_DROPPED:.0%} of the cycles, so no row is called "
                "faster than another"
            )
        used = len(self.observed["training"].logarithms)
        if self.reached is None:
            yield "too few rounds can be used for an interval; --resume measures more"
        elif used < LEAST_ROUNDS:
            yield f"only {used} rounds could be measured, and {LEAST_ROUNDS} are the least for figures to rely on"
        if self._bias:
            ratio = self._bias.ratio
            yield (
                f"{self._bias.left} seems faster or slower than the same row measured before ({ratio.low:.2f} to "
                f"{ratio.high:.2f}): the measurement is biased by as much, and all intervals are widened by it"
            )
        for why_not, labels in grouped((row.why_not, row.label) for row in rows if row.why_not).items():
            yield f"not compared: {', '.join(labels)}, because {why_not}"
        asked = self.plan.threads or self.head.machine["cores"]
        for row in rows:
            if not row.row.installed and row.facts.threads != asked:
                yield f"{row.label} computed on {row.facts.threads} threads, although {asked} were asked for"
            visits = self.visits.get(self.plan.rows.index(row.row), [])
            if any(1 - fsum([*visit.lead, *visit.steps]) / visit.loop > MOST_OUTSIDE for visit in visits):
                yield (
                    f"{row.label} spent over {MOST_OUTSIDE:.0%} of its time outside the timed steps, so the device "
                    "may still have been at work when a step's clock was stopped"
                )

    def _notes(self, rows: Sequence[RowResults]) -> Iterator[str]:
        """What else a reader should know of the figures."""
        if self.dropped:
            left_out = f"{self.dropped} of {len(self.cycles)} cycles are left out because other programs were at work"
            yield f"{left_out}; close other programs and measure again"
        stolen = fmean([visit.stolen for cycle in self.cycles for visit in cycle] or [0.0])
        if stolen > MOST_STOLEN:
            yield f"other virtual machines took {stolen:.2f} cores on average meanwhile, which widens intervals"
        within = self.plan.within
        if self.reached and self.reached > within:
            spent = sum(line.seconds for line in self.recording.rounds())
            more = ceil(spent * ((self.reached / max(within, 1e-3)) ** 2 - 1) / 60)
            yield (
                f"the widest interval reaches {self.reached:.1%} to one side, although {within:.0%} was asked for; "
                f"about {more} more minute{'s' * (more > 1)} would do: --resume --budget {more}m"
            )
        matched = [row for row in rows if not row.row.installed]
        fates = grouped((str(row.facts.settings.get("denormals", "not known")), row.label) for row in matched)
        if len(fates) > 1:
            words = "; ".join(f"{fate} in {', '.join(labels)}" for fate, labels in fates.items())
            yield f"denormal numbers (very close to zero) are not treated alike: {words}"
