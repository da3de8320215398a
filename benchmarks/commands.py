"""The commands that measure and report, which the command line finds here by their names."""

import os
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import datetime
from functools import partial
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING, Annotated

import typer

from backends import commands as options
from common import terminal
from common.errors import CannotBeginError, CtrlCError, RosettaError, refusing, why
from common.settings import DataConfig, ModelConfig, TrainConfig
from common.text import printable, quoted

if TYPE_CHECKING:
    from benchmarks.measure.bench import Benchmark
    from benchmarks.measure.measurement import Measurement
    from benchmarks.measure.race import Race
    from benchmarks.report.render import Report

# The least of --within. On an idle machine a bench of five rows reached 2.5 % in nine and a half
# minutes. Its intervals narrow with the root of the time, so an hour would reach 1 %; none was
# measured.
LEAST_WITHIN = 0.01
LOG_SECONDS = 15.0  # between two status lines of a log


def share(percent: str) -> float:
    """Convert a percentage such as 10% to a share of 1. Raises CannotBeginError."""
    parts = re.fullmatch(r"(\d+(?:\.\d+)?) ?%?", percent)
    if parts is None:
        raise CannotBeginError(f"{percent!r} is no percentage; write one such as 10%")
    return float(parts[1]) / 100


def reachable(percent: str) -> float:
    """Convert the percentage of --within to a share of 1.
    Raises CannotBeginError for less than LEAST_WITHIN."""
    if (half_width := share(percent)) < LEAST_WITHIN:
        least = f"{LEAST_WITHIN:.0%}"
        raise CannotBeginError(
            f"--within {percent} is too narrow to be reached; give {least} or more"
        )
    return half_width


def seconds(duration: str) -> float:
    """Convert a duration such as 90s, 10m or 2h to seconds,
    at least one. Raises CannotBeginError."""
    parts = re.fullmatch(r"(\d+(?:\.\d+)?)([smh])", duration)
    number = float(parts[1]) * {"s": 1, "m": 60, "h": 3600}[parts[2]] if parts else 0.0
    if number < 1:
        raise CannotBeginError(
            f"{duration!r} is no duration of a second or more; write one such as 90s, 10m or 2h"
        )
    return number


Backends = Annotated[
    str | None, options.several_backends("those installed, without variants and numpy")
]
share_option = partial(typer.Option, metavar="PERCENT", parser=share)
Within = Annotated[
    float | None,
    typer.Option(
        metavar="PERCENT",
        parser=reachable,
        help="Measure until each interval's half-width is at most this, such as 2%.",
        show_default="5%; 3% in a race",
    ),
]
Budget = Annotated[
    float | None,
    typer.Option(
        metavar="TIME",
        parser=seconds,
        help="Take at most so long, such as 10m.",
        show_default="under 5m; 1h with a narrower --within, 5m in a race",
    ),
]
NewMeasurement = Annotated[
    Path | None,
    typer.Option(help="The measurement to write.", show_default="results/COMMAND-TIME.jsonl"),
]
Baseline = Annotated[
    str | None,
    typer.Option(
        help="The backend that ratios compare with.",
        show_default="the fastest as installed",
        callback=options.resolved_or_none,
    ),
]
WeightsOf = Annotated[
    Path | None,
    typer.Option(
        help="Decode with the weights of this run.", show_default="the bundled run, where it fits"
    ),
]
Tuned = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE",
        help="The table of the tuned lane's settings, which `python -m benchmarks.tuning` writes.",
        show_default="one of an AMD EPYC",
    ),
]
Vary = Annotated[
    list[str] | None,
    typer.Option(
        metavar="AXIS=SIZES",
        help="Measure how a training step grows with latent-dim, length or batch-size, such as "
        "latent-dim=128,256,512; twice for two axes.",
    ),
]


def bench(
    context: typer.Context,
    backends: Backends = None,
    within: Within = None,
    budget: Budget = None,
    baseline: Baseline = None,
    run: WeightsOf = None,
    tuned: Tuned = None,
    data: options.Data = DataConfig.data,
    num_samples: options.NumSamples = DataConfig.num_samples,
    skip_bad_lines: options.SkipBadLines = False,
    batch_size: options.BatchSize = TrainConfig.batch_size,
    latent_dim: options.LatentDim = ModelConfig.latent_dim,
    model: options.ModelOption = ModelConfig.model,
    seed: options.Seed = TrainConfig.seed,
    vary: Vary = None,
    threads: options.Threads = None,
    device: options.Device = "cpu",
    out: NewMeasurement = None,
    json: options.Json = False,
) -> None:
    """Train and decode in every backend, from the same weights and batches, and compare.

    All backends run at the same time, each in its own process, and are timed in turns until the
    intervals are narrow enough or the time is up. The raw timings are saved in a measurement;
    `rosetta report` makes a page of it.
    """
    from backends import frameworks, having, require_model
    from backends.process.tuned import BUILT_IN, read_tuning
    from benchmarks.measure.bench import opened_benchmark
    from benchmarks.measure.plan import axes_of, rows_of, usual_budget
    from benchmarks.schema import WITHIN, Plan, Training

    path = measurement_path("bench", out)
    names = (
        options.installed_backends(backends)
        if backends is not None
        else having(frameworks(), model)
    )
    for name in names:
        require_model(name, model)
    if baseline is not None and baseline not in names:
        raise CannotBeginError(
            f"--baseline {baseline} is not among the backends: {', '.join(names)}"
        )
    axes, narrow = axes_of(vary or []), WITHIN if within is None else within
    if axes:
        fixed = ["run", "baseline", *(axis.replace("-", "_") for axis in axes)]
        options.refuse(context, fixed, "--vary measures training alone, at its own sizes")
    corpus = DataConfig(data, num_samples, DataConfig.validation_split, "grouped", skip_bad_lines)
    settings = TrainConfig(batch_size, seed=seed)
    tuning = read_tuning(tuned) if tuned else BUILT_IN[model]
    decoding, table = (str(path.resolve()) if path else "" for path in (run, tuned))
    training = Training(
        corpus,
        settings,
        latent_dim,
        device,
        threads,
        baseline or "",
        decoding,
        table,
        tuning,
        axes,
        model,
    )
    rows, usual = rows_of(names, axes, threads, tuning), usual_budget(narrow, axes)
    plan = Plan(rows, narrow, budget or usual, budget is not None, training)

    def opened() -> "Benchmark":
        benchmark = opened_benchmark(path, plan)  # which may refuse the plan
        warn_of_shell()
        return benchmark

    measure(path, json, opened)


def warn_of_shell() -> None:
    """Warn of the shell's variables that steer arithmetic or threads,
    which a benchmark's rows do not get."""
    from backends.process import shell_settings

    if names := shell_settings():
        terminal.warn(
            f"without {', '.join(names)} of your shell, since each row has the settings "
            "of its lane alone"
        )


def report(
    measurements: Annotated[
        list[Path],
        typer.Argument(
            metavar="MEASUREMENT|RUN",
            help="A file of `rosetta bench` or `race`; several of `bench`, of one machine as "
            "means, or machine by machine; or the folder of a run, whose losses are drawn.",
        ),
    ],
    out: Annotated[
        Path | None,
        typer.Option(
            "-o",
            "--out",
            help="The page to write: .html, or .md for Markdown; .svg for its first chart alone.",
            show_default="a summary in the terminal",
        ),
    ] = None,
    force: Annotated[
        bool,
        typer.Option(
            "--force", help="Write --out even in place of a file that is no page of a measurement."
        ),
    ] = False,
) -> None:
    """Make an offline page of a measurement: which is faster,
    by how much and why; or of a run: its losses."""
    from benchmarks.report import render
    from common.files import write_atomically

    report = read_report(measurements)
    if out is None:
        return render.terminal(report.summary, terminal.out)
    if out.suffix not in (".html", ".md", ".svg"):
        raise CannotBeginError(
            f"{out} ends with none of .html, .md and .svg; give --out such a name"
        )
    if out.suffix == ".svg" and not (report.charts and report.content):
        message = (
            "there is no chart of it; charts are of one measurement of `rosetta bench` that has "
            "times"
        )
        raise CannotBeginError(message)
    if render.is_measurement(out):
        raise CannotBeginError(f"{out} is itself a measurement; give --out another name")
    # A link to nothing, too.
    if os.path.lexists(out) and not force and not (out.is_file() and render.is_page(out)):
        raise CannotBeginError(
            f"{out} exists, and `rosetta report` did not make it; give --out another name, or "
            "--force to replace it"
        )
    if out.suffix == ".svg":
        page = render.image(report)
    else:
        page = (
            render.html(report.page, report.charts)
            if out.suffix == ".html"
            else render.markdown(report.page)
        )
    with refusing(f"{out} cannot be written"):
        write_atomically(out, page.encode())
    terminal.say(f"{quoted(out)} is written")


@contextmanager
def progress() -> Iterator[tuple[Callable[[str], None], Callable[[str], None]]]:
    """Functions that show the present work, and a note that everybody should read.

    On a terminal the former is a line that is redrawn between turns only, since drawing would slow
    what is timed. In a log it is a line every 15 s.
    """
    from rich.text import Text

    began = due = monotonic()  # when the next line of a log is due

    def timed(line: str) -> str:
        seconds = int(monotonic() - began)
        return f"[{seconds // 60}:{seconds % 60:02}] {printable(line)}"

    def note(line: str) -> None:
        terminal.say(timed(line), terminal.err)

    with terminal.showing() as show:

        def status(doing: str) -> None:
            nonlocal due
            if terminal.err.is_terminal:
                show(Text(timed(doing)))
            elif monotonic() >= due:
                due = monotonic() + LOG_SECONDS
                note(doing)

        yield status, note


def read_report(paths: Sequence[Path]) -> "Report":
    """The report of a measurement, of several of benches, or of a run, which is a folder.

    Several measurements of one bench on one machine have one page; those of several machines or
    models stand side by side.

    Raises as `Measurement.read` and `RunDirectory.open` do.
    """
    from benchmarks.measure.measurement import Measurement
    from benchmarks.report import losses, page, race_results
    from benchmarks.report.repeated import are_repeated
    from common.run import RunDirectory

    if len(paths) == 1 and os.path.isdir(paths[0]):
        return losses.report_of_run(RunDirectory.open(paths[0]))
    if len(paths) > 1:
        measurements = [_of_bench(path) for path in paths]
        if are_repeated(measurements):
            return page.report_of_bench(*measurements)
        return page.report_of_several(
            [
                (path.stem, measurement)
                for path, measurement in zip(paths, measurements, strict=True)
            ]
        )
    measurement = Measurement.read(paths[0])
    return (
        page.report_of_bench(measurement)
        if measurement.plan.training
        else race_results.report_of_race(measurement)
    )


def _of_bench(path: Path) -> "Measurement":
    """Read the measurement of a bench whose sizes do not vary.
    Raises RosettaError for any other measurement."""
    from benchmarks.measure.measurement import Measurement

    measurement = Measurement.read(path)
    if measurement.plan.training is None or measurement.plan.training.axes:
        raise RosettaError(
            f"{path} is of a race, or of sizes that vary; only benches of one size are compared"
        )
    return measurement


def measurement_path(command: str, out: Path | None) -> Path:
    """Return the path of a command's new measurement.
    Raises CannotBeginError if something is there already."""
    from common.run import refuse_existing

    path = out or Path("results") / f"{command}-{datetime.now():%Y%m%d-%H%M%S}.jsonl"
    refuse_existing(path, "choose another --out")
    return path


def measure(path: Path, json: bool, opened: Callable[[], "Benchmark | Race"]) -> None:
    """Measure alone on the machine; then show the results and the path of their measurement.

    An error or Ctrl-C leaves a measurement only if a round was measured. After Ctrl-C its results
    are shown before CtrlCError is raised.
    """
    from benchmarks.measure.quiet import only_benchmark
    from benchmarks.report import render

    with only_benchmark(terminal.warn):
        measuring = opened()
        ended: RosettaError | None = None
        try:
            with progress() as (status, note):
                measuring.run(status, note)
        except KeyboardInterrupt:
            ended = CtrlCError("interrupted")
        except OSError as error:
            ended = RosettaError(f"{error.filename or path}: {why(error)}")
        except RosettaError as error:
            ended = error
    if ended and not measuring.measurement.rounds():
        # The error that ended measuring is told, on a disk that is read-only too.
        with suppress(OSError):
            path.unlink()
        raise ended
    kept = f"{ended}; {path} keeps what was measured before"
    interrupted = isinstance(ended, CtrlCError)
    if ended and not interrupted:
        raise RosettaError(kept)
    report = read_report([path])
    if json:
        terminal.print_json({"results": str(path)} | report.content)
    else:
        render.terminal(report.summary, terminal.out)
    if interrupted:
        raise CtrlCError(kept)
    if not json:
        html = quoted(path.with_suffix(".html"))
        terminal.say(
            f"Saved as {quoted(path)}. To make a page of it: rosetta report "
            f"{quoted(path)} -o {html}"
        )
