"""The plan of a benchmark: what each row measures, how narrow the intervals must become, and the presets."""

import os
import shutil
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any

import msgspec

from backends import BASELINE, TABLE, find
from backends.process.parent import require_interpreter
from common.config import DataConfig, ModelConfig, TrainConfig
from common.errors import CannotBeginError
from common.text import quoted

LANES = {"matched": "matched", "default": "as installed"}  # the lanes, and what tables call them
BATCHES = ("shuffled", "bucketed")  # see TrainConfig; the official example's batches are shuffled
SEPARATOR = "; "  # stands between the rows of --rows, since their labels have commas
BUCKETED = "masked and bucketed"  # what tables call bucketed batches, whose padding is always masked


class Cell(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What one process measures: a backend with its lane, its interpreter and its kind of batches.

    Tables show a cell as a row.
    """

    backend: Annotated[str, msgspec.Meta(max_length=100)]  # NAME or NAME:VARIANT
    lane: str = "matched"  # one of LANES: the threads and settings that the process is given
    # Path of another interpreter; "" is the one that runs the benchmark.
    python: Annotated[str, msgspec.Meta(max_length=4096)] = ""
    batches: str = BATCHES[0]  # one of BATCHES
    again: bool = False  # a second measurement of the same, to show how far two equal rows come out apart

    @property
    def label(self) -> str:
        """The name of this cell in tables and charts."""
        words = [self.backend]
        words += [LANES[self.lane]] if self.lane == "default" else []
        words += [f"under {self.python}"] if self.python else []
        words += [BUCKETED] if self.bucketed else []
        words += ["again"] if self.again else []
        return ", ".join(words)

    @property
    def bucketed(self) -> bool:
        return self.batches == "bucketed"

    @property
    def reduced(self) -> bool:
        """Whether it computes in less than float32. False for a backend of a recording that is not in our table."""
        return self.backend in TABLE and TABLE[self.backend].reduced

    @property
    def counterpart(self) -> "Cell | None":
        """The row that this one is compared with because it is special: the same backend's plain row.

        That is the same row measured once, with matched settings, on shuffled batches, or in float32. None for a row
        that takes part in the main question.
        """
        if self.again:
            return msgspec.structs.replace(self, again=False)
        if self.lane == "default" or self.bucketed:
            return Cell(self.backend, python=self.python)
        return Cell(self.backend.partition(":")[0], python=self.python) if self.reduced else None

    @property
    def padding(self) -> str:
        """The model's `padding`; see ModelConfig."""
        return "mask" if self.bucketed else "space"

    @property
    def main(self) -> bool:
        """Whether it takes part in the benchmark's main question: which framework trains faster, and by how much."""
        return self.lane == "matched" and not (self.bucketed or self.reduced or self.again)


@dataclass(frozen=True)
class Preset:
    """How much is measured."""

    # Half-width that the intervals of the question must reach, as a share: 0.03 is 3 %.
    within: Annotated[float, msgspec.Meta(ge=0)]
    budget: float  # seconds of measuring; no generation is begun that would end later
    installed: int  # number of generations, from the first on, in which rows as installed are measured too
    control: bool  # whether one backend is measured twice and compared with itself
    whole_ladder: bool  # whether the whole parity ladder is climbed; else the quick one
    batches: tuple[str, ...] = BATCHES[:1]
    seeds: int = 0  # number of scored trainings of each backend
    epochs: int = 30  # epochs of each scored training; a third more with bucketed batches


PRESETS = {
    "quick": Preset(within=0.07, budget=293.0, installed=1, control=False, whole_ladder=False),
    "standard": Preset(
        within=0.03, budget=3600.0, installed=2, control=True, whole_ladder=True, batches=BATCHES, seeds=3
    ),
}


def sized(preset: str, **own: Any) -> Preset:
    """A preset with the fields in `own` replaced; a None among them keeps the preset's value."""
    return replace(PRESETS[preset], **{name: value for name, value in own.items() if value is not None})


class Plan(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """All that a benchmark is asked to measure.

    The plan is saved at the head of the recording, so that an interrupted benchmark resumes with the same plan.
    """

    data: DataConfig
    settings: TrainConfig
    latent_dim: Annotated[int, msgspec.Meta(ge=1)]
    device: str
    threads: Annotated[int, msgspec.Meta(ge=1)] | None
    preset: str
    size: Preset
    baseline: str  # name of the backend that ratios compare with; "": keras:example, or the slowest row
    run: str  # folder of the run whose weights all rows decode with; "": the bundled run
    cells: tuple[Cell, ...]
    named: tuple[str, ...] = ()  # labels of the rows to measure, the others being for other machines; () means all

    @property
    def measured(self) -> list[Cell]:
        """The cells that are measured: all, or the rows that are named and what these are compared with.

        The latter are the baseline and each special row's plain one. So every ratio is one of rows that were measured
        in turns on one machine.
        """
        if not self.named:
            return list(self.cells)
        named = {cell for cell in self.cells if cell.label in self.named}
        needed = {self.anchor, *named, *(cell.counterpart for cell in named)}
        return [cell for cell in self.cells if cell in needed or (cell.again and cell.counterpart in named)]

    @property
    def anchor(self) -> Cell | None:
        """The row that each machine measures: the plan's baseline, or else keras:example; None if it has neither."""
        rows = [cell for cell in self.cells if not cell.again]
        of_question = [cell for cell in rows if cell.main] or rows
        wanted = self.baseline or BASELINE
        return next((cell for cell in of_question if cell.backend == wanted), None)

    @property
    def rows(self) -> list[Cell]:
        """The cells that are a row of the report: all that are measured, except second measurements."""
        return [cell for cell in self.measured if not cell.again]

    @property
    def question(self) -> list[Cell]:
        """The cells whose ratios to one another must become as narrow as `size.within`.

        These are the cells of the main question, or all rows if there is no such cell.
        """
        return [cell for cell in self.rows if cell.main] or self.rows

    def alive_in(self, number: int) -> list[Cell]:
        """The cells that are measured in generation `number`, counted from 1.

        Rows as installed are left out after the first `size.installed` generations, unless only one row would remain.
        """
        plain = [cell for cell in self.measured if cell.lane != "default"]
        return plain if number > self.size.installed and len(plain) > 1 else self.measured

    @property
    def trained(self) -> list[Cell]:
        """The cells that are trained and scored: one for each backend, interpreter and kind of batches."""
        first: dict[tuple[str, str, str], Cell] = {}
        for cell in self.rows:
            first.setdefault((cell.backend, cell.python, cell.batches), cell)
        return list(first.values()) if self.size.seeds else []

    def epochs_of(self, cell: Cell) -> int:
        """Epochs of a scored training of this cell.

        The report asks how soon bucketed batches give scores as good as shuffled ones do. An epoch of bucketed
        batches is less work but teaches a little less, so these trainings get a third more epochs.
        """
        return self.size.epochs * 4 // 3 if cell.bucketed else self.size.epochs

    @property
    def command(self) -> str:
        """The command that measures the same again, without options that equal the preset's or default values."""
        names = dict.fromkeys(cell.backend for cell in self.cells if not cell.python)
        preset = PRESETS[self.preset]
        lanes = dict.fromkeys(cell.lane for cell in self.cells)
        options = {
            "preset": (self.preset, None),
            "backends": (",".join(names), ""),
            "lanes": (",".join(lanes), ",".join(LANES)),
            "within": (f"{_digits(100 * self.size.within)}%", f"{_digits(100 * preset.within)}%"),
            "budget": (f"{_digits(self.size.budget)}s", f"{_digits(preset.budget)}s"),
            "batches": (",".join(self.size.batches), ",".join(preset.batches)),
            "seeds": (self.size.seeds, preset.seeds),
            "epochs": (self.size.epochs, preset.epochs),
            "rows": (SEPARATOR.join(self.named), ""),
            "baseline": (self.baseline, ""),
            "run": (self.run, ""),
            "latent-dim": (self.latent_dim, ModelConfig.latent_dim),
            "threads": (self.threads, None),
            "device": (self.device, "cpu"),
        }
        given = {name: value for name, (value, default) in options.items() if value != default}
        words = [*options_of(given), *options_of(own_settings(self.data, self.settings))]
        return " \\\n    ".join(["rosetta bench", *words, *self.python_options])

    @property
    def python_options(self) -> list[str]:
        """The options that name the interpreters of the cells, as they are typed."""
        named = dict.fromkeys(f"{cell.backend}={cell.python}" for cell in self.cells if cell.python)
        return [f"--python {quoted(name)}" for name in named]


def cells(names: Sequence[str], pythons: Iterable[str], lanes: Sequence[str], size: Preset) -> tuple[Cell, ...]:
    """The cells of a plan: one for each backend and lane, then those that `size` adds.

    Each of `pythons` is NAME=PATH and adds cells of backend NAME under the interpreter at PATH. keras:example is
    measured in the first lane only. Raises CannotBeginError for an interpreter that is missing or lacks what its
    backend needs.
    """
    rows = [Cell(name, lane) for lane in lanes for name in names if lane == lanes[0] or name != BASELINE]
    for name, found in map(_interpreter, dict.fromkeys(pythons)):
        require_interpreter(found, name, find(name, found))
        rows += [Cell(name, lane, found) for lane in lanes]
    if not rows:
        raise CannotBeginError("there is no backend to measure; `rosetta backends` lists them")
    first = [cell for cell in rows if cell.lane == lanes[0]]
    # keras:example does what the official example does, which neither masks nor buckets.
    bucketed = [
        msgspec.structs.replace(cell, batches=way)
        for way in size.batches[1:]
        for cell in first
        if cell.backend != BASELINE
    ]
    # The first row in float32 is measured twice: the rows that are compared are in float32 and have its noise.
    controlled = sorted(first, key=lambda cell: cell.reduced)[:1] if size.control else []
    again = [msgspec.structs.replace(cell, again=True) for cell in controlled]
    return (*first, *again, *bucketed, *(cell for cell in rows if cell not in first))


def named_rows(listed: str | None) -> tuple[str, ...]:
    """Parse --rows: the labels of rows, each once; none where the option was not given."""
    if listed is None:
        return ()
    return tuple(dict.fromkeys(label.strip() for label in listed.split(SEPARATOR.strip())))


def require_rows(plan: Plan) -> None:
    """Raise CannotBeginError unless the plan has the rows that --rows names, and one that every machine measures."""
    labels = [cell.label for cell in plan.cells if not cell.again]
    for label in plan.named:
        if label not in labels:
            raise CannotBeginError(f"--rows has {label!r}, expected some of these: {SEPARATOR.join(labels)}")
    if plan.named and plan.anchor is None:
        raise CannotBeginError(
            f"--rows needs a backend that every machine measures, and {BASELINE} is not among the backends; choose "
            "one of them with --baseline"
        )


def _interpreter(given: str) -> tuple[str, str]:
    """Parse an option NAME=PATH: the backend's name and the program's path. Raises CannotBeginError."""
    name, _, path = given.partition("=")
    if name not in TABLE or not path:
        raise CannotBeginError(f"--python is NAME=PATH, with one of {', '.join(TABLE)}; found {given!r}")
    found = shutil.which(path)
    if found is None:
        raise CannotBeginError(f"--python {given}: {path} is no program that can be run; give another path")
    # The path is absolute, since a benchmark may be resumed from another folder. Links are not resolved, since the
    # interpreter of a virtual environment is a link and would become the system's.
    return name, os.path.abspath(found)


def require_named(plan: Plan, pythons: Iterable[str], path: Path) -> None:
    """Raise CannotBeginError unless `pythons`, each NAME=PATH, are the interpreters of the plan in the file `path`.

    Somebody else may have made the file, and it is to start no program that the user has not named.
    """
    named = {(cell.backend, cell.python) for cell in plan.cells if cell.python}
    if set(map(_interpreter, pythons)) != named:
        advice = f"if you trust these programs, add {' '.join(plan.python_options)}"
        raise CannotBeginError(f"{path} has other interpreters; {advice if named else 'leave out --python'}")


def chosen(listed: str | None, option: str, possible: Sequence[str]) -> tuple[str, ...] | None:
    """Parse an option whose value is one or more of the words `possible`, separated by commas.

    Returns the words in the order of `possible`, or None if the option was not given. Raises CannotBeginError for
    other words.
    """
    if listed is None:
        return None
    found = {word.strip() for word in listed.split(",")}
    if found - set(possible):
        raise CannotBeginError(f"--{option} is {' or '.join(possible)}, or {','.join(possible)}; found {listed!r}")
    return tuple(word for word in possible if word in found)


def shuffled_and(listed: str | None) -> tuple[str, ...] | None:
    """Parse --batches, which must contain "shuffled": bucketed rows are added to the shuffled ones.

    Returns None if the option was not given. Raises CannotBeginError.
    """
    found = chosen(listed, "batches", BATCHES)
    if found and BATCHES[0] not in found:
        raise CannotBeginError(f"--batches is {BATCHES[0]}, or {','.join(BATCHES)}; found {listed!r}")
    return found


def certified_as(cell: Cell) -> Cell:
    """The cell whose parity certificate holds for this one as well.

    A lane changes no mathematics, and neither does measuring the same a second time.
    """
    return Cell(cell.backend, python=cell.python, batches=cell.batches)


def own_settings(data: DataConfig, settings: TrainConfig) -> dict[str, Any]:
    """The values that differ from the benchmark's defaults, by the names of their options."""
    defaults = vars(DataConfig(split="grouped")) | vars(TrainConfig())
    given = vars(data) | vars(settings)
    # `batches` is left out: each cell has its own, and the option --batches says which cells there are.
    own = {name: value for name, value in given.items() if value != defaults[name] and name != "batches"}
    return {name.replace("_", "-"): value for name, value in own.items()}


def _digits(number: float) -> str:
    """A number as it is typed for an option: without an exponent and without trailing zeros."""
    return f"{number:.9f}".rstrip("0").rstrip(".")


def options_of(given: Mapping[str, Any]) -> list[str]:
    """Options as they are typed, such as "--seed 1", with values quoted for the shell; a True value makes a flag."""
    return [f"--{name}" + ("" if value is True else f" {quoted(str(value))}") for name, value in given.items()]
