"""Weights, layers, and calls of layers that belong together."""

from collections.abc import Collection, Iterator, Mapping, MutableMapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import NamedTuple

import numpy as np

from rosetta_diff.arrays import Array
from rosetta_diff.read.groups import FURTHER, Call, WeightGroup, values
from rosetta_diff.read.view import PARTS, Axes, Read, Shape, Tensor, flat

Names = tuple[str, ...]
Tensors = Mapping[str, Tensor]


@dataclass(frozen=True)
class Arrangement:
    """A line of [weights]: arrays of both sides that hold the same numbers
    in another arrangement."""

    names: tuple[Names, Names]  # of the left and of the right arrays
    axes: tuple[Axes, Axes]  # of each of the left arrays, and of the right ones
    sizes: Mapping[str, int]  # of all axes


@dataclass(frozen=True)
class TensorPair:
    """Tensors that belong together, with their axes in one order: weights,
    or what layers and models are given or give.

    The right numbers are `times` the left ones, plus `add`. Both tensors have one arrangement: the
    canonical one, or in a line that of the side which has one array alone.
    """

    left: Tensor
    right: Tensor
    times: float = 1.0
    add: float = 0.0
    how: str = "kind"  # by a mapping, by kind, by name, by order, by value or by shape
    # That says how they belong together, in place of the rules of frameworks.
    line: Arrangement | None = None
    turn: str = ""  # how the right axes stand otherwise, in words, where a mapping says it

    @property
    def fit(self) -> bool:
        return self.left.shape == self.right.shape

    @property
    def both(self) -> tuple[Tensor, Tensor]:
        return self.left, self.right

    @property
    def is_scaled(self) -> bool:
        return (self.times, self.add) != (1.0, 0.0)

    def exchange(self) -> "TensorPair":
        """The pair of a line with left and right in each other's place."""
        assert self.line
        line = replace(self.line, names=self.line.names[::-1], axes=self.line.axes[::-1])
        return TensorPair(
            self.right, self.left, 1 / self.times, -self.add / self.times, self.how, line
        )

    def from_left(self, array: Array) -> Array:
        """Left numbers in the right side's scale, rounded as `carry` writes them."""
        return scale(array, self.times, self.add)

    def to_left(self, array: Array) -> Array:
        """Right numbers in the left side's scale."""
        return scale(array, 1 / self.times, -self.add / self.times)

    def of_outputs(self) -> tuple[Tensor, Tensor] | None:
        """The outputs of the layers whose kernels these are, as one: the last axis of each is
        arranged as the kernels' axis of outputs. None where the kernels have no such axis."""
        if self.line is None:
            return None
        several = PARTS in flat(self.line.axes[0])
        groups = [
            [group for group in axes if PARTS in group or (len(group) > 1 and not several)]
            for axes in self.line.axes
        ]
        if [len(of_side) for of_side in groups] != [1, 1] or {*groups[0][0]} != {*groups[1][0]}:
            return None
        (left,), (right,) = groups
        whole = left if left in self.left.axes else right
        return _along(self.left, left, whole), _along(self.right, right, whole)

    def move(
        self, source: Read, target: MutableMapping[str, Array], like: Read, are_weights: bool = True
    ) -> None:
        """Write the left tensor into the right one's arrays in `target`, where an array begins as
        `like` has it. Of weights the first term is the sum where the sides have other numbers of
        terms, and the rest are zeros; gradients are the same for all terms. Nothing is written
        where the source lacks the arrays. Raises ValueError with the left shape where it is not the
        right one's."""
        arrays = [array for term in self.left.terms if (array := term.of(source)) is not None]
        if not are_weights:
            arrays = arrays[:1] * len(self.right.terms)
        elif arrays and len(arrays) != len(self.right.terms):
            total = np.asarray(sum(arrays[1:], arrays[0]))
            arrays = [total, *(np.zeros_like(total) for _ in self.right.added)]
        for term, array in zip(self.right.terms, arrays, strict=False):
            if array.shape != term.shape:
                raise ValueError(array.shape)
            numbers = self.from_left(array) if are_weights else array
            for name in term.names:
                if name not in target:
                    target[name] = np.array(like(name), numbers.dtype, order="C")
            term.write(numbers, target)


def scale(array: Array, times: float, add: float) -> Array:
    if (times, add) == (1.0, 0.0):
        return array
    return np.asarray(array * array.dtype.type(times) + array.dtype.type(add))


def _along(tensor: Tensor, axis: tuple[str, ...], whole: tuple[str, ...]) -> Tensor:
    """The tensor of arrays that have one axis alone of a tensor's arrays."""
    return Tensor(tuple(replace(view, axes=(axis,)) for view in tensor.views), (whole,))


class CallPair(NamedTuple):
    """Calls that belong together."""

    left: Call
    right: Call


@dataclass(frozen=True)
class LayerPair:
    """Layers that belong together: their weights and their calls."""

    left: WeightGroup
    right: WeightGroup
    how: str  # as of the weights
    weights: Mapping[str, TensorPair]  # by the names that layers have for them
    # Tensors that one side's layer alone has, left and right.
    alone: tuple[Tensors, Tensors] = ({}, {})

    @staticmethod
    def of_groups(left: WeightGroup, right: WeightGroup, how: str) -> "LayerPair":
        """The pair of two groups that their frameworks know alike."""
        weights = {
            name: TensorPair(tensor, right.tensors[name], how=how)
            for name, tensor in left.tensors.items()
            if name in right.tensors
        }
        alone = [
            {name: tensor for name, tensor in group.tensors.items() if name not in weights}
            for group in (left, right)
        ]
        return LayerPair(left, right, how, weights, (alone[0], alone[1]))

    @property
    def name(self) -> str:
        return self.left.name

    @property
    def both(self) -> tuple[WeightGroup, WeightGroup]:
        return self.left, self.right

    @cached_property
    def lines(self) -> list[TensorPair]:
        """The weights that a line pairs."""
        return [weight for weight in self.weights.values() if weight.line]

    @property
    def names(self) -> list[str]:
        """Names of the tensors, of both sides or of one."""
        return [*dict.fromkeys((*self.weights, *self.alone[0], *self.alone[1]))]

    def without(self, names: Collection[str]) -> "LayerPair":
        """The pair without tensors of these names."""
        weights = {name: weight for name, weight in self.weights.items() if name not in names}
        left, right = (
            {name: tensor for name, tensor in of_side.items() if name not in names}
            for of_side in self.alone
        )
        return replace(self, weights=weights, alone=(left, right))

    def join(self, more: "LayerPair") -> "LayerPair":
        """The pair with the weights of another pair of the same layers. A pair that no line makes
        says how the layers are paired."""
        left, right = (
            replace(group, tensors={**group.tensors, **same.tensors})
            for group, same in zip(self.both, more.both, strict=True)
        )
        weights = {**self.weights, **more.weights}
        alone = {**self.alone[0], **more.alone[0]}, {**self.alone[1], **more.alone[1]}
        how = more.how if self.lines and not more.lines else self.how
        return LayerPair(left, right, how, weights, alone)

    def further_terms(self, file: str) -> Iterator[tuple["LayerPair", str]]:
        """Yield what pairs the terms after the first of tensors that are sums, such as a second
        bias, if both files have them. All terms have one gradient, so the last of fewer stands for
        more."""
        for name, weight in self.weights.items():
            for place in range(1, max(len(tensor.terms) for tensor in weight.both)):
                left, right = (
                    tensor.terms[min(place, len(tensor.terms) - 1)] for tensor in weight.both
                )
                pair = replace(self, weights={f"{name} {place + 1}": TensorPair(left, right)})
                if all(array is not None for array in pair.arrays(f"{name} {place + 1}", file)):
                    yield pair, f"{name} {place + 1}"

    def tensor(self, place: int, name: str) -> Tensor | None:
        """The left (0) or the right side's (1) tensor; None where the layer lacks it."""
        return (
            self.weights[name].both[place] if name in self.weights else self.alone[place].get(name)
        )

    def has(self, name: str, file: str) -> bool:
        """True if either side's file has any of a tensor's arrays."""
        for place, group in enumerate(self.both):
            tensor = self.tensor(place, name)
            if tensor and any(group.side.key(file, array) is not None for array in tensor.names):
                return True
        return False

    def is_trained(self, name: str) -> bool:
        """True for a tensor that either side trains; False for running statistics,
        counters and what is frozen."""
        tensors = zip(self.both, (self.tensor(0, name), self.tensor(1, name)), strict=True)
        weights = (
            (group.side.says.weights, array) for group, of in tensors if of for array in of.names
        )
        return any(array not in known or known[array].trainable for known, array in weights)

    def left_array(self, name: str, file: str = "weights") -> Array | None:
        """A left tensor out of a file; None where the file or the layer lacks it."""
        tensor = self.tensor(0, name)
        return None if tensor is None else values(self.left.side, tensor, file)

    def right_array(self, name: str, file: str = "weights") -> Array | None:
        """A right tensor out of a file, in the left side's scale;
        None where the file or the layer lacks it."""
        tensor, weight = self.tensor(1, name), self.weights.get(name)
        array = None if tensor is None else values(self.right.side, tensor, file)
        if array is None or weight is None or array.shape != weight.right.shape:
            return array
        return scale(array, weight.times, 0.0) if file == "gradients" else weight.to_left(array)

    def arrays(self, name: str, file: str = "weights") -> tuple[Array | None, Array | None]:
        return self.left_array(name, file), self.right_array(name, file)

    @property
    def calls(self) -> list[CallPair]:
        """Calls that belong together, as they ran; of outputs of several shapes those of each
        shape. None where the sides have other numbers of them."""
        lefts, rights = self.left.calls, self.right.calls
        if len(lefts) != len(rights):
            return []
        shapes = [
            [*map(group.shapes_of_call, of)]
            for group, of in zip(self.both, (lefts, rights), strict=True)
        ]
        if sorted(shapes[0]) == sorted(shapes[1]):
            waiting: dict[tuple[Shape, ...], list[Call]] = {}
            for shape, call in zip(shapes[1], rights, strict=True):
                waiting.setdefault(shape, []).append(call)
            rights = [waiting[shape].pop(0) for shape in shapes[0]]
        return [
            CallPair(left, right.in_order_of(left))
            for left, right in zip(lefts, rights, strict=True)
        ]

    def outputs(self, call: CallPair) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """The outputs of a call by canonical names, left and right. Where a line arranges the
        kernels' axis of outputs, the outputs are arranged alike."""
        left, right = self.left.outputs(call.left), self.right.outputs(call.right)
        for kernels in filter(None, (weight.of_outputs() for weight in self.lines)):
            of_left = self.left.arranged_output(call.left, kernels[0])
            of_right = self.right.arranged_output(call.right, kernels[1])
            if of_left and of_right:
                return {"output": of_left} | further(left), {"output": of_right} | further(right)
        if not left or not right:
            return {}, {}
        return left, {
            name: of.align(left[name].axes) if name in left else of for name, of in right.items()
        }


def further(outputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The outputs after a layer's first."""
    return {name: tensor for name, tensor in outputs.items() if name.startswith(FURTHER)}
