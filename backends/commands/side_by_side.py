"""The same texts translated by several backends, one backend at a time, and how long each of them takes."""

from collections.abc import Callable, Iterator, Mapping, Sequence
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
        self, names: Sequence[str], opened: Iterator[tuple[str, Translator]], warn: Callable[[str], None]
    ) -> None:
        """`opened` gives each backend when it is ready."""
        self.left_out: dict[str, str] = {}  # backends, and why
        self._names, self._opened, self._warn = names, opened, warn
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

        def ask(name: str, texts: Sequence[str], alone: bool) -> None:
            try:
                answers = self._translators[name].decode(texts, beam=beam, alone=alone)
                given[name] = answers if alone else [replace(answer, milliseconds=None) for answer in answers]
            except RosettaError as error:
                given.pop(name, None)
                self.leave_out(name, error)
            show_first()

        def show_first() -> None:
            left = [name for name in self._names if name not in self.left_out]
            answers = {name: given[name][0] for name in left if name in given}
            show(answers, [name for name in left if name not in given])

        show_first()
        for name, translator in self._opened:
            self._translators[name] = translator
            ask(name, texts[:1], alone=False)  # which compiles what is compiled, while others are started
        for name in self._names:
            if name not in self.left_out:
                ask(name, texts, alone=True)
        if not given:
            raise RosettaError(next(iter(self.left_out.values())))
        names = [name for name in self._names if name in given]
        return [{name: given[name][row] for name in names} for row in range(len(texts))]

    def leave_out(self, name: str, error: RosettaError) -> None:
        self.left_out[name] = str(error)
        self._warn(f"{name} is left out: {error}")


@contextmanager
def open_side_by_side(opener: Opener, names: Sequence[str], warn: Callable[[str], None]) -> Iterator[SideBySide]:
    """A run in these backends, which are started side by side; in the end their processes are ended."""

    def launch(name: str) -> BackendProcess:
        if psutil.virtual_memory().available < PROCESS_BYTES:
            raise RosettaError("too little memory is free for one more backend")
        return opener.launch(name)

    def opened() -> Iterator[tuple[str, Translator]]:
        for name, future in started:
            try:
                yield name, opener.load(future.result())
            except RosettaError as error:
                together.leave_out(name, error)

    together = SideBySide(names, opened(), warn)
    with started_side_by_side(names, launch) as started:
        yield together
