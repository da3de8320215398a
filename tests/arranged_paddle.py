"""The layers of tests.arranged in Paddle, and in paddle.compat where the model's configuration says so."""

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
einsum, tanh, silu, transpose = paddle.einsum, paddle.tanh, F.silu, paddle.transpose
COMPAT = {"on": False}


def begin(config: dict[str, Any]) -> None:
    reset(config["dtype"])
    COMPAT["on"] = config.get("compat", False)


def given(model: Any, ids: Array) -> Any:
    model.train()
    model.frozen = set()
    return model


def fill(weight: Any, array: Array) -> None:
    weight.set_value(np.ascontiguousarray(array, paddle.get_default_dtype()))


def parameter(layer: Any, name: str, array: Array) -> None:
    setattr(layer, name, layer.create_parameter(list(array.shape)))
    fill(getattr(layer, name), array)


def constant(array: Array) -> Any:
    return paddle.to_tensor(array, paddle.get_default_dtype())


def reshape(x: Any, shape: tuple[int, ...]) -> Any:
    return x.reshape(list(shape))


def concat(parts: list[Any]) -> Any:
    return paddle.concat(parts, -1)


def dense(kernel: Array, bias: Array | None = None) -> Any:
    if COMPAT["on"]:
        layer: Any = paddle.compat.nn.Linear(*kernel.shape, bias=bias is not None)
    else:
        layer = nn.Linear(*kernel.shape, bias_attr=None if bias is not None else False)
    fill(layer.weight, kernel.T if COMPAT["on"] else kernel)
    if bias is not None:
        fill(layer.bias, bias)
    return layer


def embedding(table: Array) -> Any:
    layer = nn.Embedding(*table.shape)
    fill(layer.weight, table)
    return layer


def norm(kind: str, w: dict[str, Array]) -> Any:
    assert kind == "layernorm", "Paddle has no layer of RMSNorm"
    layer = nn.LayerNorm(w["gain"].shape, EPSILON)
    fill(layer.weight, w["gain"])
    fill(layer.bias, w["shift"])
    return layer


def conv(kernel: Array, bias: Array) -> Any:
    layer = nn.Conv2D(1, len(bias), 3, padding=1)
    fill(layer.weight, kernel.transpose(3, 2, 0, 1))
    fill(layer.bias, bias)
    return layer


def attention(heads: int, w: dict[str, Array]) -> Any:
    width = len(w["q"])
    if COMPAT["on"]:
        layer: Any = paddle.compat.nn.MultiheadAttention(
            width, heads, batch_first=True, dtype=paddle.get_default_dtype()
        )
        fill(layer.in_proj_weight, np.concatenate([w["q"], w["k"], w["v"]], 1).T)
        fill(layer.in_proj_bias, np.concatenate([w["q_bias"], w["k_bias"], w["v_bias"]]))
    else:
        layer = nn.MultiHeadAttention(width, heads)
        for name in "qkv":
            part = getattr(layer, f"{name}_proj")
            fill(part.weight, w[name])
            fill(part.bias, w[f"{name}_bias"])
    fill(layer.out_proj.weight, w["o"].T if COMPAT["on"] else w["o"])
    fill(layer.out_proj.bias, w["o_bias"])
    return layer


def attend(layer: Any, x: Any) -> Any:
    return layer(x, x, x, need_weights=False)[0] if COMPAT["on"] else layer(x, x, x)


def recurrent(kind: str, ways: list[dict[str, Array]], backwards: bool = False) -> Any:
    width, units = ways[0]["kernel"].shape[0], ways[0]["recurrent"].shape[0]
    of = {"gru": nn.GRU, "lstm": nn.LSTM}[kind]
    layer = of(width, units, direction="bidirect" if len(ways) == 2 else "forward")
    for way, suffix in zip(ways, ("", "_reverse"), strict=False):
        for name, array in recurrent_arrays(kind, way).items():
            fill(getattr(layer, f"{name}{suffix}"), array)
    return layer


def sequence(layer: Any, x: Any, ids: Any, backwards: bool = False) -> Any:
    if ids is None:
        return layer(x.flip(1))[0].flip(1) if backwards else layer(x)[0]
    return layer(x, sequence_length=(ids != 0).sum(1))[0]


def one_where_real(ids: Any, like: Any) -> Any:
    return (ids != 0).astype(like.dtype).unsqueeze(-1)


def weight_normed(g: Array, v: Array, bias: Array) -> Any:
    layer = nn.utils.weight_norm(dense(v, bias), dim=0 if COMPAT["on"] else 1)
    fill(layer.weight_g, g)
    fill(layer.weight_v, v.T if COMPAT["on"] else v)
    return layer
