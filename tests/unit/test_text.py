"""Text of others: read in lines, printed, and given to a shell."""

import json
import shlex
from itertools import chain, product
from pathlib import Path

from common.text import (
    LINES_AT_ONCE,
    LONGEST_LINE,
    PIECE,
    as_json,
    for_terminal,
    printable,
    quoted,
    split_lines,
)

# An escape that clears the screen, the byte that begins one in eight bits, a right-to-left
# override, a byte that is not UTF-8, a line separator.
HOSTILE = "a\x1b[2Jb\x9b2Jc\u202ed\udce9e\u2028f"


def lines_of(content: bytes, size: int = PIECE) -> list[bytes]:
    """The lines of a stream that comes in pieces of this size."""
    return [
        *chain.from_iterable(
            split_lines(content[n : n + size] for n in range(0, len(content), size))
        )
    ]


LINES = {
    "": [],
    "\ufeff": [],
    "\ufeffa\n\ufeffb": ["a", "\ufeffb"],
    "a\r\nb\r": ["a", "b"],
    "\n\na\n": ["", "", "a"],
    "犬\u2028é\x85\n👩\n": ["犬\u2028é\x85", "👩"],
    "a\rb\n": ["a\rb"],
}


def test_lines_lack_ends_and_byte_order_mark_in_bounded_lists() -> None:
    for size, (content, expected) in product([1, PIECE], LINES.items()):
        assert [line.decode() for line in lines_of(content.encode(), size)] == expected
    lines = [b"line %d" % i for i in range(3 * LINES_AT_ONCE + 1)]
    lists = list(split_lines([b"\n".join(lines)]))
    assert [line for some in lists for line in some] == lines
    assert max(map(len, lists)) == LINES_AT_ONCE == 512


def test_a_line_beyond_the_longest_is_cut() -> None:
    longest, longer = "é".encode() * (LONGEST_LINE // 2), b"a" * 20 * LONGEST_LINE
    for size, end in product([1000, PIECE], [b"\n", b"\r\n", b""]):
        kept = lines_of(longest + b"\r\n" + longer + b"\nGo.\n" + longer + end, size)
        assert kept[::2] == [longest, b"Go."]
        assert all(LONGEST_LINE < len(line) <= LONGEST_LINE + PIECE + 2 for line in kept[1::2])


def test_printed_text_is_one_line_without_escapes() -> None:
    assert printable(HOSTILE) == "a?[2Jb?2Jc?d?e f"
    assert printable("Ça va\u202f!\t犬\n") == "Ça va ! 犬 "
    assert for_terminal(f"Ça va\u202f!{HOSTILE}") == f"Ça va\u202f!{printable(HOSTILE)}"
    value = {"a": [HOSTILE, "Ça va\u202f!", '"\\', 1.5, None], HOSTILE: "👩\U000e0001"}
    text = as_json(value)
    assert json.loads(text) == value
    assert text.replace("\u202f", "").isprintable()
    assert "Ça va\u202f!" in text


def test_a_quoted_word_is_printable_and_the_shells_word_again() -> None:
    words = ["run", "my run", "it's", "", "é $HOME `x` \\", "-x", "'\\'"]
    assert shlex.split(" ".join(map(quoted, words))) == words
    assert quoted(HOSTILE) == shlex.quote(printable(HOSTILE))
    assert quoted(Path("runs/first")) == "runs/first"
