"""JAX's own profiler and facts."""

import os
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import flax
import jax
import jax.numpy as jnp
import numpy as np
from jax.profiler import ProfileData

from backends.profiling import Part, Profiled, Profiling, covered, denormals, own_seconds
from common.machine import allowed_cores

# The part of a step that a kernel belongs to: the first one whose pattern is operators in its name. XLA fuses the
# optimizer's operators with others, so no name tells them. A fusion of YNNPACK's is a product: Keras on JAX takes six
# products a time step in training, and that is the number of kernels named dot and ynn_fusion.
PARTS: Mapping[Part, str] = {
    "products": r"dot|gemm|^ynn_fusion",
    "data": r"copy|[Mm]emcpy|MEMCPY",
    "gates": r".",
}


class JaxProfiling(Profiling):
    def traced(self, train: Callable[[], float]) -> Profiled:
        with TemporaryDirectory() as folder:
            with jax.profiler.trace(folder):
                seconds = train()
            (file,) = Path(folder).rglob("*.xplane.pb")
            trace = ProfileData.from_file(str(file))
        events: list[tuple[str, int, float]] = []
        spans: list[tuple[int, int]] = []  # when operators began and ended, in picoseconds; some run side by side
        for plane in trace.planes:
            for line in plane.lines:
                operators = [
                    (int(1000 * event.start_ns), int(1000 * event.duration_ns), re.sub(r"[.\d]+$", "", event.name))
                    for event in line.events
                    if "/device:" in plane.name or "hlo_op" in dict(event.stats)  # not what Python does
                ]
                events += own_seconds(operators)
                spans += [(began, began + lasted) for began, lasted, _ in operators]
        return Profiled.of(events, PARTS, seconds, covered(spans) / 1e12)

    def describe(self) -> dict[str, Any]:
        """XLA has as many threads as cores, unless NPROC says otherwise; JAX tells neither."""
        weight = jnp.asarray(self.backend.weights()["dense/kernel"])
        (device,) = weight.devices()
        return {
            "version": f"{jax.__version__}, flax {flax.__version__}",
            "device": f"{device.platform}:{device.id}",
            "threads": int(os.environ.get("NPROC", len(allowed_cores()))),
            "precision": str(weight.dtype),
            "settings": {
                "matrix_library": "XLA's own" if device.platform == "cpu" else "cuBLAS",
                "denormals": denormals(
                    lambda numbers: np.array(jax.jit(lambda x: x * 0.5)(numbers)), str(weight.dtype)
                ),
            },
        }
