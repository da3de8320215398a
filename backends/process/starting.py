"""Processes of backends that are started side by side."""

import select
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict
from typing import Any, TypeVar

import psutil

from backends.process.parent import START_SECONDS, BackendProcess, Runtime
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

    `failed` is called with an item whose process could not be started, and with the reason. At most `at_once`
    processes are being started at any time; by default as many as there are cores and memory for.
    """
    at_once = at_once or max(1, min(cores(), psutil.virtual_memory().available // PROCESS_BYTES))
    with ExitStack() as stack:
        yield _as_they_open(items, lambda item: stack.enter_context(launch(item)), failed, at_once)


def _as_they_open(
    items: Iterable[Item],
    launch: Callable[[Item], BackendProcess],
    failed: Callable[[Item, RosettaError], None],
    at_once: int,
) -> Iterator[tuple[Item, BackendProcess]]:
    to_start, starting, answered = deque(items), dict[BackendProcess, Item](), deque[tuple[BackendProcess, Item]]()
    while to_start or starting or answered:
        while to_start and len(starting) < at_once:  # before the caller does anything with one that has answered
            item = to_start.popleft()
            try:
                starting[launch(item)] = item
            except RosettaError as error:
                failed(item, error)
        if starting and not answered:
            ready, _, _ = select.select(list(starting), [], [], START_SECONDS)
            # Where none has answered for so long, `wait_until_open` raises the error of each.
            answered.extend((process, starting.pop(process)) for process in ready or list(starting))
        if answered:
            process, item = answered.popleft()
            try:
                process.wait_until_open()
            except RosettaError as error:
                failed(item, error)
            else:
                yield item, process


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
