"""The page of `rosetta serve`, for this machine alone:
every backend translates what a visitor types.

The server renders it, and a request changes nothing. A visitor's input is bounded, and shown as
text. Other websites in the visitor's browser cannot read a response: a request under a foreign host
name, as in DNS rebinding, is refused.
"""

import re
import sys
from collections.abc import Iterator
from contextlib import suppress
from html import escape
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from string import Template
from typing import Any
from urllib.parse import parse_qs, urlencode

from backends.process.side_by_side import SideBySide
from backends.process.translate_in_child import Answer
from common.errors import RosettaError, refusing
from common.sources import Sources
from common.tensors import STOP, CharVocabulary
from common.text import normalize, some_of

# In a request's Host field.
LOCAL_NAMES = re.compile(r"(localhost|127\.0\.0\.1|\[::1\])(:\d+)?", re.IGNORECASE)
LONGEST_QUESTION = 200  # characters
# A character's class, by its least probability.
SHADES = {0.9: "sure", 0.7: "likely", 0.5: "unsure", 0.0: "guess"}
STATIC = Path(__file__).parent / "static"
HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; style-src 'self'; img-src data:; base-uri 'none'; form-action 'self'; "
        "frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}


class _Visit(BaseHTTPRequestHandler):
    """Answers one request, whose head the library bounds: 100 fields of 64 KiB."""

    server: "PageServer"
    timeout = 30.0  # seconds for each read and write
    server_version, sys_version, default_request_version = "rosetta", "", "HTTP/1.0"

    def parse_request(self) -> bool:
        """Refuse a request under another name than this machine's own."""
        if not super().parse_request():
            return False
        # Whatever it claims, so that the answer has all of HEADERS.
        self.request_version = "HTTP/1.0"
        named = LOCAL_NAMES.fullmatch(self.headers.get("Host", "")) is not None
        if not named:
            self.send_error(
                403, "This page answers under its own address alone, such as 127.0.0.1 or localhost"
            )
        return named

    def do_GET(self) -> None:
        """Send the page or its style."""
        path, _, query = self.path.partition("?")
        if path not in ("/", "/page.css"):
            return self.send_error(404)
        kind = "html" if path == "/" else "css"
        self.send_response(200)
        self.send_header("Content-Type", f"text/{kind}; charset=utf-8")
        self.end_headers()
        if self.command == "GET":
            question = parse_qs(query).get("text", [""])[0]
            content = (
                self.server.page(question)
                if kind == "html"
                else (STATIC / "page.css").read_text("utf-8")
            )
            self.wfile.write(content.encode(errors="replace"))

    def do_HEAD(self) -> None:
        self.do_GET()

    def end_headers(self) -> None:
        """Send HEADERS with every response, the library's errors included."""
        for name, value in HEADERS.items():
            self.send_header(name, value)
        super().end_headers()

    def log_message(self, *arguments: object) -> None:
        """Log nothing about a visitor."""


class PageServer(ThreadingHTTPServer):
    """The page of a run at a port of this machine, with a thread for each visitor.

    `vocabulary` is the encoder's. The examples of the `sources` are links.
    Raises CannotBeginError where the port cannot be had.
    """

    request_queue_size = 128  # connections that may wait to be accepted
    backends: SideBySide  # set before a visitor is answered

    def __init__(self, port: int, run: str, vocabulary: CharVocabulary, sources: Sources) -> None:
        self.run, self.vocabulary, self.sources = run, vocabulary, sources
        with refusing(
            f"the page cannot be served at port {port}",
            "; choose another --port, such as 0 for any free one",
        ):
            super().__init__(("127.0.0.1", port), _Visit)

    def page(self, question: str) -> str:
        """The page, with the answers where there is a question."""
        examples = [
            f"{escape(name)}: {' '.join(map(example_link, sentences))}"
            for name, sentences in self.sources.examples.items()
        ]
        return Template((STATIC / "page.html").read_text(encoding="utf-8")).substitute(
            run=escape(self.run),
            question=escape(question),
            longest=LONGEST_QUESTION,
            examples=" ".join(examples),
            answers="".join(self.answers(normalize(question))) if question else "",
        )

    def answers(self, question: str) -> Iterator[str]:
        """A row for each backend, then notes on the translations."""
        if len(question) > LONGEST_QUESTION:
            yield notice(
                f"The sentence has {len(question):,} characters; at most "
                f"{LONGEST_QUESTION} are translated."
            )
            return
        written = self.sources.as_written(question)
        if unknown := sorted(self.vocabulary.lacks(written)):
            named = some_of(f"{character!r} (U+{ord(character):04X})" for character in unknown)
            yield notice(f"This run does not know {named}, and translates the sentence without.")
        text = self.vocabulary.without_unknown(written)
        if not text.strip():
            yield notice("There is nothing to translate; type a sentence.")
            return
        answers: dict[str, Answer] = {}
        with suppress(RosettaError):  # no backend is left
            (answers,) = self.backends.answers([text], characters=True)
        for name, answer in answers.items():
            yield answer_row(name, answer)
        for name, why in self.backends.left_out.items():
            yield row(name, note=f"left out: {why}")
        doubts = dict.fromkeys(
            self.sources.doubt(text, answer.translation) for answer in answers.values()
        )
        yield from (notice(f"{doubt[0].upper()}{doubt[1:]}.") for doubt in doubts if doubt)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Ignore a visitor who closed the connection."""
        if not isinstance(sys.exception(), OSError):
            super().handle_error(request, client_address)


def example_link(sentence: str) -> str:
    """A sentence to try, as HTML."""
    return f'<a href="/?{urlencode({"text": sentence})}">{escape(sentence)}</a>'


def notice(text: str) -> str:
    """A sentence for the visitor, as HTML."""
    return f'<p class="notice">{escape(text)}</p>\n'


def row(name: str, time: str = "", translation: str = "", note: str = "") -> str:
    """A backend's row, as HTML. The translation is HTML already."""
    return (
        f'<article><h2>{escape(name)}</h2><p class="translation" translate="no">{translation}</p>\n'
        f'<p class="time">{time}</p><p class="note">{escape(note)}</p></article>\n'
    )


def answer_row(name: str, answer: Answer) -> str:
    """A backend's row with each character shaded by its probability, as HTML."""
    marks = []
    for at in answer.characters:
        shade = next((shade for least, shade in SHADES.items() if at.probability >= least), "guess")
        shown = "⏎" if at.character == STOP else escape(at.character)
        marks.append(f'<span class="{shade}" title="{at.probability:.0%}">{shown}</span>')
    notes = [
        "" if answer.translation else "The model ended the sentence at once.",
        "" if answer.ended else "It found no end; decoding stops here.",
    ]
    return row(name, f"{answer.milliseconds:,.1f} ms", "".join(marks), " ".join(notes).strip())
