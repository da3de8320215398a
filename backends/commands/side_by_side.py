"""The same lines translated by several backends, one backend at a time, and how long each of them takes."""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import psutil

from backends.commands.translating import Opener, Translator, Warn
from backends.process.group import PROCESS_BYTES, started_side_by_side
from backends.process.parent import BackendProcess
from common.errors import RosettaError
from common.text import with_replacements

Show = Callable[[Mapping[str, Any]], None]  # takes what backends have made of a line so far
OF_LINE = ("source", "read_as", "error")  # in an answer, what is the same in all backends


class SideBySide:
    """Backends with the weights of one run. One that fails is left out from then on.

    They are being started until the first lines are answered. Each begins with the first line as soon as it is open,
    and all of them are open before any is timed.
    """

    def __init__(
        self,
        names: Sequence[str],
        opened: Iterator[tuple[str, Translator]],
        warn: Warn,
        showing: Callable[[], AbstractContextManager[Show]],
    ) -> None:
        """`opened` gives each backend when it is ready; `showing` shows the first line while lines are answered."""
        self.left_out: dict[str, str] = {}  # backends, and why
        self._names, self._opened, self._warn, self._showing = names, opened, warn, showing
        self._translators: dict[str, Translator] = {}

    @property
    def about(self) -> dict[str, Any]:
        """Which backends answer, as machines read it."""
        return {"backend": "all", "left_out": self.left_out}

    def answers(
        self, lines: Sequence[str], unknown: str, *, beam: int | None = None, n_best: int | None = None
    ) -> list[dict[str, Any]]:
        """For each line its `source` and a list `backends`, or instead of backends' sentences an `error`.

        Each backend has its `translation`, the `milliseconds` that decoding this line by itself took it, and whether
        its translation is the `same` as that of most; with `n_best` these best ones and their scores.

        Raises RosettaError where no backend is left.
        """
        of_backend: dict[str, list[dict[str, Any]]] = {}

        def ask(name: str, some: Sequence[str], timed: bool) -> None:
            try:
                translator = self._translators[name]
                of_backend[name] = translator.answers(some, unknown, beam=beam, n_best=n_best, timed=timed)
            except RosettaError as error:
                of_backend.pop(name, None)
                self.leave_out(name, error)
            show(self._line(lines[0], 0, of_backend))

        with self._showing() as show:
            show(self._line(lines[0], 0, of_backend))
            for name, translator in self._opened:
                self._translators[name] = translator
                ask(name, lines[:1], timed=False)  # which compiles what is compiled, while others are started
            for name in self._names:
                if name not in self.left_out:
                    ask(name, lines, timed=True)
        if not of_backend:
            raise RosettaError(next(iter(self.left_out.values())))
        return [self._line(line, row, of_backend) for row, line in enumerate(lines)]

    def _line(self, line: str, row: int, of_backend: Mapping[str, Sequence[dict[str, Any]]]) -> dict[str, Any]:
        """The answers of backends to a line, in one; those that are being started say so in the place of theirs."""
        answers = {name: dict(found[row]) for name, found in of_backend.items()}
        most = Counter(answer["translation"] for answer in answers.values()).most_common(1)
        together: dict[str, Any] = {"source": with_replacements(line), "backends": []}
        for name in self._names:
            if own := answers.get(name):
                together |= {key: own.pop(key) for key in OF_LINE if key in own}
                together["backends"].append({"backend": name} | own | {"same": own["translation"] == most[0][0]})
            elif name not in self.left_out:
                together["backends"].append({"backend": name, "translation": "starting"})
        return together | ({"backends": []} if "error" in together else {})

    def leave_out(self, name: str, error: RosettaError) -> None:
        self.left_out[name] = str(error)
        self._warn(f"{name} is left out: {error}")


@contextmanager
def open_side_by_side(
    opener: Opener,
    names: Sequence[str],
    warn: Warn,
    showing: Callable[[], AbstractContextManager[Show]] = lambda: nullcontext(lambda line: None),
) -> Iterator[SideBySide]:
    """A run in these backends, which are started side by side."""

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

    together = SideBySide(names, opened(), warn, showing)
    with started_side_by_side(names, launch) as started:
        yield together
