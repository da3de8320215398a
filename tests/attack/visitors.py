"""Sends the page of `rosetta serve` requests of every kind, whole ones and bytes that are none, at random.

    python -m tests.attack.visitors COUNT [SEED]

It ends at the first answer that must not be: an error of the server, a traceback, no answer in time, or one without
the headers that bind a browser. The request is left in the working folder. No backend is started: one that answers at
once is in their place, and one that is always busy.
"""

import json
import logging
import socket
import sys
import warnings
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Thread
from typing import Any

import numpy as np
import waitress
from flask import Flask

from backends.serve.application import HEADERS, LARGEST_BODY, LONGEST_SENTENCE, application
from backends.serve.served import Answer, BusyError, Character
from backends.serve.server import LIMITS, OWN_THREADS
from common.vocabulary import CharVocabulary
from tests.attack.damage_bytes import damaged, damaged_json
from tests.attack.limits import left_behind, little_memory, little_time

VOCABULARY = CharVocabulary("abcdefghijklmnopqrstuvwxyzé .!?")
ALLOWED = {200, 304, 308, 400, 403, 404, 405, 411, 413, 414, 415, 422, 431, 501, 503, 505}
QUESTION = {"backend": "quick", "text": "go on."}
PATHS = "/ /backends /translate /static/page.js /static/page.css /static/../server.py /static/%2e%2e *".split()
PATHS += ["/static/", "//evil.example/", "/\\evil", "/%00", "/%ff", "/" + "a" * 5000, "/translate/", "/?a=%s%n"]
METHODS = ["GET", "POST", "HEAD", "OPTIONS", "PUT", "DELETE", "TRACE", "PATCH", "CONNECT", "get", "A" * 100]
HOSTS = [*"localhost 127.0.0.1:8000 [::1] evil.example [:: localhost:99999999 a@localhost %6c é".split(), ""]
TYPES = ["application/json", "application/json; charset=utf-16", "text/plain", "multipart/form-data; boundary=a"]
TYPES += ["", "/"]
TEXTS = ["", " \t\n", "a" * LONGEST_SENTENCE, "é" * (LONGEST_SENTENCE + 1), "\x00\x1b[2J", "\u202e\u2028", "<script>"]
TEXTS += ["犬" * 50, *["go on.", "où est il ?", "yes!"] * 5]
TEXTS += ["e\u0301" * 190, "\u0958" * 190, "👩\u200d🚀", "a" * 5000, "{{ 7 * 7 }}", "%s"]
# Bytes that are no request, or one whose parts contradict one another.
RAW = [
    b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",  # which begins TLS
    b"GET / HTTP/9.9\r\n\r\n",
    b"GET /\r\n\r\n",
    b"GET  / HTTP/1.1\r\nHost: localhost\r\n\r\n",
    b"GET http://evil.example/ HTTP/1.1\r\nHost: localhost\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: localhost\r\nHost: evil.example\r\n\r\n",
    b"POST /translate HTTP/1.1\r\nHost: localhost\r\nContent-Length: -1\r\n\r\n",
    b"POST /translate HTTP/1.1\r\nHost: localhost\r\nContent-Length: 99999999999999999999\r\n\r\n",
    b"POST /translate HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\n123456",
    b"POST /translate HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\nffffffffffffffff\r\n",
    b"POST /translate HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n0\r\n",
    b"POST /translate HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: gzip\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: localhost\r\nA: b\n c\r\n: d\r\nE\x00: f\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: localhost\r\nX: " + b"a" * 70_000 + b"\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: localhost\r\n" + b"X: a\r\n" * 20_000 + b"\r\n",
    b"GET / HTTP/1.1\r\nHost: localhost\r\nExpect: 100-continue\r\nConnection: keep-alive, close\r\n\r\n",
    b"\r\n" * 1000,
    b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n" * 50,
]


class Quick:
    """A backend that gives a sentence back, or has no time for it."""

    state, message = "ready", "<b>\u202e"

    def __init__(self, name: str) -> None:
        self.name = name

    def answer(self, text: str) -> Answer:
        if self.name == "busy":
            raise BusyError("busy is busy")
        return Answer(self.name, text, 1.5, True, None, [Character(c, 0.5, []) for c in text])


def page() -> Flask:
    served: Any = [Quick("quick"), Quick("busy")]
    return application("<a run>\u202e", served, VOCABULARY, "127.0.0.1", ["go on."])


@contextmanager
def served(made: Flask) -> Iterator[int]:
    """The page on a port of this machine, within the limits that it always has."""
    logging.getLogger("waitress.queue").setLevel(logging.ERROR)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        server = waitress.create_server(made, sockets=[listener], threads=OWN_THREADS, **LIMITS)
        thread = Thread(target=server.run, daemon=True)
        thread.start()
        yield listener.getsockname()[1]
        server.close()
        server.task_dispatcher.shutdown()


def body_of(rng: np.random.Generator) -> bytes:
    """A question that the page would send, one that is damaged, or bytes."""
    text = str(rng.choice(TEXTS))
    question = QUESTION | {"text": text, "backend": str(rng.choice(["quick", "busy", "none", "../x"]))}
    if rng.integers(2):
        question["drop_unknown"] = bool(rng.integers(2))
    whole = json.dumps(question, ensure_ascii=bool(rng.integers(2))).encode()
    match rng.integers(4):
        case 0:
            return damaged_json(whole, rng)
        case 1:
            return damaged(whole, rng)
        case 2:
            return rng.bytes(int(rng.integers(0, 2 * LARGEST_BODY)))
    return whole


def request_of(rng: np.random.Generator) -> bytes:
    """The bytes of a request, most of which are as HTTP wants them."""
    if rng.integers(4) == 0:
        raw = RAW[rng.integers(len(RAW))]
        return raw if rng.integers(2) else damaged(raw, rng)
    method, path = _seldom_other(METHODS[:2], METHODS, rng), _seldom_other(PATHS[:3], PATHS, rng)
    host, kind = _seldom_other(HOSTS[:3], HOSTS, rng), _seldom_other(TYPES[:1], TYPES, rng)
    body = body_of(rng) if method == "POST" or rng.integers(5) == 0 else b""
    length = len(body) if rng.integers(10) else int(rng.integers(0, 2 * len(body) + 1))
    head = f"{method} {path} HTTP/1.1\r\nHost: {host}\r\nContent-Type: {kind}\r\nContent-Length: {length}\r\n\r\n"
    whole = head.encode() + body
    return damaged(whole, rng) if rng.integers(5) == 0 else whole


def _seldom_other(usual: list[str], all_: list[str], rng: np.random.Generator) -> str:
    chosen = usual if rng.integers(4) else all_
    return chosen[rng.integers(len(chosen))]


def attack(count: int, start: int = 0) -> Counter[str]:
    """Visit the page `count` times, at random from the seed `start`; returns how often it answered what."""
    outcomes: Counter[str] = Counter()
    rng = np.random.default_rng(start)
    made = page()
    with served(made) as port, little_memory():
        for number in range(count):
            if number % 4:
                with left_behind(body := body_of(rng)), little_time():
                    status = _asked(made, body, _seldom_other(TYPES[:1], TYPES, rng))
                outcomes[f"question: {status}"] += 1
            else:
                with left_behind(request := request_of(rng)), little_time():
                    statuses = _visited(port, request)
                outcomes[f"request: {statuses[0] if statuses else 'no answer'}"] += 1
        with little_time():
            assert _visited(port, RAW[-1])[0] == 200, "it does not answer any more"
    return outcomes


def _asked(made: Flask, body: bytes, kind: str) -> int:
    """The status with which the page answers a question, without a server in between."""
    answer = made.test_client().post("/translate", data=body, content_type=kind, headers={"Host": "localhost"})
    _check(answer.status_code, dict(answer.headers), answer.data)
    return answer.status_code


def _visited(port: int, request: bytes) -> list[int]:
    """The status of each answer to the bytes of a request, after which the visitor says no more."""
    received = b""
    with socket.create_connection(("127.0.0.1", port), timeout=10) as visitor:
        try:
            visitor.sendall(request)
            visitor.shutdown(socket.SHUT_WR)
            while piece := visitor.recv(1 << 16):
                received += piece
        except TimeoutError as error:
            raise AssertionError("no answer, and no end of the connection") from error
        except OSError:
            """The server may close a connection before it has read all that is wrong."""
    return [_check(*answer) for answer in _answers(received)]


def _answers(received: bytes) -> Iterator[tuple[int, dict[str, str], bytes]]:
    """Status, headers and body of each of the answers, one after another."""
    while received:
        head, _, rest = received.partition(b"\r\n\r\n")
        first, *lines = head.decode("latin-1").split("\r\n")
        status = int(first.split()[1])
        headers = dict(line.split(": ", 1) for line in lines)
        without_body = status < 200 or not rest or rest.startswith(b"HTTP/")  # also of a request with HEAD
        length = 0 if without_body else int(headers.get("Content-Length", len(rest)))
        if status >= 200:
            yield status, headers, rest[:length]
        received = rest[length:]


def _check(status: int, headers: dict[str, str], body: bytes) -> int:
    """The status. Raises AssertionError for an answer that must not be."""
    assert status in ALLOWED, f"status {status}: {body[:300]!r}"
    assert b"Traceback" not in body
    assert "Server" not in headers
    if headers.get("Content-Type") == "text/plain; charset=utf-8":  # the server's own, of what is no request
        assert status >= 400
    else:
        assert {name: headers.get(name) for name in HEADERS} == HEADERS, f"status {status}: {headers}"
        if status >= 400 and body:
            assert json.loads(body).keys() >= {"error"}
    return status


if __name__ == "__main__":
    warnings.simplefilter("error")
    print(json.dumps(attack(*map(int, sys.argv[1:]))))
