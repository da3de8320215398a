"""The commands of benchmarking, which rosetta.py registers."""

from datetime import datetime
from pathlib import Path
from typing import Annotated

import typer

from common import options
from common.config import DataConfig, TrainConfig, as_float32

Backends = Annotated[
    str | None, typer.Option(help="Names separated by commas.", show_default="all that are installed")
]


def register(app: typer.Typer) -> None:
    """Add the commands of this package to the program."""
    app.command()(bench)
    app.command()(parity)


def bench(
    backends: Backends = None,
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
    certificate: Annotated[
        Path | None, typer.Option(help="What `rosetta parity --certificate` wrote; each row takes its own.")
    ] = None,
    json: options.Json = False,
) -> None:
    """Train and decode in every backend, from the same weights and batches, and compare."""
    from backends import installed
    from backends.session import Runtime
    from benchmarks.measure import compare
    from benchmarks.report import comparison_table, decoded_table
    from common import terminal
    from common.errors import CannotBeginError
    from common.files import read_json

    if certificate and not certificate.is_file():
        raise CannotBeginError(f"{certificate} is not there; `rosetta parity --certificate {certificate}` writes it")

    path = out or Path("results") / f"bench-{datetime.now():%Y%m%d-%H%M%S}.json"
    results = compare(
        backends.split(",") if backends else installed(),
        DataConfig(data, num_samples, validation_split, split, skip_bad_lines),
        TrainConfig(batch_size, as_float32(learning_rate), seed=seed),
        latent_dim,
        epochs,
        Runtime(threads=threads, device=device),
        path,
        read_json(certificate) if certificate else {},
        terminal.training_progress,
    )
    if json:
        return terminal.print_json({"results": str(path)} | results.as_json())
    terminal.out.print(comparison_table(results))
    terminal.out.print(decoded_table(results))
    print(f"Saved as {path}")


def parity(
    backends: Backends = None,
    dtype: Annotated[options.Precision | None, typer.Option(help="One precision alone.", show_default="both")] = None,
    data: options.Data = DataConfig.data,
    skip_bad_lines: options.SkipBadLines = False,
    latent_dim: options.LatentDim = 256,
    padding: options.Padding = "space",
    seed: options.Seed = TrainConfig.seed,
    quick: Annotated[bool, typer.Option("--quick", help="Fewer pairs, steps and sentences.")] = False,
    threads: options.Threads = None,
    device: options.Device = "cpu",
    certificate: Annotated[
        Path | None, typer.Option(help="A JSON file to write, of versions, hashes and the largest errors.")
    ] = None,
    json: options.Json = False,
) -> None:
    """Compare every backend with the float64 referee: tensors, weights, states, loss, gradients, training, strings.

    A backend climbs until a rung breaks; why it broke is then explained, and the exit status is 1.
    """
    from rich.live import Live

    from backends import find, installed
    from backends.session import Runtime
    from benchmarks.climber import QUICK, WHOLE, Check, Course
    from benchmarks.parity import climb
    from benchmarks.report import budget_tables, ladder_table
    from common import terminal
    from common.errors import RosettaError
    from common.files import write_json

    names = backends.split(",") if backends else installed()
    for name in names:
        find(name)
    size = QUICK if quick else WHOLE
    corpus, settings = DataConfig(data, skip_bad_lines=skip_bad_lines), TrainConfig(seed=seed)
    runtime = Runtime(threads=threads, device=device)
    checks: list[Check] = []
    with (
        Course(corpus, settings, latent_dim, size, runtime, padding) as course,
        Live(ladder_table(checks), console=terminal.err, transient=True) as live,
    ):

        def on_check(check: Check) -> None:
            checks.append(check)
            live.update(ladder_table(checks))

        found = climb(course, names, [dtype] if dtype else ["float64", "float32"], on_check)
    if certificate:
        write_json(certificate, found.certificates)
    if json:
        terminal.print_json(found.as_json())
    else:
        terminal.out.print(ladder_table(found.checks))
        for table in budget_tables(found.checks):
            terminal.out.print(table)
        for explanation in found.explanations:
            print(explanation)
    if not found.passed:
        raise RosettaError("parity is broken")
