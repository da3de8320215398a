"""The command `translate`."""

import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from backends import commands as options
from backends import installed
from common import terminal
from common.errors import CannotBeginError, RosettaError, UnknownCharactersError, refusing
from common.settings import Precision
from common.text import (
    LONGEST_SENTENCE,
    for_terminal,
    lines_as_they_arrive,
    normalize,
    quoted,
    typed_lines,
)

if TYPE_CHECKING:
    from backends.commands.side_by_side import SideBySide
    from backends.process.translating import Answer, Opener, Translator
    from common.sources import Sources
    from common.tensors import CharVocabulary

SIDE_BY_SIDE = (
    "ms: milliseconds that decoding the sentence by itself took in the backend's process, which had decoded one "
    "before to warm up. same: whether the sentence is the one that most backends give."
)

Unknown = Annotated[
    Literal["error", "drop"],
    typer.Option(help="Refuse a sentence with characters that training did not have, or drop these characters."),
]
RunAndTexts = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="RUN|TEXT",
        help="The folder of a run, and sentences.",
        show_default="the bundled run, and the lines of standard input",
    ),
]
BackendOrAll = Annotated[
    str | None,
    options.one_backend(
        f'Backend that computes: {options.BACKENDS}; or "all", which shows the sentence and the time of the '
        "installed backends side by side.",
        "the run's own",
    ),
]
Beam = Annotated[
    int,
    typer.Option(
        min=1,
        max=512,  # as many as decoding takes at once, which bounds memory
        help="Keep the N most probable beginnings at each character, and print the best sentence that comes of them. "
        "1 always takes the most probable next character.",
    ),
]
File = Annotated[Path | None, typer.Option(help="Translate the lines of a file.")]
NBest = Annotated[
    int | None,
    typer.Option(
        min=1,
        help="Print the N best sentences of --beam, each after the number of its line and its score: the natural "
        "logarithm of the probability that the model gives to the whole sentence. 0 would be certain; -0.7 is one in "
        "two, -2.3 one in ten.",
        show_default="the best alone, without its score",
    ),
]


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
        cls, line: str, sources: "Sources", vocabulary: "CharVocabulary", drop_unknown: bool = False
    ) -> "InputLine":
        """Read a line that somebody typed, as the run's training wrote its own.

        A line at fault has an `error`. If `drop_unknown`, characters that the encoder's vocabulary lacks are left out
        of the text, and no fault.
        """
        normal, error = normalize(line), ""
        written = sources.as_written(normal)
        text = vocabulary.without_unknown(written) if drop_unknown else written
        if len(normal) > LONGEST_SENTENCE:
            error = f"the line has more than {LONGEST_SENTENCE:,} characters, the most that are translated; divide it"
        elif missing := vocabulary.lacks(text):
            error = str(UnknownCharactersError(missing))
        return cls(line, written, text, text if text != normal else None, error)

    def seen(self, translation: str) -> str:
        """A translation of the line as a person reads it; an empty one has its reason in its place."""
        return terminal.ENDED_AT_ONCE if translation == "" and self.text.strip() else translation


@dataclass
class Output:
    """Prints the answers to lines as they come, or keeps them for JSON, and counts the lines at fault."""

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

    def add(self, line: InputLine, answers: "Mapping[str, Answer]", doubt: str) -> None:
        """Print a line's answers by backend, and its notes. A bad line has no answers."""
        self.number += 1
        self.failed += bool(line.error)
        self.last_error = line.error
        if line.error and self.num_texts != 1:  # the error of a single sentence is the program's
            terminal.say(self._place() + line.error, terminal.err)
        if doubt:
            terminal.warn(self._place() + doubt)
        if self.json:
            self.records.append(as_record(line, answers, doubt, self.n_best, self.side_by_side))
        elif answers or not self.alone:  # elsewhere a line at fault leaves an empty one
            print_answers(line, answers, self.number, self.n_best, self.side_by_side)

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
        return f"{self.file}, {self.unit} {self.number}: " if self.file else f"{self.unit} {self.number}: "

    def raise_failures(self) -> None:
        """Raise an error for lines that could not be translated; at a prompt each was told."""
        if not self.failed or self.prompted:
            return
        if self.num_texts == 1:
            raise CannotBeginError(self.last_error)
        error = CannotBeginError if self.num_texts and self.failed == self.number else RosettaError
        raise error(f"{self.failed} of {self.number} {self.unit}s could not be translated")


def translate(
    arguments: RunAndTexts = None,
    file: File = None,
    backend: BackendOrAll = None,
    variants: options.Variants = False,
    dtype: options.DtypeOfRun = None,
    weights: options.Weights = "last",
    unknown: Unknown = "error",
    beam: Beam = 1,
    n_best: NBest = None,
    threads: options.Threads = None,
    device: options.Device = "cpu",
    json: options.Json = False,
) -> None:
    """Translate sentences given as arguments, in a file, on standard input, a line each, or typed at a prompt.

    The first argument is a run where it names a folder. Without one, the run bundled with Rosetta translates, which
    was trained on the phrasebook. Without --backend, a run's own is taken, or where that is not installed, another.

    A line that cannot be translated is named on standard error and leaves an empty line; the exit status is then 1.
    """
    from backends.process.translating import translation_of_most

    run, texts = _run_and_texts(arguments or [])
    if texts and file:
        raise CannotBeginError(f"sentences are given as arguments and in {file}; give one of them")
    if len(texts) > 1 and not any(" " in text for text in texts):
        terminal.warn(f"each argument is a sentence; to translate one of {len(texts)} words, put quotes around it")
    if n_best is not None and n_best > beam:
        raise CannotBeginError(f"--beam {beam} does not find {n_best} sentences; give --beam {n_best} or more")
    if variants and backend != "all":
        raise CannotBeginError("--variants adds the variants to --backend all; give both, or the name of one backend")
    prompted = not (texts or file or json) and sys.stdin.isatty() and sys.stdout.isatty()
    opener = _opener(run, weights, dtype, threads, device)
    output = Output(file, len(texts), prompted, json, n_best, side_by_side=backend == "all")
    note = SIDE_BY_SIDE if output.side_by_side and not json else ""
    with refusing(f"{file} cannot be read"):
        stream = file.open("rb") if file else sys.stdin.buffer
    with stream, ExitStack() as stack:
        translator, sources = _open(opener, backend, variants, stack)
        if prompted:
            _greet(translator, sources, note)
        vocabulary, _ = opener.run.vocabularies()
        chunks = iter([texts]) if texts else typed_lines("sentence> ") if prompted else lines_as_they_arrive(stream)
        if note:  # each sentence's table comes as soon as it is whole
            chunks = ([line] for lines in chunks for line in lines)
        lines = ([InputLine.read(line, sources, vocabulary, unknown == "drop") for line in chunk] for chunk in chunks)
        search = beam if beam > 1 or n_best else None
        try:
            for line, answers in chain.from_iterable(_answered(translator, chunk, search, n_best) for chunk in lines):
                doubt = sources.doubt(line.written, translation_of_most(answers.values())) if answers else ""
                output.add(line, answers, doubt)
        finally:  # what came before an error, too
            if json and (output.number or sys.exception() is None):
                terminal.print_json(translator.about | {"translations": output.records})
    if note and not prompted and output.failed < output.number:
        terminal.say(note)
    output.raise_failures()


def _greet(translator: "Translator | SideBySide", sources: "Sources", note: str) -> None:
    """Tell somebody at the prompt how to begin and end, with sentences to try."""
    terminal.say(f"Type a sentence and Enter; quit ends. Backend: {translator.about['backend']}.")
    for name, examples in sources.examples.items():
        terminal.say(f"{name}: {' '.join(examples)}")
    if note:
        terminal.say(note)


def _answered(
    translator: "Translator | SideBySide", lines: Sequence[InputLine], beam: int | None, n_best: int | None
) -> "Iterator[tuple[InputLine, dict[str, Answer]]]":
    """Each line with its answers by backend, which a line at fault has not. Shows the first line's as they come."""
    good = [line for line in lines if not line.error]
    answers: Iterator[dict[str, Answer]] = iter(())
    if good:
        with terminal.showing() as show:

            def show_first(answers: "Mapping[str, Answer]", waiting: Sequence[str]) -> None:
                from backends.commands.side_by_side import rows_so_far

                show(rows_so_far(good[0], answers, waiting, n_best))

            answers = iter(translator.answers([line.text for line in good], show_first, beam))
    for line in lines:
        yield line, {} if line.error else next(answers)


def _opener(run: Path | None, weights: str, dtype: Precision | None, threads: int | None, device: str) -> "Opener":
    """Opens a run, by default the bundled one, in any backend."""
    from backends.process.parent import Runtime
    from backends.process.translating import Opener
    from common.run import BUNDLED_RUN, RunDirectory

    return Opener(RunDirectory.open(run or BUNDLED_RUN), weights, dtype, Runtime(threads=threads, device=device))


def _open(
    opener: "Opener", backend: str | None, variants: bool, stack: ExitStack
) -> "tuple[Translator | SideBySide, Sources]":
    """The translator of lines in one backend or in all, until the stack is closed, and the run's sources."""
    from common.sources import Sources

    if backend == "all":
        from backends.commands.side_by_side import open_side_by_side

        names = installed(variants)
        together = stack.enter_context(open_side_by_side(opener, names, terminal.warn))
        return together, Sources.of_run(opener.run)
    process = stack.enter_context(opener.launch(backend))
    with terminal.starting(process.name):
        sources = Sources.of_run(opener.run)  # meanwhile
        return opener.load(process), sources


def _run_and_texts(arguments: list[str]) -> tuple[Path | None, list[str]]:
    """The folder of a run, where the first argument names one, and the sentences.

    Raises CannotBeginError for what looks like a path, where there is no such folder.
    """
    first = arguments[0] if arguments else ""
    if os.path.isdir(first) or os.path.islink(first):
        return Path(first), arguments[1:]
    if os.sep in first and len(first.split()) == 1:
        raise CannotBeginError(
            f"{first} is not a run: there is no such folder; `rosetta train --out {quoted(first)}` makes one"
        )
    return None, arguments


def as_record(
    line: InputLine, answers: "Mapping[str, Answer]", doubt: str, n_best: int | None, side_by_side: bool
) -> dict[str, Any]:
    """Return a line and its answers by backend, none where it is at fault, as machines read them."""
    from backends.process.translating import translation_of_most

    rows = []
    for name, answer in answers.items():
        row: dict[str, Any] = {"backend": name} if side_by_side else {}
        row |= {"translation": answer.translation}
        if n_best:
            best = answer.candidates[:n_best]
            row |= {
                "n_best": [{"translation": candidate.translation, "score": candidate.score} for candidate in best]
            }
        if side_by_side:
            same = answer.translation == translation_of_most(answers.values())
            row |= {"milliseconds": answer.milliseconds, "same": same}
        rows.append(row)
    answered = {"backends": rows} if side_by_side else rows[0] if rows else {"translation": None}
    notes = {"read_as": line.read_as, "error": line.error or None, "doubt": doubt or None}
    return {"source": line.source} | answered | {name: note for name, note in notes.items() if note is not None}


def print_answers(
    line: InputLine, answers: "Mapping[str, Answer]", number: int, n_best: int | None, side_by_side: bool
) -> None:
    """Print the answers to a line by backend: a translation, the best with their scores, or a table of backends.

    A line at fault has no answers and leaves an empty line.
    """
    if side_by_side and answers:
        from backends.commands.side_by_side import side_by_side_table

        return terminal.out.print(side_by_side_table(line, answers, n_best), "")
    best = [candidate for answer in answers.values() for candidate in answer.candidates][:n_best]
    if n_best is None:
        translation = best[0].translation if best else ""
        print(for_terminal(line.seen(translation)) if sys.stdout.isatty() else translation, flush=True)
    elif best and sys.stdout.isatty():
        rows = [[f"{candidate.score:.4f}", line.seen(candidate.translation)] for candidate in best]
        terminal.out.print(terminal.table(line.source, ["score", "sentence"], rows, numeric=["score"]), "")
    else:  # for another program, each translation as it is
        for candidate in best:
            print(number, f"{candidate.score:.4f}", candidate.translation, sep="\t", flush=True)
