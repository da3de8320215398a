"""Lines that somebody types, and their answers as people and machines read them."""

import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec
from rich.table import Table

from backends.process.translate_in_child import Answer
from backends.process.translating import translation_of_most
from common import terminal
from common.errors import CannotBeginError, RosettaError, UnknownCharactersError
from common.sources import Sources
from common.tensors import CharVocabulary
from common.text import LONGEST_SENTENCE, for_terminal, normalize


@dataclass(frozen=True)
class InputLine:
    """A line as it was typed, and as it is translated."""

    source: str
    written: str  # in Unicode's form NFC, as training would have written it
    text: str  # the same without the characters that are to be dropped
    read_as: str | None = None  # the text, where it differs from the line
    error: str = ""  # why the line cannot be translated

    @classmethod
    def read(
        cls, line: str, sources: Sources, vocabulary: CharVocabulary, drop_unknown: bool = False
    ) -> "InputLine":
        """Read a line that somebody typed, as the run's training wrote its own.

        A line at fault has an `error`. If `drop_unknown`, characters that the encoder's vocabulary
        lacks are left out of the text, and no fault.
        """
        normal, error = normalize(line), ""
        written = sources.as_written(normal)
        text = vocabulary.without_unknown(written) if drop_unknown else written
        if len(normal) > LONGEST_SENTENCE:
            error = (
                f"the line has more than {LONGEST_SENTENCE:,} characters, the most that are "
                "translated; divide it"
            )
        elif missing := vocabulary.lacks(text):
            error = str(UnknownCharactersError(missing))
        return cls(line, written, text, text if text != normal else None, error)

    def seen(self, translation: str) -> str:
        """A translation of the line as a person reads it; an empty line's stays empty."""
        return terminal.seen(translation) if self.text.strip() else translation


@dataclass
class Output:
    """Prints the answers to lines as they come, or keeps them for JSON,
    and counts the lines at fault."""

    file: Path | None
    num_texts: int  # sentences given as arguments; 0 where lines are read
    prompted: bool
    json: bool
    n_best: int | None
    side_by_side: bool
    number: int = 0  # lines so far
    failed: int = 0  # lines at fault among them
    last_error: str = ""  # of the last line
    records: list[dict[str, Any]] = field(default_factory=list)  # for JSON, which is one object

    def add(self, line: InputLine, answers: Mapping[str, Answer], doubt: str) -> None:
        """Print a line's answers by backend, and its notes. A bad line has no answers."""
        self.number += 1
        self.failed += bool(line.error)
        self.last_error = line.error
        if line.error and self.num_texts != 1:  # the error of a single sentence is the program's
            terminal.say(self._place() + line.error, terminal.err)
        if doubt:
            terminal.warn(self._place() + doubt)
        if self.json:
            self.records.append(self.record(line, answers, doubt))
        elif answers or not self.alone:  # elsewhere a line at fault leaves an empty one
            self.print(line, answers)

    @property
    def alone(self) -> bool:
        """True if a message needs no number of a line, since one line is asked at a time."""
        return self.prompted or self.num_texts == 1

    @property
    def unit(self) -> str:
        return "text" if self.num_texts else "line"

    def _place(self) -> str:
        """The beginning of what is said of the present line."""
        if self.alone:
            return ""
        return (
            f"{self.file}, {self.unit} {self.number}: "
            if self.file
            else (f"{self.unit} {self.number}: ")
        )

    def raise_failures(self) -> None:
        """Raise an error for lines that could not be translated;
        at a prompt each was shown at once."""
        if not self.failed or self.prompted:
            return
        if self.num_texts == 1:
            raise CannotBeginError(self.last_error)
        error = CannotBeginError if self.num_texts and self.failed == self.number else RosettaError
        raise error(f"{self.failed} of {self.number} {self.unit}s could not be translated")

    def record(self, line: InputLine, answers: Mapping[str, Answer], doubt: str) -> dict[str, Any]:
        """Return a line and its answers by backend, none where it is at fault,
        as machines read them."""
        rows, most = [], translation_of_most(answers.values())
        for name, answer in answers.items():
            row: dict[str, Any] = {"backend": name} if self.side_by_side else {}
            row |= {"translation": answer.translation}
            if self.n_best:
                row |= {
                    "n_best": [
                        msgspec.to_builtins(candidate)
                        for candidate in answer.candidates[: self.n_best]
                    ]
                }
            if self.side_by_side:
                row |= {"milliseconds": answer.milliseconds, "same": answer.translation == most}
            rows.append(row)
        answered = (
            {"backends": rows} if self.side_by_side else rows[0] if rows else {"translation": None}
        )
        notes = {"read_as": line.read_as, "error": line.error or None, "doubt": doubt or None}
        return (
            {"source": line.source}
            | answered
            | {name: note for name, note in notes.items() if note is not None}
        )

    def print(self, line: InputLine, answers: Mapping[str, Answer]) -> None:
        """Print the answers to a line by backend: a translation,
        the best with their scores, or a table of backends.

        A line at fault has no answers and leaves an empty line.
        """
        if self.side_by_side and answers:
            return terminal.out.print(self.table(line, answers), "")
        best = [candidate for answer in answers.values() for candidate in answer.candidates][
            : self.n_best
        ]
        if self.n_best is None:
            translation = best[0].translation if best else ""
            print(
                for_terminal(line.seen(translation)) if sys.stdout.isatty() else translation,
                flush=True,
            )
        elif best and sys.stdout.isatty():
            rows = [
                [f"{candidate.score:.4f}", line.seen(candidate.translation)] for candidate in best
            ]
            terminal.out.print(
                terminal.table(line.source, ["score", "translation"], rows, numeric=["score"]), ""
            )
        else:  # for another program, each translation as it is
            for candidate in best:
                print(
                    self.number,
                    f"{candidate.score:.4f}",
                    candidate.translation,
                    sep="\t",
                    flush=True,
                )

    def table(self, line: InputLine, answers: Mapping[str, Answer]) -> Table:
        """Return the answers of backends to one line as a table."""
        most, rows = translation_of_most(answers.values()), []
        for name, answer in answers.items():
            milliseconds = "" if answer.milliseconds is None else f"{answer.milliseconds:.1f}"
            first, last = [name], [milliseconds, "yes" if answer.translation == most else "no"]
            for candidate in answer.candidates[: self.n_best or 1]:
                score = [] if self.n_best is None else [f"{candidate.score:.4f}"]
                rows.append([*first, line.seen(candidate.translation), *score, *last])
                first, last = [""], ["", ""]
        columns = ["backend", "translation", *(["score"] if self.n_best else []), "ms", "same"]
        return terminal.table(line.source, columns, rows, numeric=["score", "ms"])
