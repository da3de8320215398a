"""Writes Keras's whole models and their weights, and has Keras load the weights.

`model.save_weights` writes HDF5. It names a functional model's layer by its class and its place
among the layers of that class, and another model's by its attribute. It numbers the optimizer's
variables: iteration, learning rate, then a slot for each weight in the order of the layers.
"""

from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from textwrap import shorten
from typing import Any

import h5py

from backends import TABLE
from backends.interface import Backend
from backends.native.checks import escaped, reading, with_units
from common.errors import RosettaError
from common.models import axis_of_units, model_of
from common.settings import ModelConfig
from common.text import printable
from common.weights import ModelState, check_state, zeros_like

LOADS_WHOLE = """\
import keras

# A functional model with its optimizer: whole.fit goes on.
whole = keras.saving.load_model({model!r})
for weight, array in zip(model.named_weights().values(), whole.get_weights()):
    api.assign(weight, array)"""
LOADS = """\
import keras

model.load_weights({model!r})"""
EXPECTED = (
    'what model.save_weights("model.weights.h5") writes for the functional model of the example, '
    "or for that of --model"
)
# The weight of `axis_of_units` in the file of each model.
WEIGHT_OF_UNITS = {
    "lstm": "layers/lstm/cell/vars/1",
    "attention": "layers/lstm/cell/vars/1",
    "transformer": "encoder/characters/vars/0",
}
OPTIMIZER = "optimizer/vars"


def compiled_model(config: ModelConfig, optimizer: Any) -> Any:
    """The model with an RMSprop that has taken no step.

    It is functional, from one-hot tensors to probabilities, or the Transformer of its file. The
    model `lstm` is the official example's own. Weights, and the last of the optimizer's variables,
    stand in the canonical order.
    """
    from backends.variants import keras_example

    sizes = model_of(config).sizes(config)
    if config.model == "transformer":
        model = import_module(TABLE["keras"].file_of(config.model)).Seq2Seq(*sizes)
    elif config.model == "attention":
        model = attending_model(*sizes)
    else:
        model = keras_example.Seq2Seq(*sizes).training
    model.compile(optimizer=optimizer, loss="categorical_crossentropy", metrics=["accuracy"])
    optimizer.build(model.trainable_variables)
    return model


def attending_model(num_encoder_tokens: int, num_decoder_tokens: int, latent_dim: int) -> Any:
    """The model of keras_attention.py, all time steps of which are attended to."""
    import keras
    from keras import layers

    encoder_inputs = keras.Input(shape=(None, num_encoder_tokens))
    decoder_inputs = keras.Input(shape=(None, num_decoder_tokens))
    kept = {"return_sequences": True, "return_state": True}
    encoder_outputs, *states = layers.LSTM(latent_dim, **kept)(encoder_inputs)
    outputs, _, _ = layers.LSTM(latent_dim, **kept)(decoder_inputs, initial_state=states)
    contexts = layers.Attention()([outputs, encoder_outputs])
    dense = layers.Dense(num_decoder_tokens, activation="softmax")
    return keras.Model(
        [encoder_inputs, decoder_inputs], dense(layers.Concatenate()([outputs, contexts]))
    )


def read_keras(paths: Sequence[Path], config: ModelConfig) -> ModelState:
    """Weights and RMSprop slots; the slots are zero where the file has no optimizer,
    or one that took no step.

    Raises RosettaError for a file that is damaged, or of another model.
    """
    with reading(paths, EXPECTED, most=1):
        return _read(paths[0], config)


def _read(path: Path, config: ModelConfig) -> ModelState:
    from keras import optimizers

    _, axis = axis_of_units(config)
    with h5py.File(path, "r") as file:
        items: dict[str, Any] = {}
        file.visititems(items.__setitem__)  # which follows no links
        kernel, variables = items[WEIGHT_OF_UNITS[config.model]], items.get(OPTIMIZER, {})
        count, units, dtype = len(variables), kernel.shape[axis], kernel.dtype
        # Older versions write no name.
        kind = str(variables.attrs.get("name", "rm_sprop")) if count else ""
    if dtype != config.dtype:
        raise RosettaError(
            f"its weights are {dtype}, expected {config.dtype}; give its own --dtype"
        )
    names = model_of(config).weights(config)
    rate_is_scheduled = count == 1 + len(names)  # and then no variable
    if count > 2 and not (
        kind.startswith(("rm_sprop", "rmsprop")) and count - len(names) in (1, 2)
    ):
        raise RosettaError(
            f"the optimizer {escaped([kind])} has {count} variables, expected an RMSprop without "
            "momentum, not centered. To start with slots of zeros, save the model without its "
            "optimizer: "
            'keras.Model(model.inputs, model.outputs).save_weights("model.weights.h5")'
        )
    config = with_units(config, units)
    rate = optimizers.schedules.ExponentialDecay(1.0, 1, 1.0) if rate_is_scheduled else 1.0
    model = compiled_model(config, optimizers.RMSprop(rate))
    try:
        model.load_weights(path)
    except ValueError as error:
        why = shorten(printable(str(error)).partition(" Target variable")[0], 400)
        raise RosettaError(
            f"Keras cannot load it: {why}; expected {EXPECTED}, of the same corpus"
        ) from error
    weights = dict(zip(names, model.get_weights(), strict=True))
    slots = [variable.numpy() for variable in model.optimizer.variables[-len(names) :]]
    state = ModelState(
        weights, dict(zip(names, slots, strict=True)) if count > 2 else zeros_like(weights)
    )
    check_state(state, config)
    return state


def write_keras(backend: Backend, folder: Path) -> tuple[list[str], str]:
    """Save the functional model, from one-hot tensors to probabilities, ready for `fit` to go on;
    and its weights and slots alone, which is all that is saved of a Transformer. Returns the files,
    and what loads the first."""
    from keras import optimizers

    state, train = backend.dump(), backend.train_config
    optimizer = optimizers.RMSprop(train.learning_rate, rho=train.rho, epsilon=train.epsilon)
    model = compiled_model(backend.config, optimizer)
    model.set_weights(list(state.weights.values()))
    for velocity, slot in zip(optimizer.variables[2:], state.mean_squares.values(), strict=True):
        velocity.assign(slot)
    model.save_weights(folder / "model.weights.h5")
    if backend.config.model == "transformer":
        return ["model.weights.h5"], LOADS
    model.save(folder / "model.keras")
    return ["model.keras", "model.weights.h5"], LOADS_WHOLE
