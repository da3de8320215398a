"""Sentence pairs and arrays on disk, so that a corpus may be larger than memory.

Their files are in the folder for temporary files, but have no name there: nobody else comes upon them, and the system
frees their room when no process has them open any more, even where the processes are killed.
"""

import os
import tempfile
import weakref
from array import array
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from heapq import merge
from itertools import islice
from typing import Any, TypeVar, overload

import numpy as np
from numpy.typing import DTypeLike, NDArray

from common.errors import refusing

ITEMS_AT_ONCE = 1 << 12  # pairs or sentences that are read from disk, or encoded, in one piece
PAIRS_SORTED = 1 << 18  # at a time; each such piece of a corpus then is one open file

Pair = tuple[str, str]  # source, target
Item = TypeVar("Item")


class Pairs(Sequence[Pair]):
    """Sentence pairs on disk, a line each: source, tab, target. Memory has eight bytes for each of them."""

    def __init__(self, pairs: Iterable[Pair] = ()) -> None:
        self._file = tempfile.TemporaryFile()  # noqa: SIM115 (it is closed with this object)
        # Not `self._file.close`, which writes what is left to write: a full disk would fail a second time.
        weakref.finalize(self, self._file.raw.close)
        self._ends = array("q", [0])  # the place in the file at which each line ends, after that of the first's start
        for pair in pairs:
            self.append(pair)

    def append(self, pair: Pair) -> None:
        """Add a pair. Neither sentence may hold a tab or a newline."""
        self._ends.append(self._ends[-1] + self._file.write("{}\t{}\n".format(*pair).encode()))

    def __len__(self) -> int:
        return len(self._ends) - 1

    @overload
    def __getitem__(self, rows: int) -> Pair: ...
    @overload
    def __getitem__(self, rows: slice) -> list[Pair]: ...
    def __getitem__(self, rows: int | slice) -> Pair | list[Pair]:
        if isinstance(rows, slice):
            return [self[row] for row in range(len(self))[rows]]
        row = range(len(self))[rows]
        return self._read(row, row + 1)[0]

    def __iter__(self) -> Iterator[Pair]:
        for start in range(0, len(self), ITEMS_AT_ONCE):
            yield from self._read(start, min(start + ITEMS_AT_ONCE, len(self)))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Sequence) and len(self) == len(other) and all(map(tuple.__eq__, self, other))

    def _read(self, first: int, last: int) -> list[Pair]:
        """The pairs from number `first` to before number `last`."""
        self._file.flush()
        start, end = self._ends[first], self._ends[last]
        sentences = os.pread(self._file.fileno(), end - start, start)[:-1].decode().replace("\n", "\t").split("\t")
        return list(zip(sentences[::2], sentences[1::2], strict=True))


def in_pieces(items: Iterable[Item], count: int = ITEMS_AT_ONCE) -> Iterator[list[Item]]:
    """The items in lists of so many; the last one may be shorter."""
    rest = iter(items)
    return iter(lambda: list(islice(rest, count)), [])


def in_order(pairs: Iterable[Pair]) -> Iterator[Pair]:
    """The pairs sorted. Memory has PAIRS_SORTED of them at a time."""
    return merge(*(Pairs(sorted(piece)) for piece in in_pieces(pairs, PAIRS_SORTED)))


class StoredArray(np.ndarray[Any, Any]):
    """An array in a file in NumPy's format, mapped into memory. What is taken from it is a plain array.

    `path` leads other processes of this user to the file, while this one has the array. A view has none.
    """

    path = ""

    def __getitem__(self, rows: Any) -> Any:
        return np.asarray(self)[rows]


def stored(pieces: Iterable[NDArray[Any]], shape: tuple[int, ...], dtype: DTypeLike) -> StoredArray:
    """Store an array, whose rows come in pieces."""
    with ExitStack() as stack:
        file = stack.enter_context(tempfile.TemporaryFile())
        header = {"descr": np.dtype(dtype).str, "fortran_order": False, "shape": shape}
        np.lib.format.write_array_header_1_0(file, header)
        for piece in pieces:
            file.write(np.ascontiguousarray(piece, dtype).data)
        file.flush()
        path = f"/proc/{os.getpid()}/fd/{file.fileno()}"
        with refusing("the corpus cannot be kept on disk"):  # too many files are open
            opened = opened_array(path).view(StoredArray)
        opened.path = path
        weakref.finalize(opened, stack.pop_all().close)
    return opened


def opened_array(path: str) -> NDArray[Any]:
    """The array in the file to which a StoredArray's `path` leads. It may be read, and not written."""
    return np.asarray(np.load(path, mmap_mode="r"))
