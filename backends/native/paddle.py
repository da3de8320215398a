"""Writes Paddle's .pdparams and .pdopt, and reads them without Paddle.

`paddle.save` writes a pickle of a dict. It holds NumPy arrays by the names that their layers give
them, and under NAME_TABLE the names that the parameters have themselves. `paddle.load` runs
whatever such a pickle names (its issue 77735). Here a pickle may name nothing but arrays, dicts and
bytes, and gets in their place what this module has.
"""

import pickle
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from backends.native.checks import canonical_state, escaped, reading, tensors_of
from common.errors import RosettaError
from common.settings import ModelConfig
from common.weights import ModelState

LOADS = """\
import paddle

model.set_state_dict(paddle.load({model!r}))"""
EXPECTED = (
    "what paddle.save(layer.state_dict(), path) writes, and paddle.save(optimizer.state_dict(), "
    "path)"
)
NAME_TABLE = "StructuredToParameterName@@"
NUMBERS = {"f2", "f4", "f8", "i4", "i8", "u2"}  # types of NumPy; Paddle keeps bfloat16 as u2
MEAN_SQUARE = re.compile(r"_mean_square_\d+$")  # what RMSProp adds to a parameter's own name
# The second name of an LSTM's tensor: `encoder.0.cell.weight_ih` is also `encoder.weight_ih_l0`.
ALIAS = re.compile(r"\.(\d+)\.cell\.(weight|bias)_(ih|hh)$")


class Pickled:
    """Stands in a pickle for NumPy's array, its function that makes an empty one, and its dtype.

    It only keeps what it is given: the state of a real dtype may
    have flags that make pointers of numbers.
    """

    state: tuple[Any, ...] = ()

    def __init__(self, *arguments: Any) -> None:
        self.arguments = arguments

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        self.state = state

    @property
    def array(self) -> NDArray[Any]:
        """The array, which has the memory of the pickle.
        Raises ValueError for one that is not of numbers."""
        _, shape, dtype, in_columns, block = self.state
        code, order = dtype.arguments[0], dtype.state[1]
        if code not in NUMBERS or order not in ("<", ">"):
            raise ValueError(f"an array of {code!r}")
        return np.frombuffer(block, f"{order}{code}").reshape(
            shape, order="F" if in_columns else "C"
        )


ALLOWED = {
    ("numpy", "dtype"): Pickled,
    ("numpy", "ndarray"): Pickled,
    ("numpy.core.multiarray", "_reconstruct"): Pickled,  # NumPy 1
    ("numpy._core.multiarray", "_reconstruct"): Pickled,  # NumPy 2
    ("collections", "OrderedDict"): dict,
    # With which protocol 2 writes bytes.
    ("_codecs", "encode"): lambda text, encoding: text.encode("latin1"),
}


class StateDictUnpickler(pickle.Unpickler):
    """An unpickler that finds nothing but ALLOWED,
    so it calls nothing else and sets the state of nothing else."""

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in ALLOWED:
            raise RosettaError(
                f"a file names {escaped([f'{module}.{name}'])}, which no state dict needs and "
                f"which was not run; expected {EXPECTED}"
            )
        return ALLOWED[module, name]


def write_paddle(backend: Any, folder: Path) -> tuple[list[str], str]:
    """Save the state dicts of model and optimizer. Returns the files, and what loads the first."""
    import paddle  # which reading does without

    paddle.save(backend.model.state_dict(), str(folder / "model.pdparams"))
    paddle.save(backend.optimizer.state_dict(), str(folder / "model.pdopt"))
    return ["model.pdparams", "model.pdopt"], LOADS


def read_paddle(paths: Sequence[Path], config: ModelConfig) -> ModelState:
    """Weights and RMSprop slots; the slots are zero without the optimizer's file,
    or when it took no step.

    Raises RosettaError for files that are damaged, or of another model.
    """
    with reading(paths, EXPECTED):
        # A shell's `model.pd*` has the optimizer's file first.
        in_order = sorted(paths, key=lambda path: path.suffix == ".pdopt")
        (tensors, parameters), *optimizer = map(_arrays_and_parameters, in_order)
        slots = _slots(optimizer[0][0], parameters) if optimizer else {}
        return canonical_state(
            _in_layout_of_keras(tensors), _in_layout_of_keras(slots), tensors_of(config), config
        )


def _in_layout_of_keras(arrays: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
    """The arrays of an LSTM transposed; those of a linear layer are as Keras has them."""
    return {name: array.T if name.endswith("_l0") else array for name, array in arrays.items()}


def _slots(
    kept: Mapping[str, NDArray[Any]], parameters: Mapping[str, str]
) -> dict[str, NDArray[Any]]:
    """RMSprop's slots by the names of the weights.
    The file has them by the parameters' own names."""
    mean_squares = {
        MEAN_SQUARE.sub("", key): array for key, array in kept.items() if MEAN_SQUARE.search(key)
    }
    slots = {
        name: mean_squares[parameter]
        for name, parameter in parameters.items()
        if parameter in mean_squares
    }
    if kept and not slots:
        raise RosettaError(
            f"the optimizer keeps {escaped(kept)}; expected a mean_square for "
            f"{escaped(parameters.values())}, as an RMSProp has that was saved with the model. "
            "Leave its file out to start with slots of zeros"
        )
    return slots


def _arrays_and_parameters(path: Path) -> tuple[dict[str, NDArray[Any]], dict[str, str]]:
    """A state dict's arrays by their first names,
    and by name the parameters' own names, if the file has them."""
    with path.open("rb") as file:
        state = dict(StateDictUnpickler(file).load())
    parameters = {
        name: key for name, key in state.pop(NAME_TABLE, {}).items() if isinstance(key, str)
    }
    arrays: dict[str, NDArray[Any]] = {}
    for name, stored in state.items():
        if isinstance(stored, Pickled):
            arrays.setdefault(ALIAS.sub(r".\2_\3_l\1", str(name)), stored.array)
    return arrays, parameters
