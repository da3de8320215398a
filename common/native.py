"""Functions that run in a backend's process and write or read its framework's own files."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from common.decoding import Emit
from common.errors import RosettaError
from common.files import sync
from common.interface import Backend
from common.training import load_run
from common.weights import ModelState, check_state


def save(backend: Backend, emit: Emit, *, run: str, weights: str, folder: str) -> list[str]:
    """Write the `last` or `best` weights of a run into `folder`; returns the names of the files."""
    load_run(backend, emit, run=run, weights=weights)
    files = backend.save_native(Path(folder))
    for name in files:
        sync(Path(folder) / name)
    return files


def read(backend: Backend, emit: Emit, *, paths: Sequence[str], latent_dim: int | None) -> ModelState:
    """The weights and slots in a framework's own files, of a model of `latent_dim` units, or of as many as it has.

    Raises RosettaError for files that hold no state that training may go on from.
    """
    state = backend.read_native([Path(path) for path in paths], latent_dim)
    units = len(state.weights["encoder/recurrent_kernel"])
    try:
        check_state(state, replace(backend.config, latent_dim=units))
    except RosettaError as error:
        raise RosettaError(f"{' and '.join(paths)}: {error}") from error
    return state
