"""What the tests of native files ask of a backend, in its process."""

from dataclasses import dataclass
from pathlib import Path

from common.decoding import Emit
from common.errors import RosettaError
from common.interface import Backend
from common.weights import ModelState, initial_state


@dataclass(frozen=True, eq=False)
class Read:
    """What reading files came to: a state, or else the refusal of them."""

    state: ModelState | None = None
    refusal: str = ""
    exit_code: int = 0


def save(backend: Backend, emit: Emit, *, state: ModelState, folder: str) -> list[str]:
    """Write the state into `folder`; gives the files' names."""
    backend.load(state)
    return backend.save_native(Path(folder))


def read(backend: Backend, emit: Emit, *, paths: list[str]) -> Read:
    """The state that files hold, read over another one."""
    backend.load(initial_state(backend.config, seed=99))
    try:
        backend.load_native([Path(path) for path in paths])
    except RosettaError as error:
        return Read(refusal=str(error), exit_code=error.exit_code)
    return Read(backend.dump())
