"""What PyTorch tells of itself."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch.autograd import DeviceType
from torch.profiler import ProfilerActivity, profile

from common.evidence import (
    Evidence,
    Kernel,
    Part,
    Profiled,
    covered,
    kept_or_flushed,
    median_seconds,
    part_of,
    random_operands,
    smallest_normals,
)
from common.interface import unreported
from common.tensors import Batches

if TYPE_CHECKING:
    from backends.torch_backend import TorchBackend

# The part of a step that a kernel belongs to: the first one whose pattern is found in its name.
PARTS: Mapping[Part, str] = {
    "LSTM": r"(?i)mkldnnrnn|mkldnn_rnn|_cudnn_rnn",
    "optimizer": r"^Optimizer|aten::(sqrt_|mul_|addcmul_|addcdiv_)$",  # adding epsilon is counted to the gates
    "products": r"aten::(mm|addmm|bmm)$|gemm",
    "data": r"aten::_to_copy$|^Memcpy",
    "gates": r"^aten::",
    "Python": r"^autograd::|^torch::autograd::|Backward\d$|^detach$",
}


@dataclass(frozen=True)
class TorchEvidence(Evidence):
    backend: "TorchBackend"
    compiled_loop: bool = False  # whether the loop that decodes one sentence is compiled
    products: torch.dtype | None = None  # of products and LSTMs, where it is not the weights'

    def profile(self, batches: Batches) -> Profiled:
        self.backend.train(batches, unreported)  # a warm-up, since the first steps do more than later ones
        activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if self.backend.device == "gpu" else [])]
        with profile(activities=activities) as profiler:
            trained = self.backend.train(batches, unreported)
        # What goes on in the background, such as a group's sums, has only a begin and an end.
        background: dict[str, list[tuple[int, int]]] = {}
        for event in profiler.events():
            if event.is_async and event.device_type == DeviceType.CPU:
                span = int(1e3 * event.time_range.start), int(1e3 * event.time_range.end)  # nanoseconds
                background.setdefault(event.name, []).append(span)
        kernels = [Kernel(name, len(spans), covered(spans) / 1e9, "other") for name, spans in background.items()]
        for event in profiler.key_averages():
            if event.key in background:
                continue
            on_cpu = event.device_type == DeviceType.CPU
            microseconds = event.self_cpu_time_total if on_cpu else event.self_device_time_total
            kernels.append(Kernel(event.key, event.count, microseconds / 1e6, part_of(event.key, PARTS)))
        return Profiled.of(kernels, trained.seconds)

    @torch.inference_mode()
    def matrix_product(self, m: int, k: int, n: int, seconds: float) -> float:
        operands = random_operands(m, k, n, self.backend.config.dtype)
        left, right = (torch.from_numpy(operand).to(self.backend.torch_device) for operand in operands)

        def product() -> None:
            left @ right
            if self.backend.device == "gpu":
                torch.cuda.synchronize()

        return 2 * m * k * n / median_seconds(product, seconds)

    def describe(self) -> dict[str, Any]:
        return {
            "version": str(torch.__version__),
            "device": str(self.backend.model.dense.weight.device),
            "threads": torch.get_num_threads(),
            "precision": self._precision(),
            "settings": {
                "matrix_library": self._matrix_library(),
                "intra_op_threads": torch.get_num_threads(),
                "inter_op_threads": torch.get_num_interop_threads(),
                "onednn": torch.backends.mkldnn.is_available() and torch.backends.mkldnn.enabled,
                "float32_matmul_precision": torch.get_float32_matmul_precision(),
                "tf32_matmul": torch.backends.cuda.matmul.allow_tf32,
                "tf32_cudnn": torch.backends.cudnn.allow_tf32,
                "denormals": self._denormals(),
                "compiled_loop": self.compiled_loop,
            },
        }

    def _matrix_library(self) -> str:
        """As PyTorch says that it was built; LSTMs in float32 and all of bfloat16 are oneDNN's."""
        if self.backend.device == "gpu":
            return f"cuBLAS of CUDA {torch.version.cuda}"
        built = torch.__config__.show()
        library = re.search(r"BLAS_INFO=(\w+)", built)[1]
        if torch.backends.mkl.is_available():
            library = "MKL " + re.search(r"Math Kernel Library Version ([\d.]+)", built)[1]
        if not torch.backends.mkldnn.is_available() or self.backend.config.dtype == "float64":
            return library
        onednn = "oneDNN " + re.search(r"MKL-DNN v([\d.]+)", built)[1]
        return onednn if self.products else f"{onednn} in LSTMs, {library} elsewhere"

    def _denormals(self) -> str:
        tiny = torch.from_numpy(smallest_normals(self.backend.config.dtype)).to(self.backend.torch_device)
        return kept_or_flushed((tiny * 0.5).numpy(force=True))

    @torch.inference_mode()
    def _precision(self) -> str:
        """The dtype in which a product of the model's weights is computed."""
        weight = self.backend.model.dense.weight
        with torch.autocast("cpu", self.products or torch.bfloat16, enabled=self.products is not None):
            product = weight @ weight.T
        return str(product.dtype).removeprefix("torch.")
