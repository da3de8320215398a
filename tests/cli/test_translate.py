"""`rosetta translate`: at a terminal, in a pipe, of lines with faults,
with beams, in all backends side by side."""

import json
import os
import pty
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from select import select
from types import SimpleNamespace
from typing import Any

import psutil
import pytest

import backends
from backends import TABLE, Entry, lookup
from backends.commands.lines import InputLine, Output
from backends.process.parent import PROJECT
from backends.process.side_by_side import SideBySide
from backends.process.translate_in_child import Answer, Candidate
from common.run import BUNDLED_RUN
from tests.support.program import answer, refusal, rosetta, started

NUMPY = ["translate", "--backend", "numpy", "--threads", "1"]
LOVE = "Je t'aime !"  # of "I love you!"


def without_no_break(text: str) -> str:
    return text.replace("\N{NO-BREAK SPACE}", " ").replace("\N{NARROW NO-BREAK SPACE}", " ")


FAULTY = "I love you!\n\u4e2d and \u72ac\n\nI'm tired.\n".encode() + (
    b"\xc3\xa9a\xe9 \xff\nI'm tired."
)


def test_a_bad_line_gives_an_empty_line_in_its_place(here, tmp_path) -> None:
    status, out, err = rosetta(*NUMPY, stdin=FAULTY)
    first, *between, fourth, fifth, sixth, end = without_no_break(out).split("\n")
    assert (status, first, between, fifth, end) == (1, LOVE, ["", ""], "", "")
    assert fourth == sixth != ""
    unknown, replaced, together = err.splitlines()
    assert unknown.startswith(
        "line 2: the vocabulary of this run has no '\u4e2d' (U+4E2D), '\u72ac' (U+72AC); "
    )
    assert "--unknown drop" in unknown
    assert "(U+FFFD)" in replaced, "in place of a byte that is not UTF-8"
    assert together == "rosetta: 2 of 6 lines could not be translated"
    path = tmp_path / "lines.txt"
    path.write_bytes(FAULTY)
    assert rosetta(*NUMPY, "--file", path) == (
        1,
        out,
        re.sub("^(?=line)", f"{path}, ", err, flags=re.MULTILINE),
    )
    assert str(path) in refusal(2, *NUMPY, "--file", path, "I love you!")
    status, out, _ = rosetta(*NUMPY, "--json", stdin=FAULTY)
    lines = json.loads(out.splitlines()[-1])["translations"]
    assert (status, lines[4]["source"]) == (1, "éa\ufffd \ufffd")
    assert [line["translation"] is None for line in lines] == [
        False,
        True,
        False,
        False,
        True,
        False,
    ]
    assert ["error" in line for line in lines] == [False, True, False, False, True, False]
    assert lines[1]["error"] in unknown


def test_a_bad_argument_leaves_the_others_translated(
    here,
) -> None:
    status, out, err = rosetta(*NUMPY, "\u4e2d!", "I love you!")
    assert (status, without_no_break(out)) == (1, f"\n{LOVE}\n")
    assert err.splitlines()[0].startswith("text 1: the vocabulary")
    assert err.splitlines()[1] == "rosetta: 1 of 2 texts could not be translated"
    assert "more than 1,000 characters, the most that are translated" in refusal(
        2, *NUMPY, "a" * 1001
    )
    dropped, whole = answer(*NUMPY, "--unknown", "drop", "I'm \u4e2dtired!", "I'm tired!")[
        "translations"
    ]
    assert (dropped["read_as"], dropped["translation"]) == ("I'm tired!", whole["translation"])
    (careless,) = answer(*NUMPY, "im tired")["translations"]
    assert careless == whole | {"source": "im tired", "read_as": "I'm tired!"}


# At a terminal


PROMPT = "sentence> "


class Terminal:
    """A program at a terminal of its own."""

    def __init__(self, *arguments: str) -> None:
        self.descriptor, end = pty.openpty()
        command = [sys.executable, "-m", "rosetta", *arguments]
        environment = os.environ | {"TERM": "xterm"}
        self.program = subprocess.Popen(
            command, cwd=PROJECT, env=environment, stdin=end, stdout=end, stderr=end
        )
        os.close(end)

    def answer(self, typed: str = "") -> str:
        """Type a text, and return what appears up to the next prompt."""
        os.write(self.descriptor, typed.encode())
        shown = b""
        while not shown.endswith(PROMPT.encode()):
            assert select([self.descriptor], [], [], 60)[0], shown
            shown += os.read(self.descriptor, 1 << 16)
        return without_no_break(shown.decode()).replace("\r", "")


def test_at_a_terminal_a_fault_does_not_end_the_prompt() -> None:
    terminal = Terminal(*NUMPY)
    begun = terminal.answer()
    assert "starting numpy" in begun
    assert re.search(r"quit ends.*\nSeen in training: .*\nNot seen in training: .", begun)
    fault = terminal.answer("\u4e2d\n")
    assert "(U+4E2D)" in fault
    assert "Traceback" not in fault
    assert fault.endswith(f"drop\n{PROMPT}"), "no empty line in place of a translation"
    assert LOVE in terminal.answer(" love you!\x01I\n")  # Ctrl-A goes to the line's beginning
    doubt = terminal.answer("i own a spider\n")
    assert re.search(
        "warning.*training had no 'own' and 'spider'; the translation is a guess", doubt
    )
    os.write(terminal.descriptor, b"quit\n")
    assert terminal.program.wait(60) == 0
    os.close(terminal.descriptor)


# Ended by others


@pytest.mark.parametrize("command", [NUMPY, ["data"]], ids=["translate", "another command"])
def test_a_reader_that_goes_ends_it_quietly(command) -> None:
    with started(*command, text=False) as process:
        process.stdout.close()  # before anything is written
        with suppress(BrokenPipeError):  # of a command that reads nothing
            process.stdin.write(b"I love you!\n" * 1000)
            process.stdin.close()
        err = process.stderr.read()
        assert (process.wait(60), err) == (1, b"")


def test_ctrl_c_keeps_what_was_translated_as_json() -> None:
    with started(*NUMPY, "--json", text=False) as process:
        process.stdin.write(b"I love you!\n\xff\n")
        process.stdin.flush()
        assert select([process.stderr], [], [], 60)[0], (
            "lines are answered while the pipe stays open"
        )
        assert process.stderr.readline().startswith(b"line 2"), "both are answered"
        process.send_signal(signal.SIGINT)
        answered = json.loads(process.stdout.read())
        assert (process.wait(60), process.stderr.read()) == (130, b"")
    assert without_no_break(answered["translations"][0]["translation"]) == LOVE


# Beams


def test_a_beam_gives_its_best_sentences_with_their_scores(here) -> None:
    sentences = ["I love you!", "", "I'm tired."]
    lines = [
        line.split("\t")
        for line in rosetta(*NUMPY, "--beam", 4, "--n-best", 3, *sentences)[1].splitlines()
    ]
    assert [line[0] for line in lines] == ["1", "1", "1", "2", "3", "3", "3"]
    assert without_no_break(lines[0][2]) == LOVE
    translated = answer(*NUMPY, "--beam", 4, "--n-best", 3, *sentences)["translations"]
    for line, sentence in zip((lines[:3], lines[3:4], lines[4:]), translated, strict=True):
        assert sentence["translation"] == line[0][2] == sentence["n_best"][0]["translation"]
        assert [best["translation"] for best in sentence["n_best"]] == [
            fields[2] for fields in line
        ]
        assert [f"{best['score']:.4f}" for best in sentence["n_best"]] == [
            fields[1] for fields in line
        ]
        scores = [best["score"] for best in sentence["n_best"]]
        assert scores == sorted(scores, reverse=True)
    greedy = rosetta(*NUMPY, "Goodbye.")[1]
    assert rosetta(*NUMPY, "--beam", 1, "Goodbye.")[1] == greedy
    assert rosetta(*NUMPY, "--beam", 5, "Goodbye.")[1] != greedy, (
        "the search finds a more probable sentence"
    )
    assert "--beam 4" in refusal(2, *NUMPY, "--beam", 3, "--n-best", 4, "I'm tired.")


# All backends side by side


def shown_by_all(*arguments: object, expected: int = 0) -> tuple[str, str]:
    """Standard output and error of the program, which must end with this status."""
    status, out, err = rosetta("translate", "--backend", "all", "--threads", "1", *arguments)
    assert status == expected, err
    return without_no_break(out), err


def answered_by_all(*arguments: object, expected: int = 0) -> tuple[dict[str, Any], str]:
    """The answer as machines read it, and standard error."""
    out, err = shown_by_all("--json", *arguments, expected=expected)
    return json.loads(out.splitlines()[-1]), err


@pytest.fixture
def only(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Makes a table of these backends, as if no others were installed;
    all are NumPy, which starts soonest."""

    def make(*names: str, **extra: Entry) -> None:
        entries = {name: replace(TABLE["numpy"], aliases=lookup(name).aliases) for name in names}
        monkeypatch.setattr(backends, "TABLE", entries | extra)

    return make


def test_all_backends_are_shown_side_by_side_despite_a_bad_line(only) -> None:
    only("numpy", "torch", "numpy:twin")  # a variant, which nobody asked for
    out, err = shown_by_all("\u4e2d!", "I love you!", "I'm tired.", expected=1)
    assert out.startswith("\n")
    assert "U+4E2D" in err
    assert re.search(r"backend +translation +ms +same", out)
    assert "I love you!" in out
    for name in ("numpy", "torch"):
        assert (
            len(re.findall(rf"^{name} .*{re.escape(LOVE)} +\d+\.\d+ +yes *$", out, re.MULTILINE))
            == 1
        ), out
    assert len(re.findall(r"^torch .* yes *$", out, re.MULTILINE)) == 2
    assert not re.search("twin|starting|waiting", out + err)
    assert "warm" in out, "what the milliseconds leave out"


def test_side_by_side_json_has_no_failed_backend(only) -> None:
    only("numpy", "twin", broken=Entry("tests.no_such_module:Backend", "numpy", ""))
    beam = ["--beam", "3", "--n-best", "2"]
    table, err = answered_by_all(*beam, "I love you!", "\u4e2d", "", expected=1)
    assert "No module named" in table["left_out"]["broken"]
    assert "broken is left out" in err
    first, bad, blank = table["translations"]
    assert [row["backend"] for row in first["backends"]] == ["numpy", "twin"]
    for row in first["backends"]:
        assert (row["translation"], row["same"], len(row["n_best"])) == (LOVE, True, 2)
        assert 0 < row["milliseconds"] < 60_000
    assert bad["backends"] == []
    assert bad["error"] in err
    assert [(row["translation"], row["milliseconds"]) for row in blank["backends"]] == [
        ("", None)
    ] * 2


def test_a_framework_has_the_name_that_its_users_give_it(only) -> None:
    only("torch", "keras", "paddle")
    for given, name in (("PyTorch", "torch"), ("tensorflow", "keras"), ("paddlepaddle", "paddle")):
        assert answer("translate", "I love you!", "--backend", given)["backend"] == name


def test_each_backend_is_timed_alone_and_dissent_is_marked() -> None:
    asked = []

    def process(name: str, translation: str) -> Any:
        def call(*_: Any, texts: list[str], alone: bool, **settings: Any) -> list[Answer]:
            asked.append((name, alone))
            return [Answer((Candidate(translation),), 2.5)] * len(texts)

        return SimpleNamespace(call=call)

    together = SideBySide(pytest.fail)
    translations = {"numpy": "Oui.", "torch": "Non.", "paddle": "Oui."}
    together.processes = {
        name: process(name, translation) for name, translation in translations.items()
    }
    (answers,) = together.answers(["Yes."])
    assert asked == [(name, True) for name in translations]
    output = Output(None, 1, False, True, None, side_by_side=True)
    rows = output.record(InputLine("Yes.", "Yes.", "Yes."), answers, "")["backends"]
    assert [row["same"] for row in rows] == [True, False, True]


def test_without_memory_for_more_a_backend_is_left_out(only, monkeypatch) -> None:
    only("numpy", "torch")
    free = iter([1 << 30, 4 << 30, 1 << 20])  # by the first of which one is started at a time
    monkeypatch.setattr(psutil, "virtual_memory", lambda: SimpleNamespace(available=next(free)))
    table, err = answered_by_all("I love you!")
    assert [row["backend"] for row in table["translations"][0]["backends"]] == ["numpy"]
    assert "torch is left out: too little memory is free for one more backend" in " ".join(
        err.split()
    )


def test_where_all_backends_fail_the_first_error_is_told(tmp_path, only) -> None:
    only("numpy", "torch")
    damaged = shutil.copytree(BUNDLED_RUN, tmp_path / "run")
    (damaged / "state.safetensors").write_bytes(b"")
    _, err = shown_by_all(damaged, "I love you!", expected=1)
    assert "is damaged" in err.splitlines()[-1]
    assert err.count("is left out") == 2
