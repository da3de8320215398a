"""The speeds that this project asks of each framework, as multiples of the official example's in the same run.

They were set for the example's sizes, 10,000 pairs of `fra-eng` and two cores with AVX-512.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from benchmarks.intervals import Estimate, Verdict
from benchmarks.plan import BASELINE
from benchmarks.results import Results, Row, answering
from benchmarks.wording import percent, times


@dataclass(frozen=True)
class Target:
    """A figure of which each framework's best row is to reach so much."""

    name: str
    least: Mapping[str, float]  # by framework
    rows: Callable[[Results], Sequence[Row]]  # that count
    figure: Callable[[Row], Estimate | None]  # None where it was not measured
    words: Callable[[float], str] = times


@dataclass(frozen=True)
class Reached:
    """What a framework's best row reaches of a target; the larger the better."""

    least: float
    label: str  # of the row
    figure: Estimate

    @property
    def word(self) -> str:
        """Whether it is met, and whether that is sure."""
        if self.figure.low >= self.least:
            return "met"
        if self.figure.high < self.least:
            return "missed"
        return "met by the median" if self.figure.value >= self.least else "missed by the median"


def _least(torch: float, keras: float, paddle: float) -> dict[str, float]:
    return {"torch": torch, "keras": keras, "paddle": paddle}


def _rows(one_hot: bool) -> Callable[[Results], Sequence[Row]]:
    """Rows whose training multiplies one-hot rows, or looks rows of the kernels up."""
    return lambda results: [row for row in results.rows if row.settings.get("one_hot_products", True) == one_hot]


def _ratio(verdict: Callable[[Row], Verdict | None]) -> Callable[[Row], Estimate | None]:
    return lambda row: found.ratio if (found := verdict(row)) else None


def _share(row: Row) -> Estimate | None:
    """Of the machine's peak; its interval is the step's."""
    if row.roofline is None or row.step is None:
        return None
    share, step = row.roofline.share, row.step
    return Estimate(share, share * step.value / step.high, share * step.value / step.low)


def _sooner(row: Row) -> Estimate | None:
    """Medians over a few trainings, of which no interval would mean anything."""
    return Estimate(row.target_ratio, row.target_ratio, row.target_ratio) if row.target_ratio is not None else None


TARGETS = (
    Target("training, one-hot products", _least(1.6, 1.4, 1.2), _rows(one_hot=True), _ratio(lambda row: row.ratio)),
    Target("training, rows looked up", _least(1.8, 1.6, 1.4), _rows(one_hot=False), _ratio(lambda row: row.ratio)),
    Target("share of the peak", _least(0.9, 0.75, 0.65), lambda results: results.rows, _share, percent),
    Target(
        "pairs a second, masked and bucketed",
        _least(4, 3, 3),
        lambda results: results.bucketed,
        _ratio(lambda row: row.ratio),
    ),
    Target(
        "decoding in a batch, a character",
        _least(8000, 6000, 4000),
        lambda results: results.rows,
        _ratio(lambda row: row.decode_ratio),
    ),
    Target(
        "the longest sentence alone, a character",
        _least(1000, 2000, 800),
        lambda results: results.rows,
        _ratio(lambda row: row.longest_ratio),
    ),
    Target("time to the example's chrF", _least(4, 3, 3), lambda results: results.full_rows, _sooner),
)


def reached(target: Target, framework: str, results: Results) -> Reached | None:
    """Of the framework's best ranked row in the main lane; None where there is none with such a figure."""
    rows = [row for row in answering(target.rows(results)) if row.backend == framework and row.ranked]
    figures = [(row.label, target.figure(row)) for row in rows if row.name != BASELINE]
    found = [Reached(target.least[framework], label, figure) for label, figure in figures if figure]
    return max(found, key=lambda one: one.figure.value, default=None)
