"""Reads one side of a comparison: a record, or a part of it."""

from collections.abc import Iterator
from difflib import get_close_matches
from functools import cached_property
from math import isfinite
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from rosetta_diff.arrays import PRECISIONS, largest
from rosetta_diff.helpers import (
    LARGEST_JSON,
    CannotBeginError,
    DiffError,
    count,
    read_at_most,
    reason,
)
from rosetta_diff.read.base import Framework
from rosetta_diff.read.description import (
    Description,
    RecordedCall,
    RecordedLayer,
    RecordedOptimizer,
    RecordedWeight,
)
from rosetta_diff.read.files import ArrayFile
from rosetta_diff.read.frameworks import FRAMEWORKS
from rosetta_diff.read.precisions import Precisions
from rosetta_diff.read.rules import FAMILIES
from rosetta_record.folder import CONTROL, REPLAY
from rosetta_record.values import coarsest

LARGEST_SETTING = 1e308  # JSON may have integers that no float has


def resembling(path: Path) -> str:
    """A question for a record beside this path whose name is nearly the same;
    "" if there is none."""
    records = [record.parent.name for record in path.absolute().parent.glob("*/record.json")]
    names = get_close_matches(path.name, records, n=1)
    return f"did you mean {path.with_name(names[0])}? " if names else ""


class Side:
    """One side of a comparison: what record.json says of it,
    and its arrays by their file and their name."""

    def __init__(self, path: Path) -> None:
        """Raises CannotBeginError for a folder that holds no record."""
        self.path, self.name = path, path.resolve().name or str(path)
        try:
            self.says = msgspec.json.decode(
                read_at_most(LARGEST_JSON, path / "record.json"), type=Description
            )
        except OSError as error:
            raise CannotBeginError(
                f"{path} holds no record (record.json: {reason(error)}); "
                f"{resembling(path)}rosetta_record's Record({str(path)!r}) makes one"
            ) from error
        except (DiffError, msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise CannotBeginError(
                f"{path / 'record.json'} is not what rosetta_record writes: {error}; record this "
                "side again"
            ) from error
        self._files: dict[str, ArrayFile] = {}
        self._largest: dict[str, float] = {}
        for file, number in (self.says.files or {}).items():
            if len(self.arrays(file)) != number:
                raise CannotBeginError(
                    f"{path}: {file}.safetensors has {count(len(self.arrays(file)), 'array')}, and "
                    f"record.json says {number}: it is still being made, such as by a notebook, "
                    "whose `del` of the Record writes the rest; or record this side again"
                )
        parts = {part for call in self.says.calls for part in (*call.parts, *call.inputs.values())}
        for file, named in (
            ("weights", self.owners.keys() | self.says.weights.keys()),
            ("layers", parts),
        ):
            missing = next((name for name in named if name not in self.arrays(file)), None)
            if missing is not None:
                raise CannotBeginError(
                    f"{path}: {file}.safetensors has no {missing}, which record.json names; record "
                    "this side again"
                )

    def arrays(self, file: str) -> ArrayFile:
        """The arrays of a file, none where the record has no such file."""
        if file not in self._files:
            self._files[file] = ArrayFile(self.path / f"{file}.safetensors")
        return self._files[file]

    def weight(self, file: str, name: str) -> NDArray[Any] | None:
        """Array of a weight in a file: its values, its gradient or its values after a step;
        None where there is none."""
        stored = self.key(file, name)
        return None if stored is None else self.arrays(file)[stored]

    def key(self, file: str, name: str) -> str | None:
        """The name under which a file has a weight.
        A tied one may stand under the first of its names alone."""
        tied = self.says.weights.get(name, RecordedWeight()).tied_to
        return next(
            (key for key in (name, tied) if key is not None and key in self.arrays(file)), None
        )

    def first_name(self, name: str) -> str:
        """The name under which a weight stands first, which is its own unless it is tied."""
        return self.says.weights.get(name, RecordedWeight()).tied_to or name

    def once(self, file: str) -> list[str]:
        """The names of a file's arrays, of a tied weight the first of its names alone."""
        arrays, weights = self.arrays(file), self.says.weights
        return [
            name for name in arrays if name not in weights or weights[name].tied_to not in arrays
        ]

    def shape(self, name: str, file: str = "weights") -> tuple[int, ...]:
        """The shape of an array, which is not read for it."""
        return self.arrays(file).shape(name)

    def largest(self, file: str) -> float:
        """The largest number of a file."""
        if file not in self._largest:
            arrays = (array for array in self.arrays(file).values() if is_number(array))
            self._largest[file] = max(map(largest, arrays), default=0.0)
        return self._largest[file]

    @cached_property
    def called(self) -> dict[str, list[RecordedCall]]:
        """The calls of each layer that was called, as they ran."""
        calls: dict[str, list[RecordedCall]] = {}
        for call in self.says.calls:
            calls.setdefault(call.layer, []).append(call)
        return calls

    @cached_property
    def root(self) -> str:
        """The path of the layer that is the whole model; "" where it has no name."""
        named = (
            [layer.path for layer in self.says.layers[:1]] if self.framework.names_the_model else []
        )
        return next((call.layer for call in self.says.calls[-1:] if call.layer in named), "")

    @cached_property
    def layers(self) -> dict[str, RecordedLayer]:
        """The layers by their paths."""
        return {layer.path: layer for layer in self.says.layers}

    @cached_property
    def owners(self) -> dict[str, RecordedLayer]:
        """The layer of each weight."""
        return {name: layer for layer in self.says.layers for name in layer.own.values()}

    @property
    def framework(self) -> Framework:
        return FRAMEWORKS[self.says.framework.name]

    @property
    def backend(self) -> str | None:
        """The engine that a framework computes with; None where that is the framework itself."""
        return self.says.framework.backend

    @property
    def float32_settings(self) -> tuple[str, ...]:
        """Settings of the optimizer of which the framework makes constants
        of float32 even in float64."""
        return self.framework.float32_settings(self.backend).get(self.optimizer_kind, ())

    @cached_property
    def precision(self) -> str:
        """Precision of the weights, or of the outputs where there are no weights;
        float32 where no bounds are known for it."""
        types = [self.arrays("outputs").dtype(name).name for name in self.arrays("outputs")]
        precision = self.says.precision or coarsest(*types)
        return precision if precision in PRECISIONS else "float32"

    @property
    def mixed(self) -> str:
        """The precision of the weights, or a coarser one of automatic mixed precision."""
        return coarsest(self.precision, self.says.autocast)

    @cached_property
    def computed(self) -> str:
        """The coarsest precision in which anything was computed of weights, as far as outputs of
        layers show it, and in torch what rounds within a layer."""
        return coarsest(self.mixed, *(dtype for _, dtype in self._types), *self.says.casts.values())

    def precision_of(self, name: str, file: str = "layers") -> str:
        """The coarsest precision of all that an array was computed of: one that layers are given or
        give, or one of the model's outputs."""
        if self.computed == self.mixed or self.says.casts:
            return self.computed
        precisions = self._precisions
        found = (
            precisions.of(name)
            if file == "layers"
            else precisions.of_numbers(self.arrays(file)[name])
        )
        return found or self.computed

    @cached_property
    def _precisions(self) -> Precisions:
        return Precisions(self.says.calls, self.arrays("layers"), self.root, self.mixed)

    @property
    def computed_by(self) -> list[str]:
        """The layers and taps that computed in this precision, else the lines that round to it, if
        the weights are of a finer one."""
        coarse = [
            call.layer or "the model"
            for call, dtype in self._types
            if dtype == self.computed != self.mixed
        ]
        lines = [
            line for line, dtype in self.says.casts.items() if dtype == self.computed != self.mixed
        ]
        return list(dict.fromkeys(coarse or lines))

    @property
    def _types(self) -> Iterator[tuple[RecordedCall, str]]:
        """The types of outputs, but for those of which no weight or gradient is known."""
        for call in self.says.calls:
            yield from (
                (call, dtype) for part, dtype in enumerate(call.dtypes) if part not in call.outside
            )

    @cached_property
    def replay(self) -> "Side | None":
        """The replay, in which each layer computed after layers whose outputs were another
        record's; None without one."""
        return self._within(REPLAY)

    @cached_property
    def control(self) -> "Side | None":
        """The same from weights that were moved by one unit in the last place; None without one."""
        return self._within(CONTROL)

    def _within(self, name: str) -> "Side | None":
        folder = self.path / name
        return Side(folder) if (folder / "record.json").exists() else None

    @property
    def optimizer(self) -> RecordedOptimizer:
        """The optimizer; an empty one if none was recorded."""
        return self.says.optimizer or RecordedOptimizer()

    @property
    def optimizer_kind(self) -> str:
        """The framework's class that the optimizer is or comes from."""
        return self.framework.kind_of_optimizer(self.optimizer.classes, self.optimizer.class_name)

    @property
    def optimizer_family(self) -> str:
        """The kind, or the one whose steps are alike: SGD, Adam or RMSprop."""
        return FAMILIES.get(self.optimizer_kind, self.optimizer_kind)

    @cached_property
    def optimizer_settings(self) -> dict[str, Any]:
        """The optimizer's settings in canonical terms."""
        settings = self.framework.settings_of_optimizer(self.optimizer.settings)
        return {
            name: value
            for name, value in settings.items()
            if not isinstance(value, int) or abs(value) < LARGEST_SETTING
        }

    @cached_property
    def rates(self) -> dict[int, float]:
        """The learning rates of steps, where they are known."""
        return {step.step: step.rate for step in self.says.steps if step.rate is not None}

    @cached_property
    def losses(self) -> dict[int, float | str]:
        """The recorded losses of steps."""
        return {step.step: step.loss for step in self.says.steps if step.loss is not None}

    @property
    def first_loss(self) -> float | str | None:
        """The loss of the forward pass, which is that of the first step;
        None where it was not recorded."""
        return self.losses.get(1) if self.says.loss is None else self.says.loss

    @cached_property
    def counters(self) -> list[int]:
        """Steps that the optimizer counts: none where it does not count,
        several where it counts those of each weight."""
        return sorted(self.framework.counters(self.optimizer.settings))

    @property
    def place_of_epsilon(self) -> str | None:
        """Place of the optimizer's epsilon; None where it is not known."""
        return self.framework.place_of_epsilon(self.optimizer_kind, self.optimizer.settings)

    @property
    def first_rate(self) -> Any:
        """The learning rate of the first step; None where it is not known."""
        return self.rates.get(1, self.optimizer_settings.get("learning_rate"))

    @cached_property
    def decay(self) -> float:
        """The share of itself by which weight decay moves a weight in the first step;
        0 where none is known."""
        rate, decay = self.first_rate, self.optimizer_settings.get("weight_decay")
        known = isinstance(rate, int | float) and isinstance(decay, int | float)
        return abs(rate * decay) if known and isfinite(rate * decay) else 0.0


def is_within(path: str, holder: str) -> bool:
    return not holder or path.startswith((f"{holder}.", f"{holder}/"))


def is_number(array: NDArray[Any]) -> bool:
    """True if the array holds floating-point numbers."""
    return bool(np.issubdtype(array.dtype, np.floating))
