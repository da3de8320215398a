"""The files of a record."""

from __future__ import annotations

import json
import os
import platform
from pathlib import Path
from typing import Any, Mapping

import numpy as np
from numpy.typing import NDArray
from safetensors import safe_open
from safetensors.numpy import load_file, save_file

from . import RecordError
from .values import writable

FORMAT, VERSION = "rosetta-record", 1
FILES = ("inputs", "weights", "layers", "outputs", "gradients", "step-1")
# The record, within a record, of the same from weights that are moved by one unit.
CONTROL = "control"
# The record, within a record, of layers that were given what the other side's were.
REPLAY = "replay"


def blank() -> dict[str, Any]:
    """Return what record.json says before anything is recorded."""
    return {
        "format": FORMAT,
        "version": VERSION,
        "framework": {"name": "arrays", "version": np.__version__, "backend": None},
        "python": platform.python_version(),
        "numpy": np.__version__,
        "precision": None,
        "autocast": None,  # the type in which automatic mixed precision had layers compute
        "casts": {},  # the coarser types to which lines of the model round, by FILE:NUMBER
        "dtypes": {"loss": None},  # each call has those of its output
        "layers": [],
        "calls": [],
        "weights": {},
        # Names of weights in the order of Keras's loader:
        # the model's own, then those of each layer.
        "loaded": [],
        "files": {},  # how many arrays each has
        "optimizer": None,
        "loss": None,
        "steps": [],
    }


class Folder:
    """A record on disk: record.json and files of arrays.

    Each write makes a whole file beside the former one and renames it,
    so that the folder is a record at each moment.
    """

    def __init__(self, path: Path) -> None:
        """Make the folder an empty record. Raises RecordError for a folder
        that holds anything but a record."""
        self.path = path
        self.content = blank()
        self._waiting: dict[str, dict[str, NDArray[Any]]] = {}
        if path.exists():
            try:
                is_record = (
                    json.loads((path / "record.json").read_text("utf-8"))["format"] == FORMAT
                )
            except (OSError, ValueError, KeyError, TypeError):
                is_record = False
            if not is_record and (not path.is_dir() or any(path.iterdir())):
                raise RecordError(
                    f"{path} exists and is no record; expected a new name or a record"
                )
        path.mkdir(parents=True, exist_ok=True)
        self.save()
        within = [path / name for name in (REPLAY, CONTROL)]
        for folder in (*within, path):
            for name in FILES:
                (folder / f"{name}.safetensors").unlink(missing_ok=True)
        for folder in within:
            (folder / "record.json").unlink(missing_ok=True)

    def wait(self, file: str, arrays: Mapping[str, NDArray[Any]]) -> None:
        """Take arrays that the next `save` writes.
        Until then record.json counts more than there are."""
        if not any(self._waiting.values()):
            self.content["files"][file] = self.content["files"].get(file, 0) + len(arrays)
            self._describe()
        self._waiting.setdefault(file, {}).update(arrays)

    def forget(self) -> None:
        """Drop what waits, since another record has replaced this one."""
        self._waiting.clear()

    def flush(self) -> None:
        """Write what waits, unless the folder is gone."""
        if self._waiting and self.path.is_dir():
            self.save()

    def save(self) -> None:
        """Write what waits, and record.json."""
        while self._waiting:
            self._extend(*self._waiting.popitem())
        self._describe()

    def _describe(self) -> None:
        beside = self.path / "record.json.new"
        beside.write_text(json.dumps(self.content, indent=1, allow_nan=False) + "\n", "utf-8")
        os.replace(beside, self.path / "record.json")

    def add(self, file: str, values: Mapping[str, Any]) -> None:
        """Write arrays into a file, beside those that it holds.
        Raises RecordError for a name that it has already."""
        self._extend(file, {**self._waiting.pop(file, {}), **values})
        self.save()

    def open(self, file: str) -> Any:
        """Return the arrays of a file as a context, which reads each when it is asked for."""
        return safe_open(self._path_of(file), "np")

    def _path_of(self, file: str) -> Path:
        return self.path / f"{file}.safetensors"

    def _extend(self, file: str, values: Mapping[str, Any]) -> None:
        arrays = load_file(self._path_of(file)) if self._path_of(file).exists() else {}
        for name in arrays.keys() & values.keys():
            raise RecordError(
                f"{name!r} is already recorded among the {file}; expected each name once"
            )
        arrays.update(
            {name: writable(value, f"{name!r} of {file}") for name, value in values.items()}
        )
        beside = self.path / f"{file}.safetensors.new"
        save_file(arrays, beside)
        os.replace(beside, self._path_of(file))
        self.content["files"][file] = len(arrays)
