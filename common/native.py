"""Functions that run in a backend's process and write or read its framework's own files."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from common.decoding import Emit, load_run
from common.errors import RosettaError, why
from common.files import sync
from common.interface import Backend
from common.weights import ModelState, check_state

MORE = 1 << 20  # bytes


def save(backend: Backend, emit: Emit, *, run: Path, weights: str, folder: Path) -> list[str]:
    """Write the `last` or `best` weights of a run into the new `folder`; returns the names of the files.

    Raises RosettaError where the disk is full.
    """
    load_run(backend, emit, run=run, weights=weights)
    try:
        try:
            files = backend.save_native(folder)
        except RuntimeError:  # torch's, which does not tell what the system refused; one more write does
            (folder / "more").write_bytes(bytes(MORE))
            raise
        for name in files:
            sync(folder / name)
    except OSError as error:
        raise RosettaError(f"{folder.parent} cannot be written: {why(error)}; nothing is kept there") from error
    return files


def read(backend: Backend, emit: Emit, *, paths: Sequence[Path], latent_dim: int | None) -> ModelState:
    """The weights and slots in a framework's own files, of a model of `latent_dim` units, or of as many as it has.

    Raises RosettaError for files that hold no state that training may go on from.
    """
    state = backend.read_native(paths, latent_dim)
    units = len(state.weights["encoder/recurrent_kernel"])
    try:
        check_state(state, replace(backend.config, latent_dim=units))
    except RosettaError as error:
        raise RosettaError(f"{' and '.join(map(str, paths))}: {error}") from error
    return state
