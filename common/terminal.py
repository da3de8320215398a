"""Tables and progress bars for people, JSON for machines, and the end of the program."""

import os
import re
import signal
import sys
import textwrap
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from types import FrameType
from typing import Any, NoReturn

import typer
from rich.box import SIMPLE_HEAD
from rich.console import Console, RenderableType
from rich.live import Live
from rich.spinner import Spinner
from rich.table import Table
from rich.text import Text
from typer.core import TyperGroup

from common.errors import RosettaError, in_words
from common.text import as_json, printable

LONGEST_MESSAGE = 10_000  # characters of an error, which may name what somebody wrote into a file
COMMAND = re.compile(r"`[^`]+`|(?<=: )(rosetta|pip|python) .+?(?=; |$)")  # that a message tells somebody to type
ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)  # the signals that end a command, each in the way of Ctrl-C


class _Console(Console):
    def on_broken_pipe(self) -> None:
        """Leave it to the program's end, which is the same whatever was being printed when the reader went."""
        raise BrokenPipeError


out = _Console()
err = _Console(stderr=True)


def say(message: str, console: Console | None = None, style: str = "") -> None:
    """Print a message in one line, or on a terminal in lines that end between words.

    There, paths and commands that can be typed stay whole, for whoever copies them, and all lines are indented like
    the first. The `style` is that of the first word.
    """
    console, text = console or out, printable(message)
    if console.is_terminal:
        whole = COMMAND.sub(lambda match: match[0].replace(" ", "\0"), text)
        indent = " " * (len(text) - len(text.lstrip()))
        options: dict[str, Any] = {"break_long_words": False, "break_on_hyphens": False, "subsequent_indent": indent}
        text = textwrap.fill(whole, console.width, **options).replace("\0", " ")
    shown = Text(text)
    shown.stylize(style, 0, len(text.partition(" ")[0]))
    console.print(shown, soft_wrap=True)


def warn(message: str) -> None:
    """Print a warning to standard error."""
    say(f"warning: {message}", err, "yellow")


@contextmanager
def showing(moving: RenderableType = "") -> Iterator[Callable[[RenderableType], None]]:
    """Show a terminal, while the block runs, a bar or the like, and then whatever the function is given in its place.

    What does not move is drawn when it is given, and never meanwhile, when something may be timed.
    """
    moves = moving != "" and err.is_terminal
    with Live(moving, console=err, transient=True, auto_refresh=moves, refresh_per_second=10) as live:
        yield lambda content: live.update(content, refresh=True)


def starting(name: str) -> AbstractContextManager[object]:
    """Tell a terminal, while the block runs, that a backend is being started, which takes seconds."""
    return showing(Spinner("dots", Text(f"starting {name}")))


def print_json(content: Mapping[str, Any]) -> None:
    """Print the content as JSON in one line, which a machine reads."""
    print(as_json(content), flush=True)


def table(title: str, columns: Iterable[str], rows: Iterable[Iterable[Any]], numeric: Collection[str] = ()) -> Table:
    """A Rich table of plain values; the columns named in `numeric` are set flush right and never broken.

    The values may have line feeds; what else is not printable, nobody sees.
    """
    grid = Table(
        title=Text(printable(title), "bold"), title_justify="left", box=SIMPLE_HEAD, show_edge=False, pad_edge=False
    )
    grid.padding = (0, 1, 0, 0)
    for column in columns:
        if column in numeric:
            grid.add_column(column, justify="right", no_wrap=True)
        else:
            grid.add_column(column, overflow="fold", min_width=max(map(len, column.split()), default=0))
    for row in rows:
        grid.add_row(*(Text("\n".join(map(printable, str(value).split("\n")))) for value in row))
    return grid


@contextmanager
def training_progress(
    backend: str, epochs: int = 0, silent: bool = False
) -> Iterator[Callable[[Mapping[str, Any]], None]]:
    """A progress bar on a terminal, unless `silent`; gives the function that takes the backend's events.

    While a model is trained, the bar is over the steps of all `epochs`, and so is the time left.
    """
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

    columns = TextColumn("{task.description}", markup=False), BarColumn(bar_width=12), TimeElapsedColumn()
    bar = Progress(*columns, TimeRemainingColumn(), TextColumn("{task.fields[left]}"), console=err)
    title = printable(backend)
    task = bar.add_task(f"starting {title}", total=None, left="")  # "left" follows the time that is left
    lines = [EPOCH_HEADER]  # until it is printed

    def on_event(event: Mapping[str, Any]) -> None:
        if "step" in event:
            epoch, steps = event["epoch"], event["steps"]
            loss = "" if event["loss"] != event["loss"] else f"  loss {event['loss']:.4f}"
            done = {"completed": (epoch - 1) * steps + event["step"], "total": epochs * steps}
            bar.update(task, description=f"{title}  epoch {epoch} of {epochs}{loss}", **done, left="left")
        elif "epoch_done" in event:
            for line in (*lines, epoch_line(event["epoch_done"])):
                err.print(line, highlight=False, soft_wrap=True)
            lines.clear()
        elif "warning" in event:
            warn(event["warning"])
        elif "doing" in event:
            bar.update(task, description=f"{title}  {event['doing']}")
        elif "translated" in event:
            done = {"completed": event["translated"], "total": event["sentences"]}
            bar.update(task, description=f"{title}  translating", **done)

    with nullcontext() if silent else showing(bar):
        yield on_event


EPOCH_COLUMNS = "epoch seconds loss val_loss accuracy val_accuracy val_accuracy_real".split()
EPOCH_FORMATS = {"epoch": "d", "seconds": ".2f"}  # the others have four digits
EPOCH_HEADER = "  ".join(f"{name:>6}" for name in EPOCH_COLUMNS)


def epoch_line(epoch: Mapping[str, Any]) -> str:
    """One epoch's figures under EPOCH_HEADER, as `train` prints them when it ends."""
    formats = {name: f"{max(len(name), 6)}{EPOCH_FORMATS.get(name, '.4f')}" for name in EPOCH_COLUMNS}
    return "  ".join(format(epoch[name], form) for name, form in formats.items())


ENDED_AT_ONCE = "(nothing: the model ended the sentence at once)"


class _SignalError(KeyboardInterrupt):
    """A signal of ENDING has arrived.

    KeyboardInterrupt itself would not do: where it ends a text that `exec` runs, Python ends itself by SIGINT later,
    even if the exception was caught.
    """


class Commands(TyperGroup):
    """The commands of the program."""

    def invoke(self, ctx: Any) -> Any:
        """Run a command. Where whoever reads its output has gone, end like a program that SIGPIPE ends."""
        try:
            try:
                return super().invoke(ctx)
            finally:
                if sys.stdout is not None:  # it was closed
                    sys.stdout.flush()
        except BrokenPipeError:
            _leave_output()
            raise typer.Exit(128 + signal.SIGPIPE) from None


def run_to_the_end(program: Callable[[], object]) -> NoReturn:
    """Run the program and end this process.

    Exit status 0: done; 2: could not begin; 1: failed after it began; 130: ended by Ctrl-C; 143: ended by SIGTERM;
    129: ended by SIGHUP, when its terminal was closed; 141: nobody reads its output any more.
    """
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:  # was closed, so that the next file to be opened would be taken for it
            setattr(sys, name, open(os.devnull, mode, encoding="utf-8"))  # noqa: SIM115 (until the end)
    received: list[int] = []

    def interrupt(number: int, frame: FrameType | None) -> None:
        received.append(number)
        raise _SignalError

    heard = [number for number in ENDING if signal.getsignal(number) is not signal.SIG_IGN]  # nohup ignores SIGHUP
    for number in heard:
        signal.signal(number, interrupt)
    status: str | int | None = None
    try:
        program()
    except SystemExit as ended:
        status = ended.code
    except BaseException as error:
        message = str(error) if isinstance(error, RosettaError) else in_words(error)
        if message is not None:
            status = error.exit_code if isinstance(error, RosettaError) else RosettaError.exit_code
            for number in heard:  # what ends the program now is this error
                signal.signal(number, signal.SIG_IGN)
            _leave_output()
            with suppress(OSError):  # its terminal was closed
                say(f"rosetta: {message}"[:LONGEST_MESSAGE], err)
        elif not received:  # else it came of the signal, which may interrupt typer, or an import, anywhere
            raise
    finally:
        # The interpreter's own end takes a moment, and shows a traceback where it is interrupted.
        for number in heard:
            signal.signal(number, signal.SIG_IGN)
    sys.exit(128 + received[0] if received else status)


def _leave_output() -> None:
    """Lead standard output to nowhere if it takes no more, so that the interpreter's end does not try again."""
    try:
        sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
