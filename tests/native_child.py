"""What the tests of native files ask of a framework's process, whose own backend stays as it is."""

import os
import resource
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from backends import TABLE, open_backend
from backends.process import in_child
from common.errors import RosettaError
from common.interface import Backend, Emit
from common.weights import ModelState

ROOM = 1000  # bytes that a file may have where nothing fits


class Malicious:
    """Runs a command when it is unpickled."""

    def __init__(self, folder: Path | str) -> None:
        self.folder = folder

    def __reduce__(self) -> Any:
        return os.system, (f"touch {self.folder}/executed",)


@dataclass(frozen=True, eq=False)
class Read:
    """What reading files came to: a state, or else the refusal of them."""

    state: ModelState | None = None
    refusal: str = ""


@contextmanager
def another(backend: Backend, name: str, dtype: str) -> Iterator[Backend]:
    """A backend of the same framework for the same model in this precision, which a framework has as a whole."""
    _set_precision(dtype)
    try:
        yield open_backend(TABLE[name].target, replace(backend.config, dtype=dtype), backend.train_config, "cpu")
    finally:
        _set_precision(backend.config.dtype)
        type(backend)(backend.config, backend.train_config)


def _set_precision(dtype: str) -> None:
    """Have Keras, if it is here, forget the precision of the first layers of this process."""
    if keras := sys.modules.get("keras"):
        keras.config.set_dtype_policy(dtype)


def save(backend: Backend, emit: Emit, *, name: str, state: ModelState, folder: Path) -> list[str]:
    """Have the backend of this name write a state into `folder`; returns the files' names."""
    with another(backend, name, str(state.weights["dense/bias"].dtype)) as writer:
        writer.load(state)
        return writer.save_native(folder)


def read(backend: Backend, emit: Emit, *, paths: list[Path], dtype: str, latent_dim: int | None) -> Read:
    """The state that files of the framework hold."""
    try:
        with another(backend, backend.framework, dtype) as reader:
            return Read(in_child.read_native(reader, emit, paths=paths, latent_dim=latent_dim))
    except RosettaError as error:
        return Read(refusal=str(error))


def refuses_to_save(backend: Backend, emit: Emit, *, run: Path, folder: Path) -> str:
    """The message where no file may have more than ROOM."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (ROOM, hard))
    try:
        in_child.save_native(backend, emit, run=run, weights="last", folder=folder)
    except RosettaError as error:
        return str(error)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    return ""
