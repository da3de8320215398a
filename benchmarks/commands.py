"""The commands of benchmarking, which rosetta.py registers."""

from datetime import datetime
from pathlib import Path
from typing import Annotated

import typer

from common import options
from common.config import DataConfig, TrainConfig, as_float32


def register(app: typer.Typer) -> None:
    """Add the commands of this package to the program."""
    app.command()(bench)


def bench(
    backends: Annotated[
        str | None,
        typer.Option(help="Names separated by commas.", show_default="all that are installed"),
    ] = None,
    data: options.Data = DataConfig.data,
    num_samples: options.NumSamples = DataConfig.num_samples,
    skip_bad_lines: options.SkipBadLines = False,
    split: options.Split = "grouped",
    validation_split: options.ValidationSplit = DataConfig.validation_split,
    epochs: options.Epochs = 3,
    batch_size: options.BatchSize = TrainConfig.batch_size,
    latent_dim: options.LatentDim = 256,
    learning_rate: options.LearningRate = 1e-3,
    seed: options.Seed = TrainConfig.seed,
    threads: options.Threads = None,
    device: options.Device = "cpu",
    out: Annotated[
        Path | None, typer.Option(help="The JSON file to write.", show_default="results/bench-TIME.json")
    ] = None,
    json: options.Json = False,
) -> None:
    """Train and decode in every backend, from the same weights and batches, and compare."""
    from backends import installed
    from backends.session import Runtime
    from benchmarks.measure import compare
    from benchmarks.report import comparison_table, decoded_table
    from common import terminal

    path = out or Path("results") / f"bench-{datetime.now():%Y%m%d-%H%M%S}.json"
    results = compare(
        backends.split(",") if backends else installed(),
        DataConfig(data, num_samples, validation_split, split, skip_bad_lines),
        TrainConfig(batch_size, as_float32(learning_rate), seed=seed),
        latent_dim,
        epochs,
        Runtime(threads=threads, device=device),
        path,
        terminal.training_progress,
    )
    if json:
        return terminal.print_json({"results": str(path)} | results.as_json())
    terminal.out.print(comparison_table(results))
    terminal.out.print(decoded_table(results))
    print(f"Saved as {path}")
