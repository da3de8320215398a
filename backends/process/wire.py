"""What crosses between a command and a backend's process: messages, and the functions that they name.

A message has a kind and a content: plain values, NumPy arrays, paths, dataclasses and msgspec structs, nested in any
way. It crosses as eight bytes of length and a block of MessagePack, in which an array is its type, its shape and its
numbers. Nothing in it can be executed. The receiver converts the content to the types with which a function is
annotated, so both sides are typed.
"""

import importlib
import os
import socket
from collections.abc import Callable, Mapping
from functools import cache
from math import inf
from pathlib import Path, PurePath
from time import monotonic
from typing import Any, get_type_hints

import msgspec
import numpy as np
from msgspec.msgpack import Ext, decode, encode

from common.tensors import StoredArray, opened_array

LONGEST = 1 << 34  # bytes; no message is longer, and eight bytes of garbage most likely give a larger number
ARRAY, STORED, PATH = 1, 2, 3  # codes of extensions of MessagePack
# Kinds of messages, whose content is a text, that report a CannotBeginError, another RosettaError, any other error.
REFUSED, FAILED, BROKEN = "refused", "failed", "broken"
ERRORS = (REFUSED, FAILED, BROKEN)
NUMBERS = "bool int8 int16 int32 int64 uint8 uint16 uint32 uint64 float16 float32 float64"
DTYPES = frozenset(np.dtype(name).str for name in NUMBERS.split())  # of the arrays that may cross


class GarbledMessageError(Exception):
    """What arrived is no message, or has another kind or type than is expected."""


class Wire:
    """One end of a socket to another process.

    A whole message is sent or received within `timeout` seconds, or else TimeoutError is raised, however much of it
    has crossed. EOFError or OSError is raised when the other end is closed. The process blocks while it waits.
    (multiprocessing.connection has no such limit once a message has begun.)
    """

    def __init__(self, end: socket.socket, opens_files: bool = False) -> None:
        """`opens_files` is for the backend's process: what comes from there opens no file."""
        self._end, self._opens_files = end, opens_files

    def send(self, kind: str, content: Any, timeout: float = inf) -> None:
        """Send a message. An array that is stored on disk crosses as the path that leads to it."""
        block = encode((kind, content), enc_hook=_extension)
        deadline = monotonic() + timeout
        for piece in (len(block).to_bytes(8, "little"), block):
            self._end.settimeout(_left(deadline))
            self._end.sendall(piece)

    def receive(self, timeout: float = inf) -> tuple[str, Any]:
        """Wait for a message, and return its kind and its content. Raises GarbledMessageError."""
        deadline = monotonic() + timeout
        length = int.from_bytes(self._received(8, deadline), "little")
        if length > LONGEST:
            raise GarbledMessageError(f"a message of {length} bytes was announced")
        try:
            kind, content = decode(self._received(length, deadline), type=tuple[str, Any], ext_hook=self._value)
        except (ArithmeticError, MemoryError, RecursionError, TypeError, ValueError) as error:
            raise GarbledMessageError(f"{length} bytes that are no message ({error})") from error
        return kind, content

    def _received(self, length: int, deadline: float) -> memoryview:
        """So many bytes. Memory takes no room until something is written there, so it grows with what arrives."""
        whole = np.empty(length, np.uint8).data
        rest = whole
        while rest:
            self._end.settimeout(_left(deadline))
            if not (count := self._end.recv_into(rest)):
                raise EOFError
            rest = rest[count:]
        return whole

    def _value(self, code: int, data: memoryview) -> Any:
        """The inverse of `_extension`."""
        if code == ARRAY:
            dtype, shape, numbers = decode(data, type=tuple[str, tuple[int, ...], bytes])
            if dtype not in DTYPES:
                raise ValueError(f"an array of {dtype} was sent")
            return np.frombuffer(numbers, dtype).reshape(shape).copy()  # which may be written to
        if code == PATH:
            return Path(os.fsdecode(bytes(data)))
        if code == STORED and self._opens_files:
            return opened_array(os.fsdecode(bytes(data)))
        raise ValueError(f"a value of the unknown code {code}")


def _left(deadline: float) -> float | None:
    """The seconds until a moment of `time.monotonic`; None without end. Raises TimeoutError when it is over."""
    if (left := deadline - monotonic()) <= 0:
        raise TimeoutError
    return left if left < inf else None


def _extension(value: Any) -> Any:
    """How a value crosses for which MessagePack has no type."""
    if isinstance(value, StoredArray) and value.path:
        return Ext(STORED, os.fsencode(value.path))
    if isinstance(value, np.ndarray) and value.dtype.str in DTYPES:
        return Ext(ARRAY, encode((value.dtype.str, value.shape, np.ascontiguousarray(value).data)))
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, PurePath):  # as bytes, since a name may not be UTF-8
        return Ext(PATH, os.fsencode(value))
    raise TypeError(f"{type(value).__name__} {getattr(value, 'dtype', '')} cannot cross between processes")


def converted(kind: str, content: Any, types: Mapping[str, Any]) -> Any:
    """The content of a message, converted to the type that `types` has for its kind. Raises GarbledMessageError."""
    if kind not in types:
        raise GarbledMessageError(f"a message of the unknown kind {kind}")
    try:
        return msgspec.convert(content, type=types[kind])
    except (RecursionError, ValueError, AttributeError) as error:  # the last for an array in place of a dict
        raise GarbledMessageError(f"a message of kind {kind}: {error}") from error


def name_of(function: Callable[..., Any]) -> str:
    """The name by which a function is requested: "module:function"."""
    return f"{function.__module__}:{function.__qualname__}"


def function_named(name: str) -> Callable[..., Any]:
    """The inverse of `name_of`; imports the module."""
    module, _, attribute = name.partition(":")
    function: Callable[..., Any] = getattr(importlib.import_module(module), attribute)
    return function


@cache
def hints(function: Callable[..., Any]) -> dict[str, Any]:
    """The types with which a function is annotated."""
    return get_type_hints(function)


def arguments_for(function: Callable[..., Any], content: Mapping[str, Any]) -> dict[str, Any]:
    """A function's keyword arguments, each converted to the type with which the function annotates it.

    Raises TypeError, with the argument's name, for a value that does not fit its type.
    """
    arguments = {}
    for name, value in content.items():
        try:
            arguments[name] = msgspec.convert(value, type=hints(function).get(name, Any))
        except (msgspec.ValidationError, AttributeError) as error:  # the last for an array in place of a dict
            raise TypeError(f"argument {name} of {name_of(function)}: {error}") from error
    return arguments
