"""A backend whose process answers the visitors of a page, one at a time, and is opened again after its death."""

from collections.abc import Mapping
from contextlib import ExitStack
from threading import BoundedSemaphore, Lock
from typing import Any, Literal

from backends.commands.translating import Opener, Translator
from backends.process.parent import Runtime
from common.errors import RosettaError
from common.run_directory import RunDirectory
from common.tensors import STOP
from common.text import normalize

WAITING = 4  # visitors who may wait for a backend while it answers another one
SHOWN = 3  # characters that are named at each position, the most probable first
CLOSING_SECONDS = 2.0  # waited for a last answer before its process is ended


class UnavailableError(RosettaError):
    """The backend is not open, or as many visitors wait for it as may."""


class ServedBackend:
    """One backend of the page. `open` and `close` belong to one thread; `answer` may be called from any."""

    def __init__(self, name: str, run: RunDirectory, runtime: Runtime) -> None:
        self.name = name
        self.state: Literal["opening", "ready", "failed"] = "opening"  # also when its process died: open it again
        self.message = ""  # what went wrong, in an opening that failed or with the process before
        self._run, self._runtime = run, runtime
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
            _answer(translator, translator.any_text)
        except (RosettaError, OSError) as error:
            self._resources.close()
            self.state, self.message = "failed", str(error)
        else:
            self._translator = translator
            self.state, self.message = "ready", ""

    def answer(self, text: str) -> dict[str, Any]:
        """Translate a sentence whose characters the run knows; see `_answer`.

        Raises UnavailableError, and RosettaError where the process dies of the sentence.
        """
        if not self._line.acquire(blocking=False):
            raise UnavailableError(
                f"{self.name} is busy: {WAITING} others wait for it already; ask again in a moment"
            )
        try:
            with self._turn:
                if self._translator is None:
                    why = f"could not be opened: {self.message}" if self.state == "failed" else "is being opened"
                    raise UnavailableError(f"{self.name} {why}")
                try:
                    return _answer(self._translator, text)
                except RosettaError as error:  # each of which ends a process
                    self._translator = None
                    self._resources.close()
                    self.state, self.message = "opening", str(error)
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


def _answer(translator: Translator, text: str) -> dict[str, Any]:
    """What the page shows of a translation, and of each of its characters, the end of the sentence included."""
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
        characters.append({"character": character, "probability": probability, "choices": choices[:SHOWN]})
    longest = translator.max_encoder_seq_length
    return {
        "translation": detailed.translation,
        "milliseconds": 1000 * seconds,  # that the backend took to decode
        "ended": ended,  # whether the model ended the sentence; else decoding stopped at its greatest length
        "longest": longest if len(normalize(text)) > longest else None,  # in training, if this sentence is longer
        "characters": characters,
    }
