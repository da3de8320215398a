"""Requests of every kind to the page of `rosetta serve`, and bytes that are none.

Each answer has one of HTTP's statuses for a fault of the visitor, comes in time, and has the
headers that bind a browser; the server says nothing.
"""

import random
from contextlib import redirect_stderr
from io import StringIO
from urllib.parse import quote

from backends.serve.server import LONGEST_QUESTION
from tests.nightly.attack import attack
from tests.nightly.damage import damaged, odd_text
from tests.support.visitors import RAW, WHOLE, served, visited

TEXTS = [
    "",
    " \t\n",
    "a" * LONGEST_QUESTION,
    "é" * (LONGEST_QUESTION + 1),
    "\x00\x1b[2J",
    "\u202e\u2028",
    "<script>",
]
TEXTS += [
    "犬" * 50,
    *["Go on.", "Why me?", "Yes!"] * 5,
    "e\u0301" * 190,
    "\u0958" * 190,
    "a" * 5000,
    "{{ 7 * 7 }}",
]
PATHS = (
    "/ /?a=%s%n /?text=%ff%00 /page.css /page.html /static/../page.py /%2e%2e /%00 //evil.example/ "
    "*"
)


def request(rng: random.Random) -> bytes:
    """The bytes of a question as the page would send it, of another request,
    or of one of these that is damaged."""

    def whole(content: bytes, rng: random.Random) -> bytes:
        return content

    question = b"/?text=" + quote(rng.choice(TEXTS)).encode()
    method = rng.choice([b"GET", b"GET", b"HEAD"])
    path = rng.choice([question, question, *PATHS.encode().split()])
    asked = method + WHOLE.removeprefix(b"GET").replace(b"/", path, 1) + b"\r\n"
    sent = rng.choice([asked, asked, asked, rng.choice([*RAW])])
    return rng.choice([whole, whole, odd_text, damaged])(sent, rng)


def test_a_request_gets_one_of_http_s_answers() -> None:
    with served("a run", {"Try": ["go on."]}) as port, redirect_stderr(StringIO()) as said:

        def case(rng: random.Random) -> str:
            status = visited(request(rng), port)
            assert not said.getvalue(), said.getvalue()
            return status

        attack(case, 5000, least=6)
