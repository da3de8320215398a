"""Modules of torch or Paddle, of whichever this process has imported: the layers of
porting_tests.support.zoo, and a training by hand. in_torch.py and in_paddle.py have the rest.

Where a model's configuration says so, layers are those of paddle.compat,
which keep their weights as torch's.
"""

import sys
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from functools import partial
from operator import methodcaller
from typing import Any

import numpy as np

from porting_tests.support.zoo import EPSILON, Array, Block, Config, Ways, array_of, keep, loss_of

api: Any = sys.modules.get("paddle") or sys.modules["torch"]
nn, F, IS_PADDLE = api.nn, api.nn.functional, api.__name__ == "paddle"
CHANNELS, TABLE = "first", "weight"
TIES = not IS_PADDLE  # Paddle's dense kernels are transposed, so a tied table is multiplied with
List = nn.LayerList if IS_PADDLE else nn.ModuleList
softmax, log_softmax = (
    partial(one, **{"axis" if IS_PADDLE else "dim": -1}) for one in (F.softmax, F.log_softmax)
)
mean = methodcaller("mean", -1, keepdim=True)
einsum, reshape, tanh, silu = api.einsum, api.reshape, api.tanh, F.silu
transpose = api.transpose if IS_PADDLE else api.permute
as_tensor = whole = api.to_tensor if IS_PADDLE else api.tensor
average, constant_of, dropout = api.mean, api.Tensor.detach, nn.Dropout
RECURRENT = {"lstm": nn.LSTM, "gru": nn.GRU, "rnn": nn.SimpleRNN if IS_PADDLE else nn.RNN}
NORMS = {"layernorm": nn.LayerNorm} | ({} if IS_PADDLE else {"rmsnorm": nn.RMSNorm})
# Keras's, in the order of torch and Paddle
GATES = {"lstm": (0, 1, 2, 3), "gru": (1, 0, 2), "rnn": (0,)}
OWN_NAMES = {
    "kernel": "weight_ih",
    "recurrent": "weight_hh",
    "bias": "bias_ih",
    "recurrent_bias": "bias_hh",
}
# An attribute of a weight.
FROZEN = ("stop_gradient", True) if IS_PADDLE else ("requires_grad", False)
AS_TORCH = {"nn": None if IS_PADDLE else nn}  # where layers are that keep their weights as torch's
# Weights that are not trained, though Paddle's recurrent layers want gradients of them.
HELD: set[int] = set()


class Layer(nn.Layer if IS_PADDLE else nn.Module):
    def forward(self, *inputs: Any) -> Any:
        return self.compute(*inputs)


Model = Layer


def reset(dtype: str) -> None:
    api.set_default_dtype(dtype if IS_PADDLE else getattr(api, dtype))
    (api.seed if IS_PADDLE else api.manual_seed)(1)
    if IS_PADDLE:
        api.set_device("cpu")
        api.utils.unique_name.switch()  # so that parameters are called as in a process of their own


def begin(config: Config) -> None:
    reset(config["dtype"])
    HELD.clear()
    if IS_PADDLE:
        AS_TORCH["nn"] = api.compat.nn if config.get("compat") else None


def given(model: Any, config: Config, ids: Array) -> Any:
    (model.train if config["training"] else model.eval)()
    return model


def run(model: Any, ids: Array, config: Config) -> Any:
    with autocast(config.get("autocast")):
        return model(as_tensor(ids))


def autocast(dtype: str | None) -> Any:
    """Automatic mixed precision of this type, or none; Paddle has none on the CPU."""
    if IS_PADDLE:
        return nullcontext()
    return api.autocast("cpu", getattr(api, dtype or "bfloat16"), bool(dtype))


def in_float32(x: Any) -> Any:
    return x.astype("float32") if IS_PADDLE else x.float()


def constant(array: Array, like: Any = None) -> Any:
    """In the dtype of another tensor, or as weights have it."""
    return as_tensor(
        np.ascontiguousarray(array), dtype=api.get_default_dtype() if like is None else like.dtype
    )


def filled(layer: Any, **arrays: Array | None) -> Any:
    """The layer with these arrays in its parameters, whose names have "__" for a dot."""
    own = dict(layer.named_parameters())
    for name, array in arrays.items():
        if array is not None:
            weight = own[name.replace("__", ".")]
            (weight.set_value if IS_PADDLE else weight.data.copy_)(constant(array))
    return layer


def parameter(layer: Any, name: str, array: Array) -> None:
    weight = (
        layer.create_parameter(list(array.shape)) if IS_PADDLE else nn.Parameter(constant(array))
    )
    setattr(layer, name, weight)
    filled(layer, **{name: array})


def freeze(block: Block) -> None:
    for weight in block.parameters():
        setattr(weight, *FROZEN)


def share(layer: Any, other: Any) -> None:
    layer.weight = other.weight


def concat(parts: Sequence[Any], axis: int = -1) -> Any:
    return api.concat(list(parts), axis)


def padded(image: Any, before: int, after: int) -> Any:
    return F.pad(image, [before, after, before, after])


def dense(kernel: Array, bias: Array | None = None) -> Any:
    of, biased = AS_TORCH["nn"], bias is not None
    if of is None:
        return filled(
            nn.Linear(*kernel.shape, bias_attr=None if biased else False), weight=kernel, bias=bias
        )
    return filled(of.Linear(*kernel.shape, bias=biased), weight=kernel.T, bias=bias)


def activation(name: str, by_tanh: bool) -> Any:
    """An activation function; tanh computes in place."""
    if name == "gelu":
        return nn.GELU(by_tanh if IS_PADDLE else "tanh" if by_tanh else "none")
    return {"": lambda x: x, "relu": F.relu, "tanh": api.tanh_, "silu": silu}[name]


def embedding(table: Array, padding_idx: int | None) -> Any:
    return filled(nn.Embedding(*table.shape, padding_idx=padding_idx), weight=table)


def norm(kind: str, w: dict[str, Array], epsilon: float) -> Any:
    return filled(NORMS[kind](w["gain"].shape, epsilon), weight=w["gain"], bias=w.get("shift"))


def batchnorm(gain: Array, bias: Array, momentum: float) -> Any:
    """Batch normalization of (N, M, T); `momentum` is the old statistics' share."""
    of = (
        partial(nn.BatchNorm1D, momentum=momentum)
        if IS_PADDLE
        else partial(nn.BatchNorm1d, momentum=1 - momentum)
    )
    return filled(
        of(len(bias), **{"epsilon" if IS_PADDLE else "eps": EPSILON}), weight=gain, bias=bias
    )


def conv(kernel: Array, bias: Array, stride: int = 1, pad: int = 1, dilation: int = 1) -> Any:
    """Along time or of an image."""
    *size, channels, units = kernel.shape
    of = getattr(nn, f"Conv{len(size)}{'D' if IS_PADDLE else 'd'}")
    layer = of(channels, units, size, stride, pad, dilation)
    return filled(layer, weight=np.moveaxis(kernel, (-1, -2), (0, 1)), bias=bias)


def attention(heads: int, w: dict[str, Array]) -> Any:
    of, width = AS_TORCH["nn"], len(w["q"])
    if of is None:
        parts = [("q_proj", "q"), ("k_proj", "k"), ("v_proj", "v"), ("out_proj", "o")]
        own = {f"{layer}__weight": w[name] for layer, name in parts}
        biases = {f"{layer}__bias": w[f"{name}_bias"] for layer, name in parts}
        return filled(nn.MultiHeadAttention(width, heads), **own, **biases)
    layer = of.MultiheadAttention(width, heads, batch_first=True, dtype=api.get_default_dtype())
    kernel = np.concatenate([w[name] for name in "qkv"], 1)
    bias = [w[f"{name}_bias"] for name in "qkv"]
    out = {"out_proj__weight": w["o"].T, "out_proj__bias": w["o_bias"]}
    return filled(layer, in_proj_weight=kernel.T, in_proj_bias=np.concatenate(bias), **out)


def attend(layer: Any, x: Any, masked: Any) -> Any:
    """Attention that sees nothing where `masked` (N, T) is true, if that is given."""
    if AS_TORCH["nn"] is not None:
        return keep(layer(x, x, x, key_padding_mask=masked, need_weights=False))[0]
    return keep(
        layer(x, x, x, None if masked is None else masked.astype(x.dtype)[:, None, None] * -1e30)
    )


def recurrent(kind: str, layers: Ways, settings: Config, backwards: bool = False) -> Any:
    time_first = settings.get("time_first", False)
    sizes = *(len(layers[0][0][name]) for name in ("kernel", "recurrent")), len(layers)
    both, arrays = len(layers[0]) == 2, {}
    if IS_PADDLE:
        layer = RECURRENT[kind](
            *sizes, direction="bidirect" if both else "forward", time_major=time_first
        )
    else:
        layer = RECURRENT[kind](*sizes, batch_first=not time_first, bidirectional=both)
    for number, ways in enumerate(layers):
        for way, suffix in zip(ways, ("", "_reverse"), strict=False):
            for own, name in OWN_NAMES.items():
                blocks = way[own].reshape(*way[own].shape[:-1], len(GATES[kind]), -1)[
                    ..., GATES[kind], :
                ]
                arrays[f"{name}_l{number}{suffix}"] = blocks.reshape(way[own].shape).T
    for name, weight in layer.named_parameters():
        if settings.get("one_bias") and "bias_hh" in name:
            HELD.add(id(weight))
            if not IS_PADDLE:
                setattr(weight, *FROZEN)
    return filled(layer, **arrays)


def sequence(layer: Any, x: Any, ids: Any, initial: float | None, backwards: bool = False) -> Any:
    """Where `ids` is given, without its padding. `initial` is what a GRU's state begins with."""
    if backwards:
        return layer(x.flip(1))[0].flip(1)
    if ids is None:
        return keep(
            layer(
                x,
                None if initial is None else api.full((1, x.shape[0], layer.hidden_size), initial),
            )
        )[0]
    lengths = (ids != 0).sum(1)
    if IS_PADDLE:
        return layer(x, sequence_length=lengths)[0]
    packed = nn.utils.rnn.pack_padded_sequence(x, lengths, batch_first=True, enforce_sorted=False)
    return nn.utils.rnn.pad_packed_sequence(
        layer(packed)[0], batch_first=True, total_length=x.shape[1]
    )[0]


def one_where_real(ids: Any, like: Any) -> Any:
    real = (ids != 0)[..., None]
    return real.astype(like.dtype) if IS_PADDLE else real.to(like.dtype)


def weight_normed(g: Array, v: Array, bias: Array) -> Any:
    layer, own = dense(v, bias), v if AS_TORCH["nn"] is None else v.T
    if IS_PADDLE:
        return filled(
            nn.utils.weight_norm(layer, dim=1 if own is v else 0), weight_g=g, weight_v=own
        )
    arrays = {
        "parametrizations__weight__original0": g[:, None],
        "parametrizations__weight__original1": own,
    }
    return filled(nn.utils.parametrizations.weight_norm(layer), **arrays)


# A training by hand, and what the framework itself has of it, by the names of a record


def trained(model: Any) -> list[Any]:
    name, frozen = FROZEN
    return [
        weight
        for weight in model.parameters()
        if getattr(weight, name) != frozen and id(weight) not in HELD
    ]


def weights(model: Any) -> dict[str, Any]:
    """By the names of a state dict, without those that a recurrent layer's cells
    have in Paddle beside its own."""
    return {
        name: tensor
        for name, tensor in model.state_dict(keep_vars=True).items()
        if "cell" not in name
    }


def backward(model: Any, batch: dict[str, Array], config: Config) -> tuple[Any, Any, None]:
    (model.clear_gradients if IS_PADDLE else model.zero_grad)(False)
    loss, logits = loss_of(sys.modules[__name__], model, batch, config)
    loss.backward()
    return loss, logits, None


def update(model: Any, optimizer: Any, gradients: None) -> None:
    optimizer.step()


def named_gradients(model: Any, gradients: None) -> dict[str, Any]:
    return {name: weight.grad for name, weight in weights(model).items() if weight.grad is not None}


def everything(model: Any) -> list[Any]:
    """All that a record puts back: weights, random numbers, gradients and hooks."""
    state = api.get_rng_state()
    random = array_of(api.rand([4]))
    api.set_rng_state(state)
    gradients = [weight for weight in model.parameters() if weight.grad is not None]
    hooks = "_forward_post_hooks" if IS_PADDLE else "_forward_hooks"
    watched = [
        layer
        for layer in (model.sublayers() if IS_PADDLE else model.modules())
        if getattr(layer, hooks)
    ]
    arrays = [array_of(weight) for weight in weights(model).values()]
    return [*arrays, random, len(gradients), len(watched)]


# What else tests ask of a framework


def squared(model: Any, batch: Any) -> Any:
    return model(batch).square().mean()


def small() -> Any:
    return nn.Linear(3, 2)


def trainings(
    makers: dict[str, Callable[[list[Any]], Any]],
) -> dict[str, tuple[Any, Any, Any, Any]]:
    """By name: a small model, a batch, a function of its loss, and its optimizer."""
    found = {}
    for name, maker in makers.items():
        model = small()
        found[name] = model, api.ones([4, 3]), squared, maker(list(model.parameters()))
    return found


def lstm_returns(arrays: dict[str, Array]) -> dict[str, list[Any]]:
    """The arrays of calls in a framework without Keras's two options,
    which give `output, (h_n, c_n)`."""
    way = {
        "kernel": arrays["kernel"],
        "recurrent": arrays["recurrent_kernel"],
        "bias": arrays["bias"],
    }
    lstm = recurrent("lstm", [[way | {"recurrent_bias": np.zeros_like(arrays["bias"])}]], {})
    x, *states = (as_tensor(arrays[name]) for name in ("x", "state_h", "state_c"))
    initial = tuple(state.unsqueeze(0) for state in states)  # (1, N, H)
    calls = {"tt": lstm(x), "initial_state": lstm(x, initial), "step": lstm(x[:, :1], initial)}
    return {row: [output, h, c] for row, (output, (h, c)) in calls.items()}
