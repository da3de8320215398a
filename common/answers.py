"""A line to translate and the answers to it, in the form in which they go from a backend's process to the printer."""

from collections import Counter
from collections.abc import Collection

import msgspec


class Candidate(msgspec.Struct, frozen=True):
    """A translation that decoding found."""

    translation: str
    score: float | None = None  # natural logarithm of its probability; None after greedy decoding


class Choice(msgspec.Struct, frozen=True):
    """A character that was possible at some position."""

    character: str
    probability: float


class Position(msgspec.Struct, frozen=True):
    """A character of a translation, and the most probable ones at its position."""

    character: str
    probability: float  # given all characters before it
    choices: tuple[Choice, ...]  # the most probable first


class Answer(msgspec.Struct, frozen=True):
    """A backend's answer to one text."""

    candidates: tuple[Candidate, ...]  # at least one, the best first
    milliseconds: float | None = (
        None  # of decoding, with the texts decoded together; None: not timed, or a blank text
    )
    ended: bool = True  # False: decoding stopped at its greatest length
    characters: tuple[Position, ...] = ()  # of the best candidate, with its end; only where choices were asked for

    @property
    def translation(self) -> str:
        return self.candidates[0].translation


class Line(msgspec.Struct, frozen=True):
    """A line as it was typed, and as it is translated."""

    source: str  # with U+FFFD for each byte that is not UTF-8
    written: str  # in Unicode's form NFC, as training would have written it
    text: str  # the same without the characters that are to be dropped
    read_as: str | None = None  # the text, where it differs from the line
    error: str = ""  # why the line cannot be translated


def translation_of_most(answers: Collection[Answer]) -> str:
    """The translation that most answers have; of several, the first. "" without an answer."""
    counted = Counter(answer.translation for answer in answers)
    return max(counted, key=counted.__getitem__, default="")
