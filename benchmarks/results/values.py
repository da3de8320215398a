"""The results of a comparison as plain values. Times are in seconds and memory in bytes unless it says otherwise."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import inf
from typing import Any, Literal, TypeVar

import msgspec

from benchmarks.measure.plan import Cell
from benchmarks.measure.scenarios import EpochDone
from benchmarks.parity.certificate import Certificate
from benchmarks.results.intervals import Estimate, Word
from common.config import DataConfig, TrainConfig
from common.evidence import Kernel
from common.interface import BackendFacts
from common.machine import Machine

Key = TypeVar("Key")
Item = TypeVar("Item")

# Rows are compared with one another within a group:
# - "main": rows that do the same work, in float32.
# - "bucketed": rows on batches of sentences of similar lengths, with padding masked. Their steps do other work.
# - "reduced": rows that compute in less than float32 precision.
Group = Literal["main", "bucketed", "reduced"]
# What the two rows of a pair are:
# - "frameworks": two backends of the same group and lane.
# - The other kinds compare a row with the same backend's plain row: as installed ("installed"), on bucketed batches
#   ("bucketed"), in reduced precision ("reduced"), or simply measured a second time ("control").
Kind = Literal["frameworks", "installed", "bucketed", "reduced", "control"]


@dataclass(frozen=True)
class Speed:
    """How fast a row trains."""

    step: Estimate  # seconds of a warm training step; on bucketed batches, whose widths differ, of a mean step
    epoch_seconds: float  # the step's seconds times the number of steps in an epoch
    pairs_per_second: float
    settling: float  # share by which the first ten of twenty timed steps are slower than the last ten


@dataclass(frozen=True)
class Decoding:
    """How fast a row decodes: seconds per character that it puts out, the end of the sentence included.

    - "batch": many sentences are decoded in one call. None where a backend has no batched decoding.
    - "alone": the held-out sentence with the longest output is decoded by itself.
    - "once": only for a backend without batched decoding, which is keras:example. It decodes the sentences that the
      report shows one by one, and is measured once.
    """

    batch_character: Estimate | None  # seconds per character in a batch
    sentences: int  # number of sentences in the batch
    alone_character: Estimate | None  # seconds per character of the sentence by itself
    alone_characters: int  # number of characters that the backend puts out for that sentence
    once_character: float | None  # seconds per character of the sentences shown; None for a backend with batches


@dataclass(frozen=True)
class Roofline:
    """How much of the machine's peak speed a row's training step reaches."""

    flop: float  # floating-point operations of a step, by formula
    flops: float  # floating-point operations a second
    share: float  # flops as a share of those of the fastest matrix product that was measured


@dataclass(frozen=True)
class Resources:
    """A row's start-up times, memory, threads and kernels. Times and memory are medians over the generations."""

    process_seconds: float  # time until the process runs and has imported NumPy
    import_seconds: float  # time to import the framework
    build_seconds: float  # time to build the model
    first_step_seconds: float  # time of the first training step, including everything that it compiles
    after_import: float  # resident memory after the import of the framework
    after_build: float  # resident memory after the model is built
    peak: float  # largest resident memory: in whole epochs where trainings were scored, otherwise in the first steps
    threads: int  # number of threads of the process, as the operating system counts them
    busy_threads: int  # number of these threads that worked while the row trained
    data_share: float | None  # share of a step's time that goes into making its tensors; None if made beforehand
    roofline: Roofline | None
    kernels: Sequence[Kernel]  # from the framework's own profiler; empty where it did not run
    step_parts: dict[str, float]  # seconds of a step by common.evidence.Part; empty where the profiler did not run

    @property
    def start_seconds(self) -> float:
        """Time from starting the process to the end of the first training step."""
        return self.process_seconds + self.import_seconds + self.build_seconds + self.first_step_seconds


@dataclass(frozen=True)
class ScoredEpoch(EpochDone):
    """One epoch of a training, and how well its weights translate the held-out sources."""

    loss: float
    val_loss: float
    chrf: float  # 0 to 100
    exact_match: float  # share of translations that equal a reference
    character_error_rate: float  # edits per character of the reference


@dataclass(frozen=True)
class Training:
    """One training of a backend from a seed, scored after each epoch."""

    seed: int
    epochs: Sequence[ScoredEpoch]

    def seconds_to(self, chrf: float) -> float:
        """Seconds of training until the first epoch that reaches this chrF; infinite if no epoch does."""
        seconds = 0.0
        for epoch in self.epochs:
            seconds += epoch.seconds
            if epoch.chrf >= chrf:
                return seconds
        return inf


@dataclass(frozen=True)
class Row:
    """One line of the report: a backend in one lane, under one interpreter, on shuffled or bucketed batches."""

    cell: Cell
    label: str  # the row's name in tables and charts
    group: Group
    facts: BackendFacts
    certificate: Certificate | None  # parity certificate of the framework's version that ran; None if there is none
    why_not: str  # why the row is not compared with others, such as broken parity; empty if it is compared
    speed: Speed | None  # None if no cycle could be used
    decoding: Decoding | None
    resources: Resources
    learning: Sequence[Training]  # empty where no training was scored

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
    ratio: Estimate  # how many times as fast left is, from the fit of all rows
    pairwise: Estimate | None  # the same ratio from these two rows alone
    word: Word  # the verdict
    why: str = ""  # a sentence that explains the difference; empty where the parts of a step were not measured


@dataclass(frozen=True)
class Sentence:
    """A sentence of the corpus, its references, and each row's translation. All rows decode with the same weights."""

    source: str
    references: Sequence[str]
    held_out: bool  # whether the sentence was held out of training
    translations: dict[str, str]  # by the row's label

    @property
    def said(self) -> list[tuple[list[str], str]]:
        """Each distinct translation, with the labels of the rows that give it."""
        labels = grouped((translation, label) for label, translation in self.translations.items())
        return [(names, translation) for translation, names in labels.items()]


@dataclass(frozen=True)
class Peak:
    """The speed that a library reached in a matrix product (m, k) @ (k, n) in float32."""

    backend: str
    name: str  # "large", or the name of the model's product that has this shape
    shape: tuple[int, int, int]  # m, k, n
    flops: float  # floating-point operations a second


@dataclass(frozen=True)
class Results:
    """A whole comparison. Rows are ordered from fast to slow, and those that are not compared come last."""

    headline: str  # the answer in one sentence
    command: str  # the command that measures the same again
    machine: Machine
    sha256: str  # hash of the corpus
    data: DataConfig
    settings: TrainConfig
    latent_dim: int
    preset: str
    started: str  # date and time in ISO 8601
    within: float  # how far an interval should reach at most to either side: 0.07 is 7 %
    reached: float | None  # how far the widest interval reaches to either side; None before two generations
    generations: int
    cycles: int  # number of cycles in all generations
    dropped: int  # number of cycles that are not used, because other processes were at work meanwhile
    others: float  # mean number of cores that other processes used during the visits
    waited: float  # total seconds that visits waited for an idle machine
    seconds: float  # total seconds of measuring
    weights: str  # describes the weights that all rows decode with
    chrf: float | None  # chrF of these weights on all held-out sources; None if these were not decoded
    chrf_signature: str
    baseline: str  # label of the row that ratios in tables refer to; "" if there is none
    rows: Sequence[Row]
    pairs: Sequence[Pair]  # pairs of rows, compared by their training steps
    decoding: Sequence[Pair]  # pairs of rows, compared by seconds per character in a batch
    alone: Sequence[Pair]  # pairs of rows, compared by seconds per character of one sentence by itself
    sentences: Sequence[Sentence]
    peaks: Sequence[Peak]  # the fastest product first
    warnings: Sequence[str]  # what a reader must know before relying on the figures
    advice: Sequence[str] = ()  # for rows as installed: which settings make the difference, and what to type

    def of_group(self, group: Group) -> list[Row]:
        """The rows of one group, in the order of `rows`."""
        return [row for row in self.rows if row.group == group]

    def ratio(self, left: str, right: str, pairs: Sequence[Pair] | None = None) -> Estimate | None:
        """How many times as fast the row labelled `left` is as the one labelled `right`; None if it is not known.

        `pairs` are those of training unless others are given.
        """
        return ratio_among(self.pairs if pairs is None else pairs, left, right)


def ratio_among(pairs: Sequence[Pair], left: str, right: str) -> Estimate | None:
    """How many times as fast `left` is as `right` according to these pairs; None if none of them compares the two."""
    for pair in pairs:
        if (pair.left, pair.right) == (left, right):
            return pair.ratio
        if (pair.right, pair.left) == (left, right):
            return pair.ratio.inverse
    return None


def grouped(items: Iterable[tuple[Key, Item]]) -> dict[Key, list[Item]]:
    """The items that have the same key, by this key; keys and items stay in their order."""
    found: dict[Key, list[Item]] = {}
    for key, item in items:
        found.setdefault(key, []).append(item)
    return found


def plain(value: Any) -> Any:
    """A value of one of these classes as dictionaries, lists and numbers for JSON. NaN and infinity become None."""
    return msgspec.json.decode(msgspec.json.encode(value))
