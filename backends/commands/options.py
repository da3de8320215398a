"""The options of the commands that use a model, with the words that --help and the Tab key give for them."""

import re
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from backends import TABLE, find
from common.errors import CannotBeginError

BACKENDS = ", ".join(TABLE)
LISTED = f"Backends, separated by commas: {BACKENDS}."

Precision = Literal["float32", "float64"]

# Options that --help lists under headings of their own; the others are of the run.
_of_data = partial(typer.Option, rich_help_panel="Data")
_of_model = partial(typer.Option, rich_help_panel="Model and training")


def complete(*words: str) -> Callable[[str], list[str]]:
    """What the Tab key offers: those of the words that begin with what is typed."""

    def words_that_begin_so(incomplete: str) -> list[str]:
        return [word for word in words if word.startswith(incomplete)]

    return words_that_begin_so


complete_backend = complete(*TABLE)


def complete_backends(incomplete: str) -> list[str]:
    """The same for the last name of a list with commas; names that the list has already are left out."""
    before, comma, last = incomplete.rpartition(",")
    return [f"{before}{comma}{name}" for name in complete_backend(last) if name not in before.split(",")]


def complete_run(incomplete: str) -> list[str]:
    """The runs in this folder and in runs/ whose paths begin so."""
    runs = (str(path.parent) for folder in (".", "runs") for path in Path(folder).glob("*/config.json"))
    return sorted(run for run in runs if run.startswith(incomplete))


def several_backends(by_default: str) -> Any:
    """The option --backends, where `by_default` says which are taken without it."""
    return typer.Option("--backends", help=LISTED, show_default=by_default, autocompletion=complete_backends)


def _one_backend(meaning: str, by_default: str | None = None, *more: str) -> Any:
    """The option --backend; `by_default` says which is taken without it. The Tab key offers `more` names, too."""
    complete_name = complete(*TABLE, *more)
    return typer.Option("--backend", help=meaning, show_default=by_default or False, autocompletion=complete_name)


def _run(meaning: str, by_default: str | None = None) -> Any:
    """An argument that is the folder of a run."""
    return typer.Argument(help=meaning, show_default=by_default or False, autocompletion=complete_run)


def _print_version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        print(f"rosetta {version('rosetta-s2s')}", flush=True)
        raise typer.Exit


_data = _of_data(
    "--data",
    help='"phrasebook", a pair of manythings.org such as "fra-eng", or a path to a text file or zip.',
    # Corpora that need no file; where none begins so, the shell completes the paths of files.
    autocompletion=complete("phrasebook", "fra-eng"),
)
Data = Annotated[str, _data]
DataOfModel = Annotated[str | None, _data]
NumSamples = Annotated[int, _of_data(min=1, help="Number of pairs to use, from the corpus's beginning.")]
SkipBadLines = Annotated[bool, _of_data("--skip-bad-lines", help="Count and skip lines that hold no pair.")]
Split = Annotated[
    Literal["tail", "grouped"],
    _of_data(help="Hold out the last pairs, as the example does, or all pairs of sources chosen at random."),
]
ValidationSplit = Annotated[
    float, _of_data(min=0.0, max=1.0, help="Share of the pairs (or sources) that is held out for validation.")
]
BatchSize = Annotated[int, _of_model(min=1, help="Number of pairs in each training step.")]
LatentDim = Annotated[int, _of_model(min=1, help="Number of units of each LSTM.")]
LatentDimOfFile = Annotated[
    int | None,
    _of_model("--latent-dim", min=1, help="Number of units of each LSTM.", show_default="that of the file"),
]
LearningRate = Annotated[float, _of_model(min=0.0, help="Learning rate of RMSprop; rounded to float32.")]
Padding = Annotated[
    Literal["space", "mask"],
    _of_model(help="Let padding count, as the example does, or leave it out of the states and the loss."),
]
Batches = Annotated[
    Literal["shuffled", "bucketed"],
    _of_model(
        help="Make each batch of any pairs, or of pairs of similar lengths and only as long as they need; the "
        "latter needs --padding mask."
    ),
]
Seed = Annotated[int, _of_model(min=0, help="Seed of the first weights, the batches' order and a grouped split.")]
Epochs = Annotated[int, _of_model(min=1, help="Total number of epochs, with those before --resume.")]
Threads = Annotated[
    int | None,
    typer.Option(min=1, help="Number of threads that a backend may use.", show_default="one for each core"),
]
Resume = Annotated[bool, typer.Option("--resume", help="Go on with the run in --out.")]
ResumeOrBegin = Annotated[
    bool,
    typer.Option(
        "--resume-or-begin",
        help="Begin the run, or go on with it where it is there: for whatever starts the same command again.",
    ),
]
Workers = Annotated[
    int,
    typer.Option(
        min=1,
        help="Number of processes that train together on this machine, by the framework's own engine; several "
        "machines: see docs/parallel.md.",
    ),
]
Device = Annotated[Literal["cpu", "gpu"], typer.Option(help="Device that computes.")]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object instead of tables.")]
RunOrBundled = Annotated[Path | None, _run("The folder of a run.", "the bundled run")]
Variants = Annotated[
    bool, typer.Option("--variants", help="Take the variants too, whose names have a colon, such as torch:compile.")
]
BackendOfRun = Annotated[str | None, _one_backend(f"Backend that computes: {BACKENDS}.", "the run's own")]
DtypeOfRun = Annotated[
    Precision | None, typer.Option("--dtype", help="Precision of the arithmetic.", show_default="the run's own")
]
DtypeOfModel = Annotated[Precision, _of_model("--dtype", help="Precision of the weights and the arithmetic.")]
Weights = Annotated[
    Literal["last", "best"],
    typer.Option(help="Weights of the last epoch, or of the epoch with the lowest validation loss."),
]
Unknown = Annotated[
    Literal["error", "drop"],
    typer.Option(help="Refuse a sentence with characters that training did not have, or drop these characters."),
]
Version = Annotated[bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Show the version.")]

# The options of `backends`, `translate` and `convert` alone.
Names = Annotated[
    list[str] | None,
    typer.Argument(
        help="Backends to show.",
        show_default="numpy and the frameworks, without their variants",
        autocompletion=complete_backend,
    ),
]
RunAndTexts = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="RUN|TEXT",
        help="The folder of a run, and sentences.",
        autocompletion=complete_run,
        show_default="the bundled run, and the lines of standard input",
    ),
]
BackendOrAll = Annotated[
    str | None,
    _one_backend(
        f'Backend that computes: {BACKENDS}; or "all", which shows the sentence and the time of the installed '
        "backends side by side.",
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
Target = Annotated[
    str | None,
    typer.Option(
        help="Backend whose framework's own files to write, or weights.", autocompletion=complete(*TABLE, "weights")
    ),
]
RunToConvert = Annotated[Path, _run("The run to convert, or with --from the run to make.")]
SecondFile = Annotated[list[Path] | None, typer.Argument(metavar="[FILE]", help="A second file of --from.")]
FilesOfModel = Annotated[
    list[Path] | None,
    typer.Option("--from", metavar="FILE [FILE]", help="A model's file and, where it has one, its optimizer's."),
]
BackendOfFiles = Annotated[str | None, _one_backend(f"Backend that reads the files of --from: {BACKENDS}.")]
RunOfVocabulary = Annotated[
    Path | None,
    typer.Option(
        "--vocabulary",
        help="A run whose vocabulary, pairs and settings the new one has.",
        autocompletion=complete_run,
    ),
]

# Settings of the corpus, and of its split into training and validation.
OF_CORPUS = ["data", "num_samples", "skip_bad_lines", "split", "validation_split", "seed"]
# Settings that a run or a recording has from its beginning, so that they cannot be given when it is continued.
FIXED_BY_RUN = [*OF_CORPUS, "batch_size", "latent_dim", "padding", "batches", "learning_rate", "dtype"]


def refuse(context: typer.Context, names: Iterable[str], reason: str) -> None:
    """Raise CannotBeginError where the user gave one of these options."""
    for name in names:
        if given(context, name):
            raise CannotBeginError(f"{reason}; leave out --{name.strip('_').replace('_', '-')}")


def given(context: typer.Context, name: str) -> bool:
    """Whether the user gave an option, be it with its default's value."""
    return str(context.get_parameter_source(name)).endswith("COMMANDLINE")


def installed_backends(listed: str) -> list[str]:
    """The backends in a list with commas, each once.

    Raises CannotBeginError for an empty list, and for a backend that is unknown or not installed.
    """
    names = list(dict.fromkeys(name.strip() for name in listed.split(",")))
    for name in names:
        find(name)
    return names


def share(percent: str) -> float:
    """Convert a percentage such as 10% to a share of 1. Raises CannotBeginError."""
    parts = re.fullmatch(r"(\d+(?:\.\d+)?) ?%?", percent)
    if parts is None:
        raise CannotBeginError(f"{percent!r} is no percentage; write one such as 10%")
    return float(parts[1]) / 100


def seconds(duration: str) -> float:
    """Convert a duration such as 90s, 10m or 2h to seconds, at least one. Raises CannotBeginError."""
    parts = re.fullmatch(r"(\d+(?:\.\d+)?)([smh])", duration)
    found = float(parts[1]) * {"s": 1, "m": 60, "h": 3600}[parts[2]] if parts else 0.0
    if found < 1:
        raise CannotBeginError(f"{duration!r} is no duration of a second or more; write one such as 90s, 10m or 2h")
    return found
