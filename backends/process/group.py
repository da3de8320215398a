"""Several processes of one backend on this machine, which form a group and are asked the same at once."""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from typing import TypeVar

from backends.engines import engine_of, free_addresses
from backends.process.parent import BackendProcess
from backends.process.runtime import Runtime
from backends.process.starting import started_side_by_side
from common.config import ModelConfig, TrainConfig
from common.errors import RosettaError

Result = TypeVar("Result")


@contextmanager
def started_group(
    size: int, runtime: Runtime, backend: str, model: ModelConfig, train: TrainConfig
) -> Iterator[list[BackendProcess]]:
    """The processes of a group of so many workers, the first worker's first. In the end they are ended."""
    engine, addresses = engine_of(backend), free_addresses(size)

    def launch(rank: int) -> BackendProcess:
        return runtime.launch(backend, model, train, engine.variables(rank, addresses))

    def failed(rank: int, error: RosettaError) -> None:
        raise error

    with started_side_by_side(range(size), launch, failed, at_once=size) as started:  # they wait for each other
        processes = dict(started)
        yield [processes[rank] for rank in range(size)]


def ask_each(processes: Sequence[BackendProcess], ask: Callable[[BackendProcess], Result]) -> list[Result]:
    """What `ask` returns for each process, all at once, each in a thread.

    Raises the first error, after all processes have been ended, since the others wait for the one that failed.
    """
    with ThreadPoolExecutor(len(processes)) as threads:
        futures = [threads.submit(ask, process) for process in processes]
        try:
            for future in as_completed(futures):
                future.result()
        except BaseException:
            for process in processes:
                process.close()
            raise
    return [future.result() for future in futures]
