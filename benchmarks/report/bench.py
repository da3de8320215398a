"""The results of a bench: rows and the parts of their steps, pairs of rows, and the headline.

Times are in seconds and memory in bytes unless a comment says otherwise.
"""

from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from itertools import combinations
from math import ceil, fsum
from statistics import fmean, median
from typing import Literal

from backends import BASELINE, TABLE, runs_example, title_of
from backends.interface import BackendFacts
from benchmarks.in_child import Profile, Work
from benchmarks.measure.plan import LEAST_ROUNDS
from benchmarks.measure.recording import Certified, Checked, Decoded, Recording, RowProfile, ShownSentence
from benchmarks.measure.statistics import Estimate, grouped, observations
from benchmarks.parity.certificate import Certificate
from benchmarks.report.render import minutes_until, times
from benchmarks.report.results import NOTHING, Results, RowResults
from common.text import count, listed

MOST_OUTSIDE = 0.05  # share of a visit's time outside its timed steps without a warning
MOST_STOLEN = 0.02  # mean cores of other virtual machines without a note
NO_ERRORS = ("counts", "strings")  # stages of parity whose errors are shares of items, not of numbers
WORTH = 0.1  # least share of the difference between two rows of a part of a step that is named
# The parts of a step by their names in tables, and after "22 ms more in".
PARTS = {
    "products": "fused LSTMs and matrix products",
    "others": "gates and other operators",
    "data": "making the tensors",
    "waiting": "Python and waiting",
}

# The rows of a pair: two backends with tuned settings, or a row as installed and with tuned settings.
Kind = Literal["frameworks", "installed"]


class BenchRow(RowResults):
    """The results of a backend's row."""

    facts: BackendFacts

    def __init__(self, results: "BenchResults", index: int) -> None:
        super().__init__(results, index)
        starts, row, step = results.starts[index], self.row, self.step
        decoded, profiled = results.decoded.get(index), results.profiled.get(index)
        self.title = title_of(row.backend)  # its name in the headline
        assert starts[-1].facts
        self.facts = starts[-1].facts
        # The parity certificate of the framework's version that ran; None if there is none. And the reason not to
        # compare the row, such as broken parity; empty if it is compared.
        self.certificate, self.why_not = results.parity(index)
        # The largest error of its certificate; None where it is not known.
        stages = self.certificate.stages if self.certificate else {}
        errors = [stage.error for name, stage in stages.items() if name not in NO_ERRORS and stage.error is not None]
        self.error = max(errors, default=None)
        # An epoch's last batch has fewer pairs, but its step takes as long as the others.
        self.epoch = step and step.times(ceil(results.text.training_rows / self.items))
        self.pairs_per_second = self.items / step.value if step else None
        # The time of a decoded character where many sentences are decoded in one call, and the number of sentences.
        self.batch, self.sentences = results.batch.seconds(index), decoded.sentences if decoded else 0
        # That time for the held-out sentence with the longest output, decoded alone. A row that cannot decode a
        # batch decodes the shown sentences once instead, so its interval has no width.
        self.alone = results.alone.seconds(index)
        self.characters = results.characters_of(index)  # that a call puts out, by its work
        if self.alone is None and decoded and not decoded.sentences:
            self.alone = Estimate(decoded.seconds, decoded.seconds, decoded.seconds)
            self.characters["alone"] = sum(len(text) + 1 for text in decoded.translations)
        # Seconds of each phase of a start. A process is timed only if it started while no other did.
        facts = [start.facts for start in starts if start.facts]
        phases = {
            "process": [
                start.seconds - of_start.import_seconds - of_start.build_seconds
                for start, of_start in zip(starts, facts, strict=True)
                if start.seconds
            ],
            "import": [f.import_seconds for f in facts],
            "build": [f.build_seconds for f in facts],
            "first step": [self.first_step],
        }
        self.start = {phase: median(seconds) for phase, seconds in phases.items() if seconds}
        # Seconds of each of a step's PARTS; empty where the profiler did not run.
        self.step_parts: dict[str, float] = {}
        if step and profiled:
            # The example makes all of its tensors before its steps.
            self.step_parts = step_parts(profiled.profile, step.value, makes_tensors=not runs_example(row.backend))


class RowPair:
    """Two rows compared, by their indices; `ratio` is the left one's speed as a multiple of the right one's."""

    def __init__(self, results: "BenchResults", kind: Kind, left: int, right: int, ratio: Estimate) -> None:
        of_left, of_right = (results.by_label[results.plan.rows[index].label] for index in (left, right))
        self.kind, self.ratio = kind, ratio
        # Labels. The left row is the faster one if the kind is "frameworks", else the one that the kind names.
        self.left, self.right = of_left.label, of_right.label
        self.word = ratio.word(results.plan.within)  # the verdict
        # A sentence that explains the difference; empty where the parts of a step were not measured.
        explained = kind == "frameworks" and self.word == "faster"
        self.why = (
            why_slower(of_right.title, of_left.title, of_right.step_parts, of_left.step_parts) if explained else ""
        )


class TranslatedSentence(ShownSentence, frozen=True):
    """A shown sentence with each row's translation. All rows decode with the same weights."""

    translations: dict[str, str]  # by the row's label

    @property
    def distinct(self) -> dict[str, list[str]]:
        """Labels of rows by their distinct translations."""
        return grouped((translation, label) for label, translation in self.translations.items())


class BenchResults(Results):
    """The results of a bench."""

    rows: list[BenchRow]

    def __init__(self, recording: Recording) -> None:
        super().__init__(recording)
        assert self.plan.training
        assert self.head.text
        self.training, self.text = self.plan.training, self.head.text
        self.batch, self.alone = observations(recording, "batch"), observations(recording, "alone")
        self.certificates = {line.row: line.certificate for line in recording.of_kind(Certified)}
        self.profiled = {line.row: line for line in recording.of_kind(RowProfile)}
        self.decoded = {line.row: line for line in recording.of_kind(Decoded)}
        cycles = [cycle for line in recording.rounds() for cycle in line.cycles]
        # Mean number of cores of other virtual machines.
        self.stolen = fmean([visit.stolen for cycle in cycles for visit in cycle] or [0.0])
        # Scores of the weights on all held-out sources; None if these were not decoded.
        self.scores = next((line.scores for line in self.decoded.values() if line.scores), None)
        # The rows that were started, from fast to slow. Rows that are not compared come last.
        measured = [BenchRow(self, index) for index in sorted(self.starts)]
        self.rows = sorted(measured, key=lambda row: (bool(row.why_not), row.step.value if row.step else 0.0))
        self.by_label = {row.label: row for row in self.rows}

    def characters_of(self, index: int) -> dict[Work, int]:
        """Characters that a timed call of a row puts out, by its work."""
        works: tuple[Work, ...] = ("batch", "alone")
        visits = [(work, v) for work in works for line in self.recording.rounds(work) for c in line.cycles for v in c]
        return {work: visit.items for work, visit in visits if visit.row == index}

    @cached_property
    def pairs(self) -> list[RowPair]:
        """Every two rows of the question, the faster one on the left; then each row as installed and its tuned row.

        They are compared by their training steps.
        """
        rows = self.plan.rows
        compared = [rows.index(row.row) for row in self.rows if not row.why_not]
        members = [index for index in compared if index in self.question]
        alike = grouped((tuple(rows[index].sizes.values()), index) for index in members)
        both = [pair for group in alike.values() for pair in combinations(group, 2)]
        asked: list[tuple[Kind, int, int]] = [("frameworks", *pair) for pair in both]
        for index in sorted(compared):
            plain = self.tuned(index)
            if plain != index and plain in compared:
                asked.append(("installed", index, plain))
        pairs = []
        for kind, left, right in asked:
            ratio = self.observed.ratio(left, right)
            if ratio and ratio.value < 1 and kind == "frameworks":
                left, right, ratio = right, left, ratio.inverse
            if ratio:
                pairs.append(RowPair(self, kind, left, right, ratio))
        return pairs

    def ratio(self, left: str, right: str) -> Estimate | None:
        """Training speed of the row labelled `left` as a multiple of that of `right`; None if not known."""
        for pair in self.pairs:
            if {pair.left, pair.right} == {left, right}:
                return pair.ratio if pair.left == left else pair.ratio.inverse
        return None

    @property
    def baseline(self) -> str:
        """Label of the row that ratios refer to: the plan's, or the example, or the slowest; "" if none."""
        timed = [row for row in self.rows if row.step and not row.why_not and row.row in self.plan.question]
        named = [row.label for name in (self.training.baseline, BASELINE) for row in timed if row.row.backend == name]
        return next(iter(named), timed[-1].label if timed else "")

    @property
    def sentences(self) -> list[TranslatedSentence]:
        """The shown sentences, with translations by the rows of the question."""
        lines = {self.plan.rows[i].label: self.decoded[i] for i in self.question if i in self.decoded}
        return [
            TranslatedSentence(
                shown.source,
                shown.references,
                shown.held_out,
                {by: text for by, line in lines.items() for text in line.translations[n : n + 1]},
            )
            for n, shown in enumerate(self.text.shown if lines else [])
        ]

    def of_frameworks(self, rows: Sequence[BenchRow]) -> list[BenchRow]:
        """The rows of the question, without the example and unknown backends if two rows or more remain."""
        rows = [row for row in rows if row.row in self.plan.question]
        plain = [row for row in rows if row.row.backend in TABLE and row.row.backend != BASELINE]
        return plain if len(plain) > 1 else rows

    @property
    def headline(self) -> str:
        """The answer in a sentence: the fastest framework's training speed against each of the others."""
        rows = self.of_frameworks([row for row in self.rows if row.step and not row.why_not])
        if not self.rounds:
            return NOTHING
        if len(rows) == 1 and rows[0].pairs_per_second:
            return f"{rows[0].title} trains {rows[0].pairs_per_second:,.0f} pairs a second."
        if len(rows) < 2 or not any(pair.kind == "frameworks" for pair in self.pairs):
            return "No answer yet: a comparison needs two rounds and two rows that pass parity."
        first, *slower = rows
        ratios = [(self.ratio(first.label, row.label), row.title) for row in slower]
        words = grouped((r.word(self.plan.within) if r else "not told apart", title) for r, title in ratios)
        apart = [(r, title) for r, title in ratios if r and not r.low <= 1 <= r.high]
        clauses = [listed(f"{times(r.value)} times as fast as {title}" for r, title in apart)] if apart else []
        clauses += [f"as fast as {listed(words['same'])}"] if "same" in words else []
        sentences = [f"{first.title} trains {listed(clauses)}"] if clauses else []
        if unknown := words.get("not told apart"):
            sentences.append(f"{listed([first.title, *unknown])} are not told apart yet")
        translated = self.sentences
        if translated and all(row.label in translated[0].translations for row in rows):
            alike = sum(len(sentence.distinct) == 1 for sentence in translated)
            sentences.append(f"all translate {alike} of {len(translated)} sentences alike")
        used = len(self.observed.logarithms)
        early = f"So far, after {used} rounds alone: " if used < LEAST_ROUNDS else ""
        return f"{early}{'; '.join(sentences)}."

    @property
    def missing(self) -> list[str]:
        """Parts of a bench without time for them, in the order of their worth."""
        rows, question = self.plan.rows, {*self.question}
        batched = any(not runs_example(rows[index].backend) for index in question)
        lacking = {
            "the ten sentences in every backend": any(
                index not in self.decoded and not runs_example(rows[index].backend) for index in question
            ),
            "decoding speed": batched and not self.recording.rounds("batch"),
            "rows as installed": not {n for n, row in enumerate(rows) if row.installed} <= self.starts.keys(),
            "why one is slower": not question <= self.profiled.keys(),
        }
        return [part for part, lacks in lacking.items() if lacks]

    def _doubts_of_rows(self) -> Iterator[str]:
        for why_not, labels in grouped((row.why_not, row.label) for row in self.rows if row.why_not).items():
            yield f"not compared: {', '.join(labels)}, because {why_not}"
        asked = self.training.threads or self.head.machine["cores"]
        for row in self.rows:
            if not row.row.installed and row.facts.threads != asked:
                yield f"{row.label} computed on {count(row.facts.threads, 'thread')}, although {asked} were asked for"
            visits = self.visits.get(self.plan.rows.index(row.row), [])
            if any(1 - fsum([*visit.lead, *visit.steps]) / visit.loop > MOST_OUTSIDE for visit in visits):
                yield (
                    f"{row.label} spent over {MOST_OUTSIDE:.0%} of its time outside the timed steps, so the device "
                    "may still have been at work when a step's clock was stopped"
                )

    def _more_notes(self) -> Iterator[str]:
        if self.stolen > MOST_STOLEN:
            yield f"other virtual machines took {self.stolen:.2f} cores on average meanwhile, which widens intervals"
        within = self.plan.within
        if self.reached and self.reached > within:
            enough = ceil(self.plan.budget / 60) + minutes_until(within, self.reached, self.seconds)
            yield (
                f"the widest interval reaches {self.reached:.1%} to one side, although {within:.0%} was asked for; "
                f"--budget {enough}m would do"
            )
        tuned = [row for row in self.rows if not row.row.installed]
        fates = grouped((str(row.facts.settings.get("denormals", "not known")), row.row.backend) for row in tuned)
        if len(fates) > 1:
            words = "; ".join(f"{fate} in {', '.join(dict.fromkeys(names))}" for fate, names in fates.items())
            yield f"denormal numbers (very close to zero) are not treated alike: {words}"

    def tuned(self, index: int) -> int:
        """Return the index of the same row with tuned settings; that of the row itself if there is none."""
        rows, row = self.plan.rows, self.plan.rows[index]
        alike = (n for n in self.question if (rows[n].backend, rows[n].sizes) == (row.backend, row.sizes))
        return next(alike, index)

    def parity(self, index: int) -> tuple[Certificate | None, str]:
        """The certificate of a row, and the reason not to compare the row; "" if it is compared."""
        certificate = self.certificates.get(self.tuned(index))  # no lane changes mathematics
        facts = self.starts[index][-1].facts
        if certificate is None or facts is None or certificate.version != facts.version:
            return None, "there is no parity certificate of this version"
        if not certificate.passed:
            return certificate, "parity is broken, and `rosetta parity` explains where"
        if any(line.row == index and not line.passed for line in self.recording.of_kind(Checked)):
            return certificate, "its process computed something else after its turns"
        finite = all(visit.finite for visit in self.visits.get(index, []))
        return certificate, "" if finite else "the loss is not finite"


def step_parts(profile: Profile, step_seconds: float, makes_tensors: bool) -> dict[str, float]:
    """Seconds of each part of a step, in the order of PARTS; their sum is `step_seconds`.

    Only shares are taken from the profile. The time without a running kernel is Python and waiting. The time of
    making the tensors is subtracted from it, unless the row makes them before its steps: `makes_tensors` is False.
    """
    scale = step_seconds / max(profile.seconds, profile.products + profile.others)
    products, others = scale * profile.products, scale * profile.others
    between = step_seconds - products - others
    data = min(profile.data / profile.steps, between) if makes_tensors else 0.0
    return {"products": products, "others": others, "data": data, "waiting": between - data}


def why_slower(slower: str, faster: str, slow: Mapping[str, float], fast: Mapping[str, float]) -> str:
    """A sentence that names the parts of a step in which the slower row spends more time than the faster one.

    `slow` and `fast` are seconds of both rows' steps, by part. The sentence is empty if a row has no profile, or if
    no part explains the difference.
    """
    if not slow or not fast:
        return ""
    differences = sorted(((slow[part] - fast[part], words) for part, words in PARTS.items()), reverse=True)
    total = sum(seconds for seconds, _ in differences)
    more = [f"{_ms(seconds)} more in {words}" for seconds, words in differences if seconds > WORTH * total]
    less = [f"{_ms(-seconds)} less in {words}" for seconds, words in differences if -seconds > WORTH * total]
    if total <= 0 or not more:
        return ""
    return f"{slower}'s step is {_ms(total)} longer than {faster}'s: {listed([*more, *less])}."


def _ms(seconds: float) -> str:
    return f"{1e3 * seconds:.0f} ms" if seconds >= 0.01 else f"{1e3 * seconds:.1f} ms"
