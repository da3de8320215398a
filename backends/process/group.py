"""Several processes of one backend on this machine, which form a group and are asked the same at once."""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from typing import TypeVar

from backends.engines import engine_of, free_addresses
from backends.process.parent import BackendProcess
from backends.process.runtime import Runtime
from common.config import ModelConfig, TrainConfig

Asked = TypeVar("Asked")
Result = TypeVar("Result")


@contextmanager
def started_group(
    size: int, runtime: Runtime, backend: str, model: ModelConfig, train: TrainConfig
) -> Iterator[list[BackendProcess]]:
    """The processes of a group of so many workers, the first worker's first. In the end they are ended."""
    engine, addresses = engine_of(backend), free_addresses(size)

    def start(rank: int) -> BackendProcess:
        return runtime.start(backend, model, train, engine.variables(rank, addresses))

    processes = _of_each(range(size), start)
    try:
        yield processes
    finally:
        _close(processes)


def ask_each(processes: Sequence[BackendProcess], ask: Callable[[BackendProcess], Result]) -> list[Result]:
    """What `ask` returns for each process, all at once. Where one fails, all are ended: the others wait for it."""
    return _of_each(processes, ask, lambda: _close(processes))


def _of_each(
    items: Sequence[Asked], function: Callable[[Asked], Result], on_error: Callable[[], None] = lambda: None
) -> list[Result]:
    """The function's results for all items, each computed in a thread of its own. Raises the first error."""
    with ThreadPoolExecutor(len(items)) as threads:
        futures = [threads.submit(function, item) for item in items]
        try:
            for future in as_completed(futures):
                future.result()
        except BaseException:
            on_error()
            raise
    return [future.result() for future in futures]


def _close(processes: Sequence[BackendProcess]) -> None:
    for process in processes:
        process.close()
