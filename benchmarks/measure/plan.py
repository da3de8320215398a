"""What is to be measured: the cells, how narrow the intervals are to be, and the presets that fill in the numbers."""

import os
import shutil
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from shlex import quote
from typing import Any

import msgspec

from backends import BASELINE, TABLE, find
from backends.process import require_interpreter
from common.config import DataConfig, TrainConfig
from common.errors import CannotBeginError

LANES = {"matched": "matched", "default": "as installed"}  # and what tables call them
BATCHES = ("shuffled", "bucketed")  # see TrainConfig; the first is the example's
BUCKETED = "masked and bucketed"  # what tables call the other, whose padding is masked


class Cell(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What one process measures: a backend, the lane that sets its runtime, its interpreter, its batches."""

    backend: str  # NAME or NAME:VARIANT
    lane: str = "matched"
    python: str = ""  # path of another interpreter; "" is the one that runs the benchmark
    batches: str = BATCHES[0]
    again: bool = False  # the same once more: what it is compared with is itself

    @property
    def label(self) -> str:
        """What tables and charts call it."""
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
        """Whether it computes in less than float32; not known of a backend that only others have."""
        return self.backend in TABLE and TABLE[self.backend].reduced

    @property
    def padding(self) -> str:
        """See ModelConfig."""
        return "mask" if self.bucketed else "space"

    @property
    def main(self) -> bool:
        """Whether it is of the question that a benchmark answers: which framework trains how much faster."""
        return self.lane == "matched" and not (self.bucketed or self.reduced or self.again)


@dataclass(frozen=True)
class Preset:
    """How much is measured."""

    within: float  # how far an interval of the question may reach to either side, as a share
    budget: float  # seconds after which no generation is begun that would end later
    installed: int  # generations in which the rows as installed are alive too
    control: bool  # whether a backend is measured a second time, against itself
    whole_ladder: bool  # parity in full; else the quick ladder
    batches: tuple[str, ...] = BATCHES[:1]
    seeds: int = 0  # of the trainings whose quality is scored, for each backend
    epochs: int = 30  # of each such training; on bucketed batches a third more


PRESETS = {
    "quick": Preset(within=0.07, budget=293.0, installed=1, control=False, whole_ladder=False),
    "standard": Preset(
        within=0.03, budget=3600.0, installed=2, control=True, whole_ladder=True, batches=BATCHES, seeds=3
    ),
}


def sized(preset: str, **own: Any) -> Preset:
    """A preset with numbers of one's own; those that are None are left as they are."""
    return replace(PRESETS[preset], **{name: value for name, value in own.items() if value is not None})


class Plan(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A benchmark, written in front of its recording; the same plan is what goes on after a kill."""

    data: DataConfig
    settings: TrainConfig
    latent_dim: int
    device: str
    threads: int | None
    preset: str
    size: Preset
    baseline: str  # NAME of the backend that the column of ratios is to; "": the example, or the slowest row
    run: str  # folder of the run whose weights all rows decode with; "": the bundled one
    cells: tuple[Cell, ...]

    @property
    def rows(self) -> list[Cell]:
        """The cells that a report has a row for."""
        return [cell for cell in self.cells if not cell.again]

    @property
    def question(self) -> list[Cell]:
        """The cells whose pairs are to be told as narrowly as asked: those of the frameworks, or of all rows where
        there is none in the matched lane."""
        return [cell for cell in self.cells if cell.main] or self.rows

    def alive_in(self, number: int) -> list[Cell]:
        """The cells of a generation: rows as installed are in the first ones, or in all where they would leave one
        row alone."""
        plain = [cell for cell in self.cells if cell.lane != "default"]
        return plain if number > self.size.installed and len(plain) > 1 else list(self.cells)

    @property
    def trained(self) -> list[Cell]:
        """The cells whose trainings are scored: one for each backend, interpreter and kind of batches."""
        first: dict[tuple[str, str, str], Cell] = {}
        for cell in self.rows:
            first.setdefault((cell.backend, cell.python, cell.batches), cell)
        return list(first.values()) if self.size.seeds else []

    def epochs_of(self, cell: Cell) -> int:
        """Of a training whose quality is scored. On bucketed batches an epoch is less work and teaches a little less
        in the end, and what is asked is how soon they are as good: so they may go on for a third more."""
        return self.size.epochs * 4 // 3 if cell.bucketed else self.size.epochs

    @property
    def command(self) -> str:
        """What is typed to measure the same again; what a preset or a default says already is left out."""
        names = dict.fromkeys(cell.backend for cell in self.rows if not cell.python)
        pythons = dict.fromkeys((cell.backend, cell.python) for cell in self.rows if cell.python)
        preset = PRESETS[self.preset]
        lanes = dict.fromkeys(cell.lane for cell in self.rows)
        options = {
            "preset": (self.preset, None),
            "backends": (",".join(names), ""),
            "lanes": (",".join(lanes), ",".join(LANES)),
            "within": (f"{_digits(100 * self.size.within)}%", f"{_digits(100 * preset.within)}%"),
            "budget": (f"{_digits(self.size.budget)}s", f"{_digits(preset.budget)}s"),
            "batches": (",".join(self.size.batches), ",".join(preset.batches)),
            "seeds": (self.size.seeds, preset.seeds),
            "epochs": (self.size.epochs, preset.epochs),
            "baseline": (self.baseline, ""),
            "run": (self.run, ""),
            "latent-dim": (self.latent_dim, 256),
            "threads": (self.threads, None),
            "device": (self.device, "cpu"),
        }
        given = {name: value for name, (value, default) in options.items() if value != default}
        words = [*options_of(given), *options_of(own_settings(self.data, self.settings))]
        words += [f"--python {quote(f'{name}={python}')}" for name, python in pythons]
        return " \\\n    ".join(["rosetta bench", *words])


def cells(names: Sequence[str], pythons: Iterable[str], lanes: Sequence[str], size: Preset) -> tuple[Cell, ...]:
    """The cells of backends; `pythons` are NAME=PATH, each one more row of NAME, under that interpreter.

    Raises CannotBeginError for an interpreter that is missing, or lacks what its backend needs.
    """
    rows = [Cell(name, lane) for lane in lanes for name in names if lane == lanes[0] or name != BASELINE]
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
        rows += [Cell(name, lane, found) for lane in lanes]
    if not rows:
        raise CannotBeginError("there is no backend to measure; `rosetta backends` lists them")
    first = [cell for cell in rows if cell.lane == lanes[0]]
    # The example's way is neither masked nor bucketed.
    other = [
        msgspec.structs.replace(cell, batches=way)
        for way in size.batches[1:]
        for cell in first
        if cell.backend != BASELINE
    ]
    # The first in float32, whose noise is that of the rows that are compared.
    controlled = sorted(first, key=lambda cell: cell.reduced)[:1] if size.control else []
    again = [msgspec.structs.replace(cell, again=True) for cell in controlled]
    return (*first, *again, *other, *(cell for cell in rows if cell not in first))


def chosen(listed: str | None, option: str, possible: Sequence[str]) -> tuple[str, ...] | None:
    """The words of an option that takes some of `possible`, separated by commas, in their order there.

    None where the option was not given. Raises CannotBeginError.
    """
    if listed is None:
        return None
    found = {word.strip() for word in listed.split(",")}
    if not found or found - set(possible):
        raise CannotBeginError(f"--{option} is {' or '.join(possible)}, or both with a comma; found {listed!r}")
    return tuple(word for word in possible if word in found)


def shuffled_and(listed: str | None) -> tuple[str, ...] | None:
    """The words of --batches. The rows that are bucketed are more than, and never instead of, the plain ones."""
    found = chosen(listed, "batches", BATCHES)
    if found and BATCHES[0] not in found:
        raise CannotBeginError(f"--batches is {BATCHES[0]}, or {','.join(BATCHES)}; found {listed!r}")
    return found


def certified_as(cell: Cell) -> Cell:
    """The cell whose certificate is this one's too: a lane changes no mathematics, nor does doing the same again."""
    return Cell(cell.backend, python=cell.python, batches=cell.batches)


def own_settings(data: DataConfig, settings: TrainConfig) -> dict[str, Any]:
    """What of these is not the benchmark's default, by the names of options."""
    defaults = vars(DataConfig(split="grouped")) | vars(TrainConfig())
    given = vars(data) | vars(settings)
    # --batches says which rows there are: each cell's settings follow from it.
    own = {name: value for name, value in given.items() if value != defaults[name] and name != "batches"}
    return {name.replace("_", "-"): value for name, value in own.items()}


def _digits(number: float) -> str:
    """A number as an option takes it: without an exponent, and without zeros that say nothing."""
    return f"{number:.9f}".rstrip("0").rstrip(".")


def options_of(given: Mapping[str, Any]) -> list[str]:
    """Options as they are typed, quoted for the shell."""
    return [f"--{name}" + ("" if value is True else f" {quote(str(value))}") for name, value in given.items()]
