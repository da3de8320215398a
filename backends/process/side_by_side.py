"""The same texts translated by several backends, one backend at a time, and how long each of them takes."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import psutil

from backends.process.group import PROCESS_BYTES, started_side_by_side
from backends.process.parent import BackendProcess, Runtime
from backends.process.translate_in_child import Answer
from backends.process.translating import launch, translate
from common.errors import RosettaError
from common.run import RunDirectory


class SideBySide:
    """Backends with the weights of one run. One that fails is left out from then on. Several threads may ask."""

    def __init__(self, warn: Callable[[str], None]) -> None:
        self.processes: dict[str, BackendProcess] = {}  # by backend, in the order in which they answer
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
                given[name] = translate(process, texts, beam=beam, alone=True, characters=characters)
        if not given:
            raise RosettaError(next(iter(self.left_out.values())))
        return [{name: answers[row] for name, answers in given.items()} for row in range(len(texts))]

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
    run: RunDirectory, weights: str, runtime: Runtime, names: Sequence[str], warn: Callable[[str], None]
) -> Iterator[SideBySide]:
    """A run in these backends, once all are open; in the end their processes are ended.

    They are started side by side. Each translates as soon as it is open, so that what a framework compiles is
    compiled while others are started.
    """

    def start(name: str) -> BackendProcess:
        if psutil.virtual_memory().available < PROCESS_BYTES:
            raise RosettaError("too little memory is free for one more backend")
        return launch(run, weights, runtime, name)

    together, opened = SideBySide(warn), dict[str, BackendProcess]()
    any_text = next(filter(str.strip, run.vocabularies()[0].characters), "")
    with started_side_by_side(names, start) as started:
        for name, future in started:
            with together.leaving_out(name):
                translate(future.result(), [any_text])
                opened[name] = future.result()
        together.processes = {name: opened[name] for name in names if name in opened}
        yield together
