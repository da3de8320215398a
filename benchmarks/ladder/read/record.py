"""Reads a record, which anybody may have written: its names, sizes and kinds are checked before they are used."""

import os
import stat
from collections.abc import Iterator, Mapping
from copy import copy
from difflib import get_close_matches
from functools import cached_property
from math import isfinite, prod
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

import msgspec
import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open

from benchmarks.ladder.arrays import PRECISIONS, largest
from benchmarks.ladder.read.flax import kind_of_chain
from benchmarks.ladder.read.framework import Framework
from benchmarks.ladder.read.frameworks import FRAMEWORKS
from benchmarks.ladder.read.rules import SAME_SLOTS
from common.errors import CannotBeginError, RosettaError, why
from common.files import LARGEST_JSON, read_at_most
from common.text import count, printable

ROUNDED = "rounded"  # the folder, within a record, that Side.rounded reads
OPERATOR = "operator "  # begins the layer of a call that records of version 0.1.0 have of torch beside layers
MOST_LAYERS = 100_000
LONGEST_NAME = 1000  # characters
LARGEST_READ = 1 << 20  # bytes of an array that is read whole; a larger one is mapped
MOST_AXES = 32  # of an array
LARGEST_SETTING = 1e308  # JSON may have integers that no float has
MOST_NUMBERS = 1 << 48  # of an array
DTYPES = {  # of safetensors, whose numbers begin with the least byte
    "F64": "<f8", "F32": "<f4", "F16": "<f2", "I64": "<i8", "I32": "<i4", "I16": "<i2", "I8": "i1", "U8": "u1",
    "U16": "<u2", "U32": "<u4", "U64": "<u8", "BOOL": "?",
}  # fmt: skip

Name = Annotated[str, msgspec.Meta(max_length=LONGEST_NAME)]
Settings = dict[Name, Any]
Counter = Annotated[int, msgspec.Meta(ge=0, le=1 << 53)]
File = Literal["inputs", "weights", "layers", "outputs", "gradients", "slots", "step-1", "step-last"]


class UnfitRecordsError(CannotBeginError):
    """Records that cannot be read, paired or carried: what was found, what was expected, what to try; in one line,
    whatever names out of files are in it."""

    def __init__(self, message: str) -> None:
        super().__init__(printable(message))


class RecordedFramework(msgspec.Struct, frozen=True):
    name: Literal["torch", "paddle", "keras", "flax", "arrays"]
    version: Name = ""
    backend: Name | None = None  # of Keras


class RecordedLayer(msgspec.Struct, frozen=True):
    """A layer with its own weights; those of layers inside it belong to these."""

    path: Name
    classes: list[Name]  # its class and the framework's classes that this comes from, nearest first
    settings: Settings = {}
    training: bool | None = None
    parameters: dict[Name, Name] = {}  # the layer's name for a weight -> its name in weights.safetensors
    buffers: dict[Name, Name] = {}

    @property
    def own(self) -> dict[str, str]:
        """The layer's names for all its arrays, and the record's."""
        return {**self.parameters, **self.buffers}


class RecordedCall(msgspec.Struct, frozen=True):
    layer: Name
    parts: list[Name] = []  # of its output: names in layers.safetensors
    dtypes: list[Name] = []  # of the parts; bfloat16 is written as float32
    outside: list[Counter] = []  # parts of a coarser type than the weights', of which no weight or gradient is known
    inputs: dict[Name, Name] = {}  # the arrays in its arguments, by the arguments' names: names in layers.safetensors
    line: Name = ""  # of the program that called it, FILE:NUMBER, and what it says
    code: Name = ""
    number: Counter = 0  # in a replay: which of its layer's calls it is, from 0
    fed_outputs: list[Name] = []  # which arrays of its output became the feed's


class RecordedWeight(msgspec.Struct, frozen=True):
    trainable: bool = True
    saved: bool = True  # whether the framework saves and loads it, as it does not a constant that it makes anew
    tied_to: Name | None = None  # the name under which the same tensor stands first


class RecordedTypes(msgspec.Struct, frozen=True):
    """Types in which a framework had what the model gave."""

    loss: Name | None = None


class RecordedOptimizer(msgspec.Struct, frozen=True):
    class_name: Name = msgspec.field(name="class", default="")
    classes: list[Name] = []  # it and those that it comes from, nearest first; a framework's own without a module
    settings: Settings = {}
    groups: list[Settings] = []  # of weights with settings of their own
    outside: Counter = 0  # tensors that it trains and that are no weights of the model
    counters: list[Counter] = []  # of steps, and keys of the optimizer's state, as records of version 0.1.0 have them
    keys: dict[Name, Name | None] = {}

    @property
    def kind(self) -> str:
        """The framework's class that it is or comes from; what a chain of optax's transformations amounts to."""
        named = next((name for name in self.classes if "." not in name), self.class_name)
        return kind_of_chain(self.classes) or named

    @property
    def family(self) -> str:
        """The kind, or the one that keeps the same of a weight: SGD, Adam or RMSprop."""
        return SAME_SLOTS.get(self.kind, self.kind)


Loss = float | Literal["nan", "inf", "-inf"] | None  # JSON has no number for what is not finite
Distance = Annotated[float, msgspec.Meta(ge=0)] | None  # None where it is not finite


class RecordedStep(msgspec.Struct, frozen=True):
    step: int
    loss: Loss = None
    rate: float | None = None  # the learning rate of this step


class RecordedAgain(msgspec.Struct, frozen=True):
    """Another training of the same model."""

    loss: Loss = None
    steps: Annotated[list[RecordedStep], msgspec.Meta(max_length=MOST_LAYERS)] = []


class RecordedControl(RecordedAgain, frozen=True):
    """A training from weights that were moved by one unit in the last place: the largest distance of each array from
    the record's own, where weights after a step count by how far they moved."""

    distances: dict[File, dict[Name, Distance]] = {}


class Description(msgspec.Struct, frozen=True):
    """Contents of record.json. Fields that are not listed here are not looked at."""

    format: Literal["rosetta-record"]
    version: Literal[1]
    framework: RecordedFramework
    python: Name | None = None  # its version, as that of NumPy
    numpy: Name | None = None
    precision: Name | None = None
    autocast: Name | None = None  # the type in which automatic mixed precision had layers compute
    dtypes: RecordedTypes = RecordedTypes()
    layers: Annotated[list[RecordedLayer], msgspec.Meta(max_length=MOST_LAYERS)] = []
    calls: Annotated[list[RecordedCall], msgspec.Meta(max_length=MOST_LAYERS)] = []
    weights: dict[Name, RecordedWeight] = {}
    optimizer: RecordedOptimizer | None = None
    loss: Loss = None
    files: dict[File, int] | None = None  # how many arrays each file has; None in records of before this was written
    steps: Annotated[list[RecordedStep], msgspec.Meta(max_length=MOST_LAYERS)] = []
    fed: Name | None = None  # of a replay: what tells the record whose numbers its layers were given
    finished: bool = True  # whether Record.training came to its end, where it was called
    control: RecordedControl | None = None
    rounded: RecordedAgain | None = None  # with epsilons of norms as Paddle rounds them; its arrays are in a folder


Place = tuple[np.dtype[Any], tuple[int, ...], int, Path]  # type and shape of an array, and where in which file it is


def map_array(place: Place) -> NDArray[Any]:
    dtype, shape, start, path = place
    return np.asarray(np.memmap(path, dtype, "r", start, shape)) if prod(shape) else np.zeros(shape, dtype)


class Arrays(Mapping[str, NDArray[Any]]):
    """The arrays of a safetensors file, each read when it is asked for; none where there is no such file.

    The file `changes` has arrays that stand for those of the same names. One of float32 for one of float64 is the
    difference from it.

    The library checks that the arrays' sizes add up to the file's, so no array is larger than its file. Large arrays
    are mapped: the system reads what is looked at, and takes the memory back when it needs room.
    """

    def __init__(self, path: Path, changes: Path | None = None) -> None:
        self._last: dict[str, NDArray[Any]] = {}  # the array that was read last, which is often asked for again
        self._places = self._opened(path)
        self._differences: dict[str, Place] = {}
        for name, place in self._opened(changes).items() if changes else ():
            types = self._places[name][0].name, place[0].name
            (self._differences if types == ("float64", "float32") else self._places)[name] = place

    def _opened(self, path: Path) -> dict[str, Place]:
        if not path.exists():
            return {}
        try:
            found = os.stat(path)
            if not stat.S_ISREG(found.st_mode):
                raise UnfitRecordsError(f"{path} is not a file; expected one that rosetta_record wrote")
            with safe_open(path, framework="numpy") as file:
                names = list(file.keys())
            with open(path, "rb") as raw:
                size = int.from_bytes(raw.read(8), "little")
                header = msgspec.json.decode(raw.read(size), type=dict[str, Any])
        except OSError as error:
            raise UnfitRecordsError(f"{path} cannot be read: {why(error)}") from error
        except (SafetensorError, msgspec.DecodeError) as error:
            raise UnfitRecordsError(f"{path} is damaged: {error}; record this side again") from error
        return {name: self._place(name, header[name], 8 + size, path) for name in names}

    def _place(self, name: str, entry: Any, start: int, path: Path) -> Place:
        """The type and shape of an array, and where in its file it begins."""
        if entry["dtype"] not in DTYPES:
            raise UnfitRecordsError(f"{path}: {name} is of {entry['dtype']}, expected one of {', '.join(DTYPES)}")
        if len(entry["shape"]) > MOST_AXES:
            raise UnfitRecordsError(f"{path}: {name} has {len(entry['shape'])} axes, and {MOST_AXES} is the most")
        if prod(size for size in entry["shape"] if size) > MOST_NUMBERS:  # beside an axis of none
            raise UnfitRecordsError(f"{path}: {name} has the shape {entry['shape']}, which no array can have")
        return np.dtype(DTYPES[entry["dtype"]]), tuple(entry["shape"]), start + entry["data_offsets"][0], path

    def shape(self, name: str) -> tuple[int, ...]:
        return self._places[name][1]

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        return {name: shape for name, (_, shape, _, _) in self._places.items()}

    def dtype(self, name: str) -> np.dtype[Any]:
        return self._places[name][0]

    def __getitem__(self, name: str) -> NDArray[Any]:
        if name not in self._last:
            dtype, shape, start, path = self._places[name]
            if prod(shape) * dtype.itemsize > LARGEST_READ or name in self._differences:
                return self.mapped(name)
            self._last = {name: np.fromfile(path, dtype, prod(shape), offset=start).reshape(shape)}
        return self._last[name]

    def mapped(self, name: str) -> NDArray[Any]:
        """The array in its file, which cannot be written to; or the sum of an array and its difference."""
        array = map_array(self._places[name])
        return array + map_array(self._differences[name]) if name in self._differences else array

    def __contains__(self, name: object) -> bool:
        return name in self._places  # a mapping's own would read the array

    def __iter__(self) -> Iterator[str]:
        return iter(self._places)

    def __len__(self) -> int:
        return len(self._places)


def resembling(path: Path) -> str:
    """A question for a record beside this path whose name is nearly the same; "" if there is none."""
    records = [record.parent.name for record in path.absolute().parent.glob("*/record.json")]
    names = get_close_matches(path.name, records, n=1)
    return f"did you mean {path.with_name(names[0])}? " if names else ""


class Side:
    """One side of a comparison: what record.json says of it, and its arrays by their file and their name."""

    def __init__(self, path: Path) -> None:
        """Raises UnfitRecordsError for a folder that holds no record."""
        self.path, self.name = path, path.resolve().name or str(path)
        self.as_in_paddle = False  # whether epsilons of its norms are rounded as Paddle's are
        try:
            self.says = msgspec.json.decode(read_at_most(LARGEST_JSON, path / "record.json"), type=Description)
        except OSError as error:
            raise UnfitRecordsError(
                f"{path} holds no record: record.json {why(error)}; {resembling(path)}rosetta_record's "
                f"Record({str(path)!r}) makes one"
            ) from error
        except (RosettaError, msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise UnfitRecordsError(f"{path / 'record.json'} is not what rosetta_record writes: {error}") from error
        calls = [call for call in self.says.calls if not call.layer.startswith(OPERATOR)]
        self.says = msgspec.structs.replace(self.says, calls=calls)
        self._files: dict[str, Arrays] = {}
        self._largest: dict[str, float] = {}
        parts = {part for call in self.says.calls for part in (*call.parts, *call.inputs.values())}
        for file, named in (("weights", self.owners.keys() | self.says.weights.keys()), ("layers", parts)):
            missing = next((name for name in named if name not in self.arrays(file)), None)
            if missing is not None:
                raise UnfitRecordsError(
                    f"{path}: {file}.safetensors has no {missing}, which record.json names; record this side again"
                )
        for file, number in (self.says.files or {}).items():
            if len(self.arrays(file)) != number:
                raise UnfitRecordsError(
                    f"{path}: {file}.safetensors has {count(len(self.arrays(file)), 'array')}, and record.json "
                    f"says {number}; record this side again"
                )

    def arrays(self, file: str) -> Arrays:
        """The arrays of a file, none where the record has no such file."""
        if file not in self._files:
            name = f"{file}.safetensors"
            self._files[file] = Arrays(self.path / name, self.path / ROUNDED / name if self.as_in_paddle else None)
        return self._files[file]

    def weight(self, file: str, name: str) -> NDArray[Any] | None:
        """Array of a weight in a file: its values, its gradient or its values after a step; None where there is
        none."""
        found = self.key(file, name)
        return None if found is None else self.arrays(file)[found]

    def key(self, file: str, name: str) -> str | None:
        """The name under which a file has a weight. A tied one may stand under the first of its names alone."""
        tied = self.says.weights.get(name, RecordedWeight()).tied_to
        return next((key for key in (name, tied) if key is not None and key in self.arrays(file)), None)

    def once(self, file: str) -> list[str]:
        """The names of a file's arrays, of a tied weight the first of its names alone."""
        arrays, weights = self.arrays(file), self.says.weights
        return [name for name in arrays if name not in weights or weights[name].tied_to not in arrays]

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
        found: dict[str, list[RecordedCall]] = {}
        for call in self.says.calls:
            found.setdefault(call.layer, []).append(call)
        return found

    @cached_property
    def owners(self) -> dict[str, RecordedLayer]:
        """The layer of each weight."""
        return {name: layer for layer in self.says.layers for name in layer.own.values()}

    @property
    def framework(self) -> str:
        return self.says.framework.name

    @property
    def known(self) -> Framework:
        """All that is known of the framework."""
        return FRAMEWORKS[self.framework]

    @property
    def backend(self) -> str | None:
        """Keras's backend; None in other frameworks."""
        return self.says.framework.backend if self.framework == "keras" else None

    @property
    def float32_settings(self) -> tuple[str, ...]:
        """Settings of the optimizer of which the framework makes constants of float32 even in float64."""
        return self.known.float32_settings(self.backend).get(self.optimizer.kind, ())

    @property
    def precision(self) -> str:
        """Precision of the weights; float32 where no bounds are known for theirs."""
        return self.says.precision if self.says.precision in PRECISIONS else "float32"

    @property
    def mixed(self) -> str:
        """The precision of the weights, or a coarser one of automatic mixed precision."""
        return coarsest(self.precision, self.says.autocast)

    @cached_property
    def computed(self) -> str:
        """The coarsest precision in which anything was computed of weights, as far as outputs of layers show it."""
        return coarsest(self.mixed, *(dtype for _, dtype in self._types))

    @property
    def computed_by(self) -> list[str]:
        """The layers and taps that computed in this precision, if the weights are of a finer one."""
        coarse = [call.layer or "the model" for call, dtype in self._types if dtype == self.computed != self.mixed]
        return list(dict.fromkeys(coarse))

    @property
    def _types(self) -> Iterator[tuple[RecordedCall, str]]:
        """The types of outputs, but for those of which no weight or gradient is known."""
        for call in self.says.calls:
            yield from ((call, dtype) for part, dtype in enumerate(call.dtypes) if part not in call.outside)

    @cached_property
    def former_control(self) -> "Side | None":
        """The control as records of version 0.1.0 have it, in a folder."""
        return self._within("control")

    @cached_property
    def rounded(self) -> "Side | None":
        """This side as it trains with the epsilons of norms rounded to float32, as Paddle has them, where that was
        recorded. Records of version 0.1.0 have it as a record within them."""
        again, former = self.says.rounded, self._within(ROUNDED)
        if again is None and former is not None and former.says.calls == self.says.calls:
            again = RecordedAgain(former.says.loss, former.says.steps)
        changed = {file: Arrays(self.path / ROUNDED / f"{file}.safetensors").shapes for file in get_args(File)}
        if again is None or any(changed[file].items() - self.arrays(file).shapes.items() for file in changed):
            return None
        side = copy(self)
        side.as_in_paddle, side._files, side._largest = True, {}, {}
        side.says = msgspec.structs.replace(self.says, loss=again.loss, steps=again.steps)
        return side

    @cached_property
    def replay(self) -> "Side | None":
        """The replay, in which each layer computed after layers whose outputs were another record's; None without
        one."""
        return self._within("replay")

    def _within(self, name: str) -> "Side | None":
        return Side(self.path / name) if (self.path / name / "record.json").exists() else None

    @property
    def optimizer(self) -> RecordedOptimizer:
        """The optimizer; an empty one if none was recorded."""
        return self.says.optimizer or RecordedOptimizer()

    @cached_property
    def optimizer_settings(self) -> dict[str, Any]:
        """The optimizer's settings in canonical terms."""
        settings = self.known.settings_of_optimizer(self.optimizer.settings)
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
    def counters(self) -> list[int]:
        """Steps that the optimizer counts: none where it does not count, several where it counts those of each
        weight."""
        return self.optimizer.counters or sorted(self.known.counters(self.optimizer.settings, self.arrays("slots")))

    @property
    def outside(self) -> int:
        """Tensors that the optimizer trains and that are no weights of the model."""
        return self.optimizer.outside or sum(key is None for key in self.optimizer.keys.values())

    @property
    def place_of_epsilon(self) -> str | None:
        """Place of the optimizer's epsilon; None where it is not known."""
        return self.known.place_of_epsilon(self.optimizer.kind, self.optimizer.settings)

    @property
    def first_rate(self) -> Any:
        """The learning rate of the first step; None where it is not known."""
        return self.rates.get(1, self.optimizer_settings.get("learning_rate"))

    @cached_property
    def decay(self) -> float:
        """The share of itself by which weight decay moves a weight in the first step; 0 where none is known."""
        rate, decay = self.first_rate, self.optimizer_settings.get("weight_decay")
        known = isinstance(rate, int | float) and isinstance(decay, int | float)
        return abs(rate * decay) if known and isfinite(rate * decay) else 0.0

    @cached_property
    def rate_in_momentum(self) -> float:
        """Factor that this framework's momentum has in it, beside torch's."""
        sign, rate = self.known.rate_in_momentum.get(self.optimizer.kind), self.first_rate
        return sign * float(rate) if sign and isinstance(rate, int | float) and rate else 1.0

    @cached_property
    def slots(self) -> dict[str, dict[str, str]]:
        """For each weight the keys in slots.safetensors by the slot's canonical name."""
        found: dict[str, dict[str, str]] = {}
        for key in self.arrays("slots"):
            weight, _, slot = key.rpartition("|")
            canonical = self.known.slot(slot)
            if canonical:
                found.setdefault(weight, {})[canonical] = key
        return found

    def slot(self, key: str) -> NDArray[Any]:
        """An array of slots.safetensors; a momentum without the learning rate that this framework keeps in it."""
        array, rate = self.arrays("slots")[key], self.rate_in_momentum
        is_momentum = self.known.slot(key.rpartition("|")[2]) == "momentum"
        return array / rate if is_momentum and rate != 1 else array


def coarsest(*precisions: str | None) -> str:
    """The coarsest of these that bounds are known for."""
    return max((one for one in precisions if one and one in PRECISIONS), key=PRECISIONS.index)


def is_within(path: str, holder: str) -> bool:
    return not holder or path.startswith((f"{holder}.", f"{holder}/"))


def is_number(array: NDArray[Any]) -> bool:
    """True if the array holds floating-point numbers."""
    return bool(np.issubdtype(array.dtype, np.floating))
