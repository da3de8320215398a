"""A tagger in Keras, whichever backend it has; `python -m tests.recorded_keras FOLDER`."""

import sys
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import keras
import numpy as np
from keras import layers, ops

from rosetta_record import Record, arrays_in
from tests.recorded import BATCHES, STEPS, Arrays, leave, refused

BACKEND = keras.backend.backend()


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
            self.kept.extend(arrays_in(output).values())
        return output

    def call(self, ids: Any, training: bool = False) -> dict[str, Any]:
        x, _, state_c = self.keep(self.lstm(self.keep(self.embedding(ids))))
        x = self.keep(self.both(x, training=training))
        x = self.keep(self.dropout(self.keep(self.norm(x, training=training)), training=training))
        x = self.keep(self.frozen(self.keep(self.dense(self.keep(self.dense(x))))))
        return self.keep({"logits": self.keep(self.out(x)), "states": (x, state_c)})


def made() -> Tagger:
    keras.backend.clear_session()  # so that names do not count on
    keras.utils.set_random_seed(1)
    model = Tagger()
    model(BATCHES[0]["ids"])
    return model


def loss_of(model: keras.Model, batch: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
    outputs = model(batch["ids"], training=True)
    logs = ops.log_softmax(outputs["logits"])
    return -ops.mean(logs * ops.one_hot(batch["targets"], 7, dtype=logs.dtype)), {"logits": outputs["logits"]}


def optimizer_of(variables: Any) -> keras.optimizers.Optimizer:
    return keras.optimizers.AdamW(0.01, weight_decay=0.1, clipnorm=0.5)


def arrays(model: keras.Model) -> Arrays:
    return {weight.path: array_of(weight.value) for weight in model.weights}


def gradients_of(model: keras.Model, batch: dict[str, Any]) -> tuple[Any, Any, list[Any]]:
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


def trained() -> tuple[dict[str, Arrays], list[float]]:
    """What Keras itself has at each rung, and losses."""
    model = made()
    optimizer = optimizer_of(None)
    expected = {"weights": arrays(model)}
    losses = []
    for step in range(1, STEPS + 1):
        model.kept = [] if step == 1 else None
        loss, outputs, gradients = gradients_of(model, BATCHES[(step - 1) % 2])
        names = [weight.path for weight in model.trainable_variables]
        if step == 1:
            kept = model.kept[: len(model.kept) // 2] if BACKEND == "jax" else model.kept  # the second is traced
            expected["layers"] = {f"{number}": array_of(tensor) for number, tensor in enumerate(kept)}
            expected["outputs"] = {"logits": array_of(outputs["logits"])}
            dense = [ops.convert_to_tensor(gradient) for gradient in gradients]
            expected["gradients"] = {name: array_of(gradient) for name, gradient in zip(names, dense, strict=True)}
        update(model, optimizer, gradients)
        losses.append(float(array_of(loss)))
        if step == 1:
            slots = {"momentum": optimizer._momentums, "velocity": optimizer._velocities}
            expected["slots"] = {
                f"{name}|{slot}": array_of(variable.value)
                for slot, variables in slots.items()
                for name, variable in zip(names, variables, strict=True)
            }
            expected["step-1"] = arrays(model)
    return {**expected, "step-last": arrays(model)}, losses


def record_call_by_call(folder: Path) -> None:
    model = made()
    optimizer = optimizer_of(None)
    record = Record(folder)
    record.inputs(**BATCHES[0])
    record.model(model)
    for step in range(1, STEPS + 1):
        loss, outputs, gradients = gradients_of(model, BATCHES[(step - 1) % 2])
        if step == 1:
            record.forward(**outputs)
            record.loss(loss)
            record.gradients(model, gradients)
        update(model, optimizer, gradients)
        if step == 1:
            record.optimizer(optimizer)
        record.step(step, loss)


def record_training(folder: Path) -> bool:
    """Whether the model is as it was, the states of random numbers among it."""
    model = made()
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


def main(folder: Path) -> None:
    keras.config.set_floatx("float32" if BACKEND == "jax" else "float64")
    expected, losses = trained()
    record_call_by_call(folder / "calls")
    facts: dict[str, Any] = {"losses": losses, "put back": record_training(folder / "training")}
    record_optimizers(folder)
    model = keras.Sequential([keras.Input((3,)), layers.Dense(2)])
    record = Record(folder / "refused")
    facts["step"] = refused(lambda: record.step(1, 0.5))
    record.model(model)
    facts["gradients"] = refused(lambda: record.gradients(model))
    facts["other model"] = refused(lambda: record.gradients(keras.Sequential([])))
    facts["optimizer"] = refused(lambda: record.optimizer(object()))
    facts["lazy"] = refused(lambda: Record(folder / "lazy").model(keras.Sequential([layers.Dense(2)])))
    leave(folder, expected, facts)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
