"""The page of `rosetta serve`, for this machine alone: every backend translates what a visitor types.

Whatever a visitor sends is bounded, checked against a type, and given back as JSON, which the page shows as text.
Other websites that the visitor's browser has open cannot ask: a browser sends JSON to another site only with its
consent, which is never given, and a website that has its own name point at this machine is refused for that name.
"""

import re
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from queue import SimpleQueue
from threading import BoundedSemaphore, Lock, Thread
from typing import Any, Literal

import msgspec

from backends.process.parent import Runtime
from backends.process.translating import Answer, Opener, Translator
from common.errors import RosettaError, refusing
from common.run import BUNDLED_RUN, RunDirectory
from common.sources import Sources
from common.tensors import CharVocabulary
from common.terminal import say, starting
from common.text import listed, normalize

LOCAL_NAMES = re.compile(r"(localhost|127\.0\.0\.1|\[::1\])(:\d+)?", re.IGNORECASE)  # in a request's Host field
LONGEST_QUESTION = 200  # characters
LARGEST_BODY = 4096  # bytes; a sentence of 200 characters, each written as \ud83d\ude00, takes 2,400
NAMED = 8  # unknown characters that a message names
CHOICES_SHOWN = 3  # characters that are named at each position, the most probable first
WAITING = 4  # visitors who may wait for a backend while it answers another one
JSON = "application/json"
FILES = {"/": "text/html", "/static/page.css": "text/css", "/static/page.js": "text/javascript"}
HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src data:; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}


class TranslationRequest(msgspec.Struct, forbid_unknown_fields=True):
    """A sentence that the page asks a backend to translate."""

    backend: str
    text: str
    drop_unknown: bool = False


class RefusedError(Exception):
    """The refusal of a request, with its HTTP status; `unknown` if the visitor may leave unknown characters out."""

    def __init__(self, status: int, reason: str, unknown: bool = False) -> None:
        super().__init__(reason)
        self.status, self.unknown = status, unknown


class ServedBackend:
    """A backend of the page. `open` and `close` belong to one thread; `answer` may be called from any.

    It stands in the queue `to_open` at first, and again when its process has died.
    """

    def __init__(self, name: str, opener: Opener, to_open: "SimpleQueue[ServedBackend]") -> None:
        self.name, self._opener, self._to_open = name, opener, to_open
        self.state: Literal["opening", "ready", "failed"] = "opening"
        self.message = ""  # the error that ended the opening, or the process before
        self._queue, self._turn, self._process = BoundedSemaphore(1 + WAITING), Lock(), ExitStack()
        self._translator: Translator | None = None
        to_open.put(self)

    def open(self) -> None:
        """Start the process, load the weights, and translate once, so that no visitor waits for a compilation."""
        try:
            translator = self._process.enter_context(self._opener.open(self.name))
            any_text = next(filter(str.strip, translator.encoder_vocabulary.characters), "")
            translator.decode([any_text], choices=CHOICES_SHOWN)
        except (RosettaError, OSError) as error:
            self.close("failed", str(error))
        else:
            self._translator, self.state, self.message = translator, "ready", ""

    def answer(self, text: str) -> Answer:
        """Translate a sentence whose characters the run knows. Raises RefusedError."""
        if not self._queue.acquire(blocking=False):
            raise RefusedError(
                503, f"{self.name} is busy: {WAITING} others wait for it already; ask again in a moment"
            )
        try:
            with self._turn:
                if self._translator is None:
                    why = f"could not be opened: {self.message}" if self.state == "failed" else "is being opened"
                    raise RefusedError(503, f"{self.name} {why}")
                try:
                    return self._translator.decode([text], choices=CHOICES_SHOWN)[0]
                except RosettaError as error:  # each of which ends a process
                    self.close("opening", str(error))
                    self._to_open.put(self)
                    raise RefusedError(500, str(error)) from error
        finally:
            self._queue.release()

    def close(self, state: Literal["opening", "failed"] = "failed", message: str = "it was ended") -> None:
        """End the process."""
        self._translator, self.state, self.message = None, state, message
        self._process.close()


class _Visit(BaseHTTPRequestHandler):
    """Answers one request, whose head the library bounds: 100 fields of 64 KiB."""

    server: "PageServer"
    timeout = 30.0  # seconds for each read and write
    server_version, sys_version, default_request_version = "rosetta", "", "HTTP/1.0"

    def parse_request(self) -> bool:
        """Refuse a request under another name than this machine's own."""
        if not super().parse_request():
            return False
        self.request_version = "HTTP/1.0"  # whatever it claims, so that the answer has all of HEADERS
        named = LOCAL_NAMES.fullmatch(self.headers.get("Host", "")) is not None
        if not named:
            self.send_error(403, "This page answers under its own address alone, such as 127.0.0.1 or localhost")
        return named

    def do_GET(self) -> None:
        path = self.path.partition("?")[0]
        if path in FILES:
            file = Path(__file__).parent / "static" / (Path(path).name or "page.html")
            self._send(200, file.read_bytes(), f"{FILES[path]}; charset=utf-8")
        elif path == "/backends":
            self._send(200, msgspec.json.encode(self.server.about()))
        else:
            self.send_error(404)

    def do_POST(self) -> None:
        try:
            self._send(200, msgspec.json.encode(self._translation(self._body())))
        except RefusedError as error:
            self._send(error.status, msgspec.json.encode({"error": str(error), "unknown": error.unknown}))

    def _body(self) -> bytes:
        length = self.headers.get("Content-Length", "")
        if not re.fullmatch("[0-9]{1,9}", length):
            raise RefusedError(411, "A request names its length in bytes.")
        if int(length) > LARGEST_BODY:
            raise RefusedError(413, f"A request has {LARGEST_BODY:,} bytes at most.")
        return self.rfile.read(int(length))

    def _translation(self, body: bytes) -> dict[str, object]:
        """Answer the request in this body. Raises RefusedError."""
        if self.path != "/translate":
            raise RefusedError(404, "There is nothing at this address.")
        if self.headers.get_content_type() != JSON:
            raise RefusedError(415, f"A request is sent as {JSON}.")
        try:
            request = msgspec.json.decode(body, type=TranslationRequest)
        except (msgspec.MsgspecError, UnicodeDecodeError) as error:
            raise RefusedError(400, f"This is no request that the page would send: {error}") from error
        backend = next((served for served in self.server.served if served.name == request.backend), None)
        if backend is None:
            raise RefusedError(404, "There is no such backend on this page.")
        sources, vocabulary = self.server.sources, self.server.vocabulary
        text = sources.as_written(normalize(request.text))
        if len(text) > LONGEST_QUESTION:
            most = f"at most {LONGEST_QUESTION} are translated."
            raise RefusedError(413, f"The sentence has {len(text)} characters; {most}")
        unknown = sorted(vocabulary.lacks(text))
        if unknown and not request.drop_unknown:
            named = [f"{character!r} (U+{ord(character):04X})" for character in unknown]
            if len(named) > NAMED:
                named[NAMED:] = [f"{len(named) - NAMED} more"]
            raise RefusedError(422, f"This run does not know {listed(named)}.", unknown=True)
        text = vocabulary.without_unknown(text)
        if not text.strip():
            raise RefusedError(400, "There is nothing to translate; type a sentence.")
        answer = backend.answer(text)
        doubt = sources.doubt(text, answer.translation)
        shown: dict[str, object] = msgspec.to_builtins(answer)
        return shown | {"translation": answer.translation, "doubt": doubt}

    def _send(self, status: int, content: bytes, kind: str = JSON) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def end_headers(self) -> None:
        """Have every answer bind the browser, the library's own too."""
        for name, value in HEADERS.items():
            self.send_header(name, value)
        super().end_headers()

    def log_message(self, *arguments: object) -> None:
        """Tell nothing of a visitor."""


class PageServer(ThreadingHTTPServer):
    """The page of a run at a port of this machine, with a thread for each visitor.

    `vocabulary` is the encoder's. The examples of the `sources` are to be clicked on.
    Raises CannotBeginError where the port cannot be had.
    """

    request_queue_size = 128  # connections that may wait to be accepted

    def __init__(
        self, port: int, run: str, served: Sequence[ServedBackend], vocabulary: CharVocabulary, sources: Sources
    ) -> None:
        self.run, self.served, self.vocabulary, self.sources = run, served, vocabulary, sources
        with refusing(
            f"the page cannot be served at port {port}", "; choose another --port, such as 0 for any free one"
        ):
            super().__init__(("127.0.0.1", port), _Visit)

    def about(self) -> dict[str, object]:
        """Facts for the page about itself and its backends."""
        backends = [
            {"name": backend.name, "state": backend.state, "message": backend.message} for backend in self.served
        ]
        examples = self.sources.examples
        return {"run": self.run, "examples": examples, "longest": LONGEST_QUESTION, "backends": backends}

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Report nothing of a visitor who has gone."""
        if not isinstance(sys.exception(), OSError):
            super().handle_error(request, client_address)


def serve(run: Path, port: int, names: Sequence[str], runtime: Runtime) -> None:
    """Serve the page of a run with these backends until KeyboardInterrupt, which ends the backends' processes.

    Port 0 stands for any that is free. Raises CannotBeginError.
    """
    directory = RunDirectory.open(run)
    directory.read_state("last")
    vocabulary, _ = directory.vocabularies()
    to_open, opener = SimpleQueue[ServedBackend](), Opener(directory, "last", None, runtime)
    served = [ServedBackend(name, opener, to_open) for name in names]
    title = "the bundled run" if run == BUNDLED_RUN else str(run)
    server = PageServer(port, title, served, vocabulary, Sources.of_run(directory))
    Thread(target=server.serve_forever, daemon=True).start()
    say(f"The page is at http://127.0.0.1:{server.server_port}/ until Ctrl-C.")
    try:
        while True:  # in this thread, since a signal interrupts it: a process half open is then ended too
            backend = to_open.get()
            with starting(backend.name):
                backend.open()
    finally:
        for backend in served:
            backend.close()
