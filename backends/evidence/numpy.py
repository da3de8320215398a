"""What NumPy tells of itself."""

from collections.abc import Mapping
from cProfile import Profile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from common.evidence import (
    Evidence,
    Kernel,
    Part,
    Profiled,
    kept_or_flushed,
    median_seconds,
    part_of,
    random_operands,
    smallest_normals,
)
from common.interface import unreported
from common.tensors import Batches

if TYPE_CHECKING:
    from backends.numpy_backend import NumpyBackend

# The part of a step that a function's time belongs to: the first one whose pattern is found in its name.
PARTS: Mapping[Part, str] = {
    "LSTM": r"Lstm\.(__init__|backward)",
    "optimizer": r"_rmsprop",
    "data": r"^tensors\.py|'take' of|:eye",
    "products": r"tensordot|'reshape' of|:dot$|\._dense",  # a tensordot copies its operands by `reshape`
    "gates": r"sigmoid|softmax|_loss|_gradients|'\w+' of 'numpy|built-in method numpy|"
    r"^(multiarray|numeric|_methods)\.py",
    "Python": r"\.py:|built-in method|<method|^<string>",
}


@dataclass(frozen=True)
class NumpyEvidence(Evidence):
    backend: "NumpyBackend"

    def profile(self, batches: Batches) -> Profiled:
        """Uses Python's profiler, since NumPy has none. It counts functions, and a product by `@` to its caller."""
        self.backend.train(batches, unreported)  # a warm-up, since the first steps do more than later ones
        profiler = Profile()
        trained = profiler.runcall(self.backend.train, batches, unreported)
        kernels = []
        for entry in profiler.getstats():
            code = entry.code
            name = code if isinstance(code, str) else f"{Path(code.co_filename).name}:{code.co_qualname}"
            kernels.append(Kernel(name, entry.callcount, entry.inlinetime, part_of(name, PARTS)))
        return Profiled.of(kernels, trained.seconds)

    def matrix_product(self, m: int, k: int, n: int, seconds: float) -> float:
        left, right = random_operands(m, k, n, self.backend.config.dtype)
        return 2 * m * k * n / median_seconds(lambda: left @ right, seconds)

    def describe(self) -> dict[str, Any]:
        from threadpoolctl import threadpool_info

        dtype = self.backend.config.dtype
        pools = [pool for pool in threadpool_info() if pool["user_api"] == "blas"]
        kinds = {f"{pool['internal_api']} {pool['version']} {pool.get('architecture', '')}".strip() for pool in pools}
        threads = max((pool["num_threads"] for pool in pools), default=1)
        return {
            "version": np.__version__,
            "device": self.backend.device,
            "threads": threads,
            "precision": dtype,
            "settings": {
                "matrix_library": ", ".join(sorted(kinds)) or "unknown",
                "blas_threads": threads,
                "denormals": kept_or_flushed(smallest_normals(dtype) * 0.5),
            },
        }
