"""The errors a person may see. Each is one line: what was found, what was expected, what to try."""


class RosettaError(Exception):
    """Work began and could not be finished: a corrupt run, a child that died, a loss that diverged."""

    exit_code = 1


class CannotBeginError(RosettaError):
    """The request cannot be begun: options, paths, unreadable input, a backend or device that is not there."""

    exit_code = 2


class UnknownCharactersError(CannotBeginError):
    """A text holds characters that the vocabulary lacks.

    `row` is the index of the text within the list that was encoded.
    """

    def __init__(self, characters: set[str], row: int) -> None:
        named = ", ".join(f"{c!r} (U+{ord(c):04X})" for c in sorted(characters))
        super().__init__(
            f"the vocabulary of this run has no {named}; reword the sentence, or drop such characters with "
            "--unknown drop"
        )
        self.row = row


class CtrlCError(RosettaError):
    """Ctrl-C ended the work; the message says what is kept and how to go on."""

    exit_code = 130  # what a shell reports of a program that Ctrl-C ended
