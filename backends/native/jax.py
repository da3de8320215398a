"""Writes and reads safetensors files of Flax NNX's weights, by their paths in the model.

`safetensors.numpy.load_file` reads them; porting/guide.md shows how a model of NNX takes them.
"""

from collections.abc import Sequence
from pathlib import Path

from safetensors.numpy import load_file, save

from backends.interface import Backend
from backends.native.checks import canonical_state, reading
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
# The path of each canonical weight in the model of jax_model.py.
PATHS = {
    "encoder/kernel": "encoder.cell.dense_i.kernel",
    "encoder/recurrent_kernel": "encoder.cell.dense_h.kernel",
    "encoder/bias": "encoder.cell.dense_h.bias",
    "decoder/kernel": "decoder.cell.dense_i.kernel",
    "decoder/recurrent_kernel": "decoder.cell.dense_h.kernel",
    "decoder/bias": "decoder.cell.dense_h.bias",
    "dense/kernel": "dense.kernel",
    "dense/bias": "dense.bias",
}


def write_jax(backend: Backend, folder: Path) -> list[str]:
    """Save the weights and, in a file of their own, RMSprop's slots."""
    state = backend.dump()
    for name, arrays in (("model", state.weights), ("optimizer", state.mean_squares)):
        content = save({PATHS[weight]: array for weight, array in arrays.items()})
        (folder / f"{name}.safetensors").write_bytes(content)
    return ["model.safetensors", "optimizer.safetensors"]


def read_jax(paths: Sequence[Path], config: ModelConfig) -> ModelState:
    """Weights and RMSprop slots; the slots are zero without the optimizer's file.

    Raises RosettaError for files that are damaged, or of another model.
    """
    with reading(paths, EXPECTED):
        tensors, *slots = map(load_file, paths)
        names = {weight: [path] for weight, path in PATHS.items()}
        return canonical_state(tensors, slots[0] if slots else {}, names, config)
