"""`rosetta serve`: what its page shows, what it refuses,
and what becomes of the backends' processes."""

import re
import signal
import socket
from collections.abc import Iterator
from contextlib import ExitStack
from http.client import HTTPConnection
from subprocess import Popen
from typing import TYPE_CHECKING
from urllib.parse import quote

import psutil
import pytest

from backends.process.parent import Runtime
from backends.process.side_by_side import open_side_by_side
from backends.serve import server as server_module
from backends.serve.server import HEADERS, LONGEST_QUESTION
from common.errors import RosettaError
from common.run import BUNDLED_RUN, RunDirectory
from tests.conftest import note_wrongs
from tests.support import visitors
from tests.support.program import refusal, started, wait_until

if TYPE_CHECKING:
    from playwright.sync_api import Browser

SENTENCE, TRANSLATION = "I love you!", "Je t'aime\u202f!"
HOSTILE = "<script>alert(1)</script><img src=x onerror=alert(2)>\"'$text\u2028\u202e😀"


def test_answers_have_time_and_probabilities_and_a_dead_backend_is_left_out() -> None:
    warned: list[str] = []
    run, names = RunDirectory.open(BUNDLED_RUN), ["numpy", "tensors"]
    with open_side_by_side(run, "last", Runtime(threads=1), names, warned.append) as backends:
        ((name, answer),) = backends.answers([SENTENCE], characters=True)[0].items()
        assert (name, answer.translation) == ("numpy", TRANSLATION)
        assert "".join(at.character for at in answer.characters) == TRANSLATION + "\n"
        assert all(0 < at.probability <= 1 for at in answer.characters)
        assert answer.milliseconds > 0
        psutil.Process(backends.processes["numpy"].pid).kill()
        with pytest.raises(RosettaError, match="there is no backend 'tensors'"):
            backends.answers([SENTENCE])
        assert "ended by signal 9" in backends.left_out["numpy"]
    assert [warning.partition(" is left out")[0] for warning in warned] == ["tensors", "numpy"]


# Of a page whose backends answer at once


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    with visitors.served(HOSTILE, {"Hostile": [HOSTILE, "go on."]}) as number:
        yield number


def ask(port: int, path: str = "/", method: str = "GET", **headers: str) -> tuple[int, str]:
    """Status and content of the page's answer, which binds the browser whatever it is."""
    asked = HTTPConnection("127.0.0.1", port, timeout=30)
    asked.request(method, path, headers=headers)
    answered = asked.getresponse()
    assert dict(answered.getheaders()).items() >= HEADERS.items()
    assert not answered.getheader("Access-Control-Allow-Origin")
    return answered.status, answered.read().decode()


@pytest.mark.parametrize(
    ("question", "expected"),
    {
        "": [],
        "go on.": [
            "<h2>quick</h2>",
            "1,234.5 ms",
            "<h2>&lt;dead&gt;</h2>",
            "ended by &lt;b&gt;signal 9",
        ],
        "go off": ["Training had no &#x27;off&#x27;; the translation is a guess."],
        "go on€": ["&#x27;€&#x27; (U+20AC), and translates the sentence without", "1,234.5 ms"],
        HOSTILE: ["&#x27;(&#x27; (U+0028)", "more, and translates"],
        "\x00\x1b[2J": ["&#x27;\\x1b&#x27;"],
        "😀": ["nothing to translate"],
        " ": ["nothing to translate"],
        "a" * (LONGEST_QUESTION + 1): ["has 201 characters; at most 200 are translated"],
        "a" * 60_000: ["has 60,000 characters"],
    }.items(),
)
def test_a_question_is_answered_or_refused_in_the_page(
    port: int, question: str, expected: list[str]
) -> None:
    status, content = ask(port, f"/?text={quote(question)}")
    assert status == 200
    assert content.endswith("</html>\n")
    for text in expected:
        assert text in content
    refused = any(text in content for text in ("nothing to translate", "at most 200 are"))
    assert ("<article>" in content) == (question != "" and not refused)


def test_only_known_hosts_methods_and_files_are_answered(port: int) -> None:
    assert "<form" in ask(port, "/?a")[1]
    assert "/?text=go+on." in ask(port)[1]
    assert ask(port, "/?text=go+on.", "HEAD") == (200, "")
    assert [ask(port, method=method)[0] for method in ("POST", "PUT", "OPTIONS")] == [501] * 3
    for path in (
        "/nothing",
        "/static/page.css",
        "/../server.py",
        "/page.html",
        "/translate",
        "/%00",
    ):
        assert ask(port, path)[0] == 404
    for text in ("script-src", "connect-src", "unsafe"):
        assert text not in HEADERS["Content-Security-Policy"]
    hosts = dict.fromkeys(("localhost", "127.0.0.1:8000", "[::1]:80"), 200)
    hosts |= dict.fromkeys(
        ("evil.example", "localhost.evil.example", "10.0.0.1", "[::", "", "a, localhost"), 403
    )
    for host, expected in hosts.items():
        status, content = ask(port, Host=host)
        assert (status, "page.css" in content) == (expected, expected == 200), host


def test_bad_and_slow_requests_get_at_most_one_answer(
    port: int, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    for sent, statuses in visitors.RAW.items():
        assert visitors.visited(sent, port) in statuses.split(), sent[:100]
    with socket.create_connection(("127.0.0.1", port)) as visitor:
        visitor.sendall(visitors.HALF)  # and goes
    monkeypatch.setattr(server_module._Visit, "timeout", 0.5)
    with ExitStack() as stack:
        slow = [
            stack.enter_context(socket.create_connection(("127.0.0.1", port), timeout=30))
            for _ in range(100)
        ]
        for visitor in slow:
            visitor.sendall(visitors.HALF)  # and waits
        assert visitors.visited(visitors.WHOLE + b"\r\n", port) == "200"
        assert {visitor.recv(100) for visitor in slow} == {b""}
    assert capfd.readouterr().err == ""


# Beginning and end


def test_a_port_that_is_taken_is_one_line() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert f"port {port}" in refusal(2, "serve", "--port", port)


def test_the_server_has_no_framework_and_answers_this_machine_alone() -> None:
    with started("serve", "--port", "0", "--backends", "torch") as program:
        port = int(re.search(r"http://127\.0\.0\.1:(\d+)/", program.stdout.readline())[1])
        assert "<h2>torch</h2>" in ask(port, f"/?text={quote(SENTENCE)}")[1]
        server = psutil.Process(program.pid)
        listening = {at.laddr for at in server.net_connections() if at.status == psutil.CONN_LISTEN}
        assert listening == {("127.0.0.1", port)}
        assert not re.search(
            "/site-packages/torch/", " ".join(mapped.path for mapped in server.memory_maps())
        )
        assert ends(program) == []


def test_ctrl_c_ends_it_while_a_backend_opens() -> None:
    with started("serve", "--port", "0", "--backends", "torch") as program:
        wait_until(psutil.Process(program.pid).children)
        assert ends(program) == []


def ends(program: Popen[str]) -> list[psutil.Process]:
    """Press Ctrl-C, which ends the program without a word;
    return its children that have not ended."""
    children = psutil.Process(program.pid).children()
    program.send_signal(signal.SIGINT)
    _, err = program.communicate(timeout=30)
    assert (program.returncode, err) == (128 + signal.SIGINT, "")
    return psutil.wait_procs(children, timeout=10)[1]


# The page in a browser


def test_a_backend_answers_what_is_typed_into_the_page(browser: "Browser") -> None:
    with (
        started("serve", "--port", "0", "--backends", "numpy") as program,
        browser.new_context() as context,
    ):
        page = context.new_page()
        page.goto(re.search(r"http://\S+", program.stdout.readline())[0])
        page.get_by_label("Sentence to translate").type(SENTENCE)
        page.keyboard.press("Enter")
        assert page.locator("article .translation").inner_text() == f"{TRANSLATION}⏎"
        assert page.locator("article h2").inner_text() == "numpy"
        assert ends(program) == []


def test_hostile_text_stays_text_and_each_character_is_shaded(
    browser: "Browser", port: int
) -> None:
    wrong: list[str] = []
    with browser.new_context(
        viewport={"width": 390, "height": 900}, color_scheme="dark"
    ) as context:
        page, url = context.new_page(), f"http://127.0.0.1:{port}/"
        note_wrongs(page, wrong, "^$", (url, "data:"))
        page.goto(url)
        page.get_by_label("Sentence to translate").fill(HOSTILE + "W" * 100)
        page.get_by_role("button", name="Translate").click()
        assert page.get_by_label("Sentence to translate").input_value() == HOSTILE + "W" * 100
        assert page.locator("header p").text_content() == f"Rosetta · {HOSTILE}"
        assert page.locator("img, script").count() == 0
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
        page.get_by_role("link", name="go on.").click()
        assert page.locator(".translation").first.inner_text() == "GO ON."
        shades = page.locator("article span").evaluate_all(
            "marks => marks.map(mark => mark.className + mark.title)"
        )
        assert shades == ["sure95%", "likely75%", "unsure55%", "guess35%", "sure95%", "likely75%"]
        background = page.evaluate("getComputedStyle(document.body).backgroundColor")
        assert sum(map(int, re.findall(r"\d+", background))) < 200
    assert wrong == []
