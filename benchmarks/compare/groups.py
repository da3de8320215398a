"""A record in canonical terms: groups of canonical tensors, made of a layer's own arrays by the tables of layouts.py.

A layer becomes one or several groups: a torch LSTM of two layers and two directions becomes four groups of a kernel,
a recurrent kernel and a bias.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from typing import Any

import numpy as np

from benchmarks.compare.arrangement import Arrangement
from benchmarks.compare.comparer import Array
from benchmarks.compare.layouts import (
    ALWAYS,
    COUNTERS,
    DIMENSIONS_OR_CELL,
    LAYERS,
    MEANINGS,
    RECURRENT,
    SETTINGS,
    Own,
    Rule,
    Shape,
)
from benchmarks.compare.record import RecordedLayer, RecordedWeight, Side, UnfitRecordsError

Read = Callable[[], Array]  # reads an array that is there


@dataclass(frozen=True)
class Source:
    """One of a record's arrays, of which a canonical tensor is made."""

    name: str  # in weights.safetensors
    own: Own
    shape: Shape  # of the whole array

    @property
    def canonical_shape(self) -> Shape:
        """Raises UnfitRecordsError where an array of this shape cannot be what the rule takes it for."""
        parts, blocks = self.own.part[1], len(self.own.gates) or 1
        if len(self.shape) >= self.own.least and (parts == 1 or self.shape[0] % parts == 0):
            shape = self._view(np.broadcast_to(0.0, self.shape)).shape
            if blocks == 1 or shape[-1] % blocks == 0:
                return shape
        raise UnfitRecordsError(
            f"{self.name} has the shape {self.shape}, which is not that of a layer's {self.own.role}; a "
            "layer of your own is compared as it is where its class does not come from the framework's"
        )

    def canonical(self, array: Array) -> Array:
        """The canonical array; a view wherever no gates change places. One of another shape than the weight's, which
        no framework writes, is left as it is."""
        return with_gates(self._view(array), self.own.gates) if array.shape == self.shape else array

    def put(self, whole: Array, canonical: Array) -> None:
        """Write a canonical array into the framework's own, or into its part of it."""
        self._view(whole)[...] = with_gates(canonical, tuple(np.argsort(self.own.gates)))

    def _view(self, array: Array) -> Array:
        """The framework's own array as the canonical one, but for the order of gates; never a copy."""
        number, parts = self.own.part
        if parts > 1:
            array = array.reshape(parts, len(array) // parts, *array.shape[1:])[number]
        if self.own.transposed:
            array = array.transpose(*range(2, array.ndim), 1, 0)
        if self.own.axes:
            array = array.transpose(self.own.axes)
        return array.reshape(self.own.shape(array.shape)) if self.own.shape else array


def with_gates(array: Array, order: tuple[int, ...]) -> Array:
    """The array with the equal blocks of its last axis in another order."""
    if not order:
        return array
    blocks = array.reshape(*array.shape[:-1], len(order), -1)
    return blocks[..., list(order), :].reshape(array.shape)


class Tensor(ABC):
    """A tensor that is compared, made of a record's own arrays."""

    names: tuple[str, ...]  # of these arrays, in weights.safetensors
    shape: Shape

    @abstractmethod
    def array(self, side: Side, file: str) -> Array | None:
        """The tensor out of one of the record's files; None where that lacks it."""

    @abstractmethod
    def slots(self, side: Side) -> dict[str, Read]:
        """The tensor's slots by canonical name."""


@dataclass(frozen=True)
class Canonical(Tensor):
    """A tensor in the canonical layout, as the tables of layouts.py have it: the sum of one or several arrays."""

    sources: tuple[Source, ...]

    @property
    def names(self) -> tuple[str, ...]:  # type: ignore[override]
        return tuple(source.name for source in self.sources)

    @property
    def shape(self) -> Shape:  # type: ignore[override]
        return self.sources[0].canonical_shape

    def array(self, side: Side, file: str) -> Array | None:
        """Of several arrays that are added up all have the same gradient, so one of them stands for them."""
        found = [(source, side.weight(file, source.name)) for source in self.sources]
        arrays = [source.canonical(array) for source, array in found if array is not None]
        odd = [array for array in arrays if array.shape != self.shape]
        if odd or not arrays:
            return odd[0] if odd else None
        return sum(arrays[1:], arrays[0]) if file != "gradients" else arrays[0]

    def slots(self, side: Side) -> dict[str, Read]:
        """Of several arrays that are added up all have the same slots."""
        source = self.sources[0]
        return {
            slot: then(partial(side.slot, key), source.canonical)
            for slot, key in side.slots.get(source.name, {}).items()
        }


@dataclass(frozen=True)
class Arranged(Tensor):
    """A tensor of which an entry of a mapping says how it is made on both sides, in the left side's numbers."""

    entry: Arrangement
    is_left: bool

    @property
    def names(self) -> tuple[str, ...]:  # type: ignore[override]
        return tuple((self.entry.left if self.is_left else self.entry.right).own)

    @property
    def shape(self) -> Shape:  # type: ignore[override]
        return self.entry.shape

    def array(self, side: Side, file: str) -> Array | None:
        found = {name: side.weight(file, name) for name in self.names}
        arrays = {name: array for name, array in found.items() if array is not None}
        odd = [array for name, array in arrays.items() if array.shape != side.shape(name)]
        if odd or len(arrays) < len(found):
            return odd[0] if odd else None
        power = 1 if file == "gradients" else -1
        return self._in_left_numbers(arrays, power, 0.0 if file == "gradients" else self.entry.add)

    def slots(self, side: Side) -> dict[str, Read]:
        of = [side.slots.get(name, {}) for name in self.names]
        return {
            slot: partial(self._slot, side, slot, [slots[slot] for slots in of])
            for slot in of[0]
            if all(slot in slots for slots in of)
        }

    def _slot(self, side: Side, slot: str, keys: Sequence[str]) -> Array:
        arrays = dict(zip(self.names, map(side.slot, keys), strict=True))
        odd = [array for name, array in arrays.items() if array.shape != side.shape(name)]
        if odd:
            return odd[0]
        return self._in_left_numbers(arrays, 2 if "square" in slot else 1, 0.0)

    def _in_left_numbers(self, arrays: Mapping[str, Array], power: int, add: float) -> Array:
        """The arrays side by side. A right weight is `times` the left one, so its gradient is that part of it."""
        if self.is_left:
            return self.entry.from_left(arrays.__getitem__)
        array = self.entry.from_right(arrays.__getitem__)
        return array if self.entry.times == 1 and not add else (array - add) * self.entry.times**power


@dataclass(frozen=True)
class WeightGroup:
    """Canonical tensors that belong together: those of a layer, or of one layer and direction of a stacked one."""

    side: Side
    kind: str
    layer: RecordedLayer
    part: str = ""
    tensors: Mapping[str, Tensor] = field(default_factory=dict)
    place: int = 0  # the number of groups with weights before it, in order of execution
    side_by_side: tuple[RecordedLayer, ...] = ()  # the layers whose outputs an entry arranges, the first included

    @property
    def name(self) -> str:
        if self.side_by_side:
            paths = [layer.path for layer in self.side_by_side]
            return " + ".join(paths if len(paths) < 5 else [*paths[:2], "…", paths[-1]])
        return f"{self.layer.path}:{self.part}" if self.part else self.layer.path

    @property
    def layers(self) -> tuple[RecordedLayer, ...]:
        return self.side_by_side or (self.layer,)

    @property
    def names(self) -> list[str]:
        """Of the record's own arrays."""
        return [name for tensor in self.tensors.values() for name in tensor.names]

    @cached_property
    def shapes(self) -> Mapping[str, Shape]:
        """Those of the canonical tensors."""
        return {name: tensor.shape for name, tensor in self.tensors.items()}

    @property
    def required(self) -> bool:
        """Whether it must have a partner: it has weights that are trained."""
        weights = [self.side.says.weights.get(name, RecordedWeight()) for name in self.names]
        return self.kind != "buffers" and any(weight.trainable and weight.tied_to is None for weight in weights)

    @property
    def signature(self) -> tuple[Shape, ...]:
        """The shapes by which it is paired: those of all tensors but biases, which one side may lack. A layer without
        weights, such as a dropout, is paired by its place among those with weights."""
        if not self.tensors:
            return ((self.place,),)
        kernels = [shape for name, shape in self.shapes.items() if not name.endswith("bias")]
        return tuple(kernels or self.shapes.values())

    @cached_property
    def settings(self) -> dict[str, Any]:
        """The layer's settings in canonical terms."""
        return settings_of(self.side.framework, self.layer, self.kind)

    @property
    def calls(self) -> list[list[str]]:
        """The names of the parts of the layer's output, call by call; of layers side by side their first parts."""
        if not self.side_by_side:
            return self.side.calls.get(self.layer.path, [])
        of_layers = [self.side.calls.get(layer.path, []) for layer in self.side_by_side]
        return [[parts[0] for parts in call if parts] for call in zip(*of_layers, strict=False)]

    def has(self, name: str, file: str) -> bool:
        """Whether a file has any of what a tensor is made of."""
        return name in self.tensors and any(self.side.has(file, own) for own in self.tensors[name].names)

    def tensor(self, name: str, file: str = "weights") -> Array | None:
        """A tensor out of one of the record's files."""
        return self.tensors[name].array(self.side, file) if name in self.tensors else None

    def slots(self, name: str) -> dict[str, Read]:
        """A tensor's slots by canonical name."""
        return self.tensors[name].slots(self.side) if name in self.tensors else {}

    def outputs(self, call: list[str]) -> dict[str, Read]:
        """Its outputs of one call by canonical name: of a recurrent layer `sequence`, `last` and `cell`."""
        arrays = self.side.arrays("layers")
        names = [part for part in call if part in arrays]
        parts = [partial(arrays.__getitem__, part) for part in names]
        if not parts:
            return {}
        if self.side_by_side:
            return self._outputs_side_by_side(names)
        if self.kind in RECURRENT and self.tensors:
            by_keras = self.side.framework in ("keras", "arrays")
            found = self._keras_outputs(parts) if by_keras else self._stacked_outputs(parts)
            has_sequence = len(self.side.shape(names[0], "layers")) == 3
            return {name: read for name, read in found.items() if has_sequence or name != "sequence"}
        first_of_own = self.kind == "parameters" and self.part == next(iter(self.layer.parameters))
        if self.part and self.part != "output" and not first_of_own:
            return {}
        width = next(iter(self.shapes.values()))[-1] if self.kind == "dense" and self.shapes else None
        return {"output": then(parts[0], lambda array: merged(array, width))}

    def _outputs_side_by_side(self, names: list[str]) -> dict[str, Read]:
        """The outputs of several layers, arranged as their kernels are."""
        (tensor,) = self.tensors.values()
        if not isinstance(tensor, Arranged) or len(names) != len(self.side_by_side):
            return {}
        arrays, shapes = self.side.arrays("layers"), [self.side.shape(name, "layers") for name in names]
        try:
            entry = tensor.entry.of_outputs(shapes, tensor.is_left)
        except ValueError:
            return {}
        if entry is None:
            return {"output": partial(arrays.__getitem__, names[0])}
        part_of = dict(zip(tensor.names, names, strict=True))

        def read(name: str) -> Array:
            array = arrays[part_of[name]]
            return array.reshape(-1, array.shape[-1])

        def whole() -> Array:
            made = entry.from_left(read) if tensor.is_left else entry.from_right(read)
            return made.reshape(*shapes[0][:-1], made.shape[-1])

        return {"output": whole}

    def _stacked_outputs(self, parts: Sequence[Read]) -> dict[str, Read]:
        """Of torch's and Paddle's recurrent layers: the last layer's sequence, the directions side by side, and the
        last states (layers × directions, N, H). A cell gives its states alone."""
        states = ("last", "cell")[: 2 if self.kind == "lstm" else 1]
        if not self.part:
            return {"last": parts[0]} | ({"cell": parts[-1]} if len(states) == 2 else {})
        names = [role for role in self.layer.parameters if role.startswith("weight_ih_l")]
        number, units = names.index(f"weight_ih_{self.part}"), self.shapes["recurrent_kernel"][0]
        directions = 1 + any(name.endswith("_reverse") for name in names)
        first = number % directions * units
        found = {}
        if number >= len(names) - directions:
            time_first = bool(self.settings.get("time_first"))
            batch_first = then(parts[0], lambda array: array.swapaxes(0, 1) if time_first else array)
            found["sequence"] = then(batch_first, lambda array: array[..., first : first + units])
        for name, part in zip(states, parts[1:], strict=False):
            found[name] = then(
                part, lambda array: array[number] if array.ndim == 3 and number < len(array) else array
            )
        return found

    def _keras_outputs(self, parts: Sequence[Read]) -> dict[str, Read]:
        """Of Keras's recurrent layers: the sequence (N, T, H) or the last output, and the last states where they were
        asked for. A layer that goes backwards gives its sequence in the order in which it went through it."""
        step = -1 if self.layer.settings.get("go_backwards") else 1
        return {
            "sequence": then(parts[0], lambda array: array[:, ::step]),
            "last": then(parts[0], lambda array: array[:, -1] if array.ndim == 3 and array.shape[1] else array),
        } | dict(zip(("last", "cell"), parts[1:], strict=False))


@dataclass(frozen=True)
class GroupPair:
    """Two groups that are to be the same."""

    left: WeightGroup
    right: WeightGroup
    found: str  # how: by a mapping, by kind, by value or by shape

    @property
    def name(self) -> str:
        return self.left.name

    @property
    def both(self) -> tuple[WeightGroup, WeightGroup]:
        return self.left, self.right


def then(read: Read, change: Callable[[Array], Array]) -> Read:
    return lambda: change(read())


def merged(array: Array, width: int | None) -> Array:
    """An output whose last axes are those of heads, as one axis of this width."""
    for axes in range(array.ndim - 1, 1, -1) if width else ():
        if int(np.prod(array.shape[-axes:])) == width:
            return array.reshape(*array.shape[:-axes], width)
    return array


def settings_of(framework: str, layer: RecordedLayer, kind: str = "") -> dict[str, Any]:
    """A layer's settings in canonical terms, with those that all of the framework's layers of its kind have."""
    found = dict(ALWAYS[framework].get(kind, {}))
    for own, name in SETTINGS[framework].items():
        if own in layer.settings:
            value, meaning = layer.settings[own], MEANINGS.get((framework, own))
            try:
                found[name] = meaning(value) if meaning else value
            except TypeError:  # somebody's own meaning of the name
                continue
    return found


def groups_of(side: Side) -> list[WeightGroup]:
    """The record's groups in order of execution; a layer that was not executed follows the one defined before it."""
    first = {path: place for place, path in enumerate(side.calls)}
    parents = {layer.path.rpartition(dot)[0] for layer in side.says.layers for dot in "./"}
    found, place = [], -1
    for layer in side.says.layers:
        place = first.get(layer.path, place)
        found += [(place, group) for group in _groups(side, layer, layer.path in parents)]
    in_order, count = [], 0
    for _, group in sorted(found, key=lambda item: item[0]):
        in_order.append(replace(group, place=count))
        count += bool(group.tensors)
    return in_order


def _groups(side: Side, layer: RecordedLayer, contains_layers: bool) -> list[WeightGroup]:
    """The groups of one layer. What no rule claims is kept as it is, each weight a group of its own."""
    table = LAYERS[side.framework]
    names = [DIMENSIONS_OR_CELL.sub("", name) for name in layer.classes]
    rules = next((table[name] for name in names if name in table), ())
    rules = rules(layer.settings) if callable(rules) else (rules,) if isinstance(rules, Rule) else rules
    roles = {**layer.parameters, **layer.buffers}
    found: list[WeightGroup] = []
    claimed = set(COUNTERS)

    def claim(kind: str, part: str, tensors: Mapping[str, Sequence[Own]]) -> None:
        """Make a group of those arrays that the layer has, if it has the first tensor."""
        sources = {
            name: tuple(Source(roles[o.role], o, side.shape(roles[o.role])) for o in owns if o.role in roles)
            for name, owns in tensors.items()
        }
        if next(iter(sources.values())):
            claimed.update(own.role for owns in tensors.values() for own in owns)
            there = {name: Canonical(of) for name, of in sources.items() if of}
            found.append(WeightGroup(side, kind, layer, part, there))
            found[-1].shapes  # noqa: B018 (which refuses arrays of the wrong shape)

    for each in rules:
        start, star, _ = next(iter(each.tensors.values()))[0].role.partition("*")
        for suffix in [role.removeprefix(start) for role in roles if role.startswith(start)] if star else [""]:
            own = {n: [replace(o, role=o.role.replace("*", suffix)) for o in of] for n, of in each.tensors.items()}
            claim(each.kind, each.part or suffix.lstrip("_"), own)
    for role in [role for role in roles if role not in claimed]:
        claim("parameters" if role in layer.parameters else "buffers", role, {role: [Own(role, least=0)]})
    if not found and not contains_layers and layer.classes:
        found.append(WeightGroup(side, layer.classes[0].lower(), layer))
    return found
