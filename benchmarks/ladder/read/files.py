"""Arrays of safetensors files, which anybody may have written: each is read or mapped when it is asked for."""

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

from benchmarks.ladder.read.description import UnfitRecordsError
from common.errors import why

LARGEST_READ = 1 << 20  # bytes of an array that is read whole; a larger one is mapped
MOST_AXES = 32  # of an array
MOST_NUMBERS = 1 << 48  # of an array
DTYPES = {  # of safetensors, whose numbers begin with the least byte
    "F64": "<f8", "F32": "<f4", "F16": "<f2", "I64": "<i8", "I32": "<i4", "I16": "<i2", "I8": "i1", "U8": "u1",
    "U16": "<u2", "U32": "<u4", "U64": "<u8", "BOOL": "?",
}  # fmt: skip


Place = tuple[np.dtype[Any], tuple[int, ...], int, Path]  # type and shape of an array, and where in which file it is


def map_array(place: Place) -> NDArray[Any]:
    dtype, shape, start, path = place
    return np.asarray(np.memmap(path, dtype, "r", start, shape)) if prod(shape) else np.zeros(shape, dtype)


class ArrayFile(Mapping[str, NDArray[Any]]):
    """The arrays of a safetensors file, each read when it is asked for; none where there is no such file.

    The file `changes` has arrays that stand for those of the same names. One of float32 for one of float64 is the
    difference from it.

    The library checks that the arrays' sizes add up to the file's, so no array is larger than its file. Large arrays
    are mapped: the system reads what is looked at, and takes the memory back when it needs room.
    """

    def __init__(self, path: Path, changes: Path | None = None) -> None:
        self._last: dict[str, NDArray[Any]] = {}  # the array that was read last, which is often asked for again
        self._places = self._opened(path)
        self._differences: dict[str, Place] = {}
        for name, place in self._opened(changes).items() if changes else ():
            types = self._places[name][0].name, place[0].name
            (self._differences if types == ("float64", "float32") else self._places)[name] = place

    def _opened(self, path: Path) -> dict[str, Place]:
        if not path.exists():
            return {}
        try:
            status = os.stat(path)
            if not stat.S_ISREG(status.st_mode):
                raise UnfitRecordsError(f"{path} is not a file; expected one that rosetta_record wrote")
            with safe_open(path, framework="numpy") as file:
                names = list(file.keys())
            with open(path, "rb") as raw:
                size = int.from_bytes(raw.read(8), "little")
                header = msgspec.json.decode(raw.read(size), type=dict[str, Any])
        except OSError as error:
            raise UnfitRecordsError(f"{path} cannot be read: {why(error)}") from error
        except (SafetensorError, msgspec.DecodeError) as error:
            raise UnfitRecordsError(f"{path} is damaged: {error}; record this side again") from error
        return {name: self._place(name, header[name], 8 + size, path) for name in names}

    def _place(self, name: str, entry: Any, start: int, path: Path) -> Place:
        """The type and shape of an array, and where in its file it begins."""
        if entry["dtype"] not in DTYPES:
            raise UnfitRecordsError(f"{path}: {name} is of {entry['dtype']}, expected one of {', '.join(DTYPES)}")
        if len(entry["shape"]) > MOST_AXES:
            raise UnfitRecordsError(f"{path}: {name} has {len(entry['shape'])} axes, and {MOST_AXES} is the most")
        if prod(size for size in entry["shape"] if size) > MOST_NUMBERS:  # beside an axis of none
            raise UnfitRecordsError(f"{path}: {name} has the shape {entry['shape']}, which no array can have")
        return np.dtype(DTYPES[entry["dtype"]]), tuple(entry["shape"]), start + entry["data_offsets"][0], path

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
            if prod(shape) * dtype.itemsize > LARGEST_READ or name in self._differences:
                return self.mapped(name)
            self._last = {name: np.fromfile(path, dtype, prod(shape), offset=start).reshape(shape)}
        return self._last[name]

    def mapped(self, name: str) -> NDArray[Any]:
        """The array in its file, which cannot be written to; or the sum of an array and its difference."""
        array = map_array(self._places[name])
        return array + map_array(self._differences[name]) if name in self._differences else array

    def __contains__(self, name: object) -> bool:
        return name in self._places  # a mapping's own would read the array

    def __iter__(self) -> Iterator[str]:
        return iter(self._places)

    def __len__(self) -> int:
        return len(self._places)
