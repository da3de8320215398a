"""What Paddle tells of itself."""

import ctypes
import os
import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import paddle
from paddle.profiler import Profiler, ProfilerTarget

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
    from backends.paddle_backend import PaddleBackend

# The part of a step that a kernel belongs to: the first one whose pattern is found in its name.
PARTS: Mapping[Part, str] = {
    "LSTM": r"^rnn(_grad)? kernel launch",
    "products": r"^matmul(_grad)? kernel launch|gemm",
    "optimizer": r"^rmsprop|^Optimization Step",
    "data": r"^memcpy|^MEMCPY",
    "gates": r" kernel launch$",
    "Python": r"GradNode|[Bb]ackward$|^(ProfileStep|LSTM|Seq2Seq|Linear)| (dygraph|infer_meta|node_|pybind_)",
}


@dataclass(frozen=True)
class PaddleEvidence(Evidence):
    backend: "PaddleBackend"

    def profile(self, batches: Batches) -> Profiled:
        self.backend.train(batches, unreported)  # a warm-up, since the first steps do more than later ones
        targets = [ProfilerTarget.CPU, *([ProfilerTarget.GPU] if self.backend.device == "gpu" else [])]
        # Given no `on_trace_ready`, the profiler writes a file into the working directory.
        with Profiler(targets=targets, on_trace_ready=lambda profiler: None) as profiler:
            trained = self.backend.train(batches, unreported)
        calls: Counter[str] = Counter()
        nanoseconds: Counter[str] = Counter()
        for thread in profiler.profiler_result.get_data().values():
            events = list(thread.children_node)
            while events:
                event = events.pop()
                # Only an event on the host encloses others, or starts some on a device.
                children = getattr(event, "children_node", [])
                events += [*children, *getattr(event, "runtime_node", []), *getattr(event, "device_node", [])]
                calls[event.name] += 1
                within = sum(child.end_ns - child.start_ns for child in children)
                nanoseconds[event.name] += event.end_ns - event.start_ns - within
        kernels = [Kernel(name, calls[name], nanoseconds[name] / 1e9, part_of(name, PARTS)) for name in calls]
        return Profiled.of(kernels, trained.seconds)

    @paddle.no_grad()
    def matrix_product(self, m: int, k: int, n: int, seconds: float) -> float:
        left, right = map(paddle.to_tensor, random_operands(m, k, n, self.backend.config.dtype))

        def product() -> None:
            left @ right
            if self.backend.device == "gpu":
                paddle.device.synchronize()

        return 2 * m * k * n / median_seconds(product, seconds)

    def describe(self) -> dict[str, Any]:
        from threadpoolctl import threadpool_info

        flags = paddle.get_flags(["FLAGS_paddle_num_threads", "FLAGS_use_mkldnn"])
        pools = {f"{pool['prefix']}_threads": pool["num_threads"] for pool in threadpool_info()}
        tiny = paddle.to_tensor(smallest_normals(self.backend.config.dtype))
        return {
            "version": paddle.__version__,
            "device": str(paddle.get_device()),
            "threads": flags["FLAGS_paddle_num_threads"],
            "precision": str(self.backend.model.dense.weight.dtype).removeprefix("paddle."),
            "settings": {
                "matrix_library": self._matrix_library(),
                **flags,
                **{name: count for name, count in pools.items() if name.endswith("omp_threads")},
                "mkl": paddle.version.mkl(),
                # MKL reads this variable, and has no function that tells which path it takes.
                "MKL_DEBUG_CPU_TYPE": os.environ.get("MKL_DEBUG_CPU_TYPE", "not set"),
                "cuda": paddle.is_compiled_with_cuda(),
                "denormals": kept_or_flushed((tiny * 0.5).numpy()),
            },
        }

    def _matrix_library(self) -> str:
        """As Paddle says that it was built; the MKL that it brings along tells its version."""
        if self.backend.device == "gpu":
            return f"cuBLAS of CUDA {paddle.version.cuda()}"
        if paddle.version.mkl() != "ON":
            return "OpenBLAS"
        told = ctypes.create_string_buffer(200)
        try:
            mkl = ctypes.CDLL(str(Path(paddle.__file__).parent / "libs" / "libmklml_intel.so"))
        except OSError:  # a build that names the file otherwise
            return "MKL"
        mkl.MKL_Get_Version_String(told, len(told))
        return "MKL " + re.search(r"Library Version (\S+)", told.value.decode())[1]
