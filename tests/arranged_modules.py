"""The layers of tests.arranged in torch or Paddle, whichever this process has imported.

Where the model's configuration says so, they are those of paddle.compat, which keep their weights as torch's.
"""

import sys
from collections.abc import Sequence
from typing import Any

import numpy as np

from tests.arranged import EPSILON, recurrent_arrays
from tests.porting_side import Array

api: Any = sys.modules.get("paddle") or sys.modules["torch"]
nn, F, IS_PADDLE = api.nn, api.nn.functional, api.__name__ == "paddle"
CHANNELS = "first"
Layer, List = (nn.Layer, nn.LayerList) if IS_PADDLE else (nn.Module, nn.ModuleList)
Model = Layer
softmax, mean = (lambda x: F.softmax(x, -1)), (lambda x: x.mean(-1, keepdim=True))
einsum, reshape, tanh, silu = api.einsum, api.reshape, api.tanh, F.silu
transpose = api.transpose if IS_PADDLE else api.permute
AS_TORCH = {"nn": None if IS_PADDLE else nn}  # where layers are that keep their weights as torch's


def begin(config: dict[str, Any]) -> None:
    if IS_PADDLE:
        AS_TORCH["nn"] = api.compat.nn if config.get("compat") else None


def given(model: Any, ids: Array) -> Any:
    model.train()
    model.frozen = set()  # of Paddle's weights
    return model


def constant(array: Array) -> Any:
    make = api.to_tensor if IS_PADDLE else api.tensor
    return make(np.ascontiguousarray(array), dtype=api.get_default_dtype())


def filled(layer: Any, **arrays: Array | None) -> Any:
    """The layer with these arrays in its parameters, whose names have "__" for a dot."""
    own = dict(layer.named_parameters())
    for name, array in arrays.items():
        if array is not None:
            weight = own[name.replace("__", ".")]
            (weight.set_value if IS_PADDLE else weight.data.copy_)(constant(array))
    return layer


def parameter(layer: Any, name: str, array: Array) -> None:
    weight = layer.create_parameter(list(array.shape)) if IS_PADDLE else nn.Parameter(constant(array))
    setattr(layer, name, weight)
    filled(layer, **{name: array})


def concat(parts: Sequence[Any]) -> Any:
    return api.concat(list(parts), -1)


def dense(kernel: Array, bias: Array | None = None) -> Any:
    of, biased = AS_TORCH["nn"], bias is not None
    if of is None:
        return filled(nn.Linear(*kernel.shape, bias_attr=None if biased else False), weight=kernel, bias=bias)
    return filled(of.Linear(*kernel.shape, bias=biased), weight=kernel.T, bias=bias)


def embedding(table: Array) -> Any:
    return filled(nn.Embedding(*table.shape), weight=table)


def norm(kind: str, w: dict[str, Array]) -> Any:
    """Paddle has no layer of RMSNorm."""
    of = nn.LayerNorm if kind == "layernorm" else nn.RMSNorm
    return filled(of(w["gain"].shape, EPSILON), weight=w["gain"], bias=w.get("shift"))


def conv(kernel: Array, bias: Array) -> Any:
    layer = (nn.Conv2D if IS_PADDLE else nn.Conv2d)(1, len(bias), 3, padding=1)
    return filled(layer, weight=kernel.transpose(3, 2, 0, 1), bias=bias)


def attention(heads: int, w: dict[str, Array]) -> Any:
    of, width = AS_TORCH["nn"], len(w["q"])
    if of is None:
        parts = [("q_proj", "q"), ("k_proj", "k"), ("v_proj", "v"), ("out_proj", "o")]
        own = {f"{layer}__weight": w[name] for layer, name in parts}
        biases = {f"{layer}__bias": w[f"{name}_bias"] for layer, name in parts}
        return filled(nn.MultiHeadAttention(width, heads), **own, **biases)
    layer = of.MultiheadAttention(width, heads, batch_first=True, dtype=api.get_default_dtype())
    kernel, bias = np.concatenate([w[name] for name in "qkv"], 1), [w[f"{name}_bias"] for name in "qkv"]
    out = {"out_proj__weight": w["o"].T, "out_proj__bias": w["o_bias"]}
    return filled(layer, in_proj_weight=kernel.T, in_proj_bias=np.concatenate(bias), **out)


def attend(layer: Any, x: Any) -> Any:
    return layer(x, x, x) if AS_TORCH["nn"] is None else layer(x, x, x, need_weights=False)[0]


def recurrent(kind: str, ways: list[dict[str, Array]], backwards: bool = False) -> Any:
    sizes, both = (ways[0]["kernel"].shape[0], ways[0]["recurrent"].shape[0]), len(ways) == 2
    of = {"gru": nn.GRU, "lstm": nn.LSTM}[kind]
    if IS_PADDLE:
        layer = of(*sizes, direction="bidirect" if both else "forward")
    else:
        layer = of(*sizes, batch_first=True, bidirectional=both)
    return filled(layer, **recurrent_arrays(kind, ways))


def sequence(layer: Any, x: Any, ids: Any, backwards: bool = False) -> Any:
    if ids is None:
        return layer(x.flip(1))[0].flip(1) if backwards else layer(x)[0]
    lengths = (ids != 0).sum(1)
    if IS_PADDLE:
        return layer(x, sequence_length=lengths)[0]
    packed = nn.utils.rnn.pack_padded_sequence(x, lengths, batch_first=True, enforce_sorted=False)
    return nn.utils.rnn.pad_packed_sequence(layer(packed)[0], batch_first=True, total_length=x.shape[1])[0]


def one_where_real(ids: Any, like: Any) -> Any:
    real = (ids != 0)[..., None]
    return real.astype(like.dtype) if IS_PADDLE else real.to(like.dtype)


def weight_normed(g: Array, v: Array, bias: Array) -> Any:
    layer, own = dense(v, bias), v if AS_TORCH["nn"] is None else v.T
    if IS_PADDLE:
        return filled(nn.utils.weight_norm(layer, dim=1 if own is v else 0), weight_g=g, weight_v=own)
    arrays = {"parametrizations__weight__original0": g[:, None], "parametrizations__weight__original1": own}
    return filled(nn.utils.parametrizations.weight_norm(layer), **arrays)
