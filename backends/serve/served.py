"""A backend whose process answers the visitors of a page, one at a time, and is opened again after its death."""

from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from threading import BoundedSemaphore, Lock
from typing import Any, Literal

from backends.process.parent import Runtime
from backends.translator import Choice, Opener, Translator
from common.errors import RosettaError
from common.run_directory import RunDirectory
from common.tensors import STOP
from common.text import normalize

WAITING = 4  # visitors who may wait for a backend while it answers another one
SHOWN = 3  # characters that are named at each position, the most probable first
CLOSING_SECONDS = 2.0  # waited for a last answer before its process is ended


class BusyError(RosettaError):
    """As many visitors as may wait for this backend do so."""


class NotOpenError(RosettaError):
    """The backend is still being opened, or could not be opened."""


@dataclass(frozen=True)
class Character:
    """One character of a translation, the end of the sentence included."""

    character: str
    probability: float  # which the model gave to it
    choices: list[Choice]  # the SHOWN most probable characters at its place


@dataclass(frozen=True)
class Answer:
    """What one backend says of a sentence."""

    backend: str
    translation: str
    milliseconds: float  # that the backend took to decode
    ended: bool  # whether the model ended the sentence; else decoding stopped at its greatest length
    longest: int | None  # where the sentence is longer than all of training: the length of training's longest
    characters: list[Character]


class ServedBackend:
    """One backend of the page. `open` and `close` belong to one thread; `answer` may be called from any."""

    def __init__(
        self, name: str, run: RunDirectory, runtime: Runtime, died: Callable[["ServedBackend"], None]
    ) -> None:
        """`died` is told when the process died and wants to be opened again."""
        self.name = name
        self.state: Literal["opening", "ready", "failed"] = "opening"
        self.message = ""  # what went wrong, in an opening that failed or with the process before
        self._run, self._runtime, self._died = run, runtime, died
        self._line = BoundedSemaphore(1 + WAITING)
        self._turn = Lock()
        self._resources = ExitStack()
        self._translator: Translator | None = None

    def open(self) -> None:
        """Start the process, load the weights, and translate once, so that no visitor waits for a compilation.

        What goes wrong becomes the backend's state and message; other backends go on.
        """
        try:
            opened = Opener(self._run, "last", None, self._runtime).open(self.name)
            translator = self._resources.enter_context(opened)
            _answer(self.name, translator, translator.any_text)
        except (RosettaError, OSError) as error:
            self._resources.close()
            self.state, self.message = "failed", str(error)
        else:
            self._translator = translator
            self.state, self.message = "ready", ""

    def answer(self, text: str) -> Answer:
        """Translate a sentence whose characters the run knows.

        Raises BusyError, NotOpenError, and RosettaError where the process dies of it.
        """
        if not self._line.acquire(blocking=False):
            raise BusyError(f"{self.name} is busy: {WAITING} others wait for it already; ask again in a moment")
        try:
            with self._turn:
                if self._translator is None:
                    why = f"could not be opened: {self.message}" if self.state == "failed" else "is being opened"
                    raise NotOpenError(f"{self.name} {why}")
                try:
                    return _answer(self.name, self._translator, text)
                except RosettaError as error:  # each of which ends a process
                    self._translator = None
                    self.state, self.message = "opening", str(error)
                    self._resources.close()
                    self._died(self)
                    raise
        finally:
            self._line.release()

    def close(self) -> None:
        """End the process; an answer under way has a moment to be given."""
        in_turn = self._turn.acquire(timeout=CLOSING_SECONDS)
        self._translator = None
        self._resources.close()
        if in_turn:
            self._turn.release()


def _answer(name: str, translator: Translator, text: str) -> Answer:
    seconds = 0.0

    def on_event(event: Mapping[str, Any]) -> None:
        nonlocal seconds
        seconds = event["seconds"]

    every = len(translator.decoder_vocabulary)  # the decoded character is not always among the first
    (detailed,) = translator.with_choices([text], best=every, on_event=on_event)
    ended = len(detailed.choices) > len(detailed.translation)
    characters = []
    for character, choices in zip(detailed.translation + STOP * ended, detailed.choices, strict=True):
        probability = next(choice.probability for choice in choices if choice.character == character)
        characters.append(Character(character, probability, choices[:SHOWN]))
    longest = translator.max_encoder_seq_length
    longer = longest if len(normalize(text)) > longest else None
    return Answer(name, detailed.translation, 1000 * seconds, ended, longer, characters)
