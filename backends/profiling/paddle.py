"""Paddle's own profiler and facts."""

import ctypes
import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import paddle
from paddle.profiler import Profiler, ProfilerTarget

from backends.profiling import Part, Profiled, Profiling, denormals

# The part of a step that a kernel belongs to: the first one whose pattern is found in its name.
PARTS: Mapping[Part, str] = {
    "LSTM": r"^rnn(_grad)? kernel launch",
    "products": r"^matmul(_grad)? kernel launch|gemm",
    "optimizer": r"^rmsprop|^Optimization Step",
    "data": r"^memcpy|^MEMCPY",
    "gates": r" kernel launch$",
    "Python": r"GradNode|[Bb]ackward$|^(ProfileStep|LSTM|Seq2Seq|Linear)| (dygraph|infer_meta|node_|pybind_)",
}


class PaddleProfiling(Profiling):
    def traced(self, train: Callable[[], float]) -> Profiled:
        targets = [ProfilerTarget.CPU, *([ProfilerTarget.GPU] if self.backend.device == "gpu" else [])]
        # Given no `on_trace_ready`, the profiler writes a file into the working directory.
        with Profiler(targets=targets, on_trace_ready=lambda profiler: None) as profiler:
            seconds = train()
        return Profiled.of(_events(profiler), PARTS, seconds)

    def describe(self) -> dict[str, Any]:
        return {
            "version": paddle.__version__,
            "device": str(paddle.get_device()),
            "threads": paddle.get_flags("FLAGS_paddle_num_threads")["FLAGS_paddle_num_threads"],
            "precision": str(self.backend.model.dense.weight.dtype).removeprefix("paddle."),
            "settings": {
                "matrix_library": self._matrix_library(),
                "denormals": denormals(
                    lambda numbers: (paddle.to_tensor(numbers) * 0.5).numpy(), self.backend.config.dtype
                ),
            },
        }

    def _matrix_library(self) -> str:
        """As Paddle says that it was built; the MKL that it brings along tells its version."""
        if self.backend.device == "gpu":
            return f"cuBLAS of CUDA {paddle.version.cuda()}"
        if paddle.version.mkl() != "ON":
            return "OpenBLAS"
        version = ctypes.create_string_buffer(200)
        try:
            mkl = ctypes.CDLL(str(Path(paddle.__file__).parent / "libs" / "libmklml_intel.so"))
        except OSError:  # a build that names the file otherwise
            return "MKL"
        mkl.MKL_Get_Version_String(version, len(version))
        return "MKL " + re.search(r"Library Version (\S+)", version.value.decode())[1]


def _events(profiler: Profiler) -> Iterator[tuple[str, int, float]]:
    """Yield each event's name, 1, and its seconds without those of the events that it encloses."""
    for thread in profiler.profiler_result.get_data().values():
        events = list(thread.children_node)
        while events:
            event = events.pop()
            # Only an event on the host encloses others, or starts some on a device.
            children = getattr(event, "children_node", [])
            events += [*children, *getattr(event, "runtime_node", []), *getattr(event, "device_node", [])]
            within = sum(child.end_ns - child.start_ns for child in children)
            yield event.name, 1, (event.end_ns - event.start_ns - within) / 1e9
