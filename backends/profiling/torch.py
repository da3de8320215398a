"""PyTorch's own profiler and facts."""

import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
from torch.autograd import DeviceType
from torch.profiler import ProfilerActivity, profile

from backends.profiling import Array, Part, Profiled, Profiling, covered, denormals

# The part of a step that a kernel belongs to: the first one whose pattern is found in its name.
PARTS: Mapping[Part, str] = {
    "LSTM": r"(?i)mkldnnrnn|mkldnn_rnn|_cudnn_rnn",
    "optimizer": r"^Optimizer|aten::(sqrt_|mul_|addcmul_|addcdiv_)$",  # adding epsilon is counted to the gates
    "products": r"aten::(mm|addmm|bmm)$|gemm",
    "data": r"aten::_to_copy$|^Memcpy",
    "gates": r"^aten::",
    "Python": r"^autograd::|^torch::autograd::|Backward\d$|^detach$",
}


class TorchProfiling(Profiling):
    def traced(self, train: Callable[[], float]) -> Profiled:
        activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if self.backend.device == "gpu" else [])]
        with profile(activities=activities) as profiler:
            seconds = train()
        return Profiled.of(_events(profiler), PARTS, seconds)

    def describe(self) -> dict[str, Any]:
        weight = torch.detach(self.backend.weights()["dense/kernel"])
        return {
            "version": str(torch.__version__),
            "device": str(weight.device),
            "threads": torch.get_num_threads(),
            "precision": str(weight.dtype).removeprefix("torch."),
            "settings": {
                "matrix_library": self._matrix_library(),
                "denormals": denormals(self._halved, self.backend.config.dtype),
            },
        }

    def _matrix_library(self) -> str:
        """As PyTorch says that it was built; its own LSTMs in float32 are oneDNN's."""
        if self.backend.device == "gpu":
            return f"cuBLAS of CUDA {torch.version.cuda}"
        built = torch.__config__.show()
        library = re.search(r"BLAS_INFO=(\w+)", built)[1]
        if torch.backends.mkl.is_available():
            library = "MKL " + re.search(r"Math Kernel Library Version ([\d.]+)", built)[1]
        onednn = torch.backends.mkldnn
        fused = isinstance(self.backend.model.encoder, torch.nn.LSTM) and self.backend.config.dtype != "float64"
        if not (onednn.is_available() and onednn.enabled and fused):
            return library
        version = "oneDNN " + re.search(r"MKL-DNN v([\d.]+)", built)[1]
        return f"{version} in LSTMs, {library} elsewhere"

    def _halved(self, numbers: Array) -> Array:
        return (torch.as_tensor(numbers) * 0.5).numpy(force=True)


def _events(profiler: profile) -> Iterator[tuple[str, int, float]]:
    """Yield each kernel's name, calls and seconds without those of the kernels that it calls.

    An event in the background, such as a sum of a group, has only a begin and an end: its seconds are those between.
    """
    background: dict[str, list[tuple[int, int]]] = {}
    for event in profiler.events():
        if event.is_async and event.device_type == DeviceType.CPU:
            span = int(1e3 * event.time_range.start), int(1e3 * event.time_range.end)  # nanoseconds
            background.setdefault(event.name, []).append(span)
    for name, spans in background.items():
        yield name, len(spans), covered(spans) / 1e9
    for event in profiler.key_averages():
        if event.key not in background:
            on_cpu = event.device_type == DeviceType.CPU
            microseconds = event.self_cpu_time_total if on_cpu else event.self_device_time_total
            yield event.key, event.count, microseconds / 1e6
