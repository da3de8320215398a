"""The results of a sweep: how cost grows along each axis, and at which sizes the machine is used badly."""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

from benchmarks.measure.plan import Cell
from benchmarks.measure.sweep import DataMeasured, PointMeasured, Sweep, sizes_at
from benchmarks.results.roofline import multiplies_one_hot, step_flop
from common.config import DataConfig
from common.machine import Machine

DEPARTED = 0.5  # a size counts as departed below this fraction of its curve's best share of the peak


@dataclass(frozen=True)
class SizePoint:
    """One backend at one size of one axis."""

    value: int  # the size that the axis varies, such as the number of units
    seconds: float  # median time of a warm training step
    flop: float  # floating-point operations of the step, by formula
    ideal_seconds: float  # time that the step would take at the machine's peak speed
    peak_memory: float  # largest resident memory of the process, in bytes

    @property
    def share(self) -> float:
        """The share of the machine's peak speed that the step reaches."""
        return self.ideal_seconds / self.seconds


@dataclass(frozen=True)
class Curve:
    """One backend along one axis of a sweep."""

    axis: str  # name of a field of benchmarks.measure.sweep.Axes
    cell: Cell
    points: Sequence[SizePoint]  # ordered by value

    @property
    def best_share(self) -> float:
        """The largest share of the machine's peak that any size reaches."""
        return max(point.share for point in self.points)

    @property
    def departs(self) -> int | None:
        """The largest value at which less than half of the best share is reached; None where there is none."""
        low = (p.value for p in reversed(self.points) if p.share < DEPARTED * self.best_share)
        return next(low, None)

    @property
    def growth(self) -> dict[int, float]:
        """Peak memory by value, as a multiple of that at the example's 10,000 pairs.

        Where 10,000 pairs were not measured, it is a multiple of that at the fewest pairs.
        """
        peaks = {point.value: point.peak_memory for point in self.points}
        base = peaks.get(DataConfig.num_samples, self.points[0].peak_memory)
        return {value: peak / base for value, peak in peaks.items()}


@dataclass(frozen=True)
class DataCost:
    """Median times that NumPy takes to prepare a corpus, before any framework gets it."""

    num_samples: int  # pairs in the corpus
    encode_seconds: float  # seconds from text to ids
    epoch_seconds: float  # seconds to make the tensors of all batches of an epoch


@dataclass(frozen=True)
class Scaling:
    """The results of a sweep."""

    command: str  # the command that measures the same again
    machine: Machine
    started: str  # date and time in ISO 8601
    data: DataConfig
    latent_dim: int  # units of each LSTM where another size is varied
    batch_size: int  # pairs in a batch where another size is varied
    flops: float  # floating-point operations a second of the fastest matrix product that was measured
    curves: Sequence[Curve]
    costs: Sequence[DataCost]

    def of_axis(self, axis: str) -> list[Curve]:
        """The curves along one axis."""
        return [curve for curve in self.curves if curve.axis == axis]


def scaling_of(sweep: Sweep) -> Scaling:
    """The results of a sweep; of one that is not finished, the results of what was measured so far."""
    points = [line for line in sweep.lines if isinstance(line, PointMeasured)]
    flops = max((product.flops for line in points for product in line.point.products), default=0.0)
    curves: dict[tuple[str, Cell], list[SizePoint]] = {}
    for line in points:
        flop = step_flop(*sizes_at(sweep.head, line.axis, line.value), multiplies_one_hot(line.facts))
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
