"""Reads weights from files that anybody may have written: sizes, names and shapes are checked before use.

PyTorch and Paddle name an LSTM's tensors alike, and both have two biases where the canonical layout has one.
"""

import math
import pickle
import struct
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from textwrap import shorten
from typing import Any

import numpy as np
from numpy.typing import NDArray

from common.archives import UNZIP_ERRORS, open_archive
from common.config import ModelConfig
from common.errors import CannotBeginError, RosettaError
from common.files import read_at_most
from common.weights import ModelState, weight_shapes

# What the readers of zips, pickles and HDF5 raise when a file is cut, garbled or made to confuse them.
UNREADABLE = (
    *UNZIP_ERRORS,
    pickle.UnpicklingError,
    struct.error,
    LookupError,
    TypeError,
    AttributeError,
    AssertionError,
    ArithmeticError,
    MemoryError,
)

# For each kind of canonical weight the tensors of which it is made. If there are two, it is their sum.
LSTM = {"kernel": ["weight_ih_l0"], "recurrent_kernel": ["weight_hh_l0"], "bias": ["bias_ih_l0", "bias_hh_l0"]}
LINEAR = {"kernel": ["weight"], "bias": ["bias"]}
ROLES = {"encoder": LSTM, "decoder": LSTM, "dense": LINEAR}
SECOND_BIAS = ".bias_hh_l0"

LARGEST_LATENT_DIM = 1024  # units that a model may have when nobody says how many it has; bounds what is read


def read(path: Path, config: ModelConfig) -> bytes:
    """The bytes of a file, if a model of this size can need so many; of a zip the unpacked bytes count, too.

    Raises CannotBeginError where nothing can be read, RosettaError for a file that is too large.
    """
    numbers = sum(math.prod(shape) for shape in weight_shapes(config).values())
    largest = 4 * 8 * numbers + (1 << 24)  # bytes of weights and three slots in float64, and 16 MiB for the rest
    try:
        content = read_at_most(largest, path)
        if _unpacked_size(content) > largest:
            raise RosettaError(f"{path} holds more than {largest:,} bytes, expected less")
    except OSError as error:
        raise CannotBeginError(f"{path} cannot be read: {error.strerror}") from error
    except RosettaError as error:
        raise RosettaError(
            f"{error} for a model of {config.latent_dim:,} units and these vocabularies; --latent-dim tells how many "
            "units it has"
        ) from error
    return content


def _unpacked_size(content: bytes) -> int:
    """The number of bytes to which a zip says that it unpacks; 0 if the content is no zip."""
    try:
        return sum(member.file_size for member in open_archive(content).infolist())
    except UNREADABLE:
        return 0


def at_most(config: ModelConfig, latent_dim: int | None) -> ModelConfig:
    """The largest model that a file may hold of which this is asked."""
    return replace(config, latent_dim=latent_dim or LARGEST_LATENT_DIM)


def of_size(config: ModelConfig, latent_dim: int | None, recurrent_shape: Sequence[int], path: Path) -> ModelConfig:
    """The model whose recurrent kernel has this shape, (4H, H) or (H, 4H).

    Raises RosettaError where it has another number of units than `latent_dim`, or than a model may have of which
    nothing is said.
    """
    found = min(recurrent_shape, default=0)
    if latent_dim is not None and found != latent_dim:
        raise RosettaError(
            f"{path} has LSTMs of {found} units, and --latent-dim is {latent_dim}; leave out --latent-dim"
        )
    if latent_dim is None and not 1 <= found <= LARGEST_LATENT_DIM:
        raise RosettaError(
            f"{path} has LSTMs of {found} units, expected 1 to {LARGEST_LATENT_DIM}; more are read when --latent-dim "
            "tells of them"
        )
    return replace(config, latent_dim=found)


def model_and_optimizer(paths: Sequence[Path]) -> tuple[Path, Path | None]:
    """The model's file, and the optimizer's or None. Raises CannotBeginError for more than two files."""
    if len(paths) > 2:
        raise CannotBeginError(f"{len(paths)} files were given, expected the model's and at most the optimizer's")
    return paths[0], paths[1] if len(paths) == 2 else None


def require_shape(array: Any, shape: Sequence[int], config: ModelConfig, what: str) -> None:
    """Raise RosettaError unless an array, which may still be in its file, has this shape and the model's dtype."""
    if array.shape != tuple(shape) or array.dtype != config.dtype:
        raise RosettaError(
            f"{what} is {array.dtype} {array.shape}, expected {config.dtype} {tuple(shape)}; "
            "--dtype and the corpus must be those that it was trained with"
        )


def checked(array: NDArray[Any], shape: Sequence[int], config: ModelConfig, what: str) -> NDArray[np.floating]:
    """Return `array`. Raises RosettaError unless it has this shape and the model's dtype and is finite."""
    require_shape(array, shape, config, what)
    if not np.isfinite(array).all():
        raise RosettaError(f"{what} holds numbers that are not finite")
    return array


def canonical_state(
    paths: tuple[Path, Path | None],
    tensors: Mapping[str, NDArray[Any]],
    slots: Mapping[str, NDArray[Any]],
    config: ModelConfig,
    latent_dim: int | None,
    dense_transposed: bool,
) -> ModelState:
    """The state made of a framework's tensors and RMSprop slots, both by the tensors' names.

    The tensors of an LSTM are (4H, V), (4H, H) and twice (4H,). The dense kernel is (H, V_dec), or (V_dec, H) if
    `dense_transposed`. H is `latent_dim`, or without it the number of units that the tensors have. Without `slots`,
    those of the state are zero. Raises RosettaError for tensors that are not this model's, and for slots of a second
    bias.
    """
    model, optimizer = paths
    second = [name for name in slots if name.endswith(SECOND_BIAS)]
    if second:
        raise RosettaError(
            f"{optimizer} has a slot for {second[0]}: both biases of an LSTM were trained, so their sum moved "
            "twice in a step, and Rosetta's one bias cannot go on like that. Leave the optimizer's file out; slots "
            "then start at zero"
        )
    layers = _layers(model, tensors)
    recurrent_kernel = tensors[layers["encoder"]["weight_hh_l0"]]
    config = of_size(config, latent_dim, recurrent_kernel.shape, model)
    weights, mean_squares = {}, {}
    for name, shape in weight_shapes(config).items():
        role, kind = name.split("/")
        transposed = role != "dense" or dense_transposed
        expected = shape[::-1] if transposed else shape  # for a bias both are the same
        names = [layers[role][tensor] for tensor in ROLES[role][kind]]
        parts = [checked(tensors[part], expected, config, f"{model}: {part}") for part in names]
        # A second bias of zeros is not added, since that would make 0.0 of a -0.0.
        weight = sum(parts[1:], parts[0]) if parts[-1].any() else parts[0]
        weights[name] = np.ascontiguousarray(weight.T if transposed else weight)
        if not slots:
            mean_squares[name] = np.zeros_like(weights[name])
        elif names[0] in slots:
            slot = checked(slots[names[0]], expected, config, f"{optimizer}: the slot of {names[0]}")
            mean_squares[name] = np.ascontiguousarray(slot.T if transposed else slot)
        else:
            raise RosettaError(f"{optimizer} has no slot for {names[0]}, expected one for each weight")
    return ModelState(weights, mean_squares)


def _layers(path: Path, names: Iterable[str]) -> dict[str, dict[str, str]]:
    """For each role the names of its tensors. A layer is found by its role's name, or by its place among all."""
    found: dict[str, dict[str, str]] = {}
    for name in names:
        prefix, _, tensor = name.rpartition(".")
        found.setdefault(prefix, {})[tensor] = name
    layers = [found[role] for role in ROLES] if found.keys() == ROLES.keys() else list(found.values())
    expected = [{tensor for tensors in kinds.values() for tensor in tensors} for kinds in ROLES.values()]
    if [layer.keys() for layer in layers] != expected:
        raise RosettaError(
            f"{path} holds {listed(names)}; expected encoder and decoder, each an LSTM of one layer with "
            f"{', '.join(sorted(expected[0]))}, and dense with weight, bias; or three such layers in this order"
        )
    return dict(zip(ROLES, layers, strict=True))


def listed(names: Iterable[object]) -> str:
    """Names that stand in a file, escaped and shortened so that they fit into one line of a message."""
    return shorten(", ".join(ascii(name) for name in names), 300, placeholder=" ...") or "nothing"
