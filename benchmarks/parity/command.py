"""The command `parity`."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from math import inf
from typing import TYPE_CHECKING, Annotated

import typer

from backends import commands as options
from common import terminal
from common.errors import CannotBeginError, CtrlCError, RosettaError
from common.settings import DataConfig, ModelConfig, ModelName, Padding, Precision, TrainConfig

if TYPE_CHECKING:
    from rich.table import Table

    from benchmarks.parity.cases import Cases
    from benchmarks.parity.comparison import Check, Parity, Subject

SHORT = {"gradients": "grad", "trajectory": "traj."}  # so that all nine columns fit into a terminal


PaddingOrBoth = Annotated[
    Padding | None,
    options.option_of(
        ModelConfig, "padding", show_default="both, and padding that counts alone with --quick"
    ),
]


def parity(
    backends: Annotated[str | None, options.several_backends("those installed")] = None,
    dtype: Annotated[
        Precision | None, typer.Option(help="Compare in this precision only.", show_default="both")
    ] = None,
    data: options.Data = DataConfig.data,
    skip_bad_lines: options.SkipBadLines = False,
    latent_dim: options.LatentDim = ModelConfig.latent_dim,
    padding: PaddingOrBoth = None,
    model: options.ModelOption = ModelConfig.model,
    seed: options.Seed = TrainConfig.seed,
    quick: Annotated[
        bool, typer.Option("--quick", help="Use fewer pairs, steps and sentences.")
    ] = False,
    workers: Annotated[
        int,
        typer.Option(
            min=1,
            help="Also compare a group of this many workers, in each backend that "
            "can train in one.",
        ),
    ] = 1,
    threads: options.Threads = None,
    device: options.Device = "cpu",
    json: options.Json = False,
) -> None:
    """Compare every backend with NumPy in float64: tensors, weights,
    states, loss, gradients, training, strings.

    Each backend is compared stage by stage until a stage fails;
    the failure is explained, and the exit status is 1.
    """
    from backends.process.parent import Runtime
    from benchmarks.parity.cases import OPTIMIZER, QUICK, WHOLE, Cases
    from benchmarks.parity.comparison import Parity, why_float32_only

    names = _compared_backends(backends, device, model)
    dtypes: list[Precision] = [dtype] if dtype else ["float64", "float32"]
    for why in why_float32_only(names).values() if "float64" in dtypes and not json else ():
        terminal.say(why)
    open_cases = partial(
        Cases,
        DataConfig(data, skip_bad_lines=skip_bad_lines),
        TrainConfig(seed=seed, **OPTIMIZER),
        latent_dim,
        QUICK if quick else WHOLE,
        Runtime(threads=threads, device=device),
        workers=workers,
        model=model,
    )
    paddings: list[Padding] = [padding] if padding else ["space"] if quick else ["space", "mask"]
    result = Parity()
    try:
        for of_cases in paddings:
            _compare_in_sight(
                partial(open_cases, padding=of_cases), names, dtypes, of_cases, result
            )
    except CannotBeginError as error:
        raise RosettaError(str(error)) if result.checks else error from None
    except KeyboardInterrupt:
        raise CtrlCError("interrupted before every backend had been compared") from None
    finally:  # what was found is shown even where an error ended the comparison
        _print(result, model, json)
    if not result.passed:
        raise RosettaError("parity is broken")
    if not json:
        print("Every backend agrees with the reference, within the bounds of each stage")


def _compared_backends(chosen: str | None, device: str, model: ModelName) -> list[str]:
    """The backends that are chosen, or all that run on the device.
    Raises CannotBeginError for none."""
    from backends import having, installed, require_model
    from benchmarks.parity.cases import REFERENCE

    by_default = [
        name for name in having(installed(), model) if device == "cpu" or name != REFERENCE
    ]
    names = options.installed_backends(chosen) if chosen is not None else by_default
    for name in names:
        require_model(name, model)
    if not names:
        raise CannotBeginError("there is no backend to compare; `rosetta backends` lists them")
    return names


def _compare_in_sight(
    open_cases: "Callable[[], Cases]",
    names: list[str],
    dtypes: list[Precision],
    padding: Padding,
    result: "Parity",
) -> None:
    """Compare all backends; a table on the terminal grows meanwhile."""
    from rich.console import Group
    from rich.live import Live

    from benchmarks.parity.cases import REFERENCE
    from benchmarks.parity.comparison import compare_backends, subjects_of
    from common.machine import cores

    subjects = subjects_of(names, dtypes, padding)
    if not subjects:
        return

    def so_far() -> Group:
        left = [subject.label for subject in subjects if subject not in result.certificates]
        return Group(parity_table(result.comparisons), f"starting and comparing: {', '.join(left)}")

    with (
        Live(f"starting {REFERENCE}, the reference", console=terminal.err, transient=True) as live,
        open_cases() as cases,
    ):
        live.update(so_far())
        compare_backends(
            cases, names, dtypes, result, lambda: live.update(so_far()), at_once=cores()
        )


def _print(result: "Parity", model: ModelName, json: bool) -> None:
    if json and result.checks:
        terminal.print_json({"model": model} | result.as_json())
    elif result.checks:
        terminal.out.print(parity_table(result.comparisons))
        for line in "\n".join(result.explanations).splitlines():
            terminal.say(line)


def parity_table(comparisons: "Mapping[Subject, Sequence[Check]]") -> "Table":
    """One row for each backend and precision, one column for each stage,
    with its worst error; red where it failed.

    The table fits into a terminal of 80 columns.
    """
    from rich.markup import escape

    from benchmarks.parity.comparison import STAGES
    from common.text import printable

    heads = [SHORT.get(stage, stage) for stage in STAGES]
    shown = terminal.table(
        "Worst error at each stage, against NumPy in float64", ["", *heads], [], numeric=heads
    )
    for subject, checks in comparisons.items():
        # The name is narrow, to leave room for the stages.
        narrow = escape(printable(subject.label)).replace(":", ":\n").replace(" ", "\n")
        shown.add_row(
            narrow,
            *(_cell([check for check in checks if check.stage == stage]) for stage in STAGES),
        )
    return shown


def _cell(checks: "Sequence[Check]") -> str:
    """The error of the check that came nearest to its bound or exceeded it most."""
    if not checks:
        return ""
    error = max(checks, key=lambda check: check.used).error
    text = "equal" if error == 0 else "wrong" if error == inf else f"{error:.0e}"
    return text if all(check.passed for check in checks) else f"[bold red]{text}[/]"
