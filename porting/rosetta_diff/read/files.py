"""Arrays of safetensors files, which anybody may have written:
each is read or mapped when it is asked for."""

import os
import stat
from collections.abc import Iterator, Mapping
from math import prod
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open

from rosetta_diff.helpers import CannotBeginError, reason

LARGEST_READ = 1 << 20  # bytes of an array that is read whole; a larger one is mapped
MOST_AXES = 32  # of an array
MOST_NUMBERS = 1 << 48  # of an array
DTYPES = {  # of safetensors, whose numbers begin with the least byte
    "F64": "<f8", "F32": "<f4", "F16": "<f2", "I64": "<i8", "I32": "<i4", "I16": "<i2", "I8": "i1",
        "U8": "u1",
    "U16": "<u2", "U32": "<u4", "U64": "<u8", "BOOL": "?",
}  # fmt: skip


# Type and shape of an array, and where in which file it is.
Location = tuple[np.dtype[Any], tuple[int, ...], int, Path]


class ArrayFile(Mapping[str, NDArray[Any]]):
    """The arrays of a safetensors file, each read when it is asked for;
    none where there is no such file.

    The library checks that the arrays' sizes add up to the file's, so no array is larger than its
    file. Large arrays are mapped: the system reads what is looked at, and takes the memory back
    when it needs room.
    """

    def __init__(self, path: Path) -> None:
        # The array that was read last, which is often asked for again.
        self._last: dict[str, NDArray[Any]] = {}
        self._places = self._open(path)

    def _open(self, path: Path) -> dict[str, Location]:
        if not path.exists():
            return {}
        try:
            status = os.stat(path)
            if not stat.S_ISREG(status.st_mode):
                raise CannotBeginError(
                    f"{path} is not a file; expected one that rosetta_record wrote"
                )
            # Python opens it first: safetensors says of a file
            # without permission that there is none.
            with open(path, "rb") as raw, safe_open(path, framework="numpy") as file:
                names = list(file.keys())
                size = int.from_bytes(raw.read(8), "little")
                header = msgspec.json.decode(raw.read(size), type=dict[str, Any])
        except OSError as error:
            raise CannotBeginError(f"{path} cannot be read: {reason(error)}") from error
        except (SafetensorError, msgspec.DecodeError) as error:
            raise CannotBeginError(f"{path} is damaged: {error}; record this side again") from error
        return {name: self._place(name, header[name], 8 + size, path) for name in names}

    def _place(self, name: str, entry: Any, start: int, path: Path) -> Location:
        """The type and shape of an array, and where in its file it begins."""
        if entry["dtype"] not in DTYPES:
            raise CannotBeginError(
                f"{path}: {name} is of {entry['dtype']}, expected one of {', '.join(DTYPES)}"
            )
        if len(entry["shape"]) > MOST_AXES:
            raise CannotBeginError(
                f"{path}: {name} has {len(entry['shape'])} axes, and {MOST_AXES} is the most"
            )
        if prod(size for size in entry["shape"] if size) > MOST_NUMBERS:  # beside an axis of none
            raise CannotBeginError(
                f"{path}: {name} has the shape {entry['shape']}, which no array can have"
            )
        return (
            np.dtype(DTYPES[entry["dtype"]]),
            tuple(entry["shape"]),
            start + entry["data_offsets"][0],
            path,
        )

    def shape(self, name: str) -> tuple[int, ...]:
        return self._places[name][1]

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        return {name: shape for name, (_, shape, _, _) in self._places.items()}

    def dtype(self, name: str) -> np.dtype[Any]:
        return self._places[name][0]

    def __getitem__(self, name: str) -> NDArray[Any]:
        if name not in self._last:
            dtype, shape, start, path = self._places[name]
            if prod(shape) * dtype.itemsize > LARGEST_READ:
                return self.memory_map(name)
            self._last = {name: np.fromfile(path, dtype, prod(shape), offset=start).reshape(shape)}
        return self._last[name]

    def memory_map(self, name: str) -> NDArray[Any]:
        """The array in its file, which cannot be written to."""
        dtype, shape, start, path = self._places[name]
        return (
            np.asarray(np.memmap(path, dtype, "r", start, shape))
            if prod(shape)
            else np.zeros(shape, dtype)
        )

    def __contains__(self, name: object) -> bool:
        return name in self._places  # a mapping's own would read the array

    def __iter__(self) -> Iterator[str]:
        return iter(self._places)

    def __len__(self) -> int:
        return len(self._places)
