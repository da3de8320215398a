"""What is measured, each scenario written once against the interface; runs in the backend's process.

Times are read from perf_counter. What is compiled has run at least twice, in each shape, before it is timed. The
first step alone is cold.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from math import ceil
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
import psutil
from numpy.typing import NDArray

from benchmarks.ladder import TENSORS, Block, packed, unpacked
from common.config import TrainConfig
from common.decoding import Emit
from common.interface import Backend, unreported
from common.tensors import Batch, Batches, epoch_batches, epoch_order
from common.training import train_epoch
from common.weights import initial_state

WARM_UP = 2  # executions before anything is timed, beside the cold one
PROFILED_STEPS = 3
AT_LEAST = 0.1  # seconds that a timed block lasts
PRODUCT_SECONDS = 0.2
POINT_SECONDS = 0.5  # of the steps of a sweep's point
MOST_STEPS = 100  # of them, where a step takes next to nothing
LARGE = 2048  # of the square matrices at which the machine's peak is looked for
MADE = (*TENSORS, "real_positions")  # of a batch, by every step
BUSY = 0.05  # of the training's time: a thread that used more of a core worked on it


@dataclass(frozen=True, eq=False)
class Text:
    """Sources to decode, with the weights to decode with, the same for every backend."""

    source_ids: NDArray[np.integer]  # (N, T_enc)
    source_lengths: NDArray[np.integer]  # (N,)
    max_length: int
    state: Block


def cell(
    backend: Backend,
    emit: Emit,
    *,
    steps: int,
    training_rows: NDArray[np.integer],
    validation_rows: NDArray[np.integer],
    source_ids: NDArray[np.integer],
    source_lengths: NDArray[np.integer],
    max_length: int,
    state: Block,
    in_batch: bool,
    singles: int,
    longest: int,
    repeats: int,
    products: bool,
    profile: bool,
    **corpus: Any,
) -> Mapping[str, Any]:
    """Every scenario in the order of the fields that it gives; see each one for what they hold.

    Decoding is None where it is not done: `in_batch` is false, or there are no `singles`.
    """
    rows, settings = Batch(**corpus), backend.train_config
    seed, batch_size = settings.seed, settings.batch_size
    sources = Text(source_ids, source_lengths, max_length, state)
    validation = Batches(rows, validation_rows[: _whole(len(validation_rows), batch_size)], batch_size)
    timed = timed_batches(rows, training_rows, settings, steps)
    backend.load(initial_state(backend.config, seed))
    emit(scenario="first step")
    first = timed.part(0, 1)
    measured: dict[str, Any] = {"first_step_seconds": seconds_of(lambda: backend.train(first, unreported))}
    emit(scenario="training")
    of_each_shape = timed.one_of_each_shape()
    for _ in range(WARM_UP):
        backend.train(of_each_shape, unreported)
    measured["training"] = training(backend, timed)
    measured["memory"] = {"peak": peak_memory()}
    emit(scenario="evaluation")
    measured["evaluation"] = evaluation(backend, validation)
    emit(scenario="decoding")
    backend.load(unpacked(sources.state))
    measured["decoding"] = decoding(backend, sources) if in_batch else None
    measured["singles"] = one_by_one(backend, sources, singles) if singles else None
    measured["longest"] = again_and_again(backend, sources, longest, repeats) if singles else None
    if products:
        emit(scenario="matrix products")
        measured["products"] = matrix_products(backend, emit, shapes=model_shapes(rows, batch_size, backend))
    if profile:
        emit(scenario="kernels")
        backend.load(initial_state(backend.config, seed))
        measured |= profiled(backend, timed.part(0, PROFILED_STEPS))
    return measured


def timed_batches(corpus: Batch, training_rows: NDArray[np.integer], settings: TrainConfig, steps: int) -> Batches:
    """What the steps that are timed train on.

    Shuffled: `steps` whole batches, from one epoch into the next, so that there is one shape to compile. Bucketed: an
    epoch, since its batches differ in width and a few would be no sample of it.
    """
    if settings.batches == "bucketed":
        return epoch_batches(corpus, training_rows, settings, 1)
    epochs = range(1, 2 + steps * settings.batch_size // len(training_rows))
    order = np.concatenate([epoch_batches(corpus, training_rows, settings, epoch).rows for epoch in epochs])
    return Batches(corpus, order, settings.batch_size).part(0, steps)


def training(backend: Backend, batches: Batches) -> dict[str, Any]:
    """Warm steps: `step_seconds` and `losses`, one a step; `loop_seconds`, from the first step's start until all is
    read back, for `samples` rows in batches of `batch_size`; `data_seconds`, to make the same batches' tensors again;
    the operating system's `threads`: `all` of the process, and those `busy` with it."""
    process = psutil.Process()
    before = _cpu_by_thread(process)
    trained = backend.train(batches, unreported)
    after = _cpu_by_thread(process)
    spent = [cpu - before.get(thread, 0.0) for thread, cpu in after.items()]
    return {
        "step_seconds": trained.step_seconds.tolist(),
        "loop_seconds": trained.seconds,
        "samples": len(batches.rows),
        "batch_size": batches.batch_size,
        "losses": trained.step_losses.tolist(),
        "data_seconds": data_seconds(batches),
        "threads": {"all": len(after), "busy": sum(s > BUSY * trained.seconds for s in spent)},
    }


def profiled(backend: Backend, batches: Batches) -> dict[str, Any]:
    """The `kernels` of a pass that is not timed; as `profiled` its `steps`, their `seconds` under the profiler, and
    the `busy_seconds` of these in which a kernel was running."""
    found = asdict(backend.profile(batches))
    return {"kernels": found.pop("kernels"), "profiled": {"steps": len(batches), **found}}


def data_seconds(batches: Batches) -> float:
    """Seconds to make the tensors of these batches, one batch after the other."""

    def make() -> None:
        for batch in batches:
            for name in MADE:
                getattr(batch, name)

    return seconds_of(make)


def evaluation(backend: Backend, batches: Batches) -> dict[str, Any]:
    """`seconds` of each pass over `samples` rows."""
    backend.evaluate(batches.part(0, WARM_UP))
    seconds: list[float] = []
    while sum(seconds) < AT_LEAST:
        seconds.append(backend.evaluate(batches).seconds)
    return {"seconds": seconds, "samples": len(batches.rows)}


def decoding(backend: Backend, text: Text) -> dict[str, Any]:
    """All sources in one call: `seconds` of each call, and the `sentences` and `characters` that it puts out."""
    for _ in range(WARM_UP):
        ids = backend.translate(text.source_ids, text.source_lengths, text.max_length)
    seconds: list[float] = []
    while len(seconds) < 2 or sum(seconds) < AT_LEAST:
        seconds.append(seconds_of(lambda: backend.translate(text.source_ids, text.source_lengths, text.max_length)))
    characters = int(_put_out(ids, backend.config.stop_token).sum())
    return {"seconds": seconds, "sentences": len(ids), "characters": characters}


def one_by_one(backend: Backend, text: Text, singles: int) -> dict[str, Any]:
    """The first sources, each by itself: `seconds` and `characters`, one a source."""
    rows = [slice(row, row + 1) for row in range(min(singles, len(text.source_ids)))]
    for row in rows[:WARM_UP]:
        backend.translate(text.source_ids[row], text.source_lengths[row], text.max_length)
    seconds, characters = [], []
    for row in rows:
        start = perf_counter()
        ids = backend.translate(text.source_ids[row], text.source_lengths[row], text.max_length)
        seconds.append(perf_counter() - start)
        characters.append(int(_put_out(ids, backend.config.stop_token)[0]))
    return {"seconds": seconds, "characters": characters}


def again_and_again(backend: Backend, text: Text, row: int, repeats: int) -> dict[str, Any]:
    """One source by itself, `repeats` times or more, warm since others were before it.

    Gives the `seconds` of each time, and the `characters` that it puts out.
    """
    source = text.source_ids[row : row + 1], text.source_lengths[row : row + 1]
    seconds: list[float] = []
    while len(seconds) < repeats or sum(seconds) < AT_LEAST:
        start = perf_counter()
        ids = backend.translate(*source, text.max_length)
        seconds.append(perf_counter() - start)
    return {"seconds": seconds, "characters": int(_put_out(ids, backend.config.stop_token)[0])}


def matrix_products(backend: Backend, emit: Emit, *, shapes: Mapping[str, Sequence[int]]) -> dict[str, Any]:
    """Of each named shape (m, k, n): the `shape` and the `flops`, floating-point operations a second."""
    shapes = {"large": (LARGE, LARGE, LARGE), **shapes}
    return {
        name: {"shape": [m, k, n], "flops": backend.matrix_product(m, k, n, PRODUCT_SECONDS)}
        for name, (m, k, n) in shapes.items()
    }


def model_shapes(rows: Batch, batch_size: int, backend: Backend) -> dict[str, tuple[int, int, int]]:
    """The products that a training step is made of: all time steps' inputs at once, one step's states, the logits."""
    config, gates = backend.config, 4 * backend.config.latent_dim
    positions = batch_size * rows.decoder_input_ids.shape[1]
    return {
        "inputs": (positions, config.num_decoder_tokens, gates),
        "states": (batch_size, config.latent_dim, gates),
        "logits": (positions, config.latent_dim, config.num_decoder_tokens),
    }


def learn(
    backend: Backend,
    emit: Emit,
    *,
    epochs: int,
    seed: int,
    training_rows: NDArray[np.integer],
    validation_rows: NDArray[np.integer],
    **corpus: Any,
) -> Mapping[str, Any]:
    """Train from the seed's weights; emits an epoch's figures as `epoch_done` with the `state` after it.

    Gives the `peak` of memory, in bytes.
    """
    backend.load(initial_state(backend.config, seed))
    settings = replace(backend.train_config, seed=seed)
    validation = Batches(Batch(**corpus), validation_rows, settings.batch_size)
    for epoch in range(1, epochs + 1):
        # Nobody is told of the steps: who draws a progress bar meanwhile is measured too.
        trained, validated = train_epoch(backend, lambda **event: None, training_rows, validation, settings, epoch)
        figures = {
            "epoch": epoch,
            "seconds": trained.seconds,
            "samples": len(training_rows),
            "loss": trained.loss,
            "val_loss": validated.loss,
            "val_accuracy": validated.accuracy,
            "val_accuracy_real": validated.accuracy_real,
        }
        emit(epoch_done=figures, state=packed(backend.dump()))
    return {"peak": peak_memory()}


def point(
    backend: Backend, emit: Emit, *, batch_size: int, seed: int, least_steps: int, **corpus: Any
) -> Mapping[str, Any]:
    """Warm steps on these rows, over and over: `step_seconds`, one a step; the `peak` of memory until then, in bytes.

    Also the machine's `products`, so that a sweep by itself has a peak to be compared with.
    """
    rows = Batch(**corpus)
    order = epoch_order(len(rows), seed, 1)

    def steps(count: int) -> Batches:
        return Batches(rows, np.resize(order, count * batch_size), batch_size)

    backend.load(initial_state(backend.config, seed))
    warm = backend.train(steps(1 + WARM_UP), unreported).step_seconds[-1]
    count = min(max(ceil(POINT_SECONDS / warm), least_steps), MOST_STEPS)
    step_seconds = backend.train(steps(count), unreported).step_seconds.tolist()
    peak = peak_memory()
    return {"step_seconds": step_seconds, "peak": peak, "products": matrix_products(backend, emit, shapes={})}


def peak_memory() -> int:
    """The most bytes that this process ever had resident."""
    status = Path("/proc/self/status")
    if status.exists():
        fields = dict(line.split(":", 1) for line in status.read_text(encoding="ascii").splitlines())
        return int(fields["VmHWM"].split()[0]) * 1024
    import resource

    # Elsewhere; on Linux this would count what the parent had when it started the process.
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def _whole(num_rows: int, batch_size: int) -> int:
    """The rows that fill whole batches, or all where there are fewer than one batch."""
    return num_rows // batch_size * batch_size or num_rows


def seconds_of(work: Callable[[], Any]) -> float:
    """That the work takes, done once."""
    start = perf_counter()
    work()
    return perf_counter() - start


def _put_out(ids: NDArray[np.integer], stop_token: int) -> NDArray[np.int64]:
    """(N,) characters of each row up to and with its "\\n"."""
    stopped = ids == stop_token
    counts: NDArray[np.int64] = np.where(stopped.any(1), stopped.argmax(1) + 1, ids.shape[1])
    return counts


def _cpu_by_thread(process: psutil.Process) -> dict[int, float]:
    """Seconds of processor time by thread."""
    return {thread.id: thread.user_time + thread.system_time for thread in process.threads()}
