"""The errors that a user may see. A message is one line:
what was found, what was expected, what to try."""

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager

FULL = {
    errno.ENOSPC: "the disk is full",
    errno.EDQUOT: "the disk's quota is used up",
    errno.EFBIG: "the largest size that a file may have is reached (`ulimit -f` shows and sets it)",
}
# Some bytes are added.
REASONS = FULL | {errno.ENAMETOOLONG: "the name is too long; choose one of 200 bytes at most"}
NO_TEMPORARY_FOLDER = "no folder takes temporary files; free space in one, and let TMPDIR name it"


class RosettaError(Exception):
    """Work began and could not be finished: a run is damaged, a process died, a loss diverged."""

    exit_code = 1


class CannotBeginError(RosettaError):
    """The request cannot be begun: wrong options or paths,
    unreadable input, a missing backend or device."""

    exit_code = 2


class BadSettingError(CannotBeginError, ValueError):
    """A setting is out of its range. It is a ValueError, too,
    since such errors msgspec reports with their place."""


class UnknownCharactersError(CannotBeginError):
    """A text holds characters that the vocabulary lacks."""

    def __init__(self, characters: set[str]) -> None:
        named = ", ".join(f"{c!r} (U+{ord(c):04X})" for c in sorted(characters))
        super().__init__(
            f"the vocabulary of this run has no {named}; reword the sentence, or drop such "
            "characters with --unknown drop"
        )


class CtrlCError(RosettaError):
    """Ctrl-C ended the work; the message says what is kept and how to go on."""

    exit_code = 130  # what a shell reports of a program that Ctrl-C ended


def why(error: OSError) -> str:
    """The operating system's reason for an error."""
    words = REASONS.get(error.errno or 0) or error.strerror or str(error)
    # And a list.
    return NO_TEMPORARY_FOLDER if words.startswith("No usable temporary directory") else words


@contextmanager
def refusing(
    what: str, remedy: str = "", kind: type[RosettaError] = CannotBeginError
) -> Iterator[None]:
    """Turn an OSError of the block into an error of this kind: `what`,
    the system's reason, and the remedy."""
    try:
        yield
    except OSError as error:
        raise kind(f"{what}: {why(error)}{remedy}") from error


def in_words(error: BaseException) -> str | None:
    """Describe an error of the system or of an encoding; None for any other error.

    Rosetta names the files that it writes; the output has no name.
    """
    # As Python words it.
    no_thread = isinstance(error, RuntimeError) and "start new thread" in str(error)
    if isinstance(error, MemoryError) or no_thread:
        return (
            "the system gives this program no more memory or threads; end other programs, or raise "
            "the limits that `ulimit -a` shows. Files that were written are kept"
        )
    if isinstance(error, UnicodeEncodeError):
        return (
            f"{error.encoding} has no U+{ord(error.object[error.start]):04X}, which stands in a "
            "name or in the output"
        )
    if not isinstance(error, OSError):
        return None
    gone = "the working folder" if why(error) == os.strerror(errno.ENOENT) else ""
    unnamed = "standard output or a temporary file" if error.errno in FULL else gone
    where = error.filename or unnamed
    return f"{where}: {why(error)}" if where else why(error)
