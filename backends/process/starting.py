"""Processes of backends that are started side by side."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from dataclasses import asdict
from time import sleep
from typing import Any, TypeVar

import psutil

from backends.process.parent import BackendProcess, Runtime
from common.config import ModelConfig, TrainConfig
from common.errors import RosettaError
from common.machine import cores

PROCESS_BYTES = 1 << 30  # memory that is to be free before one more process is started; none was seen to take more

Facts = dict[str, Any]  # those of BackendFacts
Item = TypeVar("Item")


@contextmanager
def started_side_by_side(
    items: Iterable[Item],
    launch: Callable[[Item], BackendProcess],
    failed: Callable[[Item, RosettaError], None],
    at_once: int | None = None,
) -> Iterator[Iterator[tuple[Item, BackendProcess]]]:
    """Each item with its process, which `launch` starts, as soon as the backend is open. In the end all are ended.

    `launch` is called in other threads. `failed` is called with an item whose process could not be started, and with
    the reason. At most `at_once` processes are being started at any time; by default as many as there are cores and
    memory for.
    """
    at_once = at_once or max(1, min(cores(), psutil.virtual_memory().available // PROCESS_BYTES))
    processes: list[BackendProcess] = []

    def opened(item: Item) -> BackendProcess:
        processes.append(process := launch(item))
        process.wait_until_open()
        return process

    def as_they_open() -> Iterator[tuple[Item, BackendProcess]]:
        for future in as_completed(items_of):
            try:
                process = future.result()
            except RosettaError as error:
                failed(items_of[future], error)
            else:
                yield items_of[future], process

    with ThreadPoolExecutor(at_once) as threads:
        items_of = {threads.submit(opened, item): item for item in items}
        try:
            yield as_they_open()
        finally:
            threads.shutdown(wait=False, cancel_futures=True)
            all_done = False
            while not all_done:  # a thread may be about to start a process
                all_done = all(future.done() for future in items_of)
                for process in processes:
                    process.close()
                sleep(0 if all_done else 0.02)


def describe_backends(
    names: Sequence[str], runtime: Runtime, on_found: Callable[[str, Facts], None]
) -> dict[str, Facts]:
    """The facts that each backend reports of itself, or as `missing` the reason why it cannot start.

    The processes are started side by side, and `on_found` is called with each backend as soon as it has answered.
    """
    model = ModelConfig(num_encoder_tokens=2, num_decoder_tokens=3, start_token=0, stop_token=1, latent_dim=4)
    found: dict[str, Facts] = {}

    def keep(name: str, facts: Facts) -> None:
        found[name] = facts
        on_found(name, facts)

    with started_side_by_side(
        names,
        lambda name: BackendProcess(name, model, TrainConfig(), runtime),
        lambda name, error: keep(name, {"missing": str(error)}),  # not there, or there and broken
    ) as started:
        for name, process in started:
            try:
                keep(name, asdict(process.facts))
            except RosettaError as error:
                keep(name, {"missing": str(error)})
            process.close()
    return {name: found[name] for name in names}
