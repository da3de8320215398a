"""Text that others wrote: its lines, within limits,
and forms of it for a terminal, for a shell and for JSON."""

import codecs
import json
import os
import shlex
import unicodedata
from collections.abc import Iterable, Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import IO, Any

LINES_AT_ONCE = 512
PIECE = 1 << 16  # bytes that are read at a time
LONGEST_LINE = 1 << 16  # bytes; two sentences of the most characters have 8,000
LONGEST_SENTENCE = 1000  # characters; the longest of manythings.org have some 400
# French has them; Python does not call them printable
NO_BREAK = "\N{NO-BREAK SPACE}\N{NARROW NO-BREAK SPACE}"


def normalize(text: str) -> str:
    """The text in Unicode's normal form NFC,
    so that a character is the same character however it was typed."""
    return unicodedata.normalize("NFC", text)


def split_lines(pieces: Iterable[bytes]) -> Iterator[list[bytes]]:
    """Lists of the whole lines of a stream that comes in pieces, as soon as they are there.

    The lines are without their ends and a byte order mark; a last line without a newline counts. Of
    a line of more than LONGEST_LINE bytes some are dropped, which leaves it longer than
    LONGEST_LINE.
    """
    rest, mark = b"", codecs.BOM_UTF8
    for piece in pieces:
        *lines, rest = (rest[: LONGEST_LINE + 2] + piece).split(b"\n")  # a line may end with "\r\n"
        if lines:
            lines[0] = lines[0].removeprefix(mark)
            mark = b""
        for start in range(0, len(lines), LINES_AT_ONCE):
            yield [line.removesuffix(b"\r") for line in lines[start : start + LINES_AT_ONCE]]
    if last := rest.removeprefix(mark):
        yield [last.removesuffix(b"\r")]


def lines_as_they_arrive(stream: IO[bytes]) -> Iterator[list[str]]:
    """The lists of `split_lines` of a stream, with U+FFFD for what is not UTF-8.
    Waits only while it has no line."""
    for lines in split_lines(iter(partial(os.read, stream.fileno(), PIECE), b"")):
        yield [line.decode(errors="replace") for line in lines]


def typed_lines(prompt: str) -> Iterator[list[str]]:
    """Lists of one line each, as they are typed at a terminal after a prompt,
    until Ctrl-D or "quit"."""
    with suppress(ImportError):  # where Python was built without it, lines cannot be edited
        # With it `input` lets a line be edited, and earlier ones be recalled.
        import readline  # noqa: F401
    while True:
        try:
            if (line := input(prompt)).strip() == "quit":
                return
            yield [line]
        except EOFError:
            print()  # the shell's prompt is to begin a line
            return
        except KeyboardInterrupt:
            print()
            raise


def printable(text: str) -> str:
    """The text in one line, without the control characters
    by which it could write over the terminal."""
    return "".join(c if c.isprintable() else " " if c.isspace() else "?" for c in text)


def for_terminal(text: str) -> str:
    """The text as `printable` gives it, with its no-break spaces."""
    return "".join(c if c in NO_BREAK else printable(c) for c in text)


def as_json(content: Any) -> str:
    """The content as JSON in one line, with escapes for characters that are not printable."""
    text = json.dumps(content, ensure_ascii=False)
    return "".join(c if c.isprintable() or c in NO_BREAK else json.dumps(c)[1:-1] for c in text)


def listed(words: Iterable[str]) -> str:
    """Words as a list in a sentence: a; a and b; a, b and c."""
    *first, last = words
    return f"{', '.join(first)} and {last}" if first else last


def some_of(names: Iterable[str], most: int = 8) -> str:
    """The first of many names, each once, and how many more there are."""
    first = [*dict.fromkeys(names)]
    more = f" and {len(first) - most} more" if len(first) > most else ""
    return ", ".join(first[:most]) + more


def count(number: int, noun: str) -> str:
    """A number and its noun in singular or plural: 1 cycle, 2 cycles."""
    return f"{number:,} {noun}{'s' * (number != 1)}"


def duration(seconds: float) -> str:
    """A duration in minutes and seconds: 2 min 5 s."""
    return f"{round(seconds) // 60} min {round(seconds) % 60} s"


def quoted(word: str | Path) -> str:
    """A word as a shell takes it, in printable characters alone."""
    return shlex.quote(printable(str(word)))
