"""The commands for benchmarking, which rosetta.py adds to its command line."""

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from functools import partial
from pathlib import Path
from time import perf_counter
from types import ModuleType
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from backends import options
from common.config import LEARNING_RATE, DataConfig, ModelConfig, TrainConfig, as_float32
from common.text import printable, quoted

if TYPE_CHECKING:
    from benchmarks.measure.recording import Recording

# Options that cannot be given with --resume, which takes their values from the recording.
PLANNED = ["backends", "threads", "device", *options.FIXED_BY_RUN]
PLANNED_BENCH = [*PLANNED, "preset", "within", "lanes", "rows", "epochs", "seeds", "run", "baseline", "certificate"]

Backends = Annotated[
    str | None,
    typer.Option(
        help=options.LISTED,
        show_default="those installed, without variants and numpy",
        autocompletion=options.complete_backends,
    ),
]
Out = Annotated[Path | None, typer.Option(help="The recording to write.", show_default="results/COMMAND-TIME.jsonl")]
Resume = Annotated[bool, typer.Option("--resume", help="Continue the recording that --out names.")]
Wait = Annotated[
    bool, typer.Option("--wait/--no-wait", help="If another benchmark is running, wait for its end, or exit with 2.")
]
Mapping = Annotated[Path | None, typer.Option(help="A JSON file that says which layers and weights belong together.")]


def register(app: typer.Typer) -> None:
    """Add the commands of this module to the command line."""
    for command in (parity, diff, carry, bench, report, sweep, machine, compare):
        app.command()(command)


def bench(
    context: typer.Context,
    backends: Backends = None,
    python: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME=PATH",
            help="Add a row: backend NAME, run by the Python interpreter at PATH."
            " With --resume, name those of the recording again.",
        ),
    ] = None,
    rows: Annotated[
        str | None,
        typer.Option(
            help="Measure only these rows and the baseline. Name rows as tables do, with ; between them. So each of"
            " several machines measures a part of one plan, and `rosetta report A B C` joins the recordings.",
            show_default="all",
        ),
    ] = None,
    preset: Annotated[
        Literal["quick", "standard"],
        typer.Option(help="quick takes minutes, standard an hour and then scored trainings. Options override both."),
    ] = "quick",
    within: Annotated[
        str | None,
        typer.Option(metavar="PERCENT", help="Measure until each interval's half-width is at most this, such as 2%."),
    ] = None,
    budget: Annotated[
        str | None, typer.Option(metavar="TIME", help="Begin no measurement that would end after this, such as 10m.")
    ] = None,
    baseline: Annotated[
        str | None,
        typer.Option(
            help="The backend that ratios compare with.",
            show_default="keras:example, or the slowest",
            autocompletion=options.complete_backend,
        ),
    ] = None,
    run: Annotated[
        Path | None,
        typer.Option(
            help="Decode with the weights of this run.",
            show_default="the bundled run, where it fits",
            autocompletion=options.complete_run,
        ),
    ] = None,
    lanes: Annotated[
        str | None,
        typer.Option(
            help="matched (the same settings for all), default (as installed), or matched,default.",
            show_default="both",
        ),
    ] = None,
    batches: Annotated[
        str | None,
        typer.Option(help="shuffled, or shuffled,bucketed to add rows with bucketed batches and masked padding."),
    ] = None,
    epochs: Annotated[
        int | None,
        typer.Option(min=1, help="Epochs of each scored training; a third more with bucketed batches."),
    ] = None,
    seeds: Annotated[
        int | None, typer.Option(min=0, help="Scored trainings of each backend, each from another seed.")
    ] = None,
    data: options.Data = DataConfig.data,
    num_samples: options.NumSamples = DataConfig.num_samples,
    skip_bad_lines: options.SkipBadLines = False,
    split: options.Split = "grouped",
    validation_split: options.ValidationSplit = DataConfig.validation_split,
    batch_size: options.BatchSize = TrainConfig.batch_size,
    latent_dim: options.LatentDim = ModelConfig.latent_dim,
    learning_rate: options.LearningRate = LEARNING_RATE,
    seed: options.Seed = TrainConfig.seed,
    threads: options.Threads = None,
    device: options.Device = "cpu",
    out: Out = None,
    resume: Resume = False,
    wait: Wait = True,
    certificate: Annotated[
        Path | None, typer.Option(help="A file of `rosetta parity --certificate`, in place of a new parity check.")
    ] = None,
    json: options.Json = False,
) -> None:
    """Train and decode in every backend, from the same weights and batches, and compare.

    All backends run at the same time, each in its own process, and are timed in turns until the intervals are narrow
    enough or the time is up. The raw timings are saved in a recording. Use --resume to continue a benchmark that was
    interrupted, and `rosetta report` to make a page of its recording.
    """
    from backends import find, frameworks
    from benchmarks.measure import schedule
    from benchmarks.measure.lock import only_benchmark, only_writer
    from benchmarks.measure.plan import LANES, Plan, cells, chosen, named_rows, require_rows, shuffled_and, sized
    from benchmarks.parity.certificate import read_certificates
    from benchmarks.results.timings import precision
    from common import terminal
    from common.errors import CannotBeginError

    path = _recording_path(out, resume, "bench")
    seconds = options.seconds(budget) if budget is not None else None
    if resume:
        options.refuse(context, PLANNED_BENCH, "--resume continues the recording's own plan")
        open_benchmark = partial(schedule.resumed, path, seconds, python or [])
    else:
        size = sized(
            preset,
            within=options.share(within) if within is not None else None,
            budget=seconds,
            batches=shuffled_and(batches),
            epochs=epochs,
            seeds=seeds,
        )
        names = options.known_backends(backends) if backends is not None else frameworks()
        if baseline is not None and baseline not in names:
            raise CannotBeginError(f"--baseline {baseline} is not among the backends: {', '.join(names)}")
        corpus = DataConfig(data, num_samples, validation_split, split, skip_bad_lines)
        settings = TrainConfig(batch_size, as_float32(learning_rate), seed=seed)
        of_plan = cells(names, python or [], chosen(lanes, "lanes", list(LANES)) or tuple(LANES), size)
        run_folder = str(run.resolve()) if run else ""
        asked = preset, size, baseline or "", run_folder, of_plan, named_rows(rows)
        plan = Plan(corpus, settings, latent_dim, device, threads, *asked)
        require_rows(plan)
        for cell in plan.measured:
            find(cell.backend, cell.python or None)
        open_benchmark = partial(schedule.begin, path, plan, read_certificates(certificate) if certificate else {})
    # The recording is opened under the locks, since another benchmark may still be writing to it.
    with only_benchmark(terminal.warn, wait), only_writer(path, new=not resume):
        benchmark = open_benchmark()
        with _measuring("bench", path, json, benchmark.plan.python_options) as say:
            for said in benchmark.run(precision):
                say(said if isinstance(said, str) else _so_far(said))


def sweep(
    context: typer.Context,
    backends: Backends = None,
    data: options.Data = DataConfig.data,
    num_samples: options.NumSamples = DataConfig.num_samples,
    skip_bad_lines: options.SkipBadLines = False,
    batch_size: options.BatchSize = TrainConfig.batch_size,
    latent_dim: options.LatentDim = ModelConfig.latent_dim,
    seed: options.Seed = TrainConfig.seed,
    workers: Annotated[
        int,
        typer.Option(
            min=1,
            max=64,
            help="Instead of sizes, measure what a group of this many workers loses against one. Each has --threads "
            "threads, or one.",
        ),
    ] = 1,
    threads: options.Threads = None,
    device: options.Device = "cpu",
    out: Out = None,
    resume: Resume = False,
    wait: Wait = True,
    json: options.Json = False,
) -> None:
    """Measure how the time of a step grows with sentence length, units and batch size, and memory with the corpus.

    With --workers: how much faster a group of workers trains than one, and how much of its time is communication.
    """
    from backends import BASELINE, TABLE, frameworks
    from backends.engines import engine_of
    from benchmarks.measure.lock import only_benchmark, only_writer
    from benchmarks.measure.plan import Cell
    from benchmarks.measure.sweep import Axes, Sweep
    from benchmarks.measure.workers import GENERATIONS, Workers
    from common import terminal
    from common.errors import CannotBeginError

    path = _recording_path(out, resume, "sweep")
    create: Callable[[], Sweep | Workers]
    if resume:
        options.refuse(context, [*PLANNED, "workers"], "--resume continues the recording's own plan")
    else:
        by_default = [name for name in frameworks() if name != BASELINE]
        names = options.installed_backends(backends) if backends is not None else by_default
        for name in names:
            # The example makes the tensors of a whole epoch in advance, so its memory depends on the corpus alone.
            # In reduced precision a step may be faster than the float32 peak that a sweep compares it with.
            if name == BASELINE or TABLE[name].reduced:
                raise CannotBeginError(f"{name} cannot be swept; leave it out of --backends")
            if workers > 1:
                engine_of(name)
        corpus = DataConfig(data, num_samples, skip_bad_lines=skip_bad_lines)
        asked = path, corpus, TrainConfig(batch_size, seed=seed), latent_dim, device
        if workers > 1:
            group: dict[str, Any] = {"workers": workers, "backends": tuple(names), "generations": GENERATIONS}
            create = partial(Workers.create, *asked, threads or 1, **group)
        else:
            create = partial(Sweep.create, *asked, threads, cells=tuple(map(Cell, names)), axes=Axes())
    with only_benchmark(terminal.warn, wait), only_writer(path, new=not resume):
        opened = _read(path, Sweep, Workers).resume() if resume else create()
        with _measuring("sweep", path, json) as say:
            for title in opened.run():
                say(title)


def machine(json: options.Json = False) -> None:
    """Check whether this machine is fit for measuring now: other programs, clock, heat, cores and memory."""
    from benchmarks.measure.machine import check
    from benchmarks.report import machine as content
    from benchmarks.report import terminal as shown
    from common import terminal
    from common.errors import RosettaError

    findings = check()
    fit = all(finding.ok for finding in findings)
    if json:
        terminal.print_json({"fit": fit, "findings": [vars(finding) for finding in findings]})
    else:
        shown.show(content.blocks(findings))
    if not fit:
        raise RosettaError("this machine is not fit for measuring now")


def report(
    recordings: Annotated[
        list[Path],
        typer.Argument(
            metavar="RECORDING",
            help="A file of `rosetta bench` or `sweep`, or several of `bench` of which each has a part of one plan.",
        ),
    ],
    out: Annotated[
        Path | None,
        typer.Option(
            "-o",
            "--out",
            help="The page to write: .html, or .md for Markdown.",
            show_default="a summary in the terminal",
        ),
    ] = None,
) -> None:
    """Make an offline page of a recording: which backend is faster, by how much and why; charts and sentences.

    Several recordings of one plan are joined: each row on each machine, compared with the baseline of its own
    machine, and where the machines differ.
    """
    from benchmarks.measure.recording import content_of, format_of
    from benchmarks.report import markdown, page
    from benchmarks.report import terminal as shown
    from common.errors import CannotBeginError, why
    from common.files import write_atomically

    if out is not None and out.suffix not in (".html", ".md"):
        raise CannotBeginError(f"{out} ends with {out.suffix or 'nothing'}; give --out a name with .html or .md")
    if out is not None and out.is_file() and format_of(out).startswith("rosetta-"):
        raise CannotBeginError(f"{out} is itself a recording; give --out another name")
    content, results = results_in(recordings)
    if out is None:
        shown.show(content.summary(results))
        return
    made = content.report(results)
    raw = content_of(recordings[0]).decode() if len(recordings) == 1 else ""
    try:
        write_atomically(out, page.render(made, raw) if out.suffix == ".html" else markdown.render(made))
    except OSError as error:
        raise CannotBeginError(f"{out} cannot be written: {why(error)}") from error
    print(f"{quoted(out)} is written")


def results_in(recordings: Sequence[Path]) -> tuple[ModuleType, Any]:
    """The results of a recording, or of several that are joined, after the module that makes a report of them."""
    from benchmarks.measure.recording import Recording
    from benchmarks.measure.sweep import Sweep
    from benchmarks.measure.workers import Workers
    from benchmarks.report import content, joined, sweep, workers
    from benchmarks.results.joined import join, names_of
    from benchmarks.results.rows import results_of
    from benchmarks.results.scaling import scaling_of
    from benchmarks.results.workers import scaled_of

    if len(recordings) > 1:
        return joined, join(zip(names_of(recordings), map(Recording.read, recordings), strict=True))
    found = _read(recordings[0], Recording, Sweep, Workers)
    if isinstance(found, Sweep):
        return sweep, scaling_of(found)
    return (workers, scaled_of(found)) if isinstance(found, Workers) else (content, results_of(found))


def _read(path: Path, *kinds: Any) -> Any:
    """The recording that a file holds, of one of these kinds; as the first of them where its format is another."""
    from benchmarks.measure.recording import format_of

    return {kind.format: kind for kind in kinds}.get(format_of(path), kinds[0]).read(path)


def compare(
    before: Annotated[Path, typer.Argument(metavar="A", help="A recording of `rosetta bench`.")],
    after: Annotated[Path, typer.Argument(metavar="B", help="A later recording, or one of another version.")],
    fail_slower: Annotated[
        str | None,
        typer.Option(metavar="PERCENT", help="Exit with 1 if a figure is surely slower by more than this, e.g. 10%."),
    ] = None,
    json: options.Json = False,
) -> None:
    """Say what became faster or slower between two recordings, and whether the difference is more than noise."""
    from benchmarks.measure.recording import Recording
    from benchmarks.report import changes as content
    from benchmarks.report import terminal as shown
    from benchmarks.results import changes
    from benchmarks.results.values import plain
    from common import terminal
    from common.errors import RosettaError

    limit = options.share(fail_slower) if fail_slower is not None else None
    found = changes.compare(Recording.read(before), Recording.read(after))
    if not found.changes:
        raise RosettaError(
            "nothing can be compared: no row has two generations in both recordings, or other processes were busy "
            "in too many cycles of one of them"
        )
    if json:
        terminal.print_json(plain(found))
    else:
        shown.show(content.blocks(found))
    slower = [change for change in found.changes if limit is not None and change.slower_by > limit]
    if slower:
        worst = max(slower, key=lambda change: change.slower_by)
        raise RosettaError(
            f"{len(slower)} figure{'s' * (len(slower) > 1)} slower by more than {fail_slower}; "
            f"worst: {printable(worst.label)}, {worst.figure}, by {worst.slower_by:.0%}"
        )


def parity(
    backends: Annotated[
        str | None,
        typer.Option(
            help=options.LISTED,
            show_default="those installed, without reduced precision",
            autocompletion=options.complete_backends,
        ),
    ] = None,
    dtype: Annotated[
        options.Precision | None, typer.Option(help="Compare in this precision only.", show_default="both")
    ] = None,
    data: options.Data = DataConfig.data,
    skip_bad_lines: options.SkipBadLines = False,
    latent_dim: options.LatentDim = ModelConfig.latent_dim,
    padding: options.Padding = "space",
    seed: options.Seed = TrainConfig.seed,
    quick: Annotated[bool, typer.Option("--quick", help="Use fewer pairs, steps and sentences.")] = False,
    workers: Annotated[
        int,
        typer.Option(min=1, help="Also compare a group of this many workers, in each backend that can train in one."),
    ] = 1,
    threads: options.Threads = None,
    device: options.Device = "cpu",
    certificate: Annotated[
        Path | None, typer.Option(help="Write versions, hashes and the largest errors to this JSON file.")
    ] = None,
    json: options.Json = False,
) -> None:
    """Compare every backend with the float64 referee: tensors, weights, states, loss, gradients, training, strings.

    The comparisons are the rungs of a ladder. Each backend climbs it until a rung fails; the failure is explained,
    and the exit status is 1. Backends that compute in less than float32, such as torch:bfloat16, are compared only
    if they are named, and with wider tolerances.
    """
    from rich.live import Live

    from backends import TABLE, installed
    from backends.process.runtime import Runtime
    from benchmarks.parity.certificate import write_certificates
    from benchmarks.parity.driver import Parity, climb
    from benchmarks.parity.ladder import QUICK, REFEREE, WHOLE, Course
    from benchmarks.parity.tables import budget_tables, ladder_table
    from common import terminal
    from common.errors import CannotBeginError, CtrlCError, RosettaError

    if certificate and not certificate.parent.is_dir():
        raise CannotBeginError(f"{certificate} cannot be written: there is no folder {certificate.parent}")
    if certificate and (certificate.is_dir() or not os.access(certificate.parent, os.W_OK)):
        raise CannotBeginError(f"{certificate} cannot be written; give --certificate the name of a file")
    exact = [name for name in installed() if not TABLE[name].reduced]
    by_default = [name for name in exact if device == "cpu" or name != REFEREE]
    names = options.installed_backends(backends) if backends is not None else by_default
    if not names:
        raise CannotBeginError("there is no backend to compare; `rosetta backends` lists them")
    size = QUICK if quick else WHOLE
    corpus, settings = DataConfig(data, skip_bad_lines=skip_bad_lines), TrainConfig(seed=seed)
    runtime = Runtime(threads=threads, device=device)
    found = Parity()
    try:
        with (
            Course(corpus, settings, latent_dim, size, runtime, padding, workers) as course,
            Live(ladder_table([]), console=terminal.err, transient=True) as live,
        ):
            dtypes = [dtype] if dtype else ["float64", "float32"]
            climb(course, names, dtypes, found, lambda: live.update(ladder_table(found.checks)))
    except CannotBeginError as error:
        raise RosettaError(str(error)) if found.checks else error from None
    except KeyboardInterrupt:
        raise CtrlCError("interrupted before every backend had been compared") from None
    finally:  # print what was found even where an error ended the comparison
        if json and found.checks:
            terminal.print_json(found.as_json())
        elif found.checks:
            for table in (ladder_table(found.checks), *budget_tables(found.checks)):
                terminal.out.print(table)
            for explanation in found.explanations:
                print(printable(explanation))
        if certificate and found.certificates:
            write_certificates(certificate, found.certificates)
    if not found.passed:
        raise RosettaError("parity is broken")
    if not json:
        print("Every backend agrees with the referee, within the bounds of each rung")


def diff(
    left: Annotated[Path, typer.Argument(help="The record that is expected, a folder of rosetta_record.")],
    right: Annotated[Path, typer.Argument(help="The record that is compared with it.")],
    mapping: Mapping = None,
    write_mapping: Annotated[
        Path | None, typer.Option(help="Write which layers were paired into this JSON file, and compare nothing.")
    ] = None,
    json: options.Json = False,
    markdown: Annotated[bool, typer.Option("--markdown", help="Print Markdown for a pull request.")] = False,
) -> None:
    """Compare two records of one model, made by rosetta_record in any frameworks: inputs, weights, outputs, training.

    The comparisons are the rungs of a ladder, up to the first that breaks; then the layer, the tensor and the place
    in it are named, with likely causes, and the exit status is 1. The left side is what is expected.
    """
    from benchmarks.porting import shown
    from benchmarks.porting.diff import compare_records
    from benchmarks.porting.pairing import paired, read_mapping
    from benchmarks.porting.pairing import write_mapping as draft
    from benchmarks.porting.record import Record
    from common import terminal
    from common.errors import CannotBeginError, RosettaError

    if json and markdown:
        raise CannotBeginError("--json and --markdown were given; give one of them")
    known = read_mapping(mapping) if mapping else None
    sides = Record(left), Record(right)
    if write_mapping:
        pairing = paired(*sides, known)
        draft(write_mapping, pairing)
        alone = sum(group.required for group in (*pairing.left, *pairing.right))
        print(f"{quoted(write_mapping)} has {len(pairing.pairs)} pairs; {alone} groups of weights have no partner")
        return
    found = compare_records(*sides, known)
    if json:
        terminal.print_json(found.as_json())
    elif markdown:
        print(shown.markdown(found))
    else:
        terminal.out.print(shown.diff_table(found))
        for line in shown.lines(found):
            print(printable(line))
    if not found.passed:
        raise RosettaError(f"{found.right} and {found.left} differ")
    if not found.control.passed:
        raise RosettaError("the control failed, so the comparison is not to be trusted; see the table's last line")


def carry(
    left: Annotated[Path, typer.Argument(help="The record whose weights are carried, a folder of rosetta_record.")],
    to: Annotated[Literal["torch", "paddle", "keras"], typer.Option(help="The framework that is to load them.")],
    out: Annotated[Path, typer.Option("-o", "--out", help="The file to write, such as model.pdparams.")],
    like: Annotated[
        Path | None, typer.Option(help="A record of the other framework's model, which has its names and layouts.")
    ] = None,
    mapping: Mapping = None,
) -> None:
    """Write the weights of a record as another framework's model has them, for its own loader."""
    from benchmarks.porting.carry import aliases, carried, write_carried
    from benchmarks.porting.pairing import read_mapping
    from benchmarks.porting.record import Record
    from common.errors import CannotBeginError

    if like is None:
        raise CannotBeginError(
            f"the {to} model's names are not known; record it with rosetta_record and name the record with --like"
        )
    sides = Record(left), Record(like)
    found = sides[1].says.framework.name
    if found != to:
        raise CannotBeginError(f"{like} is a record of {found}, and --to asks for {to}; name a record of {to}")
    arrays = carried(*sides, read_mapping(mapping) if mapping else None)
    arrays |= {alias: arrays[name] for alias, name in aliases(sides[1]).items()}
    loaded = write_carried(out, sides[1], arrays)
    print(printable(f"The weights of {left} are in {quoted(out)}: {loaded}"))


def _so_far(recording: "Recording") -> str:
    """What a benchmark has found so far; "" before there are intervals."""
    from benchmarks.results.rows import results_of

    found = results_of(recording)
    if found.reached is None:
        return ""
    return f"{found.headline} The widest interval reaches {found.reached:.1%} to either side."


def _recording_path(out: Path | None, resume: bool, command: str) -> Path:
    """The recording to write or to resume. Raises CannotBeginError if a new recording would overwrite a file."""
    from benchmarks.measure.recording import refuse_existing
    from common.errors import CannotBeginError

    if resume and out is None:
        raise CannotBeginError("--resume needs --out, the recording to continue")
    path = out or Path("results") / f"{command}-{datetime.now():%Y%m%d-%H%M%S}.jsonl"
    if not resume:
        refuse_existing(path)
    return path


@contextmanager
def _measuring(command: str, path: Path, json: bool, options: Sequence[str] = ()) -> Iterator[Callable[[str], None]]:
    """Measure in the block; then show the results so far, and where the recording is unless the JSON names it.

    The block is given what prints a line with the time to standard error. These are plain lines, since a progress bar
    that is drawn all the time would slow down what is measured.

    The message of whatever error ends the measuring gets the command that resumes the recording. After Ctrl-C the
    results so far are shown before CtrlCError is raised.
    """
    from benchmarks.report import terminal as shown
    from benchmarks.results.rows import as_json
    from benchmarks.results.values import Results, plain
    from common import terminal
    from common.errors import CannotBeginError, CtrlCError, RosettaError, why

    go_on = " ".join([f"go on with: rosetta {command} --out {quoted(path)} --resume", *options])
    began, interrupted = perf_counter(), False

    def say(line: str) -> None:
        minutes, seconds = divmod(int(perf_counter() - began), 60)
        if line:
            said = f"[{minutes}:{seconds:02}] {printable(line)}"
            terminal.err.print(said, markup=False, highlight=False, soft_wrap=True)

    try:
        yield say
    except KeyboardInterrupt:
        interrupted = True
    except OSError as error:
        message = f"{error.filename or path}: {why(error)}; {path} keeps what was measured before; {go_on}"
        raise RosettaError(message) from error
    except RosettaError as error:
        if isinstance(error, CannotBeginError) and path.read_bytes().count(b"\n") == 1:
            path.unlink()  # it holds only the plan, so there is nothing to resume
            raise
        raise RosettaError(f"{error}; {go_on}") from error
    content, results = results_in([path])
    if json:
        answer = as_json(results) if isinstance(results, Results) else plain(results)
        terminal.print_json({"results": str(path)} | answer)
    else:
        shown.show(content.summary(results))
    if interrupted:
        raise CtrlCError(f"interrupted; {go_on}")
    if not json:
        page = quoted(path.with_suffix(".html"))
        print(f"Saved as {quoted(path)}. To make a page of it: rosetta report {quoted(path)} -o {page}")
