"""The plan of a bench or a race: its rows, the width that intervals must reach, and the budget."""

import re
from collections.abc import Iterable, Mapping, Sequence
from itertools import product
from typing import Annotated, Any, Literal

import msgspec

from backends import engine_of
from backends.process.tuned import BUILT_IN, Tuning, tuned_variables
from benchmarks.in_child import Amount, Count, Measured
from common.errors import CannotBeginError
from common.settings import MOST_UNITS, DataConfig, ModelConfig, TrainConfig
from common.text import quoted

WITHIN = 0.05  # half-width that intervals must reach, as a share, unless --within says otherwise
BUDGET = 285.0  # seconds that a benchmark may take, unless --budget or --within is given: under five minutes
LONG_BUDGET = 3600.0  # the same where --within asks for narrower intervals; also the largest usual budget of --vary
CAREFUL = 0.05  # for narrower intervals parity is compared whole
LEAST_ROUNDS = 3  # rounds of new processes, at least, for an answer
MOST_ROWS = 100
MOST_AXES = 2  # of --vary together

Axis = Literal["latent-dim", "length", "batch-size"]  # of --vary, as typed
LARGEST_SIZES: dict[Axis, int] = {"latent-dim": MOST_UNITS, "length": 1 << 12, "batch-size": 1 << 16}
Short = Annotated[str, msgspec.Meta(max_length=100)]
Long = Annotated[str, msgspec.Meta(max_length=4096)]


class Row(Measured, frozen=True):
    """A runner and the start of its process: a backend, or somebody's script."""

    backend: Short = ""  # NAME or NAME:VARIANT; "" of a script
    # installed: nothing is set; tuned: the settings that help; both: there are none that help.
    lane: Literal["installed", "tuned", "both"] = "tuned"
    python: Long = ""  # path of a script's interpreter
    name: Short = ""  # a script's, in tables
    sizes: dict[Axis, Count] = msgspec.field(default_factory=dict)  # given by --vary
    # Environment variables that steer a backend's framework, or that a script gets.
    variables: Annotated[dict[Short, Long], msgspec.Meta(max_length=100)] = msgspec.field(default_factory=dict)
    # A script's path and arguments, and the SHA-256 of its file.
    command: Annotated[tuple[Long, ...], msgspec.Meta(max_length=1000)] = ()
    sha256: Short = ""

    @property
    def label(self) -> str:
        """The name of this row in tables and charts."""
        sizes = f" ({', '.join(f'{axis} {size:,}' for axis, size in self.sizes.items())})" if self.sizes else ""
        return f"{self.name or self.backend}{sizes}{', as installed' * self.installed}"

    @property
    def installed(self) -> bool:
        """True for a backend without changed settings that has a row with tuned ones beside it."""
        return bool(self.backend) and self.lane == "installed"


class Training(Measured, frozen=True):
    """The model, data and settings that the backends of a bench train."""

    data: DataConfig
    settings: TrainConfig
    latent_dim: Count
    device: Short
    threads: Count | None  # of each process
    baseline: Short = ""  # backend that ratios compare with; "": the fastest as installed
    run: Long = ""  # folder of the run whose weights all rows decode with; "": the bundled run
    tuned: Long = ""  # file of the table of the tuned lane; "": the built-in one
    tuning: Tuning = BUILT_IN  # this table
    # Sizes of --vary; each combination has a row of each backend.
    axes: dict[Axis, Annotated[tuple[Count, ...], msgspec.Meta(min_length=1, max_length=50)]] = msgspec.field(
        default_factory=dict
    )


class Plan(Measured, frozen=True):
    """The whole plan. It is saved at the head of the recording."""

    rows: Annotated[tuple[Row, ...], msgspec.Meta(min_length=1, max_length=MOST_ROWS)]
    # Half-width that the intervals of the question must reach, as a share: 0.03 is 3 %.
    within: Amount = WITHIN
    budget: Amount = BUDGET  # seconds from the first check of the machine to the end
    fixed: bool = False  # True if the user gave the budget, so that it never grows
    training: Training | None = None  # None in a race of scripts

    @property
    def groups(self) -> list[list[int]]:
        """Indices of the rows that a round starts together: rows of equal sizes, in either lane."""
        groups: dict[tuple[int, ...], list[int]] = {}
        for index, row in enumerate(self.rows):
            groups.setdefault(tuple(row.sizes.values()), []).append(index)
        return [*groups.values()]

    @property
    def command(self) -> str:
        """The command of a bench that measures the same again, without options that have default values."""
        assert self.training
        training = self.training
        options: dict[str, tuple[Any, Any]] = {
            "backends": (",".join(dict.fromkeys(row.backend for row in self.rows)), ""),
            "within": (f"{_digits(100 * self.within)}%", f"{_digits(100 * WITHIN)}%"),
            "budget": (f"{_digits(self.budget)}s" if self.fixed else "", ""),
            "baseline": (training.baseline, ""),
            "run": (training.run, ""),
            "tuned": (training.tuned, ""),
            "latent-dim": (training.latent_dim, ModelConfig.latent_dim),
            "threads": (training.threads, None),
            "device": (training.device, "cpu"),
        }
        settings = vars(training.data) | vars(training.settings)
        defaults = vars(DataConfig()) | vars(TrainConfig())
        names = [name for name in settings if name != "split"]
        options |= {name.replace("_", "-"): (settings[name], defaults[name]) for name in names}
        given = {name: value for name, (value, default) in options.items() if value != default}
        words = [f"--{name}" + ("" if value is True else f" {quoted(str(value))}") for name, value in given.items()]
        axes = [f"--vary {axis}={','.join(map(str, sizes))}" for axis, sizes in training.axes.items()]
        return " \\\n    ".join(["rosetta bench", *words, *axes])


def usual_budget(within: float, axes: Mapping[Axis, Sequence[int]]) -> float:
    """Seconds of a bench without --budget: more for more sizes, and an hour for narrower intervals than usual."""
    rounds = len([*product(*axes.values())])
    return min(rounds * BUDGET, LONG_BUDGET) if within >= WITHIN else LONG_BUDGET


def rows_of(
    names: Sequence[str],
    axes: Mapping[Axis, Sequence[int]] | None = None,
    threads: int | None = None,
    tuning: Tuning = BUILT_IN,
) -> tuple[Row, ...]:
    """The rows of a bench: one for each backend as installed, and one with tuned settings where some help it.

    Where sizes vary along `axes`, there is a row in the tuned lane for each backend at each combination of sizes.
    """
    settings = {name: tuned_variables(engine_of(name), threads, tuning) for name in names}
    rows = [Row(name, "tuned" if helpful else "both", variables=helpful) for name, helpful in settings.items()]
    if not rows:
        raise CannotBeginError("there is no backend to measure; `rosetta backends` lists them")
    if axes:
        sizes = [dict(zip(axes, combination, strict=True)) for combination in product(*axes.values())]
        varied = tuple(msgspec.structs.replace(row, sizes=of_row) for of_row in sizes for row in rows)
        if len(varied) > MOST_ROWS:
            raise CannotBeginError(
                f"--vary asks for {len(varied)} rows, and {MOST_ROWS} are the most; name fewer sizes"
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
            limits = ", ".join(f"{axis} up to {largest:,}" for axis, largest in LARGEST_SIZES.items())
            raise CannotBeginError(f"--vary is AXIS=SIZES, such as latent-dim=128,256, with {limits}; found {text!r}")
        if axis in axes:
            raise CannotBeginError(f"--vary names {axis} twice; give all its sizes at once")
        axes[axis] = tuple(sizes)
    if len(axes) > MOST_AXES:
        raise CannotBeginError(f"--vary takes {MOST_AXES} axes at once, and {len(axes)} were given")
    return axes


def _digits(number: float) -> str:
    """A number as typed for an option: without an exponent and trailing zeros."""
    return f"{number:.9f}".rstrip("0").rstrip(".")
