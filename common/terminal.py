"""What a command shows, tables and progress bars for people and JSON for machines, and how the program ends."""

import os
import signal
import sys
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from importlib import import_module
from types import FrameType
from typing import Any, ClassVar, NoReturn

import typer
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table
from typer.core import TyperGroup

from common.errors import RosettaError, in_words
from common.text import as_json, for_terminal, printable

LONGEST_MESSAGE = 10_000  # characters of an error, which may name what somebody wrote into a file
ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)  # the signals that end a command, each in the way of Ctrl-C


class _Console(Console):
    def on_broken_pipe(self) -> None:
        """Leave it to the program's end, which is the same whatever was being printed when the reader went."""
        raise BrokenPipeError


out = _Console()
err = Console(stderr=True)


def warn(message: str) -> None:
    """Print a warning to standard error."""
    err.print(f"[yellow]warning:[/] {escape(printable(message))}", highlight=False, soft_wrap=True)


def print_json(content: Mapping[str, Any]) -> None:
    """Print the content as JSON in one line, which a machine reads."""
    print(as_json(content), flush=True)


def table(title: str, columns: Iterable[str], rows: Iterable[Iterable[Any]], numeric: Collection[str] = ()) -> Table:
    """A Rich table of plain values; the columns named in `numeric` are set flush right and never broken.

    The values may have line feeds; what else is not printable, nobody sees.
    """
    cells = [["\n".join(map(printable, str(value).split("\n"))) for value in row] for row in rows]
    made = Table(
        title=escape(printable(title)), title_justify="left", title_style="bold", box=SIMPLE_HEAD, show_edge=False
    )
    made.pad_edge, made.padding = False, (0, 1, 0, 0)
    for column in columns:
        if column in numeric:
            made.add_column(column, justify="right", no_wrap=True)
        else:
            made.add_column(column, overflow="fold")
    for row in cells:
        made.add_row(*map(escape, row))
    return made


@contextmanager
def training_progress(
    title: str, epochs: int = 0, silent: bool = False
) -> Iterator[Callable[[Mapping[str, Any]], None]]:
    """A progress bar on standard error, unless `silent`; gives the function that takes a backend's events.

    While a model is trained, the bar is over the steps of all `epochs`, and so is the time left.
    """
    columns = TextColumn("{task.description}"), BarColumn(bar_width=12), TimeElapsedColumn(), TimeRemainingColumn()
    left = TextColumn("{task.fields[left]}")
    with Progress(*columns, left, console=err, transient=True, disable=silent) as progress:
        title = escape(printable(title))
        task = progress.add_task(title, total=None, left="")  # "left" follows the time that is left
        header = EPOCH_HEADER  # until it is printed

        def on_event(event: Mapping[str, Any]) -> None:
            nonlocal header
            if "step" in event:
                epoch, steps = event["epoch"], event["steps"]
                loss = "" if event["loss"] != event["loss"] else f"  loss {event['loss']:.4f}"
                description = f"{title}  epoch {epoch} of {epochs}{loss}"
                done = {"completed": (epoch - 1) * steps + event["step"], "total": epochs * steps}
                progress.update(task, description=description, **done, left="left")
            elif "epoch_done" in event:
                progress.print(header + epoch_line(event["epoch_done"]), highlight=False, soft_wrap=True)
                header = ""
            elif "warning" in event:
                warn(event["warning"])
            elif "translated" in event:
                description = f"{title}  translating"
                done = {"completed": event["translated"], "total": event["sentences"]}
                progress.update(task, description=description, **done)

        yield on_event


# The figures that are printed of an epoch, and how.
EPOCH_COLUMNS = {
    "epoch": "d",
    "seconds": ".2f",
    "loss": ".4f",
    "val_loss": ".4f",
    "accuracy": ".4f",
    "val_accuracy": ".4f",
    "val_accuracy_real": ".4f",
}
EPOCH_HEADER = "  ".join(f"{name:>6}" for name in EPOCH_COLUMNS) + "\n"


def epoch_line(epoch: Mapping[str, Any]) -> str:
    """One epoch's figures under EPOCH_HEADER, as `train` prints them when it ends."""
    return "  ".join(f"{epoch[name]:{max(len(name), 6)}{form}}" for name, form in EPOCH_COLUMNS.items())


# The columns of the table of backends, and their widths in characters; the last one takes the rest of the line.
BACKENDS_COLUMNS = {"backend": 14, "version": 17, "device": 6, "threads": 7, "import": 6, "matrix library": None}


def backends_table(*rows: Iterable[Any]) -> Table:
    """The header of the table of backends, or rows of it, each of which is printed when its backend has answered."""
    made = table("", BACKENDS_COLUMNS, rows, numeric=["threads", "import"])
    for column, width in zip(made.columns, BACKENDS_COLUMNS.values(), strict=True):
        column.width = width
    made.show_header = not rows
    return made


def print_backend(name: str, facts: Mapping[str, Any]) -> None:
    """Print the facts that a backend reported of itself, or the reason why it cannot start."""
    if "missing" in facts:
        row = table("", ["backend", "reason"], [[name, facts["missing"]]])
        row.columns[0].width, row.show_header = BACKENDS_COLUMNS["backend"], False
    else:
        seconds, library = f"{facts['import_seconds']:.1f} s", facts["settings"]["matrix_library"]
        row = backends_table([name, facts["version"], facts["device"], facts["threads"], seconds, library])
    out.print(row)


def scores_table(title: str, figures: Mapping[str, Any]) -> Table:
    """The figures that `evaluate` found, each with its meaning."""
    meanings = {
        "loss": (".4f", "mean cross-entropy over all positions, in nats"),
        "accuracy": (".1%", "over all positions, padding included, as the example counts"),
        "accuracy_real": (".1%", "over the characters of the sentences alone"),
        "accuracy_always_space": (".1%", "what answering a space always scores"),
        "exact_match": (".1%", "translations equal to one of their references"),
        "chrf": (".2f", f"of 100: groups of letters as in a reference\n{figures['chrf_signature']}"),
        "character_error_rate": (".3f", "edits over characters, nearest reference"),
        "rows": ("d", f"of validation, with {figures['sentences']} distinct sources"),
    }
    rows = [(name, format(figures[name], form), meaning) for name, (form, meaning) in meanings.items()]
    return table(title, ["figure", "value", "meaning"], rows, numeric=["value"])


def print_answer(line: Mapping[str, Any], number: int, n_best: int | None) -> None:
    """Print what became of a line: its translation, the best ones with their scores, or the backends' in a table."""
    shown = for_terminal if sys.stdout.isatty() else str  # others get the translation as it is
    if line.get("backends"):
        out.print(side_by_side_table(line), "")
    elif n_best is None:
        print(shown(line.get("translation") or ""), flush=True)
    else:
        for scored in line.get("n_best", []):
            print(number, f"{scored['score']:.4f}", shown(scored["translation"]), sep="\t", flush=True)


SIDE_BY_SIDE = (
    "ms: milliseconds that decoding the sentence by itself took in the backend's process, which had decoded one "
    "before to warm up. same: whether the sentence is the one that most backends give."
)


def side_by_side_table(line: Mapping[str, Any]) -> Table:
    """What the backends made of one line; see `backends.commands.side_by_side.SideBySide.answers`."""
    columns, rows = ["backend", "sentence", "score", "ms", "same"], []
    for found in line["backends"]:
        milliseconds = "" if found["milliseconds"] is None else f"{found['milliseconds']:.1f}"
        best, *others = found.get("n_best", [{"translation": found["translation"], "score": None}])
        rows.append([found["backend"], *_scored(best), milliseconds, "yes" if found["same"] else "no"])
        rows += [["", *_scored(other), "", ""] for other in others]
    if not any(row[2] for row in rows):
        columns.remove("score")
        rows = [[*row[:2], *row[3:]] for row in rows]
    return table(line["source"], columns, rows, numeric=["score", "ms"])


def _scored(found: Mapping[str, Any]) -> list[str]:
    """Sentence and score, as a table shows them."""
    score = "" if found["score"] is None else f"{found['score']:.4f}"
    return [found["translation"], score]


class _SignalError(KeyboardInterrupt):
    """A signal of ENDING has arrived.

    KeyboardInterrupt itself would not do: where it ends a text that `exec` runs, Python ends itself by SIGINT later,
    even if the exception was caught.
    """


class Commands(TyperGroup):
    """The commands of the program. `others` has the module of those which only --help and they themselves import, and
    the heading under which --help lists them."""

    others: ClassVar[Mapping[str, tuple[str, str]]] = {}

    def list_commands(self, ctx: Any) -> list[str]:
        """Names as --help lists them."""
        return [*super().list_commands(ctx), *self.others]

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """The command of this name, None if there is none."""
        if cmd_name not in self.others:
            return super().get_command(ctx, cmd_name)
        module, heading = self.others[cmd_name]
        one = typer.Typer(add_completion=False, rich_markup_mode="markdown")
        one.command(rich_help_panel=heading)(getattr(import_module(module), cmd_name))
        return typer.main.get_command(one)

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
                print(printable(f"rosetta: {message}"[:LONGEST_MESSAGE]), file=sys.stderr)
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
