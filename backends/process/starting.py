"""Processes of backends that are started side by side."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from selectors import EVENT_READ, DefaultSelector
from typing import TypeVar

import psutil

from backends.process.parent import START_SECONDS, BackendProcess
from common.errors import RosettaError
from common.machine import cores

PROCESS_BYTES = 1 << 30  # memory that is to be free before one more process is started; none was seen to take more

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
    to_start, answered = deque(items), deque[tuple[Item, BackendProcess]]()
    starting: dict[int, tuple[Item, BackendProcess]] = {}  # by the descriptor that tells when it has answered
    with DefaultSelector() as selector:
        while to_start or starting or answered:
            while to_start and len(starting) < at_once:  # before the caller does anything with one that has answered
                item = to_start.popleft()
                try:
                    process = launch(item)
                except RosettaError as error:
                    failed(item, error)
                else:
                    starting[selector.register(process, EVENT_READ).fd] = item, process
            if answered:
                item, process = answered.popleft()
                try:
                    process.facts  # noqa: B018 (raises the error with which the backend failed)
                except RosettaError as error:
                    failed(item, error)
                else:
                    yield item, process
            elif starting:
                ready = [key.fd for key, _ in selector.select(START_SECONDS)]
                for descriptor in ready or list(starting):  # of which `facts` tells that it said nothing for too long
                    selector.unregister(descriptor)
                    answered.append(starting.pop(descriptor))
