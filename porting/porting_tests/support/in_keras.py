"""Keras's side, whichever backend it has: the layers of porting_tests.support.zoo, a training by
hand, and small models that are recorded too. modules.py has the same for torch and Paddle.

A layer makes its weights when it is first called, and gets them then.
"""

import importlib
import sys
from collections.abc import Sequence
from contextlib import nullcontext
from functools import partial
from itertools import chain
from typing import Any

import keras
import numpy as np
from keras import layers, ops

from porting_tests.support import PORTING
from porting_tests.support.zoo import EPSILON, Array, Block, Config, Ways, array_of, keep, loss_of

ON_TORCH = keras.backend.backend() == "torch"
sys.path.insert(0, str(PORTING / "ports"))
# The optimizers of the guide compute as torch's, on TensorFlow.
guide = keras.optimizers if ON_TORCH else importlib.import_module("encoder_keras")
RECURRENT = {"lstm": layers.LSTM, "gru": layers.GRU, "rnn": layers.SimpleRNN}
NORMS = {"layernorm": layers.LayerNormalization, "rmsnorm": layers.RMSNormalization}
CHANNELS, TIES, TABLE = "last", False, "embeddings"
List = list
einsum, reshape, tanh, silu, transpose = ops.einsum, ops.reshape, ops.tanh, ops.silu, ops.transpose
average, dropout, whole = ops.mean, layers.Dropout, ops.convert_to_tensor
constant_of, in_float32 = ops.stop_gradient, partial(ops.cast, dtype="float32")
softmax, log_softmax, mean = ops.softmax, ops.log_softmax, partial(ops.mean, axis=-1, keepdims=True)
GIVEN: list[tuple[Any, list[Array]]] = []


class Layer(layers.Layer):
    def call(self, x: Any, ids: Any = None) -> Any:
        return self.compute(x) if ids is None else self.compute(x, ids)


class Model(keras.Model):
    def call(self, ids: Any, training: bool = False) -> Any:
        return self.compute(ids)


def reset(dtype: str) -> None:
    keras.config.set_floatx(dtype)
    keras.config.set_dtype_policy(dtype)
    keras.utils.clear_session(free_memory=False)
    keras.utils.set_random_seed(1)


def begin(config: Config) -> None:
    reset(config["dtype"])
    if config.get("autocast"):
        keras.config.set_dtype_policy(f"mixed_{config['autocast']}")
    GIVEN.clear()


def given(model: Any, config: Config, ids: Array) -> Any:
    model(ids)
    for layer, arrays in GIVEN:  # torch rounds to float32 on the way to float16
        coarse = config["dtype"] == "float16"
        layer.set_weights([array.astype(np.float32) for array in arrays] if coarse else arrays)
    return model


def run(model: Any, ids: Array, config: Config) -> Any:
    return model(ids, training=config["training"])


def with_weights(layer: Any, *arrays: Array | None) -> Any:
    GIVEN.append((layer, [array for array in arrays if array is not None]))
    return layer


def parameter(layer: Any, name: str, array: Array) -> None:
    setattr(layer, name, layer.add_weight(array.shape, name=name))
    getattr(layer, name).assign(array)


def constant(array: Array, like: Any = None) -> Any:
    """In the dtype of another tensor, or in that in which layers compute."""
    return ops.convert_to_tensor(
        array, keras.config.dtype_policy().compute_dtype if like is None else like.dtype
    )


def concat(parts: Sequence[Any], axis: int = -1) -> Any:
    return ops.concatenate(list(parts), axis)


def padded(image: Any, before: int, after: int) -> Any:
    return ops.pad(image, [[0, 0], [before, after], [before, after], [0, 0]])


def freeze(block: Block) -> None:
    block.trainable = False


def share(layer: Any, other: Any) -> None:
    """Keras has no weight that belongs to two layers."""


def dense(kernel: Array, bias: Array | None = None) -> Any:
    return with_weights(layers.Dense(kernel.shape[1], use_bias=bias is not None), kernel, bias)


def activation(name: str, by_tanh: bool) -> Any:
    if name != "gelu":
        return keras.activations.get(name or "linear")
    return partial(ops.gelu, approximate=by_tanh) if by_tanh or ON_TORCH else guide.exact_gelu


def embedding(table: Array, padding_idx: int | None) -> Any:
    return with_weights(layers.Embedding(*table.shape), table)


def norm(kind: str, w: dict[str, Array], epsilon: float) -> Any:
    return with_weights(NORMS[kind](epsilon=epsilon), *w.values())


def batchnorm(gain: Array, bias: Array, momentum: float) -> Any:
    layer = layers.BatchNormalization(epsilon=EPSILON, momentum=momentum)
    return with_weights(layer, gain, bias, np.zeros_like(gain), np.ones_like(gain))


def conv(kernel: Array, bias: Array, stride: int = 1, pad: int = 1, dilation: int = 1) -> Any:
    """With one zero on each side or with none; where the stride is 2,
    those are a layer of their own."""
    of = layers.Conv1D if kernel.ndim == 3 else layers.Conv2D
    padding = "same" if pad and stride == 1 else "valid"
    made = of(len(bias), kernel.shape[:-2], stride, padding, dilation_rate=dilation)
    layer = with_weights(made, kernel, bias)
    return layer if stride == 1 or not pad else keras.Sequential([layers.ZeroPadding2D(1), layer])


def attention(heads: int, w: dict[str, Array]) -> Any:
    width, wide = w["q"].shape
    kernels = [
        [w[name].reshape(width, heads, -1), w[f"{name}_bias"].reshape(heads, -1)] for name in "qkv"
    ]
    layer = layers.MultiHeadAttention(heads, wide // heads)
    return with_weights(layer, *chain(*kernels), w["o"].reshape(heads, -1, width), w["o_bias"])


def attend(layer: Any, x: Any, masked: Any) -> Any:
    """Attention that sees nothing where `masked` (N, T) is true, if that is given."""
    return keep(
        layer(x, x, attention_mask=None if masked is None else ops.logical_not(masked)[:, None])
    )


def recurrent(kind: str, arrays: Ways, settings: Config, backwards: bool = False) -> list[Any]:
    """Layers, of which `arrays` has those of each direction. An LSTM and a plain RNN have one bias.
    Where they are `exchanged`, sigmoid and tanh stand in each other's place."""
    made = []
    for ways in arrays:
        own = {"reset_after": settings.get("reset_after", True)} if kind == "gru" else {}
        more = {"return_state": settings.get("return_state", False), "go_backwards": backwards}
        more |= (
            {"activation": "sigmoid", "recurrent_activation": "tanh"}
            if settings.get("exchanged")
            else {}
        )
        layer = RECURRENT[kind](len(ways[0]["recurrent"]), return_sequences=True, **more, **own)
        layer, given = layers.Bidirectional(layer) if len(ways) == 2 else layer, []
        for way in ways:
            biases = np.stack([way["bias"], way["recurrent_bias"]])
            given += [
                way["kernel"],
                way["recurrent"],
                biases if own.get("reset_after") else biases.sum(0),
            ]
        made.append(with_weights(layer, *given))
    return made


def sequence(
    inner: list[Any], x: Any, ids: Any, initial: float | None, backwards: bool = False
) -> Any:
    """Where `ids` is given, without its padding. `initial` is what a GRU's state begins with."""
    own: dict[str, Any] = {} if ids is None else {"mask": ops.not_equal(ids, 0)}
    for layer in inner:
        state = (
            {}
            if initial is None
            else {"initial_state": ops.full((x.shape[0], layer.units), initial, x.dtype)}
        )
        output = keep(layer(x, **own, **state))
        x = output[0] if isinstance(output, list | tuple) else output
    return ops.flip(x, 1) if backwards else x


def one_where_real(ids: Any, like: Any) -> Any:
    return ops.cast(ops.not_equal(ids, 0), like.dtype)[..., None]


class WeightNormed(layers.Layer):
    def __init__(self, width: int, units: int) -> None:
        super().__init__()
        shapes = {"g": (units,), "v": (width, units), "bias": (units,)}
        self.g, self.v, self.bias = (
            self.add_weight(shape, name=name) for name, shape in shapes.items()
        )

    def call(self, x: Any) -> Any:
        return x @ (self.v * (self.g / ops.sqrt(ops.sum(self.v * self.v, 0)))) + self.bias


def weight_normed(g: Array, v: Array, bias: Array) -> Any:
    return with_weights(WeightNormed(*v.shape), g, v, bias)


# A training by hand, and what Keras itself has of it, by the names of a record


def trained(model: Model) -> list[keras.Variable]:
    return model.trainable_variables


def weights(model: Model) -> dict[str, Any]:
    return {weight.path: weight.value for weight in model.weights}


def backward(model: Model, batch: dict[str, Array], config: Config) -> tuple[Any, Any, list[Any]]:
    """Loss, logits and gradients, as a person who trains by hand writes it for each backend."""
    computed = partial(loss_of, sys.modules[__name__], model, batch, config)
    if ON_TORCH:
        model.zero_grad()
        loss, logits = computed()
        loss.backward()
        return loss, logits, [weight.value.grad for weight in trained(model)]
    with sys.modules["tensorflow"].GradientTape() as tape:
        loss, logits = computed()
    return loss, logits, tape.gradient(loss, [weight.value for weight in trained(model)])


def update(model: Model, optimizer: keras.optimizers.Optimizer, gradients: list[Any]) -> None:
    with sys.modules["torch"].no_grad() if ON_TORCH else nullcontext():
        optimizer.apply(gradients, trained(model))


def named_gradients(model: Model, gradients: list[Any]) -> dict[str, Any]:
    dense = [ops.convert_to_tensor(gradient) for gradient in gradients]
    return {weight.path: gradient for weight, gradient in zip(trained(model), dense, strict=True)}


def everything(model: Model) -> list[Any]:
    """All that a record puts back: weights and states of random numbers,
    and what watches layers."""
    watched = [layer for layer in model._flatten_layers() if "call" in vars(layer)]
    return [*(array_of(variable.value) for variable in model.variables), len(watched)]


def optimizer(
    weights: Any, name: str, rate: Any, decay: float = 0.0, clip: float = 0.0, **more: Any
) -> Any:
    names = {"all": "global_clipnorm", "each": "clipnorm", "value": "clipvalue"}
    own: dict[str, Any] = {names[more.get("norm", "all")]: clip} if clip else {}
    if more.get("warmup"):
        values = [rate * factor for factor in more["warmup"]]
        rate = keras.optimizers.schedules.PiecewiseConstantDecay([*range(len(values) - 1)], values)
    adam = more["momentum"], more["beta_2"], more["epsilon"]
    kind, arguments = {
        "sgd": ("SGD", (more["momentum"], more.get("nesterov", False))),
        "rmsprop": ("RMSprop", (more["momentum"], 0.0, more["epsilon"])),
        "adam": ("Adam", adam),
        "adamw": ("AdamW", (decay, *adam)),
    }[name]
    # Keras's own one is given one gradient for each word, too.
    stock = (
        type(kind, (guide.Summed, getattr(keras.optimizers, kind)), {})
        if more.get("stock")
        else None
    )
    made = (stock or getattr(guide, kind))(rate, *arguments, **own)
    made.iterations.assign(more.get("counter", 0))
    return made


# What else tests ask of a framework


def squared(model: keras.Model, batch: Any) -> Any:
    return ops.mean(ops.square(model(batch)))


def small_trainings() -> dict[str, tuple[Any, Any, Any, Any]]:
    """By name: a model, a batch, a function of its loss, and an optimizer or what makes one."""
    optimizers = keras.optimizers
    makers = {
        "sgd": optimizers.SGD(0.25, momentum=0.9),
        "adam": optimizers.Adam(optimizers.schedules.ExponentialDecay(0.25, 10, 0.5), amsgrad=True),
        "rmsprop": optimizers.RMSprop(0.25, momentum=0.9, centered=True),
        "bfloat16": lambda weights: optimizers.SGD(0.25),
        "mixed": lambda weights: optimizers.SGD(0.25),
    }
    dtypes = {"bfloat16": "bfloat16", "mixed": "mixed_bfloat16"}
    return {
        name: (small(dtypes.get(name)), np.ones((4, 3)), squared, maker)
        for name, maker in makers.items()
    }


def small(dtype: str | None = None) -> keras.Model:
    dense = layers.Dense(2, name="dense", kernel_regularizer="l2", dtype=dtype)
    return keras.Sequential([keras.Input((3,)), dense], name="small")


def lazy() -> keras.Model:
    return keras.Sequential([layers.Dense(2)])


def lstm_returns(a: dict[str, Array]) -> dict[str, list[Any]]:
    states, found = [a["state_h"], a["state_c"]], {}
    began = {"initial_state": (a["x"], states), "step": (a["x"][:, :1], states)}
    # "f" where return_sequences or return_state is false
    for row in ("ff", "tf", "ft", "tt", *began):
        x, initial = began.get(row, (a["x"], None))
        options = {"return_sequences": row[0] != "f", "return_state": row[1] != "f"}
        layer = layers.LSTM(len(a["recurrent_kernel"]), **options)
        layer.build(x.shape)
        layer.set_weights([a["kernel"], a["recurrent_kernel"], a["bias"]])
        result = layer(x, initial_state=initial)
        # One tensor, or output, state_h, state_c.
        assert isinstance(result, list | tuple) == options["return_state"]
        found[row] = list(result) if options["return_state"] else [result]
    return found
