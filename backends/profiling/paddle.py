"""Paddle's own profiler and facts."""

from collections.abc import Callable
from typing import Any

import paddle
from paddle.profiler import Profiler, ProfilerTarget

from backends.profiling import Kernel


def traced(train: Callable[[], float], device: str) -> tuple[float, list[Kernel]]:
    targets = [ProfilerTarget.CPU, *([ProfilerTarget.GPU] if device == "gpu" else [])]
    # Given no `on_trace_ready`, the profiler writes a file into the working directory.
    with Profiler(targets=targets, on_trace_ready=lambda profiler: None) as profiler:
        seconds = train()
    kernels = []
    for thread in profiler.profiler_result.get_data().values():
        events = list(thread.children_node)
        while events:
            event = events.pop()
            # Only an event on the host encloses others, or starts some on a device.
            on_device = not hasattr(event, "children_node")
            events += (
                [] if on_device else [*event.children_node, *event.runtime_node, *event.device_node]
            )
            # An operator takes more than its kernels where it copies views,
            # which no kernel's event tells.
            operator = event.name.endswith(" dygraph") or event.name.startswith("Local_")
            if on_device or operator or event.name.endswith(" kernel launch"):
                name = "operator" if operator else event.name
                kernels.append(Kernel(name, event.start_ns / 1e9, event.end_ns / 1e9))
    return seconds, kernels


def describe(backend: Any) -> dict[str, Any]:
    return {
        "version": paddle.__version__,
        "device": str(paddle.get_device()),
        "threads": paddle.get_flags("FLAGS_paddle_num_threads")["FLAGS_paddle_num_threads"],
    }
