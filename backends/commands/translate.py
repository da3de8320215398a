"""The command `translate`."""

import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from backends import installed
from backends.commands import options
from common import terminal
from common.errors import CannotBeginError, RosettaError, refusing
from common.settings import Precision
from common.text import lines_as_they_arrive, quoted, typed_lines

if TYPE_CHECKING:
    from backends.commands.side_by_side import SideBySide
    from backends.commands.translating import Opener, Translator
    from common.answers import Answer, Line
    from common.sources import Sources

Unknown = Annotated[
    Literal["error", "drop"],
    typer.Option(help="Refuse a sentence with characters that training did not have, or drop these characters."),
]
RunAndTexts = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="RUN|TEXT",
        help="The folder of a run, and sentences.",
        autocompletion=options.complete_run,
        show_default="the bundled run, and the lines of standard input",
    ),
]
BackendOrAll = Annotated[
    str | None,
    options.one_backend(
        f'Backend that computes: {options.BACKENDS}; or "all", which shows the sentence and the time of the '
        "installed backends side by side.",
        "the run's own",
        "all",
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
    from backends.commands.translating import as_record, read
    from common.answers import translation_of_most

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
    side_by_side, unit = backend == "all", "text" if texts else "line"
    kept: list[dict[str, Any]] = []  # for JSON, which is one object
    number = failed = 0
    with refusing(f"{file} cannot be read"):
        stream = file.open("rb") if file else sys.stdin.buffer
    with stream, ExitStack() as stack:
        translator, sources = _open(opener, backend, variants, stack)
        note = terminal.SIDE_BY_SIDE if side_by_side and not json else ""
        if prompted:
            terminal.say(f"Type a sentence and Enter; quit ends. Backend: {translator.about['backend']}.")
            for name, examples in sources.examples.items():
                terminal.say(f"{name}: {' '.join(examples)}")
            if note:
                terminal.say(note)
        vocabulary, _ = opener.run.vocabularies()
        search = beam if beam > 1 or n_best else None
        chunks = iter([texts]) if texts else typed_lines("sentence> ") if prompted else lines_as_they_arrive(stream)
        if note:  # each sentence's table comes as soon as it is whole
            chunks = ([line] for lines in chunks for line in lines)
        read_lines = ([read(line, sources, vocabulary, unknown == "drop") for line in lines] for lines in chunks)
        answered = (_answered(translator, lines, search, n_best) for lines in read_lines)
        try:
            for number, (line, answers) in enumerate(chain.from_iterable(answered), 1):
                alone = prompted or len(texts) == 1
                where = "" if alone else f"{file}, {unit} {number}: " if file else f"{unit} {number}: "
                doubt = sources.doubt(line.written, translation_of_most(answers.values())) if answers else ""
                if line.error:
                    failed += 1
                    if len(texts) != 1:  # with one alone, its error is the program's
                        terminal.say(where + line.error, terminal.err)
                if doubt:
                    terminal.warn(where + doubt)
                if json:
                    kept.append(as_record(line, answers, doubt, n_best, side_by_side))
                elif answers or not alone:  # elsewhere a line at fault leaves an empty one
                    terminal.print_answers(line, answers, number, n_best, side_by_side)
        finally:  # what came before an error, too
            if json and (number or sys.exception() is None):
                terminal.print_json(translator.about | {"translations": kept})
    if note and not prompted and failed < number:
        terminal.say(note)
    if failed and not prompted:
        if len(texts) == 1:
            raise CannotBeginError(line.error)
        error = CannotBeginError if texts and failed == number else RosettaError
        raise error(f"{failed} of {number} {unit}s could not be translated")


def _answered(
    translator: "Translator | SideBySide", lines: "Sequence[Line]", beam: int | None, n_best: int | None
) -> "Iterator[tuple[Line, dict[str, Answer]]]":
    """Each line with its answers by backend, which a line at fault has not. Shows the first line's as they come."""
    good = [line for line in lines if not line.error]
    answers: Iterator[dict[str, Answer]] = iter(())
    if good:
        with terminal.showing() as show:

            def show_first(answers: "Mapping[str, Answer]", waiting: Sequence[str]) -> None:
                show(terminal.rows_so_far(good[0], answers, waiting, n_best))

            answers = iter(translator.answers([line.text for line in good], show_first, beam))
    for line in lines:
        yield line, {} if line.error else next(answers)


def _opener(run: Path | None, weights: str, dtype: Precision | None, threads: int | None, device: str) -> "Opener":
    """Opens a run, by default the bundled one, in any backend."""
    from backends.commands.translating import Opener
    from backends.process.parent import Runtime
    from common.run import BUNDLED_RUN, RunDirectory

    return Opener(RunDirectory.open(run or BUNDLED_RUN), weights, dtype, Runtime(threads=threads, device=device))


def _open(
    opener: "Opener", backend: str | None, variants: bool, stack: ExitStack
) -> "tuple[Translator | SideBySide, Sources]":
    """What translates lines in one backend or in all, until the stack is closed, and the run's sources."""
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
