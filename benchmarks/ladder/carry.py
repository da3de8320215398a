"""Writes the weights of a record in the layout and under the names of another framework's model."""

import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from safetensors.numpy import save

from backends.native.paddle import state_dict_file
from backends.process.parent import PROJECT
from benchmarks.ladder.arrays import Array
from benchmarks.ladder.pair.pairing import Pairing
from benchmarks.ladder.pair.pairs import LayerPair
from benchmarks.ladder.read.description import RecordedWeight, UnfitRecordsError
from benchmarks.ladder.read.record import Side, is_number
from benchmarks.ladder.read.view import Read
from common.errors import CannotBeginError, RosettaError
from common.files import write_atomically

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
    """Arrays by the right side's names and in its layout; `read` has them by the left weights' names, slots and
    gradients perhaps of some weights only, and `like` has what the left side lacks. Raises UnfitRecordsError where
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
    the file cannot be written, and RosettaError where a number is not finite."""
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
        raise RosettaError(f"{wrong} has numbers that are not finite; nothing was written")
    if path.suffix == ".pt":
        _write_with_torch(path, arrays)
    elif path.suffix == ".h5":
        write_atomically(path, _ordered_by_keras(like, arrays))
    else:
        write_atomically(path, save(arrays) if path.suffix == ".safetensors" else state_dict_file(arrays))
    return LOADING[path.suffix]


def _ordered_by_keras(like: Side, arrays: dict[str, Array]) -> bytes:
    """A file for a Keras model: of each of its layers the arrays, with those of layers in it; trained ones first."""
    try:
        from backends.native.keras import ordered_weights_file
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
    return ordered_weights_file(filter(None, of_layers), of_model)


def _write_with_torch(path: Path, arrays: dict[str, Array]) -> None:
    """Write the file with torch, in a process of its own."""
    with tempfile.TemporaryDirectory() as folder:
        source, target = Path(folder) / "arrays.safetensors", Path(folder) / "made.pt"
        source.write_bytes(save(arrays))
        command = [sys.executable, "-c", TORCH, str(source), str(target)]
        done = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, check=False)
        if done.returncode:
            last = (done.stderr.strip().splitlines() or ["no reason given"])[-1]
            raise RosettaError(f"torch did not write {path}: {last}; .safetensors needs no torch")
        write_atomically(path, target.read_bytes())
