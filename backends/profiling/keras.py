"""Keras's and TensorFlow's own profiler and facts."""

import os
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import keras
import tensorflow as tf
from tensorflow.python.util._pywrap_util_port import IsMklEnabled

from backends.profiling import Part, Profiled, Profiling, covered, denormals, own_seconds
from common.machine import allowed_cores

if TYPE_CHECKING:
    from tensorflow.tsl.profiler.protobuf.xplane_pb2 import XEvent, XPlane

# How the trace of a host names an operator, by path and kind; all other events enclose operators.
OPERATOR_EVENT = re.compile(r"(?P<path>[^:\s]+):(?P<kind>_*[A-Z]\w*)")
SCOPE = re.compile(r"(?:^|/)(?P<scope>while|rm_sprop)(_\d+)?/")  # in a path: the body of a loop, or the optimizer
# The part of a step that a kernel belongs to: the first one whose pattern is operators in its name.
PARTS: Mapping[Part, str] = {
    "optimizer": r"^rm_sprop/",
    "products": r"MatMul(V\d)?$|^xla/dot|gemm",
    "data": r"^Iterator|Dataset|MemcpyHtoD",
    "gates": r"^(while/|xla/)|^_?[A-Z]\w*$",
}


class KerasProfiling(Profiling):
    def traced(self, train: Callable[[], float]) -> Profiled:
        # A private module, which is imported here alone since another TensorFlow may have it elsewhere.
        from tensorflow.tsl.profiler.protobuf.xplane_pb2 import XSpace

        with TemporaryDirectory() as folder:
            with tf.profiler.experimental.Profile(folder):
                seconds = train()
            (file,) = Path(folder).rglob("*.xplane.pb")
            space = XSpace.FromString(file.read_bytes())
        events: list[tuple[str, int, float]] = []
        spans: list[tuple[int, int]] = []  # when operators began and ended, in picoseconds; some run side by side
        for plane in space.planes:
            for line in plane.lines:
                named = ((kernel_name(plane, event), event) for event in line.events)
                operators = [(event.offset_ps, event.duration_ps, name) for name, event in named if name is not None]
                events += own_seconds(operators)
                start = 1000 * line.timestamp_ns
                spans += [(start + began, start + began + lasted) for began, lasted, _ in operators]
        return Profiled.of(events, PARTS, seconds, covered(spans) / 1e12)

    def describe(self) -> dict[str, Any]:
        """TensorFlow's function knows a number of threads that was set in Python only; otherwise it returns 0. Then
        the number comes from the environment, or else is that of the cores: TensorFlow knows of no quota."""
        parameter = self.backend.weights()["dense/kernel"]
        intra_op = tf.config.threading.get_intra_op_parallelism_threads()
        halved = tf.function(lambda numbers: numbers * 0.5)  # compiled, since training runs in such a function
        return {
            "version": f"{keras.__version__}, tf {tf.__version__}",
            "device": parameter.value.device.rpartition("device:")[-1],
            "threads": intra_op or int(os.environ.get("TF_NUM_INTRAOP_THREADS", len(allowed_cores()))),
            "precision": parameter.dtype,
            "settings": {
                "matrix_library": self._matrix_library(),
                "denormals": denormals(lambda numbers: halved(numbers).numpy(), parameter.dtype),
                **self.backend.own_settings,
            },
        }

    def _matrix_library(self) -> str:
        """As TensorFlow says that it runs; it does not tell the library's version."""
        if self.backend.device == "gpu":
            return f"cuBLAS of CUDA {tf.sysconfig.get_build_info()['cuda_version']}"
        return "oneDNN" if IsMklEnabled() else "Eigen"


def kernel_name(plane: "XPlane", event: "XEvent") -> str | None:
    """The name under which the time of an event is counted, or None for an event that only encloses others.

    It is an operator's kind, after "while/" in the body of a loop and after "rm_sprop/" in the optimizer; the name of
    what XLA compiled, after "xla/"; or the name of a device's kernel.
    """
    name = plane.event_metadata[event.metadata_id].name
    if "/device:" in plane.name:
        return name
    if any(plane.stat_metadata[stat.metadata_id].name == "hlo_op" for stat in event.stats):
        return f"xla/{name.rstrip('0123456789._')}"
    operator = OPERATOR_EVENT.fullmatch(name)
    if operator is None:
        return None
    scope = SCOPE.search(operator["path"])
    return f"{scope['scope']}/{operator['kind']}" if scope else operator["kind"]
