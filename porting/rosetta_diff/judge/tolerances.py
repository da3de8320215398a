"""The bounds of one comparison: of the table, or what the left side's own noise allows."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

import numpy as np

from rosetta_diff.arrays import PRECISE, PRECISIONS, UNIT
from rosetta_diff.helpers import some_of
from rosetta_diff.judge import rules
from rosetta_diff.judge.bounds import (
    COARSER,
    MEASURED,
    NOISES,
    NOISES_OF_EXPORTED,
    NOISES_OF_GRADIENTS,
    SMALLEST_SCALE,
    TOLERANCES_OF_ANY_MODEL,
    WIDENED,
)
from rosetta_diff.pair.pairs import LayerPair
from rosetta_diff.read.base import Deviation
from rosetta_diff.read.side import Side
from rosetta_record.values import coarsest

MOST_NORMS = 3  # norms with a rounded epsilon that are named


@dataclass(frozen=True)
class Noise:
    """Differences of the left side from other runs of itself,
    as shares of its numbers; empty where none is known."""

    # By quantity, of its tensor that is farthest.
    most: Mapping[str, float] = field(default_factory=dict)
    # By quantity, of each tensor.
    tensors: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    # Of each tensor, as numbers and not as shares.
    gradients: Mapping[str, float] = field(default_factory=dict)

    @property
    def of_most_gradients(self) -> float:
        """What three quarters of the gradients are moved by at least, as a number."""
        return float(np.quantile([*self.gradients.values()], 0.25)) if self.gradients else 0.0

    def of(self, quantity: str, tensor: str) -> float:
        """The noise of a tensor; the largest of its quantity where its own is not known."""
        return self.tensors.get(quantity, {}).get(tensor, self.most[quantity])


@dataclass(frozen=True)
class Tolerances:
    """Bounds, and remarks on where they come from."""

    precision: str  # the coarsest one in which anything was computed
    tables: Mapping[str, Mapping[str, float]]  # by precision a row of the table, by quantity
    noise: Noise  # that counts
    times: Mapping[str, float]  # by quantity how many times the noise a bound is
    least: Mapping[str, float]  # by quantity what noise makes no smaller
    remarks: list[str]

    @property
    def table(self) -> Mapping[str, float]:
        """The row of the coarsest precision."""
        return self.tables[self.precision]

    def bound(self, quantity: str, tensor: str = "", precision: str = "") -> float:
        """The bound of a tensor that was computed in this precision, "" for the coarsest one.

        It is that of the table, or of the noise of its quantity if that is less. It is that of the
        tensor's own noise if that is more: never in float64, and in float32 for what a model
        computes, and else only if the noise itself is above the table.
        """
        table = self.tables[precision or self.precision][quantity]
        if precision not in ("", self.precision) or quantity not in self.noise.most:
            return table
        is_precise, own = self.precision in PRECISE, self.noise.of(quantity, tensor)
        times = self.times[quantity]
        bound = min(table, times * self.noise.most[quantity])
        if is_precise and quantity not in MEASURED:
            bound = table
        if not is_precise or (
            self.precision == "float32" and (quantity in MEASURED or own > table)
        ):
            bound = max(bound, times * own)
        return max(bound, self.least.get(quantity, 0.0))

    @property
    def unit(self) -> float:
        """The share by which rounding moves a number."""
        return UNIT["float64" if self.precision == "float64" else "float32"]

    def smallest_scale(self, quantity: str = "") -> float:
        """The share of the largest number of all tensors by which one is measured at least."""
        is_measured = quantity in self.noise.most and self.bound(quantity) != self.table[quantity]
        return SMALLEST_SCALE["float32" if is_measured else self.precision]


def tolerances_of(left: Side, right: Side, pairs: Iterable[LayerPair], noise: Noise) -> Tolerances:
    """The tolerances for two sides, of which the left one has this noise."""
    # A layer of the right side that computes in a coarser precision
    # than what surrounds it may be a mistake.
    precision = coarsest(left.computed, right.mixed)
    tables = {
        name: {quantity: bounds[name] for quantity, bounds in TOLERANCES_OF_ANY_MODEL.items()}
        for name in PRECISIONS
    }
    remarks, why_table = _remarks_on_types(left, right), ""
    coarse = [path for side in (left, right) for path in coarse_layers(side)]
    if coarse:
        tables["float64"] |= {
            quantity: COARSER * tables["float64"][quantity] for quantity in WIDENED
        }
    if precision == "float64":
        remarks += remark_on_epsilons(left, right, pairs)
        if coarse:
            why_table = rules.COARSE.told(times=COARSER, names=some_of(coarse))
    elif left.computed != precision and noise.most:
        why_table = (
            f"bounds are those of the table, since {right.name} alone computes in {precision}"
        )
    remarks += [why_table] if why_table else []
    updates = TOLERANCES_OF_ANY_MODEL["updates"][coarsest(left.precision, right.precision)]
    least = {} if precision in PRECISE else {"updates": updates}
    tolerances = Tolerances(
        precision, tables, Noise() if why_table else noise, noises(left, right), least, remarks
    )
    remarks += _remarks_on_noise(tolerances)
    return tolerances


def _remarks_on_noise(tolerances: Tolerances) -> Iterator[str]:
    """Remarks on tensors whose noise counts in float32, since it is large,
    and on those of which it tells nothing."""
    for quantity, most in tolerances.noise.most.items():
        of_tensors, table = tolerances.noise.tensors.get(quantity, {}), tolerances.table[quantity]
        words = quantity.replace("_", " ")
        above = [tensor for tensor in of_tensors if tolerances.bound(quantity, tensor) > table]
        if tolerances.precision == "float32" and (above or most > table):
            yield rules.NOISY.told(quantity=words, most=most, names=some_of(above) or "them")
        if tolerances.bound(quantity) >= 1:
            wide = some_of(
                tensor for tensor in of_tensors if tolerances.bound(quantity, tensor) >= 1
            )
            yield rules.NO_VERDICT.told(names=wide or words)


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
        remarks.append(
            f"bounds are those of {left.computed}, in which {left.name} computes {names}"
        )
    return remarks


def noises(left: Side, right: Side) -> dict[str, float]:
    """Return by quantity how many times the left side's noise bounds are."""
    if left.framework.folds_weights or right.framework.folds_weights:
        return dict.fromkeys(TOLERANCES_OF_ANY_MODEL, NOISES_OF_EXPORTED)
    return dict.fromkeys(TOLERANCES_OF_ANY_MODEL, NOISES) | {"gradients": NOISES_OF_GRADIENTS}


# Constants that a framework rounds to float32, and what they take from a comparison in float64


def remark_on_epsilons(left: Side, right: Side, pairs: Iterable[LayerPair]) -> Iterator[str]:
    """Yield a remark on norms whose epsilon one side's framework alone rounds."""
    pairs = list(pairs)
    for place, exact in enumerate((right, left)):
        norms = {
            pair.name: deviation for pair in pairs if (deviation := rounded_epsilon(pair, place))
        }
        for words, entry in dict.fromkeys(norms.values()):
            setting = f"layer.{exact.framework.epsilon}"
            remedy = (
                f"for equal ones set `{setting} = float(np.float32({setting}))` in {exact.name}"
            )
            yield (
                f"{words} in {some_of([*norms], MOST_NORMS)}; {remedy} (docs/deviations.md#{entry})"
            )


def rounded_epsilon(pair: LayerPair, place: int) -> Deviation | None:
    """Return how the framework of one side rounds a norm's epsilon to float32, which is the same on
    the other side; None where it does not, or where both do."""
    groups = pair.both[place], pair.both[1 - place]
    known = [group.side.framework.float32_epsilons for group in groups]
    if known[0] is known[1]:
        return None
    rounded, exact = (group.settings.get("epsilon") for group in groups)
    floats = isinstance(rounded, float) and isinstance(exact, float)
    if not floats or np.float32(rounded) != np.float32(exact) or exact == float(np.float32(exact)):
        return None
    return next((known[0][kind] for kind in groups[0].layer.classes if kind in known[0]), None)


def rounding_of_momentum(pair: LayerPair) -> float:
    """Return the share by which running statistics move otherwise, where one side alone rounds
    their momentum to float32."""
    kept = [
        group.settings.get("momentum")
        for group in pair.both
        if group.side.framework.rounds_momentum
    ]
    if len(kept) != 1 or not isinstance(kept[0], float) or not 0 < kept[0] < 1:
        return 0.0
    return abs(float(np.float32(kept[0])) - kept[0]) / (1 - kept[0])


def coarse_layers(side: Side) -> list[str]:
    """Paths of the layers that the framework computes with constants of float32."""
    coarse = side.framework.float32_layers(side.backend)
    return [
        layer.path
        for layer in side.says.layers
        if coarse & {*layer.classes, str(layer.settings.get("activation"))}
    ]
