"""`rosetta serve`: what its page shows, what it refuses, and what becomes of the backends' processes."""

import json
import re
import signal
import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from http.client import HTTPConnection
from queue import SimpleQueue
from typing import Any

import psutil
import pytest
from playwright.sync_api import Browser, Page, Route, expect

from backends.process.parent import Runtime
from backends.process.translating import Opener
from backends.serve import page as page_module
from backends.serve.page import HEADERS, LONGEST_QUESTION, WAITING, RefusedError, ServedBackend
from common.run import BUNDLED_RUN, RunDirectory
from tests.conftest import note_wrongs
from tests.fuzz.attack import visitors
from tests.support.program import refusal, started, wait_until

expect.set_options(timeout=30_000)  # milliseconds; other tests may be at work on the same cores
SENTENCE, TRANSLATION = "I love you!", "Je t'aime\u202f!"
HOSTILE = "<script>alert(1)</script><img src=x onerror=alert(2)>\"'\u2028\u202e😀"


def opened(name: str) -> ServedBackend:
    """A backend with the bundled run, after its opening."""
    opener = Opener(RunDirectory.open(BUNDLED_RUN), "last", None, Runtime(threads=1))
    backend = ServedBackend(name, opener, SimpleQueue())
    backend._to_open.get_nowait().open()
    return backend


@pytest.fixture(scope="module")
def numpy() -> Iterator[ServedBackend]:
    backend = opened("numpy")
    yield backend
    backend.close()


def test_an_answer_has_translation_time_and_probabilities(numpy: ServedBackend) -> None:
    answer = numpy.answer(SENTENCE)
    assert answer.translation == TRANSLATION
    assert "".join(at.character for at in answer.characters) == TRANSLATION + "\n"
    assert answer.milliseconds > 0
    for at in answer.characters:
        probabilities = [choice.probability for choice in at.choices]
        assert len(probabilities) == 3
        assert probabilities == sorted(probabilities, reverse=True)
        assert (at.choices[0].character, at.choices[0].probability) == (at.character, at.probability)
        assert 0 < sum(probabilities) <= 1.0001
    long = numpy.answer("She ate. " * 20)
    assert long.ended == (long.characters[-1].character == "\n")


def test_the_queue_is_bounded_and_a_dead_backend_is_reopened(numpy: ServedBackend) -> None:
    process, many = psutil.Process(numpy._translator.process.pid), 4 + 1 + WAITING
    with ThreadPoolExecutor(many) as pool:
        process.suspend()
        asked = [pool.submit(numpy.answer, SENTENCE) for _ in range(many)]
        wait_until(lambda: sum(future.done() for future in asked) == 4)
        process.resume()
        errors = [error for future in asked if (error := future.exception(timeout=30))]
    assert [(error.status, "numpy is busy" in str(error)) for error in errors] == [(503, True)] * 4
    process.kill()
    for status, said in ((500, "ended by signal 9"), (503, "is being opened")):
        with pytest.raises(RefusedError, match=said) as refused:
            numpy.answer(SENTENCE)
        assert (refused.value.status, numpy.state) == (status, "opening")
    numpy._to_open.get_nowait().open()
    assert numpy.answer(SENTENCE).translation == TRANSLATION


def test_a_backend_that_cannot_be_opened_says_why() -> None:
    backend = opened("tensors")
    assert backend.state == "failed"
    with pytest.raises(RefusedError, match="could not be opened: there is no backend 'tensors'"):
        backend.answer("a")


# What is refused, by a page whose backends answer at once

QUICK = {"backend": "quick", "text": "go on."}
JSON = "application/json"


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    with visitors.served("quick", "busy") as number:
        yield number


def ask(port: int, path: str, method: str = "GET", body: bytes = b"", **headers: str) -> tuple[int, bytes]:
    """Status and content of the page's answer, which binds the browser whatever it is."""
    asked = HTTPConnection("127.0.0.1", port, timeout=30)
    asked.request(method, path, body, {name.replace("_", "-"): value for name, value in headers.items()})
    answered = asked.getresponse()
    assert dict(answered.getheaders()).items() >= HEADERS.items()
    assert not answered.getheader("Access-Control-Allow-Origin")
    return answered.status, answered.read()


def translated(port: int, body: bytes | dict[str, Any], kind: str = JSON) -> tuple[int, dict[str, Any]]:
    """The answer to a body, or to QUICK with such changes."""
    sent = body if isinstance(body, bytes) else json.dumps(QUICK | body).encode()
    status, content = ask(port, "/translate", "POST", sent, Content_Type=kind)
    return status, json.loads(content)


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
def test_what_the_page_would_not_send_is_refused_in_plain_words(port: int, status: int) -> None:
    for wrong in REFUSALS[status]:
        answered, content = translated(port, wrong)
        assert (answered, content["unknown"]) == (status, status == 422), wrong
        assert content["error"].isprintable()
    if status == 422:
        named = translated(port, {"text": HOSTILE})[1]["error"]
        assert "'<' (U+003C)" in named
        assert "and 4 more" in named


def test_only_known_methods_types_and_files_are_answered(port: int) -> None:
    status, answered = translated(port, {"text": "go off€", "drop_unknown": True}, f"{JSON}; charset=utf-8")
    assert (status, answered["translation"]) == (200, "go off")
    assert answered["doubt"] == "training had no 'off'; the translation is a guess"
    assert b"<html" in ask(port, "/?a")[1]
    assert json.loads(ask(port, "/backends")[1])["backends"][0]["name"] == "quick"
    assert [translated(port, {}, kind)[0] for kind in ("", "text/plain")] == [415, 415]
    for path in ("/nothing", "/static/../page.py", "/static/", "/static/page.html", "/translate", "/%00"):
        assert ask(port, path)[0] == 404
    # A browser asks with OPTIONS before it sends JSON for another site, and sends nothing without a consent.
    other_site = {"Origin": "http://evil.example", "Access_Control_Request_Method": "POST"}
    assert ask(port, "/translate", "OPTIONS", **other_site)[0] == 501
    assert "default-src 'none'" in HEADERS["Content-Security-Policy"]
    assert "unsafe" not in HEADERS["Content-Security-Policy"]
    hosts = dict.fromkeys(("localhost", "127.0.0.1:8000", "[::1]:80"), 200)
    hosts |= dict.fromkeys(("evil.example", "localhost.evil.example", "10.0.0.1", "[::", "", "a, localhost"), 403)
    for host, expected in hosts.items():
        status, content = ask(port, "/", Host=host)
        assert (status, b"page.js" in content) == (expected, expected == 200), host


def test_bad_and_slow_requests_get_at_most_one_answer(
    port: int, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    for sent, statuses in visitors.RAW.items():
        assert visitors.visited(sent, port) in statuses.split(), sent[:100]
    with socket.create_connection(("127.0.0.1", port)) as visitor:
        visitor.sendall(visitors.HALF)  # and goes
    monkeypatch.setattr(page_module._Visit, "timeout", 0.5)
    with socket.create_connection(("127.0.0.1", port), timeout=30) as visitor:
        visitor.sendall(visitors.HALF)  # and waits
        assert visitors.visited(visitors.WHOLE + b"\r\n", port) == "200"
        assert visitor.recv(100) == b""
    assert capfd.readouterr().err == ""


# Beginning and end


def test_a_request_that_cannot_be_begun_is_one_line(tmp_path) -> None:
    assert "there is no backend 'nonsense'" in refusal(2, "serve", "--backends", "nonsense")
    refusal(2, "serve", tmp_path / "nothing")
    assert "ssh -L 80:127.0.0.1:80 HOST" in refusal(2, "serve", "--host", "0.0.0.0", "--port", 80)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert f"port {port}" in refusal(2, "serve", "--port", port)


def test_the_server_has_no_framework_and_ends_while_one_opens() -> None:
    with started("serve", "--port", "0", "--backends", "torch") as program:
        port = re.search(r"http://127\.0\.0\.1:(\d+)/", program.stdout.readline())[1]
        assert visitors.visited(visitors.WHOLE + b"\r\n", int(port)) == "200"
        server = psutil.Process(program.pid)
        assert {at.laddr for at in server.net_connections() if at.status == psutil.CONN_LISTEN} == {
            ("127.0.0.1", int(port))
        }
        assert not re.search(
            "/site-packages/(torch|paddle)/", " ".join(mapped.path for mapped in server.memory_maps())
        )
        wait_until(server.children)
        opening = server.children()
        program.send_signal(signal.SIGINT)
        _, err = program.communicate(timeout=30)
        assert (program.returncode, err) == (128 + signal.SIGINT, "")
        assert psutil.wait_procs(opening, timeout=10)[1] == []


# The page in a browser

SURE = {"probability": 0.95, "choices": []}
ANSWER = {"translation": "où ?", "milliseconds": 1234.5, "ended": True}
ANSWER["characters"] = [SURE | {"character": c} for c in "où ?\n"]


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    """The page of two backends, left and right, in a dark and narrow window; what it did wrong fails in the end."""
    wrong: list[str] = []
    served = visitors.served("left", "right", run=HOSTILE, examples={HOSTILE: [HOSTILE, "go on."]})
    with served as port, browser.new_context(viewport={"width": 390, "height": 900}, color_scheme="dark") as context:
        page, url = context.new_page(), f"http://127.0.0.1:{port}/"
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
    """Assert that nothing hostile became an element, and that the page is no wider than its window."""
    assert page.evaluate("document.querySelectorAll('img, script:not([src])').length") == 0
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")


def test_unsure_characters_show_what_else_was_likely(page: Page) -> None:
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
    expect(alert).to_contain_text("'<' (U+003C)")
    assert page.locator("#asked").text_content() == question
    choices = [{"character": c, "probability": 0.5} for c in "<>&"]
    characters = [{"character": c, "probability": 0.4, "choices": choices} for c in HOSTILE]
    hostile = ANSWER | {"translation": HOSTILE, "characters": characters, "doubt": f"training had no {HOSTILE!r}"}
    answer_with(page, hostile, ANSWER)
    page.get_by_role("button", name="Leave them out").click()
    expect(alert).to_contain_text(f"Training had no {HOSTILE!r}.")
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
