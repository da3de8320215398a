"""The calls of layers in a forward pass: with what, by which line,
and their arrays until they are written."""

from __future__ import annotations

import hashlib
import inspect
import linecache
import os
import sys
from collections import Counter
from pathlib import Path
from typing import Any, Mapping

import numpy as np
from numpy.typing import NDArray

from .values import FRAMEWORKS, array_of, arrays_in, is_numeric, package, precision_of

LONGEST_LINE = 200  # characters of a line of a program
# Modules of frameworks that are programs.
MODELS = ("paddle.vision.models.", "keras.src.applications.")


class Calls:
    """The calls of a record's layers, as record.json lists them, and their arrays.

    An array is a copy, since the next layer may compute in its place. An input with the numbers of
    an array that is kept has that array's name.
    """

    def __init__(self) -> None:
        self.ended: list[dict[str, Any]] = []
        self.depth = 0  # calls that have begun and not ended
        self._begun: Counter[str] = Counter()  # how often each layer was called
        self._arrays: dict[str, NDArray[Any]] = {}
        self._names: dict[Any, str] = {}  # of these arrays, by type, shape and digest

    def begin(self, path: str, arguments: Any) -> dict[str, Any]:
        """Return the layer, its inputs, the line that calls it,
        and the number of this call of the layer, from 0."""
        place, inputs = sum(self._begun.values()), {}
        for name, array in (
            (name, array_of(tensor)) for name, tensor in arrays_in(arguments).items()
        ):
            if is_numeric(array):
                inputs[name] = self._keep(f"in {place}:{path}:{name}", array)
        self._begun[path] += 1
        return {"layer": path, "inputs": inputs, **calling_line(), "number": self._begun[path] - 1}

    def end(self, call: Mapping[str, Any], output: Any) -> dict[str, Any]:
        """Add a call with the arrays of its output; returns it."""
        arrays, name = arrays_in(output), f"{len(self.ended)}:{call['layer']}"
        parts = {f"{name}:{part}": array_of(array) for part, array in enumerate(arrays.values())}
        for part, array in parts.items():
            self._arrays[part] = self._arrays[self._keep(part, array)]
        dtypes = [precision_of(array) for array in arrays.values()]
        ended = dict(call, parts=list(parts), dtypes=dtypes)
        if not all(name.replace(".", "").isdigit() for name in arrays if name):
            ended["names"] = [*arrays]
        self.ended.append(ended)
        return ended

    def take(self) -> dict[str, NDArray[Any]]:
        """Return the arrays and keep them no longer."""
        arrays, self._arrays, self._names = self._arrays, {}, {}
        return arrays

    def _keep(self, name: str, array: NDArray[Any]) -> str:
        """Return the name of the first array with these numbers, of which a copy is kept."""
        digest = hashlib.blake2b(
            np.ascontiguousarray(array).reshape(-1).view(np.uint8).data
        ).digest()
        first = self._names.setdefault((array.dtype.str, array.shape, digest), name)
        if first == name:
            self._arrays[name] = np.array(array)
        return first


def names_of(call: Any, number: int) -> list[str]:
    """Return the names that a call has for so many positional arguments;
    numbers where it has none."""
    try:
        parameters = [*inspect.signature(call).parameters.values()]
    except (TypeError, ValueError):  # of what is compiled, or not written in Python
        parameters = []
    names = [
        each.name
        for each in parameters
        if each.kind in (each.POSITIONAL_ONLY, each.POSITIONAL_OR_KEYWORD)
    ]
    return [*names, *map(str, range(len(names), number))][:number]


def calling_line() -> dict[str, str]:
    """Return the place and the code of the line that is being executed outside
    of this folder and of frameworks.

    Models that come with a framework count as outside. A file that is not below the working folder
    is named as its module is.
    """
    frame: Any = sys._getframe(1)
    while frame and is_machinery(str(frame.f_globals.get("__name__"))):
        frame = frame.f_back
    if not frame:
        return {}
    path, number = Path(os.path.abspath(frame.f_code.co_filename)), frame.f_lineno
    below = Path.cwd() in path.parents and "site-packages" not in path.parts
    depth = str(frame.f_globals.get("__name__")).count(".") + 1
    shown = path.relative_to(Path.cwd()) if below else Path(*path.parts[-depth:])
    code = linecache.getline(frame.f_code.co_filename, number, frame.f_globals).strip()[
        :LONGEST_LINE
    ]
    return {"line": f"{shown.as_posix()}:{number}", "code": code}


def is_machinery(module: str) -> bool:
    """True for a module of this folder, and for one of a framework that is no model."""
    of_framework = package(module) in FRAMEWORKS and not module.startswith(MODELS)
    return of_framework or f"{module}.".startswith(f"{__package__}.")
