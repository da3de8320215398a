"""What the tests of native files ask of a framework's process."""

import os
import resource
from dataclasses import dataclass
from pathlib import Path
from typing import Any

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


def save(backend: Backend, emit: Emit, *, state: ModelState, folder: Path) -> list[str]:
    """Have the backend write a state into `folder`; returns the files' names."""
    backend.load(state)
    return backend.save_native(folder)


@dataclass(frozen=True, eq=False)
class Read:
    """What reading files came to: a state, or else the refusal of them, which as an error would end the process."""

    state: ModelState | None = None
    refusal: str = ""


def read(backend: Backend, emit: Emit, *, paths: list[Path], latent_dim: int | None) -> Read:
    """The state that files of the framework hold."""
    try:
        return Read(in_child.read_native(backend, emit, paths=paths, latent_dim=latent_dim))
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
