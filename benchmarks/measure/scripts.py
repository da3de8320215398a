"""Runners that are anybody's scripts: the parent's side of rosetta_turns.py.

A script has its own arguments, output and interpreter. Each line on its socket is a JSON object:
the script sends `ready` once, then `took` for each `turn`. Nothing that it sends is trusted:
messages have types and a limit, and times are compared with the clock of this process. Each mistake
ends in one sentence.
"""

import os
from collections.abc import Callable
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from math import ceil
from statistics import fmean
from time import monotonic
from typing import IO, Annotated, Any

import msgspec
import psutil

from backends.process.child_process import ChildProcess
from backends.process.tuned import tuned_for_any
from benchmarks.measure import quiet
from benchmarks.measure.turns import Runner
from benchmarks.schema import (
    WARM_UP_STEPS,
    Amount,
    CountOrZero,
    Measured,
    Ready,
    Row,
    Seconds,
    Start,
    Turn,
    WarmUp,
    Work,
)
from common.errors import RosettaError, refusing
from common.machine import cores, peak_memory
from common.text import count, printable

TURNS = "ROSETTA_TURNS"  # the variable that names the socket
MOST_OF_A_MESSAGE = 1 << 20  # bytes
MOST_BEYOND = 1e-3  # seconds that a script's clock may be ahead of this process's in a turn
MOST_PIECES = 10_000  # times in a message
PIECE_SECONDS = 1e-3  # shorter steps are timed together
SYNCED_SECONDS = 0.05  # the same where the device is waited for, so that waiting is a small part
SILENT = "see whether it ends when it is run alone, or give a longer --budget"


class Took(Measured, frozen=True):
    """The times of a turn's steps."""

    first: CountOrZero  # number of the first timed step
    lead: Amount  # seconds of all steps before it
    # Means of the timed pieces.
    steps: Annotated[list[Seconds], msgspec.Meta(min_length=1, max_length=MOST_PIECES)]


class ScriptMessage(Measured, frozen=True):
    """A line that a script sends."""

    ready: Ready | None = None
    took: Took | None = None


@dataclass
class Script(Runner):
    """A script in its process. Methods raise RosettaError
    if it does anything but what it is asked."""

    script: Row
    patience: float  # seconds after which a script that sends nothing is ended
    # The step that sizes its turns, from the script's.
    planned: Callable[[float], float] = lambda step: step

    def start(self, stack: ExitStack) -> None:
        """Start the process; it ends with the stack."""
        command = [self.script.python, *self.script.command]
        environment = environment_of(self.script)
        with refusing(f"{self.script.python} cannot be started"):
            self.process = stack.enter_context(
                ChildProcess(
                    self.script.label, command, environment, TURNS, SILENT, ExitStack(), adopts=True
                )
            )
        self.process.doing = " before its first turn"

    def wait_until_ready(self) -> Ready:
        """Wait until the script has called `take_turns`."""
        try:
            ready: Ready = self._received("ready")
        except RosettaError as error:
            if self.process.status == 0:
                advice = (
                    "end the script with take_turns(step), which `from rosetta_turns import "
                    "take_turns` imports"
                )
                raise RosettaError(f"{error}; {advice}") from error
            raise
        self.ready = ready
        self._sleeps()
        return ready

    def warm_up(self, seconds: float) -> Start:
        quiet.wait_until_idle()
        cold = self._took(0, 0, 1, 1).steps[0]
        steps = self._took(1, 0, WARM_UP_STEPS, 1).steps
        self.step_seconds = fmean(steps)
        warm_up = WarmUp(cold, steps, self._peak())
        threads = next((process.num_threads() for process in self.process.family()), 0)
        return Start(self.row, seconds, warm_up, ready=self.ready, threads=threads)

    @property
    def pids(self) -> list[int]:
        return [process.pid for process in self.process.family()]

    def turn(self, work: Work, first: int) -> Turn:
        """Have it take steps that do not count, then timed pieces of steps."""
        since, before = self.slept
        idle = max(0.0, self._busy() - before) / max(monotonic() - since, 1e-3)
        step = self.planned(self.step_seconds)
        lead, timed = self.counts(step)
        each = ceil((SYNCED_SECONDS if self.ready.synced else PIECE_SECONDS) / step)
        pieces = min(ceil(timed / each), MOST_PIECES)
        began = quiet.now()
        took = self._took(first, lead, pieces, each)
        loop = quiet.now() - began
        self.step_seconds = fmean(took.steps)
        turn = Turn(
            self.row, [took.lead] if took.lead else [], took.steps, loop, items=self.ready.batch
        )
        beside = {"peak": self._peak(), "first": took.first, "each": each, "idle": idle}
        return msgspec.structs.replace(turn, **beside)

    def _took(self, first: int, lead: int, pieces: int, each: int) -> Took:
        """Have the script take its steps, and wait for their times."""
        if self.process.status is None:
            self.process.doing = " in its turn"
        turn = {"first": first, "lead": lead, "pieces": pieces, "each": each}
        began = monotonic()
        self.process.send(msgspec.json.encode({"turn": turn}) + b"\n", self.patience)
        took: Took = self._received("took")
        passed, sent = monotonic() - began, took.lead + each * sum(took.steps)
        if len(took.steps) != pieces or sent > passed + MOST_BEYOND:
            raise RosettaError(
                f"{self.script.label} sent {count(len(took.steps), 'time')}, {sent:.3g} s in all; "
                f"expected {pieces}, and the turn took {passed:.3g} s"
            )
        self._sleeps()
        return took

    def _sleeps(self) -> None:
        """Note when its turn ended, and the processor time it had used by then."""
        self.process.doing = " while it waited for its turn"
        self.slept = monotonic(), self._busy()

    def _received(self, kind: str) -> Any:
        """Receive the content of the next message, which must be of this kind."""
        line = self.process.receive(next_line, self.patience)
        try:
            content = getattr(msgspec.json.decode(line, type=ScriptMessage), kind)
        except (ValueError, RecursionError) as error:
            wrong = printable(str(error))[:300]
            raise RosettaError(
                f"{self.script.label} sent what take_turns does not send: {wrong}"
            ) from error
        if content is None:
            raise RosettaError(
                f"{self.script.label} sent another message than `{kind}`; is take_turns called in "
                "several processes?"
            )
        return content

    def _busy(self) -> float:
        """Seconds of processor time of the process and its descendants so far."""
        total = 0.0
        for process in self.process.family():
            with suppress(psutil.Error):
                total += sum(process.cpu_times()[:4])
        return total

    def _peak(self) -> int:
        return max(1, peak_memory(self.process.pid))


def next_line(lines: IO[bytes]) -> bytes:
    """Read the next line, or the beginning of one that is too long.
    Raises EOFError where the lines end before."""
    line = lines.readline(MOST_OF_A_MESSAGE)
    if len(line) < MOST_OF_A_MESSAGE and not line.endswith(b"\n"):
        raise EOFError
    return line


def environment_of(script: Row) -> dict[str, str]:
    """The environment of a script: that of this process,
    in the tuned lane with the same settings for all.

    The script's variables win, and all numbers of threads follow its OMP_NUM_THREADS.
    """
    asked = script.variables.get("OMP_NUM_THREADS", "").partition(",")[0]
    threads = int(asked) if asked.isdecimal() and int(asked) else cores()
    settings = tuned_for_any(threads) if script.lane == "tuned" else {}
    return os.environ | settings | script.variables
