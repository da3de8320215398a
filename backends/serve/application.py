"""The page's addresses as a Flask application: the page itself, the backends' states, and translations as JSON.

Whatever a visitor sends is limited, checked against a type, and given back as JSON, which the page shows as text.
Other websites that the visitor's browser has open cannot ask: a browser sends JSON to another site only with its
consent, which is never given, and a website that has its own name point at this machine is refused for that name.
"""

from collections.abc import Sequence
from ipaddress import ip_address
from urllib.parse import urlsplit

import msgspec
from flask import Flask, Response, abort, render_template, request
from werkzeug.exceptions import HTTPException

from backends.serve.served import ServedBackend, UnavailableError
from common.errors import RosettaError
from common.tensors import CharVocabulary
from common.text import normalize

LONGEST_QUESTION = 200  # characters
LARGEST_BODY = 4096  # bytes; a sentence of 200 characters, each written as \ud83d\ude00, takes 2,400
NAMED = 8  # unknown characters that a message names
OWN_NAMES = {"localhost", "127.0.0.1", "::1"}
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


class Asked(msgspec.Struct, forbid_unknown_fields=True):
    """What the page asks."""

    backend: str
    text: str
    drop_unknown: bool = False


def application(
    run: str, served: Sequence[ServedBackend], vocabulary: CharVocabulary, host: str, examples: Sequence[str]
) -> Flask:
    """The page of a run, which `host` serves, with `examples` to click on.

    `vocabulary` is that of the sentences to translate.
    """
    made = Flask(__name__)
    made.config["MAX_CONTENT_LENGTH"] = LARGEST_BODY
    by_name = {one.name: one for one in served}

    @made.before_request
    def refuse_other_names() -> None:
        if not _is_own(request.headers.get("Host", ""), host):
            abort(403, "This page answers under its own address alone, such as 127.0.0.1 or localhost.")

    @made.after_request
    def add_headers(response: Response) -> Response:
        response.headers.update(HEADERS)
        return response

    @made.errorhandler(HTTPException)
    def explain(error: HTTPException) -> tuple[dict[str, str], int]:
        return {"error": error.description or error.name}, error.code or 500

    @made.get("/")
    def page() -> str:
        return render_template("page.html", run=run, examples=examples, longest=LONGEST_QUESTION)

    @made.get("/backends")
    def states() -> dict[str, object]:
        return {"backends": [{"name": one.name, "state": one.state, "message": one.message} for one in served]}

    @made.post("/translate")
    def translate() -> Response | tuple[dict[str, object], int]:
        if request.mimetype != "application/json":
            abort(415, "A question is sent as application/json.")
        try:
            question = msgspec.json.decode(request.get_data(), type=Asked)
        except (msgspec.MsgspecError, UnicodeDecodeError) as error:
            abort(400, f"This is no question that the page would send: {error}")
        if question.backend not in by_name:
            abort(404, "There is no such backend on this page.")
        text = normalize(question.text)
        if len(text) > LONGEST_QUESTION:
            abort(413, f"The sentence has {len(text)} characters; at most {LONGEST_QUESTION} are translated.")
        unknown = sorted(set(text) - vocabulary.id_of.keys())
        if unknown and not question.drop_unknown:
            return {"error": f"This run does not know {_named(unknown)}.", "unknown": True}, 422
        text = vocabulary.without_unknown(text)
        if not text.strip():
            abort(400, "There is nothing to translate; type a sentence.")
        try:
            answer = by_name[question.backend].answer(text)
        except RosettaError as error:
            abort(503 if isinstance(error, UnavailableError) else 500, str(error))
        return Response(msgspec.json.encode(answer), mimetype="application/json")

    return made


def _is_own(header: str, host: str) -> bool:
    """Whether a request's Host header names this server, and not somebody's name that was pointed at it."""
    try:
        name = urlsplit(f"//{header}").hostname or ""
        if name not in OWN_NAMES and host in ("0.0.0.0", "::"):  # every address of this machine
            return bool(ip_address(name))  # an address, unlike a name, cannot be pointed elsewhere
    except ValueError:
        return False
    return name in {*OWN_NAMES, host.lower()}


def _named(characters: Sequence[str]) -> str:
    shown = [f"“{c}” (U+{ord(c):04X})" if c.isprintable() else f"U+{ord(c):04X}" for c in characters[:NAMED]]
    more = len(characters) - len(shown)
    return ", ".join(shown) + (f" and {more} more" if more else "")
