"""What the tests of profiling ask of a backend, in its process."""

import os
from dataclasses import dataclass
from typing import Any

import numpy as np

from common.interface import Backend, Emit, Metrics, unreported
from common.profiling import Profiled
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


def profile(
    backend: Backend, emit: Emit, *, folder: str, batch: Batch, batch_size: int, without_onednn: bool = False
) -> Traced:
    """Profile in `folder`; in torch perhaps with its switch of oneDNN off."""
    os.chdir(folder)
    if without_onednn:
        import torch

        torch.backends.mkldnn.set_flags(False)
    profiled = backend.evidence().profile(batches_of(batch, batch_size))
    return Traced(profiled, os.listdir(folder), backend.evidence().describe()["settings"])


def matrix_product(backend: Backend, emit: Emit, *, shape: tuple[int, int, int]) -> float:
    return backend.evidence().matrix_product(*shape, 0.1)


def one_thread_keeps_denormals(backend: Backend, emit: Emit) -> str:
    """What becomes of denormals when torch's switch is thrown after its other threads have started."""
    import torch

    torch.set_flush_denormal(False)
    return str(backend.evidence().describe()["settings"]["denormals"])
