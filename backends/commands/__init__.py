"""Options that several commands share."""

from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from backends import TABLE, find, resolved
from common import settings
from common.errors import CannotBeginError
from common.machine import cores
from common.settings import DataConfig, ModelConfig, TrainConfig
from common.text import count

BACKENDS = ", ".join(TABLE)


def option_of(of: type, name: str, **more: Any) -> Any:
    """The option of a setting, with the meaning and the bounds that its dataclass has."""
    field = of.__dataclass_fields__[name]  # type: ignore[attr-defined]
    if field.metadata["bounds"]:
        least, most = map(type(field.default), field.metadata["bounds"])
        more |= {"min": least} | ({"max": most} if most < settings.LARGEST_INTEGER else {})
    heading = "Data" if of is DataConfig else "Model and training"
    flag, meaning = f"--{name.replace('_', '-')}", field.metadata["meaning"]
    return typer.Option(flag, help=meaning, rich_help_panel=heading, **more)


def several_backends(by_default: str) -> Any:
    """The option --backends; `by_default` says which are taken without it."""
    meaning = f"Backends, separated by commas: {BACKENDS}."
    return typer.Option("--backends", help=meaning, show_default=by_default)


def one_backend(meaning: str, by_default: str | None = None) -> Any:
    """The option --backend; `by_default` says which is taken without it."""
    return typer.Option(
        "--backend", help=meaning, show_default=by_default or False, callback=resolved_or_none
    )


def resolved_or_none(name: str | None) -> str | None:
    """The value of an option that names a backend, as the table has it."""
    return name and resolved(name)


def no_more_than_cores(threads: int | None) -> int | None:
    """The value of --threads. Raises CannotBeginError for more
    than the cores that this process may use.

    PyTorch and NumPy would take as many as there are cores,
    in silence; the others would start them all.
    """
    if threads and threads > (most := cores()):
        raise CannotBeginError(
            f"--threads {threads} is more than the {count(most, 'core')} here; give {most} or fewer"
        )
    return threads


data_option = option_of(DataConfig, "data")
Data = Annotated[str, data_option]
NumSamples = Annotated[int, option_of(DataConfig, "num_samples")]
SkipBadLines = Annotated[bool, option_of(DataConfig, "skip_bad_lines")]
BatchSize = Annotated[int, option_of(TrainConfig, "batch_size")]
Seed = Annotated[int, option_of(TrainConfig, "seed")]
LatentDim = Annotated[int, option_of(ModelConfig, "latent_dim")]
ModelOption = Annotated[settings.ModelName, option_of(ModelConfig, "model")]
PaddingOption = Annotated[settings.Padding, option_of(ModelConfig, "padding")]
DtypeOfModel = Annotated[settings.Precision, option_of(ModelConfig, "dtype")]
Threads = Annotated[
    int | None,
    typer.Option(
        min=1,
        help="Number of threads that a backend may use, at most one for each core.",
        show_default="one for each core",
        callback=no_more_than_cores,
    ),
]
Device = Annotated[Literal["cpu", "gpu"], typer.Option(help="Device that computes.")]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object instead of tables.")]
RunOrBundled = Annotated[
    Path | None,
    typer.Argument(help="The folder of a run.", show_default="the bundled run"),
]
BackendOfRun = Annotated[
    str | None, one_backend(f"Backend that computes: {BACKENDS}.", "the run's own")
]
Weights = Annotated[
    Literal["last", "best"],
    typer.Option(
        help="Weights of the last epoch, or of the epoch with the lowest validation loss."
    ),
]


def refuse(context: typer.Context, names: Iterable[str], reason: str) -> None:
    """Raise CannotBeginError where the user gave one of these options."""
    for name in names:
        if given(context, name):
            raise CannotBeginError(f"{reason}; leave out --{name.strip('_').replace('_', '-')}")


def given(context: typer.Context, name: str) -> bool:
    """True if the user gave an option, be it with its default's value."""
    return str(context.get_parameter_source(name)).endswith("COMMANDLINE")


def installed_backends(listed: str) -> list[str]:
    """The backends in a list with commas, each once, by their names in the table.

    Raises CannotBeginError for an empty list, and for a backend that is unknown or not installed.
    """
    names = list(dict.fromkeys(map(resolved, listed.split(","))))
    for name in names:
        find(name)
    return names
