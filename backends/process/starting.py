"""Processes of backends that are started side by side."""

import select
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict
from math import inf
from time import monotonic
from typing import Any, TypeVar

import psutil

from backends.process.parent import BackendProcess, Runtime
from common.config import ModelConfig, TrainConfig
from common.errors import RosettaError
from common.machine import cores

PROCESS_BYTES = 1 << 30  # memory that is to be free before one more process is started; none was seen to take more
NOTICE_SECONDS = 10.0  # after which a process that is still starting is late

Facts = dict[str, Any]  # those of BackendFacts
Item = TypeVar("Item")


@contextmanager
def started_side_by_side(
    items: Iterable[Item],
    launch: Callable[[Item], BackendProcess],
    failed: Callable[[Item, RosettaError], None],
    at_once: int | None = None,
    late: Callable[[Item], None] = lambda item: None,
) -> Iterator[Iterator[tuple[Item, BackendProcess]]]:
    """Each item with its process, which `launch` starts, as soon as the backend is open. In the end all are ended.

    `failed` is called with an item whose process could not be started, and with the reason; `late` once with each
    whose backend is not open after NOTICE_SECONDS. At most `at_once` processes are being started at any time; by
    default as many as there are cores and memory for. Each has the time that a process may take from its own start.
    """
    at_once = at_once or max(1, min(cores(), psutil.virtual_memory().available // PROCESS_BYTES))
    with ExitStack() as stack:
        yield _as_they_open(items, lambda item: stack.enter_context(launch(item)), failed, at_once, late)


def _as_they_open(
    items: Iterable[Item],
    launch: Callable[[Item], BackendProcess],
    failed: Callable[[Item, RosettaError], None],
    at_once: int,
    late: Callable[[Item], None],
) -> Iterator[tuple[Item, BackendProcess]]:
    to_start, starting, answered = deque(items), dict[BackendProcess, Item](), deque[tuple[BackendProcess, Item]]()
    in_time = deque[tuple[float, BackendProcess]]()  # those that are not late yet, and when they will be
    while to_start or starting or answered:
        while to_start and len(starting) < at_once:  # before the caller does anything with one that has answered
            item = to_start.popleft()
            try:
                process = launch(item)
            except RosettaError as error:
                failed(item, error)
            else:
                starting[process] = item
                in_time.append((monotonic() + NOTICE_SECONDS, process))
        if starting and not answered:
            until_late = in_time[0][0] - monotonic() if in_time else inf
            answered.extend((process, starting.pop(process)) for process in _answering(list(starting), until_late))
            while in_time and in_time[0][0] <= monotonic():
                if (process := in_time.popleft()[1]) in starting:
                    late(starting[process])
        if answered:
            process, item = answered.popleft()
            try:
                process.wait_until_open()
            except RosettaError as error:
                failed(item, error)
            else:
                yield item, process


def _answering(starting: Sequence[BackendProcess], seconds: float) -> list[BackendProcess]:
    """Those that have answered within so many seconds, were closed, or whose time to start is over."""
    poller, of_descriptor = select.poll(), {process.fileno(): process for process in starting}
    over = [process for number, process in of_descriptor.items() if number < 0 or not process.seconds_to_start()]
    if over:
        return over  # whose `wait_until_open` raises its error
    for descriptor in of_descriptor:
        poller.register(descriptor, select.POLLIN)
    left = min(seconds, *(process.seconds_to_start() for process in starting))
    return [of_descriptor[descriptor] for descriptor, _ in poller.poll(1000 * max(0.0, left))]


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
