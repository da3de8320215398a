"""The bounds of one comparison: a row of the table, or what the left side's own noise allows."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from rosetta_diff.arrays import PRECISE, UNIT
from rosetta_diff.helpers import some_of
from rosetta_diff.judge.bounds import (
    COARSER,
    MEASURED,
    NOISES,
    NOISES_OF_EXPORTED,
    SMALLEST_SCALE,
    TOLERANCES_OF_ANY_MODEL,
    WIDENED,
)
from rosetta_diff.judge.constants import coarse_layers, remark_on_epsilons
from rosetta_diff.pair.pairs import LayerPair
from rosetta_diff.read.side import Side
from rosetta_record.control import coarsest


@dataclass(frozen=True)
class Tolerances:
    """Bounds by quantity, and remarks on where they come from."""

    precision: str  # the row of the table
    table: Mapping[str, float]
    measured: Mapping[str, float]  # that follow from the left side's noise, in place of the table's
    remarks: Sequence[str]

    def __getitem__(self, quantity: str) -> float:
        return self.measured.get(quantity, self.table[quantity])

    @property
    def unit(self) -> float:
        """The share by which rounding moves a number."""
        return UNIT["float64" if self.precision == "float64" else "float32"]

    def smallest_scale(self, quantity: str = "") -> float:
        """The share of the largest number of all tensors by which one is measured at least."""
        return SMALLEST_SCALE["float32" if quantity in self.measured else self.precision]


def tolerances_of(left: Side, right: Side, pairs: Iterable[LayerPair], noise: Mapping[str, float]) -> Tolerances:
    """The tolerances for two sides, of which the left one has this noise, by quantity; {} where it is not known."""
    # A layer of the right side that computes in a coarser precision than what surrounds it may be a mistake.
    precision = coarsest(left.computed, right.mixed)
    table = {quantity: bounds[precision] for quantity, bounds in TOLERANCES_OF_ANY_MODEL.items()}
    remarks, why_table = _remarks_on_types(left, right), ""
    if precision == "float64":
        remarks += remark_on_epsilons(left, right, pairs)
        coarse = [path for side in (left, right) for path in coarse_layers(side)]
        if coarse:
            table |= {quantity: COARSER * table[quantity] for quantity in WIDENED}
            why_table = f"bounds are {COARSER:.0f} times as wide, since constants are float32 in {some_of(coarse)}"
    elif left.computed != precision and noise:
        why_table = f"bounds are those of the table, since {right.name} alone computes in {precision}"
    remarks += [why_table] if why_table else []
    weights = coarsest(left.precision, right.precision)
    measured = {} if why_table else _measured(noise, noises(left, right), table, precision, weights)
    above = [quantity for quantity in measured if precision == "float32" and noise[quantity] > table[quantity]]
    remarks += [f"rounding alone moves {of.replace('_', ' ')} by {noise[of]:.0e}, which counts" for of in above]
    wide = [quantity for quantity, bound in measured.items() if bound >= 1]
    if wide:
        words = ", ".join(wide).replace("_", " ")
        remarks.append(f"no verdict on {words}: rounding alone can change them completely")
    return Tolerances(precision, table, measured, remarks)


def _remarks_on_types(left: Side, right: Side) -> list[str]:
    remarks = []
    for side in (left, right):
        first = next(iter(side.arrays("weights").values()), None)
        if side.precision == "float32" and first is not None and first.dtype == np.float64:
            remarks.append(
                f"{side.name} computes in float32, though its weights are of float64"
                " (docs/deviations.md#keras-on-torch-float32)"
            )
    if left.computed_by:
        names = some_of(left.computed_by)
        remarks.append(f"bounds are those of {left.computed}, in which {left.name} computes {names}")
    return remarks


def noises(left: Side, right: Side) -> float:
    """Return how many times the left side's noise bounds are."""
    return NOISES_OF_EXPORTED if left.known.folds_weights or right.known.folds_weights else NOISES


def _measured(
    noise: Mapping[str, float], times: float, table: Mapping[str, float], precision: str, weights: str
) -> dict[str, float]:
    """The bounds that follow from the noise. In float64 the table's are never widened, and in float32 only where the
    noise itself exceeds them."""
    bounds = {quantity: times * error for quantity, error in noise.items()}
    if precision in PRECISE:
        wide = [name for name in noise if precision == "float32" and noise[name] > table[name]]
        return {
            name: bounds[name] for name in bounds if name in wide or (name in MEASURED and bounds[name] < table[name])
        }
    least = {"updates": TOLERANCES_OF_ANY_MODEL["updates"][weights]}
    return {name: max(bound, least.get(name, 0.0)) for name, bound in bounds.items()}
