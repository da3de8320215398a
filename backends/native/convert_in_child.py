"""Frameworks' own files and graphs of ONNX, written and read in a backend's process."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from backends import native_tool
from common.errors import RosettaError, refusing
from common.files import sync
from common.run import RunDirectory

if TYPE_CHECKING:
    from backends.interface import Backend, Emit
    from common.weights import ModelState

Returned = TypeVar("Returned")
Write = Callable[[Path], tuple[list[str], str]]
MORE = 1 << 20  # bytes, written to learn why torch could write no more


def save_native(
    backend: Backend, emit: Emit, *, run: Path, weights: str, folder: Path
) -> tuple[list[str], str]:
    """Write the `last` or `best` weights of a run into the new `folder`
    as the framework's users keep them.

    Returns the names of the files, and lines that load the weights from the first of them, called
    {model!r}, into a `model` of the model file `api`: imports, an empty line, and the rest. Raises
    RosettaError where the disk is full.
    """
    write: Write = partial(native_tool(backend.framework, "write"), backend)
    state, _ = RunDirectory.open(run).read_state(weights, backend.config.dtype)
    backend.load(state)
    return written(folder, write)


def written(folder: Path, write: Callable[[Path], Returned]) -> Returned:
    """Write files into a new folder, to the disk, and return what `write` does.
    Raises RosettaError where the disk is full."""
    with refusing(f"{folder.parent} cannot be written", "; nothing is kept there", RosettaError):
        try:
            answer = write(folder)
        # torch's, which does not tell what the system refused; one more write does
        except RuntimeError:
            (folder / "more").write_bytes(bytes(MORE))
            raise
        for path in folder.iterdir():
            sync(path)
    return answer


def read_native(backend: Backend, emit: Emit, *, paths: Sequence[Path]) -> ModelState:
    """The weights and slots, to the bit, in a framework's own files: the model's and, where there
    is one, the optimizer's, without which the slots are zeros.

    The model has the backend's vocabularies and precision, and any number of units. Raises
    RosettaError for files that are damaged or of another model.
    """
    state: ModelState = native_tool(backend.framework, "read")(paths, backend.config)
    return state


def save_onnx(
    backend: Backend, emit: Emit, *, run: Path, weights: str, folder: Path, records: Path
) -> list[str]:
    """Write the weights of a run as graphs of ONNX, as `save_native` does. What PyTorch and ONNX
    Runtime compute is recorded in `records`. The backend is torch's."""
    from backends.native.torch_onnx import write_onnx

    state, _ = RunDirectory.open(run).read_state(weights, backend.config.dtype)
    backend.load(state)
    return written(folder, partial(write_onnx, backend, records=records))
