"""What the tests of profiling ask of a backend, in its process."""

import os
from dataclasses import dataclass

import numpy as np

from common.interface import Backend, Emit, Metrics, unreported
from common.profiling import Profiled
from common.tensors import Batch, Batches


@dataclass(frozen=True)
class Traced:
    """What a backend tells while it is profiled."""

    profiled: Profiled
    files: list[str]  # that profiling left where it was run


def batches_of(batch: Batch, batch_size: int) -> Batches:
    return Batches(batch, np.arange(len(batch)), batch_size)


def trained_and_evaluated(backend: Backend, emit: Emit, *, batch: Batch, batch_size: int) -> tuple[Metrics, Metrics]:
    batches = batches_of(batch, batch_size)
    return backend.train(batches, unreported), backend.evaluate(batches)


def profile(backend: Backend, emit: Emit, *, folder: str, batch: Batch, batch_size: int) -> Traced:
    """Profile in `folder`."""
    before = os.getcwd()
    os.chdir(folder)
    profiled = backend.profiling().profile(batches_of(batch, batch_size))
    os.chdir(before)
    return Traced(profiled, os.listdir(folder))


def profile_without_onednn(backend: Backend, emit: Emit, *, folder: str, batch: Batch, batch_size: int) -> Traced:
    """The same, with torch's switch of oneDNN off."""
    import torch

    with torch.backends.mkldnn.flags(enabled=False):
        return profile(backend, emit, folder=folder, batch=batch, batch_size=batch_size)


def matrix_product(backend: Backend, emit: Emit, *, shape: tuple[int, int, int]) -> float:
    return backend.profiling().matrix_product(*shape, 0.1)


def denormals_without_the_switch(backend: Backend, emit: Emit) -> str:
    """What becomes of denormals when torch's switch is thrown after its other threads, if any, have started."""
    import torch

    torch.set_flush_denormal(False)
    try:
        return str(backend.profiling().describe()["settings"]["denormals"])
    finally:
        torch.set_flush_denormal(True)
