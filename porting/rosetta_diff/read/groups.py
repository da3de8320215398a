"""A record in canonical terms: groups of canonical tensors,
made of a layer's own arrays by its framework's rules.

A layer becomes one or several groups: a torch LSTM of two layers and two directions becomes four
groups of a kernel, a recurrent kernel and a bias.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from math import prod
from typing import Any

from rosetta_diff.arrays import Array
from rosetta_diff.helpers import CannotBeginError
from rosetta_diff.read.base import Recurrent
from rosetta_diff.read.description import RecordedCall, RecordedLayer, RecordedWeight
from rosetta_diff.read.rules import COUNTERS, RECURRENT, TAP, Own
from rosetta_diff.read.side import Side
from rosetta_diff.read.view import (
    PARTS,
    Shape,
    Tensor,
    View,
    equal_spans,
    flat,
    parse_axes,
    plain,
    side_by_side,
    without_ones,
)

FURTHER = "output "  # what the names of a layer's outputs after the first begin with


def tensor_of(rule: Own, names: tuple[str, ...], shape: Shape) -> Tensor:
    """Return the tensor of arrays of a shape, mostly of one. Raises CannotBeginError where the
    shape does not fit the rule."""
    name = names[0]
    pattern, _, whole = rule.axes.partition(" -> ")
    rest = len(shape) - len(pattern.replace("...", "").split())
    place = pattern.split().index(PARTS) if rule.parts > 1 else 0
    no_parts = rule.parts > 1 and (rest < 0 or not shape[place] or shape[place] % rule.parts)
    if rest < 0 or (rest and "..." not in pattern) or no_parts:
        raise CannotBeginError(
            f"{name} has the shape {shape}, which is not that of a layer's {rule.role}; a "
            "layer of your own is compared as it is where its class does not come from the "
            "framework's"
        )
    spread = " ".join(f"k{number}" for number in range(rest))
    axes, canonical = (
        parse_axes(side.replace("...", spread), name) for side in (pattern, whole or pattern)
    )
    sizes, width, kept = dict(zip(flat(axes), shape, strict=True)), 1, [(0, len(names))]
    if rule.parts > 1:
        width, spans = shape[place], equal_spans(shape[place], rule.parts)
        kept = [spans[part] for part in rule.kept]
    views = side_by_side(names, axes, sizes, [width] * len(names), kept)
    return Tensor(
        (*(replace(view, picked={**view.picked, **rule.picked}) for view in views),), canonical
    )


@dataclass(frozen=True)
class Call:
    """A call of a layer, or one of each of several layers side by side."""

    recorded: tuple[RecordedCall, ...]
    number: int  # which of the layer's calls it is, from 0
    order: tuple[int, ...] = ()  # of the arrays of the output, if not as the layer gives them

    @property
    def parts(self) -> list[str]:
        """Names of the arrays of the output; of layers side by side the first one of each."""
        if len(self.recorded) == 1:
            parts = self.recorded[0].parts
            return [parts[place] for place in self.order] or parts
        return [call.parts[0] for call in self.recorded if call.parts]

    def in_order_of(self, like: "Call") -> "Call":
        """The call with its arrays in another call's order,
        where both outputs have the same keys."""
        names, others = self.recorded[0].names, like.recorded[0].names
        if sorted(names) != sorted(others) or len(names) != len(self.recorded[0].parts):
            return self
        return replace(self, order=tuple(map(names.index, others)))


@dataclass(frozen=True)
class WeightGroup:
    """Canonical tensors that belong together: those of a layer, or of one layer and direction of a
    stacked one; or several layers side by side, which together are one layer of the other side."""

    side: Side
    kind: str
    layers: tuple[RecordedLayer, ...]
    part: str = ""
    tensors: Mapping[str, Tensor] = field(default_factory=dict)

    @property
    def layer(self) -> RecordedLayer:
        """The only layer, or the first one."""
        return self.layers[0]

    @property
    def name(self) -> str:
        paths = [layer.path for layer in self.layers]
        name = " + ".join(paths if len(paths) < 5 else [*paths[:2], "…", paths[-1]])
        return f"{name}:{self.part}" if self.part else name

    @property
    def names(self) -> list[str]:
        """Names of the record's arrays."""
        return [name for tensor in self.tensors.values() for name in tensor.names]

    @cached_property
    def shapes(self) -> Mapping[str, Shape]:
        """Shapes of the canonical tensors."""
        return {name: tensor.shape for name, tensor in self.tensors.items()}

    @property
    def required(self) -> bool:
        """True for a group that must have a partner: it has weights that are trained."""
        weights = [self.side.says.weights.get(name, RecordedWeight()) for name in self.names]
        return self.kind != "buffers" and any(
            weight.trainable and weight.tied_to is None for weight in weights
        )

    @property
    def signature(self) -> tuple[Any, ...]:
        """The shapes by which it is paired: those of all tensors but biases, which one side may
        lack. A tap is paired by its name, and a layer without weights has none."""
        if self.kind == TAP:
            return (self.name,)
        kernels = [shape for name, shape in self.shapes.items() if not name.endswith("bias")]
        return tuple(kernels or self.shapes.values())

    @cached_property
    def settings(self) -> dict[str, Any]:
        """The layer's settings in canonical terms."""
        return self.side.framework.settings_of(self.layer.settings, self.kind)

    @property
    def activation(self) -> str:
        """Name of the activation in the layer, "linear" for none."""
        return self.side.framework.activation(self.kind, self.layer.settings)

    @property
    def channels_stand_first(self) -> bool:
        return self.side.framework.channels_stand_first(self.layer.settings)

    @property
    def calls(self) -> list[Call]:
        """The calls of its layers, as they ran."""
        of_layers = [self.side.called.get(layer.path, []) for layer in self.layers]
        return [
            Call(recorded, number) for number, recorded in enumerate(zip(*of_layers, strict=False))
        ]

    def tensor(self, name: str) -> Array | None:
        """The numbers of a tensor; None where the layer has no such tensor."""
        return values(self.side, self.tensors[name]) if name in self.tensors else None

    def outputs(self, call: Call) -> dict[str, Tensor]:
        """The layer's outputs of one call by canonical name: of a recurrent layer `sequence`,
        `last` and `cell`; of others `output`, and `output 2` and so on where they give several
        arrays; none of several layers."""
        arrays = self.side.arrays("layers")
        shapes = {part: arrays.shape(part) for part in call.parts if part in arrays}
        parts = [*map(self.part_of_call, shapes)]
        if not parts or len(self.layers) > 1:
            return {}
        if self.kind in RECURRENT and self.tensors:
            time_first = bool(self.settings.get("time_first"))
            layer = Recurrent(
                self.kind, self.part, [*self.layer.parameters], self.layer.settings, time_first
            )
            return self.side.framework.outputs(layer, [*shapes.items()])
        if self.part not in ("", "output", *[*self.layer.own][:1]):
            return {}
        width = (
            next(iter(self.shapes.values()))[-1] if self.kind == "dense" and self.shapes else None
        )
        further = {f"{FURTHER}{number}": part for number, part in enumerate(parts[1:], 2)}
        return {"output": merge(parts[0], width)} | further

    def shapes_of_call(self, call: Call) -> tuple[Shape, ...]:
        """The shapes of the arrays that a call gives."""
        return tuple(self.side.shape(part, "layers") for part in call.parts)

    def part_of_call(self, name: str) -> Tensor:
        """An array that a call of the layer is given, or gives."""
        shape = self.side.shape(name, "layers")
        return plain(
            name, shape, self.side.framework.name_axes(self.kind, self.layer.settings, len(shape))
        )

    def arranged_output(self, call: Call, kernels: Tensor) -> Tensor | None:
        """The outputs of the layers as one, arranged as their kernels' axis of outputs is; None
        where they are of other sizes."""
        arrays = self.side.arrays("layers")
        names = [part for part in call.parts if part in arrays][: len(self.layers)]
        if not names or not len(names) == len(kernels.names) == len(self.layers):
            return None
        lead = arrays.shape(names[0])[:-1]
        given = dict(zip(kernels.names, names, strict=True))
        rows = tuple((f"row{place}",) for place in range(len(lead)))
        sizes = dict(zip(flat(rows), lead, strict=True))
        views = []
        for view in kernels.views:
            name = given[view.array]
            views.append(View(name, (*rows, *view.axes), {**view.sizes, **sizes}, view.picked))
            if views[-1].shape != arrays.shape(name):
                return None
        return Tensor((*views,), (*rows, *kernels.axes))


def values(side: Side, tensor: Tensor, file: str = "weights") -> Array | None:
    """A tensor out of one of the record's files; None where the file lacks it. Of a sum's terms,
    which have one gradient, the first there stands for the others."""
    read = partial(side.weight, file)
    if file == "gradients":
        return next(
            (gradient for term in tensor.terms if (gradient := term.of(read)) is not None), None
        )
    return tensor.sum(read)


def merge(output: Tensor, width: int | None) -> Tensor:
    """An output whose last axes are those of heads, with these as one axis of this width."""
    for number in range(len(output.shape) - 1, 1, -1) if width else ():
        if prod(output.shape[-number:]) == width:
            return replace(output, axes=(*output.axes[:-number], (*flat(output.axes[-number:]),)))
    return output


def groups_of(side: Side) -> list[WeightGroup]:
    """The record's groups in order of execution; a layer that was not executed follows the one
    defined before it. Weights of no layer come last."""
    first = {path: place for place, path in enumerate(side.called)}
    parents = {above for layer in side.says.layers if layer.own for above in above_of(layer.path)}
    placed, place = [], -1
    for layer in side.says.layers:
        place = first.get(layer.path, place)
        placed += [(place, group) for group in _groups(side, layer, layer.path in parents)]
    return [group for _, group in sorted(placed, key=lambda item: item[0])] + [
        replace(group, part="")
        for name in side.arrays("weights")
        if name not in side.owners and side.says.weights.get(name, RecordedWeight()).tied_to is None
        for group in _groups(
            side, RecordedLayer(name, [], parameters={"weight": name}), contains_weights=False
        )
    ]


def above_of(path: str) -> list[str]:
    """The paths of the layers that contain a layer, which has a path;
    that of the whole model may be empty."""
    return ["", *(path[: dot.start()] for dot in re.finditer("[./]", path))] if path else []


def _groups(side: Side, layer: RecordedLayer, contains_weights: bool) -> list[WeightGroup]:
    """The groups of one layer. What no rule claims is kept as it is,
    each weight a group of its own."""
    rules = side.framework.rules(layer.classes, layer.settings)
    roles, claimed = layer.own, set(COUNTERS)
    groups: list[WeightGroup] = []

    def tensor(owns: Sequence[Own], suffix: str) -> Tensor | None:
        """The tensor of those arrays that the layer has; None where it has none."""
        terms = []
        for array in owns:
            names = array.role.replace("*", suffix).split()
            if {*names} <= {*roles}:
                claimed.update(names)
                terms.append(
                    tensor_of(
                        array, tuple(roles[name] for name in names), side.shape(roles[names[0]])
                    )
                )
        if odd := next((term for term in terms[1:] if term.shape != terms[0].shape), None):
            raise CannotBeginError(
                f"{terms[0].names[0]} has the shape {terms[0].shape} and {odd.names[0]} "
                f"{odd.shape}, expected one shape, since their sum is compared"
            )
        return replace(terms[0], added=tuple(terms[1:])) if terms else None

    for rule in rules:
        first = next(iter(rule.tensors.values()))
        start, star, _ = first[0].role.partition("*")
        for suffix in (
            [role.removeprefix(start) for role in roles if role.startswith(start)] if star else [""]
        ):
            if any({*array.role.replace("*", suffix).split()} <= {*roles} for array in first):
                of_rule = {name: tensor(owns, suffix) for name, owns in rule.tensors.items()}
                tensors = {
                    name: made_tensor
                    for name, made_tensor in of_rule.items()
                    if made_tensor is not None
                }
                groups.append(
                    WeightGroup(side, rule.kind, (layer,), rule.part or suffix.lstrip("_"), tensors)
                )
    for role, name in roles.items():
        if role not in claimed:
            kind = "parameters" if role in layer.parameters else "buffers"
            groups.append(
                WeightGroup(
                    side, kind, (layer,), role, {role: without_ones(name, side.shape(name))}
                )
            )
    if not groups and not contains_weights and layer.classes:
        groups.append(WeightGroup(side, layer.classes[0].lower(), (layer,)))
    return groups
