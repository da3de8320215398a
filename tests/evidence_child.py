"""What the tests of evidence ask of a backend, in its process."""

import os
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import numpy as np

from common.decoding import Emit
from common.interface import Backend, Metrics, unreported
from common.tensors import Batch, Batches


def batches_of(batch_size: int, batch: Mapping[str, Any]) -> Batches:
    rows = Batch(**batch)
    return Batches(rows, np.arange(len(rows)), batch_size)


def step_seconds(backend: Backend, emit: Emit, *, batch_size: int, **batch: Any) -> Mapping[str, Any]:
    """Of `train` and of `evaluate`, with the seconds of each as a whole."""
    batches = batches_of(batch_size, batch)

    def timed(metrics: Metrics) -> Mapping[str, Any]:
        return {"steps": metrics.step_seconds.tolist(), "whole": metrics.seconds}

    return {"train": timed(backend.train(batches, unreported)), "evaluate": timed(backend.evaluate(batches))}


def profile(backend: Backend, emit: Emit, *, folder: str, batch_size: int, **batch: Any) -> Mapping[str, Any]:
    """What was profiled, and the files that profiling leaves in `folder`, where it is run."""
    os.chdir(folder)
    return asdict(backend.profile(batches_of(batch_size, batch))) | {"files": os.listdir(folder)}


def profile_without_onednn(backend: Backend, emit: Emit, **arguments: Any) -> Mapping[str, Any]:
    """The same in torch, with its switch off."""
    import torch

    with torch.backends.mkldnn.flags(enabled=False):
        return profile(backend, emit, **arguments) | {"settings": backend.describe()["settings"]}


def matrix_product(backend: Backend, emit: Emit, *, shape: list[int]) -> Mapping[str, Any]:
    return {"rate": backend.matrix_product(*shape, 0.1)}


def one_thread_keeps_denormals(backend: Backend, emit: Emit) -> Mapping[str, Any]:
    """The settings when torch's switch is thrown after its other threads have started."""
    import torch

    torch.set_flush_denormal(False)
    try:
        return {"settings": backend.describe()["settings"]}
    finally:
        torch.set_flush_denormal(True)
