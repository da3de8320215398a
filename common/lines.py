"""Lines of a stream as they arrive, one at a time when typed, many at once when piped; lines after a prompt."""

import codecs
import os
import sys
from collections.abc import Iterator
from contextlib import suppress
from io import TextIOWrapper
from typing import IO

LINES_AT_ONCE = 512
READ_SIZE = 1 << 16  # bytes
LONGEST_LINE = 1 << 16  # bytes that are kept of a line; two sentences of the most characters have 8,000
LONGEST_SENTENCE = 1000  # characters; the longest of manythings.org have some 400


def lines_as_they_arrive(stream: IO[bytes]) -> Iterator[list[str]]:
    """Lists of whole lines, without their ends and a byte order mark; a last line without a newline counts.

    Of a line of more than LONGEST_LINE bytes the others are dropped, which leaves it longer than LONGEST_SENTENCE.
    Waits only when there is no line yet. Bytes that are not UTF-8 come as lone surrogates, in which form Python gives
    out those of a command line too; `not_utf8` finds them.
    """
    rest, at_start = b"", True
    while piece := os.read(stream.fileno(), READ_SIZE):
        *lines, rest = (rest[:LONGEST_LINE] + piece).split(b"\n")
        for start in range(0, len(lines), LINES_AT_ONCE):
            yield _decoded(lines[start : start + LINES_AT_ONCE], at_start)
            at_start = False
    if rest:
        yield _decoded([rest], at_start)


def _decoded(lines: list[bytes], at_start: bool) -> list[str]:
    if at_start:
        lines[0] = lines[0].removeprefix(codecs.BOM_UTF8)
    return [line.removesuffix(b"\r").decode(errors="surrogateescape") for line in lines]


def not_utf8(line: str) -> int | None:
    """The place, counted from 1, of the first of the line's bytes that is not UTF-8; None where all are."""
    try:
        line.encode()
    except UnicodeEncodeError as error:
        return len(line[: error.start].encode()) + 1
    return None


def shown(line: str) -> str:
    """The line with U+FFFD in place of each byte that is not UTF-8, so that it can be printed."""
    return line.encode(errors="surrogateescape").decode(errors="replace")


def typed_lines(prompt: str) -> Iterator[list[str]]:
    """Lists of one line each, as they are typed at a terminal after a prompt, until Ctrl-D."""
    with suppress(ImportError):  # where Python was built without it, lines cannot be edited
        import readline  # noqa: F401 (with it, `input` lets a line be edited and earlier ones be recalled)
    if isinstance(sys.stdin, TextIOWrapper):
        sys.stdin.reconfigure(errors="surrogateescape")
    while True:
        try:
            yield [input(prompt)]
        except EOFError:
            print()  # the shell's prompt is to begin a line
            return
        except KeyboardInterrupt:
            print()
            raise
