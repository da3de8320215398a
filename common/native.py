"""What runs in a backend's process to write and to read its framework's own files."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from common.decoding import Emit
from common.files import sync
from common.interface import Backend
from common.training import load_run
from common.weights import to_bytes


def save(backend: Backend, emit: Emit, *, run: str, weights: str, folder: str) -> Mapping[str, Any]:
    """Write the `last` or `best` weights of a run into `folder`; `files` names what was written."""
    load_run(backend, emit, run=run, weights=weights)
    files = backend.save_native(Path(folder))
    for name in files:
        sync(Path(folder) / name)
    return {"files": files}


def load(backend: Backend, emit: Emit, *, paths: Sequence[str]) -> Mapping[str, Any]:
    """Read such files; `state` is what they hold, as one safetensors block."""
    backend.load_native([Path(path) for path in paths])
    return {"state": np.frombuffer(to_bytes(backend.dump(), {}), np.uint8)}
