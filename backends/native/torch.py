"""Writes and reads PyTorch's state dicts; torch is told to load nothing but tensors and plain values."""

import io
import json
import zipfile
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import torch
from numpy.typing import NDArray
from safetensors import safe_open
from safetensors.torch import load_file

from backends.native.files import ROLES, canonical_state, listed, model_and_optimizer, names_in_layers, opened
from common.config import ModelConfig
from common.errors import RosettaError
from common.files import open_archive
from common.weights import ModelState

FOLDER = 0x10  # in a zip's attributes of a member, as DOS has them
MODEL = (
    "a state dict, or is damaged; expected what torch.save(model.state_dict(), path) writes. Nothing in it was run"
)
OPTIMIZER = (
    "the state of this model's optimizer, or is damaged; expected what torch.save(optimizer.state_dict(), path) "
    "writes"
)


def write_torch(backend: Any, folder: Path) -> list[str]:
    """Save the state dicts of model and optimizer."""
    torch.save(backend.model.state_dict(), folder / "model.pt")
    ours = backend.optimizer
    # torch's own optimizer has epsilon elsewhere, and loads the same state.
    optimizer = torch.optim.RMSprop(ours.weights, lr=ours.learning_rate, alpha=ours.rho, eps=ours.epsilon)
    for weight, square_avg in zip(ours.weights, ours.mean_squares, strict=True):
        optimizer.state[weight] = {"step": torch.zeros(()), "square_avg": square_avg}
    torch.save(optimizer.state_dict(), folder / "optimizer.pt")
    return ["model.pt", "optimizer.pt"]


def read_torch(paths: Sequence[Path], config: ModelConfig, latent_dim: int | None) -> ModelState:
    """Weights and RMSprop slots; the slots are zero without the optimizer's file, or when it took no step.

    Raises RosettaError for files that are damaged, or of another model.
    """
    model, optimizer = model_and_optimizer(paths)
    slots = {}
    with opened(model, config, latent_dim, MODEL) as content:
        tensors = {str(name): _array(tensor) for name, tensor in _loaded(model, content).items()}
    if optimizer:
        with opened(optimizer, config, latent_dim, OPTIMIZER) as content:
            slots = _slots(optimizer, _loaded(optimizer, content), tensors)
    names = names_in_layers(model, tensors)
    return canonical_state((model, optimizer), tensors, names, slots, config, latent_dim, transposed=ROLES)


def _slots(path: Path, loaded: Any, names: Iterable[str]) -> dict[str, NDArray[Any]]:
    """RMSprop's slots by the names of the weights. The file numbers them in the order of the model."""
    numbers = [number for group in loaded["param_groups"] for number in group["params"]]
    if len(numbers) < len(list(names)):  # an optimizer without the second biases, such as Rosetta's
        names = [name for name in names if not name.endswith(".bias_hh_l0")]
    name_of = dict(zip(numbers, names, strict=True))
    kept = {kind for slots in loaded["state"].values() for kind in slots} - {"step"}
    if kept - {"square_avg"}:
        raise RosettaError(
            f"{path} keeps {listed(sorted(kept))}; expected square_avg alone, as an RMSprop has without "
            "momentum and not centered. Leave the file out to start with slots of zeros"
        )
    return {name_of[number]: _array(slots["square_avg"]) for number, slots in loaded["state"].items()}


def _loaded(path: Path, content: bytes) -> Any:
    """What torch.load gives, which does not compare what it reads with the checksums of the zip, and reads nothing of
    a member that is marked as a folder: its tensor has the numbers that were in the memory before."""
    file = io.BytesIO(content)
    if zipfile.is_zipfile(file):  # which files of torch before 1.6 are not
        with open_archive(content) as archive:
            damaged = archive.testzip()
            folders = [member.filename for member in archive.infolist() if member.external_attr & FOLDER]
        if damaged:
            raise RosettaError(f"{path} is damaged: the checksum of {listed([damaged])} in it does not fit")
        if folders:
            raise RosettaError(f"{path} is damaged: {listed(folders)} in it is marked as a folder")
    file.seek(0)
    return torch.load(file, map_location="cpu", weights_only=True)


def _array(tensor: torch.Tensor) -> NDArray[Any]:
    """The tensor as an array of the same memory: few bytes may claim a huge shape, which a copy would fill."""
    array: NDArray[Any] = tensor.numpy(force=True)
    return array


def write_state_dict(source: str, path: str) -> None:
    """Write the arrays of a safetensors file as torch.save writes a state dict. Those of an optimizer are called
    NUMBER|SLOT, and the file's metadata has its groups of weights."""
    arrays = load_file(source)
    with safe_open(source, "pt") as file:
        metadata = file.metadata() or {}
    if "param_groups" not in metadata:
        torch.save(arrays, path)
        return
    state: dict[int, dict[str, torch.Tensor]] = {}
    for key, tensor in arrays.items():
        number, slot = key.split("|")
        state.setdefault(int(number), {})[slot] = tensor
    torch.save({"state": state, "param_groups": json.loads(metadata["param_groups"])}, path)
