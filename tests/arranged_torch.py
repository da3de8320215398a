"""The layers of tests.arranged in torch."""

from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F
from torch.nn.utils import rnn
from torch.nn.utils.parametrizations import weight_norm

from tests.arranged import EPSILON, recurrent_arrays
from tests.porting_side import Array
from tests.porting_torch import reset

CHANNELS = "first"
Layer = Model = nn.Module
List = nn.ModuleList
softmax, mean = (lambda x: F.softmax(x, -1)), (lambda x: x.mean(-1, keepdim=True))
einsum, reshape, tanh, silu = torch.einsum, torch.reshape, torch.tanh, F.silu


def begin(config: dict[str, Any]) -> None:
    reset(config["dtype"])


def given(model: Any, ids: Array) -> Any:
    return model.train(True)


def fill(weight: Any, array: Array) -> None:
    with torch.no_grad():
        weight.copy_(torch.from_numpy(np.ascontiguousarray(array)))


def parameter(layer: Any, name: str, array: Array) -> None:
    setattr(layer, name, nn.Parameter(torch.empty(array.shape)))
    fill(getattr(layer, name), array)


def constant(array: Array) -> Any:
    return torch.from_numpy(array).to(torch.get_default_dtype())


def concat(parts: list[Any]) -> Any:
    return torch.cat(parts, -1)


def transpose(x: Any, axes: tuple[int, ...]) -> Any:
    return x.permute(axes)


def dense(kernel: Array, bias: Array | None = None) -> Any:
    layer = nn.Linear(*kernel.shape, bias=bias is not None)
    fill(layer.weight, kernel.T)
    if bias is not None:
        fill(layer.bias, bias)
    return layer


def embedding(table: Array) -> Any:
    layer = nn.Embedding(*table.shape)
    fill(layer.weight, table)
    return layer


def norm(kind: str, w: dict[str, Array]) -> Any:
    layer = (nn.LayerNorm if kind == "layernorm" else nn.RMSNorm)(w["gain"].shape, EPSILON)
    fill(layer.weight, w["gain"])
    if kind == "layernorm":
        fill(layer.bias, w["shift"])
    return layer


def conv(kernel: Array, bias: Array) -> Any:
    layer = nn.Conv2d(1, len(bias), 3, padding=1)
    fill(layer.weight, kernel.transpose(3, 2, 0, 1))
    fill(layer.bias, bias)
    return layer


def attention(heads: int, w: dict[str, Array]) -> Any:
    layer = nn.MultiheadAttention(len(w["q"]), heads, batch_first=True)
    fill(layer.in_proj_weight, np.concatenate([w["q"], w["k"], w["v"]], 1).T)
    fill(layer.in_proj_bias, np.concatenate([w["q_bias"], w["k_bias"], w["v_bias"]]))
    fill(layer.out_proj.weight, w["o"].T)
    fill(layer.out_proj.bias, w["o_bias"])
    return layer


def attend(layer: Any, x: Any) -> Any:
    return layer(x, x, x, need_weights=False)[0]


def recurrent(kind: str, ways: list[dict[str, Array]], backwards: bool = False) -> Any:
    width, units = ways[0]["kernel"].shape[0], ways[0]["recurrent"].shape[0]
    of = {"gru": nn.GRU, "lstm": nn.LSTM}[kind]
    layer = of(width, units, batch_first=True, bidirectional=len(ways) == 2)
    for way, suffix in zip(ways, ("", "_reverse"), strict=False):
        for name, array in recurrent_arrays(kind, way).items():
            fill(getattr(layer, f"{name}{suffix}"), array)
    return layer


def sequence(layer: Any, x: Any, ids: Any, backwards: bool = False) -> Any:
    if ids is None:
        return layer(x.flip(1))[0].flip(1) if backwards else layer(x)[0]
    lengths = (ids != 0).sum(1)
    packed = rnn.pack_padded_sequence(x, lengths, batch_first=True, enforce_sorted=False)
    return rnn.pad_packed_sequence(layer(packed)[0], batch_first=True, total_length=x.shape[1])[0]


def one_where_real(ids: Any, like: Any) -> Any:
    return (ids != 0).to(like.dtype)[..., None]


def weight_normed(g: Array, v: Array, bias: Array) -> Any:
    layer = weight_norm(dense(v, bias))
    fill(layer.parametrizations.weight.original0, g[:, None])
    fill(layer.parametrizations.weight.original1, v.T)
    return layer
