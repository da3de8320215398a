"""What a comparison found. Times are seconds and memory is bytes, where nothing else is said."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from math import inf
from typing import Any, Literal

import msgspec

from benchmarks.measure.plan import Cell
from benchmarks.parity.certificate import Certificate
from benchmarks.results.intervals import Estimate, Word
from common.config import DataConfig, TrainConfig
from common.evidence import Kernel
from common.interface import BackendFacts
from common.machine import Machine

# "main": rows that do the same work in float32 and are compared with one another. "bucketed": rows on batches of like
# lengths with padding masked, which is other work a step. "reduced": rows that compute in less than float32.
Group = Literal["main", "bucketed", "reduced"]
# "frameworks": two rows of one group and lane. The others hold a row that is apart against the same backend's plain
# one: as installed, on bucketed batches, of reduced precision, or measured a second time.
Kind = Literal["frameworks", "installed", "bucketed", "reduced", "control"]


@dataclass(frozen=True)
class Speed:
    """How fast a row trains."""

    step: Estimate  # a warm training step on a batch; bucketed: the time that a batch's worth of pairs takes
    epoch_seconds: float  # the step's seconds times the steps of an epoch
    pairs_per_second: float
    settling: float  # by how much the first ten of twenty timed steps are slower than the last ten, as a share


@dataclass(frozen=True)
class Decoding:
    """How fast a row decodes. A character is one that is put out, up to and with the end of the sentence."""

    batch_character: Estimate | None  # when many sentences are decoded in one call; None where a row has no batch
    sentences: int  # in that call
    alone_character: Estimate | None  # of the longest held-out sentence, decoded by itself
    alone_characters: int  # that it puts out
    once_character: float | None  # the shown sentences one by one, measured once: of what has no batch, the example


@dataclass(frozen=True)
class Roofline:
    """What a row's training step does of what the machine can."""

    flop: float  # floating-point operations of a step, by formula
    flops: float  # of them a second
    share: float  # of the fastest matrix product that was measured


@dataclass(frozen=True)
class Resources:
    """What a row takes beside the time of its steps: medians over the generations."""

    process_seconds: float  # until a process is there and has imported NumPy
    import_seconds: float  # of the framework
    build_seconds: float  # of the model
    first_step_seconds: float  # with all that it compiles
    after_import: float  # bytes resident
    after_build: float
    peak: float  # of whole epochs where trainings were scored, else of the first steps
    threads: int  # of the operating system
    busy_threads: int  # of these, those that worked while it trained
    data_share: float | None  # of a step's time, what making its tensors takes; None where they are made before
    roofline: Roofline | None
    kernels: Sequence[Kernel]  # by the framework's own profiler; empty where not profiled
    step_parts: dict[str, float]  # seconds of a step by common.evidence.Part; empty where not profiled

    @property
    def start_seconds(self) -> float:
        """From nothing until the first step is done."""
        return self.process_seconds + self.import_seconds + self.build_seconds + self.first_step_seconds


@dataclass(frozen=True)
class ScoredEpoch:
    """One epoch of a training; the scoring is off the clock."""

    seconds: float  # of the training steps
    loss: float
    val_loss: float
    val_accuracy: float  # over all positions, padding included
    val_accuracy_real: float  # over real characters
    chrf: float  # 0 to 100, of held-out sources
    exact_match: float  # 0 to 1
    character_error_rate: float


@dataclass(frozen=True)
class Training:
    """One training of a backend from a seed, scored after each epoch."""

    seed: int
    epochs: Sequence[ScoredEpoch]

    def seconds_to(self, chrf: float) -> float:
        """Seconds of training until an epoch's chrF is first as high; infinite where none is."""
        seconds = 0.0
        for epoch in self.epochs:
            seconds += epoch.seconds
            if epoch.chrf >= chrf:
                return seconds
        return inf


@dataclass(frozen=True)
class Row:
    """One backend in one lane under one interpreter, on batches made in one way."""

    cell: Cell
    label: str  # what tables and charts call it
    group: Group
    facts: BackendFacts
    certificate: Certificate | None  # of parity, of the version that ran; None where there is none
    why_not: str  # compared: no certificate, parity broken, ...; empty where it is
    speed: Speed | None  # None where no cycle could be used
    decoding: Decoding | None
    resources: Resources
    learning: Sequence[Training]  # empty where no training was scored

    @property
    def compared(self) -> bool:
        """Whether its figures are held against others'."""
        return not self.why_not


@dataclass(frozen=True)
class Pair:
    """Two rows against one another."""

    kind: Kind
    left: str  # labels; left is the faster one, or in the other kinds the row that the kind names
    right: str
    ratio: Estimate  # how many times as fast left is, by the fit of all rows
    pairwise: Estimate | None  # the same by these two rows alone
    word: Word
    why: str = ""  # a sentence from the parts of a step that were measured; empty where they were not


@dataclass(frozen=True)
class Sentence:
    """A sentence, its references and what each row makes of it, with the weights that all decode with."""

    source: str
    references: Sequence[str]
    held_out: bool  # of training
    translations: dict[str, str]  # by the row's label

    @property
    def said(self) -> list[tuple[list[str], str]]:
        """Each distinct translation with the labels of the rows that say it."""
        labels: dict[str, list[str]] = {}
        for label, translation in self.translations.items():
            labels.setdefault(translation, []).append(label)
        return [(names, translation) for translation, names in labels.items()]


@dataclass(frozen=True)
class Peak:
    """A matrix product (m, k) @ (k, n) in float32."""

    backend: str
    name: str  # "large", or the part of the model that it is
    shape: tuple[int, int, int]
    flops: float  # floating-point operations a second


@dataclass(frozen=True)
class Results:
    """A whole comparison. Rows come fastest first within their group; those that are not compared come last."""

    headline: str  # the answer in a sentence
    command: str  # what is typed to measure the same again
    machine: Machine
    sha256: str  # of the corpus
    data: DataConfig
    settings: TrainConfig
    latent_dim: int
    preset: str
    started: str  # ISO 8601
    within: float  # how narrow the intervals were asked to be: 0.07 is 7 % to either side
    reached: float | None  # how narrow the widest interval of the question is; None before two generations
    generations: int
    cycles: int  # of all generations
    dropped: int  # cycles that are not used, since other processes were at work meanwhile
    others: float  # cores that other processes used, the mean over all visits
    waited: float  # seconds that visits waited for an idle machine, in all
    seconds: float  # that measuring took, in all
    weights: str  # what all rows decode with, in words
    chrf: float | None  # of these weights on all held-out sources; None where they were not decoded
    chrf_signature: str
    baseline: str  # label of the row that the column of ratios is to; "" where there is none
    rows: Sequence[Row]
    pairs: Sequence[Pair]  # of training
    decoding: Sequence[Pair]  # in a batch, by the character
    alone: Sequence[Pair]  # the sentence with the longest output by itself, by the character
    sentences: Sequence[Sentence]
    peaks: Sequence[Peak]  # the fastest first
    warnings: Sequence[str]  # what a reader must know before believing
    advice: Sequence[str] = field(
        default_factory=tuple
    )  # for rows as installed: what makes the difference, what to type

    def of_group(self, group: Group) -> list[Row]:
        return [row for row in self.rows if row.group == group]

    def ratio(self, left: str, right: str, pairs: Sequence[Pair] | None = None) -> Estimate | None:
        """How many times as fast the row labelled `left` is, in training or by the pairs given; None if not known."""
        for pair in self.pairs if pairs is None else pairs:
            if (pair.left, pair.right) == (left, right):
                return pair.ratio
            if (pair.right, pair.left) == (left, right):
                return pair.ratio.inverse
        return None


def plain(value: Any) -> Any:
    """A value of these as JSON; a number that is not finite is null."""
    return msgspec.json.decode(msgspec.json.encode(value))
