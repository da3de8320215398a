"""What is measured in a backend's process. Each function measures one thing and is written once for all backends.

The parent process calls them by name, one at a time, while all other backends' processes sleep. Times are seconds of
`perf_counter`.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from time import perf_counter
from typing import Annotated, Any

import msgspec
import numpy as np
import psutil
from numpy.typing import NDArray

from common.decoding import Emit
from common.evidence import Kernel
from common.interface import Backend, unreported
from common.tensors import Batch, Batches
from common.weights import ModelState, initial_state

AT_LEAST = 0.1  # seconds for which short work is repeated and timed
PROFILED_STEPS = 3
PRODUCT_SECONDS = 0.2  # seconds for which a matrix product is repeated
LARGE_SIZE = 2048  # rows and columns of the matrices whose product shows the machine's peak
BUSY_SHARE = 0.05  # share of a core that a thread must use during training to count as busy
SUM_WARM_UPS = 4  # sums over a group that are not timed
TENSORS = ("encoder_input_data", "decoder_input_data", "decoder_target_data", "target_weights", "real_positions")


# A recorded duration is positive and finite, so that results can divide by it.
Seconds = Annotated[float, msgspec.Meta(ge=1e-9, le=1e9)]
SomeSeconds = Annotated[list[Seconds], msgspec.Meta(min_length=1)]
Amount = Annotated[float, msgspec.Meta(ge=0, le=1e9)]  # what may be nothing: seconds, cores
Count = Annotated[int, msgspec.Meta(ge=1)]
CountOrZero = Annotated[int, msgspec.Meta(ge=0)]


@dataclass(frozen=True)
class Steps:
    """Times of training steps."""

    step_seconds: list[float]  # of each step, from the end of the step before it
    seconds: float  # from the first step's start until all losses are read back
    finite: bool  # whether every loss is finite
    peak: int  # the most bytes that the process has had in memory so far


def steps(
    backend: Backend, emit: Emit, *, rows: Batch, batch_size: int, order: NDArray[np.integer] | None = None
) -> Steps:
    """Train on these rows in their order, or on those that `order` numbers, from the backend's present weights."""
    trained = backend.train(Batches(rows, np.arange(len(rows)) if order is None else order, batch_size), unreported)
    finite = bool(np.isfinite(trained.step_losses).all())
    return Steps(trained.step_seconds.tolist(), trained.seconds, finite, peak_memory())


@dataclass(frozen=True)
class WarmUp:
    """The first steps of a process."""

    first_step_seconds: Seconds  # the cold step, including all compiling
    step_seconds: list[Seconds]  # the steps after it
    peak: Count  # the most bytes that the process has had in memory so far
    threads: Count  # threads of the process, as the operating system counts them
    busy_threads: CountOrZero  # how many of these threads worked during training


def warm_up(backend: Backend, emit: Emit, *, rows: Batch, batch_size: int) -> WarmUp:
    """Start from fresh weights: train one cold step on the first batch, then one step on each batch of these rows."""
    backend.load(initial_state(backend.config, backend.train_config.seed))
    batches = _batches(rows, batch_size)
    start = perf_counter()
    backend.train(batches.part(0, 1), unreported)
    first = perf_counter() - start
    process = psutil.Process()
    before = _cpu_by_thread(process)
    trained = backend.train(batches, unreported)
    after = _cpu_by_thread(process)
    spent = [cpu - before.get(thread, 0.0) for thread, cpu in after.items()]
    busy = sum(seconds > BUSY_SHARE * trained.seconds for seconds in spent)
    return WarmUp(first, trained.step_seconds.tolist(), peak_memory(), len(after), busy)


def load(backend: Backend, emit: Emit, *, state: ModelState) -> None:
    """Give the backend weights and optimizer slots."""
    backend.load(state)


def decoding(
    backend: Backend,
    emit: Emit,
    *,
    state: ModelState,
    encoder_ids: NDArray[np.integer],
    encoder_lengths: NDArray[np.integer],
    max_length: int,
) -> list[float]:
    """Seconds of each call that decodes these sources with the weights of `state`, after one call that is not timed.

    The call is repeated for at least AT_LEAST seconds.
    """
    backend.load(state)
    backend.translate(encoder_ids, encoder_lengths, max_length)
    seconds: list[float] = []
    while sum(seconds) < AT_LEAST:
        seconds.append(seconds_of(lambda: backend.translate(encoder_ids, encoder_lengths, max_length)))
    return seconds


class Product(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The speed of a matrix product (m, k) @ (k, n) in the backend's framework."""

    name: str  # "large", or the part of the model that multiplies matrices of this shape
    shape: tuple[int, int, int]  # m, k, n
    flops: Annotated[float, msgspec.Meta(ge=1.0)]  # floating-point operations per second


@dataclass(frozen=True)
class Profile:
    """A few training steps under the framework's own profiler, which makes them slower."""

    steps: Count
    seconds: Seconds  # duration of these steps
    busy_seconds: Amount  # part of the duration in which at least one kernel was running
    kernels: list[Kernel]
    data_seconds: Amount  # to make the tensors of these steps, measured separately without the profiler


def profiled(backend: Backend, emit: Emit, *, rows: Batch, batch_size: int) -> Profile:
    """Which kernels run in a training step; its times show shares only, since the profiler slows the steps."""
    batches = _batches(rows, batch_size).part(0, PROFILED_STEPS)
    found = backend.evidence().profile(batches)
    return Profile(len(batches), found.seconds, found.busy_seconds, found.kernels, data_seconds(batches))


def matrix_products(backend: Backend, emit: Emit, *, shapes: dict[str, tuple[int, int, int]]) -> list[Product]:
    """Measure a large matrix product, which shows the machine's peak, and products of the named shapes (m, k, n)."""
    shapes = {"large": (LARGE_SIZE, LARGE_SIZE, LARGE_SIZE), **shapes}
    return [
        Product(name, shape, backend.evidence().matrix_product(*shape, PRODUCT_SECONDS))
        for name, shape in shapes.items()
    ]


def sums(backend: Backend, emit: Emit, *, sizes: list[int], repetitions: int) -> list[list[float]]:
    """Seconds that the backend's group takes to sum an array of each of these sizes in bytes, several times each.

    All workers must be asked alike. The first sums of a size are not timed, since a framework may compile for it.
    """
    found = []
    for size in sizes:
        work = partial(backend.group.sum, np.ones(size // 8))  # of float64, which is what a group sums
        for _ in range(SUM_WARM_UPS):
            work()
        found.append([seconds_of(work) for _ in range(repetitions)])
    return found


def data_seconds(batches: Batches) -> float:
    """Seconds to make the tensors of these batches, one batch after the other."""

    def make() -> None:
        for batch in batches:
            for name in TENSORS:
                getattr(batch, name)

    return seconds_of(make)


def seconds_of(work: Callable[[], Any]) -> float:
    """Seconds that one call of `work` takes."""
    start = perf_counter()
    work()
    return perf_counter() - start


def peak_memory() -> int:
    """The most bytes that this process has ever had in memory (resident, not swapped out)."""
    status = Path("/proc/self/status")
    if status.exists():
        fields = dict(line.split(":", 1) for line in status.read_text(encoding="ascii").splitlines())
        return int(fields["VmHWM"].split()[0]) * 1024
    import resource

    # On systems without /proc. On Linux this number would include memory of the parent when it started this process.
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def _batches(rows: Batch, batch_size: int) -> Batches:
    """These rows in order as batches."""
    return Batches(rows, np.arange(len(rows)), batch_size)


def _cpu_by_thread(process: psutil.Process) -> dict[int, float]:
    """Processor time of each thread in seconds, by the thread's id."""
    return {thread.id: thread.user_time + thread.system_time for thread in process.threads()}
