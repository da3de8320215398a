"""The precision in which each array of a forward pass was computed, as far as a record tells."""

import hashlib
from collections.abc import Iterator, Sequence
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rosetta_diff.read.description import RecordedCall
from rosetta_diff.read.files import ArrayFile
from rosetta_record.values import coarsest


class Precisions:
    """For each array that layers are given or give,
    the coarsest type of all that it was computed of.

    What functions between layers give may be computed of all that was computed before.
    """

    def __init__(
        self, calls: Sequence[RecordedCall], arrays: ArrayFile, root: str, finest: str
    ) -> None:
        """`finest` is the type in which the model computes,
        unless something rounds to a coarser one."""
        self._calls, self._arrays, self._root, self._finest = calls, arrays, root, finest

    def of(self, name: str) -> str:
        """The precision of an array of layers; "" where it is not known."""
        return self._by_name.get(name, "")

    def of_numbers(self, array: NDArray[Any]) -> str:
        """The precision of the first output with these numbers; "" where no layer gave them."""
        return self._by_numbers.get(fingerprint(array), "")

    @property
    def _by_name(self) -> dict[str, str]:
        return self._found[0]

    @property
    def _by_numbers(self) -> dict[str, str]:
        return self._found[1]

    @cached_property
    def _found(self) -> tuple[dict[str, str], dict[str, str]]:
        holders = {holder for call in self._calls for holder in holders_of(call.layer)}
        fed = {
            name
            for call in self._calls
            if call.layer == self._root
            for name in call.inputs.values()
        }
        by_name = dict.fromkeys(fed, self._finest)
        by_numbers = dict[str, str]()
        so_far = self._finest
        for call in self._calls:
            given = [by_name.setdefault(name, so_far) for name in call.inputs.values()]
            own = [dtype for part, dtype in enumerate(call.dtypes) if part not in call.outside]
            is_known = given and call.layer not in holders
            precision = coarsest(self._finest, *own, *(given if is_known else [so_far]))
            for part in call.parts:
                numbers = fingerprint(self._arrays[part])
                by_name[part] = by_numbers.setdefault(numbers, precision)
            so_far = coarsest(so_far, precision)
        return by_name, by_numbers


def holders_of(path: str) -> Iterator[str]:
    """Paths of the layers that hold one."""
    if path:
        yield ""
    yield from (path[:place] for place, letter in enumerate(path) if letter in "./")


def fingerprint(array: NDArray[Any]) -> str:
    """Tell an array's type, shape and numbers from those of other arrays."""
    numbers = hashlib.blake2b(
        np.ascontiguousarray(array).reshape(-1).view(np.uint8).data
    ).hexdigest()
    return f"{array.dtype} {array.shape} {numbers}"
