"""The results of a bench: rows and the parts of their steps, pairs of rows, and the headline.

Times are in seconds and memory in bytes unless a comment says otherwise.
"""

from collections.abc import Iterator, Mapping
from functools import cached_property
from itertools import combinations
from math import ceil, fsum
from statistics import fmean, median
from typing import Literal

from backends import EXAMPLE, engine_of, lookup, title_of
from backends.interface import BackendFacts
from benchmarks.measure.measurement import Measurement
from benchmarks.measure.statistics import LEAST_ROUNDS, UNSURE_FROM, Estimate, grouped, observations
from benchmarks.report.render import enough, percent, times
from benchmarks.report.results import NOTHING, Results, RowResults
from benchmarks.schema import (
    LANES,
    Certificate,
    Certified,
    Checked,
    Decoded,
    Lane,
    Profile,
    RowProfile,
    ShownSentence,
)
from common.machine import processor_of
from common.models import MODELS
from common.text import count, listed

MOST_OUTSIDE = 0.05  # share of a turn's time outside its timed steps without a warning
MOST_STOLEN = 0.02  # mean cores of other virtual machines without a note
# Stages of parity whose errors are shares of items, not of numbers.
NO_ERRORS = ("counts", "strings")
WORTH = 0.1  # least share of the difference between two rows of a part of a step that is named
# The parts of a step by their names in tables, and after "22 ms more in".
PARTS = {
    "products": "fused LSTMs and matrix products",
    "others": "other operators",
    "data": "making the tensors",
    "waiting": "Python and waiting",
}

ROUGH = 0.25  # half-width of a ratio from which a sentence has no number for it
# The rows of a pair: two backends in one lane, or a backend as installed and tuned.
PairKind = Literal["frameworks", "installed"]


class BenchRow(RowResults):
    """The results of a backend's row."""

    facts: BackendFacts

    def __init__(self, results: "BenchResults", index: int) -> None:
        super().__init__(results, index)
        starts, row, step = results.starts[index], self.row, self.step
        decoded, profiled = results.decoded.get(index), results.profiled.get(index)
        self.title = title_of(row.backend)  # its name in the headline
        self.lanes: list[Lane] = [lane for lane in LANES if row.lane in (lane, "both")]
        assert starts[-1].facts
        self.facts = starts[-1].facts
        # The parity certificate of the framework's version that ran; None if there is none. And the
        # reason not to compare the row, such as broken parity; empty if it is compared.
        self.certificate, self.why_not = results.parity(index)
        # The largest error of its certificate; None where it is not known.
        stages = self.certificate.stages if self.certificate else {}
        errors = [
            stage.error
            for name, stage in stages.items()
            if name not in NO_ERRORS and stage.error is not None
        ]
        self.error = max(errors, default=None)
        # An epoch's last batch has fewer pairs, but its step takes as long as the others.
        self.epoch = step and step.times(ceil(results.text.training_rows / self.items))
        self.pairs_per_second = self.items / step.value if step else None
        # The time of a decoded character where many sentences are decoded in one call,
        # and the number of sentences.
        self.batch = results.batch.seconds(index)
        self.sentences = decoded.sentences if decoded else 0
        # That time for a held-out sentence that is decoded alone.
        self.alone = results.alone.seconds(index)
        # Seconds of each phase of a start.
        # A process is timed only if it started while no other did.
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
            self.step_parts = step_parts(
                profiled.profile, step.value, makes_tensors=not lookup(row.backend).uses_fit
            )


class RowPair:
    """Two rows compared; `ratio` is the left one's speed as a multiple of the right one's."""

    def __init__(
        self, within: float, kind: PairKind, left: BenchRow, right: BenchRow, ratio: Estimate
    ) -> None:
        self.kind, self.ratio = kind, ratio
        # Labels. The left row is the faster one if the kind is "frameworks",
        # else the one as installed.
        self.left, self.right = left.label, right.label
        self.word = ratio.word(within)  # the verdict
        # A sentence that explains the difference;
        # empty where the parts of a step were not measured.
        explained = kind == "frameworks" and self.word == "faster"
        self.why = (
            why_slower(right.title, left.title, right.step_parts, left.step_parts)
            if explained
            else ""
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

    def __init__(self, measurement: Measurement) -> None:
        super().__init__(measurement)
        assert self.plan.training
        assert self.head.text
        self.training, self.text = self.plan.training, self.head.text
        self.batch = observations(measurement, "batch")
        self.alone = observations(measurement, "alone")
        self.certificates = {line.row: line.certificate for line in measurement.of_kind(Certified)}
        self.profiled = {line.row: line for line in measurement.of_kind(RowProfile)}
        self.decoded = {line.row: line for line in measurement.of_kind(Decoded)}
        cycles = [cycle for line in measurement.rounds() for cycle in line.cycles]
        # Mean number of cores of other virtual machines.
        self.stolen = fmean([turn.stolen for cycle in cycles for turn in cycle] or [0.0])
        # Scores of the weights on all held-out sources; None if these were not decoded.
        self.scores = next((line.scores for line in self.decoded.values() if line.scores), None)
        # The rows that were started, from fast to slow. Rows that are not compared come last.
        measured = [BenchRow(self, index) for index in sorted(self.starts)]
        self.rows = sorted(
            measured, key=lambda row: (bool(row.why_not), row.step.value if row.step else 0.0)
        )
        self.by_label = {row.label: row for row in self.rows}

    def of_lane(self, lane: Lane) -> list[BenchRow]:
        """The rows of a lane; a backend that no setting helps has one row, which is in both."""
        return [row for row in self.rows if lane in row.lanes]

    @cached_property
    def backends(self) -> dict[str, dict[Lane, BenchRow]]:
        """The rows of each backend by their lane, the fastest backend as installed first;
        without sizes that vary."""
        rows = [(lane, row) for lane in LANES for row in self.of_lane(lane)]
        by_name = grouped(
            (row.row.backend, (lane, row))
            for lane, row in sorted(rows, key=lambda r: bool(r[1].why_not))
        )
        return {name: dict(of_name) for name, of_name in by_name.items()}

    @cached_property
    def pairs(self) -> list[RowPair]:
        """Every two rows of a lane, the faster one on the left;
        then each row as installed and the tuned one.

        They are compared by their training steps.
        """
        asked: dict[tuple[PairKind, str, str], tuple[BenchRow, BenchRow]] = {}
        for lane in LANES:
            alike = grouped((tuple(row.row.sizes.values()), row) for row in self.of_lane(lane))
            for pair in (pair for group in alike.values() for pair in combinations(group, 2)):
                asked["frameworks", pair[0].label, pair[1].label] = pair
        for rows in self.backends.values():
            if len({row.label for row in rows.values()}) > 1:
                asked["installed", rows["installed"].label, rows["tuned"].label] = (
                    rows["installed"],
                    rows["tuned"],
                )
        pairs = []
        for (kind, *_), (left, right) in asked.items():
            ratio = self.ratio(left, right)
            if ratio and ratio.value < 1 and kind == "frameworks":
                left, right, ratio = right, left, ratio.inverse
            if ratio:
                pairs.append(RowPair(self.plan.within, kind, left, right, ratio))
        return pairs

    def ratio(self, left: BenchRow | None, right: BenchRow | None) -> Estimate | None:
        """Speed of `left` in training as a multiple of that of `right`;
        None if a row is missing or not compared."""
        if left is None or right is None or left.why_not or right.why_not:
            return None
        return self.observed.ratio(*(self.plan.rows.index(row.row) for row in (left, right)))

    @property
    def reached_by_lane(self) -> dict[str, float]:
        """Half-width of the widest interval between two backends of a lane, by the lane's name."""
        of_lane = {
            words: {row.label for row in self.of_lane(lane)} for lane, words in LANES.items()
        }
        widths = [
            (w, p.ratio.half_width)
            for w, of in of_lane.items()
            for p in self.pairs
            if {p.left, p.right} <= of
        ]
        return {words: max(of) for words, of in grouped(widths).items()}

    @property
    def baseline(self) -> str:
        """The backend that ratios refer to: the plan's,
        or the fastest framework as installed; "" if none."""
        told = [name for lane in LANES for name in self._told(lane)]
        return next((name for name in (self.training.baseline, *told) if name in self.backends), "")

    def _told(self, lane: Lane) -> dict[str, BenchRow]:
        """The rows of a lane that its sentence compares, by backend:
        without the example if two rows remain."""
        rows = {row.row.backend: row for row in self.of_lane(lane) if row.step and not row.why_not}
        others = {name: row for name, row in rows.items() if name != EXAMPLE}
        return others if len(others) > 1 else rows

    @property
    def sentences(self) -> list[TranslatedSentence]:
        """The shown sentences, with the translations of each row that decoded them."""
        lines = {self.plan.rows[index].label: self.decoded[index] for index in sorted(self.decoded)}
        return [
            TranslatedSentence(
                shown.source,
                shown.references,
                shown.held_out,
                {by: text for by, line in lines.items() for text in line.translations[n : n + 1]},
            )
            for n, shown in enumerate(self.text.shown if lines else [])
        ]

    @property
    def headline(self) -> str:
        """The answer: the training speeds of each lane in a sentence, first as installed."""
        if not self.rounds:
            return NOTHING
        by_answer = grouped((self._answer(lane), words) for lane, words in LANES.items())
        answers = [
            f"{' and '.join(lanes).capitalize()}, {answer}"
            for answer, lanes in by_answer.items()
            if answer
        ]
        if not answers:
            return "No answer yet: a comparison needs two rounds and two rows that pass parity."
        used = len(self.observed.logarithms)
        early = f"So far, after {used} rounds alone: " if used < LEAST_ROUNDS else ""
        return f"{self.named}{early}{'. '.join(answers)}."

    @property
    def named(self) -> str:
        """The name of the model as a sentence before the headline;
        empty for the official example's."""
        return "" if self.training.model == "lstm" else f"{MODELS[self.training.model].title}. "

    def _answer(self, lane: Lane) -> str:
        """A lane's speeds in a sentence, in multiples of the baseline's or,
        without it, of the fastest row's."""
        rows = self._told(lane)
        if len(rows) == 1:
            (row,) = rows.values()
            return (
                f"{row.title} trains {row.pairs_per_second:,.0f} pairs a second"
                if row.pairs_per_second
                else ""
            )
        first = self.backends[self.baseline].get(lane) if rows else None
        if first is None or first.why_not or not first.step:
            first = next(iter(rows.values()), None)
        ratios = [(self.ratio(first, row), row.title) for row in rows.values() if row is not first]
        if first is None or not any(ratio for ratio, _ in ratios):
            return ""
        of_word = grouped(
            (r.word(self.plan.within) if r else "not told apart", (r, title)) for r, title in ratios
        )
        faster = grouped(
            (r.half_width < ROUGH, (r, title)) for r, title in of_word.get("faster", []) if r
        )
        clauses = [
            f"{times(r.value)} times as fast as {title}" for r, title in faster.get(True, [])
        ]
        clauses[1:] = [clause.replace("times as fast ", "") for clause in clauses[1:]]
        clauses += (
            [f"faster than {listed(title for _, title in faster[False])}"]
            if False in faster
            else []
        )
        clauses += (
            [f"as fast as {listed(title for _, title in of_word['same'])}"]
            if "same" in of_word
            else []
        )
        sentences = [f"{first.title} trains {listed(clauses)}"] if clauses else []
        for r, title in of_word.get("slower", []):
            sentences += [f"{title} trains {_faster(r.inverse)} {first.title}"] if r else []
        if unknown := of_word.get("not told apart"):
            sentences.append(
                f"{listed([first.title, *(title for _, title in unknown)])} are not told apart yet"
            )
        return "; ".join(sentences)

    @property
    def gain(self) -> str:
        """The gain by the settings of the tuned lane, in a sentence;
        "" where the lanes are not compared."""
        gains = [(self.gain_of(name), title_of(name)) for name in self.backends]
        of_word = grouped(
            (ratio.word(self.plan.within), (ratio, title)) for ratio, title in gains if ratio
        )
        faster = [
            f"{title} {_faster(r).rpartition(' ')[0]}" for r, title in of_word.pop("faster", [])
        ]
        faster[1:] = [words.removesuffix(" times as fast") for words in faster[1:]]
        slower = [title for _, title in of_word.pop("slower", [])]
        others = [title for known in of_word.values() for _, title in known]
        sentences = [f"Settings make {listed(faster)}."] if faster else []
        sentences += [f"Settings slow {listed(slower)}."] if slower else []
        sentences += [f"No gain is seen in {listed(others)}."] if others else []
        measured = {effect.framework for effect in self.training.tuning.effects}
        same = [row for row in self.rows if row.row.lane == "both"]
        of_table = grouped((engine_of(row.row.backend) in measured, row.title) for row in same)
        sentences += [f"No setting helps {listed(of_table[True])}."] if True in of_table else []
        sentences += (
            [f"No setting was measured for {listed(of_table[False])}."] if False in of_table else []
        )
        return " ".join(sentences)

    def gain_of(self, backend: str) -> Estimate | None:
        """Speed of a backend's tuned row as a multiple of that as installed;
        None if a lane has no row of its own."""
        rows = self.backends[backend]
        tuned, plain = rows.get("tuned"), rows.get("installed")
        return None if tuned is plain else self.ratio(tuned, plain)

    @property
    def alike(self) -> str:
        """Number of sentences that all rows translate alike; "" if none were decoded."""
        sentences = self.sentences
        alike = sum(len(sentence.distinct) == 1 for sentence in sentences)
        return (
            f"All rows translate {alike} of {len(sentences)} sentences alike." if sentences else ""
        )

    @property
    def missing(self) -> list[str]:
        """Parts of a bench without time for them, in the order of their worth."""
        tuned = {index for index, row in enumerate(self.plan.rows) if not row.installed}
        batched = {
            index for index in tuned if lookup(self.plan.rows[index].backend).decodes_batches
        }
        lacking = {
            "the ten sentences in every backend": not batched <= self.decoded.keys(),
            "decoding speed": batched and not self.measurement.rounds("batch"),
            "why one is slower": not tuned <= self.profiled.keys(),
        }
        return [part for part, lacks in lacking.items() if lacks]

    def _doubts_of_rows(self) -> Iterator[str]:
        for why_not, labels in grouped(
            (row.why_not, row.label) for row in self.rows if row.why_not
        ).items():
            yield f"not compared: {', '.join(labels)}, because {why_not}"
        asked = self.training.threads or self.head.machine["cores"]
        for row in self.rows:
            if not row.row.installed and row.facts.threads != asked:
                yield (
                    f"{row.label} computed on {count(row.facts.threads, 'thread')}, although "
                    f"{asked} were asked for"
                )
            turns = self.turns.get(self.plan.rows.index(row.row), [])
            if any(
                1 - fsum([*turn.lead, *turn.steps]) / turn.loop > MOST_OUTSIDE for turn in turns
            ):
                yield (
                    f"{row.label} spent over {MOST_OUTSIDE:.0%} of its time outside the timed "
                    "steps, so the device may still have been at work when a step's clock was "
                    "stopped"
                )

    def _more_notes(self) -> Iterator[str]:
        if self.stolen > MOST_STOLEN:
            yield (
                f"other virtual machines took {self.stolen:.2f} cores on average meanwhile, which "
                "widens intervals"
            )
        within = self.plan.within
        if self.reached and self.reached > within:
            unsure = self.reached > UNSURE_FROM
            width = (
                "is too wide to rely on"
                if unsure
                else (f"reaches {percent(self.reached)} to one side")
            )
            yield (
                f"the widest interval {width}, although {percent(within)} was asked for; "
                f"{enough(within, self.reached, self.seconds, self.plan.budget)}"
            )
        tuned = [row for row in self.rows if not row.row.installed]
        tuning = self.training.tuning
        if any(row.row.variables for row in tuned):
            others = {
                "on this processor": tuning.processor != processor_of(self.head.machine),
                "with this model": tuning.model != self.training.model,
            }
            if where := " or ".join(name for name, differs in others.items() if differs):
                yield (
                    f"the settings of the tuned lane were measured on {tuning.origin}, and not "
                    f"{where}"
                )

    def parity(self, index: int) -> tuple[Certificate | None, str]:
        """The certificate of a row, and the reason not to compare the row; "" if it is compared."""
        certificate = self.certificates.get(index)
        facts = self.starts[index][-1].facts
        if certificate is None or facts is None or certificate.version != facts.version:
            return None, "there is no parity certificate of this version"
        if not certificate.passed:
            return certificate, "parity is broken, and `rosetta parity` explains where"
        if any(line.row == index and not line.passed for line in self.measurement.of_kind(Checked)):
            return certificate, "its process computed something else after its turns"
        finite = all(turn.finite for turn in self.turns.get(index, []))
        return certificate, "" if finite else "the loss is not finite"


def step_parts(profile: Profile, step_seconds: float, makes_tensors: bool) -> dict[str, float]:
    """Seconds of each part of a step, in the order of PARTS; their sum is `step_seconds`.

    Only shares are taken from the profile. The time without a running kernel is Python and waiting.
    The time of making the tensors is subtracted from it, unless the row makes them before its
    steps: `makes_tensors` is False.
    """
    scale = step_seconds / max(profile.seconds, profile.products + profile.others)
    products, others = scale * profile.products, scale * profile.others
    between = step_seconds - products - others
    data = min(profile.data / profile.steps, between) if makes_tensors else 0.0
    return {"products": products, "others": others, "data": data, "waiting": between - data}


def why_slower(
    slower: str, faster: str, slow: Mapping[str, float], fast: Mapping[str, float]
) -> str:
    """A sentence that names the parts of a step in which the slower row spends more time
    than the faster one.

    `slow` and `fast` are seconds of both rows' steps, by part. The sentence is empty if a row has
    no profile, or if no part explains the difference.
    """
    if not slow or not fast:
        return ""
    differences = sorted(
        ((slow[part] - fast[part], words) for part, words in PARTS.items()), reverse=True
    )
    total = sum(seconds for seconds, _ in differences)
    more = [
        f"{_ms(seconds)} more in {words}"
        for seconds, words in differences
        if seconds > WORTH * total
    ]
    less = [
        f"{_ms(-seconds)} less in {words}"
        for seconds, words in differences
        if -seconds > WORTH * total
    ]
    if total <= 0 or not more:
        return ""
    return (
        f"Tuned, {slower}'s step is {_ms(total)} longer than {faster}'s: {listed([*more, *less])}."
    )


def _faster(ratio: Estimate) -> str:
    """A ratio above 1 in words, without a number if its interval is wide: 1.4 times as fast as."""
    return f"{times(ratio.value)} times as fast as" if ratio.half_width < ROUGH else "faster than"


def _ms(seconds: float) -> str:
    return f"{1e3 * seconds:.0f} ms" if seconds >= 0.01 else f"{1e3 * seconds:.1f} ms"
