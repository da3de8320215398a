"""`rosetta serve`: what its page shows, what it refuses, and what becomes of the backends' processes."""

import json
import re
import signal
import socket
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from functools import partial
from typing import Any

import psutil
import pytest
from flask import Flask
from playwright.sync_api import Browser, Page, Route, expect

from backends.process.parent import Runtime
from backends.serve import connections
from backends.serve.application import HEADERS, LONGEST_QUESTION, application
from backends.serve.connections import MOST_OF_AN_ADDRESS
from backends.serve.served import WAITING, ServedBackend, UnavailableError
from common.run_directory import BUNDLED_RUN, RunDirectory
from common.tensors import CharVocabulary
from tests.attack import visitors
from tests.conftest import note_wrongs
from tests.program import refusal, started, wait_until

expect.set_options(timeout=30_000)  # milliseconds; other tests may be at work on the same cores
LOCAL = "127.0.0.1"
SENTENCE, TRANSLATION = "Look at the skirt!", "Regardez la jupe\u202f!"
HOSTILE = "<script>alert(1)</script><img src=x onerror=alert(2)>\"'\u2028\u202e😀"


@pytest.fixture(scope="module")
def numpy() -> Iterator[ServedBackend]:
    """NumPy's backend, open, with the bundled run."""
    backend = ServedBackend("numpy", RunDirectory.open(BUNDLED_RUN), Runtime(threads=1))
    backend.open()
    yield backend
    backend.close()


def ask(backend: ServedBackend, **changes: Any) -> tuple[int, Any]:
    """Status and content of the page's answer to SENTENCE, or to a question with other values."""
    vocabulary, _ = RunDirectory.open(BUNDLED_RUN).vocabularies()
    page = application("a run", [backend], vocabulary, LOCAL, []).test_client()
    answered = page.post("/translate", json={"backend": "numpy", "text": SENTENCE} | changes)
    return answered.status_code, answered.json


def test_an_answer_has_the_translation_its_time_and_every_characters_probability(numpy: ServedBackend) -> None:
    status, found = ask(numpy)
    assert (status, found["translation"]) == (200, TRANSLATION)
    assert "".join(at["character"] for at in found["characters"]) == TRANSLATION + "\n"
    assert found["milliseconds"] > 0
    for at in found["characters"]:
        probabilities = [choice["probability"] for choice in at["choices"]]
        assert len(probabilities) == 3
        assert probabilities == sorted(probabilities, reverse=True)
        assert at["choices"][0] == {"character": at["character"], "probability": at["probability"]}
        assert 0 < sum(probabilities) <= 1.0001
    assert ask(numpy, text=f"{SENTENCE}€\u2028")[0] == 422
    assert ask(numpy, text=f"{SENTENCE}€\u2028", drop_unknown=True)[1]["translation"] == TRANSLATION
    long = ask(numpy, text="She ate. " * 20)[1]
    assert long["longest"] == 24
    assert long["ended"] == (long["characters"][-1]["character"] == "\n")


def test_of_many_at_once_as_many_wait_as_may_and_a_backend_that_died_is_opened_again(numpy: ServedBackend) -> None:
    process, many = psutil.Process(numpy._translator.process.pid), 4 + 1 + WAITING
    with ThreadPoolExecutor(many) as pool:
        process.suspend()
        asked = [pool.submit(ask, numpy) for _ in range(many)]
        wait_until(lambda: sum(one.done() for one in asked) == 4)
        process.resume()
        answered = [one.result(timeout=30) for one in asked]
    assert sorted(status for status, _ in answered) == [200] * (1 + WAITING) + [503] * 4
    assert all("numpy is busy" in content["error"] for status, content in answered if status == 503)
    process.kill()
    status, content = ask(numpy)
    assert (status, numpy.state) == (500, "opening")  # which has the server open it
    assert "ended by signal 9" in content["error"]
    numpy.open()
    assert ask(numpy)[1]["translation"] == TRANSLATION


# What is refused, by a page whose backends answer at once

QUICK = {"backend": "quick", "text": "go on."}


@pytest.fixture(scope="module")
def quick_page() -> Flask:
    backends: Any = [visitors.Quick("quick"), visitors.Quick("busy")]
    return application("a run", backends, visitors.VOCABULARY, LOCAL, [])


REFUSALS: dict[int, list[bytes | dict[str, Any]]] = {  # each with bodies, and with what is changed of a question
    400: [
        *(b"", b"not JSON", b"\xff\xfe", b"[" * 4000, b'{"backend": "quick", "text": ' + b"[" * 4000),
        *(b'{"backend": "quick"}', b'{"backend": "quick", "text": "\\ud800"}'),
        *({"text": 1}, {"text": None}, {"more": 1}, {"drop_unknown": "yes"}, {"text": " "}),
        {"text": "😀", "drop_unknown": True},
    ],
    404: [{"backend": "../torch"}, {"backend": "keras"}],
    413: [{"text": "a" * (LONGEST_QUESTION + 1)}, {"text": "a" * 10_000}],
    422: [{"text": HOSTILE}, {"text": "\x00\x1b[2J"}],
    503: [{"backend": "busy"}],
}


@pytest.mark.parametrize("status", REFUSALS)
def test_what_the_page_would_not_send_is_refused_in_plain_words(quick_page: Flask, status: int) -> None:
    page = quick_page.test_client()
    for wrong in REFUSALS[status]:
        body = wrong if isinstance(wrong, bytes) else json.dumps(QUICK | wrong).encode()
        got = page.post("/translate", data=body, content_type="application/json")
        assert got.status_code == status, body
        assert set(got.json) - {"unknown"} == {"error"}
        assert got.json["error"].isprintable()
    if status == 422:
        assert "“<” (U+003C)" in page.post("/translate", json=QUICK | {"text": HOSTILE}).json["error"]


def test_other_methods_types_sites_and_files_are_refused_and_each_answer_binds_the_browser(
    quick_page: Flask,
) -> None:
    page = quick_page.test_client()
    # A browser asks with OPTIONS before it sends JSON for another site, and sends nothing without a consent.
    other_site = {"Origin": "http://evil.example", "Access-Control-Request-Method": "POST"}
    answers = {
        200: [page.options("/translate", headers=other_site), page.get("/"), page.get("/backends")],
        404: [page.get("/nothing"), page.get("/static/../application.py")],
        405: [page.get("/translate"), page.put("/translate", json=QUICK)],
        415: [page.post("/translate", data=json.dumps(QUICK), content_type=kind) for kind in ("", "text/plain")],
    }
    for status, answered in answers.items():
        for one in answered:
            assert (one.status_code, one.headers.get("Access-Control-Allow-Origin")) == (status, None)
            assert {name: one.headers[name] for name in HEADERS} == HEADERS
    assert "default-src 'none'" in HEADERS["Content-Security-Policy"]
    assert "unsafe" not in HEADERS["Content-Security-Policy"]


HOSTS = [  # the --host, the Host that a visitor names, and the status of the answer
    *[(LOCAL, host, 200) for host in ("localhost", "127.0.0.1:8000", "[::1]:80")],
    *[(LOCAL, host, 403) for host in ("evil.example", "localhost.evil.example", "10.0.0.1", "[::", "", "ü!")],
    *(("0.0.0.0", "192.168.1.5:8000", 200), ("0.0.0.0", "localhost", 200), ("0.0.0.0", "evil.example", 403)),
    *(("::", "[fe80::1]:8000", 200), ("Box.local", "box.local:8000", 200), ("box.local", "192.168.1.5", 403)),
]


@pytest.mark.parametrize(("host", "header", "status"), HOSTS)
def test_a_page_answers_under_its_own_names_alone(host: str, header: str, status: int) -> None:
    page = application("a run", [], CharVocabulary("ab"), host, []).test_client()
    answered = page.get("/", headers={"Host": header})
    assert (answered.status_code, "<html" in answered.text) == (status, status == 200)


HALF = b"POST /translate HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n{"


def test_whoever_sends_no_whole_request_keeps_nobody_out_and_loses_the_place_in_time(
    quick_page: Flask, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connections, "REQUEST_SECONDS", 1.5)
    with visitors.served(quick_page) as port, ExitStack() as stack:

        def visitor(sent: bytes) -> socket.socket:
            connected = stack.enter_context(socket.create_connection((LOCAL, port), timeout=30))
            connected.sendall(sent)
            return connected

        slow = [visitor(HALF % 4000) for _ in range(4 * MOST_OF_AN_ADDRESS)]
        assert visitor(visitors.WHOLE + b"\r\n").recv(100).startswith(b"HTTP/1.1 200 ")
        assert slow[0].recv(100).startswith(b"HTTP/1.1 429 ")
        slow[-1].settimeout(0.2)
        answered = b""
        while not answered:
            with suppress(TimeoutError):
                slow[-1].sendall(b"a")  # which does not give it more time
                answered = slow[-1].recv(100)
        assert answered.startswith(b"HTTP/1.1 408 ")


BAD = [  # requests, and the status of the one answer to each
    (HALF % 1_000_000_000, 413),
    (HALF.replace(b"%d", b"9" * 5000), 400),
    (b"GET http://[ HTTP/1.1\r\nHost: localhost\r\n\r\n", 400),
    ((visitors.WHOLE + b"\r\n") * 100, 200),  # answers that nobody waits for would fill the memory
]


def test_bad_requests_get_one_answer_each_and_are_not_reported(
    quick_page: Flask, capfd: pytest.CaptureFixture[str]
) -> None:
    with visitors.served(quick_page) as port:
        for sent, status in BAD:
            with socket.create_connection((LOCAL, port), timeout=30) as visitor:
                visitor.sendall(sent)
                received = b"".join(iter(partial(visitor.recv, 1 << 16), b""))
            assert re.findall(rb"^HTTP/1.1 (\d+) ", received, re.MULTILINE) == [b"%d" % status]
    assert capfd.readouterr().err == ""


# Beginning and end


def test_a_backend_that_cannot_be_opened_says_why() -> None:
    backend = ServedBackend("tensors", RunDirectory.open(BUNDLED_RUN), Runtime())
    with pytest.raises(UnavailableError, match="is being opened"):
        backend.answer("a")
    backend.open()
    assert backend.state == "failed"
    with pytest.raises(UnavailableError, match="could not be opened: there is no backend 'tensors'"):
        backend.answer("a")


def test_a_request_that_cannot_be_begun_is_one_line(tmp_path) -> None:
    assert "there is no backend 'nonsense'" in refusal(2, "serve", "--backends", "nonsense")
    refusal(2, "serve", tmp_path / "nothing")
    assert "cannot be served at 127.0.0.1.0, port 8000" in refusal(2, "serve", "--host", "127.0.0.1.0")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert f"port {port}" in refusal(2, "serve", "--port", port)
    assert "at a..b, port 8000: this is no name of a machine" in refusal(2, "serve", "--host", "a..b")


@pytest.mark.parametrize("missing", ["flask", "waitress"])
def test_what_serves_the_page_may_be_missing(missing: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, missing, None)
    for name in ("application", "connections"):
        monkeypatch.delitem(sys.modules, f"backends.serve.{name}")
    line = refusal(2, "serve")
    assert missing in line
    assert 'pip install -e ".[serve]"' in line


def test_the_servers_process_has_no_framework_and_ends_with_a_backend_that_is_being_opened() -> None:
    with started("serve", "--port", "0", "--backends", "torch", "--host", "0.0.0.0") as program, ExitStack() as stack:
        stack.callback(program.kill)
        port = re.search(r"http://0\.0\.0\.0:(\d+)/", program.stdout.readline())[1]
        visitor = stack.enter_context(socket.create_connection((LOCAL, int(port)), timeout=30))
        visitor.sendall(visitors.WHOLE + b"\r\n")
        assert visitor.recv(100).startswith(b"HTTP/1.1 200 ")
        server = psutil.Process(program.pid)
        assert not re.search("/site-packages/(torch|paddle)/", " ".join(one.path for one in server.memory_maps()))
        wait_until(server.children)
        opening = server.children()
        program.send_signal(signal.SIGINT)
        _, err = program.communicate(timeout=30)
        assert program.returncode == 128 + signal.SIGINT
        assert re.fullmatch("warning: .*without a password.*\n", err)
        assert psutil.wait_procs(opening, timeout=10)[1] == []


# The page in a browser

SURE = {"probability": 0.95, "choices": []}
ANSWER = {"translation": "où ?", "milliseconds": 1234.5, "ended": True, "longest": None}
ANSWER["characters"] = [SURE | {"character": c} for c in "où ?\n"]


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    """The page of two backends, left and right, in a dark and narrow window; what it did wrong fails in the end."""
    wrong: list[str] = []
    backends: Any = [visitors.Quick("left"), visitors.Quick("right")]
    served = visitors.served(application(HOSTILE, backends, visitors.VOCABULARY, LOCAL, [HOSTILE, "go on."]))
    with served as port, browser.new_context(viewport={"width": 390, "height": 900}, color_scheme="dark") as context:
        page, url = context.new_page(), f"http://{LOCAL}:{port}/"
        # The browser names these two on its console, and the page tells what they mean.
        note_wrongs(page, wrong, "status of (422|500)|ERR_CONNECTION_REFUSED", (url, "data:"))
        page.clock.install()
        page.goto(url)
        expect(page.get_by_role("status")).to_have_text("2 of 2 backends are ready.")
        assert page.locator(".example").first.text_content() == HOSTILE
        assert page.locator(".eyebrow").text_content() == f"Rosetta · {HOSTILE}"
        yield page
    assert wrong == []


def answer_with(page: Page, left: Any, right: Any) -> list[Route]:
    """Have the two backends answer so, None for not yet. Returns the questions that wait."""
    waiting: list[Route] = []

    def answer(route: Route) -> None:
        given = left if route.request.post_data_json["backend"] == "left" else right
        if given:
            route.fulfill(json=given)
        else:
            waiting.append(route)

    page.route("**/translate", answer)
    return waiting


def type_in(page: Page, text: str, status: str) -> None:
    """Type something, and wait for what the page tells of its backends."""
    page.get_by_label("Sentence to translate").fill(text)
    page.get_by_role("button", name="Translate", exact=True).click()
    expect(page.get_by_role("status")).to_contain_text(status)


def assert_clean(page: Page) -> None:
    """That nothing hostile became an element, and that the page is no wider than its window."""
    assert page.evaluate("document.querySelectorAll('img, script:not([src])').length") == 0
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")


def test_answers_are_shown_and_the_unsure_characters_tell_what_else_was_likely(page: Page) -> None:
    choices = [{"character": c, "probability": p} for c, p in {"ù": 0.4, "u": 0.3, "û": 0.1}.items()]
    unsure = {"character": "ù", "probability": 0.4, "choices": choices}
    characters = [unsure if at["character"] == "ù" else at for at in ANSWER["characters"]]
    answer_with(page, ANSWER | {"characters": characters}, ANSWER)
    type_in(page, "go on.", "2 backends answered, all with the same translation.")
    assert page.locator(".translation").all_inner_texts() == ["où ?⏎"] * 2
    assert page.locator(".time").all_inner_texts() == ["1,230 ms"] * 2
    assert sum(map(int, re.findall(r"\d+", page.evaluate("getComputedStyle(document.body).backgroundColor")))) < 200
    expect(page.locator(".note").first).to_have_text("Least sure of: “ù” 40 % (or “u”, 30 %).")
    marks, tip = page.locator("[data-backend=left] .mark"), page.locator("#tip")
    classes = marks.evaluate_all("marks => marks.map(mark => mark.className)")
    assert classes == ["mark", "mark guess", "mark", "mark", "mark end"]

    expect(tip).to_be_hidden()
    marks.nth(1).click()
    expect(tip.locator("div")).to_have_text(["“ù”40 %", "“u”30 %", "“û”10 %"])
    page.keyboard.press("Escape")
    expect(tip).to_be_hidden()
    marks.nth(0).focus()
    page.keyboard.press("ArrowRight")
    expect(marks.nth(1)).to_be_focused()
    expect(tip).to_be_visible()
    marks.last.hover()
    expect(tip).to_contain_text("the end")


def test_what_is_hostile_unknown_or_too_long_is_shown_as_text(page: Page) -> None:
    alert, question = page.get_by_role("alert"), HOSTILE + "W" * 100
    type_in(page, question, "")
    expect(alert).to_contain_text("“<” (U+003C)")
    assert page.locator("#asked").text_content() == question
    choices = [{"character": c, "probability": 0.5} for c in "<>&"]
    characters = [{"character": c, "probability": 0.4, "choices": choices} for c in HOSTILE]
    hostile = ANSWER | {"translation": HOSTILE, "characters": characters, "longest": 24}
    answer_with(page, hostile, ANSWER)
    page.get_by_role("button", name="Leave them out").click()
    expect(alert).to_have_text(re.compile("no sentence had more than 24 characters"))
    expect(page.get_by_role("status")).to_contain_text("2 backends answered, with 2 different translations.")
    assert page.locator(".translation").first.text_content() == HOSTILE
    page.locator(".mark").first.hover()
    expect(page.locator("#tip")).to_contain_text("“&”")
    assert_clean(page)
    answer_with(page, ANSWER, ANSWER)
    page.get_by_role("button", name="go on.").click()
    expect(alert).to_be_hidden()


def test_a_slow_backend_its_end_and_that_of_the_server_are_shown(page: Page) -> None:
    time, note = page.locator("[data-backend=left] .time"), page.locator("[data-backend=left] .note")
    waiting = answer_with(page, None, ANSWER)
    type_in(page, "go on.", "")
    expect(time).to_have_text("…")
    page.clock.fast_forward(5000)  # milliseconds that a slow one keeps the other waiting
    expect(page.get_by_role("status")).to_have_text("right answered.")
    states = [{"name": "left", "state": state, "message": HOSTILE} for state in ("ready", "opening")]
    page.route("**/backends", lambda route: route.fulfill(json={"backends": [states.pop()]}))
    waiting[0].fulfill(status=500, json={"error": HOSTILE})
    expect(note).to_have_text(HOSTILE)
    assert_clean(page)
    page.clock.fast_forward(1000)
    expect(time).to_have_text("ready again")
    page.route("**", lambda route: route.abort("connectionrefused"))
    type_in(page, "go on.", "")
    expect(page.get_by_role("alert")).to_contain_text("is rosetta serve still running?")
