"""The command `translate`."""

import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from backends import commands as options
from backends import installed
from common import terminal
from common.errors import CannotBeginError, refusing
from common.text import lines_as_they_arrive, typed_lines

if TYPE_CHECKING:
    from backends.commands.lines import InputLine
    from backends.process.parent import Runtime
    from backends.process.translate_in_child import Answer
    from common.run import RunDirectory
    from common.sources import Sources

    AnswersOf = Callable[[Sequence[str], int | None], list[dict[str, Answer]]]

SIDE_BY_SIDE = (
    "ms: time to decode the sentence alone, in milliseconds, after a first one to warm up. same: "
    "whether the translation is the one that most backends give."
)

Unknown = Annotated[
    Literal["error", "drop"],
    typer.Option(
        help="Refuse a sentence with characters that training did not have, or drop these "
        "characters."
    ),
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
        f'Backend that computes: {options.BACKENDS}; or "all", which shows the translation and the '
        "time of the "
        "installed backends side by side.",
        "the run's own",
    ),
]
Beam = Annotated[
    int,
    typer.Option(
        min=1,
        max=512,  # as many as decoding takes at once, which bounds memory
        help="Width of the beam search: keep the N most probable beginnings at each character, and "
        "print the best sentence. 1 is greedy decoding.",
    ),
]
File = Annotated[Path | None, typer.Option(help="Translate the lines of a file.")]
NBest = Annotated[
    int | None,
    typer.Option(
        min=1,
        help="Print the N best sentences of --beam, each after the number of its line and its "
        "score: the natural logarithm of the probability that the model gives to the whole "
        "sentence. 0 would be certain; -0.7 is one in two, -2.3 one in ten.",
        show_default="the best alone, without its score",
    ),
]


def translate(
    arguments: RunAndTexts = None,
    file: File = None,
    backend: BackendOrAll = None,
    weights: options.Weights = "last",
    unknown: Unknown = "error",
    beam: Beam = 1,
    n_best: NBest = None,
    threads: options.Threads = None,
    device: options.Device = "cpu",
    json: options.Json = False,
) -> None:
    """Translate sentences given as arguments, in a file, on standard input,
    a line each, or typed at a prompt.

    The first argument is a run if it names a folder. The default is the bundled run, which was
    trained on the phrasebook. Without --backend, the run's own backend translates, or another if
    that is not installed.

    A line that cannot be translated gives an error and an empty line of output;
    the exit status is then 1.
    """
    from backends.commands.lines import InputLine, Output
    from backends.process.parent import Runtime
    from backends.process.translating import translation_of_most
    from common.run import BUNDLED_RUN, RunDirectory

    run, texts = _run_and_texts(arguments or [])
    if texts and file:
        raise CannotBeginError(f"sentences are given as arguments and in {file}; give one of them")
    if n_best is not None and n_best > beam:
        raise CannotBeginError(
            f"--beam {beam} does not find {n_best} sentences; give --beam {n_best} or more"
        )
    prompted = not (texts or file or json) and sys.stdin.isatty() and sys.stdout.isatty()
    opened, runtime = RunDirectory.open(run or BUNDLED_RUN), Runtime(threads=threads, device=device)
    vocabulary, _ = opened.vocabularies
    output = Output(file, len(texts), prompted, json, n_best, side_by_side=backend == "all")
    note = SIDE_BY_SIDE if output.side_by_side and not json else ""
    with refusing(f"{file} cannot be read"):
        stream = file.open("rb") if file else sys.stdin.buffer
    with stream, ExitStack() as stack:
        read = lines_as_they_arrive(stream)
        if file:
            read = _require_lines(read, file)
        answers_of, about, sources = _open_backends(opened, weights, runtime, backend, stack)
        if prompted:
            _greet(about["backend"], sources, note)
        chunks = iter([texts]) if texts else typed_lines("sentence> ") if prompted else read
        if note:  # each sentence's table comes as soon as it is whole
            chunks = ([line] for lines in chunks for line in lines)
        lines = (
            [InputLine.read(line, sources, vocabulary, unknown == "drop") for line in chunk]
            for chunk in chunks
        )
        search = beam if beam > 1 or n_best else None
        try:
            for line, answers in chain.from_iterable(
                _answered(answers_of, chunk, search) for chunk in lines
            ):
                doubt = (
                    sources.doubt(line.written, translation_of_most(answers.values()))
                    if answers
                    else ""
                )
                output.add(line, answers, doubt)
        finally:  # what came before an error, too
            if json and (output.number or sys.exception() is None):
                terminal.print_json(about | {"translations": output.records})
    if note and not prompted and output.failed < output.number:
        terminal.say(note)
    output.raise_failures()


def _require_lines(lines: Iterator[list[str]], file: Path) -> Iterator[list[str]]:
    """Lists of a file's lines. Raises CannotBeginError for a file without any."""
    if (first := next(lines, None)) is None:
        raise CannotBeginError(f"{file} has no lines; expected a sentence in each line")
    return chain([first], lines)


def _greet(backend: str, sources: "Sources", note: str) -> None:
    """Say at the prompt how to begin and end, with sentences to try."""
    terminal.say(f"Type a sentence and Enter; quit ends. Backend: {backend}.")
    for name, examples in sources.examples.items():
        terminal.say(f"{name}: {' '.join(examples)}")
    if note:
        terminal.say(note)


def _answered(
    answers_of: "AnswersOf", lines: "Sequence[InputLine]", beam: int | None
) -> "Iterator[tuple[InputLine, dict[str, Answer]]]":
    """Each line with its answers by backend; a line at fault has none."""
    good = [line.text for line in lines if not line.error]
    answers = iter(answers_of(good, beam) if good else [])
    for line in lines:
        yield line, {} if line.error else next(answers)


def _open_backends(
    run: "RunDirectory", weights: str, runtime: "Runtime", backend: str | None, stack: ExitStack
) -> "tuple[AnswersOf, dict[str, Any], Sources]":
    """Open a run in one backend or in all, until the stack is closed.

    Returns a function that gives each text's answers by backend,
    the backend for --json, and the run's sources.
    """
    from backends.process.translating import launch, request_answers
    from common.sources import Sources

    if backend == "all":
        from backends.process.side_by_side import open_side_by_side

        names = installed(variants=False)
        opening = open_side_by_side(run, weights, runtime, names, terminal.warn)
        with terminal.starting(", ".join(names)):
            together = stack.enter_context(opening)
        about = {"backend": backend, "left_out": together.left_out}
        return together.answers, about, Sources.of_run(run)
    process = stack.enter_context(launch(run, weights, runtime, backend))

    def answers_of(texts: Sequence[str], beam: int | None) -> "list[dict[str, Answer]]":
        return [{process.name: answer} for answer in request_answers(process, texts, beam=beam)]

    with terminal.starting(process.name):
        sources = Sources.of_run(run)  # meanwhile
        sources.build_index()
        process.wait_until_open()
    return answers_of, {"backend": process.name}, sources


def _run_and_texts(arguments: list[str]) -> tuple[Path | None, list[str]]:
    """The path of a run, where the first argument is one, and the sentences.

    Raises CannotBeginError where the first of several is a word,
    which may be a run's name that was mistyped.
    """
    first = arguments[0] if arguments else ""
    is_word = len(first.split()) == 1
    if os.path.isdir(first) or os.path.islink(first) or (is_word and os.sep in first):
        return Path(first), arguments[1:]
    if is_word and len(arguments) > 1 and first[-1].isalnum():
        raise CannotBeginError(
            f"{first} is neither the folder of a run nor a whole sentence; put quotes around a "
            "sentence of several words, or name a run before the sentences"
        )
    return None, arguments
