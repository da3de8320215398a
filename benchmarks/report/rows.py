"""What is known of a row of a benchmark, of two rows together, and of a sentence that rows translated.

Times are in seconds and memory in bytes unless it says otherwise.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from benchmarks.compare.certificate import Certificate
from benchmarks.measure.in_child import Product
from benchmarks.measure.plan import Row
from benchmarks.measure.recording import ShownSentence
from benchmarks.report.statistics import Estimate, Word, grouped
from common.interface import BackendFacts
from common.profiling import Kernel

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
    step_parts: Mapping[str, float]  # a step by common.profiling.Part; empty where the profiler did not run

    @property
    def compared(self) -> bool:
        """Whether the row's figures are compared with those of other rows."""
        return not self.why_not

    @property
    def one_by_one(self) -> Estimate | None:
        """Seconds of a character where one sentence is decoded by itself. What was measured once has no width."""
        return self.alone or (Estimate(self.once, self.once, self.once) if self.once else None)


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
    def distinct(self) -> list[tuple[list[str], str]]:
        """Each distinct translation, with the labels of the rows that give it."""
        labels = grouped((translation, label) for label, translation in self.translations.items())
        return [(names, translation) for translation, names in labels.items()]


class Peak(Product, frozen=True):
    """The speed that a backend's library reached in a matrix product in float32."""

    backend: str
