"""Python's profiler over NumPy, and facts of NumPy."""

from collections.abc import Callable
from cProfile import Profile
from pathlib import Path
from typing import Any

import numpy as np

from backends.profiling import Kernel


def traced(train: Callable[[], float], device: str) -> tuple[float, list[Kernel]]:
    """Uses Python's profiler, since NumPy has none. It knows each function's time in all,
    which is told as one run.

    A product by `@` counts to its caller, so the loops of an LSTM are products.
    """
    profiler, kernels, ended = Profile(), [], 0.0
    seconds = profiler.runcall(train)
    for entry in profiler.getstats():
        code, began, ended = entry.code, ended, ended + entry.inlinetime
        name = code if isinstance(code, str) else code.co_qualname
        where = code if isinstance(code, str) else "/".join(Path(code.co_filename).parts[-3:])
        if "numpy" in where:
            kernels.append(Kernel(name, began, ended))
    return seconds, kernels


def describe(backend: Any) -> dict[str, Any]:
    from threadpoolctl import threadpool_info

    return {
        "version": np.__version__,
        "device": backend.device,
        "threads": max(
            (pool["num_threads"] for pool in threadpool_info() if pool["user_api"] == "blas"),
            default=1,
        ),
    }
