"""The command line. The module of a command is imported when somebody asks for the command."""

import sys
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Annotated, Any

import typer

# Our packages are taken from this file's folder,
# even if PYTHONPATH leads to others of the same names.
sys.path.insert(0, str(Path(__file__).resolve().parent))

from common.errors import CannotBeginError
from common.terminal import Commands, run_to_the_end

FOLDER = sys.path.pop(0)  # the modules of a package that was imported are found in its own folder

USE, COMPARE, MEASURE = "Use a model", "Compare models", "Measure"  # the headings of --help
# The heading of each command, and the module that has a function of the command's name.
COMMANDS = {
    "backends": (USE, "backends.commands.show"),
    "data": (USE, "backends.commands.show"),
    "train": (USE, "backends.commands.train"),
    "translate": (USE, "backends.commands.translate"),
    "evaluate": (USE, "backends.commands.train"),
    "convert": (USE, "backends.commands.convert"),
    "serve": (USE, "backends.commands.serve"),
    "parity": (COMPARE, "benchmarks.parity.command"),
    "diff": (COMPARE, "rosetta_diff.commands"),
    "carry": (COMPARE, "rosetta_diff.commands"),
    "bench": (MEASURE, "benchmarks.commands"),
    "race": (MEASURE, "benchmarks.racing"),
    "report": (MEASURE, "benchmarks.commands"),
}


class LazyCommands(Commands):
    """The commands of COMMANDS. A command is None until it is asked for."""

    commands: dict[str, Any]

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        self.commands = dict.fromkeys(COMMANDS)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        if cmd_name in COMMANDS and self.commands[cmd_name] is None:
            heading, module = COMMANDS[cmd_name]
            alone = typer.Typer(add_completion=False, rich_markup_mode="markdown")
            try:
                command, options = getattr(_imported(module), cmd_name), {}
            except ModuleNotFoundError as error:
                if error.name != "rosetta_diff":
                    raise
                command = _missing
                options = {"ignore_unknown_options": True, "allow_extra_args": True}
            alone.command(cmd_name, rich_help_panel=heading, context_settings=options)(command)
            self.commands[cmd_name] = typer.main.get_command(alone)
        return super().get_command(ctx, cmd_name)


def _imported(module: str) -> Any:
    """A module of this folder's packages."""
    sys.path.insert(0, FOLDER)
    try:
        return import_module(module)
    finally:
        sys.path.remove(FOLDER)


def _missing() -> None:
    """Needs the package rosetta-diff, which is not installed: pip install ./porting"""
    raise CannotBeginError("the package rosetta-diff is not installed; try: pip install ./porting")


app = typer.Typer(
    name="rosetta",
    cls=LazyCommands,
    help="One seq2seq model in Keras/TensorFlow, PyTorch, PaddlePaddle and JAX: train, translate, "
    "compare.",
    epilog='Begin with: rosetta translate "I love you!" --backend all',
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
    context_settings={"help_option_names": ["-h", "--help"]},
)


def main() -> None:
    """The `rosetta` program; see `run_to_the_end` for its exit status."""
    run_to_the_end(partial(app, prog_name="rosetta"))


def _print_version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        print(f"rosetta {version('rosetta-s2s')}", flush=True)
        raise typer.Exit


@app.callback()
def _rosetta(
    version: Annotated[
        bool,
        typer.Option("--version", callback=_print_version, is_eager=True, help="Show the version."),
    ] = False,
) -> None:
    pass


if __name__ == "__main__":
    main()
