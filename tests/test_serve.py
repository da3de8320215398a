"""`rosetta serve`: what its page shows, what it refuses, and what becomes of the backends' processes."""

import http.client
import json
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager
from typing import Any

import psutil
import pytest
from flask import Flask
from playwright.sync_api import Browser, Page, expect

from backends.process.parent import PROJECT, Runtime
from backends.serve.application import HEADERS, LONGEST_QUESTION, application
from backends.serve.served import WAITING, ServedBackend, UnavailableError
from common.run_directory import BUNDLED_RUN, RunDirectory
from common.tensors import CharVocabulary
from tests.attack import visitors
from tests.conftest import note_wrongs
from tests.program import answer, refusal, started, wait_until

OPENING_SECONDS = 300
expect.set_options(timeout=30_000)  # milliseconds; other tests may be at work on the same cores
LOCAL = "127.0.0.1"
SENTENCE = "Look at the skirt!"
HOSTILE = "<script>alert(1)</script><img src=x onerror=alert(2)>\"'\u2028\u202e😀"


class Server:
    """`rosetta serve` as a program of its own, on a port that was free."""

    def __init__(self, *arguments: str) -> None:
        self.program = started("serve", "--port", "0", *arguments)
        printed = self.program.stdout.readline()
        address = re.search(r"http://\S+:(\d+)/", printed)
        assert address, self.program.communicate()
        self.url, self.port = address[0], int(address[1])

    def request(self, method: str, path: str, body: bytes | None = None, **headers: str) -> tuple[int, bytes]:
        """Status and body of one answer."""
        with closing(http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)) as connection:
            connection.request(method, path, body, {name.replace("_", "-"): value for name, value in headers.items()})
            answered = connection.getresponse()
            return answered.status, answered.read()

    def ask(self, question: Any) -> tuple[int, Any]:
        body = json.dumps(question).encode()
        status, answered = self.request("POST", "/translate", body, Content_Type="application/json")
        return status, json.loads(answered)

    def states(self) -> set[str]:
        return {one["state"] for one in json.loads(self.request("GET", "/backends")[1])["backends"]}

    def opened(self) -> "Server":
        """This server, once every backend is open."""
        wait_until(lambda: "opening" not in self.states(), OPENING_SECONDS)
        assert self.states() == {"ready"}
        return self

    def workers(self) -> list[psutil.Process]:
        """The backends' processes."""
        return psutil.Process(self.program.pid).children(recursive=True)

    def worker(self, *expected: str) -> psutil.Process:
        """The process that has these libraries."""
        return next(worker for worker in self.workers() if libraries(worker) == set(expected))


def libraries(process: psutil.Process) -> set[str]:
    """Those which compute, of the libraries that a process has loaded."""
    mapped = " ".join(one.path for one in process.memory_maps())
    return {name for name in ("numpy", "torch", "tensorflow", "paddle") if f"/site-packages/{name}/" in mapped}


@contextmanager
def serving(*arguments: str) -> Iterator[Server]:
    server = Server(*arguments)
    try:
        yield server
    finally:
        server.program.terminate()
        server.program.communicate(timeout=30)


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with serving("--backends", "numpy,torch", "--threads", "1") as started:
        yield started.opened()


QUESTION = {"backend": "numpy", "text": SENTENCE}


def test_an_answer_has_the_translation_its_time_and_every_characters_probability(server: Server) -> None:
    status, found = server.ask(QUESTION)
    assert status == 200
    (expected,) = answer("translate", "--backend", "numpy", SENTENCE)["translations"]
    assert found["translation"] == expected["translation"]
    assert "".join(at["character"] for at in found["characters"]) == found["translation"] + "\n"
    assert found["milliseconds"] > 0
    for at in found["characters"]:
        probabilities = [choice["probability"] for choice in at["choices"]]
        assert len(probabilities) == 3
        assert probabilities == sorted(probabilities, reverse=True)
        assert at["choices"][0] == {"character": at["character"], "probability": at["probability"]}
        assert 0 < sum(probabilities) <= 1.0001
    again = server.ask(QUESTION | {"backend": "torch"})[1]
    assert again["translation"] == found["translation"]
    for ours, theirs in zip(found["characters"], again["characters"], strict=True):
        assert ours["probability"] == pytest.approx(theirs["probability"], abs=1e-4)
    assert server.ask(QUESTION | {"text": f"{SENTENCE}€\u2028"})[0] == 422
    dropped = server.ask(QUESTION | {"text": f"{SENTENCE}€\u2028", "drop_unknown": True})[1]
    assert dropped["translation"] == found["translation"]
    long = server.ask(QUESTION | {"text": "She ate. " * 20})[1]
    assert long["longest"] == 24
    assert long["ended"] == (long["characters"][-1]["character"] == "\n")


def test_no_framework_is_in_the_servers_process(server: Server) -> None:
    """Nor two in one of the others."""
    assert libraries(psutil.Process(server.program.pid)) == {"numpy"}
    assert sorted(sorted(libraries(worker)) for worker in server.workers()) == [["numpy"], ["numpy", "torch"]]


def test_of_many_at_once_as_many_wait_as_may_and_all_are_answered(server: Server) -> None:
    numpy = server.worker("numpy")
    numpy.suspend()
    try:
        with ThreadPoolExecutor(40) as pool:
            asked = [pool.submit(server.ask, QUESTION) for _ in range(40)]
            wait_until(lambda: sum(one.done() for one in asked) == 40 - (1 + WAITING))
            assert server.ask(QUESTION | {"backend": "torch"})[0] == 200
            assert server.request("GET", "/")[0] == 200
            numpy.resume()
            answered = [one.result(timeout=30) for one in asked]
    finally:
        numpy.resume()
    assert [status for status, _ in answered].count(200) == 1 + WAITING
    refused = [content["error"] for status, content in answered if status == 503]
    assert len(refused) == 40 - (1 + WAITING)
    assert all("numpy is busy" in message for message in refused)


# What is refused, by a page whose backends answer at once

QUICK = {"backend": "quick", "text": "go on."}


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
def test_what_the_page_would_not_send_is_refused_in_plain_words(status: int) -> None:
    page = quick_page().test_client()
    for wrong in REFUSALS[status]:
        body = wrong if isinstance(wrong, bytes) else json.dumps(QUICK | wrong).encode()
        got = page.post("/translate", data=body, content_type="application/json")
        assert got.status_code == status, body
        assert set(got.json) - {"unknown"} == {"error"}
        assert got.json["error"].isprintable()
    if status == 422:
        assert "“<” (U+003C)" in page.post("/translate", json=QUICK | {"text": HOSTILE}).json["error"]


def test_other_methods_types_and_addresses_are_refused() -> None:
    page, body = quick_page().test_client(), json.dumps(QUICK)
    assert page.get("/translate").status_code == page.put("/translate", json=QUICK).status_code == 405
    for kind in ("", "text/plain", "application/x-www-form-urlencoded", "multipart/form-data", "application/json2"):
        assert page.post("/translate", data=body, content_type=kind).status_code == 415
    for path in ("/nothing", "/static/../application.py", "/static/..%2fapplication.py"):
        assert page.get(path, buffered=True).status_code == 404
    # A browser asks with OPTIONS before it sends JSON for another site, and sends nothing without a consent.
    asked = {"Origin": "http://evil.example", "Access-Control-Request-Method": "POST"}
    headers = page.options("/translate", headers=asked).headers
    assert not [name for name in headers.keys() if name.lower().startswith("access-control")]  # noqa: SIM118
    for path in ("/", "/backends", "/static/page.js", "/static/page.css", "/translate", "/nothing"):
        headers = page.get(path, buffered=True).headers
        assert {name: headers[name] for name in HEADERS} == HEADERS, path
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


def test_names_of_runs_and_examples_are_text_in_the_page() -> None:
    page = application(HOSTILE, [], CharVocabulary("ab"), "127.0.0.1", [HOSTILE]).test_client()
    shown = page.get("/", headers={"Host": "localhost"}).text
    assert shown.count("&lt;script&gt;alert(1)") == 4  # the title, the heading, the example and what a click types
    assert "<script>alert" not in shown
    assert "<img" not in shown


def test_a_huge_request_is_refused_before_it_is_read_and_slow_ones_keep_nobody_waiting() -> None:
    head = b"POST /translate HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n"
    with visitors.served(quick_page()) as port, ExitStack() as stack:
        for _ in range(30):
            slow = stack.enter_context(socket.create_connection(("127.0.0.1", port)))
            slow.sendall(head % 4000 + b"{")
        huge = stack.enter_context(socket.create_connection(("127.0.0.1", port), timeout=30))
        huge.sendall(head % 1_000_000_000)
        assert huge.recv(100).startswith(b"HTTP/1.1 413 ")
        connection = stack.enter_context(closing(http.client.HTTPConnection("127.0.0.1", port, timeout=30)))
        connection.request("GET", "/")
        assert connection.getresponse().status == 200


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
    for missing in ("flask", "waitress"):
        program = f"import rosetta, sys; sys.modules[{missing!r}] = None; sys.argv = ['rosetta', 'serve']"
        command = [sys.executable, "-c", f"{program}; rosetta.main()"]
        done = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, check=False)
        assert done.returncode == 2
        (line,) = done.stderr.splitlines()
        assert missing in line
        assert 'pip install -e ".[serve]"' in line


@pytest.mark.parametrize(("number", "status", "opened"), [(signal.SIGINT, 130, False), (signal.SIGTERM, 143, True)])
def test_the_end_of_the_server_is_that_of_its_backends(number: int, status: int, opened: bool) -> None:
    host = "0.0.0.0" if opened else "127.0.0.1"
    with serving("--backends", "numpy" if opened else "torch", "--host", host) as server:
        assert server.url.startswith(f"http://{host}:")
        listening = [one for one in psutil.Process(server.program.pid).net_connections() if one.status == "LISTEN"]
        assert {one.laddr.ip for one in listening} == {host}
        if opened:
            server.opened()
        wait_until(server.workers)
        workers = server.workers()
        server.program.send_signal(number)
        _, err = server.program.communicate(timeout=30)
        assert server.program.returncode == status
        assert "Traceback" not in err
        assert ("without a password" in err) == opened
        assert psutil.wait_procs(workers, timeout=10)[1] == []


# The page in a browser


def type_in(page: Page, text: str) -> None:
    page.get_by_label("Sentence to translate").fill(text)
    page.get_by_role("button", name="Translate", exact=True).click()


def assert_clean(page: Page) -> None:
    """That nothing hostile became an element, and that the page is no wider than its window."""
    assert page.evaluate("document.querySelectorAll('img, script:not([src])').length") == 0
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")


@pytest.fixture
def page(browser: Browser, server: Server) -> Iterator[Page]:
    """The page, in a dark and narrow window; what it did wrong fails in the end."""
    wrong: list[str] = []
    context = browser.new_context(viewport={"width": 390, "height": 900}, color_scheme="dark")
    opened = context.new_page()
    explained = "status of (422|500)|ERR_CONNECTION_REFUSED"  # the browser says so, and the page what it means
    note_wrongs(opened, wrong, explained, (server.url, "data:"))
    opened.goto(server.url)
    expect(opened.get_by_role("status")).to_have_text("2 of 2 backends are ready.")
    yield opened
    context.close()
    assert wrong == []


def test_every_backend_translates_and_the_unsure_characters_tell_what_else_was_likely(
    page: Page, server: Server
) -> None:
    sentence = "She lost her keys."
    found = server.ask(QUESTION | {"text": sentence})[1]
    probabilities = [at["probability"] for at in found["characters"]]
    assert min(probabilities) < 0.7
    type_in(page, sentence)
    expect(page.get_by_role("status")).to_contain_text("2 backends answered, all with the same translation.")
    texts = [text.removesuffix("⏎") for text in page.locator(".translation").all_inner_texts()]
    assert texts == [found["translation"]] * 2
    assert all(re.fullmatch(r"[\d,.]+ ms", time) for time in page.locator(".time").all_inner_texts())
    assert sum(map(int, re.findall(r"\d+", page.evaluate("getComputedStyle(document.body).backgroundColor")))) < 200

    marks = page.locator("[data-backend=numpy] .mark")
    classes = marks.evaluate_all("marks => marks.map(mark => mark.className.split(' '))")
    assert [bool({"likely", "unsure", "guess"} & set(of)) for of in classes] == [p < 0.9 for p in probabilities]
    least = min(range(len(probabilities)), key=probabilities.__getitem__)
    character, tip = found["characters"][least]["character"], page.locator("#tip")
    assert f"Least sure of: “{character}”" in page.locator("[data-backend=numpy] .note").inner_text()
    expect(tip).to_be_hidden()
    marks.nth(least).click()
    expect(tip.locator("div")).to_have_count(3)
    expect(tip).to_contain_text(f"“{character}”")
    page.keyboard.press("Escape")
    expect(tip).to_be_hidden()
    marks.nth(0).focus()
    for _ in range(least):
        page.keyboard.press("ArrowRight")
    expect(marks.nth(least)).to_be_focused()
    expect(tip).to_be_visible()
    marks.last.hover()
    expect(tip).to_contain_text("the end")

    hostile = HOSTILE + "W" * 100
    type_in(page, hostile)
    alert = page.get_by_role("alert")
    expect(alert).to_contain_text("“<” (U+003C)")
    assert page.locator("#asked").text_content() == hostile
    assert_clean(page)
    page.get_by_role("button", name="Leave them out").click()
    expect(page.get_by_role("status")).to_contain_text("2 backends answered")
    expect(alert).to_have_text(re.compile("no sentence had more than 24 characters"))
    page.get_by_role("button", name="Look at a pen!").click()
    expect(alert).to_be_hidden()
    assert_clean(page)


def test_hostile_answers_and_the_deaths_of_a_backend_and_of_the_server_are_shown(page: Page, server: Server) -> None:
    """Hostile as of a run that was trained on such characters. This is the last test that asks the server."""
    choices = [{"character": c, "probability": 0.5} for c in "<>&"]
    characters = [{"character": c, "probability": 0.4, "choices": choices} for c in HOSTILE]
    answered = {"translation": HOSTILE, "milliseconds": 1234.5, "ended": False, "longest": 9}
    page.route("**/translate", lambda route: route.fulfill(json=answered | {"characters": characters}))
    type_in(page, SENTENCE)
    expect(page.get_by_role("status")).to_contain_text("2 backends answered")
    assert page.locator(".translation").first.text_content() == HOSTILE
    assert page.locator(".time").first.inner_text() == "1,230 ms"
    page.locator(".mark").first.hover()
    expect(page.locator("#tip")).to_contain_text("“&”")
    page.unroute("**/translate")
    page.route("**/translate", lambda route: route.fulfill(status=500, json={"error": HOSTILE}))
    type_in(page, SENTENCE)
    expect(page.locator(".note").last).to_have_text(HOSTILE)
    assert_clean(page)
    page.unroute("**/translate")

    numpy = server.worker("numpy")
    numpy.suspend()  # a slow one keeps the others waiting for some seconds
    type_in(page, SENTENCE)
    expect(page.get_by_role("status")).to_have_text("torch answered.", timeout=20_000)
    expect(page.locator("[data-backend=numpy] .time")).to_have_text("…")
    numpy.kill()
    expect(page.locator("[data-backend=numpy] .note")).to_contain_text("ended by signal 9")
    expect(page.locator("[data-backend=numpy] .time")).to_have_text("ready again", timeout=60_000)
    type_in(page, SENTENCE)
    expect(page.get_by_role("status")).to_contain_text("2 backends answered")
    server.program.terminate()
    server.program.wait(30)
    type_in(page, SENTENCE)
    expect(page.get_by_role("alert")).to_contain_text("is rosetta serve still running?")
