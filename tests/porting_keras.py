"""Models of layers that a dict describes, in Keras; there is such a module for torch and for Paddle, too."""

import sys
from functools import partial
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from keras import layers

from backends.process.parent import PROJECT

sys.path.insert(0, str(PROJECT / "docs" / "porting"))
import encoder_keras  # whose optimizers compute as torch's

RECURRENT = {"lstm": layers.LSTM, "gru": layers.GRU, "rnn": layers.SimpleRNN}


def reset() -> None:
    keras.config.set_floatx("float64")
    keras.utils.clear_session(free_memory=False)
    keras.utils.set_random_seed(1)


class Recurrent(layers.Layer):
    def __init__(self, kind: str, units: int, layers: int = 1, both: bool = False, **more: Any) -> None:
        super().__init__()
        own = {"reset_after": more["reset_after"]} if "reset_after" in more else {}
        self.inner = [RECURRENT[kind](units, return_sequences=True, **own) for _ in range(layers)]
        if both:
            self.inner = [keras.layers.Bidirectional(one) for one in self.inner]
        self.initial, self.units = more.get("initial", 0.0), units
        self.states = (2 if kind == "lstm" else 1) * (1 + both)

    def call(self, x: tf.Tensor) -> tf.Tensor:
        for one in self.inner:
            state = tf.fill((x.shape[0], self.units), tf.constant(self.initial, x.dtype))
            x = one(x, initial_state=[state] * self.states)
        return x


class Attention(layers.Layer):
    def __init__(self, width: int, heads: int, sign: int = 1) -> None:
        super().__init__()
        self.inner, self.sign = layers.MultiHeadAttention(heads, width // heads), sign

    def call(self, x: tf.Tensor, ids: tf.Tensor) -> tf.Tensor:
        return self.inner(x, x, attention_mask=((ids != 0) if self.sign > 0 else (ids == 0))[:, None])


class Scale(layers.Layer):
    def __init__(self, factor: float, number: str = "float64") -> None:
        super().__init__()
        self.factor = float(np.dtype(number).type(factor))

    def call(self, x: tf.Tensor) -> tf.Tensor:
        return x * self.factor


class Dense(layers.Layer):
    def __init__(self, units: int, activation: str = "linear", approximate: bool = False) -> None:
        super().__init__()
        own = {"gelu": encoder_keras.exact_gelu} if not approximate else {"gelu": keras.ops.gelu}
        self.inner = layers.Dense(units, None if activation == "gelu" else activation)
        self.after = own.get(activation, lambda x: x)

    def call(self, x: tf.Tensor) -> tf.Tensor:
        return self.after(self.inner(x))


LAYERS = {
    **{kind: partial(Recurrent, kind) for kind in RECURRENT},
    "scale": lambda factor, dtype="float64": Scale(factor, dtype),
    "dense": Dense,
    "conv": lambda units: layers.Conv1D(units, 3, padding="same"),
    "batchnorm": layers.BatchNormalization,
    "layernorm": layers.LayerNormalization,
    "dropout": layers.Dropout,
}


class Model(keras.Model):
    def __init__(self, config: dict[str, Any]) -> None:
        super().__init__()
        width = config["width"]
        self.embedding = layers.Embedding(config["words"], width)
        self.parts = []
        for one in config["layers"]:
            kind, own = one["kind"], {name: one[name] for name in one if name != "kind"}
            self.parts.append(Attention(width, **own) if kind == "attention" else LAYERS[kind](**own))
            width = one["units"] * (1 + one.get("both", False)) if "units" in one else width
        self.logits = None if config.get("tied") else layers.Dense(config["words"], use_bias=False)

    def call(self, ids: tf.Tensor, training: bool = False) -> tf.Tensor:
        x = self.embedding(ids)
        for one in self.parts:
            if isinstance(one, Attention):
                x = one(x, ids)
            elif isinstance(one, layers.BatchNormalization | layers.Dropout):
                x = one(x, training=training)
            else:
                x = one(x)
        return self.logits(x) if self.logits else x @ tf.transpose(self.embedding.embeddings.value)


def optimizer(_: Model, name: str, rate: float, decay: float = 0.0, clip: float = 0.0, **more: Any) -> Any:
    own: dict[str, Any] = {("clipnorm" if more.get("norm") == "each" else "global_clipnorm"): clip} if clip else {}
    if name == "sgd":
        return encoder_keras.SGD(rate, more["momentum"], **own)
    if name == "rmsprop":
        return encoder_keras.RMSprop(rate, more["momentum"], epsilon=more["epsilon"], **own)
    if name == "adam":
        kind = keras.optimizers.Adam if more.get("stock") else encoder_keras.Adam
        return kind(rate, more["momentum"], more["beta_2"], more["epsilon"], **own)
    return encoder_keras.AdamW(rate, decay, more["momentum"], more["beta_2"], more["epsilon"], **own)


def model_of(config: dict[str, Any], ids: np.ndarray) -> Model:
    keras.config.set_floatx(config["dtype"])
    model = Model(config)
    model(ids)
    return model


def load(model: Model, weights: dict[str, np.ndarray]) -> None:
    for weight in model.weights:
        if weight.path in weights:
            array = weights[weight.path]
            weight.assign(array if array.shape == tuple(weight.shape) else array.sum(0))


def loss_of(model: Model, ids: np.ndarray, targets: np.ndarray, config: dict[str, Any]) -> tuple[Any, Any]:
    logits = model(ids, training=config["training"])
    wanted = tf.one_hot(targets, config["words"], dtype=logits.dtype)
    smoothing = config.get("smoothing", 0.0)
    losses = keras.losses.categorical_crossentropy(wanted, logits, True, label_smoothing=smoothing)
    return tf.reduce_mean(losses), logits
