"""What a recording says, as values: every table, chart and report is a function of these."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from math import inf
from statistics import median
from typing import Any

from benchmarks.intervals import Estimate, Verdict
from benchmarks.plan import BUCKETED
from benchmarks.recording import FORMAT, VERSION
from common.config import DataConfig, TrainConfig

FULL = "float32"  # the precision of the rows that are compared with one another
REDUCED = "Reduced precision"  # what tables and sections call the others


@dataclass(frozen=True)
class Quality:
    """One training of a backend, scored after each epoch; the scoring is off the clock."""

    seed: int
    # of each epoch: seconds (of training, this epoch's), samples, loss, val_loss, val_accuracy, val_accuracy_real,
    # chrf (0 to 100), exact_match (0 to 1), character_error_rate
    epochs: list[dict[str, float]]
    seconds_to_target: float | None  # training seconds until chrf reached Results.target_chrf; None: never


def seconds_to_target(trainings: Sequence[Quality]) -> float:
    """The median of the trainings, those that never arrived counted as the longest; infinite where most never did."""
    return median(inf if t.seconds_to_target is None else t.seconds_to_target for t in trainings)


@dataclass(frozen=True)
class Roofline:
    """What a row does of what the machine can."""

    flop_a_step: float  # floating-point operations that the row's training step executes, by formula
    flops: float  # of them a second
    share: float  # of Results.peak


@dataclass(frozen=True)
class Row:
    """One backend in one lane under one interpreter, on batches made in one way.

    Times are seconds; estimates are medians with 95 % intervals. Of bucketed batches nothing is decoded but in the
    trainings that are scored.
    """

    backend: str
    variant: str  # "" for the plain backend
    lane: str  # "matched" or "default"
    python: str  # path of the interpreter, where it is not the benchmark's own
    precision: str  # that it computes in, as the framework tells; weights are float32
    batches: str  # "shuffled", the example's way, or "bucketed", with padding masked
    label: str  # what tables and charts call it
    version: str
    threads: int  # as the framework tells
    ranked: bool
    why_not: str  # ranked, where it is not: no certificate, parity failed, ...
    # The four times of a start and one step, medians: process (to be up and import NumPy), import, build, first_step
    start: dict[str, float]
    step: Estimate | None  # a warm training step; bucketed: an epoch's seconds for a batch's worth of pairs
    steps_an_epoch: float  # of a full batch each; whole where batches are shuffled
    ratio: Verdict | None  # baseline's step over the row's: above 1 is faster; None for the baseline
    bucketing: Verdict | None  # bucketed: how many times as fast, a pair, as the same backend's shuffled row
    reducing: Verdict | None  # of reduced precision: how many times as fast as the same backend's float32 row
    default_cost: Verdict | None  # in the lane `default`: how many times as fast as the same backend's matched row
    control: Estimate | None  # A/A: the row's step over its own in a second process of the same round
    floor: float | None  # noise floor: largest |ratio - 1| in the control's interval; None where no control ran
    evaluate: Estimate | None  # an evaluation, per validation row
    decode_character: Estimate | None  # batch decoding, per character put out, up to and with "\n"
    decode_ratio: Verdict | None  # to the baseline, per character
    decode_sentences: int
    latency: dict[int, Estimate]  # one sentence, warm, by percentile 50, 95, 99; empty where not measured
    longest_output: int | None  # characters of the sentence that puts out most; None in early recordings, as below
    longest_character: Estimate | None  # that sentence alone, warm, per character put out
    longest_ratio: Verdict | None  # to the baseline, per character
    # Bytes, medians: after_import, after_build, peak. The peak is of whole epochs; without them, of the timed steps.
    memory: dict[str, float]
    roofline: Roofline | None
    data_share: float | None  # of its steps' time, what making their tensors takes; None of the baseline
    settings: dict[str, Any]  # of the runtime, as read back from the framework
    os_threads: dict[str, int]  # `all` that the process had, `busy` ones that worked while it trained
    # name, calls, seconds, part (none in early recordings); of an untimed pass under the framework's profiler
    kernels: list[dict[str, Any]]
    time_parts: dict[str, float]  # seconds a step by common.interface.Part, summing to it; empty where not profiled
    gates: list[str]  # the sanity gates that failed, each with advice
    quality: list[Quality]  # a training a seed
    # The seconds that the baseline's trainings take, over those that this row's take to Results.target_chrf, medians
    # over the seeds: above 1 is sooner. None where either was not trained, or most of its trainings never arrive.
    target_ratio: float | None
    facts: dict[str, Any]  # what the backend's process reported of itself
    certificate: dict[str, Any] | None  # of parity; see benchmarks.parity
    train_seconds_per_epoch: float  # the step's median times the steps
    train_samples_per_second: float
    decode_sentences_per_second: float | None
    # Of the last epoch, where quality was measured, medians over the seeds; and all epochs of the first seed.
    loss: float | None
    val_loss: float | None
    val_accuracy: float | None  # over all positions, padding included
    val_accuracy_real: float | None  # over real characters
    epochs: list[dict[str, float]]

    @property
    def name(self) -> str:
        return f"{self.backend}:{self.variant}" if self.variant else self.backend

    @property
    def reduced(self) -> bool:
        """Whether it computes in less than float32, so that its speed is not the others' to be compared with."""
        return self.precision != FULL


def among_bucketed(rows: Sequence[Row]) -> list[Row]:
    """Bucketed rows under the labels that tell them apart where no others are."""
    return [replace(row, label=row.label.removesuffix(f", {BUCKETED}")) for row in rows]


def main_lane(rows: Sequence[Row]) -> str:
    """The lane that the answer is about: the matched one where there is one."""
    return "matched" if any(row.lane == "matched" for row in rows) else "default"


def answering(rows: Sequence[Row]) -> list[Row]:
    """Those of the lane that the answer is about."""
    return [row for row in rows if row.lane == main_lane(rows)]


@dataclass(frozen=True)
class Decoded:
    """One held-out sentence and what each backend makes of it after the last epoch of the first seed."""

    source: str
    references: list[str]
    translations: dict[str, str]  # by the row's label

    @property
    def said(self) -> list[tuple[str, str]]:
        """Who says it, and each distinct translation; "all" where several rows agree and none differs."""
        labels: dict[str, list[str]] = {}
        for label, translation in self.translations.items():
            labels.setdefault(translation, []).append(label)
        agreed = len(labels) == 1 < len(self.translations)
        return [("all" if agreed else ", ".join(names), translation) for translation, names in labels.items()]


@dataclass(frozen=True)
class Overtaking:
    """A row with a slower start and a faster step than another's."""

    slow_starter: str  # labels
    overtakes: str
    steps: float  # after which the slow starter has caught up, start included


@dataclass(frozen=True)
class Point:
    """One backend at one size of one axis."""

    value: int
    seconds: float  # a warm training step, the median
    flop: float  # of the step, by formula
    ideal_seconds: float | None  # the step at Results.peak; None where no peak was measured
    share: float | None  # of the peak
    peak_memory: float  # bytes, of the process


@dataclass(frozen=True)
class Curve:
    """One backend along one axis of a sweep."""

    axis: str  # a field of benchmarks.plan.Sweep
    name: str  # of the backend
    label: str
    ranked: bool  # has a parity certificate of its version
    points: list[Point]  # by value
    best_share: float | None
    departs: int | None  # from the large end, the first value whose share is under half of the best; None: none is


@dataclass(frozen=True)
class DataCost:
    """A corpus before any framework has it."""

    num_samples: int
    encode_seconds: float  # from text to ids, medians
    epoch_seconds: float  # to make the tensors of all batches of an epoch


@dataclass(frozen=True)
class Scaling:
    """What a sweep found."""

    curves: list[Curve]
    data: list[DataCost]

    def of_axis(self, axis: str) -> list[Curve]:
        return [curve for curve in self.curves if curve.axis == axis]


@dataclass(frozen=True)
class Results:
    """A whole comparison. Rows come fastest first, those that are not ranked after the others.

    Those on bucketed batches are apart, since they do other work a step, and those of reduced precision, on whatever
    batches, since they do it less exactly.
    """

    headline: str  # the answer in a sentence
    command: str  # that measures the same again
    machine: dict[str, Any]
    sha256: str  # of the corpus
    data: DataConfig
    settings: TrainConfig
    latent_dim: int
    preset: str
    started: str
    rounds: int  # that were recorded
    planned_rounds: int
    num_epochs: int  # of the trainings that were scored; those on bucketed batches may have more
    floor: float | None  # noise floor of a step: the largest of `rows`; None where no control tells
    peak: dict[str, Any] | None  # the machine's: flops, backend, shape; rates: all that was measured
    target_chrf: float | None  # what the baseline's trainings reach, or the worst row's where there is no baseline
    chrf_signature: str
    warnings: list[str]  # what a reader must know before believing: gates, missing rounds, missing baseline
    rows: list[Row]
    bucketed: list[Row]
    reduced: list[Row]
    pairs: list[dict[str, Any]]  # verdicts between neighbours in the ranking: first, second, verdict
    overtakings: list[Overtaking]
    decoded: list[Decoded]
    scaling: Scaling | None = None  # where there was a sweep

    @property
    def full_rows(self) -> list[Row]:
        """Those of full precision."""
        return [*self.rows, *self.bucketed]

    @property
    def all_rows(self) -> list[Row]:
        return [*self.full_rows, *self.reduced]

    def as_json(self) -> dict[str, Any]:
        return {"format": FORMAT, "version": VERSION} | asdict(self)
