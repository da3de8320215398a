"""Writes and reads safetensors files of Flax NNX's weights, by their paths in the model.

`safetensors.numpy.load_file` reads them; docs/porting.md shows how a model of NNX takes them.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

from safetensors import SafetensorError
from safetensors.numpy import load, save

from backends.native.files import canonical_state, model_and_optimizer, opened
from common.config import ModelConfig
from common.errors import RosettaError
from common.interface import Backend
from common.tensors import Array
from common.weights import ModelState

EXPECTED = "a safetensors file, or is damaged; expected one array for each weight, by its path in the model"
# The path of each canonical weight in the lesson's model.
PATHS = {
    f"{layer}/{kind}": f"{layer}.cell.{own}"
    for layer in ("encoder", "decoder")
    for kind, own in (
        ("kernel", "dense_i.kernel"),
        ("recurrent_kernel", "dense_h.kernel"),
        ("bias", "dense_h.bias"),
    )
} | {"dense/kernel": "dense.kernel", "dense/bias": "dense.bias"}


def write_jax(backend: Backend, folder: Path) -> list[str]:
    """Save the weights and, in a file of their own, RMSprop's slots."""
    state = backend.dump()
    for name, arrays in (("model", state.weights), ("optimizer", state.mean_squares)):
        content = save({PATHS[weight]: array for weight, array in arrays.items()})
        (folder / f"{name}.safetensors").write_bytes(content)
    return ["model.safetensors", "optimizer.safetensors"]


def read_jax(paths: Sequence[Path], config: ModelConfig, latent_dim: int | None) -> ModelState:
    """Weights and RMSprop slots; the slots are zero without the optimizer's file.

    Raises RosettaError for files that are damaged, or of another model.
    """
    model, optimizer = model_and_optimizer(paths)
    tensors = _arrays(model, config, latent_dim)
    slots = _arrays(optimizer, config, latent_dim) if optimizer else {}
    names = {weight: [path] for weight, path in PATHS.items()}
    return canonical_state((model, optimizer), tensors, names, slots, config, latent_dim, transposed=())


def _arrays(path: Path, config: ModelConfig, latent_dim: int | None) -> Mapping[str, Array]:
    with opened(path, config, latent_dim, EXPECTED) as content:
        try:
            return load(content)
        except SafetensorError as error:
            raise RosettaError(f"{path} is not {EXPECTED}") from error
