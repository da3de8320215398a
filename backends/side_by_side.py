"""The same lines translated by every installed backend, one backend at a time, and how long each of them takes."""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from dataclasses import dataclass, field, replace
from functools import cache
from typing import Any

import psutil

from backends import installed
from backends.translator import Answer, Translator, Warn, as_json
from common.errors import RosettaError

PROCESS_BYTES = 1 << 30  # memory that is to be free before one more process is kept open; none was seen to take more


@dataclass(frozen=True)
class SideBySide:
    """The installed backends with the weights of one run. A backend that fails is left out from then on."""

    open: Callable[[str], AbstractContextManager[Translator]]  # by a backend's name
    warn: Warn
    names: Sequence[str] = field(default_factory=installed)
    left_out: dict[str, RosettaError] = field(default_factory=dict)  # backends, and why

    def lines(
        self, lines: Sequence[str], unknown: str, beam: int | None = None, n_best: int | None = None
    ) -> list[dict[str, Any]]:
        """For each line its `source` and a list `backends`, or instead of backends' sentences an `error`.

        Each backend has its `translation`, the `milliseconds` that decoding this line by itself took it, and whether
        its translation is the `same` as that of most; with `n_best` these best ones and their scores.

        Raises RosettaError where no backend is left.
        """
        of_backend: dict[str, list[Answer]] = {}
        warn = cache(self.warn)  # the same of every backend
        for name in self._left():
            with self._leaving_out(name), self.open(name) as translator:
                of_backend[name] = translator.answers(lines, unknown, warn, beam=beam, timed=True)
        if not of_backend:
            raise next(iter(self.left_out.values()))
        of_lines = zip(*of_backend.values(), strict=True)
        return [_line(dict(zip(of_backend, answers, strict=True)), n_best) for answers in of_lines]

    @contextmanager
    def kept_open(self) -> Iterator["SideBySide"]:
        """The same backends, all of them started now, for which there is memory."""
        opened: dict[str, Translator] = {}
        with ExitStack() as stack:
            for name in self._left():
                with self._leaving_out(name):
                    if psutil.virtual_memory().available < PROCESS_BYTES:
                        raise RosettaError("too little memory is free for one more backend")
                    opened[name] = stack.enter_context(self.open(name))
            yield replace(self, open=lambda name: nullcontext(opened[name]))

    def _left(self) -> list[str]:
        return [name for name in self.names if name not in self.left_out]

    @contextmanager
    def _leaving_out(self, name: str) -> Iterator[None]:
        try:
            yield
        except RosettaError as error:
            self.left_out[name] = error
            self.warn(f"{name} is left out: {error}")


def _line(answers: Mapping[str, Answer], n_best: int | None) -> dict[str, Any]:
    """One line from the answers of the backends; see SideBySide.lines."""
    first = next(iter(answers.values()))
    line = {"source": as_json(first)["source"], "backends": []}
    if first.error:
        return line | {"error": first.error}
    most = Counter(answer.best[0].translation for answer in answers.values()).most_common(1)[0][0]
    for name, answer in answers.items():
        translated = as_json(answer, n_best)
        del translated["source"]
        milliseconds = None if answer.seconds is None else 1000 * answer.seconds
        same = answer.best[0].translation == most
        line["backends"].append({"backend": name} | translated | {"milliseconds": milliseconds, "same": same})
    return line
