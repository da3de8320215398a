"""The command line: each command reads its options, calls one function and prints what it returns."""

import signal
import sys

if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # while imports last: end at once, without a traceback

import os
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import asdict
from functools import partial
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

# Our packages are taken from this file's folder, even if PYTHONPATH leads to others of the same names.
sys.path.insert(0, str(Path(__file__).resolve().parent))

from backends import installed, of_run, require_known
from backends import names as names_in_table
from backends.commands import options
from benchmarks import commands, comparing, racing
from common import terminal
from common.config import LEARNING_RATE, DataConfig, ModelConfig, TrainConfig, as_float32
from common.errors import CannotBeginError, CtrlCError, RosettaError, refusing
from common.terminal import Commands, run_to_the_end
from common.text import lines_as_they_arrive, quoted, typed_lines

if TYPE_CHECKING:
    from backends.commands.side_by_side import SideBySide
    from backends.commands.translating import Opener, Translator
    from common.run_directory import RunDirectory
    from common.sources import Sources

sys.path.pop(0)  # the modules of a package that was imported are found in its own folder
if signal.getsignal(signal.SIGINT) is signal.SIG_DFL:
    signal.signal(signal.SIGINT, signal.default_int_handler)  # as it was


USE = "Use a model"  # the first group of commands in --help
app = typer.Typer(
    name="rosetta",
    cls=Commands,
    help="One seq2seq model in Keras/TensorFlow, PyTorch and PaddlePaddle: train, translate, compare.",
    epilog='Begin with: rosetta translate "I love you!" --backend all',
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
    context_settings={"help_option_names": ["-h", "--help"]},
)


def main() -> None:
    """The `rosetta` program; see `run_to_the_end` for its exit status."""
    run_to_the_end(partial(app, prog_name="rosetta"))


@app.callback()
def _rosetta(version: options.Version = False) -> None:
    pass


@app.command(rich_help_panel=USE)
def backends(
    names: options.Names = None,
    variants: options.Variants = False,
    threads: options.Threads = None,
    json: options.Json = False,
) -> None:
    """Show which backends are installed, and what each reports of itself, each as soon as it has answered.

    They are started side by side, so importing a framework takes longer here than alone.
    """
    from backends.process.group import describe_backends
    from backends.process.parent import Runtime

    if names and variants:
        raise CannotBeginError(f"--variants shows all backends, not only {', '.join(names)}; leave one of both out")
    chosen = list(dict.fromkeys(names or names_in_table(variants)))
    for name in chosen:
        require_known(name)
    if not json:
        terminal.say(terminal.BACKENDS_HEADER)
    found = {}
    for name, facts in describe_backends(chosen, Runtime(threads=threads)):
        found[name] = facts
        if not json:
            terminal.say_backend(name, facts)
    if json:
        terminal.print_json({"backends": {name: found[name] for name in chosen}})


@app.command(rich_help_panel=USE)
def data(
    data: options.Data = DataConfig.data,
    num_samples: options.NumSamples = DataConfig.num_samples,
    skip_bad_lines: options.SkipBadLines = False,
    json: options.Json = False,
) -> None:
    """Show what a corpus is like: sizes as the example prints them, duplicates, padding, memory, and some pairs."""
    from common.corpus import corpus_statistics, read_corpus

    config = DataConfig(data=data, num_samples=num_samples, skip_bad_lines=skip_bad_lines)
    figures = corpus_statistics(read_corpus(config))
    if json:
        return terminal.print_json({"data": data} | figures)
    pairs = [pair.values() for pair in figures.pop("pairs")]
    figures |= {"padding": f"{figures['padding']:.1%}", "one_hot_bytes": f"{figures['one_hot_bytes']:,}"}
    terminal.out.print(terminal.table(data, ["figure", "value"], figures.items()))
    terminal.out.print(terminal.table("Pairs at equal distances", ["source", "target"], pairs))


@app.command(rich_help_panel=USE)
def train(
    context: typer.Context,
    out: Annotated[Path, typer.Option(help="The folder of the run to write.", autocompletion=options.complete_run)],
    backend: options.BackendOfRun = None,
    data: options.Data = DataConfig.data,
    num_samples: options.NumSamples = DataConfig.num_samples,
    skip_bad_lines: options.SkipBadLines = False,
    split: options.Split = "tail",
    validation_split: options.ValidationSplit = DataConfig.validation_split,
    epochs: options.Epochs = 100,
    batch_size: options.BatchSize = TrainConfig.batch_size,
    latent_dim: options.LatentDim = ModelConfig.latent_dim,
    padding: options.Padding = "space",
    batches: options.Batches = "shuffled",
    learning_rate: options.LearningRate = LEARNING_RATE,
    seed: options.Seed = TrainConfig.seed,
    dtype: options.DtypeOfModel = "float32",
    resume: options.Resume = False,
    resume_or_begin: options.ResumeOrBegin = False,
    workers: options.Workers = 1,
    threads: options.Threads = None,
    device: options.Device = "cpu",
    json: options.Json = False,
) -> None:
    """Train the model and write a run; the example's settings are the defaults.

    A new run needs --backend. With --resume, the run's own settings hold, --epochs is the total to reach, --backend
    may name another framework to go on in, and --learning-rate another rate, which the run then keeps. With
    --workers, each worker uses its share of the cores, unless --threads gives the number of each.
    """
    from backends.commands import training
    from backends.process.parent import Runtime
    from common.run_directory import RunDirectory

    runtime = Runtime(threads=threads, device=device)
    try:
        there = resume_or_begin and (out / "config.json").exists()
        run = RunDirectory.open(out) if resume or there else None
        if run is None and backend is None:
            raise CannotBeginError("a new run needs --backend; `rosetta backends` lists them")
        name = backend or (run.backend if run else "")
        group = training.workers_here(name, workers, run.train_config.batch_size if run else batch_size, runtime)
        # In a group that somebody else has started, the first worker alone shows what is done.
        with terminal.training_progress(name, epochs, silent=group[0].rank > 0) as on_event:
            corpus = DataConfig(data, num_samples, validation_split, split, skip_bad_lines)
            settings = TrainConfig(batch_size, as_float32(learning_rate), seed=seed, batches=batches)
            if run:
                asked = asdict(corpus) | asdict(settings)
                asked |= {"latent_dim": latent_dim, "dtype": dtype, "padding": padding}
                named = [name for name in asked if resume_or_begin or options.given(context, name)]
                training.require_same_settings(run, {name: asked[name] for name in named})
                rate = as_float32(learning_rate) if options.given(context, "learning_rate") else None
                trained = training.resume(run, backend, epochs, runtime, on_event, rate, group, resume_or_begin)
            else:
                trained = training.train(
                    name, corpus, settings, latent_dim, dtype, padding, epochs, out, runtime, on_event, group
                )
    except KeyboardInterrupt:
        if not (out / "config.json").exists():
            raise CtrlCError("interrupted before the run began; nothing was written") from None
        raise CtrlCError(f"interrupted; {RunDirectory.open(out).kept(epochs, backend, workers)}") from None
    if trained is None:
        return  # the first worker of the group tells
    last = trained.run.history()[-1]
    if json:
        names = ("loss", "val_loss", "accuracy", "val_accuracy")
        figures: dict[str, Any] = {"epochs": last.epoch} | {name: getattr(last, name) for name in names}
        figures |= {"seconds_per_epoch": last.seconds, "samples": trained.samples}
        return terminal.print_json({"backend": name, "run": str(out)} | figures)
    if not trained.samples:
        return terminal.say(trained.run.kept(epochs))
    rows = [[text or terminal.ENDED_AT_ONCE for text in sample.values()] for sample in trained.samples]
    columns = ["from", "input sentence", "reference", "decoded sentence"]
    terminal.out.print(terminal.table(f"{name}, epoch {last.epoch}", columns, rows))
    _say_who_trained(trained.run)
    sentence = quoted(trained.samples[0]["source"])
    terminal.say(f"The run is in {quoted(out)}. Translate with: rosetta translate {quoted(out)} {sentence}")


@app.command(rich_help_panel=USE)
def translate(
    arguments: options.RunAndTexts = None,
    file: Annotated[Path | None, typer.Option(help="Translate the lines of a file.")] = None,
    backend: options.BackendOrAll = None,
    variants: options.Variants = False,
    dtype: options.DtypeOfRun = None,
    weights: options.Weights = "last",
    unknown: options.Unknown = "error",
    beam: options.Beam = 1,
    n_best: options.NBest = None,
    threads: options.Threads = None,
    device: options.Device = "cpu",
    json: options.Json = False,
) -> None:
    """Translate sentences given as arguments, in a file, on standard input, a line each, or typed at a prompt.

    The first argument is a run where it names a folder. Without one, the run bundled with Rosetta translates, which
    was trained on the phrasebook. Without --backend, a run's own is taken, or where that is not installed, another.

    A line that cannot be translated is named on standard error and leaves an empty line; the exit status is then 1.
    """
    from backends.commands.translating import answers_as_typed

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
    search = beam if beam > 1 or n_best else None
    unit = "text" if texts else "line"
    kept: list[dict[str, Any]] = []  # for JSON, which is one object
    number = failed = 0
    with refusing(f"{file} cannot be read"):
        stream = file.open("rb") if file else sys.stdin.buffer
    with stream, ExitStack() as stack:
        translator, sources = _open(opener, backend, variants, stack)
        note = terminal.SIDE_BY_SIDE if backend == "all" and not json else ""
        if prompted:
            terminal.say(f"Type a sentence and Enter; quit ends. Backend: {translator.about['backend']}.")
            for name, examples in sources.examples.items():
                terminal.say(f"{name}: {' '.join(examples)}")
            if note:
                terminal.say(note)
        translated = partial(translator.answers, unknown=unknown, beam=search, n_best=n_best)
        answers = partial(answers_as_typed, translated, sources)
        chunks = iter([texts]) if texts else typed_lines("sentence> ") if prompted else lines_as_they_arrive(stream)
        if note:  # each sentence's table comes as soon as it is whole
            chunks = ([line] for lines in chunks for line in lines)
        try:
            for line in chain.from_iterable(map(answers, chunks)):
                number += 1
                alone = prompted or len(texts) == 1
                where = "" if alone else f"{file}, {unit} {number}: " if file else f"{unit} {number}: "
                if "error" in line:
                    failed += 1
                    if len(texts) != 1:  # with one alone, its error is the program's
                        terminal.say(where + line["error"], terminal.err)
                if "doubt" in line:
                    terminal.warn(where + line["doubt"])
                if json:
                    kept.append(line)
                elif not (alone and "error" in line):  # elsewhere a line at fault leaves an empty one
                    terminal.print_answer(line, number, n_best)
        finally:  # what came before an error, too
            if json and (number or sys.exception() is None):
                terminal.print_json(translator.about | {"translations": kept})
    if note and not prompted and failed < number:
        terminal.say(note)
    if failed and not prompted:
        if len(texts) == 1:
            raise CannotBeginError(line["error"])
        error = CannotBeginError if texts and failed == number else RosettaError
        raise error(f"{failed} of {number} {unit}s could not be translated")


def _opener(run: Path | None, weights: str, dtype: str | None, threads: int | None, device: str) -> "Opener":
    """Opens a run, by default the bundled one, in any backend."""
    from backends.commands.translating import Opener
    from backends.process.parent import Runtime
    from common.run_directory import BUNDLED_RUN, RunDirectory

    return Opener(RunDirectory.open(run or BUNDLED_RUN), weights, dtype, Runtime(threads=threads, device=device))


def _open(
    opener: "Opener", backend: str | None, variants: bool, stack: ExitStack
) -> "tuple[Translator | SideBySide, Sources]":
    """What translates lines in one backend or in all, until the stack is closed, and the run's sources."""
    from common.sources import Sources

    if backend == "all":
        from backends.commands.side_by_side import open_side_by_side

        names = installed(variants)
        together = stack.enter_context(open_side_by_side(opener, names, terminal.warn, terminal.rows_so_far))
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


@app.command(rich_help_panel=USE)
def evaluate(
    run: options.RunOrBundled = None,
    backend: options.BackendOfRun = None,
    dtype: options.DtypeOfRun = None,
    weights: options.Weights = "last",
    limit: Annotated[
        int | None, typer.Option(min=1, help="Score only the first N of the pairs held out.", show_default="all")
    ] = None,
    threads: options.Threads = None,
    device: options.Device = "cpu",
    json: options.Json = False,
) -> None:
    """Score a run on the pairs that its training held out, and say how much of the accuracy is padding."""
    from backends.commands import training

    opener = _opener(run, weights, dtype, threads, device)
    run, name = opener.run.path, backend or of_run(opener.run.backend)
    with terminal.training_progress(name) as on_event, opener.open(name) as translator:
        figures = training.evaluate(translator, dtype, limit, on_event)
    if json:
        return terminal.print_json({"backend": name, "run": str(run), "weights": weights} | figures)
    terminal.out.print(terminal.scores_table(f"{run}, {weights} epoch, in {name}", figures))
    terminal.say(f"chrF's settings: {figures['chrf_signature']}")
    _say_who_trained(opener.run)


def _say_who_trained(run: "RunDirectory") -> None:
    terminal.say(f"Epochs by the backend that trained them: {run.trained_in() or 'none'}")


@app.command(rich_help_panel=USE)
def convert(
    context: typer.Context,
    run: options.RunToConvert,
    more: options.SecondFile = None,
    to: options.Target = None,
    out: Annotated[Path | None, typer.Option(help="The folder to write.", show_default="RUN-NAME")] = None,
    weights: options.Weights = "last",
    from_: options.FilesOfModel = None,
    backend: options.BackendOfFiles = None,
    vocabulary: options.RunOfVocabulary = None,
    data: options.DataOfModel = None,
    num_samples: options.NumSamples = DataConfig.num_samples,
    skip_bad_lines: options.SkipBadLines = False,
    latent_dim: options.LatentDimOfFile = None,
    dtype: options.DtypeOfModel = "float32",
    json: options.Json = False,
) -> None:
    """Write a run as a framework's own files, or make a run of such files.

    `convert RUN --to torch` writes RUN-torch. `convert RUN --to weights` writes RUN-weights, a run of the weights
    alone, much smaller and enough to translate with. `convert RUN --from model.pt optimizer.pt --backend torch` makes
    RUN; such files hold no vocabulary, so it needs --data, the corpus that the model was trained on, or --vocabulary.
    """
    from backends.native.convert import export_native, import_native
    from common.run_directory import RunDirectory

    settings = ["data", "num_samples", "skip_bad_lines", "dtype"]
    if to is not None:
        options.refuse(
            context, ["from_", "backend", "vocabulary", *settings, "latent_dim"], "--to writes a run as it is"
        )
        if more:
            raise CannotBeginError(f"--to writes one run; leave out {more[0]}")
        named = run if run.name.strip(".") else run.resolve()  # beside it, not within
        out = out or Path(f"{named}-{to.replace(':', '-')}")
        if to == "weights":
            RunDirectory.open(run).write_weights(weights, out)
            return terminal.print_json({"run": str(out)}) if json else terminal.say(f"The run is in {quoted(out)}")
        files = export_native(RunDirectory.open(run), weights, to, out)
        if json:
            return terminal.print_json({"backend": to, "run": str(run), "folder": str(out), "files": files})
        return terminal.say(f"{quoted(out)} holds {' and '.join(files)}")
    if not from_ or backend is None:
        raise CannotBeginError("convert needs --to NAME, or --from FILE and --backend NAME; see --help")
    options.refuse(context, ["out", "weights"], "--from makes the run RUN")
    if vocabulary is not None:
        options.refuse(context, settings, "--vocabulary takes that run's settings")
    elif data is None:
        raise CannotBeginError(
            "files of frameworks hold no vocabulary: give --data, the corpus that the model was trained on, or "
            "--vocabulary, a run that has the same"
        )
    like = vocabulary or DataConfig(str(data), num_samples, skip_bad_lines=skip_bad_lines)
    import_native([*from_, *(more or [])], backend, run, like, dtype, latent_dim)
    if json:
        return terminal.print_json({"backend": backend, "run": str(run), "epochs": 0})
    command = f"rosetta train --out {quoted(run)} --resume --epochs 1"
    terminal.say(f"The run is in {quoted(run)}. Train it on with: {command}")


@app.command(rich_help_panel=USE)
def serve(
    run: options.RunOrBundled = None,
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port of the page; 0 takes any that is free.")] = 8000,
    host: Annotated[
        str, typer.Option(help="Address of the page; any other than the default lets other machines in.")
    ] = "127.0.0.1",
    backends: Annotated[
        str | None, options.several_backends("numpy and the installed frameworks, without their variants")
    ] = None,
    threads: options.Threads = None,
) -> None:
    """Serve a page to try a run: type a sentence, see each backend's translation, its time, and how sure it is."""
    from backends.process.parent import Runtime
    from backends.serve.page import serve as serve_page
    from common.run_directory import BUNDLED_RUN

    names = installed(variants=False) if backends is None else options.installed_backends(backends)
    serve_page(run or BUNDLED_RUN, host, port, names, Runtime(threads=threads))


OTHERS: dict[str, list[Callable[..., None]]] = {
    "Compare models": [comparing.parity, comparing.diff, comparing.carry],
    "Measure": [commands.bench, racing.race, commands.report, commands.sweep, commands.machine, commands.compare],
}
for heading, others in OTHERS.items():
    for other in others:
        app.command(rich_help_panel=heading)(other)

if __name__ == "__main__":
    main()
