"""What the tests of evidence ask of a backend, in its process."""

import os
from dataclasses import dataclass
from typing import Any

import numpy as np

from common.decoding import Emit
from common.evidence import Profiled
from common.interface import Backend, Metrics, unreported
from common.tensors import Batch, Batches


@dataclass(frozen=True)
class Traced:
    """What profiling found."""

    profiled: Profiled
    files: list[str]  # that it left where it was run
    settings: dict[str, Any]  # of the backend at that time


def batches_of(batch: Batch, batch_size: int) -> Batches:
    return Batches(batch, np.arange(len(batch)), batch_size)


def trained_and_evaluated(backend: Backend, emit: Emit, *, batch: Batch, batch_size: int) -> tuple[Metrics, Metrics]:
    batches = batches_of(batch, batch_size)
    return backend.train(batches, unreported), backend.evaluate(batches)


def profile(backend: Backend, emit: Emit, *, folder: str, batch: Batch, batch_size: int) -> Traced:
    """Profile in `folder`."""
    os.chdir(folder)
    profiled = backend.evidence().profile(batches_of(batch, batch_size))
    return Traced(profiled, os.listdir(folder), backend.evidence().describe()["settings"])


def profile_without_onednn(backend: Backend, emit: Emit, *, folder: str, batch: Batch, batch_size: int) -> Traced:
    """The same in torch, with its switch off."""
    import torch

    with torch.backends.mkldnn.flags(enabled=False):
        return profile(backend, emit, folder=folder, batch=batch, batch_size=batch_size)


def matrix_product(backend: Backend, emit: Emit, *, shape: tuple[int, int, int]) -> float:
    return backend.evidence().matrix_product(*shape, 0.1)


def one_thread_keeps_denormals(backend: Backend, emit: Emit) -> dict[str, Any]:
    """The settings when torch's switch is thrown after its other threads have started."""
    import torch

    torch.set_flush_denormal(False)
    try:
        settings: dict[str, Any] = backend.evidence().describe()["settings"]
        return settings
    finally:
        torch.set_flush_denormal(True)
