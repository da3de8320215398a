"""Writes the weights of a record in the layout and under the names of another framework's model."""

import io
import pickle
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from safetensors.numpy import load_file, save

from rosetta_diff.arrays import Array
from rosetta_diff.helpers import CannotBeginError, DiffError, write_atomically
from rosetta_diff.pair.pairing import Pairing
from rosetta_diff.pair.pairs import LayerPair
from rosetta_diff.read.description import RecordedWeight
from rosetta_diff.read.side import Side, is_number
from rosetta_diff.read.view import Read

LOADING = {
    ".h5": "model.load_weights reads it",
    ".pt": "torch.load reads it and model.load_state_dict takes it",
    ".pdparams": "paddle.load reads it and model.set_state_dict takes it",
    ".safetensors": "safetensors' load_file has an array for each name",
}
TORCH = """
import sys, torch
from safetensors.torch import load_file
arrays = load_file(sys.argv[1])
torch.save(arrays, sys.argv[2])
read = torch.load(sys.argv[2], weights_only=True)
assert read.keys() == arrays.keys()
assert all(torch.equal(read[name], arrays[name]) for name in arrays)
"""


def carry_weights(pairing: Pairing) -> dict[str, Array]:
    """The left record's weights by the names of the right record, in its layout.

    What is no weight, such as a constant that no layer of the left side has, is as it was. What the
    framework does not save is left out, since its loader refuses it. Raises CannotBeginError for
    what has no place.
    """
    left, like = pairing.sides
    there = like.arrays("weights")
    arrays = lay_out(pairing.require().pairs, left.arrays("weights").get, there.get)
    for name in there:
        if name not in arrays:
            tied = like.says.weights[name].tied_to if name in like.says.weights else None
            arrays[name] = arrays[tied] if tied in arrays else there[name]
    return {
        name: array
        for name, array in arrays.items()
        if like.says.weights.get(name, RecordedWeight()).saved
    }


def lay_out(
    pairs: Sequence[LayerPair], read: Read, like: Read, are_weights: bool = True
) -> dict[str, Array]:
    """Arrays by the right side's names and in its layout; `read` has them by the left weights'
    names, gradients perhaps of some weights only, and `like` has what the left side lacks. Raises
    CannotBeginError where one side of a pair lacks a tensor, or has it in another shape."""
    arrays: dict[str, Array] = {}
    for pair in pairs:
        if pair.alone[0] or pair.alone[1]:
            raise CannotBeginError(
                f"{pair.left.name} of {pair.left.side.name} and {pair.right.name} of "
                f"{pair.right.side.name} do not both have "
                f"{', '.join(sorted((*pair.alone[0], *pair.alone[1])))}; make the two layers alike"
            )
        for weight in pair.weights.values():
            try:
                weight.move(read, arrays, like, are_weights)
            except ValueError as error:
                raise CannotBeginError(
                    f"{', '.join(weight.left.names)} of {pair.left.side.name} has the shape "
                    f"{error.args[0]} and {', '.join(weight.right.names)} of "
                    f"{pair.right.side.name} that of {weight.right.shape}; make the two layers "
                    "alike"
                ) from None
    return arrays


def aliases(like: Side) -> dict[str, str]:
    """Second names of weights, and the first ones."""
    names = (
        like.framework.second_names(layer.classes, layer.parameters) for layer in like.says.layers
    )
    return {second: first for of_layer in names for second, first in of_layer.items()}


def write_carried(path: Path, like: Side, arrays: dict[str, Array], overwrite: bool = False) -> str:
    """Write a file for the loader of the framework of `like`, and read it back; return how it is
    loaded. Raises CannotBeginError where the file cannot be written, and DiffError where a number
    is not finite, or where the file does not hold what was written."""
    suffixes = like.framework.files
    if path.name.endswith(".weights.h5"):
        plain = path.name.removesuffix(".weights.h5") + ".h5"
        raise CannotBeginError(
            f"-o {path} ends in .weights.h5, the format that finds layers by their place; expected "
            f".h5 alone, whose layers have names: model.load_weights reads it, too; try: -o {plain}"
        )
    if path.suffix not in suffixes:
        raise CannotBeginError(
            f"-o {path} is no file of {like.framework.name}; give it the ending "
            f"{' or '.join(suffixes)}"
        )
    if path.exists() and not (overwrite and path.is_file()):
        raise CannotBeginError(
            f"{path} exists; give -o the name of a new file, or --overwrite to replace a file"
        )
    if not path.parent.is_dir():
        raise CannotBeginError(f"{path} cannot be written: there is no folder {path.parent}")
    if path.suffix == ".h5" and not find_spec("h5py"):
        raise CannotBeginError(
            "an .h5 file is written with h5py, which is not installed here; try: pip install h5py"
        )
    wrong = next(
        (
            name
            for name, array in arrays.items()
            if is_number(array) and not np.isfinite(array).all()
        ),
        None,
    )
    if wrong:
        raise DiffError(f"{wrong} has numbers that are not finite; nothing was written")
    if path.suffix == ".pt":
        _write_with_torch(path, arrays)
        return LOADING[path.suffix]
    if path.suffix == ".h5":
        groups = _groups_of_keras(like, arrays)
        write_atomically(path, _as_keras_loads(groups, arrays))
        read = _read_of_keras(path, groups)
    elif path.suffix == ".pdparams":
        write_atomically(path, _as_paddle_saves(arrays))
        read = pickle.loads(path.read_bytes())
    else:
        write_atomically(path, save(arrays))
        read = load_file(path)
    if read.keys() != arrays.keys() or not all(
        np.array_equal(read[name], arrays[name]) for name in arrays
    ):
        raise DiffError(f"{path} holds other numbers than were written into it; is the disk whole?")
    return LOADING[path.suffix]


def _groups_of_keras(like: Side, arrays: dict[str, Array]) -> dict[str, list[str]]:
    """Names of weights by the groups of an .h5 file, in the order in which `model.load_weights`
    takes them. Raises CannotBeginError where the record does not tell this order, and for a weight
    that the loader would leave out."""
    if not like.says.loaded:
        raise CannotBeginError(
            f"{like.name} does not tell the order in which Keras loads its weights; record it anew "
            "as a keras.Model, or give the file the ending .safetensors"
        )
    of_model, *of_layers = like.says.loaded
    groups = {str(number): names for number, names in enumerate(filter(None, of_layers))}
    left_out = arrays.keys() - {name for names in like.says.loaded for name in names}
    if left_out:
        raise CannotBeginError(
            f"{min(left_out)} of {like.name} is in no layer of model.layers, so model.load_weights "
            "would leave it as it is; give the file the ending .safetensors"
        )
    return {**groups, "top_level_model_weights": of_model}


def _as_keras_loads(groups: dict[str, list[str]], arrays: dict[str, Array]) -> bytes:
    """A file that ends in .h5. Keras takes the layers, and the arrays of each, in their order."""
    import h5py

    buffer = io.BytesIO()
    with h5py.File(buffer, "w") as file:
        file.attrs["layer_names"] = [*groups][:-1]
        for group, names in groups.items():
            numbers = [str(number) for number in range(len(names))]
            file.create_group(group).attrs["weight_names"] = numbers
            for number, name in zip(numbers, names, strict=True):
                file[f"{group}/{number}"] = arrays[name]
    return buffer.getvalue()


def _read_of_keras(path: Path, groups: dict[str, list[str]]) -> dict[str, Array]:
    """The arrays of an .h5 file by the names of the weights that take them."""
    import h5py

    with h5py.File(path) as file:
        return {
            name: file[group][number][()]
            for group in (*file.attrs["layer_names"], "top_level_model_weights")
            for name, number in zip(groups[group], file[group].attrs["weight_names"], strict=True)
        }


def _as_paddle_saves(arrays: dict[str, Array]) -> bytes:
    """Arrays by name as `paddle.save` writes a state dict;
    every version of Paddle reads this protocol of pickle."""
    return pickle.dumps(dict(arrays), protocol=4)


def _write_with_torch(path: Path, arrays: dict[str, Array]) -> None:
    """Write the file with torch, in a process of its own."""
    with tempfile.TemporaryDirectory() as folder:
        source, target = Path(folder) / "arrays.safetensors", Path(folder) / "made.pt"
        source.write_bytes(save(arrays))
        command = [sys.executable, "-c", TORCH, str(source), str(target)]
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
        if done.returncode:
            last = (done.stderr.strip().splitlines() or ["no reason given"])[-1]
            raise DiffError(f"torch did not write {path}: {last}; .safetensors needs no torch")
        write_atomically(path, target.read_bytes())
