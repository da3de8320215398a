"""JAX's own profiler and facts."""

import os
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import flax
import jax
import jax.numpy as jnp
from jax.profiler import ProfileData

from backends.profiling import Kernel
from common.machine import allowed_cores


def traced(train: Callable[[], float], device: str) -> tuple[float, list[Kernel]]:
    with TemporaryDirectory() as folder:
        with jax.profiler.trace(folder):
            seconds = train()
        (file,) = Path(folder).rglob("*.xplane.pb")
        trace = ProfileData.from_file(str(file))
    return seconds, [
        Kernel(event.name, event.start_ns / 1e9, (event.start_ns + event.duration_ns) / 1e9)
        for plane in trace.planes
        for line in plane.lines
        for event in line.events
        if "/device:" in plane.name or "hlo_op" in dict(event.stats)  # not what Python does
    ]


def describe(backend: Any) -> dict[str, Any]:
    """XLA has as many threads as cores, unless NPROC says otherwise; JAX tells neither."""
    (device,) = jnp.asarray(backend.weights()["dense/kernel"]).devices()
    return {
        "version": f"{jax.__version__}, flax {flax.__version__}",
        "device": f"{device.platform}:{device.id}",
        "threads": int(os.environ.get("NPROC", len(allowed_cores()))),
    }
