"""How the program ends: with its exit status and at most one line, whatever ends it."""

import os
import signal
import sys
from collections.abc import Callable
from contextlib import suppress
from types import FrameType
from typing import Any, NoReturn

import typer
from typer.core import TyperGroup

from common.errors import RosettaError, in_words
from common.text import printable

LONGEST_MESSAGE = 10_000  # characters of an error, which may name what somebody wrote into a file
ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)  # the signals that end a command, each in the way of Ctrl-C


class _SignalError(KeyboardInterrupt):
    """A signal of ENDING has arrived.

    KeyboardInterrupt itself would not do: where it ends a text that `exec` runs, Python ends itself by SIGINT later,
    even if the exception was caught.
    """


class Commands(TyperGroup):
    """The commands of the program; `others` gives those that only --help and they themselves import."""

    others: Callable[[], dict[str, Any]] = dict

    def list_commands(self, ctx: Any) -> list[str]:
        """Names as --help lists them."""
        return [*super().list_commands(ctx), *self.others()]

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """The command of this name, None if there is none."""
        return super().get_command(ctx, cmd_name) or self.others().get(cmd_name)

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
