"""The messages between the commands and a backend's process.

A message is eight bytes of length and one safetensors block: arrays as tensors, everything else as JSON in the
block's metadata, with the name of a tensor in each array's place. Nothing in a message can be executed.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load, save

ARRAY = "array"  # the key of an object that stands for an array in the JSON
LONGEST = 1 << 34  # bytes; no message is longer, and eight bytes of garbage most likely give a larger number
PIECE = 1 << 20  # bytes read at a time, so that memory grows with what arrives and not with what was announced


class GarbledMessageError(Exception):
    """The pipe holds something that is not a message."""


@dataclass(frozen=True)
class Failure:
    """The content of a message that reports an error."""

    message: str
    exit_code: int | None  # of a RosettaError; None for any other error


class Readable(Protocol):
    """The end of a pipe that is read. It is unbuffered: what waits for it would not see bytes in a buffer."""

    def read(self, size: int, /) -> bytes: ...


class Writable(Protocol):
    """The end of a pipe that is written."""

    def write(self, block: bytes, /) -> object: ...
    def flush(self) -> object: ...


def write_message(pipe: Writable, kind: str, content: Any) -> None:
    """Send `content`: NumPy arrays and JSON, nested in any way."""
    arrays: dict[str, NDArray[Any]] = {}
    plain = _without_arrays(content, arrays)
    block = save(arrays, {"json": json.dumps([kind, plain])})
    pipe.write(len(block).to_bytes(8, "little") + block)
    pipe.flush()


def read_message(pipe: Readable) -> tuple[str, Any]:
    """Wait for a message and return its kind and content. Raises EOFError when the other end has gone."""
    length = int.from_bytes(_read(pipe, 8), "little")
    if length > LONGEST:
        raise GarbledMessageError(f"a message of {length} bytes was announced")
    block = _read(pipe, length)
    try:
        arrays = load(block)
        header = json.loads(block[8 : 8 + int.from_bytes(block[:8], "little")])
        kind, plain = json.loads(header["__metadata__"]["json"])
        content = _with_arrays(plain, arrays)
    except (SafetensorError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise GarbledMessageError(f"{length} bytes that are no message ({error})") from error
    if not isinstance(kind, str):
        raise GarbledMessageError(f"{length} bytes of a message without a kind")
    return kind, content


def _without_arrays(value: Any, arrays: dict[str, NDArray[Any]]) -> Any:
    """The value with each array replaced by the name under which it is put into `arrays`."""
    if isinstance(value, np.ndarray):
        name = str(len(arrays))
        arrays[name] = np.ascontiguousarray(value)
        return {ARRAY: name}
    if isinstance(value, Mapping):
        return {name: _without_arrays(inner, arrays) for name, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_without_arrays(inner, arrays) for inner in value]
    return value


def _with_arrays(value: Any, arrays: Mapping[str, NDArray[Any]]) -> Any:
    """The inverse of `_without_arrays`."""
    if isinstance(value, dict):
        if value.keys() == {ARRAY}:
            return arrays[value[ARRAY]]
        return {name: _with_arrays(inner, arrays) for name, inner in value.items()}
    if isinstance(value, list):
        return [_with_arrays(inner, arrays) for inner in value]
    return value


def _read(pipe: Readable, length: int) -> bytes:
    """Read exactly `length` bytes."""
    block = bytearray()
    while len(block) < length:
        piece = pipe.read(min(length - len(block), PIECE))
        if not piece:
            raise EOFError
        block += piece
    return bytes(block)
