"""The layers of tests.arranged in torch."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F
from torch.nn.utils import rnn
from torch.nn.utils.parametrizations import weight_norm as normed

from tests.arranged import EPSILON, recurrent_arrays
from tests.porting_side import Array
from tests.porting_torch import reset

CHANNELS = "first"
Layer = Model = nn.Module
List = nn.ModuleList
softmax, mean = (lambda x: F.softmax(x, -1)), (lambda x: x.mean(-1, keepdim=True))
einsum, reshape, tanh, silu, transpose = torch.einsum, torch.reshape, torch.tanh, F.silu, torch.permute


def begin(config: dict[str, Any]) -> None:
    reset(config["dtype"])


def given(model: Any, ids: Array) -> Any:
    return model.train(True)


def filled(layer: Any, **arrays: Array | None) -> Any:
    """The layer with these arrays in its parameters, whose names have "__" for a dot."""
    for name, array in arrays.items():
        if array is not None:
            with torch.no_grad():
                layer.get_parameter(name.replace("__", ".")).copy_(constant(array))
    return layer


def parameter(layer: Any, name: str, array: Array) -> None:
    setattr(layer, name, nn.Parameter(constant(array)))


def constant(array: Array) -> Any:
    return torch.from_numpy(np.ascontiguousarray(array)).to(torch.get_default_dtype())


def concat(parts: Sequence[Any]) -> Any:
    return torch.cat(list(parts), -1)


def dense(kernel: Array, bias: Array | None = None) -> Any:
    return filled(nn.Linear(*kernel.shape, bias=bias is not None), weight=kernel.T, bias=bias)


def embedding(table: Array) -> Any:
    return filled(nn.Embedding(*table.shape), weight=table)


def norm(kind: str, w: dict[str, Array]) -> Any:
    of = nn.LayerNorm if kind == "layernorm" else nn.RMSNorm
    return filled(of(w["gain"].shape, EPSILON), weight=w["gain"], bias=w.get("shift"))


def conv(kernel: Array, bias: Array) -> Any:
    return filled(nn.Conv2d(1, len(bias), 3, padding=1), weight=kernel.transpose(3, 2, 0, 1), bias=bias)


def attention(heads: int, w: dict[str, Array]) -> Any:
    kernels, biases = np.concatenate([w["q"], w["k"], w["v"]], 1), [w["q_bias"], w["k_bias"], w["v_bias"]]
    layer = nn.MultiheadAttention(len(w["q"]), heads, batch_first=True)
    out = {"out_proj__weight": w["o"].T, "out_proj__bias": w["o_bias"]}
    return filled(layer, in_proj_weight=kernels.T, in_proj_bias=np.concatenate(biases), **out)


def attend(layer: Any, x: Any) -> Any:
    return layer(x, x, x, need_weights=False)[0]


def recurrent(kind: str, ways: list[dict[str, Array]], backwards: bool = False) -> Any:
    width, units = ways[0]["kernel"].shape[0], ways[0]["recurrent"].shape[0]
    of = {"gru": nn.GRU, "lstm": nn.LSTM}[kind]
    layer = of(width, units, batch_first=True, bidirectional=len(ways) == 2)
    return filled(layer, **recurrent_arrays(kind, ways))


def sequence(layer: Any, x: Any, ids: Any, backwards: bool = False) -> Any:
    if ids is None:
        return layer(x.flip(1))[0].flip(1) if backwards else layer(x)[0]
    lengths = (ids != 0).sum(1)
    packed = rnn.pack_padded_sequence(x, lengths, batch_first=True, enforce_sorted=False)
    return rnn.pad_packed_sequence(layer(packed)[0], batch_first=True, total_length=x.shape[1])[0]


def one_where_real(ids: Any, like: Any) -> Any:
    return (ids != 0).to(like.dtype)[..., None]


def weight_normed(g: Array, v: Array, bias: Array) -> Any:
    own = {"parametrizations__weight__original0": g[:, None], "parametrizations__weight__original1": v.T}
    return filled(normed(dense(v, bias)), **own)
