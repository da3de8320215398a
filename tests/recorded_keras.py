"""A tagger in Keras, whichever backend it has; `python -m tests.recorded_keras FOLDER`."""

import sys
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import keras
import numpy as np
from keras import layers, ops

from rosetta_record import Record, arrays_in
from tests.recorded import BATCHES, STEPS, Arrays, main

BACKEND = keras.backend.backend()


def set_up() -> None:
    keras.config.set_floatx("float32" if BACKEND == "jax" else "float64")


def array_of(tensor: Any) -> np.ndarray:
    return np.array(ops.convert_to_numpy(tensor))


class Tagger(keras.Model):
    def __init__(self) -> None:
        super().__init__(name="tagger")
        self.embedding = layers.Embedding(7, 4)
        self.lstm = layers.LSTM(4, return_sequences=True, return_state=True)
        self.both = layers.Bidirectional(layers.GRU(4, return_sequences=True))
        self.norm = layers.BatchNormalization(epsilon=0.01)
        self.dropout = layers.Dropout(0.25, seed=3)
        self.dense = layers.Dense(8, activation="tanh", kernel_regularizer="l2")
        self.frozen = layers.Dense(8, trainable=False)
        self.out = layers.Dense(7)
        self.kept: Any = None

    def keep(self, output: Any) -> Any:
        if self.kept is not None:
            tensors = arrays_in(output).values()  # on JAX some only stand for values to come
            self.kept.extend(array_of(tensor) for tensor in tensors if "Tracer" not in type(tensor).__name__)
        return output

    def call(self, ids: Any, training: bool = False) -> dict[str, Any]:
        x, _, state_c = self.keep(self.lstm(self.keep(self.embedding(ids))))
        x = self.keep(self.both(x, training=training))
        x = self.keep(self.dropout(self.keep(self.norm(x, training=training)), training=training))
        x = self.keep(self.frozen(self.keep(self.dense(self.keep(self.dense(x))))))
        return self.keep({"logits": self.keep(self.out(x)), "states": (x, state_c)})


def made() -> tuple[Tagger, keras.optimizers.Optimizer]:
    keras.backend.clear_session()  # so that names do not count on
    keras.utils.set_random_seed(1)
    model = Tagger()
    model(BATCHES[0]["ids"])
    return model, optimizer_of(None)


def loss_of(model: keras.Model, batch: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
    outputs = model(batch["ids"], training=True)
    logs = ops.log_softmax(outputs["logits"])
    return -ops.mean(logs * ops.one_hot(batch["targets"], 7, dtype=logs.dtype)), {"logits": outputs["logits"]}


def optimizer_of(variables: Any) -> keras.optimizers.Optimizer:
    return keras.optimizers.AdamW(0.01, weight_decay=0.1, clipnorm=0.5)


def arrays(model: keras.Model) -> Arrays:
    return {weight.path: array_of(weight.value) for weight in model.weights}


def backward(model: keras.Model, optimizer: Any, batch: dict[str, Any]) -> tuple[Any, Any, list[Any]]:
    """Loss, outputs and gradients, as a person who trains by hand writes it for each backend."""
    if BACKEND == "tensorflow":
        import tensorflow as tf

        with tf.GradientTape() as tape:
            loss, outputs = loss_of(model, batch)
        return loss, outputs, tape.gradient(loss, [weight.value for weight in model.trainable_variables])
    if BACKEND == "torch":
        model.zero_grad()
        loss, outputs = loss_of(model, batch)
        loss.backward()
        return loss, outputs, [weight.value.grad for weight in model.trainable_variables]
    import jax

    seeds = [(state, array_of(state.value)) for state in model.non_trainable_variables]
    loss, outputs = loss_of(model, batch)  # for outputs; what it changed is put back
    for state, array in seeds:
        state.assign(array)

    def compute(trained: Any, others: Any) -> Any:
        pairs = [*zip(model.trainable_variables, trained, strict=True)]
        with keras.StatelessScope([*pairs, *zip(model.non_trainable_variables, others, strict=True)]) as scope:
            loss, _ = loss_of(model, batch)
        return loss, [scope.get_current_value(variable) for variable in model.non_trainable_variables]

    values = (
        [v.value for v in variables] for variables in (model.trainable_variables, model.non_trainable_variables)
    )
    (_, changed), gradients = jax.value_and_grad(compute, has_aux=True)(*values)
    for variable, value in zip(model.non_trainable_variables, changed, strict=True):
        variable.assign(value)
    return loss, outputs, gradients


def update(model: keras.Model, optimizer: keras.optimizers.Optimizer, gradients: list[Any]) -> None:
    with sys.modules["torch"].no_grad() if BACKEND == "torch" else nullcontext():
        optimizer.apply(gradients, model.trainable_variables)


def gradients_by_name(model: keras.Model, gradients: list[Any]) -> Arrays:
    dense = [ops.convert_to_tensor(gradient) for gradient in gradients]
    return {weight.path: array_of(g) for weight, g in zip(model.trainable_variables, dense, strict=True)}


def slots_by_name(model: keras.Model, optimizer: keras.optimizers.Optimizer) -> Arrays:
    slots = {"momentum": optimizer._momentums, "velocity": optimizer._velocities}
    return {
        f"{weight.path}|{slot}": array_of(variable.value)
        for slot, variables in slots.items()
        for weight, variable in zip(model.trainable_variables, variables, strict=True)
    }


def record_training(folder: Path) -> bool:
    """Whether the model is as it was, the states of random numbers among it."""
    model, _ = made()
    before = [array_of(variable.value) for variable in model.variables]
    Record(folder).training(model, BATCHES, loss_of, optimizer_of, STEPS)
    after = [array_of(variable.value) for variable in model.variables]
    watched = [layer for layer in model._flatten_layers() if "call" in vars(layer)]
    return not watched and all(map(np.array_equal, after, before))


def squared(model: keras.Model, batch: Any) -> Any:
    return ops.mean(ops.square(model(batch)))


def record_optimizers(folder: Path) -> None:
    optimizers = keras.optimizers
    makers = {
        "sgd": optimizers.SGD(0.25, momentum=0.9),
        "adam": optimizers.Adam(optimizers.schedules.ExponentialDecay(0.25, 10, 0.5), amsgrad=True),
        "rmsprop": optimizers.RMSprop(0.25, momentum=0.9, centered=True),
    }
    for name, optimizer in makers.items():
        model = keras.Sequential([keras.Input((3,)), layers.Dense(2, name="dense")], name="small")
        Record(folder / name).training(model, [np.ones((4, 3))], squared, optimizer, 1)
    model = keras.Sequential([keras.Input((3,)), layers.Dense(2, name="dense", dtype="bfloat16")], name="small")
    record = Record(folder / "bfloat16")
    record.training(model, [np.ones((4, 3))], squared, lambda variables: optimizers.SGD(0.25), 1)


def small() -> keras.Model:
    return keras.Sequential([keras.Input((3,)), layers.Dense(2)])


def lazy() -> keras.Model:
    return keras.Sequential([layers.Dense(2)])


if __name__ == "__main__":
    main(sys.modules[__name__])
