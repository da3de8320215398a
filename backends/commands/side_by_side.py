"""The same texts translated by several backends, one backend at a time, and how long each of them takes."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from typing import Any

import psutil
from msgspec.structs import replace

from backends.process.group import PROCESS_BYTES, started_side_by_side
from backends.process.parent import BackendProcess
from backends.process.translating import Answer, Opener, Translator
from common.errors import RosettaError

# Takes the answers to the first text by backend, and the names of the backends that are waited for.
Show = Callable[[Mapping[str, Answer], Sequence[str]], None]


class SideBySide:
    """Backends with the weights of one run. One that fails is left out from then on.

    They are being started until the first texts are answered. Each translates the first text as soon as it is open,
    and all of them are open before any is timed.
    """

    def __init__(
        self,
        names: Sequence[str],
        started: Iterator[tuple[str, "Future[BackendProcess]"]],
        load: Callable[[BackendProcess], Translator],
        warn: Callable[[str], None],
    ) -> None:
        """`started` gives each backend's process when it is open; `load` has it load the run."""
        self.left_out: dict[str, str] = {}  # backends, and why
        self._names, self._started, self._load, self._warn = names, started, load, warn
        self._translators: dict[str, Translator] = {}

    @property
    def about(self) -> dict[str, Any]:
        """The backends that answer, as machines read it."""
        return {"backend": "all", "left_out": self.left_out}

    def answers(self, texts: Sequence[str], show: Show, beam: int | None = None) -> list[dict[str, Answer]]:
        """Return each text's answers by backend, with the time of decoding each text by itself.

        `show` is called as soon as more is known of the first text. Raises RosettaError where no backend is left.
        """
        given: dict[str, list[Answer]] = {}

        def ask(name: str, texts: Sequence[str], alone: bool, future: "Future[BackendProcess] | None" = None) -> None:
            try:
                if future:
                    self._translators[name] = self._load(future.result())
                answers = self._translators[name].decode(texts, beam=beam, alone=alone)
                given[name] = answers if alone else [replace(answer, milliseconds=None) for answer in answers]
            except RosettaError as error:
                given.pop(name, None)
                self.left_out[name] = str(error)
                self._warn(f"{name} is left out: {error}")
            show_first()

        def show_first() -> None:
            left = [name for name in self._names if name not in self.left_out]
            answers = {name: given[name][0] for name in left if name in given}
            show(answers, [name for name in left if name not in given])

        show_first()
        for name, future in self._started:
            ask(name, texts[:1], False, future)  # which compiles what is compiled, while others are started
        for name in self._names:
            if name not in self.left_out:
                ask(name, texts, True)
        if not given:
            raise RosettaError(next(iter(self.left_out.values())))
        names = [name for name in self._names if name in given]
        return [{name: given[name][row] for name in names} for row in range(len(texts))]


@contextmanager
def open_side_by_side(opener: Opener, names: Sequence[str], warn: Callable[[str], None]) -> Iterator[SideBySide]:
    """A run in these backends, which are started side by side; in the end their processes are ended."""

    def launch(name: str) -> BackendProcess:
        if psutil.virtual_memory().available < PROCESS_BYTES:
            raise RosettaError("too little memory is free for one more backend")
        return opener.launch(name)

    with started_side_by_side(names, launch) as started:
        yield SideBySide(names, started, opener.load, warn)
