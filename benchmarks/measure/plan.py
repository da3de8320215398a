"""The plan of a benchmark or of a sweep: what is measured, how sure figures must become, and how long it may take."""

import os
import shutil
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec

from backends import TABLE, find
from backends.process.parent import interpreter_versions
from benchmarks.in_child import Count, Measured
from common.config import DataConfig, ModelConfig, TrainConfig
from common.errors import CannotBeginError
from common.text import quoted

WITHIN = 0.07  # half-width that intervals must reach, as a share, unless --within says otherwise
BUDGET = 285.0  # seconds that a benchmark may take, unless --budget or --within is given: under five minutes
LONG_BUDGET = 3600.0  # the same where --within is given
CAREFUL = 0.05  # for narrower intervals one row is measured twice, and the whole parity ladder is climbed
LEAST_ROUNDS = 3  # rounds of new processes that an answer needs
MOST_WORKERS = 64

Short = Annotated[str, msgspec.Meta(max_length=100)]


class Row(Measured, frozen=True):
    """What one process measures: a backend with its lane and its interpreter."""

    backend: Short  # NAME or NAME:VARIANT
    lane: Literal["matched", "default"] = "matched"  # the threads and settings that the process is given
    # Path of another interpreter; "" is the one that runs the benchmark.
    python: Annotated[str, msgspec.Meta(max_length=4096)] = ""
    called: Short = ""  # what tables call a row of another interpreter: by its version, such as "torch 2.15.0"
    control: bool = False  # a second measurement of the same, to show how far two equal rows come out apart

    @property
    def label(self) -> str:
        """The name of this row in tables and charts."""
        special = ", as installed" * self.installed + ", control" * self.control
        return f"{self.called or self.backend}{special}"

    @property
    def installed(self) -> bool:
        """Whether no setting is changed: what a user gets who installs the framework and starts."""
        return self.lane == "default"

    @property
    def reduced(self) -> bool:
        """Whether it computes in less than float32. False for a backend of a recording that is not in our table."""
        return self.backend in TABLE and TABLE[self.backend].reduced

    @property
    def counterpart(self) -> "Row | None":
        """The row that this one is compared with because it is special; None for a row of the main question.

        That is the same row measured once, with matched settings, or the same backend's in float32.
        """
        if self.control:
            return msgspec.structs.replace(self, control=False)
        if self.installed:
            return msgspec.structs.replace(self, lane="matched")
        plain = self.backend.partition(":")[0]
        called = self.called.replace(self.backend, plain, 1)
        return msgspec.structs.replace(self, backend=plain, called=called) if self.reduced else None


class Plan(Measured, frozen=True):
    """All that is to be measured: by a benchmark or a sweep.

    The plan is saved at the head of the recording, so that an interrupted benchmark resumes with the same plan.
    """

    data: DataConfig
    settings: TrainConfig  # of workers, a batch size is that of one worker
    latent_dim: Count
    device: str
    threads: Count | None  # of each process
    rows: tuple[Row, ...]
    # Half-width that the intervals of the question must reach, as a share: 0.03 is 3 %.
    within: Annotated[float, msgspec.Meta(ge=0)] = WITHIN
    budget: Annotated[float, msgspec.Meta(ge=0)] = BUDGET  # seconds from the first check of the machine to the end
    baseline: str = ""  # name of the backend that ratios compare with; "": keras:example, or the slowest row
    run: str = ""  # folder of the run whose weights all rows decode with; "": the bundled run
    # The sizes that a sweep measures, by axis.
    axes: dict[str, Annotated[list[Count], msgspec.Meta(max_length=50)]] = msgspec.field(default_factory=dict)
    workers: Annotated[int, msgspec.Meta(ge=1, le=MOST_WORKERS)] = 1

    @property
    def kind(self) -> Literal["benchmark", "sweep", "workers"]:
        """What measures it: a benchmark, a sweep of sizes or a sweep of workers."""
        return "workers" if self.workers > 1 else "sweep" if self.axes else "benchmark"

    @property
    def question(self) -> list[Row]:
        """The rows whose ratios to one another must become as narrow as `within`: those that do the same work."""
        rows = [row for row in self.rows if not (row.installed or row.control)]
        return [row for row in rows if not row.reduced] or rows

    @property
    def command(self) -> str:
        """The command that measures the same again, without options that have their default values."""
        budget = BUDGET if self.within == WITHIN else LONG_BUDGET
        options: dict[str, tuple[Any, Any]] = {
            "workers": (self.workers, 1),
            "backends": (",".join(dict.fromkeys(row.backend for row in self.rows if not row.python)), ""),
            "within": (f"{_digits(100 * self.within)}%", f"{_digits(100 * WITHIN)}%"),
            "budget": (f"{_digits(self.budget)}s", f"{_digits(budget)}s"),
            "baseline": (self.baseline, ""),
            "run": (self.run, ""),
            "latent-dim": (self.latent_dim, ModelConfig.latent_dim),
            "threads": (self.threads, 1 if self.workers > 1 else None),
            "device": (self.device, "cpu"),
        }
        defaults, own = vars(DataConfig()) | vars(TrainConfig()), vars(self.data) | vars(self.settings)
        options |= {name.replace("_", "-"): (own[name], defaults[name]) for name in own if name != "split"}
        given = {name: value for name, (value, default) in options.items() if value != default}
        words = [f"--{name}" + ("" if value is True else f" {quoted(str(value))}") for name, value in given.items()]
        program, between = ("bench", " \\\n    ") if self.kind == "benchmark" else ("sweep", " ")
        return between.join([f"rosetta {program}", *words, *self.python_options])

    def go_on(self, path: Path) -> str:
        """The words that tell how a benchmark whose recording is at `path` is gone on with."""
        return " ".join([f"go on with: rosetta bench --out {quoted(path)} --resume", *self.python_options])

    @property
    def python_options(self) -> list[str]:
        """The options that name the interpreters of the rows, as they are typed."""
        named = dict.fromkeys(f"{row.backend}={row.python}" for row in self.rows if row.python)
        return [f"--python {quoted(name)}" for name in named]


def rows_of(names: Sequence[str], pythons: Iterable[str] = (), careful: bool = False) -> tuple[Row, ...]:
    """The rows of a benchmark: one for each backend with matched settings, and one for each framework as installed.

    Each of `pythons` is NAME=PATH and adds rows of backend NAME under the interpreter at PATH. Where the plan is
    `careful`, the first row in float32 is measured twice. Raises CannotBeginError for an interpreter that is missing
    or lacks what its backend needs.
    """
    rows = [Row(name) for name in names]
    for name, path in map(_interpreter, dict.fromkeys(pythons)):
        rows.append(Row(name, python=path, called=_called(name, path, {row.label for row in rows})))
    if not rows:
        raise CannotBeginError("there is no backend to measure; `rosetta backends` lists them")
    controlled = sorted(rows, key=lambda row: row.reduced)[:1] if careful else []
    control = [msgspec.structs.replace(row, control=True) for row in controlled]
    # Variants share their framework's defaults, so only the plain rows are also measured as installed.
    plain = [row for row in rows if ":" not in row.backend]
    return (*rows, *control, *(msgspec.structs.replace(row, lane="default") for row in plain))


def _interpreter(given: str) -> tuple[str, str]:
    """Parse an option NAME=PATH: the backend's name and the program's path. Raises CannotBeginError."""
    name, _, path = given.partition("=")
    if name not in TABLE or not path:
        raise CannotBeginError(f"--python is NAME=PATH, with one of {', '.join(TABLE)}; found {given!r}")
    program = shutil.which(path)
    if program is None:
        raise CannotBeginError(f"--python {given}: {path} is no program that can be run; give another path")
    # The path is absolute, since a benchmark may be resumed from another folder. Links are not resolved, since the
    # interpreter of a virtual environment is a link and would become the system's.
    return name, os.path.abspath(program)


def _called(name: str, path: str, taken: set[str]) -> str:
    """What tables call a row of another interpreter: its framework's version, with a number if that is taken."""
    _, framework = interpreter_versions(path, name, find(name, path))
    words = [f"{name} {framework}", *(f"{name} {framework} number {n}" for n in range(2, len(taken) + 3))]
    return next(word for word in words if word not in taken)


def require_named(plan: Plan, pythons: Iterable[str], path: Path) -> None:
    """Raise CannotBeginError unless `pythons`, each NAME=PATH, are the interpreters of the plan in the file `path`.

    Somebody else may have made the file, and it is to start no program that the user has not named.
    """
    named = {(row.backend, row.python) for row in plan.rows if row.python}
    if set(map(_interpreter, pythons)) != named:
        advice = f"if you trust these programs, add {' '.join(plan.python_options)}"
        raise CannotBeginError(f"{path} has other interpreters; {advice if named else 'leave out --python'}")


def _digits(number: float) -> str:
    """A number as it is typed for an option: without an exponent and without trailing zeros."""
    return f"{number:.9f}".rstrip("0").rstrip(".")
