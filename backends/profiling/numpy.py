"""Python's profiler over NumPy, and its facts."""

from collections.abc import Callable, Mapping
from cProfile import Profile
from pathlib import Path
from typing import Any

import numpy as np

from backends.profiling import Part, Profiled, Profiling, denormals

# The part of a step that a function's time belongs to: the first one whose pattern is found in its name.
PARTS: Mapping[Part, str] = {
    "LSTM": r"Lstm\.(__init__|backward)",
    "optimizer": r"RMSprop",
    "data": r"^tensors\.py|'take' of|:eye",
    "products": r"tensordot|'reshape' of|:dot$|\.dense",  # a tensordot copies its operands by `reshape`
    "gates": r"sigmoid|softmax|loss_of|:gradients|'\w+' of 'numpy|built-in method numpy|"
    r"^(multiarray|numeric|_methods)\.py",
    "Python": r"\.py:|built-in method|<method|^<string>",
}


class NumpyProfiling(Profiling):
    def traced(self, train: Callable[[], float]) -> Profiled:
        """Uses Python's profiler, since NumPy has none. It counts functions, and a product by `@` to its caller."""
        profiler = Profile()
        seconds = profiler.runcall(train)
        events = [(_name(entry.code), entry.callcount, entry.inlinetime) for entry in profiler.getstats()]
        return Profiled.of(events, PARTS, seconds)

    def describe(self) -> dict[str, Any]:
        from threadpoolctl import threadpool_info

        dtype = self.backend.config.dtype
        pools = [pool for pool in threadpool_info() if pool["user_api"] == "blas"]
        kinds = {f"{pool['internal_api']} {pool['version']} {pool.get('architecture', '')}".strip() for pool in pools}
        return {
            "version": np.__version__,
            "device": self.backend.device,
            "threads": max((pool["num_threads"] for pool in pools), default=1),
            "precision": dtype,
            "settings": {
                "matrix_library": ", ".join(sorted(kinds)) or "unknown",
                "denormals": denormals(lambda numbers: numbers * 0.5, dtype),
            },
        }


def _name(code: Any) -> str:
    """A built-in function's own name, or the file and the name of a function of Python."""
    return code if isinstance(code, str) else f"{Path(code.co_filename).name}:{code.co_qualname}"
