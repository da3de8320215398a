"""Lines of a stream as they arrive: one at a time when typed, many at once when piped."""

import codecs
import os
from collections.abc import Iterator
from typing import IO

from common.errors import CannotBeginError

LINES_AT_ONCE = 512
READ_SIZE = 1 << 16  # bytes


def lines_as_they_arrive(stream: IO[bytes]) -> Iterator[list[str]]:
    """Lists of whole lines, without their ends and a byte order mark; a last line without a newline counts.

    Waits only when there is no line yet. Raises CannotBeginError for a line that is not UTF-8, after the lines
    before it were given out.
    """
    rest, number = b"", 0
    while piece := os.read(stream.fileno(), READ_SIZE):
        *lines, rest = (rest + piece).split(b"\n")
        for start in range(0, len(lines), LINES_AT_ONCE):
            chunk = lines[start : start + LINES_AT_ONCE]
            yield from _decoded(chunk, number)
            number += len(chunk)
    if rest:
        yield from _decoded([rest], number)


def _decoded(lines: list[bytes], number: int) -> Iterator[list[str]]:
    if number == 0:
        lines[0] = lines[0].removeprefix(codecs.BOM_UTF8)
    texts: list[str] = []
    for line in lines:
        try:
            texts.append(line.removesuffix(b"\r").decode())
        except UnicodeDecodeError as error:
            if texts:
                yield texts
            raise CannotBeginError(
                f"line {number + len(texts) + 1}, byte {error.start + 1} is not UTF-8; convert the input to UTF-8"
            ) from error
    if texts:
        yield texts
