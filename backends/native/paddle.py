"""Reads Paddle's .pdparams and .pdopt without Paddle, and without trusting them.

`paddle.save` writes a pickle of a dict. It holds NumPy arrays by the names that their layers give them, and under
NAME_TABLE the names that the parameters have themselves. `paddle.load` runs whatever such a pickle names (its issue
77735). Here it may name nothing but arrays and dicts. Classes of this module stand in for NumPy's, so that nothing of
NumPy is called before an array's type and length are known to fit.
"""

import io
import pickle
import re
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from backends.native.files import UNREADABLE, at_most, canonical_state, listed, model_and_optimizer, read
from common.config import ModelConfig
from common.errors import RosettaError
from common.weights import ModelState

NAME_TABLE = "StructuredToParameterName@@"
NUMBERS = {"f2", "f4", "f8", "i4", "i8", "u2"}  # types of NumPy; Paddle keeps bfloat16 as u2
MEAN_SQUARE = re.compile(r"_mean_square_\d+$")  # what RMSProp adds to a parameter's own name
# The second name of an LSTM's tensor, see `_first_name`.
ALIAS = re.compile(r"\.(\d+)\.cell\.(weight|bias)_(ih|hh)$")


class StoredDtype:
    """Stands in a pickle for numpy.dtype."""

    def __init__(self, code: str, *align_and_copy: bool) -> None:
        self.code, self.order = code, "|"

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        self.order = state[1]

    def of_numpy(self) -> np.dtype[Any]:
        if self.code not in NUMBERS or self.order not in ("<", ">"):
            raise ValueError(f"an array of {self.code!r}")
        return np.dtype(f"{self.order}{self.code}")


class StoredArray:
    """Stands in a pickle for numpy.ndarray, and for the function that makes an empty one."""

    def __init__(self, *subtype_shape_and_dtype: Any) -> None:
        self.array: NDArray[Any] | None = None

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        _, shape, dtype, in_columns, block = state
        self.array = np.frombuffer(block, dtype.of_numpy()).reshape(shape, order="F" if in_columns else "C")


def latin1(text: str, encoding: str) -> bytes:
    """Stands in a pickle for _codecs.encode, with which protocol 2 writes bytes."""
    return text.encode("latin1")


ALLOWED = {
    ("numpy", "dtype"): StoredDtype,
    ("numpy", "ndarray"): StoredArray,
    ("numpy.core.multiarray", "_reconstruct"): StoredArray,  # NumPy 1
    ("numpy._core.multiarray", "_reconstruct"): StoredArray,  # NumPy 2
    ("collections", "OrderedDict"): OrderedDict,
    ("_codecs", "encode"): latin1,
}


class ForbiddenNameError(Exception):
    """A pickle names something that no state dict needs."""


class StateDictUnpickler(pickle.Unpickler):
    """An unpickler that makes only what ALLOWED names, and raises ForbiddenNameError for all else."""

    def find_class(self, module: str, name: str) -> Any:
        try:
            return ALLOWED[module, name]
        except KeyError:
            raise ForbiddenNameError(f"{module}.{name}") from None


def read_paddle(paths: Sequence[Path], config: ModelConfig, latent_dim: int | None) -> ModelState:
    """Weights and RMSprop slots; the slots are zero without the optimizer's file, or when it took no step.

    Raises RosettaError for files that are damaged, or of another model.
    """
    model, optimizer = model_and_optimizer(paths)
    largest = at_most(config, latent_dim)
    tensors, own_names = _arrays_and_own_names(model, largest)
    slots = _slots(optimizer, own_names, largest) if optimizer else {}
    return canonical_state((model, optimizer), tensors, slots, config, latent_dim, dense_transposed=False)


def _slots(path: Path, own_names: Mapping[str, str], config: ModelConfig) -> dict[str, NDArray[Any]]:
    """RMSprop's slots by the names of the weights. The file has them by the parameters' own names."""
    kept, _ = _arrays_and_own_names(path, config)
    mean_squares = {MEAN_SQUARE.sub("", key): array for key, array in kept.items() if MEAN_SQUARE.search(key)}
    slots = {name: mean_squares[own] for name, own in own_names.items() if own in mean_squares}
    if kept and not slots:
        raise RosettaError(
            f"{path} keeps {listed(kept)}; expected a mean_square for {listed(own_names.values())}, as an RMSProp "
            "has that was saved with the model. Leave the file out to start with slots of zeros"
        )
    return slots


def _arrays_and_own_names(path: Path, config: ModelConfig) -> tuple[dict[str, NDArray[Any]], dict[str, str]]:
    """A state dict's arrays by their first names, and by the same names the parameters' own, if the file has them."""
    content = read(path, config)
    try:
        state = StateDictUnpickler(io.BytesIO(content)).load()
        own_names = {_first_name(str(name)): str(own) for name, own in state.pop(NAME_TABLE, {}).items()}
        stored = {str(name): value.array for name, value in state.items() if isinstance(value, StoredArray)}
    except ForbiddenNameError as error:
        raise RosettaError(
            f"{path} names {listed(error.args)}, which no state dict needs and which was not run; expected arrays, "
            "as paddle.save(layer.state_dict(), path) writes them"
        ) from error
    except UNREADABLE as error:
        raise RosettaError(
            f"{path} is not a state dict, or is damaged; expected what paddle.save(layer.state_dict(), path) writes"
        ) from error
    return _without_aliases(path, {name: array for name, array in stored.items() if array is not None}), own_names


def _first_name(name: str) -> str:
    """The first of a tensor's two names in Paddle: `encoder.0.cell.weight_ih` is also `encoder.weight_ih_l0`."""
    return ALIAS.sub(r".\2_\3_l\1", name)


def _without_aliases(path: Path, arrays: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
    """Each array once, by its first name. Raises RosettaError where its second name has another array."""
    once: dict[str, NDArray[Any]] = {}
    for name, array in arrays.items():
        first = once.setdefault(_first_name(name), array)
        if not np.array_equal(first, array, equal_nan=True):
            raise RosettaError(f"{path} holds two different tensors for {listed([name])}, expected an alias")
    return once
