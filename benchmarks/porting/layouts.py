"""What the frameworks' layers, settings and slots mean: one table for each framework, all leading to one layout.

The canonical layout is Keras's, as everywhere in Rosetta. A layer becomes one or several groups of tensors: a torch
LSTM of two layers and two directions becomes four groups of a kernel, a recurrent kernel and a bias.
"""

from collections.abc import Callable, Mapping
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

    role: (
        str  # the layer's name for it; "*" stands for what tells a stacked layer's parts apart, such as "_l0_reverse"
    )
    part: tuple[int, int] | None = None  # (i, n): the i-th of n equal parts of its first axis
    transposed: bool = False  # (out, in, *k) becomes (*k, in, out), and what is kept as (in, out, *k): (*k, out, in)
    axes: Shape = ()  # the order of its axes, where a mapping file gives one
    shape: Callable[[Shape], Shape] | None = None  # the canonical shape of such a shape
    gates: tuple[int, ...] = ()  # which of its gates, blocks of its last axis, stand in the canonical places


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


def turned(role: str, **more: Any) -> Own:
    return Own(role, transposed=True, **more)


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
    if layer.settings.get("reset_after", True):
        bias, recurrent_bias = (Own("bias", part=(i, 2), shape=flat) for i in range(2))
        return (
            rule(
                "gru", kernel="kernel", recurrent_kernel="recurrent_kernel", bias=bias, recurrent_bias=recurrent_bias
            ),
        )
    return (rule("gru", kernel="kernel", recurrent_kernel="recurrent_kernel", bias="bias"),)


BIASES = (Own("bias_ih*"), Own("bias_hh*"))
SWAPPED = (1, 0, 2)  # torch and Paddle have a GRU's gates in the order r z n, Keras in the order z r h

# torch and Paddle name the arrays of recurrent layers alike.
RNN = rule("rnn", kernel=turned("weight_ih*"), recurrent_kernel=turned("weight_hh*"), bias=BIASES)
LSTM = replace(RNN, kind="lstm")  # all three have the gates in the order i f c o
GRU = rule(
    "gru",
    kernel=turned("weight_ih*", gates=SWAPPED),
    recurrent_kernel=turned("weight_hh*", gates=SWAPPED),
    bias=Own("bias_ih*", gates=SWAPPED),
    recurrent_bias=Own("bias_hh*", gates=SWAPPED),
)
CONV = rule("conv", kernel=turned("weight"), bias="bias")
CONV_TRANSPOSE = replace(CONV, kind="conv_transpose")
SCALED = rule("layernorm", gamma="weight", beta="bias")

Rules = tuple[Rule, ...] | Rule | Callable[[Layer], tuple[Rule, ...]]
TORCH: dict[str, Rules] = {
    "Linear": rule("dense", kernel=turned("weight"), bias="bias"),
    "Embedding": rule("embedding", embeddings="weight"),
    "LayerNorm": SCALED,
    "GroupNorm": replace(SCALED, kind="groupnorm"),
    "RMSNorm": rule("rmsnorm", gamma="weight"),
    "_BatchNorm": rule(
        "batchnorm", gamma="weight", beta="bias", moving_mean="running_mean", moving_variance="running_var"
    ),
    "Conv1d": CONV,
    "Conv2d": CONV,
    "Conv3d": CONV,
    "ConvTranspose1d": CONV_TRANSPOSE,
    "ConvTranspose2d": CONV_TRANSPOSE,
    "ConvTranspose3d": CONV_TRANSPOSE,
    "RNN": RNN,
    "RNNCell": RNN,
    "LSTM": LSTM,
    "LSTMCell": LSTM,
    "GRU": GRU,
    "GRUCell": GRU,
    # Either one array holds query, key and value, or each has its own, where they come from different widths.
    "MultiheadAttention": (
        *(
            rule("dense", part, kernel=turned("in_proj_weight", part=(i, 3)), bias=Own("in_proj_bias", part=(i, 3)))
            for i, part in enumerate(("query", "key", "value"))
        ),
        *(
            rule("dense", part, kernel=turned(f"{part[0]}_proj_weight"), bias=Own("in_proj_bias", part=(i, 3)))
            for i, part in enumerate(("query", "key", "value"))
        ),
        rule("dense", "output", kernel=turned("out_proj.weight"), bias="out_proj.bias"),
    ),
}
PADDLE_BATCHNORM = rule("batchnorm", gamma="weight", beta="bias", moving_mean="_mean", moving_variance="_variance")
PADDLE: dict[str, Rules] = {
    "Linear": rule("dense", kernel="weight", bias="bias"),
    "Embedding": rule("embedding", embeddings="weight"),
    "LayerNorm": SCALED,
    "GroupNorm": replace(SCALED, kind="groupnorm"),
    "RMSNorm": rule("rmsnorm", gamma="weight"),
    "_BatchNormBase": PADDLE_BATCHNORM,
    "BatchNorm": PADDLE_BATCHNORM,
    "Conv1D": CONV,
    "Conv2D": CONV,
    "Conv3D": CONV,
    "Conv1DTranspose": CONV_TRANSPOSE,
    "Conv2DTranspose": CONV_TRANSPOSE,
    "Conv3DTranspose": CONV_TRANSPOSE,
    "SimpleRNN": RNN,
    "SimpleRNNCell": RNN,
    "LSTM": LSTM,
    "LSTMCell": LSTM,
    "GRU": GRU,
    "GRUCell": GRU,
}
KERAS_CONV = rule("conv", kernel="kernel", bias="bias")
KERAS_DEPTHWISE = rule("conv", kernel=Own("kernel", shape=depthwise), bias="bias")
KERAS_RNN = rule("rnn", kernel="kernel", recurrent_kernel="recurrent_kernel", bias="bias")
KERAS: dict[str, Rules] = {
    "Dense": rule("dense", kernel="kernel", bias="bias"),
    "EinsumDense": einsum,
    "Embedding": rule("embedding", embeddings="embeddings"),
    "LayerNormalization": rule("layernorm", gamma="gamma", beta="beta"),
    "GroupNormalization": rule("groupnorm", gamma="gamma", beta="beta"),
    "RMSNormalization": rule("rmsnorm", gamma="scale"),
    "BatchNormalization": rule(
        "batchnorm", gamma="gamma", beta="beta", moving_mean="moving_mean", moving_variance="moving_variance"
    ),
    "DepthwiseConv1D": KERAS_DEPTHWISE,
    "DepthwiseConv2D": KERAS_DEPTHWISE,
    "Conv1DTranspose": replace(KERAS_CONV, kind="conv_transpose"),
    "Conv2DTranspose": replace(KERAS_CONV, kind="conv_transpose"),
    "Conv3DTranspose": replace(KERAS_CONV, kind="conv_transpose"),
    "Conv1D": KERAS_CONV,
    "Conv2D": KERAS_CONV,
    "Conv3D": KERAS_CONV,
    "SimpleRNN": KERAS_RNN,
    "SimpleRNNCell": KERAS_RNN,
    "LSTM": replace(KERAS_RNN, kind="lstm"),
    "LSTMCell": replace(KERAS_RNN, kind="lstm"),
    "GRU": keras_gru,
    "GRUCell": keras_gru,
}
LAYERS = {"torch": TORCH, "paddle": PADDLE, "keras": KERAS, "arrays": KERAS}
RECURRENT = ("rnn", "lstm", "gru")
GATES = {"lstm": ("input", "forget", "candidate", "output"), "gru": ("update", "reset", "candidate")}
COUNTERS = ("num_batches_tracked",)  # buffers that compute nothing


def same(value: Any) -> Any:
    return value


def complement(value: Any) -> Any:
    """torch's momentum is the new batch's share, Keras's and Paddle's the old statistics'. torch's None: a mean."""
    return value if value is None else round(1 - value, 12)


def negated(value: Any) -> bool:
    return not value


# Own names of settings that change numbers -> the canonical name, and what makes of a value the canonical one.
SETTINGS: dict[str, dict[str, tuple[str, Callable[[Any], Any]]]] = {
    "torch": {
        "eps": ("epsilon", same),
        "momentum": ("momentum", complement),
        "p": ("rate", same),
        "dropout": ("rate", same),
        "padding_idx": ("padding_idx", same),
        "batch_first": ("time_first", negated),
        "approximate": ("approximate", lambda value: value == "tanh"),
        "nonlinearity": ("activation", same),
        "num_heads": ("num_heads", same),
        "negative_slope": ("negative_slope", same),
    },
    "paddle": {
        "_epsilon": ("epsilon", same),
        "_momentum": ("momentum", same),
        "p": ("rate", same),
        "dropout": ("rate", same),
        "_padding_idx": ("padding_idx", lambda value: None if value == -1 else value),
        "time_major": ("time_first", same),
        "_approximate": ("approximate", same),
        "num_heads": ("num_heads", same),
        "_negative_slope": ("negative_slope", same),
    },
    "keras": {
        name: (name, same)
        for name in ("epsilon", "momentum", "rate", "reset_after", "num_heads", "negative_slope", "approximate")
    }
    | {"activation": ("activation", same), "dropout": ("rate", same)},
    "arrays": {
        name: (name, same)
        for name in ("epsilon", "momentum", "rate", "reset_after", "padding_idx", "time_first", "activation")
    },
}
# What a framework's layers of a kind always are.
ALWAYS: dict[str, dict[str, dict[str, Any]]] = {
    "torch": {"gru": {"reset_after": True}},
    "paddle": {"gru": {"reset_after": True}},
    "keras": {"embedding": {"padding_idx": None}, **{kind: {"time_first": False} for kind in RECURRENT}},
    "arrays": {},
}
OPTIMIZERS: dict[str, dict[str, str]] = {  # the same of optimizers, whose settings mean the same everywhere
    "torch": {"lr": "learning_rate", "eps": "epsilon", "alpha": "rho"}
    | {name: name for name in ("momentum", "weight_decay", "nesterov", "amsgrad", "centered", "dampening")},
    "paddle": {
        "_epsilon": "epsilon",
        "_beta1": "beta_1",
        "_beta2": "beta_2",
        "_momentum": "momentum",
        "_rho": "rho",
        "_use_nesterov": "nesterov",
        "_centered": "centered",
        "_amsgrad": "amsgrad",
        "_weight_decay": "weight_decay",
        "regularization._coeff": "weight_decay",
        "learning_rate": "learning_rate",
    },
    "keras": {name: name for name in ("learning_rate", "epsilon", "beta_1", "beta_2", "momentum", "rho")}
    | {name: name for name in ("weight_decay", "nesterov", "centered", "amsgrad")},
}
SLOTS: dict[str, dict[str, str]] = {
    "torch": {
        "momentum_buffer": "momentum",
        "exp_avg": "momentum",
        "exp_avg_sq": "mean_square",
        "square_avg": "mean_square",
        "max_exp_avg_sq": "largest_mean_square",
        "grad_avg": "mean_gradient",
        "sum": "sum_of_squares",
    },
    "paddle": {
        "velocity": "momentum",
        "momentum": "momentum",
        "moment1": "momentum",
        "moment2": "mean_square",
        "mean_square": "mean_square",
        "moment2_max": "largest_mean_square",
        "mean_grad": "mean_gradient",
        "moment": "sum_of_squares",
    },
    "keras": {
        "momentum": "momentum",
        "velocity": "mean_square",
        "velocity_hat": "largest_mean_square",
        "average_gradient": "mean_gradient",
        "accumulator": "sum_of_squares",
    },
}
SLOTS["arrays"] = {name: name for slots in SLOTS.values() for name in slots.values()}
OPTIMIZERS["arrays"] = OPTIMIZERS["keras"]
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
    def part_shape(self) -> Shape:
        return (self.shape[0] // self.own.part[1], *self.shape[1:]) if self.own.part else self.shape

    @property
    def canonical_shape(self) -> Shape:
        """Raises CannotBeginError where an array of this shape cannot be what the rule takes it for."""
        shape, blocks = self.part_shape, len(self.own.gates) or 1
        if self.own.transposed and len(shape) >= 2:
            shape = (*shape[2:], shape[1], shape[0])
        shape = tuple(shape[axis] for axis in self.own.axes) if self.own.axes else shape
        if self.own.shape:
            shape = self.own.shape(shape)
        parts = self.own.part[1] if self.own.part else 1
        if not shape or (self.own.transposed and len(shape) < 2) or self.shape[0] % parts or shape[-1] % blocks:
            raise CannotBeginError(
                f"{self.name} has the shape {self.shape}, which is not that of a layer's {self.own.role}; a layer of "
                "your own is compared as it is where its class does not come from the framework's"
            )
        return shape

    def canonical(self, array: Array) -> Array:
        """The canonical array; a view wherever no gates change places."""
        if self.own.part:
            rows = self.part_shape[0]
            array = array[self.own.part[0] * rows :][:rows]
        if self.own.transposed:
            array = array.transpose(*range(2, array.ndim), 1, 0)
        if self.own.axes:
            array = array.transpose(self.own.axes)
        if self.own.shape:
            array = array.reshape(self.own.shape(array.shape))
        return with_gates(array, self.own.gates)

    def restored(self, array: Array) -> Array:
        """The framework's own array, or the part of it, of a canonical one: the steps undone in reverse."""
        array = with_gates(array, tuple(np.argsort(self.own.gates))) if self.own.gates else array
        if self.own.shape:
            array = array.reshape(self.part_shape)
        if self.own.axes:
            array = array.transpose(np.argsort(self.own.axes))
        if self.own.transposed:
            array = array.transpose(array.ndim - 1, array.ndim - 2, *range(array.ndim - 2))
        return array


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
    found, place = [], -1
    parents = {layer.path.rpartition(".")[0] for layer in record.says.layers} | {
        layer.path.rpartition("/")[0] for layer in record.says.layers
    }
    for number, layer in enumerate(record.says.layers):
        place = first.get(layer.path, place)
        for group in _groups(record, layer, layer.path in parents):
            found.append((place, number, group))
    in_order, count = [], 0
    for _, _, group in sorted(found, key=lambda item: item[:2]):
        in_order.append(replace(group, place=count))
        count += bool(group.tensors)
    return in_order


def _groups(record: Record, layer: Layer, contains_layers: bool) -> list[Group]:
    """The groups of one layer. What no rule claims is kept as it is, each weight a group of its own."""
    table = LAYERS[record.says.framework.name]
    rules = next((table[name] for name in layer.classes if name in table), ())
    rules = rules(layer) if callable(rules) else (rules,) if isinstance(rules, Rule) else rules
    roles = {**layer.parameters, **layer.buffers}
    left = [role for role in roles if role not in COUNTERS]
    found = []
    for each in rules:
        main = next(iter(each.tensors.values()))[0].role.partition("*")
        suffixes = [role.removeprefix(main[0]) for role in roles if role.startswith(main[0])] if main[1] else [""]
        for suffix in suffixes:
            owns = {
                name: [(own, own.role.replace("*", suffix)) for own in tensor]
                for name, tensor in each.tensors.items()
            }
            sources = {
                name: tuple(
                    Source(roles[role], own, record.shape(roles[role])) for own, role in tensor if role in roles
                )
                for name, tensor in owns.items()
            }
            if not sources[next(iter(sources))]:
                continue  # the layer has not what this rule is about
            left = [role for role in left if role not in {role for tensor in owns.values() for _, role in tensor}]
            part = each.part or suffix.lstrip("_")
            found.append(_group(record, each.kind, layer, part, sources))
    for role in left:
        kind = "parameters" if role in layer.parameters else "buffers"
        found.append(
            _group(record, kind, layer, role, {role: (Source(roles[role], Own(role), record.shape(roles[role])),)})
        )
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
