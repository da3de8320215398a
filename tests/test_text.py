"""Text of others, printed and given to a shell."""

import json
import os
import subprocess
from pathlib import Path

import pytest

from common.text import as_json, for_terminal, printable, quoted

# An escape that clears the screen, the byte that begins one in eight bits, a right-to-left override, a byte that is
# not UTF-8, a line separator.
HOSTILE = "a\x1b[2Jb\x9b2Jc\u202ed\udce9e\u2028f"


def test_what_is_printed_is_one_line_and_no_escape() -> None:
    assert printable(HOSTILE) == "a?[2Jb?2Jc?d?e f"
    assert printable("Ça va\u202f!\t犬\n") == "Ça va ! 犬 "
    assert for_terminal(f"Ça va\u202f!{HOSTILE}") == f"Ça va\u202f!{printable(HOSTILE)}"


def test_json_has_escapes_instead_and_keeps_its_value() -> None:
    value = {"a": [HOSTILE, "Ça va\u202f!", '"\\', 1.5, None], HOSTILE: "👩\U000e0001"}
    text = as_json(value)
    assert json.loads(text) == value
    assert text.replace("\u202f", "").isprintable()
    assert "Ça va\u202f!" in text
    assert "\\udce9" in text


@pytest.mark.parametrize(
    "word",
    ["run", "my run", "it's", "", "é $HOME `x` \\", "caf\udce9", HOSTILE, "'\\\n'", "-x", "\x011", "a\u202f!"],
    ids=ascii,
)
def test_a_quoted_word_is_printable_and_the_shells_word_again(word: str) -> None:
    assert quoted(word).isprintable()
    told = subprocess.run(["bash", "-c", f"printf %s {quoted(word)}"], capture_output=True, check=True).stdout
    assert told == os.fsencode(word)


def test_plain_paths_are_not_quoted() -> None:
    assert quoted(Path("runs/é-1")) == "'runs/é-1'"
    assert quoted(Path("runs/first")) == "runs/first"


def test_what_no_file_can_be_named_has_a_question_mark() -> None:
    assert quoted("\ud800") == "$'\\077'"
