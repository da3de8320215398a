"""Tables and progress bars for people, JSON for machines, and the end of the program."""

import os
import signal
import sys
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from typing import Any, NoReturn

from rich.box import SIMPLE_HEAD
from rich.console import Console, RenderableType
from rich.live import Live
from rich.spinner import Spinner
from rich.table import Table
from rich.text import Text
from typer import BadParameter
from typer.core import TyperGroup

from common.errors import RosettaError, in_words
from common.text import as_json, printable

LONGEST_MESSAGE = 10_000  # characters of an error, which may name what somebody wrote into a file
ENDING = (signal.SIGINT, signal.SIGTERM)  # the signals that end a command in its own way

out = Console()
err = Console(stderr=True)


def say(message: str, console: Console | None = None, style: str = "") -> None:
    """Print a message as one line, which a terminal wraps.
    The `style` applies to the first word."""
    shown = Text(printable(message))
    shown.stylize(style, 0, len(shown.plain.partition(" ")[0]))
    (console or out).print(shown, soft_wrap=True)


def warn(message: str) -> None:
    """Print a warning to standard error."""
    say(f"warning: {message}", err, "yellow")


@contextmanager
def showing(moving: RenderableType = "") -> Iterator[Callable[[RenderableType], None]]:
    """Show a bar or a text on a terminal while the block runs; the function replaces it.

    A still text is drawn only when it is given, since drawing later might disturb a timing.
    """
    moves = moving != "" and err.is_terminal
    with Live(
        moving, console=err, transient=True, auto_refresh=moves, refresh_per_second=10
    ) as live:
        yield lambda content: live.update(content, refresh=True)


def starting(name: str) -> AbstractContextManager[object]:
    """Show on a terminal that a backend is starting while the block runs."""
    return showing(Spinner("dots", Text(f"starting {name}")))


def print_json(content: Mapping[str, Any]) -> None:
    """Print the content as JSON in one line, which a machine reads."""
    print(as_json(content), flush=True)


def table(
    title: str, columns: Iterable[str], rows: Iterable[Iterable[Any]], numeric: Collection[str] = ()
) -> Table:
    """A Rich table of plain values; the columns named in `numeric`
    are set flush right and never broken.

    Keeps line feeds and removes other unprintable characters.
    """
    grid = Table(
        title=Text(printable(title), "bold"),
        title_justify="left",
        box=SIMPLE_HEAD,
        show_edge=False,
        pad_edge=False,
    )
    grid.padding = (0, 1, 0, 0)
    for column in columns:
        if column in numeric:
            grid.add_column(column, justify="right", no_wrap=True)
        else:
            grid.add_column(
                column, overflow="fold", min_width=max(map(len, column.split()), default=0)
            )
    for row in rows:
        grid.add_row(*(Text("\n".join(map(printable, str(value).split("\n")))) for value in row))
    return grid


def seen(translation: str) -> str:
    """A translation as a person reads it, with words in place of one that shows nothing."""
    if translation.strip():
        return translation
    return "(blanks alone)" if translation else "(nothing: the model ended the sentence at once)"


class Commands(TyperGroup):
    """The commands of the program."""

    def invoke(self, ctx: Any) -> Any:
        """Run a command, and flush its output here,
        where Typer ends the program quietly if nobody reads it."""
        try:
            return super().invoke(ctx)
        except BadParameter as error:
            # Of pydantic, by which Typer reads values.
            error.message = error.message.removeprefix("Value error, ")
            raise
        finally:
            sys.stdout.flush()


def run_to_the_end(program: Callable[[], object]) -> NoReturn:
    """Run the program and end this process.

    Exit status 0: done; 2: could not begin; 1: failed after it began, or its output was closed;
    130: ended by Ctrl-C; 143: ended by SIGTERM.
    """
    _open_closed_streams()
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))
    try:
        program()
    except Exception as error:
        message = str(error) if isinstance(error, RosettaError) else in_words(error)
        if message is None:
            raise
        _leave_output()
        say(f"rosetta: {message}"[:LONGEST_MESSAGE], err)
        sys.exit(error.exit_code if isinstance(error, RosettaError) else RosettaError.exit_code)
    finally:
        # The interpreter's own end takes a moment, and would show a traceback.
        for number in ENDING:
            signal.signal(number, signal.SIG_IGN)
    sys.exit()


def _open_closed_streams() -> None:
    """Open the null device for each standard stream that the caller closed, as some daemons do."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            # It stays open.
            setattr(sys, name, open(os.devnull, mode, encoding="utf-8"))  # noqa: SIM115


def _leave_output() -> None:
    """Replace a closed standard output by the null device,
    so that the interpreter does not flush it again."""
    try:
        sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
