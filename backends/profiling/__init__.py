"""The time of a training step in a few parts, from the framework's own profiler,
and facts of the framework.

`NAME.py` has the functions of `Tools` for the framework NAME.
A framework without this file has no profile, and few facts.
"""

from collections.abc import Callable, Iterable
from importlib import import_module
from importlib.util import find_spec
from typing import Any, NamedTuple, Protocol, cast

from backends import TABLE
from backends.interface import Backend, unreported
from common.machine import allowed_cores
from common.tensors import Batches

# Words in the name of an LSTM's kernel or of a matrix product's,
# in lower case. ynn_fusion is XLA's on a CPU.
PRODUCTS = ("rnn", "lstm", "matmul", "gemm", "dot", "::mm", "::addmm", "::bmm", "ynn_fusion")


class Kernel(NamedTuple):
    """One run of a kernel or operator, under the framework's own name."""

    name: str
    began: float  # in seconds, since the same moment for all kernels
    ended: float


class Profiled(NamedTuple):
    """Seconds of training steps under a profiler, which slows them."""

    seconds: float  # duration of all steps
    products: float  # while an LSTM or a matrix product was running
    others: float  # while other kernels alone were running


class Tools(Protocol):
    """The functions of a framework's file."""

    def traced(self, train: Callable[[], float], device: str) -> tuple[float, list[Kernel]]:
        """Call `train` under the profiler; return what it returned and the kernels.
        Leaves no file."""

    def describe(self, backend: Any) -> dict[str, Any]:
        """`version`, `device` and `threads` as the framework reports them,
        and any `settings`: str, int or bool."""


def tools(framework: str) -> Tools | None:
    """The file of a framework, which imports it; None where there is none."""
    name = f"{__name__}.{framework}"
    return cast(Tools, import_module(name)) if find_spec(name) else None


def described(backend: Backend) -> dict[str, Any]:
    """The facts that `Tools.describe` returns; without a framework's file,
    those that its process shows."""
    if told := tools(backend.framework):
        return told.describe(backend)
    version = getattr(import_module(TABLE[backend.framework].package), "__version__", "not told")
    return {"version": version, "device": backend.device, "threads": len(allowed_cores())}


def profile(backend: Backend, batches: Batches) -> Profiled | None:
    """Train on these batches under the framework's own profiler,
    if it has one here. Changes the weights."""
    profiler = tools(backend.framework)
    if profiler is None:
        return None

    def train() -> float:
        return backend.train(batches, unreported).seconds

    train()  # the first steps do more than later ones
    seconds, kernels = profiler.traced(train, backend.device)
    products = covered(
        kernel for kernel in kernels if any(word in kernel.name.lower() for word in PRODUCTS)
    )
    return Profiled(seconds, products, covered(kernels) - products)


def covered(kernels: Iterable[Kernel]) -> float:
    """Seconds in which at least one kernel was running."""
    total = reached = 0.0
    for _, began, ended in sorted(kernels, key=lambda kernel: kernel.began):
        total += max(0.0, ended - max(began, reached))
        reached = max(reached, ended)
    return total
