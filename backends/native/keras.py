"""Writes Keras's .keras archives, and reads them without building the layers that their configuration names.

An archive is a zip of config.json and model.weights.h5. The latter names a layer by its class and its place among the
layers of that class (`layers/lstm_1/cell/vars/0`). It numbers the optimizer's variables: iteration, learning rate,
then a slot for each weight in the order of the layers.
"""

import io
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import h5py
from numpy.typing import NDArray

from backends.native.files import canonical_state, listed, opened
from common.config import ModelConfig
from common.errors import CannotBeginError, RosettaError
from common.files import LARGEST_ARCHIVE, LARGEST_JSON, open_archive, read_member
from common.interface import Backend
from common.weights import ModelState

EXPECTED = 'a .keras archive of a functional model, or is damaged; expected what model.save("model.keras") writes'
INPUT, LSTM, DENSE = "keras.layers.InputLayer", "keras.layers.LSTM", "keras.layers.Dense"
# The settings that a layer must have. With others its arrays would mean something else than here.
SETTINGS: dict[str, dict[str, list[Any]]] = {
    LSTM: {
        "activation": ["tanh"],
        "recurrent_activation": ["sigmoid"],
        "use_bias": [True],
        "go_backwards": [False],
    },
    DENSE: {"activation": ["softmax", "linear"], "use_bias": [True]},
}
ROLES = {LSTM: ["encoder", "decoder"], DENSE: ["dense"]}
# Where the file has the arrays of the layers of a class, which it numbers in this order.
FOLDERS = {LSTM: ["layers/lstm/cell", "layers/lstm_1/cell"], DENSE: ["layers/dense"]}
KINDS = {LSTM: ["kernel", "recurrent_kernel", "bias"], DENSE: ["kernel", "bias"]}
OPTIMIZER = "optimizer/vars/"


def read_keras(paths: Sequence[Path], config: ModelConfig, latent_dim: int | None) -> ModelState:
    """Weights and RMSprop slots; the slots are zero where the archive has no optimizer, or one that took no step.

    Raises RosettaError for an archive that is damaged, or of another model.
    """
    if len(paths) > 1:
        raise CannotBeginError(f"{len(paths)} files were given, expected one .keras archive with all in it")
    path = paths[0]
    with opened(path, config, latent_dim, EXPECTED) as content:
        archive = open_archive(content)
        architecture = json.loads(read_member(archive, "config.json", LARGEST_JSON))
        names = _names(path, architecture["config"]["layers"])
        with h5py.File(io.BytesIO(read_member(archive, "model.weights.h5", LARGEST_ARCHIVE)), "r") as file:
            arrays = _arrays(file)
            slots = _slots(path, architecture, arrays, [name for (name,) in names.values()])
            return canonical_state((path, path), arrays, names, slots, config, latent_dim, transposed=())


def _names(path: Path, layers: Sequence[Any]) -> dict[str, list[str]]:
    """For each canonical weight the name of its array. A layer is found by its role's name, or by its place as in the
    example."""
    described = [(f"{layer['module']}.{layer['class_name']}", layer["config"]) for layer in layers]
    classes = [class_name for class_name, _ in described]
    if sorted(classes) != sorted([INPUT, INPUT, LSTM, LSTM, DENSE]):
        raise RosettaError(
            f"{path} has the layers {listed(classes)}; expected those of the example: two inputs, two LSTM, a Dense"
        )
    names: dict[str, list[str]] = {}
    for layer_class, roles in ROLES.items():
        settings = [settings for class_name, settings in described if class_name == layer_class]
        for setting, allowed in SETTINGS[layer_class].items():
            for value in (of_layer[setting] for of_layer in settings):
                if value not in allowed:
                    raise RosettaError(
                        f"{path} has a {layer_class} with {setting} {listed([value])}, expected {allowed[0]!r}"
                    )
        own = [of_layer["name"] for of_layer in settings]
        for role, folder in zip(own if set(own) == set(roles) else roles, FOLDERS[layer_class], strict=True):
            names |= {f"{role}/{kind}": [f"{folder}/vars/{n}"] for n, kind in enumerate(KINDS[layer_class])}
    return names


def _arrays(file: h5py.File) -> dict[str, h5py.Dataset]:
    """The arrays in one piece that the file itself holds, as Keras writes them.

    Links, external and virtual arrays may lead to other files, and a chunk of any size would be read as a whole.
    """
    arrays: dict[str, h5py.Dataset] = {}

    def keep(name: str, item: Any) -> None:
        if isinstance(item, h5py.Dataset) and not (item.external or item.is_virtual or item.chunks):
            arrays[name] = item

    file.visititems(keep)  # which follows no links
    return arrays


def _slots(
    path: Path, architecture: Any, arrays: Mapping[str, h5py.Dataset], names: Sequence[str]
) -> dict[str, h5py.Dataset]:
    """The slots of the weights of these names; none where the optimizer has none."""
    # The optimizer is a string where `compile` was given a string, otherwise an object.
    optimizer = (architecture.get("compile_config") or {}).get("optimizer")
    optimizer = str(optimizer["class_name"] if isinstance(optimizer, dict) else optimizer)
    variables = sum(name.startswith(OPTIMIZER) for name in arrays)
    first = variables - len(names)
    if variables <= 2:
        return {}
    if optimizer.lower() != "rmsprop" or first not in (1, 2):  # a schedule of rates is no variable
        raise RosettaError(
            f"{path} has an optimizer {listed([optimizer])} of {variables} variables, expected an RMSprop "
            "without momentum, not centered. To start with slots of zeros, save the model without its optimizer: "
            "keras.Model(model.inputs, model.outputs).save(...)"
        )
    places = {name: f"{OPTIMIZER}{number}" for number, name in enumerate(names, first)}
    return {name: arrays[place] for name, place in places.items() if place in arrays}


def write_keras(backend: Backend, folder: Path) -> list[str]:
    """Save the model that the example has, from one-hot tensors to probabilities, ready for `fit` to go on."""
    import keras  # which reading does without
    from keras import layers

    state, config, train = backend.dump(), backend.config, backend.train_config
    encoder_inputs = keras.Input((None, config.num_encoder_tokens))
    decoder_inputs = keras.Input((None, config.num_decoder_tokens))
    _, state_h, state_c = layers.LSTM(config.latent_dim, return_state=True, name="encoder")(encoder_inputs)
    decoder = layers.LSTM(config.latent_dim, return_sequences=True, name="decoder")
    decoder_outputs = decoder(decoder_inputs, initial_state=[state_h, state_c])
    probabilities = layers.Dense(config.num_decoder_tokens, activation="softmax", name="dense")(decoder_outputs)
    model = keras.Model([encoder_inputs, decoder_inputs], probabilities)
    optimizer = keras.optimizers.RMSprop(train.learning_rate, rho=train.rho, epsilon=train.epsilon)
    model.compile(optimizer=optimizer, loss="categorical_crossentropy", metrics=["accuracy"])
    optimizer.build(model.trainable_variables)
    # Weights and slots both stand in the order of the layers: encoder, decoder, dense.
    for variable, weight in zip(model.trainable_variables, state.weights.values(), strict=True):
        variable.assign(weight)
    for velocity, slot in zip(optimizer.variables[2:], state.mean_squares.values(), strict=True):
        velocity.assign(slot)
    model.save(folder / "model.keras")
    return ["model.keras"]


def ordered_weights_file(layers: Iterable[Sequence[NDArray[Any]]], of_model: Sequence[NDArray[Any]]) -> bytes:
    """Arrays of layers, and of the model itself, as `model.load_weights` reads them from a file that ends in .h5.

    Such files are older than .weights.h5. Keras takes their layers, and the arrays of each, in their order, whatever
    the names, so that no model is needed to write one.
    """
    buffer = io.BytesIO()
    with h5py.File(buffer, "w") as file:
        groups = {str(number): arrays for number, arrays in enumerate(layers)}
        file.attrs["layer_names"] = list(groups)
        for group, arrays in {**groups, "top_level_model_weights": of_model}.items():
            names = [str(number) for number in range(len(arrays))]
            file.create_group(group).attrs["weight_names"] = names
            for name, array in zip(names, arrays, strict=True):
                file[f"{group}/{name}"] = array
    return buffer.getvalue()
