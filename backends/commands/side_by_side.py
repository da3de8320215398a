"""The same lines translated by several backends, one backend at a time, and how long each of them takes."""

from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import psutil

from backends.commands.translating import Opener, Translator, Warn
from backends.process.group import PROCESS_BYTES, started_side_by_side
from backends.process.parent import BackendProcess
from common.errors import RosettaError


class SideBySide:
    """Open backends with the weights of one run. A backend that fails is left out from then on."""

    def __init__(self, warn: Warn) -> None:
        self.translators: dict[str, Translator] = {}  # by a backend's name
        self.left_out: dict[str, str] = {}  # backends, and why
        self._warn = warn

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
        for name, translator in list(self.translators.items()):
            try:
                of_backend[name] = translator.answers(lines, unknown, beam=beam, n_best=n_best, timed=True)
            except RosettaError as error:
                self.leave_out(name, error)
        if not of_backend:
            raise RosettaError(next(iter(self.left_out.values())))
        together = []
        for answers in zip(*of_backend.values(), strict=True):
            line = {"source": answers[0]["source"], "backends": []}
            if "error" in answers[0]:
                together.append(line | {"error": answers[0]["error"]})
                continue
            most, _ = Counter(answer["translation"] for answer in answers).most_common(1)[0]
            for name, answer in zip(of_backend, answers, strict=True):
                del answer["source"]
                line["backends"].append({"backend": name} | answer | {"same": answer["translation"] == most})
            together.append(line)
        return together

    def leave_out(self, name: str, error: RosettaError) -> None:
        self.translators.pop(name, None)
        self.left_out[name] = str(error)
        self._warn(f"{name} is left out: {error}")


@contextmanager
def open_side_by_side(opener: Opener, names: Sequence[str], warn: Warn) -> Iterator[SideBySide]:
    """A run in these backends, which are started side by side. All of them are open before any is timed."""
    opened = SideBySide(warn)

    def launch(name: str) -> BackendProcess:
        if psutil.virtual_memory().available < PROCESS_BYTES:
            raise RosettaError("too little memory is free for one more backend")
        return opener.launch(name)

    with started_side_by_side(names, launch, opened.leave_out) as started:
        translators: dict[str, Translator] = {}
        for name, process in started:
            try:
                translators[name] = opener.load(process)
                translators[name]([translators[name].any_text])  # compiles what is compiled while others are started
            except RosettaError as error:
                opened.leave_out(name, error)
        opened.translators = {name: translators[name] for name in names if name not in opened.left_out}
        yield opened
