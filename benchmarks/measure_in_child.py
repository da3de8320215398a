"""Functions that measure a backend in its process.
Each is written once for all backends and measures one thing.

The parent process calls them one at a time, while the processes of all other backends sleep. Times
are seconds of `perf_counter`. The results go into a measurement as they are.
"""

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from time import perf_counter
from typing import Any

import numpy as np
from numpy.typing import NDArray

from backends.interface import Backend, Emit, unreported
from backends.process.translate_in_child import decode_greedily
from backends.profiling import profile
from benchmarks.schema import Profile, Turn, WarmUp
from common.machine import peak_memory
from common.tensors import Batch, Batches, max_decoded_length
from common.weights import Arrays, ModelState, initial_state

STEP_TENSORS = ("encoder_input_data", "decoder_input_data", "decoder_target_data", "target_weights")
AT_LEAST = 0.1  # seconds for which short work is repeated and timed
PROFILED_STEPS = 3
CHECKED_STEPS = 2


_epochs: dict[str, Batches] = {}  # the epoch on whose batches this process trains over and over


def part(first: int, steps: int) -> Batches:
    """Return batches of the kept epoch from number `first` on;
    its first batch follows its last one."""
    epoch = _epochs["epoch"]
    rows = np.arange(first * epoch.batch_size, (first + steps) * epoch.batch_size) % len(epoch.rows)
    return replace(epoch, rows=epoch.rows[rows])


def time_steps(backend: Backend, emit: Emit, *, first: int, lead: int, timed: int) -> Turn:
    """Train on the kept epoch from batch number `first` on,
    from the present weights. `lead` steps do not count."""
    batches = part(first, lead + timed)
    trained = backend.train(batches, unreported)
    seconds, finite = trained.step_seconds.tolist(), bool(np.isfinite(trained.step_losses).all())
    return Turn(
        0,
        seconds[:lead],
        seconds[lead:],
        trained.seconds,
        finite,
        batches.batch_size,
        peak=peak_memory(),
    )


def train_first_steps(backend: Backend, emit: Emit, *, epoch: Batches | None = None) -> Arrays:
    """Train the first steps from fresh weights, by the function that turns time,
    and return the weights.

    The steps are of the kept epoch, unless another one is given to be kept.
    """
    if epoch is not None:
        _epochs["epoch"] = epoch
    backend.load(initial_state(backend.config, backend.train_config.seed))
    backend.train(part(0, CHECKED_STEPS), unreported)
    return backend.dump().weights


def warm_up(backend: Backend, emit: Emit, *, epoch: Batches, steps: int) -> WarmUp:
    """Keep an epoch. From fresh weights, train one cold step on its first batch,
    then `steps` steps from there on."""
    _epochs["epoch"] = epoch
    batches = part(0, steps)
    backend.load(initial_state(backend.config, backend.train_config.seed))
    first = seconds_of(lambda: backend.train(batches.part(0, 1), unreported))
    trained = backend.train(batches, unreported)
    return WarmUp(first, trained.step_seconds.tolist(), peak_memory())


def decode(backend: Backend, emit: Emit, *, state: ModelState, batch: Batch) -> NDArray[np.int64]:
    """Return the ids (N, L) of the translations of a batch's sources
    with the weights of `state`."""
    backend.load(state)
    return decode_greedily(backend, emit, **_sources(batch))


def time_decoding(
    backend: Backend, emit: Emit, *, state: ModelState, batch: Batch
) -> tuple[Turn, NDArray[np.int64]]:
    """Time calls that decode a batch's sources, for at least AT_LEAST seconds,
    after one call that is not timed.

    Returns the ids (N, L) of the last call, too, padded with the stop token.
    """
    backend.load(state)
    decode = partial(backend.translate, *_sources(batch).values())
    items = int(characters(decode(), backend.config.stop_token).sum())
    seconds: list[float] = []
    while sum(seconds) < AT_LEAST:
        began = perf_counter()
        ids = decode()
        seconds.append(perf_counter() - began)
    padded = np.full((len(ids), _longest(batch)), backend.config.stop_token)
    padded[:, : ids.shape[1]] = ids
    return Turn(0, [], seconds, sum(seconds), items=items), padded


def characters(ids: NDArray[np.integer], stop_token: int) -> NDArray[np.int64]:
    """The number of characters (N,) in each row of ids (N, L),
    up to and with the sentence's last one."""
    ends = ids == stop_token
    counts: NDArray[np.int64] = np.where(ends.any(1), ends.argmax(1) + 1, ids.shape[1])
    return counts


def _sources(batch: Batch) -> dict[str, Any]:
    """The arguments for translating a batch's sources."""
    return {
        "encoder_ids": batch.encoder_ids,
        "encoder_lengths": batch.encoder_lengths,
        "max_length": _longest(batch),
    }


def _longest(batch: Batch) -> int:
    """The most characters that a batch's translations may have."""
    return max_decoded_length(batch.decoder_input_ids.shape[1])


def profile_steps(backend: Backend, emit: Emit, *, steps: int) -> Profile | None:
    """Profile training steps, if the framework has a profiler here."""
    batches = part(0, steps)
    told = profile(backend, batches)
    if told is None:
        return None

    def make_tensors() -> None:
        for batch in batches:
            for name in (*STEP_TENSORS, "real_positions"):
                getattr(batch, name)

    return Profile(len(batches), *told, seconds_of(make_tensors))


def seconds_of(work: Callable[[], Any]) -> float:
    """Seconds that one call of `work` takes."""
    start = perf_counter()
    work()
    return perf_counter() - start
