"""Writes and reads safetensors files of Flax NNX's weights, by their paths in the model.

`safetensors.numpy.load_file` reads them; porting/guide.md shows how a model of NNX takes them.
"""

from collections.abc import Sequence
from pathlib import Path

from safetensors.numpy import load_file, save

from backends.interface import Backend
from backends.native.checks import canonical_state, reading, tensors_of
from common.settings import ModelConfig
from common.weights import ModelState

LOADS = """\
from operator import attrgetter
from safetensors.numpy import load_file

for path, array in load_file({model!r}).items():
    api.assign(attrgetter(path)(model), array)"""
EXPECTED = (
    "a safetensors file with one array for each weight, by its path in the model, and one of slots "
    "likewise"
)
# What Flax NNX calls the tensors of an LSTM, and that of any other layer.
LSTM = {
    "kernel": ["cell.dense_i.kernel"],
    "recurrent_kernel": ["cell.dense_h.kernel"],
    "bias": ["cell.dense_h.bias"],
}
LAYER = {"kernel": "kernel", "bias": "bias", "gamma": "scale", "beta": "bias"}


def write_jax(backend: Backend, folder: Path) -> tuple[list[str], str]:
    """Save the weights and, in a file of their own, RMSprop's slots.
    Returns the files, and what loads the first."""
    state, paths = backend.dump(), tensors_of(backend.config, LSTM, LAYER)
    for name, arrays in (("model", state.weights), ("optimizer", state.mean_squares)):
        content = save({paths[weight][0]: array for weight, array in arrays.items()})
        (folder / f"{name}.safetensors").write_bytes(content)
    return ["model.safetensors", "optimizer.safetensors"], LOADS


def read_jax(paths: Sequence[Path], config: ModelConfig) -> ModelState:
    """Weights and RMSprop slots; the slots are zero without the optimizer's file.

    Raises RosettaError for files that are damaged, or of another model.
    """
    with reading(paths, EXPECTED):
        tensors, *slots = map(load_file, paths)
        names = tensors_of(config, LSTM, LAYER)
        return canonical_state(tensors, slots[0] if slots else {}, names, config)
