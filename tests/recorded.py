"""What the programs tests.recorded_FRAMEWORK share: each trains a small tagger, once by itself and twice recorded.

Each leaves in a folder what rosetta_record wrote, and in `expected` what the framework itself had, under the names
that a record has for it.
"""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import save_file

from rosetta_record import RecordError

STEPS = 3
RNG = np.random.default_rng(5)
IDS, TARGETS = RNG.integers(0, 7, (2, 3, 5)), RNG.integers(0, 7, (2, 3, 5))  # two batches (N, T)
BATCHES = [{"ids": ids, "targets": targets} for ids, targets in zip(IDS, TARGETS, strict=True)]

Arrays = dict[str, NDArray[Any]]


def refused(action: Callable[[], Any]) -> str:
    """The line with which a call is refused."""
    try:
        action()
    except RecordError as error:
        return str(error)
    raise AssertionError("it was not refused")


def leave(folder: Path, expected: Mapping[str, Arrays], facts: dict[str, Any]) -> None:
    (folder / "expected").mkdir()
    for file, arrays in expected.items():
        contiguous = {name: np.array(array, order="C") for name, array in arrays.items()}
        save_file(contiguous, folder / "expected" / f"{file}.safetensors")
    (folder / "facts.json").write_text(json.dumps(facts), "utf-8")
