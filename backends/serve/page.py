"""The page and its visitors: what they are answered, how many there may be, and how long each keeps a place.

Whatever a visitor sends is limited, checked against a type, and given back as JSON, which the page shows as text.
Other websites that the visitor's browser has open cannot ask: a browser sends JSON to another site only with its
consent, which is never given, and a website that has its own name point at this machine is refused for that name.

A connection brings one request and ends with its answer. It has to bring the whole request in time, however its bytes
come, and no newcomer waits for those that bring none.
"""

import socket
import sys
from collections.abc import Iterator, Sequence
from contextlib import suppress
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler
from io import BytesIO
from ipaddress import ip_address
from pathlib import Path
from socketserver import ThreadingTCPServer
from threading import Lock, Thread
from time import monotonic, sleep
from typing import Any, NoReturn
from urllib.parse import urlsplit

import msgspec

from backends.process.parent import Runtime
from backends.serve.served import ServedBackend, UnavailableError
from common.errors import CannotBeginError, RosettaError
from common.run_directory import BUNDLED_RUN, RunDirectory
from common.sources import Sources
from common.tensors import CharVocabulary
from common.terminal import say, starting, warn

LONGEST_QUESTION = 200  # characters
LARGEST_BODY = 4096  # bytes; a sentence of 200 characters, each written as \ud83d\ude00, takes 2,400
LARGEST_HEAD = 65536  # bytes
NAMED = 8  # unknown characters that a message names
REQUEST_SECONDS = 30.0  # from a connection's beginning until it has brought a whole request; also to take the answer
LINGER_SECONDS = 2.0  # in which what a visitor who is refused still sends is read
POLL_SECONDS = 0.2  # between two looks at whether a backend's process died and is to be opened again
MOST_CONNECTIONS = 100
MOST_OF_AN_ADDRESS = 30  # connections of one visitor; a browser has six at most
OWN_NAMES = {"localhost", "127.0.0.1", "::1"}
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
    """What the page asks."""

    backend: str
    text: str
    drop_unknown: bool = False


class RefusedError(Exception):
    """A request is refused, with HTTP's number for it and what its JSON says."""

    def __init__(self, status: int, reason: str, **more: object) -> None:
        super().__init__(reason)
        self.status, self.content = status, {"error": reason} | more


class _Visit(BaseHTTPRequestHandler):
    """Answers one request."""

    server: "PageServer"
    headers: Any
    protocol_version, default_request_version = "HTTP/1.1", "HTTP/1.0"

    def handle(self) -> None:
        """Read the request, and send the answer."""
        self.request_version = self.default_request_version
        try:
            body = self._whole_request()
            self.server.keep(self.request)
            self._send(200, *self._answer(body))
        except RefusedError as error:
            self._send(error.status, JSON, msgspec.json.encode(error.content))
            self.request.shutdown(socket.SHUT_WR)
            with suppress(RefusedError, EOFError):  # the visitor might miss the answer if this were not read
                for _ in _pieces(self.request, LINGER_SECONDS):
                    pass

    def _whole_request(self) -> bytes:
        """Read the request; returns its body. Raises RefusedError, and EOFError if the visitor goes."""
        received, pieces, seen = bytearray(), _pieces(self.request, REQUEST_SECONDS), 0
        while (end := received.find(b"\r\n\r\n", max(0, seen - 3))) < 0 and len(received) <= LARGEST_HEAD:
            seen = len(received)
            received += next(pieces)
        if not 0 <= end <= LARGEST_HEAD:
            raise RefusedError(431, f"The head of a request has {LARGEST_HEAD:,} bytes at most.")
        self.raw_requestline, _, lines = bytes(received[: end + 4]).partition(b"\r\n")
        self.rfile = BytesIO(lines)
        if not self.parse_request():
            raise EOFError  # there was an empty line, and no request
        length = self._length()
        while len(received) < end + 4 + length:
            received += next(pieces)
        return bytes(received[end + 4 : end + 4 + length])

    def _length(self) -> int:
        """The number of bytes of the body."""
        length = self.headers.get("Content-Length", "0")
        if "Transfer-Encoding" in self.headers:
            raise RefusedError(411, "A body is sent in one piece, with its Content-Length.")
        if not (length.isascii() and length.isdecimal()):
            raise RefusedError(400, "The length of the body is no number.")
        if len(length) > 9 or int(length) > LARGEST_BODY:
            raise RefusedError(413, f"A question has {LARGEST_BODY:,} bytes at most.")
        return int(length)

    def _answer(self, body: bytes) -> tuple[str, bytes]:
        """The type and the content of the answer to a request with this body. Raises RefusedError."""
        path = self.path.partition("?")[0]
        if not self._names_us():
            raise RefusedError(403, "This page answers under its own address alone, such as 127.0.0.1 or localhost.")
        if path not in ("/backends", "/translate", *FILES):
            raise RefusedError(404, "There is nothing at this address.")
        if self.command != ("POST" if path == "/translate" else "GET"):
            raise RefusedError(405, "This address is not asked in this way.")
        if path in FILES:
            file = Path(__file__).parent / "static" / (Path(path).name or "page.html")
            return f"{FILES[path]}; charset=utf-8", file.read_bytes()
        return JSON, msgspec.json.encode(self.server.about() if path == "/backends" else self._translation(body))

    def _names_us(self) -> bool:
        """Whether the Host header names this server, and not somebody's name that was pointed at it."""
        host = self.server.host
        try:
            name = urlsplit(f"//{self.headers.get('Host', '')}").hostname or ""
            if name not in OWN_NAMES and host in ("0.0.0.0", "::"):  # every address of this machine
                return bool(ip_address(name))  # an address, unlike a name, cannot be pointed elsewhere
        except ValueError:
            return False
        return name in {*OWN_NAMES, host.lower()}

    def _translation(self, body: bytes) -> dict[str, object]:
        if self.headers.get_content_type() != JSON:
            raise RefusedError(415, f"A question is sent as {JSON}.")
        try:
            question = msgspec.json.decode(body, type=TranslationRequest)
        except (msgspec.MsgspecError, UnicodeDecodeError) as error:
            raise RefusedError(400, f"This is no question that the page would send: {error}") from error
        backend = next((one for one in self.server.served if one.name == question.backend), None)
        if backend is None:
            raise RefusedError(404, "There is no such backend on this page.")
        sources, vocabulary = self.server.sources, self.server.vocabulary
        text = sources.as_written(question.text)
        if len(text) > LONGEST_QUESTION:
            raise RefusedError(
                413, f"The sentence has {len(text)} characters; at most {LONGEST_QUESTION} are translated."
            )
        unknown = sorted(set(text) - vocabulary.id_of.keys())
        if unknown and not question.drop_unknown:
            named = [f"“{c}” (U+{ord(c):04X})" if c.isprintable() else f"U+{ord(c):04X}" for c in unknown[:NAMED]]
            more = f" and {len(unknown) - NAMED} more" if len(unknown) > NAMED else ""
            raise RefusedError(422, f"This run does not know {', '.join(named)}{more}.", unknown=True)
        text = vocabulary.without_unknown(text)
        if not text.strip():
            raise RefusedError(400, "There is nothing to translate; type a sentence.")
        try:
            answer = backend.answer(text)
            return answer | {"doubt": sources.doubt(text, answer["translation"])}
        except RosettaError as error:
            raise RefusedError(503 if isinstance(error, UnavailableError) else 500, str(error)) from error

    def _send(self, status: int, kind: str, content: bytes) -> None:
        """Send the answer."""
        own = {"Date": self.date_time_string(), "Content-Type": kind, "Content-Length": str(len(content))}
        self.send_response_only(status)
        for name, value in (own | HEADERS | {"Connection": "close"}).items():
            self.send_header(name, value)
        self.end_headers()
        self.request.settimeout(REQUEST_SECONDS)
        self.wfile.write(content)

    def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> NoReturn:
        """Refuse what is no request of HTTP."""
        raise RefusedError(code, message or HTTPStatus(code).phrase)


class PageServer(ThreadingTCPServer):
    """The page of a run at a host's port, with a thread for each visitor.

    `vocabulary` and `sources` are of the run; the examples among these are to be clicked on. Raises OSError and
    UnicodeError where there is no such host, or the port is taken.
    """

    daemon_threads = allow_reuse_address = True
    request_queue_size = MOST_CONNECTIONS

    def __init__(
        self,
        host: str,
        port: int,
        run: str,
        served: Sequence[ServedBackend],
        vocabulary: CharVocabulary,
        sources: Sources,
    ) -> None:
        self.host, self.served, self.vocabulary, self.sources = host, served, vocabulary, sources
        self._about = {"run": run, "examples": sources.examples, "longest": LONGEST_QUESTION}
        self._open: dict[Any, str] = {}  # connections, the oldest first, and their visitors' addresses
        self._unanswered: set[Any] = set()  # those of them whose request is not whole yet
        self._lock = Lock()  # of both
        self.address_family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        super().__init__((str(address[0]), port), _Visit)

    def about(self) -> dict[str, object]:
        """What the page shows of itself, and of the backends."""
        states = [{"name": one.name, "state": one.state, "message": one.message} for one in self.served]
        return self._about | {"backends": states}

    def process_request(self, request: Any, client_address: Any) -> None:
        """Answer a visitor in a new thread.

        If there are too many connections, or too many of this address, the one that has gone longest without a whole
        request is closed, on which its thread ends.
        """
        with self._lock:
            self._open[request] = client_address[0]
            self._unanswered.add(request)
            own = [one for one, address in self._open.items() if address == client_address[0]]
            if len(own) > MOST_OF_AN_ADDRESS or len(self._open) > MOST_CONNECTIONS:
                crowd = own if len(own) > MOST_OF_AN_ADDRESS else self._open
                late = next(one for one in crowd if one in self._unanswered)  # the newcomer, where there is no other
                self._unanswered.remove(late)
                with suppress(OSError):
                    late.shutdown(socket.SHUT_RDWR)
        super().process_request(request, client_address)

    def keep(self, request: Any) -> None:
        """Have a connection, whose request is whole, keep its place until its end."""
        with self._lock:
            self._unanswered.discard(request)

    def shutdown_request(self, request: Any) -> None:
        """End a connection."""
        with self._lock:
            del self._open[request]
            self._unanswered.discard(request)
        super().shutdown_request(request)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Report nothing of a visitor who has gone."""
        if not isinstance(sys.exception(), OSError | EOFError):
            super().handle_error(request, client_address)


def _pieces(visitor: socket.socket, seconds: float) -> Iterator[bytes]:
    """What a visitor sends, as it comes. Raises EOFError at its end, RefusedError after so many seconds in all."""
    ends = monotonic() + seconds
    with suppress(TimeoutError):
        while (left := ends - monotonic()) > 0:
            visitor.settimeout(left)
            if not (piece := visitor.recv(1 << 16)):
                raise EOFError
            yield piece
    raise RefusedError(408, f"A whole request has to arrive within {seconds:.0f} s.")


def serve(run: Path, host: str, port: int, names: Sequence[str], runtime: Runtime) -> None:
    """Serve the page of a run with these backends until KeyboardInterrupt, which ends the backends' processes.

    Port 0 stands for any that is free. Raises CannotBeginError where the address cannot be had.
    """
    directory = RunDirectory.open(run)
    directory.read_state("last")
    vocabulary, _ = directory.vocabularies()
    sources = Sources.of_run(directory)
    served = [ServedBackend(name, directory, runtime) for name in names]
    title = "the bundled run" if run == BUNDLED_RUN else str(run)
    try:
        server = PageServer(host, port, title, served, vocabulary, sources)
    except (OSError, UnicodeError) as error:  # UnicodeError: a name with nothing between two dots, or too much
        reason = error.strerror if isinstance(error, OSError) else "this is no name of a machine"
        raise CannotBeginError(
            f"the page cannot be served at {host}, port {port}: {reason}; choose another --host or --port, "
            "such as 0 for any port that is free"
        ) from error
    address, own_port, *_ = server.socket.getsockname()
    if not ip_address(address).is_loopback:
        warn(f"whoever reaches {host} can use the page, without a password and without encryption")
    Thread(target=server.serve_forever, daemon=True).start()
    where = f"[{address}]" if ":" in address else address
    say(f"The page is at http://{where}:{own_port}/ until Ctrl-C.")
    try:
        # In this thread, since it is the one that a signal interrupts: a process half open is then ended too.
        while True:
            for one in served:
                if one.state == "opening":
                    with starting(one.name):
                        one.open()
            sleep(POLL_SECONDS)
    finally:
        for one in served:
            one.close()
