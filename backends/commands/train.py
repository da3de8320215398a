"""The commands `train` and `evaluate`."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from backends import commands as options
from backends import of_run
from common import settings, terminal
from common.errors import CannotBeginError, CtrlCError
from common.settings import DataConfig, ModelConfig, TrainConfig
from common.text import quoted

if TYPE_CHECKING:
    from backends.commands.training import Trained, TrainRequest
    from common.run import RunDirectory

NewRun = Annotated[Path, typer.Option(help="The folder of the run to write.")]
SplitOption = Annotated[settings.Split, options.option_of(DataConfig, "split")]
ValidationSplit = Annotated[float, options.option_of(DataConfig, "validation_split")]
LearningRate = Annotated[float, options.option_of(TrainConfig, "learning_rate")]
BatchesOption = Annotated[settings.Order, options.option_of(TrainConfig, "batches")]
Epochs = Annotated[
    int,
    typer.Option(
        min=1,
        help="Total number of epochs, those before --resume included.",
        rich_help_panel="Model and training",
    ),
]
Resume = Annotated[bool, typer.Option("--resume", help="Continue the run in --out.")]
ResumeOrBegin = Annotated[
    bool,
    typer.Option(
        "--resume-or-begin",
        help="Continue the run if it exists, else begin it: for launchers that repeat the same "
        "command.",
    ),
]
Workers = Annotated[
    int,
    typer.Option(
        min=1,
        help="Number of processes that train together on this machine, by the framework's own "
        "engine; several machines: see docs/parallel.md.",
    ),
]
Limit = Annotated[
    int | None,
    typer.Option(min=1, help="Score only the first N held-out pairs.", show_default="all"),
]
# The figures of `evaluate`: format and meaning.
FIGURES = {
    "loss": (".4f", "mean cross-entropy over all positions, in nats"),
    "accuracy": (".1%", "over all positions, padding included, as the example counts"),
    "accuracy_real": (".1%", "over the characters of the sentences alone"),
    "accuracy_always_space": (".1%", "what answering a space always scores"),
    "exact_match": (".1%", "translations equal to one of their references"),
    "chrf": (".2f", "of 100: groups of letters as in a reference"),
    "character_error_rate": (".3f", "edits over characters, nearest reference"),
}


def train(
    context: typer.Context,
    out: NewRun,
    backend: options.BackendOfRun = None,
    data: options.Data = DataConfig.data,
    num_samples: options.NumSamples = DataConfig.num_samples,
    skip_bad_lines: options.SkipBadLines = False,
    split: SplitOption = DataConfig.split,
    validation_split: ValidationSplit = DataConfig.validation_split,
    epochs: Epochs = 100,
    batch_size: options.BatchSize = TrainConfig.batch_size,
    latent_dim: options.LatentDim = ModelConfig.latent_dim,
    padding: options.PaddingOption = ModelConfig.padding,
    model: options.ModelOption = ModelConfig.model,
    batches: BatchesOption = TrainConfig.batches,
    learning_rate: LearningRate = TrainConfig.learning_rate,
    seed: options.Seed = TrainConfig.seed,
    dtype: options.DtypeOfModel = ModelConfig.dtype,
    resume: Resume = False,
    resume_or_begin: ResumeOrBegin = False,
    workers: Workers = 1,
    threads: options.Threads = None,
    device: options.Device = "cpu",
    json: options.Json = False,
) -> None:
    """Train the model and write a run; the example's settings are the defaults.

    A new run needs --backend. With --resume, the run keeps its settings, and --epochs is the total
    to reach. --backend may then name another framework, and --learning-rate a new rate, which the
    run keeps. With --workers, each worker uses its share of the cores, unless --threads gives the
    number of each.
    """
    from backends.commands import progress, training
    from backends.process.parent import Runtime
    from common.run import RunDirectory

    try:
        there = resume or (resume_or_begin and (out / "config.json").exists())
        run = RunDirectory.open(out) if there else None
        if run is None and backend is None:
            raise CannotBeginError("a new run needs --backend; `rosetta backends` lists them")
        typed = [name for name in context.params if options.given(context, name)]
        if run and "learning_rate" not in typed:
            learning_rate = run.train_config.learning_rate
        request = training.TrainRequest(
            out,
            backend or (run.backend if run else ""),
            epochs,
            DataConfig(data, num_samples, validation_split, split, skip_bad_lines),
            TrainConfig(batch_size, learning_rate, seed=seed, batches=batches),
            Runtime(threads=threads, device=device),
            latent_dim,
            dtype,
            padding,
            model,
        )
        group = training.workers_here(request, run, workers)
        # In a group that somebody else has started, the first worker alone shows what is done.
        shows = group[0].rank == 0
        if run:
            request.require_same(run, None if resume_or_begin else typed)
        if run and resume_or_begin and training.is_whole(run, epochs):
            trained = training.Trained(run, []) if shows else None
        else:
            with progress.training_progress(request.backend, epochs, silent=not shows) as on_event:
                trained = training.train_run(request, on_event, run, group)
    except KeyboardInterrupt:
        if not (out / "config.json").exists():
            raise CtrlCError("interrupted before the run began; nothing was written") from None
        raise CtrlCError(
            "interrupted; "
            f"{training.how_to_go_on(RunDirectory.open(out), epochs, backend, workers)}"
        ) from None
    if trained is not None:  # else the first worker of the group shows it
        _show(trained, request, json)


def _show(trained: "Trained", request: "TrainRequest", json: bool) -> None:
    """Print the last epoch's figures for machines,
    or the samples and the next command for people."""
    from backends.commands.training import how_to_go_on

    last = trained.run.history()[-1]
    if json:
        names = ("loss", "val_loss", "accuracy", "val_accuracy")
        figures: dict[str, Any] = {"epochs": last.epoch} | {
            name: getattr(last, name) for name in names
        }
        figures |= {"seconds_per_epoch": last.seconds, "samples": trained.samples}
        return terminal.print_json({"backend": request.backend, "run": str(request.out)} | figures)
    if not trained.samples:
        return terminal.say(how_to_go_on(trained.run, request.epochs))
    exact = [sample.pop("exact") for sample in trained.samples]
    rows = [map(terminal.seen, sample.values()) for sample in trained.samples]
    columns = ["from", "input sentence", "reference", "decoded sentence"]
    terminal.out.print(terminal.table(f"{request.backend}, epoch {last.epoch}", columns, rows))
    terminal.say(
        f"{sum(exact)} of these {len(exact)} sentences are translated exactly. The accuracies, "
        f"{last.accuracy:.1%} and {last.val_accuracy:.1%}, are by teacher forcing: of characters, "
        "each predicted after the right ones."
    )
    _say_who_trained(trained.run)
    sentence, run = quoted(trained.samples[0]["source"]), quoted(request.out)
    terminal.say(f"The run is in {run}. Translate with: rosetta translate {run} {sentence}")


def evaluate(
    run: options.RunOrBundled = None,
    backend: options.BackendOfRun = None,
    weights: options.Weights = "last",
    limit: Limit = None,
    threads: options.Threads = None,
    device: options.Device = "cpu",
    json: options.Json = False,
) -> None:
    """Score a run on the pairs that its training held out,
    and say how much of the accuracy is padding."""
    from backends.commands import progress, training
    from backends.process.parent import Runtime
    from backends.process.translating import launch
    from common.run import BUNDLED_RUN, RunDirectory

    opened, runtime = RunDirectory.open(run or BUNDLED_RUN), Runtime(threads=threads, device=device)
    run, name = opened.path, backend or of_run(opened.backend)
    with (
        progress.training_progress(name) as on_event,
        launch(opened, weights, runtime, name) as process,
    ):
        figures = training.score_run(process, opened, limit, on_event)
    if json:
        return terminal.print_json({"backend": name, "run": str(run), "weights": weights} | figures)
    title = f"{run}, {weights} epoch, in {name}"
    meanings = FIGURES | {
        "rows": ("d", f"of validation, with {figures['sentences']} distinct sources")
    }
    rows = [
        (figure, format(figures[figure], form), meaning)
        for figure, (form, meaning) in meanings.items()
    ]
    terminal.out.print(
        terminal.table(title, ["figure", "value", "meaning"], rows, numeric=["value"])
    )
    terminal.say(f"chrF's settings: {figures['chrf_signature']}")
    _say_who_trained(opened)


def _say_who_trained(run: "RunDirectory") -> None:
    terminal.say(f"Epochs by the backend that trained them: {run.trained_in() or 'none'}")
