"""What Keras and TensorFlow tell of themselves."""

import os
import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import keras
import tensorflow as tf
from tensorflow.python.util._pywrap_util_port import IsMklEnabled
from tensorflow.tsl.profiler.protobuf.xplane_pb2 import XEvent, XPlane, XSpace

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
from common.machine import allowed_cores
from common.tensors import Batches

if TYPE_CHECKING:
    from backends.keras_backend import KerasBackend
    from backends.keras_example import KerasExample

# How the trace of a host names an operator, by path and kind; all other events enclose operators.
OPERATOR = re.compile(r"(?P<path>[^:\s]+):(?P<kind>_*[A-Z]\w*)")
SCOPE = re.compile(r"(?:^|/)(?P<scope>while|rm_sprop)(_\d+)?/")  # in a path: the body of a loop, or the optimizer
# The part of a step that a kernel belongs to: the first one whose pattern is found in its name.
PARTS: Mapping[Part, str] = {
    "optimizer": r"^rm_sprop/",
    # The last two replace a product: rows are looked up, and their gradients are summed.
    "products": r"MatMul(V\d)?$|^xla/dot|gemm|^GatherV2$|^UnsortedSegmentSum$",
    "data": r"^Iterator|Dataset|MemcpyHtoD",
    "gates": r"^(while/|xla/)|^_?[A-Z]\w*$",
}


@dataclass(frozen=True)
class KerasEvidence(Evidence):
    backend: "KerasBackend | KerasExample"
    own_settings: Mapping[str, bool | str]  # what the backend itself decides, beside TensorFlow's settings

    def profile(self, batches: Batches) -> Profiled:
        self.backend.train(batches, unreported)  # a warm-up, since the first steps do more than later ones
        with TemporaryDirectory() as folder:
            with tf.profiler.experimental.Profile(folder):
                trained = self.backend.train(batches, unreported)
            (file,) = Path(folder).rglob("*.xplane.pb")
            space = XSpace.FromString(file.read_bytes())
        calls: Counter[str] = Counter()
        picoseconds: Counter[str] = Counter()
        spans: list[tuple[int, int]] = []  # when operators began and ended, in picoseconds; some run side by side
        for plane in space.planes:
            for line in plane.lines:
                named = [(kernel_name(plane, event), event) for event in line.events]
                # Events may enclose others, whose time is subtracted from theirs.
                enclosing: list[tuple[int, str]] = []  # when such events end, and their names
                for name, event in sorted(named, key=lambda pair: (pair[1].offset_ps, -pair[1].duration_ps)):
                    if name is None:
                        continue
                    while enclosing and enclosing[-1][0] <= event.offset_ps:
                        enclosing.pop()
                    if enclosing:
                        picoseconds[enclosing[-1][1]] -= event.duration_ps
                    enclosing.append((event.offset_ps + event.duration_ps, name))
                    began = 1000 * line.timestamp_ns + event.offset_ps
                    spans.append((began, began + event.duration_ps))
                    calls[name] += 1
                    picoseconds[name] += event.duration_ps
        kernels = [Kernel(name, calls[name], picoseconds[name] / 1e12, part_of(name, PARTS)) for name in calls]
        return Profiled.of(kernels, trained.seconds, covered(spans) / 1e12)

    def matrix_product(self, m: int, k: int, n: int, seconds: float) -> float:
        """Each product is a call of a compiled function from Python."""
        left, right = map(tf.convert_to_tensor, random_operands(m, k, n, self.backend.config.dtype))
        compiled = tf.function(tf.matmul)

        def product() -> None:
            result = compiled(left, right)
            if self.backend.device == "gpu":
                float(result[0, 0])

        return 2 * m * k * n / median_seconds(product, seconds)

    def describe(self) -> dict[str, Any]:
        """TensorFlow's functions know numbers of threads that were set in Python only; otherwise they return 0. Then
        the number comes from the environment, or else is that of the cores: TensorFlow knows of no quota."""
        parameter = self.backend.parameters["dense/kernel"]
        intra_op = tf.config.threading.get_intra_op_parallelism_threads()
        inter_op = tf.config.threading.get_inter_op_parallelism_threads()
        existing = len(allowed_cores())
        threads = intra_op or int(os.environ.get("TF_NUM_INTRAOP_THREADS", existing))
        # In a compiled function, since training runs in one.
        halves = tf.function(lambda numbers: numbers * 0.5)(smallest_normals(parameter.dtype))
        return {
            "version": f"{keras.__version__}, tf {tf.__version__}",
            "device": parameter.value.device.rpartition("device:")[-1],
            "threads": threads,
            "precision": parameter.dtype,
            "settings": {
                "matrix_library": self._matrix_library(),
                "intra_op_threads": threads,
                "inter_op_threads": inter_op or int(os.environ.get("TF_NUM_INTEROP_THREADS", existing)),
                "onednn": IsMklEnabled(),
                "xla_autoclustering": tf.config.optimizer.get_jit() or "off",
                "tf32": tf.config.experimental.tensor_float_32_execution_enabled(),
                "denormals": kept_or_flushed(halves.numpy()),
                **self.own_settings,
            },
        }

    def _matrix_library(self) -> str:
        """As TensorFlow says that it runs; it does not tell the library's version."""
        if self.backend.device == "gpu":
            return f"cuBLAS of CUDA {tf.sysconfig.get_build_info()['cuda_version']}"
        library = "oneDNN" if IsMklEnabled() else "Eigen"
        return f"XLA's in LSTMs, {library} elsewhere" if self.own_settings.get("jit_compiled_loops") else library


def kernel_name(plane: XPlane, event: XEvent) -> str | None:
    """The name under which the time of an event is counted, or None for an event that only encloses others.

    It is an operator's kind, after "while/" in the body of a loop and after "rm_sprop/" in the optimizer; the name of
    what XLA compiled, after "xla/"; or the name of a device's kernel.
    """
    name = plane.event_metadata[event.metadata_id].name
    if "/device:" in plane.name:
        return name
    if any(plane.stat_metadata[stat.metadata_id].name == "hlo_op" for stat in event.stats):
        return f"xla/{name.rstrip('0123456789._')}"
    operator = OPERATOR.fullmatch(name)
    if operator is None:
        return None
    scope = SCOPE.search(operator["path"])
    return f"{scope['scope']}/{operator['kind']}" if scope else operator["kind"]
