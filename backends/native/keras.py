"""Reads Keras's .keras archives without building the layers that their configuration names.

An archive is a zip of config.json and model.weights.h5. The latter names a layer by its class and its place among the
layers of that class (`layers/lstm_1/cell/vars/0`). It numbers the optimizer's variables: iteration, learning rate,
then a slot for each weight in the order of the layers.
"""

import io
import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from backends.native.files import listed, of_size, opened, required
from common.archives import LARGEST_ARCHIVE, open_archive, read_member
from common.config import ModelConfig
from common.errors import CannotBeginError, RosettaError
from common.files import LARGEST_JSON
from common.weights import ModelState, weight_shapes

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
FOLDERS = {LSTM: ["layers/lstm/cell", "layers/lstm_1/cell"], DENSE: ["layers/dense"]}


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
        arrays = read_member(archive, "model.weights.h5", LARGEST_ARCHIVE)
        # The optimizer is a string where `compile` was given a string, otherwise an object.
        optimizer = (architecture.get("compile_config") or {}).get("optimizer")
        optimizer_class = str(optimizer["class_name"] if isinstance(optimizer, dict) else optimizer)
        folders = _folders(path, architecture["config"]["layers"])
        with h5py.File(io.BytesIO(arrays), "r") as file:
            recurrent_kernel = _dataset(path, file, f"{folders['encoder']}/vars/1")
            config = of_size(config, latent_dim, recurrent_kernel.shape, path)
            return _state(path, file, folders, optimizer_class, config)


def _folders(path: Path, layers: Sequence[Any]) -> dict[str, str]:
    """The folder of each role's weights. A layer is found by its role's name, or by its place as in the example."""
    described = [(f"{layer['module']}.{layer['class_name']}", layer["config"]) for layer in layers]
    classes = [class_name for class_name, _ in described]
    if sorted(classes) != sorted([INPUT, INPUT, LSTM, LSTM, DENSE]):
        raise RosettaError(
            f"{path} has the layers {listed(classes)}; expected those of the example: two inputs, two LSTM, a Dense"
        )
    folders: dict[str, str] = {}
    for kind, roles in ROLES.items():
        settings = [settings for class_name, settings in described if class_name == kind]
        for setting, allowed in SETTINGS[kind].items():
            for found in (of_layer[setting] for of_layer in settings):
                if found not in allowed:
                    raise RosettaError(
                        f"{path} has a {kind} with {setting} {listed([found])}, expected {allowed[0]!r}"
                    )
        names = [of_layer["name"] for of_layer in settings]
        folders |= zip(names if set(names) == set(roles) else roles, FOLDERS[kind], strict=True)
    return folders


def _state(
    path: Path, file: h5py.File, folders: dict[str, str], optimizer_class: str, config: ModelConfig
) -> ModelState:
    """The weights, and the slots of an optimizer that is an RMSprop; `folders` says where each role's weights are."""
    shapes = weight_shapes(config)

    def array(name: str, place: str) -> NDArray[np.floating]:
        # Its shape is checked before it is read, since few bytes may claim a huge shape.
        return required(_dataset(path, file, place), shapes[name], config, f"{path}: {place}")

    # The file numbers the weights of a layer in this order.
    in_order = {role: [name for name in shapes if name.startswith(f"{role}/")] for role in folders}
    weights = {
        name: array(name, f"{folder}/vars/{number}")
        for role, folder in folders.items()
        for number, name in enumerate(in_order[role])
    }
    variables = len(_entry(path, file, "optimizer/vars")) if "optimizer" in file else 0
    first = variables - len(shapes)
    if variables <= 2:
        slots = {name: np.zeros_like(weight) for name, weight in weights.items()}
    elif optimizer_class.lower() == "rmsprop" and first in (1, 2):  # a schedule of rates is no variable
        slots = {name: array(name, f"optimizer/vars/{number}") for number, name in enumerate(weights, first)}
    else:
        raise RosettaError(
            f"{path} has an optimizer {listed([optimizer_class])} of {variables} variables, expected an RMSprop "
            "without momentum, not centered. To start with slots of zeros, save the model without its optimizer: "
            "keras.Model(model.inputs, model.outputs).save(...)"
        )
    return ModelState(weights, slots)


def _dataset(path: Path, file: h5py.File, name: str) -> h5py.Dataset:
    """The array of this name, in one piece as Keras writes it. A chunk of any size would be read as a whole."""
    dataset = _entry(path, file, name)
    if not isinstance(dataset, h5py.Dataset) or dataset.external or dataset.is_virtual or dataset.chunks:
        raise RosettaError(f"{path}: {name} is not an array in this file itself, in one piece")
    return dataset


def _entry(path: Path, file: h5py.File, name: str) -> Any:
    """What the file itself holds under this name. Links are refused, since they may lead to other files."""
    entry: Any = file
    for part in name.split("/"):
        if not isinstance(entry, h5py.Group) or not isinstance(entry.get(part, getlink=True), h5py.HardLink):
            raise RosettaError(f"{path} has no {name} in its model.weights.h5")
        entry = entry[part]
    return entry


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
