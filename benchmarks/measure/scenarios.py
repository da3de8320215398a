"""What is measured, each scenario written once against the interface; runs in the backend's process.

Times are read from perf_counter. The parent decides when a scenario runs, and sees to it that nothing else does.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from math import ceil
from pathlib import Path
from time import perf_counter
from typing import Annotated, Any

import msgspec
import numpy as np
import psutil
from numpy.typing import NDArray

from common.decoding import Emit
from common.interface import Backend, Kernel, unreported
from common.tensors import Batch, Batches, epoch_order
from common.training import train_epoch
from common.weights import ModelState, initial_state

AT_LEAST = 0.1  # seconds that decoding is timed for
PROFILED_STEPS = 3
PRODUCT_SECONDS = 0.2
LARGE = 2048  # of the square matrices at which the machine's peak is looked for
BUSY = 0.05  # share of a core that a thread used during training at which it counts as busy
POINT_WARM_UP = 3  # steps of a sweep's point before those that are timed, the cold one among them
POINT_SECONDS = 0.5  # of the steps of a sweep's point
MOST_STEPS = 100  # of them, where a step takes next to nothing
MADE = ("encoder_input_data", "decoder_input_data", "decoder_target_data", "target_weights", "real_positions")


# What was timed takes some time, and ends: what is recorded is held to it, so that it can be divided by.
Seconds = Annotated[float, msgspec.Meta(ge=1e-9, le=1e9)]
Count = Annotated[int, msgspec.Meta(ge=1)]


@dataclass(frozen=True)
class Steps:
    """Training steps one after another."""

    step_seconds: list[float]  # of each, from the end of the one before
    seconds: float  # from the first one's start until all losses are read back
    finite: bool  # whether every loss is


def steps(backend: Backend, emit: Emit, *, rows: Batch, batch_size: int) -> Steps:
    """Train on these rows in their order, with the weights as they are; bucketed batches are trimmed."""
    trained = backend.train(_batches(backend, rows, batch_size), unreported)
    finite = bool(np.isfinite(trained.step_losses).all())
    return Steps(trained.step_seconds.tolist(), trained.seconds, finite)


@dataclass(frozen=True)
class WarmUp:
    """The first steps of a process."""

    first_step_seconds: Seconds  # with all that it compiles
    step_seconds: list[Seconds]  # of those after it
    peak: int  # bytes that the process had resident at most, until then
    threads: int  # of the operating system
    busy_threads: int  # of these, those that worked while it trained


def warm_up(backend: Backend, emit: Emit, *, rows: Batch, batch_size: int) -> WarmUp:
    """From fresh weights, one cold step and then warm ones, one for each batch of these rows and shape."""
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
    busy = sum(seconds > BUSY * trained.seconds for seconds in spent)
    return WarmUp(first, trained.step_seconds.tolist(), peak_memory(), len(after), busy)


def load(backend: Backend, emit: Emit, *, state: ModelState) -> None:
    """Weights and optimizer slots to go on with."""
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
    """Seconds of each call that decodes these sources with the weights of `state`, after one that does not count."""
    backend.load(state)
    backend.translate(encoder_ids, encoder_lengths, max_length)
    seconds: list[float] = []
    while sum(seconds) < AT_LEAST:
        seconds.append(seconds_of(lambda: backend.translate(encoder_ids, encoder_lengths, max_length)))
    return seconds


class Product(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A matrix product (m, k) @ (k, n) by the backend's framework."""

    name: str  # "large", or the part of the model that it is
    shape: tuple[int, int, int]  # m, k, n
    flops: Annotated[float, msgspec.Meta(ge=1.0)]  # floating-point operations a second


@dataclass(frozen=True)
class Profile:
    """Training under the framework's own profiler, which slows what it watches."""

    steps: Count
    seconds: Seconds  # of these steps
    busy_seconds: float  # of these, in which at least one kernel was running
    kernels: list[Kernel]
    data_seconds: float  # to make the tensors of these steps, by itself


def profiled(backend: Backend, emit: Emit, *, rows: Batch, batch_size: int) -> Profile:
    """Which kernels ran in a few steps, in a pass that is not timed."""
    batches = _batches(backend, rows, batch_size).part(0, PROFILED_STEPS)
    found = backend.profile(batches)
    return Profile(len(batches), found.seconds, found.busy_seconds, found.kernels, data_seconds(batches))


def matrix_products(backend: Backend, emit: Emit, *, shapes: dict[str, tuple[int, int, int]]) -> list[Product]:
    """The machine's large product, and those of the named shapes (m, k, n)."""
    shapes = {"large": (LARGE, LARGE, LARGE), **shapes}
    return [Product(name, shape, backend.matrix_product(*shape, PRODUCT_SECONDS)) for name, shape in shapes.items()]


@dataclass(frozen=True)
class EpochDone:
    """What a scored training tells of an epoch."""

    seconds: float  # of the training steps
    loss: float
    val_loss: float
    val_accuracy: float
    val_accuracy_real: float


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
    """Train from the seed's weights; emits `epoch_done` with an EpochDone's fields and the `state` after it.

    Returns the bytes that the process had resident at most.
    """
    backend.load(initial_state(backend.config, seed))
    settings = replace(backend.train_config, seed=seed)
    validation = Batches(corpus, validation_rows, settings.batch_size)
    for epoch in range(1, epochs + 1):
        # Nobody is told of the steps: who draws a progress bar meanwhile is measured too.
        trained, validated = train_epoch(backend, lambda **event: None, training_rows, validation, settings, epoch)
        accuracies = validated.accuracy, validated.accuracy_real
        emit(
            epoch_done=vars(EpochDone(trained.seconds, trained.loss, validated.loss, *accuracies)),
            state=vars(backend.dump()),
        )
    return peak_memory()


@dataclass(frozen=True)
class Point:
    """A training step at one size of one axis of a sweep."""

    step_seconds: Annotated[list[Seconds], msgspec.Meta(min_length=1)]
    peak: int  # bytes that the process had resident at most, until then
    products: list[Product]  # so that a sweep by itself has a peak to be compared with


def point(backend: Backend, emit: Emit, *, rows: Batch, batch_size: int, seed: int, least_steps: int) -> Point:
    """Warm steps on these rows, over and over."""
    order = epoch_order(len(rows), seed, 1)

    def some(count: int) -> Batches:
        return Batches(rows, np.resize(order, count * batch_size), batch_size)

    backend.load(initial_state(backend.config, seed))
    warm = backend.train(some(POINT_WARM_UP), unreported).step_seconds[-1]
    count = min(max(ceil(POINT_SECONDS / warm), least_steps), MOST_STEPS)
    step_seconds = backend.train(some(count), unreported).step_seconds.tolist()
    return Point(step_seconds, peak_memory(), matrix_products(backend, emit, shapes={}))


def data_seconds(batches: Batches) -> float:
    """Seconds to make the tensors of these batches, one batch after the other."""

    def make() -> None:
        for batch in batches:
            for name in MADE:
                getattr(batch, name)

    return seconds_of(make)


def seconds_of(work: Callable[[], Any]) -> float:
    """That the work takes, done once."""
    start = perf_counter()
    work()
    return perf_counter() - start


def peak_memory() -> int:
    """The most bytes that this process ever had resident."""
    status = Path("/proc/self/status")
    if status.exists():
        fields = dict(line.split(":", 1) for line in status.read_text(encoding="ascii").splitlines())
        return int(fields["VmHWM"].split()[0]) * 1024
    import resource

    # Elsewhere; on Linux this would count what the parent had when it started the process.
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def _batches(backend: Backend, rows: Batch, batch_size: int) -> Batches:
    return Batches(rows, np.arange(len(rows)), batch_size, trimmed=backend.train_config.batches == "bucketed")


def _cpu_by_thread(process: psutil.Process) -> dict[int, float]:
    """Seconds of processor time by thread."""
    return {thread.id: thread.user_time + thread.system_time for thread in process.threads()}
