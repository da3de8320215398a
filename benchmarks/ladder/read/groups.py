"""A record in canonical terms: groups of canonical tensors, made of a layer's own arrays by the tables of layouts.py.

A layer becomes one or several groups: a torch LSTM of two layers and two directions becomes four groups of a kernel,
a recurrent kernel and a bias.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from math import prod
from typing import Any

import numpy as np

from benchmarks.ladder.arrays import Array
from benchmarks.ladder.pair.arrangement import PARTS, ROWS, Arrangement, Layout, equal_spans, flat
from benchmarks.ladder.pair.mapping import axes_of
from benchmarks.ladder.read.layouts import (
    ALWAYS,
    COUNTERS,
    DIMENSIONS_OR_CELL,
    LAYERS,
    MEANINGS,
    RECURRENT,
    SETTINGS,
    TAP,
    Own,
    Rule,
    Shape,
)
from benchmarks.ladder.read.record import RecordedCall, RecordedLayer, RecordedWeight, Side, UnfitRecordsError

Read = Callable[[], Array]  # reads an array that is there
FURTHER = "output "  # what the names of a layer's outputs after the first begin with


@dataclass(frozen=True)
class Tensor:
    """A tensor that is compared: the sum of what each layout makes of a record's own arrays, which is `times` the
    other side's, plus `add`."""

    layouts: tuple[Layout, ...]
    times: float = 1.0
    add: float = 0.0

    @property
    def names(self) -> tuple[str, ...]:
        """Of the record's own arrays."""
        return tuple(name for layout in self.layouts for name in layout.own)

    @property
    def shape(self) -> Shape:
        return self.layouts[0].shape

    def array(self, side: Side, file: str) -> Array | None:
        """The tensor out of one of the record's files, in the other side's numbers; None where that lacks it. Of
        several arrays that are added up all have the same gradient, so one of them stands for them."""
        made = [_made(layout, partial(side.weight, file)) for layout in self.layouts]
        found = [array for array in made if array is not None]
        odd = [array for array in found if array.shape != self.shape]
        if odd or not found:
            return odd[0] if odd else None
        if file == "gradients":
            return found[0] if self.times == 1 else found[0] * self.times
        return replace(self, times=1 / self.times, add=-self.add / self.times).kept(sum(found[1:], found[0]))

    @property
    def scaled(self) -> bool:
        return (self.times, self.add) != (1.0, 0.0)

    def kept(self, array: Array) -> Array:
        """The other side's numbers as this side keeps them, rounded as `carry` writes them."""
        return array * array.dtype.type(self.times) + array.dtype.type(self.add) if self.scaled else array

    def slots(self, side: Side) -> dict[str, Read]:
        """The tensor's slots by canonical name. Of several arrays that are added up all have the same slots."""
        layout = self.layouts[0]
        keys = {name: side.slots.get(name, {}) for name in layout.own}

        def slot(name: str) -> Array:
            array = _made(layout, lambda own: side.slot(keys[own][name]))
            assert array is not None
            fits = array.shape == self.shape
            return array * self.times ** (2 if "square" in name else 1) if fits and self.times != 1 else array

        return {name: partial(slot, name) for name in keys[layout.own[0]] if all(name in of for of in keys.values())}


def _made(layout: Layout, read: Callable[[str], Array | None]) -> Array | None:
    """What a layout makes of arrays; None if one is missing. An array of another shape than the layout's, which no
    framework writes, is given as it is."""
    arrays: dict[str, Array] = {}
    for name in layout.own:
        array = read(name)
        if array is None:
            return None
        if array.shape != layout.shape_of(name):
            return array
        arrays[name] = array
    return layout.together(arrays)


def layout_of(own: Own, names: tuple[str, ...], shape: Shape) -> Layout:
    """How arrays of a shape, mostly one, become canonical. Raises UnfitRecordsError where one of this shape is not
    what the rule is of."""
    name = names[0]
    one, _, whole = own.axes.partition(" -> ")
    others = len(shape) - len(one.replace("...", "").split())
    place = one.split().index(PARTS) if own.parts > 1 else 0
    no_parts = own.parts > 1 and (others < 0 or not shape[place] or shape[place] % own.parts)
    if others < 0 or (others and "..." not in one) or no_parts:
        raise UnfitRecordsError(
            f"{name} has the shape {shape}, which is not that of a layer's {own.role}; a "
            "layer of your own is compared as it is where its class does not come from the framework's"
        )
    rest = " ".join(f"k{number}" for number in range(others))
    axes, canonical = (axes_of(pattern.replace("...", rest), name) for pattern in (one, whole or one))
    sizes, width, kept = dict(zip(flat(axes), shape, strict=True)), 1, [(0, len(names))]
    if own.parts > 1:
        width, spans = shape[place], equal_spans(shape[place], own.parts)
        kept = [spans[part] for part in own.kept]
    if own.parts > 1 or len(names) > 1:
        sizes[PARTS] = sum(end - first for first, end in kept)
    return Layout(names, axes, canonical, sizes, (width,) * len(names), tuple(kept))


@dataclass(frozen=True)
class WeightGroup:
    """Canonical tensors that belong together: those of a layer, or of one layer and direction of a stacked one."""

    side: Side
    kind: str
    layer: RecordedLayer
    part: str = ""
    tensors: Mapping[str, Tensor] = field(default_factory=dict)
    side_by_side: tuple[RecordedLayer, ...] = ()  # the layers whose outputs are arranged, the first included
    of_outputs: Layout | None = None  # how their outputs make one, by the names of their kernels
    alone: bool = False  # whether one layer's output is that of one on the other side, even if nothing arranges it
    in_turn: tuple[RecordedLayer, ...] = ()  # layers without weights whose calls, as they ran, are one layer's calls

    @property
    def name(self) -> str:
        if self.side_by_side:
            paths = [layer.path for layer in self.side_by_side]
            return " + ".join(paths if len(paths) < 5 else [*paths[:2], "…", paths[-1]])
        return f"{self.layer.path}:{self.part}" if self.part else self.layer.path

    @property
    def layers(self) -> tuple[RecordedLayer, ...]:
        return self.side_by_side or self.in_turn or (self.layer,)

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
    def signature(self) -> tuple[Any, ...]:
        """The shapes by which it is paired: those of all tensors but biases, which one side may lack. A tap is paired
        by its name, and a layer without weights has none."""
        if self.kind == TAP:
            return (self.name,)
        kernels = [shape for name, shape in self.shapes.items() if not name.endswith("bias")]
        return tuple(kernels or self.shapes.values())

    @cached_property
    def settings(self) -> dict[str, Any]:
        """The layer's settings in canonical terms."""
        return settings_of(self.side.framework, self.layer, self.kind)

    @property
    def recorded(self) -> list[RecordedCall]:
        """The calls of the layer, of the first of several side by side, or of all that are called in turn."""
        if not self.in_turn:
            return self.side.called.get(self.layer.path, [])
        paths = {layer.path for layer in self.in_turn}
        return [call for call in self.side.says.calls if call.layer in paths]

    @property
    def calls(self) -> list[list[str]]:
        """The names of the parts of the layer's output, call by call; of layers side by side their first parts."""
        if len(self.side_by_side) < 2:
            return [call.parts for call in self.recorded]
        of_layers = [self.side.called.get(layer.path, []) for layer in self.side_by_side]
        return [[one.parts[0] for one in call if one.parts] for call in zip(*of_layers, strict=False)]

    def has(self, name: str, file: str) -> bool:
        """Whether a file has any of what a tensor is made of."""
        own = self.tensors[name].names if name in self.tensors else ()
        return any(self.side.key(file, one) is not None for one in own)

    def tensor(self, name: str, file: str = "weights") -> Array | None:
        """A tensor out of one of the record's files."""
        return self.tensors[name].array(self.side, file) if name in self.tensors else None

    def slots(self, name: str) -> dict[str, Read]:
        """A tensor's slots by canonical name."""
        return self.tensors[name].slots(self.side) if name in self.tensors else {}

    def outputs(self, call: list[str]) -> dict[str, Read]:
        """Its outputs of one call by canonical name: of a recurrent layer `sequence`, `last` and `cell`; of others
        `output`, and `output 2` and so on where they give several arrays."""
        arrays = self.side.arrays("layers")
        names = [part for part in call if part in arrays]
        parts = [partial(arrays.__getitem__, part) for part in names]
        if not parts:
            return {}
        further = {f"{FURTHER}{number}": part for number, part in enumerate(parts[1:], 2)}
        if self.side_by_side:
            number = len(self.side_by_side)
            made = self._arranged_output(names[:number]) or ({"output": parts[0]} if self.alone else {})
            return made | further if made and number == 1 else made
        if self.kind in RECURRENT and self.tensors:
            if self.side.framework == "flax":
                parts = [parts[-1], *parts[-2::-1]]  # the states come first, a cell's before its output
                names = names[::-1]
            stacked = self.side.framework in ("torch", "paddle")
            found = self._stacked_outputs(parts) if stacked else self._keras_outputs(parts)
            has_sequence = len(self.side.shape(names[0], "layers")) == 3
            return {name: read for name, read in found.items() if has_sequence or name != "sequence"}
        first_of_own = self.kind == "parameters" and self.part == next(iter(self.layer.parameters))
        if self.part and self.part != "output" and not first_of_own:
            return {}
        width = next(iter(self.shapes.values()))[-1] if self.kind == "dense" and self.shapes else None
        return {"output": then(parts[0], lambda array: merged(array, width))} | further

    def _arranged_output(self, names: Sequence[str]) -> dict[str, Read]:
        """The outputs of several layers, arranged as their kernels are; nothing where they are of other sizes."""
        shapes = [self.side.shape(name, "layers") for name in names]
        lead = shapes[0][:-1]
        if self.of_outputs is None or len(names) != len(self.side_by_side):
            return {}
        layout = replace(self.of_outputs, sizes={**self.of_outputs.sizes, ROWS: prod(lead)})
        rows = {kernel: layout.shape_of(kernel) for kernel in layout.own}
        if any(shape != (*lead, wanted[-1]) for shape, wanted in zip(shapes, rows.values(), strict=True)):
            return {}
        arrays = self.side.arrays("layers")

        def output() -> Array:
            own = zip(rows.items(), names, strict=True)
            made = layout.together({kernel: arrays[name].reshape(wanted) for (kernel, wanted), name in own})
            return made.reshape(*lead, made.shape[-1])

        return {"output": output}

    def _stacked_outputs(self, parts: Sequence[Read]) -> dict[str, Read]:
        """Of torch's and Paddle's recurrent layers: the last layer's sequence, the directions side by side, and the
        last states (layers × directions, N, H). A cell gives its states alone."""
        states = ("last", "cell")[: 2 if self.kind == "lstm" else 1]
        if not self.part:
            return {"last": parts[0]} | ({"cell": parts[-1]} if len(states) == 2 else {})
        names = [role for role in self.layer.parameters if role.startswith("weight_ih_l")]
        number = names.index(f"weight_ih_{self.part}")
        directions = 1 + any(name.endswith("_reverse") for name in names)
        found = {}
        if number >= len(names) - directions:
            time_first = bool(self.settings.get("time_first"))
            batch_first = then(parts[0], lambda array: array.swapaxes(0, 1) if time_first else array)
            found["sequence"] = then(
                batch_first, lambda array: np.array_split(array, directions, -1)[number % directions]
            )
        for name, part in zip(states, parts[1:], strict=False):
            found[name] = then(
                part, lambda array: array[number] if array.ndim == 3 and number < len(array) else array
            )
        return found

    def _keras_outputs(self, parts: Sequence[Read]) -> dict[str, Read]:
        """Of Keras's and Flax's recurrent layers: the sequence (N, T, H) or the last output, and the last states
        where they were asked for. A layer that goes backwards gives its sequence in the order in which it went
        through it, unless it is one of Flax that keeps the order."""
        own = self.layer.settings
        kept = bool(own.get("reverse") and own.get("keep_order"))
        step = -1 if own.get("go_backwards") or own.get("reverse", kept) != kept else 1
        time_first = bool(self.settings.get("time_first"))
        sequence = then(parts[0], lambda array: array.swapaxes(0, 1) if time_first and array.ndim == 3 else array)
        last = 0 if kept else -1
        return {
            "sequence": then(sequence, lambda array: array[:, ::step]),
            "last": then(sequence, lambda array: array[:, last] if array.ndim == 3 and array.shape[1] else array),
        } | dict(zip(("last", "cell"), parts[1:], strict=False))


@dataclass(frozen=True)
class GroupPair:
    """Two groups that are to be the same."""

    left: WeightGroup
    right: WeightGroup
    found: str  # how: by a mapping, by kind, by value or by shape
    entry: Arrangement | None = None  # where the arrays' numbers or a mapping say how they belong together

    @property
    def name(self) -> str:
        return self.left.name

    @property
    def both(self) -> tuple[WeightGroup, WeightGroup]:
        return self.left, self.right

    def of_call(self, number: int) -> "GroupPair":
        """The pair of the two layers of a call, where layers are called in turn."""
        if not self.left.in_turn:
            return self
        layers = [{layer.path: layer for layer in group.in_turn} for group in self.both]
        left, right = (
            replace(group, layer=of_side[group.recorded[number].layer])
            for group, of_side in zip(self.both, layers, strict=True)
        )
        return replace(self, left=left, right=right)


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
    """The record's groups in order of execution; a layer that was not executed follows the one defined before it.
    Weights of no layer come last."""
    first = {path: place for place, path in enumerate(side.called)}
    parents = {above for layer in side.says.layers if layer.own for above in above_of(layer.path)}
    found, place = [], -1
    for layer in side.says.layers:
        place = first.get(layer.path, place)
        found += [(place, group) for group in _groups(side, layer, layer.path in parents)]
    return [group for _, group in sorted(found, key=lambda item: item[0])] + [
        replace(group, part="")
        for name in side.arrays("weights")
        if name not in side.owners and side.says.weights.get(name, RecordedWeight()).tied_to is None
        for group in _groups(side, RecordedLayer(name, [], parameters={"weight": name}), contains_weights=False)
    ]


def above_of(path: str) -> list[str]:
    """The paths of the layers that contain a layer, which has a path; that of the whole model may be empty."""
    return ["", *(path[: dot.start()] for dot in re.finditer("[./]", path))] if path else []


def _groups(side: Side, layer: RecordedLayer, contains_weights: bool) -> list[WeightGroup]:
    """The groups of one layer. What no rule claims is kept as it is, each weight a group of its own."""
    table = LAYERS[side.framework]
    names = [DIMENSIONS_OR_CELL.sub("", name) for name in layer.classes]
    rules = next((table[name] for name in names if name in table), ())
    rules = rules(layer.settings) if callable(rules) else (rules,) if isinstance(rules, Rule) else rules
    roles, claimed = layer.own, set(COUNTERS)
    found: list[WeightGroup] = []

    def tensor(owns: Sequence[Own], suffix: str) -> Tensor:
        """Of those arrays that the layer has."""
        made = []
        for own in owns:
            names = own.role.replace("*", suffix).split()
            if {*names} <= {*roles}:
                claimed.update(names)
                made.append(layout_of(own, tuple(roles[name] for name in names), side.shape(roles[names[0]])))
        return Tensor(tuple(made))

    for rule in rules:
        first = next(iter(rule.tensors.values()))
        start, star, _ = first[0].role.partition("*")
        for suffix in [role.removeprefix(start) for role in roles if role.startswith(start)] if star else [""]:
            if any({*own.role.replace("*", suffix).split()} <= {*roles} for own in first):
                tensors = {name: tensor(owns, suffix) for name, owns in rule.tensors.items()}
                tensors = {name: one for name, one in tensors.items() if one.layouts}
                found.append(WeightGroup(side, rule.kind, layer, rule.part or suffix.lstrip("_"), tensors))
    for role, name in roles.items():
        if role not in claimed:
            kind = "parameters" if role in layer.parameters else "buffers"
            as_it_is = layout_of(Own(role, "..."), (name,), side.shape(name))
            if side.shape(name) == (1,):  # one number, as () is
                as_it_is = replace(as_it_is, axes=((),), whole=(), sizes={})
            found.append(WeightGroup(side, kind, layer, role, {role: Tensor((as_it_is,))}))
    if not found and not contains_weights and layer.classes:
        found.append(WeightGroup(side, layer.classes[0].lower(), layer))
    return found
