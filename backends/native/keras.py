"""Writes Keras's whole models and their weights, and reads the weights without Keras.

`model.save_weights` writes HDF5. It names a layer by its class and its place among the layers of that class. It
numbers the optimizer's variables: iteration, learning rate, then a slot for each weight in the order of the layers.
"""

import io
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import h5py
from numpy.typing import NDArray

from backends.interface import Backend
from backends.native.files import canonical_state, listed, reading
from common.errors import CannotBeginError, RosettaError
from common.settings import ModelConfig
from common.weights import ModelState

EXPECTED = 'what model.save_weights("model.weights.h5") writes for the example\'s functional model: two LSTM, a Dense'
# The place of each canonical weight in the file.
WEIGHT_PLACES = {
    "encoder/kernel": "layers/lstm/cell/vars/0",
    "encoder/recurrent_kernel": "layers/lstm/cell/vars/1",
    "encoder/bias": "layers/lstm/cell/vars/2",
    "decoder/kernel": "layers/lstm_1/cell/vars/0",
    "decoder/recurrent_kernel": "layers/lstm_1/cell/vars/1",
    "decoder/bias": "layers/lstm_1/cell/vars/2",
    "dense/kernel": "layers/dense/vars/0",
    "dense/bias": "layers/dense/vars/1",
}
OPTIMIZER = "optimizer/vars"


def read_keras(paths: Sequence[Path], config: ModelConfig) -> ModelState:
    """Weights and RMSprop slots; the slots are zero where the file has no optimizer, or one that took no step.

    Raises RosettaError for a file that is damaged, or of another model; CannotBeginError for a .keras archive.
    """
    if paths[0].suffix == ".keras":
        raise CannotBeginError(
            f"{paths[0]} is a whole model, of which nothing is built here; load it with Keras, save its weights by "
            'model.save_weights("model.weights.h5"), and give that file'
        )
    with reading(paths, EXPECTED, most=1), h5py.File(paths[0], "r") as file:
        arrays = _arrays(file)
        names = {weight: [place] for weight, place in WEIGHT_PLACES.items()}
        return canonical_state(arrays, _slots(file, arrays), names, config)


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


def _slots(file: h5py.File, arrays: Mapping[str, h5py.Dataset]) -> dict[str, h5py.Dataset]:
    """The slots by the places of their weights; none where the optimizer has none."""
    variables = sum(name.startswith(f"{OPTIMIZER}/") for name in arrays)
    first = variables - len(WEIGHT_PLACES)  # 1 where a schedule of rates stands in for the learning rate, otherwise 2
    if variables <= 2:
        return {}
    optimizer = str(file[OPTIMIZER].attrs.get("name", "rm_sprop"))  # which older versions of Keras do not write
    if not optimizer.startswith(("rm_sprop", "rmsprop")) or first not in (1, 2):
        raise RosettaError(
            f"the optimizer {listed([optimizer])} has {variables} variables, expected an RMSprop without momentum, "
            "not centered. To start with slots of zeros, save the model without its optimizer: "
            'keras.Model(model.inputs, model.outputs).save_weights("model.weights.h5")'
        )
    places = {place: f"{OPTIMIZER}/{number}" for number, place in enumerate(WEIGHT_PLACES.values(), first)}
    return {place: arrays[slot] for place, slot in places.items() if slot in arrays}


def write_keras(backend: Backend, folder: Path) -> list[str]:
    """Save the model that the example has, from one-hot tensors to probabilities, ready for `fit` to go on; and its
    weights and slots alone."""
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
    model.set_weights(list(state.weights.values()))
    for velocity, slot in zip(optimizer.variables[2:], state.mean_squares.values(), strict=True):
        velocity.assign(slot)
    model.save(folder / "model.keras")
    model.save_weights(folder / "model.weights.h5")
    return ["model.keras", "model.weights.h5"]


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
