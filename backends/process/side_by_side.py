"""Several backends side by side: their start,
and translations of the same texts by one backend at a time."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from time import sleep
from typing import TypeVar

import psutil

from backends.process.parent import BackendProcess, Runtime
from backends.process.translate_in_child import Answer
from backends.process.translating import launch, request_answers
from common.errors import RosettaError
from common.machine import cores
from common.run import RunDirectory

# Memory that is to be free before one more process is started; none was seen to take more.
PROCESS_BYTES = 1 << 30

Item = TypeVar("Item")


@contextmanager
def start_side_by_side(
    items: Iterable[Item], launch: Callable[[Item], BackendProcess], at_once: int | None = None
) -> Iterator[Iterator[tuple[Item, "Future[BackendProcess]"]]]:
    """Start a process for each item by `launch`; yield the pairs as soon as each is open.
    In the end all are ended.

    The `result()` of an item is its process, or raises the reason why it could not be started.
    `launch` is called in other threads. At most `at_once` processes are being started at any time;
    by default as many as there are cores and memory for.
    """
    at_once = at_once or max(1, min(cores(), psutil.virtual_memory().available // PROCESS_BYTES))
    processes: list[BackendProcess] = []

    def opened(item: Item) -> BackendProcess:
        processes.append(process := launch(item))
        process.wait_until_open()
        return process

    with ThreadPoolExecutor(at_once) as threads:
        items_of = {threads.submit(opened, item): item for item in items}
        try:
            yield ((items_of[future], future) for future in as_completed(items_of))
        finally:
            threads.shutdown(wait=False, cancel_futures=True)
            all_done = False
            while not all_done:  # a thread may be about to start a process
                all_done = all(future.done() for future in items_of)
                for process in processes:
                    process.close()
                sleep(0 if all_done else 0.02)


class SideBySide:
    """Backends with the weights of one run. One that fails is left out from then on.
    Several threads may ask."""

    def __init__(self, warn: Callable[[str], None]) -> None:
        # By backend, in the order in which they answer.
        self.processes: dict[str, BackendProcess] = {}
        self.left_out: dict[str, str] = {}  # backends, and why
        self._warn = warn

    def answers(
        self, texts: Sequence[str], beam: int | None = None, characters: bool = False
    ) -> list[dict[str, Answer]]:
        """Return each text's answers by backend, with the time of decoding each text by itself.

        Raises RosettaError where no backend is left.
        """
        given: dict[str, list[Answer]] = {}
        for name, process in list(self.processes.items()):
            with self.leaving_out(name):
                given[name] = request_answers(
                    process, texts, beam=beam, alone=True, characters=characters
                )
        if not given:
            raise RosettaError(next(iter(self.left_out.values())))
        return [
            {name: answers[row] for name, answers in given.items()} for row in range(len(texts))
        ]

    @contextmanager
    def leaving_out(self, name: str) -> Iterator[None]:
        """Leave a backend out from now on where it fails in the block."""
        try:
            yield
        except RosettaError as error:
            self.processes.pop(name, None)
            if name not in self.left_out:  # by another thread
                self.left_out[name] = str(error)
                self._warn(f"{name} is left out: {error}")


@contextmanager
def open_side_by_side(
    run: RunDirectory,
    weights: str,
    runtime: Runtime,
    names: Sequence[str],
    warn: Callable[[str], None],
) -> Iterator[SideBySide]:
    """A run in these backends, once all are open; in the end their processes are ended.

    They are started side by side. Each translates as soon as it is open, so that what a framework
    compiles is compiled while others are started.
    """

    def start(name: str) -> BackendProcess:
        if psutil.virtual_memory().available < PROCESS_BYTES:
            raise RosettaError("too little memory is free for one more backend")
        return launch(run, weights, runtime, name)

    together, opened = SideBySide(warn), dict[str, BackendProcess]()
    any_text = next(filter(str.strip, run.vocabularies[0].characters), "")
    with start_side_by_side(names, start) as started:
        for name, future in started:
            with together.leaving_out(name):
                request_answers(future.result(), [any_text])
                opened[name] = future.result()
        together.processes = {name: opened[name] for name in names if name in opened}
        yield together
