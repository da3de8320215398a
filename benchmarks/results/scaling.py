"""What a sweep found: how cost grows along each axis, and where it departs from what the machine could do."""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

from benchmarks.measure.plan import Cell
from benchmarks.measure.sweep import DataMeasured, PointMeasured, Sweep, sizes_at
from benchmarks.results.roofline import StepSizes, multiplies_one_hot, step_flop
from common.config import DataConfig
from common.machine import Machine

DEPARTED = 0.5  # of a curve's best share


@dataclass(frozen=True)
class SizePoint:
    """One backend at one size of one axis."""

    value: int
    seconds: float  # a warm training step, the median
    flop: float  # of the step, by formula
    ideal_seconds: float  # the step at the machine's peak
    peak_memory: float  # bytes, of the process

    @property
    def share(self) -> float:
        """Of the machine's peak."""
        return self.ideal_seconds / self.seconds


@dataclass(frozen=True)
class Curve:
    """One backend along one axis of a sweep."""

    axis: str  # a field of benchmarks.measure.sweep.Axes
    cell: Cell
    points: Sequence[SizePoint]  # by value

    @property
    def best_share(self) -> float:
        return max(point.share for point in self.points)

    @property
    def departs(self) -> int | None:
        """The first value, coming from the large end, whose share is under half of the best; None where none is."""
        low = (p.value for p in reversed(self.points) if p.share < DEPARTED * self.best_share)
        return next(low, None)

    @property
    def growth(self) -> dict[int, float]:
        """By value, the peak of memory over that at the example's 10,000 pairs, or else at the fewest pairs."""
        peaks = {point.value: point.peak_memory for point in self.points}
        first = peaks.get(DataConfig.num_samples, self.points[0].peak_memory)
        return {value: peak / first for value, peak in peaks.items()}


@dataclass(frozen=True)
class DataCost:
    """A corpus before any framework has it, by NumPy alone: medians."""

    num_samples: int
    encode_seconds: float  # from text to ids
    epoch_seconds: float  # to make the tensors of all batches of an epoch


@dataclass(frozen=True)
class Scaling:
    """What a sweep found."""

    command: str  # what is typed to measure the same again
    machine: Machine
    started: str  # ISO 8601
    data: DataConfig
    latent_dim: int  # of the axes that stay
    batch_size: int
    flops: float  # the fastest matrix product that was measured, floating-point operations a second
    curves: Sequence[Curve]
    costs: Sequence[DataCost]

    def of_axis(self, axis: str) -> list[Curve]:
        return [curve for curve in self.curves if curve.axis == axis]


def scaling_of(sweep: Sweep) -> Scaling:
    """What a sweep found, as far as it goes."""
    points = [line for line in sweep.lines if isinstance(line, PointMeasured)]
    flops = max((product.flops for line in points for product in line.point.products), default=0.0)
    curves: dict[tuple[str, Cell], list[SizePoint]] = {}
    for line in points:
        sizes, batch_size, latent_dim = sizes_at(sweep.head, line.axis, line.value)
        lengths = sizes.max_encoder_seq_length, sizes.max_decoder_seq_length
        tokens = sizes.num_encoder_tokens, sizes.num_decoder_tokens
        flop = step_flop(StepSizes(batch_size, *lengths, *tokens, latent_dim), multiplies_one_hot(line.facts))
        seconds = median(line.point.step_seconds)
        point = SizePoint(line.value, seconds, flop, flop / flops, line.point.peak)
        curves.setdefault((line.axis, line.cell), []).append(point)
    costs = [
        DataCost(line.num_samples, median(line.encode_seconds), median(line.epoch_seconds))
        for line in sweep.lines
        if isinstance(line, DataMeasured)
    ]
    return Scaling(
        command=sweep.command,
        machine=sweep.head.machine,
        started=sweep.head.started,
        data=sweep.head.data,
        latent_dim=sweep.head.latent_dim,
        batch_size=sweep.head.settings.batch_size,
        flops=flops,
        curves=[Curve(axis, cell, sorted(p, key=lambda p: p.value)) for (axis, cell), p in curves.items()],
        costs=sorted(costs, key=lambda cost: cost.num_samples),
    )
