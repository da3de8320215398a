"""What the frameworks' layers, settings and slots mean: one table for each framework, all leading to one layout.

The canonical layout is Keras's, as everywhere in Rosetta. A layer becomes one or several groups of tensors: a torch
LSTM of two layers and two directions becomes four groups of a kernel, a recurrent kernel and a bias.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.porting.record import Layer, Record, Weight
from common.errors import CannotBeginError

Array = NDArray[Any]
Shape = tuple[int, ...]


@dataclass(frozen=True)
class Own:
    """An array as a framework keeps it, and how it becomes canonical: by these steps, in this order."""

    role: str  # the layer's name for it; "*" is what tells a stacked layer's parts apart, such as "_l0_reverse"
    part: tuple[int, int] = (0, 1)  # (i, n): the i-th of n equal parts of its first axis
    transposed: bool = False  # (out, in, *k) becomes (*k, in, out), and what is kept as (in, out, *k): (*k, out, in)
    axes: Shape = ()  # the order of its axes, where a mapping file gives one
    shape: Callable[[Shape], Shape] | None = None  # the canonical shape of such a shape
    gates: tuple[int, ...] = ()  # which of its gates, blocks of its last axis, stand in the canonical places
    least: int = 1  # the number of axes that it must have


@dataclass(frozen=True)
class Rule:
    """What a layer's arrays are. Several arrays for one tensor are added up."""

    kind: str
    tensors: dict[str, tuple[Own, ...]]
    part: str = ""  # where a layer follows several rules


def rule(kind: str, part: str = "", **tensors: Own | str | tuple[Own, ...]) -> Rule:
    """A rule; a text stands for an array that is canonical as it is."""
    made = {n: (Own(t),) if isinstance(t, str) else (t,) if isinstance(t, Own) else t for n, t in tensors.items()}
    return Rule(kind, made, part)


def same(*names: str) -> dict[str, str]:
    """Names that are the canonical ones."""
    return {name: name for name in names}


def turned(role: str, **more: Any) -> Own:
    return Own(role, transposed=True, least=2, **more)


def flat(shape: Shape) -> Shape:
    return (prod(shape),)


def depthwise(shape: Shape) -> Shape:
    """(*k, in, multiplier) as the kernel of a convolution in as many groups as there are channels."""
    return (*shape[:-2], 1, shape[-2] * shape[-1])


def einsum(layer: Layer) -> tuple[Rule, ...]:
    """Keras's EinsumDense, of which the projections of an attention are made: its axes of heads are merged."""
    terms, _, result = str(layer.settings.get("equation", "")).replace("...", "").partition("->")
    kernel = terms.partition(",")[2]
    inputs = sum(letter not in result for letter in kernel)  # the axes that are summed over; they come first
    if not kernel or any(letter in result for letter in kernel[:inputs]):
        return ()
    merged = Own("kernel", shape=lambda shape: (prod(shape[:inputs]), prod(shape[inputs:])))
    return (rule("dense", kernel=merged, bias=Own("bias", shape=flat)),)


def keras_gru(layer: Layer) -> tuple[Rule, ...]:
    """Its bias is (2, 3H) where the reset gate stands after the recurrent product, (3H,) where it stands before."""
    if not layer.settings.get("reset_after", True):
        return (replace(KERAS_RNN, kind="gru"),)
    bias, recurrent_bias = (Own("bias", part=(i, 2), shape=flat) for i in range(2))
    return (rule("gru", **same("kernel", "recurrent_kernel"), bias=bias, recurrent_bias=recurrent_bias),)


SWAPPED = (1, 0, 2)  # torch and Paddle have a GRU's gates in the order r z n, Keras in the order z r h
BIASES = (Own("bias_ih*"), Own("bias_hh*"))
RNN = rule("rnn", kernel=turned("weight_ih*"), recurrent_kernel=turned("weight_hh*"), bias=BIASES)
CONV = rule("conv", kernel=turned("weight"), bias="bias")
SCALED = rule("layernorm", gamma="weight", beta="bias")
KERAS_RNN = rule("rnn", **same("kernel", "recurrent_kernel", "bias"))
KERAS_CONV = rule("conv", **same("kernel", "bias"))
KERAS_SCALED = rule("layernorm", **same("gamma", "beta"))
PADDLE_BATCHNORM = rule("batchnorm", gamma="weight", beta="bias", moving_mean="_mean", moving_variance="_variance")

# The rules by the names of classes, without the number of dimensions and "Cell": Conv1d and Conv2D are Conv.
DIMENSIONS_OR_CELL = re.compile("[123][dD]|Cell$")
Rules = tuple[Rule, ...] | Rule | Callable[[Layer], tuple[Rule, ...]]
BOTH: dict[str, Rules] = {  # torch and Paddle
    "Embedding": rule("embedding", embeddings="weight"),
    "LayerNorm": SCALED,
    "GroupNorm": replace(SCALED, kind="groupnorm"),
    "RMSNorm": rule("rmsnorm", gamma="weight"),
    "Conv": CONV,
    "ConvTranspose": replace(CONV, kind="conv_transpose"),
    "LSTM": replace(RNN, kind="lstm"),  # all three have the gates in the order i f c o
    "GRU": rule(
        "gru",
        kernel=turned("weight_ih*", gates=SWAPPED),
        recurrent_kernel=turned("weight_hh*", gates=SWAPPED),
        bias=Own("bias_ih*", gates=SWAPPED),
        recurrent_bias=Own("bias_hh*", gates=SWAPPED),
    ),
}
TORCH: dict[str, Rules] = {
    "Linear": rule("dense", kernel=turned("weight"), bias="bias"),
    "_BatchNorm": rule(
        "batchnorm", gamma="weight", beta="bias", moving_mean="running_mean", moving_variance="running_var"
    ),
    "RNN": RNN,
    # Either one array holds query, key and value, or each has its own, where they come from different widths.
    "MultiheadAttention": (
        *(
            rule("dense", part, kernel=kernel, bias=Own("in_proj_bias", part=(i, 3)))
            for i, part in enumerate(("query", "key", "value"))
            for kernel in (turned("in_proj_weight", part=(i, 3)), turned(f"{part[0]}_proj_weight"))
        ),
        rule("dense", "output", kernel=turned("out_proj.weight"), bias="out_proj.bias"),
    ),
}
PADDLE: dict[str, Rules] = {
    "Linear": rule("dense", kernel="weight", bias="bias"),
    "_BatchNormBase": PADDLE_BATCHNORM,
    "BatchNorm": PADDLE_BATCHNORM,
    "SimpleRNN": RNN,
}
KERAS: dict[str, Rules] = {
    "Dense": replace(KERAS_CONV, kind="dense"),
    "EinsumDense": einsum,
    "Embedding": rule("embedding", **same("embeddings")),
    "LayerNormalization": KERAS_SCALED,
    "GroupNormalization": replace(KERAS_SCALED, kind="groupnorm"),
    "RMSNormalization": rule("rmsnorm", gamma="scale"),
    "BatchNormalization": rule("batchnorm", **same("gamma", "beta", "moving_mean", "moving_variance")),
    "Conv": KERAS_CONV,
    "ConvTranspose": replace(KERAS_CONV, kind="conv_transpose"),
    "DepthwiseConv": rule("conv", kernel=Own("kernel", shape=depthwise, least=2), bias="bias"),
    "SimpleRNN": KERAS_RNN,
    "LSTM": replace(KERAS_RNN, kind="lstm"),
    "GRU": keras_gru,
}
LAYERS = {"torch": BOTH | TORCH, "paddle": BOTH | PADDLE, "keras": KERAS, "arrays": KERAS}
RECURRENT = ("rnn", "lstm", "gru")
GATES = {"lstm": ("input", "forget", "candidate", "output"), "gru": ("update", "reset", "candidate")}
COUNTERS = ("num_batches_tracked",)  # buffers that compute nothing


def by_framework(names: dict[str, tuple[str, str, str]]) -> dict[str, dict[str, str]]:
    """For each framework own names -> the canonical name, out of a table of each canonical name's own names in torch,
    Paddle and Keras. What no framework computed has the canonical names."""
    found = {"arrays": same(*names)}
    for column, framework in enumerate(("torch", "paddle", "keras")):
        found[framework] = {own: name for name, owns in names.items() for own in owns[column].split()}
    return found


SETTINGS = by_framework({  # those of layers that change numbers
    "epsilon": ("eps", "_epsilon", "epsilon"),
    "momentum": ("momentum", "_momentum", "momentum"),
    "rate": ("p dropout", "p dropout", "rate dropout"),
    "reset_after": ("", "", "reset_after"),
    "padding_idx": ("padding_idx", "_padding_idx", ""),
    "time_first": ("batch_first", "time_major", ""),
    "approximate": ("approximate", "_approximate", "approximate"),
    "activation": ("nonlinearity", "", "activation"),
    "num_heads": ("num_heads", "num_heads", "num_heads"),
    "negative_slope": ("negative_slope", "_negative_slope", "negative_slope"),
})  # fmt: skip
OPTIMIZERS = by_framework({  # whose settings mean the same everywhere; torch's "betas" are two
    "learning_rate": ("lr", "learning_rate", "learning_rate"),
    "epsilon": ("eps", "_epsilon", "epsilon"),
    "beta_1": ("", "_beta1", "beta_1"),
    "beta_2": ("", "_beta2", "beta_2"),
    "momentum": ("momentum", "_momentum", "momentum"),
    "rho": ("alpha", "_rho", "rho"),
    "weight_decay": ("weight_decay", "_weight_decay regularization._coeff", "weight_decay"),
    "nesterov": ("nesterov", "_use_nesterov", "nesterov"),
    "centered": ("centered", "_centered", "centered"),
    "amsgrad": ("amsgrad", "_amsgrad", "amsgrad"),
    "dampening": ("dampening", "", ""),
})  # fmt: skip
SLOTS = by_framework({
    "momentum": ("momentum_buffer exp_avg", "velocity momentum moment1", "momentum"),
    "mean_square": ("exp_avg_sq square_avg", "moment2 mean_square", "velocity"),
    "largest_mean_square": ("max_exp_avg_sq", "moment2_max", "velocity_hat"),
    "mean_gradient": ("grad_avg", "mean_grad", "average_gradient"),
    "sum_of_squares": ("sum", "moment", "accumulator"),
})  # fmt: skip
# What makes of an own value the canonical one, where that is another. torch's momentum is the new batch's share,
# Keras's and Paddle's the old statistics'; None is a mean of all.
MEANINGS: dict[tuple[str, str], Callable[[Any], Any]] = {
    ("torch", "momentum"): lambda share: share if share is None else round(1 - share, 12),
    ("torch", "batch_first"): lambda batch_first: not batch_first,
    ("torch", "approximate"): lambda approximate: approximate == "tanh",
    ("paddle", "_padding_idx"): lambda row: None if row == -1 else row,
}
# What a framework's layers of a kind always are.
ALWAYS: dict[str, dict[str, dict[str, Any]]] = {
    "torch": {"gru": {"reset_after": True}},
    "paddle": {"gru": {"reset_after": True}},
    "keras": {"embedding": {"padding_idx": None}, **{kind: {"time_first": False} for kind in RECURRENT}},
    "arrays": {},
}
# Momentum is v = mu v + g in torch. These keep it with the learning rate in it, Keras's SGD with the other sign too.
RATE_IN_MOMENTUM = {("keras", "SGD"): -1.0, ("keras", "RMSprop"): 1.0, ("paddle", "RMSProp"): 1.0}
# Where epsilon stands, and whether weight decay goes by the gradient or straight to the weight.
EPSILON = {
    ("torch", "Adam"): "added to the root after its bias is corrected",
    ("paddle", "Adam"): "added to the root after its bias is corrected",
    ("keras", "Adam"): "added to the root before its bias is corrected",
    ("torch", "RMSprop"): "outside the root",
    ("paddle", "RMSProp"): "inside the root",
    ("keras", "RMSprop"): "inside the root",
}
EPSILON |= {(framework, "AdamW"): EPSILON[framework, "Adam"] for framework in ("torch", "paddle", "keras")}
# What computes with constants of float32 even where all else is float64, by framework and Keras's backend: classes of
# layers, activations within layers, and for each optimizer the settings of which it makes such constants.
FLOAT32_LAYERS: dict[tuple[str, str | None], set[str]] = {
    ("keras", "tensorflow"): {"gelu", "MultiHeadAttention", "GroupedQueryAttention"}
}
FLOAT32_SETTINGS: dict[tuple[str, str | None], dict[str, tuple[str, ...]]] = {
    ("paddle", None): {"RMSProp": ("rho", "epsilon", "momentum", "learning_rate"), "Momentum": ("momentum",)},
    ("keras", "tensorflow"): {
        "SGD": ("momentum", "weight_decay"),
        "Adam": ("beta_1", "beta_2", "weight_decay"),
        "AdamW": ("beta_1", "beta_2", "weight_decay"),
    },
}


@dataclass(frozen=True)
class Source:
    """One of a record's arrays, of which a canonical tensor is made."""

    name: str  # in weights.safetensors
    own: Own
    shape: Shape  # of the whole array

    @property
    def canonical_shape(self) -> Shape:
        """Raises CannotBeginError where an array of this shape cannot be what the rule takes it for."""
        parts, blocks = self.own.part[1], len(self.own.gates) or 1
        if len(self.shape) >= self.own.least and (parts == 1 or self.shape[0] % parts == 0):
            shape = self._view(np.broadcast_to(0.0, self.shape)).shape
            if blocks == 1 or shape[-1] % blocks == 0:
                return shape
        raise CannotBeginError(
            f"{self.name} has the shape {self.shape}, which is not that of a layer's {self.own.role}; a layer of "
            "your own is compared as it is where its class does not come from the framework's"
        )

    def canonical(self, array: Array) -> Array:
        """The canonical array; a view wherever no gates change places."""
        return with_gates(self._view(array), self.own.gates)

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


@dataclass(frozen=True)
class Group:
    """Canonical tensors that belong together: those of a layer, or of one layer and direction of a stacked one."""

    kind: str
    layer: Layer
    part: str = ""
    tensors: Mapping[str, tuple[Source, ...]] = field(default_factory=dict)
    shapes: Mapping[str, Shape] = field(default_factory=dict)  # of the canonical tensors
    required: bool = True  # whether it must have a partner: it has weights that are trained
    place: int = 0  # the number of groups with weights before it, in order of execution

    @property
    def name(self) -> str:
        return f"{self.layer.path}:{self.part}" if self.part else self.layer.path

    @property
    def signature(self) -> tuple[Shape, ...]:
        """The shapes by which it is paired: those of all tensors but biases, which one side may lack. A layer without
        weights, such as a dropout, is paired by its place among those with weights."""
        if not self.tensors:
            return ((self.place,),)
        kernels = [shape for name, shape in self.shapes.items() if not name.endswith("bias")]
        return tuple(kernels or self.shapes.values())


def groups_of(record: Record) -> list[Group]:
    """The record's groups in order of execution; a layer that was not executed follows the one defined before it."""
    first = {path: place for place, path in enumerate(record.calls)}
    parents = {layer.path.rpartition(dot)[0] for layer in record.says.layers for dot in "./"}
    found, place = [], -1
    for layer in record.says.layers:
        place = first.get(layer.path, place)
        found += [(place, group) for group in _groups(record, layer, layer.path in parents)]
    in_order, count = [], 0
    for _, group in sorted(found, key=lambda item: item[0]):
        in_order.append(replace(group, place=count))
        count += bool(group.tensors)
    return in_order


def _groups(record: Record, layer: Layer, contains_layers: bool) -> list[Group]:
    """The groups of one layer. What no rule claims is kept as it is, each weight a group of its own."""
    table = LAYERS[record.says.framework.name]
    names = [DIMENSIONS_OR_CELL.sub("", name) for name in layer.classes]
    rules = next((table[name] for name in names if name in table), ())
    rules = rules(layer) if callable(rules) else (rules,) if isinstance(rules, Rule) else rules
    roles = {**layer.parameters, **layer.buffers}
    found: list[Group] = []
    claimed = set(COUNTERS)

    def claim(kind: str, part: str, tensors: Mapping[str, Sequence[Own]]) -> None:
        """Make a group of those arrays that the layer has, if it has the first tensor."""
        sources = {
            name: tuple(Source(roles[o.role], o, record.shape(roles[o.role])) for o in owns if o.role in roles)
            for name, owns in tensors.items()
        }
        if next(iter(sources.values())):
            claimed.update(own.role for owns in tensors.values() for own in owns)
            found.append(_group(record, kind, layer, part, sources))

    for each in rules:
        start, star, _ = next(iter(each.tensors.values()))[0].role.partition("*")
        for suffix in [role.removeprefix(start) for role in roles if role.startswith(start)] if star else [""]:
            own = {n: [replace(o, role=o.role.replace("*", suffix)) for o in of] for n, of in each.tensors.items()}
            claim(each.kind, each.part or suffix.lstrip("_"), own)
    for role in [role for role in roles if role not in claimed]:
        claim("parameters" if role in layer.parameters else "buffers", role, {role: [Own(role, least=0)]})
    if not found and not contains_layers and layer.classes:
        found.append(Group(layer.classes[0].lower(), layer, required=False))
    return found


def _group(record: Record, kind: str, layer: Layer, part: str, tensors: Mapping[str, tuple[Source, ...]]) -> Group:
    tensors = {name: sources for name, sources in tensors.items() if sources}
    said = record.says.weights
    names = [source.name for sources in tensors.values() for source in sources]
    trained = any((weight := said.get(name, Weight())).trainable and weight.tied_to is None for name in names)
    shapes = {name: sources[0].canonical_shape for name, sources in tensors.items()}
    return Group(kind, layer, part, tensors, shapes, required=trained and kind != "buffers")
