"""Reads Paddle's .pdparams and .pdopt without Paddle, and without trusting them.

`paddle.save` writes a pickle of a dict. It holds NumPy arrays by the names that their layers give them, and under
NAME_TABLE the names that the parameters have themselves. `paddle.load` runs whatever such a pickle names (its issue
77735). Here it may name nothing but arrays and dicts, for which classes of this module stand in.

Python's own unpickler is not used. It takes memory for what a pickle announces before it has read it: nine bytes are
enough for 4.5 GB. The one here knows the operations that a state dict needs, and takes no more memory than the file.
"""

import pickle
import re
import struct
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

MOST_OPERATIONS = 100_000  # in a pickle; the state dict of this model has some 1,000
LONGEST_NAME = 1 << 16  # bytes
# Operations of pickles, and the number of bytes in which each of them has its number or its size.
SKIPPED = {pickle.PROTO: 1, pickle.FRAME: 8}
INTEGERS = {pickle.BININT1: 1, pickle.BININT2: 2}
TEXTS = {pickle.SHORT_BINUNICODE: 1, pickle.BINUNICODE: 4, pickle.BINUNICODE8: 8}
BYTES = {pickle.SHORT_BINBYTES: 1, pickle.BINBYTES: 4, pickle.BINBYTES8: 8}
PUTS = {pickle.BINPUT: 1, pickle.LONG_BINPUT: 4}
GETS = {pickle.BINGET: 1, pickle.LONG_BINGET: 4}
TUPLES = {pickle.EMPTY_TUPLE: 0, pickle.TUPLE1: 1, pickle.TUPLE2: 2, pickle.TUPLE3: 3}
CONSTANTS = {pickle.NONE: None, pickle.NEWTRUE: True, pickle.NEWFALSE: False}


class StoredDtype:
    """Stands in a pickle for numpy.dtype."""

    def __init__(self, code: str, *align_and_copy: bool) -> None:
        self.code, self.order = code, "|"

    def build(self, state: tuple[Any, ...]) -> None:
        self.order = state[1]

    def of_numpy(self) -> np.dtype[Any]:
        if self.code not in NUMBERS or self.order not in ("<", ">"):
            raise ValueError(f"an array of {self.code!r}")
        return np.dtype(f"{self.order}{self.code}")


class StoredArray:
    """Stands in a pickle for numpy.ndarray, and for the function that makes an empty one."""

    def __init__(self, *subtype_shape_and_dtype: Any) -> None:
        self.array: NDArray[Any] | None = None

    def build(self, state: tuple[Any, ...]) -> None:
        _, shape, dtype, in_columns, block = state
        self.array = np.frombuffer(block, dtype.of_numpy()).reshape(shape, order="F" if in_columns else "C")


def latin1(text: str, encoding: str) -> bytes:
    """Stands in a pickle for _codecs.encode, with which protocol 2 writes bytes."""
    return text.encode("latin1")


def empty_dict() -> dict[str, Any]:
    """Stands in a pickle for collections.OrderedDict, which is filled afterwards."""
    return {}


ALLOWED = {
    ("numpy", "dtype"): StoredDtype,
    ("numpy", "ndarray"): StoredArray,
    ("numpy.core.multiarray", "_reconstruct"): StoredArray,  # NumPy 1
    ("numpy._core.multiarray", "_reconstruct"): StoredArray,  # NumPy 2
    ("collections", "OrderedDict"): empty_dict,
    ("_codecs", "encode"): latin1,
}


class ForbiddenNameError(Exception):
    """A pickle names something that no state dict needs."""


class StateDictUnpickler:
    """Reads a pickle as a program for a stack, of which each byte is an operation, perhaps with an argument.

    It makes only what ALLOWED names. It raises ForbiddenNameError for all other names, and one of UNREADABLE for
    operations that no state dict needs.
    """

    def __init__(self, content: bytes) -> None:
        self._content, self._place = content, 0
        self._stack: list[Any] = []
        self._marks: list[int] = []  # heights of the stack
        self._memo: dict[int, Any] = {}
        self._encoded = 0  # characters that became bytes; a text may be encoded more than once

    def load(self) -> Any:
        for _ in range(MOST_OPERATIONS):
            operation = bytes(self._take(1))
            if operation == pickle.STOP:
                return self._stack.pop()
            self._do(operation)
        raise ValueError(f"more than {MOST_OPERATIONS} operations")

    def _do(self, operation: bytes) -> None:
        stack = self._stack
        if operation in SKIPPED:
            self._take(SKIPPED[operation])
        elif operation in CONSTANTS:
            stack.append(CONSTANTS[operation])
        elif operation in INTEGERS:
            stack.append(self._number(INTEGERS[operation]))
        elif operation in (pickle.BININT, pickle.LONG1):
            size = 4 if operation == pickle.BININT else self._number(1)
            stack.append(int.from_bytes(self._take(size), "little", signed=True))
        elif operation == pickle.BINFLOAT:
            stack.append(struct.unpack(">d", self._take(8))[0])
        elif operation in TEXTS:
            stack.append(self._text(self._number(TEXTS[operation])))
        elif operation in BYTES:
            stack.append(self._take(self._number(BYTES[operation])))
        elif operation in PUTS:
            self._memo[self._number(PUTS[operation])] = stack[-1]
        elif operation == pickle.MEMOIZE:
            self._memo[len(self._memo)] = stack[-1]
        elif operation in GETS:
            stack.append(self._memo[self._number(GETS[operation])])
        elif operation == pickle.MARK:
            self._marks.append(len(stack))
        elif operation == pickle.EMPTY_DICT:
            stack.append({})
        elif operation == pickle.EMPTY_LIST:
            stack.append([])
        elif operation in TUPLES:
            stack.append(tuple(self._popped(TUPLES[operation])))
        elif operation == pickle.TUPLE:
            stack.append(tuple(self._since_mark()))
        elif operation in (pickle.APPEND, pickle.APPENDS):
            items = self._popped(1) if operation == pickle.APPEND else self._since_mark()
            stack[-1].extend(items)
        elif operation in (pickle.SETITEM, pickle.SETITEMS):
            items = self._popped(2) if operation == pickle.SETITEM else self._since_mark()
            if not all(isinstance(name, str) for name in items[::2]):  # tuples of tuples may take years to look up
                raise TypeError("a name that is no text")
            stack[-1].update(zip(items[::2], items[1::2], strict=True))
        elif operation == pickle.GLOBAL:
            self._name(self._line(), self._line())
        elif operation == pickle.STACK_GLOBAL:
            self._name(*self._popped(2))
        elif operation == pickle.REDUCE:
            function, arguments = self._popped(2)
            self._encoded += len(arguments[0]) if function is latin1 else 0
            if self._encoded > len(self._content):
                raise ValueError("bytes that are more than the file")
            stack.append(function(*arguments))
        elif operation == pickle.BUILD:
            (state,) = self._popped(1)
            stack[-1].build(state)
        else:
            raise ValueError(f"the operation {operation!r}")

    def _take(self, size: int) -> memoryview:
        piece = memoryview(self._content)[self._place : self._place + size]
        if len(piece) < size:
            raise EOFError
        self._place += size
        return piece

    def _number(self, size: int) -> int:
        return int.from_bytes(self._take(size), "little")

    def _text(self, size: int) -> str:
        encoded = self._take(size)
        if size > LONGEST_NAME and np.frombuffer(encoded, np.uint8).max() > 0xC3:
            raise ValueError("a long text that is not Latin-1, which would take up to four times its bytes")
        return str(encoded, "utf-8", "surrogatepass")

    def _line(self) -> str:
        end = self._content.index(b"\n", self._place, self._place + LONGEST_NAME)
        line = str(self._take(end - self._place), "utf-8")
        self._take(1)
        return line

    def _name(self, module: str, name: str) -> None:
        try:
            self._stack.append(ALLOWED[module, name])
        except KeyError:
            raise ForbiddenNameError(f"{module}.{name}") from None

    def _popped(self, count: int) -> list[Any]:
        """The last values of the stack, which are taken from it."""
        first = len(self._stack) - count
        if first < 0:
            raise IndexError
        popped = self._stack[first:]
        del self._stack[first:]
        return popped

    def _since_mark(self) -> list[Any]:
        return self._popped(len(self._stack) - self._marks.pop())


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
        state = StateDictUnpickler(content).load()
        named = state.pop(NAME_TABLE, {}).items()
        own_names = {_first_name(name): own for name, own in named if isinstance(own, str)}
        stored = {name: value.array for name, value in state.items() if isinstance(value, StoredArray)}
        arrays = {name: array for name, array in stored.items() if array is not None}
        if sum(array.nbytes for array in arrays.values()) > 2 * len(content):  # twice: each tensor has two names
            raise ValueError("arrays that are more than the file")
    except ForbiddenNameError as error:
        raise RosettaError(
            f"{path} names {listed(error.args)}, which no state dict needs and which was not run; expected arrays, "
            "as paddle.save(layer.state_dict(), path) writes them"
        ) from error
    except UNREADABLE as error:
        raise RosettaError(
            f"{path} is not a state dict, or is damaged; expected what paddle.save(layer.state_dict(), path) writes"
        ) from error
    return _without_aliases(path, arrays), own_names


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


def state_dict_file(arrays: Mapping[str, NDArray[Any]]) -> bytes:
    """Arrays by name as `paddle.save` writes a state dict; every version of Paddle reads this one of pickle."""
    return pickle.dumps(dict(arrays), protocol=4)
