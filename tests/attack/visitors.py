"""Sends the page of `rosetta serve` requests of every kind, whole ones and bytes that are none, at random.

It ends at the first answer that must not be: an error of the server, a traceback, no answer in time, or one without
the headers that bind a browser. No backend is started: one that answers at once is in their place, and one that is
always busy.
"""

import json
import re
import socket
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from threading import Thread
from typing import Any

import numpy as np
from flask import Flask
from waitress.wasyncore import close_all

from backends.serve.application import HEADERS, LARGEST_BODY, LONGEST_QUESTION, application
from backends.serve.connections import page_server, run_server
from backends.serve.served import UnavailableError
from backends.serve.server import OWN_THREADS
from common.tensors import CharVocabulary
from tests.attack.damage_bytes import damaged, damaged_json
from tests.attack.limits import Target, attacked

VOCABULARY = CharVocabulary("abcdefghijklmnopqrstuvwxyzé .!?")
ALLOWED = {200, 304, 308, 400, 403, 404, 405, 411, 413, 414, 415, 422, 431, 501, 503, 505}
# Of each list, what stands before None is what most requests have.
PATHS = ["/", "/backends", "/translate", None, *"/static/page.js /static/../server.py /static/%2e%2e * /%00".split()]
PATHS += ["//evil.example/", "/\\evil", "/%ff", "/" + "a" * 5000, "/translate/", "/?a=%s%n"]
METHODS = ["GET", "POST", None, *"HEAD OPTIONS PUT DELETE TRACE PATCH CONNECT get".split(), "A" * 100]
HOSTS = ["localhost", "127.0.0.1:8000", "[::1]", None, *"evil.example [:: localhost:99999999 a@localhost é".split()]
TYPES = ["application/json", None, "application/json; charset=utf-16", "text/plain", "multipart/form-data", "", "/"]
TEXTS = [
    "",
    " \t\n",
    "a" * LONGEST_QUESTION,
    "é" * (LONGEST_QUESTION + 1),
    "\x00\x1b[2J",
    "\u202e\u2028",
    "{{ 7 * 7 }}",
]
TEXTS += ["犬" * 50, *["go on.", "où est il ?", "yes!"] * 5, "e\u0301" * 190, "\u0958" * 190, "a" * 5000, "<script>"]
WHOLE = b"GET / HTTP/1.1\r\nHost: localhost\r\n"
POST = b"POST /translate HTTP/1.1\r\nHost: localhost\r\n"
# Bytes that are no request, or one whose parts contradict one another.
RAW = [
    b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",  # which begins TLS
    b"GET / HTTP/9.9\r\n\r\n",
    b"GET  / HTTP/1.1\r\nHost: localhost\r\n\r\n",
    b"GET http://evil.example/ HTTP/1.1\r\nHost: localhost\r\n\r\n",
    WHOLE + b"Host: evil.example\r\n\r\n",
    POST + b"Content-Length: -1\r\n\r\n",
    POST + b"Content-Length: 99999999999999999999\r\n\r\n",
    POST + b"Content-Length: " + b"9" * 5000 + b"\r\n\r\n",
    b"GET http://[ HTTP/1.1\r\nHost: localhost\r\n\r\n",
    POST + b"Content-Length: 5\r\nContent-Length: 6\r\n\r\n123456",
    POST + b"Transfer-Encoding: chunked\r\n\r\nffffffffffffffff\r\n",
    POST + b"Transfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n0\r\n",
    POST + b"Transfer-Encoding: gzip\r\n\r\n",
    WHOLE + b"A: b\n c\r\n: d\r\nE\x00: f\r\n\r\n",
    WHOLE + b"X: " + b"a" * 70_000 + b"\r\n\r\n",
    WHOLE + b"X: a\r\n" * 20_000 + b"\r\n",
    b"\r\n" * 1000,
    (WHOLE + b"\r\n") * 50,
]


class Quick:
    """A backend that gives a sentence back, or has no time for it."""

    state, message = "ready", "<b>\u202e"

    def __init__(self, name: str) -> None:
        self.name = name

    def answer(self, text: str) -> dict[str, Any]:
        if self.name == "busy":
            raise UnavailableError("busy is busy")
        return {"translation": text, "milliseconds": 1.5, "ended": True, "longest": None, "characters": []}


@contextmanager
def served(page: Flask) -> Iterator[int]:
    """The page on a port of this machine, within the limits that it always has."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        server = page_server(page, listener, OWN_THREADS)
        thread = Thread(target=run_server, args=[server], daemon=True)
        thread.start()
        yield listener.getsockname()[1]
        # In the thread that waits for the sockets, since it must not wait for any that is closed.
        server.trigger.pull_trigger(partial(close_all, server._map))
        thread.join(10)
        server.task_dispatcher.shutdown()


def question(rng: np.random.Generator) -> bytes:
    """A question that the page would send, or one that is damaged."""
    asked: dict[str, Any] = {"backend": str(rng.choice(["quick", "busy", "none", "../x"]))}
    asked["text"] = str(rng.choice(TEXTS))
    if rng.integers(2):
        asked["drop_unknown"] = bool(rng.integers(2))
    whole = json.dumps(asked, ensure_ascii=bool(rng.integers(2))).encode()
    match rng.integers(4):
        case 0:
            return damaged_json(whole, rng)
        case 1:
            return damaged(whole, rng)
        case 2:
            return rng.bytes(int(rng.integers(0, 2 * LARGEST_BODY)))
    return whole


def typed_question(rng: np.random.Generator) -> bytes:
    """A question after a line with its type of content."""
    return f"{_usual(TYPES, rng)}\n".encode() + question(rng)


def request(rng: np.random.Generator) -> bytes:
    """The bytes of a request, most of which are as HTTP wants them."""
    method = _usual(METHODS, rng)
    body = question(rng) if method == "POST" or rng.integers(5) == 0 else b""
    length = len(body) if rng.integers(10) else int(rng.integers(0, 2 * len(body) + 1))
    head = f"{method} {_usual(PATHS, rng)} HTTP/1.1\r\nHost: {_usual(HOSTS, rng)}\r\n"
    head += f"Content-Type: {_usual(TYPES, rng)}\r\nContent-Length: {length}\r\n\r\n"
    whole = head.encode() + body if rng.integers(4) else RAW[rng.integers(len(RAW))]
    return damaged(whole, rng) if rng.integers(4) == 0 else whole


def _usual(values: list[Any], rng: np.random.Generator) -> str:
    """In three of four cases one of the values before None, else any."""
    chosen = values[: values.index(None)] if rng.integers(4) else [value for value in values if value is not None]
    return str(chosen[rng.integers(len(chosen))])


def attack(count: int, start: int = 0) -> Counter[str]:
    """Visit the page `count` times, at random from the seed `start`; returns how often it answered what."""
    backends: Any = [Quick("quick"), Quick("busy")]
    page = application("<a run>\u202e", backends, VOCABULARY, "127.0.0.1", ["go on."])
    with served(page) as port:
        asked = {f"question {number}": Target(typed_question, partial(_asked, page)) for number in range(3)}
        outcomes = attacked({**asked, "request": Target(request, partial(_visited, port))}, count, start)
        whole = {"whole": Target(lambda rng: WHOLE + b"\r\n", partial(_visited, port))}
        assert attacked(whole, 1, start) == {"whole: 200": 1}, "it does not answer any more"
    return outcomes


def _asked(page: Flask, path: Path) -> str:
    """The status with which the page answers a question, without a server in between."""
    kind, _, body = path.read_bytes().partition(b"\n")
    headers = {"Host": "localhost"}
    answer = page.test_client().post("/translate", data=body, content_type=kind.decode(), headers=headers)
    assert answer.status_code in ALLOWED, answer.data
    assert {name: answer.headers.get(name) for name in HEADERS} == HEADERS
    assert answer.status_code < 400 or json.loads(answer.data).keys() >= {"error"}
    return str(answer.status_code)


def _visited(port: int, path: Path) -> str:
    """The status of the first answer to the bytes of a request, after which the visitor says no more."""
    received = b""
    with socket.create_connection(("127.0.0.1", port), timeout=10) as visitor:
        try:
            visitor.sendall(path.read_bytes())
            visitor.shutdown(socket.SHUT_WR)
            while piece := visitor.recv(1 << 16):
                received += piece
        except TimeoutError as error:
            raise AssertionError("no answer, and no end of the connection") from error
        except OSError:
            """The server may close a connection before it has read all that is wrong."""
    statuses = [int(status) for status in re.findall(rb"^HTTP/1\.[01] ([2-5]\d\d) ", received, re.MULTILINE)]
    assert ALLOWED.issuperset(statuses), received[:1000]
    assert not re.search(rb"Traceback|^Server: ", received, re.MULTILINE)
    of_the_server = received.count(b"Content-Type: text/plain; charset=utf-8")  # what is no request to the page
    assert received.count(b"\r\nContent-Security-Policy: ") + of_the_server >= len(statuses)
    return str(statuses[0]) if statuses else "no answer"
