"""The results of several measurements of one bench on one machine, made one after the other.

The unit is a measurement, since something may last longer than its rounds. So an interval here
tells where a further measurement falls, in 95 of 100 cases.
"""

import math
from collections.abc import Iterator, Sequence

from benchmarks.measure.measurement import Measurement
from benchmarks.measure.statistics import Estimate, next_of
from benchmarks.report.bench_results import BenchResults, BenchRow


def are_repeated(measurements: Sequence[Measurement]) -> bool:
    """True if all are of the same rows, on the same kind of machine, with the same versions."""
    first, *others = (
        (
            head.plan.rows,
            head.plan.training,
            *(head.machine[part] for part in ("processor", "cores", "versions")),
        )
        for head in (measurement.head for measurement in measurements)
    )
    return all(other == first for other in others)


class RepeatedResults(BenchResults):
    """The results of measurements for which `are_repeated` is True.

    Ratios and times are means over the measurements, with intervals of a further one. Facts,
    decoding and profiles are those of the last measurement.
    """

    def __init__(self, measurements: Sequence[Measurement]) -> None:
        self.single = [BenchResults(measurement) for measurement in measurements]
        super().__init__(measurements[-1])
        self.rounds, self.cycles, self.dropped, self.again, self.seconds = (
            sum(getattr(results, name) for results in self.single)
            for name in ("rounds", "cycles", "dropped", "again", "seconds")
        )
        for row in self.rows:
            rows = [results.by_label.get(row.label) for results in self.single]
            row.epoch = _of_a_further_one([r.epoch if r else None for r in rows])
            row.step = _of_a_further_one([r.step if r else None for r in rows])
        self.rows.sort(key=lambda row: (bool(row.why_not), row.step.value if row.step else 0.0))

    def ratio(self, left: BenchRow | None, right: BenchRow | None) -> Estimate | None:
        """Speed of `left` as a multiple of that of `right`;
        None if a measurement does not compare them."""
        if left is None or right is None:
            return None
        return _of_a_further_one(
            [
                one.ratio(one.by_label.get(left.label), one.by_label.get(right.label))
                for one in self.single
            ]
        )

    @property
    def doubts(self) -> list[str]:
        """Reasons not to rely on the figures, of any of the measurements."""
        return [*dict.fromkeys(doubt for results in self.single for doubt in results.doubts)]

    def _more_notes(self) -> Iterator[str]:
        return iter(())


def _of_a_further_one(estimates: Sequence[Estimate | None]) -> Estimate | None:
    """The estimate of a further measurement's value; None if one of these is not known."""
    values = [math.log(estimate.value) for estimate in estimates if estimate]
    return next_of(values) if len(values) == len(estimates) else None
