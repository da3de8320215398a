"""`rosetta serve`: what its page shows, what it refuses, and what becomes of the backends' processes."""

import http.client
import json
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager
from time import monotonic, sleep
from typing import Any

import psutil
import pytest
from playwright.sync_api import Browser, Page, expect

from backends.process.parent import PROJECT, Runtime
from backends.serve.application import HEADERS, LONGEST_SENTENCE, application
from backends.serve.served import WAITING, NotOpenError, ServedBackend
from common.run_directory import BUNDLED_RUN, RunDirectory
from common.vocabulary import CharVocabulary
from tests.conftest import FRAMEWORKS, note_wrongs
from tests.program import answer, refusal, started

OPENING_SECONDS = 300
expect.set_options(timeout=30_000)  # milliseconds; other tests may be at work on the same cores
SENTENCE = "Look at the skirt!"
HOSTILE = "<script>alert(1)</script><img src=x onerror=alert(2)>\"'\u2028\u202e😀"


class Server:
    """`rosetta serve` as a program of its own, on a port that was free."""

    def __init__(self, *arguments: str) -> None:
        self.program = started("serve", "--port", "0", *arguments)
        self.said = self.program.stdout.readline()
        address = re.search(r"http://\S+:(\d+)/", self.said)
        assert address, self.program.communicate()
        self.url, self.port = address[0], int(address[1])

    def request(self, method: str, path: str, body: bytes | None = None, **headers: str) -> tuple[int, bytes, Any]:
        """Status, body and headers of one answer."""
        with closing(http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)) as connection:
            connection.request(method, path, body, {name.replace("_", "-"): value for name, value in headers.items()})
            answered = connection.getresponse()
            return answered.status, answered.read(), answered.headers

    def ask(self, question: Any) -> tuple[int, Any]:
        status, body, _ = self.request(
            "POST", "/translate", json.dumps(question).encode(), Content_Type="application/json"
        )
        return status, json.loads(body)

    def states(self) -> dict[str, str]:
        return {one["name"]: one["state"] for one in json.loads(self.request("GET", "/backends")[1])["backends"]}

    def opened(self) -> "Server":
        """This server, once every backend is open."""
        until = monotonic() + OPENING_SECONDS
        while "opening" in self.states().values():
            assert monotonic() < until
            sleep(0.1)
        assert set(self.states().values()) == {"ready"}
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


def test_an_answer_has_the_translation_its_time_and_every_characters_probability(server: Server) -> None:
    status, found = server.ask({"backend": "numpy", "text": SENTENCE})
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
    again = server.ask({"backend": "torch", "text": SENTENCE})[1]
    assert again["translation"] == found["translation"]
    for ours, theirs in zip(found["characters"], again["characters"], strict=True):
        assert ours["probability"] == pytest.approx(theirs["probability"], abs=1e-4)


def test_no_framework_is_in_the_servers_process(server: Server) -> None:
    """Nor two in one of the others."""

    assert libraries(psutil.Process(server.program.pid)) == {"numpy"}
    assert sorted(sorted(libraries(worker)) for worker in server.workers()) == [["numpy"], ["numpy", "torch"]]


def test_a_sentence_longer_than_training_and_one_that_finds_no_end_say_so(server: Server) -> None:
    status, found = server.ask({"backend": "numpy", "text": "She ate. " * 20})
    assert status == 200
    assert found["longest"] == 24
    assert found["ended"] == (found["characters"][-1]["character"] == "\n")


QUESTION = {"backend": "numpy", "text": SENTENCE}


REFUSALS: dict[int, list[bytes | dict[str, Any]]] = {  # each with bodies, and with what is changed of a question
    400: [
        *(b"", b"not JSON", b"\xff\xfe", b"[" * 4000, b'{"backend": "numpy", "text": ' + b"[" * 4000),
        *(b'{"backend": "numpy"}', b'{"backend": "numpy", "text": "\\ud800"}'),
        *({"text": 1}, {"text": None}, {"more": 1}, {"drop_unknown": "yes"}, {"text": " "}),
        {"text": "😀", "drop_unknown": True},
    ],
    404: [{"backend": "../torch"}, {"backend": "keras"}],
    413: [{"text": "a" * (LONGEST_SENTENCE + 1)}, {"text": "a" * 10_000}],
    422: [{"text": HOSTILE}, {"text": "\x00\x1b[2J"}],
}


@pytest.mark.parametrize("status", REFUSALS)
def test_what_the_page_would_not_send_is_refused_in_plain_words(server: Server, status: int) -> None:
    for wrong in REFUSALS[status]:
        body = wrong if isinstance(wrong, bytes) else json.dumps(QUESTION | wrong).encode()
        got, answered, _ = server.request("POST", "/translate", body, Content_Type="application/json")
        assert got == status, body
        assert b"Traceback" not in answered
        assert set(json.loads(answered)) - {"unknown"} == {"error"}
    assert server.ask(QUESTION)[0] == 200


def test_a_huge_request_is_refused_before_it_is_read_and_slow_ones_keep_nobody_waiting(server: Server) -> None:
    with ExitStack() as stack:
        for _ in range(30):
            slow = stack.enter_context(socket.create_connection(("127.0.0.1", server.port)))
            slow.sendall(b"POST /translate HTTP/1.1\r\nHost: localhost\r\nContent-Length: 4000\r\n\r\n{")
        huge = stack.enter_context(socket.create_connection(("127.0.0.1", server.port), timeout=30))
        huge.sendall(b"POST /translate HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000000000\r\n\r\n")
        assert huge.recv(100).startswith(b"HTTP/1.1 413 ")
        assert server.ask(QUESTION)[0] == 200


def test_characters_that_the_run_does_not_know_are_named_and_dropped_where_asked(server: Server) -> None:
    status, refused = server.ask(QUESTION | {"text": f"{SENTENCE}€\u2028"})
    assert (status, refused["unknown"]) == (422, True)
    assert "“€” (U+20AC)" in refused["error"]
    assert "U+2028" in refused["error"]
    assert "\u2028" not in refused["error"]
    dropped = server.ask(QUESTION | {"text": f"{SENTENCE}€\u2028", "drop_unknown": True})
    assert dropped[0] == 200
    assert dropped[1]["translation"] == server.ask(QUESTION)[1]["translation"]


def test_other_methods_types_and_addresses_are_refused(server: Server) -> None:
    body = json.dumps(QUESTION).encode()
    assert server.request("GET", "/translate")[0] == 405
    assert server.request("PUT", "/translate", body, Content_Type="application/json")[0] == 405
    for kind in ("text/plain", "application/x-www-form-urlencoded", "multipart/form-data", "application/json2"):
        assert server.request("POST", "/translate", body, Content_Type=kind)[0] == 415
    assert server.request("POST", "/translate", body)[0] == 415
    for path in ("/nothing", "/static/../application.py", "/static/..%2fapplication.py", "//etc/passwd"):
        assert server.request("GET", path)[0] == 404
    evil = ["evil.example", f"evil.example:{server.port}", "localhost.evil.example", "10.0.0.1", "[::", "", "ü!"]
    for host in evil:
        status, answered, _ = server.request("GET", "/", Host=host.encode("utf-8").decode("latin-1"))
        assert (status, b"<html" in answered) == (403, False), host
    for host in ("localhost", f"127.0.0.1:{server.port}", "[::1]:80"):
        assert server.request("GET", "/", Host=host)[0] == 200


def test_no_site_is_told_that_it_may_ask(server: Server) -> None:
    """A browser asks with OPTIONS before it sends JSON for another site, and sends nothing without a consent."""
    asked = {"Origin": "http://evil.example", "Access_Control_Request_Method": "POST"}
    *_, headers = server.request("OPTIONS", "/translate", **asked)
    assert not [name for name in headers if name.lower().startswith("access-control")]


def test_every_answer_bears_the_headers_that_bind_a_browser(server: Server) -> None:
    for path in ("/", "/backends", "/static/page.js", "/static/page.css", "/translate", "/nothing"):
        headers = server.request("GET", path)[2]
        assert {name: headers[name] for name in HEADERS} == HEADERS, path
    assert "default-src 'none'" in HEADERS["Content-Security-Policy"]
    assert "unsafe" not in HEADERS["Content-Security-Policy"]


ANSWERED = {"0.0.0.0": "192.168.1.5:8000 localhost", "::": "[fe80::1]:8000", "Box.local": "box.local:8000"}
REFUSED = {"0.0.0.0": "evil.example", "box.local": "192.168.1.5"}


@pytest.mark.parametrize(("hosts", "status"), [(ANSWERED, 200), (REFUSED, 403)], ids=["answered", "refused"])
def test_a_chosen_host_is_answered_and_no_name_beside_it(hosts: dict[str, str], status: int) -> None:
    for host, headers in hosts.items():
        page = application("a run", [], CharVocabulary("ab"), host, []).test_client()
        for header in headers.split():
            assert page.get("/", headers={"Host": header}).status_code == status, (host, header)


def test_names_of_runs_and_examples_are_text_in_the_page() -> None:
    page = application(HOSTILE, [], CharVocabulary("ab"), "127.0.0.1", [HOSTILE]).test_client()
    shown = page.get("/", headers={"Host": "localhost"}).text
    assert shown.count("&lt;script&gt;alert(1)") == 4  # the title, the heading, the example and what a click types
    assert "<script>alert" not in shown
    assert "<img" not in shown


def test_of_many_at_once_as_many_wait_as_may_and_all_are_answered(server: Server) -> None:
    numpy = server.worker("numpy")
    numpy.suspend()
    try:
        with ThreadPoolExecutor(40) as pool:
            asked = [pool.submit(server.ask, QUESTION) for _ in range(40)]
            until = monotonic() + 30
            while sum(one.done() for one in asked) < 40 - (1 + WAITING):
                assert monotonic() < until
                sleep(0.05)
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
    assert server.ask(QUESTION)[0] == 200


def test_a_backend_that_cannot_be_opened_says_why() -> None:
    backend = ServedBackend("tensors", RunDirectory.open(BUNDLED_RUN), Runtime(), died=lambda one: None)
    with pytest.raises(NotOpenError, match="is being opened"):
        backend.answer("a")
    backend.open()
    assert backend.state == "failed"
    with pytest.raises(NotOpenError, match="could not be opened: there is no backend 'tensors'"):
        backend.answer("a")


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
@pytest.mark.parametrize("opened", [False, True], ids=["opening", "opened"])
def test_the_end_of_the_server_is_that_of_its_backends(number: int, status: int, opened: bool) -> None:
    with serving("--backends", "torch") as server:
        if opened:
            server.opened()
        until = monotonic() + 30
        while not (workers := server.workers()):
            assert monotonic() < until
        server.program.send_signal(number)
        _, err = server.program.communicate(timeout=30)
        assert server.program.returncode == status
        assert "Traceback" not in err
        assert psutil.wait_procs(workers, timeout=10)[1] == []


def test_a_request_that_cannot_be_begun_is_one_line(tmp_path) -> None:
    assert "there is no backend 'nonsense'" in refusal(2, "serve", "--backends", "nonsense")
    refusal(2, "serve", tmp_path / "nothing")
    assert "cannot be served at 127.0.0.1.0, port 8000" in refusal(2, "serve", "--host", "127.0.0.1.0")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert f"port {port}" in refusal(2, "serve", "--port", port)


@pytest.mark.parametrize("missing", ["flask", "waitress"])
def test_without_its_library_it_says_what_to_install(missing: str) -> None:
    program = f"import rosetta, sys; sys.modules[{missing!r}] = None; sys.argv = ['rosetta', 'serve']; rosetta.main()"
    done = subprocess.run([sys.executable, "-c", program], cwd=PROJECT, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert missing in line
    assert 'pip install -e ".[serve]"' in line


def test_no_other_host_is_let_in_unless_asked_for_and_then_with_a_warning() -> None:
    with serving("--backends", "numpy") as server:
        assert server.url.startswith("http://127.0.0.1:")
        listening = [one for one in psutil.Process(server.program.pid).net_connections() if one.status == "LISTEN"]
        assert {one.laddr.ip for one in listening} == {"127.0.0.1"}
    with serving("--backends", "numpy", "--host", "0.0.0.0") as server:
        assert server.url.startswith("http://0.0.0.0:")
        server.program.terminate()
        assert "without a password" in server.program.communicate(timeout=30)[1]


@pytest.fixture(scope="module")
def with_all() -> Iterator[Server]:
    with serving("--backends", ",".join(["numpy", *FRAMEWORKS]), "--threads", "1") as started:
        yield started


Visit = Callable[..., Page]


@pytest.fixture
def visit(browser: Browser) -> Iterator[Visit]:
    """Opens the page of a server; what it did wrong fails in the end."""
    wrong: list[str] = []
    contexts = []

    def open_page(server: Server, width: int = 1400, scheme: Any = "light") -> Page:
        context = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme)
        contexts.append(context)
        page = context.new_page()
        explained = "status of (422|500)|ERR_CONNECTION_REFUSED"  # the browser says so, and the page what it means
        note_wrongs(page, wrong, explained, (server.url, "data:"))
        page.goto(server.url)
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert wrong == []


def fits(page: Page) -> bool:
    return bool(page.evaluate("document.documentElement.scrollWidth <= innerWidth"))


def translations(page: Page) -> list[str]:
    return [text.removesuffix("⏎") for text in page.locator(".translation").all_inner_texts()]


def type_in(page: Page, text: str) -> None:
    page.get_by_label("Sentence to translate").fill(text)
    page.get_by_role("button", name="Translate", exact=True).click()


@pytest.mark.parametrize(("width", "scheme"), [(390, "dark"), (1400, "light")])
def test_a_sentence_is_translated_by_every_backend_as_each_is_opened(
    visit: Visit, with_all: Server, width: int, scheme: str
) -> None:
    page = visit(with_all, width, scheme)
    type_in(page, SENTENCE)
    expect(page.get_by_role("status")).to_contain_text(
        "4 backends answered, all with the same translation.", timeout=1000 * OPENING_SECONDS
    )
    (expected,) = answer("translate", "--backend", "numpy", SENTENCE)["translations"]
    assert translations(page) == [expected["translation"]] * 4
    for time in page.locator(".time").all_inner_texts():
        assert re.fullmatch(r"[\d,.]+ ms", time)
    for note in page.locator(".note").all_inner_texts():
        assert re.match(r"Least sure of: |Sure of every character: at least 9\d %", note)
    assert fits(page)
    dark = sum(map(int, re.findall(r"\d+", page.evaluate("getComputedStyle(document.body).backgroundColor")))) < 200
    assert dark == (scheme == "dark")


def test_the_unsure_characters_are_marked_and_each_tells_what_else_was_likely(visit: Visit, server: Server) -> None:
    sentence = "She lost her keys."
    characters = server.ask({"backend": "numpy", "text": sentence})[1]["characters"]
    page = visit(server, 390)
    type_in(page, sentence)
    expect(page.get_by_role("status")).to_contain_text("2 backends answered")
    marks = page.locator("[data-backend=numpy] .mark")
    levels = [at["probability"] for at in characters]
    assert min(levels) < 0.7
    found = marks.evaluate_all("marks => marks.map(mark => mark.className.split(' '))")
    assert [bool({"likely", "unsure", "guess"} & set(classes)) for classes in found] == [p < 0.9 for p in levels]
    least = min(range(len(levels)), key=levels.__getitem__)
    assert (
        f"Least sure of: “{characters[least]['character']}”"
        in page.locator("[data-backend=numpy] .note").inner_text()
    )
    tip = page.locator("#tip")
    expect(tip).to_be_hidden()
    marks.nth(least).click()
    expect(tip.locator("div")).to_have_count(3)
    for choice in characters[least]["choices"]:
        assert {" ": "space", "\n": "the end"}.get(
            choice["character"], f"“{choice['character']}”"
        ) in tip.inner_text()
    page.keyboard.press("Escape")
    expect(tip).to_be_hidden()
    marks.nth(0).focus()
    for _ in range(least):
        page.keyboard.press("ArrowRight")
    expect(marks.nth(least)).to_be_focused()
    expect(tip).to_be_visible()
    marks.last.hover()
    expect(tip).to_contain_text("the end")
    assert fits(page)


@pytest.mark.parametrize("width", [390, 1400])
def test_a_hostile_sentence_is_shown_as_text_and_can_be_asked_without_its_unknown_characters(
    visit: Visit, server: Server, width: int
) -> None:
    page = visit(server, width)
    hostile = HOSTILE + "W" * 100
    type_in(page, hostile)
    alert = page.get_by_role("alert")
    expect(alert).to_contain_text("“<” (U+003C)")
    assert page.locator("#asked").text_content() == hostile
    assert page.evaluate("document.querySelectorAll('img, script:not([src])').length") == 0
    assert fits(page)
    page.get_by_role("button", name="Leave them out").click()
    expect(page.get_by_role("status")).to_contain_text("2 backends answered")
    expect(alert).to_have_text(re.compile("no sentence had more than 24 characters"))
    expect(alert.get_by_role("button")).to_be_hidden()
    page.get_by_role("button", name="Look at a pen!").click()
    expect(alert).to_be_hidden()
    assert fits(page)


def test_hostile_answers_are_shown_as_text(visit: Visit, server: Server) -> None:
    """As of a run that was trained on such characters."""
    page = visit(server)
    characters = [{"character": c, "probability": 0.4, "choices": []} for c in HOSTILE]
    choices = [{"character": c, "probability": 0.5} for c in "<>&"]
    answered = {"translation": HOSTILE, "milliseconds": 1234.5, "ended": False, "longest": 9}
    answered["characters"] = [at | {"choices": choices} for at in characters]
    page.route("**/translate", lambda route: route.fulfill(json=answered))
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
    assert page.evaluate("document.querySelectorAll('img, script:not([src])').length") == 0


def test_a_slow_backend_keeps_the_others_waiting_for_some_seconds_and_is_shown_when_it_answers(
    visit: Visit, server: Server
) -> None:
    page = visit(server)
    expect(page.get_by_role("status")).to_have_text("2 of 2 backends are ready.")
    numpy = server.worker("numpy")
    numpy.suspend()
    try:
        type_in(page, SENTENCE)
        expect(page.get_by_role("status")).to_have_text("torch answered.", timeout=20_000)
        expect(page.locator("[data-backend=numpy] .time")).to_have_text("…")
    finally:
        numpy.resume()
    expect(page.get_by_role("status")).to_contain_text("2 backends answered")


def test_the_page_says_that_a_backend_died_and_when_it_is_back(visit: Visit, server: Server) -> None:
    page = visit(server)
    expect(page.get_by_role("status")).to_have_text("2 of 2 backends are ready.")
    server.worker("numpy").kill()
    type_in(page, SENTENCE)
    row = page.locator("[data-backend=numpy]")
    expect(row.locator(".note")).to_contain_text("ended by signal 9")
    expect(row.locator(".time")).to_have_text("ready again", timeout=60_000)
    expect(page.locator("[data-backend=torch] .time")).to_contain_text("ms")
    type_in(page, SENTENCE)
    expect(page.get_by_role("status")).to_contain_text("2 backends answered")


def test_the_page_says_when_the_server_is_gone(visit: Visit) -> None:
    with serving("--backends", "numpy") as gone:
        page = visit(gone.opened())
        expect(page.get_by_role("status")).to_have_text("1 of 1 backends are ready.")
    type_in(page, SENTENCE)
    expect(page.get_by_role("alert")).to_contain_text("is rosetta serve still running?")
