"""What a benchmark is going to measure: its cells, its rounds, and the presets that fill in the numbers."""

import os
import shutil
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from shlex import quote
from typing import Any, Literal

from backends import BASELINE as BASELINE
from backends import TABLE, find
from backends.process import require_interpreter
from common.config import DataConfig, TrainConfig
from common.errors import CannotBeginError

LANES = {"matched": "matched", "default": "as installed"}  # and what tables call them
BATCHES = ("shuffled", "bucketed")  # see TrainConfig; the first is the example's
BUCKETED = "masked and bucketed"  # what tables call the other, which takes padding that is masked

Controls = Literal["one", "each"]


@dataclass(frozen=True)
class Preset:
    """How much is measured."""

    rounds: int
    steps: int  # timed a process, after the warm-up
    lanes: tuple[str, ...]
    controls: Controls  # which backends run a second time a round, against themselves
    sentences: int  # distinct validation sources decoded in one batch
    singles: int  # of those, decoded one by one for the latency
    seeds: int  # of the trainings whose quality is scored
    epochs: int  # of each such training; see Plan.epochs_of
    whole_ladder: bool  # the parity ladder in full; else the quick one
    equal_strings: int  # decoded by the baseline and by `keras`, which scores for it, and compared
    batches: tuple[str, ...] = BATCHES[:1]  # all that recordings had which do not name it


PRESETS = {
    "quick": Preset(3, 20, ("matched",), "one", 300, 100, 1, 3, False, 5),
    "standard": Preset(7, 64, tuple(LANES), "each", 1000, 200, 3, 10, True, 20, BATCHES),
    "rigorous": Preset(20, 128, tuple(LANES), "each", 1000, 500, 5, 30, True, 20, BATCHES),
}


def sized(preset: str, **own: Any) -> Preset:
    """A preset with numbers of one's own; those that are None are left as they are.

    Raises CannotBeginError for a lane or a kind of batches that there is not.
    """
    size = replace(PRESETS[preset], **{name: value for name, value in own.items() if value is not None})
    unknown = set(size.lanes) - set(LANES)
    if unknown or not size.lanes:
        raise CannotBeginError(
            f"--lanes is {' or '.join(LANES)}, or both with a comma; found {','.join(size.lanes)!r}"
        )
    if size.batches not in (BATCHES, BATCHES[:1]):
        found = ",".join(size.batches)
        raise CannotBeginError(f"--batches is {BATCHES[0]}, or {' and '.join(BATCHES)} with a comma; found {found!r}")
    return replace(size, lanes=tuple(lane for lane in LANES if lane in size.lanes))  # the first one is the main one


@dataclass(frozen=True)
class Sweep:
    """The sizes at which cost is measured, axis by axis: one moves, the others stay at the benchmark's own."""

    seq_length: tuple[int, ...] = (8, 16, 32, 64)  # characters of source and target, T_enc and T_dec
    latent_dim: tuple[int, ...] = (64, 256, 512, 1024)
    batch_size: tuple[int, ...] = (1, 16, 128, 1024)
    num_samples: tuple[int, ...] = (1_000, 10_000, 50_000, 200_000)  # pairs of the corpus, which is repeated


@dataclass(frozen=True)
class Cell:
    """One process a round: a backend, the lane its runtime is set by, the interpreter it runs under, its batches."""

    backend: str  # NAME or NAME:VARIANT
    lane: str = "matched"
    python: str = ""  # path of another interpreter; "" is the one that runs the benchmark
    control: bool = False  # the same again, for the A/A control
    batches: str = BATCHES[0]

    @classmethod
    def of(cls, record: Mapping[str, Any]) -> "Cell":
        """That of a line of a recording; what the line leaves out is as it is by default."""
        return cls(**{field.name: record[field.name] for field in fields(cls) if field.name in record})

    @property
    def label(self) -> str:
        """What tables call it."""
        words = [self.backend]
        words += [LANES[self.lane]] if self.lane == "default" else []
        words += [f"under {self.python}"] if self.python else []
        words += [BUCKETED] if self.bucketed else []
        words += ["again"] if self.control else []
        return ", ".join(words)

    @property
    def bucketed(self) -> bool:
        """Whether it does other work a step than the example: on bucketed batches, whose padding is masked."""
        return self.batches == "bucketed"

    @property
    def reduced(self) -> bool:
        """Whether it computes in less than its weights' float32; not known of a backend that only others have."""
        return self.backend in TABLE and TABLE[self.backend].reduced

    @property
    def padding(self) -> str:
        """See ModelConfig."""
        return "mask" if self.bucketed else "space"

    @property
    def model(self) -> "Cell":
        """What is the same of it in every lane and in its control: its weights and what they say."""
        return Cell(self.backend, python=self.python, batches=self.batches)

    @property
    def baseline(self) -> "Cell":
        """The cell that its ratio is to: the official example's way in the same lane."""
        return Cell(BASELINE, self.lane)


@dataclass(frozen=True)
class Plan:
    """A benchmark, written in front of its recording; the same plan is what goes on after a kill."""

    data: DataConfig
    settings: TrainConfig
    latent_dim: int
    device: str
    threads: int | None
    preset: str
    size: Preset
    cells: tuple[Cell, ...] = field(default_factory=tuple)
    sweep: Sweep | None = None

    def of_round(self, number: int) -> Sequence[Cell]:
        """The cells in the order of a round (counted from 1).

        Rounds begin with cells spread over all of them, and every second one goes backwards: what changes on the
        machine meets all alike, and none always comes right after the same other one.
        """
        num_cells, rounds = len(self.cells), self.size.rounds
        first = (number - 1) * max(num_cells, rounds) // rounds % num_cells
        if number % 2:
            return [*self.cells[first:], *self.cells[:first]]
        return [*self.cells[first::-1], *self.cells[:first:-1]]

    def epochs_of(self, cell: Cell) -> int:
        """Of a training whose quality is scored. Bucketed ones may go on for a third more, rounded down: an epoch of
        theirs is less work and in the end teaches a little less, and what is asked is how soon they are as good."""
        return self.size.epochs * 4 // 3 if cell.bucketed else self.size.epochs

    @property
    def rows(self) -> list[Cell]:
        """The cells that a report has a row for."""
        return [cell for cell in self.cells if not cell.control]

    @property
    def models(self) -> list[Cell]:
        """One cell for each `Cell.model`: what is the same in every lane is measured with it."""
        first: dict[Cell, Cell] = {}
        for cell in self.rows:
            first.setdefault(cell.model, cell)
        return list(first.values())

    @property
    def command(self) -> str:
        """What is typed to measure the same again; what a preset or a default says already is left out."""
        own = Plan(DataConfig(split="grouped"), TrainConfig(), 256, "cpu", None, self.preset, PRESETS[self.preset])
        options = [f"--preset {self.preset}"]
        names = dict.fromkeys(cell.backend for cell in self.rows if not cell.python)
        options += [f"--backends {','.join(names)}"] if names else []
        others = dict.fromkeys((cell.backend, cell.python) for cell in self.rows if cell.python)
        options += [f"--python {name}={quote(python)}" for name, python in others]
        given = {"rounds", "steps", "lanes", "batches", "epochs", "seeds"}
        sizes = [(name, value) for name, value in asdict(self.size).items() if name in given]
        # --batches says which rows there are: that is the size's, and each cell's settings follow from it.
        settings = {name: value for name, value in asdict(self.settings).items() if name != "batches"}
        configs = [*asdict(self.data).items(), *settings.items()]
        plain = [(name, getattr(self, name)) for name in ("latent_dim", "threads", "device")]
        defaults = vars(own) | asdict(own.settings) | asdict(own.data) | asdict(own.size)
        for name, value in [*sizes, *configs, *plain]:
            if value != defaults[name]:
                shown = ",".join(value) if isinstance(value, tuple) else quote(str(value))
                options.append(f"--{name.replace('_', '-')}" + ("" if value is True else f" {shown}"))
        options += ["--sweep"] if self.sweep else []
        return " \\\n    ".join(["rosetta bench", *options])

    def as_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> "Plan":
        """Raises KeyError or TypeError for what no plan wrote."""
        PRESETS[values["preset"]]  # which `command` compares with
        listed = {name: tuple(value) for name, value in values["size"].items() if isinstance(value, list)}
        size = Preset(**{**values["size"], **listed})
        configs = DataConfig(**values["data"]), TrainConfig(**values["settings"])
        cells = tuple(Cell(**cell) for cell in values["cells"])
        plain = {name: values[name] for name in ("latent_dim", "device", "threads", "preset")}
        axes = values.get("sweep")  # which early recordings have not
        sweep = Sweep(**{axis: tuple(sizes) for axis, sizes in axes.items()}) if axes else None
        return cls(*configs, **plain, size=size, cells=cells, sweep=sweep)


def cells(names: Sequence[str], pythons: Iterable[str], size: Preset) -> tuple[Cell, ...]:
    """The cells of backends; `pythons` are NAME=PATH, each one more row of NAME, under that interpreter.

    Raises CannotBeginError for an interpreter that is missing, or lacks what its backend needs.
    """
    rows = [Cell(name, lane) for lane in size.lanes for name in names]
    for given in dict.fromkeys(pythons):
        name, _, path = given.partition("=")
        if name not in TABLE or not path:
            raise CannotBeginError(f"--python is NAME=PATH, with one of {', '.join(TABLE)}; found {given!r}")
        found = shutil.which(path)
        if found is None:
            raise CannotBeginError(f"--python {given}: {path} is no program that can be run; give another path")
        # Whole, since a benchmark may be gone on with from another folder; links are kept, a venv is made of them.
        found = os.path.abspath(found)
        require_interpreter(found, name, find(name, found))
        rows += [Cell(name, lane, found) for lane in size.lanes]
    if not rows:
        raise CannotBeginError("there is no backend to measure; `rosetta backends` lists them")
    first = [cell for cell in rows if cell.lane == rows[0].lane]
    # The example's way is neither masked nor bucketed.
    other = [replace(cell, batches=way) for way in size.batches[1:] for cell in first if cell.backend != BASELINE]
    # One in full precision where there is one, since its floor is to serve for all.
    controlled = first if size.controls == "each" else sorted(first, key=lambda cell: cell.reduced)[:1]
    again = [replace(cell, control=True) for cell in controlled]
    # Controls next to what they are controls of: about as far in time as those are from one another.
    return (*first, *again, *other, *(cell for cell in rows if cell not in first))
