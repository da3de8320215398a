"""A page of `rosetta serve` whose backend answers at once,
and a visitor who sends bytes and checks the answer."""

import re
import socket
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from threading import Thread
from typing import Any, ClassVar

from backends.process.translate_in_child import Answer, Candidate, Position
from backends.serve.server import HEADERS, PageServer
from common.sources import Sources
from common.tensors import CharVocabulary

VOCABULARY = CharVocabulary("abcdefghijklmnopqrstuvwxyzé .!?")
ALLOWED = {"200", *"400 403 404 414 431 501 505".split(), "nothing"}
ANSWER_SECONDS = 10.0  # within which a visitor has an answer
WHOLE = b"GET / HTTP/1.1\r\nHost: localhost\r\n"
HALF = WHOLE + b"A: b"
# Bytes that are no request, or one whose parts contradict one another, and the statuses that the
# answer may have. A visitor who sends more than is read may miss it.
RAW = {
    b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03": "400",  # which begins TLS
    b"nonsense\r\n\r\n": "400",
    b"GET / HTTP/9.9\r\n\r\n": "505",
    WHOLE.replace(b"GET", b"POST") + b"Content-Length: 4000\r\n\r\n{": "501 nothing",
    WHOLE.replace(b"/", b"/?text=" + b"a" * 70_000, 1): "414 nothing",
    WHOLE + b"A: b\n c\r\n: d\r\nE\x00: f\r\nHost: evil.example\r\n\r\n": "200",
    WHOLE + b"X: a\r\n" * 20_000 + b"\r\n": "431 nothing",
    (WHOLE + b"\r\n") * 100: "200 nothing",
}


class Quick:
    """In place of backends: one gives a sentence back in capitals,
    each with less probability; one is left out."""

    left_out: ClassVar = {"<dead>": "ended by <b>signal 9"}

    def answers(self, texts: Sequence[str], characters: bool) -> list[dict[str, Answer]]:
        (text,) = texts
        shown = [
            Position(character, 0.95 - 0.2 * number % 0.8)
            for number, character in enumerate(text.upper())
        ]
        return [{"quick": Answer((Candidate(text.upper()),), 1234.5, characters=tuple(shown))}]


@contextmanager
def served(run: str, examples: Mapping[str, Sequence[str]]) -> Iterator[int]:
    """The page of a quick backend on a port of this machine."""
    quick: Any = Quick()
    with PageServer(0, run, VOCABULARY, Sources([("go on.", "")], examples)) as server:
        server.backends = quick
        Thread(target=server.serve_forever, args=[0.05], daemon=True).start()
        yield server.server_address[1]
        server.shutdown()


def visited(sent: bytes, port: int) -> str:
    """The status of the answer to the bytes of a request,
    after which the visitor says no more; it has to come in time."""
    received = b""
    with socket.create_connection(("127.0.0.1", port), timeout=ANSWER_SECONDS) as visitor:
        try:
            visitor.sendall(sent)
            visitor.shutdown(socket.SHUT_WR)
            while piece := visitor.recv(1 << 16):
                received += piece
        except TimeoutError as error:
            raise AssertionError("no answer, and no end of the connection") from error
        except OSError:
            """The server may close a connection before it has read all that is wrong."""
    (status,) = re.findall(rb"^HTTP/1\.0 (\d\d\d) ", received, re.MULTILINE) or [b"nothing"]
    assert status.decode() in ALLOWED, received[:1000]
    assert not re.search(rb"Traceback", received)
    assert not received or all(
        f"\r\n{name}: {value}\r\n".encode() in received for name, value in HEADERS.items()
    )
    return status.decode()
