"""Models of layers that a dict describes, in Keras, whichever backend it has; there is such a module for torch and
for Paddle, too."""

import importlib
import sys
from contextlib import nullcontext
from functools import partial
from typing import Any

import keras
import numpy as np
from keras import layers, ops
from safetensors.numpy import load_file

from backends.process.parent import PROJECT
from tests.porting_side import Array, array_of, keep

BACKEND = keras.backend.backend()
sys.path.insert(0, str(PROJECT / "docs" / "porting"))
# The optimizers of the guide compute as torch's, on TensorFlow.
guide = importlib.import_module("encoder_keras") if BACKEND == "tensorflow" else keras.optimizers
exact_gelu = guide.exact_gelu if BACKEND == "tensorflow" else partial(keras.activations.gelu, approximate=False)
RECURRENT = {"lstm": layers.LSTM, "gru": layers.GRU, "rnn": layers.SimpleRNN}


def reset(dtype: str) -> None:
    keras.config.set_floatx(dtype)
    keras.utils.clear_session(free_memory=False)
    keras.utils.set_random_seed(1)


class Recurrent(layers.Layer):
    def __init__(self, kind: str, units: int, layers: int = 1, both: bool = False, **more: Any) -> None:
        super().__init__()
        own = {"reset_after": more["reset_after"]} if "reset_after" in more else {}
        own["return_state"] = more.get("return_state", False)
        self.inner = [RECURRENT[kind](units, return_sequences=True, **own) for _ in range(layers)]
        if both:
            self.inner = [keras.layers.Bidirectional(one) for one in self.inner]
        self.initial, self.units = more.get("initial", 0.0), units
        self.states = (2 if kind == "lstm" else 1) * (1 + both)

    def call(self, x: Any) -> Any:
        for one in self.inner:
            state = ops.full((x.shape[0], self.units), self.initial, x.dtype)
            output = keep(one(x, initial_state=[state] * self.states))
            x = output[0] if isinstance(output, list | tuple) else output
        return x


class Attention(layers.Layer):
    def __init__(self, width: int, heads: int, sign: int = 1) -> None:
        super().__init__()
        self.inner, self.sign = layers.MultiHeadAttention(heads, width // heads), sign

    def call(self, x: Any, ids: Any) -> Any:
        return keep(self.inner(x, x, attention_mask=((ids != 0) if self.sign > 0 else (ids == 0))[:, None]))


class Scale(layers.Layer):
    def __init__(self, factor: float, number: str = "float64") -> None:
        super().__init__()
        self.factor = float(np.dtype(number).type(factor))

    def call(self, x: Any) -> Any:
        return x * self.factor


class Dense(layers.Layer):
    def __init__(self, units: int, activation: str = "linear", approximate: bool = False) -> None:
        super().__init__()
        self.inner = layers.Dense(units, None if activation == "gelu" else activation)
        own = {"gelu": ops.gelu if approximate else exact_gelu}
        self.after = own.get(activation, lambda x: x)

    def call(self, x: Any) -> Any:
        return self.after(keep(self.inner(x)))


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
            own = {name: one[name] for name in one if name not in ("kind", "frozen", "weight_of")}
            self.parts.append(Attention(width, **own) if one["kind"] == "attention" else LAYERS[one["kind"]](**own))
            self.parts[-1].trainable = not one.get("frozen")
            width = one["units"] * (1 + one.get("both", False)) if "units" in one else width
        self.calls = config.get("calls", range(len(self.parts)))
        self.logits = None if config.get("tied") else layers.Dense(config["words"], use_bias=False)

    def call(self, ids: Any, training: bool = False) -> Any:
        x = keep(self.embedding(ids))
        for number in self.calls:
            one = self.parts[number]
            if isinstance(one, Attention):
                x = one(x, ids)
            elif isinstance(one, layers.BatchNormalization | layers.Dropout):
                x = one(x, training=training)
            else:
                x = one(x)
            keep(x)
        return keep(self.logits(x)) if self.logits else x @ ops.transpose(self.embedding.embeddings)


def model_of(config: dict[str, Any], ids: np.ndarray) -> Model:
    reset(config["dtype"])
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
    wanted = ops.one_hot(targets, config["words"], dtype=logits.dtype)
    smoothing = config.get("smoothing", 0.0)
    losses = keras.losses.categorical_crossentropy(wanted, logits, True, label_smoothing=smoothing)
    return ops.mean(losses), logits


def trained(model: Model) -> list[keras.Variable]:
    return model.trainable_variables


def optimizer(weights: Any, name: str, rate: float, decay: float = 0.0, clip: float = 0.0, **more: Any) -> Any:
    own: dict[str, Any] = {("clipnorm" if more.get("norm") == "each" else "global_clipnorm"): clip} if clip else {}
    if name == "sgd":
        return guide.SGD(rate, more["momentum"], **own)
    if name == "rmsprop":
        kind = stock_rmsprop() if more.get("stock") else guide.RMSprop
        return kind(rate, more["momentum"], more.get("heavy", 0.0), more["epsilon"], **own)
    if name == "adam":
        kind = keras.optimizers.Adam if more.get("stock") else guide.Adam
        return kind(rate, more["momentum"], more["beta_2"], more["epsilon"], **own)
    return guide.AdamW(rate, decay, more["momentum"], more["beta_2"], more["epsilon"], **own)


def stock_rmsprop() -> type[keras.optimizers.RMSprop]:
    """Keras's own, which is given one gradient for each word."""

    class RMSprop(guide.Summed, keras.optimizers.RMSprop): ...

    return RMSprop


def load_optimizer(model: Model, optimizer: keras.optimizers.Optimizer, path: str) -> None:
    optimizer.build(model.trainable_variables)
    optimizer.load_own_variables(load_file(path))


# A training by hand, and what Keras itself has of it, by the names of a record


def backward(model: Model, batch: dict[str, np.ndarray], config: dict[str, Any]) -> tuple[Any, Any, list[Any]]:
    """Loss, logits and gradients, as a person who trains by hand writes it for each backend."""
    computed = partial(loss_of, model, batch["ids"], batch["targets"], config)
    if BACKEND == "tensorflow":
        import tensorflow as tf

        with tf.GradientTape() as tape:
            loss, logits = computed()
        return loss, logits, tape.gradient(loss, [weight.value for weight in trained(model)])
    if BACKEND == "torch":
        model.zero_grad()
        loss, logits = computed()
        loss.backward()
        return loss, logits, [weight.value.grad for weight in trained(model)]
    import jax

    others = model.non_trainable_variables
    before = [array_of(state.value) for state in others]
    loss, logits = computed()  # for the logits; what it changed is put back
    for state, array in zip(others, before, strict=True):
        state.assign(array)

    def compute(values: Any, states: Any) -> Any:
        pairs = [*zip(trained(model), values, strict=True), *zip(others, states, strict=True)]
        with keras.StatelessScope(pairs) as scope:
            loss, _ = computed()
        return loss, [scope.get_current_value(variable) for variable in others]

    values = ([variable.value for variable in variables] for variables in (trained(model), others))
    (_, changed), gradients = jax.value_and_grad(compute, has_aux=True)(*values)
    for variable, value in zip(others, changed, strict=True):
        variable.assign(value)
    return loss, logits, gradients


def update(model: Model, optimizer: keras.optimizers.Optimizer, gradients: list[Any]) -> None:
    with sys.modules["torch"].no_grad() if BACKEND == "torch" else nullcontext():
        optimizer.apply(gradients, trained(model))


def weights(model: Model) -> dict[str, Any]:
    return {weight.path: weight.value for weight in model.weights}


def named_gradients(model: Model, gradients: list[Any]) -> dict[str, Any]:
    dense = [ops.convert_to_tensor(gradient) for gradient in gradients]
    return {weight.path: gradient for weight, gradient in zip(trained(model), dense, strict=True)}


def slots(model: Model, optimizer: keras.optimizers.Optimizer) -> dict[str, Any]:
    return {
        f"{weight.path}|{slot}": variable.value
        for slot, variables in {"momentum": optimizer._momentums, "velocity": optimizer._velocities}.items()
        for weight, variable in zip(trained(model), variables, strict=True)
    }


def everything(model: Model) -> list[Any]:
    """All that a record puts back: weights and states of random numbers, and what watches layers."""
    watched = [layer for layer in model._flatten_layers() if "call" in vars(layer)]
    return [*(array_of(variable.value) for variable in model.variables), len(watched)]


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
    }
    dtypes = {"bfloat16": "bfloat16"}
    return {name: (small(dtypes.get(name)), np.ones((4, 3)), squared, maker) for name, maker in makers.items()}


def small(dtype: str | None = None) -> keras.Model:
    dense = layers.Dense(2, name="dense", kernel_regularizer="l2", dtype=dtype)
    return keras.Sequential([keras.Input((3,)), dense], name="small")


def lazy() -> keras.Model:
    return keras.Sequential([layers.Dense(2)])


def lstm_returns(a: dict[str, Array]) -> dict[str, list[Any]]:
    def called(
        return_sequences: bool, return_state: bool, x: Array = a["x"], states: list[Array] | None = None
    ) -> list[Any]:
        units = len(a["recurrent_kernel"])
        layer = layers.LSTM(units, return_sequences=return_sequences, return_state=return_state)
        layer.build(x.shape)
        layer.set_weights([a["kernel"], a["recurrent_kernel"], a["bias"]])
        result = layer(x, initial_state=states)
        assert isinstance(result, list | tuple) == return_state  # one tensor, or output, state_h, state_c
        return list(result) if return_state else [result]

    states = [a["state_h"], a["state_c"]]
    return {
        "ff": called(False, False),
        "tf": called(True, False),
        "ft": called(False, True),
        "tt": called(True, True),
        "initial_state": called(True, True, a["x"], states),
        "step": called(True, True, a["x"][:, :1], states),
    }
