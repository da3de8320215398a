"""The rows and the budget of a bench, from its options."""

import re
from collections.abc import Iterable, Mapping, Sequence
from itertools import product

import msgspec

from backends import engine_of
from backends.process.tuned import BUILT_IN, Tuning, tuned_variables
from benchmarks.schema import BUDGET, MOST_ROWS, WITHIN, Axis, Row
from common.errors import CannotBeginError
from common.settings import MOST_UNITS

# Seconds that a benchmark may take where --within asks for narrower intervals;
# also the most by default with --vary.
LONG_BUDGET = 3600.0
CAREFUL = 0.05  # for narrower intervals parity is compared whole
MOST_AXES = 2  # of --vary together
LARGEST_SIZES: dict[Axis, int] = {
    "latent-dim": MOST_UNITS,
    "length": 1 << 12,
    "batch-size": 1 << 16,
}


def usual_budget(within: float, axes: Mapping[Axis, Sequence[int]]) -> float:
    """Seconds of a bench without --budget: more for more sizes,
    and an hour for narrower intervals than usual."""
    rounds = len([*product(*axes.values())])
    return min(rounds * BUDGET, LONG_BUDGET) if within >= WITHIN else LONG_BUDGET


def rows_of(
    names: Sequence[str],
    axes: Mapping[Axis, Sequence[int]] | None = None,
    threads: int | None = None,
    tuning: Tuning = BUILT_IN["lstm"],
) -> tuple[Row, ...]:
    """The rows of a bench: one for each backend as installed,
    and one with tuned settings where some help it.

    Where sizes vary along `axes`, there is a row in the tuned lane
    for each backend at each combination of sizes.
    """
    settings = {name: tuned_variables(engine_of(name), threads, tuning) for name in names}
    rows = [
        Row(name, "tuned" if helpful else "both", variables=helpful)
        for name, helpful in settings.items()
    ]
    if not rows:
        raise CannotBeginError("there is no backend to measure; `rosetta backends` lists them")
    if axes:
        sizes = [
            dict(zip(axes, combination, strict=True)) for combination in product(*axes.values())
        ]
        varied = tuple(
            msgspec.structs.replace(row, sizes=of_row) for of_row in sizes for row in rows
        )
        if len(varied) > MOST_ROWS:
            raise CannotBeginError(
                f"--vary asks for {len(varied)} rows, and {MOST_ROWS} are the most; name fewer "
                "sizes"
            )
        return varied
    return (*rows, *(Row(row.backend, "installed") for row in rows if row.variables))


def axes_of(given: Iterable[str]) -> dict[Axis, tuple[int, ...]]:
    """Parse the options AXIS=SIZES of --vary. Raises CannotBeginError."""
    axes: dict[Axis, tuple[int, ...]] = {}
    for text in given:
        name, _, listed = text.partition("=")
        axis = next((axis for axis in LARGEST_SIZES if axis == name), None)
        numbers = re.fullmatch(r"[1-9]\d{0,8}(,[1-9]\d{0,8})*", listed)
        sizes = sorted({int(size) for size in listed.split(",")}) if numbers else []
        if axis is None or not sizes or sizes[-1] > LARGEST_SIZES[axis]:
            limits = ", ".join(
                f"{axis} up to {largest:,}" for axis, largest in LARGEST_SIZES.items()
            )
            raise CannotBeginError(
                f"--vary is AXIS=SIZES, such as latent-dim=128,256, with {limits}; found {text!r}"
            )
        if axis in axes:
            raise CannotBeginError(f"--vary names {axis} twice; give all its sizes at once")
        axes[axis] = tuple(sizes)
    if len(axes) > MOST_AXES:
        raise CannotBeginError(f"--vary takes {MOST_AXES} axes at once, and {len(axes)} were given")
    return axes
