"""The layers of tests.arranged in Keras. A layer makes its weights when it is first called, and gets them then."""

from collections.abc import Sequence
from itertools import chain
from typing import Any

import keras
import numpy as np
from keras import layers, ops

from tests.arranged import EPSILON
from tests.porting_side import Array

CHANNELS = "last"
List = list
softmax, mean = (lambda x: ops.softmax(x, -1)), (lambda x: ops.mean(x, -1, keepdims=True))
einsum, reshape, tanh, silu, transpose = ops.einsum, ops.reshape, ops.tanh, ops.silu, ops.transpose
GIVEN: list[tuple[Any, list[Array]]] = []


class Layer(layers.Layer):
    def call(self, x: Any, ids: Any = None) -> Any:
        return self.forward(x) if ids is None else self.forward(x, ids)


class Model(keras.Model):
    def call(self, ids: Any, training: bool = False) -> Any:
        return self.forward(ids)


def begin(config: dict[str, Any]) -> None:
    GIVEN.clear()


def given(model: Any, ids: Array) -> Any:
    model(ids)
    for layer, arrays in GIVEN:
        layer.set_weights(arrays)
    return model


def with_weights(layer: Any, *arrays: Array | None) -> Any:
    GIVEN.append((layer, [array for array in arrays if array is not None]))
    return layer


def parameter(layer: Any, name: str, array: Array) -> None:
    setattr(layer, name, layer.add_weight(array.shape, name=name))
    getattr(layer, name).assign(array)


def constant(array: Array) -> Any:
    return ops.convert_to_tensor(array, keras.config.floatx())


def concat(parts: Sequence[Any]) -> Any:
    return ops.concatenate(list(parts), -1)


def dense(kernel: Array, bias: Array | None = None) -> Any:
    return with_weights(layers.Dense(kernel.shape[1], use_bias=bias is not None), kernel, bias)


def embedding(table: Array) -> Any:
    return with_weights(layers.Embedding(*table.shape), table)


def norm(kind: str, w: dict[str, Array]) -> Any:
    of = layers.LayerNormalization if kind == "layernorm" else layers.RMSNormalization
    return with_weights(of(epsilon=EPSILON), *w.values())


def conv(kernel: Array, bias: Array) -> Any:
    return with_weights(layers.Conv2D(len(bias), 3, padding="same"), kernel, bias)


def attention(heads: int, w: dict[str, Array]) -> Any:
    width, wide = w["q"].shape
    kernels = [[w[name].reshape(width, heads, -1), w[f"{name}_bias"].reshape(heads, -1)] for name in "qkv"]
    layer = layers.MultiHeadAttention(heads, wide // heads)
    return with_weights(layer, *chain(*kernels), w["o"].reshape(heads, -1, width), w["o_bias"])


def attend(layer: Any, x: Any) -> Any:
    return layer(x, x)


def recurrent(kind: str, ways: list[dict[str, Array]], backwards: bool = False) -> Any:
    assert kind == "gru", "torch and Paddle train two biases of an LSTM, and Keras one"
    units = ways[0]["recurrent"].shape[0]
    arrays = [(way["kernel"], way["recurrent"], np.stack([way["bias"], way["recurrent_bias"]])) for way in ways]
    layer = layers.GRU(units, return_sequences=True, go_backwards=backwards)
    return with_weights(layers.Bidirectional(layer) if len(ways) == 2 else layer, *chain(*arrays))


def sequence(layer: Any, x: Any, ids: Any, backwards: bool = False) -> Any:
    found = layer(x) if ids is None else layer(x, mask=ops.not_equal(ids, 0))
    return ops.flip(found, 1) if backwards else found


def one_where_real(ids: Any, like: Any) -> Any:
    return ops.cast(ops.not_equal(ids, 0), like.dtype)[..., None]


class WeightNormed(layers.Layer):
    def __init__(self, width: int, units: int) -> None:
        super().__init__()
        shapes = {"g": (units,), "v": (width, units), "bias": (units,)}
        self.g, self.v, self.bias = (self.add_weight(shape, name=name) for name, shape in shapes.items())

    def call(self, x: Any) -> Any:
        return x @ (self.v * (self.g / ops.sqrt(ops.sum(self.v * self.v, 0)))) + self.bias


def weight_normed(g: Array, v: Array, bias: Array) -> Any:
    return with_weights(WeightNormed(*v.shape), g, v, bias)
