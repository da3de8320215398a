"""The commands of benchmarking, which rosetta.py registers."""

import os
from dataclasses import asdict
from datetime import datetime
from pathlib import Path
from typing import Annotated, Literal

import typer

from common import options
from common.config import DataConfig, TrainConfig, as_float32

NAMES = "Names separated by commas."

# What `bench --resume` takes from the recording and so cannot be given again.
PLANNED = ["backends", "python", "preset", "rounds", "steps", "lanes", "epochs", "seeds", "threads", "device"]
PLANNED += ["sweep", "certificate", *options.FIXED_BY_RUN]


def register(app: typer.Typer) -> None:
    """Add the commands of this package to the program."""
    app.command()(bench)
    app.command()(report)
    app.command()(compare)
    app.command()(parity)


def bench(
    context: typer.Context,
    backends: Annotated[
        str | None, typer.Option(help=NAMES, show_default="those installed, without variants and numpy")
    ] = None,
    python: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME=PATH", help="One more row: backend NAME under another interpreter."),
    ] = None,
    preset: Annotated[
        Literal["quick", "standard", "rigorous"],
        typer.Option(help="Minutes, an hour, or some hours; what follows overrides its numbers."),
    ] = "quick",
    rounds: Annotated[int | None, typer.Option(min=0, help="Every cell is measured once a round.")] = None,
    steps: Annotated[int | None, typer.Option(min=1, help="Training steps timed a cell.")] = None,
    lanes: Annotated[str | None, typer.Option(help="matched, default, or both with a comma.")] = None,
    batches: Annotated[
        str | None,
        typer.Option(help="shuffled, or shuffled,bucketed: also rows on bucketed batches, padding masked."),
    ] = None,
    epochs: Annotated[
        int | None,
        typer.Option(min=1, help="Of the trainings whose quality is scored; on bucketed batches a third more."),
    ] = None,
    seeds: Annotated[int | None, typer.Option(min=1, help="Such trainings a backend.")] = None,
    sweep: Annotated[
        bool, typer.Option("--sweep", help="Also how cost grows with sizes; with --rounds 0, that alone.")
    ] = False,
    data: options.Data = DataConfig.data,
    num_samples: options.NumSamples = DataConfig.num_samples,
    skip_bad_lines: options.SkipBadLines = False,
    split: options.Split = "grouped",
    validation_split: options.ValidationSplit = DataConfig.validation_split,
    batch_size: options.BatchSize = TrainConfig.batch_size,
    latent_dim: options.LatentDim = 256,
    learning_rate: options.LearningRate = 1e-3,
    seed: options.Seed = TrainConfig.seed,
    threads: options.Threads = None,
    device: options.Device = "cpu",
    out: Annotated[
        Path | None, typer.Option(help="The recording to write.", show_default="results/bench-TIME.jsonl")
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with the recording in --out.")] = False,
    budget: Annotated[
        str | None, typer.Option(metavar="TIME", help="Begin nothing that would end later than this, such as 10m.")
    ] = None,
    wait: Annotated[
        bool, typer.Option("--wait/--no-wait", help="Where another benchmark runs: wait for its end, or end.")
    ] = True,
    certificate: Annotated[
        Path | None, typer.Option(help="What `rosetta parity --certificate` wrote, in place of climbing the ladder.")
    ] = None,
    check: Annotated[bool, typer.Option("--check", help="Say whether this machine is fit to measure on.")] = False,
    json: options.Json = False,
) -> None:
    """Train and decode in every backend, from the same weights and batches, and compare.

    Raw timings go to a recording, a line a round; a benchmark that was ended goes on with --resume. `rosetta report`
    makes a page of a recording.
    """
    from backends import find, frameworks
    from benchmarks import fitness
    from benchmarks.analysis import analyse
    from benchmarks.lock import only_benchmark
    from benchmarks.measure import begin, resumed
    from benchmarks.parity.certificate import read_certificates
    from benchmarks.plan import Plan, Sweep, cells, sized
    from benchmarks.tables import apart_tables, comparison_table, decoded_table, scaling_table
    from common import terminal
    from common.errors import CannotBeginError, RosettaError

    if check:
        return _check(json)
    certificates = read_certificates(certificate) if certificate else {}
    seconds = options.seconds(budget) if budget else None
    path = out or Path("results") / f"bench-{datetime.now():%Y%m%d-%H%M%S}.jsonl"
    if resume:
        if out is None:
            raise CannotBeginError("--resume needs --out, the recording to go on with")
        options.refuse(context, PLANNED, "--resume goes on with the recording's own plan")
    else:
        listed = {"lanes": lanes, "batches": batches}
        chosen = {name: tuple(given.split(",")) for name, given in listed.items() if given is not None}
        size = sized(preset, rounds=rounds, steps=steps, epochs=epochs, seeds=seeds, **chosen)
        if not size.rounds and not sweep:
            raise CannotBeginError("--rounds 0 leaves nothing to measure but a sweep; give --sweep with it")
        names = options.names(backends) if backends else frameworks()
        for name in names:
            find(name)
        corpus = DataConfig(data, num_samples, validation_split, split, skip_bad_lines)
        settings = TrainConfig(batch_size, as_float32(learning_rate), seed=seed)
        rows = cells(names, python or [], size)
        plan = Plan(corpus, settings, latent_dim, device, threads, preset, size, rows, Sweep() if sweep else None)
    with only_benchmark(terminal.warn, wait):
        findings = fitness.check()
        begun = resumed(path) if resume else begin(path, plan, certificates, findings)
        for finding in findings:
            if not finding.ok:
                terminal.warn(f"{finding.name}: {finding.found}; {finding.advice}")
        go_on = f"go on with: rosetta bench --out {path} --resume"
        try:
            with terminal.work_progress() as show:
                begun.run(show, seconds)
        except KeyboardInterrupt:
            raise RosettaError(f"interrupted; {go_on}") from None
        except OSError as error:
            raise RosettaError(f"{error}; {go_on}") from error
        except RosettaError as error:
            if isinstance(error, CannotBeginError) and not begun.recording.records:
                if not resume:
                    path.unlink()  # in which nothing stands yet that one could go on with
                raise
            raise RosettaError(f"{error}; {go_on}") from error
    results = analyse(begun.recording)
    if json:
        return terminal.print_json({"results": str(path)} | results.as_json())
    if begun.plan.size.rounds:
        terminal.out.print(comparison_table(results))
        for table in apart_tables(results):
            terminal.out.print(table)
        terminal.out.print(decoded_table(results))
    if results.scaling:
        terminal.out.print(scaling_table(results.scaling))
    print(f"Saved as {path}. A page of it: rosetta report {path} -o {path.with_suffix('.html')}")


def _check(json: bool) -> None:
    """Print what was found of the machine. Raises RosettaError where it is not fit."""
    from benchmarks import fitness
    from benchmarks.tables import fitness_table
    from common import terminal
    from common.errors import RosettaError

    findings = fitness.check()
    if json:
        terminal.print_json({"fit": fitness.fit(findings), "findings": [asdict(f) for f in findings]})
    else:
        terminal.out.print(fitness_table(findings))
    if not fitness.fit(findings):
        raise RosettaError("this machine is not fit to measure on now")


def report(
    recording: Annotated[Path, typer.Argument(metavar="RESULTS", help="What `rosetta bench` recorded.")],
    out: Annotated[Path, typer.Option("-o", "--out", help="The page to write: .html, or .md for Markdown.")],
) -> None:
    """Make one page of a recording that works offline: charts, verdicts, decoded sentences, raw data."""
    from benchmarks.analysis import analyse
    from benchmarks.recording import Recording
    from benchmarks.report.render import render_html, render_markdown
    from common.errors import CannotBeginError
    from common.files import write_atomically

    if out.suffix not in (".html", ".md"):
        raise CannotBeginError(f"{out} ends with {out.suffix or 'nothing'}; give --out a name with .html or .md")
    results = analyse(Recording.read(recording))
    if not results.all_rows and not results.scaling:
        raise CannotBeginError(f"{recording} holds no round yet; `rosetta bench --out {recording} --resume` goes on")
    content = recording.read_bytes()
    raw = content[: content.rfind(b"\n") + 1].decode()  # without what a kill left torn
    try:
        write_atomically(out, render_html(results, raw) if out.suffix == ".html" else render_markdown(results))
    except OSError as error:
        raise CannotBeginError(f"{out} cannot be written: {error.strerror}") from error
    print(f"{out} is written")


def compare(
    before: Annotated[Path, typer.Argument(metavar="A", help="A recording of `rosetta bench`.")],
    after: Annotated[Path, typer.Argument(metavar="B", help="A later one, or of another version.")],
    fail_slower: Annotated[
        str | None,
        typer.Option(
            metavar="PERCENT", help="Exit with 1 where a figure is called slower, and by more, such as 10%."
        ),
    ] = None,
    json: options.Json = False,
) -> None:
    """Say what became faster or slower from one recording to another, and whether that is real."""
    from benchmarks import changes
    from benchmarks.recording import Recording
    from benchmarks.tables import changes_table
    from common import terminal
    from common.errors import RosettaError

    limit = options.share(fail_slower) if fail_slower is not None else None
    found = changes.compare(Recording.read(before), Recording.read(after))
    if all(change.verdict.word == "none" for change in found.changes):
        raise RosettaError("nothing can be compared: there is no row that both have two rounds of")
    if json:
        terminal.print_json(found.as_json())
    else:
        for line in found.banner:
            terminal.warn(line)
        terminal.out.print(changes_table(found))
    slower = [change for change in found.changes if limit is not None and change.slower_by > limit]
    if slower:
        worst = max(slower, key=lambda change: change.slower_by)
        raise RosettaError(
            f"{len(slower)} figure{'s' * (len(slower) > 1)} slower by more than {fail_slower}; "
            f"worst: {worst.label}, {worst.figure}, by {worst.slower_by:.0%}"
        )


def parity(
    backends: Annotated[
        str | None, typer.Option(help=NAMES, show_default="those installed, without reduced precision")
    ] = None,
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

    A backend climbs until a rung breaks; why it broke is then explained, and the exit status is 1. What computes in
    less than float32, such as torch:bfloat16, climbs where it is named, within bounds of its own.
    """
    from rich.live import Live

    from backends import TABLE, find, installed
    from backends.session import Runtime
    from benchmarks.parity.certificate import write_certificates
    from benchmarks.parity.driver import Parity, climb
    from benchmarks.parity.ladder import QUICK, REFEREE, WHOLE, Course
    from benchmarks.parity.tables import budget_tables, ladder_table
    from common import terminal
    from common.errors import CannotBeginError, RosettaError

    if certificate and not certificate.parent.is_dir():
        raise CannotBeginError(f"{certificate} cannot be written: there is no folder {certificate.parent}")
    if certificate and (certificate.is_dir() or not os.access(certificate.parent, os.W_OK)):
        raise CannotBeginError(f"{certificate} cannot be written; give --certificate the name of a file")
    exact = [name for name in installed() if not TABLE[name].reduced]
    names = options.names(backends) if backends else [n for n in exact if device == "cpu" or n != REFEREE]
    for name in names:
        find(name)
    size = QUICK if quick else WHOLE
    corpus, settings = DataConfig(data, skip_bad_lines=skip_bad_lines), TrainConfig(seed=seed)
    runtime = Runtime(threads=threads, device=device)
    found = Parity()
    try:
        with (
            Course(corpus, settings, latent_dim, size, runtime, padding) as course,
            Live(ladder_table([]), console=terminal.err, transient=True) as live,
        ):
            dtypes = [dtype] if dtype else ["float64", "float32"]
            climb(course, names, dtypes, found, lambda: live.update(ladder_table(found.checks)))
    except CannotBeginError as error:
        raise RosettaError(str(error)) if found.checks else error from None
    except KeyboardInterrupt:
        raise RosettaError("interrupted before all had climbed") from None
    finally:  # what was found before an error, too
        if json and found.checks:
            terminal.print_json(found.as_json())
        elif found.checks:
            for table in (ladder_table(found.checks), *budget_tables(found.checks)):
                terminal.out.print(table)
            for explanation in found.explanations:
                print(explanation)
        if certificate and found.certificates:
            write_certificates(certificate, found.certificates)
    if not found.passed:
        raise RosettaError("parity is broken")
