"""What the frameworks' layers, settings and slots mean: one table for each framework, all leading to one layout.

The canonical layout is Keras's, as everywhere in Rosetta. groups.py applies these tables to a record.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

Settings = Mapping[str, Any]


# Axes of an array, and of the canonical one, as a line of a mapping has them; "..." stands for any others.
TURNED = "out in ... -> ... in out"  # what is kept as (in, out, *k) becomes (*k, out, in)


@dataclass(frozen=True)
class Own:
    """An array as a framework keeps it, and how it becomes canonical."""

    role: str  # the layer's name for it; "*" is what tells a stacked layer's parts apart, such as "_l0_reverse"
    axes: str = "n ..."  # of each array, where the role is several names, which are the "parts" of one
    parts: int = 1  # how many equal parts its axis "parts" has, such as gates
    kept: tuple[int, ...] = (0,)  # those of them that are canonical, in order


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


def turned(role: str, *parts: Any) -> Own:
    return Own(role, TURNED.replace("out", "parts") if parts else TURNED, *parts)


def of_heads(inputs: int, outputs: int) -> tuple[Rule, ...]:
    """A layer of which the projections of an attention are made: so many axes of inputs and outputs are merged."""
    one, other = (" ".join(f"{of}{n}" for n in range(count)) for of, count in (("in", inputs), ("out", outputs)))
    kernel = Own("kernel", f"{one} {other} -> ({one}) ({other})")
    return (rule("dense", kernel=kernel, bias=Own("bias", "n ... -> (n ...)")),) if inputs else ()


def keras_einsum(settings: Settings) -> tuple[Rule, ...]:
    terms, _, result = str(settings.get("equation", "")).replace("...", "").partition("->")
    kernel = terms.partition(",")[2]
    inputs = sum(letter not in result for letter in kernel)  # the axes that are summed over; they come first
    in_order = not any(letter in result for letter in kernel[:inputs])
    return of_heads(inputs, len(kernel) - inputs) if in_order else ()


def flax_general(settings: Settings) -> tuple[Rule, ...]:
    return of_heads(*(len(settings.get(f"{name}_features", [])) for name in ("in", "out")))


def keras_gru(settings: Settings) -> tuple[Rule, ...]:
    """Its bias is (2, 3H) where the reset gate stands after the recurrent product, (3H,) where it stands before."""
    if not settings.get("reset_after", True):
        return (replace(KERAS_RNN, kind="gru"),)
    bias, recurrent_bias = (Own("bias", "parts n -> (parts n)", 2, (part,)) for part in range(2))
    return (rule("gru", **same("kernel", "recurrent_kernel"), bias=bias, recurrent_bias=recurrent_bias),)


SWAPPED = 3, (1, 0, 2)  # torch and Paddle have a GRU's three gates in the order r z n, Keras in the order z r h
BIASES = (Own("bias_ih*"), Own("bias_hh*"))
RNN = rule("rnn", kernel=turned("weight_ih*"), recurrent_kernel=turned("weight_hh*"), bias=BIASES)
CONV = rule("conv", kernel=turned("weight"), bias="bias")
SCALED = rule("layernorm", gamma="weight", beta="bias")
KERAS_RNN = rule("rnn", **same("kernel", "recurrent_kernel", "bias"))
KERAS_CONV = rule("conv", **same("kernel", "bias"))
KERAS_CONV_TRANSPOSE = replace(KERAS_CONV, kind="conv_transpose")
KERAS_SCALED = rule("layernorm", **same("gamma", "beta"))
PADDLE_BATCHNORM = rule("batchnorm", gamma="weight", beta="bias", moving_mean="_mean", moving_variance="_variance")

# The rules by the names of classes, without the number of dimensions and "Cell": Conv1d and Conv2D are Conv.
DIMENSIONS_OR_CELL = re.compile("[123][dD]|Cell$")
Rules = tuple[Rule, ...] | Rule | Callable[[Settings], tuple[Rule, ...]]
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
        kernel=turned("weight_ih*", *SWAPPED),
        recurrent_kernel=turned("weight_hh*", *SWAPPED),
        bias=Own("bias_ih*", "parts", *SWAPPED),
        recurrent_bias=Own("bias_hh*", "parts", *SWAPPED),
    ),
}
LINEAR = rule("dense", kernel=turned("weight"), bias="bias")  # of torch, and of paddle.compat
# Either one array holds query, key and value, or each has its own, where they come from different widths.
ATTENTION = (
    *(
        rule("dense", part, kernel=kernel, bias=(Own("in_proj_bias", "parts", 3, i), Own(f"{part[0]}_proj_bias")))
        for i, part in (((0,), "query"), ((1,), "key"), ((2,), "value"))
        for kernel in (turned("in_proj_weight", 3, i), turned(f"{part[0]}_proj_weight"))
    ),
    rule("dense", "output", kernel=turned("out_proj.weight"), bias="out_proj.bias"),
)
TORCH: dict[str, Rules] = {
    "Linear": LINEAR,
    "_BatchNorm": rule(
        "batchnorm", gamma="weight", beta="bias", moving_mean="running_mean", moving_variance="running_var"
    ),
    "RNN": RNN,
    "MultiheadAttention": ATTENTION,
}
PADDLE: dict[str, Rules] = {
    "Linear": rule("dense", kernel="weight", bias="bias"),
    "_BatchNormBase": PADDLE_BATCHNORM,
    "BatchNorm": PADDLE_BATCHNORM,
    "SimpleRNN": RNN,
    "compat.Linear": LINEAR,
    "compat.MultiheadAttention": ATTENTION,
}
KERAS: dict[str, Rules] = {
    "Dense": replace(KERAS_CONV, kind="dense"),
    "EinsumDense": keras_einsum,
    "Embedding": rule("embedding", **same("embeddings")),
    "LayerNormalization": KERAS_SCALED,
    "GroupNormalization": replace(KERAS_SCALED, kind="groupnorm"),
    "RMSNormalization": rule("rmsnorm", gamma="scale"),
    "BatchNormalization": rule("batchnorm", **same("gamma", "beta", "moving_mean", "moving_variance")),
    "Conv": KERAS_CONV,
    "ConvTranspose": KERAS_CONV_TRANSPOSE,
    # As the kernel of a convolution in as many groups as there are channels.
    "DepthwiseConv": rule("conv", kernel=Own("kernel", "... in n -> ... 1 (in n)"), bias="bias"),
    "SimpleRNN": KERAS_RNN,
    "LSTM": replace(KERAS_RNN, kind="lstm"),
    "GRU": keras_gru,
}
GATES_OF_FLAX = "in parts -> in parts", *SWAPPED
FLAX: dict[str, Rules] = {
    "Linear": KERAS["Dense"],
    "LinearGeneral": flax_general,
    "Embed": rule("embedding", embeddings="embedding"),
    "LayerNorm": rule("layernorm", gamma="scale", beta="bias"),
    "GroupNorm": rule("groupnorm", gamma="scale", beta="bias"),
    "RMSNorm": rule("rmsnorm", gamma="scale"),
    "BatchNorm": rule("batchnorm", gamma="scale", beta="bias", moving_mean="mean", moving_variance="var"),
    "Conv": KERAS_CONV,
    # Otherwise its kernel is the other way round, which no line of axes says.
    "ConvTranspose": lambda settings: (KERAS_CONV_TRANSPOSE,) if settings.get("transpose_kernel") else (),
    "Simple": rule("rnn", kernel="dense_i.kernel", recurrent_kernel="dense_h.kernel", bias="dense_i.bias"),
    "OptimizedLSTM": rule("lstm", kernel="dense_i.kernel", recurrent_kernel="dense_h.kernel", bias="dense_h.bias"),
    "LSTM": rule(
        "lstm",
        kernel=Own("ii.kernel if_.kernel ig.kernel io.kernel", "in out -> in (parts out)"),
        recurrent_kernel=Own("hi.kernel hf.kernel hg.kernel ho.kernel", "in out -> in (parts out)"),
        bias=Own("hi.bias hf.bias hg.bias ho.bias", "out -> (parts out)"),
    ),
    "GRU": rule(
        "gru",
        kernel=Own("dense_i.kernel", *GATES_OF_FLAX),
        recurrent_kernel=Own("dense_h.kernel", *GATES_OF_FLAX),
        bias=Own("dense_i.bias", "parts", *SWAPPED),
        recurrent_bias=Own("dense_h.bias", "parts", *SWAPPED),  # which it has only in a person's own cell
    ),
}
LAYERS = {"torch": BOTH | TORCH, "paddle": BOTH | PADDLE, "keras": KERAS, "flax": FLAX, "arrays": KERAS}
RECURRENT = ("rnn", "lstm", "gru")
# Kinds of layers that may have an activation in them; of batch normalizations Paddle's older one.
ACTIVATED = ("dense", "conv", "conv_transpose", "batchnorm")
ARRANGED = "arranged"  # the kind of a group whose tensor a mapping's entry arranges
TAP = "tap"  # the kind of a group of what a program recorded between layers, by a name
PARENT = "parent"  # the kind of a group of a layer without weights of its own that contains others
COUNTERS = ("num_batches_tracked",)  # buffers that compute nothing


def by_framework(names: dict[str, tuple[str, str, str, str]]) -> dict[str, dict[str, str]]:
    """For each framework own names -> the canonical name, out of a table of each canonical name's own names in torch,
    Paddle, Keras and Flax. What no framework computed has the canonical names."""
    found = {"arrays": same(*names)}
    for column, framework in enumerate(("torch", "paddle", "keras", "flax")):
        found[framework] = {own: name for name, owns in names.items() for own in owns[column].split()}
    return found


SETTINGS = by_framework({  # those of layers that change numbers
    "epsilon": ("eps", "_epsilon", "epsilon", "epsilon"),
    "momentum": ("momentum", "_momentum", "momentum", "momentum"),
    "rate": ("p dropout", "p dropout", "rate dropout", "rate dropout_rate"),
    "reset_after": ("", "", "reset_after", ""),
    "padding_idx": ("padding_idx", "_padding_idx", "", ""),
    "time_first": ("batch_first", "time_major", "", "time_major"),
    "approximate": ("approximate", "_approximate", "approximate", ""),
    "activation": ("nonlinearity", "_act", "activation", ""),
    "num_heads": ("num_heads", "num_heads", "num_heads", "num_heads"),
    "negative_slope": ("negative_slope", "_negative_slope", "negative_slope", ""),
    "stride": ("stride", "_stride", "strides", "strides"),
    "dilation": ("dilation", "_dilation", "dilation_rate", "kernel_dilation"),
    "padding": ("padding", "_padding padding", "padding", "padding"),
    "ceil_mode": ("ceil_mode", "ceil_mode", "", ""),
    "mode": ("", "mode", "", ""),
})  # fmt: skip
OPTIMIZERS = by_framework({  # whose settings mean the same everywhere; torch's "betas" are two
    "learning_rate": ("lr", "learning_rate", "learning_rate", "hyperparams.learning_rate"),
    "epsilon": ("eps", "_epsilon", "epsilon",
                "scale_by_adam.eps scale_by_rms.eps scale_by_stddev.eps hyperparams.eps"),
    "beta_1": ("", "_beta1", "beta_1", "scale_by_adam.b1 hyperparams.b1"),
    "beta_2": ("", "_beta2", "beta_2", "scale_by_adam.b2 hyperparams.b2"),
    "momentum": ("momentum", "_momentum", "momentum", "trace.decay hyperparams.momentum"),
    "rho": ("alpha", "_rho", "rho", "scale_by_rms.decay scale_by_stddev.decay hyperparams.decay"),
    "weight_decay": ("weight_decay", "_weight_decay regularization._coeff", "weight_decay",
                     "add_decayed_weights.weight_decay hyperparams.weight_decay"),
    "nesterov": ("nesterov", "_use_nesterov", "nesterov", "trace.nesterov hyperparams.nesterov"),
    "centered": ("centered", "_centered", "centered", ""),
    "amsgrad": ("amsgrad", "_amsgrad", "amsgrad", ""),
    "dampening": ("dampening", "", "", ""),
})  # fmt: skip
SLOTS = by_framework({
    "momentum": ("momentum_buffer exp_avg", "velocity momentum moment1", "momentum",
                 "ScaleByAdamState.mu ScaleByAmsgradState.mu TraceState.trace"),
    "mean_square": ("exp_avg_sq square_avg", "moment2 mean_square", "velocity",
                    "ScaleByAdamState.nu ScaleByAmsgradState.nu ScaleByRmsState.nu ScaleByRStdDevState.nu"),
    "largest_mean_square": ("max_exp_avg_sq", "moment2_max", "velocity_hat", "ScaleByAmsgradState.nu_max"),
    "mean_gradient": ("grad_avg", "mean_grad", "average_gradient", "ScaleByRStdDevState.mu"),
    "sum_of_squares": ("sum", "moment", "accumulator", "ScaleByRssState.sum_of_squares"),
})  # fmt: skip
# optax's transformations, and the kind of optimizer that a chain with one of them is.
OPTAX = {
    "scale_by_adam": "Adam",
    "scale_by_amsgrad": "Adam",
    "scale_by_rms": "RMSprop",
    "scale_by_stddev": "RMSprop",
    "adamw": "AdamW",  # these four where their settings are kept in the state
    "adam": "Adam",
    "rmsprop": "RMSprop",
    "sgd": "SGD",
    "trace": "SGD",
    "scale": "SGD",
}
# What makes of an own value the canonical one, where that is another. torch's momentum is the new batch's share,
# Keras's and Paddle's the old statistics'; None is a mean of all.
MEANINGS: dict[tuple[str, str], Callable[[Any], Any]] = {
    ("torch", "momentum"): lambda share: share if share is None else round(1 - share, 12),
    ("torch", "batch_first"): lambda batch_first: not batch_first,
    ("torch", "approximate"): lambda approximate: approximate == "tanh",
    ("paddle", "_padding_idx"): lambda row: None if row == -1 else row,
    ("flax", "padding"): lambda padding: padding.lower() if isinstance(padding, str) else padding,
}
UPSCALED = {"mode": "upscale_in_train"}  # Paddle's word for a dropout that passes on what it is given in evaluation
# What a framework's layers of a kind always are.
ALWAYS: dict[str, dict[str, dict[str, Any]]] = {
    "torch": {"gru": {"reset_after": True}, "dropout": UPSCALED},
    "paddle": {"gru": {"reset_after": True}},
    "keras": {
        "embedding": {"padding_idx": None},
        "dropout": UPSCALED,
        **{kind: {"time_first": False} for kind in RECURRENT},
    },
    "flax": {"gru": {"reset_after": True}, "embedding": {"padding_idx": None}, "dropout": UPSCALED},
    "arrays": {},
}
# Momentum is v = mu v + g in torch. These keep it with the learning rate in it, Keras's SGD with the other sign too.
RATE_IN_MOMENTUM = {
    ("keras", "SGD"): -1.0,
    ("keras", "RMSprop"): 1.0,
    ("paddle", "RMSProp"): 1.0,
    ("flax", "RMSprop"): -1.0,
}
SAME_SLOTS = {"Momentum": "SGD", "RMSProp": "RMSprop", "AdamW": "Adam"}  # kinds that keep the same
# Where epsilon stands, and whether weight decay goes by the gradient or straight to the weight.
EPSILON = {
    ("torch", "Adam"): "added to the root after its bias is corrected",
    ("paddle", "Adam"): "added to the root after its bias is corrected",
    ("keras", "Adam"): "added to the root before its bias is corrected",
    ("torch", "RMSprop"): "outside the root",
    ("paddle", "RMSProp"): "inside the root",
    ("keras", "RMSprop"): "inside the root",
    ("flax", "Adam"): "added to the root after its bias is corrected",
    ("flax", "RMSprop"): "inside the root",  # as installed
}
EPSILON |= {(framework, "AdamW"): EPSILON[framework, "Adam"] for framework in ("torch", "paddle", "keras", "flax")}
# What computes with constants of float32 even where all else is float64, by framework and Keras's backend: classes of
# layers, activations within layers, and for each optimizer the settings of which it makes such constants.
FLOAT32_LAYERS: dict[tuple[str, str | None], set[str]] = {
    ("keras", "tensorflow"): {"gelu", "MultiHeadAttention", "GroupedQueryAttention"}
}
# Paddle's norms that round epsilon to float32; its GroupNorm does not.
FLOAT32_EPSILON = {"LayerNorm", "_BatchNormBase", "BatchNorm", "_InstanceNormBase"}
FLOAT32_SETTINGS: dict[tuple[str, str | None], dict[str, tuple[str, ...]]] = {
    ("paddle", None): {"RMSProp": ("rho", "epsilon", "momentum", "learning_rate"), "Momentum": ("momentum",)},
    ("keras", "tensorflow"): {
        "SGD": ("momentum", "weight_decay"),
        "Adam": ("beta_1", "beta_2", "weight_decay"),
        "AdamW": ("beta_1", "beta_2", "weight_decay"),
    },
}
EPSILONS = {"torch": "eps", "keras": "epsilon", "flax": "epsilon", "arrays": "epsilon"}  # the attribute of a norm
BY_LESS_THAN_N = ("torch",)  # divide the variances that make the running one by n - 1, the others by n
