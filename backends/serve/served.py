"""A backend whose process answers the visitors of a page, one at a time, and is opened again after its death."""

from contextlib import ExitStack
from threading import BoundedSemaphore, Lock
from typing import Any, Literal

from backends.commands.translating import Opener, Translator
from backends.process.parent import Runtime
from common.errors import RosettaError
from common.run_directory import RunDirectory

WAITING = 4  # visitors who may wait for a backend while it answers another one
SHOWN = 3  # characters that are named at each position, the most probable first


class UnavailableError(RosettaError):
    """The backend is not open, or as many visitors wait for it as may."""


class ServedBackend:
    """One backend of the page. `open` and `close` belong to one thread; `answer` may be called from any."""

    def __init__(self, name: str, run: RunDirectory, runtime: Runtime) -> None:
        self.name = name
        self.state: Literal["opening", "ready", "failed"] = "opening"  # also when its process died: open it again
        self.message = ""  # what went wrong, in an opening that failed or with the process before
        self._opener = Opener(run, "last", None, runtime)
        self._line = BoundedSemaphore(1 + WAITING)
        self._turn = Lock()
        self._resources = ExitStack()
        self._translator: Translator | None = None

    def open(self) -> None:
        """Start the process, load the weights, and translate once, so that no visitor waits for a compilation.

        What goes wrong becomes the backend's state and message; other backends go on.
        """
        try:
            translator = self._resources.enter_context(self._opener.open(self.name))
            translator.with_choices(translator.any_text, SHOWN)
        except (RosettaError, OSError) as error:
            self.close()
            self.state, self.message = "failed", str(error)
        else:
            self._translator = translator
            self.state, self.message = "ready", ""

    def answer(self, text: str) -> dict[str, Any]:
        """Translate a sentence whose characters the run knows; see `Translator.with_choices`.

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
                    return self._translator.with_choices(text, SHOWN)
                except RosettaError as error:  # each of which ends a process
                    self.close()
                    self.state, self.message = "opening", str(error)
                    raise
        finally:
            self._line.release()

    def close(self) -> None:
        """End the process."""
        self._translator = None
        self._resources.close()
