"""Text that others wrote, in a form that can be printed and that a shell can be given."""

import json
import shlex
from collections.abc import Iterable
from pathlib import Path
from typing import Any

NO_BREAK = "\N{NO-BREAK SPACE}\N{NARROW NO-BREAK SPACE}"  # French has them; Python does not call them printable


def printable(text: str) -> str:
    """The text in one line, without the control characters by which it could write over the terminal."""
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


def quoted(word: str | Path) -> str:
    """A word as a shell takes it, in printable characters alone; the others are written as their bytes' numbers."""
    text = str(word)
    if text.isprintable():
        return shlex.quote(text)
    return "$'" + "".join(c if c.isprintable() and c not in "'\\" else _as_numbers(c) for c in text) + "'"


def _as_numbers(character: str) -> str:
    """The character's bytes as a shell reads them between $' and '. Python gives a byte that is not UTF-8 as one of
    U+DC80 to U+DCFF."""
    of_a_byte = "\udc80" <= character <= "\udcff"
    encoded = character.encode(errors="surrogateescape" if of_a_byte else "replace")
    return "".join(f"\\{byte:03o}" for byte in encoded)
