"""The same lines translated by several backends, one backend at a time, and how long each of them takes."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import psutil

from backends.commands.translating import Opener, Translator, Warn
from backends.process.parent import BackendProcess
from backends.process.starting import PROCESS_BYTES, started_side_by_side
from common.errors import RosettaError


@dataclass(frozen=True)
class SideBySide:
    """Open backends with the weights of one run. A backend that fails is left out from then on."""

    warn: Warn
    translators: dict[str, Translator] = field(default_factory=dict)  # by a backend's name
    left_out: dict[str, RosettaError] = field(default_factory=dict)  # backends, and why

    def lines(
        self, lines: Sequence[str], unknown: str, beam: int | None = None, n_best: int | None = None
    ) -> list[dict[str, Any]]:
        """For each line its `source` and a list `backends`, or instead of backends' sentences an `error`.

        Each backend has its `translation`, the `milliseconds` that decoding this line by itself took it, and whether
        its translation is the `same` as that of most; with `n_best` these best ones and their scores.

        Raises RosettaError where no backend is left.
        """
        of_backend: dict[str, list[dict[str, Any]]] = {}
        warn = cache(self.warn)  # the same of every backend
        for name, translator in list(self.translators.items()):
            try:
                of_backend[name] = translator.answers(lines, unknown, warn, beam=beam, n_best=n_best, timed=True)
            except RosettaError as error:
                self.leave_out(name, error)
        if not of_backend:
            raise next(iter(self.left_out.values()))
        of_lines = zip(*of_backend.values(), strict=True)
        return [_line(dict(zip(of_backend, answers, strict=True))) for answers in of_lines]

    def leave_out(self, name: str, error: RosettaError) -> None:
        self.translators.pop(name, None)
        self.left_out[name] = error
        self.warn(f"{name} is left out: {error}")


@contextmanager
def open_side_by_side(opener: Opener, names: Sequence[str], warn: Warn) -> Iterator[SideBySide]:
    """A run in these backends, which are started side by side. All of them are open before any is timed."""
    opened = SideBySide(warn)

    def launch(name: str) -> BackendProcess:
        if psutil.virtual_memory().available < PROCESS_BYTES:
            raise RosettaError("too little memory is free for one more backend")
        return opener.launch(name)

    with started_side_by_side(names, launch, opened.leave_out) as started:
        for name, process in started:
            try:
                translator = opener.load(process)
                translator([translator.any_text])  # what is compiled is compiled while others are started
            except RosettaError as error:
                opened.leave_out(name, error)
            else:
                opened.translators[name] = translator
        in_order = {name: opened.translators[name] for name in names if name in opened.translators}
        yield SideBySide(warn, in_order, opened.left_out)


def _line(answers: Mapping[str, dict[str, Any]]) -> dict[str, Any]:
    """One line from the answers of the backends; see SideBySide.lines."""
    source, error = (next(iter(answers.values())).get(name) for name in ("source", "error"))
    if error:
        return {"source": source, "backends": [], "error": error}
    most = Counter(answer["translation"] for answer in answers.values()).most_common(1)[0][0]
    backends = []
    for name, answer in answers.items():
        del answer["source"]
        backends.append({"backend": name} | answer | {"same": answer["translation"] == most})
    return {"source": source, "backends": backends}
