"""PyTorch's own profiler and facts."""

from collections.abc import Callable
from typing import Any

import torch
from torch.autograd import DeviceType
from torch.profiler import ProfilerActivity, profile

from backends.profiling import Kernel


def traced(train: Callable[[], float], device: str) -> tuple[float, list[Kernel]]:
    activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if device == "gpu" else [])]
    with profile(activities=activities) as profiler:
        seconds = train()
    return seconds, [
        Kernel(event.name, event.time_range.start / 1e6, event.time_range.end / 1e6)
        for event in profiler.events()
        if event.name.startswith("aten::") or event.device_type != DeviceType.CPU
    ]


def describe(backend: Any) -> dict[str, Any]:
    return {
        "version": str(torch.__version__),
        "device": str(torch.detach(backend.weights()["dense/kernel"]).device),
        "threads": torch.get_num_threads(),
    }
