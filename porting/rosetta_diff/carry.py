"""Writes the weights of a record in the layout and under the names of another framework's model."""

import io
import pickle
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from safetensors.numpy import save

from rosetta_diff.arrays import Array
from rosetta_diff.helpers import CannotBeginError, DiffError, write_atomically
from rosetta_diff.pair.pairing import Pairing
from rosetta_diff.pair.pairs import LayerPair
from rosetta_diff.read.description import RecordedWeight, UnfitRecordsError
from rosetta_diff.read.side import Side, is_number
from rosetta_diff.read.view import Read

LOADING = {
    ".h5": "model.load_weights reads it",
    ".pt": "torch.load reads it and model.load_state_dict takes it",
    ".pdparams": "paddle.load reads it and model.set_state_dict takes it",
    ".safetensors": "safetensors' load_file has an array for each name",
}
TORCH = "import sys, torch; from safetensors.torch import load_file; torch.save(load_file(sys.argv[1]), sys.argv[2])"


def carried(pairing: Pairing) -> dict[str, Array]:
    """The left record's weights by the names of the right record, in its layout.

    What is no weight, such as a constant that no layer of the left side has, is as it was. What the framework does
    not save is left out, since its loader refuses it. Raises UnfitRecordsError for what has no place.
    """
    left, like = pairing.sides
    there = like.arrays("weights")
    arrays = laid_out(pairing.require().pairs, left.arrays("weights").get, there.get)
    for name in there:
        if name not in arrays:
            tied = like.says.weights[name].tied_to if name in like.says.weights else None
            arrays[name] = arrays[tied] if tied in arrays else there[name]
    return {name: array for name, array in arrays.items() if like.says.weights.get(name, RecordedWeight()).saved}


def laid_out(pairs: Sequence[LayerPair], read: Read, like: Read, are_weights: bool = True) -> dict[str, Array]:
    """Arrays by the right side's names and in its layout; `read` has them by the left weights' names, gradients
    perhaps of some weights only, and `like` has what the left side lacks. Raises UnfitRecordsError where
    one side of a pair lacks a tensor, or has it in another shape."""
    arrays: dict[str, Array] = {}
    for pair in pairs:
        if pair.alone[0] or pair.alone[1]:
            raise UnfitRecordsError(
                f"{pair.left.name} of {pair.left.side.name} and {pair.right.name} of {pair.right.side.name} do not "
                f"both have {', '.join(sorted((*pair.alone[0], *pair.alone[1])))}; make the two layers alike"
            )
        for weight in pair.weights.values():
            try:
                weight.move(read, arrays, like, are_weights)
            except ValueError as error:
                raise UnfitRecordsError(
                    f"{', '.join(weight.left.names)} of {pair.left.side.name} has the shape {error.args[0]} and "
                    f"{', '.join(weight.right.names)} of {pair.right.side.name} that of {weight.right.shape}; make "
                    "the two layers alike"
                ) from None
    return arrays


def aliases(like: Side) -> dict[str, str]:
    """Second names of weights, and the first ones."""
    names = (like.known.second_names(layer.classes, layer.parameters) for layer in like.says.layers)
    return {second: first for of_layer in names for second, first in of_layer.items()}


def write_carried(path: Path, like: Side, arrays: dict[str, Array], overwrite: bool = False) -> str:
    """Write a file for the loader of the framework of `like`; return how it is loaded. Raises CannotBeginError where
    the file cannot be written, and DiffError where a number is not finite."""
    suffixes = like.known.files
    if path.name.endswith(".weights.h5"):
        raise CannotBeginError(f"-o {path} is of Keras's newer kind, in which layers have places; name it .h5")
    if path.suffix not in suffixes:
        raise CannotBeginError(
            f"-o {path} is no file of {like.framework}; give it the ending {' or '.join(suffixes)}"
        )
    if path.exists() and not (overwrite and path.is_file()):
        raise CannotBeginError(f"{path} exists; give -o the name of a new file, or --overwrite to replace a file")
    if not path.parent.is_dir():
        raise CannotBeginError(f"{path} cannot be written: there is no folder {path.parent}")
    wrong = next((name for name, array in arrays.items() if is_number(array) and not np.isfinite(array).all()), None)
    if wrong:
        raise DiffError(f"{wrong} has numbers that are not finite; nothing was written")
    if path.suffix == ".pt":
        _write_with_torch(path, arrays)
    elif path.suffix == ".h5":
        write_atomically(path, _ordered_by_keras(like, arrays))
    else:
        write_atomically(path, save(arrays) if path.suffix == ".safetensors" else _as_paddle_saves(arrays))
    return LOADING[path.suffix]


def _ordered_by_keras(like: Side, arrays: dict[str, Array]) -> bytes:
    """A file that ends in .h5, for `model.load_weights`: the arrays of each of the model's layers, with those of
    layers in it; trained ones first. Keras takes the layers, and the arrays of each, in their order."""
    try:
        import h5py
    except ModuleNotFoundError as error:
        raise CannotBeginError(
            f"an .h5 file is written with {error.name}, which is not installed here; try: pip install {error.name}"
        ) from error
    model, *layers = like.says.layers
    names: dict[str, list[str]] = {}  # by the outermost layer
    for layer in layers:
        path = layer.path.removeprefix(f"{model.path}/")
        names.setdefault(path.partition("/")[0], []).extend(layer.own.values())
    weights = like.says.weights
    ordered = (
        sorted(of, key=lambda name: not weights[name].trainable) for of in [model.own.values(), *names.values()]
    )
    of_model, *of_layers = [[arrays[name] for name in of] for of in ordered]
    buffer = io.BytesIO()
    with h5py.File(buffer, "w") as file:
        groups = {str(number): arrays for number, arrays in enumerate(filter(None, of_layers))}
        file.attrs["layer_names"] = list(groups)
        for group, of in {**groups, "top_level_model_weights": of_model}.items():
            numbers = [str(number) for number in range(len(of))]
            file.create_group(group).attrs["weight_names"] = numbers
            for number, array in zip(numbers, of, strict=True):
                file[f"{group}/{number}"] = array
    return buffer.getvalue()


def _as_paddle_saves(arrays: dict[str, Array]) -> bytes:
    """Arrays by name as `paddle.save` writes a state dict; every version of Paddle reads this protocol of pickle."""
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
