"""Options that several commands share, with the example's values as defaults."""

from pathlib import Path
from typing import Annotated, Literal

import typer

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
Seed = Annotated[int, typer.Option(min=0, help="Of weights, batch order and a grouped split.")]
Epochs = Annotated[int, typer.Option(min=1, help="Epochs in all.")]
Threads = Annotated[int | None, typer.Option(min=1, help="Threads a backend may use.", show_default="all cores")]
Device = Annotated[Literal["cpu", "gpu"], typer.Option(help="Where the model lives.")]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object instead of tables.")]
Run = Annotated[Path, typer.Argument(help="The folder of a run that `rosetta train` wrote.")]
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
