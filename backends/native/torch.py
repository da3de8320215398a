"""Writes and reads PyTorch's state dicts;
torch is told to load nothing but tensors and plain values."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from numpy.typing import NDArray

from backends.native.checks import (
    canonical_state,
    escaped,
    reading,
    refuse_inflated,
    tensors_of,
)
from common.errors import RosettaError
from common.settings import ModelConfig
from common.weights import ModelState

LOADS = """\
import torch

model.load_state_dict(torch.load({model!r}, weights_only=True))"""
EXPECTED = (
    "what torch.save(model.state_dict(), path) writes, and torch.save(optimizer.state_dict(), path)"
)


def write_torch(backend: Any, folder: Path) -> tuple[list[str], str]:
    """Save the state dicts of model and optimizer. Returns the files, and what loads the first."""
    torch.save(backend.model.state_dict(), folder / "model.pt")
    ours = backend.optimizer
    # torch's own optimizer has epsilon elsewhere, and loads the same state.
    optimizer = torch.optim.RMSprop(
        ours.weights, lr=ours.learning_rate, alpha=ours.rho, eps=ours.epsilon
    )
    for weight, square_avg in zip(ours.weights, ours.mean_squares, strict=True):
        optimizer.state[weight] = {"step": torch.zeros(()), "square_avg": square_avg}
    torch.save(optimizer.state_dict(), folder / "optimizer.pt")
    return ["model.pt", "optimizer.pt"], LOADS


def read_torch(paths: Sequence[Path], config: ModelConfig) -> ModelState:
    """Weights and RMSprop slots; the slots are zero without the optimizer's file,
    or when it took no step.

    Raises RosettaError for files that are damaged, or of another model.
    """
    with reading(paths, EXPECTED):
        for path in paths:
            refuse_inflated(path)
        model, *optimizer = [
            torch.load(path, map_location="cpu", weights_only=True) for path in paths
        ]
        tensors = {str(name): _array(tensor) for name, tensor in model.items()}
        slots = _slots(optimizer[0], tensors) if optimizer else {}
        return canonical_state(tensors, slots, tensors_of(config), config)


def _slots(optimizer: Mapping[str, Any], names: Iterable[str]) -> dict[str, NDArray[Any]]:
    """RMSprop's slots by the names of the weights.
    The file numbers them in the order of the model."""
    numbers = [number for group in optimizer["param_groups"] for number in group["params"]]
    if len(numbers) < len(list(names)):  # an optimizer without the second biases, such as Rosetta's
        names = [name for name in names if not name.endswith(".bias_hh_l0")]
    name_of = dict(zip(numbers, names, strict=True))
    kept = {kind for slots in optimizer["state"].values() for kind in slots} - {"step"}
    if kept - {"square_avg"}:
        raise RosettaError(
            f"the optimizer keeps {escaped(sorted(kept))}; expected square_avg alone, as an "
            "RMSprop has without momentum and not centered. Leave its file out to start with slots "
            "of zeros"
        )
    return {
        name_of[number]: _array(slots["square_avg"]) for number, slots in optimizer["state"].items()
    }


def _array(tensor: torch.Tensor) -> NDArray[Any]:
    """The tensor in Keras's layout, in the same memory:
    few bytes may claim a huge shape, which a copy would fill."""
    array: NDArray[Any] = tensor.numpy(force=True)
    return array.T
