"""One side of a comparison in canonical terms: its tensors, slots, settings and outputs."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any

import numpy as np

from benchmarks.porting import layouts
from benchmarks.porting.layouts import RECURRENT, Array, Group, Source
from benchmarks.porting.record import Record

Load = Callable[[], Array]  # reads an array when it is needed


@dataclass
class Side:
    """A record in canonical terms."""

    record: Record

    def tensor(self, group: Group, name: str, file: str) -> Array | None:
        """A canonical tensor out of one of the record's files. Of several arrays that are added up all have the same
        gradient and the same slots, so one of them stands for them."""
        found = [(source, self.record.weight(file, source.name)) for source in group.tensors.get(name, ())]
        arrays = [canonical(source, array) for source, array in found if array is not None]
        odd = [array for array in arrays if array.shape != group.shapes[name]]
        if odd or not arrays:
            return odd[0] if odd else None
        return sum(arrays[1:], arrays[0]) if file != "gradients" else arrays[0]

    def has(self, group: Group, name: str, file: str) -> bool:
        """Whether a file has any of what a canonical tensor is made of."""
        return any(self.record.has(file, source.name) for source in group.tensors.get(name, ()))

    def slots(self, group: Group, name: str) -> dict[str, Load]:
        """A tensor's slots by canonical name."""
        framework = self.record.says.framework.name
        found: dict[str, Load] = {}
        for source in group.tensors.get(name, ())[:1]:
            for own, key in self._slots_of.get(source.name, {}).items():
                canonical_name = layouts.SLOTS[framework].get(own)
                if canonical_name:
                    found[canonical_name] = partial(self._slot, source, key, canonical_name)
        return found

    def _slot(self, source: Source, key: str, name: str) -> Array:
        array = canonical(source, self.record.arrays("slots")[key])
        return array / self._rate_in_momentum if name == "momentum" and self._rate_in_momentum != 1 else array

    @cached_property
    def _slots_of(self) -> dict[str, dict[str, str]]:
        """For each weight the keys in slots.safetensors, by the slot's name without the number that Paddle adds."""
        found: dict[str, dict[str, str]] = {}
        for key in self.record.arrays("slots"):
            weight, _, slot = key.rpartition("|")
            found.setdefault(weight, {})[slot.removesuffix("_0")] = key
        return found

    @cached_property
    def _rate_in_momentum(self) -> float:
        sign = layouts.RATE_IN_MOMENTUM.get(self.optimizer_class)
        rate = self.optimizer_settings.get("learning_rate")
        return sign * float(rate) if sign and isinstance(rate, int | float) and rate else 1.0

    @property
    def optimizer_class(self) -> tuple[str, str]:
        """The framework, and the class of the optimizer; "" if none was recorded."""
        optimizer = self.record.says.optimizer
        return self.record.says.framework.name, optimizer.kind if optimizer else ""

    @cached_property
    def optimizer_settings(self) -> dict[str, Any]:
        """The optimizer's settings in canonical terms."""
        optimizer = self.record.says.optimizer
        if optimizer is None:
            return {}
        table = layouts.OPTIMIZERS[self.record.says.framework.name]
        found = {table[own]: value for own, value in optimizer.settings.items() if own in table}
        betas = optimizer.settings.get("betas")
        return found | (dict(zip(("beta_1", "beta_2"), betas, strict=False)) if isinstance(betas, list) else {})

    @property
    def coarse_layers(self) -> list[str]:
        """Paths of the layers that the framework computes with constants of float32."""
        coarse = layouts.FLOAT32_LAYERS.get(self.record.platform, set())
        return [
            layer.path for layer in self.record.says.layers
            if coarse & {*layer.classes, str(layer.settings.get("activation"))}
        ]  # fmt: skip

    def settings(self, group: Group) -> dict[str, Any]:
        """A layer's settings in canonical terms."""
        framework = self.record.says.framework.name
        found = dict(layouts.ALWAYS[framework].get(group.kind, {}))
        for own, name in layouts.SETTINGS[framework].items():
            if own in group.layer.settings:
                value, meaning = group.layer.settings[own], layouts.MEANINGS.get((framework, own))
                try:
                    found[name] = meaning(value) if meaning else value
                except TypeError:  # somebody's own meaning of the name
                    continue
        return found

    def outputs(self, group: Group, call: list[str]) -> dict[str, Load]:
        """A group's outputs of one call by canonical name: of a recurrent layer `sequence`, `last` and `cell`."""
        arrays = self.record.arrays("layers")
        parts = [partial(arrays.__getitem__, part) for part in call if part in arrays]
        if not parts:
            return {}
        if group.kind in RECURRENT and group.tensors:
            has_sequence = len(self.record.shape(next(part for part in call if part in arrays), "layers")) == 3
            if self.record.says.framework.name in ("keras", "arrays"):
                found = keras_outputs(group, parts)
            else:
                found = stacked_outputs(group, parts, bool(self.settings(group).get("time_first")))
            return {name: load for name, load in found.items() if has_sequence or name != "sequence"}
        if group.part and group.part != "output":
            return {}
        width = next(iter(group.shapes.values()))[-1] if group.kind == "dense" and group.shapes else None
        return {"output": then(parts[0], lambda array: merged(array, width))}


def canonical(source: Source, array: Array) -> Array:
    """The canonical array. One of another shape than the weight's, which no framework writes, is left as it is."""
    return source.canonical(array) if array.shape == source.shape else array


def then(load: Load, change: Callable[[Array], Array]) -> Load:
    return lambda: change(load())


def merged(array: Array, width: int | None) -> Array:
    """An output whose last axes are those of heads, as one axis of this width."""
    for axes in range(array.ndim - 1, 1, -1) if width else ():
        if int(np.prod(array.shape[-axes:])) == width:
            return array.reshape(*array.shape[:-axes], width)
    return array


def stacked_outputs(group: Group, parts: Sequence[Load], time_first: bool) -> dict[str, Load]:
    """Of torch's and Paddle's recurrent layers: the last layer's sequence, the directions side by side, and the last
    states (layers × directions, N, H). A cell gives its states alone."""
    states = ("last", "cell")[: 2 if group.kind == "lstm" else 1]
    if not group.part:
        return {"last": parts[0]} | ({"cell": parts[-1]} if len(states) == 2 else {})
    names = [role for role in group.layer.parameters if role.startswith("weight_ih_l")]
    number, units = names.index(f"weight_ih_{group.part}"), group.shapes["recurrent_kernel"][0]
    directions = 1 + any(name.endswith("_reverse") for name in names)
    first = number % directions * units
    found = {}
    if number >= len(names) - directions:
        batch_first = then(parts[0], lambda array: array.swapaxes(0, 1) if time_first else array)
        found["sequence"] = then(batch_first, lambda array: array[..., first : first + units])
    for name, part in zip(states, parts[1:], strict=False):
        found[name] = then(part, lambda array: array[number] if array.ndim == 3 and number < len(array) else array)
    return found


def keras_outputs(group: Group, parts: Sequence[Load]) -> dict[str, Load]:
    """Of Keras's recurrent layers: the sequence (N, T, H) or the last output, and the last states where they were
    asked for. A layer that goes backwards gives its sequence in the order in which it went through it."""
    step = -1 if group.layer.settings.get("go_backwards") else 1
    return {
        "sequence": then(parts[0], lambda array: array[:, ::step]),
        "last": then(parts[0], lambda array: array[:, -1] if array.ndim == 3 and array.shape[1] else array),
    } | dict(zip(("last", "cell"), parts[1:], strict=False))
