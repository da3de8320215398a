"""From a recording to its results: rows, pairs of rows, the headline and warnings. Nothing is measured here."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import cached_property
from itertools import combinations
from math import ceil, nan
from statistics import fmean, median
from typing import Any

import msgspec

from backends import BASELINE
from benchmarks.measure.machine import MOST_OTHERS
from benchmarks.measure.plan import Cell, certified_as
from benchmarks.measure.recording import Cause, Certified, Decoded, Evidence, Generation, Recording, Start, Trained
from benchmarks.parity.certificate import Certificate
from benchmarks.results.intervals import Estimate, Fit, word_for
from benchmarks.results.roofline import multiplies_one_hot, step_flop
from benchmarks.results.timings import MOST_DROPPED, Timings, widest
from benchmarks.results.values import (
    Decoding,
    Group,
    Kind,
    Pair,
    Peak,
    Resources,
    Results,
    Roofline,
    Row,
    ScoredEpoch,
    Sentence,
    Speed,
    Training,
    grouped,
    plain,
)
from benchmarks.results.why import advice_for, step_parts, why_slower
from common.text import listed

MOST_OUTSIDE = 0.05  # share of a visit's time that may pass outside its timed steps without a warning


def results_of(recording: Recording) -> Results:
    """The results of a recording; of one that is not finished, the results of what was measured so far."""
    return Analysis(recording).results()


class Analysis:
    """A recording's lines, sorted by cell, and the results that follow from them."""

    def __init__(self, recording: Recording) -> None:
        self.recording, self.plan, self.head = recording, recording.plan, recording.head
        self.timings = Timings(recording)
        self.generations = recording.of_kind(Generation)
        starts = (start for generation in self.generations for start in generation.starts)
        self.starts = grouped((self.plan.cells[start.cell], start) for start in starts)
        self.certificates = {line.cell: line.certificate for line in recording.of_kind(Certified)}
        self.evidence = {line.cell: line for line in recording.of_kind(Evidence)}
        self.decoded = {line.cell: line for line in recording.of_kind(Decoded)}
        self.peaks = sorted(
            (
                Peak(line.cell.backend, product.name, product.shape, product.flops)
                for line in recording.of_kind(Evidence)
                for product in line.products
            ),
            key=lambda peak: -peak.flops,
        )

    def results(self) -> Results:
        """All results of the recording."""
        rows = [self._row(cell) for cell in self.plan.rows if cell in self.starts]
        rows.sort(key=lambda row: (bool(row.why_not), row.speed.step.value if row.speed else 0.0))
        visits = [visit for _, cycle in self.timings.cycles for visit in cycle]
        widest_interval = widest(self.timings)
        scores = next((line.scores for line in self.decoded.values() if line.scores), None)
        pairs = self._pairs(rows, self.timings.steps) if self.timings.trusted else []
        results = Results(
            headline="",
            command=self.plan.command,
            machine=self.head.machine,
            sha256=self.head.corpus.sha256,
            data=self.plan.data,
            settings=self.plan.settings,
            latent_dim=self.plan.latent_dim,
            preset=self.plan.preset,
            started=self.head.started,
            within=self.plan.size.within,
            reached=widest_interval.half_width if widest_interval else None,
            generations=len({generation.number for generation in self.generations}),
            cycles=len(self.timings.cycles),
            dropped=self.timings.dropped,
            others=fmean(visit.others for visit in visits) if visits else 0.0,
            waited=sum(visit.waited for visit in visits),
            seconds=sum(generation.seconds for generation in self.generations),
            weights=self.head.corpus.weights,
            chrf=scores["chrf"] if scores else None,
            chrf_signature=scores["chrf_signature"] if scores else "",
            baseline=self._baseline(rows),
            rows=rows,
            pairs=pairs,
            decoding=self._of_frameworks(rows, self.timings.batches) if self.timings.trusted else [],
            alone=self._of_frameworks(rows, self.timings.alone) if self.timings.trusted else [],
            sentences=self._sentences(),
            peaks=self.peaks,
            warnings=[*self._warnings(rows)],
            advice=[*self._advice()],
        )
        return replace(results, headline=headline(results))

    def _row(self, cell: Cell) -> Row:
        starts = self.starts[cell]
        facts = starts[-1].facts
        certificate = self._certificate(cell, facts.version)
        speed = self._speed(cell)
        group: Group = "bucketed" if cell.bucketed else "reduced" if facts.precision != "float32" else "main"
        return Row(
            cell=cell,
            label=cell.label,
            group=group,
            facts=facts,
            certificate=certificate,
            why_not=self._why_not(cell, certificate, starts),
            speed=speed,
            decoding=self._decoding(cell),
            resources=self._resources(cell, starts, speed, group),
            learning=self._learning(cell),
        )

    def _speed(self, cell: Cell) -> Speed | None:
        step = self.timings.steps.seconds(cell.label)
        if step is None:
            return None
        batch_size = self.plan.settings.batch_size
        steps = self.head.corpus.sizes.training_rows / batch_size
        if not cell.bucketed:
            steps = ceil(steps)  # an epoch's last batch has fewer pairs, but its step takes as long as the others
        return Speed(step, step.value * steps, batch_size / step.value, self.timings.settling(cell))

    def _decoding(self, cell: Cell) -> Decoding | None:
        line = self.decoded.get(cell)
        if line is None:
            return None
        return Decoding(
            batch_character=self.timings.batches.seconds(cell.label),
            sentences=line.sentences,
            alone_character=self.timings.alone.seconds(cell.label),
            alone_characters=line.characters[1] if line.characters else 0,
            once_character=None if line.characters else line.seconds,
        )

    def _resources(self, cell: Cell, starts: Sequence[Start], speed: Speed | None, group: Group) -> Resources:
        facts, evidence, trainings = starts[-1].facts, self.evidence.get(cell), self._trainings(cell)
        step = speed.step.value if speed else None
        profile = evidence.profile if evidence else None
        makes_tensors = cell.backend != BASELINE  # keras:example makes all of its tensors before its steps
        timed = [start for start in starts if start.seconds] or starts[:1]  # where starting was timed
        roofline = None
        if step and self.peaks and group == "main":
            sizes, batch_size = self.head.corpus.sizes, self.plan.settings.batch_size
            flop = step_flop(sizes, batch_size, self.plan.latent_dim, multiplies_one_hot(facts))
            roofline = Roofline(flop, flop / step, flop / step / self.peaks[0].flops)
        return Resources(
            process_seconds=median(s.seconds - s.facts.import_seconds - s.facts.build_seconds for s in timed),
            import_seconds=median(s.facts.import_seconds for s in timed),
            build_seconds=median(s.facts.build_seconds for s in timed),
            first_step_seconds=median(s.warm_up.first_step_seconds for s in starts),
            after_import=median(s.facts.resident_after_import for s in starts),
            after_build=median(s.facts.resident_after_build for s in starts),
            # A training of whole epochs may need more memory than the first few steps, so it is preferred.
            peak=median([t.peak for t in trainings] or [s.warm_up.peak for s in starts]),
            threads=starts[-1].warm_up.threads,
            busy_threads=starts[-1].warm_up.busy_threads,
            data_share=profile.data_seconds / profile.steps / step if profile and step and makes_tensors else None,
            roofline=roofline,
            kernels=profile.kernels if profile else [],
            step_parts=step_parts(evidence, step, makes_tensors) if step else {},
        )

    def _trainings(self, cell: Cell) -> list[Trained]:
        return [line for line in self.recording.of_kind(Trained) if line.cell == cell]

    def _learning(self, cell: Cell) -> list[Training]:
        return [
            Training(
                line.seed,
                [
                    ScoredEpoch(
                        **{name: nan if figure is None else figure for name, figure in vars(epoch).items()},
                        chrf=scores["chrf"],
                        exact_match=scores["exact_match"],
                        character_error_rate=scores["character_error_rate"],
                    )
                    for epoch, scores in zip(line.epochs, line.scores, strict=True)
                ],
            )
            for line in self._trainings(cell)
        ]

    def _certificate(self, cell: Cell, version: str) -> Certificate | None:
        """The cell's parity certificate, if it is of this version of the framework; otherwise None."""
        found = self.certificates.get(certified_as(cell))
        return found if found and found.version == version else None

    def _why_not(self, cell: Cell, certificate: Certificate | None, starts: Sequence[Start]) -> str:
        """Why a row is not compared with others; empty if it is compared."""
        if certificate is None:
            return "there is no parity certificate of this version"
        if not certificate.passed:
            return "parity is broken, and `rosetta parity` explains where"
        if len({start.facts.version for start in starts}) > 1:
            return "the generations ran in more than one version"
        if not self.timings.finite(cell):
            return "the loss is not finite"
        return ""

    @cached_property
    def _bias(self) -> tuple[str, Estimate] | None:
        """Label and ratio of a row that was measured twice and seems faster or slower than itself; None if none does.

        The interval of the ratio then leaves 1 out.
        """
        for cell in self.plan.cells:
            if cell.again and (once := cell.counterpart):
                ratio = self.timings.steps.ratio(once.label, cell.label)
                if ratio and not ratio.holds(1.0):
                    return cell.label, ratio
        return None

    @property
    def bias(self) -> float:
        """By what share a row that was measured twice seems faster or slower than itself; 0 if none does."""
        return max(self._bias[1].value, 1 / self._bias[1].value) - 1 if self._bias else 0.0

    def _pair(self, kind: Kind, left: str, right: str, fit: Fit) -> Pair | None:
        """Two rows compared by a fit; None where their ratio is not known. A bias widens its intervals."""
        ratio, pairwise = fit.ratio(left, right), fit.pairwise(left, right)
        if ratio is None:
            return None
        if kind != "control":
            ratio, pairwise = ratio.widened(self.bias), pairwise.widened(self.bias) if pairwise else None
        return Pair(kind, left, right, ratio, pairwise, word_for(ratio, self.plan.size.within))

    def _of_frameworks(self, rows: Sequence[Row], fit: Fit) -> list[Pair]:
        """Every two rows of the same group and lane, the faster one on the left."""
        found = []
        for members in grouped(((row.group, row.cell.lane), row) for row in rows if row.compared).values():
            for left, right in combinations(members, 2):
                ratio = fit.ratio(left.label, right.label)
                if ratio and ratio.value < 1:
                    left, right = right, left
                if pair := self._pair("frameworks", left.label, right.label, fit):
                    if fit is self.timings.steps and right.cell.lane == "matched" and pair.word == "faster":
                        parts = right.resources.step_parts, left.resources.step_parts
                        pair = replace(pair, why=why_slower(right.label, left.label, *parts))
                    found.append(pair)
        return found

    def _pairs(self, rows: Sequence[Row], fit: Fit) -> list[Pair]:
        """The frameworks compared with one another; then each special row compared with the same backend's plain row.

        Special rows are those as installed, on bucketed batches, in reduced precision, or measured a second time.
        """
        compared = {row.cell for row in rows if row.compared}
        special = []
        for cell in self.plan.cells:
            plain = cell.counterpart
            if plain and cell.again:
                special.append(self._pair("control", plain.label, cell.label, fit))
            elif plain and {cell, plain} <= compared:
                kind: Kind = "installed" if cell.lane == "default" else "bucketed" if cell.bucketed else "reduced"
                special.append(self._pair(kind, cell.label, plain.label, fit))
        return [*self._of_frameworks(rows, fit), *(pair for pair in special if pair)]

    def _baseline(self, rows: Sequence[Row]) -> str:
        """The label of the row that ratios in tables refer to: the one asked for, or the example, or the slowest."""
        timed = [row for row in rows if row.compared and row.speed and row.group == "main"]
        candidates = [row for row in timed if row.cell in self.plan.question]
        for name in (self.plan.baseline, BASELINE):
            if name and (found := [row.label for row in candidates if row.cell.backend == name]):
                return found[0]
        return candidates[-1].label if candidates else ""

    def _sentences(self) -> list[Sentence]:
        """The sentences that the report shows, with the translations by the rows of the benchmark's question."""
        cells = [cell for cell in self.decoded if cell in self.plan.question]
        if not cells:
            return []
        return [
            Sentence(
                shown.source,
                shown.references,
                shown.held_out,
                {cell.label: self.decoded[cell].translations[n] for cell in cells},
            )
            for n, shown in enumerate(self.head.corpus.shown)
        ]

    def _advice(self) -> Iterator[str]:
        """One piece of advice for each row as installed that is slower than the same backend's matched row."""
        for cell, causes in grouped((cause.cell, cause) for cause in self.recording.of_kind(Cause)).items():
            ratio = self.timings.steps.ratio(msgspec.structs.replace(cell, lane="matched").label, cell.label)
            # A row may have been slow when its cause was looked for, and yet not be slower over all generations; and
            # settings that did not make it faster are no advice.
            last = causes[-1]
            if ratio and ratio.low > 1 and last.installed > max(last.matched, last.given):
                yield advice_for(cell.backend, ratio.value, causes, self.plan.threads or self.head.machine["cores"])

    def _warnings(self, rows: Sequence[Row]) -> Iterator[str]:
        """What a reader must know before relying on the figures, one sentence each."""
        size, timings = self.plan.size, self.timings
        if timings.dropped:
            used = fmean(v.others for _, cycle in timings.cycles for v in cycle if v.others > MOST_OTHERS)
            text = f"{timings.dropped} of {len(timings.cycles)} cycles were dropped because other processes used "
            text += f"{used:.1f} cores meanwhile"
            if not timings.trusted:
                text += f"; since more than {MOST_DROPPED:.0%} were dropped, no row is called faster than another"
            yield f"{text}; close other programs and measure again"
        found = widest(timings)
        if found is None:
            yield "there are fewer than two generations that can be used, and so no intervals; --resume measures more"
        elif found.half_width > size.within:
            yield (
                f"the widest interval reaches {found.half_width:.1%} to one side, although {size.within:.0%} was "
                "asked for: the time ran out; a longer --budget makes it narrower"
            )
        if self._bias:
            label, ratio = self._bias
            yield (
                f"{label} seems faster or slower than the same row measured before ({ratio.low:.2f} to "
                f"{ratio.high:.2f}): the measurement is biased by as much, and all intervals are widened by it"
            )
        yield from self._row_warnings(rows)
        yield from _denormal_warnings(rows)

    def _row_warnings(self, rows: Sequence[Row]) -> Iterator[str]:
        """Warnings about single rows: those that are not compared, and those that did not run as they should."""
        asked = self.plan.threads or self.head.machine["cores"]
        for why_not, labels in grouped((row.why_not, row.label) for row in rows if row.why_not).items():
            yield f"not compared: {', '.join(labels)}, because {why_not}"
        for row in rows:
            if row.cell.lane == "matched" and row.facts.threads != asked:
                yield f"{row.label} computed on {row.facts.threads} threads, although {asked} were asked for"
            if self.timings.outside(row.cell) > MOST_OUTSIDE:
                yield (
                    f"{row.label} spent over {MOST_OUTSIDE:.0%} of its time outside the timed steps, so the device "
                    "may still have been at work when a step's clock was stopped"
                )


def headline(results: Results) -> str:
    """The answer in a sentence: how many times as fast the fastest row trains as each of the others.

    - Rows with matched settings are meant, or those as installed where there are no others.
    - Variants such as torch:compile are left out where there are two frameworks or more without them.
    """
    rows = [row for row in results.of_group("main") if row.compared and row.speed]
    rows = [row for row in rows if row.cell.lane == "matched"] or rows
    frameworks = [row for row in rows if row.cell.backend == BASELINE or ":" not in row.cell.backend]
    rows = frameworks if len(frameworks) > 1 else rows
    if not results.pairs or len(rows) < 2:
        return _no_answer(results, rows)
    first, *others = (row.label for row in rows)
    said = []
    for other in others:
        pair = next(p for p in results.pairs if {p.left, p.right} == {first, other})
        ratio = pair.ratio if pair.left == first else pair.ratio.inverse
        interval = f"({ratio.low:.2f} to {ratio.high:.2f})"
        if pair.word in ("faster", "slower"):
            said.append(f"{ratio.value:.2f} times as fast as {other} {interval}")
        elif pair.word == "same":
            said.append(f"as fast as {other} within {ratio.half_width:.1%}")
        else:
            said.append(f"not surely faster than {other} {interval}")
    return f"{first} trains {listed(said)}."


def _no_answer(results: Results, rows: Sequence[Row]) -> str:
    """The headline where no two rows can be compared."""
    if not results.generations:
        return "Nothing was measured yet."
    if results.dropped > MOST_DROPPED * results.cycles:
        return f"No answer: other processes were at work in {results.dropped} of {results.cycles} cycles."
    if len(rows) == 1 and rows[0].speed:
        return f"{rows[0].label} trains {rows[0].speed.pairs_per_second:,.0f} pairs a second."
    return "No answer yet: a comparison needs two generations and two rows that pass parity."


def _denormal_warnings(rows: Sequence[Row]) -> Iterator[str]:
    """A warning where the matched rows treat denormal numbers differently: some frameworks have no switch for it."""
    matched = [row for row in rows if row.cell.lane == "matched"]
    denormals = grouped((str(row.facts.settings.get("denormals", "not known")), row.label) for row in matched)
    if len(denormals) > 1:
        said = "; ".join(f"{fate} in {', '.join(labels)}" for fate, labels in denormals.items())
        yield f"denormal numbers (very close to zero) are not treated alike: {said}"


def as_json(results: Results) -> dict[str, Any]:
    """The results as `--json` prints them.

    - A pair has `ratio`, which says how many times as fast `left` is as `right`, beside the ends `low` and `high` of
      its interval, all three as plain numbers.
    - A sentence has its first reference as `reference`, in addition to all of them as `references`.
    """
    content: dict[str, Any] = plain(results)
    for name in ("pairs", "decoding", "alone"):
        for pair in content[name]:
            ratio = pair.pop("ratio")
            pair |= {"ratio": ratio["value"], "low": ratio["low"], "high": ratio["high"]}
    for sentence in content["sentences"]:
        sentence["reference"] = sentence["references"][0]
    return content
