"""The scenarios: each measures one thing, is written once for all backends, and runs in the backend's process.

The parent process calls them by name, one at a time, while all other backends' processes sleep. Times are seconds of
`perf_counter`.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from math import ceil
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
from common.tensors import Batch, Batches, epoch_order
from common.training import train_epoch
from common.weights import ModelState, initial_state

AT_LEAST = 0.1  # seconds for which short work is repeated and timed
PROFILED_STEPS = 3
PRODUCT_SECONDS = 0.2  # seconds for which a matrix product is repeated
LARGE_SIZE = 2048  # rows and columns of the matrices whose product shows the machine's peak
BUSY_SHARE = 0.05  # share of a core that a thread must use during training to count as busy
POINT_WARM_UP = 3  # training steps before the timed ones of a sweep's point, including the cold one
POINT_SECONDS = 0.5  # seconds that the timed steps of a sweep's point should take
SUM_WARM_UPS = 4  # sums over a group that are not timed
MOST_STEPS = 100  # limit on the timed steps of a sweep's point, where a step is very short
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


def steps(backend: Backend, emit: Emit, *, rows: Batch, batch_size: int) -> Steps:
    """Train on these rows in their order, from the backend's present weights."""
    trained = backend.train(_batches(backend, rows, batch_size), unreported)
    finite = bool(np.isfinite(trained.step_losses).all())
    return Steps(trained.step_seconds.tolist(), trained.seconds, finite)


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
    batches = _batches(backend, rows, batch_size)
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
    batches = _batches(backend, rows, batch_size).part(0, PROFILED_STEPS)
    found = backend.evidence().profile(batches)
    return Profile(len(batches), found.seconds, found.busy_seconds, found.kernels, data_seconds(batches))


def matrix_products(backend: Backend, emit: Emit, *, shapes: dict[str, tuple[int, int, int]]) -> list[Product]:
    """Measure a large matrix product, which shows the machine's peak, and products of the named shapes (m, k, n)."""
    shapes = {"large": (LARGE_SIZE, LARGE_SIZE, LARGE_SIZE), **shapes}
    return [
        Product(name, shape, backend.evidence().matrix_product(*shape, PRODUCT_SECONDS))
        for name, shape in shapes.items()
    ]


@dataclass(frozen=True)
class EpochDone:
    """The metrics of one epoch of a scored training.

    A loss that is not finite is None in a recording, since JSON has no such number.
    """

    seconds: Seconds  # duration of the training steps, without validation
    loss: float | None
    val_loss: float | None
    val_accuracy: float  # share of characters predicted correctly, padding included
    val_accuracy_real: float  # share of characters predicted correctly, without padding


def learn(
    backend: Backend,
    emit: Emit,
    *,
    epochs: int,
    seed: int,
    corpus: Batch,
    training_rows: NDArray[np.integer],
    validation_rows: NDArray[np.integer],
) -> int:
    """Train from the initial weights of `seed`.

    After each epoch an event is emitted with `epoch_done`, the fields of an EpochDone, and `state`, the weights and
    optimizer slots. Returns the most bytes that the process has had in memory.
    """
    state = initial_state(backend.config, seed)
    backend.load(state)
    settings = replace(backend.train_config, seed=seed)
    validation = Batches(corpus, validation_rows, settings.batch_size)
    for epoch in range(1, epochs + 1):
        # Steps are not reported: drawing a progress bar in the meantime would slow the training that is timed.
        trained, validated = train_epoch(
            backend, lambda **event: None, state, training_rows, validation, settings, epoch
        )
        state = backend.dump()
        accuracies = validated.accuracy, validated.accuracy_real
        emit(
            epoch_done=vars(EpochDone(trained.seconds, trained.loss, validated.loss, *accuracies)),
            state=vars(state),
        )
    return peak_memory()


@dataclass(frozen=True)
class Point:
    """The times of training steps at one size of one axis of a sweep."""

    step_seconds: SomeSeconds
    peak: Count  # the most bytes that the process has had in memory, before the products
    # The large product only, the machine's peak that the steps are compared with.
    products: Annotated[list[Product], msgspec.Meta(min_length=1)]


def point(backend: Backend, emit: Emit, *, rows: Batch, batch_size: int, seed: int, least_steps: int) -> Point:
    """Time training steps on these rows, which are repeated as often as needed, after a warm-up.

    At least `least_steps` are timed.
    """
    order = epoch_order(len(rows), seed, 1)

    def batches(count: int) -> Batches:
        return Batches(rows, np.resize(order, count * batch_size), batch_size)

    backend.load(initial_state(backend.config, seed))
    warm = backend.train(batches(POINT_WARM_UP), unreported).step_seconds[-1]
    count = min(max(ceil(POINT_SECONDS / warm), least_steps), MOST_STEPS)
    step_seconds = backend.train(batches(count), unreported).step_seconds.tolist()
    return Point(step_seconds, peak_memory(), matrix_products(backend, emit, shapes={}))


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


def _batches(backend: Backend, rows: Batch, batch_size: int) -> Batches:
    """These rows in order as batches, which are trimmed to their longest sentences if the backend's are bucketed."""
    return Batches(rows, np.arange(len(rows)), batch_size, trimmed=backend.train_config.batches == "bucketed")


def _cpu_by_thread(process: psutil.Process) -> dict[int, float]:
    """Processor time of each thread in seconds, by the thread's id."""
    return {thread.id: thread.user_time + thread.system_time for thread in process.threads()}
