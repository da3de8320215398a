"""What the tests of native files ask of a backend, in its process."""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from backends.native import files
from backends.process import in_child
from common.errors import RosettaError
from common.interface import Backend, Emit
from common.weights import ModelState


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
    exit_code: int = 0


def save(backend: Backend, emit: Emit, *, state: ModelState, folder: Path) -> list[str]:
    """Write the state into `folder`; gives the files' names."""
    backend.load(state)
    return backend.save_native(folder)


def read(
    backend: Backend,
    emit: Emit,
    *,
    paths: list[Path],
    latent_dim: int | None = None,
    largest: int = files.LARGEST_LATENT_DIM,
) -> Read:
    """The state that files hold; `largest` is the most units that are read without being told of."""
    try:
        files.LARGEST_LATENT_DIM = largest
        return Read(in_child.read_native(backend, emit, paths=paths, latent_dim=latent_dim))
    except RosettaError as error:
        return Read(refusal=str(error), exit_code=error.exit_code)
