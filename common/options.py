"""Options that several commands share, with the example's values as defaults."""

import re
from collections.abc import Iterable
from typing import Annotated, Literal

import typer

from common.errors import CannotBeginError

Precision = Literal["float32", "float64"]

_data = typer.Option(
    "--data",
    help='"phrasebook", a pair of manythings.org such as "fra-eng", or a path to a text file or zip.',
)
Data = Annotated[str, _data]
DataOfModel = Annotated[str | None, _data]
NumSamples = Annotated[int, typer.Option(min=1, help="Use the first N pairs.")]
SkipBadLines = Annotated[bool, typer.Option("--skip-bad-lines", help="Count and skip lines that hold no pair.")]
Split = Annotated[
    Literal["tail", "grouped"],
    typer.Option(help="Hold out the last rows, as the example does, or whole sources at random."),
]
ValidationSplit = Annotated[float, typer.Option(min=0.0, max=1.0, help="The share of pairs (or sources) held out.")]
BatchSize = Annotated[int, typer.Option(min=1, help="Pairs a step.")]
LatentDim = Annotated[int, typer.Option(min=1, help="Units of each LSTM.")]
LearningRate = Annotated[float, typer.Option(min=0.0, help="Of RMSprop; rounded to float32.")]
Padding = Annotated[
    Literal["space", "mask"],
    typer.Option(help="Let padding count, as the example does, or leave it out of states and loss."),
]
Batches = Annotated[
    Literal["shuffled", "bucketed"],
    typer.Option(help="Any rows, or rows of like lengths, trimmed to them; needs --padding mask."),
]
Seed = Annotated[int, typer.Option(min=0, help="Of weights, batch order and a grouped split.")]
Epochs = Annotated[int, typer.Option(min=1, help="Epochs in all.")]
Threads = Annotated[int | None, typer.Option(min=1, help="Threads a backend may use.", show_default="all cores")]
Device = Annotated[Literal["cpu", "gpu"], typer.Option(help="Where the model lives.")]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object instead of tables.")]
BackendOfRun = Annotated[
    str | None, typer.Option("--backend", help="NAME or NAME:VARIANT.", show_default="the run's own")
]
DtypeOfRun = Annotated[Precision | None, typer.Option("--dtype", show_default="the run's own")]
Weights = Annotated[
    Literal["last", "best"],
    typer.Option(help="Of the last epoch, or of that with the lowest validation loss."),
]
Unknown = Annotated[
    Literal["error", "drop"], typer.Option(help="What to do with characters that training did not have.")
]

# What something that was begun before has fixed, and so cannot be given again.
FIXED_BY_RUN = [
    "data",
    "num_samples",
    "skip_bad_lines",
    "split",
    "validation_split",
    "batch_size",
    "latent_dim",
    "padding",
    "batches",
    "learning_rate",
    "seed",
    "dtype",
]


def refuse(context: typer.Context, names: Iterable[str], reason: str) -> None:
    """Raise CannotBeginError where the user gave one of these options."""
    for name in names:
        if given(context, name):
            raise CannotBeginError(f"{reason}; leave out --{name.strip('_').replace('_', '-')}")


def given(context: typer.Context, name: str) -> bool:
    """Whether the user gave an option, be it with its default's value."""
    return str(context.get_parameter_source(name)).endswith("COMMANDLINE")


def names(listed: str) -> list[str]:
    """Those in a list with commas, each once."""
    return list(dict.fromkeys(name.strip() for name in listed.split(",")))


def share(percent: str) -> float:
    """Of a percentage such as 10%. Raises CannotBeginError."""
    parts = re.fullmatch(r"(\d+(?:\.\d+)?) ?%?", percent)
    if parts is None:
        raise CannotBeginError(f"{percent!r} is no percentage; write one such as 10%")
    return float(parts[1]) / 100


def seconds(duration: str) -> float:
    """Of a duration such as 90s, 10m or 2h. Raises CannotBeginError."""
    parts = re.fullmatch(r"(\d+(?:\.\d+)?)([smh])", duration)
    if parts is None:
        raise CannotBeginError(f"{duration!r} is no duration; write one such as 90s, 10m or 2h")
    return float(parts[1]) * {"s": 1, "m": 60, "h": 3600}[parts[2]]
