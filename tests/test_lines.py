"""Lines of a pipe, as they arrive."""

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO

import pytest

import common.lines
from common.lines import (
    LINES_AT_ONCE,
    LONGEST_LINE,
    LONGEST_SENTENCE,
    READ_SIZE,
    lines_as_they_arrive,
    not_utf8,
    shown,
)


@contextmanager
def pipe() -> Iterator[tuple[IO[bytes], IO[bytes]]]:
    reading, writing = os.pipe()
    with os.fdopen(reading, "rb") as reader, os.fdopen(writing, "wb", buffering=0) as writer:
        yield reader, writer


def lists_of(content: bytes) -> list[list[str]]:
    """What comes out when `content` is written at once and the pipe closed."""
    with pipe() as (reader, writer):

        def write() -> None:
            with writer:
                writer.write(content)

        thread = threading.Thread(target=write)
        thread.start()
        try:
            return list(lines_as_they_arrive(reader))
        finally:
            reader.close()
            thread.join()


def lines_of(content: bytes) -> list[str]:
    return [line for lines in lists_of(content) for line in lines]


def test_a_line_comes_at_once_while_the_pipe_stays_open() -> None:
    with pipe() as (reader, writer):
        arriving = lines_as_they_arrive(reader)
        for written, expected in [
            (b"Go.\n", ["Go."]),
            (b"Run!\nWow!\nha", ["Run!", "Wow!"]),
            (b"lf\n", ["half"]),
        ]:
            writer.write(written)
            assert next_within(arriving, 5) == expected
        writer.write(b"end")
        writer.close()
        assert list(arriving) == [["end"]]


def next_within(arriving: Iterator[list[str]], seconds: float) -> list[str]:
    """The next list; a reader that waits for more is a failure and not a test that hangs."""
    found: list[list[str]] = []
    thread = threading.Thread(target=lambda: found.append(next(arriving)), daemon=True)
    thread.start()
    thread.join(seconds)
    assert found, "no line came"
    return found[0]


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"", []),
        (b"a\nb\n", ["a", "b"]),
        (b"a\nb", ["a", "b"]),
        (b"a\r\nb\r\n", ["a", "b"]),
        (b"a\r\nb\r", ["a", "b"]),
        (b"\n\na\n", ["", "", "a"]),
        ("犬\u2028é\x85\n👩\n".encode(), ["犬\u2028é\x85", "👩"]),
        (b"a\rb\n", ["a\rb"]),
    ],
    ids=["nothing", "lines", "no last newline", "CRLF", "last CR", "empty lines", "any script", "CR within"],
)
def test_lines_come_without_their_ends(content: bytes, expected: list[str]) -> None:
    assert lines_of(content) == expected


def test_many_lines_come_in_bounded_lists() -> None:
    lines = [f"line {i}" for i in range(3 * LINES_AT_ONCE + 1)]
    lists = lists_of("".join(f"{line}\n" for line in lines).encode())
    assert [line for some in lists for line in some] == lines
    assert max(map(len, lists)) == LINES_AT_ONCE == 512


def test_a_line_longer_than_a_read_and_a_character_cut_by_one_stay_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(common.lines, "READ_SIZE", 1000)
    line = "a" + "é" * 30_000  # every read ends within a character
    assert lines_of(f"{line}\n{line}".encode()) == [line, line]


@pytest.mark.parametrize("ending", ["\n", ""], ids=["newline", "end"])
def test_of_a_line_without_end_only_a_part_is_kept(ending: str) -> None:
    long, short, last = lines_of(f"{'a' * 20 * LONGEST_LINE}\nGo.\n{'b' * 20 * LONGEST_LINE}{ending}".encode())
    for line in (long, last):
        assert LONGEST_SENTENCE < len(line) <= LONGEST_LINE + READ_SIZE
    assert short == "Go."


@pytest.mark.parametrize("ending", [b"\n", b""], ids=["newline", "end"])
@pytest.mark.parametrize("num_before", [0, 2, LINES_AT_ONCE, LINES_AT_ONCE + 3])
def test_a_line_that_is_not_utf8_comes_among_the_others_and_can_be_told(num_before: int, ending: bytes) -> None:
    before = "".join(f"line {i}: caf\u00e9\n" for i in range(num_before)).encode()
    *lines, last = lines_of(before + "\u00e9".encode() + b"caf\xe9 \xff" + ending)
    assert [not_utf8(line) for line in lines] == [None] * num_before
    assert not_utf8(last) == 6, "of bytes, not of characters"
    assert shown(last) == "\u00e9caf\ufffd \ufffd"
    assert [shown(line) for line in lines] == lines
