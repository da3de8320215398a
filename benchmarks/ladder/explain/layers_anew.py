"""One side of the layer that is shown, and the layers that can be computed anew, with what may be another."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from math import prod
from typing import Any, NamedTuple

import numpy as np

from benchmarks.ladder.arrays import Array
from benchmarks.ladder.explain.broken import Broken, Space, number
from benchmarks.ladder.explain.computed import ACTIVATIONS, convolved, normalized, pads_of, recurrent, rooted, spread
from benchmarks.ladder.read.groups import WeightGroup
from benchmarks.ladder.read.layouts import PARENT, RECURRENT

ROWS_TRIED = 8, 64  # of a layer that computes each row by itself: at least, and at most
NUMBERS_OF_ROWS = 1 << 28  # multiplications for all of these rows
LARGEST_STEP = 1000  # of a convolution
REPEATED = ", with the last output repeated,"  # where a sequence has ended, which else has zeros
LAST_STEP = "the last time step"
EPSILONS = (1e-5, 1e-3, 1e-6, 1e-12, 0.0)
NAMED_PADS = ("same", "causal")
PLACES = ("inside the root", "added to the root")
Arrays = Mapping[str, Array]
Aspects = Mapping[str, Sequence[Any]]


class Layer(NamedTuple):
    """What a layer computes: its aspects, what comes of an input and a choice, the input's width, and whether it
    computes each row by itself."""

    aspects: Aspects
    compute: Callable[..., Array | None]
    width: int
    by_row: bool = True


UNKNOWN = Layer({}, lambda x: None, 0)  # what nobody here can compute


@dataclass(frozen=True)
class Shown:
    """One side of the layer that is shown. Arrays have their axes as the left side has them."""

    broken: Broken
    group: WeightGroup  # the left side's where its kind is known, since the weights agree
    target: Array  # the side's output, in its first rows
    given: list[Array]  # what it was given, or a framework's attention for query, key and value, if both recorded it
    before: Arrays  # what the side computed before, that which was computed last first
    ids: Arrays  # the integers that the model takes
    of_input: bool = False  # whether the target is what the layer was given instead

    @cached_property
    def weights(self) -> dict[str, Array]:
        found = {name: self.group.tensor(name) for name in self.group.tensors}
        return {name: array.astype(np.float64) for name, array in found.items() if array is not None}

    @cached_property
    def layer(self) -> Layer:
        if self.of_input:
            return Layer({}, lambda x: x, self.target.shape[-1], by_row=False)
        make, required = LAYERS.get(self.group.kind, (unchanged, ""))
        return make(self) if {*required.split()} <= self.weights.keys() else UNKNOWN

    @cached_property
    def rows(self) -> Array | None:
        """Of a layer that computes each row by itself some rows: the first ones, and those in which the sides differ
        most. None for other layers."""
        if not self.layer.by_row:
            return None
        right, left = self.broken.arrays
        total, fewest = prod(self.target.shape[:-1]), ROWS_TRIED[0]
        size = max((array.size for array in self.weights.values()), default=1)
        number = max(fewest, min(ROWS_TRIED[1], NUMBERS_OF_ROWS // max(1, size)))
        if right.shape != left.shape or total <= number:
            return np.arange(min(total, number))
        differs = np.abs(right.astype(np.float64) - left).max(-1).ravel()[:total]
        return np.unique([*np.argsort(differs)[-number // 2 :], *range(number // 2)])

    def picked(self, array: Array | None) -> Array | None:
        """These rows of an array; None where it has another number of rows than the output."""
        if array is None or self.rows is None:
            return array
        fits = prod(array.shape[:-1]) == prod(self.target.shape[:-1])
        return array.reshape(-1, array.shape[-1])[self.rows] if fits else None

    def settings(self, name: str, *usual: Any) -> list[Any]:
        """A setting on the left and on the right, where it is a number, a word or some numbers, and what is usual."""
        found = [tuple(value) if isinstance(value, list) else value for value in self.broken.settings(name)]
        known = [one for one in found if isinstance(one, int | float | str) or is_shape(one)]
        return list(dict.fromkeys((*known, *usual)))

    def space(
        self, aspects: Aspects, compute: Callable[..., Array | None], more: Callable[..., int] = lambda *_: 0
    ) -> Space:
        """The space of what this side computes, of which the picked rows must be those of its output. `more` is how
        many multiplications a choice takes beside those with the layer's weights."""
        wanted = self.picked(self.target)
        assert wanted is not None
        each = max((array.size // max(1, array.shape[-1]) for array in self.weights.values()), default=1)
        return Space(aspects, compute, self.broken, wanted, wanted.size * each, more)


def unchanged(side: Shown) -> Layer:
    """What contains other layers, or is none: it gives what it takes."""
    factors = {"1": 1.0, "the root of the width": side.target.shape[-1] ** 0.5}
    known = side.group.kind == PARENT or not side.group.tensors
    width = side.target.shape[-1] if known else 0
    return Layer({"what {} gives is multiplied by": [*factors]}, lambda x, times: x * factors[times], width)


def within(side: Shown) -> list[str]:
    """Activations within a layer, which another framework has after it; first that of the settings."""
    own = [name for name in side.settings("activation") if name in ACTIVATIONS and name != "linear"]
    return list(dict.fromkeys((*own, *ACTIVATIONS)))


def dense(side: Shown) -> Layer:
    kernel, bias = side.weights["kernel"], side.weights.get("bias", 0.0)
    aspects = {"the activation after {} is": within(side)}
    return Layer(aspects, lambda x, within: ACTIVATIONS[within](x @ kernel + bias), len(kernel))


def norm(side: Shown) -> Layer:
    """LayerNorm, RMSNorm, whose gain may be stored without its 1, GroupNorm and BatchNorm."""
    kind, gain, shift = side.group.kind, side.weights.get("gamma", np.ones(1)), side.weights.get("beta", np.zeros(1))
    gains = {"its gain": gain, "its gain plus 1": gain + 1, "its shift": shift}
    means = ["takes off the mean", "keeps the mean"][:: -1 if kind == "rmsnorm" else 1]
    width, numbers = len(side.weights.get("moving_mean", gain)), [0]
    if kind == "groupnorm":
        settings = [group.layer.settings for group in side.broken.groups]
        own = [of.get(name) for of in settings for name in ("num_groups", "_num_groups", "groups")]
        numbers = [one for one in (*own, 1, width) if isinstance(one, int) and one > 0 and width % one == 0]
    by_row = kind in ("layernorm", "rmsnorm")
    known = *(epsilons(side) if by_row else ()), *EPSILONS
    aspects: Aspects = {
        "the statistics of {} are": ["the running ones", "those of the batch"] if kind == "batchnorm" else [""],
        "the number of groups of {} is": list(dict.fromkeys(numbers)),
        "epsilon is": [number(one) for one in side.settings("epsilon", *known)],
        "epsilon of {} is": PLACES,
        "{}": means if by_row else means[:1],
        "the variance of {} is divided by": ["n", "n - 1"] if by_row else ["n"],
        "{} multiplies by": [*gains] if by_row else ["its gain"],
    }

    def compute(
        x: Array, statistics: str, groups: int, epsilon: float, place: str, mean: str, divisor: str, gain_is: str
    ) -> Array:
        if statistics == "the running ones":
            made = (x - side.weights["moving_mean"]) / rooted(side.weights["moving_variance"], epsilon, place)
        else:
            axes = tuple(range(x.ndim - 1)) if statistics else (1, 3) if groups else (-1,)
            of = x.reshape(len(x), -1, groups, x.shape[-1] // groups) if groups else x
            made = normalized(of, axes, epsilon, place, mean == "takes off the mean", divisor == "n - 1")
        return made.reshape(x.shape) * gains[gain_is] + (gain if gain_is == "its shift" else shift)

    return Layer(aspects, compute, width, by_row)


def epsilons(side: Shown) -> Iterator[float]:
    """Yield the epsilon that follows from what a norm of each row was given and gave, to three digits."""
    gain, shift = side.weights["gamma"], side.weights.get("beta", 0.0)
    for x in side.given:
        if x.shape == side.target.shape and x.shape[-1:] == gain.shape:
            of = x - x.mean(-1, keepdims=True) if side.group.kind == "layernorm" else x
            square = (gain * of / (side.target - shift)) ** 2 - (of**2).mean(-1, keepdims=True)
            yield float(f"{np.nanmedian(square):.3g}")


def conv(side: Shown) -> Layer:
    kernel, bias, transposed = side.weights["kernel"], side.weights.get("bias", 0.0), side.group.kind != "conv"
    axes, each = kernel.ndim - 2, kernel.shape[-1 if transposed else -2]
    usual = [(n,) * axes for n in (1, 2, 3)]
    strides, dilations = (filter(is_shape, side.settings(name, *usual)) for name in ("stride", "dilation"))
    groups = [side.group.layer.settings.get(name) for name in ("groups", "_groups")]
    known = [each * one for one in groups if isinstance(one, int)]
    channels = [array.shape[-1] for array in side.before.values() if array.ndim == kernel.ndim]
    width = each if transposed else next((one for one in (*known, *channels) if one and one % each == 0), 0)
    kernels = {"as it is stored": kernel, "flipped": np.flip(kernel, tuple(range(axes)))}

    def compute(
        x: Array, stride: Any, dilation: Any, pad: Any, crop: int, kernel_is: str, within: str, groups_are: str
    ) -> Array | None:
        if x.ndim != kernel.ndim:
            return None
        if transposed:
            made = spread(x, kernels[kernel_is], stride, crop, side.target.shape)
        else:
            if groups_are == "in turns":
                x = np.concatenate([x[..., group :: width // each] for group in range(width // each)], -1)
            pads = pads_of(pad, x.shape[1:-1], kernel.shape[:-2], stride, dilation)
            made = convolved(x, kernels[kernel_is], stride, dilation, pads)
        return None if made is None else ACTIVATIONS[within](made + bias)

    pads = side.settings("padding", (0,) * axes, "same", *usual, "causal")
    grouped = not transposed and width != each
    aspects: Aspects = {
        "the stride of {} is": [*strides],
        "the dilation of {} is": [()] if transposed else [*dilations],
        "the padding of {} is": [0] if transposed else [one for one in pads if is_shape(one) or one in NAMED_PADS],
        "the number of positions that {} leaves out first is": range(max(kernel.shape[:-2]) if transposed else 1),
        "the kernel of {} is used": [*kernels],
        "the activation after {} is": within(side),
        "the channels of {} are divided into groups": ["in blocks", "in turns"] if grouped else ["in blocks"],
    }
    return Layer(aspects, compute, width, by_row=False)


def is_shape(value: Any) -> bool:
    return isinstance(value, tuple) and all(isinstance(size, int) and 0 <= size < LARGEST_STEP for size in value)


def recurrent_layer(side: Shown) -> Layer:
    w, kind, target = side.weights, side.group.kind, side.target
    biases = w.get("bias", np.zeros(1)), w.get("recurrent_bias", np.zeros(1))
    kernels = w["kernel"], w["recurrent_kernel"]

    def compute(x: Array, time: str, axis: str, gates: str, after: bool, start: str, lengths: str) -> Array | None:
        x = x.swapaxes(0, 1) if axis == "the first" else x
        x = x[:, ::-1] if time == LAST_STEP else x
        if start == "zeros":
            made = recurrent(kind, x, *kernels, biases, gates, after, np.zeros((len(x), len(kernels[1]))))
        elif kind == "lstm" or target.ndim != 3 or time == LAST_STEP:
            return None
        else:  # each later step follows from the state that the side has after its first step
            later = recurrent(kind, x[:, 1:], *kernels, biases, gates, after, target[:, 0])
            made = np.concatenate([target[:, :1], later], 1)
        made = made[:, ::-1] if time == LAST_STEP else made
        made = made.swapaxes(0, 1) if axis == "the first" else made
        if made.shape[:2] != target.shape[:2] and target.ndim == 3:  # the record's axes are in one order
            made = made.swapaxes(0, 1)
        if lengths == "none":
            return made if target.ndim == 3 else made[:, -1]
        real = side.ids[lengths.removesuffix(REPEATED)] != 0
        last: Array = made[np.arange(len(made)), real.sum(1) - 1]
        if target.ndim == 2:
            return last
        return np.where(real[..., None], made, last[:, None] if lengths.endswith(REPEATED) else 0.0)

    padded = [name for name, ids in side.ids.items() if ids.ndim == 2 and (ids == 0).any()]
    lengths = ["none", *padded, *(f"{name}{REPEATED}" for name in padded if target.ndim == 3)]
    aspects: Aspects = {
        "{} begins with": ["the first time step", LAST_STEP],
        "the axis of time in {} is": ["the second", "the first"],
        "sigmoid and tanh of {} are": ["as usual", "exchanged"],
        "reset_after is": side.settings("reset_after", True, False),
        "the initial state of {} is": ["zeros", "another"],
        "the lengths by which {} stops are": lengths,
    }
    return Layer(aspects, compute, len(kernels[0]), by_row=False)


# By kind: what makes the layer, and the weights that it must have.
LAYERS: dict[str, tuple[Callable[[Shown], Layer], str]] = {
    "embedding": (lambda side: UNKNOWN, "embeddings"),
    "dense": (dense, "kernel"),
    **dict.fromkeys(("layernorm", "rmsnorm", "groupnorm"), (norm, "gamma")),
    "batchnorm": (norm, "moving_mean moving_variance"),
    **dict.fromkeys(("conv", "conv_transpose"), (conv, "kernel")),
    **dict.fromkeys(RECURRENT, (recurrent_layer, "kernel recurrent_kernel")),
}
