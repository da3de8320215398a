"""Keras's and TensorFlow's own profiler and facts; another engine's, where Keras runs under it."""

import os
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import keras

from backends.profiling import Kernel, tools
from common.machine import allowed_cores

ENGINE = keras.backend.backend()


def traced(train: Callable[[], float], device: str) -> tuple[float, list[Kernel]]:
    if ENGINE != "tensorflow":
        return tools(ENGINE).traced(train, device)

    import tensorflow as tf

    # A private module, which is imported here alone since another TensorFlow may have it elsewhere.
    from tensorflow.tsl.profiler.protobuf.xplane_pb2 import XSpace

    with TemporaryDirectory() as folder:
        with tf.profiler.experimental.Profile(folder):
            seconds = train()
        (file,) = Path(folder).rglob("*.xplane.pb")
        space = XSpace.FromString(file.read_bytes())
    kernels = []
    for plane in space.planes:
        for line in plane.lines:
            for event in line.events:
                name = plane.event_metadata[event.metadata_id].name
                # An operator's path and kind on the host; others enclose operators.
                _, _, kind = name.partition(":")
                if "/device:" in plane.name or kind.isidentifier():
                    began = line.timestamp_ns / 1e9 + event.offset_ps / 1e12
                    kernels.append(Kernel(kind or name, began, began + event.duration_ps / 1e12))
    return seconds, kernels


def describe(backend: Any) -> dict[str, Any]:
    """TensorFlow's function knows a number of threads that was set in Python only; otherwise it
    returns 0. Then the number comes from the environment, or else is that of the cores: TensorFlow
    knows of no quota."""
    if ENGINE != "tensorflow":
        described = tools(ENGINE).describe(backend)
        version, _, _ = described["version"].partition(",")
        return described | {"version": f"{keras.__version__}, {ENGINE} {version}"}

    import tensorflow as tf
    from tensorflow.python.util._pywrap_util_port import IsMklEnabled

    intra_op = tf.config.threading.get_intra_op_parallelism_threads()
    return {
        "version": f"{keras.__version__}, tf {tf.__version__}",
        "device": backend.weights()["dense/kernel"].value.device.rpartition("device:")[-1],
        "threads": intra_op or int(os.environ.get("TF_NUM_INTRAOP_THREADS", len(allowed_cores()))),
        "settings": {"matrix_library": "oneDNN" if IsMklEnabled() else "Eigen"},
    }
