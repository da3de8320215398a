"""The layers of tests.arranged in Paddle, and in paddle.compat where the model's configuration says so."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import paddle
from paddle import nn
from paddle.nn import functional as F

from tests.arranged import EPSILON, recurrent_arrays
from tests.porting_paddle import reset
from tests.porting_side import Array

CHANNELS = "first"
Layer = Model = nn.Layer
List = nn.LayerList
softmax, mean = (lambda x: F.softmax(x, -1)), (lambda x: x.mean(-1, keepdim=True))
einsum, reshape, tanh, silu, transpose = paddle.einsum, paddle.reshape, paddle.tanh, F.silu, paddle.transpose
COMPAT = {"on": False}


def begin(config: dict[str, Any]) -> None:
    reset(config["dtype"])
    COMPAT["on"] = config.get("compat", False)


def given(model: Any, ids: Array) -> Any:
    model.train()
    model.frozen = set()
    return model


def filled(layer: Any, **arrays: Array | None) -> Any:
    """The layer with these arrays in its parameters, whose names have "__" for a dot."""
    own = dict(layer.named_parameters())
    for name, array in arrays.items():
        if array is not None:
            own[name.replace("__", ".")].set_value(np.ascontiguousarray(array, paddle.get_default_dtype()))
    return layer


def parameter(layer: Any, name: str, array: Array) -> None:
    setattr(layer, name, layer.create_parameter(list(array.shape)))
    filled(layer, **{name: array})


def constant(array: Array) -> Any:
    return paddle.to_tensor(array, paddle.get_default_dtype())


def concat(parts: Sequence[Any]) -> Any:
    return paddle.concat(list(parts), -1)


def dense(kernel: Array, bias: Array | None = None) -> Any:
    if COMPAT["on"]:
        layer: Any = paddle.compat.nn.Linear(*kernel.shape, bias=bias is not None)
    else:
        layer = nn.Linear(*kernel.shape, bias_attr=None if bias is not None else False)
    return filled(layer, weight=kernel.T if COMPAT["on"] else kernel, bias=bias)


def embedding(table: Array) -> Any:
    return filled(nn.Embedding(*table.shape), weight=table)


def norm(kind: str, w: dict[str, Array]) -> Any:
    assert kind == "layernorm", "Paddle has no layer of RMSNorm"
    return filled(nn.LayerNorm(w["gain"].shape, EPSILON), weight=w["gain"], bias=w["shift"])


def conv(kernel: Array, bias: Array) -> Any:
    return filled(nn.Conv2D(1, len(bias), 3, padding=1), weight=kernel.transpose(3, 2, 0, 1), bias=bias)


def attention(heads: int, w: dict[str, Array]) -> Any:
    width, out = len(w["q"]), {"out_proj__weight": w["o"], "out_proj__bias": w["o_bias"]}
    if not COMPAT["on"]:
        own = {f"{name}_proj__weight": w[name] for name in "qkv"}
        biases = {f"{name}_proj__bias": w[f"{name}_bias"] for name in "qkv"}
        return filled(nn.MultiHeadAttention(width, heads), **own, **biases, **out)
    layer = paddle.compat.nn.MultiheadAttention(width, heads, batch_first=True, dtype=paddle.get_default_dtype())
    kernels, biases = np.concatenate([w["q"], w["k"], w["v"]], 1), [w["q_bias"], w["k_bias"], w["v_bias"]]
    out["out_proj__weight"] = w["o"].T
    return filled(layer, in_proj_weight=kernels.T, in_proj_bias=np.concatenate(biases), **out)


def attend(layer: Any, x: Any) -> Any:
    return layer(x, x, x, need_weights=False)[0] if COMPAT["on"] else layer(x, x, x)


def recurrent(kind: str, ways: list[dict[str, Array]], backwards: bool = False) -> Any:
    width, units = ways[0]["kernel"].shape[0], ways[0]["recurrent"].shape[0]
    of = {"gru": nn.GRU, "lstm": nn.LSTM}[kind]
    layer = of(width, units, direction="bidirect" if len(ways) == 2 else "forward")
    return filled(layer, **recurrent_arrays(kind, ways))


def sequence(layer: Any, x: Any, ids: Any, backwards: bool = False) -> Any:
    if ids is None:
        return layer(x.flip(1))[0].flip(1) if backwards else layer(x)[0]
    return layer(x, sequence_length=(ids != 0).sum(1))[0]


def one_where_real(ids: Any, like: Any) -> Any:
    return (ids != 0).astype(like.dtype).unsqueeze(-1)


def weight_normed(g: Array, v: Array, bias: Array) -> Any:
    layer = nn.utils.weight_norm(dense(v, bias), dim=0 if COMPAT["on"] else 1)
    return filled(layer, weight_g=g, weight_v=v.T if COMPAT["on"] else v)
