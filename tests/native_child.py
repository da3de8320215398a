"""What the tests of native files ask of a backend, in its process."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from common.decoding import Emit
from common.errors import RosettaError
from common.interface import Backend
from common.weights import initial_state
from tests.child import Block, packed, unpacked


def save(backend: Backend, emit: Emit, *, state: Block, folder: str) -> Mapping[str, Any]:
    backend.load(unpacked(state))
    return {"files": backend.save_native(Path(folder))}


def read(backend: Backend, emit: Emit, *, paths: Sequence[str]) -> Mapping[str, Any]:
    """The `state` that files hold, read over another one, or the `refusal` of them."""
    backend.load(initial_state(backend.config, seed=99))
    try:
        backend.load_native([Path(path) for path in paths])
    except RosettaError as error:
        return {"refusal": str(error), "exit_code": error.exit_code}
    return {"state": packed(backend.dump())}
